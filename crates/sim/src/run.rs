//! `benchd sim` from its start to its end: process-level faults, the GPU hook, signals.

use std::io::Write as _;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::args::{Args, StartStyle};
use super::clock::{monotonic_ns, nanos};
use super::error::SimError;
use super::faults::{KINDS, Kind};
use super::server::Server;
use super::worker::Worker;
use super::{children, gpu_hook, process_faults};

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
        return run_child(role, args);
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
    children::spawn(at_start.iter().copied())?;
    let ignores_term = at_start.contains(&&Kind::IgnoreTerm);
    let mut worker = None;
    let server = if at_start.contains(&&Kind::ChildListens) {
        children::spawn_listener()?;
        None
    } else {
        if args.start_style == StartStyle::Refuse && !args.start_delay.is_zero() {
            let until = monotonic_ns().saturating_add(nanos(args.start_delay));
            if process_faults::term_before(&signals, until, ignores_term)? {
                gpu_hook::release(gpu, args)?;
                return Ok(());
            }
        }
        let then = faults.iter().find_map(|fault| match fault.kind {
            Kind::Engine(then) => Some(then),
            _ => None,
        });
        let started = then.map(|_| Worker::start()).transpose()?;
        let server = Server::start_with(args, started.clone())?;
        if let (Some(worker), Some(then)) = (&started, then) {
            worker.watch(then, args.dialect, server.orders())?;
        }
        worker = started;
        let line = serde_json::json!({"listening": server.addr().to_string(), "pid": std::process::id()});
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()?;
        Some(server)
    };
    process_faults::flood(at_start.iter().copied())?;
    process_faults::term_before(&signals, u64::MAX, ignores_term)?;
    if let Some(worker) = worker {
        worker.leave();
    }
    std::thread::sleep(args.stop_delay);
    if let Some(server) = server {
        server.stop()?;
    }
    gpu_hook::release(gpu, args)
}

/// Runs as a helper process of a fault or of the GPU hook.
fn run_child(role: &str, args: &Args) -> Result<(), SimError> {
    // The server blocks TERM to wait for it, and a child inherits that.
    SigSet::all().thread_unblock().map_err(SimError::Wait)?;
    match role {
        children::LISTENER => {
            children::own_session()?;
            let mut args = args.clone();
            args.as_child = None;
            args.faults.retain(|f| f != "child-listens");
            run(&args)
        }
        gpu_hook::RELEASER => gpu_hook::release_as_child(),
        role => children::run(role),
    }
}
