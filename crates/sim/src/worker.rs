//! The process in which a front end is said to compute, and what becomes of the front end once it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::args::Dialect;
use super::children;
use super::emitter::Order;
use super::error::SimError;
use super::faults::FrontEnd;
use super::mailbox::Mailbox;
use super::process_faults::tell;

/// The worker process. It does nothing; the engine counts as dead from its end on, whoever ended it.
#[derive(Debug)]
pub(super) struct Worker {
    pid: Pid,
    dead: AtomicBool,
    /// The front end is about to end in order: nothing is to be told of the worker any more.
    stopping: AtomicBool,
}

impl Worker {
    /// Starts it, in the front end's group.
    ///
    /// # Errors
    /// This program can't be started again.
    pub(super) fn start() -> Result<Arc<Self>, SimError> {
        let started = children::start(children::ENGINE)?;
        let pid = i32::try_from(started.id()).map_err(|e| SimError::Arguments(e.to_string()))?;
        Ok(Arc::new(Self {
            pid: Pid::from_raw(pid),
            dead: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }))
    }

    /// Whether it has ended.
    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// Kills it, and returns when it is dead.
    pub(super) fn kill(&self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        self.wait();
    }

    /// The front end ends in order.
    pub(super) fn leave(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Waits for its end and leaves its status for whoever looks, as a parent does that watches by other means.
    fn wait(&self) {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(self.pid), flags) == Err(Errno::EINTR) {}
        self.dead.store(true, Ordering::Release);
    }

    /// Waits for its end in a thread, breaks the answers on their way, and does with the front end what `then` says.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn watch(
        self: &Arc<Self>,
        then: FrontEnd,
        dialect: Dialect,
        orders: Arc<Mailbox<Order>>,
    ) -> Result<(), SimError> {
        let worker = Arc::clone(self);
        std::thread::Builder::new()
            .name("sim-worker".to_owned())
            .spawn(move || {
                worker.wait();
                if worker.stopping.load(Ordering::Acquire) {
                    return;
                }
                for line in last_words(dialect, worker.pid) {
                    tell(&line);
                }
                orders.put(Order::Break);
                match then {
                    FrontEnd::Exits(after) => {
                        std::thread::sleep(after);
                        std::process::exit(0);
                    }
                    FrontEnd::KillsItself(after) => {
                        std::thread::sleep(after);
                        let _ = raise(Signal::SIGKILL);
                    }
                    FrontEnd::LivesOn => {}
                }
            })?;
        Ok(())
    }
}

/// What a front end writes when it sees that its worker is gone, in the words of the server it imitates.
fn last_words(dialect: Dialect, worker: Pid) -> Vec<String> {
    match dialect {
        Dialect::Vllm => vec![
            "(APIServer) ERROR 11-24 19:00:00 [core_client.py:610] Engine core proc EngineCore_DP0 died unexpectedly, \
             shutting down client."
                .to_owned(),
            "(APIServer) ERROR 11-24 19:00:00 [async_llm.py:704] vllm.v1.engine.exceptions.EngineDeadError: EngineCore \
             encountered an issue. See stack trace (above) for the root cause."
                .to_owned(),
        ],
        Dialect::Sglang => vec![
            format!(
                "[2026-11-24 19:00:00] Subprocess scheduler_0 (pid={worker}) crashed with exit code -9. Triggering \
                 SIGQUIT for cleanup..."
            ),
            "[2026-11-24 19:00:00] SIGQUIT received. signum=None, frame=None. It usually means one child failed."
                .to_owned(),
        ],
        Dialect::Ollama | Dialect::Llamacpp => vec![format!("ERROR the engine's process {worker} is gone")],
    }
}
