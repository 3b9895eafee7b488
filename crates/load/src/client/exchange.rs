//! One request over one connection: the timed path.
//!
//! The clock is read right before the first byte is written and right after each read returned, less the time
//! that the kernel had had the bytes by then (see [`receive`](super::receive)); between a read and the next
//! there is only splitting (reader and framer) and copying the events' bytes into the request's block. All
//! requests of a thread share one read buffer, so a waiting stream holds little more than its block.

use std::future::Future;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::answer::Closing;
use super::block::Block;
use super::intake::{End, Intake};
use super::receive::{Clock, Received, ask_for_stamps, poll_receive};
use super::target::Request;
use benchd_core::record::{micros, unix_us};

/// The longest limit of a request; a longer one is taken as this, so that no addition of times overflows.
const MAX_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long the rest of a body (the terminal chunk, most often) is awaited after the last event, before the
/// connection is closed over the server's head.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);

/// An open connection on which nothing was sent yet.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    took: Duration,
}

/// A connection that did not come about.
#[derive(Debug)]
pub(crate) struct ConnectFailure {
    end: End,
}

impl Connection {
    /// Opens a connection to `addr`, for one request. Nagle's algorithm is off, the kernel's time stamps on.
    ///
    /// # Errors
    /// Refused, unreachable, not open within `limit`, or cancelled.
    pub(crate) async fn open(
        addr: SocketAddr,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Result<Self, ConnectFailure> {
        let started = Instant::now();
        let fail = |what: String| {
            Err(ConnectFailure {
                end: End::Connect(what),
            })
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(ConnectFailure { end: End::Cancelled }),
            opened = tokio::time::timeout(limit, TcpStream::connect(addr)) => match opened {
                Ok(Ok(stream)) => match stream.set_nodelay(true).and_then(|()| ask_for_stamps(&stream)) {
                    Ok(()) => Ok(Self { stream, took: started.elapsed() }),
                    Err(error) => fail(format!("setting up a connection to {addr}: {error}")),
                },
                Ok(Err(error)) => fail(format!("connecting to {addr}: {error}")),
                Err(_) => fail(format!("connecting to {addr}: not open after {limit:?}")),
            },
        }
    }
}

impl ConnectFailure {
    /// The end of a request that was never sent.
    pub(crate) fn closing(self, planned: Option<Instant>) -> Closing {
        Closing {
            end: self.end,
            status: None,
            sent_unix_us: unix_us(),
            sent_monotonic_ns: None,
            queued_us: planned.map(|planned| micros(planned.elapsed())),
            connect_us: None,
            end_us: 0,
        }
    }
}

/// Where a request's events go.
pub(crate) trait Sink {
    /// The request is being sent; `at` is where its times count from.
    fn sent(&mut self, _at: Instant) {}
    /// One read brought the end of this many events; `lag`: how long the kernel had had its last byte by
    /// then, where it says so (taken out of the times already).
    fn received(&mut self, _events: usize, _lag: Option<Duration>) {}
    /// Completed events, some hundred bytes to some kilobytes of them.
    fn block(&mut self, block: Block);
}

/// Sends `request` and reads the answer to its end. The limit counts from the send; `planned` is when the
/// send should have been.
pub(crate) async fn exchange(
    connection: Connection,
    request: Request,
    limit: Duration,
    planned: Option<Instant>,
    cancel: &CancellationToken,
    sink: &mut impl Sink,
) -> Closing {
    let Connection { mut stream, took } = connection;
    let limit = limit.min(MAX_LIMIT);
    let sent_unix_us = unix_us();
    let sent = Instant::now();
    let mut running = Running {
        sent,
        clock: Clock::new(sent),
        deadline: sent + limit,
        limit,
        request,
        written: 0,
        intake: Intake::new(),
    };
    sink.sent(sent);
    let mut limit_timer = pin!(tokio::time::sleep_until(running.deadline.into()));
    let mut cancelled = pin!(cancel.cancelled());
    let mut armed: Option<Waker> = None;
    let (end, at) = std::future::poll_fn(|cx| {
        let came = match running.advance(&mut stream, sink, cx) {
            Step::Over(end, at) => return Poll::Ready((end, at)),
            Step::Waiting { came } => came,
        };
        // Timer and cancellation are looked at when nothing else woke this task, and the first time; while
        // data comes their state is seen without touching their wakers.
        let is_armed = armed.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        let (late, stopped) = if came && is_armed {
            (false, cancel.is_cancelled())
        } else {
            armed = Some(cx.waker().clone());
            (
                limit_timer.as_mut().poll(cx).is_ready(),
                cancelled.as_mut().poll(cx).is_ready(),
            )
        };
        if stopped {
            Poll::Ready((running.intake.or_status(End::Cancelled), Instant::now()))
        } else if late {
            Poll::Ready((running.timed_out(), Instant::now()))
        } else {
            Poll::Pending
        }
    })
    .await;
    let mut intake = running.intake;
    if !intake.block.is_empty() {
        sink.block(intake.block.take());
    }
    let closing = Closing {
        status: intake.status(),
        sent_unix_us,
        sent_monotonic_ns: monotonic_ns(sent),
        queued_us: planned.map(|planned| micros(sent.saturating_duration_since(planned))),
        connect_us: Some(micros(took)),
        end_us: micros(at - sent),
        end,
    };
    if closing.end == End::LastEvent && !intake.is_over() {
        tokio::spawn(drain(stream));
    }
    closing
}

/// A request on its way.
struct Running {
    sent: Instant,
    clock: Clock,
    deadline: Instant,
    limit: Duration,
    request: Request,
    written: usize,
    intake: Intake,
}

enum Step {
    Over(End, Instant),
    Waiting { came: bool },
}

impl Running {
    /// Writes and reads as far as it goes without waiting.
    #[inline]
    fn advance(&mut self, stream: &mut TcpStream, sink: &mut impl Sink, cx: &mut Context<'_>) -> Step {
        // A server may refuse a request before it has read all of it; its answer is worth more than the
        // error of the write, so reading goes on whatever becomes of the writing.
        if self.written < self.request.head.len() + self.request.body.len() {
            self.write(stream, cx);
        }
        let mut came = false;
        loop {
            let (end, at, read_at) = match self.read(stream, sink, cx) {
                Poll::Pending => return Step::Waiting { came },
                Poll::Ready(Ok(read)) => read,
                Poll::Ready(Err(error)) => {
                    return Step::Over(self.intake.broken(&error), Instant::now());
                }
            };
            came = true;
            if let Some(end) = end {
                return Step::Over(end, at);
            }
            if read_at >= self.deadline {
                return Step::Over(self.timed_out(), read_at);
            }
        }
    }

    fn write(&mut self, stream: &mut TcpStream, cx: &mut Context<'_>) {
        let Request { head, body } = &self.request;
        loop {
            let from_body = self.written.saturating_sub(head.len());
            let left = [&head[self.written.min(head.len())..], &body[from_body..]];
            if left[1].is_empty() && left[0].is_empty() {
                return;
            }
            let slices = [IoSlice::new(left[0]), IoSlice::new(left[1])];
            match Pin::new(&mut *stream).poll_write_vectored(cx, &slices) {
                Poll::Ready(Ok(count)) if count > 0 => self.written += count,
                // The read side says what the matter is.
                Poll::Ready(_) => self.written = head.len() + body.len(),
                Poll::Pending => return,
            }
        }
    }

    #[inline]
    fn read(
        &mut self,
        stream: &TcpStream,
        sink: &mut impl Sink,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<(Option<End>, Instant, Instant)>> {
        poll_receive(stream, cx, |received| {
            let at = self.clock.arrival(received.read_at, received.lag);
            if received.bytes.is_empty() {
                return (Some(self.intake.closed()), received.read_at, received.read_at);
            }
            let before = self.intake.block.len();
            let end = self.intake.push(received.bytes, micros(at - self.sent));
            sink.received(self.intake.block.len() - before, received.lag);
            if self.intake.block.is_full() {
                sink.block(self.intake.block.take());
            }
            (end, at, received.read_at)
        })
    }

    fn timed_out(&mut self) -> End {
        self.intake
            .or_status(End::Timeout(format!("no end after {:?}", self.limit)))
    }
}

/// Reads what is left of a body whose last event has come, so that closing does not reset the connection
/// while the server still writes. Nobody waits for this.
async fn drain(stream: TcpStream) {
    let rest = async {
        let more = |received: Received<'_>| !received.bytes.is_empty();
        while let Ok(true) = std::future::poll_fn(|cx| poll_receive(&stream, cx, more)).await {}
    };
    // The limit is the point: whether the server closed or the time passed, the connection goes now.
    let _ = tokio::time::timeout(DRAIN_LIMIT, rest).await;
}

/// `at` by CLOCK_MONOTONIC, nanoseconds, to within 100 ns. On Linux both are the same clock, but an [`Instant`] does not tell its
/// value.
fn monotonic_ns(at: Instant) -> Option<u64> {
    static ANCHOR: OnceLock<Option<(Instant, Duration)>> = OnceLock::new();
    let (instant, monotonic) = (*ANCHOR.get_or_init(|| {
        // The pair of readings with the least time between them: a thread can lose its core within one.
        (0..16)
            .filter_map(|_| {
                let before = Instant::now();
                let monotonic = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).ok()?;
                Some((before.elapsed(), before, Duration::from(monotonic)))
            })
            .min()
            .map(|(_, instant, monotonic)| (instant, monotonic))
    }))?;
    let at = match at.checked_duration_since(instant) {
        Some(after) => monotonic.checked_add(after)?,
        None => monotonic.checked_sub(instant.checked_duration_since(at)?)?,
    };
    u64::try_from(at.as_nanos()).ok()
}
