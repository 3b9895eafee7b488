//! A new run against an old one, cell by cell: what changed, how surely, and what got worse.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};

use super::{
    CellSummary, Difference, MissingCell, RunSummary,
    compare::{difference, geometric_means, paired_ratios},
    measured::{CellKey, MeasuredCell},
    runs::{AnalysedRun, Machine, SameMachine, asked_differently, differences, machine_text},
    samples::{CellSamples, FIGURES},
};
use benchd_core::{
    record::FlagKind,
    stats::{Interval, Sorted, fails_more_often},
};
use benchd_plan::Only;

/// Version of what `benchd compare --format json` prints.
pub const RUN_COMPARISON_VERSION: u32 = 1;

/// Failures count as more where so many more by chance alone would be rarer than this.
pub const FAILURES_P: f64 = 0.025;

/// A new run against an old one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunComparison {
    /// Layout version, [`RUN_COMPARISON_VERSION`].
    pub v: u32,
    /// The run that is compared with.
    pub base: ComparedRun,
    /// The run that is compared.
    pub new: ComparedRun,
    /// Whether both were made on one machine.
    pub same_machine: SameMachine,
    /// What differs between them beside what was measured: machine, driver, versions, settings.
    pub differs: Vec<String>,
    /// The change for the worse from which on a certain one is a regression, as a share; `None` where none was asked
    /// for: then nothing is one.
    pub threshold: Option<f64>,
    /// Cells that both measured, in the order in which the base ran them.
    pub cells: Vec<CellChange>,
    /// Cells that only one of them measured.
    pub one_sided: Vec<OneSidedCell>,
    /// Figures that could be judged: those with an interval.
    pub judged: u64,
    /// What got worse by more than the threshold for certain; also new failures.
    pub regressions: Vec<Regression>,
}

/// One of the two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ComparedRun {
    /// Its id.
    pub run_id: String,
    /// Its plan's name.
    pub plan: String,
    /// SHA-256 of the plan's text, hex.
    pub plan_sha256: String,
    /// benchd's version.
    pub benchd_version: String,
    /// When it began, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// Its machine in words.
    pub machine: String,
    /// How it ended: as in `summary.json`.
    pub outcome: String,
    /// Whether cells are missing.
    pub partial: bool,
}

/// A cell that both runs measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CellChange {
    /// The framework.
    pub framework: String,
    /// The model.
    pub model: String,
    /// The scenario's name in the plan.
    pub scenario: String,
    /// The cell.
    pub cell: String,
    /// Rounds of the plan that both measured.
    pub rounds: u32,
    /// What the plans ask differently here; where it is not empty nothing is judged.
    pub asked_differently: Vec<String>,
    /// By figure: `ttft_ms`, `latency_ms` (of full outputs where the length is fixed), `tpot_ms`,
    /// `output_tokens_per_s`, `requests_per_s`, `gpu_memory_peak_mb`, `gpu_energy_j_per_output_token`; those that both
    /// have.
    pub figures: IndexMap<String, Change>,
    /// Failed requests.
    pub failures: FailureChange,
    /// Flags that the new run's cell has and the base's has not.
    pub new_flags: Vec<FlagKind>,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Less is better: times, memory, energy.
    Lower,
    /// More is better: rates.
    Higher,
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeOutcome {
    /// The interval holds "no change".
    NoChange,
    /// The interval lies wholly on the better side.
    Better,
    /// The interval lies wholly on the worse side, within the threshold or without one.
    Worse,
    /// The interval lies wholly on the worse side, and the change is beyond the threshold.
    Regression,
    /// Too few values for an interval: shown, not judged.
    NotJudged,
}

/// One figure of a cell in both runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Change {
    /// The base's median; over several rounds the geometric mean of the rounds' medians.
    pub base: f64,
    /// The same of the new run.
    pub new: f64,
    /// Which way is better.
    pub better: Better,
    /// New over base less 1. Paired by prompt where both sent the same texts.
    pub change: f64,
    /// Its 95 % interval; `None` where there are too few values.
    pub interval: Option<Interval>,
    /// Prompts paired; 0 where the texts are not the same.
    pub pairs: u64,
    /// What became of it.
    pub outcome: ChangeOutcome,
}

/// Failed requests of a cell in both runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FailureChange {
    /// Failed requests of the base.
    pub base_failed: u64,
    /// All of its requests.
    pub base_requests: u64,
    /// Failed requests of the new run.
    pub new_failed: u64,
    /// All of its requests.
    pub new_requests: u64,
    /// Chance of as many failures in the new run, or more, if both fail alike (Fisher's exact test, one-sided).
    pub p: f64,
    /// `worse` where the base has none and the new run has some, or where `p` is below 0.025.
    pub outcome: ChangeOutcome,
}

/// A cell that only one of the runs measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OneSidedCell {
    /// The framework.
    pub framework: String,
    /// The model.
    pub model: String,
    /// The cell.
    pub cell: String,
    /// Which run has it: `base` or `new`.
    pub measured_in: RunSide,
    /// Why the other has not: it failed, was not reached, or is not in its plan.
    pub why: String,
    /// Whether the other run was to measure it.
    pub planned: bool,
}

/// One of two runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Side")]
pub enum RunSide {
    /// The run that is compared with.
    Base,
    /// The run that is compared.
    New,
}

/// Something that got worse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Regression {
    /// The framework.
    pub framework: String,
    /// The model.
    pub model: String,
    /// The cell.
    pub cell: String,
    /// The figure; `failures` for failed requests, `missing` for a cell that the new run was to measure and has not.
    pub figure: String,
    /// The change, as a share; `None` for failures and missing cells.
    pub change: Option<f64>,
}

/// The figures that runs are compared by, and which way is better. Those of single requests first, then one value a
/// pass, then one value a round.
const LOWER: [&str; 3] = ["ttft_ms", "latency_ms", "tpot_ms"];
type PassFigure = (&'static str, fn(&CellSamples) -> &Vec<f64>);
const BY_PASS: [PassFigure; 2] = [
    ("output_tokens_per_s", |s| &s.output_tokens_per_s),
    ("requests_per_s", |s| &s.requests_per_s),
];
type RoundFigure = (&'static str, fn(&CellSummary) -> Option<f64>);
const BY_ROUND: [RoundFigure; 2] = [
    ("gpu_memory_peak_mb", |c| {
        Some(c.gpu.as_ref()?.memory_peak_bytes? as f64 / 1e6)
    }),
    ("gpu_energy_j_per_output_token", |c| {
        let gpu = c.gpu.as_ref().filter(|gpu| gpu.energy_certain == Some(true))?;
        gpu.energy_j_per_output_token
    }),
];

/// The rounds of a cell that both runs measured: the base's and the new run's.
type Pairs<'a> = [(MeasuredCell<'a>, MeasuredCell<'a>)];
/// In the order in which they ran; of each its rounds.
type Cells<'a> = IndexMap<CellKey<'a>, IndexMap<u32, MeasuredCell<'a>>>;

fn cells<'a>(run: &'a AnalysedRun, only: &Only) -> Cells<'a> {
    let mut all: Cells<'a> = IndexMap::new();
    for m in run.analysis.night(1).measured() {
        let (framework, model, cell) = m.key();
        if only.takes(framework, model, &m.cell.scenario, cell) {
            all.entry(m.key()).or_default().insert(m.lane.lane.round, m);
        }
    }
    all
}

/// Compares `new` with `base`. `threshold` is the share from which on a change for the worse is a regression.
pub fn compare_runs(
    base: &AnalysedRun,
    new: &AnalysedRun,
    only: &Only,
    threshold: Option<f64>,
) -> RunComparison {
    let (of_base, of_new) = (cells(base, only), cells(new, only));
    let mut result = RunComparison {
        v: RUN_COMPARISON_VERSION,
        base: side(base.summary()),
        new: side(new.summary()),
        same_machine: Machine::same(Machine::of(base).as_ref(), Machine::of(new).as_ref()),
        differs: differences(base, new),
        threshold,
        cells: Vec::new(),
        one_sided: Vec::new(),
        judged: 0,
        regressions: Vec::new(),
    };
    let keys: IndexSet<_> = of_base.keys().chain(of_new.keys()).copied().collect();
    for key in keys {
        match (of_base.get(&key), of_new.get(&key)) {
            (Some(b), Some(n)) => {
                let change = cell_change((base, new), key, (b, n), threshold);
                result.add(change);
            }
            (Some(_), None) => result.add_one_sided(key, RunSide::Base, new),
            (None, Some(_)) => result.add_one_sided(key, RunSide::New, base),
            (None, None) => {}
        }
    }
    result
}

fn side(summary: &RunSummary) -> ComparedRun {
    ComparedRun {
        run_id: summary.run_id.clone(),
        plan: summary.plan.clone(),
        plan_sha256: summary.plan_sha256.clone(),
        benchd_version: summary.benchd_version.clone(),
        started_unix_us: summary.started_unix_us,
        machine: machine_text(summary.info.as_ref()),
        outcome: summary.outcome.clone(),
        partial: summary.partial,
    }
}

impl RunComparison {
    fn add(&mut self, cell: CellChange) {
        let mut regress = |figure: &str, change| {
            self.regressions.push(Regression {
                framework: cell.framework.clone(),
                model: cell.model.clone(),
                cell: cell.cell.clone(),
                figure: figure.to_owned(),
                change,
            });
        };
        for (name, change) in &cell.figures {
            self.judged += u64::from(change.outcome != ChangeOutcome::NotJudged);
            if change.outcome == ChangeOutcome::Regression {
                regress(name, Some(change.change));
            }
        }
        if cell.failures.outcome == ChangeOutcome::Regression {
            regress("failures", None);
        }
        self.cells.push(cell);
    }

    fn add_one_sided(
        &mut self,
        (framework, model, cell): (&str, &str, &str),
        measured_in: RunSide,
        other: &AnalysedRun,
    ) {
        let lanes = || {
            let lanes = other.summary().lanes.iter();
            lanes.filter(|l| l.lane.framework == framework && l.lane.model == model)
        };
        let missing: Option<&MissingCell> = lanes().flat_map(|l| &l.missing).find(|m| m.cell == cell);
        let planned = missing.is_some();
        let why = match missing {
            Some(missing) => missing.why.clone(),
            None if !other.plan.frameworks.contains_key(framework) => {
                "its plan has no such framework".to_owned()
            }
            None if !other.plan.models.contains_key(model) => "its plan has no such model".to_owned(),
            None if other.cell(framework, model, cell).is_none() => "its plan has no such cell".to_owned(),
            None => "it was narrowed to other cells".to_owned(),
        };
        if planned && measured_in == RunSide::Base && self.threshold.is_some() {
            self.regressions.push(Regression {
                framework: framework.to_owned(),
                model: model.to_owned(),
                cell: cell.to_owned(),
                figure: "missing".to_owned(),
                change: None,
            });
        }
        self.one_sided.push(OneSidedCell {
            framework: framework.to_owned(),
            model: model.to_owned(),
            cell: cell.to_owned(),
            measured_in,
            why,
            planned,
        });
    }
}

fn cell_change<'a>(
    (base, new): (&AnalysedRun, &AnalysedRun),
    (framework, model, cell): (&str, &str, &str),
    (of_base, of_new): (&IndexMap<u32, MeasuredCell<'a>>, &IndexMap<u32, MeasuredCell<'a>>),
    threshold: Option<f64>,
) -> CellChange {
    let rounds: Vec<(MeasuredCell<'a>, MeasuredCell<'a>)> = of_base
        .iter()
        .filter_map(|(round, b)| Some((*b, *of_new.get(round)?)))
        .collect();
    let asked = match (
        base.cell(framework, model, cell),
        new.cell(framework, model, cell),
    ) {
        (Some(b), Some(n)) => asked_differently(base, new, b, n),
        _ => Vec::new(),
    };
    let judge = Judge {
        threshold,
        comparable: asked.is_empty(),
    };
    let mut figures = IndexMap::new();
    for (name, figure) in FIGURES {
        // A request's own rate is its latency told the other way round.
        if !LOWER.contains(&name) {
            continue;
        }
        let strata: Vec<(Sorted, Sorted)> = rounds
            .iter()
            .filter_map(|(b, n)| {
                Some((
                    positive(b.samples.figure(figure)?)?,
                    positive(n.samples.figure(figure)?)?,
                ))
            })
            .collect();
        let pairs: Vec<Vec<f64>> = rounds
            .iter()
            .map(|(b, n)| {
                let of = |samples: &CellSamples, texts: &HashMap<u64, u64>| {
                    let of_text = samples
                        .requests
                        .iter()
                        .filter_map(|r| Some((*texts.get(&r.prompt)?, figure(r))));
                    of_text.collect::<Vec<_>>()
                };
                paired_ratios(
                    of(b.samples, &base.analysis.texts),
                    of(n.samples, &new.analysis.texts),
                )
            })
            .collect();
        let change = judge.figure(&strata, &pairs, Better::Lower);
        figures.extend(change.map(|c| (name.to_owned(), c)));
    }
    for (name, values) in BY_PASS {
        let strata = rounds
            .iter()
            .filter_map(|(b, n)| {
                let sample = |m: &MeasuredCell<'_>| Sorted::new(values(m.samples).clone());
                Some((sample(b)?, sample(n)?))
            })
            .collect::<Vec<_>>();
        let change = judge.figure(&strata, &[], Better::Higher);
        figures.extend(change.map(|c| (name.to_owned(), c)));
    }
    for (name, value) in BY_ROUND {
        let strata = rounds
            .iter()
            .filter_map(|(b, n)| {
                Some((
                    Sorted::new(vec![value(b.cell)?])?,
                    Sorted::new(vec![value(n.cell)?])?,
                ))
            })
            .collect::<Vec<_>>();
        let change = judge.figure(&strata, &[], Better::Lower);
        figures.extend(change.map(|c| (name.to_owned(), c)));
    }
    CellChange {
        framework: framework.to_owned(),
        model: model.to_owned(),
        scenario: rounds
            .first()
            .map_or_else(String::new, |(b, _)| b.cell.scenario.clone()),
        cell: cell.to_owned(),
        rounds: rounds.len() as u32,
        asked_differently: asked,
        figures,
        failures: judge.failures(&rounds),
        new_flags: new_flags(&rounds),
    }
}

/// A time of 0 is none: tokens that all came in one read have no time per token.
fn positive(sample: Sorted) -> Option<Sorted> {
    if sample.min() > 0.0 {
        return Some(sample);
    }
    Sorted::new(sample.values().iter().copied().filter(|v| *v > 0.0).collect())
}

fn new_flags(rounds: &Pairs<'_>) -> Vec<FlagKind> {
    let mut new: Vec<FlagKind> = Vec::new();
    for (base, other) in rounds {
        let had = |kind: FlagKind| base.cell.flags.iter().any(|f| f.kind == kind);
        for kind in other.cell.flags.iter().map(|f| f.kind) {
            if !had(kind) && !new.contains(&kind) {
                new.push(kind);
            }
        }
    }
    new
}

/// How figures of a cell are judged.
#[derive(Debug, Clone, Copy)]
struct Judge {
    threshold: Option<f64>,
    /// Whether both runs ask the same.
    comparable: bool,
}

impl Judge {
    /// `None` where a side has no values, or a median of 0, of which nothing is a share.
    fn figure(self, strata: &[(Sorted, Sorted)], pairs: &[Vec<f64>], better: Better) -> Option<Change> {
        if let Some(d) = difference(strata, pairs) {
            return Some(self.change(&d, better));
        }
        // A rate of 0 in some pass: there is no interval of a ratio.
        let (base, new) = geometric_means(strata);
        (base > 0.0 && new > 0.0).then(|| Change {
            base,
            new,
            better,
            change: new / base - 1.0,
            interval: None,
            pairs: 0,
            outcome: ChangeOutcome::NotJudged,
        })
    }

    fn change(self, d: &Difference, better: Better) -> Change {
        let change = d.ratio - 1.0;
        let worse_by = match better {
            Better::Lower => change,
            Better::Higher => -change,
        };
        let outcome = match d.differs.filter(|_| self.comparable) {
            None => ChangeOutcome::NotJudged,
            Some(false) => ChangeOutcome::NoChange,
            Some(true) if worse_by < 0.0 => ChangeOutcome::Better,
            Some(true) if self.threshold.is_some_and(|t| worse_by > t) => ChangeOutcome::Regression,
            Some(true) => ChangeOutcome::Worse,
        };
        Change {
            base: d.baseline,
            new: d.framework,
            better,
            change,
            interval: d.interval.filter(|_| d.differs.is_some()).map(|i| Interval {
                low: i.low - 1.0,
                high: i.high - 1.0,
                ..i
            }),
            pairs: d.pairs,
            outcome,
        }
    }

    fn failures(self, rounds: &Pairs<'_>) -> FailureChange {
        let counts = |(failed, requests): (u64, u64), m: &MeasuredCell<'_>| {
            (failed + m.cell.failed, requests + m.cell.requests)
        };
        let base = rounds.iter().map(|(base, _)| base).fold((0, 0), counts);
        let new = rounds.iter().map(|(_, new)| new).fold((0, 0), counts);
        let p = fails_more_often(base, new);
        let more = (base.0 == 0 && new.0 > 0) || p < FAILURES_P;
        let fewer = (new.0 == 0 && base.0 > 0) || fails_more_often(new, base) < FAILURES_P;
        let outcome = match self.threshold {
            _ if !self.comparable => ChangeOutcome::NotJudged,
            Some(_) if more => ChangeOutcome::Regression,
            None if more => ChangeOutcome::Worse,
            _ if fewer => ChangeOutcome::Better,
            _ => ChangeOutcome::NoChange,
        };
        FailureChange {
            base_failed: base.0,
            base_requests: base.1,
            new_failed: new.0,
            new_requests: new.1,
            p,
            outcome,
        }
    }
}
