//! The plan as it is written: the one source of the JSON schema, of the known keys, their types and ranges.
//!
//! Every key is optional to serde, also those that the schema requires: a missing key is found by the walk against
//! the schema, and the rest of the plan is still checked.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    CachePolicy, FrameworkKind, Language, Order, PromptMode, PromptType, Provision, ReasoningEffort,
    ScenarioKind,
    kind::{ModelIdKey, SourceKeys, names},
    raw_hypotheses::RawHypotheses,
    shapes::{OneOrMany, RawArrival, RawGpu},
    values::{DurationText, EnvText},
};

/// Most streams of a closed loop.
pub(crate) const MAX_CONCURRENCY: u32 = 16_384;
/// Longest prompt, tokens.
pub(crate) const MAX_TOKENS: u32 = 10_000_000;

/// A plan for `benchd run`: the machine, the models, the frameworks that serve them, and what is measured.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPlan {
    /// Version of the plan's format; 1.
    #[schemars(required, range(min = 1, max = 1))]
    pub(crate) version: Option<u32>,
    /// Name of the plan, a part of the run's name: letters, digits, `-`, `_`, `.`; at most 64.
    #[schemars(required)]
    pub(crate) name: Option<String>,
    /// The machine.
    pub(crate) host: Option<RawHost>,
    /// What all requests have in common.
    pub(crate) request: Option<RawRequest>,
    /// The models, by a name of your choice.
    #[schemars(required, extend("minProperties" = 1, "maxProperties" = 256))]
    pub(crate) models: Option<IndexMap<String, RawModel>>,
    /// The frameworks, by a name of your choice: each one configuration of a server.
    #[schemars(required, extend("minProperties" = 1, "maxProperties" = 256))]
    pub(crate) frameworks: Option<IndexMap<String, RawFramework>>,
    /// The scenarios, by their kind's name, or by another name with `kind`.
    #[schemars(required, extend("minProperties" = 1, "maxProperties" = 256))]
    pub(crate) scenarios: Option<IndexMap<String, RawScenario>>,
    /// Hypotheses to judge: H1 (SGLang beats vLLM on a shared prefix), H2 (SGLang and vLLM overwhelm Ollama under
    /// concurrency), H3 (Ollama competes in single-request latency), H4 (degradation under concurrency differs),
    /// H5 (Korean against English differs): a list of them, or a mapping with thresholds, roles and hypotheses of your
    /// own (`own:`). Default: none.
    pub(crate) hypotheses: Option<RawHypotheses>,
    /// Order of the lanes over the rounds: `fixed` as written (models outside, frameworks inside), `rotate` each
    /// round starts with the next framework, `interleave` every other round runs backwards. Default: fixed.
    pub(crate) order: Option<Order>,
    /// Rounds of the whole plan, 1 to 100. Default: 1.
    #[schemars(range(min = 1, max = 100))]
    pub(crate) repeats: Option<u32>,
    /// Asks every lane questions with one checkable answer, outside of what is timed. Default: none are asked.
    pub(crate) quality: Option<RawQuality>,
    /// Whom to tell at the end.
    pub(crate) notify: Option<RawNotify>,
}

/// The machine.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHost {
    /// The GPU that the servers see (CUDA_VISIBLE_DEVICES): an NVML index or UUID, a list of them (tensor parallel),
    /// or `none`. Default: 0.
    pub(crate) gpu: Option<RawGpu>,
    /// What the machine should be.
    pub(crate) expect: Option<RawExpect>,
    /// Refuse to start while a process that is not benchd's is on the GPU. Default: true.
    pub(crate) exclusive: Option<bool>,
    /// What is done about a process that comes to the GPU while the run goes on.
    pub(crate) stranger: Option<RawStranger>,
}

/// What is done about a process that comes to the GPU while the run goes on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStranger {
    /// How long it is waited for to leave before the run ends (exit code 3, to be gone on with by --resume); `0s`: not
    /// at all. What was measured beside it is measured again. Default: 30m.
    pub(crate) wait: Option<DurationText>,
}

/// What the machine should be. Another GPU, driver, CPU or less memory is refused; another OS or nvcc is a warning.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawExpect {
    /// Part of the GPU's name: `A100-SXM4-80GB`.
    pub(crate) gpu_name: Option<String>,
    /// Driver version, or its first parts: `570.86.10`, `570`.
    pub(crate) driver: Option<String>,
    /// Part of the distribution's name with its version: `Ubuntu 22.04`.
    pub(crate) os: Option<String>,
    /// Part of the CPU's name: `Xeon Platinum 8468`.
    pub(crate) cpu: Option<String>,
    /// CPU sockets.
    #[schemars(range(min = 1, max = 1024))]
    pub(crate) sockets: Option<u32>,
    /// Physical cores, all sockets together.
    #[schemars(range(min = 1, max = 65_536))]
    pub(crate) cores: Option<u32>,
    /// Memory of the host at least, GiB.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub(crate) memory_gib: Option<u64>,
    /// Version of nvcc, or its first parts; quoted where it reads as a number: `"12.8"`.
    pub(crate) nvcc: Option<String>,
}

/// What all requests have in common.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRequest {
    /// Sampling temperature, 0 to 2; 0 is greedy. Default: 0.
    #[schemars(extend("minimum" = 0, "maximum" = 2))]
    pub(crate) temperature: Option<f64>,
    /// Nucleus sampling, over 0 up to 1. Default: 1.
    #[schemars(extend("exclusiveMinimum" = 0, "maximum" = 1))]
    pub(crate) top_p: Option<f64>,
    /// Sampling seed, for servers that honour one. Default: none is sent.
    #[schemars(range(min = 0, max = 9_223_372_036_854_775_807_u64))]
    pub(crate) seed: Option<u64>,
    /// Limit for one request, from its send. Default: 300s.
    pub(crate) timeout: Option<DurationText>,
    /// Warm-up requests at the start of each lane, on top of the counted ones, 0 to 10000. Default: 3.
    #[schemars(range(min = 0, max = 10_000))]
    pub(crate) warmup: Option<u32>,
}

/// A model and its id for each kind of framework that serves it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawModel {
    #[schemars(description = hf_description())]
    pub(crate) hf: Option<String>,
    /// Tag, for `ollama`.
    pub(crate) ollama: Option<String>,
    /// Name, for `openai`.
    pub(crate) openai: Option<String>,
    /// Path of a `tokenizer.json`: prompt lengths are then exact without asking a server.
    pub(crate) tokenizer: Option<String>,
    /// Path of a GGUF file: imported into Ollama where the tag is absent; `{gguf}` in an `openai` command.
    pub(crate) gguf: Option<String>,
    /// How much a thinking model thinks; only for thinking models (others are refused by Ollama with it).
    pub(crate) reasoning_effort: Option<ReasoningEffort>,
    /// What the weights should be (`bf16`, `mxfp4`, `q4_k_m`); compared with what is really served.
    pub(crate) precision: Option<String>,
    /// More arguments for a server that serves this model, by the framework's name or by its kind.
    pub(crate) args: Option<IndexMap<String, Vec<String>>>,
    /// Frameworks that do not serve this model, by name or by kind, each with the reason; said before the run and in
    /// its journal.
    pub(crate) not_on: Option<IndexMap<String, String>>,
}

/// One configuration of a server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFramework {
    /// Its kind. Default: the framework's name, where that is a kind's name.
    pub(crate) kind: Option<FrameworkKind>,
    /// Version, as pinned: compared with what runs; needed by `benchd env`. Quote it where it reads as a number
    /// (`"0.15"`).
    pub(crate) version: Option<String>,
    #[schemars(description = venv_description())]
    pub(crate) venv: Option<String>,
    /// Path of the binary (`ollama`).
    pub(crate) binary: Option<String>,
    /// Program and arguments (`openai`), with `{host}`, `{port}`, `{model}`, `{gguf}` filled in. The program `benchd`
    /// is the running benchd itself.
    #[schemars(extend("minItems" = 1))]
    pub(crate) command: Option<Vec<String>>,
    /// How a `command`'s readiness is seen.
    pub(crate) ready: Option<RawReady>,
    /// Base URL of a server that someone else runs (`openai`), without `/v1`.
    pub(crate) url: Option<String>,
    /// IP address to bind. Default: 127.0.0.1.
    pub(crate) host: Option<String>,
    #[schemars(description = port_description(), range(min = 1, max = 65_535))]
    pub(crate) port: Option<u16>,
    /// More arguments of the server.
    pub(crate) args: Option<Vec<String>>,
    /// More environment of the server.
    pub(crate) env: Option<IndexMap<String, EnvText>>,
    /// Names of the scenarios that it runs. Default: all.
    #[schemars(extend("minItems" = 1, "uniqueItems" = true))]
    pub(crate) scenarios: Option<Vec<String>>,
    /// From launch to the first real answer, at the longest. Default: 20m.
    pub(crate) start_timeout: Option<DurationText>,
    /// From SIGTERM to SIGKILL. Default: 30s.
    pub(crate) stop_grace: Option<DurationText>,
    /// From the end of the last process to the return of the GPU memory, at the longest. Default: 60s.
    pub(crate) release_timeout: Option<DurationText>,
    /// How far above its baseline the GPU memory may stay, MiB (as nvidia-smi counts). Default: 64.
    #[schemars(range(min = 0, max = 1_048_576))]
    pub(crate) release_tolerance_mb: Option<u64>,
    /// How often a failed lane is tried again, 0 to 10. Default: 0.
    #[schemars(range(min = 0, max = 10))]
    pub(crate) retries: Option<u32>,
    /// `auto`: `benchd run` makes a missing venv or binary. `none`: it says which command makes it. Default: none.
    pub(crate) provision: Option<Provision>,
}

/// How a command's readiness is seen.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawReady {
    /// GET on this path answers 200 when the server is up. Default: /health.
    pub(crate) path: Option<String>,
}

/// What is measured.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawScenario {
    /// Its kind. Default: the scenario's name, where that is a kind's name.
    pub(crate) kind: Option<ScenarioKind>,
    /// Streams of the closed loop, one number or a list, 1 to 16384 (`concurrent`, where it must be given in a closed
    /// loop; `long_context` and `korean`, default 1).
    pub(crate) concurrency: Option<OneOrMany<MAX_CONCURRENCY>>,
    /// Prompt lengths in the model's own tokens, one number or a list (`single`, `concurrent`, `long_context`).
    pub(crate) input_tokens: Option<OneOrMany<MAX_TOKENS>>,
    /// Length of the answers in tokens: exact, but for `korean`, where it is the most.
    #[schemars(required, range(min = 1, max = 1_000_000))]
    pub(crate) output_tokens: Option<u32>,
    /// Requests of one pass in all, whatever the concurrency. Either this or `repeats`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) requests: Option<u32>,
    /// Requests of one pass for each stream: 10 at concurrency 8 are 80. Either this or `requests`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) repeats: Option<u32>,
    /// Passes of each cell, 1 to 1000; a rate has as many samples as passes. Default: 1.
    #[schemars(range(min = 1, max = 1000))]
    pub(crate) passes: Option<u32>,
    /// `identical`: one text throughout. `distinct`: texts of the same length that share no prefix, so that a prefix
    /// cache can't answer for the prefill. Default: distinct. Not for `prefix_cache`.
    pub(crate) prompts: Option<PromptMode>,
    /// Warm-up requests before each cell, 0 to 100000. Default: the larger of 3 and the concurrency.
    #[schemars(range(min = 0, max = 100_000))]
    pub(crate) warmup: Option<u32>,
    /// `reset`: the server's prefix cache is reset between cells where the framework can. `keep`: it is kept.
    /// Default: reset.
    pub(crate) cache: Option<CachePolicy>,
    /// When requests are sent: `closed` (each stream sends when its last request is answered), or in an open loop at
    /// a rate: `{ poisson: 4/s }`, `{ constant: 4/s }`, `{ gamma: { rate: 4/s, burstiness: 0.5 } }`. Default: closed.
    /// Open loops are for `concurrent` and `long_context`.
    pub(crate) arrival: Option<RawArrival>,
    /// Objectives: a request that meets all of them counts as good.
    pub(crate) slo: Option<RawSlo>,
    /// Length of the shared system prompt in tokens (`prefix_cache`).
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) system_tokens: Option<u32>,
    /// Length of each question in tokens (`prefix_cache`).
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(crate) question_tokens: Option<u32>,
    /// Types of prompt (`korean`); the plain name is the short form (about 128 tokens), `-long` the long one (about
    /// 512). Default: all eight.
    #[schemars(extend("minItems" = 1, "uniqueItems" = true))]
    pub(crate) prompt_types: Option<Vec<PromptType>>,
    /// Languages (`korean`). Default: both.
    #[schemars(extend("minItems" = 1, "uniqueItems" = true))]
    pub(crate) languages: Option<Vec<Language>>,
}

/// Objectives of a scenario.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub(crate) struct RawSlo {
    /// Longest time to the first token.
    pub(crate) ttft: Option<DurationText>,
    /// Longest time per output token.
    pub(crate) tpot: Option<DurationText>,
    /// Longest time to the end of the answer.
    pub(crate) latency: Option<DurationText>,
}

/// Whom to tell at the end.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNotify {
    /// Webhook address; a secret: `${BENCHD_WEBHOOK}`.
    #[schemars(required)]
    pub(crate) webhook: Option<EnvText>,
}

/// Questions with one checkable answer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawQuality {
    /// Path of your own questions, JSONL: `question` and `answer`, or an export of GSM8K, KMMLU or
    /// lm-evaluation-harness. Default: a hundred built-in ones, half of them Korean.
    pub(crate) file: Option<String>,
    /// Most tokens of an answer. Default: 64, and 512 for thinking models (`reasoning_effort`).
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) output_tokens: Option<u32>,
}

fn hf_description() -> String {
    let kinds = names(|kind| (kind.model_id_key() == ModelIdKey::Hf).then(|| format!("`{kind}`")));
    format!(
        "Hub id or folder, for {} (and `openai` where that is not given).",
        kinds.join(" and ")
    )
}

fn venv_description() -> String {
    let kinds = names(|kind| (kind.source_keys() == SourceKeys::Venv).then(|| format!("`{kind}`")));
    format!("Folder of the Python venv ({}).", kinds.join(", "))
}

fn port_description() -> String {
    let ports = names(|kind| Some(format!("{} for {kind}", kind.usual_port()?)));
    format!("Port, 1 to 65535. Default: {}.", ports.join(", "))
}
