//! A helpdesk's ticketing service: it asks before each step of a ticket's life.
//!
//! ```text
//! cargo run --release -- serve --dev --demo
//! cargo run --example ticketing
//! ```
//!
//! `asks.rs` is what a ticketing service would keep of this; the story around it is for reading.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

mod asks;
#[path = "../common/mod.rs"]
mod common;

use std::process::ExitCode;

use asks::{Asks, Expect, Ticket};
use common::{Failure, Story, show_reason};
use rolegate::grpc::pb::{DecisionReason, Verdict};

/// The tenant that `--demo` fills.
const TENANT: &str = "demo-oqupie";

#[tokio::main]
async fn main() -> ExitCode {
    common::end(tell().await)
}

async fn tell() -> Result<(), Failure> {
    let mut asks = Asks::of(common::connect().await?, TENANT).await?;
    let mut story = Story::default();
    let ticket = arrives(&mut asks, &mut story).await?;
    let ticket = is_worked_on(&mut asks, &mut story, ticket).await?;
    moves_on(&mut asks, &mut story, ticket.clone()).await?;
    has_buttons(&mut asks, &mut story, &ticket).await?;
    must_be_described(&mut asks, &mut story).await?;
    is_explained(&mut asks, &mut story).await?;
    reads_its_own_writes(&mut asks, &mut story).await?;
    story.end()
}

async fn arrives(asks: &mut Asks, story: &mut Story) -> Result<Ticket, Failure> {
    story.chapter(
        "Ticket T-1042 \"I was charged twice\" arrives in team billing, assigned to nobody",
    );
    let ticket = Ticket { id: "T-1042", assignees: vec![], teams: vec!["billing"] };
    for (who, member, expect) in [
        ("Alice, an agent in billing, opens it", "alice", Expect::Allowed),
        ("Bob, an agent in technical, opens it", "bob", Expect::Denied(DecisionReason::OutOfScope)),
        ("Dan, an agent in no team, opens it", "dan", Expect::Denied(DecisionReason::OutOfScope)),
        ("Paula, a pro agent, checks all tickets", "paula", Expect::Allowed),
        (
            "Rita, who holds the custom role \"Report reader\", opens it",
            "rita",
            Expect::Denied(DecisionReason::PermissionNotGranted),
        ),
        (
            "Nora, who holds no role yet, opens it",
            "nora",
            Expect::Denied(DecisionReason::PermissionNotGranted),
        ),
        (
            "Arthur, an agent in billing until he was archived, opens it",
            "arthur",
            Expect::Denied(DecisionReason::MemberArchived),
        ),
        (
            "Mallory, of whom nobody has heard, opens it",
            "mallory",
            Expect::Denied(DecisionReason::MemberNotFound),
        ),
    ] {
        asks.may(story, who, member, "ticket.work", Some(&ticket), expect).await?;
    }
    let who = asks.who_may("ticket.work", &ticket).await?;
    story.tell(
        "Who could pick it up? (the menu of assignees)",
        &who.join(", "),
        who == ["adam", "alice", "carol", "nina", "olivia", "paula"],
    );
    Ok(ticket)
}

async fn is_worked_on(
    asks: &mut Asks,
    story: &mut Story,
    ticket: Ticket,
) -> Result<Ticket, Failure> {
    story.chapter("Alice picks it up");
    asks.may(story, "Alice takes it", "alice", "ticket.work", Some(&ticket), Expect::Allowed)
        .await?;
    let ticket = Ticket { assignees: vec!["alice"], ..ticket };
    let work = "ticket.work";
    asks.may(story, "Alice replies", "alice", work, Some(&ticket), Expect::Allowed).await?;
    asks.may(
        story,
        "Carol, also in billing, adds a note",
        "carol",
        work,
        Some(&ticket),
        Expect::Allowed,
    )
    .await?;
    let not_granted = Expect::Denied(DecisionReason::PermissionNotGranted);
    asks.may(
        story,
        "Alice blocks the customer",
        "alice",
        "ticket.block",
        Some(&ticket),
        not_granted,
    )
    .await?;
    let who = "Nina, \"Night shift\" may work on all tickets, blocks them";
    asks.may(story, who, "nina", "ticket.block", Some(&ticket), Expect::Allowed).await?;
    let who = "Alice edits the customer's profile (no ticket involved)";
    asks.may(story, who, "alice", "customer.edit", None, Expect::Allowed).await?;
    Ok(ticket)
}

async fn moves_on(asks: &mut Asks, story: &mut Story, ticket: Ticket) -> Result<(), Failure> {
    let (work, delete) = ("ticket.work", "ticket.delete");
    let out_of_scope = Expect::Denied(DecisionReason::OutOfScope);
    let not_granted = Expect::Denied(DecisionReason::PermissionNotGranted);
    story.chapter("It turns out to be a bug: the ticket moves to team technical");
    let ticket = Ticket { teams: vec!["technical"], ..ticket };
    asks.may(
        story,
        "Alice is still its assignee, and replies",
        "alice",
        work,
        Some(&ticket),
        Expect::Allowed,
    )
    .await?;
    asks.may(
        story,
        "Carol, of the team it left, opens it",
        "carol",
        work,
        Some(&ticket),
        out_of_scope,
    )
    .await?;
    let ticket = Ticket { assignees: vec!["bob"], ..ticket };
    story.say("Bob takes it over from Alice.");
    asks.may(story, "Bob replies", "bob", work, Some(&ticket), Expect::Allowed).await?;
    asks.may(story, "Alice opens it once more", "alice", work, Some(&ticket), out_of_scope).await?;
    story.say("It was a duplicate. Who may delete it?");
    asks.may(story, "Bob, its assignee", "bob", delete, Some(&ticket), not_granted).await?;
    asks.may(story, "Paula, pro agent", "paula", delete, Some(&ticket), not_granted).await?;
    asks.may(story, "Adam, admin", "adam", delete, Some(&ticket), Expect::Allowed).await?;
    asks.may(story, "Olivia, account owner", "olivia", delete, Some(&ticket), Expect::Allowed).await
}

async fn has_buttons(asks: &mut Asks, story: &mut Story, ticket: &Ticket) -> Result<(), Failure> {
    const BUTTONS: [(&str, &str); 5] = [
        ("Reply", "ticket.work"),
        ("Spam", "ticket.block"),
        ("Delete", "ticket.delete"),
        ("Profile", "customer.edit"),
        ("Contact", "customer.view"),
    ];
    story.chapter("The buttons of T-1042: one BatchCheck for each who looks at it");
    let labels: String = BUTTONS.iter().map(|(label, _)| format!("{label:<9}")).collect();
    story.say(format!("{:<10}{labels}", ""));
    let permissions = BUTTONS.map(|(_, permission)| permission);
    for (member, expected) in [
        ("alice", [true, false, false, true, true]),
        ("bob", [false, false, false, true, true]),
        ("nina", [true, true, false, true, true]),
        ("adam", [true, true, true, true, true]),
        ("nora", [false, false, false, false, true]),
        ("arthur", [false, false, false, false, false]),
    ] {
        let shown = asks.buttons(member, ticket, &permissions).await?;
        let row: String =
            shown.iter().map(|shown| format!("{:<9}", if *shown { "yes" } else { "-" })).collect();
        story.tell(&format!("{member:<10}{row}"), "", shown == expected);
    }
    let error = asks.misspelt("alice", ticket).await?;
    story.tell(
        "A misspelt permission fails alone: ticket.delet",
        &error.reason,
        error.reason == "UNKNOWN_PERMISSION",
    );
    story.say(format!("  {}", error.message));
    let menus = asks.menus("bob").await?;
    let expected =
        ["dashboard", "ticket", "customer", "knowledge_base", "canned_response", "profile"];
    story.tell("Bob's menus", &menus.join(", "), menus == expected);
    Ok(())
}

async fn must_be_described(asks: &mut Asks, story: &mut Story) -> Result<(), Failure> {
    story.chapter("What the caller has to say about a ticket");
    let work = "ticket.work";
    let required = Expect::Denied(DecisionReason::ResourceRequired);
    asks.may(story, "Alice, but the caller names no ticket", "alice", work, None, required).await?;
    asks.may(
        story,
        "Paula, likewise: she may work on every ticket",
        "paula",
        work,
        None,
        Expect::Allowed,
    )
    .await?;
    let decision = asks.about_unsaid("alice", work).await?;
    story.tell(
        "Alice, and the caller only gives the ticket's id",
        &asks.show(&decision),
        decision.reason() == DecisionReason::ResourceAttributeRequired
            && decision.missing_attributes == ["assignees", "teams"],
    );
    let nobody = Ticket { id: "T-1043", assignees: vec![], teams: vec![] };
    let out_of_scope = Expect::Denied(DecisionReason::OutOfScope);
    let who = "Alice, and it says: nobody assigned, in no team";
    asks.may(story, who, "alice", work, Some(&nobody), out_of_scope).await
}

async fn is_explained(asks: &mut Asks, story: &mut Story) -> Result<(), Failure> {
    story.chapter("Why could Nina block that customer? Explain, step by step");
    let ticket = Ticket { id: "T-1042", assignees: vec!["bob"], teams: vec!["technical"] };
    let explained = asks.explain("nina", "ticket.block", &ticket).await?;
    for step in &explained.steps {
        story.say(format!("- {step}"));
    }
    let decision = explained.decision.unwrap_or_default();
    let roles: Vec<_> = explained.roles.iter().map(|role| role.name.as_str()).collect();
    story.tell(
        &format!("The decision, by {}", roles.join(", ")),
        show_reason(decision.reason()),
        decision.verdict() == Verdict::Allowed
            && explained.follows == "ticket.work"
            && roles == ["Night shift"],
    );
    Ok(())
}

async fn reads_its_own_writes(asks: &mut Asks, story: &mut Story) -> Result<(), Failure> {
    story.chapter("Nora becomes an agent, and works on a ticket in the same second");
    let ticket = Ticket { id: "T-1044", assignees: vec![], teams: vec!["billing"] };
    let token = asks.assign("nora", &["agent"]).await?;
    story.say(format!("AssignRoles answers with a consistency token of {} bytes.", token.len()));
    let after = asks.check_after("nora", "ticket.work", &ticket, &token).await;
    // Whatever came of it, the demo stays as it was.
    let token = asks.assign("nora", &[]).await?;
    let decision = after?;
    story.tell(
        "Nora opens a ticket of billing; as fresh as the token, please",
        &asks.show(&decision),
        decision.verdict() == Verdict::Allowed,
    );
    let decision = asks.check_after("nora", "ticket.work", &ticket, &token).await?;
    story.tell(
        "The role is taken back, and she tries again",
        &asks.show(&decision),
        decision.reason() == DecisionReason::PermissionNotGranted,
    );
    Ok(())
}
