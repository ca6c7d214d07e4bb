//! What a check costs when a hundred times as many tenants are cached.

use std::path::Path;

use rolegate_bench::Failure;
use rolegate_bench::workload::{self, CHECK, People, Random, framed};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqliteSynchronous};
use sqlx::{QueryBuilder, Sqlite};

use super::unary::micros;
use crate::contest::{self, Contender, Outcome, Rounds};
use crate::load::{self, Calls, Shape, Target};
use crate::servers::Server;
use crate::setup::{Clients, Place};
use crate::table::{Figure, Row};

const FEW: People = People { first: 10_000, tenants: 1_000, members: 100 };
const MANY: People = People { first: 10_000, tenants: 100_000, members: 10 };
/// The tenant that the others are made like.
const MODEL: People = People { first: 9_999, tenants: 1, members: 4 };
/// How many different questions are asked.
const QUESTIONS: usize = 65_536;
/// What the caches may take: everything.
const CACHE: [&str; 2] = ["--cache-mib", "4096"];
/// Rows in one statement.
const CHUNK: usize = 2_000;

/// See the module.
pub(crate) fn scale(place: &Place, rounds: Rounds) -> Result<Vec<Row>, Failure> {
    println!("1,000 tenants of 100 members beside 100,000 tenants of 10, all cached");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut servers = Vec::new();
    for (people, database) in [(FEW, "few.db"), (MANY, "many.db")] {
        let model = place.serve("model", database, &[])?;
        runtime.block_on(async {
            Clients::connect(model.address, &place.token).await?.make(MODEL).await
        })?;
        drop(model);
        runtime.block_on(fill(&place.path().join(database), people))?;
        let server = place.serve(database, database, &CACHE)?;
        let mut random = Random(9);
        let tenants: Vec<usize> = (people.first..people.first + people.tenants).collect();
        for tenants in tenants.chunks(CHUNK) {
            let mut questions = Vec::new();
            for tenant in tenants {
                for member in 0..people.members {
                    let asked = people.question_of(*tenant, member, &mut random);
                    questions.push(framed(&asked.check()));
                }
            }
            load::ask(&target(place, &server), Shape::closed(8, 16), &questions)?;
        }
        let mut random = Random(10);
        let questions: Vec<_> =
            (0..QUESTIONS).map(|_| framed(&people.question(&mut random).check())).collect();
        let exchanges = super::learn(&target(place, &server), &questions, |_, _| Ok(()))?;
        println!("  {} tenants are cached", people.tenants);
        servers.push((server, exchanges));
    }
    let names = ["1,000 tenants", "100,000 tenants"];
    let contenders: Vec<_> = names
        .into_iter()
        .zip(&servers)
        .map(|(name, (server, exchanges))| Contender {
            name,
            target: target(place, server),
            shape: Shape::closed(8, 8),
            exchanges,
            decisions: 1,
            pid: server.pid(),
        })
        .collect();
    let outcomes = contest::run(&contenders, rounds)?;
    outcomes.iter().for_each(Outcome::tell);
    let [few, many] = outcomes.as_slice() else { return Err("lost".into()) };
    Ok(vec![Row {
        what: "`Check`, 100,000 tenants and 1,000,000 members cached".to_owned(),
        measured: micros(many),
        against: "1,000 tenants and 100,000 members".to_owned(),
        theirs: micros(few),
        figure: Figure::at_most(many.ratio(few), 1.5),
    }])
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

/// Makes tenants like the one that was made through the API: for a million members that would take
/// longer than all else together.
async fn fill(database: &Path, people: People) -> Result<(), Failure> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .foreign_keys(false)
        .synchronous(SqliteSynchronous::Off);
    let pool = SqlitePool::connect_with(options).await?;
    let mut tx = pool.begin().await?;
    let model = workload::tenant(MODEL.first);
    let all: Vec<usize> = (people.first..people.first + people.tenants).collect();
    for tenants in all.chunks(CHUNK) {
        let ids = tenants.iter().map(|tenant| workload::tenant(*tenant));
        let ids = format!("[{}]", ids.map(|id| format!("\"{id}\"")).collect::<Vec<_>>().join(","));
        for copy in [
            "INSERT INTO tenants SELECT j.value, catalog_id, catalog_version, plan, state, revision, \
             own_revision, created_at, updated_at, purge_at FROM tenants, json_each(?) j WHERE tenants.id = ?",
            "INSERT INTO roles SELECT j.value, roles.id, name, name_key, description, grants, revision, \
             created_at, updated_at FROM roles, json_each(?) j WHERE tenant_id = ?",
        ] {
            sqlx::query(copy).bind(&ids).bind(&model).execute(&mut *tx).await?;
        }
    }
    let custom: String = sqlx::query_scalar("SELECT id FROM roles WHERE tenant_id = ?")
        .bind(&model)
        .fetch_one(&mut *tx)
        .await?;
    let members: Vec<(usize, usize)> = all
        .iter()
        .flat_map(|tenant| (0..people.members).map(move |member| (*tenant, member)))
        .collect();
    for members in members.chunks(CHUNK) {
        let id = |(tenant, member): (usize, usize)| {
            (workload::tenant(tenant), workload::member(tenant, member))
        };
        let mut rows = QueryBuilder::<Sqlite>::new(
            "INSERT INTO members (tenant_id, id, status, revision, created_at, updated_at) ",
        );
        rows.push_values(members, |mut row, one| {
            let (tenant, member) = id(*one);
            row.push_bind(tenant).push_bind(member).push("'active', 1, 0, 0");
        });
        rows.build().execute(&mut *tx).await?;
        let mut rows = QueryBuilder::<Sqlite>::new(
            "INSERT INTO member_roles (tenant_id, member_id, role_id, position) ",
        );
        rows.push_values(members, |mut row, one| {
            let (tenant, member) = id(*one);
            let role = match workload::Role::of(one.1) {
                workload::Role::Custom => custom.clone(),
                default => default.default_id().to_owned(),
            };
            row.push_bind(tenant).push_bind(member).push_bind(role).push("0");
        });
        rows.build().execute(&mut *tx).await?;
        let mut rows = QueryBuilder::<Sqlite>::new(
            "INSERT INTO member_teams (tenant_id, member_id, team_id) ",
        );
        let teams = members.iter().flat_map(|one| {
            workload::teams(one.0, one.1).into_iter().map(move |team| (*one, team))
        });
        rows.push_values(teams, |mut row, (one, team)| {
            let (tenant, member) = id(one);
            row.push_bind(tenant).push_bind(member).push_bind(team);
        });
        rows.build().execute(&mut *tx).await?;
    }
    tx.commit().await?;
    pool.close().await;
    Ok(())
}
