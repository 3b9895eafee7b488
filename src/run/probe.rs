//! Short completions that show whether a server answers, and whether from its prefix cache.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use crate::server::{CompletionProbe, ProbeAnswer, ProbeError, ResetProbe};
use benchd_core::record::{EndMarker, Message, Outcome, StreamShape};
use benchd_frameworks::{Adapter, ChatRequest, Endpoint};
use benchd_load::client::{OneOff, Target, request_once};
use benchd_plan::ReasoningEffort;

/// Output tokens of the readiness completion: enough for text to come, few enough for a slow machine.
const READY_TOKENS: u32 = 8;

/// What a stream shows is learned from the first answer, so that answer is asked for nothing.
const ANY_SHAPE: StreamShape = StreamShape {
    usage: false,
    end: EndMarker::EndOfBody,
};

/// Paragraphs of the reset probe: some hundred tokens, so that several cache blocks are filled.
const RESET_PROBE_LINES: u32 = 40;

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

    async fn ask(&self, timeout: Duration) -> Result<ProbeAnswer, ProbeError> {
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
        if answer.record.is_ok() {
            return Ok(ProbeAnswer {
                shape: answer.shown_shape(),
                model: answer.record.response_model,
                prompt_tokens: answer.record.prompt_tokens,
                output_tokens: answer.record.output_tokens,
                cached_tokens: answer.record.cached_tokens,
            });
        }
        let retryable = match answer.record.outcome {
            Outcome::HttpStatus => answer
                .record
                .status
                .is_some_and(|status| status >= 500 || status == 429),
            Outcome::Cancelled | Outcome::Malformed => false,
            _ => true,
        };
        let text = answer
            .record
            .error
            .unwrap_or_else(|| answer.record.outcome.to_string());
        Err(ProbeError { text, retryable })
    }
}

impl CompletionProbe for Completion {
    fn complete(&self, timeout: Duration) -> BoxFuture<'_, Result<ProbeAnswer, ProbeError>> {
        Box::pin(self.ask(timeout))
    }
}

impl ResetProbe for Completion {
    fn send(&self) -> BoxFuture<'_, Result<ProbeAnswer, String>> {
        Box::pin(async { self.ask(self.timeout).await.map_err(|error| error.text) })
    }
}
