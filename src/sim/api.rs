//! What each request is answered with: routes, the OpenAI endpoints, and which faults meet which request.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use serde::Deserialize;
use serde_json::{Value, json};

use super::args::{Args, Dialect, StartStyle, Truncate};
use super::cache::PrefixCache;
use super::clock::{nanos, unix_seconds};
use super::dialect::{Asked, Finish, Script, Shape};
use super::engine::Job;
use super::faults::{Fault, Kind};
use super::http::{Request, Response};
use super::metrics::Metrics;
use super::metronome::lock;
use super::native::Ollama;
use super::process_faults;
use super::stream_faults::StreamFaults;
use super::tokenizer::{self, Token};

/// Natural length of an answer whose request sets no limit, tokens.
const NATURAL_TOKENS: u32 = 256;

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
    args: Args,
    shape: Arc<Shape>,
    faults: Vec<Fault>,
    metrics: Arc<Metrics>,
    cache: Arc<Mutex<PrefixCache>>,
    cache_blocks: usize,
    ready_at_ns: u64,
    /// Completion requests so far.
    completions: u64,
    serial: u64,
    pub(super) ollama: Ollama,
}

/// The fields of a chat request that count here.
#[derive(Debug, Deserialize)]
struct ChatRequest {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    min_tokens: Option<u32>,
    #[serde(default)]
    ignore_eos: bool,
    #[serde(default)]
    reasoning_effort: Option<String>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Option<Value>,
}

impl Message {
    /// The message's text; of content in parts, the text parts.
    fn put_text(&self, tokens: &mut Vec<Token>) {
        match &self.content {
            Some(Value::String(text)) => tokenizer::tokenize(text, tokens),
            Some(Value::Array(parts)) => {
                for text in parts.iter().filter_map(|p| p.get("text")?.as_str()) {
                    tokenizer::tokenize(text, tokens);
                }
            }
            _ => {}
        }
    }
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
        }
    }

    /// The faults that meet the next completion request.
    pub(super) fn next_faults(&self) -> impl Iterator<Item = &Kind> {
        let n = self.completions + 1;
        self.faults.iter().filter(move |f| f.meets(n)).map(|f| &f.kind)
    }

    fn has(&self, wanted: &Kind) -> bool {
        self.next_faults().any(|kind| kind == wanted)
    }

    pub(super) fn handle(&mut self, request: &Request, now_ns: u64) -> Action {
        let (method, path) = (request.method.as_str(), request.path.as_str());
        if let Some(rest) = path.strip_prefix("/sim/") {
            return Action::Answer(self.control(method, rest, request));
        }
        let starting = now_ns < self.ready_at_ns;
        let health = self.is_health(path);
        let early = health && self.args.start_style == StartStyle::EarlyOk;
        if (starting && !early) || (health && self.has(&Kind::NeverReady)) {
            return Action::Answer(self.error(503, "The server is starting"));
        }
        match (method, path) {
            ("POST", "/v1/chat/completions") => self.chat(request, now_ns),
            ("GET", "/health" | "/health_generate") if health => {
                let response = match self.args.dialect {
                    Dialect::Llamacpp => Response::json(200, &json!({"status": "ok"})),
                    _ => Response::empty(200),
                };
                self.delayed(response, now_ns)
            }
            ("GET", "/v1/models") => Action::Answer(Response::json(200, &self.models())),
            ("GET", "/metrics") if self.args.dialect != Dialect::Ollama => Action::Answer(Response::text(
                200,
                self.metrics.prometheus(
                    self.args.dialect,
                    &self.args.model,
                    self.cache_blocks,
                    self.args.block_tokens,
                ),
            )),
            ("POST", "/tokenize") if self.args.dialect != Dialect::Ollama => {
                Action::Answer(self.tokenize(request))
            }
            ("GET", "/version") if self.args.dialect == Dialect::Vllm => {
                Action::Answer(Response::json(200, &json!({"version": "0.15.1"})))
            }
            ("POST", "/reset_prefix_cache") if self.args.dialect == Dialect::Vllm => {
                Action::Answer(self.reset_cache())
            }
            ("GET" | "POST", "/flush_cache") if self.args.dialect == Dialect::Sglang => {
                Action::Answer(self.reset_cache())
            }
            ("GET", "/get_server_info" | "/server_info") if self.args.dialect == Dialect::Sglang => {
                Action::Answer(Response::json(200, &self.sglang_info()))
            }
            ("GET", "/get_model_info" | "/model_info") if self.args.dialect == Dialect::Sglang => {
                Action::Answer(Response::json(
                    200,
                    &json!({"model_path": self.args.model, "tokenizer_path": self.args.model, "is_generation": true}),
                ))
            }
            _ if self.args.dialect == Dialect::Ollama => {
                let (response, at_ns) = self.ollama.handle(request, now_ns);
                if at_ns > now_ns {
                    Action::AnswerAt(response, at_ns)
                } else {
                    Action::Answer(response)
                }
            }
            _ => Action::Answer(self.error(404, "Not Found")),
        }
    }

    /// Whether the path is what a client would ask to see if the server is up.
    fn is_health(&self, path: &str) -> bool {
        match self.args.dialect {
            Dialect::Ollama => matches!(path, "/" | "/api/version"),
            Dialect::Sglang => matches!(path, "/health" | "/health_generate"),
            Dialect::Vllm | Dialect::Llamacpp => path == "/health",
        }
    }

    fn delayed(&self, response: Response, now_ns: u64) -> Action {
        let delay = nanos(self.args.health_delay);
        if delay > 0 {
            Action::AnswerAt(response, now_ns.saturating_add(delay))
        } else {
            Action::Answer(response)
        }
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

    fn models(&self) -> Value {
        let data: Vec<Value> = self
            .ollama
            .model_names()
            .into_iter()
            .map(|name| json!({"id": name, "object": "model", "created": 1, "owned_by": "benchd-sim", "max_model_len": self.args.context}))
            .collect();
        json!({"object": "list", "data": data})
    }

    fn sglang_info(&self) -> Value {
        json!({
            "model_path": self.args.model,
            "served_model_name": self.args.model,
            "context_length": self.args.context,
            "version": "0.5.6.post2",
            "internal_states": [{"memory_usage": {"token_capacity": self.args.cache_tokens}}],
        })
    }

    fn tokenize(&self, request: &Request) -> Response {
        #[derive(Deserialize)]
        struct Tokenize {
            #[serde(default)]
            prompt: Option<String>,
            #[serde(default)]
            content: Option<String>,
            #[serde(default)]
            messages: Option<Vec<Message>>,
        }
        let Ok(asked) = serde_json::from_slice::<Tokenize>(&request.body) else {
            return self.error(400, "the body is no JSON of a tokenize request");
        };
        let mut tokens = Vec::new();
        if let Some(messages) = &asked.messages {
            tokens = self.prompt(messages);
        } else if let Some(text) = asked.prompt.or(asked.content) {
            tokenizer::tokenize(&text, &mut tokens);
        } else {
            return self.error(400, "neither prompt nor messages");
        }
        Response::json(
            200,
            &json!({"count": tokens.len(), "max_model_len": self.args.context, "tokens": tokens, "token_strs": null}),
        )
    }

    /// A cache reset: vLLM says 200 whatever happened, SGLang refuses while requests run.
    fn reset_cache(&self) -> Response {
        let busy = self.metrics.load() > 0;
        if self.has(&Kind::ResetRefused) || (busy && self.args.dialect == Dialect::Sglang) {
            return Response::text(400, "Flush cache failed: requests are pending.\n");
        }
        if !busy && !self.has(&Kind::ResetLies) {
            lock(&self.cache).clear();
        }
        match self.args.dialect {
            Dialect::Sglang => Response::text(200, "Cache flushed.\n"),
            _ => Response::empty(200),
        }
    }

    fn control(&mut self, method: &str, path: &str, request: &Request) -> Response {
        match (method, path) {
            ("GET", "stats") => Response::json(200, &self.metrics.stats(request.query.contains("reset=1"))),
            ("POST", "stats/reset") => Response::json(200, &self.metrics.stats(true)),
            ("GET", "fault") => Response::json(
                200,
                &json!({"completions": self.completions, "faults": self.faults.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>()}),
            ),
            ("DELETE", "fault") => {
                self.faults.clear();
                Response::json(200, &json!({"faults": 0}))
            }
            ("POST", "fault") => match self.new_faults(&request.body) {
                Ok(faults) => {
                    self.faults = faults;
                    Response::json(
                        200,
                        &json!({"faults": self.faults.len(), "completions": self.completions}),
                    )
                }
                Err(e) => Response::json(400, &json!({"error": e})),
            },
            _ => Response::json(404, &json!({"error": "no such control"})),
        }
    }

    /// Body of a control call: `{"faults": ["cut@3:5"]}` replaces those that were; with `"relative": true` the @N
    /// count from the next completion on.
    fn new_faults(&self, body: &[u8]) -> Result<Vec<Fault>, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Control {
            faults: Vec<String>,
            #[serde(default)]
            relative: bool,
        }
        let control: Control = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let shift = if control.relative { self.completions } else { 0 };
        control
            .faults
            .iter()
            .map(|text| {
                let mut fault: Fault = text
                    .parse()
                    .map_err(|e: super::faults::FaultError| e.to_string())?;
                fault.from = fault.from.map(|n| n + shift);
                fault.to = fault.to.map(|n| n + shift);
                Ok(fault)
            })
            .collect()
    }

    /// Tokens of a prompt: the template's, then each message's.
    fn prompt(&self, messages: &[Message]) -> Vec<Token> {
        let mut tokens: Vec<Token> = (0..self.args.template_tokens).collect();
        for message in messages {
            message.put_text(&mut tokens);
        }
        tokens
    }

    fn chat(&mut self, request: &Request, now_ns: u64) -> Action {
        let mut kinds: Vec<Kind> = self.next_faults().cloned().collect();
        self.completions += 1;
        self.metrics.requests.fetch_add(1, Relaxed);
        if let Some(header) = &request.fault {
            match Fault::parse_list(header) {
                Ok(faults) => kinds.extend(faults.into_iter().map(|f| f.kind)),
                Err(e) => return Action::Answer(self.error(400, &format!("x-sim-fault: {e}"))),
            }
        }
        for kind in &kinds {
            match kind {
                Kind::NeverAnswer => return Action::Silence,
                Kind::Http(status) => {
                    return Action::Answer(self.error(*status, "the simulated server was told to fail"));
                }
                Kind::HealthLies => return Action::Answer(self.error(503, "the model is not loaded")),
                Kind::Html(status) => {
                    return Action::Answer(Response {
                        status: *status,
                        content_type: "text/html",
                        body: b"<html><body><h1>Bad Gateway</h1></body></html>\n".to_vec(),
                    });
                }
                _ => {}
            }
        }
        // Faults without @N met the process at its start.
        for fault in self
            .faults
            .iter()
            .filter(|f| !f.at_start() && f.meets(self.completions))
        {
            process_faults::die_if(&fault.kind);
        }
        let asked: ChatRequest = match serde_json::from_slice(&request.body) {
            Ok(asked) => asked,
            Err(e) => return Action::Answer(self.error(400, &format!("the body is no chat request: {e}"))),
        };
        match self.completion(asked, &kinds, now_ns) {
            Ok(completion) => Action::Complete(Box::new(completion)),
            Err(response) => Action::Answer(response),
        }
    }

    fn completion(
        &mut self,
        asked: ChatRequest,
        kinds: &[Kind],
        now_ns: u64,
    ) -> Result<Completion, Response> {
        let name = asked.model.as_deref().unwrap_or_default();
        let knows = self.ollama.model_names().iter().any(|known| known == name);
        let checks_name = matches!(self.args.dialect, Dialect::Vllm | Dialect::Ollama);
        if checks_name && !knows {
            return Err(self.error(404, &format!("The model `{name}` does not exist.")));
        }
        if asked.messages.is_empty() {
            return Err(self.error(400, "messages: at least one is needed"));
        }
        if self.args.dialect == Dialect::Ollama
            && asked.reasoning_effort.is_some()
            && self.args.reasoning_tokens == 0
        {
            return Err(self.error(400, &format!("\"{name}\" does not support thinking")));
        }
        let mut tokens = self.prompt(&asked.messages);
        let max_tokens = match self.args.dialect {
            Dialect::Ollama => asked.max_tokens,
            _ => asked.max_tokens.or(asked.max_completion_tokens),
        };
        if max_tokens == Some(0) {
            return Err(self.error(400, "max_tokens must be at least 1"));
        }
        let context = self.args.context as usize;
        if self.args.truncate() == Truncate::Refuse {
            let wanted = tokens.len() + max_tokens.unwrap_or(1) as usize;
            if wanted > context {
                return Err(self.error(
                    400,
                    &format!("This model's maximum context length is {context} tokens. However, you requested {wanted} tokens."),
                ));
            }
        } else if tokens.len() > context {
            // The template and the prompt's end stay, as Ollama does it.
            let (keep, drop) = (self.args.template_tokens as usize, tokens.len() - context);
            let keep = keep.min(context);
            tokens.drain(keep..keep + drop);
        }
        let room = u32::try_from(context.saturating_sub(tokens.len())).unwrap_or(u32::MAX);
        let room = if self.args.truncate() == Truncate::Refuse {
            room
        } else {
            u32::MAX
        };
        let (output_tokens, finish) = self.length(&asked, max_tokens, kinds, room);
        let arrived_ns = self.ollama.loaded_by(now_ns);
        self.serial += 1;
        let text_seed = tokens
            .iter()
            .fold(self.args.seed, |h, t| h.rotate_left(5) ^ u64::from(*t));
        let script = Script::new(
            &self.shape,
            Asked {
                read_ns: now_ns,
                serial: self.serial,
                created: unix_seconds(),
                output_tokens,
                reasoning_tokens: self.args.reasoning_tokens,
                finish,
                text_seed,
                model: kinds.iter().rev().find_map(|k| match k {
                    Kind::WrongModel(name) => Some(name.clone()),
                    _ => None,
                }),
            },
        );
        let not_a_stream = kinds.contains(&Kind::NotAStream);
        Ok(Completion {
            job: Job {
                id: self.serial,
                arrived_ns,
                prompt_tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX),
                output_tokens,
                blocks: tokenizer::block_hashes(&tokens, self.args.block_tokens),
            },
            script,
            streams: asked.stream && !not_a_stream,
            include_usage: asked.stream_options.is_some_and(|o| o.include_usage),
            faults: StreamFaults::of(kinds.iter()),
        })
    }

    /// How many tokens the answer has, and why it ends there.
    fn length(&self, asked: &ChatRequest, max: Option<u32>, kinds: &[Kind], room: u32) -> (u32, Finish) {
        let forced = kinds.iter().find_map(|k| match k {
            Kind::EosAfter(n) => Some(*n),
            _ => None,
        });
        let honours = self.args.honours_ignore_eos();
        let natural = match (self.args.eos_after, max) {
            (Some(n), _) => Some(n.max(1)),
            (None, Some(_)) => None,
            (None, None) => Some(NATURAL_TOKENS),
        };
        let natural = natural
            .filter(|_| !(asked.ignore_eos && honours && max.is_some()))
            .map(|n| {
                if honours {
                    n.max(asked.min_tokens.unwrap_or(0))
                } else {
                    n
                }
            });
        let end = [forced, natural].into_iter().flatten().min().unwrap_or(u32::MAX);
        let limit = max.unwrap_or(u32::MAX).min(room).max(1);
        if end < limit {
            (end, Finish::Stop)
        } else {
            (limit, Finish::Length)
        }
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
