//! What PostgreSQL did for each statement that the store sends, in a tenant that became large behind
//! the back of its statistics.
//!
//! The server writes down each plan with what it read (`auto_explain`). A statement whose answer is a
//! page or a few rows may not read a tenant for it, and one that goes along all holders of a role may
//! do so once, whatever the server believes: that each tenant has six members, that each has one, or
//! nothing at all. Nothing here tells the planner what to do; the sessions are the store's own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rolegate::domain::Timestamp;
use rolegate::domain::candidates::Candidates;
use rolegate::domain::ids::{MemberId, RoleId, TeamId};
use rolegate::domain::member::MemberStatus;
use rolegate::store::{
    AuditFilter, ChangePosition, DecisionSource as _, Freshness, MemberFilter, OpenOptions,
    SqlStore,
};
use serde_json::Value;

use super::backend::{
    commit, make_tenant, member, member_id, postgres_options, qpien, role, role_id, team_id,
    tenant_id,
};
use super::server::run;
use crate::postgres::Cluster;

/// The members of the tenant that was imported, all of whom hold one role and are in one team.
const IMPORTED: usize = 100_000;
/// The events of a long trail, and as many changes.
const TRAIL: usize = 25_000;
/// What a statement whose answer is small may read: a page is 1,001 rows at most, and of each the
/// roles and the teams are asked for.
const FEW_ROWS: u64 = 6_000;
/// The same in blocks: a row that is looked up or written takes some of each index.
const FEW_BLOCKS: u64 = 40_000;
/// What a statement that goes along the holders of a role may read, for each of them.
const ROWS_EACH: u64 = 6;
const BLOCKS_EACH: u64 = 40;

/// What the server knows of the tables before the import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Statistics {
    /// 60 tenants of six members.
    OfSmallTenants,
    /// 400 tenants of one member: by these a tenant has one row in every table.
    OfOwnersOnly,
    /// None.
    Missing,
}

const SETTINGS: &str = "\
    ALTER ROLE rolegate SET session_preload_libraries = 'auto_explain';\
    ALTER ROLE rolegate SET auto_explain.log_min_duration = 0;\
    ALTER ROLE rolegate SET auto_explain.log_analyze = on;\
    ALTER ROLE rolegate SET auto_explain.log_buffers = on;\
    ALTER ROLE rolegate SET auto_explain.log_timing = off;\
    ALTER ROLE rolegate SET auto_explain.log_format = json";

/// Tenants of some members, made the way the store keeps them.
fn small_tenants(tenants: usize, members: usize) -> String {
    format!(
        "INSERT INTO tenants (id, catalog_id, catalog_version, state, revision, own_revision, \
           created_at, updated_at) \
         SELECT 'small-' || t, 'qpien', 1, 'active', 1, 1, 1, 1 FROM generate_series(1, {tenants}) t;\
         INSERT INTO members (tenant_id, id, status, revision, created_at, updated_at) \
         SELECT 'small-' || t, 'm' || m, 'active', 1, 1, 1 \
           FROM generate_series(1, {tenants}) t, generate_series(1, {members}) m;\
         INSERT INTO member_roles (tenant_id, member_id, role_id, position) \
         SELECT tenant_id, id, CASE id WHEN 'm1' THEN 'owner' ELSE 'user' END, 0 FROM members;\
         INSERT INTO member_teams (tenant_id, member_id, team_id) \
         SELECT tenant_id, id, 'everybody' FROM members;\
         INSERT INTO audit (tenant_id, revision, at, caller, method, number, key_id, link, salt, covered) \
         SELECT tenant_id, 1, 1, 'c', 'm', row_number() OVER (PARTITION BY tenant_id), 'k', 'l', 's', 'c' \
           FROM members;\
         INSERT INTO audit_subjects (audit_seq, tenant_id, kind, subject_id) \
         SELECT seq, tenant_id, 'member', 'm1' FROM audit WHERE tenant_id LIKE 'small-%';\
         INSERT INTO changes (tenant_id, revision, touched, created_at) \
         SELECT id, 1, '\"nothing\"', 1 FROM tenants WHERE id LIKE 'small-%'"
    )
}

/// The import, and a trail and changes that are as long.
fn import() -> String {
    format!(
        "INSERT INTO members (tenant_id, id, status, revision, created_at, updated_at) \
         SELECT 'large', 'n' || lpad(m::text, 7, '0'), 'active', 1, 1, 1 \
           FROM generate_series(1, {IMPORTED}) m;\
         INSERT INTO member_roles (tenant_id, member_id, role_id, position) \
         SELECT tenant_id, id, 'user', 0 FROM members WHERE tenant_id = 'large';\
         INSERT INTO member_roles (tenant_id, member_id, role_id, position) \
         SELECT tenant_id, id, 'few', 1 FROM members \
           WHERE tenant_id = 'large' AND id LIKE 'n0009%0';\
         INSERT INTO member_teams (tenant_id, member_id, team_id) \
         SELECT tenant_id, id, 'everybody' FROM members WHERE tenant_id = 'large';\
         INSERT INTO audit (tenant_id, revision, at, caller, method, number, key_id, link, salt, covered) \
         SELECT 'trail', e, e, 'c', 'm', e, 'k', 'l', 's', 'c' FROM generate_series(1, {TRAIL}) e;\
         INSERT INTO audit_subjects (audit_seq, tenant_id, kind, subject_id) \
         SELECT seq, tenant_id, 'member', 'n' || number % 10000 FROM audit WHERE tenant_id = 'trail';\
         INSERT INTO audit_subjects (audit_seq, tenant_id, kind, subject_id) \
         SELECT seq, tenant_id, 'role', 'user' FROM audit WHERE tenant_id = 'trail';\
         INSERT INTO changes (tenant_id, revision, touched, created_at) \
         SELECT 'trail', e, '\"nothing\"', e FROM generate_series(1, {TRAIL}) e"
    )
}

/// What one statement read at most.
#[derive(Debug, Clone, Copy, Default)]
struct Read {
    rows: u64,
    blocks: u64,
}

/// Rows that all scans and joins of a plan came across, whether they were of use or not.
fn rows_of(plan: &Value) -> u64 {
    let number = |name: &str| plan[name].as_f64().unwrap_or(0.0);
    let seen = if plan["Relation Name"].is_string() || plan["Index Name"].is_string() {
        number("Actual Rows")
    } else {
        0.0
    };
    let removed = number("Rows Removed by Filter")
        + number("Rows Removed by Join Filter")
        + number("Rows Removed by Index Recheck");
    let own = (seen + removed) * number("Actual Loops");
    let below = plan["Plans"].as_array().into_iter().flatten().map(rows_of).sum::<u64>();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts of rows")]
    let own = own as u64;
    own + below
}

/// Each statement in a part of the server's log, with the most that it read, and how it did that.
fn statements(log: &str) -> BTreeMap<String, (Read, String)> {
    let mut found: BTreeMap<String, (Read, String)> = BTreeMap::new();
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if !line.ends_with("plan:") {
            continue;
        }
        let mut text = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
            text.push_str(line);
        }
        let told: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let plan = &told["Plan"];
        let blocks = ["Shared Hit Blocks", "Shared Read Blocks", "Temp Read Blocks"];
        let blocks = blocks.iter().map(|name| plan[*name].as_u64().unwrap_or(0)).sum();
        let read = Read { rows: rows_of(plan), blocks };
        let most = found.entry(told["Query Text"].as_str().unwrap().to_owned()).or_default();
        if read.rows >= most.0.rows {
            most.1 = serde_json::to_string_pretty(plan).unwrap();
        }
        most.0.rows = most.0.rows.max(read.rows);
        most.0.blocks = most.0.blocks.max(read.blocks);
    }
    found
}

/// Runs calls on a store of its own, and looks at what they made the server do.
async fn within(
    (cluster, options): (&Cluster, &OpenOptions),
    what: &str,
    limits: Read,
    calls: impl AsyncFnOnce(&SqlStore),
) {
    let start = cluster.log().len();
    let store = SqlStore::open(options).await.unwrap();
    Box::pin(calls(&store)).await;
    store.close().await;
    // A statement is written down when the next one comes, or the connection ends.
    let deadline = Instant::now() + Duration::from_secs(30);
    while cluster.sessions_of("rolegate").await > 0 {
        assert!(Instant::now() < deadline, "the store's connections do not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = cluster.log();
    let statements = statements(&log[start..]);
    assert!(
        statements.len() > 5,
        "{what}: {} statements, is auto_explain there?",
        statements.len()
    );
    for (sql, (read, plan)) in statements {
        assert!(
            read.rows <= limits.rows && read.blocks <= limits.blocks,
            "{what}: {read:?}, of which {limits:?} are allowed, by\n{sql}\n{plan}"
        );
    }
}

/// Calls whose answers are small, in the large tenant.
async fn small_answers(store: &SqlStore) {
    store.register(Arc::new(qpien()));
    let large = tenant_id("large");
    let trail = tenant_id("trail");
    let (few, user, team) = (role_id("few"), role_id("user"), team_id("everybody"));
    let middle = member_id("n0050000");
    let page = |n: usize| -> Vec<MemberId> {
        (0..n).map(|n| member_id(&format!("n{:07}", 40_000 + n * 7))).collect()
    };
    // More than once: after some rounds the server keeps a plan for whatever values.
    for _ in 0..7 {
        let tx = store.read().await.unwrap();
        tx.tenant(&large).await.unwrap();
        tx.tenants(None, 50, true).await.unwrap();
        tx.tenants_among(&[&large, &trail], true).await.unwrap();
        tx.roles(&large, None, 50).await.unwrap();
        tx.roles_by_ids(&large, &[few.clone(), user.clone()]).await.unwrap();
        tx.roles_naming(&large, "chat.view").await.unwrap();
        tx.count_roles(&large).await.unwrap();
        assert_eq!(tx.members_by_ids(&large, &page(1000)).await.unwrap().len(), 1000);
        assert_eq!(tx.role_members(&large, &few).await.unwrap().active, 100);
        tx.members_by_role(&large, std::slice::from_ref(&few)).await.unwrap();
        assert_eq!(tx.role_sets(&large, &few).await.unwrap().len(), 1);
        assert_eq!(
            tx.roles_held_with(&large, &few, None).await.unwrap(),
            std::slice::from_ref(&user)
        );
        assert!(!tx.any_holder_outside(&large, &few, std::slice::from_ref(&team)).await.unwrap());
        for after in [None, Some(&middle)] {
            for status in [None, Some(MemberStatus::Active)] {
                for (role, team) in [
                    (None, None),
                    (Some(&user), None),
                    (None, Some(&team)),
                    (Some(&user), Some(&team)),
                ] {
                    let filter = MemberFilter { status, role: role.cloned(), team: team.cloned() };
                    let found = tx.members(&large, &filter, after, 101).await.unwrap();
                    assert_eq!(found.len(), 101, "{filter:?}");
                }
            }
            let among = Candidates::Among {
                roles: vec![user.clone(), few.clone()],
                teams: vec![team.clone()],
                members: page(100),
            };
            let found = tx.candidates(&large, &among, after, 101).await.unwrap();
            assert_eq!(found.len(), 101);
            tx.active_members(&large, after, 100).await.unwrap();
        }
        let filters = [
            AuditFilter::default(),
            AuditFilter { role: Some(user.clone()), ..AuditFilter::default() },
            AuditFilter { member: Some(member_id("n77")), ..AuditFilter::default() },
            AuditFilter {
                role: Some(user.clone()),
                member: Some(member_id("n77")),
                ..AuditFilter::default()
            },
        ];
        for filter in &filters[..3] {
            for before in [None, Some(15_000)] {
                assert!(!tx.audit_events(&trail, filter, before, 50).await.unwrap().is_empty());
            }
        }
        tx.changes(&trail, 15_000, 100).await.unwrap();
        tx.trail_records(&trail, Some(15_000), 64).await.unwrap();
        drop(tx);

        let view = store.view(&large, &page(500), Freshness::FullyConsistent).await.unwrap();
        assert_eq!(view.unwrap().members.len(), 500);
        let mut cursor = store.follow_start().await.unwrap();
        cursor = store.follow(&cursor, 100).await.unwrap().next;
        store.follow(&cursor, 100).await.unwrap();
        store.ordered_changes(ChangePosition { tx: 1, seq: 1 }, 100).await.unwrap();
        store.current_epoch().await.unwrap();
        store.purgeable(Timestamp(1)).await.unwrap();
        assert_eq!(store.trim_audit(Timestamp(0)).await.unwrap(), 0);
    }

    let tx = store.write(&large).await.unwrap();
    let members: Vec<_> =
        page(1000).iter().map(|id| member(id.as_str(), &["user"], &["everybody"])).collect();
    tx.put_members(&members).await.unwrap();
    tx.put_members(&members[..1]).await.unwrap();
    tx.delete_members(&page(3)).await.unwrap();
    tx.put_role(&role("few")).await.unwrap();
    tx.erase_member(&member_id("n0040000")).await.unwrap();
    commit(tx).await;
}

/// Calls that go along all holders of a role, or all members.
async fn large_answers(store: &SqlStore) {
    let large = tenant_id("large");
    let (few, user): (RoleId, RoleId) = (role_id("few"), role_id("user"));
    let elsewhere: [TeamId; 1] = [team_id("everybody")];
    let all = IMPORTED as u64;
    for _ in 0..2 {
        let tx = store.read().await.unwrap();
        assert!(tx.role_members(&large, &user).await.unwrap().active > all - 10);
        let counts = tx.members_by_role(&large, &[few.clone(), user.clone()]).await.unwrap();
        assert_eq!(counts.len(), 2);
        assert_eq!(tx.role_sets(&large, &user).await.unwrap().len(), 2);
        assert_eq!(
            tx.roles_held_with(&large, &user, None).await.unwrap(),
            std::slice::from_ref(&few)
        );
        assert!(!tx.any_holder_outside(&large, &user, &elsewhere).await.unwrap());
        let outside = tx.roles_held_with(&large, &user, Some(&elsewhere)).await.unwrap();
        assert_eq!(outside, []);
        assert!(tx.count_holders(&large, &user).await.unwrap() + 10 > all);
        tx.holders_as_of(&large, &user, 1).await.unwrap();
        let archived = MemberFilter {
            status: Some(MemberStatus::Archived),
            role: Some(user.clone()),
            team: None,
        };
        assert_eq!(tx.members(&large, &archived, None, 101).await.unwrap(), []);
        let elsewhere =
            MemberFilter { status: None, role: Some(user.clone()), team: Some(team_id("nowhere")) };
        assert_eq!(tx.members(&large, &elsewhere, None, 101).await.unwrap(), []);
        assert_eq!(tx.busiest_tenants(1).await.unwrap(), std::slice::from_ref(&large));
    }
    let tx = store.write(&large).await.unwrap();
    let (active, _) = tx.reassign_role(&few, &user, Timestamp(9)).await.unwrap();
    assert!(active > 90);
    let (active, _) = tx.reassign_role(&user, &few, Timestamp(9)).await.unwrap();
    assert!(active > all - 10);
    assert!(tx.strip_role(&few, Timestamp(9)).await.unwrap() > all - 10);
    commit(tx).await;
}

async fn is_bounded(statistics: Statistics) {
    let Some(cluster) = crate::postgres::dedicated() else { return };
    if !cluster.has_library("auto_explain") {
        crate::postgres::skipped();
        return;
    }
    let database = cluster.create_database();
    let options = OpenOptions {
        connections: 2,
        // What counts is what is read, not how long that takes here.
        statement_timeout: Duration::from_secs(300),
        ..postgres_options(&cluster.url(&database))
    };
    let store = SqlStore::open(&options).await.unwrap();
    let mut admin = cluster.admin(&database).await;
    let (tenants, members) =
        if statistics == Statistics::OfOwnersOnly { (400, 1) } else { (60, 6) };
    run(&mut admin, &small_tenants(tenants, members)).await;
    if statistics != Statistics::Missing {
        run(&mut admin, "ANALYZE").await;
    }
    make_tenant(&store, "large").await;
    make_tenant(&store, "trail").await;
    store.close().await;
    run(&mut admin, "DELETE FROM audit WHERE tenant_id = 'trail'").await;
    run(&mut admin, "DELETE FROM changes WHERE tenant_id = 'trail'").await;
    run(&mut admin, &import()).await;
    cluster.sql("postgres", SETTINGS);

    let place = (&cluster, &options);
    let few = Read { rows: FEW_ROWS, blocks: FEW_BLOCKS };
    within(place, &format!("{statistics:?}, small answers"), few, small_answers).await;
    let all = IMPORTED as u64;
    let linear = Read { rows: ROWS_EACH * all, blocks: BLOCKS_EACH * all };
    within(place, &format!("{statistics:?}, large answers"), linear, large_answers).await;
}

#[tokio::test]
async fn each_statement_is_bounded_where_statistics_are_of_small_tenants() {
    is_bounded(Statistics::OfSmallTenants).await;
}

#[tokio::test]
async fn each_statement_is_bounded_where_statistics_are_of_owners_only() {
    is_bounded(Statistics::OfOwnersOnly).await;
}

#[tokio::test]
async fn each_statement_is_bounded_where_there_are_no_statistics() {
    is_bounded(Statistics::Missing).await;
}
