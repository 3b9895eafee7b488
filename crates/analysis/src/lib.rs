//! From records and samples to summaries and flags.
//!
//! One pass over a cell's records keeps the numbers, never the records; what is kept is bounded by the number of
//! requests. Definitions are those of `facts/metrics.md` and of the report's own section on method.

mod agreement;
mod answers;
mod batches;
mod cell;
mod change;
mod client_error;
mod common;
mod compare;
mod context;
mod distribution;
mod drift;
mod error;
mod flags;
mod gpu;
mod hypotheses;
mod korean;
mod lane;
mod measured;
mod parallel;
mod passes;
mod precision;
mod prefix;
mod prompts;
mod quality;
mod run;
mod runs;
mod samples;
mod series;
mod server;
mod steady;
mod study;
mod summary;
mod times;
mod verdict;

pub use agreement::{CellAgreement, OutputAgreement, Parts, first_difference};
pub use cell::summarise_cell;
pub use change::{
    Better, CellChange, Change, ChangeOutcome, ComparedRun, FAILURES_P, FailureChange, OneSidedCell,
    RUN_COMPARISON_VERSION, Regression, RunComparison, RunSide, compare_runs,
};
pub use common::common_cells;
pub use compare::{
    COMPARED_VALUES, CellComparison, CellRounds, Difference, FrameworkComparison, OverRounds, RoundRatio,
    RoundsSummary,
};
pub use distribution::{Counts, Distribution, Rate};
pub use drift::{DriftFigure, LaneDrift};
pub use error::AnalysisError;
pub use gpu::GpuSummary;
pub use hypotheses::shown_framework;
pub use korean::{Comparison, KoreanComparison, LOOP_SHARE, QualitySigns, TextFigures};
pub use precision::{ServedWeights, is_about_weights};
pub use quality::{Answers, LaneQuality, NOTHING_SHARE, QUALITY_P, QualityPair, grade_answers};
pub use run::summarise_run_with_series;
pub use runs::{AnalysedRun, SameMachine};
pub use series::{
    Band, CellSeries, CellSpan, GpuBucket, LaneAttempt, LaneSeries, RequestPoint, RunSeries,
    SPREAD_PERCENTILES, Spread, TokenTimeline,
};
pub use study::{
    BetweenNights, MachineStudy, NIGHTS_P, NIGHTS_SHARE, NightsDiffer, OverNights, STUDY_VERSION, Study,
    StudyCell, machine_name, summarise_study,
};
pub use summary::*;
pub use verdict::{
    Expectation, ModelVerdict, Seen, Side, TestRole, Verdict, VerdictOutcome, VerdictTest, Weakness,
};

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_client;
#[cfg(test)]
mod tests_compare;
#[cfg(test)]
mod tests_series;
#[cfg(test)]
mod tests_study;
