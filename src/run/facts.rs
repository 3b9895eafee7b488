//! What a server says of itself when it is asked.

use std::time::Duration;

use super::{attempt::LaneAttempt, watchdog::Watchdog};
use crate::server::Control;
use benchd_core::record::HttpCall;
use benchd_frameworks::Facts;

/// Limit of one call for facts or counters.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for all facts that the framework gives, and reads in which numbers it serves the model: from its answers, from `log`,
/// its output since its launch, and from its settings and files.
pub(super) async fn ask(
    attempt: &LaneAttempt<'_>,
    control: &Control,
    watchdog: &Watchdog,
    log: &str,
) -> Facts {
    let mut answers = Vec::new();
    for call in attempt.adapter.facts_calls() {
        watchdog.ping();
        answers.push(body_of(control, &call).await);
    }
    let mut facts = attempt.adapter.parse_facts(&answers);
    // Reads headers of files.
    tokio::task::block_in_place(|| {
        benchd_frameworks::settle_precision(&mut facts, attempt.framework, attempt.model, log);
    });
    facts
}

/// The body of an answer with status 200; facts are not needed to measure, so nothing else is an error.
pub(super) async fn body_of(control: &Control, call: &HttpCall) -> Option<String> {
    match control.call(call, TIMEOUT).await {
        Ok(reply) if reply.status == 200 => Some(reply.body),
        Ok(reply) => {
            tracing::info!(%call, status = reply.status, "no answer to a question about facts");
            None
        }
        Err(error) => {
            tracing::info!(%call, %error, "no answer to a question about facts");
            None
        }
    }
}
