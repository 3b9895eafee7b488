//! A server of which no process is left, and the proof that its GPU memory came back.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::settings::{EventSink, Moment, ServerSettings};
use benchd_core::record::ProcessIdentity;
use benchd_core::record::{GpuProcess, LaneId};
use benchd_host::process::{LeaderExit, ServerProcess, Stuck};
use benchd_journal::{
    Event, GpuHeld, GpuReleased, Note, ServerDescendants, ServerReaped, ServerStopping, StopWhy,
};

/// A stopped server.
pub struct Reaped {
    lane: LaneId,
    sink: Arc<dyn EventSink>,
    /// When it was launched.
    pub launched: Moment,
    /// When the stop began.
    pub stopping: Moment,
    /// When its last process had ended.
    pub reaped: Moment,
    /// From the first signal to the last process's end.
    pub stop_took: Duration,
    /// How the leader ended; `None` where it could not be killed.
    pub exit: Option<LeaderExit>,
    /// Whether KILL was needed.
    pub killed: bool,
    /// Processes outside its group that had to be killed.
    pub swept: Vec<ProcessIdentity>,
    /// Processes that could not be killed. Not empty: the run must not go on.
    pub stuck: Vec<Stuck>,
    /// All processes that it ever had, for the proof of release.
    pub processes: Vec<ProcessIdentity>,
    /// The last lines of its log.
    pub log_tail: Vec<String>,
}

impl std::fmt::Debug for Reaped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reaped")
            .field("lane", &self.lane)
            .field("exit", &self.exit)
            .field("killed", &self.killed)
            .field("stuck", &self.stuck)
            .finish_non_exhaustive()
    }
}

/// The proof that the GPU memory came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseProof {
    /// Memory in use, bytes, by device.
    pub used_bytes: Vec<u64>,
    /// The baseline, bytes, by device.
    pub baseline_bytes: Vec<u64>,
    /// Strangers that hold what is in use beyond the baseline.
    pub strangers: Vec<GpuProcess>,
}

/// GPU memory that did not come back: the run must not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ReleaseHeld {
    /// How long it was waited for.
    pub waited: Duration,
    /// Memory in use, bytes, by device.
    pub used_bytes: Vec<u64>,
    /// The baseline, bytes, by device.
    pub baseline_bytes: Vec<u64>,
    /// Who holds it, as far as NVML says.
    pub holders: Vec<GpuProcess>,
    /// Whether it may all be strangers' memory: the machine is busy then, not unsafe.
    pub busy: bool,
    /// For people.
    pub reason: String,
}

/// A server of which nothing is left anywhere.
#[derive(Debug)]
pub struct Released {
    /// What it was.
    pub reaped: Reaped,
    /// From the last process's end to the memory's return.
    pub release_took: Duration,
    /// The proof.
    pub proof: ReleaseProof,
}

pub(super) async fn stop(
    settings: ServerSettings,
    process: &ServerProcess,
    sink: Arc<dyn EventSink>,
    launched: Moment,
    why: StopWhy,
    now: &CancellationToken,
) -> Reaped {
    let lane = settings.lane;
    sink.event(Event::ServerStopping(ServerStopping {
        lane: lane.clone(),
        why,
    }));
    // A last inventory before the first signal: should benchd die now, the next one knows everybody.
    sink.event(Event::ServerDescendants(ServerDescendants {
        lane: lane.clone(),
        processes: process.processes(),
    }));
    let stopping = Moment::now();
    let report = process.stop(&settings.stop, now).await;
    let reaped = Moment::now();
    let exit = match report.exit {
        Some(exit) => exit.to_string(),
        None => "not ended".into(),
    };
    sink.event(Event::ServerReaped(ServerReaped {
        lane: lane.clone(),
        stop_ms: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
        exit,
        killed: report.killed,
        swept: report.swept.clone(),
        stuck: report.stuck.iter().map(|stuck| stuck.identity.clone()).collect(),
    }));
    if !report.stuck.is_empty() {
        let stuck: Vec<String> = report.stuck.iter().map(Stuck::to_string).collect();
        sink.event(Event::Note(Note {
            lane: Some(lane.clone()),
            text: format!("could not be killed: {}", stuck.join("; ")),
        }));
    }
    let log = process.log_state();
    if let Some(error) = log.error.as_ref().filter(|_| log.lost_lines > 0) {
        sink.event(Event::Note(Note {
            lane: Some(lane.clone()),
            text: format!("{} lines of the server's log were lost: {error}", log.lost_lines),
        }));
    }
    Reaped {
        lane,
        sink,
        launched,
        stopping,
        reaped,
        stop_took: report.took,
        exit: report.exit,
        killed: report.killed,
        swept: report.swept,
        stuck: report.stuck,
        processes: process.known(),
        log_tail: process.tail(),
    }
}

impl Reaped {
    /// Proves that its GPU memory is back, by `prove`, which is given the pids of all processes that the
    /// server ever had, and journals what came of it.
    ///
    /// # Errors
    /// The memory is not back, or a process could not be killed. The stopped server comes with it.
    pub async fn prove_release<F, Fut>(self, prove: F) -> Result<Released, (Self, ReleaseHeld)>
    where
        F: FnOnce(Vec<i32>) -> Fut,
        Fut: Future<Output = Result<ReleaseProof, ReleaseHeld>>,
    {
        let pids = self.processes.iter().map(|p| p.pid).collect();
        let proven = prove(pids).await;
        let waited = self.reaped.at.elapsed();
        let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let held = match proven {
            Ok(proof) if self.stuck.is_empty() => {
                self.sink.event(Event::GpuReleased(GpuReleased {
                    lane: self.lane.clone(),
                    release_ms: millis,
                    used_bytes: proof.used_bytes.clone(),
                    baseline_bytes: proof.baseline_bytes.clone(),
                    strangers: proof.strangers.clone(),
                }));
                return Ok(Released {
                    reaped: self,
                    release_took: waited,
                    proof,
                });
            }
            Ok(proof) => {
                let stuck: Vec<String> = self.stuck.iter().map(Stuck::to_string).collect();
                ReleaseHeld {
                    waited,
                    used_bytes: proof.used_bytes,
                    baseline_bytes: proof.baseline_bytes,
                    holders: Vec::new(),
                    busy: false,
                    reason: format!("the server could not be killed: {}", stuck.join("; ")),
                }
            }
            Err(held) => held,
        };
        self.sink.event(Event::GpuHeld(GpuHeld {
            lane: self.lane.clone(),
            waited_ms: u64::try_from(held.waited.as_millis()).unwrap_or(u64::MAX),
            used_bytes: held.used_bytes.clone(),
            baseline_bytes: held.baseline_bytes.clone(),
            holders: held.holders.clone(),
            reason: held.reason.clone(),
        }));
        Err((self, held))
    }
}
