//! What one request did.

use serde::{Deserialize, Serialize};

/// Version of the request record's layout; a reader refuses a version that it does not know.
pub const REQUEST_RECORD_VERSION: u32 = 1;

/// How a request ended. Everything but `Ok` is a failure.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// HTTP 200, no error event, a finish reason, and the usage and end marker this server showed when ready.
    #[default]
    Ok,
    /// No connection, or no status line.
    Connect,
    /// Any other status than 200.
    HttpStatus,
    /// The request's limit passed. Counts in latency comparisons as at least its limit.
    Timeout,
    /// The server said in the stream that it failed.
    StreamError,
    /// The stream ended or was reset after the status, without its end.
    Truncated,
    /// Bytes that are no event.
    Malformed,
    /// benchd stopped it.
    Cancelled,
}

impl Outcome {
    /// All outcomes, in the order in which reports list them.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Connect,
        Self::HttpStatus,
        Self::Timeout,
        Self::StreamError,
        Self::Truncated,
        Self::Malformed,
        Self::Cancelled,
    ];

    /// The name used in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Connect => "connect",
            Self::HttpStatus => "http_status",
            Self::Timeout => "timeout",
            Self::StreamError => "stream_error",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a request counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Sent to warm the server; stored, never counted.
    Warmup,
    /// Counted.
    #[default]
    Measured,
}

/// Where a token count comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// The server's `usage`.
    Usage,
    /// The server sent none; there is no count, only a number of chunks (which is not a number of tokens).
    #[default]
    None,
}

/// One line of `requests.jsonl`. Times with `_us` are integer microseconds; those without another origin in
/// their description count from the send (the instant before the request's first byte was written, with the
/// connection already open).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RequestRecord {
    /// Layout version, [`REQUEST_RECORD_VERSION`].
    pub v: u32,
    /// Round of the whole plan, 1 on.
    pub round: u32,
    /// The scenario's name in the plan.
    pub scenario: String,
    /// The cell: `concurrent/c16`.
    pub cell: String,
    /// Attempt of the cell, 1 on; only the attempt that an end event names is counted.
    pub attempt: u32,
    /// Attempt of the lane, 1 on (`retries:`).
    pub lane_attempt: u32,
    /// Pass within the cell, 1 on; 0 for warm-up.
    pub pass: u32,
    /// Position in the pass, from 0.
    pub index: u32,
    /// Stream (slot of the closed loop) that sent it, from 0.
    pub stream: u32,
    /// The prompt in `prompts.jsonl`.
    pub prompt_id: String,
    /// The server's id of the answer.
    pub response_id: Option<String>,
    /// The model's name as the server's chunks give it.
    pub response_model: Option<String>,
    /// Warm-up or measured.
    pub phase: Phase,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong, for people; `None` when ok.
    pub error: Option<String>,
    /// HTTP status, where a status line came.
    pub status: Option<u16>,
    /// Wall clock at the send, microseconds since the Unix epoch.
    pub sent_unix_us: u64,
    /// Time from the planned send to the actual one (open loop only).
    pub queued_us: Option<u64>,
    /// Time that opening the connection took, before the send.
    pub connect_us: Option<u64>,
    /// First event of any kind.
    pub first_chunk_us: Option<u64>,
    /// First token, reasoning or content: this is TTFT.
    pub first_token_us: Option<u64>,
    /// First token of the answer itself.
    pub first_content_us: Option<u64>,
    /// Last token-bearing event, the end point of TPOT.
    pub last_token_us: Option<u64>,
    /// End of the request: its last event, or the moment of its failure.
    pub end_us: u64,
    /// Arrival of each token-bearing event.
    pub chunks_us: Vec<u64>,
    /// How many of those events came in the same read as the one before: their gap of 0 is the network's or
    /// the client's, not the server's.
    pub coalesced: u32,
    /// Prompt tokens by the server's usage.
    pub prompt_tokens: Option<u64>,
    /// Output tokens by the server's usage, reasoning included.
    pub output_tokens: Option<u64>,
    /// Prompt tokens served from a cache, where the server says so.
    pub cached_tokens: Option<u64>,
    /// Where the counts come from.
    pub token_source: TokenSource,
    /// `length`, `stop`, …
    pub finish_reason: Option<String>,
    /// The answer.
    pub text: String,
    /// The reasoning, where the server sends it apart.
    pub reasoning: String,
    /// Durations that the server itself gave in its stream (llama-server's `timings`), untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_timings: Option<serde_json::Value>,
}

impl RequestRecord {
    /// Whether it counts as a success.
    pub fn is_ok(&self) -> bool {
        self.outcome == Outcome::Ok
    }

    /// Time to first token in microseconds, measured from the planned send where there was one, so that a
    /// client-side queue can't hide (coordinated omission).
    pub fn ttft_us(&self) -> Option<u64> {
        self.first_token_us.map(|t| t + self.queued_us.unwrap_or(0))
    }

    /// End-to-end latency in microseconds, from the planned send where there was one.
    pub fn latency_us(&self) -> u64 {
        self.end_us + self.queued_us.unwrap_or(0)
    }

    /// Time per output token after the first, in microseconds: `(last token - first token) / (tokens - 1)`.
    /// `None` for fewer than two tokens, or where the whole answer came in one event, which says nothing
    /// about the time between tokens.
    pub fn tpot_us(&self) -> Option<f64> {
        let tokens = self.output_tokens?;
        if tokens < 2 || self.chunks_us.len() < 2 {
            return None;
        }
        let (first, last) = (self.first_token_us?, self.last_token_us?);
        Some((last.checked_sub(first)?) as f64 / (tokens - 1) as f64)
    }
}
