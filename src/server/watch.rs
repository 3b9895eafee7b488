//! The inventory of a server's processes, journalled as it grows, so that a benchd that comes after this one
//! finds what has neither token nor group any more.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};

use super::settings::EventSink;
use benchd_core::record::LaneId;
use benchd_core::record::ProcessIdentity;
use benchd_host::process::ServerProcess;
use benchd_journal::{Event, ServerDescendants};

/// While it starts: processes come and go, nothing is measured.
const WHILE_STARTING: Duration = Duration::from_millis(250);

/// Once it is ready. One look reads `/proc` once, some milliseconds, on the control runtime.
const WHILE_READY: Duration = Duration::from_secs(5);

/// A task that looks, until dropped.
#[derive(Debug)]
pub(super) struct Inventory {
    task: JoinHandle<()>,
    ready: watch::Sender<bool>,
}

impl Inventory {
    pub(super) fn start(process: Arc<ServerProcess>, lane: LaneId, sink: Arc<dyn EventSink>) -> Self {
        let (ready, mut is_ready) = watch::channel(false);
        let task = tokio::spawn(async move {
            // The leader is journalled by its launch.
            let mut journalled = HashSet::from([key(process.leader())]);
            let mut before = HashSet::new();
            loop {
                let settled = *is_ready.borrow_and_update();
                let now = process.processes();
                let keys: HashSet<(i32, u64)> = now.iter().map(key).collect();
                // Once it is ready only who stays: a server that starts a short-lived helper every second
                // would fill the journal with them.
                let new = |k: &(i32, u64)| !journalled.contains(k) && (!settled || before.contains(k));
                if keys.iter().any(new) {
                    // All that run, not only the new ones: the last such event is the whole inventory.
                    journalled.clone_from(&keys);
                    sink.event(Event::ServerDescendants(ServerDescendants {
                        lane: lane.clone(),
                        processes: now,
                    }));
                }
                before = keys;
                let pause = if settled { WHILE_READY } else { WHILE_STARTING };
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    changed = is_ready.changed() => if changed.is_err() { break },
                }
            }
        });
        Self { task, ready }
    }

    /// The server is ready: looks once at once, then less often.
    pub(super) fn ready(&self) {
        self.ready.send_replace(true);
    }
}

fn key(process: &ProcessIdentity) -> (i32, u64) {
    (process.pid, process.start_ticks)
}

impl Drop for Inventory {
    fn drop(&mut self) {
        self.task.abort();
    }
}
