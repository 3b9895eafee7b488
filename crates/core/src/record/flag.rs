//! Reasons to distrust a cell.

use serde::{Deserialize, Serialize};

/// Why to distrust a cell. One enum for the whole project: where a cell's figures are shown, so are its flags.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum FlagKind {
    /// Requests failed.
    FailedRequests,
    /// The server reported fewer prompt tokens than were sent: it cut the prompt.
    TruncatedPrompt,
    /// The reported prompt tokens differ from what was asked by more than the tolerance.
    PromptLength,
    /// Answers shorter than the fixed output length.
    ShortOutput,
    /// The server sends no usage: token counts are not known.
    NoUsage,
    /// A prefix cache answered for prompts that should have shared no prefix.
    ServedFromCache,
    /// The same prompt throughout, as the plan asks: a prefix cache answers for the prefill.
    IdenticalPrompts,
    /// The cache could not be reset before the cell.
    CacheNotReset,
    /// The reset was asked for but nothing proves that it worked.
    CacheResetUnproven,
    /// A reason other than idleness took 2 % of the GPU's clock or more.
    Throttled,
    /// Another process used the GPU while the cell ran.
    StrangerOnGpu,
    /// GPU samples are missing or the device answered with errors.
    GpuSamplesMissing,
    /// The client sent late by as much as the figures differ.
    ClientTooSlow,
    /// The event rate came near the largest that this client sustains.
    ClientNearLimit,
    /// A difference in this cell is smaller than the client's own error.
    BelowClientError,
    /// Too few samples for the percentile that is shown.
    FewSamples,
    /// The same load took another time later in the cell or the lane, or another time or clock in another round.
    Drift,
    /// Most events came several to a read: gaps between them are not the server's.
    CoalescedChunks,
    /// Answers without a visible token: no time to first token, no time per token.
    NoText,
    /// Several tokens a chunk: gaps are between chunks, not tokens.
    MultiTokenChunks,
    /// The server answered under another model name than was asked for.
    WrongModel,
    /// benchd does not control this server (`url:`).
    NotControlled,
    /// A part of the model runs on the CPU.
    CpuOffload,
    /// The quantisation or precision differs from what the plan expects.
    Precision,
    /// There is no steady state in the cell: fewer than two waves of requests.
    NoSteadyState,
    /// The server's own figures say otherwise than benchd's, beyond the bounds in which they agree.
    DisagreesWithServer,
}

/// A flag on a cell: what was seen; why it matters and what to do come with its kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Flag {
    /// The kind.
    pub kind: FlagKind,
    /// What was seen, with figures.
    pub seen: String,
}

impl Flag {
    /// A flag of `kind`, with what was seen.
    pub fn new(kind: FlagKind, seen: impl Into<String>) -> Self {
        Self {
            kind,
            seen: seen.into(),
        }
    }
}

impl FlagKind {
    /// The name used in files: `served_from_cache`.
    pub fn as_str(self) -> &'static str {
        self.texts().0
    }

    /// Why the flag matters.
    pub fn why(self) -> &'static str {
        self.texts().1
    }

    /// What to do about it.
    pub fn remedy(self) -> &'static str {
        self.texts().2
    }

    #[rustfmt::skip]
    fn texts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::FailedRequests => ("failed_requests", "figures speak of the requests that succeeded only; time-outs count as at least their limit", "read the errors in requests.jsonl and the server's log"),
            Self::TruncatedPrompt => ("truncated_prompt", "a shorter prompt is prefilled faster: the times are not of the length that is printed", "raise the server's context length (OLLAMA_CONTEXT_LENGTH, --max-model-len, --context-length)"),
            Self::PromptLength => ("prompt_length", "the cell compares prompts of another length than the plan asks", "give the model's tokenizer file in the plan, and compare the chat templates"),
            Self::ShortOutput => ("short_output", "a short answer ends sooner: its latency is not comparable with a full one", "compare full-length answers only (they are reported apart), or compare TTFT and TPOT"),
            Self::NoUsage => ("no_usage", "without the server's own count there is no trustworthy number of tokens", "use a server version that honours stream_options.include_usage"),
            Self::ServedFromCache => ("served_from_cache", "a cache answered for the prefill: TTFT is not the price of the prompt", "use cache: reset, distinct prompts, or a lane without prefix cache"),
            Self::IdenticalPrompts => ("identical_prompts", "with a prefix cache only the first request pays for the prefill", "use prompts: distinct to compare the prefill itself"),
            Self::CacheNotReset => ("cache_not_reset", "what an earlier cell left in the cache may answer for this one", "restart the server between cells, or use prompts that share no prefix"),
            Self::CacheResetUnproven => ("cache_reset_unproven", "some servers answer 200 to a reset that they did not do", "compare cached_tokens of the first requests of the cell"),
            Self::Throttled => ("throttled", "a reason held the GPU's clock below what it holds otherwise: the cell is not comparable with one at full clocks", "improve cooling or the power limit, and run the cell again"),
            Self::StrangerOnGpu => ("stranger_on_gpu", "another process took memory and time from the server", "run with the GPU to yourself (host.exclusive: true)"),
            Self::GpuSamplesMissing => ("gpu_samples_missing", "memory and utilisation of this cell are incomplete", "look for NVML errors in gpu.jsonl and in the kernel's log"),
            Self::ClientTooSlow => ("client_too_slow", "requests went out late: a figure may differ from another's by no more than that (arrivals carry the kernel's time and are not touched)", "free a core for benchd, or lower the concurrency"),
            Self::ClientNearLimit => ("client_near_limit", "near its limit the client delays what it measures", "see benchd selfcheck for this machine's limit"),
            Self::BelowClientError => ("below_client_error", "a difference smaller than the client's own error is not a difference", "see benchd selfcheck; use more repeats"),
            Self::FewSamples => ("few_samples", "a percentile from too few samples is an estimate", "use more repeats: p95 needs 90 requests, p99 needs 459"),
            Self::Drift => ("drift", "under the same load the same request took another time, or met another clock: the machine did not stay the same", "use order: rotate or interleave, and repeats"),
            Self::CoalescedChunks => ("coalesced_chunks", "events that arrive in one read have no gap of their own", "compare TPOT, which uses first and last token only"),
            Self::NoText => ("no_text", "an answer without text has no TTFT and no TPOT: those of the cell are of the others only, or missing", "look at what the server writes into its stream (its parser for reasoning may hold everything back), and at its log"),
            Self::MultiTokenChunks => ("multi_token_chunks", "gaps between chunks are not gaps between tokens", "compare TPOT, which counts tokens by the server's usage"),
            Self::WrongModel => ("wrong_model", "the figures may be of another model", "check the served model's name in the plan and the server's log"),
            Self::NotControlled => ("not_controlled", "benchd neither started nor stopped this server: its arguments, cache and load are not known", "let benchd launch the server (command:)"),
            Self::CpuOffload => ("cpu_offload", "layers on the CPU are slower by an order of magnitude", "lower the context length or the parallel requests, or use a smaller model"),
            Self::Precision => ("precision", "quantised weights are smaller and faster, and answer differently", "say so beside the comparison, or serve the same precision everywhere"),
            Self::NoSteadyState => ("no_steady_state", "the start and end of the load are a large part of the cell", "use more requests than two waves of the concurrency"),
            Self::DisagreesWithServer => ("disagrees_with_server", "benchd and the server describe the same requests, and part in a figure that both see whole: other requests may have reached the server, or it counts something else", "see the cross-check in the report, and whether others sent requests to this server meanwhile"),
        }
    }
}

impl std::fmt::Display for FlagKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
