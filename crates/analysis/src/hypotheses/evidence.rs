//! What a machine measured, as hypotheses look at it: cells by framework, model and stratum.

use std::collections::HashMap;

use super::{
    super::{
        LaneSummary,
        client_error::ttft_error_ms,
        measured::{MeasuredCell, Night, Strata},
    },
    roles::shown,
    words::capital,
};
use benchd_core::format::brief;
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

    /// The first letter large, but for a framework's name, which is as the plan has it.
    pub(super) fn capital(&self, text: &str) -> String {
        let word = text.split([' ', '\'']).next().unwrap_or("");
        if self.plan.frameworks.keys().any(|name| shown(name) == word) {
            return text.to_owned();
        }
        capital(text)
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

    /// Whether the plan has a framework run a scenario.
    pub(super) fn runs(&self, framework: &str, scenario: &str) -> bool {
        self.plan.frameworks.get(framework).is_some_and(|f| {
            f.scenarios
                .as_ref()
                .is_none_or(|only| only.iter().any(|name| name == scenario))
        })
    }

    /// Those of the cells that the plan has all of these frameworks run: a scenario that one of them runs alone compares
    /// nothing.
    pub(super) fn run_by_all(&self, frameworks: &[&str], cells: &[Cell]) -> Vec<Cell> {
        let by_all = |cell: &&Cell| frameworks.iter().all(|f| self.runs(f, &cell.scenario));
        cells.iter().filter(by_all).cloned().collect()
    }

    /// Those of the cells that all of these frameworks measured.
    pub(super) fn measured_by_all(&self, model: &str, frameworks: &[&str], cells: &[Cell]) -> Vec<Cell> {
        let measured = |f: &&str, cell: &Cell| !self.strata(model, f, &cell.id).is_empty();
        let by_all = |cell: &&Cell| frameworks.iter().all(|f| measured(f, cell));
        cells.iter().filter(by_all).cloned().collect()
    }

    /// That a framework has no figures for a cell, and why.
    pub(super) fn absent(&self, model: &str, framework: &str, cell: &Cell) -> Absent {
        let name = shown(framework);
        let absent = |why, failed| Absent {
            framework: framework.to_owned(),
            cell: cell.id.clone(),
            why,
            failed,
        };
        if !self.runs(framework, &cell.scenario) {
            let why = format!("{name} does not run `{}` in this plan", cell.scenario);
            return absent(why, false);
        }
        let mut lanes = self.lanes(model, framework).peekable();
        if lanes.peek().is_none() {
            return absent(format!("{name} has not run on {model}"), false);
        }
        for lane in lanes {
            let failed = lane.outcome == "failed";
            if failed && lane.cells.is_empty() {
                let reason = lane.reason.as_deref().unwrap_or("no reason given");
                let why = format!(
                    "{name} failed on {model} before it measured anything ({})",
                    brief(reason)
                );
                return absent(why, true);
            }
            if let Some(missing) = lane.missing.iter().find(|m| m.cell == cell.id) {
                let why = format!(
                    "{name} has no figures for `{}` ({})",
                    cell.id,
                    brief(&missing.why)
                );
                return absent(why, failed);
            }
        }
        absent(format!("{name} has not measured `{}`", cell.id), false)
    }
}

/// A framework's cell without figures, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Absent {
    pub(super) framework: String,
    pub(super) cell: String,
    pub(super) why: String,
    /// Whether it failed there, rather than was never asked or not yet.
    pub(super) failed: bool,
}
