//! What the server itself counted and timed, beside benchd's own figures.

use std::collections::BTreeMap;

use super::{Distribution, ServerSays};
use crate::record::RequestRecord;

/// Durations that the server gave in its answers, milliseconds.
#[derive(Default)]
pub(super) struct Timings {
    prompt_ms: Vec<f64>,
    predicted_ms: Vec<f64>,
    ttft_less_prompt_ms: Vec<f64>,
}

impl Timings {
    pub(super) fn add(&mut self, r: &RequestRecord) {
        let Some(timings) = &r.server_timings else { return };
        let of = |name: &str| timings.get(name).and_then(serde_json::Value::as_f64);
        self.predicted_ms.extend(of("predicted_ms"));
        if let Some(prompt_ms) = of("prompt_ms") {
            self.prompt_ms.push(prompt_ms);
            self.ttft_less_prompt_ms
                .extend(r.first_token_us.map(|us| us as f64 / 1e3 - prompt_ms));
        }
    }

    pub(super) fn says(self, counters: &BTreeMap<String, f64>) -> ServerSays {
        // vllm:, sglang: and llamacpp: name them alike but for the output.
        let of = |names: &[&str]| {
            counters
                .iter()
                .find(|(name, _)| names.iter().any(|n| name.ends_with(n)))
                .map(|(_, value)| *value)
        };
        let ttft = of(&[":time_to_first_token_seconds_sum"]).zip(of(&[":time_to_first_token_seconds_count"]));
        ServerSays {
            prompt_tokens: of(&[":prompt_tokens_total"]),
            output_tokens: of(&[":generation_tokens_total", ":tokens_predicted_total"]),
            ttft_mean_ms: ttft.filter(|(_, n)| *n > 0.0).map(|(sum, n)| sum / n * 1e3),
            prompt_ms: Distribution::of_values(self.prompt_ms, 0),
            predicted_ms: Distribution::of_values(self.predicted_ms, 0),
            ttft_less_prompt_ms: Distribution::of_values(self.ttft_less_prompt_ms, 0),
        }
    }
}
