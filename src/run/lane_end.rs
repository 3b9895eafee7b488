//! How a lane ended, and whom that is to be blamed on.

use super::decide::Halt;
use crate::{check::gpu::name_processes, server::Failed};
use benchd_core::record::GpuProcess;
use benchd_journal::LaneOutcome;

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
        Self {
            log_tail: failed.log_tail.clone(),
            ..Self::failed(failed.stage.as_str(), failed.to_string())
        }
    }
}
