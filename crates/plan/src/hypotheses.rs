//! The hypotheses that a plan states beforehand, with their thresholds: the vocabulary of verdicts.
//!
//! The defaults are part of the method: `docs/metrics.md` gives the reason for each.

use serde::{Deserialize, Serialize};

/// A hypothesis of the user's document.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
pub enum HypothesisId {
    /// SGLang beats vLLM on a shared prefix.
    H1,
    /// SGLang and vLLM overwhelm Ollama under concurrency.
    H2,
    /// Ollama competes in single-request latency.
    H3,
    /// Degradation under concurrency differs between frameworks.
    H4,
    /// Korean against English differs between frameworks.
    H5,
}

/// What a plan wants to know.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hypotheses {
    /// Who stands for whom.
    pub roles: Roles,
    /// The hypotheses, in the order in which they are judged.
    pub list: Vec<Hypothesis>,
}

/// Which frameworks of the plan (by name) stand for those that the hypotheses speak of. `None`: found by kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roles {
    /// SGLang.
    pub sglang: Option<String>,
    /// vLLM, with its prefix cache.
    pub vllm: Option<String>,
    /// Ollama.
    pub ollama: Option<String>,
    /// vLLM without its prefix cache: the control of H1.
    pub control: Option<String>,
}

/// One hypothesis and its thresholds.
#[derive(Debug, Clone, PartialEq)]
pub enum Hypothesis {
    /// SGLang beats vLLM on a shared prefix.
    H1(SharedPrefixTest),
    /// SGLang and vLLM overwhelm Ollama under concurrency.
    H2(ConcurrencyTest),
    /// Ollama competes in single-request latency.
    H3(SingleRequestTest),
    /// Degradation under concurrency differs between frameworks.
    H4(DegradationTest),
    /// Korean against English differs between frameworks.
    H5(KoreanTest),
    /// The plan's own.
    Own(OwnHypothesis),
}

impl Hypothesis {
    /// One of the document's, with the default thresholds.
    pub fn by_default(id: HypothesisId) -> Self {
        match id {
            HypothesisId::H1 => Self::H1(SharedPrefixTest::default()),
            HypothesisId::H2 => Self::H2(ConcurrencyTest::default()),
            HypothesisId::H3 => Self::H3(SingleRequestTest::default()),
            HypothesisId::H4 => Self::H4(DegradationTest::default()),
            HypothesisId::H5 => Self::H5(KoreanTest::default()),
        }
    }

    /// Its name: `H1`, or the plan's own.
    pub fn name(&self) -> &str {
        match self {
            Self::H1(_) => "H1",
            Self::H2(_) => "H2",
            Self::H3(_) => "H3",
            Self::H4(_) => "H4",
            Self::H5(_) => "H5",
            Self::Own(own) => &own.name,
        }
    }
}

/// Thresholds of H1: ratios of SGLang over vLLM.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharedPrefixTest {
    /// Output tokens per second, at least. Less than 5 % more is within what a restart of a server may change.
    pub throughput: f64,
    /// TTFT of the later requests, at most.
    pub ttft: f64,
    /// Later over first TTFT, at most.
    pub cache_gain: f64,
}

impl Default for SharedPrefixTest {
    fn default() -> Self {
        Self {
            throughput: 1.05,
            ttft: 0.95,
            cache_gain: 0.95,
        }
    }
}

/// Thresholds of H2: ratios of SGLang and of vLLM over Ollama.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConcurrencyTest {
    /// Output tokens per second, at least: what "overwhelming" means.
    pub overwhelming: f64,
    /// Streams from which on a level decides; where the plan has fewer, its highest level.
    pub from_concurrency: u32,
}

impl Default for ConcurrencyTest {
    fn default() -> Self {
        Self {
            overwhelming: 3.0,
            from_concurrency: 16,
        }
    }
}

/// Threshold of H3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SingleRequestTest {
    /// How much longer Ollama may take than the better of SGLang and vLLM, as a share.
    pub margin: f64,
}

impl Default for SingleRequestTest {
    fn default() -> Self {
        Self { margin: 0.10 }
    }
}

/// Threshold of H4.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DegradationTest {
    /// Difference of two scaling efficiencies from which on they differ, as a share.
    pub difference: f64,
}

impl Default for DegradationTest {
    fn default() -> Self {
        Self { difference: 0.10 }
    }
}

/// Threshold of H5.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KoreanTest {
    /// Difference of two Korean/English ratios from which on they differ, as a share.
    pub difference: f64,
}

impl Default for KoreanTest {
    fn default() -> Self {
        Self { difference: 0.10 }
    }
}

/// A hypothesis of the plan's own.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnHypothesis {
    /// Its name.
    pub name: String,
    /// The claim in words.
    pub claim: String,
    /// How its tests combine.
    pub rule: Rule,
    /// Its tests; never empty.
    pub tests: Vec<OwnTest>,
}

/// How the tests of a hypothesis combine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The claim says that every test holds.
    All,
    /// The claim says that at least one holds; the level is corrected for their number.
    Any,
}

/// One test of the plan's own: every cell that fits is compared on its own.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnTest {
    /// What is compared.
    pub figure: Figure,
    /// The framework that the claim is about.
    pub of: String,
    /// The framework that it is compared with.
    pub against: String,
    /// The scenario.
    pub scenario: String,
    /// Only cells with so many streams; all where empty.
    pub concurrency: Vec<u32>,
    /// Only cells with prompts of this length; all where empty.
    pub input_tokens: Vec<u32>,
    /// Where the ratio must lie.
    pub bound: Bound,
}

/// What a claim says of a ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// It is at least this.
    AtLeast(f64),
    /// It is at most this.
    AtMost(f64),
    /// It differs from 1 by more than this share, either way: it is above `1 + share` or below `1 / (1 + share)`.
    DiffersBy(f64),
    /// It differs from 1 by less than this share, either way.
    Within(f64),
}

/// A figure that hypotheses compare, as a ratio of two frameworks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Figure {
    /// Time to the first token.
    TtftMs,
    /// Latency of full-length answers.
    LatencyMs,
    /// Time per output token after the first.
    TpotMs,
    /// Output tokens of a request over its latency.
    TokensPerS,
    /// Output tokens of a whole pass over its duration.
    OutputTokensPerS,
    /// TTFT of the first request on a shared prefix (`prefix_cache`).
    FirstTtftMs,
    /// TTFT of the later requests on a shared prefix (`prefix_cache`).
    LaterTtftMs,
    /// Later over first TTFT, by pass (`prefix_cache`): the smaller, the more the cache saves.
    LaterOverFirst,
    /// Output tokens per second over those of the scenario's fewest streams, by stream (`concurrent`, `long_context`):
    /// 1 is ideal scaling.
    ScalingEfficiency,
    /// Prompt tokens, Korean over English of the same meaning (`korean`).
    KoOverEnPromptTokens,
    /// Output tokens of a request over its latency, Korean over English (`korean`).
    KoOverEnTokensPerS,
    /// Characters of an answer over its latency, Korean over English (`korean`).
    KoOverEnCharsPerS,
    /// TTFT, Korean over English (`korean`).
    KoOverEnTtftMs,
    /// Latency, Korean over English (`korean`).
    KoOverEnLatencyMs,
}

impl Figure {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::TtftMs,
        Self::LatencyMs,
        Self::TpotMs,
        Self::TokensPerS,
        Self::OutputTokensPerS,
        Self::FirstTtftMs,
        Self::LaterTtftMs,
        Self::LaterOverFirst,
        Self::ScalingEfficiency,
        Self::KoOverEnPromptTokens,
        Self::KoOverEnTokensPerS,
        Self::KoOverEnCharsPerS,
        Self::KoOverEnTtftMs,
        Self::KoOverEnLatencyMs,
    ];

    /// The name used in plans and files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TtftMs => "ttft_ms",
            Self::LatencyMs => "latency_ms",
            Self::TpotMs => "tpot_ms",
            Self::TokensPerS => "tokens_per_s",
            Self::OutputTokensPerS => "output_tokens_per_s",
            Self::FirstTtftMs => "first_ttft_ms",
            Self::LaterTtftMs => "later_ttft_ms",
            Self::LaterOverFirst => "later_over_first",
            Self::ScalingEfficiency => "scaling_efficiency",
            Self::KoOverEnPromptTokens => "ko_over_en_prompt_tokens",
            Self::KoOverEnTokensPerS => "ko_over_en_tokens_per_s",
            Self::KoOverEnCharsPerS => "ko_over_en_chars_per_s",
            Self::KoOverEnTtftMs => "ko_over_en_ttft_ms",
            Self::KoOverEnLatencyMs => "ko_over_en_latency_ms",
        }
    }

    /// Whether it compares the languages of a korean scenario.
    pub fn is_korean_over_english(self) -> bool {
        matches!(
            self,
            Self::KoOverEnPromptTokens
                | Self::KoOverEnTokensPerS
                | Self::KoOverEnCharsPerS
                | Self::KoOverEnTtftMs
                | Self::KoOverEnLatencyMs
        )
    }
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
