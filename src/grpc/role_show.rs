//! Answers about roles, as messages.

use std::collections::BTreeMap;

use super::{pb, show};
use crate::domain::catalog::{
    Catalog, Grantable, Permission, PermissionIx, Requirement, Section, SectionIx,
};
use crate::domain::role::{DroppedGrant, RoleKind};
use crate::service::decide::Answer;
use crate::service::page::Page;
use crate::service::preview::{MemberImpact, Preview};
use crate::service::roles::RoleDetails;
use crate::store::{AuditEntry, AuditEvent, RoleMembers};

/// A role with all there is to it.
pub(super) fn full(role: RoleDetails) -> pb::Role {
    let RoleDetails {
        id,
        kind,
        name,
        description,
        grants,
        inactive,
        etag,
        created_at,
        updated_at,
        members: RoleMembers { active, archived },
        confirmation,
        owner,
    } = role;
    let kind = match kind {
        RoleKind::Default => pb::RoleKind::Default,
        RoleKind::Custom => pb::RoleKind::Custom,
    };
    let dropped = |DroppedGrant { grant, reason }| pb::InactiveGrant {
        grant: Some(show::grant(grant)),
        reason: reason.describe(),
    };
    pb::Role {
        id: id.to_string(),
        kind: kind.into(),
        name,
        description,
        grants: show::grants(grants),
        inactive_grants: inactive.into_iter().map(dropped).collect(),
        etag,
        create_time: created_at.map(show::time),
        update_time: updated_at.map(show::time),
        active_member_count: show::count(active),
        archived_member_count: show::count(archived),
        deletion_confirmation_text: confirmation.unwrap_or_default(),
        owner,
    }
}

/// A role without grants and member counts.
pub(super) fn basic(role: RoleDetails) -> pb::Role {
    pb::Role {
        grants: Vec::new(),
        inactive_grants: Vec::new(),
        active_member_count: 0,
        archived_member_count: 0,
        ..full(role)
    }
}

/// The permission tree.
pub(super) fn tree(catalog: &Catalog, language: &str) -> pb::ListPermissionsResponse {
    let mut tree =
        Tree { catalog, language, permissions: BTreeMap::new(), children: BTreeMap::new() };
    for (ix, permission) in catalog.permissions() {
        tree.permissions.entry(permission.section).or_default().push(ix);
    }
    for (position, section) in catalog.sections().iter().enumerate() {
        tree.children.entry(section.parent).or_default().extend(SectionIx::new(position));
    }
    pb::ListPermissionsResponse {
        sections: tree.sections(None),
        catalog: Some(show::catalog(catalog.reference())),
    }
}

struct Tree<'a> {
    catalog: &'a Catalog,
    language: &'a str,
    permissions: BTreeMap<SectionIx, Vec<PermissionIx>>,
    children: BTreeMap<Option<SectionIx>, Vec<SectionIx>>,
}

impl Tree<'_> {
    fn sections(&self, parent: Option<SectionIx>) -> Vec<pb::PermissionSection> {
        let children = self.children.get(&parent).map(Vec::as_slice).unwrap_or_default();
        children.iter().map(|ix| self.section(*ix)).collect()
    }

    fn section(&self, ix: SectionIx) -> pb::PermissionSection {
        let Section { id, parent: _, title, description } = self.catalog.section(ix);
        let permissions = self.permissions.get(&ix).map(Vec::as_slice).unwrap_or_default();
        pb::PermissionSection {
            id: id.clone(),
            title: title.get(self.language).to_owned(),
            description: description.get(self.language).to_owned(),
            permissions: permissions.iter().map(|ix| self.permission(*ix)).collect(),
            sections: self.sections(Some(ix)),
        }
    }

    fn permission(&self, ix: PermissionIx) -> pb::Permission {
        let Permission {
            id,
            section: _,
            title,
            description,
            scopes,
            follows,
            requires,
            grantable,
            renamed_from: _,
        } = self.catalog.permission(ix);
        let name = |ix: PermissionIx| self.catalog.permission(ix).id.clone();
        let grantable = match grantable {
            Grantable::Base(_) => pb::Grantable::Base,
            Grantable::Yes => pb::Grantable::Yes,
            Grantable::Never => pb::Grantable::Never,
        };
        let requirement = |requirement: &Requirement| pb::PermissionRequirement {
            any_of: requirement.choices().iter().copied().map(name).collect(),
        };
        let scopes = scopes.iter().map(|ix| {
            let scope = self.catalog.scope(*ix);
            pb::PermissionScope {
                id: scope.id.clone(),
                title: scope.title.get(self.language).to_owned(),
                relations: show::reduced(scope.closed),
            }
        });
        pb::Permission {
            id: id.clone(),
            title: title.get(self.language).to_owned(),
            description: description.get(self.language).to_owned(),
            scopes: scopes.collect(),
            follows: follows.map(name).unwrap_or_default(),
            requires: requires.iter().map(requirement).collect(),
            grantable: grantable.into(),
        }
    }
}

pub(super) fn preview(answer: Answer<Preview>) -> pb::PreviewRoleChangeResponse {
    let Answer { value, catalog: _, token, stale_since: _ } = answer;
    let Preview { permissions, gaining, losing, members: Page { items, next_token }, etag } = value;
    let impact = |MemberImpact { member, permissions }| pb::MemberImpact {
        member_id: member.to_string(),
        permissions: show::deltas(permissions),
    };
    pb::PreviewRoleChangeResponse {
        permissions: show::deltas(permissions),
        gaining_member_count: show::count(gaining),
        losing_member_count: show::count(losing),
        members: items.into_iter().map(impact).collect(),
        next_page_token: next_token,
        etag,
        consistency_token: token.unwrap_or_default(),
    }
}

pub(super) fn event(event: AuditEvent) -> pb::AuditEvent {
    let AuditEvent { number, revision, entry, refusal, size: _ } = event;
    let AuditEntry { at, caller, actor, method, request_id, roles, members, before, after } = entry;
    let json = |value: Option<serde_json::Value>| value.map(|value| value.to_string());
    pb::AuditEvent {
        sequence: number,
        revision,
        time: Some(show::time(at)),
        caller,
        actor_id: actor.map(|actor| actor.to_string()).unwrap_or_default(),
        method,
        request_id: request_id.unwrap_or_default(),
        role_ids: show::role_ids(&roles),
        member_ids: show::member_ids(&members),
        before_json: json(before).unwrap_or_default(),
        after_json: json(after).unwrap_or_default(),
        refusal: refusal.unwrap_or_default(),
    }
}
