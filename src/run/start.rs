//! The start of a run, up to its first lane: the machine is looked at, the run's folder is made (or found, to go
//! on with), what a dead benchd left is cleared.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    decide::signal_exit_code,
    delegation,
    display::Display,
    failure::{Context as _, Failure},
    journal::JournalHandle,
    signals::Signals,
    strangers::{Waited, wait_alone},
};
use crate::{
    check::{self, Finding, Severity, Subject, boot_id, host_info, known::Judged},
    env,
};
use benchd_core::record::{GpuProcess, LaneId, Redactor};
use benchd_host::{
    gpu::{self, Baseline, Gpu, HeldReason},
    process::{self, Cgroup, Lock, StopPolicy, Witnesses},
};
use benchd_journal::{
    Event, GpuBaseline, GpuHeld, GpuReleased, Journal, Note, RUN_INFO_VERSION, RunDir, RunInfo, RunStarted,
    RunState, ServerLife, ServerReaped, ServerStopping, State, Toolchain, write_atomic,
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
    /// The GPU before the first server.
    pub(super) baseline: Baseline,
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
pub(super) async fn begin(
    options: &RunOptions,
    signals: &Signals,
    display: &Display,
) -> Result<StartedRun, Failure> {
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
            strangers(&gpu, options, signals, display).await?;
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
    let mut left = Leftovers::default();
    let cleared = left
        .clear(&gpu, options, &state, delegated_cgroup.as_deref())
        .await;
    notes.append(&mut left.notes);
    if let Err(failure) = cleared {
        let journal = JournalHandle::start(journal, state, options.redactor.clone())
            .context("the journal's thread can't be started")?;
        append_all(&journal, left.events)?;
        return Err(failure);
    }
    let strangers = strangers(&gpu, options, signals, display).await?;
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
    append_all(&journal, left.events)?;
    for text in &notes {
        journal
            .append(Event::Note(Note {
                lane: None,
                text: text.clone(),
            }))
            .context("the journal can't be written")?;
    }
    let baseline = baseline(&gpu, &journal, &strangers).await?;
    // The size of an environment that was made by hand is added up from its files.
    let info = tokio::task::block_in_place(|| run_info(options, &dir, &journal, &gpu, &baseline));
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
        baseline,
        strangers,
        info,
        notes,
        unfit,
        delegated_cgroup,
        _locks: locks,
    })
}

fn append_all(journal: &JournalHandle, events: Vec<Event>) -> Result<(), Failure> {
    let written = events.into_iter().try_for_each(|event| journal.append(event));
    written.context("the journal can't be written")
}

/// Room for what is still to be measured; a note where it is tight.
fn check_disk(options: &RunOptions, gpu: &Gpu, state: &State) -> Result<Option<String>, Failure> {
    let open = options.lanes.iter().flat_map(|lane| {
        lane.cells
            .iter()
            .filter(|cell| state.stands(&lane.id, &cell.id).is_none())
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
        if state.is_finished() && !state.has_spoilt_cells() {
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
        if mine && (!state.is_finished() || state.has_spoilt_cells() || died_before_its_report(&dir)) {
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

/// What became of the servers that a dead benchd left: stopped, timed and proven like any other, and journalled once the
/// run has begun again.
#[derive(Debug, Default)]
struct Leftovers {
    events: Vec<Event>,
    notes: Vec<String>,
}

impl Leftovers {
    /// Ends what a dead benchd started and its journal knows of, nothing else, and waits until its memory is back.
    async fn clear(
        &mut self,
        gpu: &Gpu,
        options: &RunOptions,
        state: &State,
        delegated: Option<&Path>,
    ) -> Result<(), Failure> {
        let mut reaped = Vec::new();
        for (lane, server) in state.open_servers() {
            self.stop(lane, server, is_newest(state, lane, server), delegated)
                .await?;
            reaped.push((lane, server, Instant::now()));
        }
        // Also of servers whose end was seen, and whose memory's return was not.
        let unproven = state
            .lanes
            .iter()
            .flat_map(|(lane, known)| known.servers.iter().map(move |server| (lane, server)))
            .filter(|(_, server)| server.leader.is_some() && server.released.is_none());
        for (lane, server) in unproven {
            let since = reaped.iter().find(|(_, known, _)| std::ptr::eq(*known, server));
            let since = since.map_or_else(Instant::now, |(.., at)| *at);
            self.await_memory(gpu, options, state, lane, server, since)
                .await?;
        }
        Ok(())
    }

    async fn stop(
        &mut self,
        lane: &LaneId,
        server: &ServerLife,
        newest: bool,
        delegated: Option<&Path>,
    ) -> Result<(), Failure> {
        let witnesses = Witnesses {
            boot_id: Some(server.boot_id.clone()),
            token: Some(server.token.clone()),
            leader: server.leader.clone(),
            members: server.descendants.clone(),
            output_pipes: server.output_pipes.clone(),
            cgroup: delegated.map(|dir| Cgroup::dir_of(dir, &server.token)),
        };
        let policy = StopPolicy::with_grace(LEFTOVER_GRACE);
        let process::Cleared { report, suspects } =
            process::clear(&witnesses, &policy, &Default::default()).await;
        // The journal's events speak of a lane's newest server.
        if newest {
            self.events.push(Event::ServerStopping(ServerStopping {
                lane: lane.clone(),
                why: "orphaned".to_owned(),
            }));
            self.events.push(Event::ServerReaped(ServerReaped {
                lane: lane.clone(),
                stop_ms: millis(report.took),
                exit: "not known".to_owned(),
                killed: report.killed,
                swept: report.swept.clone(),
                stuck: report.stuck.iter().map(|stuck| stuck.identity.clone()).collect(),
            }));
        }
        if !report.found.is_empty() {
            let names: Vec<String> = report
                .found
                .iter()
                .map(|p| format!("{} ({})", p.pid, p.name))
                .collect();
            self.notes.push(format!(
                "cleared what was left of {lane}'s server in {:.1} s: {}",
                report.took.as_secs_f64(),
                names.join(", ")
            ));
        }
        for suspect in &suspects {
            self.notes.push(format!(
                "process {} ({}) looks like one of {lane}'s server but nothing proves it: left alone",
                suspect.pid, suspect.name
            ));
        }
        if report.stuck.is_empty() {
            return Ok(());
        }
        let stuck: Vec<String> = report.stuck.iter().map(ToString::to_string).collect();
        Err(Failure::unsafe_machine(format_args!(
            "what is left of {lane}'s server can't be ended: {}",
            stuck.join(", ")
        )))
    }

    /// Waits until the memory of a server whose end nobody saw is back: what it held may come back after it, and it may
    /// still be listed on the GPU for a while. `since` its last process was gone.
    async fn await_memory(
        &mut self,
        gpu: &Gpu,
        options: &RunOptions,
        state: &State,
        lane: &LaneId,
        server: &ServerLife,
        since: Instant,
    ) -> Result<(), Failure> {
        let Some(framework) = options.loaded.plan.frameworks.get(&lane.framework) else {
            return Ok(());
        };
        if state.baseline.is_none() && gpu.host().is_some() {
            return Ok(());
        }
        let newest = is_newest(state, lane, server);
        let known = server.leader.iter().chain(&server.descendants);
        let pids: Vec<i32> = known.map(|p| p.pid).collect();
        let baseline = state.baseline.as_ref().map(known_baseline).unwrap_or_default();
        let (tolerance, timeout) = (framework.release_tolerance_bytes, framework.release_timeout);
        let proven = gpu::prove_release(gpu, &pids, &baseline, tolerance, timeout).await;
        let held = match proven {
            Ok(proof) => {
                if newest {
                    self.events.push(Event::GpuReleased(GpuReleased {
                        lane: lane.clone(),
                        release_ms: millis(since.elapsed()),
                        used_bytes: proof.used_bytes,
                        baseline_bytes: proof.baseline_bytes,
                        strangers: proof.strangers,
                    }));
                }
                return Ok(());
            }
            Err(held) => held,
        };
        let text = format!(
            "after the end of {lane}'s earlier server: {held}\n  hint: {}",
            held.hint()
        );
        let failure = match held.reason {
            HeldReason::Strangers => Failure::machine(text),
            _ => Failure::unsafe_machine(text),
        };
        if newest {
            self.events.push(Event::GpuHeld(GpuHeld {
                lane: lane.clone(),
                waited_ms: millis(held.waited),
                used_bytes: held.used_bytes.iter().map(|used| used.unwrap_or(0)).collect(),
                baseline_bytes: held.baseline_bytes.clone(),
                holders: held.holders.clone(),
                reason: held.to_string(),
            }));
        }
        Err(failure)
    }
}

/// Whether this is the lane's newest server.
fn is_newest(state: &State, lane: &LaneId, server: &ServerLife) -> bool {
    let newest = state.lanes.get(lane).and_then(|lane| lane.servers.last());
    newest.is_some_and(|newest| std::ptr::eq(newest, server))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// From TERM to KILL for what a dead benchd left: its server has nothing to finish.
const LEFTOVER_GRACE: Duration = Duration::from_secs(10);

/// Processes already on the GPU. Where the plan wants it for itself they are refused: at once, for whoever starts a run
/// by hand looks on; after the plan's wait with `--resume`, by which systemd starts runs that nobody looks at.
async fn strangers(
    gpu: &Gpu,
    options: &RunOptions,
    signals: &Signals,
    display: &Display,
) -> Result<Vec<GpuProcess>, Failure> {
    let host = &options.loaded.plan.host;
    if host.exclusive && options.resume.is_some() {
        // What can't be asked is refused below.
        let look = async || {
            let found = gpu.processes().await.unwrap_or_default();
            Ok(check::attached::others(&options.loaded.plan, &found).0)
        };
        let stop = async {
            signals.clean().cancelled().await;
            let signal = signals.first().unwrap_or(libc::SIGTERM);
            Failure::machine("interrupted while waiting for the GPU").with_code(signal_exit_code(signal))
        };
        match wait_alone(host.stranger_wait, look, stop, display).await {
            Waited::Alone => {}
            Waited::Still(strangers) => return Err(Failure::machine(strangers)),
            Waited::Stopped(failure) => return Err(failure),
        }
    }
    check::gpu::alone(gpu.processes().await, &options.loaded.plan).map_err(refused)
}

/// The baseline of every release proof: the run's first look at the GPU, never one over leftovers.
async fn baseline(gpu: &Gpu, journal: &JournalHandle, strangers: &[GpuProcess]) -> Result<Baseline, Failure> {
    let Some(host) = gpu.host() else {
        return Ok(Baseline::default());
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
        return Ok(known_baseline(&known));
    }
    let used_bytes = gpu.used_bytes().await.map_err(Failure::machine)?;
    let seen = gpu.observe().await.map_err(Failure::machine)?;
    let first = GpuBaseline {
        host: host.clone(),
        used_bytes,
        strangers: strangers.to_vec(),
        graphics: Some(
            seen.devices
                .into_iter()
                .flat_map(|device| device.graphics)
                .collect(),
        ),
    };
    let baseline = known_baseline(&first);
    journal
        .append(Event::GpuBaseline(first))
        .context("the journal can't be written")?;
    Ok(baseline)
}

/// What the journal says of the GPU before the first server.
fn known_baseline(known: &GpuBaseline) -> Baseline {
    let graphics = known.graphics.iter().flatten();
    let only_there = graphics.filter(|process| known.strangers.iter().all(|other| other.pid != process.pid));
    Baseline {
        used_bytes: known.used_bytes.clone(),
        processes: known.strangers.iter().chain(only_there).cloned().collect(),
    }
}

fn run_info(
    options: &RunOptions,
    dir: &RunDir,
    journal: &JournalHandle,
    gpu: &Gpu,
    baseline: &Baseline,
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
        gpu_baseline_bytes: baseline.used_bytes.clone(),
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
