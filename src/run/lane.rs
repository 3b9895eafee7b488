//! One lane: a server's whole life, with its cells in the middle. Whatever happens on the way, the server is
//! stopped, its end is journalled, and its GPU memory is proven to be back.

use std::{sync::Arc, time::Duration};

use super::{
    attempt::LaneAttempt,
    calibrations::Calibrations,
    cells,
    compile_caches::CachesBefore,
    decide::Halt,
    display::Display,
    facts,
    gpu_log::GpuLog,
    lane_end::LaneEnd,
    lines::{Line, Status},
    preconditions::{ensure_alone, ensure_environment},
    probe::Completion,
    remaining::Remaining,
    server_gpu::{FollowPids, ensure_on_chosen, prove_release, used_bytes},
    server_log::ServerLog,
    session::{MeasureContext, Session},
    signals::Signals,
    start::{Purpose, RunOptions, StartedRun},
};
use crate::server::{Attached, EventSink, Failed, Launched, Prepared, Ready, StopWhy, Watch};
use benchd_frameworks::{Context, KV_CAPACITY, VisibleGpu, load_figures};
use benchd_host::process::LogSettings;
use benchd_journal::{Event, GpuFile, LaneEnded, LaneOutcome, LaneStarted};
use benchd_load::LoadEngine;
use benchd_plan::{Source, longest_prompt_tokens, most_streams};

/// Runs lanes, one at a time. Each step is given what it needs of this.
pub(super) struct LaneRunner<'a> {
    pub(super) options: &'a RunOptions,
    pub(super) run: &'a StartedRun,
    pub(super) engine: &'a LoadEngine,
    pub(super) signals: &'a Signals,
    pub(super) display: &'a Display,
    pub(super) calibrations: Calibrations,
    pub(super) remaining: Remaining,
}

impl<'a> LaneRunner<'a> {
    /// Runs one attempt of the lane of this index.
    pub(super) async fn run(&mut self, index: usize, attempt: u32) -> LaneEnd {
        let lane = &self.options.lanes[index].id;
        let journal = &self.run.journal;
        let started = Event::LaneStarted(LaneStarted {
            lane: lane.clone(),
            attempt,
        });
        if let Err(error) = journal.append(started) {
            return LaneEnd::disk(error);
        }
        let mut end = match self.drive(index, attempt).await {
            Ok(end) | Err(end) => end,
        };
        let ended = Event::LaneEnded(LaneEnded {
            lane: lane.clone(),
            attempt,
            outcome: end.outcome,
            stage: (!end.stage.is_empty()).then(|| end.stage.to_owned()),
            reason: end.reason.clone(),
            log_tail: end.log_tail.clone(),
            by_machine: end.by_machine,
        });
        if let Err(error) = journal.append(ended)
            && end.halt.is_none()
        {
            end.halt = Some(Halt::Disk(error.to_string()));
        }
        end
    }

    async fn drive(&mut self, index: usize, number: u32) -> Result<LaneEnd, LaneEnd> {
        let (options, run) = (self.options, self.run);
        let (plan, lanes) = (&options.loaded.plan, &options.lanes);
        let lane = &lanes[index];
        let (Some(framework), Some(model)) = (
            plan.frameworks.get(&lane.id.framework),
            plan.models.get(&lane.id.model),
        ) else {
            return Err(LaneEnd::failed(
                "prepare",
                "the plan names no such framework or model",
            ));
        };
        if let Some((_, why)) = run.unfit.iter().find(|(id, _)| *id == lane.id) {
            return Err(LaneEnd::failed("prepare", format!("left out: {why}")));
        }
        let plan_path = &options.loaded.path;
        ensure_environment(framework, model, plan_path, self.signals, self.display).await?;
        ensure_alone(&run.gpu, plan.host.exclusive, self.display).await?;
        let prepare = |error: &dyn std::fmt::Display| LaneEnd::failed("prepare", error.to_string());
        let context = Context {
            longest_prompt_tokens: longest_prompt_tokens(lanes, &lane.id.model),
            gpus: run
                .gpu
                .host()
                .map(|host| host.devices.iter().map(VisibleGpu::from).collect())
                .unwrap_or_default(),
            max_concurrency: most_streams(lane),
            work_dir: run.dir.logs().to_owned(),
        };
        let adapter =
            benchd_frameworks::adapter(framework, model, &context).map_err(|error| prepare(&error))?;
        for note in adapter.notes() {
            tracing::info!(lane = %lane.id, "{note}");
        }
        let (gpu_file, _) = GpuFile::open_append(&run.dir.gpu(&lane.id)).map_err(LaneEnd::disk)?;
        let gpu_log = GpuLog::start(&run.gpu, gpu_file, &run.strangers).map_err(|error| prepare(&error))?;
        let attempt = LaneAttempt {
            lanes,
            index,
            lane,
            number,
            framework,
            model,
            request: &plan.request,
            quality: plan.quality.as_ref(),
            adapter: &*adapter,
        };
        let mut end = match &framework.source {
            Source::Url(url) => self.attached(&attempt, &gpu_log, url).await,
            Source::Venv(_) | Source::Binary(_) | Source::Command { .. } => {
                self.launched(&attempt, &gpu_log).await
            }
        };
        match gpu_log.stop().await {
            Ok(report) => tracing::info!(lane = %lane.id, ?report, "GPU sampling stopped"),
            Err(error) if end.halt.is_none() => end = LaneEnd::disk(error),
            Err(error) => tracing::error!(%error, "GPU samples were lost"),
        }
        Ok(end)
    }

    fn measure_context<'c>(&self, gpu_log: &'c GpuLog, server: Option<Watch>) -> MeasureContext<'c>
    where
        'a: 'c,
    {
        MeasureContext {
            dir: &self.run.dir,
            journal: &self.run.journal,
            signals: self.signals,
            gpu_log,
            engine: self.engine,
            redactor: &self.options.redactor,
            display: self.display,
            server,
        }
    }

    /// A server that benchd launches.
    async fn launched(&mut self, attempt: &LaneAttempt<'_>, gpu_log: &GpuLog) -> LaneEnd {
        let (run, display) = (self.run, self.display);
        let (framework, lane) = (attempt.framework, &attempt.lane.id);
        let Some(launch) = attempt.adapter.launch() else {
            return LaneEnd::failed("prepare", "there is no command to launch this server");
        };
        let log = ServerLog::from_now(run.dir.server_log(lane));
        let settings = attempt.server_settings(
            launch,
            LogSettings {
                redactor: self.options.redactor.clone(),
                ..LogSettings::new(log.path().to_owned())
            },
            run.delegated_cgroup.clone(),
            &self.options.loaded.secrets,
        );
        let caches = CachesBefore::look(attempt.adapter);
        let sink: Arc<dyn EventSink> = Arc::new(run.journal.clone());
        let launched = match Prepared::new(settings, sink).and_then(Prepared::launch) {
            Ok(launched) => launched,
            Err(failed) => return LaneEnd::of_server(&failed),
        };
        let pid = launched.leader().pid;
        if let Some(ours) = run.gpu.ours() {
            ours.set([pid]);
        }
        display.status(&Status::Starting { lane, pid });
        let starting = wait_ready(attempt, launched, self.signals);
        let limit = framework.start_timeout + framework.stop_grace;
        let ready = match display.watchdog().wait(limit, starting).await {
            Ok(ready) => ready,
            Err(mut failed) => {
                let end = LaneEnd::of_server(&failed);
                return match failed.reaped.take() {
                    Some(reaped) => {
                        prove_release(attempt, &run.gpu, &run.baseline_bytes, *reaped, end, display).await
                    }
                    None => end,
                };
            }
        };
        display.say(&Line::ServerReady(ready.ready_after()));
        let mut end = match self.serve(attempt, gpu_log, &ready, caches, &log).await {
            Ok(end) | Err(end) => end,
        };
        let why = match end.outcome {
            LaneOutcome::Finished => StopWhy::Finished,
            LaneOutcome::Failed => StopWhy::Failed,
            LaneOutcome::Interrupted => StopWhy::Interrupted,
        };
        if end.outcome == LaneOutcome::Failed && end.log_tail.is_empty() {
            end.log_tail = ready.log_tail();
        }
        display.status(&Status::Stopping(lane));
        let stopped = ready.stop(why, self.signals.at_once());
        let reaped = display.watchdog().wait(framework.stop_grace, stopped).await;
        prove_release(attempt, &run.gpu, &run.baseline_bytes, reaped, end, display).await
    }

    /// What is done with a launched server that answers; `log` is its log since the launch.
    async fn serve(
        &mut self,
        attempt: &LaneAttempt<'_>,
        gpu_log: &GpuLog,
        ready: &Ready,
        caches: Option<CachesBefore>,
        log: &ServerLog,
    ) -> Result<LaneEnd, LaneEnd> {
        let gpu = &self.run.gpu;
        // Before the warm-up, which may compile more.
        let caches = caches.map(|before| before.after(attempt.adapter, log));
        let server = ready.watch();
        ensure_on_chosen(gpu, &attempt.lane.id, &server).await?;
        let _pids = FollowPids::start(gpu.clone(), server.clone());
        if self.options.purpose == Purpose::Trial {
            let said = log.since();
            let watchdog = self.display.watchdog();
            let facts = facts::ask(
                attempt,
                &ready.control(),
                watchdog,
                said.as_deref().unwrap_or_default(),
            )
            .await;
            let load = said.as_deref().map(load_figures);
            let used = used_bytes(gpu).await;
            ready.announce(facts.values, facts.precision, None, used, load, caches);
            return Ok(LaneEnd::finished());
        }
        let context = self.measure_context(gpu_log, Some(server.clone()));
        let said = log.since().unwrap_or_default();
        let answer = (ready.answer().clone(), said.as_str());
        let opened = Session::open(attempt, context, ready.control(), answer, &mut self.calibrations).await;
        let mut session = match opened {
            Ok(session) => session,
            Err(end) => return Err(blame_the_dead(end, &server).await),
        };
        let used = used_bytes(gpu).await;
        // By now it has answered requests, so what it wrote of its memory and its loading lies on the disk.
        let load = log.since().map(|lines| load_figures(&lines));
        let mut facts = session.facts.values.clone();
        if let Some(tokens) = load.as_ref().and_then(|load| load.kv_cache_tokens) {
            // What vLLM's API gives for it (blocks times their size) counts a model with sliding windows twice.
            facts.insert(KV_CAPACITY.to_owned(), tokens.to_string());
        }
        let precision = session.facts.precision.clone();
        ready.announce(facts, precision, session.template_tokens(), used, load, caches);
        Ok(cells::run(&mut session, &mut self.remaining).await)
    }

    /// A server that someone else runs.
    async fn attached(&mut self, attempt: &LaneAttempt<'_>, gpu_log: &GpuLog, url: &str) -> LaneEnd {
        let target = match attempt.target().await {
            Ok(target) => target,
            Err(error) => return LaneEnd::failed("prepare", format!("{url}: {error}")),
        };
        let completion = Completion::ready(attempt, target, self.signals.clean().clone());
        let limit = attempt.framework.start_timeout;
        let (plan, interrupt) = (attempt.ready_plan(Vec::new()), self.signals.interrupt());
        let sink = &self.run.journal;
        let lane = attempt.lane.id.clone();
        let waiting = Attached::wait_ready(lane, url, &plan, &completion, limit, &interrupt, sink);
        let attached = match self.display.watchdog().wait(limit, waiting).await {
            Ok(attached) => attached,
            Err(failed) => return LaneEnd::of_server(&failed),
        };
        if self.options.purpose == Purpose::Trial {
            let facts = facts::ask(attempt, &attached.control(), self.display.watchdog(), "").await;
            let used = used_bytes(&self.run.gpu).await;
            attached.announce(facts.values, facts.precision, None, used, sink);
            return LaneEnd::finished();
        }
        let context = self.measure_context(gpu_log, None);
        let (control, answer) = (attached.control(), (attached.answer.clone(), ""));
        let opened = Session::open(attempt, context, control, answer, &mut self.calibrations).await;
        let mut session = match opened {
            Ok(session) => session,
            Err(end) => return end,
        };
        let used = used_bytes(&self.run.gpu).await;
        attached.announce(
            session.facts.values.clone(),
            session.facts.precision.clone(),
            session.template_tokens(),
            used,
            sink,
        );
        cells::run(&mut session, &mut self.remaining).await
    }
}

async fn wait_ready(
    attempt: &LaneAttempt<'_>,
    launched: Launched,
    signals: &Signals,
) -> Result<Ready, Box<Failed>> {
    let interrupt = signals.interrupt();
    // May read a whole GGUF file.
    let steps = tokio::task::block_in_place(|| attempt.adapter.prepare_calls()).map_err(|e| e.to_string());
    let prepared = match steps {
        Ok(steps) => attempt
            .target()
            .await
            .map(|target| (steps, target))
            .map_err(|e| e.to_string()),
        Err(reason) => Err(reason),
    };
    let (steps, target) = match prepared {
        Ok(prepared) => prepared,
        Err(reason) => {
            let reaped = launched.stop(StopWhy::Failed, &interrupt.now).await;
            return Err(Box::new(Failed::while_starting(reason, reaped)));
        }
    };
    let completion = Completion::ready(attempt, target, interrupt.stop.clone());
    launched
        .wait_ready(&attempt.ready_plan(steps), &completion, &interrupt)
        .await
        .map_err(Box::new)
}

/// How long the end of a server may take to be noticed after its connections broke.
const DEATH_NOTICE: Duration = Duration::from_millis(500);

/// A failure before the first cell is the server's end where it has ended: connections that are refused fail
/// faster than that is noticed, and say less.
async fn blame_the_dead(end: LaneEnd, server: &Watch) -> LaneEnd {
    if end.outcome != LaneOutcome::Failed || end.halt.is_some() {
        return end;
    }
    match tokio::time::timeout(DEATH_NOTICE, server.ended()).await {
        Ok(how) => {
            let reason = end.reason.unwrap_or_default();
            LaneEnd::failed(end.stage, format!("the server ended: {how}\n{reason}"))
        }
        Err(_) => end,
    }
}
