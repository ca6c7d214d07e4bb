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
//! 7. **Neither through a team**: 5 and 6 compare team by team, see below.
//!
//! Rules 5 and 6 are one comparison of two states: what a member was and what it is to be must both
//! lie within what the actor reaches. So whatever an actor may do to a member, it may undo.
//!
//! What is held is compared as relation sets, permission by permission, over the union of the
//! actor's roles and what everyone has. A set lies within a union exactly when each of its parts
//! does, so a member is within the actor's reach exactly when each of its roles is, and each role is
//! measured once ([`Actor::measure`]), however many members there are.
//!
//! **Edits of a role.** What a holder gains by an edit is at most what the edit adds, so the addition
//! is what is measured; grants that stay may be beyond the actor. Taking something away is refused
//! when the role, or any role that one of its holders holds besides it, is beyond the actor: it would
//! disarm its betters. A deletion takes everything away, and where somebody holds the role it changes
//! the roles of members, so it takes the permission for that, too. What a role is called decides to
//! whom it is given next: a role that nothing may be taken from is not renamed or described anew.
//!
//! **Teams.** The relation `team` means other things to members of other teams: who holds
//! `ticket.work` at `group` holds it for the tickets of its own teams. An actor that reaches something
//! through its teams only gives it to, and takes it from, members of those teams only: it cannot put
//! somebody into another team or take it out of one, give a role to somebody who is in another team
//! or take it away, archive, restore or delete it, where that member reaches what the actor reaches in
//! none but its own teams. What everyone has counts, too: through a team it is not the same for all.
//! Whoever holds it at `any` (for unassigned things: at `unassigned`) is free.

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

impl Measure {
    fn lack(&self, in_teams: bool) -> Option<&Lack> {
        if in_teams { self.beyond_teams.as_ref() } else { self.beyond.as_ref() }
    }
}

/// Measured roles. One that is not in it gives nothing.
pub type Measures = HashMap<RoleId, Measure>;

/// Members who hold a role, archived ones among them.
#[derive(Debug, Clone, Default)]
pub struct Holders {
    /// Whether there are any.
    pub any: bool,
    /// The roles that any of them holds besides.
    pub roles: Vec<RoleId>,
    /// The same of those who are in a team that the actor is not in; `None`: nobody is.
    pub in_other_teams: Option<Vec<RoleId>>,
}

/// A role before and after an edit.
#[derive(Debug, Clone, Copy)]
pub struct RoleEdited<'a> {
    /// The role.
    pub role: &'a RoleId,
    /// What it gave.
    pub before: &'a CompiledRole,
    /// What it is to give.
    pub after: &'a CompiledRole,
    /// Whether its name or its description changes.
    pub relabelled: bool,
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
            self.reaches_as_far(before, measured)?;
        }
        after.map_or(Ok(()), |after| self.gives_all_of(after, measured))
    }

    /// Whether a member holds nothing that the actor lacks.
    fn reaches_as_far(&self, member: &Member, measured: &Measures) -> Result<(), ActorRefusal> {
        let better = || Better::Member(member.id.clone());
        for role in &member.roles {
            self.not_outranked(measured.get(role), false, better)?;
        }
        if !self.is_in_all(&member.teams) {
            for role in &member.roles {
                self.not_outranked(measured.get(role), true, better)?;
            }
            self.not_outranked_by_everyone(better)?;
        }
        Ok(())
    }

    /// Whether all that a member is to have may be given by the actor.
    fn gives_all_of(&self, member: &Member, measured: &Measures) -> Result<(), ActorRefusal> {
        for role in &member.roles {
            self.gives(Some(role), measured.get(role), false)?;
        }
        if !self.is_in_all(&member.teams) {
            for role in &member.roles {
                self.gives(Some(role), measured.get(role), true)?;
            }
            if let Some(lack) = &self.everyones {
                return Err(self.lacks(None, lack, true));
            }
        }
        Ok(())
    }

    fn is_in_all(&self, teams: &[TeamId]) -> bool {
        teams.iter().all(|team| self.teams.contains(team))
    }

    /// Whether it may make a role that gives this.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn may_make_role(
        &self,
        catalog: &Catalog,
        role: &CompiledRole,
    ) -> Result<(), ActorRefusal> {
        self.gives(None, Some(&self.measure(catalog, role)), false)
    }

    /// Whether it may edit a role like this.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn may_edit_role(
        &self,
        catalog: &Catalog,
        edited: RoleEdited<'_>,
        holders: &Holders,
        measured: &Measures,
    ) -> Result<(), ActorRefusal> {
        let RoleEdited { role, before, after, relabelled } = edited;
        let reach = |role: &CompiledRole, ix| role.reach(ix).relations;
        let taken = |ix| reach(before, ix).minus(reach(after, ix));
        if relabelled || catalog.permissions().any(|(ix, _)| !taken(ix).is_empty()) {
            self.may_take_from(catalog, role, holders, measured)?;
        }
        let added = |ix| reach(after, ix).minus(reach(before, ix));
        let measure = self.measure_each(catalog, added);
        self.gives(Some(role), Some(&measure), false)?;
        if holders.in_other_teams.is_some() {
            self.gives(Some(role), Some(&measure), true)?;
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
        if holders.any {
            self.may(catalog, Duty::Members)?;
        }
        if self.roles.contains(role) {
            return Err(ActorRefusal::IsSubject { actor: self.id.clone() });
        }
        self.may_take_from(catalog, role, holders, measured)?;
        let Some(target) = reassign_to else { return Ok(()) };
        if target == catalog.owner() {
            self.must_be_owner(catalog)?;
        }
        self.gives(Some(target), measured.get(target), false)?;
        if holders.in_other_teams.is_some() {
            self.gives(Some(target), measured.get(target), true)?;
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
        let better = || Better::Role(role.clone());
        for held in std::iter::once(role).chain(&holders.roles) {
            self.not_outranked(measured.get(held), false, better)?;
        }
        if let Some(roles) = &holders.in_other_teams {
            for held in std::iter::once(role).chain(roles) {
                self.not_outranked(measured.get(held), true, better)?;
            }
            self.not_outranked_by_everyone(better)?;
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
        in_teams: bool,
        by: impl FnOnce() -> Better,
    ) -> Result<(), ActorRefusal> {
        match measure.and_then(|measure| measure.lack(in_teams)) {
            None => Ok(()),
            Some(lack) => Err(self.outranked(by(), lack, in_teams)),
        }
    }

    /// The same for what everyone has in teams that the actor is not in.
    fn not_outranked_by_everyone(&self, by: impl FnOnce() -> Better) -> Result<(), ActorRefusal> {
        match &self.everyones {
            None => Ok(()),
            Some(lack) => Err(self.outranked(by(), lack, true)),
        }
    }

    fn outranked(&self, by: Better, lack: &Lack, in_teams: bool) -> ActorRefusal {
        let (actor, lack) = (self.id.clone(), lack.clone());
        ActorRefusal::Outranked { actor, by, lack, in_teams }
    }

    fn gives(
        &self,
        role: Option<&RoleId>,
        measure: Option<&Measure>,
        in_teams: bool,
    ) -> Result<(), ActorRefusal> {
        let lack = measure.and_then(|measure| measure.lack(in_teams));
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
