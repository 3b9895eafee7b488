//! The simulated inference server: the project's ground truth for timing, and the server that misbehaves on demand.
//!
//! Two threads. The *front* (`front`) accepts, reads and parses, and answers what needs no engine. The *emitter*
//! (`metronome`) holds the pure scheduling model ([`engine`]) and writes each chunk at its due time, with the
//! monotonic time of its emission inside. Each fault that a test needs is a flag, a request header, or a control
//! call (see [`KINDS`]).
//!
//! ```text
//!   socket -> front: read, parse, tokenise, script ----orders----> emitter: engine -> due -> write -> socket
//!                ^----------------------------------finished-----------/
//! ```
//!
//! Own endpoints: `GET /sim/stats` (how late events went out; `?reset=1` forgets), `POST /sim/fault`
//! `{"faults": ["cut@3:5"], "relative": true}`, `GET` and `DELETE /sim/fault`. The header `x-sim-fault: cut:3; crlf`
//! makes faults for one request.

mod api;
mod args;
mod cache;
mod chat;
mod clock;
mod dialect;
pub mod engine;
mod faults;
mod front;
mod gpu_hook;
mod http;
mod mailbox;
mod metrics;
mod metronome;
mod native;
mod process_faults;
mod stream;
mod stream_faults;
mod text;
pub mod tokenizer;
mod wire;

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

pub use args::{
    Args, Dialect, Mode, ReasoningField, ReleaseDelay, StartStyle, Switch, TextKind, Truncate, parse_duration,
};
pub use cache::PrefixCache;
pub use clock::monotonic_ns;
pub use faults::{Crash, Fault, FaultError, Flood, Hold, KINDS, Kind};

use api::Api;
use clock::nanos;
use engine::Engine;
use front::Front;
use mailbox::Mailbox;
use metrics::Metrics;
use metronome::{Metronome, Order};

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
        /// The flag.
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
        /// The address.
        addr: SocketAddr,
        /// Why.
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
        /// The file.
        path: std::path::PathBuf,
        /// Why.
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

/// A simulated server in this process. It stops when dropped.
#[derive(Debug)]
pub struct Server {
    addr: SocketAddr,
    metrics: Arc<Metrics>,
    orders: Arc<Mailbox<Order>>,
    stop: Arc<Mailbox<()>>,
    threads: Vec<JoinHandle<Result<(), SimError>>>,
}

impl Server {
    /// Binds, starts both threads, and returns; process-level faults, the GPU hook and the start's delay with
    /// `refuse` are [`run`]'s.
    ///
    /// # Errors
    /// Arguments out of range, or the system refuses a socket, an epoll or a thread.
    pub fn start(args: &Args) -> Result<Self, SimError> {
        let settings = args.engine()?;
        let faults = args.faults()?;
        raise_open_files();
        let listener = front::listen(SocketAddr::new(args.host, args.port))?;
        let addr = listener.local_addr()?;
        let (orders, finished, stop) = (
            Arc::new(Mailbox::new()?),
            Arc::new(Mailbox::new()?),
            Arc::new(Mailbox::new()?),
        );
        let metrics = Arc::new(Metrics::new());
        let engine = Engine::new(settings);
        let ready_at_ns = match args.start_style {
            StartStyle::Refuse => 0,
            StartStyle::Unavailable | StartStyle::EarlyOk => {
                monotonic_ns().saturating_add(nanos(args.start_delay))
            }
        };
        let api = Api::new(
            args,
            faults,
            Arc::clone(&metrics),
            engine.cache(),
            settings.cache_blocks,
            ready_at_ns,
        );
        let front = Front::new(
            listener,
            api,
            Arc::clone(&orders),
            Arc::clone(&finished),
            Arc::clone(&stop),
            args.keep_alive,
        )?;
        let emitter = Metronome {
            orders: Arc::clone(&orders),
            finished,
            metrics: Arc::clone(&metrics),
            engine,
            spin_ns: nanos(args.spin),
        };
        let mut server = Self {
            addr,
            metrics,
            orders,
            stop,
            threads: Vec::new(),
        };
        let spawn = |name: &str, run: Box<dyn FnOnce() -> Result<(), SimError> + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run)
        };
        server
            .threads
            .push(spawn("sim-emitter", Box::new(|| emitter.run()))?);
        server.threads.push(spawn("sim-front", Box::new(|| front.run()))?);
        Ok(server)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How late events went out, as on `GET /sim/stats`; forgets what was counted if `reset`.
    pub fn stats(&self, reset: bool) -> serde_json::Value {
        self.metrics.stats(reset)
    }

    /// Stops both threads; open connections are closed.
    ///
    /// # Errors
    /// A thread had failed before.
    pub fn stop(mut self) -> Result<(), SimError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), SimError> {
        self.stop.put(());
        self.orders.put(Order::Stop);
        // All of them are waited for, whatever the first one says.
        let ends: Vec<_> = self
            .threads
            .drain(..)
            .map(|thread| thread.join().unwrap_or(Err(SimError::Thread)))
            .collect();
        ends.into_iter().collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever wants to know how the threads ended calls `stop`.
        let _ = self.end();
    }
}

/// Raises the limit of open files as far as this user may.
fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // Best effort: with fewer files fewer connections are accepted at a time.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// `benchd sim`: serves until TERM or INT, then returns `Ok`.
///
/// To be called before the process has other threads: it blocks the two signals for the whole process.
///
/// # Errors
/// The server can't start, or one of its threads failed.
pub fn run(args: &Args) -> Result<(), SimError> {
    if args.faults.iter().any(|f| f == "list") {
        let mut out = std::io::stdout().lock();
        for (form, what) in KINDS {
            writeln!(out, "{form:<28} {what}")?;
        }
        return Ok(());
    }
    if let Some(parent) = args.end_with {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| SimError::Io(e.into()))?;
        // The signal is not sent for an end that came before it was asked for.
        if nix::unistd::getppid().as_raw() != parent {
            return Ok(());
        }
    }
    if let Some(role) = &args.as_child {
        return process_faults::run_child(role, args);
    }
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGINT);
    mask.thread_block().map_err(SimError::Wait)?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).map_err(SimError::Epoll)?;
    let faults = args.faults()?;
    args.engine()?;

    let gpu = gpu_hook::hold(args)?;
    let at_start: Vec<&Kind> = faults.iter().filter(|f| f.at_start()).map(|f| &f.kind).collect();
    process_faults::log_start(&args.model);
    for kind in &at_start {
        process_faults::die_if(kind);
    }
    process_faults::spawn_children(at_start.iter().copied())?;
    let ignores_term = at_start.contains(&&Kind::IgnoreTerm);
    let server = if at_start.contains(&&Kind::ChildListens) {
        process_faults::spawn_listener(args)?;
        None
    } else {
        if args.start_style == StartStyle::Refuse && !args.start_delay.is_zero() {
            let until = monotonic_ns().saturating_add(nanos(args.start_delay));
            if process_faults::term_before(&signals, until, ignores_term)? {
                gpu_hook::release(gpu, args)?;
                return Ok(());
            }
        }
        let server = Server::start(args)?;
        let line = serde_json::json!({"listening": server.addr().to_string(), "pid": std::process::id()});
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
        Some(server)
    };
    process_faults::flood(at_start.iter().copied())?;
    process_faults::term_before(&signals, u64::MAX, ignores_term)?;
    std::thread::sleep(args.stop_delay);
    if let Some(server) = server {
        server.stop()?;
    }
    gpu_hook::release(gpu, args)
}
