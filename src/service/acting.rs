//! On whose behalf a mutation is made: the rules of [`crate::domain::actor`], asked inside its
//! transaction, of the rows that the locked tenant has in it. A change of the actor itself comes
//! either before, and counts, or after.
//!
//! A refusal ends the [`Operation`]: what was begun is rolled back, and only then is the attempt
//! recorded.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::counts::WriteOutcome;
use super::error::ServiceError;
use super::refusals::Attempt;
use super::write::{Operation, Trace};
use crate::domain::actor::{Actor, ActorRefusal, Duty, Holders, Measure, Measures, RoleEdited};
use crate::domain::catalog::Catalog;
use crate::domain::grant::Grant;
use crate::domain::ids::{MemberId, RoleId};
use crate::domain::member::Member;
use crate::domain::refusal::Refusal;
use crate::domain::role::{CompiledRole, CustomRole, RoleKind};
use crate::store::subject;

/// The most JSON of an attempt that is kept, in bytes: it shows what was tried, and is not a place
/// to put things.
const ATTEMPT_BYTES: usize = 4 << 10;
/// The most members that an attempt names.
const ATTEMPT_MEMBERS: usize = 100;

/// An actor at work, and what it is trying.
#[derive(Debug)]
pub(super) struct Acting {
    pub(super) actor: Actor,
    pub(super) attempt: Attempt,
    catalog: Arc<Catalog>,
}

impl Acting {
    /// Whether the actor may make this of a member.
    pub(super) fn may_change(
        &self,
        before: Option<&Member>,
        after: Option<&Member>,
        measured: &Measures,
    ) -> Result<(), ActorRefusal> {
        self.actor.may_change(&self.catalog, before, after, measured)
    }
}

impl Operation {
    /// Admits the actor, if one is named. Stands before everything that depends on what there is in
    /// the tenant. `attempt` is what is tried, for the audit.
    pub(super) async fn on_behalf(
        mut self,
        catalog: &Arc<Catalog>,
        duty: Duty,
        attempt: impl FnOnce() -> Trace,
    ) -> Result<Self, ServiceError> {
        let Some(id) = self.actor_id().cloned() else { return Ok(self) };
        let found = match self.tx.member(self.tenant_id(), &id).await? {
            Some(member) => {
                let compiled = self.compiled(catalog, member.roles.iter()).await?;
                let compiled = compiled.into_iter().map(|(id, role)| (id, Arc::new(role)));
                Some(subject(self.tenant_id(), member, &compiled.collect()))
            }
            None => None,
        };
        let attempt = self.attempt(&id, bounded(attempt()));
        match Actor::admit(catalog, &id, found.as_ref(), duty) {
            Ok(actor) => {
                let catalog = Arc::clone(catalog);
                self.acting = Some(Acting { actor, attempt, catalog });
                Ok(self)
            }
            Err(refusal) => Err(self.refused(attempt, refusal).await),
        }
    }

    /// Whether the actor, if there is one, may make this of a member.
    pub(super) async fn may_change(
        self,
        before: Option<&Member>,
        after: Option<&Member>,
    ) -> Result<Self, ServiceError> {
        let Some(acting) = &self.acting else { return Ok(self) };
        let roles = before.into_iter().chain(after).flat_map(|member| &member.roles);
        let measured = self.measured(acting, roles).await?;
        let judged = acting.may_change(before, after, &measured);
        self.judged(judged).await
    }

    /// Whether the actor, if there is one, may make a role with these grants.
    pub(super) async fn may_make_role(self, grants: &[Grant]) -> Result<Self, ServiceError> {
        let Some(Acting { actor, catalog, .. }) = &self.acting else { return Ok(self) };
        let role = CompiledRole::compile(catalog, RoleKind::Custom, grants);
        let judged = actor.may_make_role(catalog, &role);
        self.judged(judged).await
    }

    /// Whether the actor, if there is one, may edit a role like this.
    pub(super) async fn may_edit_role(
        self,
        before: &CustomRole,
        after: &CustomRole,
    ) -> Result<Self, ServiceError> {
        let Some(acting) = &self.acting else { return Ok(self) };
        let Acting { actor, catalog, .. } = acting;
        let edited = RoleEdited {
            role: &before.id,
            before: &before.compile(catalog),
            after: &after.compile(catalog),
            relabelled: (&before.name, &before.description) != (&after.name, &after.description),
        };
        let (holders, measured) = self.holders(acting, &before.id, None).await?;
        let judged = actor.may_edit_role(catalog, edited, &holders, &measured);
        self.judged(judged).await
    }

    /// Whether the actor, if there is one, may delete a role, and give its holders another one.
    pub(super) async fn may_delete_role(
        self,
        role: &RoleId,
        reassign_to: Option<&RoleId>,
    ) -> Result<Self, ServiceError> {
        let Some(acting) = &self.acting else { return Ok(self) };
        let (holders, measured) = self.holders(acting, role, reassign_to).await?;
        let Acting { actor, catalog, .. } = acting;
        let judged = actor.may_delete_role(catalog, role, reassign_to, &holders, &measured);
        self.judged(judged).await
    }

    /// Goes on, or ends as it was judged.
    pub(super) async fn judged(
        mut self,
        judged: Result<(), ActorRefusal>,
    ) -> Result<Self, ServiceError> {
        match (judged, self.acting.take()) {
            (Err(refusal), Some(acting)) => Err(self.refused(acting.attempt, refusal).await),
            (Err(refusal), None) => Err(Refusal::Actor(refusal).into()),
            (Ok(()), acting) => {
                self.acting = acting;
                Ok(self)
            }
        }
    }

    async fn refused(self, attempt: Attempt, refusal: ActorRefusal) -> ServiceError {
        // Nothing is held while it is recorded.
        self.end(WriteOutcome::RefusedToActor);
        attempt.record(&refusal).await;
        Refusal::Actor(refusal).into()
    }

    /// How these roles lie to what the actor holds.
    pub(super) async fn measured(
        &self,
        Acting { actor, catalog, .. }: &Acting,
        roles: impl Iterator<Item = &RoleId> + Send,
    ) -> Result<Measures, ServiceError> {
        let measure = |(id, role)| (id, actor.measure(catalog, &role));
        let measured = self.compiled(catalog, roles).await?.into_iter().map(measure);
        // Most roles of most tenants give nothing that who administers them lacks.
        Ok(measured.filter(|(_, measure)| *measure != Measure::default()).collect())
    }

    /// The holders of a role, and how what they hold, and what they are to get, is measured.
    async fn holders(
        &self,
        acting: &Acting,
        role: &RoleId,
        reassign_to: Option<&RoleId>,
    ) -> Result<(Holders, Measures), ServiceError> {
        let tenant = self.tenant_id();
        let teams = acting.actor.teams();
        let any = self.tx.any_holder(tenant, role).await?;
        let elsewhere = any && self.tx.any_holder_outside(tenant, role, teams).await?;
        let (mut roles, mut in_other_teams) = (Vec::new(), elsewhere.then(Vec::new));
        if any && acting.catalog.roles_per_member() > 1 {
            roles = self.tx.roles_held_with(tenant, role, None).await?;
            if elsewhere {
                in_other_teams = Some(self.tx.roles_held_with(tenant, role, Some(teams)).await?);
            }
        }
        // Whoever is elsewhere is among the others.
        let all = std::iter::once(role).chain(&roles).chain(reassign_to);
        let measured = self.measured(acting, all).await?;
        Ok((Holders { any, roles, in_other_teams }, measured))
    }

    async fn compiled(
        &self,
        catalog: &Catalog,
        roles: impl Iterator<Item = &RoleId> + Send,
    ) -> Result<Vec<(RoleId, CompiledRole)>, ServiceError> {
        let roles: BTreeSet<&RoleId> = roles.collect();
        let (mut compiled, mut custom) = (Vec::with_capacity(roles.len()), Vec::new());
        for id in roles {
            match catalog.default_role(id.as_str()) {
                Some(role) => compiled.push((id.clone(), CompiledRole::clone(&role.compiled))),
                None => custom.push(id.clone()),
            }
        }
        for role in self.tx.roles_by_ids(self.tenant_id(), &custom).await? {
            compiled.push((role.id.clone(), role.compile(catalog)));
        }
        Ok(compiled)
    }
}

/// An attempt that is not too large to be kept.
pub(super) fn bounded(mut attempt: Trace) -> Trace {
    attempt.members.truncate(ATTEMPT_MEMBERS);
    let bytes = attempt.after.as_ref().map_or(0, |after| after.to_string().len());
    if bytes > ATTEMPT_BYTES {
        attempt.after = Some(serde_json::json!({ "left_out_bytes": bytes }));
    }
    attempt
}

/// What was tried with a member.
pub(super) fn on_member(member: &MemberId, wanted: Value) -> Trace {
    Trace { after: Some(wanted), ..Trace::default() }.member(member)
}

/// What was tried with a role; none: a new one.
pub(super) fn on_role(role: Option<&RoleId>, wanted: Value) -> Trace {
    let attempt = Trace { after: Some(wanted), ..Trace::default() };
    match role {
        Some(role) => attempt.role(role),
        None => attempt,
    }
}
