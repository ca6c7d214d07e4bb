//! In process: the decision alone, a member that is cached, and one that is not.

use std::hint::black_box;
use std::time::Instant;

use sqlx::Row as _;

use rolegate_bench::Failure;
use rolegate_bench::inprocess::{self, Desk, MEMBERS, QUESTIONS, Ready};
use rolegate_bench::workload::{Asked, People, Random};

use crate::contest::{Rounds, median, ratio};
use crate::table::{Figure, Row, number};

/// Members that nobody has asked about.
const STRANGERS: usize = 20_000;

/// Nanoseconds each, over so many, from a start that is not always the same.
fn timed(count: usize, mut one: impl FnMut(usize) -> Result<(), Failure>) -> Result<f64, Failure> {
    let begin = Instant::now();
    for place in 0..count {
        one(place % QUESTIONS)?;
    }
    Ok(begin.elapsed().as_secs_f64() * 1e9 / count as f64)
}

/// The decision alone and the cache hit, beside other engines.
pub(crate) fn decisions(directory: &std::path::Path, rounds: Rounds) -> Result<Vec<Row>, Failure> {
    println!("in process: {QUESTIONS} questions about {MEMBERS} members");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ready = runtime.block_on(Ready::new(directory))?;
    let engines = Engines::new(&runtime, &ready)?;
    for (place, Asked { allowed, .. }) in ready.asked.iter().enumerate() {
        let ours = [ready.decide(place), runtime.block_on(ready.check(place))?];
        let all = ours.into_iter().chain(engines.decide(place)?);
        if all.into_iter().any(|decided| decided != *allowed) {
            return Err(format!("question {place} is not answered alike").into());
        }
    }
    let [mut alone, mut cached] = [Vec::new(), Vec::new()];
    let mut theirs = vec![Vec::new(); Engines::NAMES.len()];
    for _ in 0..rounds.count {
        alone.push(timed(4_000_000, |place| {
            black_box(ready.decide(black_box(place)));
            Ok(())
        })?);
        cached.push(runtime.block_on(async {
            let begin = Instant::now();
            for place in 0..1_000_000 {
                black_box(ready.check(black_box(place % QUESTIONS)).await?);
            }
            Ok::<_, Failure>(begin.elapsed().as_secs_f64() * 1e9 / 1e6)
        })?);
        for (engine, times) in theirs.iter_mut().enumerate() {
            times.push(timed(4 * QUESTIONS, |place| engines.one(engine, place))?);
        }
    }
    let nanos = |times: &[f64]| format!("{} ns", number(median(times.to_vec())));
    println!("  decision alone {}, cache hit {}", nanos(&alone), nanos(&cached));
    let mut rows = vec![Row {
        what: "decision alone, in process".to_owned(),
        measured: nanos(&alone),
        against: String::new(),
        theirs: String::new(),
        figure: Figure::at_most_of(median(alone.clone()), "ns", 20.0),
    }];
    for ((name, bound), times) in Engines::NAMES.iter().zip(&theirs) {
        println!("  {name} {}", nanos(times));
        rows.push(Row {
            what: "decision alone, in process".to_owned(),
            measured: nanos(&alone),
            against: (*name).to_owned(),
            theirs: nanos(times),
            figure: Figure::at_least(ratio(times, &alone), *bound),
        });
    }
    rows.push(Row {
        what: "cache hit, in process".to_owned(),
        measured: nanos(&cached),
        against: "decision alone".to_owned(),
        theirs: nanos(&alone),
        figure: Figure::ratio(ratio(&cached, &alone)),
    });
    Ok(rows)
}

/// A member that is not cached, beside the query that it takes.
pub(crate) fn cold(directory: &std::path::Path, rounds: Rounds) -> Result<Vec<Row>, Failure> {
    println!("cold checks, {STRANGERS} members of one tenant, SQLite");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let database = directory.join("cold.db");
        let desk = Desk::new(&database, STRANGERS).await?;
        let bare = sqlx::SqlitePool::connect(&format!("sqlite:{}", database.display())).await?;
        let people = People { first: 0, tenants: 1, members: STRANGERS };
        let mut random = Random(5);
        let asked: Vec<_> =
            (0..STRANGERS).map(|member| people.question_of(0, member, &mut random)).collect();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let share = STRANGERS / (rounds.count + 1);
        for (round, asked) in asked.chunks(share).enumerate() {
            let questions: Vec<_> = asked
                .iter()
                .map(|asked| inprocess::question(&asked.item))
                .collect::<Result<_, _>>()?;
            let begin = Instant::now();
            for member in &questions {
                let row = sqlx::query(BARE)
                    .bind(desk.tenant.as_str())
                    .bind(member.member.as_str())
                    .fetch_one(&bare)
                    .await?;
                black_box(row.get::<String, _>(0));
            }
            let query = begin.elapsed();
            let begin = Instant::now();
            for (question, asked) in questions.iter().zip(asked) {
                if desk.check(question).await? != asked.allowed {
                    return Err("a wrong answer".into());
                }
            }
            // The first round warms up: pages, statements, the tenant and its roles.
            if round > 0 && questions.len() == share {
                ours.push(begin.elapsed().as_secs_f64() * 1e6 / share as f64);
                theirs.push(query.as_secs_f64() * 1e6 / share as f64);
            }
        }
        let micros = |times: &[f64]| format!("{} µs", number(median(times.to_vec())));
        println!("  cold check {}, bare query {}", micros(&ours), micros(&theirs));
        Ok(vec![Row {
            what: "cold check, time".to_owned(),
            measured: micros(&ours),
            against: "the bare query".to_owned(),
            theirs: micros(&theirs),
            figure: Figure::at_most(ratio(&ours, &theirs), 1.3),
        }])
    })
}

/// What a decision needs to know of a member, in one question to the database.
const BARE: &str = "SELECT m.status, m.revision, t.revision,
    (SELECT json_group_array(role_id) FROM member_roles r
        WHERE r.tenant_id = m.tenant_id AND r.member_id = m.id),
    (SELECT json_group_array(team_id) FROM member_teams g
        WHERE g.tenant_id = m.tenant_id AND g.member_id = m.id)
    FROM members m JOIN tenants t ON t.id = m.tenant_id
    WHERE m.tenant_id = ? AND m.id = ?";

#[cfg(feature = "engines")]
struct Engines {
    casbin: crate::engines::Casbin,
    cedar: crate::engines::Cedar,
}

#[cfg(feature = "engines")]
impl Engines {
    const NAMES: [(&str, f64); 2] = [("casbin", 1_000.0), ("cedar-policy", 500.0)];

    fn new(runtime: &tokio::runtime::Runtime, ready: &Ready) -> Result<Self, Failure> {
        let items: Vec<_> = ready.asked.iter().map(|asked| asked.item.clone()).collect();
        let numbers: Vec<_> = ready.asked.iter().map(|asked| asked.member).collect();
        Ok(Engines {
            casbin: runtime.block_on(crate::engines::Casbin::new(MEMBERS, &items))?,
            cedar: crate::engines::Cedar::new(&items, &numbers)?,
        })
    }

    fn decide(&self, place: usize) -> Result<Vec<bool>, Failure> {
        Ok(vec![self.casbin.decide(place)?, self.cedar.decide(place)])
    }

    fn one(&self, engine: usize, place: usize) -> Result<(), Failure> {
        match engine {
            0 => black_box(self.casbin.decide(place)?),
            _ => black_box(self.cedar.decide(place)),
        };
        Ok(())
    }
}

#[cfg(not(feature = "engines"))]
struct Engines;

#[cfg(not(feature = "engines"))]
impl Engines {
    const NAMES: [(&str, f64); 0] = [];

    fn new(_: &tokio::runtime::Runtime, _: &Ready) -> Result<Self, Failure> {
        Ok(Engines)
    }

    fn decide(&self, _: usize) -> Result<Vec<bool>, Failure> {
        Ok(Vec::new())
    }

    fn one(&self, _: usize, _: usize) -> Result<(), Failure> {
        Ok(())
    }
}
