//! The comparison at a glance.

use std::fmt::Write as _;

use super::{super::number::*, Table, escape, framework, lanes_of, models};
use crate::{
    analysis::{CellSummary, LaneSummary, RunSummary},
    plan::ScenarioKind,
};

/// The cells that stand for a model: the same for every framework.
struct Reference<'a> {
    /// The single-request cell of the middle length.
    single: Option<&'a str>,
    /// The cell with the most streams.
    load: Option<(&'a str, u32)>,
}

pub(super) fn section(summary: &RunSummary) -> String {
    let mut text = "## At a glance\n\n".to_owned();
    for model in models(summary) {
        let lanes: Vec<&LaneSummary> = lanes_of(summary, model).collect();
        let reference = reference(&lanes);
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
        let mut best = 0.0_f64;
        for lane in &lanes {
            best = best.max(load_rate(lane, &reference).unwrap_or(0.0));
        }
        let mut bars = String::new();
        for lane in &lanes {
            let single = reference.single.and_then(|id| cell(lane, id));
            let load = reference.load.and_then(|(id, _)| cell(lane, id));
            let cache = lane
                .cells
                .iter()
                .find_map(|c| c.prefix_cache.as_ref()?.later_over_first.as_ref());
            let peak = lane
                .cells
                .iter()
                .filter_map(|c| c.gpu.as_ref()?.memory_peak_bytes)
                .max();
            let rate = load.and_then(|c| c.output_tokens_per_s.as_ref());
            let (failed, requests) = lane
                .cells
                .iter()
                .fold((0, 0), |(f, r), c| (f + c.failed, r + c.requests));
            table.row([
                framework(&lane.lane),
                lane.outcome.clone(),
                single.map_or(NONE.to_owned(), |c| spread(c.ttft_ms.as_ref())[0].clone()),
                single.map_or(NONE.to_owned(), |c| {
                    spread(c.request_tokens_per_s.as_ref())[0].clone()
                }),
                rate.map_or(NONE.to_owned(), |r| with_interval(r.median, r.interval.as_ref())),
                load.map_or(NONE.to_owned(), |c| spread(c.latency_ms.as_ref())[1].clone()),
                cache.map_or(NONE.to_owned(), |d| with_interval(d.p50, d.p50_interval.as_ref())),
                peak.map_or(NONE.to_owned(), |b| megabytes(b as f64)),
                millis(lane.server.as_ref().and_then(|s| s.ready_ms)),
                format!("{} of {}", count(failed), count(requests)),
            ]);
            if let Some(rate) = rate {
                let name = &lane.lane.framework;
                let _ = writeln!(
                    bars,
                    "{name:<24} {:<32} {}",
                    bar(rate.median, best, 32),
                    number(rate.median)
                );
            }
        }
        let _ = writeln!(text, "### {}\n\n{table}", escape(model));
        if let Some(id) = reference.single {
            let _ = write!(text, "Single: median over the requests of `{id}`. ");
        }
        if let Some((id, streams)) = reference.load {
            let _ = write!(
                text,
                "Load: `{id}`, {} streams; tokens/s is the median over its passes.",
                count(streams.into())
            );
        }
        text.push_str("\n\n");
        if lanes.len() > 1 && !bars.is_empty() {
            let _ = writeln!(
                text,
                "Output tokens per second under load:\n\n```text\n{bars}```\n"
            );
        }
    }
    text.push_str(
        "Figures are medians with their 95 % interval in brackets; `~` marks a percentile from too few requests to be \
         certain (p95 needs 90, p99 needs 459). A difference inside the intervals is no difference.\n",
    );
    text
}

fn reference<'a>(lanes: &[&'a LaneSummary]) -> Reference<'a> {
    let all = || lanes.iter().flat_map(|l| &l.cells);
    let mut singles: Vec<(u32, &str)> = all()
        .filter(|c| c.kind == ScenarioKind::Single)
        .map(|c| (c.asked_prompt_tokens.unwrap_or(0), c.cell.as_str()))
        .collect();
    singles.sort_unstable();
    singles.dedup();
    let load = all()
        .filter(|c| c.kind == ScenarioKind::Concurrent)
        .map(|c| (c.cell.as_str(), c.concurrency))
        .max_by_key(|(_, streams)| *streams);
    Reference {
        single: singles.get(singles.len() / 2).map(|(_, id)| *id),
        load,
    }
}

fn cell<'a>(lane: &'a LaneSummary, id: &str) -> Option<&'a CellSummary> {
    lane.cells.iter().find(|c| c.cell == id)
}

fn load_rate(lane: &LaneSummary, reference: &Reference<'_>) -> Option<f64> {
    Some(
        cell(lane, reference.load?.0)?
            .output_tokens_per_s
            .as_ref()?
            .median,
    )
}
