//! The comparison at a glance.

use std::fmt::Write as _;

use indexmap::IndexSet;

use super::{
    super::{
        best::best,
        names::Names,
        number::*,
        reference::{Candidate, References},
    },
    Table, escape, lanes_of, models,
};
use benchd_analysis::{CellSummary, LaneSummary, RunSummary, ServedWeights, common_cells};
use benchd_core::format::counted;

pub(super) fn section(summary: &RunSummary) -> String {
    let mut text = "## At a glance\n\n".to_owned();
    let names = Names::of(&summary.lanes);
    for model in models(summary) {
        let lanes: Vec<&LaneSummary> = lanes_of(summary, model).collect();
        let weights = ServedWeights::of(lanes.iter().copied().filter(|lane| !lane.cells.is_empty()));
        let cells = || lanes.iter().flat_map(|lane| &lane.cells);
        let of = References::among(&cells().map(Candidate::of).collect::<Vec<_>>());
        let (single_cell, load_cell) = (of.single.map(|c| c.cell), of.load.map(|c| c.cell));
        let (with_peak, peak_cells) = common_cells(cells().filter_map(|c| {
            c.gpu.as_ref()?.memory_peak_bytes?;
            Some((c.lane.framework.as_str(), c.cell.as_str()))
        }));
        let mut table = Table::new([
            "framework",
            "lane",
            ">TTFT, single (ms)",
            ">tokens/s, single",
            ">tokens/s, load",
            ">latency p95, load (ms)",
            ">later / first TTFT",
            ">peak GPU (MB)",
            ">ready after",
            ">failed",
        ]);
        let most = lanes
            .iter()
            .filter_map(|lane| Some(cell(lane, load_cell?)?.output_tokens_per_s.as_ref()?.median))
            .fold(0.0, f64::max);
        let best_ttft = best_of(summary, &lanes, single_cell, "ttft_ms", false, |c| {
            c.ttft_ms.as_ref().map(|d| d.p50)
        });
        let best_speed = best_of(summary, &lanes, single_cell, "tokens_per_s", true, |c| {
            c.request_tokens_per_s.as_ref().map(|d| d.p50)
        });
        let best_rate = best_of(summary, &lanes, load_cell, "output_tokens_per_s", true, |c| {
            c.output_tokens_per_s.as_ref().map(|r| r.median)
        });
        let mut bars = String::new();
        for lane in &lanes {
            let single = single_cell.and_then(|id| cell(lane, id));
            let load = load_cell.and_then(|id| cell(lane, id));
            let cache = of.prefix.and_then(|prefix| {
                let cell = cell(lane, prefix.cell)?;
                cell.prefix_cache.as_ref()?.later_over_first.as_ref()
            });
            let name = lane.lane.framework.as_str();
            let peak = lane
                .cells
                .iter()
                .filter(|c| with_peak.contains(name) && peak_cells.contains(c.cell.as_str()))
                .filter_map(|c| c.gpu.as_ref()?.memory_peak_bytes)
                .max();
            let rate = load.and_then(|c| c.output_tokens_per_s.as_ref());
            let (failed, requests) = lane
                .cells
                .iter()
                .fold((0, 0), |(f, r), c| (f + c.failed, r + c.requests));
            table.row([
                escape(&names.lane(&lane.lane)),
                lane.outcome.clone(),
                marked(
                    single.map_or(NONE.to_owned(), |c| spread(c.ttft_ms.as_ref())[0].clone()),
                    best_ttft == Some(name),
                ),
                marked(
                    single.map_or(NONE.to_owned(), |c| {
                        spread(c.request_tokens_per_s.as_ref())[0].clone()
                    }),
                    best_speed == Some(name),
                ),
                marked(
                    rate.map_or(NONE.to_owned(), |r| with_interval(r.median, r.interval.as_ref())),
                    best_rate == Some(name),
                ),
                load.map_or(NONE.to_owned(), |c| spread(c.latency_ms.as_ref())[1].clone()),
                cache.map_or(NONE.to_owned(), |d| with_interval(d.p50, d.p50_interval.as_ref())),
                peak.map_or(NONE.to_owned(), |b| megabytes(b as f64)),
                millis(lane.server.as_ref().and_then(|s| s.ready_ms)),
                format!("{} of {}", count(failed), count(requests)),
            ]);
            if let Some(rate) = rate {
                let _ = writeln!(
                    bars,
                    "{:<40} {:<32} {}",
                    names.lane(&lane.lane),
                    bar(rate.median, most, 32),
                    number(rate.median)
                );
            }
        }
        let _ = writeln!(text, "### {}\n\n{table}", escape(model));
        if let Some(id) = single_cell {
            let _ = write!(text, "Single: median over the requests of `{id}`. ");
        }
        if let Some(load) = of.load {
            let _ = write!(
                text,
                "Load: `{}`, {}; tokens/s is the median over its passes.",
                load.cell,
                counted(load.concurrency.into(), "stream")
            );
        }
        for (id, who) in &of.beyond {
            let _ = write!(text, " Only {} measured `{id}`.", list(who));
        }
        let all: IndexSet<&str> = cells().map(|c| c.lane.framework.as_str()).collect();
        let left_out: Vec<&&str> = all.difference(&with_peak).collect();
        if !with_peak.is_empty() && !left_out.is_empty() {
            let _ = write!(
                text,
                " Peak GPU memory is that of the {} cells that the others have in common; {} has too few of them.",
                count(peak_cells.len() as u64),
                list(left_out)
            );
        }
        if let Some(statement) = weights.statement() {
            let _ = write!(text, " Not like with like, so no ★: {}.", escape(&statement));
        }
        text.push_str("\n\n");
        if lanes.len() > 1 && !bars.is_empty() {
            let _ = writeln!(
                text,
                "Output tokens per second under load:\n\n```{BARS}\n{bars}```\n"
            );
        }
    }
    text.push_str(
        "Figures are medians with their 95 % interval in brackets; `~` marks a percentile from too few requests to be \
         certain (p95 needs 90, p99 needs 459). A difference inside the intervals is no difference: ★ marks the best only \
         where the interval of its ratio to every other framework leaves equality out and all weights are of one \
         precision; a percentile and a peak have no such interval here, so they have no best.\n",
    );
    text
}

/// Info string of bars made of text: the page has a figure in their place.
pub(crate) const BARS: &str = "text bars";

/// Marks the best.
const BEST: &str = "★";

fn marked(figure: String, is_best: bool) -> String {
    if is_best {
        format!("**{figure} {BEST}**")
    } else {
        figure
    }
}

/// The framework that is best in a cell, where that can be said. Over several rounds a framework's value is that of
/// its first one; whether it differs is told over all of them.
fn best_of<'a>(
    summary: &RunSummary,
    lanes: &[&'a LaneSummary],
    cell_id: Option<&str>,
    figure: &str,
    more_is_better: bool,
    value: impl Fn(&CellSummary) -> Option<f64>,
) -> Option<&'a str> {
    let id = cell_id?;
    let mut values: Vec<(&str, f64)> = Vec::new();
    for lane in lanes {
        let name = lane.lane.framework.as_str();
        if let Some(value) = cell(lane, id).and_then(&value)
            && !values.iter().any(|(known, _)| *known == name)
        {
            values.push((name, value));
        }
    }
    let model = &lanes.first()?.lane.model;
    best(&values, &summary.comparisons, (model, id), figure, more_is_better)
}

fn cell<'a>(lane: &'a LaneSummary, id: &str) -> Option<&'a CellSummary> {
    lane.cells.iter().find(|c| c.cell == id)
}

fn list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    benchd_core::format::list(
        &names
            .into_iter()
            .map(|name| escape(name.as_ref()))
            .collect::<Vec<_>>(),
    )
}
