//! The server's own counters around a cell: out of its Prometheus text, or out of its log where it has none.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{lane::LaneWork, opening::body_of};
use crate::server::Control;
use benchd_core::record::HttpCall;
use benchd_frameworks::Adapter;

/// Pause between two readings that must be the same.
const SETTLING: Duration = Duration::from_millis(20);

/// Readings at most: a server that goes on counting by itself never settles.
const READINGS: usize = 10;

/// Most of a log that is read for one cell, bytes.
const LOG_BYTES: u64 = 64 << 20;

/// Counters as they stand, and where they are read.
pub(super) struct OwnCounters<'a> {
    adapter: &'a dyn Adapter,
    control: &'a Control,
    log: PathBuf,
    values: BTreeMap<String, f64>,
    log_bytes: u64,
}

impl<'a> OwnCounters<'a> {
    /// Reads them before the measured requests.
    pub(super) async fn before(work: &LaneWork<'a, '_>, control: &'a Control) -> Self {
        let mut own = Self {
            adapter: work.adapter,
            control,
            log: work.shared.run.dir.server_log(&work.lane.id),
            values: BTreeMap::new(),
            log_bytes: 0,
        };
        if own.adapter.counts_in_log() {
            // Lines of the warm-up may still be on their way.
            let mut length = log_length(&own.log);
            for _ in 0..READINGS {
                tokio::time::sleep(SETTLING).await;
                let again = log_length(&own.log);
                if again == length {
                    break;
                }
                length = again;
            }
            own.log_bytes = length;
        } else {
            own.values = own.settled().await;
        }
        own
    }

    /// How far each has grown since; one that was absent before began at 0. Empty where the server has none or they
    /// can't be read.
    pub(super) async fn growth(self) -> BTreeMap<String, f64> {
        self.settled()
            .await
            .into_iter()
            .map(|(name, value)| {
                let grown = value - self.values.get(&name).unwrap_or(&0.0);
                (name, grown)
            })
            .collect()
    }

    /// A server may count a request just after it has answered it: read until nothing changes.
    async fn settled(&self) -> BTreeMap<String, f64> {
        let mut seen = self.read().await;
        // A log may get its first line just now.
        if seen.is_empty() && !self.adapter.counts_in_log() {
            return seen;
        }
        for _ in 0..READINGS {
            tokio::time::sleep(SETTLING).await;
            let again = self.read().await;
            if again == seen {
                break;
            }
            seen = again;
        }
        seen
    }

    async fn read(&self) -> BTreeMap<String, f64> {
        if self.adapter.counts_in_log() {
            return match tokio::task::block_in_place(|| log_since(&self.log, self.log_bytes)) {
                Ok(Some(lines)) => self.adapter.counters_of_log(&lines),
                Ok(None) => BTreeMap::new(),
                Err(error) => {
                    tracing::info!(%error, log = %self.log.display(), "the server's log can't be read for its figures");
                    BTreeMap::new()
                }
            };
        }
        let Some(path) = self.adapter.metrics_path() else {
            return BTreeMap::new();
        };
        match body_of(self.control, &HttpCall::get(path)).await {
            Some(text) => self.adapter.parse_counters(&text),
            None => BTreeMap::new(),
        }
    }
}

/// Bytes of a log; 0 where there is none yet.
pub(super) fn log_length(log: &Path) -> u64 {
    log.metadata().map_or(0, |about| about.len())
}

/// What was written after the first `from` bytes; `None` where the file was begun anew since, or grew too much.
pub(super) fn log_since(log: &Path, from: u64) -> std::io::Result<Option<String>> {
    let mut file = std::fs::File::open(log)?;
    let length = file.metadata()?.len();
    if length < from || length - from > LOG_BYTES {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut bytes)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_since_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("server.log");
        std::fs::write(&log, "warm-up\n").unwrap();
        let before = log_length(&log);
        std::fs::write(&log, "warm-up\nmeasured \u{e9}\n").unwrap();
        assert_eq!(
            log_since(&log, before).unwrap().as_deref(),
            Some("measured \u{e9}\n")
        );

        std::fs::write(&log, "new\n").unwrap();
        assert_eq!(log_since(&log, before).unwrap(), None, "rotated since");
        assert!(log_since(&dir.path().join("absent"), 0).is_err());
    }
}
