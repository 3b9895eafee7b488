//! Processes: who they are, how they are started, read, stopped and found again.
//!
//! Nothing here knows what a framework is. A server's processes are a [`Family`]: its leader, what shares the
//! leader's group or session, what descends from it, what carries its token, and, since benchd is subreaper,
//! what it left to benchd. The family is told by [`ProcessIdentity`](benchd_core::record::ProcessIdentity) (pid and
//! start time), so that a pid which the kernel gave to somebody else is never signalled.
//!
//! - `table`: one look at `/proc`; identities.
//! - `family`: which of those processes are a server's (pure).
//! - `signal`: subreaper, signals through pidfds, reaping.
//! - `cgroup`: a delegated cgroup, where there is one.
//! - `lines`, `log`: output cut into lines; the bounded log.
//! - `spawn`: the start; `pump`: the reading of its output, which never stops.
//! - `stop`: the stop sequence as a decision (pure); `hunt`: its execution.
//! - `leftovers`: what a dead benchd left, by its witnesses.
//! - `ports`: who listens where.
//! - `lock`: one benchd a GPU.

mod cgroup;
mod family;
mod hunt;
mod leftovers;
mod lines;
mod lock;
mod log;
mod ports;
mod pump;
mod signal;
mod spawn;
mod stop;
mod table;

pub use cgroup::Cgroup;
pub use family::{Family, Membership};
pub use leftovers::{Cleared, Leftover, Leftovers, Witnesses, clear, leftovers};
pub use lines::{Line, LineSplitter, Progress};
pub use lock::{Lock, LockError};
pub use log::{LogSettings, LogState};
pub use ports::{Holder, PortTaken, describe, listener_owners, port_is_free};
pub use signal::{ProcessHandle, become_subreaper};
pub use spawn::{LeaderExit, ServerProcess, SpawnError, SpawnSpec};
pub use stop::{Observation, StopAction, StopPolicy, StopReport, StopState, Stuck, decide};
pub use table::{
    ProcessTable, Seen, adopted_children, boot_id, carriers, descendants, group_members, identity, new_token,
};

/// The variable of a server's environment that carries its token.
pub const TOKEN_VARIABLE: &str = "BENCHD_TOKEN";
