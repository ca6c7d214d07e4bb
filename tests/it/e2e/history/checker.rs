//! The judge: replays what the audit trail says was committed, and says of every answer whether it
//! may have been given. It knows nothing of how the service works, only what it promises.
//!
//! A token is opaque here: it names the revision of the write that was acknowledged with it, and two
//! answers with equal tokens are of one state.

use std::collections::{BTreeMap, HashMap};

use super::model::State;
use super::record::{Answer, Check, Committed, Ending, History, Op, Verdict, Want, Write};

/// By how much the wall clock, which `stale_since` is told by, may differ from the run's.
const CLOCK_SLACK: u64 = 100_000;

/// What was looked at, for a person.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    pub(crate) committed: usize,
    pub(crate) unchanged: usize,
    pub(crate) refused: usize,
    /// Failed writes, and how many of them were made all the same.
    pub(crate) unknown: (usize, usize),
    pub(crate) answers: usize,
    pub(crate) with_token: usize,
    pub(crate) failed: usize,
    pub(crate) marked_stale: usize,
    /// Answers that lacked a write that was acknowledged before they were asked for, and could.
    pub(crate) behind: usize,
    /// The longest that an acknowledged write was still missing, in microseconds.
    pub(crate) most_behind: u64,
}

/// Looks at everything.
///
/// # Errors
/// Every promise that was broken.
pub(crate) fn judge(history: &History) -> Result<Summary, Vec<String>> {
    let mut summary = Summary::default();
    let mut faults = Vec::new();
    let mut tenants: BTreeMap<&str, (Vec<&Write>, Vec<&Check>)> = BTreeMap::new();
    for write in &history.writes {
        tenants.entry(&write.tenant).or_default().0.push(write);
    }
    for check in &history.checks {
        tenants.entry(&check.tenant).or_default().1.push(check);
    }
    for (tenant, (writes, checks)) in tenants {
        let trail = history.trail.get(tenant).map(Vec::as_slice).unwrap_or_default();
        match Line::replay(trail, &writes) {
            Ok(line) => {
                line.judge_writes(&writes, history.faults, &mut summary, &mut faults);
                line.judge_checks(history, &checks, &mut summary, &mut faults);
            }
            Err(fault) => faults.push(format!("{tenant}: {fault}")),
        }
    }
    if faults.is_empty() { Ok(summary) } else { Err(faults) }
}

/// The committed states of one tenant. Index 0: before it was made.
struct Line<'h> {
    states: Vec<Option<State>>,
    /// The write that made each revision; none for 0.
    writes: Vec<Option<&'h Write>>,
    revision_of: HashMap<&'h str, usize>,
    /// Of tokens that acknowledged a write.
    named: HashMap<&'h str, usize>,
    /// When which revision was acknowledged, by anyone.
    acknowledged: Newest,
}

/// The newest revision that was known by a time.
#[derive(Default)]
struct Newest(Vec<(u64, usize)>);

impl Newest {
    fn of(mut seen: Vec<(u64, usize)>) -> Newest {
        seen.sort_unstable();
        let mut newest = 0;
        for (_, revision) in &mut seen {
            newest = newest.max(*revision);
            *revision = newest;
        }
        Newest(seen)
    }

    fn before(&self, time: u64) -> usize {
        let count = self.0.partition_point(|(at, _)| *at < time);
        count.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

impl<'h> Line<'h> {
    fn replay(trail: &'h [Committed], writes: &[&'h Write]) -> Result<Line<'h>, String> {
        let by_request: HashMap<&str, &'h Write> =
            writes.iter().map(|write| (write.request_id.as_str(), *write)).collect();
        let mut line = Line {
            states: vec![None],
            writes: vec![None],
            revision_of: HashMap::new(),
            named: HashMap::new(),
            acknowledged: Newest::default(),
        };
        let mut trail: Vec<&Committed> = trail.iter().collect();
        trail.sort_by_key(|committed| committed.revision);
        for (number, committed) in trail.into_iter().enumerate() {
            let revision = number + 1;
            if committed.revision != revision as u64 {
                return Err(format!("revision {revision} is missing, or there twice"));
            }
            let Some(write) = by_request.get(committed.request_id.as_str()) else {
                return Err(format!("revision {revision} is a write that nobody made"));
            };
            if line.revision_of.insert(&committed.request_id, revision).is_some() {
                return Err(format!("{} was made twice", committed.request_id));
            }
            let made = committed.roles.first().map(String::as_str);
            let state = State::after(line.states[number].as_ref(), &write.op, made)
                .map_err(|why| format!("revision {revision}, {:?}: {why}", write.op))?;
            line.states.push(Some(state));
            line.writes.push(Some(write));
        }
        let mut acknowledged = Vec::new();
        for write in writes {
            let Ending::Done { token } = &write.ending else { continue };
            let Some(&revision) = line.revision_of.get(write.request_id.as_str()) else { continue };
            acknowledged.push((write.end, revision));
            if line.named.insert(token, revision).is_some() {
                return Err(format!("revision {revision} has the token of another"));
            }
        }
        line.acknowledged = Newest::of(acknowledged);
        Ok(line)
    }

    fn judge_writes(
        &self,
        writes: &[&Write],
        may_fail: bool,
        summary: &mut Summary,
        faults: &mut Vec<String>,
    ) {
        for write in writes {
            let revision = self.revision_of.get(write.request_id.as_str()).copied();
            let mut fault = |what: &str| faults.push(format!("{what}: {write:?}"));
            match (&write.ending, revision) {
                (Ending::Done { .. }, Some(revision)) => {
                    summary.committed += 1;
                    if self.acknowledged.before(write.start) >= revision {
                        fault("it was made before one that had ended when it began");
                    }
                }
                (Ending::Done { token }, None) => {
                    summary.unchanged += 1;
                    // An answer may name a state whose own acknowledgement was lost.
                    let Some(&named) = self.named.get(token.as_str()) else {
                        if !may_fail {
                            fault("acknowledged, and lost");
                        }
                        continue;
                    };
                    let state = self.states[named].as_ref();
                    if !state.is_some_and(|state| state.is_unmoved_by(&write.op)) {
                        fault("acknowledged, and lost");
                    } else if named < self.acknowledged.before(write.start) {
                        fault("it was found needless in a state that was over");
                    }
                }
                (Ending::Refused(_), Some(_)) => fault("refused, and made"),
                (Ending::Refused(_), None) => summary.refused += 1,
                (Ending::Unknown(_), made) => {
                    summary.unknown.0 += 1;
                    summary.unknown.1 += usize::from(made.is_some());
                    if !may_fail {
                        fault("failed, and nothing was broken");
                    }
                }
            }
        }
    }

    fn judge_checks(
        &self,
        history: &History,
        checks: &[&Check],
        summary: &mut Summary,
        faults: &mut Vec<String>,
    ) {
        // What each replica has shown that it knows: by acknowledging, or by answering.
        let mut shown: BTreeMap<usize, Vec<(u64, usize)>> = BTreeMap::new();
        for write in self.writes.iter().flatten() {
            if let Ending::Done { .. } = write.ending {
                let revision = self.revision_of[write.request_id.as_str()];
                shown.entry(write.replica).or_default().push((write.end, revision));
            }
        }
        for check in checks {
            if let Ok(answer) = &check.answer
                && let Some(revision) = self.told(check, answer, 0)
            {
                shown.entry(check.replica).or_default().push((check.end, revision));
            }
        }
        let shown: BTreeMap<usize, Newest> =
            shown.into_iter().map(|(replica, seen)| (replica, Newest::of(seen))).collect();
        for check in checks {
            let mut fault = |what: String| faults.push(format!("{what}: {check:?}"));
            let answer = match &check.answer {
                Ok(answer) => answer,
                Err(code) => {
                    summary.failed += 1;
                    let outage = ["Unavailable", "DeadlineExceeded", "Cancelled"];
                    if !history.faults || !outage.contains(&code.as_str()) {
                        fault("it failed".to_owned());
                    }
                    continue;
                }
            };
            summary.answers += 1;
            summary.marked_stale += usize::from(answer.stale_since.is_some());
            let (oldest, why) = match self.oldest(history, check, answer, &shown) {
                Ok(oldest) => oldest,
                Err(what) => {
                    fault(what);
                    continue;
                }
            };
            summary.with_token += usize::from(matches!(check.want, Want::Token(_)));
            let Some(revision) = self.told(check, answer, oldest) else {
                match self.told(check, answer, 0) {
                    Some(old) => {
                        fault(format!("stale: revision {old}, and {oldest} was due ({why})"));
                    }
                    None => fault(format!("wrong: no state since {oldest} ({why}) says so")),
                }
                continue;
            };
            if revision < self.acknowledged.before(check.start) {
                summary.behind += 1;
                let missing = self.writes.get(revision + 1).copied().flatten();
                let since = missing.map_or(0, |write| check.start.saturating_sub(write.end));
                summary.most_behind = summary.most_behind.max(since);
            }
        }
    }

    /// The oldest state that an answer may be of, and why.
    fn oldest(
        &self,
        history: &History,
        check: &Check,
        answer: &Answer,
        shown: &BTreeMap<usize, Newest>,
    ) -> Result<(usize, &'static str), String> {
        let by_replica = shown.get(&check.replica).map_or(0, |seen| seen.before(check.start));
        let by_time = match answer.stale_since {
            None => check.start.saturating_sub(history.bound),
            Some(_) if !history.faults => return Err("marked as stale, with a database".to_owned()),
            Some(since) => since.saturating_sub(CLOCK_SLACK),
        };
        let wanted = match &check.want {
            Want::Latency => 0,
            Want::Token(token) => match self.named.get(token.as_str()) {
                Some(revision) => *revision,
                None => return Err("asked with a token of nothing".to_owned()),
            },
            Want::Full if answer.stale_since.is_some() => {
                return Err("fully consistent, and stale".to_owned());
            }
            Want::Full => self.acknowledged.before(check.start),
        };
        let dues = [
            (by_replica, "this replica has shown it before"),
            (self.acknowledged.before(by_time), "it was acknowledged long enough ago"),
            (wanted, "it was asked for"),
        ];
        Ok(dues.into_iter().max_by_key(|(revision, _)| *revision).unwrap_or((0, "")))
    }

    /// The revision that an answer is of, from the given one on; none when it cannot be of any.
    fn told(&self, check: &Check, answer: &Answer, oldest: usize) -> Option<usize> {
        let fits = |revision: &usize| {
            let begun = self.writes[*revision].is_none_or(|write| write.start <= check.end);
            begun && self.says(*revision, check, &answer.verdicts)
        };
        match self.named.get(answer.token.as_str()) {
            Some(revision) => Some(*revision).filter(|revision| *revision >= oldest).filter(fits),
            // No such tenant, or a state whose own acknowledgement was lost.
            None => (oldest..self.states.len())
                .filter(|revision| {
                    let in_use = self.in_use(*revision);
                    let lost = self.writes[*revision]
                        .is_some_and(|write| !matches!(write.ending, Ending::Done { .. }));
                    if answer.token.is_empty() { !in_use } else { in_use && lost }
                })
                .find(fits),
        }
    }

    fn in_use(&self, revision: usize) -> bool {
        !matches!(self.writes[revision].map(|write| &write.op), None | Some(Op::DeleteTenant))
    }

    fn says(&self, revision: usize, check: &Check, verdicts: &[Verdict]) -> bool {
        let state = self.states[revision].as_ref();
        check.questions.len() == verdicts.len()
            && check.questions.iter().zip(verdicts).all(|(question, verdict)| {
                match state.and_then(|state| state.answer(question)) {
                    Some(expected) => expected == *verdict,
                    None => !verdict.allowed && verdict.reason == "TENANT_NOT_FOUND",
                }
            })
    }
}
