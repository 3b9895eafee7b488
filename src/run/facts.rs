//! What a server says of itself when it is asked.

use std::time::Duration;

use super::watchdog::Watchdog;
use crate::server::Control;
use benchd_core::record::HttpCall;
use benchd_frameworks::{Adapter, Facts};

/// Limit of one call for facts or counters.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Asks for all facts that the framework gives.
pub(super) async fn ask(adapter: &dyn Adapter, control: &Control, watchdog: &Watchdog) -> Facts {
    let mut answers = Vec::new();
    for call in adapter.facts_calls() {
        watchdog.ping();
        answers.push(body_of(control, &call).await);
    }
    adapter.parse_facts(&answers)
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
