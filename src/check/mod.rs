//! The doctor: everything that can go wrong tonight, found now, each finding with its remedy.
//!
//! `benchd check` looks at all of it, `benchd run` before its first lane at the same by the same functions. What is read
//! from the machine and what is made of it are apart: judging is plain functions.
//!
//! - `finding`: what is found, and how bad it is.
//! - `gpu`: the devices, who is on them, whether models fit; `attached`: whose processes serve the plan's URLs.
//! - `known`: what is known to break, to be wrong, or to need something; `toolchain`: the compilers that servers find.
//! - `hypotheses`: those that can't be decided.
//! - `environments`, `models`: what servers run from, and what they serve.
//! - `host`, `expect`: the machine as it is told, and against what the plan expects of it.
//! - `machine`: the host's memory, CPUs, limits and clock; `disk`: room for the run.
//! - `others`: ports, locks, other runs and what dead ones left, systemd's unit.

pub(crate) mod attached;
mod disk;
mod environments;
mod expect;
mod finding;
pub(crate) mod gpu;
mod host;
mod hypotheses;
pub(crate) mod known;
mod machine;
mod models;
mod others;
mod toolchain;

use std::{collections::BTreeSet, path::Path};

pub(crate) use finding::{Area, Finding, Severity};
pub(crate) use host::{boot_id, host_info};
pub(crate) use toolchain::of_this_machine as toolchain_of_this_machine;

use benchd_core::record::GpuHost;
use benchd_host::gpu::{Gpu, check_expectations};
use benchd_plan::{self, Assumptions, Cell, Framework, Lane, Plan, most_streams};
use known::{Judged, Machine};

/// Folder of trials, within those of results and of logs.
pub(crate) const TRIALS: &str = "starts";

/// What is to be run, and where it writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) plan_path: &'a Path,
    pub(crate) lanes: &'a [Lane],
    /// Folder of all runs.
    pub(crate) results: &'a Path,
    /// Folder of all logs.
    pub(crate) logs: &'a Path,
}

impl<'a> Subject<'a> {
    /// The frameworks that have a lane, in the plan's order.
    fn used(&self) -> Vec<&'a Framework> {
        let named: BTreeSet<&str> = self.lanes.iter().map(|lane| lane.id.framework.as_str()).collect();
        let all = self.plan.frameworks.values();
        all.filter(|framework| named.contains(framework.name.as_str()))
            .collect()
    }
}

/// Looks at everything, before a run; the worst comes first.
pub(crate) async fn everything(subject: Subject<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let gpu = match gpu::open(&subject.plan.host.gpu).await {
        Ok(gpu) => gpu,
        Err(finding) => {
            findings.push(finding);
            Gpu::none()
        }
    };
    findings.extend(devices(subject.plan, &gpu).await);
    findings.extend(others::locks(&gpu.uuids()));
    let (file, trials) = (
        subject.plan_path.display(),
        [subject.results, subject.logs].map(|f| f.join(TRIALS)),
    );
    for (results, logs, resume) in [
        (
            subject.results,
            subject.logs,
            format!("benchd run {file} --resume"),
        ),
        (
            trials[0].as_path(),
            trials[1].as_path(),
            format!("benchd env {file} --warm"),
        ),
    ] {
        findings.extend(others::runs(results, logs, &subject.plan.name, &resume));
    }
    match disk(&subject, &gpu, subject.lanes.iter().flat_map(|lane| &lane.cells)) {
        Ok(found) | Err(found) => findings.push(found),
    }
    let judged = known::judge(&subject, &Machine::this(gpu.host())).await;
    findings.extend(of_the_plan(&subject, &judged));
    findings.extend(known_here(&subject, &judged).await);
    findings.extend(judged.findings);
    findings.extend(surroundings(subject, &gpu, true).await);
    findings.extend(others::systemd(Path::new("/")));
    findings.sort_by_key(|finding| (finding.severity, finding.area));
    findings
}

/// Looks at a plan for a machine that is not this one: what is known of its lanes on that GPU, and whether models that
/// lie here fit.
pub(crate) async fn elsewhere(subject: Subject<'_>, machine: &Machine) -> Vec<Finding> {
    let judged = known::judge(&subject, machine).await;
    let mut findings = of_the_plan(&subject, &judged);
    if let Some(gpu) = machine.gpu() {
        let expected = &subject.plan.host;
        let host = GpuHost {
            driver: expected.expect.driver.clone().unwrap_or_default(),
            cuda: None,
            nvml: None,
            devices: vec![gpu.clone()],
        };
        let mismatches = check_expectations(expected, &host).into_iter();
        findings.extend(mismatches.map(|mismatch| Finding::stop(Area::Gpu, mismatch.text, mismatch.hint)));
        findings.push(Finding::ok(
            Area::Gpu,
            format!(
                "judged for {}, {}, compute capability {}; nothing of this machine was looked at",
                gpu.name,
                finding::size(gpu.memory_total_bytes),
                gpu.compute_capability.as_deref().unwrap_or("not known")
            ),
        ));
        findings.extend(models::fits(
            subject.plan,
            subject.lanes,
            &[gpu.memory_total_bytes],
        ));
    }
    findings.extend(judged.findings);
    findings.sort_by_key(|finding| (finding.severity, finding.area));
    findings
}

/// What is known of a plan's lanes on a machine, lanes that it leaves out, hypotheses that can't be decided; the worst first.
pub(crate) async fn of_lanes(subject: &Subject<'_>, machine: &Machine) -> Vec<Finding> {
    let judged = known::judge(subject, machine).await;
    let mut findings = of_the_plan(subject, &judged);
    findings.extend(judged.findings);
    findings.sort_by_key(|finding| finding.severity);
    findings
}

/// What of the plan itself is to be known before the night.
fn of_the_plan(subject: &Subject<'_>, judged: &Judged) -> Vec<Finding> {
    let mut findings = hypotheses::left_out(subject);
    findings.extend(hypotheses::undecidable(subject, &judged.unfit));
    findings
}

/// The host against the plan, and the compilers that lanes call.
async fn known_here(subject: &Subject<'_>, judged: &Judged) -> Vec<Finding> {
    let toolchain = toolchain_of_this_machine().await;
    let mut findings: Vec<Finding> = toolchain::told(&toolchain, &judged.compiles)
        .into_iter()
        .collect();
    findings.extend(expect::host(&subject.plan.host.expect, &host_info(), &toolchain));
    findings
}

/// What is found of a plan and its host before a run is begun.
#[derive(Debug)]
pub(crate) struct BeforeARun {
    /// What is known of its lanes.
    pub(crate) judged: Judged,
    /// The host against the plan.
    pub(crate) host: Vec<Finding>,
    /// Lanes that the plan leaves out, hypotheses that can't be decided: told, whatever else is found.
    pub(crate) told: Vec<Finding>,
}

/// Looks at known issues and at what the plan expects of the host.
pub(crate) async fn before_a_run(subject: &Subject<'_>, gpu: &Gpu) -> BeforeARun {
    let judged = known::judge(subject, &Machine::this(gpu.host())).await;
    BeforeARun {
        told: of_the_plan(subject, &judged),
        host: known_here(subject, &judged).await,
        judged,
    }
}

/// The devices themselves, and who is on them.
async fn devices(plan: &Plan, gpu: &Gpu) -> Vec<Finding> {
    let mut findings = fit(plan, gpu).await;
    let found = match gpu::alone(gpu.processes().await, plan) {
        Ok(found) => found,
        Err(finding) => {
            findings.push(finding);
            return findings;
        }
    };
    let (strangers, _) = attached::others(plan, &found);
    if !strangers.is_empty() {
        findings.push(Finding::warn(
            Area::Gpu,
            format!("also on the GPU: {}", gpu::name_processes(&strangers)),
            "end them: what they compute is measured too",
        ));
    }
    if !found.is_empty() {
        return findings;
    }
    if let (Ok(observed), Ok(health)) = (gpu.observe().await, gpu.health().await) {
        let used: Vec<(u32, u64)> = observed
            .devices
            .iter()
            .filter(|device| device.graphics.is_empty())
            .filter_map(|device| Some((device.index, *device.used_bytes.as_ref().ok()?)))
            .collect();
        findings.extend(gpu::unseen(&used, &health));
    }
    findings
}

/// The devices against the plan, and how well they are.
pub(crate) async fn fit(plan: &Plan, gpu: &Gpu) -> Vec<Finding> {
    let Some(host) = gpu.host() else { return Vec::new() };
    gpu::fit(&plan.host, host, &gpu.health().await.unwrap_or_default())
}

/// Room for what `open` cells write.
///
/// # Errors
/// A finding that stops the run: there is too little.
pub(crate) fn disk<'a>(
    subject: &Subject<'_>,
    gpu: &Gpu,
    open: impl IntoIterator<Item = &'a Cell>,
) -> Result<Finding, Finding> {
    let takes = benchd_plan::estimate(
        subject.plan,
        subject.lanes,
        &Assumptions::default(),
        benchd_frameworks::pace,
    )
    .total;
    let expected = disk::expected(open, subject.lanes.len() as u64, gpu.uuids().len() as u64, takes);
    disk::check(subject.results, subject.logs, expected)
}

/// What servers run from and what they serve, their ports, and the host. `watch` takes a moment to see who computes.
pub(crate) async fn surroundings(subject: Subject<'_>, gpu: &Gpu, watch: bool) -> Vec<Finding> {
    let used = subject.used();
    // Nothing in reading `/proc` panics; should it, the host counts as not known.
    let host = tokio::task::spawn_blocking(move || machine::read(watch))
        .await
        .unwrap_or_default();
    let memory = models::Memory {
        gpus: gpu
            .host()
            .map(|host| {
                host.devices
                    .iter()
                    .map(|device| device.memory_total_bytes)
                    .collect()
            })
            .unwrap_or_default(),
        host_available: host.available_bytes,
    };
    let needs = machine::Needs {
        gpus: memory.gpus.len(),
        streams: subject.lanes.iter().map(most_streams).max().unwrap_or(1),
    };
    let mut findings = environments::look(subject.plan, subject.plan_path, &used, gpu.host()).await;
    findings.extend(models::look(
        subject.plan,
        subject.plan_path,
        subject.lanes,
        &memory,
    ));
    findings.extend(models::questions(subject.plan));
    findings.extend(others::ports(&used));
    findings.extend(machine::judge(&host, needs));
    findings
}
