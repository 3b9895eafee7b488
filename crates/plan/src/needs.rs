//! What lanes ask of the servers that run them.

use super::{Cell, CellInput, Lane};

/// The longest prompt of any lane of a model with its output, tokens, without the chat template: one figure a model,
/// so that all its servers get the same context length.
pub fn longest_prompt_tokens(lanes: &[Lane], model: &str) -> u32 {
    lanes
        .iter()
        .filter(|lane| lane.id.model == model)
        .flat_map(|lane| &lane.cells)
        .map(request_tokens)
        .max()
        .unwrap_or(0)
}

/// A prompt of a cell with its output, tokens, without the chat template.
fn request_tokens(cell: &Cell) -> u32 {
    let prompt = match cell.input {
        CellInput::Exact { input_tokens } => input_tokens,
        CellInput::SharedPrefix {
            system_tokens,
            question_tokens,
        } => system_tokens.saturating_add(question_tokens),
        CellInput::Written { .. } => WRITTEN_PROMPT_TOKENS,
    };
    prompt.saturating_add(cell.output_tokens)
}

/// The cell whose requests together are the longest: its streams, and the tokens of each.
pub fn heaviest_load(lane: &Lane) -> Option<(u32, u32)> {
    lane.cells
        .iter()
        .map(|cell| (cell.concurrency, request_tokens(cell)))
        .max_by_key(|(streams, tokens)| u64::from(*streams) * u64::from(*tokens))
}

/// What the longest written text may take in a tokenizer that is poor at Korean (about one token a byte of its
/// thousand characters).
const WRITTEN_PROMPT_TOKENS: u32 = 3072;

/// Most streams at a time.
pub fn most_streams(lane: &Lane) -> u32 {
    lane.cells.iter().map(|cell| cell.concurrency).max().unwrap_or(1)
}
