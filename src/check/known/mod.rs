//! What is known to break, to be wrong, or to need something, of the lanes of a plan on a GPU: the plan judged by
//! `envs/known-issues.yaml`.
//!
//! - `data`: the file.
//! - `version`: versions and ranges of them.

mod data;
mod version;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    Subject,
    finding::{Area, Finding, Severity},
    toolchain::{self, LaneTools},
};
use crate::env::{self, Venv};
use benchd_core::record::{GpuDevice, GpuHost, LaneId};
use benchd_frameworks::Context;
use benchd_plan::{Framework, Lane, Model, Source, longest_prompt_tokens, most_streams};
use data::{Effect, GpuModel, Issue, Known, Needs, When};

/// The machine that lanes are judged for.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The weakest of its chosen GPUs; `None` where none is chosen.
    gpu: Option<GpuDevice>,
    driver: Option<String>,
    /// Whether it is this one, so that its compilers and venvs are those of the night.
    here: bool,
}

impl Machine {
    /// This machine with these GPUs.
    pub(crate) fn this(gpu: Option<&GpuHost>) -> Self {
        let devices = gpu.map(|host| host.devices.as_slice()).unwrap_or_default();
        Self {
            gpu: devices
                .iter()
                .min_by_key(|device| device.memory_total_bytes)
                .cloned(),
            driver: gpu.map(|host| host.driver.clone()),
            here: true,
        }
    }

    /// A machine with a GPU that benchd knows by name, `rtx5090`.
    ///
    /// # Errors
    /// It knows no such GPU; with those that it knows.
    pub(crate) fn with_gpu(name: &str) -> Result<Self, String> {
        let known = data::read()?;
        let Some(model) = known.gpus.get(&name.to_ascii_lowercase()) else {
            let names: Vec<&str> = known.gpus.keys().map(String::as_str).collect();
            return Err(format!(
                "no GPU `{name}` is known\n  hint: one of {}",
                names.join(", ")
            ));
        };
        Ok(Self {
            gpu: Some(device(model)),
            driver: None,
            here: false,
        })
    }

    pub(crate) fn gpu(&self) -> Option<&GpuDevice> {
        self.gpu.as_ref()
    }
}

fn device(model: &GpuModel) -> GpuDevice {
    GpuDevice {
        index: 0,
        uuid: String::new(),
        name: model.nvml.clone(),
        memory_total_bytes: model.memory_mib << 20,
        memory_used_bytes: 0,
        power_limit_mw: None,
        sm_clock_max_mhz: None,
        pci_bus_id: None,
        mig: None,
        ecc_uncorrected: None,
        compute_capability: Some(model.compute.clone()),
    }
}

/// What is known of a plan's lanes on a machine.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// One finding an issue, whatever lanes it is of; the worst first.
    pub(crate) findings: Vec<Finding>,
    /// The lanes that can't start, and why.
    pub(crate) unfit: Vec<(LaneId, String)>,
    /// What each lane's server compiles when it starts.
    pub(crate) compiles: BTreeMap<String, Vec<String>>,
}

/// Judges the lanes of a plan.
pub(crate) async fn judge(subject: &Subject<'_>, machine: &Machine) -> Judged {
    let known = match data::read() {
        Ok(known) => known,
        Err(error) => {
            return Judged {
                findings: vec![Finding::stop(
                    Area::KnownIssue,
                    format!("the list of known issues can't be read: {error}"),
                    "install benchd anew",
                )],
                ..Judged::default()
            };
        }
    };
    let mut looked = Looked::default();
    let mut lanes = Vec::new();
    for lane in subject.lanes {
        let (Some(framework), Some(model)) = (
            subject.plan.frameworks.get(&lane.id.framework),
            subject.plan.models.get(&lane.id.model),
        ) else {
            continue;
        };
        if matches!(framework.source, Source::Url(_)) {
            continue;
        }
        lanes.push(facts(framework, model, lane, subject.lanes, machine, &mut looked).await);
    }
    judge_lanes(&known, &lanes, machine)
}

/// What issues are matched by.
#[derive(Debug)]
struct LaneFacts<'a> {
    id: &'a LaneId,
    kind: &'static str,
    version: Option<String>,
    model_id: Option<String>,
    model_type: Option<String>,
    /// All arguments, the last of a name counts.
    args: Vec<String>,
    streams: u32,
    longest_tokens: u32,
    /// The packages of its venv; `None` where there is none to look at.
    venv: Option<Venv>,
    /// What its server finds; `None` where that machine is not at hand.
    tools: Option<LaneTools>,
}

/// What several lanes have in common, looked at once.
#[derive(Debug, Default)]
struct Looked {
    venvs: BTreeMap<PathBuf, Option<Venv>>,
    tools: toolchain::Cache,
}

async fn facts<'a>(
    framework: &Framework,
    model: &Model,
    lane: &'a Lane,
    lanes: &[Lane],
    machine: &Machine,
    looked: &mut Looked,
) -> LaneFacts<'a> {
    let context = Context {
        longest_prompt_tokens: longest_prompt_tokens(lanes, &lane.id.model),
        gpus: Vec::new(),
        max_concurrency: most_streams(lane),
        work_dir: PathBuf::from("logs"),
    };
    // Settings that contradict each other are told elsewhere.
    let launch = benchd_frameworks::adapter(framework, model, &context)
        .ok()
        .and_then(|adapter| adapter.launch());
    let mut args = launch
        .as_ref()
        .map(|launch| launch.args.clone())
        .unwrap_or_default();
    args.extend(benchd_frameworks::arguments(framework, model));
    let venv = match &framework.source {
        Source::Venv(folder) if machine.here => looked
            .venvs
            .entry(folder.clone())
            .or_insert_with(|| Venv::read(folder).ok())
            .clone(),
        _ => None,
    };
    let kind = framework.kind.as_str();
    let installed = || match &venv {
        Some(venv) => venv.version(kind).map(str::to_owned),
        None => env::describe(framework)?.version,
    };
    let tools = if machine.here {
        let env = launch.map(|launch| launch.env).unwrap_or_default();
        Some(toolchain::of_lane(framework, model, &env, venv.as_ref(), &mut looked.tools).await)
    } else {
        None
    };
    LaneFacts {
        id: &lane.id,
        kind,
        version: framework.version.clone().or_else(installed),
        model_id: model.id_for(framework.kind).map(str::to_owned),
        model_type: benchd_frameworks::model_type(framework, model),
        args,
        streams: context.max_concurrency,
        longest_tokens: context.longest_prompt_tokens,
        venv,
        tools,
    }
}

fn judge_lanes(known: &Known, lanes: &[LaneFacts<'_>], machine: &Machine) -> Judged {
    let mut judged = Judged::default();
    let mut elsewhere: BTreeSet<String> = BTreeSet::new();
    for issue in known.issues.values() {
        // By what is missing: two frameworks may find different compilers.
        let mut by_lack: Vec<(Lack, Vec<&LaneId>)> = Vec::new();
        for lane in lanes.iter().filter(|lane| is_of(&issue.when, lane, machine)) {
            if let Some(what) = &issue.compiles {
                let all = judged.compiles.entry(lane.id.to_string()).or_default();
                if !all.contains(what) {
                    all.push(what.clone());
                }
            }
            let lack = match lack(&issue.needs, lane, machine) {
                Lack::Nothing => continue,
                Lack::NotKnown(wanted) => {
                    elsewhere.extend(wanted);
                    continue;
                }
                lack => lack,
            };
            match by_lack.iter_mut().find(|(other, _)| *other == lack) {
                Some((_, ids)) => ids.push(lane.id),
                None => by_lack.push((lack, vec![lane.id])),
            }
        }
        for (lack, ids) in by_lack {
            let finding = finding(issue, &lack, &ids);
            if finding.severity == Severity::Stop {
                for id in ids {
                    judged.unfit.push((id.clone(), finding.to_string()));
                }
            }
            judged.findings.push(finding);
        }
    }
    judged.findings.extend(not_judged(known, lanes, machine));
    if !elsewhere.is_empty() {
        let all: Vec<String> = elsewhere.into_iter().collect();
        judged.findings.push(Finding::note(
            Area::KnownIssue,
            format!(
                "that machine must have: {}; benchd check there tells whether it has",
                all.join(", ")
            ),
        ));
    }
    judged.findings.sort_by_key(|finding| finding.severity);
    judged
}

/// Lanes of which issues are known and of which too little is known to tell whether they are theirs.
fn not_judged(known: &Known, lanes: &[LaneFacts<'_>], machine: &Machine) -> Vec<Finding> {
    let mut findings = Vec::new();
    let told = |ids: &[&LaneId], what: &str| {
        Finding::note(
            Area::KnownIssue,
            format!("{}: not judged by what is known: {what}", named(ids)),
        )
    };
    let concerned = |lane: &&LaneFacts<'_>| {
        let mut issues = known.issues.values();
        issues.any(|issue| {
            issue
                .when
                .of
                .get(lane.kind)
                .is_some_and(|wanted| wanted.0.is_some())
        })
    };
    let of_no_version: Vec<&LaneId> = lanes
        .iter()
        .filter(concerned)
        .filter(|lane| lane.version.is_none())
        .map(|lane| lane.id)
        .collect();
    if !of_no_version.is_empty() {
        findings.push(told(
            &of_no_version,
            "the version is in neither the plan nor the venv",
        ));
    }
    let is_of_no_kind = |gpu: &GpuDevice| gpu.compute_capability.is_none();
    if machine.gpu.as_ref().is_some_and(is_of_no_kind) {
        let all: Vec<&LaneId> = lanes.iter().filter(concerned).map(|lane| lane.id).collect();
        if !all.is_empty() {
            findings.push(told(
                &all,
                "the driver does not tell the GPU's compute capability",
            ));
        }
    }
    findings
}

fn is_of(when: &When, lane: &LaneFacts<'_>, machine: &Machine) -> bool {
    let gpu = machine.gpu.as_ref();
    let compute = gpu.and_then(|gpu| gpu.compute_capability.as_deref());
    let version = lane.version.as_deref();
    let among =
        |all: &[String], one: Option<&String>| all.is_empty() || one.is_some_and(|one| all.contains(one));
    let has_package = |name: &String| {
        lane.venv
            .as_ref()
            .is_some_and(|venv| venv.version(name).is_some())
    };
    when.of
        .get(lane.kind)
        .is_some_and(|wanted| holds(wanted.0.as_ref(), version))
        && holds(when.compute.as_ref(), compute)
        && when
            .memory_gib_below
            .is_none_or(|limit| gpu.is_some_and(|gpu| gib(gpu.memory_total_bytes) < limit))
        && among(&when.model_type, lane.model_type.as_ref())
        && among(&when.model, lane.model_id.as_ref())
        && when.without.iter().all(|name| value(&lane.args, name).is_none())
        && when
            .with
            .iter()
            .all(|(name, values)| match value(&lane.args, name) {
                Some(given) => values.is_empty() || values.iter().any(|value| value == given),
                None => false,
            })
        && !when.without_packages.iter().any(has_package)
        && when.streams_above.is_none_or(|limit| lane.streams > limit)
        && when.below_longest.as_ref().is_none_or(|name| {
            let given = value(&lane.args, name).and_then(|value| value.parse::<u32>().ok());
            given.is_some_and(|given| given < lane.longest_tokens)
        })
}

fn holds(range: Option<&version::Range>, version: Option<&str>) -> bool {
    range.is_none_or(|range| version.is_some_and(|version| range.holds(version)))
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1_u64 << 30) as f64
}

/// The value of an argument (`--name value`, `--name=value`, `name=value`; dashes or underscores); empty where it has
/// none. The last one counts.
fn value<'a>(args: &'a [String], name: &str) -> Option<&'a str> {
    let is_it = |arg: &str| arg.replace('_', "-") == name.replace('_', "-");
    args.iter()
        .enumerate()
        .rev()
        .find_map(|(at, arg)| match arg.split_once('=') {
            Some((given, value)) if is_it(given) => Some(value),
            _ if is_it(arg) => {
                let next = args.get(at + 1).map(String::as_str);
                Some(next.filter(|next| !next.starts_with("--")).unwrap_or(""))
            }
            _ => None,
        })
}

/// What a machine lacks of what an issue names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lack {
    /// It has all of it: there is no issue.
    Nothing,
    /// The issue needs nothing to be one.
    Unconditional,
    /// These.
    These(Vec<String>),
    /// That machine is not at hand.
    NotKnown(Vec<String>),
}

fn lack(needs: &Needs, lane: &LaneFacts<'_>, machine: &Machine) -> Lack {
    let mut wanted: Vec<String> = Vec::new();
    let mut lacking: Vec<String> = Vec::new();
    let tools = lane.tools.as_ref();
    let mut need = |name: String, missing: Option<String>| {
        wanted.push(name);
        lacking.extend(missing);
    };
    if let Some(nvcc) = &needs.nvcc {
        let name = match &nvcc.0 {
            Some(range) => format!("nvcc {range}"),
            None => "nvcc".to_owned(),
        };
        let found = tools.and_then(|tools| tools.toolchain.nvcc.as_ref());
        let missing = match (found, &nvcc.0) {
            (None, _) => Some("there is no nvcc (CUDA_HOME, the path, /usr/local/cuda)".to_owned()),
            (Some(tool), Some(range)) => match tool.version.as_deref() {
                Some(version) if range.holds(version) => None,
                Some(version) => Some(format!("{} is {version}", tool.path)),
                None => Some(format!("{} does not tell its version", tool.path)),
            },
            (Some(_), None) => None,
        };
        need(name, missing);
    }
    for (wants, name, found) in [
        (
            needs.cxx,
            "c++",
            tools.is_some_and(|tools| tools.toolchain.cxx.is_some()),
        ),
        (
            needs.cc,
            "a C compiler",
            tools.is_some_and(|tools| tools.toolchain.cc.is_some()),
        ),
    ] {
        if wants {
            need(
                name.to_owned(),
                (!found).then(|| format!("there is no {}", name.trim_start_matches("a "))),
            );
        }
    }
    if needs.python_headers {
        // Where no Python is seen, the venv is told to be missing, and nothing is known of its headers.
        let missing = tools.and_then(|tools| tools.python_headers_missing.as_ref());
        need(
            "Python.h".to_owned(),
            missing.map(|path| format!("{} is not there", path.display())),
        );
    }
    if needs.harmony_vocabulary {
        let missing = tools.and_then(|tools| tools.vocabulary_missing.as_ref());
        need(
            "harmony's vocabulary".to_owned(),
            missing.map(|path| format!("{} is not there", path.display())),
        );
    }
    if let Some(range) = &needs.driver {
        // A driver that is not known is none to complain of.
        let missing = machine
            .driver
            .as_deref()
            .filter(|driver| !range.holds(driver))
            .map(|driver| format!("the driver is {driver}"));
        need(format!("driver {range}"), missing);
    }
    if wanted.is_empty() {
        Lack::Unconditional
    } else if !machine.here {
        Lack::NotKnown(wanted)
    } else if lacking.is_empty() {
        Lack::Nothing
    } else {
        Lack::These(lacking)
    }
}

fn finding(issue: &Issue, lack: &Lack, ids: &[&LaneId]) -> Finding {
    let lacking = match lack {
        Lack::These(these) => format!("; {}", these.join(", ")),
        Lack::Nothing | Lack::Unconditional | Lack::NotKnown(_) => String::new(),
    };
    let sources: Vec<String> = issue
        .sources
        .iter()
        .filter_map(|source| source.told())
        .map(|(how, at)| format!("{how} {at}"))
        .collect();
    let (severity, start) = match issue.effect {
        Effect::FailsToStart => (Severity::Stop, "does not start: "),
        Effect::WrongAnswers => (Severity::Lose, ""),
        Effect::Slow | Effect::NeedsSetting => (Severity::Warn, ""),
        Effect::Note => (Severity::Note, ""),
    };
    Finding {
        severity,
        area: Area::KnownIssue,
        text: format!(
            "{}: {start}{}{lacking} [{}]",
            named(ids),
            issue.what,
            sources.join("; ")
        ),
        remedy: Some(issue.remedy.clone()).filter(|remedy| !remedy.is_empty()),
    }
}

/// Lanes for people: `vllm, vllm-no-prefix-cache / gpt-oss-20b, llama-3.1-8b`.
fn named(ids: &[&LaneId]) -> String {
    let mut by_framework: Vec<(&str, Vec<&str>)> = Vec::new();
    for id in ids {
        match by_framework
            .iter_mut()
            .find(|(framework, _)| *framework == id.framework)
        {
            Some((_, models)) if models.contains(&id.model.as_str()) => {}
            Some((_, models)) => models.push(&id.model),
            None => by_framework.push((&id.framework, vec![&id.model])),
        }
    }
    let mut by_models: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for (framework, models) in by_framework {
        match by_models.iter_mut().find(|(other, _)| *other == models) {
            Some((_, frameworks)) => frameworks.push(framework),
            None => by_models.push((models, vec![framework])),
        }
    }
    let told: Vec<String> = by_models
        .into_iter()
        .map(|(models, frameworks)| format!("{} / {}", frameworks.join(", "), models.join(", ")))
        .collect();
    told.join("; ")
}

/// Where a lane that can't start is left out, for people.
pub(crate) fn skip_hint(plan: &Path) -> String {
    format!(
        "the other lanes run with: benchd run {} --skip-unfit",
        plan.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arguments_value_is_found_however_it_is_written_and_the_last_counts() {
        let args: Vec<String> = [
            "--attention-backend=triton",
            "--attention_backend",
            "flashinfer",
            "num_ctx=4096",
            "--flag",
            "--x",
        ]
        .map(str::to_owned)
        .to_vec();
        assert_eq!(value(&args, "--attention-backend"), Some("flashinfer"));
        assert_eq!(value(&args, "num_ctx"), Some("4096"));
        assert_eq!(value(&args, "--flag"), Some(""));
        assert_eq!(value(&args, "--absent"), None);
    }

    #[test]
    fn a_gpu_is_known_by_its_short_name() {
        let machine = Machine::with_gpu("RTX5090").unwrap();
        let gpu = machine.gpu().unwrap();
        assert_eq!(
            (
                gpu.name.as_str(),
                gpu.compute_capability.as_deref(),
                gpu.memory_total_bytes >> 20
            ),
            ("NVIDIA GeForce RTX 5090", Some("12.0"), 32_607)
        );
        let error = Machine::with_gpu("rtx9090").unwrap_err();
        assert!(error.contains("rtx9090") && error.contains("rtx5090"), "{error}");
    }
}
