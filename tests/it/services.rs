//! The use cases over a database of their own: what the audit keeps of members, and what erasing
//! one leaves.

use std::sync::Arc;

use rolegate::domain::catalog::{Catalog, shipped};
use rolegate::domain::ids::{MemberId, RoleId, TeamId, TenantId};
use rolegate::domain::refusal::Refusal;
use rolegate::service::members::Members;
use rolegate::service::page::PageRequest;
use rolegate::service::roles::{Deletion, RoleDraft, Roles};
use rolegate::service::seal::Seal;
use rolegate::service::tenants::{NewTenant, Tenants};
use rolegate::service::token::Tokens;
use rolegate::service::upsert::{Batch, BatchMode, Upsert};
use rolegate::service::{RequestId, ServiceError, WriteContext};
use rolegate::store::{AuditEntry, AuditEvent, AuditFilter, OpenOptions, SqlStore, Touched};
use tempfile::TempDir;

struct Services {
    tenants: Tenants,
    roles: Roles,
    members: Members,
    store: SqlStore,
    tenant: TenantId,
    directory: TempDir,
}

impl Services {
    /// With one tenant, whose owner is `owner`.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("rolegate.db").display());
        let store = SqlStore::open(&OpenOptions::new(url)).await.unwrap();
        for source in shipped() {
            store.register(Arc::new(Catalog::parse(source).unwrap()));
        }
        let tokens = Tokens::new(store.identity());
        let seal = Seal::new(store.identity().signing_key);
        let services = Services {
            tenants: Tenants::new(store.clone(), tokens.clone(), seal.clone()),
            roles: Roles::new(store.clone(), tokens.clone(), seal.clone()),
            members: Members::new(store.clone(), tokens, seal),
            store,
            tenant: TenantId::parse("acme").unwrap(),
            directory,
        };
        let new = NewTenant {
            catalog: "qpien".into(),
            version: None,
            plan: None,
            owner: member("owner"),
            owner_teams: vec![],
        };
        services.tenants.create(context("CreateTenant"), &services.tenant, &new).await.unwrap();
        services
    }

    /// Whether the closed database's files have these bytes anywhere.
    async fn file_has(&self, needle: &str) -> bool {
        self.store.close().await;
        let mut files = std::fs::read_dir(self.directory.path()).unwrap();
        files.any(|file| {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
        })
    }

    /// A sync of so many members, each in so many teams.
    async fn sync(&self, members: usize, teams: usize) {
        let teams: Vec<_> =
            (0..teams).map(|n| TeamId::parse(&format!("team-{n:0100}")).unwrap()).collect();
        let upsert = |n| Upsert {
            id: member(&format!("m{n:05}")),
            roles: None,
            teams: Some(teams.clone()),
            status: None,
        };
        let batch = Batch {
            items: (0..members).map(|n| Ok(upsert(n))).collect(),
            mode: BatchMode::AllOrNothing,
            archive_absent: false,
            etag: None,
        };
        self.members.upsert(context("Sync"), &self.tenant, batch).await.unwrap();
    }

    /// Every page of the audit trail.
    async fn audit(&self, filter: &AuditFilter, size: i32) -> Vec<Vec<AuditEvent>> {
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let page = PageRequest { size, token };
            let page = self.roles.audit(&self.tenant, filter, &page).await.unwrap();
            pages.push(page.items);
            token = page.next_token;
            if token.is_empty() {
                return pages;
            }
        }
    }
}

fn member(id: &str) -> MemberId {
    MemberId::parse(id).unwrap()
}

fn context(method: &'static str) -> WriteContext {
    WriteContext { caller: "test".into(), actor: None, method, request: None, validate_only: false }
}

fn json_bytes(event: &AuditEvent) -> usize {
    let sides = [&event.entry.before, &event.entry.after];
    sides.into_iter().flatten().map(|side| side.to_string().len()).sum()
}

#[tokio::test]
async fn a_large_sync_is_told_of_in_small_events() {
    let services = Services::new().await;
    services.sync(3_000, 10).await;
    for size in [7, 1_000] {
        let pages = services.audit(&AuditFilter::default(), size).await;
        for page in &pages {
            let bytes: usize = page.iter().map(json_bytes).sum();
            assert!(!page.is_empty() && page.len() <= size as usize && bytes <= 1 << 20);
        }
        assert!(pages.len() > 3, "{} pages of {size}", pages.len());
        let events: Vec<_> = pages.iter().flatten().collect();
        assert!(events.is_sorted_by(|newer, older| newer.number > older.number));
        let parts: Vec<_> = events.iter().filter(|event| event.entry.method == "Sync").collect();
        let mut told = Vec::new();
        for part in &parts {
            let after = part.entry.after.as_ref().unwrap().as_array().unwrap();
            let ids: Vec<_> = after.iter().map(|after| after["id"].as_str().unwrap()).collect();
            let subjects: Vec<_> = part.entry.members.iter().map(MemberId::as_str).collect();
            assert_eq!(ids, subjects);
            assert!(ids.len() <= 100 && json_bytes(part) <= 65 << 10);
            assert_eq!((part.revision, &part.entry.request_id), (2, &None));
            told.extend(ids);
        }
        told.sort_unstable();
        let all: Vec<_> = (0..3_000).map(|n| format!("m{n:05}")).collect();
        assert_eq!(told, all, "each once");
    }
}

#[tokio::test]
async fn an_event_has_one_member_however_large_that_is() {
    let services = Services::new().await;
    services.sync(3, 200).await;
    services.sync(3, 199).await;
    let pages = services.audit(&AuditFilter::default(), 0).await;
    let changed: Vec<_> = pages.iter().flatten().filter(|event| event.revision == 3).collect();
    assert_eq!(changed.len(), 3);
    for event in changed {
        for (side, teams) in [(&event.entry.before, 200), (&event.entry.after, 199)] {
            let members = side.as_ref().unwrap().as_array().unwrap();
            assert_eq!(members.len(), 1);
            assert_eq!(members[0]["id"], event.entry.members[0].as_str());
            assert_eq!(members[0]["teams"].as_array().unwrap().len(), teams);
        }
    }
}

#[tokio::test]
async fn erasing_one_of_a_large_sync_touches_only_what_tells_of_it() {
    let services = Services::new().await;
    services.sync(3_000, 10).await;
    let before = services.audit(&AuditFilter::default(), 1_000).await;
    let tx = services.store.write(&services.tenant).await.unwrap();
    tx.erase_member(&member("m01234")).await.unwrap();
    let erasure = AuditEntry {
        roles: vec![],
        members: vec![],
        before: None,
        after: None,
        ..before[0][0].entry.clone()
    };
    tx.commit(Touched::Nothing, erasure).await.unwrap();
    let after = services.audit(&AuditFilter::default(), 1_000).await;
    // The newest one tells of the erasure.
    let changed = before.iter().flatten().zip(after.iter().flatten().skip(1));
    let changed: Vec<_> = changed.filter(|(before, after)| before.entry != after.entry).collect();
    assert_eq!(changed.len(), 1);
    assert!(format!("{:?}", changed[0].0).contains("m01234"));
    assert!(!format!("{after:?}").contains("m01234"));
}

#[tokio::test]
async fn a_late_retry_does_not_bring_an_erased_member_back() {
    let services = Services::new().await;
    let request = |method, payload: &str| WriteContext {
        request: Some(RequestId { id: "q".into(), payload: payload.into() }),
        ..context(method)
    };
    let (members, tenant, kim) = (&services.members, &services.tenant, member("kim"));
    let create = |payload| members.create(request("Create", payload), tenant, &kim, &[], &[]);
    let delete = || members.delete(request("Delete", "p"), tenant, &kim, None);
    let made = create("p").await.unwrap();
    assert_eq!(create("p").await.unwrap(), made);
    let deleted = delete().await.unwrap();

    for _ in 0..2 {
        let retried = create("p").await;
        // By the request, its sender knows whom it was about: a pseudonym would tell it more.
        let erased = matches!(retried, Err(ServiceError::Refused(Refusal::AnswerErased)));
        assert!(erased, "{retried:?}");
    }
    let reused = create("another").await;
    assert!(matches!(reused, Err(ServiceError::Refused(Refusal::RequestIdReused { .. }))));
    assert_eq!(delete().await.unwrap(), deleted, "this answer told of nobody");
    assert!(members.get(tenant, &kim).await.is_err());
    // Who means it asks anew.
    members.create(context("Create"), tenant, &kim, &[], &[]).await.unwrap();
}

#[tokio::test]
async fn that_a_member_was_deleted_is_told_by_its_pseudonym() {
    let services = Services::new().await;
    let (members, tenant, kim) = (&services.members, &services.tenant, member("kim"));
    members.create(context("Create"), tenant, &kim, &[], &[]).await.unwrap();
    members.delete(context("Delete"), tenant, &kim, None).await.unwrap();

    let all = services.audit(&AuditFilter::default(), 0).await.concat();
    let [deletion, creation, _] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!(
        (deletion.entry.method.as_str(), deletion.entry.caller.as_str()),
        ("Delete", "test")
    );
    let [pseudonym] = deletion.entry.members.as_slice() else { panic!("{deletion:?}") };
    assert!(pseudonym.as_str().starts_with("erased-"), "{pseudonym}");
    assert_eq!(
        creation.entry.members,
        std::slice::from_ref(pseudonym),
        "the same as in the rest of the trail"
    );
    assert_eq!(creation.entry.after.as_ref().unwrap()["id"], pseudonym.as_str());
    let about = AuditFilter { member: Some(pseudonym.clone()), ..AuditFilter::default() };
    assert_eq!(services.audit(&about, 0).await.concat().len(), 2);
    assert!(!format!("{all:?}").contains("kim"));
}

#[tokio::test]
async fn an_erased_member_is_nowhere_in_the_file() {
    let services = Services::new().await;
    let (members, tenant) = (&services.members, &services.tenant);
    for id in ["unmistakable", "another"] {
        let id = member(id);
        let request =
            Some(RequestId { id: id.as_str().chars().rev().collect(), payload: "p".into() });
        let remembered = WriteContext { request, ..context("Create") };
        members.create(remembered, tenant, &id, &[], &[]).await.unwrap();
        let team = [TeamId::parse("t").unwrap()];
        members.set_teams(context("Teams"), tenant, &id, &team, None).await.unwrap();
    }
    services.sync(300, 1).await;
    members.delete(context("Delete"), tenant, &member("unmistakable"), None).await.unwrap();
    let changes = services.store.read().await.unwrap().changes(tenant, 0, 99).await.unwrap();
    let touched: Vec<_> = changes.iter().map(|change| change.touched.clone()).collect();
    let another = Touched::Members(vec![member("another")]);
    assert_eq!(touched[1..5], [Touched::Tenant, Touched::Tenant, another.clone(), another]);
    assert!(!services.file_has("unmistakable").await);
}

#[tokio::test]
async fn a_late_retry_does_not_make_a_purged_tenant_anew() {
    let services = Services::new().await;
    let (tenants, tenant) = (&services.tenants, TenantId::parse("late").unwrap());
    let request = |method, id: &str| WriteContext {
        request: Some(RequestId { id: id.into(), payload: "p".into() }),
        ..context(method)
    };
    let new = NewTenant {
        catalog: "qpien".into(),
        version: None,
        plan: None,
        owner: member("unmistakable"),
        owner_teams: vec![],
    };
    let create = async |id: &str| tenants.create(request("Create", id), &tenant, &new).await;
    create("first").await.unwrap();
    tenants.delete(context("Delete"), &tenant, None).await.unwrap();
    let purge = async || tenants.purge(request("Purge", "q"), &tenant).await;
    let purged = purge().await.unwrap();

    let retried = create("first").await;
    let gone = matches!(retried, Err(ServiceError::Refused(Refusal::TenantNotFound(_))));
    assert!(gone, "{retried:?}");
    assert!(tenants.get(&tenant, true).await.is_err());
    assert_eq!(purge().await.unwrap(), purged, "the purge itself can be repeated");
    // A request of its own makes it anew, and the old one still does nothing.
    create("second").await.unwrap();
    assert!(create("first").await.is_err());
}

#[tokio::test]
async fn no_member_gets_an_id_that_audit_trails_use() {
    let services = Services::new().await;
    let (members, tenant) = (&services.members, &services.tenant);
    for id in ["erased-0b5c", "not-a-member", "rolegate migrate"] {
        let refused = |outcome: Result<(), ServiceError>, field: &str| match outcome {
            Err(ServiceError::Refused(Refusal::Invalid(violations))) => {
                assert_eq!(violations.len(), 1, "{violations:?}");
                assert_eq!(violations[0].field, field);
            }
            other => panic!("{other:?}"),
        };
        let create = members.create(context("Create"), tenant, &member(id), &[], &[]).await;
        refused(create.map(|_| ()), "member_id");
        let new = NewTenant {
            catalog: "qpien".into(),
            version: None,
            plan: None,
            owner: member(id),
            owner_teams: vec![],
        };
        let other = TenantId::parse("other").unwrap();
        let create = services.tenants.create(context("Create"), &other, &new).await;
        refused(create.map(|_| ()), "owner_member_id");
        let item = Upsert { id: member(id), roles: None, teams: None, status: None };
        let mode = BatchMode::AllOrNothing;
        let batch = Batch { items: vec![Ok(item)], mode, archive_absent: false, etag: None };
        let sync = members.upsert(context("Sync"), tenant, batch).await;
        refused(sync.map(|_| ()), "members[0].member_id");
    }
    for id in ["erased", "rolegate", "Erased-1"] {
        members.create(context("Create"), tenant, &member(id), &[], &[]).await.unwrap();
    }
}

#[tokio::test]
async fn a_custom_role_cannot_look_like_a_default_one() {
    let services = Services::new().await;
    let (roles, tenant) = (&services.roles, &services.tenant);
    let create = async |name: &str| {
        let draft = RoleDraft { name: name.to_owned(), ..RoleDraft::default() };
        roles.create(context("Create"), tenant, &draft).await
    };
    for name in ["\u{410}dmin", "adm\u{131}n", "0wner", "Limited  User", "L\u{456}mited User"] {
        let outcome = create(name).await;
        let taken = matches!(outcome, Err(ServiceError::Refused(Refusal::RoleNameTaken { .. })));
        assert!(taken, "{name:?}: {outcome:?}");
    }
    // Between custom roles it is what people type that counts: they may be in any script.
    let made = create("Cafe\u{301}  team").await.unwrap().value.role;
    assert_eq!(made.name, "Caf\u{e9} team");
    let made_of = RoleId::parse(&made.id.to_string()).unwrap();
    let delete = async |typed: &str| {
        let deletion = Deletion { confirmation: typed.to_owned(), ..Deletion::default() };
        roles.delete(context("Delete"), tenant, &made_of, &deletion).await
    };
    let shown = made.confirmation.unwrap();
    assert!(delete(&shown.to_uppercase()).await.is_err());
    let typed = shown.replace("\u{e9}", "e\u{301}").replace(' ', "  ");
    delete(&format!(" {typed} ")).await.unwrap();
}

#[tokio::test]
async fn a_purged_tenants_members_are_nowhere_in_the_file() {
    let services = Services::new().await;
    let tenant = &services.tenant;
    let id = member("unmistakable");
    services.members.create(context("Create"), tenant, &id, &[], &[]).await.unwrap();
    services.sync(300, 1).await;
    let tx = services.store.write(tenant).await.unwrap();
    tx.delete_tenant_data().await.unwrap();
    tx.commit_unchanged().await.unwrap();
    assert!(!services.file_has("unmistakable").await);
}
