//! What each request is answered with: routes, all endpoints but completions, and the control of faults.

use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Action, Api};
use super::args::{Dialect, StartStyle, Switch};
use super::chat::Message;
use super::clock::nanos;
use super::faults::{Fault, FaultError, Kind};
use super::http::{Request, Response};
use super::lock::lock;
use super::tokenizer;

impl Api {
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
                    self.has(&Kind::MetricsLie),
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
            "disable_radix_cache": self.args.prefix_cache == Switch::Off,
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
                let mut fault: Fault = text.parse().map_err(|e: FaultError| e.to_string())?;
                fault.from = fault.from.map(|n| n + shift);
                fault.to = fault.to.map(|n| n + shift);
                Ok(fault)
            })
            .collect()
    }
}
