//! Many questions a call.

use prost::Message as _;
use rolegate::grpc::pb;

use super::unary::micros;
use super::{PEOPLE, Scene, learn};
use crate::contest::{self, Contender, Outcome};
use crate::load::{Exchange, Shape};
use crate::table::{Figure, Row};
use rolegate_bench::Failure;
use rolegate_bench::workload::{Random, framed};

/// Checks in a batch.
const ITEMS: usize = 100;
/// Resources in a list.
const RESOURCES: usize = 10_000;

/// Batches of 100 checks, beside an echo that takes the same messages apart and puts them together.
pub(crate) fn batch(scene: &Scene) -> Result<Vec<Row>, Failure> {
    println!("BatchCheck, {ITEMS} checks a message, 8 connections with 8 under way on each");
    let mut random = Random(2);
    let batches: Vec<_> = (0..512).map(|_| PEOPLE.batch(ITEMS, &mut random)).collect();
    let questions: Vec<_> = batches.iter().map(|(request, _)| framed(request)).collect();
    let target = scene.rolegate("/rolegate.v1.AuthzService/BatchCheck");
    let exchanges = learn(&target, &questions, |place, answer| {
        use pb::check_item_result::Result::Decision;
        let answer = pb::BatchCheckResponse::decode(answer)?;
        let allowed = answer.items.iter().map(|item| match &item.result {
            Some(Decision(decision)) => decision.verdict() == pb::Verdict::Allowed,
            _ => false,
        });
        if allowed.eq(batches[place].1.iter().copied()) { Ok(()) } else { Err("others".into()) }
    })?;
    let what = format!("`BatchCheck`, {ITEMS} a message, each");
    beside_echo(
        scene,
        what,
        target,
        &exchanges,
        "/bench.Echo/Batch",
        Shape::closed(8, 8),
        ITEMS,
        1.1,
    )
}

/// Lists of 10,000 candidates.
pub(crate) fn filter(scene: &Scene) -> Result<Vec<Row>, Failure> {
    println!(
        "FilterResources, {RESOURCES} resources a message, 2 connections with 1 under way on each"
    );
    let mut random = Random(3);
    let lists: Vec<_> = (0..4).map(|_| PEOPLE.list(RESOURCES, &mut random)).collect();
    let questions: Vec<_> = lists.iter().map(|(request, _)| framed(request)).collect();
    let target = scene.rolegate("/rolegate.v1.AuthzService/FilterResources");
    let exchanges = learn(&target, &questions, |place, answer| {
        let answer = pb::FilterResourcesResponse::decode(answer)?;
        if answer.allowed_ids == lists[place].1 { Ok(()) } else { Err("others".into()) }
    })?;
    let what = format!("`FilterResources`, {RESOURCES} a message, each");
    let shape = Shape::closed(2, 1);
    beside_echo(scene, what, target, &exchanges, "/bench.Echo/Filter", shape, RESOURCES, 1.5)
}

#[allow(clippy::too_many_arguments, reason = "all of them differ")]
fn beside_echo(
    scene: &Scene,
    what: String,
    target: crate::load::Target<'_>,
    exchanges: &[Exchange],
    echo: &'static str,
    shape: Shape,
    decisions: usize,
    bound: f64,
) -> Result<Vec<Row>, Failure> {
    let back = |Exchange { question, .. }: &Exchange| Exchange {
        question: question.clone(),
        answer: question.clone(),
    };
    let echoed: Vec<_> = exchanges.iter().map(back).collect();
    let contenders = [
        Contender { name: "Rolegate", target, shape, exchanges, decisions, pid: scene.plain.pid() },
        Contender {
            name: "echo, default",
            target: scene.echo(&scene.echo_default, echo),
            shape,
            exchanges: &echoed,
            decisions,
            pid: scene.echo_default.pid(),
        },
    ];
    let outcomes = contest::run(&contenders, scene.rounds)?;
    outcomes.iter().for_each(Outcome::tell);
    let [ours, theirs] = outcomes.as_slice() else { return Err("lost".into()) };
    Ok(vec![Row {
        what,
        measured: micros(ours),
        against: "echo of the message, default".to_owned(),
        theirs: micros(theirs),
        figure: Figure::at_most(ours.ratio(theirs), bound),
    }])
}
