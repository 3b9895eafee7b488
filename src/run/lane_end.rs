//! How a lane ended, and whom that is to be blamed on.

use super::{decide::Halt, last_words, life::Death};
use crate::{check::gpu::name_processes, server::Failed};
use benchd_core::record::GpuProcess;
use benchd_journal::{LaneOutcome, ServerDied};

#[derive(Debug)]
pub(super) struct LaneEnd {
    pub(super) outcome: LaneOutcome,
    /// Where it failed; empty where it did not.
    pub(super) stage: &'static str,
    pub(super) reason: Option<String>,
    pub(super) log_tail: Vec<String>,
    /// Set where the run must end.
    pub(super) halt: Option<Halt>,
    /// The machine failed it, not the framework.
    pub(super) by_machine: bool,
    /// Set where its server's death failed it.
    pub(super) died: Option<Box<ServerDied>>,
}

impl LaneEnd {
    fn new(outcome: LaneOutcome) -> Self {
        Self {
            outcome,
            stage: "",
            reason: None,
            log_tail: Vec::new(),
            halt: None,
            by_machine: false,
            died: None,
        }
    }

    pub(super) fn finished() -> Self {
        Self::new(LaneOutcome::Finished)
    }

    pub(super) fn interrupted() -> Self {
        Self::new(LaneOutcome::Interrupted)
    }

    pub(super) fn failed(stage: &'static str, reason: impl Into<String>) -> Self {
        Self {
            stage,
            reason: Some(reason.into()),
            ..Self::new(LaneOutcome::Failed)
        }
    }

    /// Its server died, in this cell with so many failed requests, or in none.
    pub(super) fn died(stage: &'static str, in_cell: Option<(&str, u64)>, death: &Death) -> Self {
        let died = ServerDied {
            cell: in_cell.map(|(cell, _)| cell.to_owned()),
            failed_requests: in_cell.map_or(0, |(_, failed)| failed),
            cause: death.to_string(),
            log_line: None,
        };
        Self {
            reason: Some(reason_of(&died, None)),
            died: Some(Box::new(died)),
            ..Self::failed(stage, String::new())
        }
    }

    /// Blamed on the death of the server, as it is known by now, and on the line of its log that says why. What failed by
    /// it stays told.
    pub(super) fn with_death(mut self, death: Option<&Death>, log_line: Option<String>) -> Self {
        let (mut died, before) = match self.died.take() {
            Some(died) => (*died, None),
            None => match death {
                Some(death) => (
                    ServerDied {
                        cell: None,
                        failed_requests: 0,
                        cause: death.to_string(),
                        log_line: None,
                    },
                    self.reason.take(),
                ),
                None => return self,
            },
        };
        if let Some(death) = death {
            died.cause = death.to_string();
        }
        died.log_line = log_line;
        self.reason = Some(reason_of(&died, before.as_deref()));
        self.died = Some(Box::new(died));
        self
    }

    /// The machine is not as a server needs it; no fault of the framework.
    pub(super) fn machine(stage: &'static str, reason: impl Into<String>) -> Self {
        Self {
            by_machine: true,
            ..Self::failed(stage, reason)
        }
    }

    /// Strangers stayed on the GPU: no lane after this one can do better as long as they do.
    pub(super) fn busy(stage: &'static str, why: impl std::fmt::Display) -> Self {
        let reason = why.to_string();
        Self {
            halt: Some(Halt::Busy(reason.clone())),
            ..Self::machine(stage, reason)
        }
    }

    /// A failure beside strangers on the GPU may be theirs: their memory is not there for the server.
    pub(super) fn beside(&mut self, strangers: &[GpuProcess]) {
        if self.outcome != LaneOutcome::Failed || self.halt.is_some() || strangers.is_empty() {
            return;
        }
        self.by_machine = true;
        let reason = self.reason.take().unwrap_or_default();
        let named = name_processes(strangers);
        self.reason = Some(format!("{reason}\nnot alone on the GPU then: {named}"));
    }

    /// The device is gone: no lane after this one can do better.
    pub(super) fn gpu_lost(stage: &'static str, why: impl std::fmt::Display) -> Self {
        let reason = format!("the GPU was lost: {why}");
        Self {
            halt: Some(Halt::Unsafe(reason.clone())),
            ..Self::machine(stage, reason)
        }
    }

    /// The disk refuses: the run must end, keeping what is whole.
    pub(super) fn disk(error: impl std::fmt::Display) -> Self {
        let text = error.to_string();
        Self {
            // Not the lane's fault: once there is room again, `--resume` goes on with it.
            outcome: LaneOutcome::Interrupted,
            halt: Some(Halt::Disk(text.clone())),
            ..Self::failed("results", text)
        }
    }

    /// As a part of the server's life tells it.
    pub(super) fn of_server(failed: &Failed) -> Self {
        if failed.interrupted {
            return Self::interrupted();
        }
        let mut reason = failed.to_string();
        let tail = failed.log_tail.iter().map(String::as_str);
        if let (Some(_), Some(line)) = (failed.exit, last_words::of_lines(tail)) {
            reason += &format!("\n  its log: {line}");
        }
        Self {
            log_tail: failed.log_tail.clone(),
            ..Self::failed(failed.stage.as_str(), reason)
        }
    }
}

/// `the server died in cell concurrent/c64 with 72 failed requests: …`, then the line of its log and what failed by it.
fn reason_of(died: &ServerDied, failed_by_it: Option<&str>) -> String {
    let cell = died.cell.as_ref().map(|cell| format!(" in cell {cell}"));
    let failed = match died.failed_requests {
        0 => String::new(),
        1 => " with 1 failed request".to_owned(),
        n => format!(" with {n} failed requests"),
    };
    let mut reason = format!(
        "the server died{}{failed}: {}",
        cell.unwrap_or_default(),
        died.cause
    );
    if let Some(line) = &died.log_line {
        reason += &format!("\n  its log: {line}");
    }
    if let Some(what) = failed_by_it.filter(|what| !what.is_empty()) {
        reason += &format!("\n  so failed: {what}");
    }
    reason
}
