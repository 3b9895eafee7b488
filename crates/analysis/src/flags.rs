//! Flags from evidence: pure decisions, with their thresholds.

use std::collections::BTreeSet;

use super::{
    GpuSummary,
    context::{CellContext, asked_prompt_tokens},
    drift,
};
use benchd_core::{
    format::counted,
    record::{Flag, FlagKind},
    stats::{CERTAINTY, samples_needed},
};
use benchd_journal::FinishedCell;
use benchd_plan::{Arrival, Cell, CellInput, PromptMode};

/// How far reported prompt tokens may be from what was asked, the chat template's share left out.
const PROMPT_TOLERANCE: f64 = 0.02;
/// Cached tokens up to the template's share and this many more are no sign of a cached prompt: caches work in blocks
/// (16 tokens in vLLM), and the salt's first digits may agree.
const CACHED_ALLOWANCE: u64 = 16;
/// The template's share where it is not known, for the judgement of cached tokens.
const UNKNOWN_TEMPLATE: u64 = 100;
/// Share of events that came in the same read as the one before, from which on gaps say little.
const COALESCED_SHARE: f64 = 0.5;
/// Tokens a chunk from which on gaps between chunks are not gaps between tokens.
const TOKENS_PER_CHUNK: f64 = 1.25;
/// Share of the SM clock that a reason took over the cell, from which on it is slowed: less is within what two cards of a
/// kind differ by.
const CLOCK_LOST_SHARE: f64 = 0.02;
/// Share of the GPU samples with such a reason, where nothing says how much of the clock it took.
const THROTTLED_SHARE: f64 = 0.05;
/// Longest time without a GPU sample, milliseconds.
const SAMPLE_GAP_MS: f64 = 5_000.0;
/// Share of the client's largest event rate from which on it is near its limit.
const EVENT_RATE_SHARE: f64 = 0.5;
/// What a cell's records show.
#[derive(Debug, Clone, Default)]
pub(super) struct FlagEvidence {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) full: u64,
    pub(super) short: u64,
    pub(super) shortest: Option<u64>,
    pub(super) without_usage: u64,
    /// Successful requests in whose stream no token was seen.
    pub(super) without_text: u64,
    pub(super) chunks: u64,
    pub(super) coalesced: u64,
    /// Chunks and tokens of requests whose tokens are known.
    pub(super) counted_chunks: u64,
    pub(super) counted_tokens: u64,
    pub(super) models: BTreeSet<String>,
    pub(super) latencies: u64,
    pub(super) has_steady: bool,
    truncated: u64,
    wrong_length: u64,
    /// The reported prompt tokens that are farthest from what was asked.
    worst_prompt: Option<u64>,
    from_cache: u64,
    most_cached: u64,
}

impl FlagEvidence {
    /// Judges one request's prompt tokens.
    pub(super) fn add_prompt(&mut self, reported: u64, cell: &Cell, template: Option<u32>) {
        let Some(asked) = asked_prompt_tokens(cell).map(f64::from) else {
            return;
        };
        let reported_f = reported as f64;
        // What is sent is the text and the template around it: a cut prompt that still has the text's length is cut.
        let sent = asked + template.map_or(0.0, f64::from);
        let below = reported_f < sent * (1.0 - PROMPT_TOLERANCE);
        let above = template.is_some() && reported_f > sent + asked * PROMPT_TOLERANCE;
        self.truncated += u64::from(below);
        self.wrong_length += u64::from(above);
        let distance = |tokens: u64| (tokens as f64 - asked).abs();
        if (below || above) && self.worst_prompt.is_none_or(|w| distance(w) < distance(reported)) {
            self.worst_prompt = Some(reported);
        }
    }

    /// Judges one request's cached tokens.
    pub(super) fn add_cached(&mut self, cached: u64, cell: &Cell, template: Option<u32>) {
        if cell.prompts == PromptMode::Identical || matches!(cell.input, CellInput::SharedPrefix { .. }) {
            return;
        }
        if cached > template.map_or(UNKNOWN_TEMPLATE, u64::from) + CACHED_ALLOWANCE {
            self.from_cache += 1;
            self.most_cached = self.most_cached.max(cached);
        }
    }
}

/// All flags of a cell: those that were journalled while it ran, then those that follow from the evidence; one a kind.
pub(super) fn cell_flags(
    e: &FlagEvidence,
    finished: &FinishedCell,
    context: &CellContext<'_>,
    gpu: Option<&GpuSummary>,
    latency_series: &[(f64, f64)],
) -> Vec<Flag> {
    let mut flags = finished.ended.flags.clone();
    let mut add = |kind, seen: String| {
        if !flags.iter().any(|f: &Flag| f.kind == kind) {
            flags.push(Flag::new(kind, seen));
        }
    };
    requests(e, context, &mut add);
    prompts(e, finished, context, &mut add);
    timing(e, finished, context, &mut add);
    machine(context, gpu, latency_series, &mut add);
    flags
}

type Add<'a> = &'a mut dyn FnMut(FlagKind, String);

fn requests(e: &FlagEvidence, context: &CellContext<'_>, add: Add<'_>) {
    if context.not_controlled {
        add(
            FlagKind::NotControlled,
            "the plan names a server by its URL".to_owned(),
        );
    }
    if e.failed > 0 {
        add(
            FlagKind::FailedRequests,
            format!("{} of {} requests failed", e.failed, e.requests),
        );
    }
    if e.short > 0 {
        let least = e
            .shortest
            .map_or(String::new(), |s| format!(", the shortest {s} tokens"));
        let of = e.full + e.short;
        add(
            FlagKind::ShortOutput,
            format!(
                "{} of {of} answers have fewer than {} tokens{least}",
                e.short, context.cell.output_tokens
            ),
        );
    }
    if e.without_usage > 0 {
        add(
            FlagKind::NoUsage,
            format!("{} answers came without usage", e.without_usage),
        );
    }
    if e.without_text > 0 {
        let of = e.requests - e.failed;
        let counted = if e.counted_tokens > 0 {
            format!(
                "; the cell has {} output tokens by the server's count",
                e.counted_tokens
            )
        } else {
            String::new()
        };
        add(
            FlagKind::NoText,
            format!("{} of {of} answers have no text{counted}", e.without_text),
        );
    }
    let names = || e.models.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let wrong = |id: &str| e.models.iter().any(|m| !same_model(m, id));
    if e.models.len() > 1 {
        add(
            FlagKind::WrongModel,
            format!("answers under several names: {}", names()),
        );
    } else if let Some(id) = context.model_id.filter(|id| wrong(id)) {
        add(
            FlagKind::WrongModel,
            format!("asked for {id}, answered as {}", names()),
        );
    }
    let n = e.latencies;
    let (p95, p99) = (samples_needed(95.0, CERTAINTY), samples_needed(99.0, CERTAINTY));
    if n > 0 && n < p99 {
        let what = if n < p95 {
            "p95 and p99 are estimates"
        } else {
            "p99 is an estimate"
        };
        add(
            FlagKind::FewSamples,
            format!("{}: {what} (p95 needs {p95}, p99 {p99})", counted(n, "request")),
        );
    }
}

/// Whether a served name is the one asked for: some servers answer with the folder or without the owner.
fn same_model(served: &str, id: &str) -> bool {
    let last = |name: &str| {
        name.trim_end_matches('/')
            .rsplit('/')
            .next()
            .unwrap_or(name)
            .to_ascii_lowercase()
    };
    served == id || last(served) == last(id)
}

fn prompts(e: &FlagEvidence, finished: &FinishedCell, context: &CellContext<'_>, add: Add<'_>) {
    let cell = context.cell;
    let asked = asked_prompt_tokens(cell).unwrap_or(0);
    let worst = e.worst_prompt.unwrap_or(0);
    if e.truncated > 0 {
        add(
            FlagKind::TruncatedPrompt,
            format!(
                "{}: {asked} tokens sent, the server reports {worst}",
                counted(e.truncated, "request")
            ),
        );
    }
    if e.wrong_length > 0 {
        let template = context.template_tokens.unwrap_or(0);
        add(
            FlagKind::PromptLength,
            format!(
                "{}: {asked} tokens asked, {worst} reported (template {template})",
                counted(e.wrong_length, "request")
            ),
        );
    }
    if cell.prompts == PromptMode::Identical {
        add(
            FlagKind::IdenticalPrompts,
            "the plan asks for one text throughout".to_owned(),
        );
    }
    if e.from_cache > 0 {
        add(
            FlagKind::ServedFromCache,
            format!(
                "{} of {} requests had cached prompt tokens, up to {}, though no prompts share a prefix",
                e.from_cache, e.requests, e.most_cached
            ),
        );
    }
    let reset = finished.cache_reset.as_str();
    if reset == "not_possible" || reset.starts_with("failed") {
        add(
            FlagKind::CacheNotReset,
            format!("reset before the cell: {}", reset.replace('_', " ")),
        );
    } else if reset == "unproven" {
        add(
            FlagKind::CacheResetUnproven,
            "the reset was answered, no counter shows it".to_owned(),
        );
    }
}

fn timing(e: &FlagEvidence, finished: &FinishedCell, context: &CellContext<'_>, add: Add<'_>) {
    let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
    let coalesced = share(e.coalesced, e.chunks);
    if coalesced > COALESCED_SHARE {
        let text = format!(
            "{:.0} % of the events came in the same read as the one before",
            coalesced * 100.0
        );
        add(FlagKind::CoalescedChunks, text);
    }
    let tokens_per_chunk = share(e.counted_tokens, e.counted_chunks);
    if tokens_per_chunk > TOKENS_PER_CHUNK {
        add(
            FlagKind::MultiTokenChunks,
            format!("{tokens_per_chunk:.2} tokens a chunk on average"),
        );
    }
    let lag = &finished.ended.client;
    let seconds: f64 = finished
        .ended
        .passes
        .iter()
        .map(|p| p.duration_us as f64 / 1e6)
        .sum();
    if let Some(limit) = context.max_events_per_s
        && seconds > 0.0
        && lag.events as f64 / seconds > limit * EVENT_RATE_SHARE
    {
        let rate = lag.events as f64 / seconds;
        add(
            FlagKind::ClientNearLimit,
            format!("{rate:.0} events/s; this client's limit on this machine: {limit:.0}"),
        );
    }
    let cell = context.cell;
    if cell.arrival == Arrival::Closed && cell.concurrency > 1 && !e.has_steady {
        add(
            FlagKind::NoSteadyState,
            format!(
                "{} a pass at {} streams",
                counted(cell.requests_per_pass.into(), "request"),
                cell.concurrency
            ),
        );
    }
}

fn machine(context: &CellContext<'_>, gpu: Option<&GpuSummary>, latency_series: &[(f64, f64)], add: Add<'_>) {
    if context.gpu_expected {
        match gpu {
            None => add(FlagKind::GpuSamplesMissing, "no sample of this cell".to_owned()),
            Some(g) if g.samples == 0 => {
                add(FlagKind::GpuSamplesMissing, "no sample of this cell".to_owned())
            }
            Some(g) if g.longest_gap_ms > SAMPLE_GAP_MS => {
                add(
                    FlagKind::GpuSamplesMissing,
                    format!("{:.1} s without a sample", g.longest_gap_ms / 1e3),
                );
            }
            Some(g) if g.samples_with_errors > 0 => {
                let text = format!(
                    "{} of {} samples have NVML errors",
                    g.samples_with_errors, g.samples
                );
                add(FlagKind::GpuSamplesMissing, text);
            }
            Some(_) => {}
        }
    }
    if let Some(g) = gpu {
        let reasons: Vec<_> = g
            .throttle_shares
            .iter()
            .map(|(r, s)| format!("{} {:.0} %", r.replace('_', " "), s * 100.0))
            .collect();
        let reasons = format!("share of the samples: {}", reasons.join(", "));
        match g.clock_lost_share.zip(g.sustained_clock_mhz) {
            Some((lost, mhz)) if lost >= CLOCK_LOST_SHARE => add(
                FlagKind::Throttled,
                format!(
                    "{:.1} % of the SM clock of {mhz:.0} MHz lost; {reasons}",
                    lost * 100.0
                ),
            ),
            None if g.throttled_share > THROTTLED_SHARE => add(FlagKind::Throttled, reasons),
            _ => {}
        }
    }
    if let Some(window) = context.gpu {
        // Where NVML's pids are another namespace's, none of ours is among them and nothing can be said. Of someone else's
        // server there is one inventory only: who comes later is judged while it runs.
        let sees_ours =
            !context.not_controlled && window.processes().iter().any(|p| context.own_pids.contains(p));
        let stranger =
            |p: &&u32| context.strangers.contains(p) || (sees_ours && !context.own_pids.contains(p));
        let strangers: Vec<_> = window
            .processes()
            .iter()
            .filter(stranger)
            .map(u32::to_string)
            .collect();
        if !strangers.is_empty() {
            add(
                FlagKind::StrangerOnGpu,
                format!("processes that are not the server's: {}", strangers.join(", ")),
            );
        }
    }
    if let Some(text) = drift::within_cell(context, latency_series) {
        add(FlagKind::Drift, text);
    }
}
