//! Long runs of property tests, by command: `FUZZ_SECONDS=600 cargo test --workspace --lib -- --ignored fuzz`.

use std::{
    cell::Cell,
    io::Write,
    time::{Duration, Instant},
};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestRunner},
};

/// How long each runs where `FUZZ_SECONDS` does not say.
const SECONDS: u64 = 20;

/// Cases between two looks at the clock.
const BATCH: u32 = 500;

/// Tries `check` on ever new values until the time is over, and says how often that was. A value that fails is
/// made as small as it will go, and shown.
pub fn run<S: Strategy>(name: &str, values: &S, check: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let seconds = match std::env::var("FUZZ_SECONDS") {
        Ok(text) => text.parse().expect("FUZZ_SECONDS is a number"),
        Err(_) => SECONDS,
    };
    let (limit, began) = (Duration::from_secs(seconds), Instant::now());
    let executions = Cell::new(0_u64);
    while began.elapsed() < limit {
        let config = Config {
            cases: BATCH,
            failure_persistence: None,
            ..Config::default()
        };
        // Each runner has a seed of its own.
        let result = TestRunner::new(config).run(values, |value| {
            executions.set(executions.get() + 1);
            check(value)
        });
        if let Err(error) = result {
            panic!("{name}, after {} executions: {error}", executions.get());
        }
    }
    assert!(executions.get() > 0, "{name}: nothing was tried");
    // Not by a macro: the count is to be seen without `--nocapture`, too.
    let _ = writeln!(
        std::io::stderr(),
        "{name}: {} executions in {:.0} s, none failed",
        executions.get(),
        began.elapsed().as_secs_f64()
    );
}
