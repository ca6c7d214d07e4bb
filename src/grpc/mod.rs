//! The gRPC front: messages are parsed at the edge, handlers call one use case each, and errors
//! become statuses in one place.
//!
//! - `fields` and `values` parse; `wire` reads and writes the messages that come often; `accept` finds the caller and what every mutation shares.
//! - [`AuthzApi`], [`RoleApi`], [`TenantApi`] and [`MemberApi`] are the services.
//! - [`CheckStreams`] answers `CheckStream`, and [`Bulk`] what is asked in bulk and at hand, in front of
//!   the first of these.
//! - [`status`] makes statuses; what they say is in `wording`.
//! - [`authenticate`] finds out who calls, [`client`] remembers it for a connection, and [`access`] has
//!   what each method takes of its caller.
//! - [`admission`] limits how much is under way, [`unread`] what of the answers waits to be taken; [`health`] answers probes, which take nothing of that.
//! - [`codec`] decodes what was measured and found to have room.
//! - [`not_grpc`] answers what is not gRPC at all.
//! - [`reflection`] tells what there is to call.
//! - [`edge`] mends the errors that tonic makes by itself.
//! - [`meter`] counts calls.

mod accept;
pub mod access;
pub mod admission;
mod answer;
pub mod api;
pub mod authenticate;
mod authz;
mod authz_show;
mod bulk;
mod check_stream;
pub mod client;
pub mod codec;
pub mod edge;
mod fields;
pub mod framing;
pub mod health;
pub mod hot;
mod inflate;
mod item_error;
mod members;
pub mod meter;
pub mod not_grpc;
pub mod reflection;
mod role_show;
mod roles;
mod show;
pub mod status;
mod tenants;
#[cfg(test)]
mod tests;
pub mod unread;
mod values;
mod watch;
mod wire;
mod wording;

pub use authz::AuthzApi;
pub use bulk::Bulk;
pub use check_stream::{CheckStreams, WithCheckStream};
pub use members::MemberApi;
pub use pb::authz_service_server::AuthzServiceServer;
pub use pb::member_service_server::MemberServiceServer;
pub use pb::role_service_server::RoleServiceServer;
pub use pb::tenant_service_server::TenantServiceServer;
pub use roles::RoleApi;
pub use tenants::TenantApi;

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::indexing_slicing,
    reason = "generated code"
)]
pub mod pb {
    //! What `build.rs` makes of `proto/rolegate/v1`.
    tonic::include_proto!("rolegate.v1");

    /// Returns the list of these ids: with none, the one that says so.
    impl From<Vec<String>> for IdList {
        fn from(ids: Vec<String>) -> Self {
            IdList { none: ids.is_empty(), ids }
        }
    }

    /// The descriptors of all services, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/rolegate.v1.bin"));
}
