//! Whether frameworks that serve one model greedily answer alike, and where their answers part.
//!
//! All answers count by their hashes; texts are kept of a bounded number of prompts, the same for every framework.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    measured::{CellPair, MeasuredCell, framework_pairs},
    samples::CellSamples,
};
use benchd_core::stats::Sorted;

/// Two frameworks' answers to the same prompts, with temperature 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OutputAgreement {
    /// The model.
    pub model: String,
    /// One framework.
    pub baseline: String,
    /// The other.
    pub framework: String,
    /// Cells in which both answered the same prompts.
    pub cells: Vec<CellAgreement>,
}

/// One cell of two frameworks. Texts are the reasoning, if any, and the answer after it; positions are in characters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CellAgreement {
    /// The scenario's name in the plan.
    pub scenario: String,
    /// The cell.
    pub cell: String,
    /// Prompts that both answered, over all rounds.
    pub prompts: u64,
    /// The chance that an answer of one and an answer of the other to the same prompt are identical: the mean over the
    /// prompts, 0 to 1.
    pub identical_share: f64,
    /// The same of two answers of the baseline to the same prompt: how far it agrees with itself. `None` where no
    /// prompt was sent twice.
    pub baseline_repeats_share: Option<f64>,
    /// The same of the framework.
    pub framework_repeats_share: Option<f64>,
    /// Where the first answers part, over the prompts whose texts are kept (64, of each 4,000 characters) and differ in
    /// that; `None` where none does.
    pub parts: Option<Parts>,
}

/// Where answers that differ part: the length of what they have in common from their start on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Parts {
    /// Pairs of answers that differ.
    pub pairs: u64,
    /// Pairs that were looked at, those alike among them.
    pub looked_at: u64,
    /// Position of the first character that differs, from 0: median.
    pub common_chars_p50: f64,
    /// The same, smallest.
    pub common_chars_min: u64,
    /// The same, largest.
    pub common_chars_max: u64,
    /// Length in common over the length of the longer answer: median, 0 to 1.
    pub common_share_p50: f64,
}

/// Every pair of frameworks of a model.
pub(super) fn agreement(measured: &[MeasuredCell<'_>]) -> Vec<OutputAgreement> {
    framework_pairs(measured)
        .into_iter()
        .filter_map(|pair| {
            let cells: Vec<CellAgreement> = pair.cells.iter().filter_map(of_cell).collect();
            (!cells.is_empty()).then(|| OutputAgreement {
                model: pair.model.to_owned(),
                baseline: pair.baseline.to_owned(),
                framework: pair.framework.to_owned(),
                cells,
            })
        })
        .collect()
}

/// How often each answer to a prompt came.
type Tally = BTreeMap<u64, u64>;

fn tallies(samples: &CellSamples) -> BTreeMap<u64, Tally> {
    let mut prompts: BTreeMap<u64, Tally> = BTreeMap::new();
    for r in samples.requests.iter().filter(|r| r.answer != 0) {
        *prompts.entry(r.prompt).or_default().entry(r.answer).or_default() += 1;
    }
    prompts
}

fn of_cell(pair: &CellPair<'_>) -> Option<CellAgreement> {
    let (mut shares, mut of_base, mut of_other) = (Vec::new(), Vec::new(), Vec::new());
    let (mut common, mut common_shares, mut looked_at) = (Vec::new(), Vec::new(), 0);
    for (base, other) in &pair.strata {
        let theirs = tallies(other);
        for (prompt, ours) in tallies(base) {
            let Some(theirs) = theirs.get(&prompt) else {
                continue;
            };
            let n = |tally: &Tally| tally.values().sum::<u64>() as f64;
            let same: f64 = ours
                .iter()
                .map(|(answer, times)| (times * theirs.get(answer).copied().unwrap_or(0)) as f64)
                .sum();
            shares.push(same / (n(&ours) * n(theirs)));
            of_base.extend(repeats(&ours));
            of_other.extend(repeats(theirs));
        }
        for (prompt, ours) in &base.answers.0 {
            let Some(theirs) = other.answers.0.get(prompt) else {
                continue;
            };
            looked_at += 1;
            if let Some(at) = first_difference(&ours.text, &theirs.text) {
                common.push(at as f64);
                common_shares.push(at as f64 / ours.chars.max(theirs.chars) as f64);
            }
        }
    }
    let mean =
        |values: Vec<f64>| Some(values.iter().sum::<f64>() / values.len() as f64).filter(|m| m.is_finite());
    let differing = common.len() as u64;
    Some(CellAgreement {
        scenario: pair.scenario.to_owned(),
        cell: pair.cell.to_owned(),
        prompts: shares.len() as u64,
        identical_share: mean(shares)?,
        baseline_repeats_share: mean(of_base),
        framework_repeats_share: mean(of_other),
        parts: Sorted::new(common)
            .zip(Sorted::new(common_shares))
            .map(|(chars, shares)| Parts {
                pairs: differing,
                looked_at,
                common_chars_p50: chars.median(),
                common_chars_min: chars.min() as u64,
                common_chars_max: chars.max() as u64,
                common_share_p50: shares.median(),
            }),
    })
}

/// The chance that two different ones of these answers are identical; `None` for a single one.
fn repeats(tally: &Tally) -> Option<f64> {
    let n: u64 = tally.values().sum();
    let same: u64 = tally.values().map(|times| times * (times - 1)).sum();
    (n > 1).then(|| same as f64 / (n * (n - 1)) as f64)
}

/// Position of the first character in which two texts differ, from 0; `None` where they are equal. A text that goes on
/// where the other ends differs there.
pub fn first_difference(a: &str, b: &str) -> Option<usize> {
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    (a != b).then_some(same)
}

#[cfg(test)]
mod tests {
    use crate::{RunSummary, testing::*};
    use benchd_plan::ScenarioKind;

    /// Two frameworks, each with these answers: request by request, the same prompts on both sides.
    fn run(temperature: f64, ours: &[&str], theirs: &[&str]) -> RunSummary {
        let cell = exact("single/in512", ScenarioKind::Single, 1, 512);
        let lanes = [lane_id("vllm", "llama"), lane_id("sglang", "llama")];
        let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), vec![cell.clone()])).collect());
        run.plan.request.temperature = temperature;
        for (lane, texts) in lanes.iter().zip([ours, theirs]) {
            run.ready(lane);
            // Two passes over the same prompts.
            let half = texts.len() / 2;
            let pass = |texts: &[&str]| {
                let did = |(i, text): (u64, &&str)| Did {
                    text: (*text).to_owned(),
                    ..Did::ok(i * 1000, 10, 90)
                };
                (10_000, (0u64..).zip(texts).map(did).collect::<Vec<_>>())
            };
            run.measured(
                lane,
                "single/in512",
                &[pass(&texts[..half]), pass(&texts[half..])],
            );
        }
        run.summary().expect("a summary")
    }

    #[test]
    fn the_share_of_identical_answers_and_where_they_part_are_known() {
        // Prompt 0: all alike. Prompt 1: one's second answer differs from its first, which the other gives twice.
        let summary = run(
            0.0,
            &["서울입니다", "서울은 수도", "서울입니다", "서울은 도시"],
            &["서울입니다", "서울은 수도", "서울입니다", "서울은 수도"],
        );
        let cell = &summary.agreement[0].cells[0];
        assert_eq!((cell.prompts, cell.identical_share), (2, 0.75));
        assert_eq!(cell.baseline_repeats_share, Some(0.5));
        assert_eq!(cell.framework_repeats_share, Some(1.0));
        // The first answers are alike.
        assert_eq!(cell.parts, None);

        let summary = run(
            0.0,
            &["서울입니다", "서울은 수도", "-", "-"],
            &["서울입니다", "서울은 도시", "-", "-"],
        );
        let parts = summary.agreement[0].cells[0].parts.clone().expect("they part");
        // 서울은_ are four of six characters.
        assert_eq!(
            (
                parts.pairs,
                parts.looked_at,
                parts.common_chars_min,
                parts.common_chars_max
            ),
            (1, 2, 4, 4)
        );
        assert!((parts.common_share_p50 - 4.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn sampled_answers_are_not_compared() {
        assert_eq!(
            run(0.7, &["a", "b", "c", "d"], &["a", "b", "c", "d"]).agreement,
            []
        );
    }
}
