//! A lane's cells, one after another: each is reset, sent, judged, and journalled.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    attempt::RUN_SEED,
    lane_end::LaneEnd,
    life::{Death, Doubt, NotAlive},
    lines::{CellPosition, Line, Status},
    prefix_cache, quality,
    remaining::Remaining,
    server_counters::ServerCounters,
    server_log::ServerLog,
    session::{Session, lane_end},
    strangers::{Waited, wait_alone},
};
use crate::scenario::{CellError, CellMeasured, CellProgress, Stop};
use benchd_core::record::{CacheReset, FlagKind, ResetOutcome};
use benchd_journal::{CellEnded, CellFailed, CellStarted, DiskError, Event};
use benchd_plan::Cell;
use benchd_prompts::{PromptError, for_cell};

/// Measures the lane's cells that are not measured yet.
pub(super) async fn run(session: &mut Session<'_>, remaining: &mut Remaining) -> LaneEnd {
    let attempt = session.attempt;
    let lane = attempt.lane;
    if let Err(end) = quality::ask(session).await {
        return end;
    }
    let (mut failed, mut spoilt) = (None::<String>, None::<String>);
    for (index, cell) in lane.cells.iter().enumerate() {
        let known = session
            .context
            .journal
            .state()
            .stands(&lane.id, &cell.id)
            .is_some();
        if known {
            continue;
        }
        let estimated = remaining.estimate_of(attempt.index, lane, cell);
        let position = CellPosition {
            lane: &lane.id,
            lane_of: (attempt.index + 1, attempt.lanes.len()),
            cell: &cell.id,
            cell_of: (index + 1, lane.cells.len()),
        };
        match measure_alone(session, cell, &position, remaining.left()).await {
            Ok(took) => remaining.finished(estimated, took),
            Err(CellEnd::Spoilt(reason)) => {
                remaining.dropped(estimated);
                spoilt.get_or_insert_with(|| format!("cell {}: {reason}", cell.id));
            }
            Err(CellEnd::Cell(reason)) => {
                session.context.display.say(&Line::CellFailed(&cell.id, &reason));
                remaining.dropped(estimated);
                failed.get_or_insert_with(|| format!("cell {}: {reason}", cell.id));
            }
            Err(CellEnd::Lane(end)) => return end,
        }
    }
    match (failed, spoilt) {
        (Some(reason), _) => LaneEnd::failed("cell", reason),
        (None, Some(reason)) => LaneEnd::machine("cell", reason),
        (None, None) => LaneEnd::finished(),
    }
}

/// How often a cell is measured beside strangers that come and go before it is left to `--resume`.
const BESIDE_STRANGERS: u32 = 3;

/// What a cell's failure ends.
enum CellEnd {
    Cell(String),
    /// Measured each time beside a stranger.
    Spoilt(String),
    Lane(LaneEnd),
}

impl From<DiskError> for CellEnd {
    fn from(error: DiskError) -> Self {
        Self::Lane(LaneEnd::disk(error))
    }
}

/// Measures a cell with nobody else on the GPU: strangers are waited out before it, and what they spoilt is measured
/// again. Gives the time of the measurement that stands.
async fn measure_alone(
    session: &mut Session<'_>,
    cell: &Cell,
    position: &CellPosition<'_>,
    left: Duration,
) -> Result<Duration, CellEnd> {
    let mut spoilt = String::new();
    for _ in 0..BESIDE_STRANGERS {
        if session.context.signals.first().is_some() {
            return Err(CellEnd::Lane(LaneEnd::interrupted()));
        }
        await_alone(session).await.map_err(CellEnd::Lane)?;
        let began = Instant::now();
        measure(session, cell, position, left).await?;
        let state = session.context.journal.state();
        let finished = state.finished(&session.attempt.lane.id, &cell.id);
        let Some(seen) = finished.and_then(|finished| Some(finished.spoilt_by()?.seen.clone())) else {
            return Ok(began.elapsed());
        };
        drop(state);
        session.context.display.say(&Line::CellSpoilt(&cell.id, &seen));
        spoilt = seen;
    }
    Err(CellEnd::Spoilt(format!(
        "not alone on the GPU, {BESIDE_STRANGERS} times: {spoilt}; --resume measures it again"
    )))
}

/// Waits until no stranger is on the GPU, where the plan wants it for itself.
async fn await_alone(session: &Session<'_>) -> Result<(), LaneEnd> {
    let context = &session.context;
    let Some(limit) = context.strangers_for else {
        return Ok(());
    };
    let look = async || Ok(context.gpu_log.strangers());
    match wait_alone(limit, look, context.stop().at_once, context.display).await {
        Waited::Alone => Ok(()),
        Waited::Still(strangers) => Err(LaneEnd::busy("cell", strangers)),
        Waited::Stopped(cause) => Err(lane_end(CellError::Stopped(cause), context.life, None)),
    }
}

async fn measure(
    session: &mut Session<'_>,
    cell: &Cell,
    position: &CellPosition<'_>,
    left: Duration,
) -> Result<(), CellEnd> {
    let attempt = session.attempt;
    let (dir, journal) = (session.context.dir, session.context.journal);
    let (gpu_log, display) = (session.context.gpu_log, session.context.display);
    let append = |event: Event| {
        journal
            .append(event)
            .map_err(|error| CellEnd::Lane(LaneEnd::disk(error)))
    };
    let lane = &attempt.lane.id;
    let cell_attempt = journal.state().next_cell_attempt(lane, &cell.id);
    gpu_log.take_flags();
    display.at(&lane.to_string(), &cell.id);
    let reset = reset(session, cell, cell_attempt, position).await?;
    let mut flags = session.facts.flags.clone();
    flags.extend(prefix_cache::reset_flag(&reset));
    append(Event::CellStarted(CellStarted {
        lane: lane.clone(),
        cell: cell.id.clone(),
        attempt: cell_attempt,
        cache_reset: reset,
    }))?;

    let mut measured = CellMeasured::default();
    let sent = send(session, cell, cell_attempt, position, left, &mut measured).await;
    let Sent { offset, counters } = match judged(session, sent, &measured).await {
        Ok(sent) => sent,
        Err(error) => {
            append(Event::CellFailed(CellFailed {
                lane: lane.clone(),
                cell: cell.id.clone(),
                attempt: cell_attempt,
                reason: error.to_string(),
            }))?;
            return Err(error.ends(session, (&cell.id, measured.failed)));
        }
    };
    let mut noticed = gpu_log.take_flags();
    // Who shares the GPU by the plan's own word does not ask for another measurement; the analysis says what it saw.
    noticed.retain(|flag| flag.kind != FlagKind::StrangerOnGpu || session.context.strangers_for.is_some());
    flags.extend(noticed);
    // On the disk before the event that counts it.
    let end = tokio::task::block_in_place(|| session.records.sync())?;
    append(Event::CellEnded(CellEnded {
        lane: lane.clone(),
        cell: cell.id.clone(),
        attempt: cell_attempt,
        file: dir.relative(&dir.requests(lane)),
        offset,
        bytes: end - offset,
        records: measured.records,
        requests: measured.requests,
        failed: measured.failed,
        passes: measured.passes,
        client: measured.client,
        flags,
        server_counters: counters,
    }))?;
    say_result(session, cell);
    Ok(())
}

/// Empties the cache. A server that dies before the cell or while its cache is emptied is no fault of the cell's.
async fn reset(
    session: &Session<'_>,
    cell: &Cell,
    cell_attempt: u32,
    position: &CellPosition<'_>,
) -> Result<ResetOutcome, CellEnd> {
    let (attempt, context) = (session.attempt, &session.context);
    let (display, life) = (context.display, context.life);
    let reloads = matches!(attempt.adapter.cache_reset(), CacheReset::Reload { .. });
    // Ollama loads its model again.
    let limit = attempt.framework.start_timeout + attempt.request.timeout;
    let mut stop = context.stop();
    let before_it = |why: NotAlive| CellEnd::Lane(session.not_alive(why, None));
    loop {
        if life.death().is_some() {
            session
                .prove_alive(Doubt::Lost, &mut stop)
                .await
                .map_err(before_it)?;
            life.renew();
        }
        display.status(&Status::CacheReset(position));
        let resetting = prefix_cache::reset(
            attempt,
            &session.control,
            session.target.clone(),
            cell,
            cell_attempt,
            context.signals.clean().clone(),
        );
        let lost = async {
            // To load a model again is to end the process that holds it.
            if reloads {
                std::future::pending().await
            } else {
                life.lost_process().await
            }
        };
        let outcome = tokio::select! {
            biased;
            why = stop.at_once.as_mut() => return Err(before_it(NotAlive::Stopped(CellError::Stopped(why)))),
            _ = lost => continue,
            outcome = display.watchdog().wait(limit, resetting) => outcome,
        };
        if matches!(outcome, ResetOutcome::Failed { .. }) {
            session
                .prove_alive(Doubt::Lost, &mut stop)
                .await
                .map_err(before_it)?;
        }
        if reloads {
            life.renew();
        }
        return Ok(outcome);
    }
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
    #[error(transparent)]
    NotAlive(#[from] NotAlive),
}

impl CellFailure {
    /// `in_cell` is the cell, and how many counted requests of it have failed.
    fn ends(self, session: &Session<'_>, in_cell: (&str, u64)) -> CellEnd {
        match self {
            Self::Prompt(error) => CellEnd::Cell(error.to_string()),
            Self::TooMuch(why) => CellEnd::Cell(why),
            Self::Hangs(why) => CellEnd::Lane(LaneEnd::failed("cell", why)),
            Self::NotAlive(why) => CellEnd::Lane(session.not_alive(why, Some(in_cell))),
            Self::Cell(CellError::Load(error)) => CellEnd::Cell(error.to_string()),
            Self::Cell(error) => CellEnd::Lane(lane_end(error, session.context.life, Some(in_cell))),
        }
    }
}

impl From<DiskError> for CellFailure {
    fn from(error: DiskError) -> Self {
        Self::Cell(error.into())
    }
}

/// A cell whose requests are all over.
struct Sent {
    /// Where its lines begin in the lane's file, bytes.
    offset: u64,
    /// How far the server's own counters have grown.
    counters: BTreeMap<String, f64>,
}

/// What a cell's requests leave in doubt is asked of the server, with nothing else under way.
///
/// Where none of them showed that it lives, an answer means that the cell was too much for it, which is a result; else it
/// hangs. Where some broke as they do when a server dies, it must be shown to live: else nothing of the cell counts. Either
/// way the lane of a server that does not answer is over.
async fn judged(
    session: &Session<'_>,
    sent: Result<Sent, CellFailure>,
    measured: &CellMeasured,
) -> Result<Sent, CellFailure> {
    let mut stop = session.context.stop();
    let silence = match &sent {
        Ok(_) if measured.doubtful => {
            Some("every request timed out and none got past half of its limit".to_owned())
        }
        Err(CellFailure::Cell(hung @ CellError::Hung { .. })) => Some(hung.to_string()),
        _ => None,
    };
    if let Some(doubt) = silence {
        match session.prove_alive(Doubt::Silent, &mut stop).await {
            Ok(()) if sent.is_ok() => {}
            Ok(()) => {
                return Err(CellFailure::TooMuch(format!(
                    "{doubt}; it answers a short request with nothing else to do, so the lane goes on"
                )));
            }
            Err(NotAlive::Died(Death::Unanswered(_, seen))) => {
                return Err(CellFailure::Hangs(format!(
                    "{doubt}, and a short request after that failed ({seen}): it hangs"
                )));
            }
            Err(why) => return Err(why.into()),
        }
    }
    if sent.is_ok()
        && let Some(doubt) = measured.broken.and_then(Doubt::at_end)
    {
        session.prove_alive(doubt, &mut stop).await?;
    }
    sent
}

/// Sends the warm-up and the passes. A server that answered nothing since requests broke is asked before the next of them.
async fn send(
    session: &mut Session<'_>,
    cell: &Cell,
    cell_attempt: u32,
    position: &CellPosition<'_>,
    left: Duration,
    measured: &mut CellMeasured,
) -> Result<Sent, CellFailure> {
    let attempt = session.attempt;
    let prompts = for_cell(cell, RUN_SEED, &session.calibration)?;
    tokio::task::block_in_place(|| session.freeze(&prompts))?;
    let requests = session.requests(cell, &prompts);
    drop(prompts);
    let run = session.cell_run(cell, cell_attempt, &requests);
    let offset = session.records.position();
    let pings = session.progress_pings(cell);
    let display = session.context.display;
    let show = |progress: CellProgress| {
        pings.at(progress.stored);
        display.status(&Status::Cell(position, progress, left));
    };
    let mut stop = session.context.stop();
    run.warm_up(&mut session.records, &mut stop, &show, measured)
        .await?;
    ask_midway(session, measured, &mut stop).await?;
    let log = ServerLog::from_now(session.context.dir.server_log(&attempt.lane.id));
    let counters = ServerCounters::before(attempt.adapter, &session.control, log).await;
    for (pass, requests) in (1..).zip(&requests.passes) {
        if pass > 1 {
            ask_midway(session, measured, &mut stop).await?;
        }
        run.pass(pass, requests, &mut session.records, &mut stop, &show, measured)
            .await?;
    }
    let counters = counters.growth().await;
    Ok(Sent { offset, counters })
}

async fn ask_midway(
    session: &Session<'_>,
    measured: &CellMeasured,
    stop: &mut Stop<'_>,
) -> Result<(), CellFailure> {
    match measured.broken.and_then(Doubt::midway) {
        Some(doubt) => Ok(session.prove_alive(doubt, stop).await?),
        None => Ok(()),
    }
}

/// Says what the cell came to.
fn say_result(session: &Session<'_>, cell: &Cell) {
    let (context, attempt) = (&session.context, session.attempt);
    let finished = context
        .journal
        .state()
        .finished(&attempt.lane.id, &cell.id)
        .cloned();
    let Some(finished) = finished else { return };
    // Only the figures are shown here; flags that need the GPU's samples or the prompts come with the report.
    let root = context.dir.root();
    match benchd_analysis::summarise_cell(root, &finished, cell, attempt.request.timeout) {
        Ok(summary) => {
            let figures = benchd_report::cell_line(&summary);
            context
                .display
                .say(&Line::CellMeasured(&figures, summary.failed > 0));
        }
        Err(error) => context.display.say(&Line::CellUnreadable(&cell.id, &error)),
    }
}
