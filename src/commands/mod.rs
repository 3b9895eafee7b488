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

pub(crate) use crate::supervisor::Failure;
use crate::{
    cli::{Cli, Command},
    journal::RunDir,
    plan::{self, Lane, Only, Plan},
    record::{Redactor, secrets_of_environment},
    supervisor::EXIT_OK,
};

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
            let text = secrets.text(&format!("{error:#}")).into_owned();
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

/// What commands return: an exit code, or a failure that has one.
pub type CommandResult = Result<u8, Failure>;

/// A command that did what it should.
pub const DONE: CommandResult = Ok(EXIT_OK);

/// Reads a plan; all its problems at once.
///
/// # Errors
/// Exit code 2.
pub(crate) fn load_plan(path: &std::path::Path) -> Result<crate::plan::LoadedPlan, Failure> {
    crate::plan::load(path, &|name| std::env::var(name).ok()).map_err(Failure::plan)
}

/// Stands for every `${VAR}` of a frozen plan: who reads a run needs no secret.
const NO_SECRET: &str = "http://127.0.0.1/secret-not-needed";

/// The run that a person names (the newest where `None`), its frozen plan and that plan's lanes.
///
/// # Errors
/// There is no such run (2), or it can't be read (3).
pub(crate) fn open_run(
    results: &std::path::Path,
    name: Option<&str>,
) -> Result<(RunDir, Plan, Vec<Lane>), Failure> {
    // The logs' folder is not needed to read a run.
    let dir = RunDir::find(results, std::path::Path::new("logs"), name).map_err(|error| {
        let missing = matches!(
            error.source.kind(),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
        );
        let what = match name {
            Some(name) => format!("there is no run {name}"),
            None => format!("there is no run in {}", results.display()),
        };
        let error = anyhow::Error::from(error);
        if missing {
            Failure::plan(error.context(what))
        } else {
            Failure::machine(error)
        }
    })?;
    let loaded = plan::load(&dir.plan_yaml(), &|_| Some(NO_SECRET.to_owned())).map_err(Failure::machine)?;
    let lanes = plan::lanes(&loaded.plan, &Only::default());
    Ok((dir, loaded.plan, lanes))
}
