//! What a server says of itself.

use std::collections::BTreeMap;

use serde_json::Value;

use benchd_core::record::{Flag, FlagKind, Precision};

/// The fact under which the capacity of the KV cache stands, tokens.
pub const KV_CAPACITY: &str = "kv_capacity_tokens";

/// Facts of a running server, with the doubts that follow from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// For the journal and the report: `version`, `model`, `context_length`, `kv_capacity_tokens`, and more by kind.
    pub values: BTreeMap<String, String>,
    /// Longest prompt plus output that one request may have, tokens.
    pub(crate) context_length: Option<u64>,
    /// In which numbers the model is served.
    pub precision: Precision,
    /// Reasons to distrust every cell of the lane.
    pub flags: Vec<Flag>,
}

impl Facts {
    pub(crate) fn set(&mut self, name: &str, value: impl std::fmt::Display) {
        self.values.insert(name.to_owned(), value.to_string());
    }

    pub(crate) fn set_context_length(&mut self, tokens: u64) {
        self.set("context_length", tokens);
        self.context_length = Some(tokens);
    }

    pub(crate) fn set_kv_capacity(&mut self, tokens: u64) {
        self.set(KV_CAPACITY, tokens);
    }

    /// The name and the longest request of a model as `/v1/models` lists it.
    pub(crate) fn set_listed(&mut self, model: Option<&Value>) {
        let Some(model) = model else { return };
        if let Some(id) = model["id"].as_str() {
            self.set("model", id);
        }
        if let Some(tokens) = model["max_model_len"].as_u64() {
            self.set_context_length(tokens);
        }
    }

    /// Flags a context shorter than `needed_tokens`.
    pub(crate) fn compare(&mut self, needed_tokens: u32) {
        if let Some(context) = self.context_length.filter(|&c| c < u64::from(needed_tokens)) {
            self.flags.push(Flag::new(
                FlagKind::TruncatedPrompt,
                format!(
                    "the server's context is {context} tokens; the longest prompt with its output needs {needed_tokens}"
                ),
            ));
        }
    }
}

/// The JSON of one of the answers that an adapter asked for.
pub(crate) fn json(answers: &[Option<String>], at: usize) -> Option<Value> {
    serde_json::from_str(answers.get(at)?.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_context_is_flagged() {
        let mut facts = Facts::default();
        facts.set_context_length(4096);
        facts.compare(4352);
        let kinds: Vec<_> = facts.flags.iter().map(|f| f.kind).collect();
        assert_eq!(kinds, [FlagKind::TruncatedPrompt]);
        assert!(facts.flags[0].seen.contains("4096") && facts.flags[0].seen.contains("4352"));

        let mut fitting = Facts::default();
        fitting.set_context_length(4352);
        fitting.compare(4352);
        assert_eq!(fitting.flags, []);
    }
}
