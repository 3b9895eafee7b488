//! The run: lanes in order, one server at a time, one decision function ([`next`]).

mod cache;
mod cells;
mod compiled;
mod decide;
mod delegation;
mod display;
mod error;
mod gpu_log;
mod host;
mod journald;
mod keeper;
mod lane;
mod lane_end;
mod lanes;
mod logging;
mod opening;
mod own_counters;
mod prepare;
mod progress;
mod readiness;
mod remaining;
mod secrets;
mod selfcheck;
mod signals;
mod start;
mod systemd;
mod telling;

pub use decide::{
    EXIT_MACHINE, EXIT_OK, EXIT_PLAN, EXIT_UNSAFE, EXIT_WITH_FAILURES, Halt, LaneView, Next, RunView, next,
    signal_exit_code,
};
pub use display::{Display, Tone, short_duration};
pub use error::Failure;
pub use host::{boot_id, host_info};
pub use keeper::{Keeper, KeeperError};
pub use lanes::run;
pub use remaining::Remaining;
pub use secrets::redactor;
pub use signals::{Signals, StopRequest};
pub use start::{Begun, RunOptions, begin};
pub use systemd::{Heart, Pace, Systemd};
