//! What is known of a kind of framework before a server of it is set up: one value a kind, in the kind's file.

use std::time::Duration;

use super::{
    FrameworkError, Weights,
    adapter::{Adapter, Server},
    args::Env,
    counters::CounterNames,
    demand::Reservation,
    last_words::Says,
    load_log::LoadLog,
    setup::Setup,
};
use benchd_core::record::Precision;
use benchd_plan::{Framework, Model};

/// What is known of a kind of framework.
#[derive(Debug)]
pub struct Kind {
    /// Its name, as its makers write it.
    pub title: &'static str,
    /// The program that a venv must have for it; `None` for kinds that come from no venv.
    pub venv_program: Option<&'static str>,
    /// Where its models come from.
    pub models: ModelStore,
    /// Whether a framework of it reads the model's `gguf`.
    pub reads_gguf: fn(&Framework) -> bool,
    /// Whether it needs the driver's compute library (libcuda) where there is a GPU.
    pub needs_cuda: bool,
    /// Share of the GPUs' memory up to which it keeps a whole model on them, the KV cache left out; beyond it computes a
    /// part on the CPU. `None` for kinds that don't.
    pub whole_on_gpu_share: Option<f64>,
    /// The variable that says how many requests it works on at once, one where it is not set; `None` for kinds that
    /// batch all that come.
    pub parallel_variable: Option<&'static str>,
    /// The argument without which it serves no metrics.
    pub metrics_flag: Option<&'static str>,
    /// The argument that takes its CUDA graphs away: it then answers slower than it can.
    pub graphs_off: Option<&'static str>,
    /// Whether answers name the model as requests do.
    pub echoes_model: bool,
    /// Whether the plan's arguments start a framework of it without its prefix cache: a control for what the cache does.
    pub prefix_cache_disabled: fn(&Framework) -> bool,
    /// From launch to the first real answer, as an estimate assumes.
    pub(crate) start: Duration,
    /// Emptying its cache, as an estimate assumes.
    pub(crate) cache_reset: Duration,
    /// How it reserves GPU memory; `None` where that is no share of the device.
    pub(crate) reservation: Option<Reservation>,
    pub(crate) counters: CounterNames,
    /// Reads a line of its log for figures of the load.
    pub(crate) load_line: fn(&mut LoadLog, &str),
    /// What a line of its log says of its death, where that is known of the kind.
    pub(crate) death_line: fn(&str) -> Option<Says>,
    /// Looks for the files that a framework needs to serve a model.
    pub(crate) weights: fn(&Framework, &Model, Env<'_>) -> Weights,
    /// In which numbers a framework serves a model, by its settings and the model's files.
    pub(crate) precision: fn(&Framework, &Model, Env<'_>) -> Precision,
    pub(crate) adapter: fn(&Setup<'_>) -> Result<Box<dyn Adapter>, FrameworkError>,
    /// How a server of it shows itself that someone else runs (`url:`); `None` for kinds that can't be told.
    pub(crate) behind_url: Option<BehindUrl>,
}

/// How a server that someone else runs shows its kind.
#[derive(Debug)]
pub(crate) struct BehindUrl {
    /// A GET on one of these paths is answered so that the kind is told by it.
    pub(crate) paths: &'static [&'static str],
    /// Whether an answer's body is of this kind.
    pub(crate) is: fn(&str) -> bool,
    /// What is asked of it then, as of one that benchd launched.
    pub(crate) adapter: fn(&Setup<'_>, Server) -> Box<dyn Adapter>,
}

/// Where a kind's models come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelStore {
    /// The Hugging Face hub's cache, or a folder in the hub's form.
    Hub,
    /// The server's own store, filled by its own pull, or from a file of the plan's.
    Own,
    /// A file of the plan's.
    File,
}
