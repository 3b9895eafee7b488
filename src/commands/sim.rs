//! `benchd sim`: the simulated server, until it is stopped.

use super::{CommandResult, DONE};

/// Serves.
///
/// # Errors
/// When the port is taken or a flag can't be honoured.
pub fn run(args: &crate::sim::Args) -> CommandResult {
    crate::sim::run(args).map_err(anyhow::Error::from)?;
    DONE
}
