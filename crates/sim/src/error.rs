//! Why the simulated server can't run.

use std::net::SocketAddr;
use std::time::Duration;

use super::faults::FaultError;

/// Why the simulated server can't run.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The command line can't be read.
    #[error("{0}")]
    Arguments(String),
    /// A fault can't be read.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// A number is outside its range.
    #[error("--{name} {value} is outside {min} to {max}")]
    Range {
        /// The flag, without its dashes.
        name: &'static str,
        /// What was given.
        value: f64,
        /// Least value.
        min: f64,
        /// Greatest value.
        max: f64,
    },
    /// A lone stream's step would take no time.
    #[error(
        "--stream-cost {cost:?} is more than a whole step of {step:?}\n  hint: lower it or --decode-rate"
    )]
    StreamCost {
        /// What each stream adds.
        cost: Duration,
        /// What a lone stream's step takes.
        step: Duration,
    },
    /// The address can't be had.
    #[error("can't listen on {addr}: {source}\n  hint: --port 0 takes a free port")]
    Listen {
        /// The address that was asked for.
        addr: SocketAddr,
        /// The system's answer.
        source: nix::Error,
    },
    /// No epoll, eventfd or signalfd.
    #[error("the kernel gives no epoll or eventfd: {0}\n  hint: raise the limit of open files (ulimit -n)")]
    Epoll(nix::Error),
    /// Waiting failed.
    #[error("waiting for events failed: {0}")]
    Wait(nix::Error),
    /// Something else of the system failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The state file of the fake GPU can't be written.
    #[error("can't say what GPU memory is held: {path}: {source}")]
    GpuState {
        /// The file of this process in the fake GPU's state.
        path: std::path::PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// `--gpu-bytes` without a place to write to.
    #[error(
        "--gpu-bytes needs the environment variable FAKE_NVML_STATE\n  hint: it names the fake NVML's state file"
    )]
    NoGpuState,
    /// A thread of the server ended by itself.
    #[error("a thread of the simulated server died")]
    Thread,
}
