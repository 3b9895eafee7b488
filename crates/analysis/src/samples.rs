//! Numbers of single requests that comparisons between cells need, kept beside a cell's summary.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{answers::AnswerTexts, korean::WrittenSamples, series::CellSeries};
use benchd_core::stats::Sorted;

/// A cell's numbers beyond its summary.
#[derive(Debug, Default)]
pub(super) struct CellSamples {
    /// Korean and English texts.
    pub(super) written: WrittenSamples,
    /// Successful and timed-out requests.
    pub(super) requests: Vec<RequestValues>,
    /// Texts of some answers.
    pub(super) answers: AnswerTexts,
    /// Output tokens a second, one value a pass.
    pub(super) output_tokens_per_s: Vec<f64>,
    /// Mean output tokens of the answers, where their length is fixed.
    pub(super) fixed_output_tokens: Option<f64>,
    /// Requests a second, one value a pass.
    pub(super) requests_per_s: Vec<f64>,
    /// Of a shared prefix, one value a pass: TTFT of the first request, and later over first.
    pub(super) first_ttft_ms: Vec<f64>,
    pub(super) later_over_first: Vec<f64>,
    /// Seconds since the Unix epoch and TPOT, milliseconds, of requests that met the same load: one after another, or in
    /// the steady state of a closed loop.
    pub(super) tpot_series: Vec<(f64, f64)>,
    /// The same with latency; empty where outputs have no fixed length.
    pub(super) latency_series: Vec<(f64, f64)>,
    /// For charts.
    pub(super) series: CellSeries,
}

/// One request; a figure that it does not have is NaN, which samples leave out.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestValues {
    /// Hash of the prompt's id.
    pub(super) prompt: u64,
    /// The answer's identity; 0 where there is none.
    pub(super) answer: u64,
    /// Pass, from 1, and whether it is the pass's first request.
    pub(super) pass: u32,
    pub(super) first_of_pass: bool,
    pub(super) ttft_ms: f64,
    /// Of outputs of full length, where the length is fixed.
    pub(super) latency_ms: f64,
    pub(super) tpot_ms: f64,
    /// As the latency: a short answer spreads the time to its first token over fewer tokens.
    pub(super) tokens_per_s: f64,
}

/// One figure of a request.
pub(super) type RequestFigure = fn(&RequestValues) -> f64;

/// The figures that frameworks and rounds are compared by.
pub(super) const FIGURES: [(&str, RequestFigure); 4] = [
    ("ttft_ms", |r| r.ttft_ms),
    ("latency_ms", |r| r.latency_ms),
    ("tpot_ms", |r| r.tpot_ms),
    ("tokens_per_s", |r| r.tokens_per_s),
];

/// A prompt's id as a number: equal ids are equal numbers within one process. Not to be stored: another Rust version may
/// hash otherwise.
pub(super) fn prompt_key(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

impl CellSamples {
    /// One figure of all requests that have it.
    pub(super) fn figure(&self, figure: RequestFigure) -> Option<Sorted> {
        Sorted::new(self.requests.iter().map(figure).collect())
    }
}
