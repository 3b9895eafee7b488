//! Ctrl-C and TERM: the first asks for a clean stop, the second for an immediate one.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use crate::server::Interrupt;

/// What was asked for so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopRequest {
    None,
    /// A clean stop, by this signal.
    Clean(i32),
    /// A stop at once: no grace for servers. The signal is the first one.
    AtOnce(i32),
}

/// Handle on the signals; clones see the same.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    request: watch::Receiver<StopRequest>,
    clean: CancellationToken,
    at_once: CancellationToken,
}

impl Signals {
    /// Listens for INT and TERM from now on, and for HUP where it was not ignored: under `nohup` a run outlives its
    /// terminal.
    ///
    /// # Errors
    /// When the handlers can't be installed.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let mut int = signal(SignalKind::interrupt())?;
        let mut term = signal(SignalKind::terminate())?;
        let mut hup = match is_ignored(libc::SIGHUP) {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        // A file-size limit kills by default; with a handler a write says EFBIG and the run ends with its reason.
        // A handler, unlike an ignored signal, is not passed on to servers.
        let mut too_large = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
        let (tx, request) = watch::channel(StopRequest::None);
        let (clean, at_once) = (CancellationToken::new(), CancellationToken::new());
        let this = Self {
            request,
            clean: clean.clone(),
            at_once: at_once.clone(),
        };
        tokio::spawn(async move {
            loop {
                let number = tokio::select! {
                    Some(()) = int.recv() => libc::SIGINT,
                    Some(()) = term.recv() => libc::SIGTERM,
                    Some(()) = received(&mut hup) => libc::SIGHUP,
                    Some(()) = too_large.recv() => continue,
                    else => return,
                };
                let next = after(*tx.borrow(), number);
                if matches!(next, StopRequest::AtOnce(_)) {
                    at_once.cancel();
                }
                clean.cancel();
                if tx.send(next).is_err() {
                    return;
                }
            }
        });
        Ok(this)
    }

    /// What was asked for so far.
    pub(crate) fn requested(&self) -> StopRequest {
        *self.request.borrow()
    }

    /// The signal that asked first, if any.
    pub(crate) fn first(&self) -> Option<i32> {
        match self.requested() {
            StopRequest::None => None,
            StopRequest::Clean(signal) | StopRequest::AtOnce(signal) => Some(signal),
        }
    }

    /// Cancelled by the first signal.
    pub(crate) fn clean(&self) -> &CancellationToken {
        &self.clean
    }

    /// Cancelled by the second.
    pub(crate) fn at_once(&self) -> &CancellationToken {
        &self.at_once
    }

    /// As a server that is being started hears them.
    pub(super) fn interrupt(&self) -> Interrupt {
        Interrupt {
            stop: self.clean.clone(),
            now: self.at_once.clone(),
        }
    }
}

/// Whether the signal is ignored, as whoever started benchd left it. One that can't be asked about is taken as not
/// ignored.
fn is_ignored(signal: i32) -> bool {
    let status = procfs::process::Process::myself().and_then(|me| me.status());
    // Bit 0 is signal 1: proc_pid_status(5).
    status.is_ok_and(|status| status.sigign >> (signal - 1) & 1 == 1)
}

/// The next of these signals; never, where none is listened for.
async fn received(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

fn after(before: StopRequest, signal: i32) -> StopRequest {
    match before {
        StopRequest::None => StopRequest::Clean(signal),
        StopRequest::Clean(first) | StopRequest::AtOnce(first) => StopRequest::AtOnce(first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_is_at_once_and_the_first_names_the_exit_code() {
        let one = after(StopRequest::None, libc::SIGTERM);
        assert_eq!(one, StopRequest::Clean(libc::SIGTERM));
        assert_eq!(after(one, libc::SIGINT), StopRequest::AtOnce(libc::SIGTERM));
    }
}
