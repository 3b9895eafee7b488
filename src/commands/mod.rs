//! One file a subcommand: each parses, wires and answers; the exit code is picked here.

pub mod check;
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
        Command::Env(args) => env::run(args),
        Command::Selfcheck(args) => selfcheck::run(args),
        Command::Schema => schema::run(),
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
