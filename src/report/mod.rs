//! From summaries to files that people and programs read: `report.html`, `report.md`, `summary.csv`, `summary.json`.
//!
//! Works at any moment of a run and says what is missing. All numbers for people go through [`number`].

mod csv;
pub mod html;
mod markdown;
pub mod number;
mod table;
mod terminal;
mod transcripts;

use serde::Serialize;
use thiserror::Error;

pub use csv::{CSV_HEADER, summary_csv};
pub use html::{RunParts, report_html};
pub use markdown::report_md;
pub use terminal::{cell_line, final_table};

use crate::{
    analysis::{AnalysisError, LaneSummary, RunSummary, SUMMARY_VERSION, Study, summarise_run},
    journal::{DiskError, RunDir, write_atomic},
    plan::{Lane, Plan},
    record::LaneId,
};

/// The report can't be made.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The run can't be summarised.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    /// A file can't be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The file of answers side by side, in the run folder.
const TRANSCRIPTS: &str = "transcripts.md";

/// The content of a lane's `summary.json`: one summary a round of the plan.
#[derive(Serialize)]
struct LaneFile<'a> {
    v: u32,
    rounds: Vec<&'a LaneSummary>,
}

/// Summarises the run as it stands and writes `summary.json`, `summary.csv`, `report.md`, `report.html`,
/// `transcripts.md` (where there are written prompts) and each lane's `summary.json`, each of them atomically. `lanes` are the plan's lanes with their cells.
pub fn write_all(dir: &RunDir, plan: &Plan, lanes: &[Lane]) -> Result<RunSummary, ReportError> {
    let summary = summarise_run(dir, plan, lanes)?;
    let mut done: Vec<(&str, &str)> = Vec::new();
    for lane in &summary.lanes {
        let LaneId { framework, model, .. } = &lane.lane;
        let folder = dir.lane(&lane.lane);
        if done.contains(&(framework, model)) || !folder.is_dir() {
            continue;
        }
        done.push((framework, model));
        let same = |l: &&LaneSummary| (&l.lane.framework, &l.lane.model) == (framework, model);
        let file = LaneFile {
            v: SUMMARY_VERSION,
            rounds: summary.lanes.iter().filter(same).collect(),
        };
        write_json(&dir.lane_summary(&lane.lane), &file)?;
    }
    write_json(&dir.summary_json(), &summary)?;
    write_atomic(&dir.summary_csv(), summary_csv(&summary).as_bytes())?;
    if let Some(text) = transcripts::transcripts_md(dir, lanes)? {
        write_atomic(&dir.root().join(TRANSCRIPTS), text.as_bytes())?;
    }
    write_atomic(&dir.report_md(), report_md(&summary, plan).as_bytes())?;
    let study = Study::of_one(summary.clone());
    let page = report_html(&study, &[vec![RunParts { plan }]], &[]);
    write_atomic(&dir.report_html(), page.as_bytes())?;
    Ok(summary)
}

fn write_json<T: Serialize>(path: &std::path::Path, value: &T) -> Result<(), DiskError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| DiskError::new("write", path, e.into()))?;
    text.push(b'\n');
    write_atomic(path, &text)
}

#[cfg(test)]
mod tests;
