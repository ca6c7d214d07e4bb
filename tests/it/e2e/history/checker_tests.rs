//! The judge on histories that are small enough to judge by eye: it passes what is right, and finds
//! each kind of fault.

use std::collections::BTreeSet;

use super::checker::judge;
use super::record::{
    Answer, Check, Committed, Ending, History, Op, Question, Verdict, Want, Write,
};

const SECOND: u64 = 1_000_000;

fn write(request_id: &str, start: u64, op: Op) -> Write {
    let ending = Ending::Done { token: format!("after {request_id}") };
    let request_id = request_id.to_owned();
    Write { tenant: "acme".into(), replica: 0, start, end: start + 10, request_id, op, ending }
}

fn asked(replica: usize, start: u64, token: &str, allowed: bool) -> Check {
    let question =
        Question { member: "kim".to_owned(), permission: "report.view".to_owned(), resource: None };
    let decided_by: BTreeSet<_> = allowed.then(|| ("lead".to_owned(), None)).into_iter().collect();
    let reason = if allowed { "GRANTED_BY_ROLE" } else { "PERMISSION_NOT_GRANTED" };
    let verdicts = vec![Verdict { allowed, reason: reason.to_owned(), decided_by }];
    let answer = Ok(Answer { verdicts, token: format!("after {token}"), stale_since: None });
    let (tenant, questions) = ("acme".to_owned(), vec![question]);
    Check { tenant, replica, start, end: start + 10, want: Want::Latency, questions, answer }
}

fn with_token(check: Check, token: &str) -> Check {
    Check { want: Want::Token(format!("after {token}")), ..check }
}

/// Kim becomes a lead at 2 s, and is demoted at 4 s.
fn history(checks: Vec<Check>) -> History {
    let kim = |roles: &[&str]| Op::AssignRoles {
        member: "kim".to_owned(),
        roles: roles.iter().map(|role| role.to_string()).collect(),
    };
    let writes = vec![
        write("tenant", 0, Op::CreateTenant),
        write(
            "kim",
            SECOND,
            Op::CreateMember { member: "kim".to_owned(), roles: vec![], teams: vec![] },
        ),
        write("lead", 2 * SECOND, kim(&["lead"])),
        write("demoted", 4 * SECOND, kim(&["clerk"])),
    ];
    let committed = |(number, write): (usize, &Write)| Committed {
        revision: number as u64 + 1,
        request_id: write.request_id.clone(),
        roles: vec![],
    };
    let trail = writes.iter().enumerate().map(committed).collect();
    let trail = [("acme".to_owned(), trail)].into();
    History { bound: 2 * SECOND, faults: false, writes, checks, trail }
}

fn faults(history: &History) -> String {
    judge(history).err().map(|faults| faults.join("\n")).unwrap_or_default()
}

#[test]
fn what_is_right_passes() {
    let stale = |mut check: Check, since| {
        if let Ok(answer) = &mut check.answer {
            answer.stale_since = Some(since);
        }
        check
    };
    let mut history = history(vec![
        asked(1, 3 * SECOND, "kim", false),
        asked(2, 3 * SECOND, "lead", true),
        with_token(asked(1, 3 * SECOND, "lead", true), "lead"),
        // Not marked, and still within the bound.
        asked(1, 5 * SECOND, "lead", true),
        with_token(asked(2, 5 * SECOND, "demoted", false), "demoted"),
        asked(1, 7 * SECOND, "demoted", false),
        // Under way while it was committed: it may be either.
        asked(2, 4 * SECOND + 5, "lead", true),
        asked(0, 4 * SECOND + 5, "demoted", false),
    ]);
    let summary = judge(&history).unwrap();
    assert_eq!((summary.committed, summary.answers, summary.behind), (4, 8, 2));
    assert_eq!(summary.most_behind, SECOND - 10);
    history.faults = true;
    history.checks.push(stale(asked(3, 9 * SECOND, "lead", true), 4 * SECOND));
    let failed = Check { answer: Err("Unavailable".to_owned()), ..asked(3, SECOND, "", true) };
    history.checks.push(failed);
    assert_eq!(faults(&history), "");
}

#[test]
fn a_stale_answer_is_found() {
    for (checks, why) in [
        (vec![asked(1, 7 * SECOND, "lead", true)], "long enough ago"),
        (vec![with_token(asked(1, 5 * SECOND, "lead", true), "demoted")], "asked for"),
        // Through the replica that made the change it must be there at once.
        (vec![asked(0, 5 * SECOND, "lead", true)], "shown it before"),
    ] {
        let found = faults(&history(checks));
        assert!(found.contains("stale: revision 3, and 4") && found.contains(why), "{found}");
    }
    let full = Check { want: Want::Full, ..asked(1, 5 * SECOND, "lead", true) };
    assert!(faults(&history(vec![full])).contains("stale"));
    let marked = |mut check: Check, since| {
        if let Ok(answer) = &mut check.answer {
            answer.stale_since = Some(since);
        }
        check
    };
    let mut history = history(vec![marked(asked(1, 9 * SECOND, "lead", true), 6 * SECOND)]);
    assert!(faults(&history).contains("with a database"));
    history.faults = true;
    assert!(faults(&history).contains("stale: revision 3"), "it says more than it knows");
}

#[test]
fn a_backwards_read_is_found() {
    let (newer, older) =
        (asked(1, 5 * SECOND, "demoted", false), asked(1, 5 * SECOND + 100, "lead", true));
    let found = faults(&history(vec![newer.clone(), older.clone()]));
    assert!(found.contains("shown it before"), "{found}");
    // On another replica it is no step back.
    assert_eq!(faults(&history(vec![newer, Check { replica: 2, ..older }])), "");
}

#[test]
fn a_wrong_answer_under_a_right_token_is_found() {
    let found = faults(&history(vec![asked(1, 5 * SECOND, "demoted", true)]));
    assert!(found.contains("wrong"), "{found}");
    let early = faults(&history(vec![asked(1, 3 * SECOND, "demoted", false)]));
    assert!(early.contains("wrong"), "an answer from the future: {early}");
}

#[test]
fn a_lost_write_is_found() {
    let mut lost = history(vec![]);
    lost.trail.get_mut("acme").unwrap().pop();
    assert!(faults(&lost).contains("acknowledged, and lost"));
    // In the middle, so that the revisions have no gap.
    let mut lost = history(vec![]);
    let trail = lost.trail.get_mut("acme").unwrap();
    trail.remove(2);
    trail[2].revision = 3;
    assert!(faults(&lost).contains("acknowledged, and lost"));
    let mut gap = history(vec![]);
    gap.trail.get_mut("acme").unwrap().remove(2);
    assert!(faults(&gap).contains("revision 3 is missing"));
}

#[test]
fn a_write_that_was_refused_or_made_twice_or_by_nobody_is_found() {
    let mut refused = history(vec![]);
    refused.writes[3].ending = Ending::Refused("ETAG_MISMATCH".to_owned());
    assert!(faults(&refused).contains("refused, and made"));
    let mut twice = history(vec![]);
    let again = Committed { revision: 5, ..twice.trail["acme"][3].clone() };
    twice.trail.get_mut("acme").unwrap().push(again);
    assert!(faults(&twice).contains("made twice"));
    let mut stranger = history(vec![]);
    stranger.writes.pop();
    assert!(faults(&stranger).contains("nobody made"));
    let mut failed = history(vec![]);
    failed.writes[3].ending = Ending::Unknown("Unavailable".to_owned());
    assert!(faults(&failed).contains("nothing was broken"));
    failed.faults = true;
    assert_eq!(faults(&failed), "");
}

#[test]
fn writes_out_of_their_order_are_found() {
    let mut swapped = history(vec![]);
    let trail = swapped.trail.get_mut("acme").unwrap();
    (trail[2].revision, trail[3].revision) = (4, 3);
    assert!(faults(&swapped).contains("had ended when it began"));
}

#[test]
fn what_changes_nothing_is_told_from_what_was_lost() {
    let mut needless = history(vec![]);
    let again = Op::AssignRoles { member: "kim".to_owned(), roles: vec!["clerk".to_owned()] };
    let ending = Ending::Done { token: "after demoted".to_owned() };
    needless.writes.push(Write { ending, ..write("again", 5 * SECOND, again) });
    assert_eq!(faults(&needless), "");
    needless.writes[4].op = Op::Archive("kim".to_owned());
    assert!(faults(&needless).contains("acknowledged, and lost"));
}
