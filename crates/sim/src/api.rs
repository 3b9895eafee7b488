//! What the endpoints share: their state, the faults that meet the next completion, error bodies.

use std::sync::{Arc, Mutex};

use serde_json::json;

use super::args::{Args, Dialect};
use super::cache::PrefixCache;
use super::dialect::{Script, Shape};
use super::engine::Job;
use super::faults::{Fault, Kind};
use super::http::Response;
use super::metrics::Metrics;
use super::ollama::Ollama;
use super::stream_faults::StreamFaults;

/// What the front does with a request.
pub(super) enum Action {
    /// Answers now.
    Answer(Response),
    /// Answers at this time.
    AnswerAt(Response, u64),
    /// Hands an answer to the emitter.
    Complete(Box<Completion>),
    /// Never answers.
    Silence,
}

/// A completion on its way to the engine.
pub(super) struct Completion {
    pub(super) job: Job,
    pub(super) script: Script,
    pub(super) streams: bool,
    pub(super) include_usage: bool,
    pub(super) faults: Option<Box<StreamFaults>>,
}

/// State of the endpoints; the front's thread owns it.
pub(super) struct Api {
    pub(super) args: Args,
    pub(super) shape: Arc<Shape>,
    pub(super) faults: Vec<Fault>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) cache: Arc<Mutex<PrefixCache>>,
    pub(super) cache_blocks: usize,
    pub(super) ready_at_ns: u64,
    /// Completion requests so far.
    pub(super) completions: u64,
    pub(super) serial: u64,
    /// The last word of the newest prompt.
    pub(super) last_word: String,
    pub(super) ollama: Ollama,
}

impl Api {
    pub(super) fn new(
        args: &Args,
        faults: Vec<Fault>,
        metrics: Arc<Metrics>,
        cache: Arc<Mutex<PrefixCache>>,
        cache_blocks: usize,
        ready_at_ns: u64,
    ) -> Self {
        Self {
            shape: Arc::new(Shape::new(args)),
            ollama: Ollama::new(args),
            args: args.clone(),
            faults,
            metrics,
            cache,
            cache_blocks,
            ready_at_ns,
            completions: 0,
            serial: 0,
            last_word: String::new(),
        }
    }

    /// The faults that meet the next completion request.
    pub(super) fn next_faults(&self) -> impl Iterator<Item = &Kind> {
        let n = self.completions + 1;
        self.faults.iter().filter(move |f| f.meets(n)).map(|f| &f.kind)
    }

    pub(super) fn has(&self, wanted: &Kind) -> bool {
        self.next_faults().any(|kind| kind == wanted)
    }

    /// An error body as the dialect writes it.
    pub(super) fn error(&self, status: u16, message: &str) -> Response {
        let kind = match status {
            400 => "BadRequestError",
            404 => "NotFoundError",
            429 => "RateLimitError",
            503 => "ServiceUnavailableError",
            _ => "InternalServerError",
        };
        let value = match self.args.dialect {
            Dialect::Vllm | Dialect::Llamacpp => {
                json!({"error": {"message": message, "type": kind, "param": null, "code": status}})
            }
            Dialect::Sglang => {
                json!({"object": "error", "message": message, "type": kind, "param": null, "code": status})
            }
            Dialect::Ollama => {
                json!({"error": {"message": message, "type": "api_error", "param": null, "code": null}})
            }
        };
        Response::json(status, &value)
    }

    /// The listener is open again: that fault is over.
    pub(super) fn forget_refuse(&mut self) {
        self.faults.retain(|f| !matches!(f.kind, Kind::Refuse(_)));
    }

    /// A new name for an answer that no engine makes.
    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}
