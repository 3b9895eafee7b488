//! Whole runs through the binary, on real processes: what goes wrong, and what is left afterwards.
//!
//! A test binary of its own: tests in `it` make their process adopt orphans and sweep what they adopt, and what a
//! killed benchd leaves must meet nobody who does that.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod bench;
mod ended;
mod ports;
#[expect(dead_code, reason = "the other test binary uses the rest")]
#[path = "../it/support/mod.rs"]
mod support;

// Tests begin in the order of their names: the one that waits for a minute goes first, beside all others.
#[path = "stuck.rs"]
mod a_stuck_process;
mod attached;
mod bad_input;
mod cell_faults;
mod compare;
mod gpu_faults;
mod kills;
mod own_words;
mod precision;
mod quality;
mod resume;
mod soak;
mod start_faults;
mod stop_faults;
mod stopping;
mod trials;
mod verdicts;
mod watching;
