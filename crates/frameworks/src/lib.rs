//! What is known of each framework, one file each: its command line, environment, ready check, preload, cache
//! reset and the proof of it, request fields that it honours, facts that it tells, quirks.
//!
//! All of it is plain data and pure functions; the server room makes the calls. The only thing read from disk
//! is a model's configuration (see `config`). A new framework is one file here and one line in [`adapter`].

mod compiled;
mod config;
mod demand;
mod error;
mod facts;
mod given;
mod launch;
mod loading;
mod metrics;
mod ollama;
mod openai;
mod own;
mod request;
mod sglang;
#[cfg(test)]
mod testing;
mod vllm;
mod weights;

use std::{collections::BTreeMap, path::PathBuf, process::ExitStatus, time::Duration};

use serde_json::Value;

pub use compiled::CompileLine;
pub use config::looks_like_folder;
pub use demand::{Demand, demand};
pub use error::FrameworkError;
pub use facts::{Facts, KV_CAPACITY, same_precision};
pub use launch::{Launch, redacted_env};
pub use loading::load_figures;
pub use metrics::parse_metrics;
pub use own::{OwnFigures, own_figures};
pub use request::ChatRequest;
pub use weights::{Absent, Found, Weights, revision, weights};

use benchd_core::{
    record::{CacheReset, GpuDevice, HttpCall, StreamShape},
    record::{EndMarker, Step},
};
use benchd_plan::{Framework, FrameworkKind, Model};
use given::Given;

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

/// What is known of a kind beyond its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quirks {
    /// Whether a fixed output length can be had; where not, prompts must run past the cap.
    pub exact_output: bool,
    /// Whether usage tells the cached part of the prompt (`prompt_tokens_details.cached_tokens`). Servers leave
    /// the field out at 0, so where this holds an absent field means 0.
    pub cached_tokens: bool,
    /// Whether a prompt that is too long is cut with nothing but a line in the log.
    pub truncates_silently: bool,
    /// Whether the ready check costs the server work: never probe while measuring.
    pub health_costs: bool,
}

/// All that is known of one framework serving one model.
pub trait Adapter: Send + Sync {
    /// The kind.
    fn kind(&self) -> FrameworkKind;

    /// The `model` field of requests, expected in answers.
    fn served_model(&self) -> &str;

    /// Where the server listens.
    fn endpoint(&self) -> &Endpoint;

    /// The command; `None` for a server that someone else runs.
    fn launch(&self) -> Option<Launch>;

    /// What must be on disk before the launch.
    fn requirements(&self) -> Vec<Requirement>;

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

    /// What is known of the kind's stream; the readiness completion replaces it by what this server showed.
    fn stream_shape(&self) -> StreamShape {
        StreamShape {
            usage: true,
            end: EndMarker::Done,
        }
    }

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

    /// The counters worth keeping in a Prometheus text, summed over their labels.
    fn parse_counters(&self, _text: &str) -> BTreeMap<String, f64> {
        BTreeMap::new()
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
        Vec::new()
    }

    /// What a line of its output says of that cache.
    fn compile_line(&self, _line: &str) -> Option<CompileLine> {
        None
    }

    /// Whether this is a clean end after benchd's TERM.
    fn clean_exit(&self, status: ExitStatus) -> bool {
        ended_by_term(status)
    }

    /// Further things known of the kind.
    fn quirks(&self) -> Quirks;

    /// What in this configuration decides results before any framework does (parallel requests, memory that
    /// is reserved by a fraction): said beside the figures.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Everything that is known of `framework` serving `model`.
///
/// # Errors
/// Where the plan asks for what the kind can't do, or gives a setting that benchd sets itself.
pub fn adapter(
    framework: &Framework,
    model: &Model,
    context: &Context,
) -> Result<Box<dyn Adapter>, FrameworkError> {
    build(&Given {
        framework,
        model,
        context,
        inherited: &|name| std::env::var(name).ok(),
    })
}

/// Whether the plan's arguments start this server without its prefix cache: a control for what the cache does.
pub fn prefix_cache_disabled(framework: &Framework) -> bool {
    let flag = match framework.kind {
        FrameworkKind::Sglang => sglang::WITHOUT_PREFIX_CACHE,
        FrameworkKind::Vllm => vllm::WITHOUT_PREFIX_CACHE,
        FrameworkKind::Ollama | FrameworkKind::Openai => return false,
    };
    framework.args.iter().any(|arg| arg == flag)
}

fn build(given: &Given<'_>) -> Result<Box<dyn Adapter>, FrameworkError> {
    Ok(match given.framework.kind {
        FrameworkKind::Sglang => Box::new(sglang::Sglang::new(given)?),
        FrameworkKind::Vllm => Box::new(vllm::Vllm::new(given)?),
        FrameworkKind::Ollama => Box::new(ollama::Ollama::new(given)?),
        FrameworkKind::Openai => Box::new(openai::Openai::new(given)?),
    })
}

/// Exit 0, or an end by TERM itself, told as a signal or as a shell's 143.
fn ended_by_term(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt;
    matches!(status.code(), Some(0 | 143)) || status.signal() == Some(libc::SIGTERM)
}
