//! `RoleService`.

use tonic::{Request, Response, Status};

use super::accept::{read, write};
use super::answer::answer;
use super::fields::{Fields, Path, Sound};
use super::pb::role_service_server::RoleService;
use super::{pb, role_show, show, values};
use crate::domain::ids::{RoleId, TenantId};
use crate::domain::refusal::Problem;
use crate::service::Written;
use crate::service::page::Page;
use crate::service::preview::{MAX_ASSIGNED, RoleChange};
use crate::service::roles::{
    Deletion, RoleDeleted, RoleDraft, RoleEdit, RoleList, RoleWritten, Roles,
};
use crate::store::AuditFilter;

/// Serves the administration of roles.
#[derive(Debug, Clone)]
pub struct RoleApi {
    roles: Roles,
}

impl RoleApi {
    /// Serves these use cases.
    #[must_use]
    pub fn new(roles: Roles) -> Self {
        RoleApi { roles }
    }
}

#[tonic::async_trait]
impl RoleService for RoleApi {
    async fn list_permissions(
        &self,
        request: Request<pb::ListPermissionsRequest>,
    ) -> Result<Response<pb::ListPermissionsResponse>, Status> {
        let (mut fields, pb::ListPermissionsRequest { tenant_id, language_code }) = read(request)?;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let (tenant,) = fields.all((tenant,))?;

        let catalog = self.roles.catalog(&tenant).await?;
        answer(role_show::tree(&catalog, &language_code))
    }

    async fn create_role(
        &self,
        request: Request<pb::CreateRoleRequest>,
    ) -> Result<Response<pb::CreateRoleResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::CreateRoleRequest {
            tenant_id,
            name,
            description,
            grants,
            expand_requirements,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let grants = values::grants(&mut fields, &Path::from("grants"), grants);
        let (context, tenant, grants) = fields.all((context, tenant, grants))?;
        let draft = RoleDraft { name, description, grants, expand_requirements };

        let Written { value: RoleWritten { role, adjusted }, token } =
            self.roles.create(context, &tenant, &draft).await?;
        Ok(Response::new(pb::CreateRoleResponse {
            role: Some(role_show::full(role)),
            added_grants: show::grants(adjusted),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn get_role(
        &self,
        request: Request<pb::GetRoleRequest>,
    ) -> Result<Response<pb::GetRoleResponse>, Status> {
        let (mut fields, pb::GetRoleRequest { tenant_id, role_id, language_code }) = read(request)?;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let role = fields.id("role_id", &role_id);
        let (tenant, role) = fields.all((tenant, role))?;

        let role = self.roles.get(&tenant, &role, &language_code).await?;
        answer(pb::GetRoleResponse { role: Some(role_show::full(role)) })
    }

    async fn list_roles(
        &self,
        request: Request<pb::ListRolesRequest>,
    ) -> Result<Response<pb::ListRolesResponse>, Status> {
        let (
            mut fields,
            pb::ListRolesRequest { tenant_id, view, page_size, page_token, language_code },
        ) = read(request)?;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let view = values::enumeration(&mut fields, "view", view);
        let (tenant, view) = fields.all((tenant, view))?;
        // Who holds them is counted where it is shown.
        let (show, counted): (fn(_) -> _, _) = match view {
            pb::RoleView::Unspecified | pb::RoleView::Basic => (role_show::basic, false),
            pb::RoleView::Full => (role_show::full, true),
        };
        let page = values::page(page_size, page_token);

        let RoleList { page: Page { items, next_token }, custom_roles, limit } =
            self.roles.list(&tenant, &page, &language_code, counted).await?;
        answer(pb::ListRolesResponse {
            roles: items.into_iter().map(show).collect(),
            next_page_token: next_token,
            custom_role_count: show::count(custom_roles),
            custom_role_limit: limit,
        })
    }

    async fn update_role(
        &self,
        request: Request<pb::UpdateRoleRequest>,
    ) -> Result<Response<pb::UpdateRoleResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::UpdateRoleRequest {
            tenant_id,
            role_id,
            name,
            description,
            grants,
            update_mask,
            etag,
            expand_requirements,
            actor_id: _,
            request_id: _,
            validate_only: _,
            no_grants,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let role = fields.id("role_id", &role_id);
        let mut grants = values::grants(&mut fields, &Path::from("grants"), grants);
        let mask = values::mask(&mut fields, update_mask, &["name", "description", "grants"]);
        if mask.as_ref().is_some_and(|mask| mask.has("grants")) {
            grants = values::whole(&mut fields, ("grants", grants), ("no_grants", no_grants));
        }
        let (context, tenant, role, grants, mask) =
            fields.all((context, tenant, role, grants, mask))?;
        let edit = RoleEdit {
            name: mask.has("name").then_some(name),
            description: mask.has("description").then_some(description),
            grants: mask.has("grants").then_some(grants),
            expand_requirements,
            etag: values::given(etag),
        };

        let Written { value: RoleWritten { role, adjusted }, token } =
            self.roles.update(context, &tenant, &role, &edit).await?;
        Ok(Response::new(pb::UpdateRoleResponse {
            role: Some(role_show::full(role)),
            added_grants: show::grants(adjusted),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn delete_role(
        &self,
        request: Request<pb::DeleteRoleRequest>,
    ) -> Result<Response<pb::DeleteRoleResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::DeleteRoleRequest {
            tenant_id,
            role_id,
            etag,
            reassign_to_role_id,
            confirmation_text,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let role = fields.id("role_id", &role_id);
        let reassign_to = fields.optional_id("reassign_to_role_id", &reassign_to_role_id);
        let (context, tenant, role, reassign_to) =
            fields.all((context, tenant, role, reassign_to))?;
        let deletion =
            Deletion { reassign_to, confirmation: confirmation_text, etag: values::given(etag) };

        let Written { value: RoleDeleted { reassigned, stripped_archived }, token } =
            self.roles.delete(context, &tenant, &role, &deletion).await?;
        Ok(Response::new(pb::DeleteRoleResponse {
            reassigned_active_members: show::count(reassigned.active),
            reassigned_archived_members: show::count(reassigned.archived),
            stripped_archived_members: show::count(stripped_archived),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn clone_role(
        &self,
        request: Request<pb::CloneRoleRequest>,
    ) -> Result<Response<pb::CloneRoleResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::CloneRoleRequest {
            tenant_id,
            source_role_id,
            name,
            description,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let source = fields.id("source_role_id", &source_role_id);
        let (context, tenant, source) = fields.all((context, tenant, source))?;

        let Written { value: RoleWritten { role, adjusted }, token } =
            self.roles.clone_role(context, &tenant, &source, &name, description.as_deref()).await?;
        Ok(Response::new(pb::CloneRoleResponse {
            role: Some(role_show::full(role)),
            left_out_grants: show::grants(adjusted),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn preview_role_change(
        &self,
        request: Request<pb::PreviewRoleChangeRequest>,
    ) -> Result<Response<pb::PreviewRoleChangeResponse>, Status> {
        let (mut fields, pb::PreviewRoleChangeRequest { tenant_id, change, page_size, page_token }) =
            read(request)?;
        let tenant: Sound<TenantId> = fields.tenant("tenant_id", &tenant_id);
        let change = role_change(&mut fields, change);
        let (tenant, change) = fields.all((tenant, change))?;
        let page = values::page(page_size, page_token);

        let preview = self.roles.preview(&tenant, &change, &page).await?;
        answer(role_show::preview(preview))
    }

    async fn list_audit_events(
        &self,
        request: Request<pb::ListAuditEventsRequest>,
    ) -> Result<Response<pb::ListAuditEventsResponse>, Status> {
        let (
            mut fields,
            pb::ListAuditEventsRequest {
                tenant_id,
                actor_id,
                role_id,
                member_id,
                start_time,
                end_time,
                page_size,
                page_token,
            },
        ) = read(request)?;
        let tenant: Sound<TenantId> = fields.tenant("tenant_id", &tenant_id);
        // Here an actor is only looked for.
        let actor = fields.optional_id("actor_id", &actor_id);
        let role = fields.optional_id("role_id", &role_id);
        let member = fields.optional_id("member_id", &member_id);
        let from = values::time(&mut fields, "start_time", start_time);
        let until = values::time(&mut fields, "end_time", end_time);
        let (tenant, actor, role, member, from, until) =
            fields.all((tenant, actor, role, member, from, until))?;
        let filter = AuditFilter { actor, role, member, from, until };
        let page = values::page(page_size, page_token);

        let Page { items, next_token } = self.roles.audit(&tenant, &filter, &page).await?;
        answer(pb::ListAuditEventsResponse {
            events: items.into_iter().map(role_show::event).collect(),
            next_page_token: next_token,
        })
    }
}

fn role_change(
    fields: &mut Fields,
    change: Option<pb::preview_role_change_request::Change>,
) -> Sound<RoleChange> {
    use pb::preview_role_change_request::Change;
    match change {
        None => fields.wrong("change", Problem::Required),
        Some(Change::Update(pb::RoleUpdatePreview { role_id, grants, expand_requirements })) => {
            let path = Path::from("update");
            let role: Sound<RoleId> = fields.id(path.then("role_id"), &role_id);
            let grants = values::grants(fields, &path.then("grants"), grants);
            Some(RoleChange::Update { role: role?, grants: grants?, expand_requirements })
        }
        Some(Change::Deletion(pb::RoleDeletionPreview { role_id, reassign_to_role_id })) => {
            let path = Path::from("deletion");
            let role = fields.id(path.then("role_id"), &role_id);
            let target = path.then("reassign_to_role_id");
            let reassign_to = fields.optional_id(target, &reassign_to_role_id);
            Some(RoleChange::Delete { role: role?, reassign_to: reassign_to? })
        }
        Some(Change::Assignment(pb::RoleAssignmentPreview { member_ids, role_ids })) => {
            let path = Path::from("assignment");
            let members = path.then("member_ids");
            let member_ids = fields.at_most(MAX_ASSIGNED, members, member_ids);
            let members = member_ids.and_then(|ids| fields.ids(members, &ids));
            let roles = fields.ids(path.then("role_ids"), &role_ids);
            Some(RoleChange::Assign { members: members?, roles: roles? })
        }
    }
}
