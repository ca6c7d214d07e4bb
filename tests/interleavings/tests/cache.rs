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
        shuttle::check_pct(|| run(Cast::Few, Broken::Nothing), tries(), depth);
        shuttle::check_pct(|| run(Cast::All, Broken::Nothing), tries(), depth);
    }
}

#[test]
fn the_protocol_holds_with_many_switches() {
    shuttle::check_random(|| run(Cast::All, Broken::Nothing), tries());
}

#[test]
fn without_one_of_its_rules_the_bug_is_found() {
    for broken in [
        Broken::Guard,
        Broken::Order,
        Broken::OneState,
        Broken::NotKept,
        Broken::OwnWrites,
        Broken::NeverBack,
        Broken::Displace,
        Broken::Version,
        Broken::Applied,
    ] {
        let found = catch_unwind(AssertUnwindSafe(|| {
            for depth in [3, 4, 2, 5, 6] {
                shuttle::check_pct(move || run(Cast::Few, broken), 100_000, depth);
                shuttle::check_pct(move || run(Cast::All, broken), 100_000, depth);
            }
        }));
        assert!(found.is_err(), "{broken:?} was not found");
    }
}
