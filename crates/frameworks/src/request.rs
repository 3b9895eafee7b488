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

    /// The safe body, and `ignore_eos` where a length is to be had exactly: it alone gives it, and asks for no other work.
    /// `min_tokens` beside it would mask logits at each step (vLLM, SGLang). Not for harmony, which one framework can't serve
    /// with it: no lane of gpt-oss is asked for an answer that goes beyond the model's own end, so that all of them do the
    /// same work.
    pub(crate) fn fixed_length_body(&self, model: &str, harmony: bool) -> Map<String, Value> {
        let mut body = self.safe_body(model);
        if self.exact_output && !harmony {
            body.insert("ignore_eos".into(), json!(true));
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write as _, path::Path};

    use super::*;
    use crate::{kind, testing::*};
    use benchd_plan::{FrameworkKind, Model};

    /// A body as each kind makes it, in the order of the kinds.
    fn bodies(model: &Model, exact_output: bool) -> Vec<(&'static str, Map<String, Value>)> {
        let messages = [Message::user("…")];
        let request = ChatRequest {
            exact_output,
            seed: Some(1),
            ..exact(&messages, model.reasoning_effort)
        };
        FrameworkKind::ALL
            .iter()
            .map(|of| {
                let mut model = model.clone();
                model.gguf = Some("/m/m.gguf".into());
                model.openai = model.ollama.clone();
                match user(*of, &model).request_body(&request) {
                    Value::Object(body) => (kind(*of).title, body),
                    other => panic!("{other}"),
                }
            })
            .collect()
    }

    /// What is asked of one model, a row a field, a column a kind.
    fn table(model: &Model, exact_output: bool) -> String {
        let bodies = bodies(model, exact_output);
        let mut fields: Vec<&String> = Vec::new();
        for field in bodies.iter().flat_map(|(_, body)| body.keys()) {
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        let mut text = "| field |".to_owned();
        bodies
            .iter()
            .for_each(|(title, _)| write!(text, " {title} |").unwrap());
        let _ = write!(text, "\n|---|{}\n", "---|".repeat(bodies.len()));
        for field in fields {
            let _ = write!(text, "| `{field}` |");
            for (_, body) in &bodies {
                let said = match (field.as_str(), body.get(field)) {
                    (_, None) => "–".to_owned(),
                    ("messages", _) => "the same texts".to_owned(),
                    ("model", _) => "the name it serves".to_owned(),
                    (_, Some(value)) => format!("`{value}`"),
                };
                let _ = write!(text, " {said} |");
            }
            text.push('\n');
        }
        text
    }

    /// Fields that only some are sent, and why: `docs/requests.md` says it at length.
    const ONLY_SOME: [&str; 2] = ["ignore_eos", "top_k"];

    #[test]
    fn every_kind_is_asked_for_the_same_work() {
        for model in [llama(), gpt_oss()] {
            for exact_output in [true, false] {
                let bodies = bodies(&model, exact_output);
                let fields: BTreeSet<&String> = bodies.iter().flat_map(|(_, body)| body.keys()).collect();
                for field in fields.into_iter().filter(|field| *field != "model") {
                    let values: Vec<Option<&Value>> =
                        bodies.iter().map(|(_, body)| body.get(field)).collect();
                    let sent: Vec<&Value> = values.iter().copied().flatten().collect();
                    assert!(sent.iter().all(|value| *value == sent[0]), "{field}: {values:?}");
                    assert!(
                        sent.len() == values.len() || ONLY_SOME.contains(&field.as_str()),
                        "{field} is not sent to all: {values:?}"
                    );
                }
            }
        }
        // What one framework can't serve with an end of its own nobody is asked for.
        assert!(
            bodies(&gpt_oss(), true)
                .iter()
                .all(|(_, body)| !body.contains_key("ignore_eos"))
        );
    }

    #[test]
    fn the_documented_table_is_what_is_sent() {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/requests.md"));
        let text = std::fs::read_to_string(path).unwrap();
        const BEGIN: &str = "<!-- The tables from here on are made from the adapters: BENCHD_UPDATE=1 cargo test -p benchd-frameworks -->\n\n";
        let (head, _) = text.split_once(BEGIN).expect("the line that begins the tables");
        let wanted = format!(
            "{head}{BEGIN}A fixed length of 256 tokens:\n\n{}\ngpt-oss, a fixed length of 256 tokens:\n\n{}\nAn end of the \
             model's own (`korean`):\n\n{}",
            table(&llama(), true),
            table(&gpt_oss(), true),
            table(&llama(), false)
        );
        if std::env::var_os("BENCHD_UPDATE").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        assert!(
            wanted == text || std::env::var_os("BENCHD_UPDATE").is_some(),
            "docs/requests.md is stale\n  hint: BENCHD_UPDATE=1 cargo test -p benchd-frameworks the_documented_table"
        );
    }
}
