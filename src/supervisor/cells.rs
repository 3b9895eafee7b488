//! What is done with a server that answers: its facts are asked, texts of exact length are found, then one cell
//! after another is measured.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::{
    Heart, Pace, Tone,
    lane::{HANG_MARGIN, LaneEnd, LaneWork},
    own_counters::OwnCounters,
    readiness::{Completion, target},
    run::{say, write_calibrations},
};
use crate::{
    analysis::{self, CellContext},
    client::Target,
    framework::Facts,
    journal::{
        CellEnded, CellFailed, CellStarted, DiskError, Event, PromptFile, RecordFile, TEMPLATE_WITH_SYSTEM,
    },
    plan::{Arrival, CachePolicy, Cell, Lane},
    prompt::{
        Basis, CalibrateOptions, Calibration, CellPrompts, CountSource, FrozenPrompt, Needs, PromptError,
        TemplateShare, TokenCounter, TokenizerFile, calibrate, for_cell, lane_warmup, template_share,
    },
    record::{CacheReset, Flag, FlagKind, HttpCall, Message, micros},
    report,
    scenario::{CellError, CellMeasured, CellProgress, CellRequests, CellRun, Halted, ServerCounter},
    server::{CompletionProbe as _, Control, ProbeAnswer, ResetOutcome, Watch, reset_cache},
};

/// Seed of all texts and arrival processes: the same for every framework, round and night, so that results can
/// be compared.
const RUN_SEED: u64 = 0;

/// Limit of one call for facts or counters.
const FACT_TIMEOUT: Duration = Duration::from_secs(10);

/// The state of a lane's measuring.
pub(super) struct LaneCells {
    control: Control,
    answer: ProbeAnswer,
    target: Target,
    watch: Option<Watch>,
    facts: Facts,
    template: Option<TemplateShare>,
    calibration: Calibration,
    records: RecordFile,
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
        let (Some(first), count) = (work.lane.cells.first(), work.shared.plan.request.warmup) else {
            return Ok(());
        };
        if count == 0 {
            return Ok(());
        }
        let texts = lane_warmup(first, count, RUN_SEED, &self.calibration)
            .map_err(|error| LaneEnd::failed("warm-up", error.to_string()))?;
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

    fn requests(&self, work: &LaneWork<'_, '_>, cell: &Cell, prompts: &CellPrompts) -> CellRequests {
        CellRequests::new(
            cell,
            prompts,
            work.adapter,
            &work.shared.plan.request,
            work.model.reasoning_effort,
        )
    }

    fn cell_run<'a>(
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
    fn freeze(&mut self, prompts: &CellPrompts, model: &str) -> Result<(), DiskError> {
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
    if let Some(known) = work.shared.calibrations.get(&work.lane.id.model)
        && known.covers(&needs)
    {
        return Ok((template, known.clone()));
    }
    work.shared
        .display
        .status(format!("lane {}  finding texts of exact length", work.lane.id));
    let began = Instant::now();
    let calibration = match &work.model.tokenizer {
        Some(path) => {
            let mut file = TokenizerFile::open(path).map_err(failed)?;
            let source = CountSource::File {
                path: file.path().to_owned(),
                sha256: file.sha256().to_owned(),
            };
            calibrate(&work.lane.id.model, source, &needs, &mut file, &options)
                .await
                .map_err(failed)?
        }
        None => {
            let source = CountSource::Server {
                framework: work.lane.id.framework.clone(),
            };
            calibrate(&work.lane.id.model, source, &needs, &mut counter, &options)
                .await
                .map_err(failed)?
        }
    };
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

/// Measures the lane's cells that are not measured yet.
pub(super) async fn run(work: &mut LaneWork<'_, '_>, cells: &mut LaneCells) -> LaneEnd {
    let mut failed: Option<String> = None;
    let total = work.lane.cells.len();
    for (place, cell) in work.lane.cells.iter().enumerate() {
        if work
            .shared
            .run
            .keeper
            .state()
            .finished(&work.lane.id, &cell.id)
            .is_some()
        {
            continue;
        }
        if work.shared.signals.first().is_some() {
            return LaneEnd::interrupted();
        }
        let began = Instant::now();
        let estimated = estimated(work, cell);
        match measure(work, cells, cell, place, total).await {
            Ok(()) => work.shared.remaining.finished(estimated, began.elapsed()),
            Err(CellEnd::Cell(reason)) => {
                say(
                    work.shared.display,
                    Tone::Bad,
                    &format!("  {}  failed: {reason}", cell.id),
                );
                work.shared.remaining.dropped(estimated);
                failed.get_or_insert_with(|| format!("cell {}: {reason}", cell.id));
            }
            Err(CellEnd::Lane(end)) => return end,
        }
    }
    match failed {
        None => LaneEnd::finished(),
        Some(reason) => LaneEnd::failed("cell", reason),
    }
}

/// What a cell's failure ends.
enum CellEnd {
    /// The cell.
    Cell(String),
    /// The lane.
    Lane(LaneEnd),
}

impl From<DiskError> for CellEnd {
    fn from(error: DiskError) -> Self {
        Self::Lane(LaneEnd::disk(error))
    }
}

async fn measure(
    work: &LaneWork<'_, '_>,
    cells: &mut LaneCells,
    cell: &Cell,
    place: usize,
    total: usize,
) -> Result<(), CellEnd> {
    let keeper = &work.shared.run.keeper;
    let append = |event: Event| {
        keeper
            .append(event)
            .map_err(|error| CellEnd::Lane(LaneEnd::disk(error)))
    };
    let attempt = keeper.state().next_cell_attempt(&work.lane.id, &cell.id);
    work.gpu_log.take_flags();
    work.shared.display.at(&work.lane.id.to_string(), &cell.id);
    let status = |text: String| work.shared.display.status(text);
    let head = format!(
        "lane {} of {}  {}  cell {} of {total}  {}",
        work.index + 1,
        work.shared.lanes.len(),
        work.lane.id,
        place + 1,
        cell.id
    );
    status(format!("{head}  resetting the cache"));
    let resetting = reset(work, cells, cell, attempt);
    // Ollama loads its model again.
    let limit = work.framework.start_timeout + work.shared.plan.request.timeout + HANG_MARGIN;
    let reset = work.shared.heart().during(limit, resetting).await;
    let mut flags = cells.facts.flags.clone();
    flags.extend(reset_flag(&reset));
    append(Event::CellStarted(CellStarted {
        lane: work.lane.id.clone(),
        cell: cell.id.clone(),
        attempt,
        cache_reset: reset
            .as_ref()
            .map_or_else(|| "kept".to_owned(), ToString::to_string),
    }))?;

    let result = send(work, cells, cell, attempt, &head).await;
    let result = judged(work, cells, result).await;
    let (measured, offset, counters) = match result {
        Ok(sent) => sent,
        Err(error) => {
            append(Event::CellFailed(CellFailed {
                lane: work.lane.id.clone(),
                cell: cell.id.clone(),
                attempt,
                reason: error.to_string(),
            }))?;
            return Err(match error {
                CellFailure::Prompt(error) => CellEnd::Cell(error.to_string()),
                CellFailure::TooMuch(why) => CellEnd::Cell(why),
                CellFailure::Hangs(why) => CellEnd::Lane(LaneEnd::failed("cell", why)),
                CellFailure::Cell(CellError::Load(error)) => CellEnd::Cell(error.to_string()),
                CellFailure::Cell(error) => CellEnd::Lane(lane_end(error)),
            });
        }
    };
    flags.extend(work.gpu_log.take_flags());
    // On the disk before the event that counts it.
    let end = tokio::task::block_in_place(|| cells.records.sync())?;
    let dir = &work.shared.run.dir;
    let ended = CellEnded {
        lane: work.lane.id.clone(),
        cell: cell.id.clone(),
        attempt,
        file: dir.relative(&dir.requests(&work.lane.id)),
        offset,
        bytes: end - offset,
        records: measured.records,
        requests: measured.requests,
        failed: measured.failed,
        passes: measured.passes,
        client: measured.client,
        flags,
        server_counters: counters,
    };
    append(Event::CellEnded(ended))?;
    tell(work, cell);
    Ok(())
}

/// Why nothing of a cell counts.
#[derive(Debug, thiserror::Error)]
enum CellFailure {
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Cell(#[from] CellError),
    /// The server lives, and nothing of the cell gets through.
    #[error("{0}")]
    TooMuch(String),
    /// The server does not even answer a few tokens.
    #[error("{0}")]
    Hangs(String),
}

impl From<DiskError> for CellFailure {
    fn from(error: DiskError) -> Self {
        Self::Cell(error.into())
    }
}

type Sent = (CellMeasured, u64, BTreeMap<String, f64>);

/// Where no request of a cell showed that the server lives, it is asked for a few tokens with nothing else under way:
/// an answer means that the cell was too much for it, which is a result; else it hangs, and the lane is over.
async fn judged(
    work: &LaneWork<'_, '_>,
    cells: &LaneCells,
    result: Result<Sent, CellFailure>,
) -> Result<Sent, CellFailure> {
    let doubt = match &result {
        Ok((measured, ..)) if measured.doubtful => {
            "every request timed out and none got past half of its limit".to_owned()
        }
        Err(CellFailure::Cell(hung @ CellError::Hung { .. })) => hung.to_string(),
        _ => return result,
    };
    let limit = work.shared.plan.request.timeout;
    let question = Completion::ready(
        work.adapter,
        cells.target.clone(),
        work.model.reasoning_effort,
        work.shared.signals.clean().clone(),
    );
    let mut halt = halt(work, cells.watch.as_ref());
    let asked = async {
        tokio::select! {
            biased;
            why = halt.as_mut() => Err(CellFailure::Cell(CellError::Halted(why))),
            answer = question.complete(limit) => Ok(answer),
        }
    };
    match work.shared.heart().during(limit + HANG_MARGIN, asked).await? {
        Ok(_) if result.is_ok() => result,
        Ok(_) => Err(CellFailure::TooMuch(format!(
            "{doubt}; it answers a short request with nothing else to do, so the lane goes on"
        ))),
        Err(error) => Err(CellFailure::Hangs(format!(
            "{doubt}, and a short request after that failed ({}): it hangs",
            error.text
        ))),
    }
}

async fn send(
    work: &LaneWork<'_, '_>,
    cells: &mut LaneCells,
    cell: &Cell,
    attempt: u32,
    head: &str,
) -> Result<Sent, CellFailure> {
    let prompts = for_cell(cell, RUN_SEED, &cells.calibration)?;
    tokio::task::block_in_place(|| cells.freeze(&prompts, &work.lane.id.model))?;
    let requests = cells.requests(work, cell, &prompts);
    drop(prompts);
    let run = cells.cell_run(work, cell, attempt, &requests);
    let offset = cells.records.position();
    let watch = cells.watch.clone();
    let mut halt = halt(work, watch.as_ref());
    let left = work.shared.remaining.left();
    let pulse = pulse(work, cell);
    let show = |progress: CellProgress| {
        pulse(progress);
        let what = if progress.warming_up {
            "warming up".to_owned()
        } else {
            counts(progress)
        };
        work.shared
            .display
            .status(format!("{head}  {what}  {}", until(left)));
    };
    let mut measured = CellMeasured::default();
    run.warm_up(&mut cells.records, &mut halt, &show, &mut measured)
        .await?;
    let own = OwnCounters::before(work, &cells.control).await;
    run.passes(&mut cells.records, &mut halt, &show, &mut measured)
        .await?;
    let grown = own.growth().await;
    Ok((measured, offset, grown))
}

/// Feeds the watchdog while requests come to their ends: each has its limit, and in an open loop its gap.
fn pulse(work: &LaneWork<'_, '_>, cell: &Cell) -> impl Fn(CellProgress) {
    let pace = Pace::new(
        work.shared.plan.request.timeout + longest_gap(cell.arrival) + HANG_MARGIN,
        Instant::now(),
    );
    let heart = work.shared.heart().clone();
    move |progress| {
        if pace.goes_on(progress.stored, Instant::now()) {
            heart.beat();
        }
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

/// `about 2 h 05 m left, until 04:10`, by the machine's clock.
fn until(left: Duration) -> String {
    let shown = super::short_duration(left);
    match jiff::ZonedDateTime::now().checked_add(left) {
        Ok(end) => format!("about {shown} left, until {}", end.strftime("%H:%M")),
        Err(_) => format!("about {shown} left"),
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

fn counts(progress: CellProgress) -> String {
    let failed = if progress.failed > 0 {
        format!(", {} failed", progress.failed)
    } else {
        String::new()
    };
    format!("{} of {}{failed}", progress.done, progress.total)
}

/// Empties the cache before the cell where the plan says so; `None` where it is kept.
async fn reset(
    work: &LaneWork<'_, '_>,
    cells: &LaneCells,
    cell: &Cell,
    attempt: u32,
) -> Option<ResetOutcome> {
    if cell.cache == CachePolicy::Keep {
        return None;
    }
    let reset = work.adapter.cache_reset();
    if let CacheReset::NotPossible { why } = reset {
        return Some(ResetOutcome::NotPossible { why });
    }
    let now = jiff::Timestamp::now().as_microsecond();
    let salt = u64::try_from(now).unwrap_or(0).wrapping_add(u64::from(attempt));
    let probe = Completion::reset_probe(
        work.adapter,
        cells.target.clone(),
        salt % 1_000_000_000_000,
        work.model.reasoning_effort,
        work.shared.plan.request.timeout,
        work.shared.signals.clean().clone(),
    );
    let began = Instant::now();
    let outcome = reset_cache(&cells.control, &reset, &probe).await;
    tracing::info!(lane = %work.lane.id, cell = cell.id, %outcome, took_us = micros(began.elapsed()), "cache reset");
    Some(outcome)
}

fn reset_flag(outcome: &Option<ResetOutcome>) -> Option<Flag> {
    match outcome {
        None | Some(ResetOutcome::Proven) => None,
        Some(ResetOutcome::Unproven { why }) => Some(Flag::new(FlagKind::CacheResetUnproven, why)),
        Some(ResetOutcome::NotPossible { why } | ResetOutcome::Failed { why }) => {
            Some(Flag::new(FlagKind::CacheNotReset, why))
        }
    }
}

/// Resolves when the cell must stop.
fn halt<'a>(work: &'a LaneWork<'_, '_>, watch: Option<&'a Watch>) -> crate::scenario::Halt<'a> {
    let keeper = work.shared.run.keeper.clone();
    Box::pin(async move {
        let ended = async {
            match watch {
                Some(watch) => watch.ended().await.to_string(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = work.shared.signals.clean().cancelled() => Halted::Interrupted,
            how = ended => Halted::ServerEnded(how),
            () = work.gpu_log.lost().cancelled() => Halted::GpuLost(work.gpu_log.why_lost()),
            () = work.gpu_log.unwritten().cancelled() => Halted::Disk(work.gpu_log.why_unwritten()),
            () = keeper.failed().cancelled() => Halted::Disk(keeper.failure().unwrap_or_default()),
        }
    })
}

fn lane_end(error: CellError) -> LaneEnd {
    match error {
        CellError::Halted(Halted::Interrupted) => LaneEnd::interrupted(),
        CellError::Halted(Halted::Disk(why)) => LaneEnd::disk(why),
        CellError::Disk(error) => LaneEnd::disk(error),
        CellError::Halted(Halted::GpuLost(why)) => LaneEnd::gpu_lost("cell", why),
        error => LaneEnd::failed("cell", error.to_string()),
    }
}

/// One line of result as each cell ends.
fn tell(work: &LaneWork<'_, '_>, cell: &Cell) {
    let finished = work
        .shared
        .run
        .keeper
        .state()
        .finished(&work.lane.id, &cell.id)
        .cloned();
    let Some(finished) = finished else { return };
    // Only the figures are shown here; flags that need the GPU's samples or the prompts come with the report.
    let (none, no_sizes) = (BTreeSet::new(), HashMap::new());
    let context = CellContext {
        cell,
        timeout: work.shared.plan.request.timeout,
        template_tokens: None,
        model_id: None,
        not_controlled: false,
        gpu_expected: false,
        gpu: None,
        own_pids: &none,
        strangers: &none,
        max_events_per_s: None,
        prompts: &no_sizes,
    };
    match analysis::summarise_cell(work.shared.run.dir.root(), &finished, &context) {
        Ok(summary) => {
            let tone = if summary.failed > 0 {
                Tone::Warn
            } else {
                Tone::Good
            };
            say(
                work.shared.display,
                tone,
                &format!("  {}", report::cell_line(&summary)),
            );
        }
        Err(error) => say(work.shared.display, Tone::Bad, &format!("  {}  {error}", cell.id)),
    }
}

fn estimated(work: &LaneWork<'_, '_>, cell: &Cell) -> Duration {
    let Some(lane) = work.shared.estimate.lanes.get(work.index) else {
        return Duration::ZERO;
    };
    let cells = work
        .lane
        .cells
        .iter()
        .filter(|other| other.scenario == cell.scenario)
        .count();
    let whole = lane
        .scenarios
        .iter()
        .find(|(name, _)| *name == cell.scenario)
        .map_or(Duration::ZERO, |(_, time)| *time);
    whole / u32::try_from(cells.max(1)).unwrap_or(u32::MAX)
}
