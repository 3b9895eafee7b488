//! Times of a cell's requests, milliseconds, and the rates that follow from them.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{ChunkGaps, Distribution};
use benchd_core::{
    record::{Outcome, RequestRecord, micros},
    stats::Sorted,
};

/// Longer gaps count as this: longer than any request's limit, microseconds.
const LONGEST_GAP_US: u64 = 3_600_000_000;
/// Significant digits of the histogram of gaps: a resolution of 0.1 %.
const GAP_DIGITS: u8 = 3;

/// What one request counts as. A time-out took at least its limit, and is never absent; other failures have no times.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RequestTimes {
    pub(super) ttft_ms: Option<f64>,
    pub(super) latency_ms: Option<f64>,
    pub(super) tpot_ms: Option<f64>,
    /// Output tokens over latency.
    pub(super) tokens_per_s: Option<f64>,
}

impl RequestTimes {
    fn of(r: &RequestRecord, timeout_us: u64) -> Self {
        match r.outcome {
            Outcome::Ok => {
                let seconds = r.latency_us() as f64 / 1e6;
                let tokens = r.output_tokens.filter(|_| seconds > 0.0);
                Self {
                    ttft_ms: r.ttft_us().map(ms),
                    latency_ms: Some(ms(r.latency_us())),
                    tpot_ms: r.tpot_us().map(|us| us / 1e3),
                    tokens_per_s: tokens.map(|t| t as f64 / seconds),
                }
            }
            Outcome::Timeout => Self {
                ttft_ms: Some(ms(r.ttft_us().unwrap_or(timeout_us))),
                latency_ms: Some(ms(r.latency_us().max(timeout_us))),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }
}

/// Gaps between events, microseconds.
struct Gaps(Histogram<u64>);

impl Default for Gaps {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_GAP_US, GAP_DIGITS);
        Self(
            histogram
                .unwrap_or_else(|_| unreachable!("1 and an hour are bounds, 3 digits are within 0 to 5")),
        )
    }
}

/// Times of a cell's requests, added one by one.
#[derive(Default)]
pub(super) struct TimesFold {
    timeout_us: u64,
    timeouts: u64,
    /// Time-outs before the first token.
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
    gaps_us: Gaps,
    coalesced: u64,
}

/// What they come to.
pub(super) struct TimesFigures {
    pub(super) ttft: Option<Sorted>,
    pub(super) latency: Option<Sorted>,
    pub(super) latency_full: Option<Sorted>,
    pub(super) tokens_per_s: Option<Sorted>,
    pub(super) ttft_ms: Option<Distribution>,
    pub(super) first_chunk_ms: Option<Distribution>,
    pub(super) first_content_ms: Option<Distribution>,
    pub(super) latency_ms: Option<Distribution>,
    pub(super) latency_full_ms: Option<Distribution>,
    pub(super) tpot_ms: Option<Distribution>,
    pub(super) connect_ms: Option<Distribution>,
    pub(super) queued_ms: Option<Distribution>,
    pub(super) request_tokens_per_s: Option<Distribution>,
    pub(super) chunk_gap_ms: Option<ChunkGaps>,
}

impl TimesFold {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            timeout_us: micros(timeout),
            ..Self::default()
        }
    }

    /// Adds a request; `is_full` where its output has the length that is asked for.
    pub(super) fn add(&mut self, r: &RequestRecord, is_full: bool) -> RequestTimes {
        let times = RequestTimes::of(r, self.timeout_us);
        let timed_out = r.outcome == Outcome::Timeout;
        self.timeouts += u64::from(timed_out);
        self.ttft_timeouts += u64::from(timed_out && r.first_token_us.is_none());
        self.connect_ms.extend(r.connect_us.map(ms));
        self.queued_ms.extend(r.queued_us.map(ms));
        self.ttft_ms.extend(times.ttft_ms);
        self.latency_ms.extend(times.latency_ms);
        self.tpot_ms.extend(times.tpot_ms);
        self.tokens_per_s.extend(times.tokens_per_s);
        if is_full || timed_out {
            self.latency_full_ms.extend(times.latency_ms);
        }
        if r.is_ok() {
            self.first_chunk_ms.extend(r.first_chunk_us.map(ms));
            self.first_content_ms.extend(r.first_content_us.map(ms));
            self.coalesced += u64::from(r.coalesced);
            for pair in r.chunks_us.windows(2) {
                let gap = pair[1].saturating_sub(pair[0]);
                // A gap of zero is two events in one read; those are counted apart.
                if gap > 0 {
                    self.gaps_us.0.saturating_record(gap);
                }
            }
        }
        times
    }

    /// The figures; `fixed_length` where outputs have a length that is asked for and counted.
    pub(super) fn finish(self, fixed_length: bool) -> TimesFigures {
        let (ttft, latency) = (Sorted::new(self.ttft_ms), Sorted::new(self.latency_ms));
        let tokens_per_s = Sorted::new(self.tokens_per_s);
        let latency_full = Sorted::new(self.latency_full_ms).filter(|_| fixed_length);
        let of = |sample: &Option<Sorted>, timeouts| sample.as_ref().map(|s| Distribution::of(s, timeouts));
        TimesFigures {
            ttft_ms: of(&ttft, self.ttft_timeouts),
            first_chunk_ms: Distribution::of_values(self.first_chunk_ms, 0),
            first_content_ms: Distribution::of_values(self.first_content_ms, 0),
            latency_ms: of(&latency, self.timeouts),
            latency_full_ms: of(&latency_full, self.timeouts),
            tpot_ms: Distribution::of_values(self.tpot_ms, 0),
            connect_ms: Distribution::of_values(self.connect_ms, 0),
            queued_ms: Distribution::of_values(self.queued_ms, 0),
            request_tokens_per_s: of(&tokens_per_s, 0),
            chunk_gap_ms: chunk_gaps(&self.gaps_us.0, self.coalesced),
            ttft,
            latency,
            latency_full,
            tokens_per_s,
        }
    }
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
