//! OQUPIE: custom roles come with the Enterprise plan, five of them; a deleted role's members get
//! another one in the same breath.

use rolegate::grpc::pb;
use rolegate::grpc::pb::preview_role_change_request::Change;
use tonic_types::StatusExt;

use crate::common::{Failure, Story, grants, show_grants};
use crate::office::{Office, made, show_impact, show_preview, show_role};

/// What the article's example needs, spelt out.
const NIGHT_SHIFT: [&str; 4] =
    ["ticket.work at all", "ticket.block", "ticket.delete", "customer.edit"];

pub(crate) async fn tell(office: &mut Office, story: &mut Story) -> Result<(), Failure> {
    story
        .chapter("OQUPIE: a helpdesk on the Pro plan opens Settings > Organization > Manage Roles");
    office
        .hire(&[("henry", "admin", true), ("ivy", "agent", true), ("jack", "agent", true)])
        .await?;
    office.hire(&[("kim", "agent", false)]).await?;
    let permissions = office.show_tree(story).await?;
    story.tell(
        "The permission tree, as the role editor shows it",
        &format!("{permissions} permissions"),
        permissions == 41,
    );

    let night = is_created(office, story).await?;
    is_edited(office, story, &night).await?;
    is_previewed(office, story, &night).await?;
    is_deleted(office, story, &night).await?;
    acts_for_itself(office, story).await?;
    keeps_its_owner(office, story).await?;

    story.chapter("OQUPIE: the audit trail, newest first");
    let methods = office.show_audit(story).await?;
    story.tell(
        "A line for each change, for the members that a deletion moved, and for what was refused",
        &format!("{} changes", methods.len()),
        methods.last().is_some_and(|method| method == "TenantService/CreateTenant")
            && methods.iter().filter(|method| *method == "RoleService/DeleteRole").count() == 2,
    );
    Ok(())
}

async fn is_created(office: &mut Office, story: &mut Story) -> Result<String, Failure> {
    story.chapter("OQUPIE: \"If you are using an Enterprise Plan, you can create new roles\"");
    let answer = office.create("Night shift", grants(&NIGHT_SHIFT)).await;
    if let Some(error) =
        story.refused("Grace creates \"Night shift\" on the Pro plan", answer, "CUSTOM_ROLE_LIMIT")
    {
        story.say(format!("    {}", error.message()));
    }
    let plan = office.change_plan("enterprise").await?.into_inner();
    let limit = plan.custom_role_limit;
    let room = limit.map_or("any number".to_owned(), |limit| limit.to_string());
    story.tell(
        "The account moves to Enterprise",
        &format!("custom roles: {room}"),
        limit == Some(5),
    );

    let night = made(office.create("Night shift", grants(&NIGHT_SHIFT)).await?.into_inner().role)?;
    story.tell("Grace creates \"Night shift\"", "made", night.grants == grants(&NIGHT_SHIFT));
    for name in ["Report reader", "Brand keeper", "Trainee"] {
        office.create(name, grants(&["customer.edit"])).await?;
    }
    let cloned = office.clone_role("admin", "Deputy").await?.into_inner();
    let left_out: Vec<_> =
        cloned.left_out_grants.iter().map(|grant| grant.permission.as_str()).collect();
    story.tell(
        "Three more, and \"Deputy\" as a copy of Admin, which leaves out",
        &left_out.join(", "),
        left_out == ["payment.manage", "system.manage"],
    );
    let list = office.list().await?;
    let custom = list.custom_role_count;
    story.tell(
        "Manage Roles lists four default and five custom roles",
        &format!("{} roles, {custom} custom", list.roles.len()),
        list.roles.len() == 9 && custom == 5,
    );
    let answer = office.create("Weekend", grants(&["customer.edit"])).await;
    story.refused("A sixth", answer, "CUSTOM_ROLE_LIMIT");
    Ok(night.id)
}

async fn is_edited(office: &mut Office, story: &mut Story, night: &str) -> Result<(), Failure> {
    story.chapter("OQUPIE: what an edit may not do");
    let answer = office.rename("agent", "Agent 2.0", "").await;
    story.refused("Rename the default role Agent", answer, "DEFAULT_ROLE_IMMUTABLE");
    let answer = office.rename(night, " ＰＲＯ　ａｇｅｎｔ", "").await;
    story.refused("Call it \"Pro agent\" in full-width letters", answer, "ROLE_NAME_TAKEN");
    let answer = office.regrant(night, grants(&["payment.manage"]), false, "").await;
    story.refused("Tick Payments", answer, "PERMISSION_NEVER_GRANTABLE");
    let answer = office.regrant(night, grants(&["customer.view"]), false, "").await;
    story.refused("List what everybody has anyway", answer, "PERMISSION_HELD_BY_EVERYONE");
    let answer = office.regrant(night, grants(&["ticket.work"]), false, "").await;
    story.refused("Tickets, without saying which", answer, "SCOPE_REQUIRED");

    let wanted = [NIGHT_SHIFT.as_slice(), &["brand.delete"]].concat();
    let answer = office.regrant(night, grants(&wanted), false, "").await;
    if let Some(error) =
        story.refused("Delete brands, but not see them", answer, "REQUIREMENT_MISSING")
    {
        let details = error.get_error_details();
        let missing = details.error_info().and_then(|info| info.metadata.get("missing"));
        let missing = missing.map(String::as_str).unwrap_or_default();
        let all = missing.contains("brand.manage") && missing.contains("management.execute");
        story.tell("  what is missing", missing, all);
    }
    let answer = office.regrant(night, grants(&["report.export"]), true, "").await;
    if let Some(error) =
        story.refused("Export reports, but view none", answer, "REQUIREMENT_MISSING")
    {
        story.say(format!("    {}", error.message()));
    }
    let before = office.get(night).await?;
    let written = office.regrant(night, grants(&wanted), true, &before.etag).await?.into_inner();
    let added = show_grants(&written.added_grants);
    let expected = grants(&["management.execute", "brand.manage"]);
    story.tell(
        "The same with expand_requirements: what was added",
        &added,
        written.added_grants == expected,
    );
    show_role(story, &made(written.role)?);
    let answer = office.rename(night, "Night crew", &before.etag).await;
    story.refused("Henry saves the form he opened before that", answer, "ETAG_MISMATCH");
    Ok(())
}

async fn is_previewed(office: &mut Office, story: &mut Story, night: &str) -> Result<(), Failure> {
    story.chapter("OQUPIE: \"Select a new role and click update\", knowing what it changes");
    let (member_ids, role_ids) = (vec!["ivy".to_owned()], vec![night.to_owned()]);
    let change = pb::RoleAssignmentPreview { member_ids, role_ids };
    let preview = office.preview(Change::Assignment(change)).await?;
    story.tell(
        "Preview: Ivy, an agent, gets \"Night shift\"",
        &show_impact(&preview),
        preview.gaining_member_count == 1 && preview.losing_member_count == 1,
    );
    show_preview(story, &preview);
    for member in ["ivy", "jack", "kim"] {
        office.assign(member, night).await?;
    }
    story.say("Ivy, Jack and Kim (archived) get it.");
    let fewer = grants(&["ticket.work at group", "ticket.block", "customer.edit"]);
    let change = pb::RoleUpdatePreview {
        role_id: night.to_owned(),
        grants: fewer.clone(),
        expand_requirements: false,
    };
    let preview = office.preview(Change::Update(change)).await?;
    story.tell(
        "Preview: it only reaches the group, and deletes nothing",
        &show_impact(&preview),
        preview.gaining_member_count == 0 && preview.losing_member_count == 2,
    );
    show_preview(story, &preview);
    let written = office.regrant(night, fewer.clone(), false, &preview.etag).await?.into_inner();
    let role = made(written.role)?;
    story.tell(
        "Saved, with the preview's etag: nothing came between",
        "done",
        role.grants == fewer,
    );
    let counts = (role.active_member_count, role.archived_member_count);
    let outcome = format!("{} active, {} archived", counts.0, counts.1);
    story.tell("Who holds it", &outcome, counts == (2, 1));
    Ok(())
}

async fn is_deleted(office: &mut Office, story: &mut Story, night: &str) -> Result<(), Failure> {
    story
        .chapter("OQUPIE: \"assign a new role to a member who is playing the role to be deleted\"");
    let answer = office.delete(night, "", "").await;
    story.refused("Delete it, and name no other role", answer, "REASSIGNMENT_REQUIRED");
    let answer = office.delete(night, night, "").await;
    story.refused("Delete it, and name itself", answer, "REASSIGNMENT_TO_ITSELF");
    let answer = office.delete(night, "night-watch", "").await;
    story.refused("Delete it, and name a role that there is not", answer, "UNKNOWN_ROLE");
    let change = pb::RoleDeletionPreview {
        role_id: night.to_owned(),
        reassign_to_role_id: "agent".to_owned(),
    };
    let preview = office.preview(Change::Deletion(change)).await?;
    story.tell(
        "Preview: delete it, its members become agents",
        &show_impact(&preview),
        preview.losing_member_count == 2,
    );
    show_preview(story, &preview);
    let deleted = office.delete(night, "agent", "").await?.into_inner();
    let counts = (deleted.reassigned_active_members, deleted.reassigned_archived_members);
    let outcome = format!("reassigned: {} active, {} archived", counts.0, counts.1);
    story.tell("Delete it so", &outcome, counts == (2, 1));
    for member in ["ivy", "jack", "kim"] {
        let roles = office.roles_of(member).await?;
        story.tell(&format!("  {member} is now"), &roles.join(", "), roles == ["agent"]);
    }
    office.change_plan("pro").await?;
    let list = office.list().await?;
    let custom = list.custom_role_count;
    let action = "Back on the Pro plan, the other custom roles stay";
    story.tell(action, &format!("{custom} custom roles"), custom == 4);
    let answer = office.create("Weekend", grants(&["customer.edit"])).await;
    story.refused("but no new one is made", answer, "CUSTOM_ROLE_LIMIT");
    Ok(())
}

/// The service says on whose behalf it calls, and leaves to Rolegate what that member may do.
async fn acts_for_itself(office: &mut Office, story: &mut Story) -> Result<(), Failure> {
    story.chapter("OQUPIE: Henry, an admin, sits in front of the page himself");
    office.assign_as("henry", "jack", "pro_agent").await?;
    story.tell("Henry makes Jack a pro agent", "done", true);
    let answer = office.assign_as("henry", "henry", "owner").await;
    story.refused("Henry makes himself an owner", answer, "ACTOR_IS_SUBJECT");
    let answer = office.assign_as("henry", "jack", "owner").await;
    story.refused("Henry makes Jack an owner", answer, "OWNER_REQUIRED");
    let answer = office.assign_as("jack", "ivy", "pro_agent").await;
    story.refused("Jack makes Ivy a pro agent", answer, "ACTOR_NOT_PERMITTED");
    Ok(())
}

async fn keeps_its_owner(office: &mut Office, story: &mut Story) -> Result<(), Failure> {
    story.chapter("OQUPIE: \"you must be careful when changing the account owner\"");
    let answer = office.archive("grace").await;
    story.refused("Archive Grace, the only owner", answer, "LAST_OWNER");
    let answer = office.assign("grace", "agent").await;
    story.refused("Make Grace an agent", answer, "LAST_OWNER");
    office.assign("henry", "owner").await?;
    office.archive("grace").await?;
    story.tell("Make Henry an owner too, then archive Grace", "done", true);
    let answer = office.archive("henry").await;
    story.refused("Archive Henry: Grace is an owner, but archived", answer, "LAST_OWNER");
    office.restore("grace").await?;
    let roles = office.roles_of("grace").await?;
    story.tell("Grace comes back as", &roles.join(", "), roles == ["owner"]);
    Ok(())
}
