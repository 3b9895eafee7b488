//! The server's own counters around a cell: out of its Prometheus text, or out of its log where it has none.

use std::{collections::BTreeMap, time::Duration};

use super::{facts::body_of, server_log::ServerLog};
use crate::server::Control;
use benchd_core::record::HttpCall;
use benchd_frameworks::Adapter;

/// Pause between two readings that must be the same.
const SETTLING: Duration = Duration::from_millis(20);

/// Readings at most: a server that goes on counting by itself never settles.
const READINGS: usize = 10;

/// Counters as they stand, and where they are read.
pub(super) struct ServerCounters<'a> {
    adapter: &'a dyn Adapter,
    control: &'a Control,
    log: ServerLog,
    values: BTreeMap<String, f64>,
}

impl<'a> ServerCounters<'a> {
    /// Reads them before the measured requests.
    pub(super) async fn before(adapter: &'a dyn Adapter, control: &'a Control, log: ServerLog) -> Self {
        let mut counters = Self {
            adapter,
            control,
            log,
            values: BTreeMap::new(),
        };
        if adapter.counts_in_log() {
            // Lines of the warm-up may still be on their way.
            for _ in 0..READINGS {
                tokio::time::sleep(SETTLING).await;
                if !counters.log.moved_to_end() {
                    break;
                }
            }
        } else {
            counters.values = counters.settled().await;
        }
        counters
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
            let lines = self.log.since();
            return lines.map_or_else(BTreeMap::new, |lines| self.adapter.counters_of_log(&lines));
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
