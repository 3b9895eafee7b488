//! Who a process is.

use serde::{Deserialize, Serialize};

/// A process that can be told from a later one with the same id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ProcessIdentity {
    /// Process id.
    pub pid: i32,
    /// Start time by /proc/PID/stat, clock ticks since boot.
    pub start_ticks: u64,
    /// Process group.
    pub pgid: i32,
    /// Session.
    pub sid: i32,
    /// Command name (`comm`).
    pub name: String,
}
