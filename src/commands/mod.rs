//! One file a subcommand: each parses, wires and answers; the exit code is picked here.

mod check;
mod compare;
mod env;
mod report;
mod run;
mod schema;
mod selfcheck;
mod sim;
mod status;
mod trial;

use std::{path::Path, process::ExitCode};

use clap::Parser as _;

use crate::{
    cli::{Cli, Command},
    run::{Context as _, EXIT_MACHINE, EXIT_OK, Failure, environment_redactor},
};
use benchd_journal::RunDir;
use benchd_plan::{Lane, LoadedPlan, Only, Plan};

/// Runs the command that the command line asks for. Errors go to stderr with their causes.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Status(args) => status::run(args),
        Command::Report(args) => report::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Env(args) => env::run(args),
        Command::Selfcheck(args) => selfcheck::run(args),
        Command::Schema(args) => schema::run(&args),
        Command::Sim(args) => sim::run(&args),
    };
    ExitCode::from(result.unwrap_or_else(|failure| {
        let failure = failure.redacted(&environment_redactor());
        eprintln!("{}", failure.shown());
        failure.code
    }))
}

/// What commands return: an exit code, or a failure that has one.
type CommandResult = Result<u8, Failure>;

/// What runs a command that waits for other processes.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't be started")
}

/// Writes a command's answer to stdout.
fn answer(text: &str) -> Result<(), Failure> {
    benchd_report::print(text).context("can't write to stdout")
}

/// Cells of lanes, and their counted requests.
fn count_cells(lanes: &[Lane]) -> (usize, u64) {
    let cells = || lanes.iter().flat_map(|lane| &lane.cells);
    let requests = cells().map(|cell| u64::from(cell.requests_per_pass) * u64::from(cell.passes));
    (cells().count(), requests.sum())
}

/// A command that did what it should.
const DONE: CommandResult = Ok(EXIT_OK);

/// Reads a plan; all its problems at once.
///
/// # Errors
/// Exit code 2.
fn load_plan(path: &Path) -> Result<LoadedPlan, Failure> {
    benchd_plan::load(path, &|name| std::env::var(name).ok()).map_err(|error| Failure::unusable_plan(&error))
}

/// Those lanes of a plan that `--only` leaves, for a command that is to `verb` them.
///
/// # Errors
/// `--only` names what the plan has not, or leaves nothing (2).
fn narrowed_lanes(plan: &Plan, only: &[String], verb: &str) -> Result<Vec<Lane>, Failure> {
    let parsed = Only::parse(only).map_err(Failure::plan)?;
    parsed.check(plan).map_err(Failure::plan)?;
    let lanes = benchd_plan::lanes(plan, &parsed);
    if lanes.is_empty() {
        return Err(Failure::plan(format_args!(
            "nothing is left to {verb}: no lane has a cell that `--only {}` names",
            only.join(" --only ")
        )));
    }
    Ok(lanes)
}

/// Stands for every `${VAR}` of a frozen plan: who reads a run needs no secret.
const NO_SECRET: &str = "http://127.0.0.1/secret-not-needed";

/// How many runs are named to a person who named one that isn't there.
const RUNS_NAMED: usize = 5;

/// There is no run of this name: says which there are.
fn no_such_run(results: &Path, name: Option<&str>) -> Failure {
    let folder = results.display();
    let what = match name {
        Some(name) => format!("there is no run {name} in {folder}"),
        None => format!("there is no run in {folder}"),
    };
    let runs = RunDir::list(results, Path::new("logs")).unwrap_or_default();
    if runs.is_empty() {
        return Failure::plan(format_args!(
            "{what}\n  hint: `benchd run PLAN` makes one; --results names the folder where it did so elsewhere"
        ));
    }
    let named: Vec<&str> = runs.iter().take(RUNS_NAMED).map(RunDir::id).collect();
    let more = match runs.len().saturating_sub(RUNS_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Failure::plan(format_args!(
        "{what}\n  hint: there are {}{more}",
        named.join(", ")
    ))
}

/// The run that a person names (the newest where `None`), its frozen plan and that plan's lanes.
///
/// # Errors
/// There is no such run (2), or it can't be read (3).
fn open_run(results: &Path, name: Option<&str>) -> Result<(RunDir, Plan, Vec<Lane>), Failure> {
    let dir = find_run(results, name)?;
    let loaded = benchd_plan::load(&dir.plan_yaml(), &|_| Some(NO_SECRET.to_owned()))
        .map_err(|error| Failure::unusable_plan(&error).with_code(EXIT_MACHINE))?;
    let lanes = benchd_plan::lanes(&loaded.plan, &Only::default());
    Ok((dir, loaded.plan, lanes))
}

/// The folder of the run that a person names, the newest where `None`.
///
/// # Errors
/// There is no such run (2), or its folder can't be read (3).
fn find_run(results: &Path, name: Option<&str>) -> Result<RunDir, Failure> {
    // The logs' folder is not needed to read a run.
    RunDir::find(results, Path::new("logs"), name).map_err(|error| {
        let missing = matches!(
            error.source.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
        );
        if missing {
            no_such_run(results, name)
        } else {
            Failure::machine(error)
        }
    })
}
