//! What can go wrong with the files of a run, each with what to do about it.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A call on a file of the run failed.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}{}", path.display(), hint_suffix(source))]
pub struct DiskError {
    /// What was tried: `append to`, `create`, `sync`.
    action: &'static str,
    /// On what.
    path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

impl DiskError {
    /// An error of `action` on `path`.
    pub fn new(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self {
            action,
            path: path.into(),
            source,
        }
    }

    /// What to do, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        disk_hint(&self.source)
    }
}

fn disk_hint(source: &io::Error) -> Option<&'static str> {
    use io::ErrorKind as Kind;
    match source.kind() {
        Kind::StorageFull => Some("the disk is full: free some space, then go on with `benchd run --resume`"),
        Kind::QuotaExceeded => Some("the disk quota is used up: free some space, then go on with --resume"),
        Kind::FileTooLarge => Some("the file-size limit (ulimit -f) is reached: raise it, then --resume"),
        Kind::ReadOnlyFilesystem => {
            Some("the file system is read-only: remount it, or choose another folder with --results / --logs")
        }
        Kind::PermissionDenied => {
            Some("check the owner and mode of the folder, or choose another with --results / --logs")
        }
        Kind::NotFound => Some("a folder on this path is missing; was the run folder deleted or moved?"),
        Kind::NotADirectory => Some("a part of this path is a file, not a folder"),
        // A failing fsync or write: the pages may be gone from the cache already.
        _ if source.raw_os_error() == Some(libc::EIO) => {
            Some("the disk reports an I/O error: look at the kernel's log (dmesg) before trusting it again")
        }
        _ if source.raw_os_error() == Some(libc::ESTALE) => {
            Some("the network file system lost the file: is its server up?")
        }
        _ => None,
    }
}

fn hint_suffix(source: &io::Error) -> String {
    disk_hint(source)
        .map(|hint| format!("\n  hint: {hint}"))
        .unwrap_or_default()
}

/// The journal can't be read or opened.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file system said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A line that is not the last is no entry. The last may be torn by a crash; any other was changed since.
    #[error(
        "{}:{line}: the journal is damaged: {reason}\n  hint: it was changed after it was written; restore the file \
         from a copy, or start a new run (this one's requests.jsonl files are untouched)",
        path.display()
    )]
    Damaged {
        /// The journal's file.
        path: PathBuf,
        /// Line, 1 on.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Lines are missing or doubled.
    #[error(
        "{}:{line}: the journal has a gap: entry {expected} was expected, entry {found} is there\n  hint: lines were \
         removed or doubled after they were written; restore the file from a copy, or start a new run",
        path.display()
    )]
    Gap {
        /// The journal's file.
        path: PathBuf,
        /// Line, 1 on.
        line: u64,
        /// The `seq` that had to come.
        expected: u64,
        /// The `seq` that came.
        found: u64,
    },
    /// Written by a version of benchd whose layout this one does not know.
    #[error(
        "{}:{line}: the journal has layout version {found}; this benchd reads version {known}\n  hint: use the \
         benchd that wrote it (its version is in run.json)",
        path.display()
    )]
    Version {
        /// The journal's file.
        path: PathBuf,
        /// Line, 1 on.
        line: u64,
        /// The version in the file.
        found: u64,
        /// The version that is known.
        known: u32,
    },
    /// Another benchd writes this journal.
    #[error(
        "{}: another benchd is writing this run\n  hint: `benchd status` shows it; wait for it, or stop it, then --resume",
        path.display()
    )]
    Busy {
        /// The journal's file.
        path: PathBuf,
    },
}

/// The records that an end event names can't be read back as it says.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file system said no.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A line of the range is no record of the cell.
    #[error(
        "{}: record {line} of cell {cell} (near byte {offset}) is damaged: {reason}\n  hint: the file was changed after \
         it was written; restore it from a copy, or measure the cell again in a new run",
        path.display()
    )]
    Damaged {
        /// The file of records.
        path: PathBuf,
        /// Id of the cell.
        cell: String,
        /// Line within the cell's range, 1 on.
        line: u64,
        /// Where the line starts in the file.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The range holds another number of records than the end event says.
    #[error(
        "{}: cell {cell} has {found} records in its range, its end event says {expected}\n  hint: the file was changed \
         after it was written; restore it from a copy, or measure the cell again in a new run",
        path.display()
    )]
    Count {
        /// The file of records.
        path: PathBuf,
        /// Id of the cell.
        cell: String,
        /// By the end event.
        expected: u64,
        /// In the file.
        found: u64,
    },
    /// The end event's file name leads out of the run folder.
    #[error("the end event of cell {cell} names {file:?}, which is not inside the run folder")]
    Outside {
        /// Id of the cell.
        cell: String,
        /// The name as the event gives it.
        file: String,
    },
}
