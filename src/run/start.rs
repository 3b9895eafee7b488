//! The start of a run, up to its first lane: the machine is looked at, the run's folder is made (or found, to go
//! on with), what a dead benchd left is cleared.

use std::path::{Path, PathBuf};

use super::{
    delegation,
    failure::{Context as _, Failure},
    journal::JournalHandle,
};
use crate::{
    check::{self, Finding, Severity, Subject, boot_id, host_info, known::Judged},
    env,
};
use benchd_core::record::{GpuProcess, LaneId, Redactor};
use benchd_host::{
    gpu::{self, Gpu},
    process::{self, Cgroup, Lock, StopPolicy, Witnesses},
};
use benchd_journal::{
    Event, GpuBaseline, Journal, Note, RUN_INFO_VERSION, RunDir, RunInfo, RunStarted, RunState, State,
    Toolchain, write_atomic,
};
use benchd_plan::{Lane, LoadedPlan};

#[derive(Debug)]
pub(crate) struct RunOptions {
    pub(crate) loaded: LoadedPlan,
    pub(crate) lanes: Vec<Lane>,
    /// Whether to go on with an earlier run: `Some("")` the newest unfinished one of this plan, else the one
    /// named.
    pub(crate) resume: Option<String>,
    pub(crate) results: PathBuf,
    pub(crate) logs: PathBuf,
    /// Whether the client is measured before the first lane.
    pub(crate) selfcheck: bool,
    /// Whether lanes that are known not to start are left out, instead of the run being refused.
    pub(crate) skip_unfit: bool,
    /// What is done with each server.
    pub(crate) purpose: Purpose,
    /// Takes secrets out of everything that is stored or shown.
    pub(crate) redactor: Redactor,
}

/// What is done with each server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its lane's cells are measured.
    Measure,
    /// It is asked one question and stopped again.
    Trial,
}

/// A run that has begun.
#[derive(Debug)]
pub(super) struct StartedRun {
    pub(super) dir: RunDir,
    pub(super) journal: JournalHandle,
    pub(super) gpu: Gpu,
    /// GPU memory before the first server, bytes, by device.
    pub(super) baseline_bytes: Vec<u64>,
    /// Processes that were on the GPU before the first server.
    pub(super) strangers: Vec<GpuProcess>,
    pub(super) info: RunInfo,
    /// What to tell people.
    pub(super) notes: Vec<String>,
    /// Lanes that are left out since they are known not to start, and why.
    pub(super) unfit: Vec<(LaneId, String)>,
    /// The delegated cgroup below which each server gets its own.
    pub(super) delegated_cgroup: Option<PathBuf>,
    _locks: Vec<Lock>,
}

/// Begins, or goes on with, a run.
///
/// # Errors
/// With the exit code that each calls for: the plan changed (2), the machine is not fit (3).
pub(super) async fn begin(options: &RunOptions) -> Result<StartedRun, Failure> {
    let plan = &options.loaded.plan;
    let earlier = find_earlier(options)?;
    let gpu = check::gpu::open(&plan.host.gpu).await.map_err(refused)?;
    let locks = lock_gpus(&gpu, &plan.name)?;
    let mut notes = Vec::new();
    notes.extend(doubts(check::fit(plan, &gpu).await)?);
    let before = check::before_a_run(&subject(options), &gpu).await;
    notes.extend(doubts(before.host)?);
    let Judged {
        findings,
        unfit,
        compiles,
    } = before.judged;
    notes.extend(known_issues(findings, options)?);
    notes.extend(before.told.into_iter().map(|finding| finding.text));
    let (dir, journal, state, resumed) = match earlier {
        Some(dir) => {
            let opened = Journal::open(&dir.journal()).map_err(Failure::machine)?;
            if let Some(torn) = &opened.replay.torn_tail {
                notes.push(torn.to_string());
            }
            let state = State::from_entries(&opened.replay.entries);
            notes.extend(check_disk(options, &gpu, &state)?);
            (dir, opened.journal, state, true)
        }
        None => {
            // Before anything is made: a refused run leaves no folder.
            strangers(&gpu, plan.host.exclusive).await?;
            notes.extend(check_disk(options, &gpu, &State::default())?);
            let dir = RunDir::create(
                &options.results,
                &options.logs,
                &plan.name,
                jiff::Timestamp::now(),
            )
            .context("the run's folder can't be made")?;
            let journal = Journal::create(&dir.journal()).map_err(Failure::machine)?;
            (dir, journal, State::default(), false)
        }
    };
    // Also where an earlier start died before it came to that.
    if state.starts == 0 {
        write_atomic(
            &dir.plan_yaml(),
            options.redactor.text(&options.loaded.text).as_bytes(),
        )
        .context("the plan can't be frozen")?;
    }

    let (delegated_cgroup, note) = delegation::enter();
    notes.extend(note);
    let cleared = clear_leftovers(&state, delegated_cgroup.as_deref()).await?;
    notes.extend(cleared);
    await_memory(&gpu, options, &state).await?;
    let strangers = strangers(&gpu, plan.host.exclusive).await?;
    // After the clearing: what a dead benchd left holds ports as well.
    notes.extend(doubts(check::surroundings(subject(options), &gpu, false).await)?);
    let journal = JournalHandle::start(journal, state, options.redactor.clone())
        .context("the journal's thread can't be started")?;
    journal
        .append(Event::RunStarted(RunStarted {
            run_id: dir.id().to_owned(),
            plan: plan.name.clone(),
            plan_sha256: options.loaded.sha256.clone(),
            benchd_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            boot_id: boot_id(),
            resumed,
            lanes: options
                .lanes
                .iter()
                .map(|lane| {
                    (
                        lane.id.clone(),
                        u32::try_from(lane.cells.len()).unwrap_or(u32::MAX),
                    )
                })
                .collect(),
        }))
        .context("the journal can't be written")?;
    for text in &notes {
        journal
            .append(Event::Note(Note {
                lane: None,
                text: text.clone(),
            }))
            .context("the journal can't be written")?;
    }
    let baseline_bytes = baseline(&gpu, &journal, &strangers).await?;
    // The size of an environment that was made by hand is added up from its files.
    let info = tokio::task::block_in_place(|| run_info(options, &dir, &journal, &gpu, &baseline_bytes));
    let info = RunInfo {
        toolchain: check::toolchain_of_this_machine().await,
        compiles,
        ..info
    };
    info.write(&dir.run_json()).context("run.json can't be written")?;
    Ok(StartedRun {
        dir,
        journal,
        gpu,
        baseline_bytes,
        strangers,
        info,
        notes,
        unfit,
        delegated_cgroup,
        _locks: locks,
    })
}

/// Room for what is still to be measured; a note where it is tight.
fn check_disk(options: &RunOptions, gpu: &Gpu, state: &State) -> Result<Option<String>, Failure> {
    let open = options.lanes.iter().flat_map(|lane| {
        lane.cells
            .iter()
            .filter(|cell| state.finished(&lane.id, &cell.id).is_none())
    });
    let found = check::disk(&subject(options), gpu, open).map_err(refused)?;
    Ok(note(&found))
}

/// What the doctor looks at before this run.
fn subject(options: &RunOptions) -> Subject<'_> {
    Subject {
        plan: &options.loaded.plan,
        plan_path: &options.loaded.path,
        lanes: &options.lanes,
        results: &options.results,
        logs: &options.logs,
    }
}

/// A finding that stops the run.
fn refused(finding: Finding) -> Failure {
    Failure::machine(finding)
}

/// What is doubtful, as notes.
///
/// # Errors
/// All findings that stop the run, together.
fn doubts(findings: Vec<Finding>) -> Result<Vec<String>, Failure> {
    let stops: Vec<String> = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Stop)
        .map(ToString::to_string)
        .collect();
    if stops.is_empty() {
        return Ok(findings.iter().filter_map(note).collect());
    }
    Err(Failure::machine(stops.join("\n")))
}

/// What is known of the lanes, as notes.
///
/// # Errors
/// Lanes that can't start, unless they are to be left out.
fn known_issues(findings: Vec<Finding>, options: &RunOptions) -> Result<Vec<String>, Failure> {
    if options.skip_unfit {
        return Ok(findings.iter().filter_map(note).collect());
    }
    doubts(findings).map_err(|failure| {
        let hint = check::known::skip_hint(&options.loaded.path);
        Failure::machine(format_args!("{}\n  hint: {hint}", failure.text))
    })
}

/// The note of a finding that is not as it should be.
fn note(finding: &Finding) -> Option<String> {
    if finding.severity > Severity::Warn {
        return None;
    }
    Some(match &finding.remedy {
        Some(remedy) => format!("{} ({remedy})", finding.text),
        None => finding.text.clone(),
    })
}

fn lock_gpus(gpu: &Gpu, plan: &str) -> Result<Vec<Lock>, Failure> {
    let holder = format!("pid {}, plan {plan}", std::process::id());
    gpu.uuids()
        .iter()
        .map(|uuid| Lock::gpu(uuid, &holder).map_err(Failure::machine))
        .collect()
}

/// The run to go on with: unfinished, of this plan, unchanged.
fn find_earlier(options: &RunOptions) -> Result<Option<RunDir>, Failure> {
    let Some(wanted) = &options.resume else {
        return Ok(None);
    };
    let read = |dir: &RunDir| {
        let replay = benchd_journal::replay(&dir.journal()).map_err(Failure::machine)?;
        Ok::<_, Failure>(State::from_entries(&replay.entries))
    };
    let unchanged = |dir: &RunDir, state: &State| {
        if state.plan_sha256 != options.loaded.sha256 && state.starts > 0 {
            return Err(Failure::plan(format_args!(
                "the plan changed since run {} began, so it can't go on with it\n  hint: its frozen plan is {}; \
                 restore it, or start a new run without --resume",
                dir.id(),
                dir.plan_yaml().display()
            )));
        }
        Ok(())
    };
    if !wanted.is_empty() {
        let dir = RunDir::find(&options.results, &options.logs, Some(wanted))
            .map_err(|error| Failure::plan(format_args!("there is no such run to go on with: {error}")))?;
        let state = read(&dir)?;
        if state.is_finished() {
            return Err(Failure::plan(format_args!(
                "run {} is finished: there is nothing to go on with",
                dir.id()
            )));
        }
        unchanged(&dir, &state)?;
        return Ok(Some(dir));
    }
    for dir in RunDir::list(&options.results, &options.logs).context("the runs can't be listed")? {
        let state = read(&dir)?;
        // A run that died before its first line was whole has no plan to compare.
        let mine = if state.starts == 0 {
            dir.is_named_for(&options.loaded.plan.name)
        } else {
            state.plan == options.loaded.plan.name
        };
        if mine && (!state.is_finished() || died_before_its_report(&dir)) {
            // A trial of another plan has nothing to go on with.
            if options.purpose == Purpose::Trial && state.plan_sha256 != options.loaded.sha256 {
                break;
            }
            unchanged(&dir, &state)?;
            return Ok(Some(dir));
        }
        if mine {
            break;
        }
    }
    // Died between its folder and its journal: nothing is in it, and the run begins anew.
    RunDir::remove_empty(&options.results, &options.loaded.plan.name)
        .context("the empty folder of a run that died at once can't be removed")?;
    Ok(None)
}

/// Whether a run that is finished by its journal was ended before its report was written: `run.json` is last.
fn died_before_its_report(dir: &RunDir) -> bool {
    RunInfo::read(&dir.run_json()).is_ok_and(|info| info.state == RunState::Running)
}

/// Ends what a dead benchd started and its journal knows of; nothing else.
async fn clear_leftovers(state: &State, delegated: Option<&Path>) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    for (lane, server) in state.open_servers() {
        let witnesses = Witnesses {
            boot_id: Some(server.boot_id.clone()),
            token: Some(server.token.clone()),
            leader: server.leader.clone(),
            members: server.descendants.clone(),
            output_pipes: server.output_pipes.clone(),
            cgroup: delegated.map(|dir| Cgroup::dir_of(dir, &server.token)),
        };
        let cleared = process::clear(
            &witnesses,
            &StopPolicy::with_grace(LEFTOVER_GRACE),
            &Default::default(),
        )
        .await;
        let names: Vec<String> = cleared
            .report
            .found
            .iter()
            .map(|p| format!("{} ({})", p.pid, p.name))
            .collect();
        if !names.is_empty() {
            notes.push(format!(
                "cleared what was left of {lane}'s server: {}",
                names.join(", ")
            ));
        }
        for suspect in &cleared.suspects {
            notes.push(format!(
                "process {} ({}) looks like one of {lane}'s server but nothing proves it: left alone",
                suspect.pid, suspect.name
            ));
        }
        if !cleared.report.stuck.is_empty() {
            let stuck: Vec<String> = cleared.report.stuck.iter().map(ToString::to_string).collect();
            return Err(Failure::unsafe_machine(format_args!(
                "what is left of {lane}'s server can't be ended: {}",
                stuck.join(", ")
            )));
        }
    }
    Ok(notes)
}

/// Waits until the memory of servers whose end nobody saw is back: what they held may come back after them, and
/// they may still be listed on the GPU for a while.
async fn await_memory(gpu: &Gpu, options: &RunOptions, state: &State) -> Result<(), Failure> {
    let Some(baseline) = &state.baseline else {
        return Ok(());
    };
    let unproven = state
        .lanes
        .iter()
        .flat_map(|(lane, known)| known.servers.iter().map(move |server| (lane, server)))
        .filter(|(_, server)| server.leader.is_some() && server.released.is_none());
    for (lane, server) in unproven {
        let Some(framework) = options.loaded.plan.frameworks.get(&lane.framework) else {
            continue;
        };
        let pids: Vec<i32> = server
            .leader
            .iter()
            .chain(&server.descendants)
            .map(|p| p.pid)
            .collect();
        gpu::prove_release(
            gpu,
            &pids,
            &baseline.used_bytes,
            framework.release_tolerance_bytes,
            framework.release_timeout,
        )
        .await
        .map_err(|held| {
            let hint = held.hint();
            Failure::unsafe_machine(format_args!(
                "after the end of {lane}'s earlier server: {held}\n  hint: {hint}"
            ))
        })?;
    }
    Ok(())
}

/// From TERM to KILL for what a dead benchd left: its server has nothing to finish.
const LEFTOVER_GRACE: std::time::Duration = std::time::Duration::from_secs(10);

/// Processes already on the GPU; refused where the plan wants it for itself.
async fn strangers(gpu: &Gpu, exclusive: bool) -> Result<Vec<GpuProcess>, Failure> {
    check::gpu::alone(gpu.processes().await, exclusive).map_err(refused)
}

/// The baseline of every release proof: the run's first look at the GPU, never one over leftovers.
async fn baseline(gpu: &Gpu, journal: &JournalHandle, strangers: &[GpuProcess]) -> Result<Vec<u64>, Failure> {
    let Some(host) = gpu.host() else {
        return Ok(Vec::new());
    };
    let known = journal.state().baseline.clone();
    if let Some(known) = known {
        let same = known
            .host
            .devices
            .iter()
            .map(|d| &d.uuid)
            .eq(host.devices.iter().map(|d| &d.uuid));
        if !same {
            return Err(Failure::machine(format_args!(
                "the run began on other devices ({}); its baseline proves nothing here",
                known
                    .host
                    .devices
                    .iter()
                    .map(|d| d.uuid.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            )));
        }
        return Ok(known.used_bytes);
    }
    let used_bytes = gpu.used_bytes().await.map_err(Failure::machine)?;
    journal
        .append(Event::GpuBaseline(GpuBaseline {
            host: host.clone(),
            used_bytes: used_bytes.clone(),
            strangers: strangers.to_vec(),
        }))
        .context("the journal can't be written")?;
    Ok(used_bytes)
}

fn run_info(
    options: &RunOptions,
    dir: &RunDir,
    journal: &JournalHandle,
    gpu: &Gpu,
    baseline_bytes: &[u64],
) -> RunInfo {
    let earlier = RunInfo::read(&dir.run_json()).ok();
    let state = journal.state();
    RunInfo {
        v: RUN_INFO_VERSION,
        run_id: dir.id().to_owned(),
        plan: options.loaded.plan.name.clone(),
        plan_path: options.loaded.path.display().to_string(),
        plan_sha256: options.loaded.sha256.clone(),
        benchd_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_unix_us: state.started_unix_us,
        updated_unix_us: state.last_unix_us,
        logs: dir.logs().display().to_string(),
        host: host_info(),
        gpu: gpu.host().cloned(),
        gpu_baseline_bytes: baseline_bytes.to_vec(),
        versions: earlier
            .as_ref()
            .map(|info| info.versions.clone())
            .unwrap_or_default(),
        environments: options
            .loaded
            .plan
            .frameworks
            .values()
            .filter_map(|framework| Some((framework.name.clone(), env::describe(framework)?)))
            .collect(),
        toolchain: Toolchain::default(),
        compiles: [].into(),
        client: earlier.and_then(|info| info.client),
        state: RunState::Running,
    }
}
