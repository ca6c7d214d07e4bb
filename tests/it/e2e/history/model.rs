//! What each write does, in the plainest way: the states that the checker compares answers with.

use std::collections::BTreeSet;

use super::record::{Op, Question, Verdict};
use crate::reference::decide::standing;
use crate::reference::model::{
    Catalog, Grant, Member, Permission, Relations, Role, Section, Who, World,
};

/// The catalog that the servers get; [`catalog`] is the same, for the reference.
pub(crate) const CATALOG: &str = r#"
id = "history"
version = 1
title = "History"
owner_role = "owner"
roles_per_member = 2
[deletion]
policy = "reassign"
[administration]
roles = "staff.manage"
members = "staff.manage"
[scopes]
team = { relations = ["assignee", "team"], title = "Team" }
all = { relations = ["any"], title = "All" }
[[section]]
id = "desk"
title = "Desk"
[[permission]]
id = "ticket.work"
section = "desk"
title = "Work"
scopes = ["team", "all"]
[[permission]]
id = "ticket.delete"
section = "desk"
title = "Delete"
follows = "ticket.work"
[[permission]]
id = "report.view"
section = "desk"
title = "View"
[[permission]]
id = "report.export"
section = "desk"
title = "Export"
requires = ["report.view"]
[[permission]]
id = "staff.manage"
section = "desk"
title = "Staff"
custom_roles = "never"
[[role]]
id = "owner"
title = "Owner"
everything = true
[[role]]
id = "lead"
title = "Lead"
grants = ["ticket.work at all", "report.view"]
[[role]]
id = "clerk"
title = "Clerk"
grants = ["ticket.work at team"]
"#;

/// The second version: clerks may also view reports.
pub(crate) fn second_catalog() -> String {
    CATALOG
        .replace("version = 1", "version = 2")
        .replace(r#"["ticket.work at team"]"#, r#"["ticket.work at team", "report.view"]"#)
}

pub(crate) const PERMISSIONS: [&str; 5] =
    ["ticket.work", "ticket.delete", "report.view", "report.export", "staff.manage"];

/// `ticket.work at team` and the like.
pub(crate) fn grants(texts: &[&str]) -> Vec<Grant> {
    let grant = |text: &&str| match text.split_once(" at ") {
        Some((permission, scope)) => {
            Grant { permission: permission.to_owned(), scope: Some(scope.to_owned()) }
        }
        None => Grant { permission: (*text).to_owned(), scope: None },
    };
    texts.iter().map(grant).collect()
}

fn catalog(version: u32) -> Catalog {
    let permission = |id: &str, scopes: &[&str], follows: Option<&str>, requires: &[&str]| {
        let who = if id == "staff.manage" { Who::DefaultRoles } else { Who::Roles };
        Permission {
            id: id.to_owned(),
            section: "desk".to_owned(),
            scopes: scopes.iter().map(|scope| scope.to_string()).collect(),
            follows: follows.map(str::to_owned),
            requires: requires.iter().map(|id| vec![id.to_string()]).collect(),
            who,
        }
    };
    let role =
        |id: &str, list: &[&str]| Role { id: id.to_owned(), custom: false, grants: grants(list) };
    let clerk: &[&str] = if version == 1 {
        &["ticket.work at team"]
    } else {
        &["ticket.work at team", "report.view"]
    };
    Catalog {
        sections: vec![Section { id: "desk".to_owned(), parent: None }],
        scopes: [
            ("team".to_owned(), Relations::from(["assignee", "team"])),
            ("all".to_owned(), Relations::from(["any"])),
        ]
        .into(),
        permissions: vec![
            permission("ticket.work", &["team", "all"], None, &[]),
            permission("ticket.delete", &[], Some("ticket.work"), &[]),
            permission("report.view", &[], None, &[]),
            permission("report.export", &[], None, &["report.view"]),
            permission("staff.manage", &[], None, &[]),
        ],
        default_roles: vec![
            role(
                "owner",
                &[
                    "ticket.work at all",
                    "ticket.delete",
                    "report.view",
                    "report.export",
                    "staff.manage",
                ],
            ),
            role("lead", &["ticket.work at all", "report.view"]),
            role("clerk", clerk),
        ],
    }
}

/// A tenant at one revision.
#[derive(Debug, Clone)]
pub(crate) struct State {
    deleted: bool,
    moved: bool,
    world: World,
}

impl State {
    /// The state after a write; the reason why it could not have been made otherwise. `made`: the id
    /// of the role that the write made.
    pub(crate) fn after(
        before: Option<&State>,
        op: &Op,
        made: Option<&str>,
    ) -> Result<State, String> {
        let Some(before) = before else {
            let owner = member("owner", vec!["owner".to_owned()], vec![]);
            let world =
                World { catalog: catalog(1), custom_roles: Vec::new(), members: vec![owner] };
            let made = State { deleted: false, moved: false, world };
            return if *op == Op::CreateTenant { Ok(made) } else { Err("no tenant".to_owned()) };
        };
        let mut next = before.clone();
        if before.deleted != (*op == Op::UndeleteTenant) {
            return Err("the tenant is deleted, or is not".to_owned());
        }
        match op {
            Op::CreateTenant => return Err("the tenant is there".to_owned()),
            Op::DeleteTenant => next.deleted = true,
            Op::UndeleteTenant => next.deleted = false,
            Op::MoveCatalog if before.moved => return Err("it has been moved".to_owned()),
            Op::MoveCatalog => {
                next.moved = true;
                next.world.catalog = catalog(2);
            }
            Op::CreateMember { member: id, roles, teams } => {
                if before.world.member(id).is_some() {
                    return Err(format!("{id} is there"));
                }
                next.are_there(roles)?;
                next.world.members.push(member(id, roles.clone(), teams.clone()));
            }
            Op::DeleteMember(id) => {
                next.member(id)?;
                next.world.members.retain(|member| member.id != *id);
            }
            Op::SetTeams { member, teams } => next.member(member)?.teams = sorted(teams.clone()),
            Op::AssignRoles { member, roles } => {
                next.are_there(roles)?;
                next.member(member)?.roles = sorted(roles.clone());
            }
            Op::Archive(id) => next.member(id)?.active = false,
            Op::Restore(id) => next.member(id)?.active = true,
            Op::CreateRole { grants } => {
                let id = made.ok_or("nobody says which role was made")?.to_owned();
                next.world.custom_roles.push(Role { id, custom: true, grants: grants.clone() });
            }
            Op::UpdateRole { role, grants } => next.role(role)?.grants = grants.clone(),
            Op::DeleteRole { role, to } => {
                next.role(role)?;
                next.world.custom_roles.retain(|custom| custom.id != *role);
                next.are_there(std::slice::from_ref(to))?;
                for member in &mut next.world.members {
                    let given = |id: &String| if id == role { to.clone() } else { id.clone() };
                    member.roles = sorted(member.roles.iter().map(given).collect());
                }
            }
        }
        Ok(next)
    }

    /// Whether a write would change nothing.
    pub(crate) fn is_unmoved_by(&self, op: &Op) -> bool {
        let same = |after: &State| {
            self.deleted == after.deleted
                && self.moved == after.moved
                && self.world.members == after.world.members
                && self.world.custom_roles == after.world.custom_roles
        };
        State::after(Some(self), op, None).is_ok_and(|after| same(&after))
    }

    /// Nothing where the tenant is not in use.
    pub(crate) fn answer(&self, question: &Question) -> Option<Verdict> {
        if self.deleted {
            return None;
        }
        let permission = self.world.catalog.permission(&question.permission)?;
        let standing = standing(&self.world, &question.member, permission);
        let answer = standing.answer(question.resource.as_ref());
        Some(Verdict {
            allowed: answer.allowed,
            reason: answer.reason.to_owned(),
            decided_by: answer.decided_by,
        })
    }

    fn member(&mut self, id: &str) -> Result<&mut Member, String> {
        let found = self.world.members.iter_mut().find(|member| member.id == id);
        found.ok_or_else(|| format!("there is no member {id}"))
    }

    fn role(&mut self, id: &str) -> Result<&mut Role, String> {
        let found = self.world.custom_roles.iter_mut().find(|role| role.id == id);
        found.ok_or_else(|| format!("there is no role {id}"))
    }

    fn are_there(&self, roles: &[String]) -> Result<(), String> {
        let World { catalog, custom_roles, .. } = &self.world;
        let known: BTreeSet<&String> =
            catalog.default_roles.iter().chain(custom_roles).map(|role| &role.id).collect();
        match roles.iter().find(|role| !known.contains(role)) {
            Some(role) => Err(format!("there is no role {role}")),
            None => Ok(()),
        }
    }
}

fn member(id: &str, roles: Vec<String>, teams: Vec<String>) -> Member {
    Member { id: id.to_owned(), active: true, roles: sorted(roles), teams: sorted(teams) }
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids.dedup();
    ids
}
