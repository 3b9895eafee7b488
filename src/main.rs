//! Entry point: parses, dispatches, picks the exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    ExitCode::from(benchd::commands::dispatch(benchd::cli::Cli::parse()))
}
