//! `benchd schema`: the JSON Schema of the plan, or of a file that benchd writes, on stdout.

use super::{CommandResult, DONE, NO_STDOUT};
use crate::{cli::SchemaArgs, run::Context as _};
use benchd_report::{print, schema_of};

/// Prints the schema.
///
/// # Errors
/// When stdout can't be written.
pub(super) fn run(args: &SchemaArgs) -> CommandResult {
    let text = serde_json::to_string_pretty(&schema_of(args.of)).context("the schema can't be written")?;
    print(&format!("{text}\n")).context(NO_STDOUT)?;
    DONE
}
