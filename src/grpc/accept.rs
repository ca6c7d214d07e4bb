//! What comes before the fields of a message: who calls and, for mutations, on whose behalf, under
//! which request id, and whether in earnest.

use std::sync::Arc;

use prost::Message;
use sha2::{Digest, Sha256};
use tonic::{Request, Status};

use super::access::may_write;
use super::fields::{Fields, Sound};
use super::pb;
use crate::domain::ids::MAX_ID_BYTES;
use crate::domain::refusal::Problem;
use crate::service::caller::Caller;
use crate::service::{RequestId, ServiceError, WriteContext};

/// The message of a call that only reads, and who reads its fields.
pub(super) fn read<M>(request: Request<M>) -> Result<(Fields, M), Status> {
    let caller = caller(&request)?;
    Ok((Fields::of_message(caller), request.into_inner()))
}

/// The message of a call that only reads, and is not about one tenant.
pub(super) fn read_as_caller<M>(request: Request<M>) -> Result<(Arc<Caller>, M), Status> {
    let caller = caller(&request)?;
    Ok((caller, request.into_inner()))
}

/// The message of a mutation, without its request id, with the context to write it in.
pub(super) fn write<M: Mutation>(
    request: Request<M>,
) -> Result<(Fields, Sound<WriteContext>, M), Status> {
    let caller = caller(&request)?;
    let mut message = request.into_inner();
    may_write(&caller, !message.actor_id().is_empty())?;
    let mut fields = Fields::of_message(Arc::clone(&caller));
    let actor = match message.actor_id() {
        "" => Some(None),
        _ if M::BY_PLATFORM_ONLY => fields.wrong("actor_id", Problem::ActorNotApplicable),
        id => fields.optional_id("actor_id", id),
    };
    let id = std::mem::take(message.request_id_mut());
    let request = if id.is_empty() {
        Some(None)
    } else {
        let id = fields.opaque("request_id", id, MAX_ID_BYTES);
        id.map(|id| Some(RequestId { id, payload: digest(&message) }))
    };
    let context = actor.zip(request).map(|(actor, request)| WriteContext {
        caller: caller.name.clone(),
        actor,
        method: M::METHOD,
        request,
        validate_only: message.validate_only(),
    });
    Ok((fields, context, message))
}

/// Authentication puts the caller into the request. Without one nothing is answered, whatever the
/// server forgot.
fn caller<M>(request: &Request<M>) -> Result<Arc<Caller>, Status> {
    let nobody = || ServiceError::Internal("a request came without a caller".to_owned());
    Ok(request.extensions().get::<Arc<Caller>>().cloned().ok_or_else(nobody)?)
}

/// Equal messages have equal bytes: the generated code writes fields in order, and maps sorted.
fn digest(message: &impl Message) -> String {
    let digest = Sha256::digest(message.encode_to_vec());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The message of a mutation. See `common.proto` for what the fields mean.
pub(super) trait Mutation: Message {
    /// Its name in the audit.
    const METHOD: &'static str;
    /// Whether no member can do it, so that there is no actor.
    const BY_PLATFORM_ONLY: bool;
    fn actor_id(&self) -> &str;
    fn request_id_mut(&mut self) -> &mut String;
    fn validate_only(&self) -> bool;
}

/// Whether a method is one of `TenantService`.
const fn is_about_tenants(method: &str) -> bool {
    matches!(method.as_bytes(), [b'T', b'e', b'n', b'a', b'n', b't', b'S', ..])
}

macro_rules! mutations {
    ($($message:ident = $method:literal;)*) => {
        $(impl Mutation for pb::$message {
            const METHOD: &'static str = $method;
            const BY_PLATFORM_ONLY: bool = is_about_tenants($method);
            fn actor_id(&self) -> &str {
                &self.actor_id
            }
            fn request_id_mut(&mut self) -> &mut String {
                &mut self.request_id
            }
            fn validate_only(&self) -> bool {
                self.validate_only
            }
        })*
    };
}
mutations! {
    CreateRoleRequest = "RoleService/CreateRole";
    UpdateRoleRequest = "RoleService/UpdateRole";
    DeleteRoleRequest = "RoleService/DeleteRole";
    CloneRoleRequest = "RoleService/CloneRole";
    CreateTenantRequest = "TenantService/CreateTenant";
    ChangePlanRequest = "TenantService/ChangePlan";
    MoveCatalogRequest = "TenantService/MoveCatalog";
    DeleteTenantRequest = "TenantService/DeleteTenant";
    UndeleteTenantRequest = "TenantService/UndeleteTenant";
    PurgeTenantRequest = "TenantService/PurgeTenant";
    CreateMemberRequest = "MemberService/CreateMember";
    UpdateMemberRequest = "MemberService/UpdateMember";
    AssignRolesRequest = "MemberService/AssignRoles";
    ArchiveMemberRequest = "MemberService/ArchiveMember";
    RestoreMemberRequest = "MemberService/RestoreMember";
    DeleteMemberRequest = "MemberService/DeleteMember";
    BatchUpsertMembersRequest = "MemberService/BatchUpsertMembers";
}
