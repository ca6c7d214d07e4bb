//! What each method takes of its caller, as one table. A method without a row is answered to nobody.

use std::collections::HashMap;
use std::sync::Arc;

use tonic::Status;

use super::pb::ErrorReason;
use super::status::refuse;
use crate::service::authentication::Proof;
use crate::service::caller::{Caller, Capability};
use crate::service::watch::RightsLost;

/// What a method takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing: not even to know who calls.
    Nothing,
    /// A caller, whatever it may do.
    AnyCaller,
    /// This capability.
    One(Capability),
    /// `admin`; or, when the message names an actor, `act`. The table only sees whether the caller
    /// has either; the rest is `may_write`'s, once the message has been read.
    Mutation,
}

const CHECK: Takes = Takes::One(Capability::Check);
const READ: Takes = Takes::One(Capability::Read);
const FOLLOW: Takes = Takes::One(Capability::Watch);
const MUTATION: Takes = Takes::Mutation;

/// The methods whose messages ask many questions at once.
pub(super) const BATCH_CHECK: &str = "/rolegate.v1.AuthzService/BatchCheck";
pub(super) const FILTER_RESOURCES: &str = "/rolegate.v1.AuthzService/FilterResources";
/// The methods that are streams.
pub(super) const CHECK_STREAM: &str = "/rolegate.v1.AuthzService/CheckStream";
pub(super) const WATCH: &str = "/rolegate.v1.AuthzService/Watch";

/// Every method that is served.
pub const TABLE: [(&str, Takes); 39] = [
    ("/rolegate.v1.AuthzService/Check", CHECK),
    (BATCH_CHECK, CHECK),
    (CHECK_STREAM, CHECK),
    (FILTER_RESOURCES, CHECK),
    ("/rolegate.v1.AuthzService/PlanFilter", CHECK),
    ("/rolegate.v1.AuthzService/ListEffectivePermissions", CHECK),
    ("/rolegate.v1.AuthzService/ListAuthorizedMembers", READ),
    ("/rolegate.v1.AuthzService/Explain", READ),
    (WATCH, FOLLOW),
    ("/rolegate.v1.RoleService/ListPermissions", READ),
    ("/rolegate.v1.RoleService/GetRole", READ),
    ("/rolegate.v1.RoleService/ListRoles", READ),
    ("/rolegate.v1.RoleService/PreviewRoleChange", READ),
    ("/rolegate.v1.RoleService/ListAuditEvents", READ),
    ("/rolegate.v1.RoleService/CreateRole", MUTATION),
    ("/rolegate.v1.RoleService/UpdateRole", MUTATION),
    ("/rolegate.v1.RoleService/DeleteRole", MUTATION),
    ("/rolegate.v1.RoleService/CloneRole", MUTATION),
    ("/rolegate.v1.TenantService/GetTenant", READ),
    ("/rolegate.v1.TenantService/ListTenants", READ),
    ("/rolegate.v1.TenantService/CreateTenant", MUTATION),
    ("/rolegate.v1.TenantService/ChangePlan", MUTATION),
    ("/rolegate.v1.TenantService/MoveCatalog", MUTATION),
    ("/rolegate.v1.TenantService/DeleteTenant", MUTATION),
    ("/rolegate.v1.TenantService/UndeleteTenant", MUTATION),
    ("/rolegate.v1.TenantService/PurgeTenant", MUTATION),
    ("/rolegate.v1.MemberService/GetMember", READ),
    ("/rolegate.v1.MemberService/ListMembers", READ),
    ("/rolegate.v1.MemberService/CreateMember", MUTATION),
    ("/rolegate.v1.MemberService/UpdateMember", MUTATION),
    ("/rolegate.v1.MemberService/AssignRoles", MUTATION),
    ("/rolegate.v1.MemberService/ArchiveMember", MUTATION),
    ("/rolegate.v1.MemberService/RestoreMember", MUTATION),
    ("/rolegate.v1.MemberService/DeleteMember", MUTATION),
    ("/rolegate.v1.MemberService/BatchUpsertMembers", MUTATION),
    // Probes have no credentials, and it tells nothing but whether we serve.
    ("/grpc.health.v1.Health/Check", Takes::Nothing),
    ("/grpc.health.v1.Health/Watch", Takes::Nothing),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Takes::AnyCaller),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Takes::AnyCaller),
];

/// The table by paths.
#[derive(Debug)]
pub(super) struct Access(HashMap<&'static str, Takes>);

impl Access {
    pub(super) fn of_table() -> Self {
        Access(TABLE.into_iter().collect())
    }

    /// `None`: there is no such method.
    pub(super) fn of(&self, path: &str) -> Option<Takes> {
        self.0.get(path).copied()
    }
}

/// Whether a call of this method goes on for as long as its client wants, and so may outlive the
/// rights that it began with.
pub(super) fn lasts(path: &str) -> bool {
    matches!(path, WATCH | CHECK_STREAM)
}

/// Whether a method changes something, so that its answer has to be told.
#[must_use]
pub fn is_change(path: &str) -> bool {
    let row = TABLE.iter().find(|(method, _)| *method == path);
    row.is_some_and(|(_, takes)| *takes == Takes::Mutation)
}

/// Whether a call counts as one question of its caller, before its message is looked at. Others
/// count by their messages; health and reflection do not.
pub(super) fn is_a_question(path: &str, takes: Takes) -> bool {
    matches!(takes, Takes::One(_) | Takes::Mutation)
        && !matches!(path, BATCH_CHECK | FILTER_RESOURCES)
}

/// Whether this caller may call a method that takes this, as far as its message need not be known.
pub(super) fn may_call(caller: &Caller, takes: Takes) -> Result<(), Status> {
    match takes {
        Takes::Nothing | Takes::AnyCaller => Ok(()),
        Takes::One(capability) if caller.capabilities.include(capability) => Ok(()),
        Takes::One(capability) => Err(missing(caller, capability, "")),
        Takes::Mutation => may_write(caller, true),
    }
}

/// Whether this caller may make a mutation, in the name of an actor or by itself.
pub(super) fn may_write(caller: &Caller, for_an_actor: bool) -> Result<(), Status> {
    let may = |capability| caller.capabilities.include(capability);
    match for_an_actor {
        _ if may(Capability::Admin) => Ok(()),
        true if may(Capability::Act) => Ok(()),
        true => Err(missing(caller, Capability::Admin, ", or act for calls that name an actor_id")),
        false if may(Capability::Act) => {
            let more = " to change things by itself; with act, it may in the name of the member \
                        that actor_id names";
            Err(missing(caller, Capability::Admin, more))
        }
        false => Err(missing(caller, Capability::Admin, "")),
    }
}

/// The caller of a call that lasts, with the rights that it has by now, as long as it has this one.
pub(super) fn still(proof: &Proof, capability: Capability) -> Result<Arc<Caller>, RightsLost> {
    let caller = proof.caller().ok_or(RightsLost::Proof)?;
    if caller.capabilities.include(capability) {
        Ok(caller)
    } else {
        Err(RightsLost::Capability(capability))
    }
}

fn missing(caller: &Caller, capability: Capability, more: &str) -> Status {
    let name = capability.name();
    let message = format!(
        "The caller {:?} needs the capability {name}{more}. The callers file of the server gives it.",
        caller.name
    );
    refuse(ErrorReason::CapabilityMissing, &message, &[("capability", name.to_owned())])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;
    use crate::grpc::pb;

    /// The path of each method that is served, and whether its request names an actor to act for.
    fn methods() -> Vec<(String, bool)> {
        let mut methods = Vec::new();
        for set in [
            pb::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            let files = FileDescriptorSet::decode(set).unwrap().file;
            let changes = |input: &str| {
                let messages = files.iter().flat_map(|file| &file.message_type);
                let mut found =
                    messages.filter(|message| input.ends_with(&format!(".{}", message.name())));
                let fields = &found.next().unwrap().field;
                fields.iter().any(|field| field.name() == "validate_only")
            };
            for file in &files {
                for service in &file.service {
                    for method in &service.method {
                        let path =
                            format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        methods.push((path, changes(method.input_type())));
                    }
                }
            }
        }
        methods
    }

    #[test]
    fn every_method_has_a_row_and_every_row_a_method() {
        let served: BTreeSet<String> = methods().into_iter().map(|(path, _)| path).collect();
        let rows: BTreeSet<String> = TABLE.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(rows.len(), TABLE.len(), "a row stands there twice");
        let without: Vec<_> = served.difference(&rows).collect();
        assert!(without.is_empty(), "answered to nobody: {without:?}");
        let stale: Vec<_> = rows.difference(&served).collect();
        assert!(stale.is_empty(), "no such methods: {stale:?}");
    }

    #[test]
    fn whatever_changes_something_takes_what_mutations_take() {
        let access = Access::of_table();
        for (path, changes) in methods() {
            assert_eq!(access.of(&path) == Some(Takes::Mutation), changes, "{path}");
        }
        assert_eq!(access.of("/rolegate.v1.AuthzService/check"), None);
    }
}
