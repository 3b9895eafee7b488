//! A server's own figures over a cell, read out of the counters that its adapter keeps.

use std::collections::BTreeMap;

use super::{ollama, openai, sglang, vllm};

/// What a server counted and timed between two readings of its counters. All of it is the server's own view: its
/// clocks start when the request has reached it and been parsed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OwnFigures {
    /// Requests that it finished.
    pub requests: Option<f64>,
    /// Prompt tokens, those served from a cache included.
    pub prompt_tokens: Option<f64>,
    /// Output tokens.
    pub output_tokens: Option<f64>,
    /// Mean time to first token, milliseconds.
    pub ttft_mean_ms: Option<f64>,
    /// Mean latency, milliseconds.
    pub latency_mean_ms: Option<f64>,
    /// Mean over the requests of the time per output token after the first, milliseconds.
    pub tpot_mean_ms: Option<f64>,
}

/// Under which names a kind of server keeps these figures. Times are histograms, named without `_sum` and `_count`.
pub(super) struct OwnNames {
    /// How all of its names begin.
    pub(super) prefix: &'static str,
    /// Requests.
    pub(super) requests: Option<&'static str>,
    /// Prompt tokens; summed, where cached ones are counted apart.
    pub(super) prompt_tokens: &'static [&'static str],
    /// Output tokens.
    pub(super) output_tokens: Option<&'static str>,
    /// Times to first token, seconds.
    pub(super) ttft: Option<&'static str>,
    /// Latencies, seconds.
    pub(super) latency: Option<&'static str>,
    /// Times per output token of each request, seconds.
    pub(super) tpot: Option<&'static str>,
}

const KINDS: &[&OwnNames] = &[&vllm::OWN, &sglang::OWN, &openai::OWN, &ollama::OWN];

/// The figures that these counters hold; nothing where they are of no known server.
pub fn own_figures(counters: &BTreeMap<String, f64>) -> OwnFigures {
    let known = |names: &&&OwnNames| counters.keys().any(|name| name.starts_with(names.prefix));
    let Some(names) = KINDS.iter().find(known) else {
        return OwnFigures::default();
    };
    let value = |name: &str| counters.get(name).copied();
    let mean_ms = |histogram: Option<&str>| {
        let histogram = histogram?;
        let count = value(&format!("{histogram}_count")).filter(|count| *count > 0.0)?;
        Some(value(&format!("{histogram}_sum"))? / count * 1e3)
    };
    OwnFigures {
        requests: names.requests.and_then(value),
        prompt_tokens: names
            .prompt_tokens
            .iter()
            .filter_map(|name| value(name))
            .reduce(|a, b| a + b),
        output_tokens: names.output_tokens.and_then(value),
        ttft_mean_ms: mean_ms(names.ttft),
        latency_mean_ms: mean_ms(names.latency),
        tpot_mean_ms: mean_ms(names.tpot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(counters: &[(&str, f64)]) -> OwnFigures {
        own_figures(&counters.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect())
    }

    #[test]
    fn each_kind_is_told_by_its_names() {
        let vllm = figures(&[
            ("vllm:prompt_tokens_total", 310.0),
            ("vllm:generation_tokens_total", 80.0),
            ("vllm:time_to_first_token_seconds_sum", 0.75),
            ("vllm:time_to_first_token_seconds_count", 5.0),
        ]);
        assert_eq!(
            (vllm.prompt_tokens, vllm.output_tokens),
            (Some(310.0), Some(80.0))
        );
        assert_eq!((vllm.ttft_mean_ms, vllm.latency_mean_ms), (Some(150.0), None));

        let llamacpp = figures(&[
            ("llamacpp:prompt_tokens_total", 39.0),
            ("llamacpp:prompt_tokens_cached_total", 85.0),
            ("llamacpp:tokens_predicted_total", 32.0),
        ]);
        assert_eq!(
            llamacpp.prompt_tokens,
            Some(124.0),
            "cached ones are counted apart"
        );

        let ollama = figures(&[
            ("ollama:request_seconds_sum", 3.0),
            ("ollama:request_seconds_count", 2.0),
        ]);
        assert_eq!(
            (ollama.requests, ollama.latency_mean_ms),
            (Some(2.0), Some(1500.0))
        );
        assert_eq!(ollama.output_tokens, None);
    }

    #[test]
    fn no_request_has_no_mean_and_an_unknown_server_no_figures() {
        let idle = figures(&[
            ("sglang:time_to_first_token_seconds_sum", 0.0),
            ("sglang:time_to_first_token_seconds_count", 0.0),
        ]);
        assert_eq!(idle.ttft_mean_ms, None);
        assert_eq!(figures(&[("other_total", 1.0)]), OwnFigures::default());
    }
}
