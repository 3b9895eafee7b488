//! What a server wrote to its log since a moment.

use std::{
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

/// Most of a log that is read at once, bytes.
const MOST_BYTES: u64 = 64 << 20;

/// A server's log, from a place on.
#[derive(Debug, Clone)]
pub(super) struct ServerLog {
    path: PathBuf,
    from: u64,
}

impl ServerLog {
    /// From its end as it is now; from the start where there is no log yet.
    pub(super) fn from_now(path: PathBuf) -> Self {
        let from = length(&path);
        Self { path, from }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the place to the log's end as it is now; whether that is another one.
    pub(super) fn moved_to_end(&mut self) -> bool {
        let before = std::mem::replace(&mut self.from, length(&self.path));
        self.from != before
    }

    /// What was written since; `None` where nothing can be told: the log can't be read, was begun anew, or grew too
    /// much.
    pub(super) fn since(&self) -> Option<String> {
        tokio::task::block_in_place(|| read_from(&self.path, self.from))
            .inspect_err(|error| {
                tracing::info!(%error, log = %self.path.display(), "the server's log can't be read for its figures");
            })
            .ok()
            .flatten()
    }
}

fn length(log: &Path) -> u64 {
    log.metadata().map_or(0, |about| about.len())
}

fn read_from(log: &Path, from: u64) -> std::io::Result<Option<String>> {
    let mut file = std::fs::File::open(log)?;
    let length = file.metadata()?.len();
    if length < from || length - from > MOST_BYTES {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_since_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.log");
        std::fs::write(&path, "warm-up\n").unwrap();
        let mut log = ServerLog::from_now(path.clone());
        assert!(!log.moved_to_end());
        std::fs::write(&path, "warm-up\nmeasured \u{e9}\n").unwrap();
        let since = |log: &ServerLog| read_from(&log.path, log.from);
        assert_eq!(since(&log).unwrap().as_deref(), Some("measured \u{e9}\n"));

        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(since(&log).unwrap(), None, "rotated since");
        assert!(log.moved_to_end());
        assert!(read_from(&dir.path().join("absent"), 0).is_err());
    }
}
