//! What the plan's webhook is told, and when: beside the run, never in its way.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::JoinHandle;

use super::{
    decide::EXIT_UNSAFE,
    display::Display,
    duration::short_duration,
    failure::Failure,
    start::{Purpose, RunOptions, StartedRun},
};
use crate::{
    check::host_info,
    notify::{self, Message, Occasion},
};
use benchd_journal::{LaneOutcome, RunOutcome};
use benchd_plan::Lane;

/// Tells the plan's webhook; nothing where the plan names none.
pub(super) struct Webhook<'a> {
    options: &'a RunOptions,
    display: &'a Display,
    webhook: Option<Arc<str>>,
    /// Messages on their way beside the run.
    under_way: Mutex<Vec<JoinHandle<()>>>,
}

impl<'a> Webhook<'a> {
    pub(super) fn new(options: &'a RunOptions, display: &'a Display) -> Self {
        Self {
            options,
            display,
            webhook: options
                .loaded
                .plan
                .notify
                .as_ref()
                .filter(|_| options.purpose == Purpose::Measure)
                .map(|n| n.webhook.as_str().into()),
            under_way: Mutex::default(),
        }
    }

    /// The run did not come to its first lane.
    pub(super) async fn could_not_begin(&self, failure: &Failure) {
        let occasion = if failure.code == EXIT_UNSAFE {
            Occasion::StoppedForSafety
        } else {
            Occasion::Failed
        };
        let message = Message {
            exit_code: Some(failure.code),
            ..self.message(occasion, None, &format!("could not begin: {}", failure.text))
        };
        wait(self.send(message)).await;
    }

    /// A lane failed for good; the run goes on meanwhile, and waits for the message only at its own end.
    pub(super) fn lane_failed(&self, run: &StartedRun, lane: &Lane, reason: &str) {
        let text = format!("lane {} failed: {reason}", lane.id);
        let sending = self.send(self.message(Occasion::LaneFailed, Some(run), &text));
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|earlier| !earlier.is_finished());
        under_way.extend(sending);
    }

    /// The run's end, whatever it is.
    pub(super) async fn ended(
        &self,
        run: &StartedRun,
        outcome: RunOutcome,
        exit_code: u8,
        reason: Option<&str>,
    ) {
        let (occasion, how) = match outcome {
            RunOutcome::Finished => (Occasion::Finished, "finished"),
            RunOutcome::Interrupted => (Occasion::Interrupted, "interrupted"),
            RunOutcome::Unsafe => (Occasion::StoppedForSafety, "stopped for safety"),
            RunOutcome::Aborted => (Occasion::Failed, "stopped"),
        };
        let because = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let took = short_duration(self.display.elapsed());
        let text = format!("{how} after {took}, exit code {exit_code}{because}");
        let report = run.dir.report_html();
        let message = Message {
            exit_code: Some(exit_code),
            report: report.is_file().then(|| report.display().to_string()),
            ..self.message(occasion, Some(run), &text)
        };
        let earlier = std::mem::take(&mut *self.under_way.lock().unwrap_or_else(PoisonError::into_inner));
        wait(earlier.into_iter().chain(self.send(message))).await;
    }

    fn message(&self, occasion: Occasion, run: Option<&StartedRun>, text: &str) -> Message {
        let plan = &self.options.loaded.plan.name;
        let host = host_info().hostname;
        let id = run.map_or("", |run| run.dir.id());
        let (lanes_failed, requests_failed) = run.map_or((0, 0), failures);
        let about = if id.is_empty() { plan } else { id };
        let text = format!("benchd {about} on {host}: {text}");
        Message {
            text: self.options.redactor.text(&text).into_owned(),
            occasion,
            run: id.to_owned(),
            plan: plan.clone(),
            host,
            exit_code: None,
            lanes: self.options.lanes.len(),
            lanes_failed,
            requests_failed,
            duration_s: self.display.elapsed().as_secs_f64(),
            report: None,
        }
    }

    fn send(&self, message: Message) -> Option<JoinHandle<()>> {
        let webhook = Arc::clone(self.webhook.as_ref()?);
        Some(tokio::spawn(async move {
            match notify::send(&webhook, &message).await {
                Ok(()) => tracing::info!(occasion = ?message.occasion, "the webhook was told"),
                Err(error) => tracing::warn!(%error, "the webhook was not told"),
            }
        }))
    }
}

/// Waits for messages, all together no longer than one may take.
async fn wait(sending: impl IntoIterator<Item = JoinHandle<()>>) {
    let all = futures_util::future::join_all(sending);
    if tokio::time::timeout(notify::SEND_LIMIT, all).await.is_err() {
        tracing::warn!("the webhook took too long");
    }
}

/// Lanes that failed, and counted requests that failed.
fn failures(run: &StartedRun) -> (usize, u64) {
    let state = run.journal.state();
    let lanes = state
        .lanes
        .values()
        .filter(|lane| {
            lane.ended
                .as_ref()
                .is_some_and(|e| e.outcome == LaneOutcome::Failed)
        })
        .count();
    let requests = state
        .lanes
        .values()
        .flat_map(|lane| lane.finished_cells())
        .map(|(_, cell)| cell.ended.failed)
        .sum();
    (lanes, requests)
}
