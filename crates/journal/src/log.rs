//! The journal's writing end: one task owns it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
};

use benchd_core::record::unix_us;

use super::{
    error::{DiskError, JournalError},
    event::{Entry, Event, JOURNAL_VERSION, Note},
    line_file::LineFile,
    replay::{Replay, replay_file},
};

/// Appends events to `journal.jsonl`. Holds an exclusive lock on the file, which dies with the process.
#[derive(Debug)]
pub struct Journal {
    lines: LineFile<Entry>,
    next_seq: u64,
}

/// A journal opened to go on with, and what it held.
#[derive(Debug)]
pub struct Opened {
    /// The writing end.
    pub journal: Journal,
    /// What was in it; its torn tail, where it had one, is cut off the file and noted in the journal.
    pub replay: Replay,
}

impl Journal {
    /// Starts a journal; an error where the file exists.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let lines = LineFile::create(path)?;
        lock(lines.file(), path)?;
        Ok(Self { lines, next_seq: 0 })
    }

    /// Goes on with a journal: replays it, cuts a torn last line and notes that it did.
    pub fn open(path: &Path) -> Result<Opened, JournalError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(path)
            .map_err(|e| DiskError::new("open", path, e))?;
        // Before the replay: else a line that the other process is about to finish would look torn.
        lock(&file, path)?;
        let replay = replay_file(path, &file)?;
        let torn_bytes = replay.torn_tail.as_ref().map_or(0, |t| t.bytes);
        let (lines, torn) = LineFile::resume(path, file, replay.bytes, replay.bytes + torn_bytes)?;
        let mut journal = Self {
            lines,
            next_seq: replay.entries.len() as u64,
        };
        if let Some(torn) = torn {
            journal.append(Event::Note(Note {
                lane: None,
                text: torn.to_string(),
            }))?;
        }
        Ok(Opened { journal, replay })
    }

    /// Appends an event, whole or not at all, and brings the journal to the disk where the event is one that
    /// must not be lost. Returns the entry as written.
    pub fn append(&mut self, event: Event) -> Result<Entry, DiskError> {
        let must_last = event.must_last();
        let entry = Entry {
            v: JOURNAL_VERSION,
            seq: self.next_seq,
            unix_us: unix_us(),
            event,
        };
        self.lines.append(&entry)?;
        // Counted before the sync: the line is in the file even if the disk then refuses.
        self.next_seq += 1;
        if must_last {
            self.lines.sync()?;
        }
        Ok(entry)
    }
}

impl Event {
    /// Whether the event has to be on the disk before anything that follows from it is done: what finds a
    /// process again after a crash, and what decides what is counted.
    fn must_last(&self) -> bool {
        match self {
            Self::RunStarted(_)
            | Self::GpuBaseline(_)
            | Self::ServerPrepared(_)
            | Self::ServerLaunched(_)
            | Self::ServerDescendants(_)
            | Self::ServerReaped(_)
            | Self::GpuReleased(_)
            | Self::GpuHeld(_)
            | Self::CellEnded(_)
            | Self::QualityAsked(_)
            | Self::LaneEnded(_)
            | Self::RunEnded(_) => true,
            Self::LaneStarted(_)
            | Self::ServerReady(_)
            | Self::ServerStopping(_)
            | Self::CellStarted(_)
            | Self::CellFailed(_)
            | Self::Note(_) => false,
        }
    }
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(JournalError::Busy {
            path: path.to_owned(),
        }),
        // Some network file systems have no locks; the lock on the GPU still keeps two runs apart.
        Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
            tracing::warn!(path = %path.display(), "the file system has no locks: a second benchd on this run is not noticed");
            Ok(())
        }
        Err(TryLockError::Error(e)) => Err(DiskError::new("lock", path, e).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Event {
        Event::Note(Note {
            lane: None,
            text: text.to_owned(),
        })
    }

    #[test]
    fn numbers_go_on_after_a_torn_tail_which_is_told() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::create(&path).expect("create");
        assert_eq!(journal.append(note("a")).expect("append").seq, 0);
        assert_eq!(journal.append(note("b")).expect("append").seq, 1);
        drop(journal);
        let mut bytes = std::fs::read(&path).expect("read");
        bytes.extend_from_slice(b"{\"v\":1,\"seq\":2,\"uni");
        std::fs::write(&path, bytes).expect("write");

        let mut opened = Journal::open(&path).expect("open");
        assert_eq!(opened.replay.entries.len(), 2);
        assert_eq!(opened.replay.torn_tail.as_ref().map(|t| t.bytes), Some(19));
        assert_eq!(opened.journal.append(note("c")).expect("append").seq, 3);
        drop(opened);
        let replay = crate::replay(&path).expect("replay");
        assert_eq!(replay.torn_tail, None);
        let texts: Vec<_> = replay
            .entries
            .iter()
            .map(|e| match &e.event {
                Event::Note(n) => n.text.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((texts[0], texts[1], texts[3]), ("a", "b", "c"));
        assert!(
            texts[2].contains("dropped a torn last line (19 bytes"),
            "{}",
            texts[2]
        );
    }

    #[test]
    fn a_second_writer_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("journal.jsonl");
        let journal = Journal::create(&path).expect("create");
        assert!(matches!(Journal::open(&path), Err(JournalError::Busy { .. })));
        assert!(matches!(Journal::create(&path), Err(JournalError::Disk(_))));
        drop(journal);
        Journal::open(&path).expect("the lock died with its holder");
    }
}
