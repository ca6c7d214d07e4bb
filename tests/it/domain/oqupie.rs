//! OQUPIE's help article, "Create New Roles", sentence by sentence: each test is named after what
//! it says, and quotes it.
//!
//! Left to the end-to-end tests, because they are about stored roles and members:
//! - "The Account owner role is given to newly created account at first": creating a tenant.
//! - "Enter name and description of the role and select authority" ... "New role will be added to
//!   Manage Roles page": create, then list.
//! - "Click new role for editing" ... "save changes": update, and that members follow at once.
//! - "assign a new role to a member who is playing the role to be deleted": delete with
//!   reassignment, in one transaction.
//! - "its details cannot be changed or deleted": updating and deleting a default role is refused.
//! - "up to 5": the sixth create is refused, also when creates run concurrently.
//! - "Select a member to grant a new role": assignment, and who may do it.

use rolegate::domain::catalog::{Catalog, DeletionPolicy, Grantable};
use rolegate::domain::grant::{GrantProblem, check_grants};
use rolegate::domain::member::Subject;
use rolegate::domain::name::{NameKey, RoleName, parse_description};
use rolegate::domain::resource::Resource;

use super::support::{self, holds, lacking, may, may_at_large, menu};

fn catalog() -> Catalog {
    support::catalog("oqupie")
}

fn custom(written: &[&str]) -> Subject {
    support::with_custom_role(&catalog(), written).unwrap()
}

fn refused(written: &[&str]) -> Vec<GrantProblem> {
    support::with_custom_role(&catalog(), written).unwrap_err()
}

/// Asks about several resources at once, by name.
fn reach(subject: &Subject, permission: &str) -> Vec<&'static str> {
    let resources: [(&str, Resource); 5] = [
        ("someone else's", support::someone_elses()),
        ("mine", support::assigned_to_me()),
        ("my group's", support::in_my_team()),
        ("made by me", support::made_by_me()),
        ("public", support::set_to_public()),
    ];
    let allowed = resources
        .into_iter()
        .filter(|(_, resource)| may(&catalog(), subject, permission, resource));
    allowed.map(|(name, _)| name).collect()
}

const ALL: [&str; 5] = ["someone else's", "mine", "my group's", "made by me", "public"];

/// "If you are using an Enterprise Plan, you can create new roles other than basic roles."
/// "You can add up to 5 'New Roles'."
#[test]
fn an_enterprise_plan_has_up_to_5_new_roles_and_the_others_none() {
    let catalog = catalog();
    let limits: Vec<_> =
        catalog.plans().iter().map(|plan| (plan.id.as_str(), plan.custom_roles)).collect();
    assert_eq!(
        limits,
        [("free", Some(0)), ("basic", Some(0)), ("pro", Some(0)), ("enterprise", Some(5))]
    );
}

/// "Freely define roles that fit your organization and work system."
#[test]
fn everything_that_is_not_reserved_can_be_freely_combined_in_a_new_role() {
    let catalog = catalog();
    let everything: Vec<String> = catalog
        .permissions()
        .filter(|(_, permission)| permission.grantable == Grantable::Yes)
        .map(|(_, permission)| match permission.scopes.as_slice() {
            [] => permission.id.clone(),
            _ => format!("{} at all", permission.id),
        })
        .collect();
    let everything: Vec<_> = everything.iter().map(String::as_str).collect();
    let subject = custom(&everything);
    for (_, permission) in catalog.permissions() {
        let reserved = permission.grantable == Grantable::Never;
        assert_eq!(holds(&catalog, &subject, &permission.id), !reserved, "{}", permission.id);
    }
}

/// "Basic role is a default role defined by OQUPIE as account owner, admin, pro agent, or agent."
#[test]
fn the_basic_roles_are_account_owner_admin_pro_agent_and_agent() {
    let catalog = catalog();
    let roles = catalog.default_roles().iter().map(|role| role.title.get("en"));
    assert_eq!(roles.collect::<Vec<_>>(), ["Account owner", "Admin", "Pro agent", "Agent"]);
    assert_eq!(catalog.owner().as_str(), "owner");
}

/// "The Account owner has complete access to all the features in OQUPIE, including editing and
/// deleting accounts."
#[test]
fn the_account_owner_has_complete_access_to_all_the_features() {
    let catalog = catalog();
    let owner = support::with_default_role(&catalog, "owner");
    for (ix, permission) in catalog.permissions() {
        if !matches!(permission.grantable, Grantable::Base(_)) {
            assert!(may_at_large(&catalog, &owner, &permission.id), "{}", permission.id);
        }
        assert!(!owner.granted(&catalog, ix).is_empty(), "{}", permission.id);
    }
    assert!(may_at_large(&catalog, &owner, "account.manage"));
}

/// "The Admin has access to all the features in OQUPIE except 'Manage Account'."
#[test]
fn the_admin_has_all_the_features_except_manage_account() {
    let catalog = catalog();
    let [owner, admin] = ["owner", "admin"].map(|role| support::with_default_role(&catalog, role));
    for (ix, permission) in catalog.permissions() {
        let (owner, admin) = (owner.granted(&catalog, ix), admin.granted(&catalog, ix));
        if permission.id == "account.manage" {
            assert!(admin.is_empty());
        } else {
            assert_eq!(admin, owner, "{}", permission.id);
        }
    }
}

/// "Also, the Admin can work on all the received tickets."
#[test]
fn the_admin_can_work_on_all_the_received_tickets() {
    let admin = support::with_default_role(&catalog(), "admin");
    assert_eq!(reach(&admin, "ticket.work"), ALL);
}

/// "The Pro agent work as a bridge between manager and agents. Apart from the agent role, pro agent
/// has access to Check All Tickets, Admin Notification Settings, etc."
#[test]
fn the_pro_agent_has_what_an_agent_has_and_all_tickets_and_notification_settings() {
    let catalog = catalog();
    let [pro, agent] =
        ["pro_agent", "agent"].map(|role| support::with_default_role(&catalog, role));
    let mut more = Vec::new();
    for (ix, permission) in catalog.permissions() {
        let (pro, agent) = (pro.granted(&catalog, ix), agent.granted(&catalog, ix));
        assert!(pro.includes(agent), "{}", permission.id);
        if pro != agent {
            more.push(permission.id.as_str());
        }
    }
    // The switch is what the notification settings require.
    assert_eq!(more, ["ticket.work", "management.execute", "notification.manage"]);
    assert_eq!(reach(&pro, "ticket.work"), ALL);
}

/// "The Agent ... has access to Tickets, Manage Customer, My Profile, Knowledge Base and Canned
/// Response."
#[test]
fn the_agent_has_tickets_customers_my_profile_knowledge_base_and_canned_responses() {
    let catalog = catalog();
    let agent = support::with_default_role(&catalog, "agent");
    assert_eq!(
        menu(&catalog, &agent),
        // The personal dashboard is everybody's.
        ["dashboard", "ticket", "customer", "knowledge_base", "canned_response", "profile"]
    );
    assert_eq!(reach(&agent, "ticket.work"), ["mine", "my group's"]);
    for denied in ["ticket.delete", "ticket.block", "customer.delete", "knowledge_base.delete"] {
        assert!(!holds(&catalog, &agent, denied), "{denied}");
    }
}

/// "Enter name and description of the role and select authority."
#[test]
fn a_new_role_has_a_name_a_description_and_authority() {
    assert!(RoleName::parse("Night shift").is_ok());
    assert!(parse_description("Answers at night.").is_ok());
    let catalog = catalog();
    let chosen = support::grants(&["ticket.work at group", "ticket.delete"]);
    assert_eq!(check_grants(&catalog, &chosen, false), Ok(chosen));
}

/// "Set a dashboard that can be viewed by members. See View admin dashboard. Refer. All members can
/// view the 'Personal Dashboard'."
#[test]
fn the_admin_dashboard_can_be_set_and_all_members_view_the_personal_one() {
    let catalog = catalog();
    let anyone = support::without_role();
    assert!(may_at_large(&catalog, &anyone, "dashboard.personal.view"));
    assert!(!may_at_large(&catalog, &anyone, "dashboard.admin.view"));
    assert!(may_at_large(&catalog, &custom(&["dashboard.admin.view"]), "dashboard.admin.view"));
}

/// "Scope of Ticket Box to work on - View and edit all tickets or - View and edit tickets assigned
/// to me and my group."
#[test]
fn tickets_are_worked_on_all_of_them_or_those_of_me_and_my_group() {
    assert_eq!(reach(&custom(&["ticket.work at all"]), "ticket.work"), ALL);
    assert_eq!(reach(&custom(&["ticket.work at group"]), "ticket.work"), ["mine", "my group's"]);
}

/// "Additional Action - Register Spam (ticket block) and customer block - Delete ticket."
#[test]
fn additional_actions_on_tickets_reach_as_far_as_the_scope_of_work() {
    let actions = ["ticket.block", "ticket.delete"];
    for (scope, reaches) in
        [("ticket.work at group", &["mine", "my group's"][..]), ("ticket.work at all", &ALL[..])]
    {
        for action in actions {
            assert_eq!(reach(&custom(&[scope, action]), action), reaches, "{action}, {scope}");
            assert_eq!(reach(&custom(&[scope]), action), [""; 0], "{action} is its own checkbox");
        }
    }
    for action in actions {
        assert_eq!(lacking(&refused(&[action])), [(action.to_owned(), "ticket.work".to_owned())]);
    }
}

/// "Edit customer (add/edit) - Delete customer. Refer. If you cancel all the above features, member
/// can only access to 'View' in Manage Customer."
#[test]
fn without_edit_and_delete_customers_can_only_be_viewed() {
    let catalog = catalog();
    let cancelled = custom(&["ticket.work at group"]);
    assert!(may_at_large(&catalog, &cancelled, "customer.view"));
    for feature in ["customer.edit", "customer.delete"] {
        assert!(!may_at_large(&catalog, &cancelled, feature), "{feature}");
        assert!(may_at_large(&catalog, &custom(&[feature]), feature), "{feature}");
    }
}

/// "Scope of work (All/individual) - by all or - by me, and work content (action on scope of work)
/// - Edit (Add / Edit) - Delete": the article says it of the knowledge base and of canned responses.
#[test]
fn articles_and_canned_responses_are_worked_on_by_all_or_by_me() {
    for what in ["knowledge_base", "canned_response"] {
        for (scope, reaches) in [("own", &["made by me"][..]), ("all", &ALL[..])] {
            let work = format!("{what}.work");
            let scope = format!("{work} at {scope}");
            assert_eq!(reach(&custom(&[&scope]), &work), reaches, "{scope}");
            for action in [format!("{what}.edit"), format!("{what}.delete")] {
                assert_eq!(reach(&custom(&[&scope, &action]), &action), reaches, "{action}");
                assert_eq!(reach(&custom(&[&scope]), &action), [""; 0], "{action}");
                assert_eq!(lacking(&refused(&[&action])), [(action, work.clone())]);
            }
        }
    }
}

/// "Refer. All members can only view and use 'Canned Response' that are set to 'Public', no matter
/// what the scope of work or content is."
#[test]
fn all_members_view_and_use_what_is_set_to_public() {
    for what in ["knowledge_base", "canned_response"] {
        let (public, work) = (format!("{what}.use_public"), format!("{what}.work"));
        for subject in [support::without_role(), custom(&[&format!("{work} at own")])] {
            assert_eq!(reach(&subject, &public), ["public"]);
            assert!(!reach(&subject, &work).contains(&"public"), "using it is not working on it");
        }
        assert!(matches!(
            refused(&[&public]).as_slice(),
            [GrantProblem::HeldByEveryone { index: 0, .. }]
        ));
    }
}

/// "View Overview Report - View Daily Detailed Report - View Status Members - Export as CSV."
#[test]
fn reports_are_viewed_one_by_one_and_exported_by_who_views_any() {
    let catalog = catalog();
    let views = ["report.overview.view", "report.daily.view", "report.members.view"];
    for view in views {
        let subject = custom(&[view, "report.export"]);
        assert!(may_at_large(&catalog, &subject, "report.export"), "{view}");
        for other in views {
            assert_eq!(may_at_large(&catalog, &subject, other), other == view, "{other}");
        }
    }
    let needed = views.map(|view| ("report.export".to_owned(), view.to_owned()));
    assert_eq!(lacking(&refused(&["report.export"])), needed);
}

/// "Refer. If all 'View Report' is canceled, 'Report' menu does not show up on the member's(role's)
/// account."
#[test]
fn the_report_menu_shows_only_with_a_view_of_reports() {
    let catalog = catalog();
    let shows = |subject: &Subject| menu(&catalog, subject).contains(&"report".to_owned());
    for view in ["report.overview.view", "report.daily.view", "report.members.view"] {
        assert!(shows(&custom(&[view])), "{view}");
    }
    assert!(!shows(&custom(&["ticket.work at all"])));
    assert!(!shows(&support::with_default_role(&catalog, "agent")));
}

/// "You can define 'Manage Role Execution' such as Brands, Organization, Set Gadget. - Do not
/// execute Manage Role or - Execute Manage Role."
#[test]
fn nothing_of_management_works_without_execute_manage_role() {
    let catalog = catalog();
    let management = catalog.sections().iter().position(|s| s.id == "management").unwrap();
    let mut below = 0;
    for (_, permission) in catalog.permissions() {
        let parent = catalog.section(permission.section).parent;
        if parent.is_some_and(|parent| parent.get() == management) {
            below += 1;
            let problems = refused(&[&permission.id]);
            let missing = lacking(&problems);
            assert!(
                missing.iter().any(|(_, needed)| needed == "management.execute"),
                "{}: {missing:?}",
                permission.id
            );
        }
    }
    assert_eq!(below, 16);
    let switched_on = custom(&["management.execute"]);
    assert!(menu(&catalog, &switched_on).contains(&"management".to_owned()));
}

/// "Refer. In Connect, Delivery Bot, Schedule Bot, Customer Noti-bot, Organization, Manage Brand,
/// access to view must be selected to setup edit and delete."
#[test]
fn access_to_view_must_be_selected_to_set_up_edit_and_delete() {
    for (view, needing) in [
        ("connect.view", &["connect.edit", "connect.delete"][..]),
        ("delivery_bot.view", &["delivery_bot.edit", "delivery_bot.delete"]),
        ("schedule_bot.view", &["schedule_bot.edit"]),
        ("customer_notibot.view", &["customer_notibot.edit"]),
        ("organization.member.manage", &["organization.member.delete", "organization.role.manage"]),
        ("brand.manage", &["brand.delete"]),
    ] {
        for permission in needing {
            let missing = lacking(&refused(&["management.execute", permission]));
            assert_eq!(missing, [((*permission).to_owned(), view.to_owned())]);
            let subject = custom(&["management.execute", view, permission]);
            assert!(may_at_large(&catalog(), &subject, permission), "{permission}");
        }
    }
}

/// "Notification Settings - Manage all notifications."
#[test]
fn notification_settings_can_be_given_to_a_new_role() {
    let subject = custom(&["management.execute", "notification.manage"]);
    assert!(may_at_large(&catalog(), &subject, "notification.manage"));
    assert!(menu(&catalog(), &subject).contains(&"notification".to_owned()));
}

/// "Organization - Manage member and group (view/add/edit) - Delete member and group - Manage roles
/// (add/edit/delete)": they guard the administration calls.
#[test]
fn organization_permissions_guard_the_administration_calls() {
    let catalog = catalog();
    let guards = catalog.administration();
    let id = |ix| catalog.permission(ix).id.as_str();
    assert_eq!(id(guards.roles), "organization.role.manage");
    assert_eq!(id(guards.members), "organization.member.manage");
    assert_eq!(id(guards.member_removal), "organization.member.delete");
}

/// "'New Role' defined by the user cannot have access to 'Payments' and 'System' which are only for
/// admin and above." Nor to the account, which even an admin has no access to.
#[test]
fn no_new_role_has_payments_or_system_which_are_for_admin_and_above() {
    let catalog = catalog();
    for (permission, holders) in [
        ("payment.manage", &["owner", "admin"][..]),
        ("system.manage", &["owner", "admin"]),
        ("account.manage", &["owner"]),
    ] {
        assert!(
            matches!(refused(&[permission]).as_slice(), [GrantProblem::NeverGrantable { .. }]),
            "{permission}"
        );
        for role in ["owner", "admin", "pro_agent", "agent"] {
            let subject = support::with_default_role(&catalog, role);
            let held = may_at_large(&catalog, &subject, permission);
            assert_eq!(held, holders.contains(&role), "{permission}, {role}");
        }
    }
}

/// "In the 'Delete Roles window', assign a new role to a member who is playing the role to be
/// deleted and click the Delete button."
#[test]
fn deleting_a_new_role_gives_its_members_another_one() {
    assert_eq!(catalog().deletion(), &DeletionPolicy::Reassign);
}

/// "Account owner, admin, pro agent and agent are basic roles defined by OQUPIE. Thus. its details
/// cannot be changed or deleted": nor may a new role pass for one of them.
#[test]
fn no_new_role_may_have_the_name_of_a_basic_role() {
    let catalog = catalog();
    for taken in ["Account owner", "ADMIN", " pro agent ", "Ａgent"] {
        assert!(catalog.default_role_named(&NameKey::of(taken)).is_some(), "{taken}");
    }
    assert!(catalog.default_role_named(&NameKey::of("Agents")).is_none());
}

/// "Select a new role and click 'update'": one role at a time.
#[test]
fn a_member_has_one_role() {
    assert_eq!(catalog().roles_per_member(), 1);
}
