//! The steady state of a cell's closed loop.

use super::{Distribution, Rate, Steady, times::RequestTimes};
use benchd_core::{
    record::{Outcome, RequestRecord},
    stats::{overlap_share, steady_window},
};

/// Waves of requests that a pass needs at least: with fewer the start and the end are most of it.
const WAVES: usize = 2;

/// One request, microseconds by the wall clock (within a pass it is as good as the monotonic one).
pub(super) struct Span {
    start_us: u64,
    first_us: u64,
    last_us: u64,
    end_us: u64,
    tokens: f64,
    ttft_ms: Option<f64>,
    /// Of a success; of a time-out at least its limit; of other failures none.
    latency_ms: Option<f64>,
    tpot_ms: Option<f64>,
    timed_out: bool,
    no_token: bool,
}

impl Span {
    pub(super) fn of(r: &RequestRecord, times: &RequestTimes) -> Self {
        let timed_out = r.outcome == Outcome::Timeout;
        Self {
            start_us: r.sent_unix_us,
            first_us: r.sent_unix_us + r.first_token_us.unwrap_or(r.end_us),
            last_us: r.sent_unix_us + r.last_token_us.unwrap_or(r.end_us),
            end_us: r.sent_unix_us + r.end_us,
            tokens: if r.is_ok() {
                r.output_tokens.unwrap_or(0) as f64
            } else {
                0.0
            },
            ttft_ms: times.ttft_ms,
            latency_ms: times.latency_ms,
            tpot_ms: times.tpot_ms,
            timed_out,
            no_token: timed_out && r.first_token_us.is_none(),
        }
    }
}

/// What the requests of a steady state took, by the time of their send, seconds since the Unix epoch; milliseconds.
pub(super) struct SteadySeries {
    pub(super) latency: Vec<(f64, f64)>,
    pub(super) tpot: Vec<(f64, f64)>,
}

/// The steady state over the passes (duration in microseconds, requests), and its requests over time. `None` where any
/// pass has none.
pub(super) fn steady<'a>(
    passes: impl Iterator<Item = (Option<u64>, &'a [Span])>,
    streams: u32,
    has_tokens: bool,
) -> Option<(Steady, SteadySeries)> {
    let (mut tokens_per_s, mut inside_us, mut all_us) = (Vec::new(), 0, 0);
    let mut chosen: Vec<&Span> = Vec::new();
    for (duration_us, spans) in passes {
        if spans.len() < WAVES * streams as usize {
            return None;
        }
        let in_flight: Vec<_> = spans.iter().map(|s| (s.start_us, s.end_us)).collect();
        let window = steady_window(&in_flight, streams)?;
        inside_us += window.length_us();
        all_us += duration_us?;
        let tokens: f64 = spans
            .iter()
            .map(|s| s.tokens * overlap_share(window, s.first_us, s.last_us))
            .sum();
        tokens_per_s.push(tokens / (window.length_us() as f64 / 1e6));
        let mut spans: Vec<&Span> = spans.iter().collect();
        spans.sort_by_key(|s| s.start_us);
        // The first of each stream were sent together: the burst at the start.
        chosen.extend(
            spans
                .into_iter()
                .skip(streams as usize)
                .filter(|s| window.contains(s.start_us)),
        );
    }
    let over_time = |value: fn(&Span) -> Option<f64>| -> Vec<(f64, f64)> {
        let points = chosen.iter().map(|s| (s.start_us as f64 / 1e6, value(s)));
        points.filter_map(|(at, value)| Some((at, value?))).collect()
    };
    let series = SteadySeries {
        latency: over_time(|s| s.latency_ms),
        tpot: over_time(|s| s.tpot_ms),
    };
    if all_us == 0 || series.latency.is_empty() {
        return None;
    }
    let no_token = chosen.iter().filter(|s| s.no_token).count() as u64;
    let timed_out = chosen.iter().filter(|s| s.timed_out).count() as u64;
    let steady = Steady {
        share: inside_us as f64 / all_us as f64,
        output_tokens_per_s: Rate::of(tokens_per_s).filter(|_| has_tokens),
        requests: chosen.len() as u64,
        ttft_ms: Distribution::of_values(chosen.iter().filter_map(|s| s.ttft_ms).collect(), no_token),
        latency_ms: Distribution::of_values(
            series.latency.iter().map(|(_, latency)| *latency).collect(),
            timed_out,
        ),
    };
    Some((steady, series))
}
