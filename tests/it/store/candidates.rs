use std::collections::BTreeSet;

use rolegate::domain::candidates::Candidates;
use rolegate::domain::grant::Grant;
use rolegate::domain::ids::TenantId;
use rolegate::domain::member::Member;
use rolegate::domain::role::CustomRole;
use rolegate::store::{ReadTx, SqlStore};

use super::backend::{
    archived, commit, make_members, make_tenant, member, member_ids, role, role_id, role_ids,
    team_id,
};

fn among(roles: &[&str], teams: &[&str], members: &[&str]) -> Candidates {
    let teams = teams.iter().map(|id| team_id(id)).collect();
    Candidates::Among { roles: role_ids(roles), teams, members: member_ids(members) }
}

/// All of them, so many at a time.
async fn all(tx: &ReadTx, tenant: &TenantId, wanted: &Candidates, limit: u64) -> Vec<Member> {
    let mut found: Vec<Member> = Vec::new();
    loop {
        let after = found.last().map(|member| member.id.clone());
        let page = tx.candidates(tenant, wanted, after.as_ref(), limit).await.unwrap();
        assert!(page.len() as u64 <= limit);
        let complete = (page.len() as u64) < limit;
        found.extend(page);
        if complete {
            return found;
        }
    }
}

/// Members of whom every third holds each of three roles, and so on with teams.
fn crowd() -> Vec<Member> {
    let mut crowd: Vec<Member> = (0..60)
        .map(|n| {
            let roles: &[&str] = [&["r0"] as &[_], &["r1", "r0"], &["r2"], &[]][n % 4];
            let teams: &[&str] = [&["t0"] as &[_], &["t1"], &["t0", "t1"], &[], &[]][n % 5];
            member(&format!("m{n:02}"), roles, teams)
        })
        .collect();
    crowd[8] = archived(crowd[8].clone());
    crowd
}

pub(super) async fn come_from_roles_teams_and_names(store: &SqlStore) {
    let crowd = crowd();
    let tenant = make_members(store, "acme", &crowd).await;
    make_members(store, "other", &[member("m00a", &["r0", "r1", "r2"], &["t0", "t1"])]).await;
    let tx = store.read().await.unwrap();
    for wanted in [
        among(&["r0"], &[], &[]),
        among(&["r0", "r1", "r2"], &[], &[]),
        among(&[], &["t1"], &[]),
        among(&["r1"], &["t0", "t1"], &["m03", "m58", "nobody"]),
        among(&[], &[], &["m59", "m01", "m00a"]),
        among(&["nowhere"], &["nowhere"], &["nobody"]),
        among(&[], &[], &[]),
    ] {
        let Candidates::Among { roles, teams, members } = &wanted else { panic!("{wanted:?}") };
        let wants = |member: &Member| {
            member.roles.iter().any(|role| roles.contains(role))
                || member.teams.iter().any(|team| teams.contains(team))
                || members.contains(&member.id)
        };
        let expected = crowd.iter().filter(|member| wants(member)).cloned();
        let expected: Vec<Member> = expected.map(|one| Member { revision: 2, ..one }).collect();
        for limit in [1, 2, 7, 1000] {
            let found = all(&tx, &tenant, &wanted, limit).await;
            assert_eq!(found, expected, "{wanted:?}, {limit} at a time");
        }
    }
    let everybody = all(&tx, &tenant, &Candidates::Everybody, 7).await;
    assert_eq!(everybody.len(), crowd.len());
}

pub(super) async fn are_everybody_where_there_are_too_many_sources(store: &SqlStore) {
    let crowd = crowd();
    let tenant = make_members(store, "acme", &crowd).await;
    let tx = store.read().await.unwrap();
    let many: Vec<String> = (0..3_000).map(|n| format!("m{n:02}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (wanted, expected) in [
        (among(&many[..100], &[], &[]), 0),
        (among(&many[..99], &["t1"], &[]), 24),
        (among(&many, &[], &[]), crowd.len()),
        (among(&many[..60], &many[..60], &[]), crowd.len()),
        (among(&[], &[], &many[..1000]), crowd.len()),
        (among(&[], &[], &many), crowd.len()),
    ] {
        assert_eq!(all(&tx, &tenant, &wanted, 7).await.len(), expected);
    }
}

pub(super) async fn roles_that_name_a_permission_are_found(store: &SqlStore) {
    let tenant = make_tenant(store, "acme").await;
    let granting = |id: &str, permissions: &[&str]| {
        let grant = |id: &&str| Grant { permission: (*id).to_owned(), scope: None };
        CustomRole { grants: permissions.iter().map(grant).collect(), ..role(id) }
    };
    let tx = store.write(&tenant).await.unwrap();
    for role in [
        granting("r-one", &["ticket.view"]),
        granting("r-two", &["ticket.view", "report.view"]),
        granting("r-longer", &["ticket.view.all", "my.ticket.view"]),
        granting("r-none", &[]),
    ] {
        tx.put_role(&role).await.unwrap();
    }
    commit(tx).await;
    let tx = store.read().await.unwrap();
    for (permission, expected) in
        [("ticket.view", "r-one r-two"), ("report.view", "r-two"), ("ticket", ""), ("x.y", "")]
    {
        let found = tx.roles_naming(&tenant, permission).await.unwrap().unwrap();
        let found: BTreeSet<_> = found.iter().map(|role| role.id.as_str()).collect();
        assert_eq!(found.into_iter().collect::<Vec<_>>().join(" "), expected, "{permission}");
    }
    drop(tx);

    let tx = store.write(&tenant).await.unwrap();
    for n in 0..99 {
        tx.put_role(&granting(&format!("r{n}"), &["report.view"])).await.unwrap();
    }
    commit(tx).await;
    let tx = store.read().await.unwrap();
    assert_eq!(
        tx.roles_naming(&tenant, "report.view").await.unwrap().map(|all| all.len()),
        Some(100)
    );
    drop(tx);
    let tx = store.write(&tenant).await.unwrap();
    tx.put_role(&granting("one-too-many", &["report.view"])).await.unwrap();
    commit(tx).await;
    let tx = store.read().await.unwrap();
    assert_eq!(tx.roles_naming(&tenant, "report.view").await.unwrap(), None);
}

pub(super) async fn sets_of_roles_are_counted(store: &SqlStore) {
    let members = [
        member("a", &["r", "s"], &[]),
        member("b", &["s", "r"], &[]),
        member("c", &["r"], &[]),
        archived(member("d", &["r"], &[])),
        member("e", &["s"], &[]),
        member("f", &[], &[]),
    ];
    let tenant = make_members(store, "acme", &members).await;
    make_members(store, "other", &members).await;
    let tx = store.read().await.unwrap();
    let mut sets = tx.role_sets(&tenant, &role_id("r")).await.unwrap();
    sets.sort();
    assert_eq!(sets, [(role_ids(&["r"]), 1), (role_ids(&["r", "s"]), 2)]);
    assert_eq!(tx.role_sets(&tenant, &role_id("nowhere")).await.unwrap(), []);
}
