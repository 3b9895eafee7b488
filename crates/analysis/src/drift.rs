//! Whether a lane's figures or its GPU change from its start to its end, and whether a cell repeats over the rounds.
//!
//! A lane measures each cell once, so a cell's place in the lane and its setting can't be told apart by its latency:
//! within a lane only the trends inside the cells speak, taken together; across its cells the GPU's clocks do; across
//! rounds the same cell measured again does.

use serde::{Deserialize, Serialize};

use super::{CellSummary, LaneSummary, RoundsSummary, context::CellContext, samples::CellSamples};
use benchd_core::{
    record::{Flag, FlagKind},
    stats::{Sorted, Trend, pooled_trend, trend},
};

/// A trend within a cell counts below this p value …
const DRIFT_P: f64 = 0.001;
/// … where latencies change by this share of their median from start to end, …
const DRIFT_LATENCY_SHARE: f64 = 0.05;
/// … or SM clocks by this share.
const DRIFT_CLOCK_SHARE: f64 = 0.03;
/// Requests that a trend of latencies needs at least.
const DRIFT_REQUESTS: usize = 30;

/// Cells that a trend of clocks over the lane needs at least.
const CLOCK_CELLS: usize = 5;
/// p value below which clocks count as changing over the lane: with six cells a strictly falling clock has 0.5 %.
const CLOCK_P: f64 = 0.01;
/// Change of the SM clock over the lane that counts, as a share of its mean.
const CLOCK_SHARE: f64 = 0.03;
/// Requests of a cell that its trend needs at least to count for the lane.
const SERIES_REQUESTS: usize = 5;

/// What changed over a lane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LaneDrift {
    /// Time in which the lane's cells were measured, seconds.
    pub measured_s: f64,
    /// TPOT within the cells, taken together.
    pub tpot: Option<DriftFigure>,
    /// Latency within the cells, taken together.
    pub latency: Option<DriftFigure>,
    /// Mean SM clock of the cells, over the lane.
    pub sm_clock: Option<DriftFigure>,
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
    /// Change over a cell of median length (clocks: from first cell to last), as a share of the median: 0.05 is 5 % more.
    pub change: f64,
    /// p value that there is no trend (Kendall's test, pooled over the cells).
    pub p: f64,
    /// Cells that tell of it.
    pub cells: u64,
}

/// What drifts within one cell, in words: its latency, else the GPU's clock.
pub(super) fn within_cell(context: &CellContext<'_>, latency_series: &[(f64, f64)]) -> Option<String> {
    let settled = after_first_wave(latency_series, context.cell.concurrency);
    if settled.len() >= DRIFT_REQUESTS {
        let trend = trend(&settled)?;
        let median = Sorted::new(settled.iter().map(|p| p.1).collect())?.median();
        let times = Sorted::new(settled.iter().map(|p| p.0).collect())?;
        let change = trend.slope * (times.max() - times.min()) / median;
        if trend.p < DRIFT_P && change.abs() > DRIFT_LATENCY_SHARE {
            return Some(format!(
                "latency changed by {:+.0} % from the cell's start to its end",
                change * 100.0
            ));
        }
    }
    let window = context.gpu?;
    let (trend, mean) = (window.clock_trend()?, window.summary(None).sm_clock_mean_mhz?);
    let change = trend.slope * window.length_s() / mean;
    (trend.p < DRIFT_P && change.abs() > DRIFT_CLOCK_SHARE).then(|| {
        format!(
            "the SM clock changed by {:+.0} % from the cell's start to its end",
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
    clocks(cells, &mut drift);
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

/// Logarithms over seconds since the cell's first request, so that cells of any level share a slope.
fn relative(series: &[(f64, f64)]) -> Option<Vec<(f64, f64)>> {
    let start = series.iter().map(|p| p.0).fold(f64::INFINITY, f64::min);
    let points: Vec<_> = series
        .iter()
        .filter(|(_, y)| *y > 0.0)
        .map(|(x, y)| (x - start, y.ln()))
        .collect();
    (points.len() >= SERIES_REQUESTS).then_some(points)
}

/// Points in the order of their times, without the first wave: its requests wait for each other's prefill, and the
/// first one fills the caches. That is no drift.
fn after_first_wave(series: &[(f64, f64)], streams: u32) -> Vec<(f64, f64)> {
    let mut points = series.to_vec();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.drain(..points.len().min(streams as usize));
    points
}

fn within_cells(
    name: &str,
    series: fn(&CellSamples) -> &[(f64, f64)],
    cells: &mut [CellSummary],
    samples: &[&CellSamples],
    drift: &mut LaneDrift,
) -> Option<DriftFigure> {
    let relative: Vec<Option<Vec<(f64, f64)>>> = samples
        .iter()
        .zip(cells.iter())
        .map(|(s, c)| relative(&after_first_wave(series(s), c.concurrency)))
        .collect();
    let usable: Vec<Vec<(f64, f64)>> = relative.iter().flatten().cloned().collect();
    let Trend { slope, p, .. } = pooled_trend(&usable)?;
    // No further than the trends were seen: a slope of some seconds says nothing of a whole lane.
    let lengths_s = cells.iter().map(|c| c.passes_s.iter().sum::<f64>()).collect();
    let cell_s = Sorted::new(lengths_s)?.median();
    let change = (slope * cell_s).exp_m1();
    let figure = DriftFigure {
        change,
        p,
        cells: usable.len() as u64,
    };
    // A single cell's own trend is judged with the cell.
    if usable.len() < 2 || p >= DRIFT_P || change.abs() <= DRIFT_LATENCY_SHARE {
        return Some(figure);
    }
    let text = format!(
        "{name} moves the same way within the lane's cells: {:+.0} % over the length of one",
        change * 100.0
    );
    for (cell, points) in cells.iter_mut().zip(&relative) {
        let own = points.as_deref().and_then(trend);
        if own.is_some_and(|own| own.slope.signum() == slope.signum() && own.slope != 0.0) {
            add_flag(cell, &text);
        }
    }
    drift.seen.push(text);
    Some(figure)
}

fn clocks(cells: &mut [CellSummary], drift: &mut LaneDrift) {
    let clock = |c: &CellSummary| c.gpu.as_ref().and_then(|g| g.sm_clock_mean_mhz);
    let points: Vec<(f64, f64)> = cells
        .iter()
        .filter_map(|c| Some((c.started_unix_us as f64 / 1e6, clock(c)?)))
        .collect();
    let (Some(times), Some(values)) = (
        Sorted::new(points.iter().map(|p| p.0).collect()),
        Sorted::new(points.iter().map(|p| p.1).collect()),
    ) else {
        return;
    };
    let Some(Trend { slope, p, .. }) = trend(&points) else {
        return;
    };
    let change = slope * (times.max() - times.min()) / values.mean();
    drift.sm_clock = Some(DriftFigure {
        change,
        p,
        cells: points.len() as u64,
    });
    if points.len() < CLOCK_CELLS || p >= CLOCK_P || change.abs() <= CLOCK_SHARE {
        return;
    }
    let text = format!(
        "the SM clock changes by {:+.0} % from the lane's first cell to its last (highest mean of a cell {:.0} MHz)",
        change * 100.0,
        values.max()
    );
    for cell in cells.iter_mut() {
        if clock(cell).is_some_and(|mhz| mhz < values.max() * (1.0 - CLOCK_SHARE)) {
            add_flag(cell, &text);
        }
    }
    drift.seen.push(text);
}

/// Flags cells of later rounds that do not repeat the first round's figures.
pub(super) fn over_rounds(lanes: &mut [LaneSummary], rounds: &[RoundsSummary]) {
    for summary in rounds {
        for cell in &summary.cells {
            for (figure, over) in &cell.figures {
                for (round, ratio) in &over.over_first {
                    let differs = ratio.interval.is_some_and(|i| !i.contains(1.0));
                    if !differs || (ratio.ratio - 1.0).abs() <= DRIFT_LATENCY_SHARE {
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
