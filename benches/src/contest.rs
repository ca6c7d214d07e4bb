//! Contenders side by side: each in every round, so that a machine that drifts drifts for all of
//! them, and only figures of one round are compared.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::load::{self, Exchange, Sample, Shape, Target, Times};
use rolegate_bench::Failure;

/// One of those that are measured beside each other.
pub(crate) struct Contender<'a> {
    /// Who.
    pub(crate) name: &'static str,
    /// What is asked of it.
    pub(crate) target: Target<'a>,
    /// How much at a time.
    pub(crate) shape: Shape,
    /// The questions.
    pub(crate) exchanges: &'a [Exchange],
    /// How many decisions a question stands for.
    pub(crate) decisions: usize,
    /// The server's process.
    pub(crate) pid: u32,
}

/// How often and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    pub(crate) count: usize,
    pub(crate) seconds: f64,
}

impl Rounds {
    fn times(self) -> Times {
        let measured = Duration::from_secs_f64(self.seconds);
        Times { warm_up: measured / 5, measured }
    }
}

/// What came of one contender, round by round.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    decisions: usize,
    samples: Vec<Sample>,
}

/// Measures all of them, in turn.
pub(crate) fn run(contenders: &[Contender<'_>], rounds: Rounds) -> Result<Vec<Outcome>, Failure> {
    let mut outcomes: Vec<Outcome> = contenders
        .iter()
        .map(|Contender { name, decisions, .. }| Outcome {
            name,
            decisions: *decisions,
            samples: Vec::new(),
        })
        .collect();
    for round in 0..rounds.count {
        for turn in 0..contenders.len() {
            // Nobody always comes first.
            let place = (turn + round) % contenders.len();
            let Contender { name, target, shape, exchanges, pid, .. } = &contenders[place];
            let sample = load::run(target, *shape, exchanges, rounds.times(), *pid)
                .map_err(|error| format!("{name}: {error}"))?;
            outcomes[place].samples.push(sample);
        }
    }
    Ok(outcomes)
}

impl Outcome {
    /// What each decision cost the server, in microseconds of CPU time, by round.
    pub(crate) fn costs(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.cost() / self.decisions as f64).collect()
    }

    /// The median over rounds.
    pub(crate) fn cost(&self) -> f64 {
        median(self.costs())
    }

    /// Decisions a second, the median over rounds.
    pub(crate) fn per_second(&self) -> f64 {
        let rate = |sample: &Sample| {
            sample.answered as f64 * self.decisions as f64 / sample.elapsed.as_secs_f64()
        };
        median(self.samples.iter().map(rate).collect())
    }

    /// The cost as a multiple of another's in the same round, the median over rounds.
    pub(crate) fn ratio(&self, other: &Outcome) -> f64 {
        ratio(&self.costs(), &other.costs())
    }

    /// How long questions waited, over all rounds.
    pub(crate) fn waited(&self) -> Result<Histogram<u64>, Failure> {
        let mut all = Histogram::new(3)?;
        for sample in &self.samples {
            all.add(&sample.waited)?;
        }
        Ok(all)
    }

    /// For whoever watches.
    pub(crate) fn tell(&self) {
        let costs: Vec<_> = self.costs().iter().map(|cost| format!("{cost:.2}")).collect();
        println!(
            "  {:<28} {:>9.3} us each ({}), {:>9.0} a second",
            self.name,
            self.cost(),
            costs.join(" "),
            self.per_second()
        );
    }
}

/// The median of what came of each round, one divided by the other.
pub(crate) fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect())
}

/// The middle one; of an even number the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
