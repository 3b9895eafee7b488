//! The questions with one checkable answer that every lane is asked before its first cell: one after another, and again
//! with as many streams as the lane will have, since kernels that are right for one request have been wrong for many.

use super::{
    lane_end::LaneEnd,
    lines::{Line, Status},
    session::{Session, lane_end},
};
use crate::scenario::{CellMeasured, CellProgress, CellRequests};
use benchd_journal::{CellEnded, DiskError, Event, PromptFile, RecordFile};
use benchd_plan::{Arrival, Cell, most_streams};
use benchd_prompts::{Question, questions};

/// Asks what is not asked yet. Answers decide nothing here: they are graded by the analysis.
pub(super) async fn ask(session: &mut Session<'_>) -> Result<(), LaneEnd> {
    let attempt = session.attempt;
    let (Some(quality), Some(first)) = (attempt.quality, attempt.lane.cells.first()) else {
        return Ok(());
    };
    let lane = &attempt.lane.id;
    let (dir, journal, display) = (
        session.context.dir,
        session.context.journal,
        session.context.display,
    );
    let longest = session.calibration.exact.keys().next_back().copied();
    let questions = questions(&session.calibration, longest, quality.file.as_deref())
        .map_err(|error| LaneEnd::failed("prepare", format!("{error}\nhint: {}", error.hint())))?;
    let count = u32::try_from(questions.len()).unwrap_or(u32::MAX);
    let max_tokens = quality.answer_tokens(attempt.model);
    let (adapter, effort) = (attempt.adapter, attempt.model.reasoning_effort);
    let requests = CellRequests::of_questions(&questions, adapter, attempt.request, effort, max_tokens);
    tokio::task::block_in_place(|| freeze(session, &questions)).map_err(LaneEnd::disk)?;
    let mut streams = vec![1, most_streams(attempt.lane).min(count)];
    streams.dedup();
    for concurrency in streams {
        let cell = Cell {
            id: format!("quality/c{concurrency}"),
            scenario: "quality".to_owned(),
            concurrency,
            arrival: Arrival::Closed,
            output_tokens: max_tokens,
            requests_per_pass: count,
            passes: 1,
            warmup: 0,
            ..first.clone()
        };
        // The state is locked while it is looked at.
        let is_asked = {
            let state = journal.state();
            let lane = state.lanes.get(lane);
            lane.is_some_and(|lane| lane.quality.contains_key(&cell.id))
        };
        if is_asked {
            continue;
        }
        let path = dir.quality(lane);
        let (mut records, torn) = RecordFile::open_append(&path).map_err(LaneEnd::disk)?;
        if let Some(torn) = torn {
            display.say(&Line::Note(&torn));
        }
        let offset = records.position();
        let run = session.cell_run(&cell, 1, &requests);
        let pings = session.progress_pings(&cell);
        let show = |progress: CellProgress| {
            pings.at(progress.stored);
            display.status(&Status::Quality(lane, progress));
        };
        display.at(&lane.to_string(), &cell.id);
        let mut stop = session.context.stop();
        let mut measured = CellMeasured::default();
        run.passes(&mut records, &mut stop, &show, &mut measured)
            .await
            .map_err(lane_end)?;
        let end = tokio::task::block_in_place(|| records.sync()).map_err(LaneEnd::disk)?;
        let asked = CellEnded {
            lane: lane.clone(),
            cell: cell.id,
            attempt: 1,
            file: dir.relative(&path),
            offset,
            bytes: end - offset,
            records: measured.records,
            requests: measured.requests,
            failed: measured.failed,
            passes: measured.passes,
            client: measured.client,
            flags: Vec::new(),
            server_counters: std::collections::BTreeMap::new(),
        };
        journal
            .append(Event::QualityAsked(asked.clone()))
            .map_err(LaneEnd::disk)?;
        match benchd_analysis::grade_answers(dir.root(), &asked, &questions) {
            Ok(graded) => {
                let line = benchd_report::questions_line(&graded);
                display.say(&Line::Questions(&line, graded.is_odd()));
            }
            Err(error) => display.say(&Line::CellUnreadable(&asked.cell, &error)),
        }
    }
    Ok(())
}

/// Freezes the questions with their answers before the first of them is asked.
fn freeze(session: &Session<'_>, questions: &[Question]) -> Result<(), DiskError> {
    let (mut file, torn) = PromptFile::open(&session.context.dir.questions(), |q: &Question| &q.id)?;
    if let Some(torn) = torn {
        session.context.display.say(&Line::Note(&torn));
    }
    for question in questions {
        file.append(question)?;
    }
    file.sync()
}
