//! Ollama, from its binary. Facts by the sources of 0.15.6, and by 0.9.3 as it ran here.
//!
//! - It is "up" before any model is loaded, and loads at the first request: the model is loaded by a call of
//!   its own, and `/api/ps` then shows it.
//! - The OpenAI path can't set the context length, and a prompt that is too long is cut with a warning in the
//!   log only: `OLLAMA_CONTEXT_LENGTH` is always set, to what the plan's longest prompt needs.
//! - `max_completion_tokens`, `ignore_eos` and `min_tokens` are ignored without a word: a fixed output length
//!   can't be had. `reasoning_effort` is refused for models that don't think.
//! - Its prompt cache is always on and has no reset: unloading the model empties it.
//! - `serve` takes no arguments of a model's: those that the plan gives for Ollama (`num_thread=1`) are
//!   parameters of the model, set when benchd imports it.
//! - Requests beyond `OLLAMA_NUM_PARALLEL` (1 by default) wait in a queue.

mod store;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    ChatRequest, Facts, FrameworkError, Weights,
    adapter::{Adapter, HttpProbe, Requirement, Server},
    args::{Env, absolute, model_arguments, pair},
    counters::CounterNames,
    facts,
    kind::{Kind, ModelStore},
    last_words::Says,
    load_log::{LoadLog, Part, after, seconds, size},
    setup::{GpuNaming, Setup},
};
use benchd_core::record::{CacheReset, DoneWhen, Flag, FlagKind, Format, HttpCall, Precision, Reading, Step};
use benchd_plan::{Framework, Model, Source};

/// How many requests it works on at once.
const PARALLEL: &str = "OLLAMA_NUM_PARALLEL";

/// The format of its KV cache.
const CACHE_TYPE: &str = "OLLAMA_KV_CACHE_TYPE";

/// What chat templates add to a prompt, tokens, with room to spare (gpt-oss's, the longest known, adds under
/// 100).
const TEMPLATE_RESERVE_TOKENS: u32 = 256;

/// Context lengths are set in steps of this, tokens.
const CONTEXT_STEP_TOKENS: u32 = 256;

/// Limit for calls that only ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) const KIND: Kind = Kind {
    title: "Ollama",
    venv_program: None,
    models: ModelStore::Own,
    // It imports it.
    reads_gguf: |_| true,
    needs_cuda: true,
    whole_on_gpu_share: Some(0.92),
    parallel_variable: Some(PARALLEL),
    metrics_flag: None,
    graphs_off: None,
    echoes_model: true,
    // Nothing switches it.
    prefix_cache_disabled: |_| false,
    // It maps the file: seconds.
    start: Duration::from_secs(15),
    // The model is unloaded and loaded again.
    cache_reset: Duration::from_secs(10),
    reservation: None,
    // What its log tells, under names of ours: it has no counters.
    counters: CounterNames {
        prefix: "ollama:",
        requests: Some("ollama:request_seconds_count"),
        prompt_tokens: &[],
        output_tokens: None,
        ttft: None,
        latency: Some("ollama:request_seconds"),
        tpot: None,
    },
    load_line,
    death_line,
    weights: store::weights,
    precision,
    adapter: |setup| Ok(Box::new(Ollama::new(setup)?)),
    behind_url: None,
};

/// The log line of an answered request names its path so.
const CHAT_LINE: &str = "\"/v1/chat/completions\"";

/// Ollama serving one model: the server's name for it is its tag.
struct Ollama {
    server: Server,
    program: PathBuf,
    gguf: Option<PathBuf>,
    /// Parameters of the model that the plan asks for.
    parameters: Map<String, Value>,
    load_timeout: Duration,
    has_gpu: bool,
    parallel: Option<u32>,
}

impl Ollama {
    fn new(setup: &Setup<'_>) -> Result<Self, FrameworkError> {
        let tag = setup.model_id()?;
        let Source::Binary(binary) = &setup.framework.source else {
            return Err(setup.wrong_source("`binary: <file>`"));
        };
        // A path with a folder is taken from here, not from wherever a wrapper script changes to; a bare name
        // is looked for on the path.
        let program = if binary.components().count() > 1 {
            absolute(binary)
        } else {
            binary.clone()
        };
        let endpoint = setup.endpoint();
        let mut args = vec!["serve".to_owned()];
        args.extend(setup.framework.args.iter().cloned());
        let parameters = parameters(setup)?;

        let plan_env = &setup.framework.env;
        if let Some(tokens) = plan_env.get("OLLAMA_CONTEXT_LENGTH") {
            setup.check_context("OLLAMA_CONTEXT_LENGTH", tokens)?;
        }
        let parallel = match plan_env.get(PARALLEL) {
            None => None,
            Some(text) => {
                Some(
                    text.parse()
                        .ok()
                        .filter(|&n| n > 0)
                        .ok_or_else(|| FrameworkError::BadValue {
                            framework: setup.framework.name.clone(),
                            setting: PARALLEL,
                            given: text.clone(),
                            wanted: "whole number from 1 on",
                        })?,
                )
            }
        };
        let host = if endpoint.host.contains(':') {
            format!("[{}]", endpoint.host)
        } else {
            endpoint.host.clone()
        };
        let mut env = setup.gpu_env(GpuNaming::Uuid);
        env.extend([
            pair("OLLAMA_HOST", format!("{host}:{}", endpoint.port)),
            pair(
                "OLLAMA_CONTEXT_LENGTH",
                context_tokens(setup.context.longest_prompt_tokens).to_string(),
            ),
            // Forever: by default the model is unloaded after five idle minutes.
            pair("OLLAMA_KEEP_ALIVE", "-1"),
            pair("OLLAMA_MAX_LOADED_MODELS", "1"),
            // Starting otherwise removes files that no model names, others' half-done imports among them.
            pair("OLLAMA_NOPRUNE", "1"),
        ]);
        let env = setup.environment(env, &[("OLLAMA_HOST", "host: and port:")])?;

        let mut requirements = vec![Requirement {
            path: program.clone(),
            what: "Ollama's binary".to_owned(),
            executable: true,
            remedy: "make the environment: benchd env PLAN".to_owned(),
        }];
        requirements.extend(setup.model.gguf.iter().map(|gguf| setup.gguf_requirement(gguf)));
        let launch = setup.launch(program.clone(), args, env);
        let mut server = setup.server(tag, Some(launch), requirements);
        server.notes = parallel_note(parallel, setup.context.max_concurrency)
            .into_iter()
            .collect();
        Ok(Self {
            server,
            program,
            gguf: setup.model.gguf.clone(),
            parameters,
            load_timeout: setup.framework.start_timeout,
            has_gpu: !setup.context.gpus.is_empty(),
            parallel,
        })
    }

    fn is_present(&self) -> (HttpCall, DoneWhen) {
        (
            HttpCall::post_json("/api/show", json!({ "model": self.server.model })),
            DoneWhen::ok(),
        )
    }

    /// Makes sure that the tag is there: from the plan's GGUF where it is absent.
    fn presence(&self) -> Result<Vec<Step>, FrameworkError> {
        let Some(gguf) = &self.gguf else {
            let mut step = Step::new(
                format!("find model {}", self.server.model),
                self.is_present().0,
                ASK_TIMEOUT,
            );
            step.fatal = vec![400, 404];
            step.hint = format!(
                "OLLAMA_HOST={}:{} {} pull {}, with the server running",
                self.server.endpoint.host,
                self.server.endpoint.port,
                self.program.display(),
                self.server.model
            );
            return Ok(vec![step]);
        };
        // Ollama stores files under their digest, and checks it.
        let digest = format!("sha256:{}", store::sha256(gguf)?);
        let name = gguf
            .file_name()
            .map_or_else(|| "model.gguf".into(), |n| n.to_string_lossy());
        let mut upload = Step::new(
            format!("import {}", gguf.display()),
            HttpCall::post_file(format!("/api/blobs/{digest}"), gguf.clone()),
            self.load_timeout,
        );
        upload.unless = Some(self.is_present());
        upload.done = DoneWhen::Status(vec![200, 201]);
        upload.fatal = vec![400, 404, 500];
        upload.hint = "is there room where OLLAMA_MODELS (default ~/.ollama/models) lies?".to_owned();

        let mut body = json!({ "model": self.server.model, "files": { name.as_ref(): digest } });
        if !self.parameters.is_empty() {
            body["parameters"] = json!(self.parameters);
        }
        let mut create = Step::new(
            format!("create model {}", self.server.model),
            HttpCall::post_json("/api/create", body),
            self.load_timeout,
        );
        create.unless = Some(self.is_present());
        create.done = DoneWhen::LastLineEquals {
            pointer: "/status".to_owned(),
            value: json!("success"),
        };
        create.fatal = vec![400, 404, 500];
        create.hint = "is the file a GGUF of an architecture that this version of Ollama knows?".to_owned();
        Ok(vec![upload, create])
    }

    /// Loads the model for good, and is done when it shows among those loaded. A part of it on the CPU is no
    /// failure here: [`Adapter::parse_facts`] flags it.
    fn load(&self) -> Vec<Step> {
        let mut load = Step::new(
            format!("load model {}", self.server.model),
            HttpCall::post_json(
                "/api/generate",
                json!({ "model": self.server.model, "keep_alive": -1 }),
            ),
            self.load_timeout,
        );
        load.fatal = vec![400, 404, 500];
        load.hint = "the server's log says why the model did not load".to_owned();
        let mut shown = Step::new("see the model loaded", HttpCall::get("/api/ps"), ASK_TIMEOUT);
        shown.done = DoneWhen::JsonPresent {
            pointer: "/models/0/size".to_owned(),
        };
        shown.interval = Duration::from_millis(100);
        vec![load, shown]
    }

    fn unload(&self) -> Vec<Step> {
        let mut unload = Step::new(
            format!("unload model {}", self.server.model),
            HttpCall::post_json(
                "/api/generate",
                json!({ "model": self.server.model, "keep_alive": 0 }),
            ),
            Duration::from_secs(60),
        );
        unload.fatal = vec![400, 404];
        let mut gone = Step::new(
            "see no model loaded",
            HttpCall::get("/api/ps"),
            Duration::from_secs(60),
        );
        gone.done = DoneWhen::JsonEquals {
            pointer: "/models".to_owned(),
            value: json!([]),
        };
        gone.interval = Duration::from_millis(100);
        gone.hint = "the model is unloaded once its last request is done".to_owned();
        vec![unload, gone]
    }
}

/// The plan's `name=value` arguments of the model, as the values that Ollama's API takes.
fn parameters(setup: &Setup<'_>) -> Result<Map<String, Value>, FrameworkError> {
    let mut parameters = Map::new();
    for arg in model_arguments(setup.framework, setup.model) {
        let Some((name, value)) = arg.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(FrameworkError::BadValue {
                framework: setup.framework.name.clone(),
                setting: "the model's `args`",
                given: arg,
                wanted: "parameter of a model, `name=value`",
            });
        };
        let value = match serde_json::from_str(value) {
            Ok(number @ (Value::Number(_) | Value::Bool(_))) => number,
            _ => json!(value),
        };
        parameters.insert(name.to_owned(), value);
    }
    Ok(parameters)
}

/// The parameters in `/api/show`'s text, `name    value` a line.
fn shown_parameters(text: &str) -> Vec<(&str, &str)> {
    text.lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .map(|(name, value)| (name, value.trim().trim_matches('"')))
        .collect()
}

/// How long an answered chat request took, seconds, by a line of the web framework's (gin's) log:
/// `[GIN] 2026/11/24 - 09:03:35 | 200 |  8.212345678s |  127.0.0.1 | POST  "/v1/chat/completions"`.
fn logged_seconds(line: &str) -> Option<f64> {
    let (_, rest) = line.split_once("[GIN] ")?;
    let mut fields = rest.split('|').map(str::trim);
    let (_when, status, took) = (fields.next()?, fields.next()?, fields.next()?);
    let asked = fields.next_back()?;
    (status == "200" && asked.starts_with("POST") && asked.ends_with(CHAT_LINE))
        .then(|| go_seconds(took))
        .flatten()
}

/// A duration as Go writes it (`1m2.5s`, `812.4ms`, `37.25µs`), seconds.
fn go_seconds(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = &after[..after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len())];
        total += value
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "µs" | "μs" | "us" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = &after[unit.len()..];
    }
    (!text.is_empty()).then_some(total)
}

/// The context length that a lane needs, tokens.
fn context_tokens(longest_prompt_tokens: u32) -> u32 {
    longest_prompt_tokens
        .saturating_add(TEMPLATE_RESERVE_TOKENS)
        .checked_next_multiple_of(CONTEXT_STEP_TOKENS)
        .unwrap_or(u32::MAX)
}

/// The weights by the blob, or the file that is imported; the cache as it is set (`f16` by default).
fn precision(framework: &Framework, model: &Model, env: Env<'_>) -> Precision {
    let cache = env(CACHE_TYPE).filter(|set| !set.is_empty());
    let (weights, file_bytes) = match store::weights(framework, model, env) {
        Weights::Whole(found) => (found.precision, Some(found.bytes)),
        _ => (Reading::Unknown, None),
    };
    Precision {
        weights,
        kv_cache: match cache {
            Some(set) => Reading::read(Format::new(&set), CACHE_TYPE),
            None => Reading::read(Format::new("f16"), "Ollama's default"),
        },
        random_weights: Reading::read(false, "Ollama's store"),
        file_bytes,
    }
}

fn parallel_note(parallel: Option<u32>, max_concurrency: u32) -> Option<String> {
    match parallel {
        None => Some(
            "OLLAMA_NUM_PARALLEL is not set: Ollama serves one request at a time (its default), others wait in \
             its queue"
                .to_owned(),
        ),
        Some(n) if n < max_concurrency => Some(format!(
            "OLLAMA_NUM_PARALLEL={n}: of up to {max_concurrency} requests at a time, all but {n} wait in \
             Ollama's queue"
        )),
        Some(_) => None,
    }
}

/// `msg="model weights" device=CUDA0 size="4.1 GiB"` of Ollama's own engine, and how long its runner took to start.
/// `ollama serve` notices the end of its runner; what it tells the requests follows from that.
fn death_line(line: &str) -> Option<Says> {
    line.contains("llama runner terminated").then_some(Says::That)
}

fn load_line(told: &mut LoadLog, line: &str) {
    // A runner of its own for each load (and for each look at the devices, which gives no figures).
    if line.contains("msg=\"starting runner\"") || line.contains("msg=\"starting llama server\"") {
        told.announced();
        return;
    }
    for (what, part) in [
        ("msg=\"model weights\"", Part::Weights),
        ("msg=\"kv cache\"", Part::KvCache),
        ("msg=\"compute graph\"", Part::Compute),
    ] {
        if let Some(rest) = after(line, what) {
            let device = after(rest, "device=").and_then(|r| r.split(' ').next());
            let bytes = after(rest, "size=\"").and_then(size);
            if let Some(device) = device {
                told.set(part, device, bytes);
            }
            return;
        }
    }
    if let Some(rest) = after(line, "msg=\"llama runner started in ") {
        told.took(seconds(rest));
    }
    // `msg=load request="{Operation:commit … KvCacheType:q8_0 NumThreads:6 …}"`; empty by default.
    if let Some(rest) = after(line, " KvCacheType:") {
        let set = rest.split([' ', '}']).next().unwrap_or_default();
        told.cache_in(if set.is_empty() { "f16" } else { set });
    }
}

impl Adapter for Ollama {
    fn server(&self) -> &Server {
        &self.server
    }

    fn health(&self) -> HttpProbe {
        HttpProbe::get("/api/version", Duration::from_millis(100), Duration::from_secs(5))
    }

    fn prepare_calls(&self) -> Result<Vec<Step>, FrameworkError> {
        let mut steps = self.presence()?;
        steps.extend(self.load());
        Ok(steps)
    }

    fn facts_calls(&self) -> Vec<HttpCall> {
        vec![
            HttpCall::get("/api/version"),
            self.is_present().0,
            HttpCall::get("/api/ps"),
        ]
    }

    fn parse_facts(&self, answers: &[Option<String>]) -> Facts {
        let mut facts = Facts::default();
        if let Some(version) = facts::json(answers, 0)
            .as_ref()
            .and_then(|v| v["version"].as_str())
        {
            facts.set("version", version);
        }
        facts.set("model", &self.server.model);
        match self.parallel {
            Some(n) => facts.set("parallel_requests", n),
            None => facts.set("parallel_requests", "1 (default)"),
        }
        let mut trained_tokens = None;
        if let Some(show) = facts::json(answers, 1) {
            // `unknown` is what it says of files that name no type.
            let level = show
                .pointer("/details/quantization_level")
                .and_then(Value::as_str)
                .filter(|level| !level.is_empty() && !level.eq_ignore_ascii_case("unknown"));
            facts.precision.weights = Reading::maybe(level.map(Format::new), "/api/show");
            for field in ["parameter_size", "format", "family"] {
                if let Some(value) = show["details"][field].as_str() {
                    facts.set(field, value);
                }
            }
            let shown = shown_parameters(show["parameters"].as_str().unwrap_or_default());
            for (name, wanted) in &self.parameters {
                let wanted = wanted.as_str().map_or_else(|| wanted.to_string(), str::to_owned);
                let seen: Vec<&str> = shown.iter().filter(|(n, _)| n == name).map(|(_, v)| *v).collect();
                if seen.contains(&wanted.as_str()) {
                    facts.set(name, wanted);
                } else {
                    facts.flags.push(Flag::new(
                        FlagKind::WrongModel,
                        format!(
                            "{} was there already, with {name}={}, and the plan asks for {wanted}: remove it, and benchd imports it anew",
                            self.server.model,
                            if seen.is_empty() { "unset".to_owned() } else { seen.join(",") }
                        ),
                    ));
                }
            }
            // `llama.context_length`, `gptoss.context_length`: what the model was trained for.
            trained_tokens = show["model_info"].as_object().and_then(|info| {
                let (_, tokens) = info.iter().find(|(key, _)| key.ends_with(".context_length"))?;
                tokens.as_u64()
            });
        }
        let env = self.server.launch.iter().flat_map(|launch| &launch.env);
        let set_tokens = env
            .into_iter()
            .find(|(name, _)| name == "OLLAMA_CONTEXT_LENGTH")
            .and_then(|(_, tokens)| tokens.parse().ok());
        let loaded = facts::json(answers, 2).and_then(|ps| ps.pointer("/models/0").cloned());
        // Versions before 0.12 don't show it: then it is what was set, which Ollama caps to what the model was
        // trained for.
        let shown_tokens = loaded.as_ref().and_then(|m| m["context_length"].as_u64());
        if let Some(tokens) = shown_tokens.or_else(|| trained_tokens.into_iter().chain(set_tokens).min()) {
            facts.set_context_length(tokens);
        }
        if let Some((size, on_gpu)) = loaded
            .as_ref()
            .and_then(|m| Some((m["size"].as_u64()?, m["size_vram"].as_u64()?)))
        {
            facts.set("size_bytes", size);
            facts.set("size_vram_bytes", on_gpu);
            if self.has_gpu && on_gpu < size {
                facts.flags.push(Flag::new(
                    FlagKind::CpuOffload,
                    format!("{on_gpu} of the model's {size} bytes are on the GPU"),
                ));
            }
        }
        self.server.judge(facts)
    }

    fn request_body(&self, request: &ChatRequest<'_>) -> Value {
        Value::Object(request.safe_body(&self.server.model))
    }

    fn cache_reset(&self) -> CacheReset {
        CacheReset::Reload {
            unload: self.unload(),
            load: self.load(),
        }
    }

    fn counters_of_log(&self, lines: &str) -> BTreeMap<String, f64> {
        let seconds: Vec<f64> = lines.lines().filter_map(logged_seconds).collect();
        // A log without such lines says nothing, not that nothing was answered.
        if seconds.is_empty() {
            return BTreeMap::new();
        }
        BTreeMap::from([
            ("ollama:request_seconds_sum".to_owned(), seconds.iter().sum()),
            ("ollama:request_seconds_count".to_owned(), seconds.len() as f64),
        ])
    }

    fn counts_in_log(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
