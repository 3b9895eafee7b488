//! One section a scenario.

use std::fmt::Write as _;

use indexmap::IndexMap;

use super::{
    super::{names::Names, number::*},
    Table, escape, korean, lanes_of, models, verdicts,
};
use benchd_analysis::{CellSummary, Rate, RunSummary};
use benchd_core::record::FlagKind;
use benchd_plan::{Plan, ScenarioKind};

/// A section a scenario, with its kind.
pub(super) fn sections(summary: &RunSummary, plan: &Plan) -> Vec<(ScenarioKind, String)> {
    // In the plan's order; then those that only the run knows.
    let mut names: Vec<&str> = plan.scenarios.keys().map(String::as_str).collect();
    for cell in summary.lanes.iter().flat_map(|l| &l.cells) {
        if !names.contains(&cell.scenario.as_str()) {
            names.push(&cell.scenario);
        }
    }
    let shown = Names::of(&summary.lanes);
    let mut sections = Vec::new();
    // A second scenario of a kind does not tell the document's expectations again.
    let mut told: Vec<&str> = Vec::new();
    for name in names {
        let (mut body, mut kind) = (String::new(), None);
        for model in models(summary) {
            let cells = cells_of(summary, model, name);
            if let Some(first) = cells.first() {
                kind = Some(first.kind);
                let _ = writeln!(body, "### {}\n", escape(model));
                body.push_str(&super::points::section(first.kind, &cells, &shown));
                body.push_str(&tables(&cells, &shown));
                if first.kind == ScenarioKind::PrefixCache {
                    body.push_str(&prefix_cache(&cells, &shown));
                }
                if first.kind == ScenarioKind::Korean {
                    body.push_str(&korean::section(summary, model, name, (&cells, &shown)));
                }
                body.push_str(&super::compared::section(
                    &summary.comparisons,
                    model,
                    name,
                    &shown,
                ));
                body.push_str(&super::flags::beside(&cells));
            }
        }
        if let Some(kind) = kind {
            let section = document_section(kind);
            if !told.contains(&section) {
                told.push(section);
                body.insert_str(0, &verdicts::expectations(&summary.expectations, section));
            }
            sections.push((
                kind,
                format!("## Scenario: {}\n\n{}\n", escape(name), body.trim_end()),
            ));
        }
    }
    sections
}

/// The section of the user's document that tells of a kind of scenario.
pub(super) fn document_section(kind: ScenarioKind) -> &'static str {
    match kind {
        ScenarioKind::Single => "5.1",
        ScenarioKind::Concurrent => "5.2",
        ScenarioKind::LongContext => "5.3",
        ScenarioKind::PrefixCache => "5.4",
        ScenarioKind::Korean => "5.5",
    }
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

/// The tables of a scenario's cells.
struct Tables {
    speed: Table,
    latency: Table,
    gpu: Table,
    steady: Table,
    arrivals: Table,
    goodput: Table,
}

fn tables(cells: &[&CellSummary], names: &Names) -> String {
    let mut t = Tables {
        speed: Table::new([
            "cell",
            "framework",
            ">requests",
            ">TTFT p50 (ms)",
            ">p95",
            ">p99",
            ">TPOT p50 (ms)",
            ">output tokens/s",
            ">requests/s",
            "flags",
        ]),
        latency: Table::new([
            "cell",
            "framework",
            ">latency p50 (ms)",
            ">p95",
            ">p99",
            ">full-length p50 (ms)",
            ">tokens/s a request",
            ">prompt tokens",
            ">output tokens",
        ]),
        gpu: Table::new([
            "cell",
            "framework",
            ">memory peak (MB)",
            ">mean (MB)",
            ">utilisation",
            ">power (W)",
            ">J/token",
            ">SM clock (MHz)",
            ">highest °C",
            ">throttled",
        ]),
        steady: Table::new([
            "cell",
            "framework",
            ">share of the time",
            ">requests",
            ">output tokens/s",
            ">TTFT p50 (ms)",
            ">TTFT p95",
            ">latency p50 (ms)",
            ">latency p95",
        ]),
        arrivals: Table::new([
            "cell",
            "framework",
            "arrivals",
            ">asked (requests/s)",
            ">sent (requests/s)",
            ">answered (requests/s)",
            ">queued p50 (ms)",
            ">queued p99 (ms)",
            ">queued most (ms)",
        ]),
        goodput: Table::new(["cell", "framework", ">good requests/s", ">share of the requests"]),
    };
    cells.iter().for_each(|c| t.add(c, names));
    let mut text = format!(
        "Whole cells, start and end included:\n\n{}\nLatency and tokens:\n\n{}\n",
        t.speed, t.latency
    );
    for (head, table) in [
        ("Steady state (start burst and end left out)", &t.steady),
        (
            "Open loop (TTFT and latency count from the planned send; queued is the time from it to the actual send)",
            &t.arrivals,
        ),
        ("Goodput (every objective of the plan met)", &t.goodput),
        ("GPU", &t.gpu),
    ] {
        if !table.is_empty() {
            let _ = writeln!(text, "{head}:\n\n{table}");
        }
    }
    text
}

impl Tables {
    fn add(&mut self, c: &CellSummary, names: &Names) {
        let (id, name) = (format!("`{}`", c.cell), escape(&names.lane(&c.lane)));
        let [ttft50, ttft95, ttft99] = spread(c.ttft_ms.as_ref());
        let failed = if c.failed > 0 {
            format!(" ({} failed)", count(c.failed))
        } else {
            String::new()
        };
        let rate =
            |r: Option<&Rate>| r.map_or(NONE.to_owned(), |r| with_interval(r.median, r.interval.as_ref()));
        self.speed.row([
            id.clone(),
            name.clone(),
            format!("{}{failed}", count(c.requests)),
            ttft50,
            ttft95,
            ttft99,
            optional(c.tpot_ms.as_ref().map(|d| d.p50)),
            rate(c.output_tokens_per_s.as_ref()),
            rate(c.requests_per_s.as_ref()),
            flags(c),
        ]);
        let [p50, p95, p99] = spread(c.latency_ms.as_ref());
        self.latency.row([
            id.clone(),
            name.clone(),
            p50,
            p95,
            p99,
            optional(c.latency_full_ms.as_ref().map(|d| d.p50)),
            optional(c.request_tokens_per_s.as_ref().map(|d| d.p50)),
            optional(c.prompt_tokens.as_ref().map(|t| t.median)),
            optional(c.output_tokens.as_ref().map(|t| t.median)),
        ]);
        if let Some(g) = c.gpu.as_ref().filter(|g| g.samples > 0) {
            self.gpu.row([
                id.clone(),
                name.clone(),
                g.memory_peak_bytes
                    .map_or(NONE.to_owned(), |b| megabytes(b as f64)),
                g.memory_mean_bytes.map_or(NONE.to_owned(), megabytes),
                g.util_mean_pct.map_or(NONE.to_owned(), |p| percent(p / 100.0)),
                optional(g.power_mean_w),
                g.energy_j_per_output_token.map_or(NONE.to_owned(), |j| {
                    percentile(j, g.energy_certain.unwrap_or(false))
                }),
                optional(g.sm_clock_mean_mhz),
                g.temperature_max_c.map_or(NONE.to_owned(), |t| t.to_string()),
                percent(g.throttled_share),
            ]);
        }
        if let Some(s) = &c.steady {
            let [ttft50, ttft95, _] = spread(s.ttft_ms.as_ref());
            let [p50, p95, _] = spread(s.latency_ms.as_ref());
            self.steady.row([
                id.clone(),
                name.clone(),
                percent(s.share),
                count(s.requests),
                rate(s.output_tokens_per_s.as_ref()),
                ttft50,
                ttft95,
                p50,
                p95,
            ]);
        }
        if let Some(asked) = c.asked_requests_per_s {
            let queued = c.queued_ms.as_ref();
            self.arrivals.row([
                id.clone(),
                name.clone(),
                c.arrival.clone(),
                number(asked),
                rate(c.sent_requests_per_s.as_ref()),
                rate(c.requests_per_s.as_ref()),
                optional(queued.map(|d| d.p50)),
                queued.map_or(NONE.to_owned(), |d| percentile(d.p99, d.p99_certain)),
                optional(queued.map(|d| d.max)),
            ]);
        }
        if let Some(g) = &c.goodput {
            self.goodput
                .row([id, name, rate(g.requests_per_s.as_ref()), percent(g.share)]);
        }
    }
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

/// Passes that the first requests' median needs at least.
const LEAST_PASSES: u64 = 5;

fn prefix_cache(cells: &[&CellSummary], names: &Names) -> String {
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
        ">passes",
        ">whole time of a pass (s)",
    ]);
    let mut fewest = u64::MAX;
    for c in cells {
        let Some(p) = &c.prefix_cache else { continue };
        let median = |d: &Option<benchd_analysis::Distribution>| spread(d.as_ref())[0].clone();
        let share = |s: Option<f64>| s.map_or("not told".to_owned(), percent);
        fewest = fewest.min(c.passes_s.len() as u64);
        table.row([
            format!("`{}`", c.cell),
            escape(&names.lane(&c.lane)),
            median(&p.first_ttft_ms),
            median(&p.later_ttft_ms),
            median(&p.later_over_first),
            share(p.first_cached_share),
            share(p.later_cached_share),
            median(&p.first_tokens_per_s),
            median(&p.later_tokens_per_s),
            count(c.passes_s.len() as u64),
            median(&p.total_s),
        ]);
    }
    let few = if fewest < LEAST_PASSES {
        format!(
            " **{fewest} passes are few:** the first request of a pass is one sample; {LEAST_PASSES} passes at least give an \
             interval that can be trusted."
        )
    } else {
        String::new()
    };
    format!(
        "First against later requests of a pass; every pass has a prefix of its own, so the first request pays for the \
         whole prompt. Later / first is a ratio within each pass. The whole time of a pass (총 처리 시간) goes from its first \
         send to its last end. Cached is the share of the prompt tokens that the server says it had.{few}\n\n{table}\n"
    )
}
