//! A live chat's conversation list: 300 conversations, and each member of the tenant sees its own
//! part of them.
//!
//! ```text
//! cargo run --release -- serve --dev --demo
//! cargo run --example chat
//! ```
//!
//! There are two ways to get there, and one check on both. `FilterResources` is for a service that
//! has the candidates in hand. `PlanFilter` is for one that has them in a database: it turns the
//! plan into a condition of its own query, so that paging and counting stay in SQL (`database.rs`).
//! `BatchCheck` asks about each conversation by itself, as the detail page would.
//!
//! `conversations.json` is made by `conversations.py`.

#![allow(clippy::print_stdout, reason = "an example talks to whoever runs it")]

#[path = "../common/mod.rs"]
mod common;
mod database;

use std::collections::HashMap;
use std::process::ExitCode;

use common::{Failure, RoleNames, Rolegate, Story, said, show_reason};
use database::Database;
use rolegate::grpc::pb;
use serde::Deserialize;

/// The tenant that `--demo` fills.
const TENANT: &str = "demo-qpien";
const PERMISSION: &str = "conversation.view";

/// One row of the chat service's own table.
#[derive(Debug, Deserialize)]
struct Conversation {
    id: String,
    subject: String,
    assignee: Option<String>,
    team: Option<String>,
    participants: Vec<String>,
}

impl Conversation {
    /// What Rolegate has to know of it. Everything is said: a list that is empty is empty.
    fn resource(&self) -> pb::Resource {
        pb::Resource {
            id: self.id.clone(),
            assignees: said(self.assignee.as_slice()),
            teams: said(self.team.as_slice()),
            // Customers start conversations, and none is shared with everyone.
            creator_id: Some(String::new()),
            participants: said(&self.participants),
            public: Some(false),
        }
    }

    fn in_pool(&self) -> bool {
        self.assignee.is_none() && self.team.is_none()
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    common::end(tell().await)
}

async fn tell() -> Result<(), Failure> {
    let conversations: Vec<Conversation> =
        serde_json::from_str(include_str!("conversations.json"))?;
    let database = Database::with(&conversations).await?;
    let mut rolegate = common::connect().await?;
    let mut story = Story::default();

    let roles = RoleNames::of(&mut rolegate, TENANT).await?;
    let members = members(&mut rolegate).await?;
    story.chapter("The conversation list of each member");
    story.say(format!(
        "{} conversations: {} unassigned, {} of them in the general pool",
        conversations.len(),
        conversations.iter().filter(|one| one.assignee.is_none()).count(),
        conversations.iter().filter(|one| one.in_pool()).count(),
    ));
    story.say("");
    story.say(format!(
        "{:<6} {:<14} {:>5} {:>11} {:>5}  PlanFilter, as SQL",
        "member", "role", "sees", "unassigned", "pool"
    ));
    let mut seen = HashMap::new();
    for member in &members {
        let filtered = filter(&mut rolegate, &member.id, &conversations).await?;
        let plan = plan(&mut rolegate, &member.id).await?;
        let condition = database::condition(&plan, &member.id)?;
        let selected = match &condition {
            Some(condition) => database.select(condition).await?,
            None => Vec::new(),
        };
        let checked = check_each(&mut rolegate, &member.id, &conversations).await?;

        let visible = || conversations.iter().filter(|one| filtered.contains(&one.id));
        let unassigned = visible().filter(|one| one.assignee.is_none()).count();
        let pool = visible().filter(|one| one.in_pool()).count();
        let role = member.role_ids.first().map(|id| roles.get(id));
        println!(
            "  {:<6} {:<14} {:>5} {unassigned:>11} {pool:>5}  {}",
            member.id,
            role.as_deref().unwrap_or("(none)"),
            filtered.len(),
            match &condition {
                Some(condition) => condition.to_string(),
                None => format!("no query: {}", show_reason(plan.denied_reason())),
            }
        );
        if selected != filtered || checked != filtered {
            let lists = format!(
                "filter {}, plan {}, checks {}",
                filtered.len(),
                selected.len(),
                checked.len()
            );
            story.tell(&format!("{}: the lists differ", member.id), &lists, false);
        }
        seen.insert(member.id.as_str(), filtered);
    }
    rules(&mut story, &conversations, &seen);
    pages(&mut story, &mut rolegate, &database, &seen).await?;
    story.end()
}

/// What the product promises, whatever the catalog says.
fn rules(story: &mut Story, conversations: &[Conversation], seen: &HashMap<&str, Vec<String>>) {
    story.chapter("What must be so");
    let list = |member: &str| seen.get(member).map(Vec::as_slice).unwrap_or_default();
    let ids = |wanted: &dyn Fn(&Conversation) -> bool| -> Vec<&str> {
        conversations.iter().filter(|one| wanted(one)).map(|one| one.id.as_str()).collect()
    };
    let count = |ids: usize| format!("{ids} conversations");
    let unassigned = ids(&|one| one.assignee.is_none());
    let among = |member: &str, ids: &[&str]| {
        list(member).iter().filter(|id| ids.contains(&id.as_str())).count()
    };
    for member in ["lena", "leo"] {
        let own = ids(&|one| one.assignee.as_deref() == Some(member));
        let exposed = among(member, &unassigned);
        story.tell(
            &format!("{member}, a limited user, sees of what is unassigned"),
            &count(exposed),
            seen.contains_key(member) && exposed == 0,
        );
        let action = format!("{member} sees what is assigned to {member}, and nothing else");
        story.tell(&action, &count(list(member).len()), list(member) == own && !own.is_empty());
    }
    let pool = ids(&|one| one.in_pool());
    let seen_of = among("una", &pool);
    let action = "una, a user in no team, sees the general pool";
    story.tell(action, &count(seen_of), seen_of == pool.len());
    let seen_of = among("toby", &unassigned);
    let action = "toby, who hands out work, sees all that is unassigned";
    story.tell(action, &count(seen_of), seen_of == unassigned.len());
    let teams = ids(&|one| {
        one.team.as_deref() == Some("support") || one.assignee.as_deref() == Some("tina")
    });
    let action = "tina, who leads support, sees her team's and her own";
    story.tell(action, &count(list("tina").len()), list("tina") == teams);
    let followed = ids(&|one| one.participants.iter().any(|member| member == "pat"));
    let action = "pat, an observer, sees what pat was invited to";
    story.tell(action, &count(list("pat").len()), list("pat") == followed);
    for member in ["owen", "anna"] {
        let seen = list(member).len();
        let action = format!("{member} sees everything");
        story.tell(&action, &count(seen), seen == conversations.len());
    }
    for (member, why) in [("zoe", "archived"), ("nick", "without a role")] {
        let seen = list(member).len();
        let action = format!("{member}, {why}, sees nothing");
        story.tell(&action, &count(seen), seen == 0);
    }
}

/// The page that a list view really asks for: newest first, a handful of them, searched.
async fn pages(
    story: &mut Story,
    rolegate: &mut Rolegate,
    database: &Database,
    seen: &HashMap<&str, Vec<String>>,
) -> Result<(), Failure> {
    story.chapter("The first page of ula's list, searched for \"parcel\": one query");
    let plan = plan(rolegate, "ula").await?;
    let Some(condition) = database::condition(&plan, "ula")? else {
        return Err("ula sees nothing".into());
    };
    let page = database.page(&condition, "parcel", 5).await?;
    for (id, line) in &page {
        story.say(format!("{id}  {line}"));
    }
    let in_list = |id: &String| seen.get("ula").is_some_and(|ids| ids.contains(id));
    let outcome =
        format!("{} of {}", page.iter().filter(|(id, _)| in_list(id)).count(), page.len());
    story.tell(
        "Those that are in ula's list",
        &outcome,
        page.len() == 5 && page.iter().all(|(id, _)| in_list(id)),
    );
    Ok(())
}

/// Which of these may the member see?
async fn filter(
    rolegate: &mut Rolegate,
    member: &str,
    conversations: &[Conversation],
) -> Result<Vec<String>, Failure> {
    let request = pb::FilterResourcesRequest {
        tenant_id: TENANT.to_owned(),
        member_id: member.to_owned(),
        permission: PERMISSION.to_owned(),
        resources: conversations.iter().map(Conversation::resource).collect(),
        consistency: None,
    };
    let answer = rolegate.authz.filter_resources(request).await?.into_inner();
    if !answer.incomplete_ids.is_empty() {
        return Err(format!("not said: {}", answer.missing_attributes.join(", ")).into());
    }
    Ok(answer.allowed_ids)
}

/// What may the member see, as conditions?
async fn plan(rolegate: &mut Rolegate, member: &str) -> Result<pb::PlanFilterResponse, Failure> {
    let request = pb::PlanFilterRequest {
        tenant_id: TENANT.to_owned(),
        member_id: member.to_owned(),
        permission: PERMISSION.to_owned(),
        consistency: None,
    };
    Ok(rolegate.authz.plan_filter(request).await?.into_inner())
}

/// The same, asked one by one.
async fn check_each(
    rolegate: &mut Rolegate,
    member: &str,
    conversations: &[Conversation],
) -> Result<Vec<String>, Failure> {
    let item = |one: &Conversation| pb::CheckItem {
        member_id: member.to_owned(),
        permission: PERMISSION.to_owned(),
        resource: Some(one.resource()),
    };
    let request = pb::BatchCheckRequest {
        tenant_id: TENANT.to_owned(),
        items: conversations.iter().map(item).collect(),
        consistency: None,
    };
    let answer = rolegate.authz.batch_check(request).await?.into_inner();
    let mut allowed = Vec::new();
    for (one, item) in conversations.iter().zip(answer.items) {
        match item.result {
            Some(pb::check_item_result::Result::Decision(decision)) => {
                if decision.verdict() == pb::Verdict::Allowed {
                    allowed.push(one.id.clone());
                }
            }
            other => return Err(format!("{}: no decision but {other:?}", one.id).into()),
        }
    }
    Ok(allowed)
}

/// Every member of the tenant, archived ones too.
async fn members(rolegate: &mut Rolegate) -> Result<Vec<pb::Member>, Failure> {
    let mut members = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListMembersRequest {
            tenant_id: TENANT.to_owned(),
            page_token,
            ..Default::default()
        };
        let page = rolegate.members.list_members(request).await?.into_inner();
        members.extend(page.members);
        if page.next_page_token.is_empty() {
            return Ok(members);
        }
        page_token = page.next_page_token;
    }
}
