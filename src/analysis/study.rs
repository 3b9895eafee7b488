//! Runs that one report tells of: of one machine or several, of one night or several.

use serde::{Deserialize, Serialize};

use super::{Expectation, FrameworkComparison, RunSummary, Verdict};

/// Version of `study.json`.
pub const STUDY_VERSION: u32 = 1;

/// Everything that one report is about. Of one run: one machine with one night.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Study {
    /// Layout version, [`STUDY_VERSION`].
    pub v: u32,
    /// The machines, in the order in which their first runs were given.
    pub machines: Vec<MachineStudy>,
}

/// All runs of one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MachineStudy {
    /// The GPU's name, else the host's; with the host's where two machines have the same GPU.
    pub name: String,
    /// The nights, in the order of their start.
    pub runs: Vec<RunSummary>,
    /// Every pair of frameworks of a model, pooled over nights and rounds with each of them as a stratum.
    pub comparisons: Vec<FrameworkComparison>,
    /// Verdicts over all nights.
    pub verdicts: Vec<Verdict>,
    /// The document's expectations against what was seen over all nights.
    pub expectations: Vec<Expectation>,
    /// What keeps the nights from being pooled, and other things to know.
    pub notes: Vec<String>,
}

/// What a run's machine is called: its GPU's name, else its host's, else the plan's.
pub fn machine_name(run: &RunSummary) -> String {
    run.info.as_ref().map_or_else(
        || run.plan.clone(),
        |info| {
            info.gpu
                .as_ref()
                .and_then(|gpu| gpu.devices.first())
                .map_or_else(|| info.host.hostname.clone(), |device| device.name.clone())
        },
    )
}

impl Study {
    /// The study of one run.
    pub fn of_one(run: RunSummary) -> Self {
        let name = machine_name(&run);
        Self {
            v: STUDY_VERSION,
            machines: vec![MachineStudy {
                name,
                comparisons: run.comparisons.clone(),
                verdicts: run.verdicts.clone(),
                expectations: run.expectations.clone(),
                notes: Vec::new(),
                runs: vec![run],
            }],
        }
    }
}
