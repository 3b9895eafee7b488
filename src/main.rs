//! Entry point: parses, dispatches, picks the exit code.

use clap::Parser as _;

#[derive(clap::Parser)]
enum Cli {
    /// The simulated server.
    Sim(Box<benchd::sim::Args>),
}

fn main() -> std::process::ExitCode {
    let Cli::Sim(args) = Cli::parse();
    match benchd::sim::run(&args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            std::process::ExitCode::from(2)
        }
    }
}
