//! Every default role as an actor, by every mutation, on every kind of target, for both catalogs
//! that ship: the golden files beside this one, to be read against the seeds.
//!
//! `yes`: done. `permission`: the actor lacks the catalog's administration permission. `self`: its
//! own roles, teams, status, or role. `owner`: owners by owners. `better`: who holds what it lacks.
//! `lacks`: it would give what it lacks. The others are what anybody would be told: `not found`, and
//! `held` of a role that is to be deleted.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use rolegate::domain::ids::{MemberId, RoleId};
use rolegate::domain::member::MemberStatus;
use rolegate::service::roles::{Deletion, RoleEdit};
use rolegate::service::upsert::{Batch, BatchMode, ItemOutcome, Upsert};

use super::{House, alone, draft, grants, member, name, outcome, role, team_ids, trial};

/// A product, and the custom roles that the matrix needs in it.
struct Product {
    catalog: &'static str,
    defaults: &'static [&'static str],
    /// Administers members and roles, and reaches only what is in its teams.
    lead: &'static [&'static str],
    small: &'static [&'static str],
    /// What no administrator holds but the owner, or the lead at least does not.
    large: &'static [&'static str],
    /// `small` with more that the lead holds.
    wider: &'static [&'static str],
}

const PRODUCTS: [Product; 2] = [
    Product {
        catalog: "oqupie",
        defaults: &["owner", "admin", "pro_agent", "agent"],
        lead: &[
            "ticket.work at group",
            "customer.edit",
            "management.execute",
            "organization.member.manage",
            "organization.member.delete",
            "organization.role.manage",
        ],
        small: &["customer.edit"],
        large: &["ticket.work at all"],
        wider: &["customer.edit", "ticket.work at group"],
    },
    Product {
        catalog: "qpien",
        defaults: &["owner", "admin", "user", "limited_user"],
        lead: &[
            "chat.view",
            "dashboard.view",
            "conversation.view at team_only",
            "conversation.reply at team_only",
            "settings.users.manage",
            "settings.roles.manage",
        ],
        small: &["chat.view"],
        large: &["settings.webhooks.manage"],
        wider: &["chat.view", "conversation.view at team_only"],
    },
];

/// A row for each thing that is tried, a column for each actor.
struct Matrix {
    actors: Vec<(String, MemberId)>,
    table: String,
}

impl Matrix {
    fn new(actors: Vec<(String, MemberId)>) -> Self {
        let mut matrix = Matrix { actors, table: String::new() };
        let names: Vec<String> = matrix.actors.iter().map(|(name, _)| name.clone()).collect();
        matrix.line("mutation", "target", names.iter().map(String::as_str));
        matrix
    }

    fn line<'a>(&mut self, what: &str, target: &str, cells: impl Iterator<Item = &'a str>) {
        let mut line = format!("{what:<13} {target:<26}");
        for cell in cells {
            write!(line, " {cell:<12}").unwrap();
        }
        self.table.push_str(line.trim_end());
        self.table.push('\n');
    }

    /// Asks every actor, in a trial, so that all meet the same state.
    async fn row(&mut self, what: &str, target: &str, ask: impl AsyncFn(MemberId) -> String) {
        let mut cells = Vec::new();
        for (_, actor) in &self.actors {
            let said = ask(actor.clone()).await;
            cells.push(match said.as_str() {
                "ACTOR_NOT_PERMITTED" => "permission".to_owned(),
                "ACTOR_IS_SUBJECT" => "self".to_owned(),
                "OWNER_REQUIRED" => "owner".to_owned(),
                "ACTOR_OUTRANKED" => "better".to_owned(),
                "ACTOR_LACKS_GRANT" => "lacks".to_owned(),
                "MemberNotFound" | "RoleNotFound" => "not found".to_owned(),
                "RoleAssigned" => "held".to_owned(),
                _ => said,
            });
        }
        self.line(what, target, cells.iter().map(String::as_str));
    }
}

async fn table(product: &Product) -> String {
    let house = House::sqlite(product.catalog).await;
    let mut roles: Vec<(&str, RoleId)> =
        product.defaults.iter().map(|id| (*id, role(id))).collect();
    for (id, written) in
        [("lead", product.lead), ("small", product.small), ("large", product.large)]
    {
        roles.push((id, house.role(id, written).await));
    }
    let mut actors = Vec::new();
    for (id, held) in &roles {
        if product.defaults.contains(id) || *id == "lead" {
            let actor = house.hire(&format!("actor-{id}"), &[held], &["mine"]).await;
            actors.push(((*id).to_owned(), actor));
        }
        // Of each kind a target, and an archived one.
        house.hire(&format!("t-{id}"), &[held], &["mine"]).await;
        let archived = house.hire(&format!("x-{id}"), &[held], &["mine"]).await;
        let status = MemberStatus::Archived;
        house.members.set_status(alone(), &house.tenant, &archived, status, None).await.unwrap();
    }
    house.hire("t-none", &[], &[]).await;
    let lead = roles.iter().find(|(id, _)| *id == "lead").unwrap().1.clone();
    house.hire("o-lead", &[&lead], &["other"]).await;
    house.hire("o-none", &[], &["other"]).await;
    actors.push(("none".to_owned(), house.hire("actor-none", &[], &[]).await));
    for (id, written) in [("spare small", product.small), ("spare large", product.large)] {
        roles.push((id, house.role(id, written).await));
    }
    let before = house.revision().await;
    let mut matrix = Matrix::new(actors);
    let held = &roles[..roles.len() - 2];
    of_members(&mut matrix, &house, held).await;
    of_another_team(&mut matrix, &house).await;
    of_batches(&mut matrix, &house, held).await;
    of_roles(&mut matrix, &house, product, &roles).await;
    assert_eq!(house.revision().await, before, "these were trials");
    let recorded = house.audit(None).await;
    assert!(recorded.iter().all(|event| event.refusal.is_none()), "trials are not recorded");
    matrix.table
}

async fn of_members(matrix: &mut Matrix, house: &House, roles: &[(&str, RoleId)]) {
    let (all, tenant) = (&house.members, &house.tenant);
    let (active, archived) = (MemberStatus::Active, MemberStatus::Archived);
    for (id, given) in roles {
        let given = std::slice::from_ref(given);
        let ask = async |actor: MemberId| {
            outcome(all.create(trial(&actor), tenant, &member("new"), given, &[]).await)
        };
        matrix.row("CreateMember", &format!("as {id}"), ask).await;
    }
    for (id, given) in roles {
        let given = std::slice::from_ref(given);
        let ask = async |actor: MemberId| {
            outcome(all.assign_roles(trial(&actor), tenant, &member("t-none"), given, None).await)
        };
        matrix.row("AssignRoles", id, ask).await;
    }
    for (id, _) in roles {
        let target = member(&format!("t-{id}"));
        let ask = async |actor: MemberId| {
            outcome(all.assign_roles(trial(&actor), tenant, &target, &[], None).await)
        };
        matrix.row("AssignRoles", &format!("none, to {id}"), ask).await;
    }
    for (id, _) in roles {
        let target = member(&format!("t-{id}"));
        let teams = team_ids(&["mine", "other"]);
        let ask = async |actor: MemberId| {
            outcome(all.set_teams(trial(&actor), tenant, &target, &teams, None).await)
        };
        matrix.row("UpdateMember", &format!("{id}, another team"), ask).await;
    }
    for (method, kind, status) in [("ArchiveMember", "t", archived), ("RestoreMember", "x", active)]
    {
        for (id, _) in roles {
            let target = member(&format!("{kind}-{id}"));
            let ask = async |actor: MemberId| {
                outcome(all.set_status(trial(&actor), tenant, &target, status, None).await)
            };
            matrix.row(method, id, ask).await;
        }
    }
    for (kind, state) in [("t", "active"), ("x", "archived")] {
        for (id, _) in roles {
            let target = member(&format!("{kind}-{id}"));
            let ask = async |actor: MemberId| {
                outcome(all.delete(trial(&actor), tenant, &target, None).await)
            };
            matrix.row("DeleteMember", &format!("{id}, {state}"), ask).await;
        }
    }
    let itself = async |actor: MemberId| {
        outcome(all.assign_roles(trial(&actor), tenant, &actor, &[], None).await)
    };
    // Nothing changes for whoever has none.
    matrix.row("AssignRoles", "none, to itself", itself).await;
    let itself = async |actor: MemberId| {
        outcome(all.set_teams(trial(&actor), tenant, &actor, &team_ids(&["x"]), None).await)
    };
    matrix.row("UpdateMember", "itself", itself).await;
    let itself = async |actor: MemberId| {
        outcome(all.set_status(trial(&actor), tenant, &actor, archived, None).await)
    };
    matrix.row("ArchiveMember", "itself", itself).await;
    let itself =
        async |actor: MemberId| outcome(all.delete(trial(&actor), tenant, &actor, None).await);
    matrix.row("DeleteMember", "itself", itself).await;
    // Whoever lacks the permission does not learn who there is.
    let stranger = member("stranger");
    let ask = async |actor: MemberId| {
        outcome(all.assign_roles(trial(&actor), tenant, &stranger, &[], None).await)
    };
    matrix.row("AssignRoles", "none, to a stranger", ask).await;
    let ask =
        async |actor: MemberId| outcome(all.delete(trial(&actor), tenant, &stranger, None).await);
    matrix.row("DeleteMember", "a stranger", ask).await;
}

/// Of members who are in a team that no actor is in: one who holds what the lead holds in its own
/// team only, and one who holds nothing.
async fn of_another_team(matrix: &mut Matrix, house: &House) {
    let (all, tenant) = (&house.members, &house.tenant);
    for id in ["lead", "none"] {
        let target = member(&format!("o-{id}"));
        let of = |what: &str| match what {
            "" => format!("{id} of another team"),
            what => format!("{id} of another, {what}"),
        };
        let ask = async |actor: MemberId| {
            outcome(all.assign_roles(trial(&actor), tenant, &target, &[], None).await)
        };
        matrix.row("AssignRoles", &of("none"), ask).await;
        for (what, teams) in [("none", &[][..]), ("mine", &["mine"]), ("both", &["mine", "other"])]
        {
            let teams = team_ids(teams);
            let ask = async |actor: MemberId| {
                outcome(all.set_teams(trial(&actor), tenant, &target, &teams, None).await)
            };
            matrix.row("UpdateMember", &of(what), ask).await;
        }
        let ask = async |actor: MemberId| {
            let archived = MemberStatus::Archived;
            outcome(all.set_status(trial(&actor), tenant, &target, archived, None).await)
        };
        matrix.row("ArchiveMember", &of(""), ask).await;
        let ask =
            async |actor: MemberId| outcome(all.delete(trial(&actor), tenant, &target, None).await);
        matrix.row("DeleteMember", &of(""), ask).await;
    }
}

/// Of one item; that all-or-nothing says the same is asserted.
async fn of_batches(matrix: &mut Matrix, house: &House, roles: &[(&str, RoleId)]) {
    let ask = async |actor: MemberId, item: Upsert| {
        let mut said = Vec::new();
        for mode in [BatchMode::AllOrNothing, BatchMode::ItemByItem] {
            let batch =
                Batch { items: vec![Ok(item.clone())], mode, archive_absent: false, etag: None };
            let done = house.members.upsert(trial(&actor), &house.tenant, batch).await;
            said.push(match &done {
                Ok(written) => match &written.value.items[0].1 {
                    ItemOutcome::Refused(refusal) => name(refusal),
                    _ => "yes".to_owned(),
                },
                Err(_) => outcome(done),
            });
        }
        assert_eq!(said[0], said[1]);
        said.swap_remove(0)
    };
    let untouched = |id: &str| Upsert { id: member(id), roles: None, teams: None, status: None };
    for (id, given) in roles {
        let item = Upsert { roles: Some(vec![given.clone()]), ..untouched("new") };
        let ask = async |actor: MemberId| ask(actor, item.clone()).await;
        matrix.row("BatchUpsert", &format!("new as {id}"), ask).await;
    }
    for (id, _) in roles {
        let status = Some(MemberStatus::Archived);
        let item = Upsert { status, ..untouched(&format!("t-{id}")) };
        let ask = async |actor: MemberId| ask(actor, item.clone()).await;
        matrix.row("BatchUpsert", &format!("{id}, archived"), ask).await;
    }
    let itself = async |actor: MemberId| {
        let item = Upsert { teams: Some(team_ids(&["x"])), ..untouched(actor.as_str()) };
        ask(actor, item).await
    };
    matrix.row("BatchUpsert", "itself", itself).await;
    let itself = async |actor: MemberId| ask(actor.clone(), untouched(actor.as_str())).await;
    matrix.row("BatchUpsert", "itself, unchanged", itself).await;
}

async fn of_roles(matrix: &mut Matrix, house: &House, product: &Product, roles: &[(&str, RoleId)]) {
    let (all, tenant) = (&house.roles, &house.tenant);
    let id_of = |name: &str| roles.iter().find(|(id, _)| *id == name).unwrap().1.clone();
    for (what, written) in [("small", product.small), ("large", product.large)] {
        let ask = async |actor: MemberId| {
            outcome(all.create(trial(&actor), tenant, &draft("New", written)).await)
        };
        matrix.row("CreateRole", what, ask).await;
    }
    for (id, source) in roles {
        let ask = async |actor: MemberId| {
            outcome(all.clone_role(trial(&actor), tenant, source, "Copy", None).await)
        };
        matrix.row("CloneRole", id, ask).await;
    }
    let both: Vec<&str> = product.small.iter().chain(product.large).copied().collect();
    let lead_and_more: Vec<&str> = match product.catalog {
        "oqupie" => product.lead.iter().chain(&["ticket.delete"]).copied().collect(),
        _ => product.lead.iter().chain(&["settings.webhooks.manage"]).copied().collect(),
    };
    for (what, id, written) in [
        ("small, wider", "small", product.wider),
        ("small, as large", "small", both.as_slice()),
        ("small, emptied", "small", &[]),
        ("large, and small", "large", both.as_slice()),
        ("large, emptied", "large", &[]),
        ("lead, and more", "lead", &lead_and_more),
    ] {
        let id = id_of(id);
        let edit = RoleEdit { grants: Some(grants(written)), ..RoleEdit::default() };
        let ask =
            async |actor: MemberId| outcome(all.update(trial(&actor), tenant, &id, &edit).await);
        matrix.row("UpdateRole", what, ask).await;
    }
    let id = id_of("large");
    let edit = RoleEdit { name: Some("Renamed".into()), ..RoleEdit::default() };
    let ask = async |actor: MemberId| outcome(all.update(trial(&actor), tenant, &id, &edit).await);
    matrix.row("UpdateRole", "large, renamed", ask).await;
    let reassigns = product.catalog == "oqupie";
    for name in ["small", "large", "lead", "spare small", "spare large"] {
        let id = id_of(name);
        let confirmation = all.get(tenant, &id, "").await.unwrap().confirmation;
        for (target_name, target) in roles {
            let skipped = target_name.starts_with("spare") || *target_name == name;
            if skipped || (!reassigns && *target_name != "owner") {
                continue;
            }
            let deletion = Deletion {
                reassign_to: reassigns.then(|| target.clone()),
                confirmation: confirmation.clone().unwrap_or_default(),
                etag: None,
            };
            let ask = async |actor: MemberId| {
                outcome(all.delete(trial(&actor), tenant, &id, &deletion).await)
            };
            let to = if reassigns { format!(", to {target_name}") } else { String::new() };
            matrix.row("DeleteRole", &format!("{name}{to}"), ask).await;
        }
    }
    let ask = async |actor: MemberId| {
        let deletion = Deletion::default();
        outcome(all.delete(trial(&actor), tenant, &role("nowhere"), &deletion).await)
    };
    matrix.row("DeleteRole", "one that is not there", ask).await;
}

#[tokio::test]
async fn every_role_administers_as_written_down() {
    let golden = [include_str!("golden/oqupie.txt"), include_str!("golden/qpien.txt")];
    for (product, golden) in PRODUCTS.iter().zip(golden) {
        let table = Box::pin(table(product)).await;
        let tried: BTreeSet<&str> =
            table.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
        let all = [
            "ArchiveMember",
            "AssignRoles",
            "BatchUpsert",
            "CloneRole",
            "CreateMember",
            "CreateRole",
            "DeleteMember",
            "DeleteRole",
            "RestoreMember",
            "UpdateMember",
            "UpdateRole",
        ];
        assert_eq!(tried.into_iter().collect::<Vec<_>>(), all);
        assert!(table == golden, "{}.txt should be:\n{table}", product.catalog);
    }
}
