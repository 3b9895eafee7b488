//! Frameworks against each other, cell by cell; and the rounds of one framework against each other.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{
    LaneSummary,
    distribution::SEED,
    measured::{CellPair, FrameworkPair, MeasuredCell, by_framework, framework_pairs},
    precision::ServedWeights,
    samples::{CellSamples, FIGURES, RequestFigure},
    shown_framework,
};
use benchd_core::{
    format::list,
    stats::{
        DEFAULT_LEVEL, Interval, Sorted, cliffs_delta, median_interval, stratified_median_interval,
        stratified_ratio_interval,
    },
};
use benchd_plan::FrameworkKind;

/// Prompts (or requests of each side) from which on an interval is trusted to tell a difference.
pub const COMPARED_VALUES: usize = 5;

/// Two frameworks that serve one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FrameworkComparison {
    /// The model.
    pub model: String,
    /// What is compared with.
    pub baseline: String,
    /// What is compared.
    pub framework: String,
    /// Why figures of the two don't compare like with like (weights of different or unknown precision), a statement each;
    /// empty where nothing says so.
    #[serde(default)]
    pub unlike: Vec<String>,
    /// Cells that both measured, in the order in which the baseline ran them.
    pub cells: Vec<CellComparison>,
}

/// One cell of two frameworks. Figures by name: `ttft_ms`, `latency_ms` (full outputs where the length is fixed),
/// `tpot_ms`, `tokens_per_s` (a request's, as the latency), `output_tokens_per_s` (the cell's, by pass).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CellComparison {
    /// The scenario's name in the plan.
    pub scenario: String,
    /// The cell.
    pub cell: String,
    /// Rounds that both measured, over all nights.
    pub rounds: u32,
    /// Mean output tokens of the baseline's answers and of the framework's, where the length is fixed and they are more than 2 %
    /// apart: rates of whole passes then don't compare like with like. A request's own figures are those of full-length
    /// answers.
    #[serde(default)]
    pub unequal_outputs: Option<[f64; 2]>,
    /// By figure.
    pub figures: IndexMap<String, Difference>,
}

/// One figure of two frameworks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Difference {
    /// The baseline's median; over several rounds the geometric mean of the rounds' medians.
    pub baseline: f64,
    /// The same of the framework.
    pub framework: f64,
    /// Framework over baseline. Paired: the median over the prompts of the ratios of the same prompt, else the ratio of
    /// the medians; over several rounds the geometric mean of the rounds' ratios.
    pub ratio: f64,
    /// 95 % interval of the ratio, resampled within the rounds; `None` where there are too few values.
    pub interval: Option<Interval>,
    /// Prompts paired; 0 where the texts are not the same or the plan sends one text throughout.
    pub pairs: u64,
    /// Cliff's delta of framework against baseline, -1 to 1: the chance that a value is larger less the chance that it
    /// is smaller; over several rounds weighted by their pairs of values.
    pub cliffs_delta: f64,
    /// Whether the interval leaves 1 out. `None` without an interval, or with fewer than [`COMPARED_VALUES`] values.
    pub differs: Option<bool>,
}

/// One framework's cells over several rounds of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RoundsSummary {
    /// The model.
    pub model: String,
    /// The framework.
    pub framework: String,
    /// Cells measured in more than one round.
    pub cells: Vec<CellRounds>,
}

/// One cell over the rounds. Figures as in [`CellComparison`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CellRounds {
    /// The scenario's name in the plan.
    pub scenario: String,
    /// The cell.
    pub cell: String,
    /// By figure.
    pub figures: IndexMap<String, OverRounds>,
}

/// One figure over the rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OverRounds {
    /// The median of each round, by round.
    pub rounds: BTreeMap<u32, f64>,
    /// Geometric mean of the rounds' medians: every round counts the same.
    pub pooled: f64,
    /// Its 95 % interval, resampled within the rounds.
    pub interval: Option<Interval>,
    /// Each later round over the first, with its interval.
    pub over_first: BTreeMap<u32, RoundRatio>,
}

/// A later round over the first one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RoundRatio {
    /// Paired by prompt where the prompts are the same, else the ratio of the medians.
    pub ratio: f64,
    /// Its 95 % interval.
    pub interval: Option<Interval>,
}

/// Every pair of frameworks of a model.
pub(super) fn frameworks(measured: &[MeasuredCell<'_>]) -> Vec<FrameworkComparison> {
    framework_pairs(measured)
        .into_iter()
        .filter_map(|pair| {
            let cells: Vec<CellComparison> = pair.cells.iter().filter_map(compare).collect();
            (!cells.is_empty()).then(|| FrameworkComparison {
                model: pair.model.to_owned(),
                baseline: pair.baseline.to_owned(),
                framework: pair.framework.to_owned(),
                unlike: unlike(measured, &pair),
                cells,
            })
        })
        .collect()
}

/// Why two frameworks don't compare like with like.
fn unlike(measured: &[MeasuredCell<'_>], pair: &FrameworkPair<'_>) -> Vec<String> {
    let of_pair = measured.iter().map(|m| m.lane).filter(|lane| {
        let id = &lane.lane;
        id.model == pair.model && [pair.baseline, pair.framework].contains(&id.framework.as_str())
    });
    let lanes: Vec<&LaneSummary> = of_pair.collect();
    let weights = ServedWeights::of(lanes.iter().copied()).statement();
    weights.into_iter().chain(graphs_off(&lanes)).collect()
}

/// Which of two frameworks was started without its CUDA graphs, where the other was not.
fn graphs_off(lanes: &[&LaneSummary]) -> Option<String> {
    let off = |lane: &&&LaneSummary| {
        let kind = FrameworkKind::ALL
            .iter()
            .find(|kind| kind.to_string() == lane.framework_kind);
        let argument = kind.and_then(|kind| benchd_frameworks::kind(*kind).graphs_off);
        let argv = lane.server.iter().flat_map(|server| &server.argv);
        argument.is_some_and(|argument| argv.into_iter().any(|given| given == argument))
    };
    let of = |lanes: Vec<&&LaneSummary>| -> BTreeSet<String> {
        lanes
            .into_iter()
            .map(|lane| shown_framework(&lane.lane.framework).to_owned())
            .collect()
    };
    let (without, all) = (of(lanes.iter().filter(off).collect()), of(lanes.iter().collect()));
    (!without.is_empty() && without.len() < all.len()).then(|| {
        let names: Vec<String> = without.into_iter().collect();
        format!("CUDA graphs are off in {}", list(&names))
    })
}

/// Output tokens further apart than this share are other work.
const SAME_OUTPUTS: f64 = 0.02;

/// The mean output tokens of both sides over their rounds, where the length is fixed and they are too far apart.
fn unequal_outputs(rounds: &[(&CellSamples, &CellSamples)]) -> Option<[f64; 2]> {
    let mean = |side: &dyn Fn(&(&CellSamples, &CellSamples)) -> Option<f64>| {
        let means: Vec<f64> = rounds.iter().filter_map(side).collect();
        (!means.is_empty()).then(|| means.iter().sum::<f64>() / means.len() as f64)
    };
    let base = mean(&|(base, _)| base.fixed_output_tokens)?;
    let other = mean(&|(_, other)| other.fixed_output_tokens)?;
    let apart = base.max(other) > base.min(other) * (1.0 + SAME_OUTPUTS);
    apart.then_some([base, other])
}

/// Each framework's cells that more than one round of one night measured.
pub(super) fn rounds(measured: &[MeasuredCell<'_>]) -> Vec<RoundsSummary> {
    let mut all = Vec::new();
    for (model, frameworks) in by_framework(measured) {
        for (framework, cells) in frameworks {
            let cells: Vec<CellRounds> = cells
                .into_iter()
                .filter(|(_, rounds)| rounds.len() > 1)
                .map(|((scenario, cell), rounds)| CellRounds {
                    scenario: scenario.to_owned(),
                    cell: cell.to_owned(),
                    figures: over_rounds(&rounds.into_iter().map(|((_, r), m)| (r, m.samples)).collect()),
                })
                .collect();
            if !cells.is_empty() {
                all.push(RoundsSummary {
                    model: model.to_owned(),
                    framework: framework.to_owned(),
                    cells,
                });
            }
        }
    }
    all
}

fn compare(pair: &CellPair<'_>) -> Option<CellComparison> {
    let rounds = &pair.strata;
    let mut figures = IndexMap::new();
    for (name, figure) in FIGURES {
        let strata: Vec<(Sorted, Sorted)> = rounds
            .iter()
            .filter_map(|(base, other)| Some((base.figure(figure)?, other.figure(figure)?)))
            .collect();
        let pairs: Vec<Vec<f64>> = rounds
            .iter()
            .map(|(base, other)| prompt_ratios(base, other, figure))
            .collect();
        figures.extend(difference(&strata, &pairs).map(|d| (name.to_owned(), d)));
    }
    let strata: Vec<(Sorted, Sorted)> = rounds
        .iter()
        .filter_map(|(base, other)| {
            Some((
                Sorted::new(base.output_tokens_per_s.clone())?,
                Sorted::new(other.output_tokens_per_s.clone())?,
            ))
        })
        .collect();
    figures.extend(difference(&strata, &[]).map(|d| ("output_tokens_per_s".to_owned(), d)));
    (!figures.is_empty()).then(|| CellComparison {
        scenario: pair.scenario.to_owned(),
        cell: pair.cell.to_owned(),
        rounds: rounds.len() as u32,
        unequal_outputs: unequal_outputs(rounds),
        figures,
    })
}

/// Framework over baseline for each prompt that both answered: of the medians over its requests.
pub(super) fn prompt_ratios(
    baseline: &CellSamples,
    framework: &CellSamples,
    figure: RequestFigure,
) -> Vec<f64> {
    let by_prompt = |samples: &CellSamples| samples.requests.iter().map(|r| (r.prompt, figure(r))).collect();
    paired_ratios(by_prompt(baseline), by_prompt(framework))
}

/// The second over the first for each key that both have: of the medians over its values.
pub(super) fn paired_ratios(first: Vec<(u64, f64)>, second: Vec<(u64, f64)>) -> Vec<f64> {
    let by_key = |values: Vec<(u64, f64)>| {
        let mut keys: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (key, value) in values {
            keys.entry(key).or_default().push(value);
        }
        keys
    };
    let mut first = by_key(first);
    by_key(second)
        .into_iter()
        .filter_map(|(key, values)| {
            let base = Sorted::new(first.remove(&key)?)?.median();
            let other = Sorted::new(values)?.median();
            (base > 0.0 && other > 0.0).then(|| other / base)
        })
        .collect()
}

/// Geometric means over the strata of the medians of both sides.
pub(super) fn geometric_means(strata: &[(Sorted, Sorted)]) -> (f64, f64) {
    let middle = |side: fn(&(Sorted, Sorted)) -> &Sorted| {
        let logs: f64 = strata.iter().map(|s| side(s).median().ln()).sum();
        (logs / strata.len() as f64).exp()
    };
    (middle(|s| &s.0), middle(|s| &s.1))
}

/// Two samples a stratum, the baseline's first, and for each stratum the ratios of what is paired in it.
pub(super) fn difference(strata: &[(Sorted, Sorted)], pairs: &[Vec<f64>]) -> Option<Difference> {
    let swapped: Vec<(Sorted, Sorted)> = strata.iter().map(|(b, f)| (f.clone(), b.clone())).collect();
    let (mut ratio, mut interval) = stratified_ratio_interval(&swapped, SEED, DEFAULT_LEVEL)?;
    let (baseline, framework) = geometric_means(strata);
    let enough = strata
        .iter()
        .all(|(b, f)| b.len().min(f.len()) >= COMPARED_VALUES);
    // Rates: as many values as passes. Where a round has one only, the rounds themselves are the sample.
    if interval.is_none() && strata.len() >= COMPARED_VALUES {
        let by_round = strata.iter().map(|(b, f)| f.median() / b.median()).collect();
        let sample = Sorted::new(by_round)?;
        ratio = sample.median();
        interval = median_interval(&sample, SEED, DEFAULT_LEVEL);
    }
    let paired: Vec<Sorted> = pairs.iter().filter_map(|p| Sorted::new(p.clone())).collect();
    let fewest = paired.iter().map(Sorted::len).min().unwrap_or(0);
    let mut count = 0;
    if paired.len() == strata.len()
        && fewest >= COMPARED_VALUES
        && let Some(of_pairs) = stratified_median_interval(&paired, SEED, DEFAULT_LEVEL)
    {
        (ratio, interval) = of_pairs;
        count = paired.iter().map(|p| p.len() as u64).sum();
    }
    let trusted = count > 0 || enough || strata.len() >= COMPARED_VALUES;
    let weights: f64 = strata.iter().map(|(b, f)| b.len() as f64 * f.len() as f64).sum();
    let delta: f64 = strata
        .iter()
        .map(|(b, f)| cliffs_delta(f, b) * b.len() as f64 * f.len() as f64)
        .sum();
    Some(Difference {
        baseline,
        framework,
        ratio,
        interval,
        pairs: count,
        cliffs_delta: delta / weights,
        differs: interval.filter(|_| trusted).map(|i| !i.contains(1.0)),
    })
}

fn over_rounds(rounds: &BTreeMap<u32, &CellSamples>) -> IndexMap<String, OverRounds> {
    let mut figures = IndexMap::new();
    let mut add = |name: &str, samples: BTreeMap<u32, Sorted>, pairs: &dyn Fn(u32, u32) -> Vec<f64>| {
        let strata: Vec<Sorted> = samples.values().cloned().collect();
        let Some((&first, base)) = samples.first_key_value() else {
            return;
        };
        let Some((pooled, interval)) = stratified_median_interval(&strata, SEED, DEFAULT_LEVEL) else {
            return;
        };
        let over_first = samples
            .range(first + 1..)
            .filter_map(|(&round, sample)| {
                let sides = [(base.clone(), sample.clone())];
                let d = difference(&sides, &[pairs(first, round)])?;
                let interval = d.interval.filter(|_| d.differs.is_some());
                Some((
                    round,
                    RoundRatio {
                        ratio: d.ratio,
                        interval,
                    },
                ))
            })
            .collect();
        let figure = OverRounds {
            rounds: samples.iter().map(|(round, s)| (*round, s.median())).collect(),
            pooled,
            interval,
            over_first,
        };
        figures.insert(name.to_owned(), figure);
    };
    for (name, figure) in FIGURES {
        let samples = rounds
            .iter()
            .filter_map(|(round, s)| Some((*round, s.figure(figure)?)));
        let pairs = |first: u32, later: u32| match (rounds.get(&first), rounds.get(&later)) {
            (Some(first), Some(later)) => prompt_ratios(first, later, figure),
            _ => Vec::new(),
        };
        add(name, samples.collect(), &pairs);
    }
    let rates = rounds
        .iter()
        .filter_map(|(round, s)| Some((*round, Sorted::new(s.output_tokens_per_s.clone())?)));
    add("output_tokens_per_s", rates.collect(), &|_, _| Vec::new());
    figures
}
