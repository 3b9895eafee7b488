//! What the simulated server counts: its Prometheus page in the names of the imitated server, and its own lateness.

use std::fmt::{Display, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;
use serde_json::json;

use super::args::Dialect;
use super::dialect::{Finish, Script};
use super::engine::Tick;
use super::lock::lock;

/// Upper bounds of vLLM's buckets of the time to the first token, seconds.
const TTFT_BUCKETS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0,
];

/// Largest lateness that is told apart, nanoseconds (a minute).
const LATENESS_MAX_NS: u64 = 60_000_000_000;

/// The counters. All times nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    pub(super) requests: AtomicU64,
    running: AtomicU64,
    waiting: AtomicU64,
    prompt_tokens: AtomicU64,
    generation_tokens: AtomicU64,
    cache_queries: AtomicU64,
    cache_hits: AtomicU64,
    finished_length: AtomicU64,
    finished_stop: AtomicU64,
    ttft_sum_ns: AtomicU64,
    latency_sum_ns: AtomicU64,
    latency_count: AtomicU64,
    /// One more than there are bounds, for +Inf.
    ttft_buckets: [AtomicU64; TTFT_BUCKETS.len() + 1],
    lateness: Mutex<Option<Histogram<u64>>>,
    events: AtomicU64,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            lateness: Mutex::new(Histogram::new_with_bounds(1, LATENESS_MAX_NS, 3).ok()),
            ..Self::default()
        }
    }

    pub(super) fn set_load(&self, running: usize, waiting: usize) {
        self.running.store(running as u64, Relaxed);
        self.waiting.store(waiting as u64, Relaxed);
    }

    /// Requests that run or wait.
    pub(super) fn load(&self) -> u64 {
        self.running.load(Relaxed) + self.waiting.load(Relaxed)
    }

    /// An event went out so much after it was due.
    pub(super) fn emitted(&self, late_ns: u64) {
        self.events.fetch_add(1, Relaxed);
        if let Some(histogram) = lock(&self.lateness).as_mut() {
            histogram.saturating_record(late_ns.max(1));
        }
    }

    /// The engine gave tokens.
    pub(super) fn ticked(&self, tick: &Tick, script: &Script, prompt_tokens: u32, sent_ns: u64) {
        self.generation_tokens.fetch_add(u64::from(tick.tokens), Relaxed);
        let took_ns = sent_ns.saturating_sub(script.read_ns);
        if tick.first_token == 0 {
            self.prompt_tokens.fetch_add(u64::from(prompt_tokens), Relaxed);
            self.cache_queries.fetch_add(u64::from(prompt_tokens), Relaxed);
            self.cache_hits.fetch_add(u64::from(tick.cached_tokens), Relaxed);
            self.ttft_sum_ns.fetch_add(took_ns, Relaxed);
            let seconds = took_ns as f64 / 1e9;
            let bucket = TTFT_BUCKETS.partition_point(|bound| *bound < seconds);
            self.ttft_buckets[bucket].fetch_add(1, Relaxed);
        }
        if tick.last {
            match script.finish {
                Finish::Length => &self.finished_length,
                Finish::Stop => &self.finished_stop,
            }
            .fetch_add(1, Relaxed);
            self.latency_sum_ns.fetch_add(took_ns, Relaxed);
            self.latency_count.fetch_add(1, Relaxed);
        }
    }

    /// How late events went out, as JSON; forgets what was counted if `reset`.
    pub(super) fn stats(&self, reset: bool) -> serde_json::Value {
        let mut guard = lock(&self.lateness);
        let lateness = guard.as_mut().map_or(serde_json::Value::Null, |h| {
            let value = json!({
                "count": h.len(),
                "p50": h.value_at_quantile(0.5),
                "p90": h.value_at_quantile(0.9),
                "p99": h.value_at_quantile(0.99),
                "p999": h.value_at_quantile(0.999),
                "max": h.max(),
            });
            if reset {
                h.reset();
            }
            value
        });
        json!({
            "pid": std::process::id(),
            "requests": self.requests.load(Relaxed),
            "events": self.events.load(Relaxed),
            "running": self.running.load(Relaxed),
            "waiting": self.waiting.load(Relaxed),
            "lateness_ns": lateness,
        })
    }

    /// The Prometheus page.
    pub(super) fn prometheus(
        &self,
        dialect: Dialect,
        model: &str,
        cache_blocks: usize,
        block_tokens: u32,
        lies: bool,
    ) -> String {
        let told_tokens =
            self.generation_tokens.load(Relaxed) + if lies { self.latency_count.load(Relaxed) } else { 0 };
        let told_ttft_ns = self.ttft_sum_ns.load(Relaxed) / if lies { 2 } else { 1 };
        let n = |counter: &AtomicU64| counter.load(Relaxed);
        let seconds = |counter: &AtomicU64| counter.load(Relaxed) as f64 / 1e9;
        let mut page = Page {
            out: String::new(),
            label: format!("model_name=\"{model}\""),
        };
        match dialect {
            Dialect::Vllm => {
                page.label = format!("engine=\"0\",model_name=\"{model}\"");
                page.gauge("vllm:num_requests_running", n(&self.running));
                page.gauge("vllm:num_requests_waiting", n(&self.waiting));
                page.counter("vllm:prefix_cache_queries_total", n(&self.cache_queries));
                page.counter("vllm:prefix_cache_hits_total", n(&self.cache_hits));
                page.counter("vllm:prompt_tokens_total", n(&self.prompt_tokens));
                page.counter("vllm:generation_tokens_total", told_tokens);
                page.head("counter", "vllm:request_success_total");
                for (reason, counter) in [("stop", &self.finished_stop), ("length", &self.finished_length)] {
                    page.line(
                        "vllm:request_success_total",
                        &format!("finished_reason=\"{reason}\""),
                        n(counter),
                    );
                }
                page.head("gauge", "vllm:cache_config_info");
                page.line(
                    "vllm:cache_config_info",
                    &format!("block_size=\"{block_tokens}\",enable_prefix_caching=\"{}\",num_gpu_blocks=\"{cache_blocks}\"", if cache_blocks > 0 { "True" } else { "False" }),
                    "1.0",
                );
                self.histogram(&mut page, "vllm:time_to_first_token_seconds", told_ttft_ns);
                page.counter(
                    "vllm:e2e_request_latency_seconds_sum",
                    seconds(&self.latency_sum_ns),
                );
                page.counter("vllm:e2e_request_latency_seconds_count", n(&self.latency_count));
            }
            Dialect::Sglang => {
                page.gauge("sglang:num_running_reqs", n(&self.running));
                page.gauge("sglang:num_queue_reqs", n(&self.waiting));
                page.counter("sglang:prompt_tokens_total", n(&self.prompt_tokens));
                page.counter("sglang:cached_tokens_total", n(&self.cache_hits));
                page.counter("sglang:generation_tokens_total", told_tokens);
                page.counter("sglang:num_requests_total", n(&self.latency_count));
                self.histogram(&mut page, "sglang:time_to_first_token_seconds", told_ttft_ns);
            }
            Dialect::Llamacpp | Dialect::Ollama => {
                page.label.clear();
                page.counter("llamacpp:prompt_tokens_total", n(&self.prompt_tokens));
                page.counter("llamacpp:prompt_seconds_total", seconds(&self.ttft_sum_ns));
                page.counter("llamacpp:tokens_predicted_total", told_tokens);
                page.gauge("llamacpp:requests_processing", n(&self.running));
                page.gauge("llamacpp:requests_deferred", n(&self.waiting));
            }
        }
        page.out
    }

    fn histogram(&self, page: &mut Page, name: &str, sum_ns: u64) {
        page.head("histogram", name);
        let mut below = 0;
        for (i, counter) in self.ttft_buckets.iter().enumerate() {
            below += counter.load(Relaxed);
            let bound = TTFT_BUCKETS
                .get(i)
                .map_or_else(|| "+Inf".to_owned(), f64::to_string);
            page.line(&format!("{name}_bucket"), &format!("le=\"{bound}\""), below);
        }
        page.line(&format!("{name}_count"), "", below);
        page.line(&format!("{name}_sum"), "", sum_ns as f64 / 1e9);
    }
}

/// A page of metrics on its way.
struct Page {
    out: String,
    /// Labels of every line.
    label: String,
}

impl Page {
    fn head(&mut self, kind: &str, name: &str) {
        let _ = writeln!(self.out, "# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        let comma = if labels.is_empty() || self.label.is_empty() {
            ""
        } else {
            ","
        };
        let all = format!("{}{comma}{labels}", self.label);
        let _ = if all.is_empty() {
            writeln!(self.out, "{name} {value}")
        } else {
            writeln!(self.out, "{name}{{{all}}} {value}")
        };
    }

    fn gauge(&mut self, name: &str, value: impl Display) {
        self.head("gauge", name);
        self.line(name, "", value);
    }

    fn counter(&mut self, name: &str, value: impl Display) {
        self.head("counter", name);
        self.line(name, "", value);
    }
}
