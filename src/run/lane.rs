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
    gpu_log::{GpuLog, StrangerNews},
    lane_end::LaneEnd,
    lines::{Line, Status},
    preconditions::{ensure_alone, ensure_environment},
    probe::Completion,
    remaining::Remaining,
    server_gpu::{FollowPids, Release, ensure_on_chosen, used_bytes},
    server_log::ServerLog,
    session::{MeasureContext, Session},
    signals::Signals,
    start::{Purpose, RunOptions, StartedRun},
};
use crate::{
    check::{attached, gpu::name_process},
    server::{Attached, Control, EventSink, Failed, Launched, Prepared, Ready, Reaped, StopWhy, Told, Watch},
};
use benchd_core::record::ProcessIdentity;
use benchd_frameworks::{Adapter, Context, KV_CAPACITY, Recognised, VisibleGpu, load_figures};
use benchd_host::process::{LogSettings, Serving};
use benchd_journal::{Event, GpuFile, LaneEnded, LaneOutcome, LaneStarted, Note};
use benchd_load::LoadEngine;
use benchd_plan::{Source, longest_prompt_tokens, most_streams};
use tokio::sync::mpsc::UnboundedReceiver;

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
        if let (Source::Url(_), Some(ours)) = (&framework.source, run.gpu.ours()) {
            // It may run already, or begin to while it is waited for.
            ours.set_unknown();
        }
        let (gpu_file, _) = GpuFile::open_append(&run.dir.gpu(&lane.id)).map_err(LaneEnd::disk)?;
        let (gpu_log, news) = GpuLog::start(&run.gpu, gpu_file, &run.strangers, &lane.id, &run.journal)
            .map_err(|error| prepare(&error))?;
        let attempt = LaneAttempt {
            lanes,
            index,
            lane,
            number,
            framework,
            model,
            request: &plan.request,
            context: &context,
            quality: plan.quality.as_ref(),
            adapter: &*adapter,
        };
        let (host, signals, display) = (&plan.host, self.signals, self.display);
        let serving = async {
            let alone = ensure_alone(&run.gpu, plan, &run.strangers, signals, display).await;
            let mut end = match (alone, &framework.source) {
                (Err(end), _) => end,
                (Ok(()), Source::Url(url)) => self.attached(&attempt, &gpu_log, url).await,
                (Ok(()), Source::Venv(_) | Source::Binary(_) | Source::Command { .. }) => {
                    self.launched(&attempt, &gpu_log).await
                }
            };
            if host.exclusive {
                end.beside(&gpu_log.strangers());
            }
            match gpu_log.stop().await {
                Ok(report) => tracing::info!(lane = %lane.id, ?report, "GPU sampling stopped"),
                Err(error) if end.halt.is_none() => end = LaneEnd::disk(error),
                Err(error) => tracing::error!(%error, "GPU samples were lost"),
            }
            end
        };
        let (end, ()) = tokio::join!(serving, tell(news, host.exclusive, display));
        if let Some(ours) = run.gpu.ours() {
            ours.clear();
        }
        Ok(end)
    }

    /// How long strangers are waited for; `None` where the plan shares the GPU.
    fn strangers_for(&self) -> Option<Duration> {
        let host = &self.options.loaded.plan.host;
        host.exclusive.then_some(host.stranger_wait)
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
            strangers_for: self.strangers_for(),
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
                    Some(reaped) => self.prove_release(attempt, *reaped, end).await,
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
        self.prove_release(attempt, reaped, end).await
    }

    async fn prove_release(&self, attempt: &LaneAttempt<'_>, reaped: Reaped, end: LaneEnd) -> LaneEnd {
        let release = Release {
            run: self.run,
            framework: attempt.framework,
            lane: &attempt.lane.id,
            strangers_for: self.strangers_for(),
            signals: self.signals,
            display: self.display,
        };
        release.prove(reaped, end).await
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
            let used = used_bytes(gpu, &gpu_log.strangers()).await;
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
        let used = used_bytes(gpu, &gpu_log.strangers()).await;
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
        let control = attached.control();
        let known = recognise(attempt, &control, sink).await;
        let attempt = &LaneAttempt {
            adapter: known.as_deref().unwrap_or(attempt.adapter),
            ..*attempt
        };
        let processes = self.tell_apart(attempt, url);
        if self.options.purpose == Purpose::Trial {
            let facts = facts::ask(attempt, &control, self.display.watchdog(), "").await;
            let told = Told {
                facts: facts.values,
                precision: facts.precision,
                template_tokens: None,
                gpu_used_bytes: used_bytes(&self.run.gpu, &gpu_log.strangers()).await,
                processes,
            };
            attached.announce(told, sink);
            return LaneEnd::finished();
        }
        let context = self.measure_context(gpu_log, None);
        let answer = (attached.answer.clone(), "");
        let opened = Session::open(attempt, context, control, answer, &mut self.calibrations).await;
        let mut session = match opened {
            Ok(session) => session,
            Err(end) => return end,
        };
        let used = used_bytes(&self.run.gpu, &gpu_log.strangers()).await;
        let told = Told {
            facts: session.facts.values.clone(),
            precision: session.facts.precision.clone(),
            template_tokens: session.template_tokens(),
            gpu_used_bytes: used,
            processes,
        };
        attached.announce(told, sink);
        cells::run(&mut session, &mut self.remaining).await
    }

    /// The processes of a server that someone else runs, so that it is no stranger on the GPU; empty where they can't be
    /// told, and nobody is one then.
    fn tell_apart(&self, attempt: &LaneAttempt<'_>, url: &str) -> Vec<ProcessIdentity> {
        let Some(ours) = self.run.gpu.ours() else {
            return Vec::new();
        };
        let note = |why: &str| {
            self.run.journal.event(Event::Note(Note {
                lane: Some(attempt.lane.id.clone()),
                text: format!("{url} is {why}, and no cell is flagged for a stranger"),
            }));
        };
        match tokio::task::block_in_place(|| attached::serving(attempt.framework)) {
            Serving::By(processes) => {
                ours.set(processes.iter().map(|process| process.pid));
                return processes;
            }
            Serving::Unseen => note(
                "served by processes that can't be seen (another user's, a container's): others on the GPU can't be told \
                 from them",
            ),
            Serving::Elsewhere => note("on another machine: this one's GPU says nothing of it"),
        }
        Vec::new()
    }
}

/// A server that someone else runs, if it shows itself to be of a known kind: its metrics are read and its cache is reset
/// as of a launched one.
async fn recognise(
    attempt: &LaneAttempt<'_>,
    control: &Control,
    sink: &dyn EventSink,
) -> Option<Box<dyn Adapter>> {
    let mut answers = Vec::new();
    for call in benchd_frameworks::behind_url_calls() {
        answers.push(facts::body_of(control, &call).await);
    }
    let LaneAttempt {
        framework,
        model,
        context,
        lane,
        ..
    } = *attempt;
    let known = benchd_frameworks::behind_url(framework, model, context, &answers);
    // What is wrong with the URL or the model was said when its own adapter was made.
    let Recognised { kind, adapter } = known.ok().flatten()?;
    sink.event(Event::Note(Note {
        lane: Some(lane.id.clone()),
        text: format!(
            "{} is {}: asked for its metrics and its cache reset as one",
            framework.name, kind.title
        ),
    }));
    Some(adapter)
}

/// Tells people what strangers do, until the sampling ends.
async fn tell(mut news: UnboundedReceiver<StrangerNews>, exclusive: bool, display: &Display) {
    while let Some(news) = news.recv().await {
        match news {
            StrangerNews::Came(process) => {
                display.say(&Line::StrangerCame(&name_process(&process), exclusive));
            }
            StrangerNews::Left(process, stayed) => {
                display.say(&Line::StrangerLeft(&name_process(&process), stayed));
            }
        }
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
