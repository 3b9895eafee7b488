//! A server that really answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    control::Control,
    reaped::Reaped,
    running::{Answered, Running},
    settings::{ProbeAnswer, StopWhy},
};
use benchd_core::record::{CompileCaches, LaneId, LoadFigures, Precision, ProcessIdentity};
use benchd_host::process::{LeaderExit, ServerProcess};
use benchd_journal::{Event, ServerReady};

/// A server that generates.
pub struct Ready {
    running: Running,
    answered: Answered,
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready")
            .field("lane", &self.running.settings.lane)
            .field("leader", self.running.process.leader())
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

/// A handle on a ready server for those who measure it: who it is and when it ends. Holds nothing alive.
#[derive(Debug, Clone)]
pub struct Watch {
    process: std::sync::Weak<ServerProcess>,
}

impl Ready {
    pub(super) fn new(running: Running, answered: Answered) -> Self {
        Self { running, answered }
    }

    /// Its lane.
    pub fn lane(&self) -> &LaneId {
        &self.running.settings.lane
    }

    /// From launch to the health check's yes.
    pub fn healthy_after(&self) -> Duration {
        self.answered
            .healthy
            .saturating_duration_since(self.running.launched.at)
    }

    /// From launch to the first real completion.
    pub fn ready_after(&self) -> Duration {
        self.answered
            .ready
            .at
            .saturating_duration_since(self.running.launched.at)
    }

    /// What the readiness completion brought back: model, stream, counts.
    pub fn answer(&self) -> &ProbeAnswer {
        &self.answered.answer
    }

    /// Its control side.
    pub fn control(&self) -> Control {
        let launch = &self.running.settings.launch;
        Control::new(&launch.host, launch.port)
    }

    /// The leader.
    pub fn leader(&self) -> &ProcessIdentity {
        self.running.process.leader()
    }

    /// The last lines of its log.
    pub fn log_tail(&self) -> Vec<String> {
        self.running.process.tail()
    }

    /// A handle that may outlive it.
    pub fn watch(&self) -> Watch {
        Watch {
            process: Arc::downgrade(&self.running.process),
        }
    }

    /// Journals that it is ready, with what has been asked of it meanwhile.
    pub fn announce(
        &self,
        facts: BTreeMap<String, String>,
        precision: Precision,
        template_tokens: Option<u32>,
        gpu_used_bytes: Option<u64>,
        load: Option<LoadFigures>,
        compile_caches: Option<CompileCaches>,
    ) {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        self.running.sink.event(Event::ServerReady(ServerReady {
            lane: self.lane().clone(),
            healthy_ms: millis(self.healthy_after()),
            ready_ms: millis(self.ready_after()),
            facts,
            stream: self.answered.answer.shape,
            template_tokens,
            gpu_used_bytes,
            load,
            precision: Some(precision),
            compile_caches,
            processes: Vec::new(),
        }));
    }

    /// Stops it. `now` passes over the grace.
    pub async fn stop(self, why: StopWhy, now: &CancellationToken) -> Reaped {
        self.running.stop(why, now).await
    }
}

impl Watch {
    /// Its processes now; none once it is stopped.
    pub fn processes(&self) -> Vec<ProcessIdentity> {
        self.process.upgrade().map(|p| p.processes()).unwrap_or_default()
    }

    /// Waits for its leader's end; never, once the server is stopped and gone.
    pub async fn ended(&self) -> LeaderExit {
        match self.process.upgrade() {
            Some(process) => process.leader_exited().await,
            None => std::future::pending().await,
        }
    }

    /// How its leader ended, if it has and the server is not stopped yet.
    pub fn exit(&self) -> Option<LeaderExit> {
        self.process.upgrade()?.exit()
    }
}
