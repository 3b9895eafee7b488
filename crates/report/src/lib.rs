//! From summaries to files that people and programs read: `report.html`, `report.md`, `summary.csv`, `summary.json`.
//!
//! Works at any moment of a run and says what is missing. All numbers for people go through [`number`].

mod best;
mod change;
mod csv;
pub mod html;
mod markdown;
mod names;
pub mod number;
mod reference;
mod schemas;
pub mod sentences;
mod table;
mod terminal;
mod transcripts;

use std::path::{Path, PathBuf};

use serde::Serialize;
use thiserror::Error;

pub use change::{change_md, change_text};
pub use csv::{CSV_HEADER, study_csv, summary_csv};
pub use html::{RunParts, report_html};
pub use markdown::report_md;
pub use schemas::{SchemaOf, schema_of};
pub use terminal::{cell_line, columns, final_table, print, questions_line};
pub use transcripts::Transcripts;

use benchd_analysis::{
    AnalysisError, LaneSummary, RunSeries, RunSummary, SUMMARY_VERSION, Study, summarise_run_with_series,
};
use benchd_core::record::LaneId;
use benchd_journal::{DiskError, RunDir, write_atomic};
use benchd_plan::{Lane, Plan};

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
    let (summary, series) = summarise_run_with_series(dir, plan, lanes)?;
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
    let transcripts = transcripts::read(dir, plan, lanes)?;
    if let Some(transcripts) = &transcripts {
        let text = transcripts::transcripts_md(transcripts);
        write_atomic(&dir.root().join(TRANSCRIPTS), text.as_bytes())?;
    }
    write_atomic(&dir.report_md(), report_md(&summary, plan).as_bytes())?;
    let study = Study::of_one(summary.clone());
    let parts = RunParts {
        plan,
        transcripts: transcripts.as_ref(),
    };
    let page = report_html(&study, &[vec![parts]], &[vec![series]]);
    write_atomic(&dir.report_html(), page.as_bytes())?;
    Ok(summary)
}

/// Writes `study.json`, `summary.csv`, `report.md` and `report.html` of several runs into a folder, each of them atomically. `runs` are
/// the folders of the runs, to link their own reports. Returns the report's path.
pub fn write_study(
    folder: &Path,
    study: &Study,
    series: &[Vec<RunSeries>],
    runs: &[RunDir],
) -> Result<PathBuf, ReportError> {
    std::fs::create_dir_all(folder).map_err(|e| DiskError::new("create", folder, e))?;
    write_json(&folder.join("study.json"), study)?;
    write_atomic(&folder.join("summary.csv"), study_csv(study).as_bytes())?;
    let real = std::fs::canonicalize(folder).map_err(|e| DiskError::new("open", folder, e))?;
    let own = |run: &RunSummary, file: fn(&RunDir) -> PathBuf| {
        let dir = runs.iter().find(|dir| dir.id() == run.run_id)?;
        let path = file(dir);
        // Beside each other they can be moved together; elsewhere a link would lead nowhere.
        let beside = dir.root().parent() == real.parent() && path.is_file();
        let name = path.file_name()?.to_string_lossy().into_owned();
        beside.then(|| format!("../{}/{name}", dir.id()))
    };
    let report = folder.join("report.md");
    let text = markdown::study_md(study, &|run| own(run, RunDir::report_md));
    write_atomic(&report, text.as_bytes())?;
    let page = html::study_html(study, &|run| own(run, RunDir::report_html), series);
    write_atomic(&folder.join("report.html"), page.as_bytes())?;
    Ok(report)
}

/// The folder of a study under `results` where no other is named: `study-<newest run>-<8 hex digits>`, the same for
/// the same runs in whatever order.
pub fn study_folder(results: &Path, runs: &[RunDir]) -> PathBuf {
    use sha2::{Digest as _, Sha256};
    let mut ids: Vec<&str> = runs.iter().map(RunDir::id).collect();
    ids.sort_unstable();
    let digest: String = Sha256::digest(ids.join("\n").as_bytes())
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let newest = ids.last().copied().unwrap_or_default();
    results.join(format!("study-{newest}-{digest}"))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), DiskError> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| DiskError::new("write", path, e.into()))?;
    text.push(b'\n');
    write_atomic(path, &text)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_same;
#[cfg(test)]
mod tests_schemas;
