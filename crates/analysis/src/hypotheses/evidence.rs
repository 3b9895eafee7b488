//! What a machine measured, as hypotheses look at it: cells by framework, model and stratum.

use std::collections::HashMap;

use super::{
    super::{
        LaneSummary,
        client_error::ttft_error_ms,
        measured::{MeasuredCell, Night, Strata},
    },
    roles::shown,
};
use benchd_journal::EnvironmentInfo;
use benchd_plan::{self, Cell, Plan, Scenario, ScenarioKind};

pub(super) struct Evidence<'a> {
    pub(super) plan: &'a Plan,
    pub(super) nights: &'a [Night<'a>],
    /// By model, framework and cell.
    cells: HashMap<&'a str, HashMap<&'a str, HashMap<&'a str, Strata<'a>>>>,
    none: Strata<'a>,
}

impl<'a> Evidence<'a> {
    pub(super) fn new(plan: &'a Plan, nights: &'a [Night<'a>]) -> Self {
        let mut cells: HashMap<&str, HashMap<&str, HashMap<&str, Strata<'_>>>> = HashMap::new();
        for m in nights.iter().flat_map(Night::measured) {
            let (framework, model, cell) = m.key();
            cells
                .entry(model)
                .or_default()
                .entry(framework)
                .or_default()
                .entry(cell)
                .or_default()
                .insert(m.stratum(), m);
        }
        Self {
            plan,
            nights,
            cells,
            none: Strata::new(),
        }
    }

    /// The strata in which a framework measured a cell; none where it did not.
    pub(super) fn strata(&self, model: &str, framework: &str, cell: &str) -> &Strata<'a> {
        self.cells
            .get(model)
            .and_then(|of_model| of_model.get(framework))
            .and_then(|of_framework| of_framework.get(cell))
            .unwrap_or(&self.none)
    }

    /// The lanes of a framework serving a model, over nights and rounds.
    pub(super) fn lanes(&self, model: &str, framework: &str) -> impl Iterator<Item = &'a LaneSummary> {
        self.nights
            .iter()
            .flat_map(|night| night.lanes)
            .filter(move |l| l.lane.model == model && l.lane.framework == framework)
    }

    /// What a framework runs from, as the newest night that knows it has it.
    pub(super) fn environment(&self, framework: &str) -> Option<&'a EnvironmentInfo> {
        self.nights
            .iter()
            .rev()
            .find_map(|night| night.environment(framework))
    }

    /// The client's own error of TTFT at a measured cell's streams, milliseconds.
    pub(super) fn client_error_ms(&self, measured: &MeasuredCell<'_>) -> Option<f64> {
        let night = self.nights.iter().find(|n| n.night == measured.night)?;
        ttft_error_ms(night.client()?, measured.cell.concurrency)
    }

    /// The plan's scenarios of a kind with their cells.
    pub(super) fn scenarios(&self, kind: ScenarioKind) -> impl Iterator<Item = (&'a Scenario, Vec<Cell>)> {
        self.plan
            .scenarios
            .values()
            .filter(move |s| s.kind == kind)
            .map(|s| (s, benchd_plan::cells(s)))
    }

    /// The cells of all scenarios of a kind.
    pub(super) fn cells_of(&self, kind: ScenarioKind) -> Vec<Cell> {
        self.scenarios(kind).flat_map(|(_, cells)| cells).collect()
    }

    /// Why a framework has no figures for a cell.
    pub(super) fn why_missing(&self, model: &str, framework: &str, cell: &Cell) -> String {
        let name = shown(framework);
        let runs = self.plan.frameworks.get(framework).is_some_and(|f| {
            f.scenarios
                .as_ref()
                .is_none_or(|only| only.contains(&cell.scenario))
        });
        if !runs {
            return format!("{name} does not run `{}` in this plan", cell.scenario);
        }
        let mut lanes = self.lanes(model, framework).peekable();
        if lanes.peek().is_none() {
            return format!("{name} has not run on {model}");
        }
        for lane in lanes {
            if lane.outcome == "failed" && lane.cells.is_empty() {
                let reason = lane.reason.as_deref().unwrap_or("no reason given");
                return format!(
                    "{name} failed on {model} before it measured anything ({})",
                    brief(reason)
                );
            }
            if let Some(missing) = lane.missing.iter().find(|m| m.cell == cell.id) {
                return format!(
                    "{name} has no figures for `{}` ({})",
                    cell.id,
                    brief(&missing.why)
                );
            }
        }
        format!("{name} has not measured `{}`", cell.id)
    }
}

/// Longest reason that is told in a sentence, characters.
const REASON_CHARS: usize = 120;

/// A reason from outside as part of a sentence: its first line, without hints, cut where it is long.
fn brief(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let line = line.split(" hint:").next().unwrap_or_default().replace('`', "'");
    if line.chars().count() <= REASON_CHARS {
        return line;
    }
    let mut cut: String = line.chars().take(REASON_CHARS).collect();
    cut.push('…');
    cut
}
