//! A simulated server in this process: its two threads and what they share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::api::Api;
use super::args::{Args, StartStyle};
use super::clock::{monotonic_ns, nanos};
use super::emitter::{Emitter, Order};
use super::engine::Engine;
use super::error::SimError;
use super::front::{self, Front};
use super::mailbox::Mailbox;
use super::metrics::Metrics;
use super::worker::Worker;

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
    /// `refuse` are [`run`](crate::run)'s.
    ///
    /// # Errors
    /// Arguments out of range, or the system refuses a socket, an epoll or a thread.
    pub fn start(args: &Args) -> Result<Self, SimError> {
        Self::start_with(args, None)
    }

    /// [`Self::start`] with a process on which its answers depend.
    pub(super) fn start_with(args: &Args, worker: Option<Arc<Worker>>) -> Result<Self, SimError> {
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
            worker,
        );
        let front = Front::new(
            listener,
            api,
            Arc::clone(&orders),
            Arc::clone(&finished),
            Arc::clone(&stop),
            args.keep_alive,
        )?;
        let emitter = Emitter::new(
            Arc::clone(&orders),
            finished,
            Arc::clone(&metrics),
            engine,
            nanos(args.spin),
        )?;
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

    /// The address that it listens on, with the port that it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where the emitter takes its orders.
    pub(super) fn orders(&self) -> Arc<Mailbox<Order>> {
        Arc::clone(&self.orders)
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
