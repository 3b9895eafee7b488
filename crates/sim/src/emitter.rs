//! The emission thread: it holds the engine and every answer on its way out, and writes each chunk at its due time.
//!
//! It sleeps in `ppoll` until shortly before the next due time, spins for the rest (at most `spin`), and writes
//! straight to the non-blocking socket. What a socket does not take waits in the answer's own queue for the thread's
//! epoll; nobody else's chunk waits for it. With nothing due it sleeps without a time-out and uses no CPU.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::os::fd::AsFd as _;
use std::sync::Arc;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::clock::{monotonic_ns, timespec};
use super::engine::{Engine, Job};
use super::error::SimError;
use super::mailbox::Mailbox;
use super::metrics::Metrics;
use super::stream::{Connection, Content, End, Flushed, Stream};

/// Chunks that go out before the orders are looked at again.
const TICKS_AT_ONCE: usize = 512;

/// What the front asks of the emitter.
#[derive(Debug)]
pub(super) enum Order {
    /// An answer by the engine.
    Start(Box<Stream>, Job),
    /// An answer that is ready.
    Send(u64, Box<Stream>),
    /// The client of this answer is gone.
    Cancel(u64),
    /// The engine is gone: its answers break off in mid-body.
    Break,
    /// Stop at once.
    Stop,
}

/// What the emitter tells the front: the answer on this connection is out.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) connection: Connection,
    pub(super) end: End,
}

/// The thread: what it works with, and every answer on its way out.
pub(super) struct Emitter {
    orders: Arc<Mailbox<Order>>,
    finished: Arc<Mailbox<Finished>>,
    metrics: Arc<Metrics>,
    engine: Engine,
    /// Longest spin before a due time, nanoseconds.
    spin_ns: u64,
    epoll: Epoll,
    streams: HashMap<u64, Stream>,
    /// Answers whose next bytes have their own time.
    timed: BinaryHeap<Reverse<(u64, u64)>>,
    scratch: Vec<u8>,
    /// Answers that wait in the epoll.
    blocked: usize,
}

impl Emitter {
    /// An emitter with nothing to send.
    ///
    /// # Errors
    /// The kernel gives no epoll.
    pub(super) fn new(
        orders: Arc<Mailbox<Order>>,
        finished: Arc<Mailbox<Finished>>,
        metrics: Arc<Metrics>,
        engine: Engine,
        spin_ns: u64,
    ) -> Result<Self, SimError> {
        Ok(Self {
            orders,
            finished,
            metrics,
            engine,
            spin_ns,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(SimError::Epoll)?,
            streams: HashMap::new(),
            timed: BinaryHeap::new(),
            scratch: Vec::with_capacity(4096),
            blocked: 0,
        })
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub(super) fn run(mut self) -> Result<(), SimError> {
        // A sleep of a normal thread may be 50 µs late by the kernel's slack; 1 ns is the least. Best effort.
        let _ = nix::sys::prctl::set_timerslack(1);
        loop {
            if !self.take_orders() {
                return Ok(());
            }
            self.emit_due();
            self.send_timed();
            let (running, waiting) = self.engine.load();
            self.metrics.set_load(running, waiting);
            let next = [
                self.engine.next_due(),
                self.timed.peek().map(|Reverse((at, _))| *at),
            ]
            .into_iter()
            .flatten()
            .min();
            self.wait(next)?;
        }
    }

    fn take_orders(&mut self) -> bool {
        for order in self.orders.take() {
            match order {
                Order::Start(mut stream, job) => {
                    let id = job.id;
                    self.engine.submit(job);
                    stream.start(monotonic_ns());
                    self.streams.insert(id, *stream);
                    self.flush(id);
                }
                Order::Send(id, stream) => {
                    self.streams.insert(id, *stream);
                    self.flush(id);
                }
                Order::Cancel(id) => {
                    self.engine.cancel(id);
                    self.remove(id);
                }
                Order::Break => self.break_off(),
                Order::Stop => return false,
            }
        }
        true
    }

    /// Emits what is due, but not for ever: a server that can't keep up still hears its orders.
    fn emit_due(&mut self) {
        for _ in 0..TICKS_AT_ONCE {
            let Some(tick) = self.engine.pop(monotonic_ns()) else {
                return;
            };
            let Some(stream) = self.streams.get_mut(&tick.id) else {
                self.engine.cancel(tick.id);
                continue;
            };
            let metrics = &self.metrics;
            let mut last_sent = tick.due_ns;
            let forget = stream.tick(&tick, &mut self.scratch, &mut |due, sent| {
                metrics.emitted(sent.saturating_sub(due));
                last_sent = sent;
            });
            if let Content::Events(script) | Content::Whole(script) = &stream.content {
                metrics.ticked(&tick, script, stream.prompt_tokens, last_sent);
            }
            if forget {
                self.engine.cancel(tick.id);
            }
            if stream.is_waiting() || stream.end.is_some() {
                self.flush(tick.id);
            }
        }
    }

    fn send_timed(&mut self) {
        while let Some(Reverse((at, id))) = self.timed.peek().copied() {
            if at > monotonic_ns() {
                return;
            }
            self.timed.pop();
            self.flush(id);
        }
    }

    fn flush(&mut self, id: u64) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match stream.flush() {
            Flushed::All => {
                if stream.end.is_some() {
                    self.finish(id);
                } else if stream.registered {
                    stream.registered = false;
                    self.blocked -= 1;
                    let _ = self.epoll.delete(&*stream.connection.socket);
                }
            }
            Flushed::Blocked => {
                let mut event = EpollEvent::new(EpollFlags::EPOLLOUT | EpollFlags::EPOLLONESHOT, id);
                let socket = &*stream.connection.socket;
                let waits = if stream.registered {
                    self.epoll.modify(socket, &mut event)
                } else {
                    self.epoll.add(socket, event)
                };
                if waits.is_err() {
                    self.drop_gone(id);
                } else if !std::mem::replace(&mut stream.registered, true) {
                    self.blocked += 1;
                }
            }
            Flushed::Until(at) => self.timed.push(Reverse((at, id))),
            Flushed::Gone => self.drop_gone(id),
        }
    }

    fn break_off(&mut self) {
        let of_engine = |stream: &Stream| matches!(stream.content, Content::Events(_) | Content::Whole(_));
        let broken: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, stream)| of_engine(stream))
            .map(|(id, _)| *id)
            .collect();
        for id in broken {
            self.drop_gone(id);
        }
    }

    fn drop_gone(&mut self, id: u64) {
        self.engine.cancel(id);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.end = Some(End::Close);
        }
        self.finish(id);
    }

    fn remove(&mut self, id: u64) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        if stream.registered {
            self.blocked -= 1;
            let _ = self.epoll.delete(&*stream.connection.socket);
        }
        Some(stream)
    }

    fn finish(&mut self, id: u64) {
        if let Some(stream) = self.remove(id)
            && let Some(end) = stream.end
        {
            self.finished.put(Finished {
                connection: stream.connection,
                end,
            });
        }
    }

    /// Waits for the next due time, an order, or a socket that takes bytes again.
    fn wait(&mut self, next: Option<u64>) -> Result<(), SimError> {
        if let Some(next) = next {
            let now = monotonic_ns();
            if next.saturating_sub(now) <= self.spin_ns {
                while monotonic_ns() < next {
                    std::hint::spin_loop();
                }
                // Sockets that take bytes again are looked at even if dues follow each other closely.
                if self.blocked > 0 {
                    self.flush_writable()?;
                }
                return Ok(());
            }
        }
        let timeout =
            next.map(|next| timespec(next.saturating_sub(monotonic_ns()).saturating_sub(self.spin_ns)));
        let mut fds = [
            PollFd::new(self.orders.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN),
        ];
        match ppoll(&mut fds, timeout, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(SimError::Wait(e)),
        }
        if fds[1].any().unwrap_or(false) {
            self.flush_writable()?;
        }
        Ok(())
    }

    fn flush_writable(&mut self) -> Result<(), SimError> {
        let mut events = [EpollEvent::empty(); 64];
        let n = match self.epoll.wait(&mut events, EpollTimeout::ZERO) {
            Ok(n) => n,
            Err(nix::errno::Errno::EINTR) => 0,
            Err(e) => return Err(SimError::Wait(e)),
        };
        for event in &events[..n] {
            self.flush(event.data());
        }
        Ok(())
    }
}
