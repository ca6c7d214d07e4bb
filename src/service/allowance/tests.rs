//! Under a clock of their own: nothing here waits, and nothing depends on how fast it runs.

use std::sync::Barrier;

use super::*;

const MS: u64 = 1_000_000;

fn allowance(per_second: u32, burst: u32) -> Arc<Allowance> {
    Arc::new(Allowance::new(RateLimit::new(per_second, Some(burst))))
}

impl Allowance {
    /// So many at this millisecond; if not, how many milliseconds later.
    fn ask(&self, at: u64, questions: u64) -> Result<(), u64> {
        let answer = self.take_at(questions, || at * MS);
        answer.map_err(|after| u64::try_from(after.as_nanos()).unwrap().div_ceil(MS))
    }

    /// How many of one each until one is refused.
    fn drain(&self, at: u64) -> u64 {
        (0..).take_while(|_| self.ask(at, 1).is_ok()).count() as u64
    }
}

#[test]
fn a_bucket_empties_and_fills_at_its_rate() {
    // When, how many, and when they would pass if they do not.
    type Asked<'a> = &'a [(u64, u64, Option<u64>)];
    let cases: [(&str, u32, u32, Asked<'_>); 6] = [
        (
            "one by one",
            2,
            2,
            &[
                (0, 1, None),
                (0, 1, None),
                (0, 1, Some(500)),
                (499, 1, Some(1)),
                (500, 1, None),
                (500, 1, Some(500)),
                (1_500, 1, None),
                (1_500, 1, None),
            ],
        ),
        (
            "a pause earns no more than the burst",
            10,
            3,
            &[
                (60_000, 3, None),
                (60_000, 1, Some(100)),
                (60_100, 2, Some(100)),
                (60_200, 2, None),
                (60_200, 1, Some(100)),
            ],
        ),
        (
            "what was refused costs nothing",
            10,
            5,
            &[
                (0, 4, None),
                (0, 5, Some(400)),
                (0, 5, Some(400)),
                (0, 1, None),
                (400, 5, Some(100)),
                (500, 5, None),
            ],
        ),
        (
            "more than the burst passes when it is full, and is paid for",
            10,
            5,
            &[
                (0, 1, None),
                (0, 20, Some(100)),
                (100, 20, None),
                (100, 1, Some(1_600)),
                (1_700, 1, None),
            ],
        ),
        (
            "with leases, to the last question",
            1_000,
            1_000,
            &[
                (0, 1, None),
                (0, 998, None),
                (0, 1, None),
                (0, 1, Some(1)),
                (5, 5, None),
                (5, 1, Some(1)),
                (5, 100, Some(100)),
            ],
        ),
        (
            "a rate that no nanoseconds divide",
            3,
            3,
            &[
                (0, 3, None),
                (0, 1, Some(334)),
                (333, 1, Some(1)),
                (334, 1, None),
                (1_000, 2, Some(1)),
                (1_001, 2, None),
                (1_001, 3, Some(1_000)),
            ],
        ),
    ];
    for (name, per_second, burst, asked) in cases {
        let allowance = allowance(per_second, burst);
        for (number, (at, questions, later)) in asked.iter().enumerate() {
            let expected = later.map_or(Ok(()), Err);
            assert_eq!(allowance.ask(*at, *questions), expected, "{name}, number {number}");
        }
    }
}

#[test]
fn whoever_comes_back_when_it_was_told_to_passes() {
    for (per_second, burst, questions) in [
        (1, 1, 1),
        (7, 3, 3),
        (7, 3, 11),
        (999, 40, 40),
        (50_000, 50_000, 10_000),
        (100_000_000, 1, 9),
    ] {
        let allowance = allowance(per_second, burst);
        let mut now = 0;
        for _ in 0..100 {
            if let Err(after) = allowance.take_at(questions, || now) {
                now += u64::try_from(after.as_nanos()).unwrap();
                assert_eq!(
                    allowance.take_at(questions, || now),
                    Ok(()),
                    "{per_second} {questions}"
                );
            }
        }
        // What passed was paid for, the first burst aside.
        let paid = allowance.limit.cost(99 * questions - u64::from(burst).min(99 * questions));
        assert!(now + SECOND / 1_000 >= paid, "{per_second} {questions}: {now} of {paid}");
    }
}

#[test]
fn a_lease_is_a_small_part_of_the_burst_and_of_a_second() {
    for (per_second, burst, lease) in [
        (1, 1, 1),
        (50, 10_000, 1),
        (1_000, 1_000, 10),
        (50_000, 50_000, 500),
        (1_000_000, 6_400, 100),
        (100_000_000, 100_000_000, 1_000_000),
        (100_000_000, 1, 1),
    ] {
        let limit = RateLimit::new(per_second, Some(burst));
        assert_eq!(limit.lease(), lease, "{limit:?}");
    }
    assert_eq!(RateLimit::new(50, None), RateLimit::new(50, Some(50)));
    assert_eq!(RateLimit::new(0, Some(0)), RateLimit::new(1, Some(1)));
}

/// Threads that all do the same at each of these milliseconds, together; what each was granted, by
/// milliseconds.
fn together(
    allowance: &Arc<Allowance>,
    threads: usize,
    at: &[u64],
    what: impl Fn(&Allowance, u64) -> u64 + Sync,
) -> Vec<u64> {
    let barrier = Barrier::new(threads);
    let each = || {
        let moment = |at: &u64| {
            barrier.wait();
            what(allowance, *at)
        };
        at.iter().map(moment).collect::<Vec<_>>()
    };
    let granted: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(each)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    (0..at.len()).map(|moment| granted.iter().map(|one| one[moment]).sum()).collect()
}

#[test]
fn threads_together_get_what_one_would_to_the_last_question() {
    for (per_second, burst) in [(50_000, 50_000), (1_000, 100), (100, 100)] {
        let allowance = allowance(per_second, burst);
        let at: Vec<u64> = (0..20).map(|step| step * 30).collect();
        let granted = together(&allowance, 4, &at, Allowance::drain);
        let each = u64::from(per_second) * 30 / 1_000;
        assert_eq!(granted[0], u64::from(burst), "{per_second}");
        assert!(granted[1..].iter().all(|one| *one == each), "{per_second}: {granted:?}");
    }
}

#[test]
fn what_threads_hold_beyond_the_bucket_is_a_lease_each_and_no_more() {
    let allowance = allowance(50_000, 50_000);
    let threads = 4;
    let what = |allowance: &Allowance, at: u64| match at {
        // Each draws a lease, and leaves most of it.
        0 => u64::from(allowance.ask(0, 1).is_ok()),
        // Long after that the bucket is full.
        _ => allowance.drain(at),
    };
    let granted = together(&allowance, threads, &[0, 60_000], what);
    assert_eq!(granted, [4, 50_000 + 4 * (allowance.lease - 1)]);
    assert_eq!(allowance.lease, 500);
}

#[test]
fn a_reload_fills_no_bucket() {
    let before = allowance(10, 5);
    assert_eq!(before.drain(0), 5);
    let same = before.under_at(RateLimit::new(10, Some(5)), 0);
    assert!(Arc::ptr_eq(&before, &same));
    assert_eq!(same.ask(0, 1), Err(100));
    // Faster: as empty as it was, and soon filled.
    let faster = before.under_at(RateLimit::new(1_000, Some(5)), 0);
    assert_eq!(faster.ask(0, 1), Err(1));
    assert_eq!(faster.drain(5), 5);
    // Slower: two and a half were earned back until then.
    let slower = before.under_at(RateLimit::new(1, Some(5)), 250 * MS);
    assert_eq!((slower.drain(250), slower.ask(250, 1)), (2, Err(1_000)));
    // And it counts on.
    before.refuse("chat", 7);
    faster.refuse("chat", 2);
    assert_eq!((before.refused(), faster.refused()), (9, 9));
}

#[test]
fn what_is_refused_is_counted_each_time_and_logged_once_a_minute() {
    let allowance = allowance(1, 1);
    let logged: Vec<bool> =
        [0, 1, 59_999, 60_000, 60_001, 200_000].map(|at| allowance.may_log(at * MS)).to_vec();
    assert_eq!(logged, [true, false, false, true, false, true]);
    let refuse = |allowance: &Allowance, _| {
        allowance.refuse("chat", 3);
        0
    };
    together(&allowance, 4, &[0; 25], refuse);
    assert_eq!(allowance.refused(), 300);
}
