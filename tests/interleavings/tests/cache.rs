//! The protocol holds in every interleaving that is tried, and each of its rules matters: without it
//! the checker finds the bug.

use std::panic::{AssertUnwindSafe, catch_unwind};

use interleavings::{Broken, Cast, run};

/// How many interleavings to try of each kind.
fn tries() -> usize {
    let longer = std::env::var("ROLEGATE_INTERLEAVINGS").ok();
    longer.map_or(20_000, |count| count.parse().unwrap())
}

/// Few switches, at places that matter: probabilistic concurrency testing, which finds what needs a
/// thread to rest for long.
#[test]
fn the_protocol_holds_with_few_switches() {
    for depth in 1..=5 {
        for cast in Cast::EACH {
            shuttle::check_pct(move || run(cast, Broken::Nothing), tries(), depth);
        }
    }
}

#[test]
fn the_protocol_holds_with_many_switches() {
    shuttle::check_random(|| run(Cast::All, Broken::Nothing), tries());
}

/// Each rule has a cast in which its bug shows about once in a thousand interleavings or more often,
/// so that among this many it is not missed.
#[test]
fn without_one_of_its_rules_the_bug_is_found() {
    for broken in [
        Broken::Guard,
        Broken::Order,
        Broken::OneState,
        Broken::NotKept,
        Broken::OwnWrites,
        Broken::ToldTwice,
        Broken::NeverBack,
        Broken::Displace,
        Broken::Evicted,
        Broken::Version,
        Broken::Applied,
    ] {
        let found = catch_unwind(AssertUnwindSafe(|| {
            for depth in [4, 3, 2, 5] {
                for cast in Cast::EACH {
                    shuttle::check_pct(move || run(cast, broken), 50_000, depth);
                }
            }
        }));
        assert!(found.is_err(), "{broken:?} was not found");
    }
}
