//! What a batch of requests is, what comes out of it, and its progress.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::schedule::ScheduleError;
use crate::client::{Target, TargetError};
use benchd_core::record::{ClientLag, StreamShape};
use benchd_plan::Arrival;

/// Requests that are measured together.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Address and path that all of them go to.
    pub target: Target,
    /// The requests' bodies, in the order in which they are sent.
    pub bodies: Vec<Bytes>,
    /// Streams of the closed loop, at least 1; the open loop does not use it.
    pub concurrency: u32,
    /// Closed loop, or the open loop's arrival process.
    pub arrival: Arrival,
    /// Seed of the arrival process.
    pub seed: u64,
    /// Limit of each request, from its send. Opening its connection is limited to the same, apart.
    pub timeout: Duration,
    /// What an answer must show to count as whole.
    pub shape: StreamShape,
    /// Names of the reasoning field; the first that is present wins.
    pub reasoning_fields: &'static [&'static str],
}

/// What is to be said of a batch as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchReport {
    /// Wall clock of the first send, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// From the first send to the last end, microseconds, by the monotonic clock.
    pub duration_us: u64,
    /// The load thread's own lateness, CPU time and events.
    pub lag: ClientLag,
    /// How late the load thread read what had arrived.
    pub reads: ReadLag,
    /// The most requests that were in flight at one time.
    pub most_in_flight: u32,
    /// Open loop only: requests that had to wait because the cap of requests in flight was reached. Their wait is in
    /// their `queued_us`; none is dropped.
    pub capped: u64,
    /// Whether the batch was cancelled, so that jobs may be left that were never sent.
    pub cancelled: bool,
}

/// How long the kernel had had what a read brought. The times of the answers have this taken off already:
/// it shows how late they would have been, and how late whatever follows an arrival is (the next send of a
/// closed loop).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadLag {
    /// Reads that brought bytes.
    pub reads: u64,
    /// Those of which the kernel gave the time of arrival. The others count from the read itself: a few at
    /// the start of a process's first batch, all where the kernel gives none.
    pub stamped: u64,
    /// Median, microseconds.
    pub p50_us: u64,
    /// 99th percentile, microseconds.
    pub p99_us: u64,
    /// Largest, microseconds.
    pub max_us: u64,
}

/// How many requests of an open loop may be in flight at one time, where nothing else is said; those whose
/// connection is being opened count.
pub(super) const OPEN_LOOP_CAP: u32 = 8_192;

/// How a batch stands, for a display. Each number only grows.
#[derive(Debug, Default)]
pub struct Progress {
    pub(super) sent: AtomicU64,
    pub(super) done: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) events: AtomicU64,
    pub(super) capped: AtomicU64,
}

impl Progress {
    /// Requests whose first byte was written.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Requests that are over, failed ones included.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Open loop only: requests that had to wait because the cap of requests in flight was reached.
    pub fn capped(&self) -> u64 {
        self.capped.load(Ordering::Relaxed)
    }

    /// Events received: about the number of tokens, for servers that send one a chunk.
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

/// Why a batch could not be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The target can't be put into a request.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The arrival process can't be computed.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A closed loop without streams.
    #[error("a closed loop needs at least one stream (hint: concurrency: 1)")]
    NoStreams,
    /// The process may not open so many sockets.
    #[error(
        "{needed} connections at a time need more file descriptors than the hard limit of {hard_limit} \
         (hint: raise it with ulimit -Hn, or LimitNOFILE= in the systemd unit)"
    )]
    Descriptors {
        /// Connections that would be open at one time.
        needed: u64,
        /// The process's hard limit.
        hard_limit: u64,
    },
    /// The load thread or what it needs could not be set up.
    #[error("setting up the load thread: {0}")]
    Setup(#[from] std::io::Error),
    /// The load thread has ended.
    #[error("the load thread is gone (hint: an earlier message says why)")]
    Gone,
    /// A request's task panicked; the batch was stopped.
    #[error("a request's task failed within benchd: {0}")]
    Task(String),
}
