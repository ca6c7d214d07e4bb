//! What a member may do as an actor (DESIGN section 5): administer a tenant without ever giving
//! more than it holds.
//!
//! A mutation that names an actor is looked at in this order, and the first rule that says no
//! answers:
//!
//! 1. The actor is an **active member** of the tenant.
//! 2. It holds the **permission that the catalog asks for** such a call ([`Duty`]). Only after this
//!    does anything depend on whether a role or another member exists.
//! 3. **Not itself**: its own roles, teams and status, and its own role's deletion.
//! 4. **Owners by owners**: who has, or is to have, the owner's role is an owner's business.
//! 5. **Not its betters**: nothing is changed of a member, and nothing taken from holders of a role,
//!    who hold what the actor lacks. Archived members count as what their roles would give.
//! 6. **Nothing that it lacks is given**: what an edit adds to a role, and every grant of a role that
//!    is assigned, restored with or reassigned to, lie within what the actor holds.
//! 7. **Nor through a team**: see below.
//!
//! What is held is compared as relation sets, permission by permission, over the union of the
//! actor's roles and what everyone has. A set lies within a union exactly when each of its parts
//! does, so a member is within the actor's reach exactly when each of its roles is, and each role is
//! measured once ([`Actor::measure`]), however many members there are.
//!
//! **Edits of a role.** What a holder gains by an edit is at most what the edit adds, so the addition
//! is what is measured; grants that stay may be beyond the actor. Taking something away is refused
//! when the role, or any role that one of its holders holds besides it, is beyond the actor: it would
//! disarm its betters. A deletion takes everything away.
//!
//! **Teams.** The relation `team` means other things to members of other teams: who holds
//! `ticket.work` at `group` holds it for the tickets of its own teams. An actor that reaches something
//! through its teams only gives it to members of those teams only: it cannot put somebody into another
//! team, or give a role to somebody who is in another team, where that reaches what the actor reaches
//! in none but its own. Whoever holds it at `any` (for unassigned things: at `unassigned`) is free.

mod lack;
mod refusal;

use std::collections::HashMap;

pub use lack::{Lack, Missing};
pub use refusal::{ActorRefusal, Better};

use super::catalog::{Catalog, PermissionIx};
use super::ids::{MemberId, RoleId, TeamId};
use super::member::{Member, MemberStatus, Subject};
use super::relation::{Relation, RelationSet};
use super::role::CompiledRole;

/// What a call administers, for which the catalog names a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Making, changing, cloning and deleting roles.
    Roles,
    /// Making, changing and restoring members, their roles and teams.
    Members,
    /// Archiving and deleting members.
    Removal,
}

impl Duty {
    /// The permission that it takes.
    #[must_use]
    pub fn permission(self, catalog: &Catalog) -> PermissionIx {
        let administration = catalog.administration();
        match self {
            Duty::Roles => administration.roles,
            Duty::Members => administration.members,
            Duty::Removal => administration.member_removal,
        }
    }
}

/// A member on whose behalf something is done, with what it holds.
#[derive(Debug, Clone)]
pub struct Actor {
    id: MemberId,
    roles: Vec<RoleId>,
    teams: Vec<TeamId>,
    /// Per permission, in the catalog's order.
    holds: Box<[RelationSet]>,
    /// What everyone has, through teams, that the actor has in none but its own.
    everyones: Option<Lack>,
    owner: bool,
}

/// How a role lies to what an actor holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measure {
    /// What the actor does not hold.
    pub beyond: Option<Lack>,
    /// What the actor does not hold in teams other than its own.
    pub beyond_teams: Option<Lack>,
}

/// Measured roles. One that is not in it gives nothing.
pub type Measures = HashMap<RoleId, Measure>;

/// Those who hold a role.
#[derive(Debug, Clone, Default)]
pub struct Holders {
    /// The roles that any of them holds, also archived ones.
    pub roles: Vec<RoleId>,
    /// Whether an active one is in a team that the actor is not in.
    pub in_other_teams: bool,
}

impl Actor {
    /// The actor of a call, if there is such a member and it may make calls of this kind at all.
    ///
    /// # Errors
    /// No such member, an archived one, or one without the permission.
    pub fn admit(
        catalog: &Catalog,
        id: &MemberId,
        found: Option<&Subject>,
        duty: Duty,
    ) -> Result<Self, ActorRefusal> {
        let actor = || id.clone();
        let subject = found.ok_or_else(|| ActorRefusal::NotFound { actor: actor() })?;
        if subject.status != MemberStatus::Active {
            return Err(ActorRefusal::Archived { actor: actor() });
        }
        let holds = catalog.permissions().map(|(ix, _)| subject.granted(catalog, ix)).collect();
        let mut admitted = Actor {
            id: id.clone(),
            roles: subject.roles.iter().map(|(role, _)| role.clone()).collect(),
            teams: subject.teams.to_vec(),
            holds,
            everyones: None,
            owner: subject.roles.iter().any(|(role, _)| role == catalog.owner()),
        };
        admitted.everyones = admitted.lack_in_teams(catalog, |ix| catalog.base(ix));
        admitted.may(catalog, duty)?;
        Ok(admitted)
    }

    /// Who it is.
    #[must_use]
    pub fn id(&self) -> &MemberId {
        &self.id
    }

    /// The teams it is in.
    #[must_use]
    pub fn teams(&self) -> &[TeamId] {
        &self.teams
    }

    /// Whether it holds the permission that such a call takes.
    ///
    /// # Errors
    /// It does not.
    pub fn may(&self, catalog: &Catalog, duty: Duty) -> Result<(), ActorRefusal> {
        let permission = duty.permission(catalog);
        if Catalog::reaches_everything(self.held(permission)) {
            return Ok(());
        }
        let permission = catalog.permission(permission).id.clone();
        Err(ActorRefusal::NotPermitted { actor: self.id.clone(), permission })
    }

    /// Measures what a role gives.
    #[must_use]
    pub fn measure(&self, catalog: &Catalog, role: &CompiledRole) -> Measure {
        self.measure_each(catalog, |ix| role.reach(ix).relations)
    }

    /// Whether it may make this of a member: from `before`, none if it is new, to `after`, none if
    /// it is deleted. Only for what changes; `measured` has every role of both.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn may_change(
        &self,
        catalog: &Catalog,
        before: Option<&Member>,
        after: Option<&Member>,
        measured: &Measures,
    ) -> Result<(), ActorRefusal> {
        let is_active = |member: Option<&Member>| {
            member.is_some_and(|member| member.status == MemberStatus::Active)
        };
        // Deleting an archived member is a removal, too.
        if after.is_none() || (is_active(before) && !is_active(after)) {
            self.may(catalog, Duty::Removal)?;
        }
        let states = || before.into_iter().chain(after);
        if states().any(|member| member.id == self.id) {
            return Err(ActorRefusal::IsSubject { actor: self.id.clone() });
        }
        if states().any(|member| member.roles.contains(catalog.owner())) {
            self.must_be_owner(catalog)?;
        }
        if let Some(before) = before {
            for role in &before.roles {
                let better = || Better::Member(before.id.clone());
                self.not_outranked(measured.get(role), better)?;
            }
        }
        let Some(after) = after else { return Ok(()) };
        for role in &after.roles {
            self.gives(role, measured.get(role), false)?;
        }
        if !is_active(Some(after)) {
            // It reaches nothing now; whoever restores it is measured then.
            return Ok(());
        }
        let (was_in, held) = match before.filter(|_| is_active(before)) {
            Some(before) => (before.teams.as_slice(), before.roles.as_slice()),
            None => (&[][..], &[][..]),
        };
        let mut others = after.teams.iter().filter(|team| !self.teams.contains(team)).peekable();
        if others.peek().is_none() {
            return Ok(());
        }
        let joins_other = others.any(|team| !was_in.contains(team));
        for role in &after.roles {
            if joins_other || !held.contains(role) {
                self.gives(role, measured.get(role), true)?;
            }
        }
        match &self.everyones {
            Some(lack) if joins_other => Err(self.lacks(None, lack, true)),
            _ => Ok(()),
        }
    }

    /// Whether it may make this of a role: `before` is none if it is new.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn may_write_role(
        &self,
        catalog: &Catalog,
        role: Option<&RoleId>,
        before: &CompiledRole,
        after: &CompiledRole,
        holders: &Holders,
        measured: &Measures,
    ) -> Result<(), ActorRefusal> {
        let reach = |role: &CompiledRole, ix| role.reach(ix).relations;
        let taken = |ix| reach(before, ix).minus(reach(after, ix));
        if let Some(role) = role
            && catalog.permissions().any(|(ix, _)| !taken(ix).is_empty())
        {
            self.may_take_from(catalog, role, holders, measured)?;
        }
        let added = |ix| reach(after, ix).minus(reach(before, ix));
        let measure = self.measure_each(catalog, added);
        self.gives_measured(role, Some(&measure), false)?;
        if holders.in_other_teams {
            self.gives_measured(role, Some(&measure), true)?;
        }
        Ok(())
    }

    /// Whether it may delete a role, and give its holders another one.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn may_delete_role(
        &self,
        catalog: &Catalog,
        role: &RoleId,
        reassign_to: Option<&RoleId>,
        holders: &Holders,
        measured: &Measures,
    ) -> Result<(), ActorRefusal> {
        if self.roles.contains(role) {
            return Err(ActorRefusal::IsSubject { actor: self.id.clone() });
        }
        self.may_take_from(catalog, role, holders, measured)?;
        let Some(target) = reassign_to else { return Ok(()) };
        if target == catalog.owner() {
            self.must_be_owner(catalog)?;
        }
        self.gives(target, measured.get(target), false)?;
        if holders.in_other_teams {
            self.gives(target, measured.get(target), true)?;
        }
        Ok(())
    }

    /// Nothing is taken from a role that the actor lacks something of, or whose holders it does.
    fn may_take_from(
        &self,
        catalog: &Catalog,
        role: &RoleId,
        holders: &Holders,
        measured: &Measures,
    ) -> Result<(), ActorRefusal> {
        if holders.roles.contains(catalog.owner()) {
            self.must_be_owner(catalog)?;
        }
        for held in std::iter::once(role).chain(&holders.roles) {
            self.not_outranked(measured.get(held), || Better::Role(role.clone()))?;
        }
        Ok(())
    }

    fn must_be_owner(&self, catalog: &Catalog) -> Result<(), ActorRefusal> {
        if self.owner {
            return Ok(());
        }
        let (actor, owner_role) = (self.id.clone(), catalog.owner().clone());
        Err(ActorRefusal::OwnerRequired { actor, owner_role })
    }

    fn not_outranked(
        &self,
        measure: Option<&Measure>,
        by: impl FnOnce() -> Better,
    ) -> Result<(), ActorRefusal> {
        match measure.and_then(|measure| measure.beyond.as_ref()) {
            None => Ok(()),
            Some(lack) => {
                let (actor, lack) = (self.id.clone(), lack.clone());
                Err(ActorRefusal::Outranked { actor, by: by(), lack })
            }
        }
    }

    fn gives(
        &self,
        role: &RoleId,
        measure: Option<&Measure>,
        in_teams: bool,
    ) -> Result<(), ActorRefusal> {
        self.gives_measured(Some(role), measure, in_teams)
    }

    fn gives_measured(
        &self,
        role: Option<&RoleId>,
        measure: Option<&Measure>,
        in_teams: bool,
    ) -> Result<(), ActorRefusal> {
        let lack = measure.and_then(|measure| match in_teams {
            false => measure.beyond.as_ref(),
            true => measure.beyond_teams.as_ref(),
        });
        lack.map_or(Ok(()), |lack| Err(self.lacks(role, lack, in_teams)))
    }

    fn lacks(&self, role: Option<&RoleId>, lack: &Lack, in_teams: bool) -> ActorRefusal {
        let (actor, role, lack) = (self.id.clone(), role.cloned(), lack.clone());
        ActorRefusal::LacksGrant { actor, role, lack, in_teams }
    }

    fn held(&self, permission: PermissionIx) -> RelationSet {
        self.holds.get(permission.get()).copied().unwrap_or_default()
    }

    fn measure_each(
        &self,
        catalog: &Catalog,
        given: impl Fn(PermissionIx) -> RelationSet,
    ) -> Measure {
        let beyond = Lack::of(catalog, |ix| given(ix).minus(self.held(ix)));
        Measure { beyond, beyond_teams: self.lack_in_teams(catalog, given) }
    }

    /// What of this the actor does not hold in teams that it is not in.
    fn lack_in_teams(
        &self,
        catalog: &Catalog,
        given: impl Fn(PermissionIx) -> RelationSet,
    ) -> Option<Lack> {
        const THROUGH_TEAMS: RelationSet =
            RelationSet::EMPTY.with(Relation::Team).with(Relation::TeamUnassigned);
        Lack::of(catalog, |ix| {
            let own_teams_left_out = self.held(ix).reduced().minus(THROUGH_TEAMS).closed();
            given(ix).intersection(THROUGH_TEAMS).minus(own_teams_left_out)
        })
    }
}
