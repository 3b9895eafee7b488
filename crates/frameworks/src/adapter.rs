//! What the daemon asks of one framework serving one model.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde_json::Value;

use super::{ChatRequest, CompileLine, Facts, FrameworkError, Launch, metrics};
use benchd_core::record::{CacheReset, Flag, FlagKind, GpuDevice, HttpCall, Step};

/// A GPU that the server may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisibleGpu {
    /// NVML index, which is CUDA's order under `CUDA_DEVICE_ORDER=PCI_BUS_ID`.
    pub index: u32,
    /// `GPU-…` or `MIG-…`.
    pub uuid: String,
}

impl From<&GpuDevice> for VisibleGpu {
    fn from(device: &GpuDevice) -> Self {
        Self {
            index: device.index,
            uuid: device.uuid.clone(),
        }
    }
}

/// What an adapter needs to know of the run beside the plan's framework and model.
#[derive(Debug, Clone)]
pub struct Context {
    /// Longest prompt of the lane plus its output, tokens, without the chat template.
    pub longest_prompt_tokens: u32,
    /// The GPUs that the server may see, in the plan's order; none at all with `gpu: none`.
    pub gpus: Vec<VisibleGpu>,
    /// Most streams at a time of the lane's cells.
    pub max_concurrency: u32,
    /// Folder of the run's logs.
    pub work_dir: PathBuf,
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Something on disk that a launch needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Where it must be.
    pub path: PathBuf,
    /// What it is, for people.
    pub what: String,
    /// Whether it must be an executable file.
    pub executable: bool,
    /// What to do where it is missing.
    pub remedy: String,
}

/// A ready check: the server is up when the call answers 200.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpProbe {
    /// The call.
    pub call: HttpCall,
    /// Pause between two probes.
    pub interval: Duration,
    /// Limit of one probe.
    pub timeout: Duration,
}

impl HttpProbe {
    pub(crate) fn get(path: &str, interval: Duration, timeout: Duration) -> Self {
        let call = HttpCall::get(path);
        Self {
            call,
            interval,
            timeout,
        }
    }
}

/// What the plan makes of a server, alike for all kinds.
#[derive(Debug)]
pub struct Server {
    pub(crate) endpoint: Endpoint,
    /// The name under which it serves the model.
    pub(crate) model: String,
    pub(crate) launch: Option<Launch>,
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) notes: Vec<String>,
    pub(crate) compile_caches: Vec<PathBuf>,
    /// Longest prompt plus output of the lane.
    pub(crate) longest_tokens: u32,
}

impl Server {
    /// The facts, flagged where they do not fit the plan.
    pub(crate) fn judge(&self, mut facts: Facts) -> Facts {
        facts.compare(self.longest_tokens);
        if self.launch.is_none() {
            let Endpoint { host, port } = &self.endpoint;
            let seen = format!("{host}:{port} was running already");
            facts.flags.push(Flag::new(FlagKind::NotControlled, seen));
        }
        facts
    }
}

/// All that is known of one framework serving one model.
pub trait Adapter: Send + Sync {
    /// What the plan makes of it.
    fn server(&self) -> &Server;

    /// The `model` field of requests, expected in answers.
    fn served_model(&self) -> &str {
        &self.server().model
    }

    /// Where the server listens.
    fn endpoint(&self) -> &Endpoint {
        &self.server().endpoint
    }

    /// The command; `None` for a server that someone else runs.
    fn launch(&self) -> Option<Launch> {
        self.server().launch.clone()
    }

    /// What must be on disk before the launch.
    fn requirements(&self) -> Vec<Requirement> {
        self.server().requirements.clone()
    }

    /// The ready check.
    fn health(&self) -> HttpProbe;

    /// What to do between the ready check and the first completion, in order. Ollama's may read a whole GGUF
    /// file to name it by its SHA-256: keep it off threads that must not wait.
    ///
    /// # Errors
    /// Where that file can't be read.
    fn prepare_calls(&self) -> Result<Vec<Step>, FrameworkError> {
        Ok(Vec::new())
    }

    /// Calls whose answers [`Self::parse_facts`] reads. Each may fail: facts are not needed to measure.
    fn facts_calls(&self) -> Vec<HttpCall>;

    /// What the server says of itself. `answers` holds, for each of [`Self::facts_calls`] in order, the body of
    /// its answer, or `None` where that was not a 200.
    fn parse_facts(&self, answers: &[Option<String>]) -> Facts;

    /// Path of the chat endpoint.
    fn chat_path(&self) -> &str {
        "/v1/chat/completions"
    }

    /// The body of a streaming chat request, usage included.
    fn request_body(&self, request: &ChatRequest<'_>) -> Value;

    /// Names of the delta's reasoning field: the first that is present wins. Never both: vLLM sends the same
    /// text under two names.
    fn reasoning_fields(&self) -> &'static [&'static str] {
        &["reasoning", "reasoning_content"]
    }

    /// How the prefix cache is emptied.
    fn cache_reset(&self) -> CacheReset;

    /// Path of the server's Prometheus text, where it has one.
    fn metrics_path(&self) -> Option<&str> {
        None
    }

    /// Names of the counters worth keeping in that text.
    fn counters(&self) -> &'static [&'static str] {
        &[]
    }

    /// The counters worth keeping in that text, summed over their labels.
    fn parse_counters(&self, text: &str) -> BTreeMap<String, f64> {
        metrics::sums(text, self.counters())
    }

    /// Counters that the server's log holds where it has no Prometheus text: sums over these lines of its output.
    fn counters_of_log(&self, _lines: &str) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    /// Whether [`Self::counters_of_log`] finds anything in a log of this kind.
    fn counts_in_log(&self) -> bool {
        false
    }

    /// Folders in which it keeps what it compiled, for its next start; none where none is known of the kind.
    fn compile_caches(&self) -> Vec<PathBuf> {
        self.server().compile_caches.clone()
    }

    /// What a line of its output says of that cache.
    fn compile_line(&self, _line: &str) -> Option<CompileLine> {
        None
    }

    /// What in this configuration decides results before any framework does (parallel requests, memory that
    /// is reserved by a fraction): said beside the figures.
    fn notes(&self) -> Vec<String> {
        self.server().notes.clone()
    }
}
