//! One batch on the load thread: the closed and the open loop.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::batch::{Batch, BatchReport, LoadError};
use super::decoder::{Decoding, Message};
use super::lag::{LagHistogram, ReadLags, probe};
use super::limits::thread_cpu_time;
use super::timer::PreciseTimer;
use crate::client::{Block, Closing, ConnectFailure, Connection, End, Request, RequestHead, Sink, exchange};
use benchd_core::record::{ClientLag, micros, unix_us};

/// How many connections of the first wave are being opened at one time, so that a server's listen queue
/// (128 and more) does not overflow.
const OPENING_AT_ONCE: usize = 64;

/// How long the first wave waits for its connections. A stream whose connection is not open by then sends as
/// soon as it is. Shorter than the 5 s after which servers close idle connections.
pub(super) const BARRIER_LIMIT: Duration = Duration::from_secs(2);

/// How long before its planned send a request of the open loop opens its connection.
const OPENING_LEAD: Duration = Duration::from_millis(20);

/// A batch that can be run as it is.
pub(super) struct CheckedBatch {
    pub(super) batch: Batch,
    pub(super) head: RequestHead,
    /// Planned sends; `None` in the closed loop.
    pub(super) sends: Option<Vec<Duration>>,
    pub(super) open_loop_cap: u32,
}

/// A batch under way, shared by its tasks.
struct BatchRun {
    batch: Batch,
    head: RequestHead,
    decoding: Arc<Decoding>,
    decoder: std::sync::mpsc::Sender<Message>,
    keys: Arc<AtomicU64>,
    next_job: AtomicUsize,
    in_flight: AtomicU32,
    most_in_flight: AtomicU32,
    span: Mutex<Option<Span>>,
    reads: Mutex<ReadLags>,
}

/// From the first send to the last end.
#[derive(Clone, Copy)]
struct Span {
    first: Instant,
    first_unix_us: u64,
    last: Instant,
}

/// What is sent over a channel of which only the end matters.
enum Never {}

type Opening = JoinHandle<Result<Connection, ConnectFailure>>;

/// Runs a batch to its end.
pub(super) async fn run(
    checked: CheckedBatch,
    decoding: Arc<Decoding>,
    decoder: std::sync::mpsc::Sender<Message>,
    keys: Arc<AtomicU64>,
) -> Result<BatchReport, LoadError> {
    let CheckedBatch {
        batch,
        head,
        sends,
        open_loop_cap,
    } = checked;
    let lag = Arc::new(Mutex::new(LagHistogram::new().map_err(std::io::Error::other)?));
    let probing = {
        let (timer, lag) = (PreciseTimer::new()?, Arc::clone(&lag));
        tokio::spawn(async move {
            let error = probe(timer, &lag).await;
            tracing::warn!(%error, "the load thread's lag is no longer watched");
        })
    };
    let (started, started_unix_us, cpu_before) = (Instant::now(), unix_us(), thread_cpu_time());
    let run = Arc::new(BatchRun {
        batch,
        head,
        decoding,
        decoder,
        keys,
        next_job: AtomicUsize::new(0),
        in_flight: AtomicU32::new(0),
        most_in_flight: AtomicU32::new(0),
        span: Mutex::new(None),
        reads: Mutex::new(ReadLags::new().map_err(std::io::Error::other)?),
    });
    let result = match sends {
        None => closed_loop(&run).await,
        Some(sends) => open_loop(&run, &sends, open_loop_cap).await,
    };
    probing.abort();
    let cpu = thread_cpu_time().saturating_sub(cpu_before);
    result?;
    let span = lock(&run.span).unwrap_or(Span {
        first: started,
        first_unix_us: started_unix_us,
        last: started,
    });
    let lag = lock(&lag).summary();
    Ok(BatchReport {
        started_unix_us: span.first_unix_us,
        duration_us: micros(span.last - span.first),
        lag: ClientLag {
            cpu_us: micros(cpu),
            events: run.decoding.progress.events(),
            ..lag
        },
        reads: lock(&run.reads).summary(),
        most_in_flight: run.most_in_flight.load(Ordering::Relaxed),
        capped: run.decoding.progress.capped(),
        cancelled: run.decoding.cancel.is_cancelled(),
    })
}

/// None of the locks here is held over anything that can panic, nor waited for: one thread runs it all.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// N streams, each sending its next job when its last is answered. The first wave's connections are all
/// opened before its first send.
async fn closed_loop(run: &Arc<BatchRun>) -> Result<(), LoadError> {
    let streams = (run.batch.concurrency as usize).min(run.batch.bodies.len());
    let opening_at_once = Arc::new(Semaphore::new(OPENING_AT_ONCE));
    let (settled, mut all_settled) = mpsc::channel::<Never>(1);
    let first: Vec<Opening> = (0..streams)
        .map(|_| {
            let (run, permits) = (Arc::clone(run), Arc::clone(&opening_at_once));
            let settled = settled.clone();
            tokio::spawn(async move {
                // The semaphore is never closed, so the permit always comes.
                let _permit = permits.acquire().await;
                let opened = run.open().await;
                drop(settled);
                opened
            })
        })
        .collect();
    drop(settled);
    // The channel ends when the last sender is dropped. Whoever is not settled in time is waited for alone.
    let _ = tokio::time::timeout(BARRIER_LIMIT, all_settled.recv()).await;
    let mut tasks = JoinSet::new();
    for (stream, opening) in (0_u32..).zip(first) {
        // Jobs of the first wave are given out here, so that stream k sends job k.
        let Some(job) = run.take_job() else { break };
        tasks.spawn(stream_task(Arc::clone(run), stream, job, opening));
    }
    join_all(run, tasks).await
}

async fn stream_task(run: Arc<BatchRun>, stream: u32, job: usize, opening: Opening) {
    let opened = match opening.await {
        Ok(opened) => opened,
        // A task that opens a connection neither panics nor is aborted; were it otherwise, this panic is
        // what the batch reports.
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    run.request(job, stream, opened, None).await;
    while !run.decoding.cancel.is_cancelled() {
        let Some(job) = run.take_job() else { return };
        let opened = run.open().await;
        run.request(job, stream, opened, None).await;
    }
}

/// Requests at their planned times, whatever is still in flight, up to `cap`.
async fn open_loop(run: &Arc<BatchRun>, sends: &[Duration], cap: u32) -> Result<(), LoadError> {
    let timer = PreciseTimer::new()?;
    let slots = Arc::new(Slots::default());
    let permits = Arc::new(Semaphore::new(cap as usize));
    let mut tasks = JoinSet::new();
    let mut waiting: std::collections::VecDeque<oneshot::Sender<()>> = std::collections::VecDeque::new();
    let start = Instant::now() + OPENING_LEAD;
    let (mut opened, mut fired) = (0, 0);
    while fired < sends.len() {
        let planned = |job: usize| start + sends[job];
        let send_at = planned(fired);
        let open_at = (opened < sends.len()).then(|| planned(opened) - OPENING_LEAD);
        let due = open_at.map_or(send_at, |open_at| open_at.min(send_at));
        tokio::select! {
            biased;
            () = run.decoding.cancel.cancelled() => break,
            slept = timer.sleep_until(due) => slept?,
        }
        if open_at == Some(due) {
            let (go, gone) = oneshot::channel();
            waiting.push_back(go);
            let (run, slots) = (Arc::clone(run), Arc::clone(&slots));
            let permits = Arc::clone(&permits);
            let (job, planned) = (opened, planned(opened));
            tasks.spawn(async move {
                if permits.available_permits() == 0 {
                    run.decoding.progress.capped.fetch_add(1, Ordering::Relaxed);
                }
                let _permit = permits.acquire().await;
                let slot = slots.take();
                let opened = run.open().await;
                // The planned time has come, or the batch was cancelled and the sender is gone.
                if gone.await.is_ok() {
                    run.request(job, slot, opened, Some(planned)).await;
                }
                slots.give_back(slot);
            });
            opened += 1;
        } else {
            if let Some(go) = waiting.pop_front() {
                // A task that is gone has panicked, which its join tells.
                let _ = go.send(());
            }
            fired += 1;
        }
        while let Some(joined) = tasks.try_join_next() {
            task_result(run, joined)?;
        }
    }
    drop(waiting);
    join_all(run, tasks).await
}

async fn join_all(run: &BatchRun, mut tasks: JoinSet<()>) -> Result<(), LoadError> {
    while let Some(joined) = tasks.join_next().await {
        task_result(run, joined)?;
    }
    Ok(())
}

fn task_result(run: &BatchRun, joined: Result<(), tokio::task::JoinError>) -> Result<(), LoadError> {
    joined.map_err(|error| {
        run.decoding.cancel.cancel();
        LoadError::Task(error.to_string())
    })
}

impl BatchRun {
    fn take_job(&self) -> Option<usize> {
        let job = self.next_job.fetch_add(1, Ordering::Relaxed);
        (job < self.batch.bodies.len()).then_some(job)
    }

    async fn open(&self) -> Result<Connection, ConnectFailure> {
        Connection::open(self.batch.target.addr, self.batch.timeout, &self.decoding.cancel).await
    }

    /// One request from its send to its end. A request that was cancelled before its send leaves no trace.
    async fn request(
        &self,
        index: usize,
        stream: u32,
        opened: Result<Connection, ConnectFailure>,
        planned: Option<Instant>,
    ) {
        let key = self.keys.fetch_add(1, Ordering::Relaxed);
        let cancel = &self.decoding.cancel;
        let closing = match opened {
            Ok(_) if cancel.is_cancelled() => return,
            Ok(connection) => {
                let request: Request = self.head.with_body(self.batch.bodies[index].clone());
                let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
                self.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
                let mut sink = DecoderSink {
                    run: self,
                    key,
                    sent: None,
                };
                let closing = exchange(
                    connection,
                    request,
                    self.batch.timeout,
                    planned,
                    cancel,
                    &mut sink,
                )
                .await;
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
                if let Some(sent) = sink.sent {
                    self.note_span(sent, &closing);
                }
                closing
            }
            Err(failure) => {
                let closing = failure.closing(planned);
                if closing.end == End::Cancelled {
                    return;
                }
                closing
            }
        };
        let batch = Arc::clone(&self.decoding);
        // The decoder lives as long as the engine, which waits for this thread.
        let _ = self.decoder.send(Message::End {
            key,
            batch,
            // As many requests as an u32 counts are no batch.
            index: u32::try_from(index).unwrap_or(u32::MAX),
            stream,
            closing,
        });
    }

    fn note_span(&self, sent: Instant, closing: &Closing) {
        let end = sent + Duration::from_micros(closing.end_us);
        let mut span = lock(&self.span);
        *span = Some(match *span {
            None => Span {
                first: sent,
                first_unix_us: closing.sent_unix_us,
                last: end,
            },
            Some(old) => Span {
                first: old.first.min(sent),
                first_unix_us: old.first_unix_us.min(closing.sent_unix_us),
                last: old.last.max(end),
            },
        });
    }
}

/// Sends a request's events to the decoder.
struct DecoderSink<'a> {
    run: &'a BatchRun,
    key: u64,
    sent: Option<Instant>,
}

impl Sink for DecoderSink<'_> {
    fn sent(&mut self, at: Instant) {
        self.sent = Some(at);
        self.run.decoding.progress.sent.fetch_add(1, Ordering::Relaxed);
    }

    fn received(&mut self, events: usize, lag: Option<Duration>) {
        lock(&self.run.reads).note(lag);
        self.run
            .decoding
            .progress
            .events
            .fetch_add(events as u64, Ordering::Relaxed);
    }

    fn block(&mut self, block: Block) {
        let batch = Arc::clone(&self.run.decoding);
        let _ = self.run.decoder.send(Message::Block {
            key: self.key,
            batch,
            block,
        });
    }
}

/// Numbers for requests in flight: the lowest free one is given out.
#[derive(Default)]
struct Slots(Mutex<FreeSlots>);

#[derive(Default)]
struct FreeSlots {
    free: BinaryHeap<Reverse<u32>>,
    made: u32,
}

impl Slots {
    fn take(&self) -> u32 {
        let mut slots = lock(&self.0);
        match slots.free.pop() {
            Some(Reverse(slot)) => slot,
            None => {
                slots.made += 1;
                slots.made - 1
            }
        }
    }

    fn give_back(&self, slot: u32) {
        lock(&self.0).free.push(Reverse(slot));
    }
}
