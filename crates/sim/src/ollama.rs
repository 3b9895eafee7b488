//! Ollama's native endpoints, as far as one needs them to create, load, inspect and unload a model.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::args::{Args, Dialect};
use super::clock::{nanos, parse_duration};
use super::http::{Request, Response};

/// Bytes of the simulated model: what `/api/ps` and `/api/tags` say.
const MODEL_BYTES: u64 = 5 << 30;
/// How long a model stays loaded after its last use by default, nanoseconds.
const KEEP_ALIVE_NS: u64 = 300_000_000_000;

/// State of the model store and of the one model that can be loaded.
#[derive(Debug)]
pub(super) struct Ollama {
    enabled: bool,
    models: BTreeMap<String, Value>,
    blobs: HashSet<String>,
    loaded: Option<Loaded>,
    load_ns: u64,
    context: u32,
    gpu_share: f64,
    quantization: String,
    thinking: bool,
}

#[derive(Debug)]
struct Loaded {
    name: String,
    ready_ns: u64,
    /// `None`: for good.
    until_ns: Option<u64>,
    keep_ns: Option<u64>,
}

impl Ollama {
    pub(super) fn new(args: &Args) -> Self {
        let mut models = BTreeMap::new();
        if !args.absent {
            models.insert(args.model.clone(), Value::Null);
        }
        Self {
            enabled: args.dialect == Dialect::Ollama,
            models,
            blobs: HashSet::new(),
            loaded: None,
            load_ns: nanos(args.load_delay),
            context: args.context,
            gpu_share: args.gpu_share,
            quantization: args.quantization.clone(),
            thinking: args.reasoning_tokens > 0,
        }
    }

    /// Names of the models that are there.
    pub(super) fn model_names(&self) -> Vec<String> {
        self.models.keys().cloned().collect()
    }

    /// When the model is loaded, if a request at `now_ns` needs it; loads it.
    pub(super) fn loaded_by(&mut self, now_ns: u64) -> u64 {
        if !self.enabled {
            return now_ns;
        }
        let Some(name) = self.models.keys().next().cloned() else {
            return now_ns;
        };
        self.load(name, None, now_ns)
    }

    fn load(&mut self, name: String, keep: Option<Option<u64>>, now_ns: u64) -> u64 {
        self.expire(now_ns);
        let load_ns = self.load_ns;
        let loaded = self.loaded.get_or_insert_with(|| Loaded {
            name,
            ready_ns: now_ns.saturating_add(load_ns),
            until_ns: None,
            keep_ns: Some(KEEP_ALIVE_NS),
        });
        if let Some(keep) = keep {
            loaded.keep_ns = keep;
        }
        let ready_ns = loaded.ready_ns.max(now_ns);
        loaded.until_ns = loaded.keep_ns.map(|keep| ready_ns.saturating_add(keep));
        ready_ns
    }

    fn expire(&mut self, now_ns: u64) {
        if self
            .loaded
            .as_ref()
            .is_some_and(|l| l.until_ns.is_some_and(|until| until <= now_ns))
        {
            self.loaded = None;
        }
    }

    /// Answers a native request: the answer and when it goes out.
    pub(super) fn handle(&mut self, request: &Request, now_ns: u64) -> (Response, u64) {
        self.expire(now_ns);
        let path = request.path.as_str();
        let response = match (request.method.as_str(), path) {
            ("GET" | "HEAD", "/") => Response::text(200, "Ollama is running"),
            ("GET", "/api/version") => Response::json(200, &json!({"version": "0.15.6"})),
            ("GET", "/api/tags") => Response::json(200, &self.tags()),
            ("GET", "/api/ps") => Response::json(200, &self.ps(now_ns)),
            ("POST", "/api/show") => self.show(&request.body),
            ("POST", "/api/generate" | "/api/chat") => return self.generate(&request.body, now_ns),
            ("POST", "/api/create" | "/api/pull") => self.create(&request.body),
            ("DELETE", "/api/delete") => self.delete(&request.body),
            ("HEAD", _) if path.starts_with("/api/blobs/") => {
                Response::empty(if self.blobs.contains(path) { 200 } else { 404 })
            }
            ("POST", _) if path.starts_with("/api/blobs/") => {
                self.blobs.insert(path.to_owned());
                Response::empty(201)
            }
            _ => Response::text(404, "404 page not found"),
        };
        (response, now_ns)
    }

    fn details(&self) -> Value {
        json!({
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "8.0B",
            "quantization_level": self.quantization,
        })
    }

    fn tags(&self) -> Value {
        let models: Vec<Value> = self
            .models
            .keys()
            .map(|name| json!({"name": name, "model": name, "size": MODEL_BYTES, "digest": "0".repeat(64), "details": self.details()}))
            .collect();
        json!({"models": models})
    }

    fn ps(&self, now_ns: u64) -> Value {
        let models: Vec<Value> = self
            .loaded
            .iter()
            .filter(|l| l.ready_ns <= now_ns)
            .map(|l| {
                let size_vram = (MODEL_BYTES as f64 * self.gpu_share) as u64;
                json!({
                    "name": l.name, "model": l.name, "size": MODEL_BYTES, "size_vram": size_vram,
                    "digest": "0".repeat(64), "details": self.details(), "context_length": self.context,
                })
            })
            .collect();
        json!({"models": models})
    }

    fn show(&self, body: &[u8]) -> Response {
        match self.named(body) {
            Err(response) => response,
            Ok(_) => {
                let mut capabilities = vec!["completion"];
                if self.thinking {
                    capabilities.push("thinking");
                }
                Response::json(
                    200,
                    &json!({
                        "modelfile": "", "parameters": "", "template": "{{ .Prompt }}",
                        "details": self.details(),
                        "model_info": {
                            "general.architecture": "llama",
                            "general.parameter_count": 8_030_261_312_u64,
                            "llama.context_length": 131_072,
                        },
                        "capabilities": capabilities,
                    }),
                )
            }
        }
    }

    /// The model that a body names, if it is there; else the error.
    fn named(&self, body: &[u8]) -> Result<ModelRequest, Response> {
        let wrong = |status: u16, message: String| Response::json(status, &json!({"error": message}));
        let named: ModelRequest = serde_json::from_slice(body).map_err(|e| wrong(400, e.to_string()))?;
        if self.models.contains_key(named.name()) {
            Ok(named)
        } else {
            Err(wrong(404, format!("model '{}' not found", named.name())))
        }
    }

    /// Loads or unloads; the simulated server generates through its OpenAI endpoint only.
    fn generate(&mut self, body: &[u8], now_ns: u64) -> (Response, u64) {
        let named = match self.named(body) {
            Ok(named) => named,
            Err(response) => return (response, now_ns),
        };
        if named.prompt.as_deref().is_some_and(|p| !p.is_empty())
            || named.messages.as_ref().is_some_and(|m| !m.is_empty())
        {
            let error = json!({"error": "the simulated server generates through /v1/chat/completions only"});
            return (Response::json(501, &error), now_ns);
        }
        let keep = match named.keep_alive.as_ref().map(keep_alive_ns) {
            None => None,
            Some(Ok(keep)) => Some(keep),
            Some(Err(e)) => return (Response::json(400, &json!({"error": e})), now_ns),
        };
        let done = |reason: &str| {
            let value = json!({
                "model": named.name(), "created_at": "2026-01-01T00:00:00Z", "response": "", "done": true, "done_reason": reason,
            });
            Response::json(200, &value)
        };
        if keep == Some(Some(0)) {
            self.loaded = None;
            return (done("unload"), now_ns);
        }
        let ready_ns = self.load(named.name().to_owned(), keep, now_ns);
        (done("load"), ready_ns)
    }

    fn create(&mut self, body: &[u8]) -> Response {
        match serde_json::from_slice::<ModelRequest>(body) {
            Ok(named) if !named.name().is_empty() => {
                self.models.insert(named.name().to_owned(), Value::Null);
                Response {
                    status: 200,
                    content_type: "application/x-ndjson",
                    body: b"{\"status\":\"parsing GGUF\"}\n{\"status\":\"success\"}\n".to_vec(),
                }
            }
            Ok(_) => Response::json(400, &json!({"error": "no model name"})),
            Err(e) => Response::json(400, &json!({"error": e.to_string()})),
        }
    }

    fn delete(&mut self, body: &[u8]) -> Response {
        match self.named(body) {
            Err(response) => response,
            Ok(named) => {
                self.models.remove(named.name());
                if self.loaded.as_ref().is_some_and(|l| l.name == named.name()) {
                    self.loaded = None;
                }
                Response::empty(200)
            }
        }
    }
}

/// A native body's fields that count here.
#[derive(Debug, Deserialize)]
struct ModelRequest {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    prompt: Option<String>,
    #[serde(default)]
    messages: Option<Vec<Value>>,
    #[serde(default)]
    keep_alive: Option<Value>,
}

impl ModelRequest {
    fn name(&self) -> &str {
        self.model.as_deref().or(self.name.as_deref()).unwrap_or_default()
    }
}

/// `keep_alive`: seconds or a Go duration; negative is for good (`None`).
fn keep_alive_ns(value: &Value) -> Result<Option<u64>, String> {
    let wrong = || format!("keep_alive: {value} is neither seconds nor a duration");
    if let Some(seconds) = value.as_f64() {
        return Ok((seconds >= 0.0).then_some((seconds * 1e9) as u64));
    }
    let text = value.as_str().ok_or_else(wrong)?;
    if text.starts_with('-') {
        return Ok(None);
    }
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Some(seconds.saturating_mul(1_000_000_000)));
    }
    parse_duration(text).map(|d| Some(nanos(d))).map_err(|_| wrong())
}
