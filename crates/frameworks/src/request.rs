//! The chat request that all frameworks take, and how the fields beyond it are added.

use serde_json::{Map, Value, json};

use benchd_core::record::Message;
use benchd_plan::ReasoningEffort;

/// What a cell asks for; each framework's file turns it into a body.
#[derive(Debug, Clone)]
pub struct ChatRequest<'a> {
    /// The messages.
    pub messages: &'a [Message],
    /// Most tokens of the answer, reasoning included.
    pub max_tokens: u32,
    /// Ask for exactly `max_tokens`, where the framework honours it.
    pub exact_output: bool,
    /// Sampling temperature.
    pub temperature: f64,
    /// Nucleus sampling.
    pub top_p: f64,
    /// Sampling seed.
    pub seed: Option<u64>,
    /// Thinking models only.
    pub reasoning_effort: Option<ReasoningEffort>,
}

/// The effort's name on the wire.
pub(crate) fn effort_name(effort: ReasoningEffort) -> &'static str {
    match effort {
        ReasoningEffort::None => "none",
        ReasoningEffort::Low => "low",
        ReasoningEffort::Medium => "medium",
        ReasoningEffort::High => "high",
    }
}

impl ChatRequest<'_> {
    /// The body that is safe on all frameworks. `max_tokens` and not `max_completion_tokens`, which Ollama
    /// ignores (unlimited output); `reasoning_effort` only where the plan gives it, since Ollama refuses it for
    /// models that don't think.
    pub(crate) fn safe_body(&self, model: &str) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("model".into(), json!(model));
        body.insert("messages".into(), json!(self.messages));
        body.insert("stream".into(), json!(true));
        body.insert("stream_options".into(), json!({ "include_usage": true }));
        body.insert("max_tokens".into(), json!(self.max_tokens));
        body.insert("temperature".into(), json!(self.temperature));
        body.insert("top_p".into(), json!(self.top_p));
        if let Some(seed) = self.seed {
            body.insert("seed".into(), json!(seed));
        }
        if let Some(effort) = self.reasoning_effort {
            body.insert("reasoning_effort".into(), json!(effort_name(effort)));
        }
        body
    }
}
