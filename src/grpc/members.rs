//! `MemberService`.

use tonic::{Request, Response, Status};

use super::accept::{read, write};
use super::answer::answer;
use super::fields::{Fields, Path, Sound};
use super::item_error::ErrorRoom;
use super::pb::member_service_server::MemberService;
use super::wording::shortened;
use super::{item_error, pb, show, values};
use crate::domain::ids::{MAX_ID_BYTES, MemberId, RoleId, TenantId};
use crate::domain::member::{Member, MemberStatus};
use crate::domain::refusal::{Problem, Violation};
use crate::service::members::Members;
use crate::service::page::Page;
use crate::service::roles::etag;
use crate::service::upsert::{Batch, BatchMode, BatchResult, ItemOutcome, MAX_BATCH, Upsert};
use crate::service::{WriteContext, Written};
use crate::store::MemberFilter;

/// What is said of refused items in one answer, in bytes. Ten thousand results and as many members who
/// were archived or kept take the rest.
const MAX_ERROR_BYTES: usize = 512 << 10;

/// Serves the administration of members.
#[derive(Debug, Clone)]
pub struct MemberApi {
    members: Members,
}

impl MemberApi {
    /// Serves these use cases.
    #[must_use]
    pub fn new(members: Members) -> Self {
        MemberApi { members }
    }

    async fn set_status(
        &self,
        fields: Fields,
        (context, tenant, member): (Sound<WriteContext>, Sound<TenantId>, Sound<MemberId>),
        etag: String,
        status: MemberStatus,
    ) -> Result<Written<Member>, Status> {
        let (context, tenant, member) = fields.all((context, tenant, member))?;
        let etag = values::given(etag);
        let written =
            self.members.set_status(context, &tenant, &member, status, etag.as_deref()).await?;
        Ok(written)
    }
}

#[tonic::async_trait]
impl MemberService for MemberApi {
    async fn create_member(
        &self,
        request: Request<pb::CreateMemberRequest>,
    ) -> Result<Response<pb::CreateMemberResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::CreateMemberRequest {
            tenant_id,
            member_id,
            role_ids,
            team_ids,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let member = fields.id("member_id", &member_id);
        let roles = fields.ids("role_ids", &role_ids);
        let teams = fields.ids("team_ids", &team_ids);
        let (context, tenant, member, roles, teams) =
            fields.all((context, tenant, member, roles, teams))?;

        let Written { value, token } =
            self.members.create(context, &tenant, &member, &roles, &teams).await?;
        Ok(Response::new(pb::CreateMemberResponse {
            member: Some(show_member(value)),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn get_member(
        &self,
        request: Request<pb::GetMemberRequest>,
    ) -> Result<Response<pb::GetMemberResponse>, Status> {
        let (mut fields, pb::GetMemberRequest { tenant_id, member_id }) = read(request)?;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let member = fields.id("member_id", &member_id);
        let (tenant, member) = fields.all((tenant, member))?;

        let member = self.members.get(&tenant, &member).await?;
        Ok(Response::new(pb::GetMemberResponse { member: Some(show_member(member)) }))
    }

    async fn list_members(
        &self,
        request: Request<pb::ListMembersRequest>,
    ) -> Result<Response<pb::ListMembersResponse>, Status> {
        let (
            mut fields,
            pb::ListMembersRequest { tenant_id, role_id, team_id, status, page_size, page_token },
        ) = read(request)?;
        let tenant: Sound<TenantId> = fields.tenant("tenant_id", &tenant_id);
        let role: Sound<Option<RoleId>> = fields.optional_id("role_id", &role_id);
        let team = fields.optional_id("team_id", &team_id);
        let status = values::member_status(&mut fields, "status", status);
        let (tenant, role, team, status) = fields.all((tenant, role, team, status))?;
        let filter = MemberFilter { status, role, team };
        let page = values::page(page_size, page_token);

        let Page { items, next_token } = self.members.list(&tenant, &filter, &page).await?;
        answer(pb::ListMembersResponse {
            members: items.into_iter().map(show_member).collect(),
            next_page_token: next_token,
        })
    }

    async fn update_member(
        &self,
        request: Request<pb::UpdateMemberRequest>,
    ) -> Result<Response<pb::UpdateMemberResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::UpdateMemberRequest {
            tenant_id,
            member_id,
            team_ids,
            update_mask,
            etag,
            actor_id: _,
            request_id: _,
            validate_only: _,
            no_teams,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let member = fields.id("member_id", &member_id);
        let teams = fields.ids("team_ids", &team_ids);
        let teams = values::whole(&mut fields, ("team_ids", teams), ("no_teams", no_teams));
        // The teams are all that there is to change, so a sound mask names them.
        let mask = values::mask(&mut fields, update_mask, &["team_ids"]);
        let (context, tenant, member, teams, _) =
            fields.all((context, tenant, member, teams, mask))?;
        let etag = values::given(etag);

        let Written { value, token } =
            self.members.set_teams(context, &tenant, &member, &teams, etag.as_deref()).await?;
        Ok(Response::new(pb::UpdateMemberResponse {
            member: Some(show_member(value)),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn assign_roles(
        &self,
        request: Request<pb::AssignRolesRequest>,
    ) -> Result<Response<pb::AssignRolesResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::AssignRolesRequest {
            tenant_id,
            member_id,
            role_ids,
            etag,
            actor_id: _,
            request_id: _,
            validate_only: _,
            no_roles,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let member = fields.id("member_id", &member_id);
        let roles = fields.ids("role_ids", &role_ids);
        let roles = values::whole(&mut fields, ("role_ids", roles), ("no_roles", no_roles));
        let (context, tenant, member, roles) = fields.all((context, tenant, member, roles))?;
        let etag = values::given(etag);

        let Written { value, token } =
            self.members.assign_roles(context, &tenant, &member, &roles, etag.as_deref()).await?;
        Ok(Response::new(pb::AssignRolesResponse {
            member: Some(show_member(value)),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn archive_member(
        &self,
        request: Request<pb::ArchiveMemberRequest>,
    ) -> Result<Response<pb::ArchiveMemberResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::ArchiveMemberRequest {
            tenant_id,
            member_id,
            etag,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let member = fields.id("member_id", &member_id);

        let status = MemberStatus::Archived;
        let Written { value, token } =
            Box::pin(self.set_status(fields, (context, tenant, member), etag, status)).await?;
        Ok(Response::new(pb::ArchiveMemberResponse {
            member: Some(show_member(value)),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn restore_member(
        &self,
        request: Request<pb::RestoreMemberRequest>,
    ) -> Result<Response<pb::RestoreMemberResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::RestoreMemberRequest {
            tenant_id,
            member_id,
            etag,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let member = fields.id("member_id", &member_id);

        let status = MemberStatus::Active;
        let Written { value, token } =
            Box::pin(self.set_status(fields, (context, tenant, member), etag, status)).await?;
        Ok(Response::new(pb::RestoreMemberResponse {
            member: Some(show_member(value)),
            consistency_token: token.unwrap_or_default(),
        }))
    }

    async fn delete_member(
        &self,
        request: Request<pb::DeleteMemberRequest>,
    ) -> Result<Response<pb::DeleteMemberResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::DeleteMemberRequest {
            tenant_id,
            member_id,
            etag,
            actor_id: _,
            request_id: _,
            validate_only: _,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let member = fields.id("member_id", &member_id);
        let (context, tenant, member) = fields.all((context, tenant, member))?;
        let etag = values::given(etag);

        let Written { value: (), token } =
            self.members.delete(context, &tenant, &member, etag.as_deref()).await?;
        let consistency_token = token.unwrap_or_default();
        Ok(Response::new(pb::DeleteMemberResponse { consistency_token }))
    }

    async fn batch_upsert_members(
        &self,
        request: Request<pb::BatchUpsertMembersRequest>,
    ) -> Result<Response<pb::BatchUpsertMembersResponse>, Status> {
        let (mut fields, context, message) = write(request)?;
        let pb::BatchUpsertMembersRequest {
            tenant_id,
            members,
            mode,
            archive_absent,
            actor_id: _,
            request_id: _,
            validate_only: _,
            etag,
        } = message;
        let tenant = fields.tenant("tenant_id", &tenant_id);
        let mut members = fields.at_most(MAX_BATCH, "members", members);
        if archive_absent && members.as_ref().is_some_and(Vec::is_empty) {
            members = fields.wrong("members", Problem::Invalid(NOBODY_NAMED.to_owned()));
        }
        let mode = values::enumeration(&mut fields, "mode", mode);
        let (context, tenant, members, mode) = fields.all((context, tenant, members, mode))?;
        let mode = match mode {
            pb::BatchMode::Unspecified | pb::BatchMode::AllOrNothing => BatchMode::AllOrNothing,
            pb::BatchMode::ItemByItem => BatchMode::ItemByItem,
        };
        let items = members.into_iter().enumerate().map(|(index, item)| upsert(index, item));
        let etag = values::given(etag);
        let batch = Batch { items: items.collect(), mode, archive_absent, etag };

        let Written { value, token } = self.members.upsert(context, &tenant, batch).await?;
        let mut room = ErrorRoom::new(MAX_ERROR_BYTES);
        let BatchResult { items, archived, kept_owners, kept_from_actor, absent_unknown } = value;
        Ok(Response::new(pb::BatchUpsertMembersResponse {
            results: items.into_iter().map(|item| show_outcome(&mut room, item)).collect(),
            archived_member_ids: show::member_ids(&archived),
            kept_owner_ids: show::member_ids(&kept_owners),
            absent_not_archived: absent_unknown,
            kept_member_ids: show::member_ids(&kept_from_actor),
            consistency_token: token.unwrap_or_default(),
        }))
    }
}

const NOBODY_NAMED: &str = "names nobody, and archive_absent would archive everybody. Name the members \
    that are there, or leave archive_absent unset";
const NO_STATUS: &str = "is unspecified, as clients send it also for a status whose name they got wrong. \
    Send MEMBER_STATUS_ACTIVE or MEMBER_STATUS_ARCHIVED, or {\"keep_status\": true} to leave it alone";
const STATUS_AND_KEEP: &str = "must be left unset where there is a status";

/// One member of a batch, or its id as given and what is wrong with it.
fn upsert(index: usize, item: pb::MemberUpsert) -> Result<Upsert, (String, Vec<Violation>)> {
    let pb::MemberUpsert { member_id, role_ids, team_ids, status, keep_status } = item;
    let members = Path::from("members");
    let path = members.at(index);
    let mut fields = Fields::of_item();
    let id = fields.id(path.then("member_id"), &member_id);
    let roles = values::id_list(&mut fields, path.then("role_ids"), role_ids);
    let teams = values::id_list(&mut fields, path.then("team_ids"), team_ids);
    let status = values::member_status(&mut fields, path.then("status"), status);
    let status = match (status, keep_status) {
        (Some(None), false) => {
            fields.wrong(path.then("status"), Problem::Invalid(NO_STATUS.to_owned()))
        }
        (Some(Some(_)), true) => {
            fields.wrong(path.then("keep_status"), Problem::Invalid(STATUS_AND_KEEP.to_owned()))
        }
        (status, _) => status,
    };
    let (id, roles, teams, status) = fields
        .all_or_violations((id, roles, teams, status))
        .map_err(|violations| (member_id, violations))?;
    Ok(Upsert { id, roles, teams, status })
}

fn show_outcome(
    room: &mut ErrorRoom,
    (member_id, outcome): (String, ItemOutcome),
) -> pb::MemberUpsertResult {
    let (outcome, error) = match outcome {
        ItemOutcome::Created => (pb::UpsertOutcome::Created, None),
        ItemOutcome::Updated => (pb::UpsertOutcome::Updated, None),
        ItemOutcome::Unchanged => (pb::UpsertOutcome::Unchanged, None),
        ItemOutcome::Refused(refusal) => {
            (pb::UpsertOutcome::Refused, Some(room.fit(item_error::of_refusal(&refusal))))
        }
    };
    // As it was given; longer than any member's, it is only to be recognized.
    let member_id = shortened(&member_id, MAX_ID_BYTES);
    pb::MemberUpsertResult { member_id, outcome: outcome.into(), error }
}

pub(super) fn show_member(member: Member) -> pb::Member {
    let Member { id, status, roles, teams, revision, created_at, updated_at } = member;
    let status = match status {
        MemberStatus::Active => pb::MemberStatus::Active,
        MemberStatus::Archived => pb::MemberStatus::Archived,
    };
    pb::Member {
        id: id.to_string(),
        status: status.into(),
        role_ids: show::role_ids(&roles),
        team_ids: show::team_ids(&teams),
        etag: etag(revision),
        create_time: Some(show::time(created_at)),
        update_time: Some(show::time(updated_at)),
    }
}
