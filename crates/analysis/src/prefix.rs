//! First against later requests of passes whose prompts share a prefix.

use std::collections::BTreeMap;

use super::{Distribution, PrefixCache};
use benchd_core::{record::RequestRecord, stats::Sorted};

/// Requests of a cell with a shared prefix, folded one by one.
#[derive(Debug, Default)]
pub(super) struct PrefixFold {
    passes: BTreeMap<u32, Pass>,
    later_tokens_per_s: Vec<f64>,
    /// Cached and prompt tokens, where the server tells of its cache.
    first_cached: (u64, u64),
    later_cached: (u64, u64),
}

#[derive(Debug, Default)]
struct Pass {
    /// TTFT, milliseconds, and tokens per second.
    first: Option<(f64, Option<f64>)>,
    later_ttft_ms: Vec<f64>,
}

/// What they come to.
pub(super) struct PrefixFigures {
    pub(super) summary: PrefixCache,
    /// TTFT of the first request, by pass.
    pub(super) first_ttft_ms: Vec<f64>,
    /// Median of the later requests' TTFT over the first's, by pass.
    pub(super) later_over_first: Vec<f64>,
}

impl PrefixFold {
    /// Adds a successful request.
    pub(super) fn add(&mut self, r: &RequestRecord, ttft_ms: Option<f64>, tokens_per_s: Option<f64>) {
        let is_first = r.index == 0;
        if let (Some(cached), Some(prompt)) = (r.cached_tokens, r.prompt_tokens) {
            let sums = if is_first {
                &mut self.first_cached
            } else {
                &mut self.later_cached
            };
            *sums = (sums.0 + cached, sums.1 + prompt);
        }
        let Some(ttft_ms) = ttft_ms else { return };
        let pass = self.passes.entry(r.pass).or_default();
        if is_first {
            pass.first = Some((ttft_ms, tokens_per_s));
        } else {
            pass.later_ttft_ms.push(ttft_ms);
            self.later_tokens_per_s.extend(tokens_per_s);
        }
    }

    /// The figures; `passes_s` are the durations of the passes, seconds.
    pub(super) fn finish(self, passes_s: &[f64]) -> PrefixFigures {
        let (mut first, mut first_tokens_per_s, mut later, mut ratios) = (vec![], vec![], vec![], vec![]);
        for pass in self.passes.into_values() {
            let later_of_pass = Sorted::new(pass.later_ttft_ms);
            if let Some((ttft_ms, tokens_per_s)) = pass.first {
                first.push(ttft_ms);
                first_tokens_per_s.extend(tokens_per_s);
                ratios.extend(later_of_pass.as_ref().map(|l| l.median() / ttft_ms));
            }
            later.extend(later_of_pass.iter().flat_map(|l| l.values()));
        }
        let share = |(cached, prompt): (u64, u64)| (prompt > 0).then(|| cached as f64 / prompt as f64);
        PrefixFigures {
            summary: PrefixCache {
                total_s: Distribution::of_values(passes_s.to_vec(), 0),
                first_ttft_ms: Distribution::of_values(first.clone(), 0),
                later_ttft_ms: Distribution::of_values(later, 0),
                later_over_first: Distribution::of_values(ratios.clone(), 0),
                first_tokens_per_s: Distribution::of_values(first_tokens_per_s, 0),
                later_tokens_per_s: Distribution::of_values(self.later_tokens_per_s, 0),
                first_cached_share: share(self.first_cached),
                later_cached_share: share(self.later_cached),
            },
            first_ttft_ms: first,
            later_over_first: ratios,
        }
    }
}
