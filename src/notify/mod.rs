//! Telling people: a webhook gets a short JSON message (Slack-compatible `text`, and fields for programs).
//!
//! Never in the run's way: a message goes out beside the run, has one retry, and its failure is only logged.

use std::time::Duration;

use serde::Serialize;

use crate::untimed::untimed_client;

/// Limit of one attempt.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// Pause before the second and last attempt.
const RETRY_PAUSE: Duration = Duration::from_secs(3);

/// The longest that [`send`] takes.
pub(crate) const SEND_LIMIT: Duration = Duration::from_secs(25);

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Occasion {
    /// The run ended by itself.
    Finished,
    /// A lane failed, and will not be tried again.
    LaneFailed,
    /// The run was interrupted; it can be resumed.
    Interrupted,
    /// The run could not begin, or could not go on.
    Failed,
    /// The run stopped for safety.
    StoppedForSafety,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Message {
    /// One or two lines for people; the field that Slack shows.
    pub(crate) text: String,
    pub(crate) occasion: Occasion,
    /// The run's id; empty where there is none yet.
    pub(crate) run: String,
    pub(crate) plan: String,
    pub(crate) host: String,
    /// benchd's exit code, once known.
    pub(crate) exit_code: Option<u8>,
    pub(crate) lanes: usize,
    pub(crate) lanes_failed: usize,
    pub(crate) requests_failed: u64,
    /// Seconds since this benchd began.
    pub(crate) duration_s: f64,
    /// The report, where there is one.
    pub(crate) report: Option<String>,
}

/// Why a message did not get through. Never shows the address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    #[error("the HTTP client can't be built: {0}")]
    Client(String),
    #[error("the webhook could not be reached: {0}")]
    Send(String),
    #[error("the webhook answered with status {0}")]
    Status(u16),
}

impl NotifyError {
    /// A refusal will be repeated; a server's trouble may pass.
    fn may_pass(&self) -> bool {
        match self {
            Self::Client(_) => false,
            Self::Send(_) => true,
            Self::Status(status) => *status >= 500 || *status == 429,
        }
    }
}

/// Sends a message; once more after a pause where that may help.
///
/// # Errors
/// See [`NotifyError`].
pub(crate) async fn send(webhook: &str, message: &Message) -> Result<(), NotifyError> {
    let client = client()?;
    match attempt(&client, webhook, message).await {
        Err(error) if error.may_pass() => {
            tokio::time::sleep(RETRY_PAUSE).await;
            attempt(&client, webhook, message).await
        }
        done => done,
    }
}

fn client() -> Result<reqwest::Client, NotifyError> {
    untimed_client()
        .timeout(ATTEMPT_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| NotifyError::Client(causes(&error.without_url())))
}

async fn attempt(client: &reqwest::Client, webhook: &str, message: &Message) -> Result<(), NotifyError> {
    let answer = client
        .post(webhook)
        .json(message)
        .send()
        .await
        .map_err(|error| NotifyError::Send(causes(&error.without_url())))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(NotifyError::Status(answer.status().as_u16()))
    }
}

/// An error with its causes, which is where a refused certificate shows.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut at = error.source();
    while let Some(cause) = at {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        at = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
