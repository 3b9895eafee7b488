//! The run: lanes in order, one server at a time, one decision function ([`decide::next`]).
//!
//! ```text
//! lanes              the loop: asks the decision, runs the lane, ends the run
//! lane               one attempt of a lane, from its preconditions to the proof of release
//! cells              its cells: reset, sent, judged, journalled
//! session            a server that answers, made ready for them
//! calibrations, …    what one step does, given what it needs
//! display, lines     what is said to people
//! journal, signals, watchdog, decide, …    handles and pure deciders
//! ```
//!
//! Imports go downwards only.

mod alarm;
mod attempt;
mod calibrations;
mod cells;
mod compile_caches;
mod decide;
mod delegation;
mod display;
mod duration;
mod facts;
mod failure;
mod gpu_log;
mod journal;
mod journald;
mod lane;
mod lane_end;
mod lanes;
mod lines;
mod logging;
mod preconditions;
mod prefix_cache;
mod probe;
mod quality;
mod remaining;
mod secrets;
mod selfcheck;
mod server_counters;
mod server_gpu;
mod server_log;
mod session;
mod signals;
mod start;
mod strangers;
mod systemd;
mod watchdog;
mod webhook;

pub(crate) use decide::{EXIT_MACHINE, EXIT_OK, signal_exit_code};
pub(crate) use display::Display;
pub(crate) use duration::short_duration;
pub(crate) use failure::{Context, Failure};
pub(crate) use lanes::run;
pub(crate) use secrets::{environment_redactor, redactor};
pub(crate) use signals::Signals;
pub(crate) use start::{Purpose, RunOptions};
pub(crate) use systemd::Systemd;
