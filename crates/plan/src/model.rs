//! The checked plan. A value of these types is valid by construction: names can't leave their folder,
//! lists that must not be empty are not, counts that must be positive are.

use std::{collections::BTreeMap, num::NonZeroU32, path::PathBuf, time::Duration};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{FrameworkKind, Hypotheses, kind::ModelIdKey};

/// A whole plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The plan's name, a part of the run id.
    pub name: String,
    /// The machine.
    pub host: Host,
    /// What all requests have in common.
    pub request: RequestSettings,
    /// Models by name, in the plan's order.
    pub models: IndexMap<String, Model>,
    /// Frameworks by name, in the plan's order.
    pub frameworks: IndexMap<String, Framework>,
    /// Scenarios by name, in the plan's order.
    pub scenarios: IndexMap<String, Scenario>,
    /// Hypotheses to judge.
    pub hypotheses: Hypotheses,
    /// Order of lanes.
    pub order: Order,
    /// Rounds of the whole plan.
    pub repeats: NonZeroU32,
    /// Questions that every lane is asked.
    pub quality: Option<Quality>,
    /// Whom to tell.
    pub notify: Option<Notify>,
}

/// Which GPU the servers see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuSelection {
    /// No GPU: no NVML library is needed and none is opened.
    None,
    /// Devices in the order given (tensor parallel over several).
    Devices(Vec<DeviceSelector>),
}

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceSelector {
    /// NVML index.
    Index(u32),
    /// `GPU-…` or `MIG-…`.
    Uuid(String),
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Host {
    /// Which GPU the servers see.
    pub gpu: GpuSelection,
    /// What the machine should be.
    pub expect: Expect,
    /// Refuse to start while a stranger is on the GPU.
    pub exclusive: bool,
    /// How long a stranger that comes in mid-run is waited for to leave; of no use where the GPU is shared.
    pub stranger_wait: Duration,
}

/// What the machine should be; what is left out may be anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expect {
    /// Part of the GPU's name.
    pub gpu_name: Option<String>,
    /// Driver version, or its first parts.
    pub driver: Option<String>,
    /// Part of the distribution's name with its version.
    pub os: Option<String>,
    /// Part of the CPU model's name.
    pub cpu: Option<String>,
    /// CPU sockets.
    pub sockets: Option<u32>,
    /// Physical cores, all sockets together.
    pub cores: Option<u32>,
    /// Memory of the host at least, GiB.
    pub memory_gib: Option<u64>,
    /// Version of nvcc, or its first parts.
    pub nvcc: Option<String>,
}

/// What all requests have in common.
#[derive(Debug, Clone)]
pub struct RequestSettings {
    /// Sampling temperature; 0 is greedy.
    pub temperature: f64,
    /// Nucleus sampling.
    pub top_p: f64,
    /// Sampling seed, where servers honour one.
    pub seed: Option<u64>,
    /// Limit for one request, from its send.
    pub timeout: Duration,
    /// Warm-up requests at the start of a lane.
    pub warmup: u32,
}

/// Thinking models' effort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningEffort {
    /// No thinking.
    None,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
}

/// A model and its id for each kind of framework.
#[derive(Debug, Clone)]
pub struct Model {
    /// The model's name in the plan.
    pub name: String,
    /// Hub id or folder, for `sglang` and `vllm`.
    pub hf: Option<String>,
    /// Tag, for `ollama`.
    pub ollama: Option<String>,
    /// Name, for `openai`.
    pub openai: Option<String>,
    /// A `tokenizer.json`, for exact prompt lengths without asking a server.
    pub tokenizer: Option<PathBuf>,
    /// A GGUF file, imported into Ollama where the tag is absent, and `{gguf}` in an `openai` command.
    pub gguf: Option<PathBuf>,
    /// Thinking models only.
    pub reasoning_effort: Option<ReasoningEffort>,
    /// What the weights should be: `bf16`, `mxfp4`, `q4_k_m`; compared with what is served.
    pub precision: Option<String>,
    /// More arguments for a framework, by the framework's name in the plan or by its kind.
    pub args: BTreeMap<String, Vec<String>>,
    /// Frameworks that do not serve it, by name or kind, and why.
    pub not_on: BTreeMap<String, String>,
}

impl Model {
    /// Why a framework does not serve this model, where the plan leaves it out.
    pub fn left_out(&self, framework: &Framework) -> Option<&str> {
        let names = [framework.name.as_str(), framework.kind.as_str()];
        let reason = names.iter().find_map(|name| self.not_on.get(*name));
        reason.map(String::as_str)
    }

    /// The id under which a framework of `kind` serves this model.
    pub fn id_for(&self, kind: FrameworkKind) -> Option<&str> {
        match kind.model_id_key() {
            ModelIdKey::Hf => self.hf.as_deref(),
            ModelIdKey::Ollama => self.ollama.as_deref(),
            ModelIdKey::Openai => self.openai.as_deref().or(self.hf.as_deref()),
        }
    }
}

/// How a framework's server comes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A Python venv (its folder).
    Venv(PathBuf),
    /// A binary.
    Binary(PathBuf),
    /// A command with `{host}`, `{port}`, `{model}`, `{gguf}` filled in; its ready check's path.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// GET on this path answers 200 when the server is up.
        ready_path: String,
    },
    /// A server that someone else runs; base URL without a trailing slash.
    Url(String),
}

/// Whether `benchd run` makes a missing environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provision {
    /// Say which command makes it.
    None,
    /// Make it.
    Auto,
}

/// One configuration of a server to test.
#[derive(Debug, Clone)]
pub struct Framework {
    /// Its name in the plan.
    pub name: String,
    /// Its kind.
    pub kind: FrameworkKind,
    /// Its version, as pinned by the plan.
    pub version: Option<String>,
    /// How its server comes to be.
    pub source: Source,
    /// Address to bind; loopback unless the plan says otherwise.
    pub host: String,
    /// Port. With `url:` it is the URL's.
    pub port: u16,
    /// More arguments.
    pub args: Vec<String>,
    /// More environment.
    pub env: BTreeMap<String, String>,
    /// Scenarios that it runs, by name; all where `None`.
    pub scenarios: Option<Vec<String>>,
    /// From launch to a real answer, at the longest.
    pub start_timeout: Duration,
    /// From TERM to KILL.
    pub stop_grace: Duration,
    /// From the last process's end to the GPU memory's return, at the longest.
    pub release_timeout: Duration,
    /// How far above the baseline the GPU memory may stay, bytes.
    pub release_tolerance_bytes: u64,
    /// How often a failed lane is tried again.
    pub retries: u32,
    /// Whether `benchd run` makes a missing environment.
    pub provision: Provision,
}

/// The kinds of scenario, in the order of the design document.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ScenarioKind {
    /// One request at a time.
    Single,
    /// Load at several concurrencies.
    Concurrent,
    /// Long prompts.
    LongContext,
    /// One system prompt shared by many questions.
    PrefixCache,
    /// Korean against English.
    Korean,
}

impl ScenarioKind {
    /// The name used in plans and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Concurrent => "concurrent",
            Self::LongContext => "long_context",
            Self::PrefixCache => "prefix_cache",
            Self::Korean => "korean",
        }
    }
}

impl std::fmt::Display for ScenarioKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How the texts of a cell relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PromptMode {
    /// One text throughout.
    Identical,
    /// Texts of the same length that share no prefix.
    Distinct,
}

/// What happens to the server's cache between cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CachePolicy {
    /// Reset where the framework can.
    Reset,
    /// Kept.
    Keep,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arrival {
    /// A fixed number of streams, each sending its next request when the last is answered.
    Closed,
    /// Equal gaps, at this rate per second.
    Constant {
        /// Requests per second.
        rate_per_s: f64,
    },
    /// Exponential gaps.
    Poisson {
        /// Requests per second.
        rate_per_s: f64,
    },
    /// Gamma-distributed gaps; burstiness (the shape) 1 is Poisson, below 1 is burstier.
    Gamma {
        /// Requests per second.
        rate_per_s: f64,
        /// Shape of the gamma distribution, over 0.
        burstiness: f64,
    },
}

/// Service-level objectives; a request that meets all of those given counts as good.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Slo {
    /// Longest time to first token.
    pub ttft: Option<Duration>,
    /// Longest time per output token.
    pub tpot: Option<Duration>,
    /// Longest end-to-end latency.
    pub latency: Option<Duration>,
}

/// The prompt types of the Korean scenario. The plain name is the short form (about 128 tokens), `-long` the
/// long one (about 512).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum PromptType {
    /// A question.
    Question,
    /// A question with a long setting.
    QuestionLong,
    /// A short passage to sum up.
    Summary,
    /// A long passage to sum up.
    SummaryLong,
    /// A short text to translate.
    Translation,
    /// A long text to translate.
    TranslationLong,
    /// An essay.
    Essay,
    /// An essay after a long brief.
    EssayLong,
}

impl PromptType {
    /// All types, in the order in which they run.
    pub const ALL: [Self; 8] = [
        Self::Question,
        Self::QuestionLong,
        Self::Summary,
        Self::SummaryLong,
        Self::Translation,
        Self::TranslationLong,
        Self::Essay,
        Self::EssayLong,
    ];

    /// The name used in plans and cells.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Question => "question",
            Self::QuestionLong => "question-long",
            Self::Summary => "summary",
            Self::SummaryLong => "summary-long",
            Self::Translation => "translation",
            Self::TranslationLong => "translation-long",
            Self::Essay => "essay",
            Self::EssayLong => "essay-long",
        }
    }
}

/// The languages of the Korean scenario.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Korean.
    Ko,
    /// English.
    En,
}

impl Language {
    /// The name used in cells.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ko => "ko",
            Self::En => "en",
        }
    }
}

/// A scenario's settings. Fields that a kind does not use hold their neutral value (`[1]`, `None`).
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name in the plan; the first part of its cells' names.
    pub name: String,
    /// Its kind.
    pub kind: ScenarioKind,
    /// Streams of the closed loop, in the plan's order.
    pub concurrency: Vec<NonZeroU32>,
    /// Prompt lengths in the model's tokens (`single`, `concurrent`, `long_context`).
    pub input_tokens: Vec<NonZeroU32>,
    /// Length of the shared system prompt (`prefix_cache`).
    pub system_tokens: Option<NonZeroU32>,
    /// Length of each question (`prefix_cache`).
    pub question_tokens: Option<NonZeroU32>,
    /// Output length: exact, but for `korean`, where it is the most.
    pub output_tokens: NonZeroU32,
    /// Requests in one pass of a cell at concurrency `c`.
    pub count: RequestCount,
    /// Passes of each cell.
    pub passes: NonZeroU32,
    /// How the texts relate.
    pub prompts: PromptMode,
    /// Warm-up requests before each cell; `None`: max(3, concurrency).
    pub warmup: Option<u32>,
    /// What happens to the cache between cells.
    pub cache: CachePolicy,
    /// When requests are sent.
    pub arrival: Arrival,
    /// Objectives for goodput.
    pub slo: Option<Slo>,
    /// Prompt types (`korean`).
    pub prompt_types: Vec<PromptType>,
    /// Languages (`korean`).
    pub languages: Vec<Language>,
}

/// How many requests one pass has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestCount {
    /// This many in all, whatever the concurrency (`requests: 100`).
    Total(NonZeroU32),
    /// This many for each stream (`repeats: 10`).
    PerStream(NonZeroU32),
}

/// What a cell sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellInput {
    /// Prompts of exactly this many tokens.
    Exact {
        /// Tokens without the chat template.
        input_tokens: u32,
    },
    /// A system prompt shared within a pass, and one question a request.
    SharedPrefix {
        /// Tokens of the system prompt.
        system_tokens: u32,
        /// Tokens of the question.
        question_tokens: u32,
    },
    /// A written text of the Korean scenario.
    Written {
        /// Which.
        prompt_type: PromptType,
        /// In which language.
        language: Language,
    },
}

/// One setting inside a scenario: the unit of measuring, of resuming and of reporting.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// `concurrent/c16`, `single/in512`, `long_context/c8/in4096`, `prefix_cache/sys2048`,
    /// `korean/c8/essay/ko`.
    pub id: String,
    /// The scenario's name in the plan.
    pub scenario: String,
    /// The scenario's kind.
    pub kind: ScenarioKind,
    /// Streams.
    pub concurrency: u32,
    /// What it sends.
    pub input: CellInput,
    /// Output length (exact, or the most for `Written`).
    pub output_tokens: u32,
    /// Requests of one pass.
    pub requests_per_pass: u32,
    /// Passes.
    pub passes: u32,
    /// How the texts relate.
    pub prompts: PromptMode,
    /// Warm-up requests before the cell.
    pub warmup: u32,
    /// What happens to the cache before it.
    pub cache: CachePolicy,
    /// When requests are sent.
    pub arrival: Arrival,
    /// Objectives for goodput.
    pub slo: Option<Slo>,
}

/// One framework serving one model: one server lifetime.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Its name.
    pub id: benchd_core::record::LaneId,
    /// Its cells, in order.
    pub cells: Vec<Cell>,
}

/// Order of lanes over the rounds of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// As written: models outside, frameworks inside; the same in every round.
    Fixed,
    /// Each round starts with the next framework.
    Rotate,
    /// Every other round runs backwards (A B C, C B A).
    Interleave,
}

/// Answers to built-in questions are a word, a code or a number.
const ANSWER_TOKENS: NonZeroU32 = NonZeroU32::new(64).expect("not 0");
/// A thinking model thinks before it says the same.
const THOUGHTFUL_ANSWER_TOKENS: NonZeroU32 = NonZeroU32::new(512).expect("not 0");

/// Questions with one checkable answer, asked of every lane outside of what is timed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quality {
    /// The plan's own questions instead of the built-in ones.
    pub file: Option<PathBuf>,
    /// Most tokens of an answer, where the plan says.
    pub output_tokens: Option<NonZeroU32>,
}

impl Quality {
    /// Most tokens of an answer of `model`.
    pub fn answer_tokens(&self, model: &Model) -> u32 {
        let thinks = model
            .reasoning_effort
            .is_some_and(|effort| effort != ReasoningEffort::None);
        let default = if thinks {
            THOUGHTFUL_ANSWER_TOKENS
        } else {
            ANSWER_TOKENS
        };
        self.output_tokens.unwrap_or(default).get()
    }
}

/// Whom to tell at the end.
#[derive(Clone)]
pub struct Notify {
    /// Webhook address; a secret, never shown.
    pub webhook: String,
}

impl std::fmt::Debug for Notify {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Notify { webhook: <secret> }")
    }
}
