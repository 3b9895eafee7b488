//! What is known of a cell beside its records.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use super::{gpu::GpuWindow, korean::TextSize};
use benchd_plan::{Cell, CellInput};

/// What is known of a cell beside its records.
#[derive(Debug, Clone, Copy)]
pub(super) struct CellContext<'a> {
    pub(super) cell: &'a Cell,
    /// Limit of one request: what a time-out counts as.
    pub(super) timeout: Duration,
    /// Tokens that the chat template adds to a user message.
    pub(super) template_tokens: Option<u32>,
    /// The id under which the model is served, where the kind of framework answers with it.
    pub(super) model_id: Option<&'a str>,
    /// Whether someone else runs the server (`url:`).
    pub(super) not_controlled: bool,
    /// Whether the plan uses a GPU.
    pub(super) gpu_expected: bool,
    /// The samples of the cell's passes.
    pub(super) gpu: Option<&'a GpuWindow>,
    /// Processes of the server.
    pub(super) own_pids: &'a BTreeSet<u32>,
    /// Processes that were on the GPU before the first server.
    pub(super) strangers: &'a BTreeSet<u32>,
    /// Largest event rate that the client sustains, events per second.
    pub(super) max_events_per_s: Option<f64>,
    /// Sizes of the frozen prompts, by id; those that are not known are left out of the figures on text.
    pub(super) prompts: &'a HashMap<String, TextSize>,
}

/// Prompt tokens that the cell asks for, without the chat template.
pub(super) fn asked_prompt_tokens(cell: &Cell) -> Option<u32> {
    match cell.input {
        CellInput::Exact { input_tokens } => Some(input_tokens),
        CellInput::SharedPrefix {
            system_tokens,
            question_tokens,
        } => Some(system_tokens + question_tokens),
        CellInput::Written { .. } => None,
    }
}
