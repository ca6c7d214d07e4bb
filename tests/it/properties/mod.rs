//! Properties: random catalogs, roles, members and resources, and every way of asking about them,
//! which must all agree with each other and with the [reference](crate::reference).
//!
//! By default this is a short run of the same cases every time. `ROLEGATE_PROPERTY_CASES=2000`
//! makes it a long one of new cases; `PROPTEST_RNG_SEED` repeats such a run.
//!
//! - [`generate`]: makes the random values, sound where they must be.
//! - [`toml`], [`convert`]: say them in the crate's terms.
//! - [`tenant`]: puts them into a database.
//! - [`compare`], [`queries`], [`sql`]: ask in every way, and compare.
//! - [`previews`]: ask what a change would do, and compare.
//! - [`writes`]: change a tenant, in the database and in the reference.
//! - [`concurrent`]: ask while a change is being made.

mod compare;
mod concurrent;
mod convert;
mod coverage;
mod generate;
mod previews;
mod queries;
mod sql;
mod tenant;
mod toml;
mod writes;

use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use rolegate::domain::ids::TenantId;
use rolegate::service::token::Consistency;
use rolegate::store::{DecisionSource, Keyring};
use tokio::runtime::Runtime;

use compare::{Asked, Row, expected, expected_of};
use concurrent::{Reader, revision};
use coverage::Coverage;
use generate::{Case, OWNER, PEOPLE, Write, case, write};
use sql::CallersTables;
use tenant::Service;
use writes::State;

use crate::reference::decide::Answer;
use crate::reference::model::Resource;

/// How many cases a short run takes of a property that is quick to look at.
const FEW: u32 = 20;

/// Runs a property over random cases: `few` of them, or that share of as many as are asked for.
fn for_all<T: std::fmt::Debug>(
    runtime: &Runtime,
    few: u32,
    strategy: impl Strategy<Value = T>,
    property: impl AsyncFn(T) -> Result<(), TestCaseError>,
) {
    let many = many_cases();
    let mut config = Config { failure_persistence: None, ..Config::default() };
    config.max_shrink_iters = config.max_shrink_iters.min(500);
    config.cases = many.map_or(few, |many| (many * few / FEW).max(1));
    let seed = match (config.rng_seed, many) {
        (RngSeed::Fixed(seed), _) => seed,
        (RngSeed::Random, None) => 1,
        (RngSeed::Random, Some(_)) => {
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
        }
    };
    config.rng_seed = RngSeed::Fixed(seed);
    let mut runner = TestRunner::new(config);
    if let Err(failure) = runner.run(&strategy, |value| runtime.block_on(property(value))) {
        panic!("with PROPTEST_RNG_SEED={seed}: {failure}");
    }
}

/// How many cases a long run is asked for.
fn many_cases() -> Option<u32> {
    let cases = std::env::var("ROLEGATE_PROPERTY_CASES").ok();
    cases.map(|cases| cases.parse().expect("ROLEGATE_PROPERTY_CASES is a number"))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// `Check == BatchCheck == FilterResources == PlanFilter as SQL == ListEffectivePermissions ==
/// ListAuthorizedMembers == Explain ==` the reference, for every member, permission and resource.
#[test]
fn every_way_of_asking_gives_the_same_answer() {
    let runtime = runtime();
    let service = runtime.block_on(tenant::uncached());
    let tables = runtime.block_on(CallersTables::new());
    let coverage = Coverage::default();
    for_all(&runtime, FEW, case(), async |case: Case| {
        // One question at a time takes long; the batch asks them all.
        let step = if many_cases().is_some() { 1 } else { 4 };
        let (tenant, catalog) = service.make(&case).await;
        let asked = Asked {
            service: &service,
            tenant: &tenant,
            catalog: &catalog,
            world: &case.world,
            resources: &case.resources,
            consistency: Consistency::default(),
        };
        let rows = expected(&case.world, &case.resources);
        asked.batch_agrees(&rows, &coverage).await?;
        asked.checks_agree(&rows, step).await?;
        asked.filters_agree(&rows, &coverage).await?;
        asked.plans_agree(&rows, &tables, &coverage).await?;
        asked.effective_agrees().await?;
        asked.authorized_members_agree(&rows, 2).await?;
        asked.explanations_agree(&rows, 2 * step).await
    });
    coverage.must_have_seen(&[
        "GRANTED_BY_ROLE",
        "GRANTED_TO_EVERYONE",
        "MEMBER_NOT_FOUND",
        "MEMBER_ARCHIVED",
        "PERMISSION_NOT_GRANTED",
        "OUT_OF_SCOPE",
        "RESOURCE_REQUIRED",
        "RESOURCE_ATTRIBUTE_REQUIRED",
        "several roles decide",
        "incomplete resources",
        "selected",
        "not selected",
        "plan term any",
        "plan term assignee",
        "plan term team",
        "plan term unassigned",
        "plan term team_unassigned",
        "plan term pool",
        "plan term creator",
        "plan term participant",
        "plan term public",
    ]);
}

/// After every write, and while it is being made, the answers are those of the reference: with
/// the database alone.
#[test]
fn the_database_answers_follow_every_write() {
    let runtime = runtime();
    let service = runtime.block_on(tenant::uncached());
    let coverage = Coverage::default();
    answers_follow_writes(&runtime, 4, &coverage, &service);
}

/// The same with the cache in front of it, which must forget all that a write touches.
#[test]
fn cached_answers_follow_every_write() {
    let runtime = runtime();
    let service = runtime.block_on(tenant::cached(10_000_000));
    let coverage = Coverage::default();
    answers_follow_writes(&runtime, FEW, &coverage, &service);
    coverage.must_have_seen(&[
        "a role that is accepted",
        "a role that is refused",
        "a preview with gains",
        "a preview with losses",
    ]);
}

/// The same with a cache that holds next to nothing, so that something is being read all the time
/// while the writes come in.
#[test]
fn answers_of_a_tiny_cache_follow_every_write() {
    let runtime = runtime();
    let service = runtime.block_on(tenant::cached(4_000));
    let coverage = Coverage::default();
    answers_follow_writes(&runtime, 8, &coverage, &service);
}

fn answers_follow_writes<S: DecisionSource>(
    runtime: &Runtime,
    few: u32,
    coverage: &Coverage,
    service: &Service<S>,
) {
    let tables = runtime.block_on(CallersTables::new());
    let cases = (case(), prop::collection::vec(write(), 1..=10));
    for_all(runtime, few, cases, async |(case, writes): (Case, Vec<Write>)| {
        let (tenant, _) = service.make(&case).await;
        let mut state = State::of(&case);
        for write in &writes {
            state = one_write(service, &tenant, &case.resources, state, write, coverage).await?;
        }
        let keys = Keyring::new(service.store.database_audit_key().clone(), []);
        let trail = service.store.verify_audit(&tenant, &keys, &[]).await.unwrap();
        prop_assert!(trail.is_sound(), "{:?}", trail);
        let catalog = service.roles.catalog(&tenant).await.unwrap();
        let asked = Asked {
            service,
            tenant: &tenant,
            catalog: &catalog,
            world: &state.world,
            resources: &case.resources,
            consistency: Consistency::default(),
        };
        let rows = expected(&state.world, &case.resources);
        asked.batch_agrees(&rows, coverage).await?;
        asked.filters_agree(&rows, coverage).await?;
        asked.plans_agree(&rows, &tables, coverage).await?;
        asked.effective_agrees().await?;
        asked.explanations_agree(&rows, 20).await
    });
}

/// Asks before a write, while it is being made, and afterwards.
async fn one_write<S: DecisionSource>(
    service: &Service<S>,
    tenant: &TenantId,
    resources: &[Resource],
    state: State,
    write: &Write,
    coverage: &Coverage,
) -> Result<State, TestCaseError> {
    let everybody = || PEOPLE.into_iter().chain([OWNER]);
    let before = expected_of(everybody(), &state.world, resources);
    let catalog = service.roles.catalog(tenant).await.unwrap();
    let mut asked = Asked {
        service,
        tenant,
        catalog: &catalog,
        world: &state.world,
        resources,
        consistency: Consistency::default(),
    };
    // Twice: with nothing cached, or what was left by the last write; and from the cache.
    asked.batch_agrees(&before, coverage).await?;
    asked.batch_agrees(&before, coverage).await?;

    let mut planned = writes::plan(&state, write);
    asked.preview_agrees(&planned, coverage).await?;
    let questions = every_third(asked.questions(&before));
    let reader = match write {
        // There is nothing that could be compared.
        Write::MoveCatalog | Write::DeleteAndRestoreTenant => None,
        _ => Some(Reader::start(service, tenant, &questions)),
    };
    let token = service.write(tenant, &mut planned, coverage).await?;
    let after = expected_of(everybody(), &planned.after.world, resources);
    if let Some(reader) = reader {
        let written_at = token.clone().map_or(0, |token| revision(&service.tokens, tenant, token));
        let (before, after) = (every_third(answers(&before)), every_third(answers(&after)));
        reader.finish(&before, &after, written_at).await?;
    }

    let catalog = service.roles.catalog(tenant).await.unwrap();
    asked.catalog = &catalog;
    asked.world = &planned.after.world;
    asked.checks_agree(&after, 5).await?;
    if let Some(token) = token {
        asked.consistency = Consistency::AtLeastAsFresh(vec![token]);
        asked.checks_agree(&after, 7).await?;
    }
    asked.consistency = Consistency::FullyConsistent;
    asked.checks_agree(&after, 37).await?;
    Ok(planned.after)
}

/// Few enough to be asked again and again while something is being written.
fn every_third<T>(all: Vec<T>) -> Vec<T> {
    all.into_iter().step_by(3).collect()
}

/// All answers, in the order of the questions.
fn answers(rows: &[Row<'_>]) -> Vec<Answer> {
    rows.iter().flat_map(|row| row.answers.clone()).collect()
}
