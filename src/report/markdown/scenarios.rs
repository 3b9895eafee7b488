//! One section a scenario.

use std::fmt::Write as _;

use indexmap::IndexMap;

use super::{super::number::*, Table, escape, framework, lanes_of, models};
use crate::{
    analysis::{CellSummary, Comparison, RunSummary},
    plan::{Plan, ScenarioKind},
    record::FlagKind,
};

pub(super) fn sections(summary: &RunSummary, plan: &Plan) -> String {
    // In the plan's order; then those that only the run knows.
    let mut names: Vec<&str> = plan.scenarios.keys().map(String::as_str).collect();
    for cell in summary.lanes.iter().flat_map(|l| &l.cells) {
        if !names.contains(&cell.scenario.as_str()) {
            names.push(&cell.scenario);
        }
    }
    let mut text = String::new();
    for name in names {
        let mut body = String::new();
        for model in models(summary) {
            let cells = cells_of(summary, model, name);
            if let Some(first) = cells.first() {
                let _ = writeln!(body, "### {}\n", escape(model));
                body.push_str(&tables(&cells));
                if first.kind == ScenarioKind::PrefixCache {
                    body.push_str(&prefix_cache(&cells));
                }
                if first.kind == ScenarioKind::Korean {
                    body.push_str(&korean(summary, model, name, &cells));
                }
            }
        }
        if !body.is_empty() {
            let _ = writeln!(text, "## Scenario: {}\n\n{}\n", escape(name), body.trim_end());
        }
    }
    text
}

/// The cells of a scenario, the frameworks of one cell side by side.
fn cells_of<'a>(summary: &'a RunSummary, model: &'a str, scenario: &str) -> Vec<&'a CellSummary> {
    let mut by_cell: IndexMap<&str, Vec<&CellSummary>> = IndexMap::new();
    for cell in lanes_of(summary, model)
        .flat_map(|l| &l.cells)
        .filter(|c| c.scenario == scenario)
    {
        by_cell.entry(&cell.cell).or_default().push(cell);
    }
    by_cell.into_values().flatten().collect()
}

fn tables(cells: &[&CellSummary]) -> String {
    let mut speed = Table::new([
        "cell",
        "framework",
        ">requests",
        ">TTFT p50 (ms)",
        ">p95",
        ">p99",
        ">TPOT p50 (ms)",
        ">tokens/s a request",
        ">output tokens/s",
        ">requests/s",
        "flags",
    ]);
    let mut latency = Table::new([
        "cell",
        "framework",
        ">latency p50 (ms)",
        ">p95",
        ">p99",
        ">full-length p50 (ms)",
        ">prompt tokens",
        ">output tokens",
        ">GPU peak (MB)",
        ">GPU mean (MB)",
        ">GPU util",
        ">power (W)",
        ">J/token",
    ]);
    let mut steady = Table::new([
        "cell",
        "framework",
        ">share of the time",
        ">requests",
        ">output tokens/s",
        ">TTFT p50 (ms)",
        ">TTFT p95",
        ">latency p50 (ms)",
        ">latency p95",
    ]);
    let mut goodput = Table::new(["cell", "framework", ">good requests/s", ">share of the requests"]);
    for c in cells {
        let (id, name) = (format!("`{}`", c.cell), framework(&c.lane));
        let [ttft50, ttft95, ttft99] = spread(c.ttft_ms.as_ref());
        let failed = if c.failed > 0 {
            format!(" ({} failed)", count(c.failed))
        } else {
            String::new()
        };
        let rate = |r: Option<&crate::analysis::Rate>| {
            r.map_or(NONE.to_owned(), |r| with_interval(r.median, r.interval.as_ref()))
        };
        speed.row([
            id.clone(),
            name.clone(),
            format!("{}{failed}", count(c.requests)),
            ttft50,
            ttft95,
            ttft99,
            optional(c.tpot_ms.as_ref().map(|d| d.p50)),
            optional(c.request_tokens_per_s.as_ref().map(|d| d.p50)),
            rate(c.output_tokens_per_s.as_ref()),
            rate(c.requests_per_s.as_ref()),
            flags(c),
        ]);
        let [p50, p95, p99] = spread(c.latency_ms.as_ref());
        let gpu = c.gpu.as_ref();
        latency.row([
            id.clone(),
            name.clone(),
            p50,
            p95,
            p99,
            optional(c.latency_full_ms.as_ref().map(|d| d.p50)),
            optional(c.prompt_tokens.as_ref().map(|t| t.median)),
            optional(c.output_tokens.as_ref().map(|t| t.median)),
            gpu.and_then(|g| g.memory_peak_bytes)
                .map_or(NONE.to_owned(), |b| megabytes(b as f64)),
            gpu.and_then(|g| g.memory_mean_bytes)
                .map_or(NONE.to_owned(), megabytes),
            gpu.and_then(|g| g.util_mean_pct)
                .map_or(NONE.to_owned(), |p| percent(p / 100.0)),
            optional(gpu.and_then(|g| g.power_mean_w)),
            optional(gpu.and_then(|g| g.energy_j_per_output_token)),
        ]);
        if let Some(s) = &c.steady {
            let (ttft, latency) = (spread(s.ttft_ms.as_ref()), spread(s.latency_ms.as_ref()));
            let [ttft50, ttft95, _] = ttft;
            let [p50, p95, _] = latency;
            let rate = rate(s.output_tokens_per_s.as_ref());
            steady.row([
                id.clone(),
                name.clone(),
                percent(s.share),
                count(s.requests),
                rate,
                ttft50,
                ttft95,
                p50,
                p95,
            ]);
        }
        if let Some(g) = &c.goodput {
            goodput.row([id, name, rate(g.requests_per_s.as_ref()), percent(g.share)]);
        }
    }
    let mut text = format!("{speed}\nLatency, tokens and GPU:\n\n{latency}\n");
    if !steady.is_empty() {
        let _ = writeln!(text, "Steady state (start burst and end left out):\n\n{steady}");
    }
    if !goodput.is_empty() {
        let _ = writeln!(text, "Goodput (every objective of the plan met):\n\n{goodput}");
    }
    text
}

/// The flags of a cell. Too few samples for a percentile show as `~` beside it already.
fn flags(cell: &CellSummary) -> String {
    let names: Vec<_> = cell
        .flags
        .iter()
        .filter(|f| f.kind != FlagKind::FewSamples)
        .map(|f| f.kind.as_str())
        .collect();
    names.join(", ")
}

fn prefix_cache(cells: &[&CellSummary]) -> String {
    let mut table = Table::new([
        "cell",
        "framework",
        ">first TTFT p50 (ms)",
        ">later TTFT p50 (ms)",
        ">later / first",
        ">cached, first",
        ">cached, later",
        ">tokens/s, first",
        ">tokens/s, later",
        ">time of a pass",
    ]);
    for c in cells {
        let Some(p) = &c.prefix_cache else { continue };
        let median = |d: &Option<crate::analysis::Distribution>| spread(d.as_ref())[0].clone();
        let share = |s: Option<f64>| s.map_or("not told".to_owned(), percent);
        let passes = crate::stats::Sorted::new(c.passes_s.clone());
        table.row([
            format!("`{}`", c.cell),
            framework(&c.lane),
            median(&p.first_ttft_ms),
            median(&p.later_ttft_ms),
            median(&p.later_over_first),
            share(p.first_cached_share),
            share(p.later_cached_share),
            median(&p.first_tokens_per_s),
            median(&p.later_tokens_per_s),
            passes.map_or(NONE.to_owned(), |s| {
                duration(std::time::Duration::from_secs_f64(s.median().max(0.0)))
            }),
        ]);
    }
    format!(
        "First against later requests of a pass; every pass has a prefix of its own, so the first request pays for the \
         whole prompt:\n\n{table}\n"
    )
}

/// The figures of the comparison, with how they are headed.
const KOREAN_FIGURES: [(&str, &str); 8] = [
    ("prompt_tokens", ">prompt tokens"),
    ("output_tokens", ">output tokens"),
    ("output_tokens_per_char", ">tokens a character"),
    ("ttft_ms", ">TTFT"),
    ("latency_ms", ">latency"),
    ("tokens_per_s", ">tokens/s"),
    ("chars_per_s", ">characters/s"),
    ("bytes_per_s", ">bytes/s"),
];

fn korean(summary: &RunSummary, model: &str, scenario: &str, cells: &[&CellSummary]) -> String {
    let columns = KOREAN_FIGURES.map(|(_, head)| head);
    let [a, b, c, d, e, f, g, h] = columns;
    let mut overall = Table::new([">streams", "framework", a, b, c, d, e, f, g, h]);
    let mut by_type = Table::new([
        ">streams",
        "framework",
        "prompt",
        ">prompt tokens ko / en",
        ">ratio",
        ">output tokens ko / en",
        ">TTFT ratio",
        ">characters/s ratio",
    ]);
    for lane in lanes_of(summary, model) {
        for k in lane.korean.iter().filter(|k| k.scenario == scenario) {
            let ratio = |c: Option<&Comparison>| {
                c.map_or(NONE.to_owned(), |c| with_interval(c.ratio, c.interval.as_ref()))
            };
            let [a, b, c, d, e, f, g, h] = KOREAN_FIGURES.map(|(name, _)| ratio(k.overall.get(name)));
            let (streams, name) = (count(k.concurrency.into()), framework(&lane.lane));
            overall.row([streams.clone(), name.clone(), a, b, c, d, e, f, g, h]);
            for (prompt, figures) in &k.prompts {
                let both = |name: &str| {
                    figures.get(name).map_or(NONE.to_owned(), |c| {
                        format!("{} / {}", optional(c.ko), optional(c.en))
                    })
                };
                by_type.row([
                    streams.clone(),
                    name.clone(),
                    prompt.clone(),
                    both("prompt_tokens"),
                    ratio(figures.get("prompt_tokens")),
                    both("output_tokens"),
                    ratio(figures.get("ttft_ms")),
                    ratio(figures.get("chars_per_s")),
                ]);
            }
        }
    }
    let mut texts = Table::new([
        "cell",
        "framework",
        ">output tokens a character",
        ">output tokens a byte",
        ">prompt tokens a character",
        ">characters/s p50",
        ">bytes/s p50",
    ]);
    let mut signs = Table::new([
        "cell",
        "framework",
        ">answers",
        ">Hangul among letters",
        ">broken characters",
        ">loops",
        ">cut at the limit",
        ">cut before it",
        ">empty",
    ]);
    for c in cells {
        let Some(t) = &c.text else { continue };
        let q = &t.quality;
        signs.row([
            format!("`{}`", c.cell),
            framework(&c.lane),
            count(q.answers),
            q.hangul_share.map_or(NONE.to_owned(), percent),
            count(q.broken),
            count(q.looping),
            count(q.cut_at_limit),
            count(q.cut_before),
            count(q.empty),
        ]);
        texts.row([
            format!("`{}`", c.cell),
            framework(&c.lane),
            optional(t.output_tokens_per_char),
            optional(t.output_tokens_per_byte),
            optional(t.prompt_tokens_per_char),
            spread(t.chars_per_s.as_ref())[0].clone(),
            spread(t.bytes_per_s.as_ref())[0].clone(),
        ]);
    }
    let mut text = String::new();
    if !overall.is_empty() {
        let _ = writeln!(
            text,
            "Korean over English for the same meaning, paired by prompt (geometric mean over the prompts of the ratios of \
             medians; 1 is equal):\n\n{overall}\nBy prompt:\n\n{by_type}"
        );
    }
    let _ = writeln!(text, "Text of the answers:\n\n{texts}");
    let _ = writeln!(
        text,
        "Signs of the answers' quality (they judge no text; they show where to read, `text` in requests.jsonl):\n\n{signs}"
    );
    text
}
