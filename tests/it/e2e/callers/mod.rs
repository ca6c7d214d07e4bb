//! Servers that know their callers, over TLS, as whole processes.

mod certificates;
mod flow;
mod matrix;
mod reload;
mod setup;
mod watching;
