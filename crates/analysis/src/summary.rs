//! The summaries, as they stand in `summary.json`. Every field says its unit in its name; times are milliseconds.

use std::collections::BTreeMap;

use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};

use super::{
    Counts, Distribution, Expectation, FrameworkComparison, GpuSummary, KoreanComparison, LaneDrift,
    LaneQuality, OutputAgreement, QualityPair, Rate, RoundsSummary, TextFigures, Verdict, common_cells,
};
use benchd_core::record::ClientLag;
use benchd_core::record::{CompileCaches, Flag, GpuProcess, LaneId, LoadFigures, Precision};
use benchd_journal::{RunInfo, StrangerStay};
use benchd_plan::ScenarioKind;

/// Version of `summary.json`.
pub const SUMMARY_VERSION: u32 = 1;

/// What a cell's figures come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CellSummary {
    /// Layout version, [`SUMMARY_VERSION`].
    pub v: u32,
    /// The lane.
    pub lane: LaneId,
    /// The scenario's name in the plan.
    pub scenario: String,
    /// The scenario's kind.
    pub kind: ScenarioKind,
    /// The cell.
    pub cell: String,
    /// Attempt that is counted.
    pub attempt: u32,
    /// Streams of the closed loop.
    pub concurrency: u32,
    /// Requests a second that the plan asks for (open loop); `None` in a closed loop.
    pub asked_requests_per_s: Option<f64>,
    /// How the requests arrive: `closed`, `constant`, `poisson`, `gamma (burstiness 0.5)`.
    pub arrival: String,
    /// Prompt tokens asked for, without the chat template; `None` for written texts.
    pub asked_prompt_tokens: Option<u32>,
    /// Output tokens asked for: exact, or for written texts the most.
    pub asked_output_tokens: u32,
    /// When the first pass began, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// When the last pass ended, microseconds since the Unix epoch.
    pub ended_unix_us: u64,
    /// Duration of each pass, seconds: first send to last end.
    pub passes_s: Vec<f64>,
    /// Measured requests, warm-up left out.
    pub requests: u64,
    /// Failed ones among them.
    pub failed: u64,
    /// Failed requests by outcome.
    pub failures: BTreeMap<String, u64>,
    /// The first failure's text, as an example.
    pub failure_example: Option<String>,
    /// Successful requests with the full output length (fixed-length cells).
    pub full_outputs: u64,
    /// Successful requests that came back shorter (fixed-length cells).
    pub short_outputs: u64,
    /// Send to first token, reasoning or content. A time-out before the first token counts as its limit.
    pub ttft_ms: Option<Distribution>,
    /// Send to first event of any kind.
    pub first_chunk_ms: Option<Distribution>,
    /// Send to first token of the answer itself.
    pub first_content_ms: Option<Distribution>,
    /// Send to the end, all successful requests; time-outs count as their limit.
    pub latency_ms: Option<Distribution>,
    /// The same among outputs of full length: what latencies are compared by. `None` where the length is not fixed
    /// or the server sends no usage.
    pub latency_full_ms: Option<Distribution>,
    /// Time per output token after the first: (last token - first token) / (output tokens - 1).
    pub tpot_ms: Option<Distribution>,
    /// Gaps between token-bearing events, pooled over requests.
    pub chunk_gap_ms: Option<ChunkGaps>,
    /// Time to open the connection, before the send.
    pub connect_ms: Option<Distribution>,
    /// Planned send to actual send (open loop), contained in TTFT and latency.
    pub queued_ms: Option<Distribution>,
    /// Requests sent over the time from the first send to the last: what the open loop achieved; the median over the
    /// passes. `None` in a closed loop.
    pub sent_requests_per_s: Option<Rate>,
    /// Output tokens of a request over its latency, tokens per second.
    pub request_tokens_per_s: Option<Distribution>,
    /// Output tokens of successful requests over the duration of the pass.
    pub output_tokens_per_s: Option<Rate>,
    /// Successful requests over the duration of the pass.
    pub requests_per_s: Option<Rate>,
    /// Prompt tokens by the server's usage, chat template included.
    pub prompt_tokens: Option<Counts>,
    /// Output tokens by the server's usage, reasoning included.
    pub output_tokens: Option<Counts>,
    /// Prompt tokens served from a cache, where the server says so.
    pub cached_tokens: Option<Counts>,
    /// The steady state, where there is one.
    pub steady: Option<Steady>,
    /// Requests that met the objectives, where the plan states some.
    pub goodput: Option<Goodput>,
    /// The GPU over the cell.
    pub gpu: Option<GpuSummary>,
    /// First against later requests (`prefix_cache`).
    pub prefix_cache: Option<PrefixCache>,
    /// Characters and bytes of the answers (`korean`).
    pub text: Option<TextFigures>,
    /// The client's own lag.
    pub client: ClientLag,
    /// The server's own counters over the cell, where it has some.
    pub server_counters: BTreeMap<String, f64>,
    /// What the server itself counted and timed, beside benchd's own figures.
    pub server_says: ServerSays,
    /// What the cache reset before the cell came to.
    pub cache_reset: String,
    /// Reasons to distrust the cell.
    pub flags: Vec<Flag>,
}

/// Gaps between token-bearing events (what vLLM calls ITL). Kept in a histogram of 0.1 % resolution, since a cell may
/// have hundreds of millions of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ChunkGaps {
    /// Gaps, those within one read left out.
    pub n: u64,
    /// Events that came in the same read as the one before: left out, their gap is not the server's.
    pub coalesced: u64,
    /// Mean, milliseconds.
    pub mean: f64,
    /// Median, milliseconds.
    pub p50: f64,
    /// 95th percentile, milliseconds.
    pub p95: f64,
    /// 99th percentile, milliseconds.
    pub p99: f64,
    /// Largest, milliseconds.
    pub max: f64,
}

/// The steady state of a closed loop: from the first moment with at least 95 % of the streams in flight to the last
/// such moment, in each pass.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Steady {
    /// Share of the passes' time that it covers, 0 to 1.
    pub share: f64,
    /// Output tokens that fall in it (spread evenly between a request's first and last token) over its length.
    pub output_tokens_per_s: Option<Rate>,
    /// Requests sent in it, the first of each stream left out.
    pub requests: u64,
    /// Their TTFT.
    pub ttft_ms: Option<Distribution>,
    /// Their latency.
    pub latency_ms: Option<Distribution>,
}

/// The server's own figures beside benchd's. Counters are taken before and after the measured passes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerSays {
    /// Prompt tokens by the server's counter.
    pub prompt_tokens: Option<f64>,
    /// Output tokens by the server's counter.
    pub output_tokens: Option<f64>,
    /// Its mean TTFT by its counters, milliseconds; without the network and the queue before its API.
    pub ttft_mean_ms: Option<f64>,
    /// Time to process the prompt by the `timings` in the answers (llama-server), milliseconds.
    pub prompt_ms: Option<Distribution>,
    /// Time to generate by the `timings`, milliseconds.
    pub predicted_ms: Option<Distribution>,
    /// benchd's TTFT less `prompt_ms` of the same request, milliseconds: connection, queue, first sampling.
    pub ttft_less_prompt_ms: Option<Distribution>,
    /// benchd's figures beside the server's, each with the bound in which they agree.
    pub checks: Vec<CrossCheck>,
}

/// One of benchd's figures beside the server's own of the same requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CrossCheck {
    /// What is compared.
    pub figure: CheckedFigure,
    /// benchd's.
    pub ours: f64,
    /// The server's.
    pub server: f64,
    /// The least that `server` may be.
    pub least: f64,
    /// The most that `server` may be.
    pub most: f64,
}

impl CrossCheck {
    /// Whether the server's figure lies within the bounds.
    pub fn agrees(&self) -> bool {
        (self.least..=self.most).contains(&self.server)
    }
}

/// What benchd and a server both say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckedFigure {
    /// Requests answered.
    Requests,
    /// Prompt tokens of all of them.
    PromptTokens,
    /// Output tokens of all of them.
    OutputTokens,
    /// Output tokens per second of the measured passes.
    OutputTokensPerS,
    /// Mean time to first token, milliseconds.
    TtftMeanMs,
    /// Mean latency, milliseconds.
    LatencyMeanMs,
    /// Mean time per output token, milliseconds.
    TpotMeanMs,
    /// Mean time from the first token to the last, milliseconds.
    GenerationMeanMs,
}

impl CheckedFigure {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::PromptTokens => "prompt tokens",
            Self::OutputTokens => "output tokens",
            Self::OutputTokensPerS => "output tokens/s",
            Self::TtftMeanMs => "mean TTFT (ms)",
            Self::LatencyMeanMs => "mean latency (ms)",
            Self::TpotMeanMs => "mean TPOT (ms)",
            Self::GenerationMeanMs => "mean generation (ms)",
        }
    }

    /// Whether it is a count, which agrees only where it is equal.
    pub fn is_count(self) -> bool {
        matches!(self, Self::Requests | Self::PromptTokens | Self::OutputTokens)
    }
}

/// Requests that met every objective given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Goodput {
    /// Good requests over the duration of the pass.
    pub requests_per_s: Option<Rate>,
    /// Good requests over all measured ones, failed ones included, 0 to 1.
    pub share: f64,
}

/// First against later requests of a pass with a shared prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PrefixCache {
    /// Duration of each pass from its first send to its last end, seconds: the whole scenario's time (총 처리 시간).
    pub total_s: Option<Distribution>,
    /// TTFT of the first request of each pass.
    pub first_ttft_ms: Option<Distribution>,
    /// TTFT of all later ones.
    pub later_ttft_ms: Option<Distribution>,
    /// Later over first, by pass: `median(later) / first`, as many values as passes. Below 1 the cache helps.
    pub later_over_first: Option<Distribution>,
    /// Output tokens over latency of the first request of each pass, tokens per second.
    pub first_tokens_per_s: Option<Distribution>,
    /// The same of all later ones.
    pub later_tokens_per_s: Option<Distribution>,
    /// Share of the first requests' prompt tokens that the server says it had cached, 0 to 1; `None` where it doesn't
    /// say.
    pub first_cached_share: Option<f64>,
    /// The same of the later requests.
    pub later_cached_share: Option<f64>,
}

/// A cell that gave no figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MissingCell {
    /// The cell.
    pub cell: String,
    /// Why: it failed, was not reached, or its records can't be read.
    pub why: String,
}

/// What a lane comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LaneSummary {
    /// Layout version, [`SUMMARY_VERSION`].
    pub v: u32,
    /// The lane.
    pub lane: LaneId,
    /// The framework's kind.
    pub framework_kind: String,
    /// The framework's version: as the server says, else as the plan pins it.
    pub version: Option<String>,
    /// The id under which the model is served.
    pub model_id: Option<String>,
    /// `finished`, `failed`, `interrupted`, `running` (or benchd died), `not started`.
    pub outcome: String,
    /// Where it failed.
    pub stage: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Last lines of the server's log, where it failed.
    pub log_tail: Vec<String>,
    /// Attempts.
    pub attempts: u32,
    /// Those of them that ended with benchd itself, which was killed: no fault of the framework.
    #[serde(default)]
    pub cut_off: u32,
    /// Those of them that a signal interrupted.
    #[serde(default)]
    pub interrupted: u32,
    /// Strangers that were on the GPU while the lane ran.
    #[serde(default)]
    pub strangers: Vec<StrangerSummary>,
    /// Cells that were measured beside a stranger, and again after it left.
    #[serde(default)]
    pub measured_again: u32,
    /// Its newest server: how it was started, and how long each step took.
    pub server: Option<ServerSummary>,
    /// What the server says of itself.
    pub facts: BTreeMap<String, String>,
    /// In which numbers it serves the model, and what said so.
    #[serde(default)]
    pub precision: Precision,
    /// Tokens that the chat template adds to a user message.
    pub template_tokens: Option<u32>,
    /// Measured cells, in the plan's order.
    pub cells: Vec<CellSummary>,
    /// Planned cells without figures.
    pub missing: Vec<MissingCell>,
    /// Korean against English, by concurrency.
    pub korean: Vec<KoreanComparison>,
    /// What changed from the lane's start to its end; `None` without measured cells.
    pub drift: Option<LaneDrift>,
    /// Energy over the cells that it is compared in; `None` where it is not.
    #[serde(default)]
    pub energy: Option<LaneEnergy>,
    /// What its answers to the questions are worth; `None` where the plan asks none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<LaneQuality>,
    /// Lines of gpu.jsonl that could not be read.
    pub gpu_lines_unreadable: u64,
}

/// A stranger's stay on the GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StrangerSummary {
    /// Who, and the most that it was seen to hold.
    pub process: GpuProcess,
    /// When it came, microseconds since the Unix epoch.
    pub came_unix_us: u64,
    /// When it left; `null`: it was there as long as anybody looked.
    pub left_unix_us: Option<u64>,
}

impl From<&StrangerStay> for StrangerSummary {
    fn from(stay: &StrangerStay) -> Self {
        Self {
            process: stay.process.clone(),
            came_unix_us: stay.came_unix_us,
            left_unix_us: stay.left_unix_us,
        }
    }
}

/// Energy of the GPU over a lane's measured cells, added up: the cells that all lanes of the model that are compared
/// have, each long enough for its energy to be certain. A lane with so few of them that it would leave the others little
/// in common is not compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LaneEnergy {
    /// Cells that count.
    pub cells: u32,
    /// Energy, joules.
    pub energy_j: f64,
    /// Output tokens of successful requests.
    pub output_tokens: u64,
    /// Energy per output token, joules.
    pub j_per_output_token: f64,
}

impl LaneEnergy {
    /// Gives each lane its energy, by model over the cells that they have in common.
    pub(super) fn compare(lanes: &mut [LaneSummary]) {
        let usable = lanes.iter().enumerate().flat_map(|(at, lane)| {
            let cells = lane.cells.iter().filter(|c| energy_and_tokens(c).is_some());
            cells.map(move |cell| (lane.lane.model.as_str(), at, cell.cell.as_str()))
        });
        let mut models: IndexMap<&str, Vec<(usize, &str)>> = IndexMap::new();
        for (model, lane, cell) in usable {
            models.entry(model).or_default().push((lane, cell));
        }
        let compared: Vec<(usize, Self)> = models
            .into_values()
            .flat_map(|of_model| {
                let (who, common) = common_cells(of_model);
                let of = |at: usize| Some((at, Self::of(&lanes.get(at)?.cells, &common)?));
                who.into_iter().filter_map(of).collect::<Vec<_>>()
            })
            .collect();
        for (at, energy) in compared {
            if let Some(lane) = lanes.get_mut(at) {
                lane.energy = Some(energy);
            }
        }
    }

    fn of(cells: &[CellSummary], common: &IndexSet<&str>) -> Option<Self> {
        let (mut counted, mut energy_j, mut output_tokens) = (0, 0.0, 0);
        for cell in cells.iter().filter(|c| common.contains(c.cell.as_str())) {
            let (energy, tokens) = energy_and_tokens(cell)?;
            counted += 1;
            energy_j += energy;
            output_tokens += tokens;
        }
        (counted > 0).then(|| Self {
            cells: counted,
            energy_j,
            output_tokens,
            j_per_output_token: energy_j / output_tokens as f64,
        })
    }
}

/// A cell's energy, joules, and output tokens, where they can be compared.
fn energy_and_tokens(cell: &CellSummary) -> Option<(f64, u64)> {
    let gpu = cell.gpu.as_ref().filter(|gpu| gpu.energy_certain == Some(true))?;
    let tokens = cell.output_tokens.as_ref()?.total;
    Some((gpu.energy_j?, Some(tokens).filter(|tokens| *tokens > 0)?))
}

/// A server's life in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerSummary {
    /// Program and arguments, secrets redacted.
    pub argv: Vec<String>,
    /// Environment that benchd set, secrets redacted.
    pub env: Vec<(String, String)>,
    /// Launch to the health endpoint's yes, milliseconds.
    pub healthy_ms: Option<u64>,
    /// Launch to the first real completion, milliseconds.
    pub ready_ms: Option<u64>,
    /// First signal to the last process's end, milliseconds.
    pub stop_ms: Option<u64>,
    /// Exit status of the leader.
    pub exit: Option<String>,
    /// Whether KILL was needed.
    pub killed: Option<bool>,
    /// Processes that had left the group and were swept.
    pub swept: Option<u64>,
    /// Last process's end to the memory's return, milliseconds.
    pub release_ms: Option<u64>,
    /// Why the GPU memory did not come back.
    pub held: Option<String>,
    /// GPU memory in use when ready and idle, bytes, less the baseline.
    pub gpu_idle_bytes: Option<u64>,
    /// What its log said, while it started, of its memory and of the loading; `None` where there was no log to read.
    #[serde(default)]
    pub load: Option<LoadFigures>,
    /// What of `gpu_idle_bytes` is neither weights nor KV cache, bytes; `None` where the log does not say both of every
    /// device.
    #[serde(default)]
    pub gpu_rest_bytes: Option<u64>,
    /// Its compile caches over the start; `null` where none is known of its kind.
    #[serde(default)]
    pub compile_caches: Option<CompileCaches>,
}

/// What a run comes to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunSummary {
    /// Layout version, [`SUMMARY_VERSION`].
    pub v: u32,
    /// The run's id.
    pub run_id: String,
    /// The plan's name.
    pub plan: String,
    /// SHA-256 of the plan's text, hex.
    pub plan_sha256: String,
    /// benchd's version.
    pub benchd_version: String,
    /// When it began, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// When its last event happened, microseconds since the Unix epoch.
    pub last_unix_us: u64,
    /// How often it began: 1, and one more for each resume.
    pub starts: u32,
    /// `finished`, `interrupted`, `unsafe`, `aborted`, or `open` (under way, or its process died).
    pub outcome: String,
    /// Why it ended so.
    pub reason: Option<String>,
    /// Whether cells are missing.
    pub partial: bool,
    /// Cells with figures.
    pub cells_measured: u64,
    /// Cells planned.
    pub cells_planned: u64,
    /// The machine and the client's own check, where run.json is there.
    pub info: Option<RunInfo>,
    /// Lanes, in the order in which they ran.
    pub lanes: Vec<LaneSummary>,
    /// Every pair of frameworks of a model, cell by cell; over several rounds of the plan with the round as a stratum.
    pub comparisons: Vec<FrameworkComparison>,
    /// Each framework's cells over the rounds of the plan, where there are several.
    pub rounds: Vec<RoundsSummary>,
    /// Whether frameworks that serve one model answer alike, cell by cell; empty where the temperature is not 0.
    #[serde(default)]
    pub agreement: Vec<OutputAgreement>,
    /// Every pair of frameworks of a model on the same questions; empty where the plan asks none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality: Vec<QualityPair>,
    /// What the run says of the plan's hypotheses; empty where the plan has none.
    #[serde(default)]
    pub verdicts: Vec<Verdict>,
    /// What the document expects against what was seen.
    #[serde(default)]
    pub expectations: Vec<Expectation>,
    /// How the texts of exact length were found, by model; empty where no cell needs one.
    pub prompt_lengths: Vec<PromptLengths>,
    /// What benchd noted in the journal, and what this analysis could not read.
    pub notes: Vec<String>,
}

/// How a model's texts of exact length were found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PromptLengths {
    /// The model's name in the plan.
    pub model: String,
    /// Who counted: a tokenizer file, or a server's usage.
    pub source: String,
    /// Tokens of the chat template around one user message, as it was when the texts were made; `None` where a tokenizer
    /// file counted, which knows no template: each lane's own share stands in its summary.
    pub template_user: Option<u32>,
    /// The same around a system and a user message.
    pub template_system_and_user: Option<u32>,
    /// Whether two ways to measure it agreed.
    pub template_confirmed: bool,
    /// Largest difference between the ways, tokens.
    pub template_disagreement: u32,
    /// Every length that was asked for.
    pub lengths: Vec<PromptLength>,
    /// System prompt and question: tokens counted one by one, and together.
    pub joints: Vec<(u32, u32)>,
    /// Texts counted in all to find them.
    pub probes: u64,
}

/// One length, content tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PromptLength {
    /// `prompt`, `system prompt` or `question`.
    pub what: String,
    /// Asked for.
    pub asked: u32,
    /// Reached.
    pub reached: u32,
}
