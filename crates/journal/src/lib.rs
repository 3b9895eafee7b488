//! The run folder and its journal: the only truth about a run.
//!
//! - [`RunDir`]: the layout of `results/<run-id>/` and `logs/<run-id>/`; [`RunInfo`]: `run.json`.
//! - [`Journal`] appends [`Event`]s; [`replay`] reads them back, and [`State`] is what they amount to.
//! - [`RecordFile`], [`GpuFile`], [`PromptFile`]: the other append-only files, in which a line is whole or absent;
//!   [`cell_records`] and [`gpu_samples`] read them back.

mod error;
mod event;
mod line_file;
mod log;
mod prompt_file;
mod read;
mod replay;
mod run_dir;
mod run_info;
mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{DiskError, JournalError, RecordError};
pub use event::{
    CellEnded, CellFailed, CellStarted, Entry, Event, GpuBaseline, GpuHeld, GpuReleased, JOURNAL_VERSION,
    LaneEnded, LaneOutcome, LaneStarted, Note, PassTimes, RunEnded, RunOutcome, RunStarted,
    ServerDescendants, ServerLaunched, ServerPrepared, ServerReady, ServerReaped, ServerStopping,
    StrangerCame, StrangerLeft, TEMPLATE_WITH_SYSTEM,
};
pub use line_file::{LineFile, TornTail};
pub use log::{Journal, Opened};
pub use prompt_file::PromptFile;
pub use read::{CellRecords, GpuSamples, cell_records, gpu_samples};
pub use replay::{Replay, replay};
pub use run_dir::{RunDir, write_atomic};
pub use run_info::{
    ClientCalibration, ClientPoint, ClientRate, EnvironmentInfo, HostInfo, RUN_INFO_VERSION, RateLimit,
    RunInfo, RunState, Tool, Toolchain,
};
pub use state::{CellState, FinishedCell, LaneState, ServerLife, State, StrangerStay};

use benchd_core::record::{GpuSample, RequestRecord};

/// `requests.jsonl` of a lane. Its [position](LineFile::position) before a cell's first request is the `offset` of the
/// cell's end event; it is [synced](LineFile::sync) before that event is written.
pub type RecordFile = LineFile<RequestRecord>;

/// `gpu.jsonl` of a lane. Synced once a cell, never line by line: a power loss may cost the last seconds of samples.
pub type GpuFile = LineFile<GpuSample>;
