//! The admin service's client of one tenant: short ways to say what its pages do.

use rolegate::grpc::pb;
use rolegate::grpc::pb::preview_role_change_request::Change;
use tonic::{Response, Status};

use crate::common::{Failure, Rolegate, Story, show_grants, show_reason, strings};

type Answer<T> = Result<Response<T>, Status>;

/// One tenant, made for a story and gone after it.
pub(crate) struct Office {
    rolegate: Rolegate,
    tenant: String,
    owner: String,
}

impl Office {
    /// Makes a tenant with an id that no other has.
    pub(crate) async fn open(
        mut rolegate: Rolegate,
        catalog: &str,
        plan: &str,
        owner: &str,
    ) -> Result<Self, Failure> {
        let tenant = format!("example-{catalog}-{}", uuid::Uuid::new_v4());
        let request = pb::CreateTenantRequest {
            tenant_id: tenant.clone(),
            catalog_id: catalog.to_owned(),
            plan: plan.to_owned(),
            owner_member_id: owner.to_owned(),
            ..Default::default()
        };
        rolegate.tenants.create_tenant(request).await?;
        Ok(Office { rolegate, tenant, owner: owner.to_owned() })
    }

    /// Deletes the tenant, and its data at once rather than after 30 days.
    pub(crate) async fn close(mut self, story: &mut Story) -> Result<(), Failure> {
        let request =
            pb::DeleteTenantRequest { tenant_id: self.tenant.clone(), ..Default::default() };
        let deleted = self.rolegate.tenants.delete_tenant(request).await?.into_inner();
        let state = deleted.tenant.unwrap_or_default().state();
        let action = "The tenant is deleted";
        story.tell(action, state.as_str_name(), state == pb::TenantState::Deleted);
        let request = pb::CheckRequest {
            tenant_id: self.tenant.clone(),
            member_id: self.owner,
            permission: "account.manage".to_owned(),
            ..Default::default()
        };
        let answer = self.rolegate.authz.check(request).await?.into_inner();
        let reason = answer.decision.unwrap_or_default().reason();
        let as_told = reason == pb::DecisionReason::TenantNotFound;
        story.tell("From now on even its owner is denied", show_reason(reason), as_told);
        let request = pb::PurgeTenantRequest { tenant_id: self.tenant, ..Default::default() };
        self.rolegate.tenants.purge_tenant(request).await?;
        Ok(())
    }

    /// Makes members: each with an id, a role, and whether active.
    pub(crate) async fn hire(&mut self, members: &[(&str, &str, bool)]) -> Result<(), Failure> {
        let member = |&(id, role, active): &(&str, &str, bool)| pb::MemberUpsert {
            member_id: id.to_owned(),
            role_ids: Some(strings(&[role]).into()),
            team_ids: None,
            status: match active {
                true => pb::MemberStatus::Active.into(),
                false => pb::MemberStatus::Archived.into(),
            },
            keep_status: false,
        };
        let request = pb::BatchUpsertMembersRequest {
            tenant_id: self.tenant.clone(),
            members: members.iter().map(member).collect(),
            mode: pb::BatchMode::AllOrNothing.into(),
            ..Default::default()
        };
        self.rolegate.members.batch_upsert_members(request).await?;
        Ok(())
    }

    pub(crate) async fn change_plan(&mut self, plan: &str) -> Answer<pb::ChangePlanResponse> {
        let request = pb::ChangePlanRequest {
            tenant_id: self.tenant.clone(),
            plan: plan.to_owned(),
            ..Default::default()
        };
        self.rolegate.tenants.change_plan(request).await
    }

    pub(crate) async fn create(
        &mut self,
        name: &str,
        grants: Vec<pb::Grant>,
    ) -> Answer<pb::CreateRoleResponse> {
        let request = pb::CreateRoleRequest {
            tenant_id: self.tenant.clone(),
            name: name.to_owned(),
            grants,
            ..Default::default()
        };
        self.rolegate.roles.create_role(request).await
    }

    pub(crate) async fn clone_role(
        &mut self,
        source: &str,
        name: &str,
    ) -> Answer<pb::CloneRoleResponse> {
        let request = pb::CloneRoleRequest {
            tenant_id: self.tenant.clone(),
            source_role_id: source.to_owned(),
            name: name.to_owned(),
            ..Default::default()
        };
        self.rolegate.roles.clone_role(request).await
    }

    pub(crate) async fn get(&mut self, role: &str) -> Result<pb::Role, Failure> {
        let request = pb::GetRoleRequest {
            tenant_id: self.tenant.clone(),
            role_id: role.to_owned(),
            ..Default::default()
        };
        let answer = self.rolegate.roles.get_role(request).await?.into_inner();
        answer.role.ok_or_else(|| "an answer without a role".into())
    }

    pub(crate) async fn list(&mut self) -> Result<pb::ListRolesResponse, Failure> {
        let request = pb::ListRolesRequest {
            tenant_id: self.tenant.clone(),
            view: pb::RoleView::Full.into(),
            ..Default::default()
        };
        Ok(self.rolegate.roles.list_roles(request).await?.into_inner())
    }

    pub(crate) async fn rename(
        &mut self,
        role: &str,
        name: &str,
        etag: &str,
    ) -> Answer<pb::UpdateRoleResponse> {
        let request = pb::UpdateRoleRequest {
            name: name.to_owned(),
            etag: etag.to_owned(),
            ..self.update(role, "name")
        };
        self.rolegate.roles.update_role(request).await
    }

    pub(crate) async fn regrant(
        &mut self,
        role: &str,
        grants: Vec<pb::Grant>,
        expand_requirements: bool,
        etag: &str,
    ) -> Answer<pb::UpdateRoleResponse> {
        let etag = etag.to_owned();
        let request = pb::UpdateRoleRequest {
            grants,
            expand_requirements,
            etag,
            ..self.update(role, "grants")
        };
        self.rolegate.roles.update_role(request).await
    }

    fn update(&self, role: &str, field: &str) -> pb::UpdateRoleRequest {
        pb::UpdateRoleRequest {
            tenant_id: self.tenant.clone(),
            role_id: role.to_owned(),
            update_mask: Some(prost_types::FieldMask { paths: strings(&[field]) }),
            ..Default::default()
        }
    }

    pub(crate) async fn preview(
        &mut self,
        change: Change,
    ) -> Result<pb::PreviewRoleChangeResponse, Failure> {
        let request = pb::PreviewRoleChangeRequest {
            tenant_id: self.tenant.clone(),
            change: Some(change),
            ..Default::default()
        };
        Ok(self.rolegate.roles.preview_role_change(request).await?.into_inner())
    }

    pub(crate) async fn assign(
        &mut self,
        member: &str,
        role: &str,
    ) -> Answer<pb::AssignRolesResponse> {
        let request = pb::AssignRolesRequest {
            tenant_id: self.tenant.clone(),
            member_id: member.to_owned(),
            role_ids: strings(&[role]),
            ..Default::default()
        };
        self.rolegate.members.assign_roles(request).await
    }

    /// On behalf of another member, rather than the service's own.
    pub(crate) async fn assign_as(
        &mut self,
        actor: &str,
        member: &str,
        role: &str,
    ) -> Answer<pb::AssignRolesResponse> {
        let request = pb::AssignRolesRequest {
            tenant_id: self.tenant.clone(),
            member_id: member.to_owned(),
            role_ids: strings(&[role]),
            actor_id: actor.to_owned(),
            ..Default::default()
        };
        self.rolegate.members.assign_roles(request).await
    }

    pub(crate) async fn archive(&mut self, member: &str) -> Answer<pb::ArchiveMemberResponse> {
        let request = pb::ArchiveMemberRequest {
            tenant_id: self.tenant.clone(),
            member_id: member.to_owned(),
            ..Default::default()
        };
        self.rolegate.members.archive_member(request).await
    }

    pub(crate) async fn restore(&mut self, member: &str) -> Answer<pb::RestoreMemberResponse> {
        let request = pb::RestoreMemberRequest {
            tenant_id: self.tenant.clone(),
            member_id: member.to_owned(),
            ..Default::default()
        };
        self.rolegate.members.restore_member(request).await
    }

    /// The roles of a member.
    pub(crate) async fn roles_of(&mut self, member: &str) -> Result<Vec<String>, Failure> {
        let request =
            pb::GetMemberRequest { tenant_id: self.tenant.clone(), member_id: member.to_owned() };
        let answer = self.rolegate.members.get_member(request).await?.into_inner();
        Ok(answer.member.unwrap_or_default().role_ids)
    }

    /// Deletes a role: `reassign_to` and `confirmation` as the catalog's policy asks, else empty.
    pub(crate) async fn delete(
        &mut self,
        role: &str,
        reassign_to: &str,
        confirmation: &str,
    ) -> Answer<pb::DeleteRoleResponse> {
        let request = pb::DeleteRoleRequest {
            tenant_id: self.tenant.clone(),
            role_id: role.to_owned(),
            reassign_to_role_id: reassign_to.to_owned(),
            confirmation_text: confirmation.to_owned(),
            ..Default::default()
        };
        self.rolegate.roles.delete_role(request).await
    }

    /// Prints the permission tree, as the role editor shows it, and counts its permissions.
    pub(crate) async fn show_tree(&mut self, story: &Story) -> Result<usize, Failure> {
        let request =
            pb::ListPermissionsRequest { tenant_id: self.tenant.clone(), ..Default::default() };
        let tree = self.rolegate.roles.list_permissions(request).await?.into_inner();
        Ok(tree.sections.iter().map(|section| show_section(story, section, 0)).sum())
    }

    /// Prints the audit trail, newest first, and gives the methods.
    pub(crate) async fn show_audit(&mut self, story: &Story) -> Result<Vec<String>, Failure> {
        let request =
            pb::ListAuditEventsRequest { tenant_id: self.tenant.clone(), ..Default::default() };
        let events = self.rolegate.roles.list_audit_events(request).await?.into_inner().events;
        for event in &events {
            let (revision, method) = (event.revision, &event.method);
            let mut about = show_subject(event);
            if !event.refusal.is_empty() {
                about = format!("{about}: {}", event.refusal);
            }
            let by = match event.actor_id.as_str() {
                "" => &event.caller,
                actor => actor,
            };
            story.say(format!("{revision:>3}  by {by:<5} {method:<34} {about}"));
        }
        Ok(events.into_iter().map(|event| event.method).collect())
    }
}

/// What a change was about: members, or the role by the name that it has or had.
fn show_subject(event: &pb::AuditEvent) -> String {
    let name = |json: &str| -> Option<String> {
        let value: serde_json::Value = serde_json::from_str(json).ok()?;
        Some(value.get("name")?.as_str()?.to_owned())
    };
    match (event.member_ids.as_slice(), event.role_ids.as_slice()) {
        ([], []) => "the tenant".to_owned(),
        ([], roles) => name(&event.after_json)
            .or_else(|| name(&event.before_json))
            .unwrap_or_else(|| roles.join(", ")),
        (members, _) => members.join(", "),
    }
}

fn show_section(story: &Story, section: &pb::PermissionSection, depth: usize) -> usize {
    let indent = "  ".repeat(depth);
    story.say(format!("{indent}{}", section.title));
    for permission in &section.permissions {
        let tick = match permission.grantable() {
            pb::Grantable::Base => "[x]",
            pb::Grantable::Never => " - ",
            _ => "[ ]",
        };
        let scopes: Vec<_> = permission.scopes.iter().map(|scope| scope.id.as_str()).collect();
        let note = match permission.grantable() {
            pb::Grantable::Base => "everybody has it".to_owned(),
            pb::Grantable::Never => "default roles only".to_owned(),
            _ if !permission.follows.is_empty() => format!("as far as {}", permission.follows),
            _ => scopes.join(" | "),
        };
        let title = format!("{indent}  {tick} {}", permission.title);
        story.say(format!("{title:<40} {note}").trim_end());
    }
    let below: usize =
        section.sections.iter().map(|inner| show_section(story, inner, depth + 1)).sum();
    section.permissions.len() + below
}

/// A preview for people, a line for each permission and one for each member.
pub(crate) fn show_preview(story: &Story, preview: &pb::PreviewRoleChangeResponse) {
    for delta in &preview.permissions {
        story.say(format!("    {}", show_delta(delta)));
    }
    for member in &preview.members {
        let count = |wanted: fn(&pb::PermissionDelta) -> bool| {
            member.permissions.iter().filter(|delta| wanted(delta)).count()
        };
        let (gains, loses) = (count(|delta| delta.gained), count(|delta| delta.lost));
        story.say(format!("    for {:<4} {gains} wider, {loses} narrower", member.member_id));
    }
}

/// How many gain and lose by it.
pub(crate) fn show_impact(preview: &pb::PreviewRoleChangeResponse) -> String {
    let (gain, lose) = (preview.gaining_member_count, preview.losing_member_count);
    format!("{gain} would gain something, {lose} would lose something")
}

fn show_delta(delta: &pb::PermissionDelta) -> String {
    let reach = |scope: &str, relations: &[i32]| match (scope, relations) {
        (_, []) => "not held".to_owned(),
        ("", _) => "held".to_owned(),
        (scope, _) => scope.to_owned(),
    };
    format!(
        "{}: {} -> {}",
        delta.permission,
        reach(&delta.old_scope, &delta.old_relations),
        reach(&delta.new_scope, &delta.new_relations)
    )
}

/// The role of an answer.
pub(crate) fn made(role: Option<pb::Role>) -> Result<pb::Role, Failure> {
    role.ok_or_else(|| "an answer without a role".into())
}

/// What a role holds, on a line of its own.
pub(crate) fn show_role(story: &Story, role: &pb::Role) {
    story.say(format!("    {}: {}", role.name, show_grants(&role.grants)));
}
