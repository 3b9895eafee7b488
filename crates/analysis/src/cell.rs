//! One pass over a cell's records: each part is folded where it is computed, and what they come to is put together here.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    time::Duration,
};

use super::{
    CellSummary, Counts, SUMMARY_VERSION,
    answers::{AnswerTexts, answer_key},
    context::{CellContext, asked_prompt_tokens},
    flags::{FlagEvidence, cell_flags},
    korean::{TextFold, WrittenSamples},
    passes::PassesFold,
    prefix::PrefixFold,
    samples::{CellSamples, RequestValues, prompt_key},
    series::SeriesFold,
    server::{Timings, disagreement},
    times::{RequestTimes, TimesFold},
};
use benchd_core::{
    record::{Flag, FlagKind, Outcome, Phase, RequestRecord, TokenSource},
    stats::Sorted,
};
use benchd_journal::{FinishedCell, RecordError, cell_records};
use benchd_plan::{Arrival, Cell, CellInput};
use benchd_prompts::answers_in_one_language;

/// Summarises a cell from the records that its end event names, in the run folder `root`, by its plan alone: flags that
/// need the GPU's samples, the server or the prompts are left out. `timeout` is the limit of one request.
///
/// # Errors
/// Its records can't be read, or are not those that the event names.
pub fn summarise_cell(
    root: &Path,
    finished: &FinishedCell,
    cell: &Cell,
    timeout: Duration,
) -> Result<CellSummary, RecordError> {
    let context = CellContext {
        cell,
        timeout,
        template_tokens: None,
        model_id: None,
        not_controlled: false,
        gpu_expected: false,
        gpu: None,
        own_pids: &BTreeSet::new(),
        strangers: &BTreeSet::new(),
        max_events_per_s: None,
        prompts: &HashMap::new(),
    };
    fold_cell(root, finished, &context).map(|(summary, _)| summary)
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

struct Fold<'a> {
    context: &'a CellContext<'a>,
    evidence: FlagEvidence,
    failures: BTreeMap<String, u64>,
    failure_example: Option<String>,
    times: TimesFold,
    passes: PassesFold<'a>,
    prompt_tokens: Vec<f64>,
    output_tokens: Vec<f64>,
    cached_tokens: Vec<f64>,
    /// Of a shared prefix.
    prefix: Option<PrefixFold>,
    /// Of written texts, whose length is not fixed.
    text: Option<TextFold>,
    server: Timings,
    series: SeriesFold,
    requests: Vec<RequestValues>,
    answers: AnswerTexts,
    /// Of requests one after another: seconds since the Unix epoch, milliseconds.
    tpot_series: Vec<(f64, f64)>,
    /// The same with the latency of full outputs.
    latency_series: Vec<(f64, f64)>,
}

impl<'a> Fold<'a> {
    fn new(context: &'a CellContext<'a>) -> Self {
        let input = context.cell.input;
        Self {
            context,
            evidence: FlagEvidence::default(),
            failures: BTreeMap::new(),
            failure_example: None,
            times: TimesFold::new(context.timeout),
            passes: PassesFold::new(context.cell),
            prompt_tokens: Vec::new(),
            output_tokens: Vec::new(),
            cached_tokens: Vec::new(),
            prefix: matches!(input, CellInput::SharedPrefix { .. }).then(PrefixFold::default),
            text: matches!(input, CellInput::Written { .. }).then(TextFold::default),
            server: Timings::default(),
            series: SeriesFold::default(),
            requests: Vec::new(),
            answers: AnswerTexts::default(),
            tpot_series: Vec::new(),
            latency_series: Vec::new(),
        }
    }

    fn add(&mut self, r: &RequestRecord) {
        let asked = u64::from(self.context.cell.output_tokens);
        let fixed_length = self.text.is_none();
        let is_full = fixed_length && r.is_ok() && r.output_tokens.is_some_and(|t| t >= asked);
        let times = self.times.add(r, is_full);
        self.passes.add(r, &times);
        self.evidence.requests += 1;
        self.evidence.models.extend(r.response_model.clone());
        if r.is_ok() {
            self.add_ok(r, &times, is_full);
        } else {
            self.evidence.failed += 1;
            *self.failures.entry(r.outcome.to_string()).or_default() += 1;
            if self.failure_example.is_none() {
                self.failure_example.clone_from(&r.error);
            }
        }
        let timed_out = r.outcome == Outcome::Timeout;
        if r.is_ok() || timed_out {
            let or_nan = |value: Option<f64>| value.unwrap_or(f64::NAN);
            let compared = is_full || timed_out || !fixed_length;
            self.requests.push(RequestValues {
                prompt: prompt_key(&r.prompt_id),
                answer: if timed_out { 0 } else { answer_key(r) },
                pass: r.pass,
                first_of_pass: r.index == 0,
                ttft_ms: or_nan(times.ttft_ms),
                latency_ms: or_nan(times.latency_ms.filter(|_| compared)),
                tpot_ms: or_nan(times.tpot_ms),
                tokens_per_s: or_nan(times.tokens_per_s.filter(|_| compared)),
            });
        }
    }

    fn add_ok(&mut self, r: &RequestRecord, times: &RequestTimes, is_full: bool) {
        let cell = self.context.cell;
        self.server.add(r);
        self.series.add_timeline(r);
        self.answers.add(prompt_key(&r.prompt_id), r);
        if let Some(text) = &mut self.text {
            text.add(r, self.context.prompts, self.context.template_tokens);
        }
        if let Some(prefix) = &mut self.prefix {
            prefix.add(r, times.ttft_ms, times.tokens_per_s);
            if let Some(ttft_ms) = times.ttft_ms {
                self.series.add_numbered(r.index, ttft_ms);
            }
        }
        // Of several at once only those of a steady state met the same load; in an open loop the arrivals decide it.
        if cell.concurrency == 1 && cell.arrival == Arrival::Closed {
            let at_s = r.sent_unix_us as f64 / 1e6;
            self.tpot_series.extend(times.tpot_ms.map(|tpot| (at_s, tpot)));
            let latency_ms = times.latency_ms.filter(|_| is_full);
            self.latency_series
                .extend(latency_ms.map(|latency| (at_s, latency)));
        }
        self.add_counts(r, is_full);
    }

    fn add_counts(&mut self, r: &RequestRecord, is_full: bool) {
        let (cell, template) = (self.context.cell, self.context.template_tokens);
        let evidence = &mut self.evidence;
        evidence.chunks += r.chunks_us.len() as u64;
        evidence.coalesced += u64::from(r.coalesced);
        evidence.without_usage += u64::from(r.token_source == TokenSource::None);
        evidence.without_text += u64::from(r.first_token_us.is_none());
        if let Some(tokens) = r.output_tokens {
            self.output_tokens.push(tokens as f64);
            evidence.counted_chunks += r.chunks_us.len() as u64;
            evidence.counted_tokens += tokens;
            if is_full {
                evidence.full += 1;
            } else if self.text.is_none() {
                evidence.short += 1;
                evidence.shortest = Some(evidence.shortest.map_or(tokens, |s| s.min(tokens)));
            }
        }
        if let Some(tokens) = r.prompt_tokens {
            self.prompt_tokens.push(tokens as f64);
            evidence.add_prompt(tokens, cell, template);
        }
        if let Some(tokens) = r.cached_tokens {
            self.cached_tokens.push(tokens as f64);
            evidence.add_cached(tokens, cell, template);
        }
    }

    fn finish(self, finished: &FinishedCell) -> (CellSummary, CellSamples) {
        let (context, ended, mut evidence) = (self.context, &finished.ended, self.evidence);
        let cell = context.cell;
        let has_tokens = !self.output_tokens.is_empty();
        let passes = self.passes.finish(&ended.passes, evidence.requests, has_tokens);
        let (steady, tpot_series, mut latency_series) = match passes.steady {
            Some((steady, series)) => (Some(steady), series.tpot, series.latency),
            None => (None, self.tpot_series, self.latency_series),
        };
        if self.text.is_some() {
            // As long as the model liked.
            latency_series.clear();
        }
        let passes_s: Vec<f64> = ended.passes.iter().map(|p| p.duration_us as f64 / 1e6).collect();
        let times = self.times.finish(self.text.is_none() && has_tokens);
        let series = self.series.finish(
            times.ttft.as_ref(),
            times.latency_full.as_ref().or(times.latency.as_ref()),
        );
        let (prefix_cache, first_ttft_ms, later_over_first) = self
            .prefix
            .map(|prefix| prefix.finish(&passes_s))
            .map_or_else(Default::default, |f| {
                (Some(f.summary), f.first_ttft_ms, f.later_over_first)
            });
        let output_tokens = Counts::of(&self.output_tokens);
        let gpu = context
            .gpu
            .map(|w| w.summary(output_tokens.as_ref().map(|c| c.total)));
        let server_says = self
            .server
            .says(&ended.server_counters, evidence.failed, passes_s.iter().sum());

        evidence.latencies = times.latency_ms.as_ref().map_or(0, |d| d.n);
        evidence.has_steady = steady.is_some();
        let mut flags = cell_flags(&evidence, finished, context, gpu.as_ref(), &latency_series);
        let disagreement = disagreement(&server_says);
        flags.extend(disagreement.map(|seen| Flag::new(FlagKind::DisagreesWithServer, seen)));

        let by_pass = |rate: &Option<_>| {
            rate.as_ref()
                .map_or_else(Vec::new, |r: &super::Rate| r.passes.clone())
        };
        let mut samples = CellSamples {
            output_tokens_per_s: by_pass(&passes.output_tokens_per_s),
            fixed_output_tokens: output_tokens
                .as_ref()
                .filter(|counts| self.text.is_none() && counts.known > 0)
                .map(|counts| counts.total as f64 / counts.known as f64),
            requests_per_s: by_pass(&passes.requests_per_s),
            first_ttft_ms,
            later_over_first,
            requests: self.requests,
            answers: self.answers,
            tpot_series,
            latency_series,
            series,
            written: WrittenSamples::default(),
        };
        let text = self.text.as_ref().and_then(TextFold::figures);
        if let Some(text) = self.text {
            samples.written = WrittenSamples {
                ttft_ms: times.ttft,
                tokens_per_s: times.tokens_per_s,
                latency_ms: times.latency,
                output_tokens: Sorted::new(self.output_tokens),
                one_language: matches!(cell.input, CellInput::Written { prompt_type, .. } if answers_in_one_language(prompt_type)),
                text,
            };
        }
        let (asked_requests_per_s, arrival) = asked_rate(cell.arrival);
        let (started_unix_us, ended_unix_us) = cell_window(finished);
        let summary = CellSummary {
            v: SUMMARY_VERSION,
            lane: ended.lane.clone(),
            scenario: cell.scenario.clone(),
            kind: cell.kind,
            cell: cell.id.clone(),
            attempt: ended.attempt,
            concurrency: cell.concurrency,
            asked_requests_per_s,
            arrival,
            asked_prompt_tokens: asked_prompt_tokens(cell),
            asked_output_tokens: cell.output_tokens,
            started_unix_us,
            ended_unix_us,
            passes_s,
            requests: evidence.requests,
            failed: evidence.failed,
            failures: self.failures,
            failure_example: self.failure_example,
            full_outputs: evidence.full,
            short_outputs: evidence.short,
            ttft_ms: times.ttft_ms,
            first_chunk_ms: times.first_chunk_ms,
            first_content_ms: times.first_content_ms,
            latency_ms: times.latency_ms,
            latency_full_ms: times.latency_full_ms,
            tpot_ms: times.tpot_ms,
            chunk_gap_ms: times.chunk_gap_ms,
            connect_ms: times.connect_ms,
            queued_ms: times.queued_ms,
            sent_requests_per_s: passes.sent_requests_per_s,
            request_tokens_per_s: times.request_tokens_per_s,
            output_tokens_per_s: passes.output_tokens_per_s,
            requests_per_s: passes.requests_per_s,
            prompt_tokens: Counts::of(&self.prompt_tokens),
            output_tokens,
            cached_tokens: Counts::of(&self.cached_tokens),
            steady,
            goodput: passes.goodput,
            gpu,
            prefix_cache,
            text,
            client: ended.client.clone(),
            server_says,
            server_counters: ended.server_counters.clone(),
            cache_reset: finished.cache_reset.clone(),
            flags,
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
