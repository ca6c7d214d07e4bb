//! A replica is suspended, and wakes up in a world that has gone on without it.

use std::time::Duration;

use rolegate::domain::Timestamp;
use rolegate::grpc::pb;
use rolegate::store::{OpenOptions, SqlStore};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::desk::{Fresh, YES, ask, make_member, make_tenant, set, until, warm};
use super::fleet::{Fleet, migrate};
use super::process::{signal, suspend};

const BOUND: Duration = Duration::from_secs(2);

/// Several revokes of different kinds while a replica is suspended; the changes that tell of them are
/// trimmed before it wakes up, if asked for. From its first answer on, it says nothing of before
/// without a mark.
async fn wakes_up(trimmed: bool) {
    let Some(cluster) = crate::postgres::shared() else { return };
    let url = cluster.url(&cluster.create_database());
    migrate(&url, &[]);
    let fleet = Fleet::start(&[&url, &url], &[], &[]).await;
    let [awake, asleep] = fleet.clients.as_slice() else { panic!() };
    let tenants = ["assigned", "archived", "erased", "deleted"];
    for tenant in tenants {
        make_tenant(awake, tenant).await;
        make_member(awake, tenant, "kim").await.unwrap();
        warm(asleep, tenant, &["kim"]).await;
    }
    let process = fleet.servers[1].id();
    suspend(process);
    // Asked while it sleeps: answered first of all.
    let mut early = JoinSet::new();
    for tenant in tenants {
        for _ in 0..5 {
            let asleep = asleep.clone();
            early.spawn(async move { (tenant, ask(&asleep, tenant, "kim", Fresh::Any).await) });
        }
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    set(awake, "assigned", "kim", false).await.unwrap();
    let (tenant_id, member_id) = ("archived".into(), "kim".into());
    let request = pb::ArchiveMemberRequest { tenant_id, member_id, ..Default::default() };
    awake.members.clone().archive_member(request).await.unwrap();
    let (tenant_id, member_id) = ("erased".into(), "kim".into());
    let request = pb::DeleteMemberRequest { tenant_id, member_id, ..Default::default() };
    awake.members.clone().delete_member(request).await.unwrap();
    let request = pb::DeleteTenantRequest { tenant_id: "deleted".into(), ..Default::default() };
    awake.tenants.clone().delete_tenant(request).await.unwrap();
    let revoked = Instant::now();
    if trimmed {
        // As housekeeping does, but without waiting for days.
        let store = SqlStore::open(&OpenOptions::new(url.as_str())).await.unwrap();
        let soon = Timestamp::now().plus(Duration::from_secs(60));
        assert!(store.trim_changes(soon).await.unwrap() >= 4);
        store.close().await;
    }
    tokio::time::sleep((BOUND + Duration::from_millis(300)).saturating_sub(revoked.elapsed()))
        .await;
    signal(process, "CONT");
    let woken = Instant::now();
    let mut marked = 0;
    while let Some(answered) = early.join_next().await {
        let (tenant, said) = answered.unwrap();
        if let Ok(said) = said {
            assert!(said != YES, "{tenant}: asked while it slept, {said:?}");
            marked += usize::from(said.stale);
        }
    }
    while woken.elapsed() < Duration::from_secs(2) {
        for tenant in tenants {
            let said = ask(asleep, tenant, "kim", Fresh::Any).await;
            if let Ok(said) = said {
                assert!(said != YES, "{tenant}: {:?} after waking up", woken.elapsed());
                marked += usize::from(said.stale);
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("trimmed: {trimmed}, answers marked as stale: {marked}");
    for tenant in tenants {
        until(Duration::from_secs(5), "not marked any more", async || {
            let said = ask(asleep, tenant, "kim", Fresh::Any).await.unwrap();
            assert!(!said.allowed, "{tenant}: {said:?}");
            !said.stale
        })
        .await;
    }
    // It follows again.
    set(awake, "assigned", "kim", true).await.unwrap();
    super::desk::seen(asleep, "assigned", "kim", YES, Instant::now(), BOUND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_slept_allows_nothing_that_was_revoked_meanwhile() {
    wakes_up(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_slept_through_what_was_trimmed_allows_nothing_of_it_either() {
    wakes_up(true).await;
}
