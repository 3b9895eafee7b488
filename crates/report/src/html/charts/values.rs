//! What the figures show of a study: cells by framework, over the runs and rounds of a machine.

use indexmap::IndexMap;

use super::super::super::number::{number, with_interval};
use benchd_analysis::{CellSeries, CellSummary, Distribution, MachineStudy, Rate, RunSeries};
use benchd_core::stats::Interval;
use benchd_plan::ScenarioKind;

/// One measured cell of one run and round.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured<'a> {
    pub(super) summary: &'a CellSummary,
    pub(super) series: Option<&'a CellSeries>,
}

/// One setting: the same cell of all frameworks.
#[derive(Debug)]
pub(super) struct Setting<'a> {
    pub(super) cell: &'a str,
    pub(super) scenario: &'a str,
    pub(super) kind: ScenarioKind,
    pub(super) concurrency: u32,
    pub(super) prompt_tokens: Option<u32>,
    pub(super) open_loop: bool,
    /// By framework, in the plan's order: all runs and rounds.
    pub(super) frameworks: IndexMap<&'a str, Vec<Measured<'a>>>,
}

/// One model on one machine.
#[derive(Debug)]
pub(super) struct ModelView<'a> {
    pub(super) machine: &'a MachineStudy,
    pub(super) model: &'a str,
    /// In the plan's order.
    pub(super) settings: Vec<Setting<'a>>,
}

/// The models of a machine, in the order of its lanes.
pub(super) fn models<'a>(machine: &'a MachineStudy, series: &'a [RunSeries]) -> Vec<ModelView<'a>> {
    let mut models: IndexMap<&str, IndexMap<(&str, &str), Setting<'_>>> = IndexMap::new();
    for (at, run) in machine.runs.iter().enumerate() {
        for (lane_at, lane) in run.lanes.iter().enumerate() {
            let of_lane = series.get(at).and_then(|s| s.lanes.get(lane_at));
            let settings = models.entry(&lane.lane.model).or_default();
            for (cell_at, cell) in lane.cells.iter().enumerate() {
                let setting = settings
                    .entry((&cell.scenario, &cell.cell))
                    .or_insert_with(|| Setting {
                        cell: &cell.cell,
                        scenario: &cell.scenario,
                        kind: cell.kind,
                        concurrency: cell.concurrency,
                        prompt_tokens: cell.asked_prompt_tokens,
                        open_loop: cell.asked_requests_per_s.is_some(),
                        frameworks: IndexMap::new(),
                    });
                let measured = Measured {
                    summary: cell,
                    series: of_lane.and_then(|l| l.cells.get(cell_at)),
                };
                setting
                    .frameworks
                    .entry(&lane.lane.framework)
                    .or_default()
                    .push(measured);
            }
        }
    }
    models
        .into_iter()
        .map(|(model, settings)| ModelView {
            machine,
            model,
            settings: settings.into_values().collect(),
        })
        .collect()
}

/// A value and its interval.
type Read = (f64, Option<Interval>);

/// A figure of a cell: how it is read from the summary, and its name in the comparisons.
#[derive(Clone, Copy)]
pub(super) struct Quantity {
    /// Its name in [`RunSummary::rounds`](benchd_analysis::RunSummary), where it is pooled there.
    name: Option<&'static str>,
    read: fn(&CellSummary) -> Option<Read>,
    pub(super) unit: &'static str,
}

fn median(d: Option<&Distribution>) -> Option<Read> {
    d.map(|d| (d.p50, d.p50_interval))
}

fn rate(r: Option<&Rate>) -> Option<Read> {
    r.map(|r| (r.median, r.interval))
}

pub(super) const TTFT: Quantity = Quantity {
    name: Some("ttft_ms"),
    read: |c| median(c.ttft_ms.as_ref()),
    unit: "ms",
};
pub(super) const LATENCY: Quantity = Quantity {
    name: None,
    read: |c| median(c.latency_ms.as_ref()),
    unit: "ms",
};
pub(super) const LATENCY_P95: Quantity = Quantity {
    name: None,
    read: |c| c.latency_ms.as_ref().map(|d| (d.p95, None)),
    unit: "ms",
};
pub(super) const THROUGHPUT: Quantity = Quantity {
    name: Some("output_tokens_per_s"),
    read: |c| rate(c.output_tokens_per_s.as_ref()),
    unit: "tokens/s",
};
pub(super) const REQUEST_RATE: Quantity = Quantity {
    name: Some("tokens_per_s"),
    read: |c| median(c.request_tokens_per_s.as_ref()),
    unit: "tokens/s",
};
pub(super) const FIRST_TTFT: Quantity = Quantity {
    name: None,
    read: |c| median(c.prefix_cache.as_ref()?.first_ttft_ms.as_ref()),
    unit: "ms",
};
pub(super) const LATER_TTFT: Quantity = Quantity {
    name: None,
    read: |c| median(c.prefix_cache.as_ref()?.later_ttft_ms.as_ref()),
    unit: "ms",
};

/// A figure over the runs and rounds of a framework.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    /// The only one, or the geometric mean of the rounds' and nights'.
    pub(super) value: f64,
    pub(super) interval: Option<Interval>,
    /// Each of them, where there are several.
    pub(super) each: Vec<f64>,
}

impl Value {
    /// For people, with its unit.
    pub(super) fn say(&self, unit: &str) -> String {
        let mut text = format!("{} {unit}", with_interval(self.value, self.interval.as_ref()));
        if !self.each.is_empty() {
            let each: Vec<String> = self.each.iter().map(|v| number(*v)).collect();
            text.push_str(&format!("\nsingle runs: {}", each.join(", ")));
        }
        text
    }
}

impl Setting<'_> {
    /// A figure of one framework.
    pub(super) fn value(
        &self,
        machine: &MachineStudy,
        model: &str,
        framework: &str,
        of: Quantity,
    ) -> Option<Value> {
        let found: Vec<(f64, Option<Interval>)> = self
            .frameworks
            .get(framework)?
            .iter()
            .filter_map(|m| (of.read)(m.summary))
            .filter(|(value, _)| value.is_finite())
            .collect();
        let each: Vec<f64> = found.iter().map(|(v, _)| *v).collect();
        match &found[..] {
            [] => None,
            [(value, interval)] => Some(Value {
                value: *value,
                interval: *interval,
                each: Vec::new(),
            }),
            _ => {
                let pooled = match &machine.runs[..] {
                    [run] => of.name.and_then(|name| {
                        let rounds = run
                            .rounds
                            .iter()
                            .find(|r| (r.model.as_str(), r.framework.as_str()) == (model, framework))?;
                        let cell = rounds
                            .cells
                            .iter()
                            .find(|c| (c.scenario.as_str(), c.cell.as_str()) == (self.scenario, self.cell))?;
                        let figure = cell.figures.get(name)?;
                        Some((figure.pooled, figure.interval))
                    }),
                    _ => None,
                };
                let (value, interval) = pooled.unwrap_or_else(|| (geometric_mean(&each), None));
                Some(Value {
                    value,
                    interval,
                    each,
                })
            }
        }
    }

    /// The first measured one of a framework whose series has what is looked for.
    pub(super) fn series<'b, T>(
        &'b self,
        framework: &str,
        find: impl Fn(&'b CellSeries) -> Option<T>,
    ) -> Option<T> {
        self.frameworks
            .get(framework)?
            .iter()
            .find_map(|m| find(m.series?))
    }
}

/// As rounds are pooled: each counts the same.
fn geometric_mean(values: &[f64]) -> f64 {
    if values.iter().any(|v| *v <= 0.0) {
        return values.iter().sum::<f64>() / values.len() as f64;
    }
    (values.iter().map(|v| v.ln()).sum::<f64>() / values.len() as f64).exp()
}

impl<'a> ModelView<'a> {
    /// Settings of one kind of scenario, closed loop.
    pub(super) fn closed(&self, kind: ScenarioKind) -> impl Iterator<Item = &Setting<'a>> {
        self.settings
            .iter()
            .filter(move |s| s.kind == kind && !s.open_loop)
    }

    /// What was measured of one cell.
    pub(super) fn setting(&self, cell: &str) -> Option<&Setting<'a>> {
        self.settings.iter().find(|s| s.cell == cell)
    }

    pub(super) fn value(&self, setting: &Setting<'_>, framework: &str, of: Quantity) -> Option<Value> {
        setting.value(self.machine, self.model, framework, of)
    }

    /// Whether a framework's values come from several runs or rounds.
    pub(super) fn repeated(&self) -> bool {
        self.settings
            .iter()
            .flat_map(|s| s.frameworks.values())
            .any(|m| m.len() > 1)
    }
}
