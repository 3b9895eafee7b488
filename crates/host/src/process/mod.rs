//! Processes: who they are, how they are started, read, stopped and found again.
//!
//! Nothing here knows what a framework is. A server's processes are its family: its leader, what shares the
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
//! - `roster`: who of a server runs at a moment, and how each ends after it.
//! - `stop`: the stop sequence as a decision (pure); `stopping`: its execution; `exit`: how a leader ended.
//! - `leftovers`: what a dead benchd left, by its witnesses.
//! - `ports`: who listens where; `serving`: whose processes serve an address.
//! - `lock`: one benchd a GPU.

mod cgroup;
mod exit;
mod family;
mod leftovers;
mod lines;
mod lock;
mod log;
mod ports;
mod pump;
mod roster;
mod serving;
mod signal;
mod spawn;
mod stop;
mod stopping;
mod table;

pub use cgroup::Cgroup;
pub use exit::LeaderExit;
pub use family::Membership;
pub use leftovers::{Cleared, Leftover, Leftovers, Witnesses, clear, leftovers};
pub use lock::{Lock, LockError};
pub use log::{LogSettings, LogState};
pub use ports::{Holder, PortTaken, describe, listener_owners, port_is_free};
pub use roster::{ProcessEnd, Roster};
pub use serving::{Serving, serving};
pub use signal::{ProcessHandle, become_subreaper};
pub use spawn::{ServerProcess, SpawnError, SpawnSpec};
pub use stop::{StopPolicy, StopReport, Stuck};
pub use table::{ProcessTable, Seen, boot_id, carriers, identity, new_token};

#[cfg(test)]
pub(crate) use table::tests::seen;
