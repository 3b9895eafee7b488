//! Runs that one report tells of: of one machine or several, of one night or several.
//!
//! Nights of one machine are pooled as rounds of one run are: each is a stratum of its own, compared only within
//! itself and counting the same. Whether the nights differ by more than their own intervals say is told beside it,
//! since intervals of requests know nothing of what changes from night to night.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::{IndexMap, IndexSet};
use serde::{Deserialize, Serialize};

use super::{
    COMPARED_VALUES, CellSummary, Expectation, FrameworkComparison, RunSeries, RunSummary, Verdict, compare,
    distribution::SEED,
    hypotheses,
    measured::{CellKey, MeasuredCell, Stratum},
    runs::{AnalysedRun, Machine, asked_differently, differences, machine_text, served_differently},
    samples::{CellSamples, FIGURES},
};
use benchd_core::stats::{
    DEFAULT_LEVEL, Estimate, Interval, Sorted, heterogeneity, median_interval, stratified_median_interval,
};
use benchd_plan::ScenarioKind;

/// Version of `study.json`.
pub const STUDY_VERSION: u32 = 1;

/// Nights differ where alike ones would differ so much more rarely than this…
pub const NIGHTS_P: f64 = 0.01;
/// … and the largest is above the smallest by this share at least: what is less matters to nobody.
pub const NIGHTS_SHARE: f64 = 0.02;

/// Everything that one report is about. Of one run: one machine with one night.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Study {
    /// Layout version, [`STUDY_VERSION`].
    pub v: u32,
    /// The machines, in the order in which their first runs were given.
    pub machines: Vec<MachineStudy>,
}

/// All runs of one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MachineStudy {
    /// The GPU's name, else the host's; with the host's where two machines have the same GPU.
    pub name: String,
    /// Host, GPU and driver in words, of the first night.
    #[serde(default)]
    pub machine: String,
    /// The nights, in the order of their start.
    pub runs: Vec<RunSummary>,
    /// Every cell over the nights; empty where the study is of one run only.
    #[serde(default)]
    pub cells: Vec<StudyCell>,
    /// Every pair of frameworks of a model, pooled over nights and rounds with each of them as a stratum.
    pub comparisons: Vec<FrameworkComparison>,
    /// Figures, and ratios of frameworks, that differ from night to night by more than their own intervals say.
    #[serde(default)]
    pub differing: Vec<NightsDiffer>,
    /// Verdicts over all nights.
    pub verdicts: Vec<Verdict>,
    /// The document's expectations against what was seen over all nights.
    pub expectations: Vec<Expectation>,
    /// What keeps the nights from being pooled, and other things to know.
    pub notes: Vec<String>,
}

/// One cell of one framework over the nights of a machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StudyCell {
    /// The framework.
    pub framework: String,
    /// The model.
    pub model: String,
    /// The scenario's name in the plan.
    pub scenario: String,
    /// The scenario's kind.
    pub kind: ScenarioKind,
    /// The cell.
    pub cell: String,
    /// Streams of the closed loop.
    pub concurrency: u32,
    /// Prompt tokens asked for, without the chat template; `None` for written texts.
    pub asked_prompt_tokens: Option<u32>,
    /// The nights that are pooled, by their position in `runs`, from 1.
    pub nights: Vec<u32>,
    /// Measured requests of these nights.
    pub requests: u64,
    /// Failed ones among them.
    pub failed: u64,
    /// By figure: `ttft_ms`, `latency_ms` (of full outputs where the length is fixed), `tpot_ms`, `tokens_per_s` (a
    /// request's), `output_tokens_per_s`, `requests_per_s` (the cell's, by pass).
    pub figures: IndexMap<String, OverNights>,
    /// 95th percentile of latency, milliseconds: the median over nights and rounds.
    pub latency_ms_p95: Option<f64>,
    /// Largest GPU memory in use, bytes, over all nights.
    pub gpu_memory_peak_bytes: Option<u64>,
    /// Energy per output token, joules: the median over nights and rounds.
    pub gpu_energy_j_per_output_token: Option<f64>,
}

/// One figure over the nights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct OverNights {
    /// Each night's value: its median, over its rounds their geometric mean. By the night's position, from 1.
    pub nights: BTreeMap<u32, f64>,
    /// Geometric mean over nights and rounds: each counts the same.
    pub pooled: f64,
    /// Its 95 % interval, resampled within nights and rounds: it speaks of these nights. `None` where there are too few
    /// values.
    pub interval: Option<Interval>,
    /// What the nights say of each other; `None` where fewer than two have an interval of their own.
    pub between: Option<BetweenNights>,
}

/// Whether nights are alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BetweenNights {
    /// Chance of nights as different as these where all are alike (Cochran's Q).
    pub p: f64,
    /// Largest night over smallest, less 1.
    pub range_share: f64,
    /// Standard deviation between nights beyond their own uncertainty, as a share.
    pub sd_share: f64,
    /// Whether they differ: `p` below 0.01 and `range_share` of 2 % at least.
    pub differ: bool,
    /// The mean with the nights as a sample of nights.
    pub mean: f64,
    /// Its 95 % interval: what a mean over other nights may be (random effects; of few nights it is wide).
    pub interval: Interval,
}

/// Something that differs from night to night.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct NightsDiffer {
    /// The model.
    pub model: String,
    /// The framework.
    pub framework: String,
    /// Where it is a ratio: the framework that it is compared with.
    pub against: Option<String>,
    /// The cell.
    pub cell: String,
    /// The figure, as in `comparisons`.
    pub figure: String,
    /// Each night's value, by its position from 1.
    pub nights: BTreeMap<u32, f64>,
    /// How they differ.
    pub between: BetweenNights,
}

impl Study {
    /// The study of one run.
    pub fn of_one(run: RunSummary) -> Self {
        Self {
            v: STUDY_VERSION,
            machines: vec![MachineStudy {
                name: machine_name(&run),
                machine: machine_text(run.info.as_ref()),
                cells: Vec::new(),
                comparisons: run.comparisons.clone(),
                differing: Vec::new(),
                verdicts: run.verdicts.clone(),
                expectations: run.expectations.clone(),
                notes: Vec::new(),
                runs: vec![run],
            }],
        }
    }
}

/// The GPU's name, else the host's.
pub fn machine_name(run: &RunSummary) -> String {
    run.info.as_ref().map_or_else(
        || run.plan.clone(),
        |info| {
            info.gpu
                .as_ref()
                .and_then(|gpu| gpu.devices.first())
                .map_or_else(|| info.host.hostname.clone(), |device| device.name.clone())
        },
    )
}

/// The study of several runs: nights of one machine are pooled, machines stand side by side. Also gives what charts are
/// drawn from, by machine and night.
pub fn summarise_study(runs: Vec<AnalysedRun>) -> (Study, Vec<Vec<RunSeries>>) {
    let mut by_machine: Vec<(Option<Machine>, Vec<AnalysedRun>)> = Vec::new();
    for run in runs {
        let machine = Machine::of(&run);
        match by_machine.iter_mut().find(|(m, _)| m.is_some() && *m == machine) {
            Some((_, nights)) => nights.push(run),
            None => by_machine.push((machine, vec![run])),
        }
    }
    let (mut machines, mut series) = (Vec::new(), Vec::new());
    for (machine, mut nights) in by_machine {
        nights.sort_by_key(|run| run.summary().started_unix_us);
        series.push(
            nights
                .iter_mut()
                .map(|night| std::mem::take(&mut night.analysis.series))
                .collect(),
        );
        machines.push((machine, machine_study(nights)));
    }
    tell_apart(&mut machines);
    let study = Study {
        v: STUDY_VERSION,
        machines: machines.into_iter().map(|(_, study)| study).collect(),
    };
    (study, series)
}

/// A UUID's first group, which is enough to tell two apart in a table: `GPU-38dcc045`.
fn short_unit(unit: &str) -> &str {
    match unit.strip_prefix("GPU-").and_then(|rest| rest.split_once('-')) {
        Some((first, _)) => &unit[.."GPU-".len() + first.len()],
        None => unit,
    }
}

/// Machines of one name get their host's, then their unit's beside it.
fn tell_apart(machines: &mut [(Option<Machine>, MachineStudy)]) {
    let host = |study: &MachineStudy| {
        let info = study.runs.first().and_then(|run| run.info.as_ref());
        info.map_or_else(|| "machine not known".to_owned(), |i| i.host.hostname.clone())
    };
    let same = |names: &[String], at: usize| names.iter().filter(|n| **n == names[at]).count() > 1;
    let names: Vec<String> = machines.iter().map(|(_, m)| m.name.clone()).collect();
    for (at, (_, study)) in machines.iter_mut().enumerate() {
        if same(&names, at) {
            study.name = format!("{} ({})", study.name, host(study));
        }
    }
    let names: Vec<String> = machines.iter().map(|(_, m)| m.name.clone()).collect();
    for (at, (machine, study)) in machines.iter_mut().enumerate() {
        if same(&names, at) {
            let unit = match machine {
                Some(machine) => machine
                    .unit
                    .iter()
                    .map(|u| short_unit(u))
                    .collect::<Vec<_>>()
                    .join(", "),
                None => study.runs.first().map_or_else(String::new, |r| r.run_id.clone()),
            };
            study.name = format!("{}, {unit}", study.name);
        }
    }
}

/// The nights of one machine, in the order of their start.
fn machine_study(nights: Vec<AnalysedRun>) -> MachineStudy {
    let mut notes = Vec::new();
    if let [first, later @ ..] = &nights[..] {
        for (n, night) in (2..).zip(later) {
            let differs = differences(first, night);
            notes.extend(
                differs
                    .into_iter()
                    .map(|text| format!("night 1 against night {n}: {text}")),
            );
        }
    }
    let (pooled, left_out) = pooled_nights(&nights, &mut notes);
    let measured: Vec<MeasuredCell<'_>> = (1..)
        .zip(&nights)
        .flat_map(|(n, night)| night.analysis.night(n).measured())
        .filter(|m| pooled.get(&m.key()).is_some_and(|of| of.contains(&m.night)))
        .collect();
    let cells = cells(&measured);
    let comparisons = compare::frameworks(&measured);
    let mut differing = Vec::new();
    if nights.len() > 1 {
        for cell in &cells {
            let of = cell.figures.iter().filter_map(|(figure, over)| {
                let between = over.between.clone().filter(|b| b.differ)?;
                Some(NightsDiffer {
                    model: cell.model.clone(),
                    framework: cell.framework.clone(),
                    against: None,
                    cell: cell.cell.clone(),
                    figure: figure.clone(),
                    nights: over.nights.clone(),
                    between,
                })
            });
            differing.extend(of);
        }
        differing.extend(ratios_that_differ(&nights, &comparisons, &pooled));
    }
    let (name, machine) = nights.first().map_or_else(Default::default, |night| {
        (
            machine_name(night.summary()),
            machine_text(night.summary().info.as_ref()),
        )
    });
    let (verdicts, expectations) = match &nights[..] {
        [one] => (one.summary().verdicts.clone(), one.summary().expectations.clone()),
        _ => judged(&nights, &left_out, &mut notes),
    };
    MachineStudy {
        name,
        machine,
        cells,
        comparisons,
        differing,
        verdicts,
        expectations,
        notes,
        runs: nights.into_iter().map(|night| night.analysis.summary).collect(),
    }
}

/// By cell the nights that ask and serve the same: the largest group of them, of equal ones the earliest. Who is left
/// out somewhere is noted, and given as well.
fn pooled_nights<'a>(
    nights: &'a [AnalysedRun],
    notes: &mut Vec<String>,
) -> (IndexMap<CellKey<'a>, BTreeSet<u32>>, BTreeSet<u32>) {
    let mut measured: IndexMap<CellKey<'a>, Vec<u32>> = IndexMap::new();
    for (n, night) in (1u32..).zip(nights) {
        let keys: IndexSet<CellKey<'a>> = night.analysis.night(n).measured().map(|m| m.key()).collect();
        for key in keys {
            measured.entry(key).or_default().push(n);
        }
    }
    // Cells left out, by night, lane and reason.
    let mut left_out: IndexMap<(u32, &str, &str, String), Vec<&str>> = IndexMap::new();
    let mut pooled = IndexMap::new();
    for ((framework, model, cell), of) in measured {
        let run = |n: u32| &nights[n as usize - 1];
        let differs = |a: u32, b: u32| {
            let (a, b) = (run(a), run(b));
            let mut why = match (a.cell(framework, model, cell), b.cell(framework, model, cell)) {
                (Some(ca), Some(cb)) => asked_differently(a, b, ca, cb),
                _ => Vec::new(),
            };
            why.extend(served_differently(a, b, framework, model));
            why
        };
        let mut groups: Vec<Vec<u32>> = Vec::new();
        for n in of {
            match groups.iter_mut().find(|g| differs(g[0], n).is_empty()) {
                Some(group) => group.push(n),
                None => groups.push(vec![n]),
            }
        }
        let most = groups.iter().map(Vec::len).max().unwrap_or(0);
        let Some(chosen) = groups.iter().find(|g| g.len() == most) else {
            continue;
        };
        for n in groups.iter().filter(|g| *g != chosen).flatten() {
            let why = differs(chosen[0], *n).join("; ");
            left_out
                .entry((
                    *n,
                    framework,
                    model,
                    format!("{why} (night {} against it)", chosen[0]),
                ))
                .or_default()
                .push(cell);
        }
        pooled.insert((framework, model, cell), chosen.iter().copied().collect());
    }
    let nights = left_out.keys().map(|(n, ..)| *n).collect();
    for ((n, framework, model, why), cells) in left_out {
        notes.push(format!(
            "night {n} is not pooled in {framework}/{model}, {}: {why}",
            cells.join(", ")
        ));
    }
    (pooled, nights)
}

/// Verdicts, and the document's expectations, over the nights that are pooled in all they measured, by the newest of their
/// plans.
fn judged(
    nights: &[AnalysedRun],
    left_out: &BTreeSet<u32>,
    notes: &mut Vec<String>,
) -> (Vec<Verdict>, Vec<Expectation>) {
    let of: Vec<(u32, &AnalysedRun)> = (1..).zip(nights).filter(|(n, _)| !left_out.contains(n)).collect();
    let Some((newest, last)) = of.last() else {
        notes.push("no verdicts: no night is like another in all that it measured".to_owned());
        return (Vec::new(), Vec::new());
    };
    if !last.plan.hypotheses.list.is_empty() {
        let text: Vec<String> = of.iter().map(|(n, _)| n.to_string()).collect();
        notes.push(format!(
            "verdicts are over night {}, by the thresholds in the plan of night {newest}",
            text.join(", ")
        ));
    }
    let evidence: Vec<_> = of.iter().map(|(n, night)| night.analysis.night(*n)).collect();
    (
        hypotheses::verdicts(&last.plan, &evidence),
        hypotheses::expectations(&last.plan, &evidence),
    )
}

/// Each cell's figures over the nights.
fn cells(measured: &[MeasuredCell<'_>]) -> Vec<StudyCell> {
    let mut by_cell: IndexMap<CellKey<'_>, Vec<&MeasuredCell<'_>>> = IndexMap::new();
    for m in measured {
        by_cell.entry(m.key()).or_default().push(m);
    }
    let of_cell = |((framework, model, id), of): (CellKey<'_>, Vec<&MeasuredCell<'_>>)| {
        let summaries: Vec<&CellSummary> = of.iter().map(|m| m.cell).collect();
        let first = *summaries.first()?;
        let middle = |value: fn(&CellSummary) -> Option<f64>| {
            let values = summaries.iter().copied().filter_map(value).collect();
            Sorted::new(values).map(|s| s.median())
        };
        let mut figures = IndexMap::new();
        let mut add = |name: &str, sample: &dyn Fn(&CellSamples) -> Option<Sorted>| {
            let strata = of
                .iter()
                .filter_map(|m| Some((m.stratum(), sample(m.samples)?)))
                .collect();
            figures.extend(over_nights(&strata).map(|over| (name.to_owned(), over)));
        };
        for (name, figure) in FIGURES {
            add(name, &|s| s.figure(figure));
        }
        add("output_tokens_per_s", &|s| {
            Sorted::new(s.output_tokens_per_s.clone())
        });
        add("requests_per_s", &|s| Sorted::new(s.requests_per_s.clone()));
        let of_nights: BTreeSet<u32> = of.iter().map(|m| m.night).collect();
        Some(StudyCell {
            framework: framework.to_owned(),
            model: model.to_owned(),
            scenario: first.scenario.clone(),
            kind: first.kind,
            cell: id.to_owned(),
            concurrency: first.concurrency,
            asked_prompt_tokens: first.asked_prompt_tokens,
            nights: of_nights.into_iter().collect(),
            requests: summaries.iter().map(|c| c.requests).sum(),
            failed: summaries.iter().map(|c| c.failed).sum(),
            figures,
            latency_ms_p95: middle(|c| c.latency_ms.as_ref().map(|d| d.p95)),
            gpu_memory_peak_bytes: summaries
                .iter()
                .filter_map(|c| c.gpu.as_ref()?.memory_peak_bytes)
                .max(),
            gpu_energy_j_per_output_token: middle(|c| {
                let gpu = c.gpu.as_ref().filter(|gpu| gpu.energy_certain == Some(true))?;
                gpu.energy_j_per_output_token
            }),
        })
    };
    by_cell.into_iter().filter_map(of_cell).collect()
}

/// `None` where there are no values, or some are not positive.
fn over_nights(strata: &BTreeMap<Stratum, Sorted>) -> Option<OverNights> {
    let all: Vec<Sorted> = strata.values().cloned().collect();
    let (pooled, interval) = pooled(&all)?;
    let mut by_night: BTreeMap<u32, Vec<Sorted>> = BTreeMap::new();
    for ((night, _), sample) in strata {
        by_night.entry(*night).or_default().push(sample.clone());
    }
    let (mut nights, mut estimates) = (BTreeMap::new(), BTreeMap::new());
    for (night, samples) in by_night {
        let enough = samples.iter().all(|s| s.len() >= COMPARED_VALUES);
        let (value, interval) = stratified_median_interval(&samples, SEED, DEFAULT_LEVEL)?;
        nights.insert(night, value);
        if let Some(interval) = interval.filter(|_| enough) {
            estimates.insert(night, Estimate { value, interval });
        }
    }
    Some(OverNights {
        nights,
        pooled,
        interval,
        between: between(&estimates),
    })
}

/// Where a stratum has one value only (a rate of one pass), the strata themselves are the sample.
fn pooled(strata: &[Sorted]) -> Option<(f64, Option<Interval>)> {
    let (pooled, interval) = stratified_median_interval(strata, SEED, DEFAULT_LEVEL)?;
    if interval.is_none() && strata.len() >= COMPARED_VALUES {
        let sample = Sorted::new(strata.iter().map(Sorted::median).collect())?;
        let interval = median_interval(&sample, SEED, DEFAULT_LEVEL);
        return Some((sample.median(), interval));
    }
    Some((pooled, interval))
}

fn between(estimates: &BTreeMap<u32, Estimate>) -> Option<BetweenNights> {
    let all: Vec<Estimate> = estimates.values().copied().collect();
    let h = heterogeneity(&all, DEFAULT_LEVEL)?;
    let values = Sorted::new(all.iter().map(|e| e.value).collect())?;
    let range_share = values.max() / values.min() - 1.0;
    Some(BetweenNights {
        p: h.p,
        range_share,
        sd_share: h.sd_share,
        differ: h.p < NIGHTS_P && range_share >= NIGHTS_SHARE,
        mean: h.mean,
        interval: h.interval,
    })
}

/// Ratios of frameworks that are not the same every night. A night that is slow for all leaves them alone.
fn ratios_that_differ(
    nights: &[AnalysedRun],
    pooled: &[FrameworkComparison],
    pooled_nights: &IndexMap<CellKey<'_>, BTreeSet<u32>>,
) -> Vec<NightsDiffer> {
    let mut out = Vec::new();
    for of in pooled {
        for cell in &of.cells {
            for figure in cell.figures.keys() {
                let takes = |framework: &str, n: u32| {
                    let nights = pooled_nights.get(&(framework, of.model.as_str(), cell.cell.as_str()));
                    nights.is_some_and(|nights| nights.contains(&n))
                };
                let estimates: BTreeMap<u32, Estimate> = (1u32..)
                    .zip(nights)
                    .filter(|(n, _)| takes(&of.baseline, *n) && takes(&of.framework, *n))
                    .filter_map(|(n, night)| {
                        let comparisons = night.summary().comparisons.iter();
                        let same = comparisons.filter(|c| c.model == of.model);
                        let (cells, turned) = same
                            .filter_map(|c| {
                                let names = (c.baseline.as_str(), c.framework.as_str());
                                let turned = names == (of.framework.as_str(), of.baseline.as_str());
                                (turned || names == (of.baseline.as_str(), of.framework.as_str()))
                                    .then_some((&c.cells, turned))
                            })
                            .next()?;
                        let d = cells.iter().find(|c| c.cell == cell.cell)?.figures.get(figure)?;
                        // Another order of lanes: the ratio is the other way round.
                        let interval = d.interval.filter(|_| d.differs.is_some())?;
                        let estimate = Estimate {
                            value: d.ratio,
                            interval,
                        };
                        Some((n, if turned { inverse(estimate) } else { estimate }))
                    })
                    .collect();
                if let Some(between) = between(&estimates).filter(|b| b.differ) {
                    out.push(NightsDiffer {
                        model: of.model.clone(),
                        framework: of.framework.clone(),
                        against: Some(of.baseline.clone()),
                        cell: cell.cell.clone(),
                        figure: figure.clone(),
                        nights: estimates.iter().map(|(n, e)| (*n, e.value)).collect(),
                        between,
                    });
                }
            }
        }
    }
    out
}

fn inverse(e: Estimate) -> Estimate {
    Estimate {
        value: 1.0 / e.value,
        interval: Interval {
            low: 1.0 / e.interval.high,
            high: 1.0 / e.interval.low,
            ..e.interval
        },
    }
}
