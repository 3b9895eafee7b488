//! `benchd compare`: a new run against an old one.

use std::io::IsTerminal as _;

use super::{CommandResult, DONE, NO_STDOUT, open_run};
use crate::{
    cli::{CompareArgs, CompareFormat},
    run::{Context as _, Failure},
};
use benchd_analysis::{AnalysedRun, compare_runs};
use benchd_plan::Only;
use benchd_report::{change_md, change_text, print};

/// Something got worse, and the caller asked to be told by the exit code.
const EXIT_REGRESSION: u8 = 5;

/// Prints the comparison; tells by the exit code whether something got worse, where that was asked for.
///
/// # Errors
/// When an argument is wrong or there is no such run (2), or a run can't be read (3).
pub(super) fn run(args: CompareArgs) -> CommandResult {
    let only = Only::parse(&args.only).map_err(Failure::plan)?;
    let threshold = args.fail_on_regression;
    let read = |name: &str| {
        let (dir, plan, lanes) = open_run(&args.results, Some(name))?;
        AnalysedRun::read(&dir, plan, lanes).map_err(Failure::machine)
    };
    let (base, new) = (read(&args.base)?, read(&args.new)?);
    // A part that only one of them has is named as such; what neither has is a slip.
    if let (Err(error), Err(_)) = (only.check(&base.plan), only.check(&new.plan)) {
        return Err(Failure::plan(error));
    }
    let found = compare_runs(&base, &new, &only, threshold.map(|t| t.share()));
    let text = match args.format {
        CompareFormat::Text => {
            let no_colour = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
            change_text(&found, std::io::stdout().is_terminal() && !no_colour)
        }
        CompareFormat::Markdown => change_md(&found),
        CompareFormat::Json => {
            serde_json::to_string_pretty(&found).context("the comparison is no JSON")? + "\n"
        }
    };
    print(&text).context(NO_STDOUT)?;
    if found.cells.is_empty() && found.one_sided.is_empty() {
        return Err(Failure::machine("neither run has measured a cell of these"));
    }
    if threshold.is_some() && !found.regressions.is_empty() {
        return Ok(EXIT_REGRESSION);
    }
    DONE
}
