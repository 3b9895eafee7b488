//! The engine: the load thread, the decoder's thread, and the handles that others hold.

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc as blocking};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::batch::{Batch, BatchReport, LoadError, OPEN_LOOP_CAP, Progress};
use super::decoder::{Decoding, Message, decode_all};
use super::limits::{make_room_for, yield_to_others};
use super::run::{CheckedBatch, run};
use super::schedule::planned_sends;
use crate::client::Answer;

/// How the engine is set up.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Niceness of the decoder's thread, 0 to 19: it should never delay the load thread or a server on the
    /// same machine.
    pub decoder_niceness: i32,
    /// The most requests of an open loop that are in flight at one time, at least 1; what is due beyond that
    /// waits, which its `queued_us` and the batch's report tell.
    pub open_loop_cap: u32,
    /// Whether the decoder keeps the simulated server's stamps
    /// ([`Answer::server_stamps`]); the load thread does nothing else
    /// than without.
    pub keep_stamps: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            decoder_niceness: 10,
            open_loop_cap: OPEN_LOOP_CAP,
            keep_stamps: false,
        }
    }
}

struct Command {
    checked: CheckedBatch,
    decoding: Arc<Decoding>,
    done: oneshot::Sender<Result<BatchReport, LoadError>>,
}

/// Sends batches of requests from a thread of its own, with a single-threaded runtime on which nothing else
/// runs. One batch at a time: a second one waits for the first.
///
/// Dropping the engine cancels what runs and waits for its threads.
#[derive(Debug)]
pub struct LoadEngine {
    commands: Option<mpsc::UnboundedSender<Command>>,
    threads: Vec<JoinHandle<()>>,
    cancel: CancellationToken,
    open_loop_cap: u32,
}

/// A batch that runs. Dropping the handle cancels the batch.
#[derive(Debug)]
pub struct BatchHandle {
    done: Option<oneshot::Receiver<Result<BatchReport, LoadError>>>,
    progress: Arc<Progress>,
    cancel: CancellationToken,
    _guard: DropGuard,
}

impl LoadEngine {
    /// Starts the load thread and the decoder's.
    ///
    /// # Errors
    /// A thread or the runtime could not be made.
    pub fn start(options: LoadOptions) -> Result<Self, LoadError> {
        let (commands, incoming) = mpsc::unbounded_channel();
        let (to_decoder, messages) = blocking::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let decoder = spawn("benchd-decode", move || {
            yield_to_others(options.decoder_niceness);
            decode_all(&messages, options.keep_stamps);
        })?;
        let load = spawn("benchd-load", move || {
            // Tokio's own timer is as coarse as before; the kernel's slack of 50 µs on top of it is not
            // needed. A refusal changes nothing that is not measured by the lag probe.
            if let Err(error) = nix::sys::prctl::set_timerslack(1) {
                tracing::debug!(%error, "the load thread keeps its timer slack");
            }
            runtime.block_on(serve(incoming, to_decoder));
        })?;
        let threads = vec![load, decoder];
        Ok(Self {
            commands: Some(commands),
            threads,
            cancel: CancellationToken::new(),
            open_loop_cap: options.open_loop_cap.max(1),
        })
    }

    /// Runs a batch; each answer goes to `out` as soon as it is whole, in the order of the ends. `out` is
    /// unbounded, so that a slow writer never holds up the load thread; an answer without its text takes
    /// some hundred bytes and 8 bytes a token.
    ///
    /// # Errors
    /// The batch can't be run as it is: nothing was sent.
    pub fn run(&self, batch: Batch, out: mpsc::UnboundedSender<Answer>) -> Result<BatchHandle, LoadError> {
        let head = batch.target.request_head()?;
        let sends = planned_sends(batch.arrival, batch.bodies.len(), batch.seed)?;
        let at_once = match &sends {
            None if batch.concurrency == 0 => return Err(LoadError::NoStreams),
            None => batch.bodies.len().min(batch.concurrency as usize),
            Some(_) => batch.bodies.len().min(self.open_loop_cap as usize),
        };
        make_room_for(at_once as u64)?;
        let progress = Arc::new(Progress::default());
        let cancel = self.cancel.child_token();
        let decoding = Arc::new(Decoding {
            shape: batch.shape,
            reasoning_fields: batch.reasoning_fields,
            out,
            progress: Arc::clone(&progress),
            cancel: cancel.clone(),
        });
        let (done, when_done) = oneshot::channel();
        let command = Command {
            checked: CheckedBatch {
                batch,
                head,
                sends,
                open_loop_cap: self.open_loop_cap,
            },
            decoding,
            done,
        };
        let commands = self.commands.as_ref().ok_or(LoadError::Gone)?;
        commands.send(command).map_err(|_| LoadError::Gone)?;
        let guard = cancel.clone().drop_guard();
        Ok(BatchHandle {
            done: Some(when_done),
            progress,
            cancel,
            _guard: guard,
        })
    }
}

impl Drop for LoadEngine {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.commands = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the load engine panicked");
            }
        }
    }
}

impl BatchHandle {
    /// Waits for the end of the batch. By then all of its answers are in the channel. May be dropped and
    /// called again until it has returned once.
    ///
    /// # Errors
    /// The batch failed as such; requests that failed are no failure of the batch. After it has returned
    /// once: [`LoadError::Gone`].
    pub async fn wait(&mut self) -> Result<BatchReport, LoadError> {
        let Some(done) = &mut self.done else {
            return Err(LoadError::Gone);
        };
        let result = done.await.map_err(|_| LoadError::Gone);
        self.done = None;
        result?
    }

    /// Stops the batch at once: requests in flight end as cancelled, others are not sent. [`wait`] then
    /// returns soon.
    ///
    /// [`wait`]: Self::wait
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Counters of what was sent and what came back so far.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

/// The load thread's life.
async fn serve(mut incoming: mpsc::UnboundedReceiver<Command>, decoder: blocking::Sender<Message>) {
    let keys = Arc::new(AtomicU64::new(0));
    while let Some(Command {
        checked,
        decoding,
        done,
    }) = incoming.recv().await
    {
        let result = run(checked, decoding, decoder.clone(), Arc::clone(&keys)).await;
        // Behind the batch's last answer in the decoder's queue. Whoever dropped the handle does not wait.
        let tell = Message::Then(Box::new(move || drop(done.send(result))));
        if decoder.send(tell).is_err() {
            return;
        }
    }
}
