//! What a server that runs owns, whether it answers yet or not.

use std::{sync::Arc, time::Instant};

use tokio_util::sync::CancellationToken;

use super::{
    reaped::{self, Reaped},
    settings::{EventSink, Moment, ProbeAnswer, ServerSettings},
    watch::Inventory,
};
use benchd_host::process::ServerProcess;
use benchd_journal::StopWhy;

/// What every state from here on owns.
pub(super) struct Running {
    pub(super) settings: ServerSettings,
    pub(super) process: Arc<ServerProcess>,
    pub(super) inventory: Inventory,
    pub(super) sink: Arc<dyn EventSink>,
    pub(super) launched: Moment,
}

impl Running {
    pub(super) async fn stop(self, why: StopWhy, now: &CancellationToken) -> Reaped {
        let Self {
            settings,
            process,
            inventory,
            sink,
            launched,
        } = self;
        // The stop looks itself, more often.
        drop(inventory);
        reaped::stop(settings, &process, sink, launched, why, now).await
    }
}

/// Moments on the way to the first answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) healthy: Instant,
    pub(super) ready: Moment,
    pub(super) answer: ProbeAnswer,
}
