//! Changes of a tenant: made through the services, and made to the reference's world.

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseError;
use rolegate::domain::ids::{MemberId, RoleId, TenantId};
use rolegate::domain::member::MemberStatus;
use rolegate::service::decide::Question;
use rolegate::service::roles::{Deletion, RoleDraft, RoleEdit};
use rolegate::service::token::Consistency;
use rolegate::service::upsert::{Batch, BatchMode, ItemOutcome, Upsert};
use rolegate::service::{ServiceError, Written};
use rolegate::store::DecisionSource;

use super::convert;
use super::coverage::Coverage;
use super::generate::{Case, GrantDraw, OWNER, PEOPLE, Write, build_grants};
use super::tenant::{ASKER, Service, context};
use crate::reference::model::{Catalog, Grant, Member, Role, World};
use crate::reference::roles::effective_grants;

/// The token of a write; none when nothing was written.
type Token = Option<String>;

/// A tenant as the reference knows it, and what else is needed to change it.
#[derive(Clone)]
pub(super) struct State {
    pub(super) world: World,
    roles_per_member: usize,
    /// The catalog's next version, until the tenant has moved to it.
    newer: Option<Catalog>,
}

impl State {
    pub(super) fn of(case: &Case) -> Self {
        State {
            world: case.world.clone(),
            roles_per_member: case.roles_per_member,
            newer: Some(case.newer.clone()),
        }
    }
}

/// What a write does, worked out before it is made.
pub(super) struct Planned {
    /// How everything is afterwards.
    pub(super) after: State,
    pub(super) call: Call,
}

/// A write in the terms of the services.
pub(super) enum Call {
    Nothing,
    AddMember(Member),
    AssignRoles(Member),
    SetTeams(Member),
    SetStatus(Member),
    DeleteMember(String),
    Sync(Vec<Member>),
    /// With whether it will be accepted.
    AddRole(Role, bool),
    EditRole(Role, bool),
    CloneRole {
        source: String,
        grants: Vec<Grant>,
    },
    DeleteRole {
        role: String,
        reassign_to: String,
    },
    MoveCatalog(Box<Catalog>),
    DeleteAndRestoreTenant,
}

/// Works out what a write does.
pub(super) fn plan(before: &State, write: &Write) -> Planned {
    let world = &before.world;
    let State { world: mut after, mut newer, roles_per_member } = before.clone();
    let roles = |indices: &[Index]| pick_roles(world, roles_per_member, indices);
    let call = match write {
        Write::AddMember { roles: indices, teams } => {
            match PEOPLE.iter().find(|id| world.member(id).is_none()) {
                None => Call::Nothing,
                Some(id) => {
                    let member = Member {
                        id: id.to_string(),
                        active: true,
                        roles: roles(indices),
                        teams: teams.iter().map(|team| team.to_string()).collect(),
                    };
                    after.members.push(member.clone());
                    Call::AddMember(member)
                }
            }
        }
        Write::AssignRoles { member, roles: indices } => change(&mut after, member, |member| {
            member.roles = roles(indices);
            Call::AssignRoles(member.clone())
        }),
        Write::SetTeams { member, teams } => change(&mut after, member, |member| {
            member.teams = teams.iter().map(|team| team.to_string()).collect();
            Call::SetTeams(member.clone())
        }),
        Write::SetStatus { member, active } => change(&mut after, member, |member| {
            member.active = *active;
            Call::SetStatus(member.clone())
        }),
        Write::DeleteMember { member } => {
            let call = change(&mut after, member, |member| Call::DeleteMember(member.id.clone()));
            if let Call::DeleteMember(id) = &call {
                after.members.retain(|member| member.id != *id);
            }
            call
        }
        Write::Sync { members } => {
            let mut synced: Vec<Member> = Vec::new();
            for (index, active, indices) in members {
                change(&mut after, index, |member| {
                    if !synced.iter().any(|other| other.id == member.id) {
                        member.active = *active;
                        member.roles = roles(indices);
                        synced.push(member.clone());
                    }
                    Call::Nothing
                });
            }
            Call::Sync(synced)
        }
        Write::AddRole { grants, closed } => {
            let role = draft(world, "to be made", grants, *closed);
            let accepted = effective_grants(&world.catalog, &role) == role.grants;
            Call::AddRole(role, accepted)
        }
        Write::EditRole { role, grants, closed } => match pick(&mut after.custom_roles, role) {
            None => Call::Nothing,
            Some(role) => {
                let edited = draft(world, &role.id, grants, *closed);
                let accepted = effective_grants(&world.catalog, &edited) == edited.grants;
                if accepted {
                    *role = edited.clone();
                }
                Call::EditRole(edited, accepted)
            }
        },
        Write::CloneRole { role } => {
            let all: Vec<&Role> =
                world.catalog.default_roles.iter().chain(&world.custom_roles).collect();
            let source = all[role.index(all.len())];
            let copy = Role { custom: true, ..source.clone() };
            let grants = effective_grants(&world.catalog, &copy);
            Call::CloneRole { source: source.id.clone(), grants }
        }
        Write::DeleteRole { role, reassign_to } => match pick(&mut after.custom_roles, role) {
            None => Call::Nothing,
            Some(role) => {
                let role = role.id.clone();
                after.custom_roles.retain(|other| other.id != role);
                let others: Vec<&Role> =
                    after.catalog.default_roles.iter().chain(&after.custom_roles).collect();
                let reassign_to = others[reassign_to.index(others.len())].id.clone();
                for member in &mut after.members {
                    reassign(member, &role, &reassign_to);
                }
                Call::DeleteRole { role, reassign_to }
            }
        },
        Write::MoveCatalog => match newer.take() {
            None => Call::Nothing,
            Some(newer) => {
                after.catalog = newer.clone();
                Call::MoveCatalog(Box::new(newer))
            }
        },
        Write::DeleteAndRestoreTenant => Call::DeleteAndRestoreTenant,
    };
    Planned { after: State { world: after, roles_per_member, newer }, call }
}

fn reassign(member: &mut Member, from: &str, to: &str) {
    if member.roles.iter().any(|role| role == to) {
        member.roles.retain(|role| role != from);
    }
    for role in member.roles.iter_mut().filter(|role| *role == from) {
        *role = to.to_owned();
    }
}

fn pick<'v, T>(all: &'v mut [T], index: &Index) -> Option<&'v mut T> {
    if all.is_empty() { None } else { Some(index.get_mut(all)) }
}

/// Changes some member, if there is one besides the owner.
fn change(world: &mut World, index: &Index, change: impl FnOnce(&mut Member) -> Call) -> Call {
    let mut others: Vec<&mut Member> =
        world.members.iter_mut().filter(|member| member.id != OWNER).collect();
    pick(&mut others, index).map_or(Call::Nothing, |member| change(member))
}

/// Different roles that exist, as many as a member may hold.
fn pick_roles(world: &World, roles_per_member: usize, indices: &[Index]) -> Vec<String> {
    let all: Vec<&Role> = world.custom_roles.iter().chain(&world.catalog.default_roles).collect();
    let mut picked: Vec<String> = Vec::new();
    for index in indices {
        let id = &all[index.index(all.len())].id;
        if picked.len() < roles_per_member && !picked.contains(id) {
            picked.push(id.clone());
        }
    }
    picked
}

fn draft(world: &World, id: &str, grants: &[GrantDraw], closed: bool) -> Role {
    let grants = build_grants(&world.catalog, grants);
    let mut role = Role { id: id.to_owned(), custom: true, grants };
    if closed {
        role.grants = effective_grants(&world.catalog, &role);
    }
    role
}

impl<S: DecisionSource> Service<S> {
    /// Makes a planned write. Roles that are made get their ids in the world that comes of it.
    pub(super) async fn write(
        &self,
        tenant: &TenantId,
        planned: &mut Planned,
        coverage: &Coverage,
    ) -> Result<Token, TestCaseError> {
        let Planned { after, call } = planned;
        let world = &mut after.world;
        let members = &self.members;
        Ok(match call {
            Call::Nothing => None,
            Call::AddMember(Member { id, roles, teams, .. }) => {
                let (roles, teams) = (convert::role_ids(roles), convert::team_ids(teams));
                let id = convert::member_id(id);
                let made = members.create(context("Create"), tenant, &id, &roles, &teams);
                token(made.await)
            }
            Call::AssignRoles(Member { id, roles, .. }) => {
                let (id, roles) = (convert::member_id(id), convert::role_ids(roles));
                token(members.assign_roles(context("Assign"), tenant, &id, &roles, None).await)
            }
            Call::SetTeams(Member { id, teams, .. }) => {
                let (id, teams) = (convert::member_id(id), convert::team_ids(teams));
                token(members.set_teams(context("Update"), tenant, &id, &teams, None).await)
            }
            Call::SetStatus(member) => {
                let id = convert::member_id(&member.id);
                let status = status(member);
                token(members.set_status(context("SetStatus"), tenant, &id, status, None).await)
            }
            Call::DeleteMember(id) => {
                let id = convert::member_id(id);
                token(members.delete(context("Delete"), tenant, &id, None).await)
            }
            Call::Sync(synced) => {
                let written = members.upsert(context("Sync"), tenant, batch(synced)).await.unwrap();
                let refused = |(_, outcome): &(_, _)| matches!(outcome, ItemOutcome::Refused(_));
                prop_assert!(!written.value.items.iter().any(refused), "{:?}", written);
                written.token
            }
            Call::AddRole(role, accepted) => {
                let grants = convert::grants(&role.grants);
                let name = unused_name();
                let draft = RoleDraft { name, grants, ..RoleDraft::default() };
                let made = self.roles.create(context("CreateRole"), tenant, &draft).await;
                match accepted_as_expected(made, *accepted, role, coverage)? {
                    None => None,
                    Some(made) => {
                        let id = made.value.role.id.to_string();
                        world.custom_roles.push(Role { id, ..role.clone() });
                        made.token
                    }
                }
            }
            Call::EditRole(role, accepted) => {
                let grants = Some(convert::grants(&role.grants));
                let edit = RoleEdit { grants, ..RoleEdit::default() };
                let id = RoleId::parse(&role.id).unwrap();
                let edited = self.roles.update(context("UpdateRole"), tenant, &id, &edit).await;
                accepted_as_expected(edited, *accepted, role, coverage)?
                    .and_then(|written| written.token)
            }
            Call::CloneRole { source, grants } => {
                let source = RoleId::parse(source).unwrap();
                let roles = &self.roles;
                let name = unused_name();
                let made = roles.clone_role(context("CloneRole"), tenant, &source, &name, None);
                let made = made.await.unwrap();
                let id = made.value.role.id.to_string();
                world.custom_roles.push(Role { id, custom: true, grants: grants.clone() });
                made.token
            }
            Call::DeleteRole { role, reassign_to } => {
                let role = RoleId::parse(role).unwrap();
                let deletion = Deletion {
                    reassign_to: Some(RoleId::parse(reassign_to).unwrap()),
                    ..Deletion::default()
                };
                token(self.roles.delete(context("DeleteRole"), tenant, &role, &deletion).await)
            }
            Call::MoveCatalog(newer) => {
                self.add_catalog(newer, tenant.as_str(), 2, after.roles_per_member).await;
                let tenants = &self.tenants;
                token(tenants.move_catalog(context("Move"), tenant, None, true, None).await)
            }
            Call::DeleteAndRestoreTenant => self.delete_and_restore(tenant).await?,
        })
    }

    async fn delete_and_restore(&self, tenant: &TenantId) -> Result<Token, TestCaseError> {
        self.tenants.delete(context("DeleteTenant"), tenant, None).await.unwrap();
        let question = Question {
            member: convert::member_id(OWNER),
            // The tenant comes first, so this is never found out.
            permission: "no.such.permission".to_owned(),
            resource: None,
        };
        let consistency = Consistency::default();
        let gone =
            self.decisions.check(ASKER, tenant, &question, &consistency).await.unwrap().value;
        prop_assert_eq!(convert::reason(gone.reason), "TENANT_NOT_FOUND");
        Ok(token(self.tenants.undelete(context("UndeleteTenant"), tenant, None).await))
    }
}

fn token<T>(written: Result<Written<T>, ServiceError>) -> Token {
    written.unwrap_or_else(|error| panic!("the write should have been made: {error:?}")).token
}

/// A role is accepted exactly when every grant can stand and nothing that it requires is missing.
fn accepted_as_expected<T>(
    written: Result<Written<T>, ServiceError>,
    accepted: bool,
    role: &Role,
    coverage: &Coverage,
) -> Result<Option<Written<T>>, TestCaseError> {
    match (written, accepted) {
        (Ok(written), true) => {
            coverage.saw("a role that is accepted");
            Ok(Some(written))
        }
        (Err(ServiceError::Refused(_)), false) => {
            coverage.saw("a role that is refused");
            Ok(None)
        }
        (Ok(_), false) => Err(TestCaseError::fail(format!("accepted: {role:?}"))),
        (Err(error), _) => Err(TestCaseError::fail(format!("{error:?}: {role:?}"))),
    }
}

fn batch(members: &[Member]) -> Batch {
    let items = members.iter().map(|member| {
        Ok(Upsert {
            id: MemberId::parse(&member.id).unwrap(),
            roles: Some(convert::role_ids(&member.roles)),
            teams: None,
            status: Some(status(member)),
        })
    });
    Batch {
        items: items.collect(),
        mode: BatchMode::AllOrNothing,
        archive_absent: false,
        etag: None,
    }
}

fn status(member: &Member) -> MemberStatus {
    if member.active { MemberStatus::Active } else { MemberStatus::Archived }
}

fn unused_name() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("Role number {}", MADE.fetch_add(1, Ordering::Relaxed))
}
