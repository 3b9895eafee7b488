//! Asks a running server how many tokens a prompt has: the usage of a request for one token.

use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use benchd_core::record::{Message, Outcome, StreamShape};
use benchd_frameworks::{Adapter, ChatRequest};
use benchd_load::client::{OneOff, Target, request_once};
use benchd_plan::ReasoningEffort;
use benchd_prompts::{PromptError, TokenCounter};

/// Counts by the usage that a server reports.
pub(crate) struct ServerCounter<'a> {
    pub(crate) adapter: &'a dyn Adapter,
    pub(crate) target: Target,
    pub(crate) shape: StreamShape,
    pub(crate) timeout: Duration,
    /// The model's effort, since it changes what the chat template adds.
    pub(crate) reasoning_effort: Option<ReasoningEffort>,
    /// Stops at once.
    pub(crate) cancel: CancellationToken,
}

impl TokenCounter for ServerCounter<'_> {
    async fn count(&mut self, messages: &[Message]) -> Result<u32, PromptError> {
        let body = self.adapter.request_body(&ChatRequest {
            messages,
            max_tokens: 1,
            exact_output: false,
            temperature: 0.0,
            top_p: 1.0,
            seed: None,
            reasoning_effort: self.reasoning_effort,
        });
        let how = OneOff {
            timeout: self.timeout,
            // A count needs the usage and nothing else: one token may not even make a chunk.
            shape: StreamShape {
                usage: true,
                ..self.shape
            },
            reasoning_fields: self.adapter.reasoning_fields(),
            cancel: self.cancel.clone(),
        };
        let answer = request_once(&self.target, Bytes::from(body.to_string()), how)
            .await
            .map_err(|error| PromptError::probe_for_good(error.to_string()))?;
        if let Some(tokens) = answer.record.prompt_tokens {
            return u32::try_from(tokens)
                .map_err(|_| PromptError::Implausible(format!("a prompt of {tokens} tokens")));
        }
        let why = answer
            .record
            .error
            .unwrap_or_else(|| "the answer has no usage".to_owned());
        // A refusal will be repeated; everything else may pass.
        let for_good = answer.record.outcome == Outcome::Cancelled
            || answer
                .record
                .status
                .is_some_and(|status| (400..500).contains(&status) && status != 429);
        Err(if for_good {
            PromptError::probe_for_good(why)
        } else {
            PromptError::probe(why)
        })
    }
}
