use rolegate::domain::Timestamp;
use rolegate::domain::ids::MemberId;
use rolegate::domain::member::{Member, MemberStatus};
use rolegate::store::{MemberFilter, RoleCount, RoleMembers, SqlStore};

use super::backend::{
    archived, commit, make_members, member, member_id, member_ids, role_id, role_ids, team_id,
};

async fn find(store: &SqlStore, tenant: &str, id: &str) -> Option<Member> {
    let tenant = super::backend::tenant_id(tenant);
    store.read().await.unwrap().member(&tenant, &member_id(id)).await.unwrap()
}

pub(super) async fn are_read_back_changed_and_deleted(store: &SqlStore) {
    // Roles keep their order; teams are a set.
    let kim = member("kim", &["z-role", "a-role"], &["t1", "t2"]);
    let lee = archived(member("lee", &[], &[]));
    let tenant = make_members(store, "acme", &[kim.clone(), lee.clone()]).await;
    assert_eq!(find(store, "acme", "kim").await, Some(Member { revision: 2, ..kim.clone() }));
    assert_eq!(find(store, "acme", "lee").await, Some(Member { revision: 2, ..lee.clone() }));
    assert_eq!(find(store, "acme", "nobody").await, None);

    let changed = Member {
        created_at: Timestamp(1),
        updated_at: Timestamp(999),
        ..archived(member("kim", &["a-role"], &["t2", "t3"]))
    };
    let tx = store.write(&tenant).await.unwrap();
    tx.put_members(std::slice::from_ref(&changed)).await.unwrap();
    assert_eq!(commit(tx).await, 3);
    assert_eq!(
        find(store, "acme", "kim").await,
        Some(Member { revision: 3, created_at: kim.created_at, ..changed })
    );
    assert_eq!(find(store, "acme", "lee").await.unwrap().revision, 2);

    let tx = store.write(&tenant).await.unwrap();
    assert_eq!(tx.delete_members(&member_ids(&["kim", "nobody"])).await.unwrap(), 1);
    commit(tx).await;
    assert_eq!(find(store, "acme", "kim").await, None);
    let tx = store.read().await.unwrap();
    let holders = tx.role_members(&tenant, &role_id("a-role")).await.unwrap();
    assert_eq!(holders, RoleMembers::default());
    drop(tx);

    // Whoever comes back under the same id starts with nothing.
    let tx = store.write(&tenant).await.unwrap();
    tx.put_members(&[member("kim", &[], &[])]).await.unwrap();
    commit(tx).await;
    assert_eq!(
        find(store, "acme", "kim").await,
        Some(Member { revision: 5, ..member("kim", &[], &[]) })
    );
}

pub(super) async fn are_listed_in_byte_order(store: &SqlStore) {
    let ids = ["b", "B", "a", "_", "é", "z", "가", "10", "9", "B b"];
    let members = ids.map(|id| member(id, &["r"], &["t"]));
    let tenant = make_members(store, "acme", &members).await;
    make_members(store, "other", &[member("aa", &["r"], &["t"])]).await;
    let mut sorted = ids.map(member_id);
    sorted.sort();
    let tx = store.read().await.unwrap();
    for limit in 1..=11 {
        let mut seen = Vec::new();
        loop {
            let everybody = MemberFilter::default();
            let page = tx.members(&tenant, &everybody, seen.last(), limit).await.unwrap();
            if page.is_empty() {
                break;
            }
            assert!(page.iter().all(|member| member.roles.len() == 1 && member.teams.len() == 1));
            seen.extend(page.into_iter().map(|member| member.id));
        }
        assert_eq!(seen, sorted, "{limit} at a time");
    }
}

pub(super) async fn are_filtered(store: &SqlStore) {
    let tenant = make_members(
        store,
        "acme",
        &[
            member("a", &["r1"], &["t1"]),
            member("b", &["r1", "r2"], &["t1", "t2"]),
            archived(member("c", &["r2"], &["t2"])),
            member("d", &[], &[]),
            archived(member("e", &["r1"], &["t1"])),
        ],
    )
    .await;
    make_members(store, "other", &[member("x", &["r1"], &["t1"])]).await;
    let tx = store.read().await.unwrap();
    let (active, gone) = (Some(MemberStatus::Active), Some(MemberStatus::Archived));
    for (status, role, team, expected) in [
        (None, None, None, "a b c d e"),
        (active, None, None, "a b d"),
        (gone, None, None, "c e"),
        (None, Some("r1"), None, "a b e"),
        (active, Some("r2"), None, "b"),
        (None, Some("R1"), None, ""),
        (None, None, Some("t2"), "b c"),
        (None, None, Some("T2"), ""),
        (active, None, Some("t1"), "a b"),
        (None, Some("r1"), Some("t2"), "b"),
        (gone, Some("r1"), Some("t1"), "e"),
    ] {
        let filter = MemberFilter { status, role: role.map(role_id), team: team.map(team_id) };
        let found = tx.members(&tenant, &filter, None, 9).await.unwrap();
        let found: Vec<_> = found.iter().map(|member| member.id.as_str()).collect();
        assert_eq!(found.join(" "), expected, "{filter:?}");
        // One at a time it is the same, with nobody twice and nobody left out.
        let mut paged: Vec<MemberId> = Vec::new();
        while let Some(next) = tx.members(&tenant, &filter, paged.last(), 1).await.unwrap().pop() {
            paged.push(next.id);
        }
        let paged: Vec<_> = paged.iter().map(MemberId::as_str).collect();
        assert_eq!(paged.join(" "), expected, "{filter:?}, one at a time");
    }
    let holders = MemberFilter { role: Some(role_id("r1")), ..MemberFilter::default() };
    let next = tx.members(&tenant, &holders, Some(&member_id("a")), 1).await.unwrap();
    assert_eq!(next.iter().map(|member| &member.id).collect::<Vec<_>>(), [&member_id("b")]);
    assert_eq!(next[0].roles, role_ids(&["r1", "r2"]), "all roles, not only the one asked for");
}

pub(super) async fn more_than_fit_in_one_statement(store: &SqlStore) {
    let crowd: Vec<_> = (0..2500)
        .map(|n| member(&format!("m{n:05}"), &["r"], &[&format!("t{}", n % 3), "x"]))
        .collect();
    let tenant = make_members(store, "acme", &crowd).await;
    let ids: Vec<_> = crowd.iter().map(|member| member.id.clone()).collect();
    let tx = store.read().await.unwrap();
    let expected: Vec<_> =
        crowd.iter().map(|member| Member { revision: 2, ..member.clone() }).collect();
    assert_eq!(tx.members(&tenant, &MemberFilter::default(), None, 9999).await.unwrap(), expected);
    let mut found = tx.members_by_ids(&tenant, &ids).await.unwrap();
    found.sort_by(|one, two| one.id.cmp(&two.id));
    assert_eq!(found, expected);
    drop(tx);

    let tx = store.write(&tenant).await.unwrap();
    assert_eq!(tx.delete_members(&ids[..2499]).await.unwrap(), 2499);
    commit(tx).await;
    let tx = store.read().await.unwrap();
    let left = tx.members_by_ids(&tenant, &ids).await.unwrap();
    assert_eq!(left, expected[2499..]);
}

pub(super) async fn are_counted_by_role(store: &SqlStore) {
    let tenant = make_members(
        store,
        "acme",
        &[
            member("a", &["r1", "r2"], &[]),
            member("b", &["r1"], &[]),
            archived(member("c", &["r1"], &[])),
            archived(member("d", &["r3"], &[])),
        ],
    )
    .await;
    make_members(store, "other", &[member("a", &["r1"], &[])]).await;
    let tx = store.read().await.unwrap();
    let counted = |role, active, archived| RoleCount {
        role: role_id(role),
        members: RoleMembers { active, archived },
    };
    assert_eq!(
        tx.members_by_role(&tenant, &role_ids(&["r3", "r1", "r4", "r2"])).await.unwrap(),
        [counted("r3", 0, 1), counted("r1", 2, 1), counted("r4", 0, 0), counted("r2", 1, 0)]
    );
    assert_eq!(tx.members_by_role(&tenant, &[]).await.unwrap(), []);
    for (role, active) in [("r1", 2), ("r2", 1), ("r3", 0), ("r4", 0)] {
        assert_eq!(tx.count_active_with_role(&tenant, &role_id(role)).await.unwrap(), active);
    }
    let holders = tx.role_members(&tenant, &role_id("r1")).await.unwrap();
    assert_eq!(holders, RoleMembers { active: 2, archived: 1 });
}

pub(super) async fn a_role_is_reassigned(store: &SqlStore) {
    let members = [
        member("a", &["old"], &["t"]),
        member("b", &["other", "old"], &[]),
        member("has-both", &["old", "new"], &[]),
        archived(member("gone", &["old"], &[])),
        member("has-new", &["new"], &[]),
        member("none", &[], &[]),
    ];
    let tenant = make_members(store, "acme", &members).await;
    make_members(store, "bystanders", &members).await;
    let tx = store.write(&tenant).await.unwrap();
    let moved = tx.reassign_role(&role_id("old"), &role_id("new"), Timestamp(777)).await.unwrap();
    assert_eq!(moved, (3, 1));
    assert_eq!(commit(tx).await, 3);
    for (id, roles, touched) in [
        ("a", vec!["new"], true),
        ("b", vec!["other", "new"], true),
        ("has-both", vec!["new"], true),
        ("gone", vec!["new"], true),
        ("has-new", vec!["new"], false),
        ("none", vec![], false),
    ] {
        let found = find(store, "acme", id).await.unwrap();
        let before = members.iter().find(|member| member.id.as_str() == id).unwrap().clone();
        let updated_at = if touched { Timestamp(777) } else { before.updated_at };
        let revision = if touched { 3 } else { 2 };
        assert_eq!(found, Member { roles: role_ids(&roles), updated_at, revision, ..before });
    }
    for before in members {
        let found = find(store, "bystanders", before.id.as_str()).await;
        assert_eq!(found, Some(Member { revision: 2, ..before }));
    }
}

pub(super) async fn a_role_reassigned_to_itself_stays(store: &SqlStore) {
    let tenant = make_members(store, "acme", &[member("a", &["r"], &[])]).await;
    let tx = store.write(&tenant).await.unwrap();
    let moved = tx.reassign_role(&role_id("r"), &role_id("r"), Timestamp(777)).await.unwrap();
    assert_eq!(moved, (0, 0));
    commit(tx).await;
    assert_eq!(find(store, "acme", "a").await.unwrap().roles, role_ids(&["r"]));
}

pub(super) async fn a_role_is_stripped(store: &SqlStore) {
    let members = [
        member("a", &["r", "s"], &[]),
        archived(member("b", &["r"], &[])),
        member("c", &["s"], &[]),
    ];
    let tenant = make_members(store, "acme", &members).await;
    make_members(store, "bystanders", &members).await;
    let tx = store.write(&tenant).await.unwrap();
    assert_eq!(tx.strip_role(&role_id("r"), Timestamp(777)).await.unwrap(), 2);
    commit(tx).await;
    for (id, roles, at, revision) in
        [("a", vec!["s"], 777, 3), ("b", vec![], 777, 3), ("c", vec!["s"], 300, 2)]
    {
        let found = find(store, "acme", id).await.unwrap();
        assert_eq!(
            (found.roles, found.updated_at, found.revision),
            (role_ids(&roles), Timestamp(at), revision),
            "{id}"
        );
    }
    assert_eq!(find(store, "bystanders", "a").await.unwrap().roles, role_ids(&["r", "s"]));
}
