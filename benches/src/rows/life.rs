//! What happens less often: a change, a start, and what memory holds.

use std::time::{Duration, Instant};

use prost::Message as _;
use rolegate::grpc::pb;
use rolegate::grpc::pb::consistency::Requirement;

use super::{PEOPLE, Scene, learn};
use crate::contest::{self, Contender, Outcome, Rounds, median};
use crate::load::{self, Calls, Exchange, Shape, Target};
use crate::machine;
use crate::servers::Server;
use crate::setup::{Clients, Place};
use crate::table::{Figure, Row, number};
use rolegate_bench::Failure;
use rolegate_bench::workload::{self, CHECK, People, Random, Role, framed};

/// Members whose memory is measured.
const MEMBERS: People = People { first: 1_000, tenants: 10, members: 10_000 };
/// Roles whose memory is measured.
const ROLES: usize = 4_000;

/// A change: a member gets another role, again and again.
pub(crate) fn mutation(scene: &Scene) -> Result<Vec<Row>, Failure> {
    println!("AssignRoles, one after another, SQLite");
    // A tenant whose state no other question depends on.
    let tenant = PEOPLE.tenants;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut clients = Clients::connect(scene.plain.address, &scene.place.token).await?;
        clients.make(People { first: tenant, tenants: 1, members: 1 }).await
    })?;
    let assign = |role: Role| Exchange {
        question: framed(&pb::AssignRolesRequest {
            tenant_id: workload::tenant(tenant),
            member_id: workload::member(tenant, 0),
            role_ids: vec![role.default_id().to_owned()],
            ..Default::default()
        }),
        // Each has a revision of its own.
        answer: Vec::new(),
    };
    let exchanges = [assign(Role::Lead), assign(Role::Agent)];
    let shape = Shape::closed(1, 1);
    let echo = "/bench.Echo/Payload";
    let contenders = [
        Contender {
            name: "Rolegate",
            target: scene.rolegate("/rolegate.v1.MemberService/AssignRoles"),
            shape,
            exchanges: &exchanges,
            decisions: 1,
            pid: scene.plain.pid(),
        },
        Contender {
            name: "echo, default",
            target: scene.echo(&scene.echo_default, echo),
            shape,
            exchanges: &scene.payloads,
            decisions: 1,
            pid: scene.echo_default.pid(),
        },
    ];
    let outcomes = contest::run(&contenders, scene.rounds)?;
    outcomes.iter().for_each(Outcome::tell);
    let [ours, theirs] = outcomes.as_slice() else { return Err("lost".into()) };
    let waited = ours.waited()?;
    let commits = runtime.block_on(commits(scene.place.path(), scene.rounds))?;
    let millis = |nanos: f64| format!("{} ms", number(nanos / 1e6));
    let median_wait = waited.value_at_quantile(0.5) as f64;
    println!("  p50 {}, a bare commit {}", millis(median_wait), millis(commits));
    Ok(vec![
        Row {
            what: "`AssignRoles`, one at a time".to_owned(),
            measured: super::unary::micros(ours),
            against: "echo, default".to_owned(),
            theirs: super::unary::micros(theirs),
            figure: Figure::ratio(ours.ratio(theirs)),
        },
        Row {
            what: "`AssignRoles`, one at a time: time, p50".to_owned(),
            measured: millis(median_wait),
            against: "a bare durable commit".to_owned(),
            theirs: millis(commits),
            figure: Figure::ratio(median_wait / commits),
        },
    ])
}

/// What SQLite takes to make one row durable here, in nanoseconds.
async fn commits(directory: &std::path::Path, rounds: Rounds) -> Result<f64, Failure> {
    use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
    let options = SqliteConnectOptions::new()
        .filename(directory.join("commit.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    let pool = sqlx::SqlitePool::connect_with(options).await?;
    sqlx::query("CREATE TABLE one (id INTEGER PRIMARY KEY, value INTEGER)").execute(&pool).await?;
    sqlx::query("INSERT INTO one VALUES (1, 0)").execute(&pool).await?;
    let mut times = Vec::new();
    for _ in 0..rounds.count * 100 {
        let begin = Instant::now();
        sqlx::query("UPDATE one SET value = value + 1").execute(&pool).await?;
        times.push(begin.elapsed().as_nanos() as f64);
    }
    Ok(median(times))
}

/// From starting the program to its first answer, with a database that is not there yet, and with
/// one that is there and empty.
pub(crate) fn start(place: &Place, rounds: Rounds) -> Result<Vec<Row>, Failure> {
    println!("start to the first answer");
    let question = framed(&PEOPLE.question(&mut Random(6)).check());
    let once = |database: &str| -> Result<f64, Failure> {
        let begin = Instant::now();
        let server = place.serve("start", database, &[])?;
        let target = target(place, &server);
        load::ask(&target, Shape::closed(1, 1), std::slice::from_ref(&question))?;
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    };
    let (mut new, mut empty) = (Vec::new(), Vec::new());
    for round in 0..rounds.count {
        let database = format!("start-{round}.db");
        new.push(once(&database)?);
        empty.push(once(&database)?);
    }
    let row = |what: &str, times: Vec<f64>| {
        let time = median(times);
        println!("  {what}: {time:.1} ms");
        Row {
            what: format!("start to the first answer, {what}"),
            measured: format!("{} ms", number(time)),
            against: String::new(),
            theirs: String::new(),
            figure: Figure::at_most_of(time, "ms", 100.0),
        }
    };
    Ok(vec![row("empty database", empty), row("no database yet", new)])
}

/// What cached members and roles take.
pub(crate) fn memory(place: &Place) -> Result<Vec<Row>, Failure> {
    println!("memory");
    let server = place.serve("memory", "memory.db", &["--database-connections", "2"])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tenant = MEMBERS.first + MEMBERS.tenants;
    let (few, many) = (tenant, tenant + 1);
    runtime.block_on(async {
        let mut clients = Clients::connect(server.address, &place.token).await?;
        clients.make(MEMBERS).await?;
        for tenant in [few, many] {
            clients.make_tenant(tenant).await?;
            let first = clients.make_role(tenant, "Role 0").await?;
            let mut roles = vec![first];
            for number in 1..if tenant == many { ROLES } else { 1 } {
                roles.push(clients.make_role(tenant, &format!("Role {number}")).await?);
            }
            let role = |member: usize| roles[member % roles.len()].clone();
            clients.make_members(tenant, ROLES, role).await?;
        }
        Ok::<_, Failure>(())
    })?;
    drop(server);
    // Other processes: nothing of the set-up is in their memory.
    let again = || place.serve("memory", "memory.db", &["--database-connections", "2"]);
    let grown = |server: &Server, people: People| -> Result<f64, Failure> {
        let target = target(place, server);
        let all = |consistency: Option<pb::Consistency>| {
            let mut random = Random(7);
            let mut questions = Vec::new();
            for tenant in people.first..people.first + people.tenants {
                for member in 0..people.members {
                    let mut check = people.question_of(tenant, member, &mut random).check();
                    check.consistency = consistency.clone();
                    questions.push(framed(&check));
                }
            }
            questions
        };
        let ask = |questions: &[Vec<u8>]| {
            learn(&target, questions, |_, answer| {
                let answer = pb::CheckResponse::decode(answer)?;
                let found = answer.decision.is_some_and(|decision| {
                    decision.reason() != pb::DecisionReason::MemberNotFound
                });
                if found { Ok(()) } else { Err("no member".into()) }
            })
        };
        // Past the cache first, so that buffers and the database's own pages do not count.
        let past = pb::Consistency { requirement: Some(Requirement::FullyConsistent(true)) };
        ask(&all(Some(past)))?;
        std::thread::sleep(Duration::from_secs(1));
        let before = machine::resident(server.pid())?;
        let questions = all(None);
        ask(&questions)?;
        ask(&questions)?;
        std::thread::sleep(Duration::from_secs(1));
        let after = machine::resident(server.pid())?;
        Ok(after as f64 - before as f64)
    };
    let members = (MEMBERS.tenants * MEMBERS.members) as f64;
    let members_grown = grown(&again()?, MEMBERS)?;
    let mib = members_grown / f64::from(1 << 20);
    let one = |first| People { first, tenants: 1, members: ROLES };
    // The difference of two small growths, and an allocator takes memory by the piece.
    let mut differences = Vec::new();
    for _ in 0..5 {
        let server = again()?;
        let (same, different) = (grown(&server, one(few))?, grown(&server, one(many))?);
        println!("  {ROLES} members of one role {same}, of as many roles {different} bytes");
        differences.push((different - same) / ROLES as f64);
    }
    let role = median(differences);
    println!("  {members} members {mib:.1} MiB");
    Ok(vec![
        Row {
            what: format!("memory of {} cached members", number(members)),
            measured: format!("{} bytes each", number(members_grown / members)),
            against: String::new(),
            theirs: String::new(),
            figure: Figure::at_most_of(mib, "MiB", 32.0),
        },
        Row {
            what: format!("memory of a cached role of {} grants", Role::Custom.grants().count()),
            measured: format!("{} bytes", number(role)),
            against: String::new(),
            theirs: String::new(),
            figure: Figure::at_most_of(role / 1024.0, "KiB", 1.5),
        },
    ])
}

fn target<'a>(place: &'a Place, server: &Server) -> Target<'a> {
    Target {
        address: server.address,
        tls: None,
        path: CHECK,
        token: Some(&place.token),
        calls: Calls::Unary,
    }
}
