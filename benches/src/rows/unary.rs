//! One question a call.

use super::Scene;
use crate::contest::{self, Contender, Outcome};
use crate::load::{Exchange, Shape, Target};
use crate::servers::Server;
use crate::table::{Figure, Row, number};
use rolegate_bench::Failure;
use rolegate_bench::workload::CHECK;

const ECHO: &str = "/bench.Echo/Payload";
/// Questions a second for how long callers wait: well below what the slowest carries.
const RATE: u64 = 8_000;

/// What a check costs, beside both echoes, for connections × calls under way.
pub(crate) fn costs(scene: &Scene) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for (connections, in_flight, bound) in [(8, 8, 0.35), (64, 1, 0.75), (1, 1, 0.80)] {
        println!("Check, {connections} connections with {in_flight} under way on each");
        let shape = Shape::closed(connections, in_flight);
        let with_tls = connections == 8;
        let mut contenders = beside_echoes(scene, shape);
        if with_tls {
            contenders.push(check(
                scene.rolegate_tls(CHECK),
                "Rolegate, TLS",
                shape,
                scene,
                &scene.tls,
            ));
        }
        let outcomes = contest::run(&contenders, scene.rounds)?;
        outcomes.iter().for_each(Outcome::tell);
        let [ours, default, tuned, ..] = outcomes.as_slice() else { return Err("lost".into()) };
        let row = |against: &str, theirs: &Outcome, bound| Row {
            what: format!("`Check`, {connections} × {in_flight}"),
            measured: micros(ours),
            against: against.to_owned(),
            theirs: micros(theirs),
            figure: Figure::at_most(ours.ratio(theirs), bound),
        };
        rows.push(row("echo, default", default, bound));
        rows.push(row("echo, tuned", tuned, 1.35));
        if let Some(tls) = outcomes.get(3) {
            rows.push(Row {
                what: format!("`Check` with TLS, {connections} × {in_flight}"),
                measured: micros(tls),
                against: "without".to_owned(),
                theirs: micros(ours),
                figure: Figure::at_most(tls.ratio(ours), 1.35),
            });
        }
    }
    Ok(rows)
}

/// How long callers wait at a rate that all carry.
pub(crate) fn waits(scene: &Scene) -> Result<Vec<Row>, Failure> {
    println!("Check, {RATE} a second over 8 connections, time from when each was due");
    let shape = Shape { connections: 8, in_flight: 0, rate: Some(RATE) };
    let outcomes = contest::run(&beside_echoes(scene, shape), scene.rounds)?;
    let mut texts = Vec::new();
    for outcome in &outcomes {
        let waited = outcome.waited()?;
        let at = |quantile| number(waited.value_at_quantile(quantile) as f64 / 1e3);
        texts.push(format!("{} / {} / {} µs", at(0.5), at(0.99), at(0.999)));
        println!("  {:<28} {}", outcome.name, texts.last().map_or("", String::as_str));
    }
    let [ours, default, tuned] = texts.as_slice() else { return Err("lost".into()) };
    let row = |against: &str, theirs: &String| Row {
        what: format!("`Check`, {} a second: p50 / p99 / p99.9", number(RATE as f64)),
        measured: ours.clone(),
        against: against.to_owned(),
        theirs: theirs.clone(),
        figure: None,
    };
    Ok(vec![row("echo, default", default), row("echo, tuned", tuned)])
}

fn beside_echoes(scene: &Scene, shape: Shape) -> Vec<Contender<'_>> {
    let echo = |server, name| Contender {
        exchanges: scene.payloads.as_slice(),
        ..check(scene.echo(server, ECHO), name, shape, scene, server)
    };
    vec![
        check(scene.rolegate(CHECK), "Rolegate", shape, scene, &scene.plain),
        echo(&scene.echo_default, "echo, default"),
        echo(&scene.echo_tuned, "echo, tuned"),
    ]
}

fn check<'a>(
    target: Target<'a>,
    name: &'static str,
    shape: Shape,
    scene: &'a Scene,
    server: &Server,
) -> Contender<'a> {
    let exchanges: &[Exchange] = &scene.checks;
    Contender { name, target, shape, exchanges, decisions: 1, pid: server.pid() }
}

pub(crate) fn micros(outcome: &Outcome) -> String {
    format!("{} µs", number(outcome.cost()))
}
