//! A server that answers, made ready for its first cell: its facts are asked, the chat template is measured, texts of
//! exact length are found, the lane's files are opened, and it is warmed up.

use std::time::Duration;

use super::{
    attempt::{LaneAttempt, RUN_SEED},
    calibrations::Calibrations,
    display::Display,
    facts,
    gpu_log::GpuLog,
    journal::JournalHandle,
    lane_end::LaneEnd,
    life::{Doubt, Life, NotAlive, PROBATION},
    lines::{Line, Status},
    probe::Completion,
    signals::Signals,
    watchdog::ProgressPings,
};
use crate::{
    scenario::{CellError, CellMeasured, CellProgress, CellRequests, CellRun, Stop, StopCause},
    server::{Control, ProbeAnswer},
};
use benchd_core::record::{Flag, FlagKind, Redactor};
use benchd_frameworks::Facts;
use benchd_journal::{DiskError, PromptFile, RecordFile, RunDir, TEMPLATE_WITH_SYSTEM};
use benchd_load::{LoadEngine, client::Target};
use benchd_plan::{Arrival, Cell};
use benchd_prompts::{Calibration, CellPrompts, FrozenPrompt, TemplateShare, lane_warmup};

/// What a lane's cells are measured with, and what stops them from outside.
pub(super) struct MeasureContext<'a> {
    pub(super) dir: &'a RunDir,
    pub(super) journal: &'a JournalHandle,
    pub(super) signals: &'a Signals,
    pub(super) gpu_log: &'a GpuLog,
    pub(super) engine: &'a LoadEngine,
    pub(super) redactor: &'a Redactor,
    pub(super) display: &'a Display,
    pub(super) life: &'a Life,
    /// How long strangers on the GPU are waited for; `None` where the GPU is shared by the plan's word.
    pub(super) strangers_for: Option<Duration>,
}

impl<'a> MeasureContext<'a> {
    /// What stops a cell.
    pub(super) fn stop(&self) -> Stop<'a> {
        let Self {
            journal,
            signals,
            gpu_log,
            life,
            ..
        } = *self;
        Stop {
            at_once: Box::pin(async {
                tokio::select! {
                    biased;
                    () = signals.clean().cancelled() => StopCause::Interrupted,
                    death = life.ended() => StopCause::ServerDied(death.to_string()),
                    why = gpu_log.lost.raised() => StopCause::GpuLost(why),
                    why = gpu_log.unwritten.raised() => StopCause::Disk(why),
                    why = journal.failed().raised() => StopCause::Disk(why),
                }
            }),
            once_broken: Box::pin(async { StopCause::ServerDied(life.lost_process().await.to_string()) }),
        }
    }
}

/// How the lane ends by an error of a cell, or of its warm-up; `in_cell` is the cell, and how many counted requests of it
/// have failed.
pub(super) fn lane_end(error: CellError, life: &Life, in_cell: Option<(&str, u64)>) -> LaneEnd {
    match error {
        CellError::Stopped(StopCause::ServerDied(how)) => match life.death() {
            Some(death) => LaneEnd::died("cell", in_cell, &death),
            None => LaneEnd::failed("cell", how),
        },
        CellError::Stopped(StopCause::Interrupted) => LaneEnd::interrupted(),
        CellError::Stopped(StopCause::Disk(why)) => LaneEnd::disk(why),
        CellError::Disk(error) => LaneEnd::disk(error),
        CellError::Stopped(StopCause::GpuLost(why)) => LaneEnd::gpu_lost("cell", why),
        error => LaneEnd::failed("cell", error.to_string()),
    }
}

pub(super) struct Session<'a> {
    pub(super) attempt: &'a LaneAttempt<'a>,
    pub(super) context: MeasureContext<'a>,
    pub(super) control: Control,
    pub(super) target: Target,
    pub(super) facts: Facts,
    pub(super) calibration: Calibration,
    pub(super) records: RecordFile,
    question: Completion,
    answer: ProbeAnswer,
    template: Option<TemplateShare>,
    prompts: PromptFile<FrozenPrompt>,
}

impl<'a> Session<'a> {
    /// Opens it with a server whose readiness completion brought `answer`, and whose output so far is `log`.
    pub(super) async fn open(
        attempt: &'a LaneAttempt<'a>,
        context: MeasureContext<'a>,
        control: Control,
        (answer, log): (ProbeAnswer, &str),
        calibrations: &mut Calibrations,
    ) -> Result<Self, LaneEnd> {
        let display = context.display;
        let target = attempt
            .target()
            .await
            .map_err(|error| LaneEnd::failed("ready", error.to_string()))?;
        let mut facts = facts::ask(attempt, &control, display.watchdog(), log).await;
        if !answer.shape.usage {
            facts.flags.push(Flag::new(
                FlagKind::NoUsage,
                "the readiness completion's stream had no usage",
            ));
        }
        let (template, calibration) = calibrations
            .of_lane(attempt, &target, &answer, context.signals, display)
            .await?;
        let dir = context.dir;
        let (records, torn) =
            RecordFile::open_append(&dir.requests(&attempt.lane.id)).map_err(LaneEnd::disk)?;
        let (prompts, torn_prompt) =
            PromptFile::open(&dir.prompts(), |prompt: &FrozenPrompt| &prompt.id).map_err(LaneEnd::disk)?;
        for torn in torn.into_iter().chain(torn_prompt) {
            display.say(&Line::Note(&torn));
        }
        if let Some(tokens) = template.and_then(|share| share.system_and_user) {
            facts
                .values
                .insert(TEMPLATE_WITH_SYSTEM.to_owned(), tokens.to_string());
        }
        let question = Completion::ready(attempt, target.clone(), context.signals.clean().clone());
        let mut this = Self {
            question,
            attempt,
            context,
            control,
            target,
            facts,
            calibration,
            records,
            answer,
            template,
            prompts,
        };
        this.warm_up().await?;
        Ok(this)
    }

    /// What the chat template adds to a user message, tokens.
    pub(super) fn template_tokens(&self) -> Option<u32> {
        self.template.map(|share| share.user)
    }

    /// The lane's own warm-up: one request after another, stored, never counted.
    async fn warm_up(&mut self) -> Result<(), LaneEnd> {
        let attempt = self.attempt;
        let count = attempt.request.warmup;
        if count == 0 {
            return Ok(());
        }
        // Of the first cell whose texts can be had here; where there is none, each cell says so itself.
        let texts = attempt.lane.cells.iter().find_map(|cell| {
            let texts = lane_warmup(cell, count, RUN_SEED, &self.calibration).ok()?;
            Some((cell, texts))
        });
        let Some((first, texts)) = texts else {
            return Ok(());
        };
        let cell = Cell {
            id: "warmup".to_owned(),
            concurrency: 1,
            ..first.clone()
        };
        let prompts = CellPrompts {
            passes: Vec::new(),
            warmup: texts,
        };
        self.freeze(&prompts).map_err(LaneEnd::disk)?;
        let requests = self.requests(&cell, &prompts);
        let run = self.cell_run(&cell, 1, &requests);
        let pings = self.progress_pings(&cell);
        let mut stop = self.context.stop();
        self.context.display.status(&Status::LaneWarmup(&attempt.lane.id));
        let mut seen = CellMeasured::default();
        run.warm_up(
            &mut self.records,
            &mut stop,
            &|progress: CellProgress| pings.at(progress.stored),
            &mut seen,
        )
        .await
        .map_err(|error| lane_end(error, self.context.life, None))?;
        match seen.broken.and_then(Doubt::midway) {
            Some(doubt) => self
                .prove_alive(doubt, &mut stop)
                .await
                .map_err(|why| self.not_alive(why, None)),
            None => Ok(()),
        }
    }

    /// How the lane ends by a server that is not shown to live.
    pub(super) fn not_alive(&self, why: NotAlive, in_cell: Option<(&str, u64)>) -> LaneEnd {
        match why {
            NotAlive::Died(death) => LaneEnd::died("cell", in_cell, &death),
            NotAlive::Stopped(why) => lane_end(why, self.context.life, in_cell),
        }
    }

    /// Asks the server until a doubt is settled.
    pub(super) async fn prove_alive(&self, doubt: Doubt, stop: &mut Stop<'_>) -> Result<(), NotAlive> {
        let display = self.context.display;
        display.status(&Status::Asking(&self.attempt.lane.id));
        let limit = self.attempt.request.timeout;
        let asking = self.context.life.prove(doubt, &self.question, limit, stop);
        display.watchdog().wait(limit + PROBATION * 2, asking).await
    }

    pub(super) fn requests(&self, cell: &Cell, prompts: &CellPrompts) -> CellRequests {
        let LaneAttempt {
            adapter,
            request,
            model,
            ..
        } = self.attempt;
        CellRequests::new(cell, prompts, *adapter, request, model.reasoning_effort)
    }

    pub(super) fn cell_run<'c>(
        &self,
        cell: &'c Cell,
        cell_attempt: u32,
        requests: &'c CellRequests,
    ) -> CellRun<'c>
    where
        'a: 'c,
    {
        CellRun {
            lane: &self.attempt.lane.id,
            lane_attempt: self.attempt.number,
            cell,
            attempt: cell_attempt,
            requests,
            target: self.target.clone(),
            shape: self.answer.shape,
            reasoning_fields: self.attempt.adapter.reasoning_fields(),
            timeout: self.attempt.request.timeout,
            seed: RUN_SEED,
            engine: self.context.engine,
            redactor: self.context.redactor,
        }
    }

    /// Feeds the watchdog while requests come to their ends: each has its limit, and in an open loop its gap.
    pub(super) fn progress_pings(&self, cell: &Cell) -> ProgressPings {
        let limit = self.attempt.request.timeout + longest_gap(cell.arrival);
        ProgressPings::new(self.context.display.watchdog().clone(), limit)
    }

    /// Freezes the texts before the first of them is sent.
    pub(super) fn freeze(&mut self, prompts: &CellPrompts) -> Result<(), DiskError> {
        for prompt in prompts.warmup.iter().chain(prompts.passes.iter().flatten()) {
            self.prompts.append(&prompt.frozen(&self.attempt.lane.id.model))?;
        }
        self.prompts.sync()
    }
}

/// Mean gaps that a gap of an open loop never exceeds in practice: of exponential ones, once in 10^21.
const GAPS_AT_MOST: f64 = 50.0;

/// The longest gap between two sends to count with.
fn longest_gap(arrival: Arrival) -> Duration {
    let (rate_per_s, burstiness) = match arrival {
        Arrival::Closed => return Duration::ZERO,
        Arrival::Constant { rate_per_s } | Arrival::Poisson { rate_per_s } => (rate_per_s, 1.0),
        Arrival::Gamma {
            rate_per_s,
            burstiness,
        } => (rate_per_s, burstiness.min(1.0)),
    };
    Duration::try_from_secs_f64(GAPS_AT_MOST / rate_per_s / burstiness).unwrap_or(Duration::MAX / 4)
}
