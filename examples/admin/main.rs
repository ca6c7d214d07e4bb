//! An admin service: the whole life of a custom role, as the two products' help pages tell it, on
//! throw-away tenants.
//!
//! ```text
//! cargo run --release -- serve --dev --demo
//! cargo run --example admin
//! ```
//!
//! `helpdesk.rs` is OQUPIE's life of a role, `chat.rs` Qpien's; `office.rs` is the client they use.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

mod chat;
#[path = "../common/mod.rs"]
mod common;
mod helpdesk;
mod office;

use std::process::ExitCode;

use common::{Failure, Story};
use office::Office;

#[tokio::main]
async fn main() -> ExitCode {
    common::end(tell().await)
}

async fn tell() -> Result<(), Failure> {
    let rolegate = common::connect().await?;
    let mut story = Story::default();

    let mut office = Office::open(rolegate.clone(), "oqupie", "pro", "grace").await?;
    let told = helpdesk::tell(&mut office, &mut story).await;
    // Whatever became of the story, its tenant goes.
    office.close(&mut story).await?;
    told?;

    let mut office = Office::open(rolegate, "qpien", "", "quinn").await?;
    let told = chat::tell(&mut office, &mut story).await;
    office.close(&mut story).await?;
    told?;

    story.end()
}
