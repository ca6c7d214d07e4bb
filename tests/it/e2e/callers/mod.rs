//! Servers that know their callers, over TLS, as whole processes.

mod certificates;
mod flow;
mod jwks;
mod jwt;
mod matrix;
mod reload;
mod remembered;
pub(super) mod setup;
mod watching;
