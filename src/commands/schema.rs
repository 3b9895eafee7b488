//! `benchd schema`: the JSON Schema of the plan, or of a file that benchd writes, on stdout.

use anyhow::Context;

use super::{CommandResult, DONE};
use crate::{cli::SchemaArgs, report::schema_of};

/// Prints the schema.
///
/// # Errors
/// When stdout is closed.
pub fn run(args: &SchemaArgs) -> CommandResult {
    use std::io::Write;
    let text = serde_json::to_string_pretty(&schema_of(args.of)).context("the schema can't be written")?;
    writeln!(std::io::stdout().lock(), "{text}").context("stdout is closed")?;
    DONE
}
