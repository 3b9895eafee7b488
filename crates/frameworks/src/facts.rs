//! What a server says of itself.

use std::collections::BTreeMap;

use serde_json::Value;

use benchd_core::record::{Flag, FlagKind};

/// The fact under which the capacity of the KV cache stands, tokens.
pub const KV_CAPACITY: &str = "kv_capacity_tokens";

/// Facts of a running server, with the doubts that follow from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// For the journal and the report: `version`, `model`, `context_length`, `kv_capacity_tokens`,
    /// `precision`, and more by kind.
    pub values: BTreeMap<String, String>,
    /// Longest prompt plus output that one request may have, tokens.
    pub(crate) context_length: Option<u64>,
    /// Precision of the weights: `bf16`, `mxfp4`, `q4_k_m`.
    pub(crate) precision: Option<String>,
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

    pub(crate) fn set_precision(&mut self, precision: impl Into<String>) {
        let precision = precision.into();
        self.set("precision", &precision);
        self.precision = Some(precision);
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

    /// Flags what does not fit the plan: a context shorter than `needed_tokens`, another precision.
    pub(crate) fn compare(&mut self, needed_tokens: u32, expected_precision: Option<&str>) {
        if let Some(context) = self.context_length.filter(|&c| c < u64::from(needed_tokens)) {
            self.flags.push(Flag::new(
                FlagKind::TruncatedPrompt,
                format!(
                    "the server's context is {context} tokens; the longest prompt with its output needs {needed_tokens}"
                ),
            ));
        }
        if let (Some(expected), Some(seen)) = (expected_precision, &self.precision)
            && !same_precision(expected, seen)
        {
            self.flags.push(Flag::new(
                FlagKind::Precision,
                format!("served in {seen}; the plan expects {expected}"),
            ));
        }
    }
}

/// The JSON of one of the answers that an adapter asked for.
pub(crate) fn json(answers: &[Option<String>], at: usize) -> Option<Value> {
    serde_json::from_str(answers.get(at)?.as_deref()?).ok()
}

/// Whether two names of a precision mean the same: `bfloat16` and `BF16`, `Q4_K_M` and `q4-k-m`.
pub fn same_precision(a: &str, b: &str) -> bool {
    fn plain(name: &str) -> String {
        let name = name.trim().to_ascii_lowercase().replace('-', "_");
        match name.strip_prefix("torch.").unwrap_or(&name) {
            "bfloat16" => "bf16".to_owned(),
            "float16" | "half" | "f16" => "fp16".to_owned(),
            "float32" | "float" | "f32" => "fp32".to_owned(),
            other => other.to_owned(),
        }
    }
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_precision_are_the_same() {
        assert!(same_precision("bfloat16", "BF16"));
        assert!(same_precision("F16", "fp16"));
        assert!(same_precision("q4-k-m", "Q4_K_M"));
        assert!(!same_precision("q4_k_m", "q4_k_s"));
        assert!(!same_precision("bf16", "fp16"));
    }

    #[test]
    fn a_short_context_and_another_precision_are_flagged() {
        let mut facts = Facts::default();
        facts.set_context_length(4096);
        facts.set_precision("Q4_1");
        facts.compare(4352, Some("bf16"));
        let kinds: Vec<_> = facts.flags.iter().map(|f| f.kind).collect();
        assert_eq!(kinds, [FlagKind::TruncatedPrompt, FlagKind::Precision]);
        assert!(facts.flags[0].seen.contains("4096") && facts.flags[0].seen.contains("4352"));

        let mut fitting = Facts::default();
        fitting.set_context_length(4352);
        fitting.set_precision("q4_1");
        fitting.compare(4352, Some("Q4_1"));
        assert_eq!(fitting.flags, []);
    }
}
