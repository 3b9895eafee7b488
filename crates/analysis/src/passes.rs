//! What a cell's passes come to: rates over their time, goodput, the steady state.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Goodput, Rate, Steady,
    steady::{Span, SteadySeries, steady},
    times::RequestTimes,
};
use benchd_core::record::RequestRecord;
use benchd_journal::PassTimes;
use benchd_plan::{Arrival, Cell, Slo};

#[derive(Default)]
struct Pass {
    /// Output tokens of successful requests.
    tokens: f64,
    ok: u64,
    /// Successful requests that meet the objectives.
    good: u64,
    /// First and last send, microseconds since the Unix epoch, and the requests.
    sends: Option<(u64, u64)>,
    sent: u64,
    /// In a closed loop of several streams.
    spans: Vec<Span>,
}

impl Pass {
    /// Requests a second that an open loop sent.
    fn sent_per_s(&self) -> Option<f64> {
        let (first, last) = self.sends.filter(|(first, last)| last > first)?;
        // As many gaps as requests, less one.
        Some((self.sent - 1) as f64 / ((last - first) as f64 / 1e6))
    }
}

/// The requests of a cell's passes, added one by one.
pub(super) struct PassesFold<'a> {
    cell: &'a Cell,
    passes: BTreeMap<u32, Pass>,
}

/// What they come to.
pub(super) struct PassFigures {
    pub(super) sent_requests_per_s: Option<Rate>,
    pub(super) output_tokens_per_s: Option<Rate>,
    pub(super) requests_per_s: Option<Rate>,
    pub(super) goodput: Option<Goodput>,
    pub(super) steady: Option<(Steady, SteadySeries)>,
}

impl<'a> PassesFold<'a> {
    pub(super) fn new(cell: &'a Cell) -> Self {
        Self {
            cell,
            passes: BTreeMap::new(),
        }
    }

    pub(super) fn add(&mut self, r: &RequestRecord, times: &RequestTimes) {
        let pass = self.passes.entry(r.pass).or_default();
        if self.cell.arrival != Arrival::Closed {
            let at = r.sent_unix_us;
            let (first, last) = pass.sends.unwrap_or((at, at));
            pass.sends = Some((first.min(at), last.max(at)));
            pass.sent += 1;
        } else if self.cell.concurrency > 1 {
            pass.spans.push(Span::of(r, times));
        }
        if r.is_ok() {
            pass.ok += 1;
            pass.good += u64::from(self.cell.slo.is_some_and(|slo| meets(r, slo)));
            pass.tokens += r.output_tokens.unwrap_or(0) as f64;
        }
    }

    /// The figures. `has_tokens` where the server counts output tokens; `requests` are all measured ones.
    pub(super) fn finish(self, times: &[PassTimes], requests: u64, has_tokens: bool) -> PassFigures {
        let per_pass = |f: &dyn Fn(&Pass) -> f64| {
            let none = Pass::default();
            let value = |p: &PassTimes| {
                let seconds = p.duration_us as f64 / 1e6;
                (seconds > 0.0).then(|| f(self.passes.get(&p.pass).unwrap_or(&none)) / seconds)
            };
            Rate::of(times.iter().filter_map(value).collect())
        };
        let durations_us: BTreeMap<u32, u64> = times.iter().map(|p| (p.pass, p.duration_us)).collect();
        let spans = self
            .passes
            .iter()
            .map(|(n, p)| (durations_us.get(n).copied(), &p.spans[..]));
        PassFigures {
            sent_requests_per_s: Rate::of(self.passes.values().filter_map(Pass::sent_per_s).collect()),
            output_tokens_per_s: per_pass(&|p| p.tokens).filter(|_| has_tokens),
            requests_per_s: per_pass(&|p| p.ok as f64),
            goodput: self.cell.slo.map(|_| Goodput {
                requests_per_s: per_pass(&|p| p.good as f64),
                share: self.passes.values().map(|p| p.good).sum::<u64>() as f64 / requests.max(1) as f64,
            }),
            steady: steady(spans, self.cell.concurrency, has_tokens),
        }
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
