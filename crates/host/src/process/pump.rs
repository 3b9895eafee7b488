//! The pump: reads a server's output until nobody writes any more, and notices the leader's end.
//!
//! Through tokio-process-stream's chunk stream, whose `Done` comes only when all pipes are closed: a server
//! that died and left a worker with its pipes would look alive. So the leader's end is taken from a pidfd. Of
//! the two pipes the stream asks standard error first; a program that floods it without a pause could keep
//! its standard output waiting, no longer than it keeps flooding.

use std::{
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use tokio::{
    io::unix::AsyncFd,
    sync::{oneshot, watch},
};
use tokio_process_stream::{Item, ProcessChunkStream};

use super::{
    exit::LeaderExit,
    lines::{Line, LineSplitter, Progress},
    log::{LogWriter, Origin, stamp},
    signal,
};
use benchd_core::record::Redactor;

/// Most bytes taken from the pipes once nobody of the server is left: what two full pipes hold.
const LAST_BYTES: usize = 2 << 20;

/// How long a silence means that nothing more is in the pipes.
const LAST_PAUSE: Duration = Duration::from_millis(10);

/// How long the last lines may take to reach the disk before benchd goes on without.
const LOG_CLOSE: Duration = Duration::from_secs(2);

/// One server's output on its way to the log.
struct Reader {
    log: LogWriter,
    out: (LineSplitter, Progress),
    err: (LineSplitter, Progress),
}

impl Reader {
    fn take(&mut self, origin: Origin, bytes: &[u8]) {
        let now = Instant::now();
        let stamp = stamp();
        let (splitter, progress) = match origin {
            Origin::Out => &mut self.out,
            _ => &mut self.err,
        };
        let log = &mut self.log;
        splitter.push(bytes, |line| {
            for line in progress.pass(line, now) {
                log.line(&stamp, origin, &line);
            }
        });
        log.hand_over();
    }

    /// Writes unfinished lines and held bars.
    fn flush(&mut self) {
        let stamp = stamp();
        let log = &mut self.log;
        for (origin, (splitter, progress)) in [(Origin::Out, &mut self.out), (Origin::Err, &mut self.err)] {
            if let Some(line) = progress.flush() {
                log.line(&stamp, origin, &line);
            }
            splitter.flush(|line| log.line(&stamp, origin, &line));
        }
        log.hand_over();
    }

    fn remark(&mut self, text: String) {
        let line = Line {
            text,
            continues: false,
            overwritten: false,
        };
        self.log.line(&stamp(), Origin::Remark, &line);
        self.log.hand_over();
    }
}

/// Reads until all pipes are closed and the leader is reaped, or until released. Never waits for anything
/// else, so the server never waits for its reader.
pub(super) async fn pump(
    mut stream: ProcessChunkStream,
    ended: AsyncFd<OwnedFd>,
    log: LogWriter,
    redactor: Redactor,
    exit: watch::Sender<Option<LeaderExit>>,
    mut released: oneshot::Receiver<()>,
) {
    let mut reader = Reader {
        log,
        out: (LineSplitter::redacting(redactor.clone()), Progress::default()),
        err: (LineSplitter::redacting(redactor), Progress::default()),
    };
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            _ = &mut released => {
                let done = last_words(&mut stream, &mut reader).await;
                // Ended, or there would be no release: this reaps it. Who can't be killed is left to tokio.
                if let Some(how) = done.or_else(|| reaped(&mut stream)) {
                    tell(&exit, &mut reader, &mut told, how);
                }
                break;
            }
            _ = ended.readable(), if !told => {
                // The leader's end, without reaping it: as a zombie it keeps its group's number from being
                // given to others until the group is swept.
                let peeked = signal::peek_exit(ended.get_ref());
                // What it wrote before its end is in the pipes already; whoever is told of the end asks for
                // the last lines at once.
                let done = last_words(&mut stream, &mut reader).await;
                if let Some(how) = peeked.or(done).or_else(|| reaped(&mut stream)) {
                    tell(&exit, &mut reader, &mut told, how);
                }
            }
            item = stream.next() => match item {
                Some(Item::Stdout(bytes)) => reader.take(Origin::Out, &bytes),
                Some(Item::Stderr(bytes)) => reader.take(Origin::Err, &bytes),
                Some(Item::Done(Ok(status))) => {
                    tell(&exit, &mut reader, &mut told, LeaderExit::from_status(status));
                    break;
                }
                Some(Item::Done(Err(error))) => {
                    tracing::warn!(%error, "could not wait for a server's process");
                    break;
                }
                None => break,
            },
        }
    }
    reader.flush();
    let thread = reader.log.close();
    let written = tokio::task::spawn_blocking(move || thread.join());
    if tokio::time::timeout(LOG_CLOSE, written).await.is_err() {
        tracing::warn!("the disk is slow: the last lines of a server's log are still on their way");
    }
}

/// The leader's status, reaping it; `None` while it runs.
fn reaped(stream: &mut ProcessChunkStream) -> Option<LeaderExit> {
    let status = stream.child_mut()?.try_wait().ok()??;
    Some(LeaderExit::from_status(status))
}

/// Tells the leader's end once.
fn tell(exit: &watch::Sender<Option<LeaderExit>>, reader: &mut Reader, told: &mut bool, how: LeaderExit) {
    if !std::mem::replace(told, true) {
        reader.flush();
        reader.remark(format!("the server's process ended: {how}"));
        exit.send_replace(Some(how));
    }
}

/// Takes what is in the pipes, until nothing has come for a moment; bounded, for there may be somebody who
/// never stops writing. Tells the leader's end where that came out as well.
async fn last_words(stream: &mut ProcessChunkStream, reader: &mut Reader) -> Option<LeaderExit> {
    let mut taken = 0;
    while taken < LAST_BYTES {
        match tokio::time::timeout(LAST_PAUSE, stream.next()).await {
            Ok(Some(Item::Stdout(bytes))) => {
                taken += bytes.len();
                reader.take(Origin::Out, &bytes);
            }
            Ok(Some(Item::Stderr(bytes))) => {
                taken += bytes.len();
                reader.take(Origin::Err, &bytes);
            }
            Ok(Some(Item::Done(status))) => return status.ok().map(LeaderExit::from_status),
            Ok(None) | Err(_) => break,
        }
    }
    None
}
