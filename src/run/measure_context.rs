//! What a lane's cells are measured with, and what stops them from outside.

use super::{display::Display, gpu_log::GpuLog, journal::JournalHandle, lane_end::LaneEnd, signals::Signals};
use crate::{
    scenario::{CellError, Stop, StopCause},
    server::Watch,
};
use benchd_core::record::Redactor;
use benchd_journal::RunDir;
use benchd_load::LoadEngine;

pub(super) struct MeasureContext<'a> {
    pub(super) dir: &'a RunDir,
    pub(super) journal: &'a JournalHandle,
    pub(super) signals: &'a Signals,
    pub(super) gpu_log: &'a GpuLog,
    pub(super) engine: &'a LoadEngine,
    pub(super) redactor: &'a Redactor,
    pub(super) display: &'a Display,
    /// The server, where benchd launched it.
    pub(super) server: Option<Watch>,
}

impl MeasureContext<'_> {
    /// Resolves when the cell must stop.
    pub(super) fn stop(&self) -> Stop<'_> {
        Box::pin(async {
            let ended = async {
                match &self.server {
                    Some(server) => server.ended().await.to_string(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.signals.clean().cancelled() => StopCause::Interrupted,
                how = ended => StopCause::ServerEnded(how),
                () = self.gpu_log.lost().cancelled() => StopCause::GpuLost(self.gpu_log.why_lost()),
                () = self.gpu_log.unwritten().cancelled() => StopCause::Disk(self.gpu_log.why_unwritten()),
                () = self.journal.failed().cancelled() => {
                    StopCause::Disk(self.journal.failure().unwrap_or_default())
                }
            }
        })
    }
}

/// How the lane ends by a cell's error.
pub(super) fn lane_end(error: CellError) -> LaneEnd {
    match error {
        CellError::Stopped(StopCause::Interrupted) => LaneEnd::interrupted(),
        CellError::Stopped(StopCause::Disk(why)) => LaneEnd::disk(why),
        CellError::Disk(error) => LaneEnd::disk(error),
        CellError::Stopped(StopCause::GpuLost(why)) => LaneEnd::gpu_lost("cell", why),
        error => LaneEnd::failed("cell", error.to_string()),
    }
}
