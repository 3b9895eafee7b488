//! What a cell sends: bodies, in order. Pure.

use std::collections::HashMap;

use bytes::Bytes;

use benchd_core::record::Message;
use benchd_frameworks::{Adapter, ChatRequest};
use benchd_plan::{Cell, ReasoningEffort, RequestSettings, ScenarioKind};
use benchd_prompts::{CellPrompts, Question};

/// One request of a cell.
#[derive(Debug, Clone)]
pub(crate) struct PlannedRequest {
    /// The prompt in `prompts.jsonl`.
    pub(crate) prompt_id: String,
    pub(crate) body: Bytes,
}

/// All requests of a cell.
#[derive(Debug, Clone)]
pub(crate) struct CellRequests {
    /// Sent before, never counted.
    pub(crate) warmup: Vec<PlannedRequest>,
    /// Counted, pass by pass.
    pub(crate) passes: Vec<Vec<PlannedRequest>>,
}

impl CellRequests {
    /// The requests of `cell` on the framework that `adapter` knows.
    pub(crate) fn new(
        cell: &Cell,
        prompts: &CellPrompts,
        adapter: &dyn Adapter,
        settings: &RequestSettings,
        reasoning_effort: Option<ReasoningEffort>,
    ) -> Self {
        let mut bodies = Bodies {
            adapter,
            settings,
            reasoning_effort,
            max_tokens: cell.output_tokens,
            // The end of an answer in the Korean scenario is the model's own.
            exact_output: cell.kind != ScenarioKind::Korean,
            made: HashMap::new(),
        };
        Self {
            warmup: prompts
                .warmup
                .iter()
                .map(|prompt| bodies.request(&prompt.id, &prompt.messages))
                .collect(),
            passes: prompts
                .passes
                .iter()
                .map(|pass| {
                    let requests = pass.iter();
                    requests
                        .map(|prompt| bodies.request(&prompt.id, &prompt.messages))
                        .collect()
                })
                .collect(),
        }
    }

    /// Questions, each once and greedily: what is asked is whether the answer is right.
    pub(crate) fn of_questions(
        questions: &[Question],
        adapter: &dyn Adapter,
        settings: &RequestSettings,
        reasoning_effort: Option<ReasoningEffort>,
        max_tokens: u32,
    ) -> Self {
        let settings = RequestSettings {
            temperature: 0.0,
            top_p: 1.0,
            ..settings.clone()
        };
        let mut bodies = Bodies {
            adapter,
            settings: &settings,
            reasoning_effort,
            max_tokens,
            exact_output: false,
            made: HashMap::new(),
        };
        Self {
            warmup: Vec::new(),
            passes: vec![
                questions
                    .iter()
                    .map(|question| bodies.request(&question.id, &question.messages))
                    .collect(),
            ],
        }
    }

    pub(crate) fn measured(&self) -> usize {
        self.passes.iter().map(Vec::len).sum()
    }
}

struct Bodies<'a> {
    adapter: &'a dyn Adapter,
    settings: &'a RequestSettings,
    reasoning_effort: Option<ReasoningEffort>,
    max_tokens: u32,
    exact_output: bool,
    /// A text that is sent a hundred times is kept once.
    made: HashMap<String, Bytes>,
}

impl Bodies<'_> {
    fn request(&mut self, id: &str, messages: &[Message]) -> PlannedRequest {
        if let Some(body) = self.made.get(id) {
            return PlannedRequest {
                prompt_id: id.to_owned(),
                body: body.clone(),
            };
        }
        let body = self.adapter.request_body(&ChatRequest {
            messages,
            max_tokens: self.max_tokens,
            exact_output: self.exact_output,
            temperature: self.settings.temperature,
            top_p: self.settings.top_p,
            seed: self.settings.seed,
            reasoning_effort: self.reasoning_effort,
        });
        let body = Bytes::from(body.to_string());
        self.made.insert(id.to_owned(), body.clone());
        PlannedRequest {
            prompt_id: id.to_owned(),
            body,
        }
    }
}
