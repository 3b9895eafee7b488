//! What is done once with a server that answers, before its first cell: its facts are asked, the chat template is
//! measured, texts of exact length are found, and it is warmed up.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Heart, Tone,
    cells::{halt, lane_end},
    lane::{HANG_MARGIN, LaneWork},
    lane_end::LaneEnd,
    lanes::{say, write_calibrations},
    progress::pulse,
    readiness::target,
};
use crate::{
    scenario::{CellMeasured, CellRequests, CellRun, ServerCounter},
    server::{Control, ProbeAnswer, Watch},
};
use benchd_core::record::{Flag, FlagKind, HttpCall, Message};
use benchd_frameworks::Facts;
use benchd_journal::{DiskError, PromptFile, RecordFile, TEMPLATE_WITH_SYSTEM};
use benchd_load::client::Target;
use benchd_plan::{Cell, Lane};
use benchd_prompts::{
    Basis, CalibrateOptions, Calibration, CellPrompts, CountSource, FrozenPrompt, Needs, PromptError,
    TemplateShare, TokenCounter, TokenizerFile, calibrate, lane_warmup, template_share,
};

/// Seed of all texts and arrival processes: the same for every framework, round and night, so that results can
/// be compared.
pub(super) const RUN_SEED: u64 = 0;

/// Limit of one call for facts or counters.
const FACT_TIMEOUT: Duration = Duration::from_secs(10);

/// The state of a lane's measuring.
pub(super) struct LaneCells {
    pub(super) control: Control,
    answer: ProbeAnswer,
    pub(super) target: Target,
    pub(super) watch: Option<Watch>,
    pub(super) facts: Facts,
    template: Option<TemplateShare>,
    pub(super) calibration: Calibration,
    pub(super) records: RecordFile,
    prompts: PromptFile<FrozenPrompt>,
}

impl LaneCells {
    /// Asks for facts, measures the chat template's share, finds the texts of exact length where no earlier lane
    /// of this model did, and sends the lane's warm-up.
    pub(super) async fn begin(
        work: &mut LaneWork<'_, '_>,
        control: Control,
        answer: ProbeAnswer,
        watch: Option<Watch>,
    ) -> Result<Self, LaneEnd> {
        let target = target(work.adapter.endpoint(), work.adapter.chat_path())
            .await
            .map_err(|error| LaneEnd::failed("ready", error.to_string()))?;
        let mut answers = Vec::new();
        for call in work.adapter.facts_calls() {
            work.shared.heart().beat();
            answers.push(body_of(&control, &call).await);
        }
        let mut facts = work.adapter.parse_facts(&answers);
        if !answer.shape.usage {
            facts.flags.push(Flag::new(
                FlagKind::NoUsage,
                "the readiness completion's stream had no usage",
            ));
        }
        let (template, calibration) = lengths(work, &target, &answer).await?;
        let dir = &work.shared.run.dir;
        let (records, torn) = RecordFile::open_append(&dir.requests(&work.lane.id)).map_err(LaneEnd::disk)?;
        let (prompts, torn_prompt) =
            PromptFile::open(&dir.prompts(), |prompt: &FrozenPrompt| &prompt.id).map_err(LaneEnd::disk)?;
        for torn in torn.into_iter().chain(torn_prompt) {
            say(work.shared.display, Tone::Warn, &format!("note  {torn}"));
        }
        if let Some(tokens) = template.and_then(|share| share.system_and_user) {
            facts
                .values
                .insert(TEMPLATE_WITH_SYSTEM.to_owned(), tokens.to_string());
        }
        let mut this = Self {
            control,
            answer,
            target,
            watch,
            facts,
            template,
            calibration,
            records,
            prompts,
        };
        this.warm_up(work).await?;
        Ok(this)
    }

    /// What the server says of itself.
    pub(super) fn facts(&self) -> &BTreeMap<String, String> {
        &self.facts.values
    }

    /// What the chat template adds to a user message, tokens.
    pub(super) fn template_tokens(&self) -> Option<u32> {
        self.template.map(|share| share.user)
    }

    /// The lane's own warm-up: one request after another, stored, never counted.
    async fn warm_up(&mut self, work: &LaneWork<'_, '_>) -> Result<(), LaneEnd> {
        let count = work.shared.plan.request.warmup;
        if count == 0 {
            return Ok(());
        }
        // Of the first cell whose texts can be had here; where there is none, each cell says so itself.
        let texts = work.lane.cells.iter().find_map(|cell| {
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
        self.freeze(&prompts, &work.lane.id.model)
            .map_err(LaneEnd::disk)?;
        let requests = self.requests(work, &cell, &prompts);
        let run = self.cell_run(work, &cell, 1, &requests);
        let mut halt = halt(work, self.watch.as_ref());
        let mut so_far = CellMeasured::default();
        work.shared
            .display
            .status(format!("lane {}  warming up", work.lane.id));
        match run
            .warm_up(&mut self.records, &mut halt, &pulse(work, &cell), &mut so_far)
            .await
        {
            Ok(()) => Ok(()),
            Err(error) => Err(lane_end(error)),
        }
    }

    pub(super) fn requests(
        &self,
        work: &LaneWork<'_, '_>,
        cell: &Cell,
        prompts: &CellPrompts,
    ) -> CellRequests {
        CellRequests::new(
            cell,
            prompts,
            work.adapter,
            &work.shared.plan.request,
            work.model.reasoning_effort,
        )
    }

    pub(super) fn cell_run<'a>(
        &self,
        work: &'a LaneWork<'_, '_>,
        cell: &'a Cell,
        attempt: u32,
        requests: &'a CellRequests,
    ) -> CellRun<'a> {
        CellRun {
            lane: &work.lane.id,
            lane_attempt: work.attempt,
            cell,
            attempt,
            requests,
            target: self.target.clone(),
            shape: self.answer.shape,
            reasoning_fields: work.adapter.reasoning_fields(),
            timeout: work.shared.plan.request.timeout,
            seed: RUN_SEED,
            engine: work.shared.engine,
            redactor: work.shared.redactor,
        }
    }

    /// Freezes the texts before the first of them is sent.
    pub(super) fn freeze(&mut self, prompts: &CellPrompts, model: &str) -> Result<(), DiskError> {
        for prompt in prompts.warmup.iter().chain(prompts.passes.iter().flatten()) {
            self.prompts.append(&prompt.frozen(model))?;
        }
        self.prompts.sync()
    }
}

/// The body of an answer with status 200; facts are not needed to measure, so nothing else is an error.
pub(super) async fn body_of(control: &Control, call: &HttpCall) -> Option<String> {
    match control.call(call, FACT_TIMEOUT).await {
        Ok(reply) if reply.status == 200 => Some(reply.body),
        Ok(reply) => {
            tracing::info!(%call, status = reply.status, "no answer to a question about facts");
            None
        }
        Err(error) => {
            tracing::info!(%call, %error, "no answer to a question about facts");
            None
        }
    }
}

/// The chat template's share on this server, and the model's texts of exact length.
async fn lengths(
    work: &mut LaneWork<'_, '_>,
    target: &Target,
    answer: &ProbeAnswer,
) -> Result<(Option<TemplateShare>, Calibration), LaneEnd> {
    let failed = |error: PromptError| {
        if work.shared.signals.first().is_some() {
            LaneEnd::interrupted()
        } else {
            LaneEnd::failed("prompts", error.to_string())
        }
    };
    let options = CalibrateOptions::new(RUN_SEED);
    // All lanes of the model, so that the first one finds the lengths for every other.
    let mine = |lane: &&Lane| lane.id.model == work.lane.id.model;
    let needs = Needs::of(work.shared.lanes.iter().filter(mine).flat_map(|lane| &lane.cells));
    let counter = ServerCounter {
        adapter: work.adapter,
        target: target.clone(),
        shape: answer.shape,
        timeout: work.shared.plan.request.timeout,
        reasoning_effort: work.model.reasoning_effort,
        cancel: work.shared.signals.clean().clone(),
    };
    let mut counter = Beating {
        counter,
        limit: work.shared.plan.request.timeout + HANG_MARGIN,
        heart: work.shared.heart().clone(),
    };
    let template = if answer.prompt_tokens.is_some() {
        work.shared
            .display
            .status(format!("lane {}  measuring the chat template", work.lane.id));
        Some(
            template_share(&mut counter, !needs.shared.is_empty(), &options)
                .await
                .map_err(failed)?,
        )
    } else {
        None
    };
    let known = work.shared.calibrations.get(&work.lane.id.model).cloned();
    if let Some(known) = &known
        && known.covers(&needs)
    {
        return Ok((template, known.clone()));
    }
    // An earlier server could not take them all.
    let needs = known
        .as_ref()
        .map_or(needs.clone(), |known| known.missing(&needs));
    work.shared
        .display
        .status(format!("lane {}  finding texts of exact length", work.lane.id));
    let began = Instant::now();
    let measured = match &work.model.tokenizer {
        Some(path) => {
            let mut file = TokenizerFile::open(path).map_err(failed)?;
            let source = CountSource::File {
                path: file.path().to_owned(),
                sha256: file.sha256().to_owned(),
            };
            calibrate(&work.lane.id.model, source, &needs, &mut file, &options).await
        }
        None => {
            let source = CountSource::Server {
                framework: work.lane.id.framework.clone(),
            };
            calibrate(&work.lane.id.model, source, &needs, &mut counter, &options).await
        }
    };
    // A call that was broken off looks like a refusal.
    if work.shared.signals.first().is_some() {
        return Err(LaneEnd::interrupted());
    }
    let calibration = with_what_was_known(measured, known).map_err(failed)?;
    for (what, why) in &calibration.left_out {
        say(
            work.shared.display,
            Tone::Warn,
            &format!("  note  {what} can't be had from this server, and cells of them will fail: {why}"),
        );
    }
    say(
        work.shared.display,
        Tone::Plain,
        &format!(
            "  texts of exact length found with {} counts in {:.1} s",
            calibration.probes,
            began.elapsed().as_secs_f64()
        ),
    );
    for fitted in calibration.deviations() {
        say(
            work.shared.display,
            Tone::Warn,
            &format!(
                "  note  a text of {} tokens can't be made; the nearest has {}",
                fitted.asked, fitted.reached
            ),
        );
    }
    work.shared
        .calibrations
        .insert(work.lane.id.model.clone(), calibration.clone());
    write_calibrations(work.shared.run, &work.shared.calibrations).map_err(LaneEnd::disk)?;
    Ok((template, calibration))
}

/// The texts of an earlier lane stay as they are, so that every server gets the same; this lane's are added.
fn with_what_was_known(
    measured: Result<Calibration, PromptError>,
    known: Option<Calibration>,
) -> Result<Calibration, PromptError> {
    let Some(mut known) = known else { return measured };
    match measured {
        Ok(more) => {
            if !known.add(more) {
                let why = "its numbers need salts of another form than the texts of earlier lanes".to_owned();
                known.left_out = vec![("more lengths".to_owned(), why)];
            }
            Ok(known)
        }
        // What earlier servers could not take this one can't either.
        Err(error) if error.is_of_one_length() => {
            known.left_out = vec![("the lengths still missing".to_owned(), error.to_string())];
            Ok(known)
        }
        Err(error) => Err(error),
    }
}

/// A counter whose every answer feeds the watchdog.
struct Beating<C> {
    counter: C,
    limit: Duration,
    heart: Heart,
}

impl<C: TokenCounter> TokenCounter for Beating<C> {
    async fn count(&mut self, messages: &[Message]) -> Result<u32, PromptError> {
        self.heart.during(self.limit, self.counter.count(messages)).await
    }

    fn basis(&self) -> Basis {
        self.counter.basis()
    }
}
