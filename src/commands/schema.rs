//! `benchd schema`: the JSON Schema of the plan, on stdout.

use anyhow::Context;

use super::{CommandResult, DONE};

/// Prints the schema.
///
/// # Errors
/// When stdout is closed.
pub fn run() -> CommandResult {
    use std::io::Write;
    let text = serde_json::to_string_pretty(&crate::plan::schema()).context("the schema can't be written")?;
    writeln!(std::io::stdout().lock(), "{text}").context("stdout is closed")?;
    DONE
}
