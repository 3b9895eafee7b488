//! A reason to stop, given once and awaited by whoever must.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Clones hear the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Alarm {
    token: CancellationToken,
    reason: Arc<OnceLock<String>>,
}

impl Alarm {
    /// The first reason is the cause; what follows is its consequence.
    pub(super) fn raise(&self, reason: String) {
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// Why it was raised, if it was.
    pub(super) fn reason(&self) -> Option<String> {
        self.reason.get().cloned()
    }

    /// Waits until it is raised.
    pub(super) async fn raised(&self) -> String {
        self.token.cancelled().await;
        self.reason().unwrap_or_default()
    }
}
