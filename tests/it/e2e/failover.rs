//! The address of the database leads to a standby, or to another primary: a replica follows nobody
//! who is late, and no two histories at once.

use std::time::Duration;

use rolegate::grpc::pb;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use super::desk::{Fresh, NO, YES, ask, make_member, make_tenant, seen, set, until, warm};
use super::fleet::{Fleet, migrate};
use super::http::{page, scrape};
use super::process::{Clients, Server};
use crate::postgres::{self, Cluster};
use crate::proxy::Proxy;

/// `--max-staleness-ms` of the replicas here.
const BOUND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

async fn is(clients: &Clients, member: &str, fresh: Fresh, expected: super::desk::Said) -> bool {
    ask(clients, "acme", member, fresh).await.is_ok_and(|said| said == expected)
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_late_is_never_taken_for_the_primary() {
    let Some(primary) = postgres::dedicated() else { return };
    let database = primary.create_database();
    let url = primary.url(&database);
    migrate(&url, &[]);
    let proxy = Proxy::start(primary.port()).await;
    let behind = Cluster::url_at(proxy.port(), &database);
    let settings = ["--max-staleness-ms", "1000", "--outage-grace", "5", "--admin-addr"];
    let settings = [settings.as_slice(), &["127.0.0.1:0"]].concat();
    let fleet = Fleet::start(&[&url, &behind], &[], &settings).await;
    let [well, misled] = fleet.clients.as_slice() else { panic!() };
    make_tenant(well, "acme").await;
    for member in ["held", "revoked", "cold"] {
        make_member(well, "acme", member).await.unwrap();
    }
    // It begins with all of this, and applies nothing that comes later.
    let standby = primary.standby("recovery_min_apply_delay = '1h'\n");
    warm(misled, "acme", &["held", "revoked"]).await;

    proxy.switch_to(standby.port()).await;
    let token = set(well, "acme", "revoked", false).await.unwrap();
    let committed = Instant::now();
    let (mut marked, mut gone) = (0, 0);
    while gone < 20 {
        let asked = committed.elapsed();
        assert!(asked < PATIENCE, "marked {marked} times, refused {gone} times");
        match ask(misled, "acme", "revoked", Fresh::Any).await {
            Ok(said) => {
                assert!(!said.allowed || said.stale || asked < BOUND, "allowed after {asked:?}");
                marked += usize::from(said.stale);
            }
            // The end of the grace.
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                gone += 1;
            }
        }
        for (member, fresh) in [
            ("revoked", Fresh::Full),
            ("revoked", Fresh::Token(token.clone())),
            ("held", Fresh::Full),
            ("cold", Fresh::Any),
        ] {
            let said = ask(misled, "acme", member, fresh.clone()).await;
            let status = said.expect_err("a standby has answered");
            assert_eq!(status.code(), Code::Unavailable, "{member} {fresh:?}: {status:?}");
        }
        make_member(misled, "acme", "new").await.expect_err("a standby took a write");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(marked > 0, "nothing was marked as stale");
    let admin = fleet.servers[1].admin.clone().unwrap();
    until(PATIENCE, "readiness says why", async || {
        page(&admin, "/readyz").await == "the database server is a standby\n"
    })
    .await;
    assert_eq!(scrape(&admin).await.value("rolegate_database_unfit", &[]), 1.0);
    let log = fleet.servers[1].log();
    assert!(log.contains("the database server is a standby"), "{log}");

    proxy.switch_to(primary.port()).await;
    until(PATIENCE, "the primary is back", async || {
        is(misled, "held", Fresh::Any, YES).await && is(misled, "cold", Fresh::Full, YES).await
    })
    .await;
    assert_eq!(ask(misled, "acme", "revoked", Fresh::Any).await.unwrap(), NO);
    // No other history: what was given before still counts.
    assert_eq!(ask(misled, "acme", "revoked", Fresh::Token(token)).await.unwrap(), NO);
    let measured = scrape(&admin).await;
    let failed_over = [("cause", "failed_over")];
    assert_eq!(measured.value("rolegate_database_epochs_total", &failed_over), 0.0);
    assert_eq!(measured.value("rolegate_database_unfit", &[]), 0.0);
}

async fn watch(clients: &Clients, cursor: &str) -> Result<Streaming<pb::WatchResponse>, Status> {
    let request = pb::WatchRequest { tenant_ids: vec!["acme".into()], cursor: cursor.into() };
    Ok(clients.authz.clone().watch(request).await?.into_inner())
}

/// Until the change with this token was told, and its cursor.
async fn told(stream: &mut Streaming<pb::WatchResponse>, token: &str) -> String {
    loop {
        let message = timeout(PATIENCE, stream.message()).await.expect("silence");
        let message = message.unwrap().unwrap();
        if message.changes.iter().any(|change| change.consistency_token == token) {
            return message.cursor;
        }
    }
}

fn expired(status: &Status) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!((status.code(), info.reason.as_str()), (Code::OutOfRange, "CURSOR_EXPIRED"));
    assert_eq!(info.metadata["cause"], "failed_over");
}

/// A token from before is refused, by a replica that has noticed.
async fn foreign(clients: &Clients, token: &str) {
    let refused = ask(clients, "acme", "kim", Fresh::Token(token.to_owned())).await.unwrap_err();
    let told = (refused.code(), reason(&refused));
    assert_eq!(told, (Code::InvalidArgument, "CONSISTENCY_TOKEN_FOREIGN".to_owned()));
}

/// Two replicas at an address that is led to a promoted standby.
async fn failover(loses_writes: bool) {
    let Some(primary) = postgres::dedicated() else { return };
    let database = primary.create_database();
    migrate(&primary.url(&database), &[]);
    let proxy = Proxy::start(primary.port()).await;
    let url = Cluster::url_at(proxy.port(), &database);
    let standby = primary.standby("");
    let settings = ["--max-staleness-ms", "1000", "--admin-addr", "127.0.0.1:0"];
    let mut fleet = Fleet::start(&[&url, &url], &[], &settings).await;
    let clients = fleet.clients.clone();
    let [one, two] = clients.as_slice() else { panic!() };
    make_tenant(one, "acme").await;
    let mut before = String::new();
    for member in ["kim", "lee", "sam"] {
        before = make_member(one, "acme", member).await.unwrap();
    }
    let mut streams = [watch(one, "").await.unwrap(), watch(two, "").await.unwrap()];
    primary.has_reached(&standby).await;
    if loses_writes {
        standby.cut_off().await;
    }
    // Enough transactions that the new primary gives their numbers again.
    for round in 0..20 {
        set(one, "acme", "kim", round % 2 == 1).await.unwrap();
    }
    make_member(one, "acme", "ghost").await.unwrap();
    let last = set(one, "acme", "kim", false).await.unwrap();
    let mut cursors = Vec::new();
    for (clients, stream) in [one, two].into_iter().zip(&mut streams) {
        seen(clients, "acme", "kim", NO, Instant::now(), PATIENCE).await;
        warm(clients, "acme", &["ghost", "lee"]).await;
        cursors.push(told(stream, &last).await);
    }
    if loses_writes {
        primary.kill();
    } else {
        // A clean end waits until the standby has everything.
        primary.stop();
    }
    standby.promote();
    proxy.switch_to(standby.port()).await;

    let (kim, ghost) = if loses_writes { (YES, NO) } else { (NO, YES) };
    for clients in [one, two] {
        until(PATIENCE, "the other history", async || {
            let refused = ask(clients, "acme", "kim", Fresh::Token(last.clone())).await;
            refused.is_err_and(|status| reason(&status) == "CONSISTENCY_TOKEN_FOREIGN")
                && is(clients, "kim", Fresh::Any, kim).await
        })
        .await;
        // From here on nothing is as it was before.
        for _ in 0..20 {
            for (member, expected) in [("kim", kim), ("ghost", ghost), ("lee", YES)] {
                let fresh = [Fresh::Any, Fresh::Full];
                for fresh in fresh {
                    let said = ask(clients, "acme", member, fresh).await.unwrap();
                    assert_eq!(said, expected, "{member}");
                }
            }
        }
        foreign(clients, &before).await;
        foreign(clients, &last).await;
    }
    for (clients, (stream, cursor)) in [one, two].into_iter().zip(streams.iter_mut().zip(&cursors))
    {
        let end = loop {
            match timeout(PATIENCE, stream.message()).await.expect("silence") {
                Ok(message) => assert!(message.unwrap().changes.is_empty()),
                Err(status) => break status,
            }
        };
        expired(&end);
        expired(&watch(clients, cursor).await.err().unwrap());
    }
    // Changes are noticed, whatever numbers they have, and tokens are understood everywhere.
    for (writer, reader, member, may) in
        [(one, two, "lee", false), (two, one, "lee", true), (one, two, "sam", false)]
    {
        let token = set(writer, "acme", member, may).await.unwrap();
        let committed = Instant::now();
        let expected = if may { YES } else { NO };
        let said = ask(reader, "acme", member, Fresh::Token(token)).await.unwrap();
        assert_eq!(said, expected);
        seen(reader, "acme", member, expected, committed, 4 * BOUND).await;
    }
    for server in &fleet.servers {
        let measured = scrape(server.admin.as_deref().unwrap()).await;
        let failed_over = [("cause", "failed_over")];
        assert_eq!(measured.value("rolegate_database_epochs_total", &failed_over), 1.0);
        assert_eq!(measured.value("rolegate_database_timeline", &[]), 2.0);
        assert!(server.log().contains("the database failed over"));
    }
    // One that starts later, and one that is started again, agree with those that went through it.
    let token = set(one, "acme", "lee", false).await.unwrap();
    fleet.servers.pop().unwrap().kill();
    for _ in 0..2 {
        let all = [["--database-url", &url].as_slice(), &settings].concat();
        let server = Server::start(fleet.directory(), &all);
        let late = Clients::connect(&server).await;
        let said = ask(&late, "acme", "lee", Fresh::Token(token.clone())).await.unwrap();
        assert_eq!(said, NO);
        foreign(&late, &before).await;
        foreign(&late, &last).await;
        expired(&watch(&late, &cursors[0]).await.err().unwrap());
        let theirs = make_member(&late, "acme", "late").await;
        if let Ok(theirs) = theirs {
            assert_eq!(ask(one, "acme", "late", Fresh::Token(theirs)).await.unwrap(), YES);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_loses_writes_is_another_history_for_all() {
    failover(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_loses_nothing_is_another_history_too() {
    failover(false).await;
}

/// Connections stay open to a primary that should be dead, and only the follower loses its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_that_lives_on_is_left_and_not_gone_back_to() {
    let Some(old) = postgres::dedicated() else { return };
    let database = old.create_database();
    migrate(&old.url(&database), &[]);
    let proxy = Proxy::start(old.port()).await;
    let url = Cluster::url_at(proxy.port(), &database);
    let new = old.standby("");
    let fleet = Fleet::start(&[&url], &[], &["--max-staleness-ms", "1000"]).await;
    let [clients] = fleet.clients.as_slice() else { panic!() };
    make_tenant(clients, "acme").await;
    make_member(clients, "acme", "kim").await.unwrap();
    old.has_reached(&new).await;
    new.cut_off().await;
    make_member(clients, "acme", "ghost").await.unwrap();
    warm(clients, "acme", &["kim", "ghost"]).await;
    // As many connections as there may be, all to the old one.
    let many = async || {
        let mut asking = JoinSet::new();
        for _ in 0..40 {
            let clients = clients.clone();
            asking.spawn(async move { ask(&clients, "acme", "ghost", Fresh::Full).await });
        }
        asking.join_all().await
    };
    assert!(many().await.into_iter().all(|said| said.unwrap() == YES));

    new.promote();
    proxy.lead_to(new.port());
    // The others rest: what is cached is answered without them.
    let follower = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}' \
         AND state_change > clock_timestamp() - interval '600 milliseconds'"
    );
    until(PATIENCE, "the new primary", async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        old.sql("postgres", &follower);
        is(clients, "ghost", Fresh::Any, NO).await
    })
    .await;
    let still_there = "SELECT 1 / least(count(*), 1) FROM pg_stat_activity WHERE datname = ";
    old.sql("postgres", &format!("{still_there}'{database}'"));
    for _ in 0..5 {
        let answers = many().await;
        assert!(answers.into_iter().all(|said| said.unwrap() == NO), "the old one has answered");
    }
    make_member(clients, "acme", "there").await.unwrap();
    let there = "SELECT 1 / count(*) FROM members WHERE id = 'there'";
    new.sql(&database, there);

    // The address leads back to the old one, which says that it is a primary.
    proxy.switch_to(old.port()).await;
    until(PATIENCE, "nobody to follow", async || {
        ask(clients, "acme", "kim", Fresh::Full).await.is_err()
    })
    .await;
    for _ in 0..20 {
        for fresh in [Fresh::Any, Fresh::Full] {
            if let Ok(said) = ask(clients, "acme", "ghost", fresh).await {
                assert!(!said.allowed, "back to a history that was left");
            }
        }
        make_member(clients, "acme", "lost").await.expect_err("written to the old one");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let log = fleet.servers[0].log();
    assert!(log.contains("an old primary, of timeline 1; timeline 2 was seen"), "{log}");
    proxy.switch_to(new.port()).await;
    until(PATIENCE, "the new primary again", async || is(clients, "there", Fresh::Full, YES).await)
        .await;
}
