//! `benchd report`: writes the report of a run, finished or not, or one report of several runs.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{CommandResult, DONE, NO_STDOUT, open_run};
use crate::{
    cli::ReportArgs,
    run::{Context as _, Failure},
};
use benchd_analysis::{AnalysedRun, summarise_study};
use benchd_journal::RunDir;

/// Writes the files and prints where the report lies.
///
/// # Errors
/// When there is no such run or one is given twice (2), a journal is damaged, or the files can't be written (3).
pub(super) fn run(args: ReportArgs) -> CommandResult {
    let path = match &args.runs[..] {
        [] | [_] if args.output.is_none() => of_one(&args.results, args.runs.first().map(String::as_str))?,
        runs => of_several(&args.results, runs, args.output)?,
    };
    benchd_report::print(&format!("{}\n", path.display())).context(NO_STDOUT)?;
    DONE
}

fn of_one(results: &Path, run: Option<&str>) -> Result<PathBuf, Failure> {
    let (dir, plan, lanes) = open_run(results, run)?;
    benchd_report::write_all(&dir, &plan, &lanes).map_err(Failure::machine)?;
    Ok(dir.report_html())
}

fn of_several(results: &Path, runs: &[String], output: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let names: Vec<Option<&str>> = match runs {
        [] => vec![None],
        runs => runs.iter().map(|run| Some(run.as_str())).collect(),
    };
    let opened = names
        .into_iter()
        .map(|name| open_run(results, name))
        .collect::<Result<Vec<_>, _>>()?;
    let mut seen = BTreeSet::new();
    if let Some((twice, ..)) = opened
        .iter()
        .find(|(dir, ..)| !seen.insert(dir.root().to_owned()))
    {
        return Err(Failure::plan(format_args!(
            "the run {} is given twice",
            twice.id()
        )));
    }
    let (mut dirs, mut analysed): (Vec<RunDir>, Vec<AnalysedRun>) = (Vec::new(), Vec::new());
    for (dir, plan, lanes) in opened {
        let run = AnalysedRun::read(&dir, plan, lanes).map_err(Failure::machine)?;
        if run.summary().cells_measured == 0 {
            return Err(Failure::machine(format_args!(
                "the run {} has measured nothing yet",
                dir.id()
            )));
        }
        analysed.push(run);
        dirs.push(dir);
    }
    let folder = output.unwrap_or_else(|| benchd_report::study_folder(results, &dirs));
    let (study, series) = summarise_study(analysed);
    benchd_report::write_study(&folder, &study, &series, &dirs).map_err(Failure::machine)
}
