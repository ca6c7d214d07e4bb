//! Rolegate: roles and permission checks for customer-support platforms.
//!
//! Imports point one way, and a test keeps it so:
//!
//! ```text
//! domain  <-  store  <-  service  <-  grpc, http  <-  server  <-  main
//! ```
//!
//! - [`domain`]: what roles are and how a decision is made. Start here.
//! - [`store`]: where tenants, roles and members are kept; the only SQL; the cache in front of it.
//! - [`service`]: the use cases.
//! - [`grpc`]: the front: messages in, messages out.
//! - [`http`]: the front for operators: health, metrics, version.
//! - [`server`]: where everything is put together.
//! - [`files`]: small files, read without waiting for ever; of use to all.
pub mod domain;
pub mod files;
pub mod grpc;
pub mod http;
pub mod server;
pub mod service;
pub mod store;
