//! Many questions on one call.

use prost::Message as _;
use rolegate::grpc::pb;
use rolegate_bench::Failure;
use rolegate_bench::workload::{CHECK, Random, framed};

use super::unary::micros;
use super::{PEOPLE, Scene, learn_in};
use crate::contest::{self, Contender, Outcome};
use crate::load::{Calls, Exchange, Shape, Target};
use crate::table::{Figure, Row};

/// How many messages are under way: 8 connections with one stream each, and 32 messages on it.
const SHAPE: Shape = Shape::closed(8, 32);
/// Checks in a large message.
const ITEMS: usize = 100;

/// One check a message beside the unary check, and 100 a message beside an echo of the messages.
pub(crate) fn stream(scene: &Scene) -> Result<Vec<Row>, Failure> {
    println!("CheckStream, 8 connections with 32 messages under way on each");
    let target =
        Target { calls: Calls::Stream, ..scene.rolegate("/rolegate.v1.AuthzService/CheckStream") };
    let ones = questions(&target, 1, 8_192)?;
    let hundreds = questions(&target, ITEMS, 512)?;
    let back = |Exchange { question, .. }: &Exchange| Exchange {
        question: question.clone(),
        answer: question.clone(),
    };
    let echoed: Vec<_> = hundreds.iter().map(back).collect();
    let echo =
        Target { calls: Calls::Stream, ..scene.echo(&scene.echo_default, "/bench.Echo/Stream") };
    let pid = scene.plain.pid();
    let contenders = [
        Contender {
            name: "one check a message",
            target: target.clone(),
            shape: SHAPE,
            exchanges: &ones,
            decisions: 1,
            pid,
        },
        Contender {
            name: "unary, 8 x 8",
            target: scene.rolegate(CHECK),
            shape: Shape::closed(8, 8),
            exchanges: &scene.checks,
            decisions: 1,
            pid,
        },
        Contender {
            name: "100 checks a message",
            target,
            shape: SHAPE,
            exchanges: &hundreds,
            decisions: ITEMS,
            pid,
        },
        Contender {
            name: "echo, default, 100 a message",
            target: echo,
            shape: SHAPE,
            exchanges: &echoed,
            decisions: ITEMS,
            pid: scene.echo_default.pid(),
        },
    ];
    let outcomes = contest::run(&contenders, scene.rounds)?;
    outcomes.iter().for_each(Outcome::tell);
    let [ones, unary, hundreds, echo] = outcomes.as_slice() else { return Err("lost".into()) };
    let row = |what: String, ours: &Outcome, against: &str, theirs: &Outcome, bound| Row {
        what,
        measured: micros(ours),
        against: against.to_owned(),
        theirs: micros(theirs),
        figure: Figure::at_most(ours.ratio(theirs), bound),
    };
    let one = "`CheckStream`, 1 a message, 8 × 32".to_owned();
    let many = format!("`CheckStream`, {ITEMS} a message, each");
    Ok(vec![
        row(one, ones, "`Check`, 8 × 8", unary, 0.30),
        row(many, hundreds, "echo of the stream, default", echo, 1.1),
    ])
}

/// Messages of so many checks each, with their answers.
fn questions(target: &Target<'_>, items: usize, count: usize) -> Result<Vec<Exchange>, Failure> {
    let mut random = Random(8);
    let batch = |number: usize| PEOPLE.stream_batch(items, (number * items) as u64, &mut random);
    let batches: Vec<_> = (0..count).map(batch).collect();
    let questions: Vec<_> = batches.iter().map(|(request, _)| framed(request)).collect();
    let check = |place: usize, answer: &[u8]| {
        use pb::check_stream_result::Result::Decision;
        let answer = pb::CheckStreamResponse::decode(answer)?;
        let (request, allowed) = &batches[place];
        let alike = answer.results.len() == allowed.len()
            && answer.results.iter().zip(allowed).zip(&request.items).all(|((got, want), item)| {
                let verdict = matches!(&got.result, Some(Decision(decision))
                    if (decision.verdict() == pb::Verdict::Allowed) == *want);
                verdict && got.correlation_id == item.correlation_id
            });
        if alike { Ok(()) } else { Err(format!("{answer:?}").into()) }
    };
    // One by one: what has to ask the database is answered out of order. From then on everything is at
    // hand, so each message has one answer, in the order of the questions.
    learn_in(Shape::closed(1, 1), target, &questions, check)
}
