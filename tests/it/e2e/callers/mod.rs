//! Servers that know their callers, over TLS, as whole processes.

mod certificates;
mod flow;
mod jwks;
mod jwt;
mod matrix;
mod reload;
pub(super) mod setup;
mod watching;
