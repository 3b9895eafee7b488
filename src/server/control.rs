//! Calls to a server's control side: health, steps, metrics. Never through a proxy, never retried behind the
//! back, no connection kept, no redirect followed.

use std::time::{Duration, Instant};

use serde_json::Value;

use benchd_core::record::{HttpCall, Method, Step};

/// Most bytes of an answer that are read.
const REPLY_CAP_BYTES: usize = 16 << 20;

/// How much of an answer is shown to people.
const EXCERPT_CHARS: usize = 300;

/// Limit of the question whether a step is needed.
const UNLESS_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Body, invalid UTF-8 replaced.
    pub body: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }

    /// The start of the body for people, with a separator before it; empty where there is nothing to show.
    pub fn excerpt(&self) -> String {
        let text = self.body.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() {
            return String::new();
        }
        let mut shown: String = text.chars().take(EXCERPT_CHARS).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        format!(": {shown}")
    }
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No connection.
    #[error("no connection ({0})")]
    Connect(String),
    /// No whole answer in time.
    #[error("no answer within {:.1} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The file to upload can't be read.
    #[error("cannot read `{path}`: {source}")]
    Upload {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The answer broke off, or is no HTTP.
    #[error("broken answer ({0})")]
    Broken(String),
    /// The answer is too large.
    #[error("an answer of more than {} MiB", REPLY_CAP_BYTES >> 20)]
    TooLarge,
    /// The address or the call can't be put into a request.
    #[error("not a request ({0})")]
    NotARequest(String),
}

/// A step that did not get done.
#[derive(Debug, thiserror::Error)]
#[error("could not {what}: {call}: {seen}")]
pub struct StepError {
    /// The step.
    pub what: String,
    /// Its call.
    pub call: String,
    /// What was seen last.
    pub seen: String,
}

/// How a step got done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepOutcome {
    /// By its call.
    Done(Reply),
    /// It was done already.
    NotNeeded,
}

/// A client of one server's control side.
#[derive(Debug, Clone)]
pub struct Control {
    client: Result<reqwest::Client, String>,
    base: String,
}

impl Control {
    /// For a server that binds `host`: one that binds every address is called on loopback.
    pub fn new(host: &str, port: u16) -> Self {
        let host = match host {
            "0.0.0.0" => "127.0.0.1".into(),
            "::" | "[::]" => "[::1]".into(),
            v6 if v6.contains(':') && !v6.starts_with('[') => format!("[{v6}]"),
            other => other.to_owned(),
        };
        Self::for_url(&format!("http://{host}:{port}"))
    }

    /// For a base URL without a trailing slash.
    pub fn for_url(base: &str) -> Self {
        let client = crate::untimed::untimed_client()
            // Servers are spoken to by plain HTTP: a machine without CA certificates is fit for it.
            .tls_certs_only(std::iter::empty())
            .no_proxy()
            .retry(reqwest::retry::never())
            .redirect(reqwest::redirect::Policy::none())
            // A kept connection may be closed by the server just as it is used again.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|e| chain(&e));
        Self {
            client,
            base: base.trim_end_matches('/').to_owned(),
        }
    }

    /// Makes one call.
    ///
    /// # Errors
    /// No answer; an answer with an error status is an answer.
    pub async fn call(&self, call: &HttpCall, timeout: Duration) -> Result<Reply, CallError> {
        match tokio::time::timeout(timeout, self.send(call)).await {
            Ok(reply) => reply,
            Err(_) => Err(CallError::Timeout(timeout)),
        }
    }

    async fn send(&self, call: &HttpCall) -> Result<Reply, CallError> {
        let client = self
            .client
            .as_ref()
            .map_err(|e| CallError::NotARequest(e.clone()))?;
        let method = match call.method {
            Method::Get => reqwest::Method::GET,
            Method::Head => reqwest::Method::HEAD,
            Method::Post => reqwest::Method::POST,
            Method::Delete => reqwest::Method::DELETE,
        };
        let mut request = client.request(method, format!("{}{}", self.base, call.path));
        if let Some(body) = &call.body {
            request = request.json(body);
        } else if let Some(path) = &call.upload {
            let upload = |source| CallError::Upload {
                path: path.display().to_string(),
                source,
            };
            let file = tokio::fs::File::open(path).await.map_err(upload)?;
            let length = file.metadata().await.map_err(upload)?.len();
            request = request.header(reqwest::header::CONTENT_LENGTH, length).body(file);
        }
        let mut response = request.send().await.map_err(|error| {
            if error.is_connect() {
                CallError::Connect(chain(&error))
            } else if error.is_builder() {
                CallError::NotARequest(chain(&error))
            } else {
                CallError::Broken(chain(&error))
            }
        })?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| CallError::Broken(chain(&e)))? {
            if body.len() + chunk.len() > REPLY_CAP_BYTES {
                return Err(CallError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply {
            status,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    /// Carries out a step: asks whether it is needed, calls until the answer shows what it must.
    ///
    /// # Errors
    /// Its time is over, or the answer says that asking again is pointless.
    pub async fn run(&self, step: &Step) -> Result<StepOutcome, StepError> {
        let started = Instant::now();
        if let Some((question, done)) = &step.unless
            && let Ok(reply) = self.call(question, step.timeout.min(UNLESS_TIMEOUT)).await
            && done.check(reply.status, &reply.body).is_ok()
        {
            return Ok(StepOutcome::NotNeeded);
        }
        let failed = |seen: String| StepError {
            what: step.what.clone(),
            call: step.call.to_string(),
            seen,
        };
        let mut last: Option<String> = None;
        loop {
            let left = step.timeout.saturating_sub(started.elapsed());
            if left.is_zero() {
                let seen = last.unwrap_or_else(|| "there was no time left".into());
                let seen = format!("{seen} (after {:.1} s)", started.elapsed().as_secs_f64());
                return Err(failed(seen));
            }
            match self.call(&step.call, left).await {
                Ok(reply) => match step.done.check(reply.status, &reply.body) {
                    Ok(()) => return Ok(StepOutcome::Done(reply)),
                    Err(seen) => {
                        let seen = format!("{seen}{}", reply.excerpt());
                        if step.fatal.contains(&reply.status) {
                            return Err(failed(seen));
                        }
                        last = Some(seen);
                    }
                },
                Err(error @ (CallError::Upload { .. } | CallError::NotARequest(_))) => {
                    return Err(failed(error.to_string()));
                }
                // A call that took all the time that was left says less than the answer before it.
                Err(CallError::Timeout(_)) if last.is_some() => {}
                Err(error) => last = Some(error.to_string()),
            }
            let left = step.timeout.saturating_sub(started.elapsed());
            tokio::time::sleep(step.interval.min(left)).await;
        }
    }

    /// Prometheus text as name -> sum over labels.
    ///
    /// # Errors
    /// No answer, or not status 200.
    pub async fn metrics(
        &self,
        path: &str,
        timeout: Duration,
    ) -> Result<std::collections::BTreeMap<String, f64>, String> {
        let reply = self
            .call(&HttpCall::get(path), timeout)
            .await
            .map_err(|e| e.to_string())?;
        if reply.status != 200 {
            return Err(format!("status {}{}", reply.status, reply.excerpt()));
        }
        Ok(benchd_frameworks::parse_metrics(&reply.body))
    }
}

/// An error with its causes: reqwest's own text leaves them out. Without the address, which is told beside it.
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}
