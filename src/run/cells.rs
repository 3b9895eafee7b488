//! A lane's cells, one after another: each is reset, sent, judged, and journalled.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    attempt::RUN_SEED,
    lane_end::LaneEnd,
    lines::{CellPosition, Line, Status},
    prefix_cache,
    probe::Completion,
    quality,
    remaining::Remaining,
    server_counters::ServerCounters,
    server_log::ServerLog,
    session::{Session, lane_end},
};
use crate::{
    scenario::{CellError, CellMeasured, CellProgress},
    server::CompletionProbe as _,
};
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
    let mut failed: Option<String> = None;
    for (index, cell) in lane.cells.iter().enumerate() {
        let known = session
            .context
            .journal
            .state()
            .finished(&lane.id, &cell.id)
            .is_some();
        if known {
            continue;
        }
        if session.context.signals.first().is_some() {
            return LaneEnd::interrupted();
        }
        let began = Instant::now();
        let estimated = remaining.estimate_of(attempt.index, lane, cell);
        let position = CellPosition {
            lane: &lane.id,
            lane_of: (attempt.index + 1, attempt.lanes.len()),
            cell: &cell.id,
            cell_of: (index + 1, lane.cells.len()),
        };
        match measure(session, cell, &position, remaining.left()).await {
            Ok(()) => remaining.finished(estimated, began.elapsed()),
            Err(CellEnd::Cell(reason)) => {
                session.context.display.say(&Line::CellFailed(&cell.id, &reason));
                remaining.dropped(estimated);
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
    Cell(String),
    Lane(LaneEnd),
}

impl From<DiskError> for CellEnd {
    fn from(error: DiskError) -> Self {
        Self::Lane(LaneEnd::disk(error))
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
    display.status(&Status::CacheReset(position));
    let resetting = prefix_cache::reset(
        attempt,
        &session.control,
        session.target.clone(),
        cell,
        cell_attempt,
        session.context.signals.clean().clone(),
    );
    // Ollama loads its model again.
    let limit = attempt.framework.start_timeout + attempt.request.timeout;
    let reset = display.watchdog().wait(limit, resetting).await;
    let mut flags = session.facts.flags.clone();
    flags.extend(prefix_cache::reset_flag(reset.as_ref()));
    append(Event::CellStarted(CellStarted {
        lane: lane.clone(),
        cell: cell.id.clone(),
        attempt: cell_attempt,
        cache_reset: reset
            .as_ref()
            .map_or_else(|| "kept".to_owned(), ToString::to_string),
    }))?;

    let result = send(session, cell, cell_attempt, position, left).await;
    let Sent {
        measured,
        offset,
        counters,
    } = match judged(session, result).await {
        Ok(sent) => sent,
        Err(error) => {
            append(Event::CellFailed(CellFailed {
                lane: lane.clone(),
                cell: cell.id.clone(),
                attempt: cell_attempt,
                reason: error.to_string(),
            }))?;
            return Err(error.ends());
        }
    };
    flags.extend(gpu_log.take_flags());
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

impl CellFailure {
    fn ends(self) -> CellEnd {
        match self {
            Self::Prompt(error) => CellEnd::Cell(error.to_string()),
            Self::TooMuch(why) => CellEnd::Cell(why),
            Self::Hangs(why) => CellEnd::Lane(LaneEnd::failed("cell", why)),
            Self::Cell(CellError::Load(error)) => CellEnd::Cell(error.to_string()),
            Self::Cell(error) => CellEnd::Lane(lane_end(error)),
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
    measured: CellMeasured,
    /// Where its lines begin in the lane's file, bytes.
    offset: u64,
    /// How far the server's own counters have grown.
    counters: BTreeMap<String, f64>,
}

/// Where no request of a cell showed that the server lives, it is asked for a few tokens with nothing else under way:
/// an answer means that the cell was too much for it, which is a result; else it hangs, and the lane is over.
async fn judged(session: &Session<'_>, result: Result<Sent, CellFailure>) -> Result<Sent, CellFailure> {
    let doubt = match &result {
        Ok(sent) if sent.measured.doubtful => {
            "every request timed out and none got past half of its limit".to_owned()
        }
        Err(CellFailure::Cell(hung @ CellError::Hung { .. })) => hung.to_string(),
        _ => return result,
    };
    let limit = session.attempt.request.timeout;
    let cancel = session.context.signals.clean().clone();
    let question = Completion::ready(session.attempt, session.target.clone(), cancel);
    let mut stop = session.context.stop();
    let asked = async {
        tokio::select! {
            biased;
            why = stop.as_mut() => Err(CellFailure::Cell(CellError::Stopped(why))),
            answer = question.complete(limit) => Ok(answer),
        }
    };
    match session.context.display.watchdog().wait(limit, asked).await? {
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
    session: &mut Session<'_>,
    cell: &Cell,
    cell_attempt: u32,
    position: &CellPosition<'_>,
    left: Duration,
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
    let mut measured = CellMeasured::default();
    run.warm_up(&mut session.records, &mut stop, &show, &mut measured)
        .await?;
    let log = ServerLog::from_now(session.context.dir.server_log(&attempt.lane.id));
    let counters = ServerCounters::before(attempt.adapter, &session.control, log).await;
    run.passes(&mut session.records, &mut stop, &show, &mut measured)
        .await?;
    let counters = counters.growth().await;
    Ok(Sent {
        measured,
        offset,
        counters,
    })
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
