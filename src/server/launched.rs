//! A server that runs and does not answer yet.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::{
    control::Control,
    failure::{Failed, Stage},
    ready::Ready,
    readying::{self, NotReady},
    reaped::Reaped,
    running::Running,
    settings::{CompletionProbe, EventSink, Interrupt, Moment, ReadyPlan, ServerSettings},
    watch::Inventory,
};
use benchd_core::record::ProcessIdentity;
use benchd_host::process::ServerProcess;
use benchd_journal::StopWhy;

/// A server whose process exists.
pub struct Launched {
    running: Running,
}

impl std::fmt::Debug for Launched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launched")
            .field("lane", &self.running.settings.lane)
            .field("leader", self.running.process.leader())
            .finish_non_exhaustive()
    }
}

impl Launched {
    pub(super) fn new(
        settings: ServerSettings,
        process: ServerProcess,
        launched: Moment,
        sink: Arc<dyn EventSink>,
    ) -> Self {
        let process = Arc::new(process);
        let inventory = Inventory::start(Arc::clone(&process), settings.lane.clone(), Arc::clone(&sink));
        Self {
            running: Running {
                settings,
                process,
                inventory,
                sink,
                launched,
            },
        }
    }

    /// The leader.
    pub fn leader(&self) -> &ProcessIdentity {
        self.running.process.leader()
    }

    /// Waits until it really answers: health, the listener's owner, the plan's steps, one real completion.
    ///
    /// # Errors
    /// It ended, its time was over, it will never answer, or somebody interrupted; it is stopped then, and
    /// the failure carries what became of it.
    pub async fn wait_ready(
        self,
        plan: &ReadyPlan,
        completion: &dyn CompletionProbe,
        interrupt: &Interrupt,
    ) -> Result<Ready, Failed> {
        let running = self.running;
        let process = Arc::clone(&running.process);
        let deadline = running.launched.at + running.settings.start_timeout;
        let last_seen = Mutex::new(String::from("it was not asked yet"));
        let outcome = {
            let launch = &running.settings.launch;
            let control = Control::new(&launch.host, launch.port);
            let launched = Some((&*process, launch));
            let answers = readying::answers(&control, plan, completion, launched, deadline, &last_seen);
            tokio::select! {
                biased;
                () = interrupt.stop.cancelled() => Err(NotReady::Interrupted),
                () = interrupt.now.cancelled() => Err(NotReady::Interrupted),
                exit = process.leader_exited() => Err(NotReady::Ended(exit)),
                () = tokio::time::sleep_until(deadline.into()) => Err(NotReady::TimedOut),
                answers = answers => answers,
            }
        };
        match outcome {
            Ok(answered) => {
                running.inventory.ready();
                Ok(Ready::new(running, answered))
            }
            Err(not_ready) => {
                let last_seen = last_seen.into_inner().unwrap_or_else(PoisonError::into_inner);
                Err(fail(running, not_ready, &last_seen, interrupt).await)
            }
        }
    }

    /// Stops it. `now` passes over the grace.
    pub async fn stop(self, why: StopWhy, now: &CancellationToken) -> Reaped {
        self.running.stop(why, now).await
    }
}

async fn fail(running: Running, not_ready: NotReady, last_seen: &str, interrupt: &Interrupt) -> Failed {
    let after = running.launched.at.elapsed();
    let interrupted = matches!(not_ready, NotReady::Interrupted);
    let exit = match &not_ready {
        NotReady::Ended(exit) => Some(*exit),
        _ => None,
    };
    let (reason, hint) = not_ready.told(after, running.settings.start_timeout, last_seen);
    // Before the stop, which adds lines of its own.
    let log_tail = running.process.tail();
    let why = if interrupted {
        StopWhy::Interrupted
    } else {
        StopWhy::Failed
    };
    let reaped = running.stop(why, &interrupt.now).await;
    Failed {
        stage: Stage::Ready,
        reason,
        hint,
        exit,
        log_tail,
        interrupted,
        reaped: Some(Box::new(reaped)),
    }
}
