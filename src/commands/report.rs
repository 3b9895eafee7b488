//! `benchd report`: writes the report of a run, finished or not.

use std::io::Write as _;

use anyhow::Context;

use super::{CommandResult, DONE, Failure, open_run};
use crate::{cli::ReportArgs, report};

/// Writes report.md, summary.csv and summary.json, and prints where the report lies.
///
/// # Errors
/// When there is no such run (2), its journal is damaged, or the files can't be written (3).
pub fn run(args: ReportArgs) -> CommandResult {
    let (dir, plan, lanes) = open_run(&args.results, args.run.as_deref())?;
    report::write_all(&dir, &plan, &lanes).map_err(Failure::machine)?;
    writeln!(std::io::stdout().lock(), "{}", dir.report_md().display()).context("stdout is closed")?;
    DONE
}
