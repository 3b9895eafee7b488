//! One file a subcommand: each parses, wires and answers; the exit code is picked here.

pub mod check;
pub mod compare;
pub mod env;
pub mod report;
pub mod run;
pub mod schema;
pub mod selfcheck;
pub mod sim;
pub mod status;

use anyhow::anyhow;

pub(crate) use crate::run::Failure;
use crate::{
    cli::{Cli, Command},
    run::EXIT_OK,
};
use benchd_core::record::{Redactor, secrets_of_environment};
use benchd_journal::RunDir;
use benchd_plan::{self, Lane, Only, Plan};

/// Runs a command and gives benchd's exit code. Errors go to stderr with their causes.
pub fn dispatch(cli: Cli) -> u8 {
    let result = match cli.command {
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
    match result {
        Ok(code) => code,
        Err(Failure { code, error }) => {
            let environment: Vec<(String, String)> = std::env::vars_os()
                .filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)))
                .collect();
            let pairs = environment.iter().map(|(n, v)| (n.as_str(), v.as_str()));
            let secrets = Redactor::new(secrets_of_environment(pairs));
            let text = secrets.text(&with_causes(&error)).into_owned();
            // A plan's problems come rendered, each with its own `error:`.
            if text.starts_with("error") {
                eprintln!("{text}");
            } else {
                eprintln!("error: {text}");
            }
            code
        }
    }
}

/// An error with its causes, each once: some of the library's errors name their cause in their own text.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match text.is_empty() {
            true => cause,
            false if text.contains(&cause) => text,
            false => format!("{text}: {cause}"),
        }
    })
}

/// What commands return: an exit code, or a failure that has one.
pub type CommandResult = Result<u8, Failure>;

/// What is said where a command's answer could not be written.
const NO_STDOUT: &str = "can't write to stdout";

/// A command that did what it should.
pub const DONE: CommandResult = Ok(EXIT_OK);

/// Reads a plan; all its problems at once.
///
/// # Errors
/// Exit code 2.
pub(crate) fn load_plan(path: &std::path::Path) -> Result<benchd_plan::LoadedPlan, Failure> {
    benchd_plan::load(path, &|name| std::env::var(name).ok()).map_err(Failure::plan)
}

/// Stands for every `${VAR}` of a frozen plan: who reads a run needs no secret.
const NO_SECRET: &str = "http://127.0.0.1/secret-not-needed";

/// How many runs are named to a person who named one that isn't there.
const RUNS_NAMED: usize = 5;

/// There is no run of this name: says which there are.
fn no_such_run(results: &std::path::Path, name: Option<&str>) -> anyhow::Error {
    let folder = results.display();
    let what = match name {
        Some(name) => format!("there is no run {name} in {folder}"),
        None => format!("there is no run in {folder}"),
    };
    let runs = RunDir::list(results, std::path::Path::new("logs")).unwrap_or_default();
    if runs.is_empty() {
        return anyhow!(
            "{what}\n  hint: `benchd run PLAN` makes one; --results names the folder where it did so elsewhere"
        );
    }
    let named: Vec<&str> = runs.iter().take(RUNS_NAMED).map(RunDir::id).collect();
    let more = match runs.len().saturating_sub(RUNS_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    anyhow!("{what}\n  hint: there are {}{more}", named.join(", "))
}

/// The run that a person names (the newest where `None`), its frozen plan and that plan's lanes.
///
/// # Errors
/// There is no such run (2), or it can't be read (3).
pub(crate) fn open_run(
    results: &std::path::Path,
    name: Option<&str>,
) -> Result<(RunDir, Plan, Vec<Lane>), Failure> {
    let dir = find_run(results, name)?;
    let loaded =
        benchd_plan::load(&dir.plan_yaml(), &|_| Some(NO_SECRET.to_owned())).map_err(Failure::machine)?;
    let lanes = benchd_plan::lanes(&loaded.plan, &Only::default());
    Ok((dir, loaded.plan, lanes))
}

/// The folder of the run that a person names, the newest where `None`.
///
/// # Errors
/// There is no such run (2), or its folder can't be read (3).
pub(crate) fn find_run(results: &std::path::Path, name: Option<&str>) -> Result<RunDir, Failure> {
    // The logs' folder is not needed to read a run.
    RunDir::find(results, std::path::Path::new("logs"), name).map_err(|error| {
        let missing = matches!(
            error.source.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
        );
        if missing {
            Failure::plan(no_such_run(results, name))
        } else {
            Failure::machine(error)
        }
    })
}
