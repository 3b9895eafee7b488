//! `benchd report`: writes the report of a run, finished or not.

use std::path::Path;

use super::{CommandResult, DONE, Failure};
use crate::{cli::ReportArgs, journal::RunDir, report};

/// Writes report.md, summary.csv and summary.json, and prints where they lie.
///
/// # Errors
/// When there is no such run, its journal is damaged, or the files can't be written.
pub fn run(args: ReportArgs) -> CommandResult {
    let dir = RunDir::find(&args.results, Path::new("logs"), args.run.as_deref())
        .map_err(|e| Failure::plan(anyhow::Error::from(e).context("there is no such run")))?;
    report::write_all(&dir).map_err(|e| Failure::machine(anyhow::Error::from(e)))?;
    println!("{}", dir.report_md().display());
    DONE
}
