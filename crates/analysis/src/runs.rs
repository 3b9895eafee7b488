//! Runs beside each other: what each of them was asked, on what machine, and what differs between them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    AnalysisError, LaneSummary, RunSummary,
    run::{RunAnalysis, analyse_run},
};
use benchd_journal::{RunDir, RunInfo};
use benchd_plan::{Cell, Framework, Lane, Model, Plan, Source};

/// A run, read and analysed, with the plan that it was run by.
#[derive(Debug)]
pub struct AnalysedRun {
    /// Its plan.
    pub plan: Plan,
    /// The plan's lanes with their cells.
    pub lanes: Vec<Lane>,
    pub(super) analysis: RunAnalysis,
}

impl AnalysedRun {
    /// Reads and analyses a run as it stands.
    ///
    /// # Errors
    /// Its journal, run.json or files can't be read.
    pub fn read(dir: &RunDir, plan: Plan, lanes: Vec<Lane>) -> Result<Self, AnalysisError> {
        Ok(Self {
            analysis: analyse_run(dir, &plan, &lanes)?,
            plan,
            lanes,
        })
    }

    /// Its summary.
    pub fn summary(&self) -> &RunSummary {
        &self.analysis.summary
    }

    /// A cell as the plan has it.
    pub(super) fn cell(&self, framework: &str, model: &str, cell: &str) -> Option<&Cell> {
        self.lanes
            .iter()
            .filter(|l| l.id.framework == framework && l.id.model == model)
            .flat_map(|l| &l.cells)
            .find(|c| c.id == cell)
    }

    fn info(&self) -> Option<&RunInfo> {
        self.summary().info.as_ref()
    }
}

/// Whether two runs were made on one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameMachine {
    /// The same GPUs by their UUIDs, or without a GPU the same host by its name, CPU and memory.
    Yes,
    /// GPUs of the same name, but other ones; or another host with the same CPU.
    AnotherUnit,
    /// Another GPU or CPU.
    No,
    /// One of them has no run.json.
    NotKnown,
}

/// What a machine is known by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Machine {
    /// Names of its GPUs, else its CPU.
    pub(super) kind: Vec<String>,
    /// UUIDs of its GPUs, else the host.
    pub(super) unit: Vec<String>,
}

impl Machine {
    /// `None` without a run.json.
    pub(super) fn of(run: &AnalysedRun) -> Option<Self> {
        let info = run.info()?;
        let host = &info.host;
        Some(match &info.gpu {
            Some(gpu) if !gpu.devices.is_empty() => {
                let sorted = |mut texts: Vec<String>| {
                    texts.sort();
                    texts
                };
                Self {
                    kind: sorted(gpu.devices.iter().map(|d| d.name.clone()).collect()),
                    unit: sorted(gpu.devices.iter().map(|d| d.uuid.clone()).collect()),
                }
            }
            _ => Self {
                kind: vec![format!("{}, {} logical CPUs", host.cpu, host.cpus)],
                unit: vec![host.hostname.clone(), host.memory_bytes.to_string()],
            },
        })
    }

    pub(super) fn same(a: Option<&Self>, b: Option<&Self>) -> SameMachine {
        match (a, b) {
            (Some(a), Some(b)) if a == b => SameMachine::Yes,
            (Some(a), Some(b)) if a.kind == b.kind => SameMachine::AnotherUnit,
            (Some(_), Some(_)) => SameMachine::No,
            _ => SameMachine::NotKnown,
        }
    }
}

/// A machine in words: `gpu-1: NVIDIA A100-SXM4-80GB, driver 570.86.10`.
pub(super) fn machine_text(info: Option<&RunInfo>) -> String {
    let Some(info) = info else {
        return "not known (run.json is missing)".to_owned();
    };
    match &info.gpu {
        Some(gpu) if !gpu.devices.is_empty() => {
            let names: Vec<&str> = gpu.devices.iter().map(|d| d.name.as_str()).collect();
            format!(
                "{}: {}, driver {}",
                info.host.hostname,
                names.join(" + "),
                gpu.driver
            )
        }
        _ => format!(
            "{}: {}, {} logical CPUs, no GPU used",
            info.host.hostname, info.host.cpu, info.host.cpus
        ),
    }
}

/// What two runs ask differently in a cell of the same name; empty where they ask the same. Figures of cells that ask
/// something different tell nothing of each other.
pub(super) fn asked_differently(a: &AnalysedRun, b: &AnalysedRun, of_a: &Cell, of_b: &Cell) -> Vec<String> {
    let mut out = Vec::new();
    let mut differ = |what: &str, of: &dyn Fn(&AnalysedRun, &Cell) -> String| {
        let (a, b) = (of(a, of_a), of(b, of_b));
        if a != b {
            out.push(format!("{what}: {a} against {b}"));
        }
    };
    differ("kind", &|_, c| c.kind.to_string());
    differ("streams", &|_, c| c.concurrency.to_string());
    differ("prompts", &|_, c| format!("{:?}", c.input));
    differ("prompt mode", &|_, c| format!("{:?}", c.prompts));
    differ("output tokens", &|_, c| c.output_tokens.to_string());
    // More passes or repeats only make a figure surer; more requests a pass change what a pass is.
    if of_a.concurrency > 1 {
        differ("requests a pass", &|_, c| c.requests_per_pass.to_string());
    }
    differ("arrivals", &|_, c| format!("{:?}", c.arrival));
    differ("cache", &|_, c| format!("{:?}", c.cache));
    differ("temperature", &|run, _| run.plan.request.temperature.to_string());
    differ("top_p", &|run, _| run.plan.request.top_p.to_string());
    differ("time limit", &|run, _| format!("{:?}", run.plan.request.timeout));
    out
}

/// The lane of a run that tells most of how the framework serves the model.
fn lane<'a>(run: &'a AnalysedRun, framework: &str, model: &str) -> Option<&'a LaneSummary> {
    let mut lanes = run
        .summary()
        .lanes
        .iter()
        .filter(|l| l.lane.framework == framework && l.lane.model == model);
    let first = lanes.clone().next();
    lanes
        .find(|l| !l.cells.is_empty() || l.server.is_some())
        .or(first)
}

/// `what a against b` where they differ.
fn against(out: &mut Vec<String>, what: &str, a: Option<String>, b: Option<String>) {
    if a != b {
        let or = |t: Option<String>| t.filter(|t| !t.is_empty()).unwrap_or_else(|| "none".to_owned());
        out.push(format!("{what} {} against {}", or(a), or(b)));
    }
}

/// Other versions of a framework in two runs.
fn other_version(a: &AnalysedRun, b: &AnalysedRun, framework: &str, model: &str) -> Vec<String> {
    let mut out = Vec::new();
    if let (Some(a), Some(b)) = (lane(a, framework, model), lane(b, framework, model)) {
        against(&mut out, "version", a.version.clone(), b.version.clone());
    }
    out
}

/// How two runs serve a framework and a model differently, by their plans and by what the servers said; empty where
/// they serve it alike. Its version stands apart: a framework's next version is still the same framework.
pub(super) fn served_differently(
    a: &AnalysedRun,
    b: &AnalysedRun,
    framework: &str,
    model: &str,
) -> Vec<String> {
    let mut out = Vec::new();
    let mut differ = |what: &str, a, b| against(&mut out, what, a, b);
    if let (Some(a), Some(b)) = (lane(a, framework, model), lane(b, framework, model)) {
        differ("model id", a.model_id.clone(), b.model_id.clone());
        let weights = |l: &LaneSummary| l.precision.weights.value().map(ToString::to_string);
        differ("precision", weights(a), weights(b));
    }
    if let (Some(fa), Some(fb)) = (a.plan.frameworks.get(framework), b.plan.frameworks.get(framework)) {
        differ("kind", Some(fa.kind.to_string()), Some(fb.kind.to_string()));
        differ("arguments", Some(arguments(fa)), Some(arguments(fb)));
        let of_model = |run: &AnalysedRun, f: &Framework| {
            let model = run.plan.models.get(model)?;
            Some(model_arguments(model, f))
        };
        differ("arguments of the model", of_model(a, fa), of_model(b, fb));
        let env = |f: &Framework| {
            let pairs: Vec<String> = f.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
            Some(pairs.join(" "))
        };
        differ("environment", env(fa), env(fb));
    }
    out
}

fn arguments(f: &Framework) -> String {
    let command = match &f.source {
        Source::Command { command, .. } => command.join(" "),
        Source::Url(url) => format!("at {url}"),
        // Where it lies tells nothing of what it is; its version does.
        Source::Venv(_) | Source::Binary(_) => String::new(),
    };
    [command, f.args.join(" ")].join(" ").trim().to_owned()
}

fn model_arguments(model: &Model, f: &Framework) -> String {
    let kind = f.kind.to_string();
    let mut all: Vec<String> = [f.name.as_str(), kind.as_str()]
        .iter()
        .filter_map(|name| model.args.get(*name))
        .flatten()
        .cloned()
        .collect();
    all.extend(model.reasoning_effort.map(|e| format!("reasoning_effort={e:?}")));
    all.join(" ")
}

/// What differs between two runs beside what was measured: machine, driver, benchd, plan, servers. Each is a sentence
/// without its full stop.
pub(super) fn differences(a: &AnalysedRun, b: &AnalysedRun) -> Vec<String> {
    let mut out = Vec::new();
    let mut differ = |what: &str, a: &str, b: &str| {
        if a != b {
            out.push(format!("{what}: {a} against {b}"));
        }
    };
    if let (Some(a), Some(b)) = (a.info(), b.info()) {
        differ("host", &a.host.hostname, &b.host.hostname);
        differ("kernel", &a.host.kernel, &b.host.kernel);
        differ("CPU", &a.host.cpu, &b.host.cpu);
        if let (Some(a), Some(b)) = (&a.gpu, &b.gpu) {
            let names = |g: &benchd_core::record::GpuHost| {
                let names: Vec<String> = g
                    .devices
                    .iter()
                    .map(|d| format!("{} ({})", d.name, d.uuid))
                    .collect();
                names.join(" + ")
            };
            differ("GPU", &names(a), &names(b));
            differ("driver", &a.driver, &b.driver);
            let limit = |g: &benchd_core::record::GpuHost| {
                let watts: Vec<String> = g
                    .devices
                    .iter()
                    .map(|d| {
                        d.power_limit_mw
                            .map_or("not known".to_owned(), |mw| format!("{} W", mw / 1000))
                    })
                    .collect();
                watts.join(" + ")
            };
            differ("power limit", &limit(a), &limit(b));
        } else if a.gpu.is_some() != b.gpu.is_some() {
            let has = |i: &RunInfo| if i.gpu.is_some() { "used" } else { "not used" };
            differ("GPU", has(a), has(b));
        }
    }
    let (sa, sb) = (a.summary(), b.summary());
    differ("benchd", &sa.benchd_version, &sb.benchd_version);
    differ("plan", &sa.plan, &sb.plan);
    if sa.plan_sha256 != sb.plan_sha256 {
        out.push("the plan's text is not the same".to_owned());
    }
    let lanes: BTreeSet<(&str, &str)> = sa
        .lanes
        .iter()
        .filter(|l| {
            let same =
                |o: &&LaneSummary| (&o.lane.framework, &o.lane.model) == (&l.lane.framework, &l.lane.model);
            sb.lanes.iter().any(|o| same(&o))
        })
        .map(|l| (l.lane.framework.as_str(), l.lane.model.as_str()))
        .collect();
    for (framework, model) in lanes {
        let of_lane = other_version(a, b, framework, model)
            .into_iter()
            .chain(served_differently(a, b, framework, model));
        out.extend(of_lane.map(|text| format!("{framework}/{model}: {text}")));
    }
    out
}
