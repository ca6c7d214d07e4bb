//! A member, the resources around it, and short ways to ask.

use std::sync::Arc;

use rolegate::domain::catalog::{Catalog, PermissionIx, shipped};
use rolegate::domain::decision::DecisionReason;
use rolegate::domain::grant::{Grant, GrantProblem, check_grants};
use rolegate::domain::ids::{MemberId, RoleId, TeamId};
use rolegate::domain::member::{MemberStatus, Subject};
use rolegate::domain::resource::Resource;
use rolegate::domain::role::{CompiledRole, RoleKind};

/// The shipped catalog with this id.
pub(crate) fn catalog(id: &str) -> Catalog {
    let catalogs = shipped().iter().map(|source| Catalog::parse(source).unwrap());
    catalogs.into_iter().find(|catalog| catalog.reference().id == id).unwrap()
}

/// `ticket.work at all`, or `customer.edit`.
pub(crate) fn grants(written: &[&str]) -> Vec<Grant> {
    let grant = |text: &&str| match text.split_once(" at ") {
        Some((permission, scope)) => {
            Grant { permission: permission.to_owned(), scope: Some(scope.to_owned()) }
        }
        None => Grant { permission: (*text).to_owned(), scope: None },
    };
    written.iter().map(grant).collect()
}

fn member(roles: Vec<(RoleId, Arc<CompiledRole>)>) -> Subject {
    Subject {
        id: MemberId::trusted("me"),
        status: MemberStatus::Active,
        teams: Arc::from([TeamId::trusted("mine")]),
        roles,
    }
}

/// A member of the team `mine` without a role.
pub(crate) fn without_role() -> Subject {
    member(Vec::new())
}

/// A member of the team `mine` with a default role.
pub(crate) fn with_default_role(catalog: &Catalog, role: &str) -> Subject {
    let role = catalog.default_role(role).unwrap();
    member(vec![(role.id.clone(), Arc::clone(&role.compiled))])
}

/// A member of the team `mine` with a custom role, if the catalog allows such a role.
pub(crate) fn with_custom_role(
    catalog: &Catalog,
    written: &[&str],
) -> Result<Subject, Vec<GrantProblem>> {
    let checked = check_grants(catalog, &grants(written), false)?;
    let compiled = CompiledRole::compile(catalog, RoleKind::Custom, &checked);
    assert_eq!(compiled.dropped(), [], "what was accepted holds");
    Ok(member(vec![(RoleId::generate(), Arc::new(compiled))]))
}

pub(crate) fn ix(catalog: &Catalog, permission: &str) -> PermissionIx {
    catalog.find(permission).unwrap_or_else(|| panic!("no permission {permission}"))
}

/// Whether the member may do it to the resource.
pub(crate) fn may(
    catalog: &Catalog,
    subject: &Subject,
    permission: &str,
    resource: &Resource,
) -> bool {
    subject.decide(catalog, ix(catalog, permission), Some(resource)).is_allowed()
}

/// Whether the member may do it without any resource being named.
pub(crate) fn may_at_large(catalog: &Catalog, subject: &Subject, permission: &str) -> bool {
    subject.decide(catalog, ix(catalog, permission), None).is_allowed()
}

/// Whether the member holds it at all, however far.
pub(crate) fn holds(catalog: &Catalog, subject: &Subject, permission: &str) -> bool {
    let decision = subject.decide(catalog, ix(catalog, permission), None);
    decision.is_allowed() || decision.reason == DecisionReason::ResourceRequired
}

/// The sections that the member's menus show.
pub(crate) fn menu(catalog: &Catalog, subject: &Subject) -> Vec<String> {
    let sections = subject.visible_sections(catalog).into_iter();
    sections.map(|ix| catalog.section(ix).id.clone()).collect()
}

/// The permissions that a refused role lacks, each with the one that needs it.
pub(crate) fn lacking(problems: &[GrantProblem]) -> Vec<(String, String)> {
    let lacking = problems.iter().flat_map(|problem| match problem {
        GrantProblem::RequirementMissing { permission, choices, .. } => {
            let choices = choices.iter();
            choices.map(|choice| (permission.clone(), choice.permission.clone())).collect()
        }
        _ => Vec::new(),
    });
    lacking.collect()
}

/// Everything said of it, and `me` has nothing to do with it.
pub(crate) fn someone_elses() -> Resource {
    Resource {
        id: "1".to_owned(),
        assignees: Some(vec![MemberId::trusted("other")]),
        teams: Some(vec![TeamId::trusted("theirs")]),
        creator: Some(Some(MemberId::trusted("other"))),
        participants: Some(vec![MemberId::trusted("other")]),
        public: Some(false),
    }
}

pub(crate) fn assigned_to_me() -> Resource {
    Resource { assignees: Some(vec![MemberId::trusted("me")]), ..someone_elses() }
}

pub(crate) fn in_my_team() -> Resource {
    Resource { teams: Some(vec![TeamId::trusted("mine")]), ..someone_elses() }
}

pub(crate) fn unassigned_in_another_team() -> Resource {
    Resource { assignees: Some(Vec::new()), ..someone_elses() }
}

pub(crate) fn unassigned_in_my_team() -> Resource {
    Resource { assignees: Some(Vec::new()), ..in_my_team() }
}

pub(crate) fn in_the_general_pool() -> Resource {
    Resource { assignees: Some(Vec::new()), teams: Some(Vec::new()), ..someone_elses() }
}

pub(crate) fn made_by_me() -> Resource {
    Resource { creator: Some(Some(MemberId::trusted("me"))), ..someone_elses() }
}

pub(crate) fn i_take_part_in() -> Resource {
    Resource { participants: Some(vec![MemberId::trusted("me")]), ..someone_elses() }
}

pub(crate) fn set_to_public() -> Resource {
    Resource { public: Some(true), ..someone_elses() }
}
