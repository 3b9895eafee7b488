//! The daemon of `benchd`: command line, the run, a server's life, scenarios, checks, environments. The libraries
//! that it stands on are the crates under `crates/`; CONTRIBUTING.md draws the house.
//!
//! It is a library only so that `tests/` can try a server's life and the making of environments without a run: what
//! is exported here is for them.

mod check;
mod cli;
mod commands;
mod env;
mod notify;
mod run;
mod scenario;
mod selfcheck;
mod server;
mod untimed;

pub use commands::main;
pub use env::{EnvError, provision};
pub use server::{
    Attached, CompletionProbe, Control, EventSink, Failed, Interrupt, Launched, Prepared, ProbeAnswer,
    ProbeError, Ready, ReadyPlan, ReleaseHeld, ReleaseProof, ResetOutcome, ResetProbe, ServerSettings, Stage,
    StepOutcome, StopWhy, reset_cache,
};
pub use untimed::untimed_client;
