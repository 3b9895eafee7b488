//! How late the client itself was.

use serde::{Deserialize, Serialize};

/// How late the client's own load thread was while a cell was measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClientLag {
    /// Probes taken.
    pub probes: u64,
    /// Median lateness, microseconds.
    pub p50_us: u64,
    /// 99th percentile, microseconds.
    pub p99_us: u64,
    /// Largest, microseconds.
    pub max_us: u64,
    /// CPU time of the load thread over the cell, microseconds.
    pub cpu_us: u64,
    /// Events received.
    pub events: u64,
}
