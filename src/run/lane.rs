//! One lane: a server's whole life, with its cells in the middle. Whatever happens on the way, the server is
//! stopped, its end is journalled, and its GPU memory is proven to be back.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    Begun, Display, Halt, Heart, Keeper, Remaining, Signals, Tone, cells, compiled,
    gpu_log::GpuLog,
    lane_end::LaneEnd,
    lanes::say,
    opening::LaneCells,
    own_counters::{log_length, log_since},
    prepare::{ensure_alone, ensure_environment},
    readiness::{Completion, ready_plan, server_settings, target},
};
use crate::{
    check::gpu::name_processes,
    server::{
        Attached, EventSink, Failed, Interrupt, Launched, Prepared, Ready, Reaped, ReleaseHeld, ReleaseProof,
        StopWhy, Watch,
    },
};
use benchd_core::record::{LoadFigures, Redactor};
use benchd_frameworks::{self, Adapter, Context, KV_CAPACITY, VisibleGpu, load_figures};
use benchd_host::{
    gpu::{self, Gpu, Placement},
    process::LogSettings,
};
use benchd_journal::{Event, GpuFile, LaneEnded, LaneOutcome, LaneStarted};
use benchd_load::LoadEngine;
use benchd_plan::{
    Estimate, Framework, Lane, Model, Plan, Secrets, Source, longest_prompt_tokens, most_streams,
};
use benchd_prompts::Calibration;

/// What all lanes of a run share.
pub(super) struct Shared<'a> {
    pub(super) plan: &'a Plan,
    pub(super) plan_path: &'a std::path::Path,
    pub(super) lanes: &'a [Lane],
    pub(super) run: &'a Begun,
    pub(super) engine: &'a LoadEngine,
    pub(super) signals: &'a Signals,
    pub(super) display: &'a Display,
    /// By model: how the texts of exact length were found.
    pub(super) calibrations: HashMap<String, Calibration>,
    pub(super) remaining: Remaining,
    pub(super) estimate: Estimate,
    pub(super) secrets: &'a Secrets,
    pub(super) redactor: &'a Redactor,
}

impl Shared<'_> {
    /// What feeds the watchdog.
    pub(super) fn heart(&self) -> &Heart {
        self.display.systemd().heart()
    }
}

/// Events go to the journal's owner. An append waits for the disk: what finds a server again must be there
/// before the server is.
struct Sink(Keeper);

impl EventSink for Sink {
    fn event(&self, event: Event) {
        // The keeper remembers the failure and cancels `failed()`, on which every cell ends.
        if let Err(error) = self.0.append(event) {
            tracing::error!(%error, "an event could not be kept");
        }
    }
}

/// Runs one attempt of a lane.
pub(super) async fn run(shared: &mut Shared<'_>, lane: &Lane, index: usize, attempt: u32) -> LaneEnd {
    let started = Event::LaneStarted(LaneStarted {
        lane: lane.id.clone(),
        attempt,
    });
    if let Err(error) = shared.run.keeper.append(started) {
        return LaneEnd::disk(error);
    }
    let mut end = drive(shared, lane, index, attempt).await;
    let ended = Event::LaneEnded(LaneEnded {
        lane: lane.id.clone(),
        attempt,
        outcome: end.outcome,
        stage: (!end.stage.is_empty()).then(|| end.stage.to_owned()),
        reason: end.reason.clone(),
        log_tail: end.log_tail.clone(),
        by_machine: end.by_machine,
    });
    if let Err(error) = shared.run.keeper.append(ended)
        && end.halt.is_none()
    {
        end.halt = Some(Halt::Disk(error.to_string()));
    }
    end
}

async fn drive(shared: &mut Shared<'_>, lane: &Lane, index: usize, attempt: u32) -> LaneEnd {
    let plan = shared.plan;
    let (Some(framework), Some(model)) = (
        plan.frameworks.get(&lane.id.framework),
        plan.models.get(&lane.id.model),
    ) else {
        return LaneEnd::failed("prepare", "the plan names no such framework or model");
    };
    if let Err(end) = ensure_environment(shared, framework, model).await {
        return end;
    }
    if let Err(end) = ensure_alone(shared).await {
        return end;
    }
    let context = Context {
        longest_prompt_tokens: longest_prompt_tokens(shared.lanes, &lane.id.model),
        gpus: shared
            .run
            .gpu
            .host()
            .map(|host| host.devices.iter().map(VisibleGpu::from).collect())
            .unwrap_or_default(),
        max_concurrency: most_streams(lane),
        work_dir: shared.run.dir.logs().to_owned(),
    };
    let adapter = match benchd_frameworks::adapter(framework, model, &context) {
        Ok(adapter) => adapter,
        Err(error) => return LaneEnd::failed("prepare", error.to_string()),
    };
    for note in adapter.notes() {
        tracing::info!(lane = %lane.id, "{note}");
    }
    let gpu_file = match GpuFile::open_append(&shared.run.dir.gpu(&lane.id)) {
        Ok((file, _)) => file,
        Err(error) => return LaneEnd::disk(error),
    };
    let gpu_log = match GpuLog::start(&shared.run.gpu, gpu_file, &shared.run.strangers) {
        Ok(log) => log,
        Err(error) => return LaneEnd::failed("prepare", error.to_string()),
    };
    let work = LaneWork {
        shared,
        lane,
        index,
        attempt,
        framework,
        model,
        adapter: &*adapter,
        gpu_log: &gpu_log,
        log_from: 0,
    };
    let mut end = match &framework.source {
        Source::Url(url) => attached(work, url).await,
        Source::Venv(_) | Source::Binary(_) | Source::Command { .. } => launched(work).await,
    };
    match gpu_log.stop().await {
        Ok(report) => tracing::info!(lane = %lane.id, ?report, "GPU sampling stopped"),
        Err(error) if end.halt.is_none() => end = LaneEnd::disk(error),
        Err(error) => tracing::error!(%error, "GPU samples were lost"),
    }
    end
}

/// What the parts of one lane attempt need.
pub(super) struct LaneWork<'a, 'r> {
    pub(super) shared: &'a mut Shared<'r>,
    pub(super) lane: &'a Lane,
    pub(super) index: usize,
    pub(super) attempt: u32,
    pub(super) framework: &'a Framework,
    pub(super) model: &'a Model,
    pub(super) adapter: &'a dyn Adapter,
    pub(super) gpu_log: &'a GpuLog,
    /// Where the lines of the server that is launched now begin in its log, bytes.
    pub(super) log_from: u64,
}

/// What a bounded wait may take beyond its own limit before it counts as a hang.
pub(super) const HANG_MARGIN: Duration = Duration::from_secs(60);

/// A server that benchd launches.
async fn launched(mut work: LaneWork<'_, '_>) -> LaneEnd {
    let sink: Arc<dyn EventSink> = Arc::new(Sink(work.shared.run.keeper.clone()));
    let Some(launch) = work.adapter.launch() else {
        return LaneEnd::failed("prepare", "there is no command to launch this server");
    };
    let log_path = work.shared.run.dir.server_log(&work.lane.id);
    work.log_from = log_length(&log_path);
    let log = LogSettings {
        redactor: work.shared.redactor.clone(),
        ..LogSettings::new(log_path)
    };
    let secrets = work.shared.secrets;
    let settings = server_settings(
        &work.lane.id,
        work.framework,
        work.adapter,
        &launch,
        log,
        work.shared.run.delegated_cgroup.clone(),
        |variable| secrets.is_secret_env(&work.lane.id.framework, variable),
    );
    let framework = work.framework;
    let stop_limit = framework.stop_grace + HANG_MARGIN;
    let caches = compiled::Before::look(&work);
    let launched = match Prepared::new(settings, sink).and_then(Prepared::launch) {
        Ok(launched) => launched,
        Err(failed) => return LaneEnd::of_server(&failed),
    };
    if let Some(ours) = work.shared.run.gpu.ours() {
        ours.set([launched.leader().pid]);
    }
    work.shared.display.status(format!(
        "lane {}  starting (pid {})",
        work.lane.id,
        launched.leader().pid
    ));
    let starting = wait_ready(&work, launched);
    let start_limit = framework.start_timeout + stop_limit;
    let (end, reaped) = match work.shared.heart().during(start_limit, starting).await {
        Ok(ready) => {
            say(
                work.shared.display,
                Tone::Plain,
                &format!("  ready after {:.1} s", ready.ready_after().as_secs_f64()),
            );
            let end = serve(&mut work, &ready, caches).await;
            let why = match end.outcome {
                LaneOutcome::Finished => StopWhy::Finished,
                LaneOutcome::Failed => StopWhy::Failed,
                LaneOutcome::Interrupted => StopWhy::Interrupted,
            };
            let end = with_tail(end, &ready);
            work.shared
                .display
                .status(format!("lane {}  stopping", work.lane.id));
            let stopped = ready.stop(why, work.shared.signals.at_once());
            (end, Some(work.shared.heart().during(stop_limit, stopped).await))
        }
        Err(mut failed) => {
            let reaped = failed.reaped.take().map(|reaped| *reaped);
            (LaneEnd::of_server(&failed), reaped)
        }
    };
    match reaped {
        Some(reaped) => {
            let proven = prove_release(&work, reaped, end);
            let limit = framework.release_timeout + HANG_MARGIN;
            work.shared.heart().during(limit, proven).await
        }
        None => end,
    }
}

fn with_tail(end: LaneEnd, ready: &Ready) -> LaneEnd {
    if end.outcome == LaneOutcome::Failed && end.log_tail.is_empty() {
        return LaneEnd {
            log_tail: ready.log_tail(),
            ..end
        };
    }
    end
}

async fn wait_ready(work: &LaneWork<'_, '_>, launched: Launched) -> Result<Ready, Box<Failed>> {
    let signals = work.shared.signals;
    let interrupt = Interrupt {
        stop: signals.clean().clone(),
        now: signals.at_once().clone(),
    };
    let prepared = async {
        // May read a whole GGUF file.
        let steps =
            tokio::task::block_in_place(|| work.adapter.prepare_calls()).map_err(|e| e.to_string())?;
        let target = target(work.adapter.endpoint(), work.adapter.chat_path())
            .await
            .map_err(|e| e.to_string())?;
        Ok::<_, String>((steps, target))
    }
    .await;
    let (steps, target) = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => {
            let reaped = launched.stop(StopWhy::Failed, &interrupt.now).await;
            return Err(Box::new(Failed::while_starting(reason, reaped)));
        }
    };
    let plan = ready_plan(work.adapter, steps, &work.shared.plan.request);
    let completion = Completion::ready(
        work.adapter,
        target,
        work.model.reasoning_effort,
        signals.clean().clone(),
    );
    launched
        .wait_ready(&plan, &completion, &interrupt)
        .await
        .map_err(Box::new)
}

/// What is done with a server that answers.
async fn serve(work: &mut LaneWork<'_, '_>, ready: &Ready, caches: Option<compiled::Before>) -> LaneEnd {
    // Before the warm-up, which may compile more.
    let caches = caches.map(|before| before.after(work));
    let processes: Vec<i32> = ready.processes().iter().map(|process| process.pid).collect();
    if let Some(ours) = work.shared.run.gpu.ours() {
        ours.set(processes.iter().copied());
    }
    match work.shared.run.gpu.devices_of(&processes).await {
        Ok(Some(Placement::Astray(astray))) => {
            return LaneEnd::failed(
                "ready",
                format!(
                    "the server is on a device that the plan did not choose: {}\n  hint: does something in its \
                     arguments or environment override CUDA_VISIBLE_DEVICES?",
                    name_processes(&astray)
                ),
            );
        }
        Ok(Some(Placement::NotListed { why })) => tracing::warn!(lane = %work.lane.id, "{why}"),
        Ok(Some(Placement::OnChosen(_)) | None) => {}
        Err(error) => tracing::warn!(lane = %work.lane.id, %error, "where the server sits can't be told"),
    }
    let _pids = FollowPids::start(work.shared.run.gpu.clone(), ready.watch());
    let control = ready.control();
    let answer = ready.answer().clone();
    let mut cells = match LaneCells::begin(work, control, answer, Some(ready.watch())).await {
        Ok(cells) => cells,
        Err(end) => return blame_the_dead(end, &ready.watch()).await,
    };
    let used = gpu_used(work).await;
    let load = figures_of_load(work);
    let mut facts = cells.facts().clone();
    if let Some(tokens) = load.as_ref().and_then(|load| load.kv_cache_tokens) {
        // What vLLM's API gives for it (blocks times their size) counts a model with sliding windows twice.
        facts.insert(KV_CAPACITY.to_owned(), tokens.to_string());
    }
    ready.announce(facts, cells.template_tokens(), used, load, caches);
    cells::run(work, &mut cells).await
}

/// What the server wrote of its memory and of the loading since its launch; by now it has answered requests, so these
/// lines lie on the disk.
fn figures_of_load(work: &LaneWork<'_, '_>) -> Option<LoadFigures> {
    let log = work.shared.run.dir.server_log(&work.lane.id);
    match tokio::task::block_in_place(|| log_since(&log, work.log_from)) {
        Ok(Some(lines)) => Some(load_figures(&lines)),
        Ok(None) => None,
        Err(error) => {
            tracing::info!(%error, log = %log.display(), "the server's log can't be read for its figures");
            None
        }
    }
}

/// How long the end of a server may take to be noticed after its connections broke.
const DEATH_NOTICE: Duration = Duration::from_millis(500);

/// A failure before the first cell is the server's end where it has ended: connections that are refused fail
/// faster than that is noticed, and say less.
async fn blame_the_dead(end: LaneEnd, watch: &Watch) -> LaneEnd {
    if end.outcome != LaneOutcome::Failed || end.halt.is_some() {
        return end;
    }
    match tokio::time::timeout(DEATH_NOTICE, watch.ended()).await {
        Ok(how) => {
            let reason = end.reason.unwrap_or_default();
            LaneEnd::failed(end.stage, format!("the server ended: {how}\n{reason}"))
        }
        Err(_) => end,
    }
}

/// GPU memory in use now, all chosen devices together, bytes.
async fn gpu_used(work: &LaneWork<'_, '_>) -> Option<u64> {
    let used = work.shared.run.gpu.used_bytes().await.ok()?;
    (!used.is_empty()).then(|| used.iter().sum())
}

/// How often the server's process ids are told to the GPU room.
const PIDS_PERIOD: Duration = Duration::from_secs(2);

/// Keeps the GPU room's list of the server's processes up to date, until dropped.
struct FollowPids(tokio::task::JoinHandle<()>);

impl FollowPids {
    fn start(gpu: Gpu, watch: Watch) -> Self {
        Self(tokio::spawn(async move {
            let Some(ours) = gpu.ours() else { return };
            loop {
                ours.set(watch.processes().iter().map(|process| process.pid));
                tokio::time::sleep(PIDS_PERIOD).await;
            }
        }))
    }
}

impl Drop for FollowPids {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A server that someone else runs.
async fn attached(mut work: LaneWork<'_, '_>, url: &str) -> LaneEnd {
    let signals = work.shared.signals;
    let interrupt = Interrupt {
        stop: signals.clean().clone(),
        now: signals.at_once().clone(),
    };
    let target = match target(work.adapter.endpoint(), work.adapter.chat_path()).await {
        Ok(target) => target,
        Err(error) => return LaneEnd::failed("prepare", format!("{url}: {error}")),
    };
    let completion = Completion::ready(
        work.adapter,
        target,
        work.model.reasoning_effort,
        signals.clean().clone(),
    );
    let plan = ready_plan(work.adapter, Vec::new(), &work.shared.plan.request);
    let sink = Sink(work.shared.run.keeper.clone());
    let waiting = Attached::wait_ready(
        work.lane.id.clone(),
        url,
        &plan,
        &completion,
        work.framework.start_timeout,
        &interrupt,
        &sink,
    );
    let limit = work.framework.start_timeout + HANG_MARGIN;
    let attached = match work.shared.heart().during(limit, waiting).await {
        Ok(attached) => attached,
        Err(failed) => return LaneEnd::of_server(&failed),
    };
    let mut cells = match LaneCells::begin(&mut work, attached.control(), attached.answer.clone(), None).await
    {
        Ok(cells) => cells,
        Err(end) => return end,
    };
    let used = gpu_used(&work).await;
    attached.announce(cells.facts().clone(), cells.template_tokens(), used, &sink);
    cells::run(&mut work, &mut cells).await
}

/// Waits until the memory is back. What holds it is named, and the run stops.
async fn prove_release(work: &LaneWork<'_, '_>, reaped: Reaped, end: LaneEnd) -> LaneEnd {
    let run = work.shared.run;
    let framework = work.framework;
    work.shared
        .display
        .status(format!("lane {}  waiting for the GPU memory", work.lane.id));
    let proven = reaped
        .prove_release(async |pids: Vec<i32>| {
            gpu::prove_release(
                &run.gpu,
                &pids,
                &run.baseline_bytes,
                framework.release_tolerance_bytes,
                framework.release_timeout,
            )
            .await
            .map(|proof| ReleaseProof {
                used_bytes: proof.used_bytes,
                baseline_bytes: proof.baseline_bytes,
            })
            .map_err(|held| ReleaseHeld {
                waited: held.waited,
                used_bytes: held.used_bytes.iter().map(|used| used.unwrap_or(0)).collect(),
                baseline_bytes: held.baseline_bytes.clone(),
                holders: held.holders.clone(),
                reason: format!("{held}\n  hint: {}", held.hint()),
            })
        })
        .await;
    if let Some(ours) = run.gpu.ours() {
        ours.set([]);
    }
    match proven {
        Ok(released) => {
            let reaped = &released.reaped;
            let how = if reaped.killed { "killed" } else { "stopped" };
            let memory = if run.gpu.host().is_some() {
                format!(
                    ", GPU memory back after {:.2} s",
                    released.release_took.as_secs_f64()
                )
            } else {
                String::new()
            };
            say(
                work.shared.display,
                Tone::Plain,
                &format!("  {how} in {:.1} s{memory}", reaped.stop_took.as_secs_f64()),
            );
            end
        }
        Err((_, held)) => LaneEnd {
            outcome: LaneOutcome::Failed,
            stage: "release",
            reason: Some(held.reason.clone()),
            by_machine: end.by_machine || end.outcome != LaneOutcome::Failed,
            log_tail: end.log_tail,
            halt: Some(Halt::Unsafe(format!("lane {}: {}", work.lane.id, held.reason))),
        },
    }
}
