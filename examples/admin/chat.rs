//! Qpien: any number of custom roles; one that is in use cannot be deleted, and deleting one asks
//! for a text to be typed.

use tonic_types::StatusExt;

use crate::common::{Failure, Story, grants, show_grants};
use crate::office::{Office, made, show_role};

pub(crate) async fn tell(office: &mut Office, story: &mut Story) -> Result<(), Failure> {
    story.chapter("Qpien: Settings > Company > Users > User Roles");
    office.hire(&[("rosa", "user", true), ("sam", "limited_user", true)]).await?;
    let permissions = office.show_tree(story).await?;
    story.tell("The permission tree", &format!("{permissions} permissions"), permissions == 21);
    let crew = is_created(office, story).await?;
    is_deleted(office, story, &crew).await?;

    story.chapter("Qpien: the last owner stays");
    let answer = office.archive("quinn").await;
    story.refused("Archive Quinn, the only owner", answer, "LAST_OWNER");

    story.chapter("Qpien: the audit trail, newest first");
    let methods = office.show_audit(story).await?;
    // Sam, who is archived, had the role.
    let expected = [
        "RoleService/DeleteRole",
        "RoleService/DeleteRole",
        "MemberService/AssignRoles",
        "MemberService/ArchiveMember",
        "MemberService/AssignRoles",
        "MemberService/AssignRoles",
        "RoleService/UpdateRole",
        "RoleService/CreateRole",
        "MemberService/BatchUpsertMembers",
        "TenantService/CreateTenant",
    ];
    let outcome = format!("{} lines", methods.len());
    let told = "One line per change and member of a deletion, none for a refusal";
    story.tell(told, &outcome, methods == expected);
    Ok(())
}

async fn is_created(office: &mut Office, story: &mut Story) -> Result<String, Failure> {
    story.chapter("Qpien: \"check the boxes next to the specific permissions\"");
    let answer = office.create("Weekend crew", grants(&["conversation.reply at team"])).await;
    if let Some(error) =
        story.refused("Reply to conversations, but view none", answer, "REQUIREMENT_MISSING")
    {
        let details = error.get_error_details();
        let missing = details.error_info().and_then(|info| info.metadata.get("missing"));
        let missing = missing.map(String::as_str).unwrap_or_default();
        let all = missing.contains("conversation.view") && missing.contains("chat.view");
        story.tell("  what is missing", missing, all);
    }
    let narrow =
        grants(&["chat.view", "conversation.view at assigned", "conversation.reply at team"]);
    let answer = office.create("Weekend crew", narrow.clone()).await;
    story.refused("Reply to more than one may view", answer, "REQUIREMENT_MISSING");
    let sound = grants(&["chat.view", "conversation.view at team", "conversation.reply at team"]);
    let crew = made(office.create("Weekend crew", sound.clone()).await?.into_inner().role)?;
    story.tell("View as far as reply: Weekend crew is created", "made", crew.grants == sound);
    for (action, name, reason) in [
        ("Another one of that name", "weekend CREW", "ROLE_NAME_TAKEN"),
        ("One called like a default role", "Limited user", "ROLE_NAME_TAKEN"),
        ("One without a name", " ", "FIELD_REQUIRED"),
    ] {
        let answer = office.create(name, sound.clone()).await;
        story.refused(action, answer, reason);
    }
    let wider = [sound, grants(&["conversation.delete at all"])].concat();
    let written = office.regrant(&crew.id, wider, true, &crew.etag).await?.into_inner();
    story.tell(
        "Tick Delete for all, with expand_requirements: what was widened",
        &show_grants(&written.added_grants),
        written.added_grants == grants(&["conversation.view at all"]),
    );
    show_role(story, &made(written.role)?);
    for member in ["rosa", "sam"] {
        office.assign(member, &crew.id).await?;
    }
    story.say("Rosa and Sam get it; later Sam is archived.");
    office.archive("sam").await?;
    Ok(crew.id)
}

async fn is_deleted(office: &mut Office, story: &mut Story, crew: &str) -> Result<(), Failure> {
    story.chapter("Qpien: \"You cannot delete a custom role if it is currently assigned\"");
    let text = office.get(crew).await?.deletion_confirmation_text;
    story.tell("The text to type", &format!("{text:?}"), text == "delete Weekend crew");
    let answer = office.delete(crew, "", &text).await;
    story.refused("Delete it while Rosa holds it", answer, "ROLE_ASSIGNED");
    let answer = office.delete(crew, "user", &text).await;
    story.refused("Delete it and hand its members on", answer, "REASSIGNMENT_NOT_SUPPORTED");
    office.assign("rosa", "user").await?;
    story.say("Rosa is changed back to User; Sam, archived, holds nothing back.");
    let answer = office.delete(crew, "", "Delete weekend crew").await;
    story.refused("Delete it, the text typed carelessly", answer, "CONFIRMATION_MISMATCH");
    let deleted = office.delete(crew, "", &text).await?.into_inner();
    story.tell(
        "Delete it, typed exactly as shown",
        &format!("done; {} archived member lost it", deleted.stripped_archived_members),
        deleted.stripped_archived_members == 1,
    );
    let roles = office.roles_of("sam").await?;
    story.tell("Sam would come back without a role", &format!("{roles:?}"), roles.is_empty());
    let answer = office.delete(crew, "", &text).await;
    story.refused("Delete it again", answer, "ROLE_NOT_FOUND");
    Ok(())
}
