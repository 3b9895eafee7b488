//! From records and samples to summaries and flags.
//!
//! One pass over a cell's records keeps the numbers, never the records; what is kept is bounded by the number of
//! requests. Definitions are those of `facts/metrics.md` and of the report's own section on method.

mod agreement;
mod cell;
mod change;
mod compare;
mod distribution;
mod drift;
mod flags;
mod gpu;
mod hypotheses;
mod korean;
mod parallel;
mod prefix;
mod run;
mod runs;
mod samples;
mod series;
mod server;
mod steady;
mod study;
mod summary;
mod verdict;

pub use agreement::{CellAgreement, OutputAgreement, Parts, first_difference};
pub use cell::{CellContext, summarise_cell};
pub use change::{
    Better, CellChange, Change, ChangeOutcome, ComparedRun, FAILURES_P, FailureChange, OneSidedCell,
    RUN_COMPARISON_VERSION, Regression, RunComparison, Side as RunSide, compare_runs,
};
pub use compare::{
    COMPARED_VALUES, CellComparison, CellRounds, Difference, FrameworkComparison, OverRounds, RoundRatio,
    RoundsSummary,
};
pub use distribution::{Counts, Distribution, Rate};
pub use drift::{CLOCK_CELLS, CLOCK_P, CLOCK_SHARE, DriftFigure, LaneDrift, SERIES_REQUESTS};
pub use flags::{
    CACHED_ALLOWANCE, COALESCED_SHARE, DRIFT_CLOCK_SHARE, DRIFT_LATENCY_SHARE, DRIFT_P, DRIFT_REQUESTS,
    EVENT_RATE_SHARE, LAG_FLOOR_US, LAG_SHARE, PROMPT_TOLERANCE, SAMPLE_GAP_MS, THROTTLED_SHARE,
    TOKENS_PER_CHUNK, UNKNOWN_TEMPLATE,
};
pub use gpu::{GpuSummary, GpuWindow, gpu_windows};
pub use hypotheses::shown_framework;
pub use korean::{Comparison, KoreanComparison, LOOP_SHARE, QualitySigns, TextFigures, TextSize};
pub use run::{AnalysisError, RunAnalysis, analyse_run, summarise_run, summarise_run_with_series};
pub use runs::{AnalysedRun, SameMachine};
pub use series::{
    ARRIVALS, Band, CellSeries, CellSpan, GPU_BUCKETS, GpuBucket, LaneAttempt, LaneSeries, REQUEST_POINTS,
    RequestPoint, RunSeries, SPREAD_PERCENTILES, SPREAD_VALUES, STOP_BUCKETS, Spread, TokenTimeline,
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
