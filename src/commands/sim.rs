//! `benchd sim`: the simulated server, until it is stopped.

use super::{CommandResult, DONE};
use crate::run::Failure;
use benchd_sim::SimError;

/// Serves.
///
/// # Errors
/// When the port is taken or a flag can't be honoured.
pub(super) fn run(args: &benchd_sim::Args) -> CommandResult {
    benchd_sim::run(args).map_err(|error| {
        let flags_are_wrong = matches!(
            error,
            SimError::Arguments(_)
                | SimError::Fault(_)
                | SimError::Range { .. }
                | SimError::StreamCost { .. }
                | SimError::NoGpuState
        );
        if flags_are_wrong {
            Failure::plan(error)
        } else {
            Failure::machine(error)
        }
    })?;
    DONE
}
