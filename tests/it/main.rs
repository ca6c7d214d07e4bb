//! The tests that see the service from outside its modules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails should say where"
)]

mod actors;
mod architecture;
mod cache;
mod domain;
mod e2e;
mod member_history;
mod pages;
mod postgres;
mod previews;
mod properties;
mod proxy;
mod reference;
mod services;
mod store;
mod timing;
mod warm_up;
