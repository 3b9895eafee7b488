//! `benchd` measures which LLM serving framework serves a model best on one GPU machine.
//!
//! The house has floors; a module imports only from floors below its own:
//!
//! ```text
//! floor 6   cli, commands          one file a subcommand; parses, wires, picks the exit code
//! floor 5   supervisor             the run: lanes in order, one server at a time
//! floor 4   scenario, report,      a cell -> requests -> records;  summaries -> Markdown, CSV
//!           check                  the doctor: what can go wrong, found before the start
//!           selfcheck              the client against the simulated server;
//!           notify                 a webhook that is told
//! floor 3   server, load,          the life of one server;  closed and open loop
//!           analysis, env          records -> summaries and flags;  making environments
//! floor 2   framework, prompt,     what is known of each framework;  texts of exact length
//!           client, gpu,           one timed streaming request;  NVML
//!           journal, process       append and replay;  process groups, output, sweep
//! floor 1   plan                   YAML -> checked plan -> lanes and cells
//! floor 0   record, stats          plain data;  pure functions on numbers
//! aside     sim                    a simulated server with known timings
//! ```

pub mod analysis;
pub mod check;
pub mod cli;
pub mod client;
pub mod commands;
pub mod env;
pub mod framework;
#[cfg(test)]
mod fuzzing;
pub mod gpu;
pub mod journal;
pub mod load;
pub mod notify;
pub mod plan;
pub mod process;
pub mod prompt;
pub mod record;
pub mod report;
pub mod scenario;
pub mod selfcheck;
pub mod server;
pub mod sim;
pub mod stats;
pub mod supervisor;
