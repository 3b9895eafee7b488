//! A lane's cells, one after another: each is reset, sent, judged, and journalled.

use std::{collections::BTreeMap, time::Instant};

use super::{
    Tone,
    cache::{reset, reset_flag},
    lane::{HANG_MARGIN, LaneWork},
    lane_end::LaneEnd,
    lanes::say,
    opening::{LaneCells, RUN_SEED},
    own_counters::OwnCounters,
    progress::{counts, estimated, pulse, tell, until},
    readiness::Completion,
};
use crate::{
    scenario::{CellError, CellMeasured, CellProgress, Halted},
    server::{CompletionProbe as _, Watch},
};
use benchd_journal::{CellEnded, CellFailed, CellStarted, DiskError, Event};
use benchd_plan::Cell;
use benchd_prompts::{PromptError, for_cell};

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

/// Resolves when the cell must stop.
pub(super) fn halt<'a>(work: &'a LaneWork<'_, '_>, watch: Option<&'a Watch>) -> crate::scenario::Halt<'a> {
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

pub(super) fn lane_end(error: CellError) -> LaneEnd {
    match error {
        CellError::Halted(Halted::Interrupted) => LaneEnd::interrupted(),
        CellError::Halted(Halted::Disk(why)) => LaneEnd::disk(why),
        CellError::Disk(error) => LaneEnd::disk(error),
        CellError::Halted(Halted::GpuLost(why)) => LaneEnd::gpu_lost("cell", why),
        error => LaneEnd::failed("cell", error.to_string()),
    }
}
