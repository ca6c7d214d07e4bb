//! Qpien's help article, "Managing user roles", sentence by sentence: each test is named after what
//! it says, and quotes it.
//!
//! Left to the end-to-end tests, because they are about stored roles and members:
//! - "default roles cannot be edited or deleted; you can only view their details": update and
//!   delete are refused, get and list show them.
//! - "enter a Name and a brief Description" ... "Save": create.
//! - "any custom role you create can be updated or permanently removed at any time": update
//!   ("changing its name, description, or toggle permissions on and off") and delete.
//! - "Enter the required confirmation text into the box exactly as shown": that GetRole shows it
//!   and DeleteRole compares it.
//! - "You cannot delete a custom role if it is currently assigned to any active user": refused, and
//!   accepted after "reassign those users to a different role"; archived ones do not hold it back.

use rolegate::domain::catalog::{Catalog, DeletionPolicy, Grantable};
use rolegate::domain::grant::GrantProblem;
use rolegate::domain::member::Subject;
use rolegate::domain::name::NameKey;
use rolegate::domain::plan::{QueryPlan, Term};
use rolegate::domain::resource::Resource;

use super::support::{self, holds, lacking, may, may_at_large, menu};

fn catalog() -> Catalog {
    support::catalog("qpien")
}

fn custom(written: &[&str]) -> Subject {
    support::with_custom_role(&catalog(), written).unwrap()
}

/// Asks about several conversations at once, by name.
fn reach(subject: &Subject, permission: &str) -> Vec<&'static str> {
    let conversations: [(&str, Resource); 7] = [
        ("someone else's", support::someone_elses()),
        ("mine", support::assigned_to_me()),
        ("my team's", support::in_my_team()),
        ("unassigned in my team", support::unassigned_in_my_team()),
        ("unassigned in another team", support::unassigned_in_another_team()),
        ("general pool", support::in_the_general_pool()),
        ("i take part", support::i_take_part_in()),
    ];
    let allowed = conversations
        .into_iter()
        .filter(|(_, conversation)| may(&catalog(), subject, permission, conversation));
    allowed.map(|(name, _)| name).collect()
}

/// "Qpien comes with four built-in default roles."
#[test]
fn there_are_four_built_in_default_roles() {
    let catalog = catalog();
    let roles = catalog.default_roles().iter().map(|role| role.title.get("en"));
    assert_eq!(roles.collect::<Vec<_>>(), ["Owner", "Admin", "User", "Limited User"]);
    assert_eq!(catalog.owner().as_str(), "owner");
}

/// "default roles cannot be edited or deleted": nor may a custom role pass for one of them.
#[test]
fn no_custom_role_may_have_the_name_of_a_default_role() {
    let catalog = catalog();
    for taken in ["owner", "Admin ", "USER", "limited user"] {
        assert!(catalog.default_role_named(&NameKey::of(taken)).is_some(), "{taken}");
    }
    assert!(catalog.default_role_named(&NameKey::of("limited_user")).is_none());
}

/// "The Owner has absolute full access to everything the platform offers, including billing, all
/// settings, and complete account management."
#[test]
fn the_owner_has_absolute_full_access_to_everything() {
    let catalog = catalog();
    let owner = support::with_default_role(&catalog, "owner");
    for (_, permission) in catalog.permissions() {
        assert!(may_at_large(&catalog, &owner, &permission.id), "{}", permission.id);
    }
    for named in ["billing.manage", "settings.webhooks.manage", "account.manage"] {
        assert!(may_at_large(&catalog, &owner, named), "{named}");
    }
}

/// "An Administrator operates almost exactly like an Owner, with full access to settings and
/// management tools, but with a slight restriction: Admins do not have access to Webhooks."
#[test]
fn the_admin_is_an_owner_without_webhooks() {
    let catalog = catalog();
    let [owner, admin] = ["owner", "admin"].map(|role| support::with_default_role(&catalog, role));
    let lacks = catalog
        .permissions()
        .filter(|(ix, _)| owner.granted(&catalog, *ix) != admin.granted(&catalog, *ix));
    let lacks: Vec<_> = lacks.map(|(_, permission)| permission.id.as_str()).collect();
    assert_eq!(lacks, ["settings.webhooks.manage"]);
    assert!(!holds(&catalog, &admin, "settings.webhooks.manage"));
}

/// "A User can access the Chat Page and Dashboard."
#[test]
fn a_user_can_access_the_chat_page_and_dashboard() {
    let catalog = catalog();
    let user = support::with_default_role(&catalog, "user");
    assert!(may_at_large(&catalog, &user, "chat.view"));
    assert!(may_at_large(&catalog, &user, "dashboard.view"));
    assert_eq!(menu(&catalog, &user), ["chat", "dashboard", "conversations", "contacts"]);
}

/// "view all messages sent to their assigned teams."
#[test]
fn a_user_can_view_all_messages_sent_to_their_teams() {
    let user = support::with_default_role(&catalog(), "user");
    assert_eq!(
        reach(&user, "conversation.view"),
        ["mine", "my team's", "unassigned in my team", "general pool"]
    );
}

/// "and assign conversations to themselves or other agents."
#[test]
fn a_user_can_assign_conversations_to_themselves_or_others() {
    let user = support::with_default_role(&catalog(), "user");
    assert_eq!(reach(&user, "conversation.assign"), reach(&user, "conversation.view"));
}

/// "A Limited User can only view the Chat Page and Dashboard."
#[test]
fn a_limited_user_can_only_view_the_chat_page_and_dashboard() {
    let catalog = catalog();
    let limited = support::with_default_role(&catalog, "limited_user");
    let held = catalog.permissions().filter(|(_, p)| holds(&catalog, &limited, &p.id));
    let held: Vec<_> = held.map(|(_, permission)| permission.id.as_str()).collect();
    assert_eq!(held, ["chat.view", "dashboard.view", "conversation.view", "conversation.reply"]);
}

/// "and can only respond to chats specifically assigned to them."
#[test]
fn a_limited_user_can_only_respond_to_chats_assigned_to_them() {
    let limited = support::with_default_role(&catalog(), "limited_user");
    assert_eq!(reach(&limited, "conversation.reply"), ["mine"]);
    assert_eq!(reach(&limited, "conversation.assign"), [""; 0]);
}

/// "They cannot view the general pool of unassigned messages." In the detail page and in the list
/// alike: the list's condition names neither the pool nor the teams.
#[test]
fn a_limited_user_cannot_view_the_general_pool_of_unassigned_messages() {
    let catalog = catalog();
    let limited = support::with_default_role(&catalog, "limited_user");
    assert!(!may(&catalog, &limited, "conversation.view", &support::in_the_general_pool()));
    let view = support::ix(&catalog, "conversation.view");
    assert_eq!(QueryPlan::of(&limited, &catalog, view), QueryPlan::AnyOf(vec![Term::Assignee]));
    let user = support::with_default_role(&catalog, "user");
    assert!(may(&catalog, &user, "conversation.view", &support::in_the_general_pool()));
}

/// "you can create a custom role with a unique combination of permissions."
#[test]
fn a_custom_role_is_any_combination_of_permissions() {
    let catalog = catalog();
    let subject = custom(&["report.view", "report.export", "settings.webhooks.manage"]);
    for (_, permission) in catalog.permissions() {
        let chosen = ["report.view", "report.export", "settings.webhooks.manage"];
        let expected = chosen.contains(&permission.id.as_str());
        assert_eq!(holds(&catalog, &subject, &permission.id), expected, "{}", permission.id);
    }
    assert!(catalog.plans().is_empty(), "no plan limits how many there are");
}

/// "Scroll through the permission tree (e.g., Conversations, Settings, etc.) and check the boxes":
/// each box can be checked, together with what it requires.
#[test]
fn every_box_of_the_permission_tree_can_be_checked() {
    let catalog = catalog();
    let titles: Vec<_> = catalog.sections().iter().map(|s| s.title.get("en")).collect();
    assert!(titles.contains(&"Conversations") && titles.contains(&"Settings"));
    for (_, permission) in catalog.permissions() {
        let scopes: Vec<_> =
            permission.scopes.iter().map(|ix| catalog.scope(*ix).id.as_str()).collect();
        let boxes = match scopes.as_slice() {
            [] => vec![permission.id.clone()],
            scopes => scopes.iter().map(|scope| format!("{} at {scope}", permission.id)).collect(),
        };
        for written in boxes {
            let grants = support::grants(&[&written]);
            let checked = rolegate::domain::grant::check_grants(&catalog, &grants, true);
            let never = permission.grantable == Grantable::Never;
            assert_eq!(checked.is_err(), never, "{written}: {checked:?}");
        }
    }
}

/// Nobody may reply to, assign or delete what they cannot view (DESIGN section 3).
#[test]
fn what_is_done_to_a_conversation_reaches_no_further_than_its_view() {
    for action in ["conversation.reply", "conversation.assign", "conversation.delete"] {
        for (view, scope, accepted) in [
            ("all", "team", true),
            ("team", "team", true),
            ("team", "team_only", true),
            ("team", "assigned", true),
            ("team_only", "team", false),
            ("team", "unassigned", false),
            ("unassigned", "team", false),
            ("participating", "assigned", true),
            ("assigned", "participating", false),
        ] {
            let view = format!("conversation.view at {view}");
            let action_at = format!("{action} at {scope}");
            let role = support::with_custom_role(&catalog(), &["chat.view", &view, &action_at]);
            match role {
                Ok(_) => assert!(accepted, "{action_at}, {view}"),
                Err(problems) => {
                    assert!(!accepted, "{action_at}, {view}");
                    let needed = "conversation.view".to_owned();
                    assert_eq!(lacking(&problems), [(action.to_owned(), needed)]);
                }
            }
        }
    }
}

/// What each scope of a conversation shows.
#[test]
fn each_scope_shows_its_conversations() {
    for (scope, shown) in [
        ("assigned", &["mine"][..]),
        ("participating", &["mine", "i take part"]),
        ("team_only", &["mine", "my team's", "unassigned in my team"]),
        ("team", &["mine", "my team's", "unassigned in my team", "general pool"]),
        (
            "unassigned",
            &["mine", "unassigned in my team", "unassigned in another team", "general pool"],
        ),
    ] {
        let subject = custom(&["chat.view", &format!("conversation.view at {scope}")]);
        assert_eq!(reach(&subject, "conversation.view"), shown, "{scope}");
    }
    let all = custom(&["chat.view", "conversation.view at all"]);
    assert_eq!(reach(&all, "conversation.view").len(), 7);
}

/// "Enter the required confirmation text into the box exactly as shown." "You cannot delete a custom
/// role if it is currently assigned to any active user."
#[test]
fn deleting_a_custom_role_is_confirmed_and_refused_while_assigned() {
    assert_eq!(
        catalog().deletion(),
        &DeletionPolicy::RefuseWhileAssigned { confirmation: Some("delete {name}".to_owned()) }
    );
}

/// Complete account management is the owner's and the admin's (DESIGN section 4).
#[test]
fn no_custom_role_manages_the_account() {
    let refused = support::with_custom_role(&catalog(), &["account.manage"]).unwrap_err();
    assert!(matches!(refused.as_slice(), [GrantProblem::NeverGrantable { .. }]));
}

/// "navigate to Settings > Company > Users ... and then click on the User Roles tab": who may.
#[test]
fn user_roles_and_users_have_a_guard_each() {
    let catalog = catalog();
    let guards = catalog.administration();
    let id = |ix| catalog.permission(ix).id.as_str();
    assert_eq!(id(guards.roles), "settings.roles.manage");
    assert_eq!(id(guards.members), "settings.users.manage");
    assert_eq!(id(guards.member_removal), "settings.users.manage");
    assert_eq!(catalog.roles_per_member(), 1);
}
