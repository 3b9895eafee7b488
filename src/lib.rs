//! The daemon of `benchd`: command line, the run, a server's life, scenarios, checks, environments. The libraries
//! that it stands on are the crates under `crates/`; CONTRIBUTING.md draws the house.

pub mod check;
pub mod cli;
pub mod commands;
pub mod env;
pub mod notify;
pub mod run;
pub mod scenario;
pub mod selfcheck;
pub mod server;
