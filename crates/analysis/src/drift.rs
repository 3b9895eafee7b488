//! Whether a lane's figures change while the load stays the same, and whether a cell repeats over the rounds.
//!
//! Only like is compared with like. A lane measures each cell once, and a cell's clocks follow its load (prefill draws more
//! power than decoding): within a lane only the trends inside the cells speak, of requests that met the same load; across
//! rounds the same cell measured again does, its figures and its clocks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    CellSummary, LaneSummary, RoundsSummary, batches::batch_means, context::CellContext, samples::CellSamples,
};
use benchd_core::{
    record::{Flag, FlagKind, LaneId},
    stats::{Sorted, Trend, pooled_trend, trend},
};

/// A trend counts below this p value …
const DRIFT_P: f64 = 0.001;
/// … where figures change by this share of their median from start to end.
const DRIFT_SHARE: f64 = 0.05;
/// Batch means that a trend needs at least: all of one cell, or of a lane's cells together.
const BATCHES: usize = 10;
/// Change of a cell's mean SM clock from the first round that counts.
const CLOCK_SHARE: f64 = 0.03;

/// What changed over a lane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LaneDrift {
    /// Time in which the lane's cells were measured, seconds.
    pub measured_s: f64,
    /// TPOT within the cells, taken together.
    pub tpot: Option<DriftFigure>,
    /// Latency within the cells, taken together.
    pub latency: Option<DriftFigure>,
    /// Mean temperature in the first measured cell, degrees Celsius.
    pub first_temperature_c: Option<f64>,
    /// Mean temperature in the last measured cell, degrees Celsius.
    pub last_temperature_c: Option<f64>,
    /// Share of the samples with slowed clocks in the first half of the cells, 0 to 1.
    pub first_half_throttled: Option<f64>,
    /// The same in the second half.
    pub second_half_throttled: Option<f64>,
    /// What counts as drift, in words.
    pub seen: Vec<String>,
}

/// A trend over the lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DriftFigure {
    /// Change over a cell of median length, as a share of the median: 0.05 is 5 % more.
    pub change: f64,
    /// p value that there is no trend (Kendall's test on batch means, pooled over the cells).
    pub p: f64,
    /// Cells that tell of it.
    pub cells: u64,
}

/// What drifts within one cell, in words: the latency of requests that met the same load.
pub(super) fn within_cell(context: &CellContext<'_>, latency_series: &[(f64, f64)]) -> Option<String> {
    let series = settled(latency_series, context.cell.concurrency);
    let means = batch_means(&series, context.cell.concurrency as usize);
    if means.len() < BATCHES {
        return None;
    }
    let trend = trend(&means)?;
    let times = Sorted::new(series.iter().map(|p| p.0).collect())?;
    let change = (trend.slope * (times.max() - times.min())).exp_m1();
    (trend.p < DRIFT_P && change.abs() > DRIFT_SHARE).then(|| {
        format!(
            "latency changed by {:+.0} % from the cell's start to its end",
            change * 100.0
        )
    })
}

/// Finds a lane's drift from its measured cells and flags the cells that it touches.
pub(super) fn of_lane(cells: &mut [CellSummary], samples: &[&CellSamples]) -> Option<LaneDrift> {
    if cells.is_empty() {
        return None;
    }
    let seconds = |c: &CellSummary| c.passes_s.iter().sum::<f64>();
    let mut drift = LaneDrift {
        measured_s: cells.iter().map(seconds).sum(),
        ..LaneDrift::default()
    };
    for (name, series) in [
        (
            "TPOT",
            (|s: &CellSamples| s.tpot_series.as_slice()) as fn(&CellSamples) -> &[(f64, f64)],
        ),
        ("latency", |s| s.latency_series.as_slice()),
    ] {
        let figure = within_cells(name, series, cells, samples, &mut drift);
        match name {
            "TPOT" => drift.tpot = figure,
            _ => drift.latency = figure,
        }
    }
    let gpu = |c: &CellSummary| c.gpu.as_ref().and_then(|g| g.temperature_mean_c);
    let mut in_time: Vec<&CellSummary> = cells.iter().collect();
    in_time.sort_by_key(|c| c.started_unix_us);
    drift.first_temperature_c = in_time.first().and_then(|c| gpu(c));
    drift.last_temperature_c = in_time.last().and_then(|c| gpu(c));
    let (first, second) = in_time.split_at(in_time.len() / 2);
    let throttled = |cells: &[&CellSummary]| {
        let (slowed, all) = cells
            .iter()
            .filter_map(|c| c.gpu.as_ref())
            .fold((0.0, 0.0), |(s, n), g| {
                (s + g.throttled_share * g.samples as f64, n + g.samples as f64)
            });
        (all > 0.0).then(|| slowed / all)
    };
    drift.first_half_throttled = throttled(first);
    drift.second_half_throttled = throttled(second);
    Some(drift)
}

/// Logarithms over seconds since the cell's first request, so that cells of any level share a slope; without the first
/// wave, whose requests wait for each other's prefill and fill the caches. That is no drift.
fn settled(series: &[(f64, f64)], streams: u32) -> Vec<(f64, f64)> {
    let mut points = series.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    let start = points.first().map_or(0.0, |p| p.0);
    points
        .into_iter()
        .skip(streams as usize)
        .filter(|(_, y)| *y > 0.0)
        .map(|(x, y)| (x - start, y.ln()))
        .collect()
}

fn within_cells(
    name: &str,
    series: fn(&CellSamples) -> &[(f64, f64)],
    cells: &mut [CellSummary],
    samples: &[&CellSamples],
    drift: &mut LaneDrift,
) -> Option<DriftFigure> {
    let means: Vec<Vec<(f64, f64)>> = samples
        .iter()
        .zip(cells.iter())
        .map(|(s, c)| batch_means(&settled(series(s), c.concurrency), c.concurrency as usize))
        .collect();
    let Trend { slope, p, .. } = pooled_trend(&means)?;
    let telling = means.iter().filter(|of| !of.is_empty()).count();
    // No further than the trends were seen: a slope of some seconds says nothing of a whole lane.
    let lengths_s = cells.iter().map(|c| c.passes_s.iter().sum::<f64>()).collect();
    let cell_s = Sorted::new(lengths_s)?.median();
    let change = (slope * cell_s).exp_m1();
    let figure = DriftFigure {
        change,
        p,
        cells: telling as u64,
    };
    // A single cell's own trend is judged with the cell.
    let enough = telling > 1 && means.iter().map(Vec::len).sum::<usize>() >= BATCHES;
    if !enough || p >= DRIFT_P || change.abs() <= DRIFT_SHARE {
        return Some(figure);
    }
    let text = format!(
        "{name} moves the same way within the lane's cells: {:+.0} % over the length of one",
        change * 100.0
    );
    for (cell, means) in cells.iter_mut().zip(&means) {
        let own = trend(means);
        if own.is_some_and(|own| own.slope.signum() == slope.signum() && own.slope != 0.0) {
            add_flag(cell, &text);
        }
    }
    drift.seen.push(text);
    Some(figure)
}

/// Flags cells of later rounds whose clocks are not those of the first round that knows them.
fn clocks_over_rounds(lanes: &mut [LaneSummary]) {
    type Cell = (String, String, String);
    let mut first: BTreeMap<Cell, (u32, f64)> = BTreeMap::new();
    let mut in_order: Vec<&mut LaneSummary> = lanes.iter_mut().collect();
    in_order.sort_by_key(|lane| lane.lane.round);
    for lane in in_order {
        let LaneId {
            framework,
            model,
            round,
            ..
        } = &lane.lane;
        for cell in &mut lane.cells {
            let Some(mhz) = cell.gpu.as_ref().and_then(|g| g.sm_clock_mean_mhz) else {
                continue;
            };
            let key = (framework.clone(), model.clone(), cell.cell.clone());
            let (of_round, before) = *first.entry(key).or_insert((*round, mhz));
            let change = mhz / before - 1.0;
            if change.abs() > CLOCK_SHARE {
                let text = format!(
                    "the SM clock differs by {:+.0} % from round {of_round}'s in the same cell ({mhz:.0} MHz, {before:.0} MHz there)",
                    change * 100.0
                );
                add_flag(cell, &text);
            }
        }
    }
}

/// Flags cells of later rounds that do not repeat the first round's figures.
pub(super) fn over_rounds(lanes: &mut [LaneSummary], rounds: &[RoundsSummary]) {
    clocks_over_rounds(lanes);
    for summary in rounds {
        for cell in &summary.cells {
            for (figure, over) in &cell.figures {
                for (round, ratio) in &over.over_first {
                    let differs = ratio.interval.is_some_and(|i| !i.contains(1.0));
                    if !differs || (ratio.ratio - 1.0).abs() <= DRIFT_SHARE {
                        continue;
                    }
                    let text = format!(
                        "round {round} does not repeat round 1: {} {:+.0} %",
                        figure.trim_end_matches("_ms"),
                        (ratio.ratio - 1.0) * 100.0
                    );
                    let touched = lanes
                        .iter_mut()
                        .filter(|l| {
                            (l.lane.framework.as_str(), l.lane.model.as_str(), l.lane.round)
                                == (summary.framework.as_str(), summary.model.as_str(), *round)
                        })
                        .flat_map(|l| &mut l.cells)
                        .filter(|c| c.cell == cell.cell);
                    touched.for_each(|cell| add_flag(cell, &text));
                }
            }
        }
    }
}

/// One drift flag a cell: what else was seen is added to it.
fn add_flag(cell: &mut CellSummary, text: &str) {
    match cell.flags.iter_mut().find(|f| f.kind == FlagKind::Drift) {
        Some(flag) => flag.seen = format!("{}; {text}", flag.seen),
        None => cell.flags.push(Flag::new(FlagKind::Drift, text)),
    }
}
