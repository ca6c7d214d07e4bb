//! Load: HTTP/2 connections that are driven by one thread without a client library, so that what is
//! measured is the server. Every answer is compared with what it has to be, byte by byte: no error
//! and no wrong verdict is measured as a fast one.
//!
//! - **Closed loop**: so many questions under way on each connection, the next one as soon as one is
//!   answered. For what a question costs.
//! - **Open loop**: questions come when they come, whether or not the ones before are answered, and
//!   the time to the answer counts from when a question was due. For how long callers wait: a server
//!   that stalls is charged for all who would have asked meanwhile (no coordinated omission).

mod connection;
mod frames;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use rustls::ClientConfig;

use self::connection::{Asked, Connection};
use rolegate_bench::Failure;

/// How long an answer may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// How questions are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Calls {
    /// A call each.
    Unary,
    /// A message each, on one call for each connection.
    Stream,
}

/// What is asked, and how.
#[derive(Debug, Clone)]
pub(crate) struct Target<'a> {
    /// The server.
    pub(crate) address: SocketAddr,
    /// With TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Such as `/rolegate.v1.AuthzService/Check`.
    pub(crate) path: &'a str,
    /// The caller's.
    pub(crate) token: Option<&'a str>,
    /// How questions are put.
    pub(crate) calls: Calls,
}

/// A question with its answer, both as gRPC messages with their heads.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// What is asked.
    pub(crate) question: Vec<u8>,
    /// What has to be answered; empty: whatever is not an error.
    pub(crate) answer: Vec<u8>,
}

/// How many ask, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many connections.
    pub(crate) connections: usize,
    /// How many questions under way on each; with a rate, no limit.
    pub(crate) in_flight: usize,
    /// Questions a second, evenly; none: a closed loop.
    pub(crate) rate: Option<u64>,
}

impl Shape {
    /// A closed loop.
    pub(crate) const fn closed(connections: usize, in_flight: usize) -> Self {
        Shape { connections, in_flight, rate: None }
    }
}

/// What came of a load.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// How many were answered in the time that counts.
    pub(crate) answered: u64,
    /// That time.
    pub(crate) elapsed: Duration,
    /// What the server ran in it.
    pub(crate) cpu: Duration,
    /// From when a question was due to its answer, in nanoseconds.
    pub(crate) waited: Histogram<u64>,
}

impl Sample {
    /// What one question cost the server, in microseconds of CPU time.
    pub(crate) fn cost(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answered.max(1) as f64
    }
}

/// How long to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// Before it counts.
    pub(crate) warm_up: Duration,
    /// What counts.
    pub(crate) measured: Duration,
}

/// Runs a load; `cpu` tells what the server has run between two points.
pub(crate) fn run(
    target: &Target<'_>,
    shape: Shape,
    exchanges: &[Exchange],
    times: Times,
    pid: u32,
) -> Result<Sample, Failure> {
    use crate::machine::CpuTime;
    let mut driver = Driver::new(target, shape.connections)?;
    let mut asking = Asking { next: 0, waited: Histogram::new(3)?, answered: 0 };
    let check = |asked: &Asked, answer: &[u8]| {
        let wanted = &exchanges[asked.question].answer;
        if wanted.is_empty() || wanted == answer {
            return Ok(());
        }
        Err(format!("a wrong answer to question {}: {answer:?}", asked.question).into())
    };
    let begin = Instant::now();
    driver.drive(shape, exchanges, begin, times.warm_up, &mut asking, &check)?;
    asking.answered = 0;
    asking.waited.reset();
    let (counted, before) = (Instant::now(), CpuTime::of(pid)?);
    let until = begin.elapsed() + times.measured;
    driver.drive(shape, exchanges, begin, until, &mut asking, &check)?;
    let (elapsed, after) = (counted.elapsed(), CpuTime::of(pid)?);
    let Asking { waited, answered, .. } = asking;
    Ok(Sample { answered, elapsed, cpu: after.since(&before), waited })
}

/// Asks every question once and gives the answers, with their gRPC heads.
pub(crate) fn ask(
    target: &Target<'_>,
    shape: Shape,
    questions: &[Vec<u8>],
) -> Result<Vec<Vec<u8>>, Failure> {
    let mut answers = vec![Vec::new(); questions.len()];
    let mut driver = Driver::new(target, shape.connections)?;
    let (mut next, mut open) = (0, questions.len());
    for connection in &mut driver.connections {
        for question in next..questions.len().min(next + shape.in_flight) {
            connection.ask(Asked { question, due: 0 }, &questions[question]);
            next += 1;
        }
        connection.flush()?;
    }
    while open > 0 {
        driver.wait(Some(PATIENCE))?;
        for place in driver.ready.drain(..) {
            let connection = &mut driver.connections[place];
            let before = open;
            connection.receive(&mut |asked, answer| {
                answers[asked.question] = answer.to_owned();
                open -= 1;
                Ok(())
            })?;
            for _ in 0..before - open {
                if let Some(message) = questions.get(next) {
                    connection.ask(Asked { question: next, due: 0 }, message);
                    next += 1;
                }
            }
            connection.flush()?;
        }
    }
    Ok(answers)
}

/// Where a load has got to.
struct Asking {
    next: usize,
    waited: Histogram<u64>,
    answered: u64,
}

impl Asking {
    fn next(&mut self, exchanges: &[Exchange]) -> usize {
        let question = self.next;
        self.next = (question + 1) % exchanges.len();
        question
    }
}

struct Driver {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    ready: Vec<usize>,
}

impl Driver {
    fn new(target: &Target<'_>, connections: usize) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let mut all = Vec::new();
        for place in 0..connections {
            let mut connection = Connection::new(target)?;
            let both = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut connection.wire.socket, Token(place), both)?;
            connection.flush()?;
            all.push(connection);
        }
        Ok(Driver { poll, events: Events::with_capacity(256), connections: all, ready: Vec::new() })
    }

    /// Which connections have something to read or room to write.
    fn wait(&mut self, patience: Option<Duration>) -> Result<(), Failure> {
        match self.poll.poll(&mut self.events, patience) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
        self.ready.clear();
        self.ready.extend(self.events.iter().map(|event| event.token().0));
        if self.ready.is_empty() && patience == Some(PATIENCE) {
            return Err("no answer within a minute".into());
        }
        Ok(())
    }

    /// Goes on asking until so long after `begin`.
    fn drive(
        &mut self,
        shape: Shape,
        exchanges: &[Exchange],
        begin: Instant,
        until: Duration,
        asking: &mut Asking,
        check: &dyn Fn(&Asked, &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let interval = shape.rate.map(|rate| 1_000_000_000 / rate.max(1));
        let mut due = nanos(begin.elapsed());
        if interval.is_none() {
            for connection in &mut self.connections {
                while connection.under_way() < shape.in_flight {
                    let question = asking.next(exchanges);
                    connection.ask(Asked { question, due }, &exchanges[question].question);
                }
                connection.flush()?;
            }
        }
        let mut turn = 0;
        loop {
            let mut now = nanos(begin.elapsed());
            if now >= nanos(until) {
                return Ok(());
            }
            if let Some(interval) = interval {
                while due <= now {
                    let question = asking.next(exchanges);
                    turn = (turn + 1) % self.connections.len();
                    let connection = &mut self.connections[turn];
                    connection.ask(Asked { question, due }, &exchanges[question].question);
                    connection.flush()?;
                    due += interval;
                }
                self.wait(Some(Duration::ZERO))?;
            } else {
                self.wait(Some(PATIENCE))?;
            }
            now = nanos(begin.elapsed());
            for place in self.ready.drain(..) {
                let connection = &mut self.connections[place];
                let mut done = 0;
                connection.receive(&mut |asked, answer| {
                    check(&asked, answer)?;
                    asking.waited.record(now.saturating_sub(asked.due))?;
                    done += 1;
                    Ok(())
                })?;
                asking.answered += done;
                if interval.is_none() {
                    for _ in 0..done {
                        let question = asking.next(exchanges);
                        let due = now;
                        connection.ask(Asked { question, due }, &exchanges[question].question);
                    }
                }
                connection.flush()?;
            }
        }
    }
}
