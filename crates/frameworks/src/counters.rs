//! A server's own figures over a cell, read out of the counters that its adapter keeps.

use std::collections::BTreeMap;

/// What a server counted and timed between two readings of its counters. All of it is the server's own view: its
/// clocks start when the request has reached it and been parsed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerFigures {
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

/// Under which names a kind of server keeps these figures. Times are histograms in seconds, named without `_sum` and
/// `_count`.
#[derive(Debug)]
pub(crate) struct CounterNames {
    /// How all of its names begin.
    pub(crate) prefix: &'static str,
    pub(crate) requests: Option<&'static str>,
    /// Summed, where cached tokens are counted apart.
    pub(crate) prompt_tokens: &'static [&'static str],
    pub(crate) output_tokens: Option<&'static str>,
    /// Times to first token.
    pub(crate) ttft: Option<&'static str>,
    pub(crate) latency: Option<&'static str>,
    /// Times per output token after the first, one a request.
    pub(crate) tpot: Option<&'static str>,
}

impl CounterNames {
    /// Whether counters are of this kind.
    pub(crate) fn name(&self, counters: &BTreeMap<String, f64>) -> bool {
        counters.keys().any(|name| name.starts_with(self.prefix))
    }

    pub(crate) fn figures(&self, counters: &BTreeMap<String, f64>) -> ServerFigures {
        let value = |name: &str| counters.get(name).copied();
        let mean_ms = |histogram: Option<&str>| {
            let histogram = histogram?;
            let count = value(&format!("{histogram}_count")).filter(|count| *count > 0.0)?;
            Some(value(&format!("{histogram}_sum"))? / count * 1e3)
        };
        ServerFigures {
            requests: self.requests.and_then(value),
            prompt_tokens: self
                .prompt_tokens
                .iter()
                .filter_map(|name| value(name))
                .reduce(|a, b| a + b),
            output_tokens: self.output_tokens.and_then(value),
            ttft_mean_ms: mean_ms(self.ttft),
            latency_mean_ms: mean_ms(self.latency),
            tpot_mean_ms: mean_ms(self.tpot),
        }
    }
}
