//! The run folder and its journal: the only truth about a run.
//!
//! This room owns the layout of `results/<run-id>/` and `logs/<run-id>/`, the append-only files in it (a line is
//! whole or absent), and the reading back of them: [`replay`] for the journal, [`State`] for what it amounts to,
//! [`cell_records`] for the requests that an end event names.

mod error;
mod event;
mod files;
mod line_file;
mod log;
mod read;
mod replay;
mod run_dir;
mod run_info;
mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{DiskError, JournalError, RecordError};
pub use event::*;
pub use files::{GpuFile, PromptFile, RecordFile};
pub use line_file::TornTail;
pub use log::{Journal, Opened};
pub use read::{CellRecords, GpuSamples, cell_records, gpu_samples};
pub use replay::{Replay, replay};
pub use run_dir::{RunDir, write_atomic};
pub use run_info::{
    ClientCalibration, ClientPoint, ClientRate, EnvironmentInfo, HostInfo, RUN_INFO_VERSION, RateLimit,
    RunInfo, RunState,
};
pub use state::{CellState, FinishedCell, LaneState, ServerLife, State};
