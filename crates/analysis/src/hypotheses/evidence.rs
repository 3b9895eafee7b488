//! What a machine measured, as hypotheses look at it: cells by framework, model and stratum.

use std::collections::{BTreeMap, HashMap};

use super::super::{CellSummary, LaneSummary, run::ttft_error_ms, samples::CellSamples};
use benchd_frameworks::prefix_cache_disabled;
use benchd_journal::{ClientCalibration, EnvironmentInfo};
use benchd_plan::{self, Cell, Framework, FrameworkKind, Plan, Scenario, ScenarioKind};

/// One run on the machine, with the numbers of its single requests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Night<'a> {
    /// Which of several runs, from 1.
    pub(crate) night: u32,
    /// Its lanes.
    pub(crate) lanes: &'a [LaneSummary],
    /// By lane and measured cell, in the order of `lanes` and their `cells`.
    pub(crate) samples: &'a [Vec<CellSamples>],
    /// The client's own check, where it ran.
    pub(crate) client: Option<&'a ClientCalibration>,
    /// What its frameworks run from, by their names in the plan.
    pub(crate) environments: Option<&'a BTreeMap<String, EnvironmentInfo>>,
}

/// A night and a round of its plan: what is alike for all frameworks, so that only what was measured in one is compared.
pub(super) type Stratum = (u32, u32);

/// One measured cell in one stratum.
#[derive(Debug, Clone, Copy)]
pub(super) struct SeenCell<'a> {
    pub(super) lane: &'a LaneSummary,
    pub(super) cell: &'a CellSummary,
    pub(super) samples: &'a CellSamples,
    /// The client's own error of TTFT at the cell's streams, milliseconds.
    pub(super) client_error_ms: Option<f64>,
}

/// The strata of one cell, ascending.
pub(super) type Strata<'a> = BTreeMap<Stratum, SeenCell<'a>>;

/// All that a machine measured.
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
        for night in nights {
            for (lane, samples) in night.lanes.iter().zip(night.samples) {
                for (cell, samples) in lane.cells.iter().zip(samples) {
                    let client_error_ms = night
                        .client
                        .and_then(|client| ttft_error_ms(client, cell.concurrency));
                    let seen = SeenCell {
                        lane,
                        cell,
                        samples,
                        client_error_ms,
                    };
                    cells
                        .entry(&lane.lane.model)
                        .or_default()
                        .entry(&lane.lane.framework)
                        .or_default()
                        .entry(&cell.cell)
                        .or_default()
                        .insert((night.night, lane.lane.round), seen);
                }
            }
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
            .find_map(|night| night.environments?.get(framework))
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
        let name = self.shown(framework);
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

    /// A framework as people write it.
    pub(super) fn shown(&self, framework: &str) -> String {
        shown(framework).to_owned()
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

/// A framework as people write it: the three of the document by their own names, others by the plan's.
pub fn shown(framework: &str) -> &str {
    match framework {
        "sglang" => "SGLang",
        "vllm" => "vLLM",
        "ollama" => "Ollama",
        other => other,
    }
}

/// A part that a framework of the plan plays in the document's hypotheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Sglang,
    Vllm,
    Ollama,
    /// vLLM without its prefix cache.
    Control,
}

impl Role {
    /// The key under `roles:`.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Sglang => "sglang",
            Self::Vllm => "vllm",
            Self::Ollama => "ollama",
            Self::Control => "control",
        }
    }

    /// As people write it.
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Sglang => "SGLang",
            Self::Vllm => "vLLM",
            Self::Ollama => "Ollama",
            Self::Control => "vLLM without its prefix cache",
        }
    }
}

/// Who plays which part: as the plan says, else the first framework of the kind (the control: without its prefix
/// cache; the others: with it), else a framework of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cast<'a> {
    pub(super) sglang: Option<&'a str>,
    pub(super) vllm: Option<&'a str>,
    pub(super) ollama: Option<&'a str>,
    pub(super) control: Option<&'a str>,
}

impl<'a> Cast<'a> {
    pub(super) fn of(plan: &'a Plan) -> Self {
        let roles = &plan.hypotheses.roles;
        let all = || plan.frameworks.values();
        let first = |fits: &dyn Fn(&Framework) -> bool| all().find(|f| fits(f)).map(|f| f.name.as_str());
        let taken: Vec<&str> = [&roles.sglang, &roles.vllm, &roles.ollama, &roles.control]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let by_kind = |kind: FrameworkKind| {
            let free = |f: &Framework| !taken.contains(&f.name.as_str());
            first(&|f| f.kind == kind && free(f) && !prefix_cache_disabled(f))
                .or_else(|| first(&|f| f.name == kind.as_str() && free(f)))
        };
        let control = || {
            first(&|f| {
                f.kind == FrameworkKind::Vllm && !taken.contains(&f.name.as_str()) && prefix_cache_disabled(f)
            })
        };
        Self {
            sglang: roles.sglang.as_deref().or_else(|| by_kind(FrameworkKind::Sglang)),
            vllm: roles.vllm.as_deref().or_else(|| by_kind(FrameworkKind::Vllm)),
            ollama: roles.ollama.as_deref().or_else(|| by_kind(FrameworkKind::Ollama)),
            control: roles.control.as_deref().or_else(control),
        }
    }

    pub(super) fn get(&self, role: Role) -> Option<&'a str> {
        match role {
            Role::Sglang => self.sglang,
            Role::Vllm => self.vllm,
            Role::Ollama => self.ollama,
            Role::Control => self.control,
        }
    }

    /// Whether nobody plays a part: a plan about something else.
    pub(super) fn is_empty(&self) -> bool {
        self.sglang.is_none() && self.vllm.is_none() && self.ollama.is_none()
    }

    /// Who plays the part, in the words of people: the framework's name, else the part's.
    pub(super) fn name(&self, role: Role) -> &'a str {
        self.get(role).map_or(role.shown(), shown)
    }
}
