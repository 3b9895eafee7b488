//! How a framework's knowledge becomes what the server room needs to launch it and to tell that it answers.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::server::{
    CompletionProbe, LaunchSpec, ProbeAnswer, ProbeError, ReadyPlan, Requirement, ResetProbe, ServerSettings,
};
use benchd_core::record::{DoneWhen, EndMarker, LaneId, Message, Outcome, REDACTED, Step, StreamShape};
use benchd_frameworks::{Adapter, ChatRequest, Endpoint};
use benchd_host::process::{LogSettings, StopPolicy};
use benchd_load::client::{Answer, OneOff, Target, request_once};
use benchd_plan::{Framework, ReasoningEffort, RequestSettings};

/// Output tokens of the readiness completion: enough for text to come, few enough for a slow machine.
const READY_TOKENS: u32 = 8;

/// How often an answer that no waiting mends is asked for again before the lane fails.
const READY_TRIES: u32 = 3;

/// What a stream shows is learned from the first answer, so that answer is asked for nothing.
const ANY_SHAPE: StreamShape = StreamShape {
    usage: false,
    end: EndMarker::EndOfBody,
};

/// Paragraphs of the reset probe: some hundred tokens, so that several cache blocks are filled.
const RESET_PROBE_LINES: u32 = 40;

/// The server's settings for a launch.
pub(super) fn server_settings(
    lane: &LaneId,
    framework: &Framework,
    adapter: &dyn Adapter,
    launch: &benchd_frameworks::Launch,
    log: LogSettings,
    delegated_cgroup: Option<PathBuf>,
    is_secret: impl Fn(&str) -> bool,
) -> ServerSettings {
    let mut shown = launch.redacted();
    // Filled in from benchd's own environment, whatever their names.
    for (name, value) in &mut shown.env {
        if is_secret(name) {
            REDACTED.clone_into(value);
        }
    }
    ServerSettings {
        lane: lane.clone(),
        launch: LaunchSpec {
            program: launch.program.clone(),
            args: launch.args.clone(),
            env: launch.env.clone(),
            cwd: launch.cwd.clone(),
            host: launch.host.clone(),
            port: launch.port,
            shown_argv: shown.argv(),
            shown_env: shown.env,
        },
        requirements: adapter
            .requirements()
            .into_iter()
            .map(|r| Requirement {
                path: r.path,
                what: r.what,
                executable: r.executable,
                remedy: r.remedy,
            })
            .collect(),
        start_timeout: framework.start_timeout,
        stop: StopPolicy::with_grace(framework.stop_grace),
        log,
        delegated_cgroup,
    }
}

/// How to tell that it answers.
pub(super) fn ready_plan(adapter: &dyn Adapter, steps: Vec<Step>, request: &RequestSettings) -> ReadyPlan {
    let health = adapter.health();
    ReadyPlan {
        health: health.call,
        health_done: DoneWhen::ok(),
        interval: health.interval,
        probe_timeout: health.timeout,
        steps,
        completion_timeout: request.timeout,
        completion_tries: READY_TRIES,
        expected_models: vec![adapter.served_model().to_owned()],
    }
}

/// Where chat requests go. A server that binds every address is called on loopback.
///
/// # Errors
/// The host's name can't be resolved.
pub(super) async fn target(endpoint: &Endpoint, path: &str) -> std::io::Result<Target> {
    let host = match endpoint.host.as_str() {
        "0.0.0.0" | "localhost" => "127.0.0.1",
        "::" | "[::]" => "::1",
        host => host.trim_matches(['[', ']']),
    };
    let addr: SocketAddr = tokio::net::lookup_host((host, endpoint.port))
        .await?
        .next()
        .ok_or_else(|| {
            std::io::Error::new(std::io::ErrorKind::NotFound, format!("`{host}` has no address"))
        })?;
    Ok(Target::new(addr, path))
}

/// A short completion, for readiness.
pub(super) struct Completion {
    target: Target,
    body: Bytes,
    reasoning_fields: &'static [&'static str],
    timeout: Duration,
    cancel: CancellationToken,
}

impl Completion {
    /// The readiness completion.
    pub(super) fn ready(
        adapter: &dyn Adapter,
        target: Target,
        reasoning_effort: Option<ReasoningEffort>,
        cancel: CancellationToken,
    ) -> Self {
        let text = "Say hello.".to_owned();
        Self::new(
            adapter,
            target,
            text,
            READY_TOKENS,
            reasoning_effort,
            Duration::MAX,
            cancel,
        )
    }

    /// A prompt of some hundred tokens that nothing else sends (`salt`), answered by one token: shows whether a
    /// prefix cache answers.
    pub(super) fn reset_probe(
        adapter: &dyn Adapter,
        target: Target,
        salt: u64,
        reasoning_effort: Option<ReasoningEffort>,
        timeout: Duration,
        cancel: CancellationToken,
    ) -> Self {
        let lines: Vec<String> = (0..RESET_PROBE_LINES)
            .map(|line| format!("{salt:012} cache probe line {line}: nothing else sends this text."))
            .collect();
        Self::new(
            adapter,
            target,
            lines.join("\n"),
            1,
            reasoning_effort,
            timeout,
            cancel,
        )
    }

    fn new(
        adapter: &dyn Adapter,
        target: Target,
        text: String,
        max_tokens: u32,
        reasoning_effort: Option<ReasoningEffort>,
        timeout: Duration,
        cancel: CancellationToken,
    ) -> Self {
        let body = adapter.request_body(&ChatRequest {
            messages: &[Message::user(text)],
            max_tokens,
            exact_output: false,
            temperature: 0.0,
            top_p: 1.0,
            seed: None,
            reasoning_effort,
        });
        Self {
            target,
            body: Bytes::from(body.to_string()),
            reasoning_fields: adapter.reasoning_fields(),
            timeout,
            cancel,
        }
    }

    async fn ask(&self, timeout: Duration) -> Result<Answer, ProbeError> {
        let how = OneOff {
            timeout,
            shape: ANY_SHAPE,
            reasoning_fields: self.reasoning_fields,
            cancel: self.cancel.clone(),
        };
        let answer = request_once(&self.target, self.body.clone(), how)
            .await
            .map_err(|error| ProbeError {
                text: error.to_string(),
                retryable: false,
            })?;
        if answer.is_ok() {
            return Ok(answer);
        }
        let retryable = match answer.outcome {
            Outcome::HttpStatus => answer.status.is_some_and(|status| status >= 500 || status == 429),
            Outcome::Cancelled | Outcome::Malformed => false,
            _ => true,
        };
        let text = answer.error.unwrap_or_else(|| answer.outcome.to_string());
        Err(ProbeError { text, retryable })
    }
}

fn probe_answer(answer: &Answer) -> ProbeAnswer {
    ProbeAnswer {
        model: answer.response_model.clone(),
        shape: answer.shown_shape(),
        prompt_tokens: answer.prompt_tokens,
        output_tokens: answer.output_tokens,
        cached_tokens: answer.cached_tokens,
    }
}

impl CompletionProbe for Completion {
    fn complete(&self, timeout: Duration) -> BoxFuture<'_, Result<ProbeAnswer, ProbeError>> {
        Box::pin(async move { self.ask(timeout).await.map(|answer| probe_answer(&answer)) })
    }
}

impl ResetProbe for Completion {
    fn send(&self) -> BoxFuture<'_, Result<ProbeAnswer, String>> {
        Box::pin(async move {
            self.ask(self.timeout)
                .await
                .map(|answer| probe_answer(&answer))
                .map_err(|error| error.text)
        })
    }
}
