//! Ctrl-C and TERM: the first asks for a clean stop, the second for an immediate one.

use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::server::Interrupt;

/// Handle on the signals; clones see the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    first: Arc<OnceLock<i32>>,
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
        let this = Self::default();
        let heard = this.clone();
        tokio::spawn(async move {
            loop {
                let number = tokio::select! {
                    Some(()) = int.recv() => libc::SIGINT,
                    Some(()) = term.recv() => libc::SIGTERM,
                    Some(()) = received(&mut hup) => libc::SIGHUP,
                    Some(()) = too_large.recv() => continue,
                    else => return,
                };
                heard.hear(number);
            }
        });
        Ok(this)
    }

    fn hear(&self, signal: i32) {
        match self.first.set(signal) {
            Ok(()) => self.clean.cancel(),
            Err(_) => self.at_once.cancel(),
        }
    }

    /// The signal that asked first, if any: it names the exit code.
    pub(crate) fn first(&self) -> Option<i32> {
        self.first.get().copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_is_at_once_and_the_first_names_the_exit_code() {
        let signals = Signals::default();
        signals.hear(libc::SIGTERM);
        assert!(signals.clean().is_cancelled() && !signals.at_once().is_cancelled());
        signals.hear(libc::SIGINT);
        assert!(signals.at_once().is_cancelled());
        assert_eq!(signals.first(), Some(libc::SIGTERM));
    }
}
