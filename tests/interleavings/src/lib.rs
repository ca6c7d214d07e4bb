//! The cache's protocol under [shuttle](https://docs.rs/shuttle), which runs threads in an order of
//! its choosing, many orders one after another.
//!
//! The fill guard and the tenants' entries are the service's own files, compiled here against
//! shuttle's locks and atomics. moka and the database do not run under shuttle, so both are plain
//! maps here; the steps between them, in `model.rs`, follow `src/store/cache`.

// Not all of what is taken from the service is used here.
#![allow(dead_code)]

/// What the service's files synchronize with.
mod sync {
    pub(super) use shuttle::sync::atomic::{AtomicU64, Ordering};
    pub(super) use shuttle::sync::{Mutex, MutexGuard};
    pub(super) use std::sync::{Arc, PoisonError};
}

/// What they know of the domain: a tenant's entry carries its catalog and never looks at it.
mod domain {
    pub(crate) mod catalog {
        #[derive(Debug)]
        pub(crate) struct Catalog;
    }
}

/// What they know of the store: a state is its revision, in one epoch.
mod store {
    #[derive(Debug)]
    pub(crate) struct State(u64);

    impl State {
        pub(crate) fn at(_epoch: u64, revision: u64) -> Self {
            State(revision)
        }

        pub(crate) fn revision(&self) -> u64 {
            self.0
        }
    }
}

#[path = "../../../src/store/cache/fill_guard.rs"]
mod fill_guard;
#[path = "../../../src/store/cache/tenant.rs"]
mod tenant;

mod model;

pub use model::{Broken, Cast, run};
