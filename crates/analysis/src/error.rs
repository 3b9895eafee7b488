//! Why a run can't be analysed.

use thiserror::Error;

use benchd_journal::{DiskError, JournalError, RecordError};

/// A run can't be summarised at all. A cell that can't be is named in its lane instead.
#[derive(Debug, Error)]
pub enum AnalysisError {
    /// The journal or run.json can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The answers to the questions can't be read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The file system said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The journal tells of a lane whose framework or model the plan does not have.
    #[error(
        "the journal has a lane {lane}, the plan has no such {what}\n  hint: plan.yaml in the run folder was changed"
    )]
    NotInPlan {
        /// The lane.
        lane: String,
        /// `framework` or `model`.
        what: &'static str,
    },
}
