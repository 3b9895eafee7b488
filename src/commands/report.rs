//! `benchd report`: writes the report of a run, finished or not.

use std::{io::Write as _, path::Path};

use anyhow::Context;

use super::{CommandResult, DONE, Failure};
use crate::{
    cli::ReportArgs,
    journal::RunDir,
    plan::{self, Only},
    report,
};

/// Stands for every `${VAR}` of a frozen plan: a report needs no secret.
const NO_SECRET: &str = "http://127.0.0.1/secret-not-needed";

/// Writes report.md, summary.csv and summary.json, and prints where the report lies.
///
/// # Errors
/// When there is no such run (2), its journal is damaged, or the files can't be written (3).
pub fn run(args: ReportArgs) -> CommandResult {
    let dir = RunDir::find(&args.results, Path::new("logs"), args.run.as_deref())
        .map_err(|e| Failure::plan(anyhow::Error::from(e).context("there is no such run")))?;
    let loaded = plan::load(&dir.plan_yaml(), &|_| Some(NO_SECRET.to_owned())).map_err(Failure::machine)?;
    let lanes = plan::lanes(&loaded.plan, &Only::default());
    report::write_all(&dir, &loaded.plan, &lanes).map_err(Failure::machine)?;
    writeln!(std::io::stdout().lock(), "{}", dir.report_md().display()).context("stdout is closed")?;
    DONE
}
