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
    lines::{Line, Status},
    signals::Signals,
    watchdog::ProgressPings,
};
use crate::{
    scenario::{CellError, CellMeasured, CellProgress, CellRequests, CellRun, Stop, StopCause},
    server::{Control, ProbeAnswer, Watch},
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
    /// The server, where benchd launched it.
    pub(super) server: Option<Watch>,
    /// How long strangers on the GPU are waited for; `None` where the GPU is shared by the plan's word.
    pub(super) strangers_for: Option<Duration>,
}

impl MeasureContext<'_> {
    /// Resolves when the cell must stop.
    pub(super) fn stop(&self) -> Stop<'_> {
        Box::pin(async {
            let ended = async {
                match &self.server {
                    Some(server) => server.ended().await.to_string(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.signals.clean().cancelled() => StopCause::Interrupted,
                how = ended => StopCause::ServerEnded(how),
                why = self.gpu_log.lost.raised() => StopCause::GpuLost(why),
                why = self.gpu_log.unwritten.raised() => StopCause::Disk(why),
                why = self.journal.failed().raised() => StopCause::Disk(why),
            }
        })
    }
}

/// How the lane ends by a cell's error.
pub(super) fn lane_end(error: CellError) -> LaneEnd {
    match error {
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
        let mut this = Self {
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
        run.warm_up(
            &mut self.records,
            &mut stop,
            &|progress: CellProgress| pings.at(progress.stored),
            &mut CellMeasured::default(),
        )
        .await
        .map_err(lane_end)
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
