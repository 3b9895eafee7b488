//! One pass over a cell's records.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{
    CellSummary, ChunkGaps, Counts, Distribution, Goodput, GpuWindow, Rate, SUMMARY_VERSION,
    agreement::{AnswerTexts, answer_key},
    flags::{Evidence, cell_flags},
    korean::{TextFold, TextSize, WrittenSamples},
    prefix::PrefixFold,
    samples::{CellSamples, RequestValues, prompt_key},
    series::SeriesFold,
    server::{Timings, disagreement},
    steady::{Span, steady},
};
use benchd_core::{
    record::{Flag, FlagKind, Outcome, Phase, RequestRecord, TokenSource, micros},
    stats::Sorted,
};
use benchd_journal::{FinishedCell, RecordError, cell_records};
use benchd_plan::{Arrival, Cell, CellInput, Slo};

/// What is known of a cell beside its records.
#[derive(Debug, Clone, Copy)]
pub struct CellContext<'a> {
    /// What the plan asks.
    pub cell: &'a Cell,
    /// Limit of one request: what a time-out counts as.
    pub timeout: Duration,
    /// Tokens that the chat template adds to a user message.
    pub template_tokens: Option<u32>,
    /// The id under which the model is served, where the kind of framework answers with it.
    pub model_id: Option<&'a str>,
    /// Whether someone else runs the server (`url:`).
    pub not_controlled: bool,
    /// Whether the plan uses a GPU.
    pub gpu_expected: bool,
    /// The samples of the cell's passes.
    pub gpu: Option<&'a GpuWindow>,
    /// Processes of the server.
    pub own_pids: &'a BTreeSet<u32>,
    /// Processes that were on the GPU before the first server.
    pub strangers: &'a BTreeSet<u32>,
    /// Largest event rate that the client sustains, events per second.
    pub max_events_per_s: Option<f64>,
    /// Sizes of the frozen prompts, by id; those that are not known are left out of the figures on text.
    pub prompts: &'a HashMap<String, TextSize>,
}

/// Summarises a cell from the records that its end event names, in the run folder `root`.
pub fn summarise_cell(
    root: &Path,
    finished: &FinishedCell,
    context: &CellContext<'_>,
) -> Result<CellSummary, RecordError> {
    fold_cell(root, finished, context).map(|(summary, _)| summary)
}

/// Also gives the numbers that comparisons between cells need.
pub(super) fn fold_cell(
    root: &Path,
    finished: &FinishedCell,
    context: &CellContext<'_>,
) -> Result<(CellSummary, CellSamples), RecordError> {
    let mut fold = Fold::new(context);
    for record in cell_records(root, &finished.ended)? {
        let record = record?;
        if record.phase == Phase::Measured {
            fold.add(&record);
        }
    }
    Ok(fold.finish(finished))
}

/// Longer gaps count as this: longer than any request's limit, microseconds.
const LONGEST_GAP_US: u64 = 3_600_000_000;
/// Significant digits of the histogram of gaps: a resolution of 0.1 %.
const GAP_DIGITS: u8 = 3;

#[derive(Default)]
struct Pass {
    tokens: f64,
    ok: u64,
    good: u64,
    /// First and last planned send of an open loop, microseconds since the Unix epoch, and the requests.
    sends: Option<(u64, u64)>,
    sent: u64,
    spans: Vec<Span>,
}

struct Fold<'a> {
    context: &'a CellContext<'a>,
    timeout_us: u64,
    /// Duration of each pass, microseconds.
    durations_us: BTreeMap<u32, u64>,
    passes: BTreeMap<u32, Pass>,
    evidence: Evidence,
    failures: BTreeMap<String, u64>,
    failure_example: Option<String>,
    timeouts: u64,
    ttft_timeouts: u64,
    ttft_ms: Vec<f64>,
    first_chunk_ms: Vec<f64>,
    first_content_ms: Vec<f64>,
    latency_ms: Vec<f64>,
    latency_full_ms: Vec<f64>,
    tpot_ms: Vec<f64>,
    connect_ms: Vec<f64>,
    queued_ms: Vec<f64>,
    tokens_per_s: Vec<f64>,
    prompt_tokens: Vec<f64>,
    output_tokens: Vec<f64>,
    cached_tokens: Vec<f64>,
    /// Of a cell with a shared prefix.
    prefix: Option<PrefixFold>,
    gaps_us: Histogram<u64>,
    /// Seconds since the first send, latency in milliseconds.
    latency_series: Vec<(f64, f64)>,
    text: TextFold,
    requests: Vec<RequestValues>,
    answers: AnswerTexts,
    timings: Timings,
    /// Seconds since the Unix epoch, TPOT in milliseconds.
    tpot_series: Vec<(f64, f64)>,
    series: SeriesFold,
}

impl<'a> Fold<'a> {
    fn new(context: &'a CellContext<'a>) -> Self {
        let gaps_us = Histogram::new_with_bounds(1, LONGEST_GAP_US, GAP_DIGITS)
            .unwrap_or_else(|_| unreachable!("1 and an hour are bounds, 3 digits are within 0 to 5"));
        Self {
            context,
            timeout_us: micros(context.timeout),
            durations_us: BTreeMap::new(),
            passes: BTreeMap::new(),
            evidence: Evidence::default(),
            failures: BTreeMap::new(),
            failure_example: None,
            timeouts: 0,
            ttft_timeouts: 0,
            ttft_ms: Vec::new(),
            first_chunk_ms: Vec::new(),
            first_content_ms: Vec::new(),
            latency_ms: Vec::new(),
            latency_full_ms: Vec::new(),
            tpot_ms: Vec::new(),
            connect_ms: Vec::new(),
            queued_ms: Vec::new(),
            tokens_per_s: Vec::new(),
            prompt_tokens: Vec::new(),
            output_tokens: Vec::new(),
            cached_tokens: Vec::new(),
            prefix: matches!(context.cell.input, CellInput::SharedPrefix { .. }).then(PrefixFold::default),
            gaps_us,
            latency_series: Vec::new(),
            text: TextFold::default(),
            requests: Vec::new(),
            answers: AnswerTexts::default(),
            timings: Timings::default(),
            tpot_series: Vec::new(),
            series: SeriesFold::default(),
        }
    }

    fn cell(&self) -> &'a Cell {
        self.context.cell
    }

    fn fixed_length(&self) -> bool {
        !matches!(self.cell().input, CellInput::Written { .. })
    }

    fn add(&mut self, r: &RequestRecord) {
        self.evidence.requests += 1;
        self.connect_ms.extend(r.connect_us.map(ms));
        self.queued_ms.extend(r.queued_us.map(ms));
        if let Some(model) = &r.response_model {
            self.evidence.models.insert(model.clone());
        }
        let ttft_ms = match r.outcome {
            Outcome::Ok => r.ttft_us().map(ms),
            Outcome::Timeout => Some(r.ttft_us().map_or_else(
                || {
                    self.ttft_timeouts += 1;
                    ms(self.timeout_us)
                },
                ms,
            )),
            _ => None,
        };
        self.ttft_ms.extend(ttft_ms);
        self.add_span(r, ttft_ms);
        if self.cell().arrival != Arrival::Closed {
            let pass = self.passes.entry(r.pass).or_default();
            let at = r.sent_unix_us;
            let (first, last) = pass.sends.unwrap_or((at, at));
            pass.sends = Some((first.min(at), last.max(at)));
            pass.sent += 1;
        }
        if r.is_ok() {
            self.add_ok(r, ttft_ms);
            return;
        }
        self.evidence.failed += 1;
        *self.failures.entry(r.outcome.to_string()).or_default() += 1;
        if self.failure_example.is_none() {
            self.failure_example.clone_from(&r.error);
        }
        if r.outcome == Outcome::Timeout {
            // At least its limit, never absent.
            self.timeouts += 1;
            let latency = ms(r.latency_us().max(self.timeout_us));
            self.latency_ms.push(latency);
            self.latency_full_ms.push(latency);
            self.requests.push(RequestValues {
                prompt: prompt_key(&r.prompt_id),
                answer: 0,
                pass: r.pass,
                first_of_pass: r.index == 0,
                ttft_ms: ttft_ms.unwrap_or(f64::NAN),
                latency_ms: latency,
                tpot_ms: f64::NAN,
                tokens_per_s: f64::NAN,
            });
        }
    }

    fn add_ok(&mut self, r: &RequestRecord, ttft_ms: Option<f64>) {
        let latency_us = r.latency_us();
        self.first_chunk_ms.extend(r.first_chunk_us.map(ms));
        self.first_content_ms.extend(r.first_content_us.map(ms));
        self.latency_ms.push(ms(latency_us));
        self.timings.add(r);
        self.series.add_timeline(r);
        let tpot_ms = r.tpot_us().map(|us| us / 1e3);
        self.tpot_ms.extend(tpot_ms);
        // The burst at a closed loop's start has times of its own.
        if let Some(tpot) = tpot_ms
            && (self.cell().concurrency == 1 || r.index >= self.cell().concurrency)
        {
            self.tpot_series.push((r.sent_unix_us as f64 / 1e6, tpot));
        }
        for pair in r.chunks_us.windows(2) {
            let gap = pair[1].saturating_sub(pair[0]);
            // A gap of zero is two events in one read; those are counted apart.
            if gap > 0 {
                self.gaps_us.saturating_record(gap);
            }
        }
        self.evidence.chunks += r.chunks_us.len() as u64;
        self.evidence.coalesced += u64::from(r.coalesced);
        if !self.fixed_length() {
            self.text
                .add(r, self.context.prompts, self.context.template_tokens);
        }

        let tokens_per_s = r
            .output_tokens
            .filter(|_| latency_us > 0)
            .map(|t| t as f64 / (latency_us as f64 / 1e6));
        self.tokens_per_s.extend(tokens_per_s);
        self.add_tokens(r, latency_us);
        let full = r
            .output_tokens
            .is_some_and(|t| t >= u64::from(self.cell().output_tokens));
        let prompt = prompt_key(&r.prompt_id);
        self.answers.add(prompt, r);
        self.requests.push(RequestValues {
            prompt,
            answer: answer_key(r),
            pass: r.pass,
            first_of_pass: r.index == 0,
            ttft_ms: ttft_ms.unwrap_or(f64::NAN),
            latency_ms: if full || !self.fixed_length() {
                ms(latency_us)
            } else {
                f64::NAN
            },
            tpot_ms: tpot_ms.unwrap_or(f64::NAN),
            tokens_per_s: tokens_per_s.unwrap_or(f64::NAN),
        });

        if let Some(prefix) = &mut self.prefix {
            prefix.add(r, ttft_ms, tokens_per_s);
            if let Some(ttft_ms) = ttft_ms {
                self.series.add_numbered(r.index, ttft_ms);
            }
        }
        let good = self.cell().slo.is_some_and(|slo| meets(r, slo));
        let pass = self.passes.entry(r.pass).or_default();
        pass.ok += 1;
        pass.good += u64::from(good);
        pass.tokens += r.output_tokens.unwrap_or(0) as f64;
    }

    fn add_tokens(&mut self, r: &RequestRecord, latency_us: u64) {
        if r.token_source == TokenSource::None {
            self.evidence.without_usage += 1;
        }
        if r.first_token_us.is_none() {
            self.evidence.without_text += 1;
        }
        let asked_output = u64::from(self.cell().output_tokens);
        if let Some(tokens) = r.output_tokens {
            self.output_tokens.push(tokens as f64);
            self.evidence.counted_chunks += r.chunks_us.len() as u64;
            self.evidence.counted_tokens += tokens;
            if !self.fixed_length() {
                return self.add_inputs(r);
            }
            if tokens >= asked_output {
                self.evidence.full += 1;
                self.latency_full_ms.push(ms(latency_us));
                // Under a closed loop of several streams only the steady state can show a trend.
                if self.cell().concurrency == 1 || self.cell().arrival != Arrival::Closed {
                    self.latency_series
                        .push((r.sent_unix_us as f64 / 1e6, ms(latency_us)));
                }
            } else {
                self.evidence.short += 1;
                self.evidence.shortest = Some(self.evidence.shortest.map_or(tokens, |s: u64| s.min(tokens)));
            }
        }
        self.add_inputs(r);
    }

    fn add_inputs(&mut self, r: &RequestRecord) {
        if let Some(tokens) = r.prompt_tokens {
            self.prompt_tokens.push(tokens as f64);
            self.evidence
                .add_prompt(tokens, self.cell(), self.context.template_tokens);
        }
        if let Some(tokens) = r.cached_tokens {
            self.cached_tokens.push(tokens as f64);
            self.evidence
                .add_cached(tokens, self.cell(), self.context.template_tokens);
        }
    }

    fn add_span(&mut self, r: &RequestRecord, ttft_ms: Option<f64>) {
        let cell = self.cell();
        if cell.arrival == Arrival::Closed && cell.concurrency > 1 {
            let span = Span::of(r, ttft_ms, self.timeout_us);
            self.passes.entry(r.pass).or_default().spans.push(span);
        }
    }

    fn finish(mut self, finished: &FinishedCell) -> (CellSummary, CellSamples) {
        let (cell, context, ended) = (self.cell(), self.context, &finished.ended);
        self.durations_us = ended.passes.iter().map(|p| (p.pass, p.duration_us)).collect();
        let per_pass = |f: &dyn Fn(&Pass) -> f64| {
            let none = Pass::default();
            let value = |p: &benchd_journal::PassTimes| {
                let seconds = p.duration_us as f64 / 1e6;
                (seconds > 0.0).then(|| f(self.passes.get(&p.pass).unwrap_or(&none)) / seconds)
            };
            Rate::of(ended.passes.iter().filter_map(value).collect())
        };
        let has_tokens = !self.output_tokens.is_empty();
        let output_tokens_per_s = per_pass(&|p| p.tokens).filter(|_| has_tokens);
        let requests_per_s = per_pass(&|p| p.ok as f64);
        let goodput = cell.slo.map(|_| Goodput {
            requests_per_s: per_pass(&|p| p.good as f64),
            share: self.passes.values().map(|p| p.good).sum::<u64>() as f64
                / (self.evidence.requests.max(1)) as f64,
        });
        let passes = self
            .passes
            .iter()
            .map(|(n, p)| (self.durations_us.get(n).copied(), &p.spans[..]));
        let steady = steady(passes, cell.concurrency, has_tokens).map(|(steady, series)| {
            self.latency_series = series;
            steady
        });
        let sent_requests_per_s = self
            .passes
            .values()
            .filter_map(|p| {
                let (first, last) = p.sends.filter(|(first, last)| last > first)?;
                // As many gaps as requests, less one.
                Some((p.sent - 1) as f64 / ((last - first) as f64 / 1e6))
            })
            .collect();
        let passes_s: Vec<f64> = ended.passes.iter().map(|p| p.duration_us as f64 / 1e6).collect();
        let (prefix_cache, first_ttft_ms, later_over_first) = match self.prefix {
            Some(prefix) => {
                let figures = prefix.finish(&passes_s);
                (
                    Some(figures.summary),
                    figures.first_ttft_ms,
                    figures.later_over_first,
                )
            }
            None => (None, Vec::new(), Vec::new()),
        };
        let output_total = Counts::of(&self.output_tokens);
        let gpu = context
            .gpu
            .map(|w| w.summary(output_total.as_ref().map(|c| c.total)));
        let (started, end) = cell_window(finished);
        let ttft = Sorted::new(self.ttft_ms);
        let ttft_ms = ttft.as_ref().map(|s| Distribution::of(s, self.ttft_timeouts));
        let rate = Sorted::new(self.tokens_per_s);
        let latency = Sorted::new(self.latency_ms);
        let latency_ms = latency.as_ref().map(|s| Distribution::of(s, self.timeouts));
        let fixed = !matches!(cell.input, CellInput::Written { .. });

        let latency_full = (fixed && has_tokens)
            .then(|| Sorted::new(self.latency_full_ms))
            .flatten();
        let series = self
            .series
            .finish(ttft.as_ref(), latency_full.as_ref().or(latency.as_ref()));

        self.evidence.latencies = latency_ms.as_ref().map_or(0, |d| d.n);
        self.evidence.ttft_p50_ms = ttft_ms.as_ref().map(|d| d.p50);
        let tpot_ms = Distribution::of_values(self.tpot_ms, 0);
        self.evidence.tpot_p50_ms = tpot_ms.as_ref().map(|d| d.p50);
        self.evidence.has_steady = steady.is_some();
        let says = self.timings.says(
            &ended.server_counters,
            self.evidence.failed,
            passes_s.iter().sum(),
        );
        let mut flags = cell_flags(
            &self.evidence,
            finished,
            context,
            gpu.as_ref(),
            &self.latency_series,
        );
        flags.extend(disagreement(&says).map(|seen| Flag::new(FlagKind::DisagreesWithServer, seen)));
        let summary = CellSummary {
            v: SUMMARY_VERSION,
            lane: ended.lane.clone(),
            scenario: cell.scenario.clone(),
            kind: cell.kind,
            cell: cell.id.clone(),
            attempt: ended.attempt,
            concurrency: cell.concurrency,
            asked_requests_per_s: asked_rate(cell.arrival).0,
            arrival: asked_rate(cell.arrival).1,
            asked_prompt_tokens: asked_prompt_tokens(cell),
            asked_output_tokens: cell.output_tokens,
            started_unix_us: started,
            ended_unix_us: end,
            passes_s,
            requests: self.evidence.requests,
            failed: self.evidence.failed,
            failures: self.failures,
            failure_example: self.failure_example,
            full_outputs: self.evidence.full,
            short_outputs: self.evidence.short,
            ttft_ms,
            first_chunk_ms: Distribution::of_values(self.first_chunk_ms, 0),
            first_content_ms: Distribution::of_values(self.first_content_ms, 0),
            latency_ms,
            latency_full_ms: latency_full.as_ref().map(|s| Distribution::of(s, self.timeouts)),
            tpot_ms,
            chunk_gap_ms: chunk_gaps(&self.gaps_us, self.evidence.coalesced),
            connect_ms: Distribution::of_values(self.connect_ms, 0),
            queued_ms: Distribution::of_values(self.queued_ms, 0),
            sent_requests_per_s: Rate::of(sent_requests_per_s),
            request_tokens_per_s: rate.as_ref().map(|s| Distribution::of(s, 0)),
            output_tokens_per_s,
            requests_per_s,
            prompt_tokens: Counts::of(&self.prompt_tokens),
            output_tokens: output_total,
            cached_tokens: Counts::of(&self.cached_tokens),
            steady,
            goodput,
            gpu,
            prefix_cache,
            text: if fixed { None } else { self.text.figures() },
            client: ended.client.clone(),
            server_says: says,
            server_counters: ended.server_counters.clone(),
            cache_reset: finished.cache_reset.clone(),
            flags,
        };
        let samples = CellSamples {
            output_tokens_per_s: summary
                .output_tokens_per_s
                .as_ref()
                .map(|r| r.passes.clone())
                .unwrap_or_default(),
            requests_per_s: summary
                .requests_per_s
                .as_ref()
                .map(|r| r.passes.clone())
                .unwrap_or_default(),
            first_ttft_ms,
            later_over_first,
            requests: self.requests,
            answers: self.answers,
            tpot_series: self.tpot_series,
            latency_series: self.latency_series,
            series,
            written: if fixed {
                WrittenSamples::default()
            } else {
                WrittenSamples {
                    ttft_ms: ttft,
                    tokens_per_s: rate,
                    latency_ms: latency,
                    output_tokens: Sorted::new(self.output_tokens),
                    text: self.text,
                }
            },
        };
        (summary, samples)
    }
}

/// First send of the first pass to last end of the last one, microseconds since the Unix epoch.
pub(super) fn cell_window(finished: &FinishedCell) -> (u64, u64) {
    let passes = &finished.ended.passes;
    let start = passes
        .iter()
        .map(|p| p.started_unix_us)
        .min()
        .unwrap_or(finished.started_unix_us);
    let end = passes.iter().map(|p| p.started_unix_us + p.duration_us).max();
    (start, end.unwrap_or(finished.ended_unix_us))
}

/// Requests a second that the plan asks for, and the arrivals' name.
fn asked_rate(arrival: Arrival) -> (Option<f64>, String) {
    match arrival {
        Arrival::Closed => (None, "closed".to_owned()),
        Arrival::Constant { rate_per_s } => (Some(rate_per_s), "constant".to_owned()),
        Arrival::Poisson { rate_per_s } => (Some(rate_per_s), "poisson".to_owned()),
        Arrival::Gamma {
            rate_per_s,
            burstiness,
        } => (Some(rate_per_s), format!("gamma (burstiness {burstiness})")),
    }
}

/// Prompt tokens that the cell asks for, without the chat template.
pub(super) fn asked_prompt_tokens(cell: &Cell) -> Option<u32> {
    match cell.input {
        CellInput::Exact { input_tokens } => Some(input_tokens),
        CellInput::SharedPrefix {
            system_tokens,
            question_tokens,
        } => Some(system_tokens + question_tokens),
        CellInput::Written { .. } => None,
    }
}

/// Whether a successful request meets every objective given. One token has no time per token, and meets any.
fn meets(r: &RequestRecord, slo: Slo) -> bool {
    let within = |us: Option<f64>, limit: Option<Duration>| {
        limit.is_none_or(|limit| us.is_none_or(|us| us <= limit.as_secs_f64() * 1e6))
    };
    let ttft = r.ttft_us().unwrap_or_else(|| r.latency_us()) as f64;
    within(Some(ttft), slo.ttft)
        && within(r.tpot_us(), slo.tpot)
        && within(Some(r.latency_us() as f64), slo.latency)
}

fn chunk_gaps(gaps_us: &Histogram<u64>, coalesced: u64) -> Option<ChunkGaps> {
    let at = |percent| gaps_us.value_at_quantile(percent / 100.0) as f64 / 1e3;
    (!gaps_us.is_empty() || coalesced > 0).then(|| ChunkGaps {
        n: gaps_us.len(),
        coalesced,
        mean: if gaps_us.is_empty() {
            0.0
        } else {
            gaps_us.mean() / 1e3
        },
        p50: at(50.0),
        p95: at(95.0),
        p99: at(99.0),
        max: gaps_us.max() as f64 / 1e3,
    })
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}
