//! The one owner of the journal: a thread of its own, since every append may wait for the disk. Others hold a
//! [`JournalHandle`], append through it, and read the state that the journal amounts to.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
};

use tokio_util::sync::CancellationToken;

use crate::server::EventSink;
use benchd_core::record::Redactor;
use benchd_journal::{DiskError, Event, Journal, State};

/// Handle on the journal's owner; clones speak to the same.
#[derive(Debug, Clone)]
pub(super) struct JournalHandle {
    commands: mpsc::Sender<Command>,
    state: Arc<Mutex<State>>,
    failed: CancellationToken,
    failure: Arc<OnceLock<String>>,
    redactor: Redactor,
}

#[derive(Debug)]
struct Command {
    event: Event,
    written: mpsc::SyncSender<Result<(), AppendError>>,
}

/// An event that could not be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct AppendError(String);

impl JournalHandle {
    /// Starts the owner of `journal`, which amounts to `state` so far. No event shows what `redactor` looks for.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub(super) fn start(journal: Journal, state: State, redactor: Redactor) -> std::io::Result<Self> {
        let (commands, received) = mpsc::channel();
        let this = Self {
            commands,
            state: Arc::new(Mutex::new(state)),
            failed: CancellationToken::new(),
            failure: Arc::new(OnceLock::new()),
            redactor,
        };
        let (state, failed, failure) = (this.state.clone(), this.failed.clone(), this.failure.clone());
        thread::Builder::new().name("journal".into()).spawn(move || {
            own(journal, &received, &state, |error: &DiskError| {
                // The first failure is the cause; what follows is its consequence.
                let _ = failure.set(error.to_string());
                failed.cancel();
            });
        })?;
        Ok(this)
    }

    /// Appends an event and waits until it is written, and on the disk where it is one that must last.
    ///
    /// # Errors
    /// When the disk refuses; [`Self::failed`] is cancelled then.
    pub(super) fn append(&self, event: Event) -> Result<(), AppendError> {
        let (written, answer) = mpsc::sync_channel(1);
        let gone = || {
            AppendError(
                self.failure()
                    .unwrap_or_else(|| "the journal's thread is gone".into()),
            )
        };
        let event = self.redacted(event)?;
        self.commands
            .send(Command { event, written })
            .map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }

    fn redacted(&self, event: Event) -> Result<Event, AppendError> {
        if self.redactor.is_empty() {
            return Ok(event);
        }
        let fail = |error: serde_json::Error| AppendError(error.to_string());
        let mut value = serde_json::to_value(&event).map_err(fail)?;
        self.redactor.clean_value(&mut value);
        serde_json::from_value(value).map_err(fail)
    }

    /// What the journal amounts to now.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancelled when an event could not be kept: the run must end, keeping what is whole.
    pub(super) fn failed(&self) -> &CancellationToken {
        &self.failed
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }
}

impl EventSink for JournalHandle {
    fn event(&self, event: Event) {
        // The handle remembers the failure and cancels `failed()`, on which every cell ends.
        if let Err(error) = self.append(event) {
            tracing::error!(%error, "an event could not be kept");
        }
    }
}

fn own(
    mut journal: Journal,
    commands: &mpsc::Receiver<Command>,
    state: &Mutex<State>,
    on_failure: impl Fn(&DiskError),
) {
    for Command { event, written } in commands {
        let result = journal.append(event);
        let answer = match &result {
            Ok(entry) => {
                state.lock().unwrap_or_else(PoisonError::into_inner).apply(entry);
                Ok(())
            }
            Err(error) => {
                on_failure(error);
                Err(AppendError(error.to_string()))
            }
        };
        // Whoever asked may be gone; the event is kept all the same.
        let _ = written.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use benchd_journal::{Note, replay};

    #[test]
    fn what_is_appended_is_in_the_file_and_in_the_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let journal = JournalHandle::start(
            Journal::create(&path).unwrap(),
            State::default(),
            Redactor::new(["topsecret".to_owned()]),
        )
        .unwrap();
        for n in 0..3 {
            journal
                .append(Event::Note(Note {
                    lane: None,
                    text: format!("{n} topsecret"),
                }))
                .unwrap();
        }
        assert_eq!(replay(&path).unwrap().entries.len(), 3);
        assert_eq!(journal.state().notes.len(), 3);
        assert!(!std::fs::read_to_string(&path).unwrap().contains("topsecret"));
        assert!(!journal.failed().is_cancelled());
    }
}
