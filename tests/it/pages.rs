//! Pages through a tenant with many members.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rolegate::domain::Timestamp;
use rolegate::domain::catalog::{Catalog, CatalogRef, shipped};
use rolegate::domain::grant::Grant;
use rolegate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use rolegate::domain::member::{Member, MemberStatus};
use rolegate::domain::name::RoleName;
use rolegate::domain::resource::Resource;
use rolegate::domain::role::CustomRole;
use rolegate::domain::tenant::{Tenant, TenantState};
use rolegate::service::page::{PageRequest, Pager};
use rolegate::service::preview::{Preview, RoleChange};
use rolegate::service::roles::Roles;
use rolegate::service::seal::Seal;
use rolegate::service::token::{Consistency, Tokens};
use rolegate::store::{AuditEntry, OpenOptions, SqlStore, Touched};
use tempfile::TempDir;

/// A tenant of `members`: half of them hold the default role `user`, the others the custom role `half`,
/// and all are in one of fifty teams; but for ten, spread evenly, who hold `few` and are in the team
/// `ten`.
pub(crate) struct House {
    roles: Roles,
    pub(crate) store: SqlStore,
    seal: Seal,
    pub(crate) tenant: TenantId,
    _directory: TempDir,
}

impl House {
    pub(crate) async fn of(members: usize, custom_roles: usize) -> House {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("rolegate.db").display());
        let store = SqlStore::open(&OpenOptions::new(url)).await.unwrap();
        for source in shipped() {
            store.register(Arc::new(Catalog::parse(source).unwrap()));
        }
        let seal = Seal::new(store.identity().signing_key);
        let roles = Roles::new(store.clone(), Tokens::new(store.identity()), seal.clone());
        let tenant = TenantId::parse("acme").unwrap();
        let house = House { roles, store, seal, tenant, _directory: directory };
        let row = Tenant {
            id: house.tenant.clone(),
            catalog: CatalogRef { id: "qpien".into(), version: 1 },
            plan: None,
            state: TenantState::Active,
            revision: 1,
            own_revision: 1,
            created_at: Timestamp(1),
            updated_at: Timestamp(1),
            purge_at: None,
        };
        let tx = house.store.write(&house.tenant).await.unwrap();
        tx.put_tenant(&row).await.unwrap();
        tx.put_role(&role("half", &["chat.view", "report.view"])).await.unwrap();
        tx.put_role(&role("few", &["report.view", "report.export"])).await.unwrap();
        for n in 0..custom_roles {
            tx.put_role(&role(&format!("unused-{n}"), &["chat.view", "contact.view"]))
                .await
                .unwrap();
        }
        let step = members / 10;
        let all: Vec<_> = (0..members)
            .map(|n| match n {
                _ if n % step == 7 => member(n, "few", "ten"),
                _ if n % 2 == 0 => member(n, "half", &format!("desk-{}", n % 50)),
                _ => member(n, "user", &format!("desk-{}", n % 50)),
            })
            .collect();
        tx.put_members(&all).await.unwrap();
        tx.commit(Touched::Nothing, entry()).await.unwrap();
        house
    }

    async fn add(&self, member: Member) {
        let tx = self.store.write(&self.tenant).await.unwrap();
        tx.put_members(&[member]).await.unwrap();
        tx.commit(Touched::Nothing, entry()).await.unwrap();
    }

    /// How many are on a page of those who may.
    async fn who(&self, permission: &str, of: Option<&Resource>, token: &str) -> usize {
        let page = PageRequest { size: 100, token: token.to_owned() };
        let fresh = Consistency::default();
        let page = self.roles.authorized_members(&self.tenant, permission, of, &page, &fresh).await;
        page.unwrap().value.items.len()
    }

    async fn preview(&self, change: &RoleChange, token: &str) -> Preview {
        let page = PageRequest { size: 100, token: token.to_owned() };
        self.roles.preview(&self.tenant, change, &page).await.unwrap().value
    }
}

fn member(n: usize, role: &str, team: &str) -> Member {
    Member {
        id: MemberId::trusted(&format!("m{n:06}")),
        status: MemberStatus::Active,
        roles: vec![RoleId::trusted(role)],
        teams: vec![TeamId::trusted(team)],
        revision: 0,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    }
}

fn grants(permissions: &[&str]) -> Vec<Grant> {
    let grant = |id: &&str| Grant { permission: (*id).to_owned(), scope: None };
    permissions.iter().map(grant).collect()
}

fn role(id: &str, permissions: &[&str]) -> CustomRole {
    CustomRole {
        id: RoleId::trusted(id),
        name: RoleName::parse(id).unwrap(),
        description: String::new(),
        grants: grants(permissions),
        revision: 0,
        created_at: Timestamp(1),
        updated_at: Timestamp(1),
    }
}

fn entry() -> AuditEntry {
    AuditEntry {
        at: Timestamp(1),
        caller: "test".into(),
        actor: None,
        method: "Test".into(),
        request_id: None,
        roles: vec![],
        members: vec![],
        before: None,
        after: None,
    }
}

/// Takes the reports from the role that every second member holds.
fn without_reports() -> RoleChange {
    RoleChange::Update {
        role: RoleId::trusted("half"),
        grants: grants(&["chat.view"]),
        expand_requirements: false,
    }
}

#[tokio::test]
async fn every_page_of_a_preview_counts_the_same_until_something_changes() {
    let house = House::of(400, 0).await;
    let change = without_reports();
    let (mut token, mut seen, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let preview = house.preview(&change, &token).await;
        assert_eq!((preview.gaining, preview.losing), (0, 200 + u64::from(pages > 0)));
        seen.extend(preview.members.items.into_iter().map(|impact| impact.member));
        token = preview.members.next_token;
        if pages == 0 {
            house.add(member(999, "half", "desk-0")).await;
        }
        pages += 1;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((pages, seen.len()), (3, 201));
    assert!(seen.is_sorted());
}

#[ignore = "measures, tests nothing"]
#[tokio::test]
async fn figures_of_pages() {
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!("{build} build, SQLite, 1,000 custom roles, median of 7, in ms");
    for members in [1_000, 100_000] {
        let house = House::of(members, 1_000).await;
        let ticket = Resource {
            teams: Some(vec![TeamId::trusted("ten")]),
            assignees: Some(vec![MemberId::trusted("m000003")]),
            ..Resource::default()
        };
        let half_way = |permission| {
            let query = [house.tenant.as_str(), permission, "None"];
            let pager = Pager::new(&house.seal, "ListAuthorizedMembers", &query);
            pager.token(&format!("m{:06}", members / 2))
        };
        let middle = half_way("chat.view");
        println!("{members} members");
        for (what, permission, resource, token) in [
            ("first page, nearly all may", "chat.view", None, ""),
            ("page in the middle, nearly all may", "chat.view", None, middle.as_str()),
            ("ten may, by a role", "report.export", None, ""),
            ("ten may, by a team", "conversation.view", Some(&ticket), ""),
        ] {
            let mut found = 0;
            let mut times = Vec::new();
            for _ in 0..7 {
                let start = Instant::now();
                found = house.who(permission, resource, token).await;
                times.push(start.elapsed());
            }
            println!("  {what}: {:.1} ({found} on the page)", median(times));
        }
        let change = without_reports();
        let (mut first, mut next) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            let start = Instant::now();
            let token = house.preview(&change, "").await.members.next_token;
            first.push(start.elapsed());
            let start = Instant::now();
            house.preview(&change, &token).await;
            next.push(start.elapsed());
        }
        println!("  preview, first page: {:.1}, next page: {:.1}", median(first), median(next));
        house.store.close().await;
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1000.0
}
