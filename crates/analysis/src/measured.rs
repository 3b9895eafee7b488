//! What runs on one machine measured, cell by cell: by night, lane and cell, with the numbers of the single requests.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::{CellSummary, LaneSummary, samples::CellSamples};
use benchd_journal::{ClientCalibration, EnvironmentInfo, RunInfo};

/// One of the runs on a machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Night<'a> {
    /// Its position among them, from 1.
    pub(super) night: u32,
    pub(super) lanes: &'a [LaneSummary],
    /// By lane and measured cell, in the order of `lanes` and their `cells`.
    samples: &'a [Vec<CellSamples>],
    info: Option<&'a RunInfo>,
}

impl<'a> Night<'a> {
    pub(super) fn new(
        night: u32,
        lanes: &'a [LaneSummary],
        samples: &'a [Vec<CellSamples>],
        info: Option<&'a RunInfo>,
    ) -> Self {
        Self {
            night,
            lanes,
            samples,
            info,
        }
    }

    /// The client's own check, where it ran.
    pub(super) fn client(&self) -> Option<&'a ClientCalibration> {
        self.info?.client.as_ref()
    }

    /// What a framework runs from, by its name in the plan.
    pub(super) fn environment(&self, framework: &str) -> Option<&'a EnvironmentInfo> {
        self.info?.environments.get(framework)
    }

    /// Every measured cell, in the order in which they ran.
    pub(super) fn measured(&self) -> impl Iterator<Item = MeasuredCell<'a>> + use<'a> {
        let night = self.night;
        self.lanes
            .iter()
            .zip(self.samples)
            .flat_map(move |(lane, samples)| {
                let of_cell = move |(cell, samples)| MeasuredCell {
                    night,
                    lane,
                    cell,
                    samples,
                };
                lane.cells.iter().zip(samples).map(of_cell)
            })
    }
}

/// One cell of one lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct MeasuredCell<'a> {
    /// Which of the runs on the machine, from 1.
    pub(super) night: u32,
    pub(super) lane: &'a LaneSummary,
    pub(super) cell: &'a CellSummary,
    pub(super) samples: &'a CellSamples,
}

/// A night and a round of its plan: what is alike for all frameworks, so that only what was measured in one is compared.
pub(super) type Stratum = (u32, u32);

/// A framework, a model and a cell, by their names.
pub(super) type CellKey<'a> = (&'a str, &'a str, &'a str);

impl<'a> MeasuredCell<'a> {
    pub(super) fn stratum(&self) -> Stratum {
        (self.night, self.lane.lane.round)
    }

    pub(super) fn key(&self) -> CellKey<'a> {
        (&self.lane.lane.framework, &self.lane.lane.model, &self.cell.cell)
    }
}

/// The strata of one cell of one framework, ascending.
pub(super) type Strata<'a> = BTreeMap<Stratum, MeasuredCell<'a>>;

/// By model and framework, and by scenario and cell in the order in which they were measured.
pub(super) type ByFramework<'a> =
    IndexMap<&'a str, IndexMap<&'a str, IndexMap<(&'a str, &'a str), Strata<'a>>>>;

pub(super) fn by_framework<'a>(measured: &[MeasuredCell<'a>]) -> ByFramework<'a> {
    let mut models = ByFramework::new();
    for m in measured {
        models
            .entry(&m.lane.lane.model)
            .or_default()
            .entry(&m.lane.lane.framework)
            .or_default()
            .entry((&m.cell.scenario, &m.cell.cell))
            .or_default()
            .insert(m.stratum(), *m);
    }
    models
}

/// Two frameworks that serve one model; the baseline is the one that was measured first.
pub(super) struct FrameworkPair<'a> {
    pub(super) model: &'a str,
    pub(super) baseline: &'a str,
    pub(super) framework: &'a str,
    /// In the order in which the baseline ran them.
    pub(super) cells: Vec<CellPair<'a>>,
}

/// A cell that both measured.
pub(super) struct CellPair<'a> {
    pub(super) scenario: &'a str,
    pub(super) cell: &'a str,
    /// The baseline's numbers and the framework's, by stratum that both have.
    pub(super) strata: Vec<(&'a CellSamples, &'a CellSamples)>,
}

/// Every pair of frameworks of each model.
pub(super) fn framework_pairs<'a>(measured: &[MeasuredCell<'a>]) -> Vec<FrameworkPair<'a>> {
    let mut pairs = Vec::new();
    for (model, frameworks) in by_framework(measured) {
        for (i, (baseline, base_cells)) in frameworks.iter().enumerate() {
            for (framework, cells) in frameworks.iter().skip(i + 1) {
                let both = base_cells.iter().filter_map(|(key, base)| {
                    let other = cells.get(key)?;
                    let strata = base
                        .iter()
                        .filter_map(|(stratum, base)| Some((base.samples, other.get(stratum)?.samples)));
                    Some(CellPair {
                        scenario: key.0,
                        cell: key.1,
                        strata: strata.collect(),
                    })
                });
                pairs.push(FrameworkPair {
                    model,
                    baseline,
                    framework,
                    cells: both.collect(),
                });
            }
        }
    }
    pairs
}
