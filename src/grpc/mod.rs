//! The gRPC front.

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
}
