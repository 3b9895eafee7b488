//! `benchd status`: where a run stands, read from its folder; also while another process runs it.

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Seek, SeekFrom},
    time::Duration,
};

use super::{CommandResult, DONE, answer, find_run};
use crate::{
    check::boot_id,
    cli::StatusArgs,
    run::{Failure, short_duration},
};
use benchd_core::{format::counted, record::LaneId};
use benchd_journal::{LaneOutcome, RunDir, RunOutcome, State};

/// Prints where the run stands, on stdout.
///
/// # Errors
/// When there is no such run, or its journal is damaged.
pub(super) fn run(args: StatusArgs) -> CommandResult {
    // The logs' folder is not needed to read a run; it is told by run.json.
    let dir = find_run(&args.results, args.run.as_deref())?;
    let replay = benchd_journal::replay(&dir.journal()).map_err(Failure::machine)?;
    let state = State::from_entries(&replay.entries);
    let alive = is_alive(&state);
    let now_us = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0);
    let in_cell = state
        .current_lane
        .as_ref()
        .map(|lane| records_in_cell(&dir, lane, &state));
    let text = render(&state, alive, now_us, in_cell);
    answer(&text)?;
    DONE
}

/// Whether the process that runs it is there still: same boot, and a benchd has that pid.
fn is_alive(state: &State) -> bool {
    state.is_open()
        && state.boot_id == boot_id()
        && std::fs::read_to_string(format!("/proc/{}/comm", state.pid))
            .is_ok_and(|comm| comm.trim() == "benchd")
}

/// Lines that the open cell has written so far: those after the last cell that an end event names.
fn records_in_cell(dir: &RunDir, lane: &LaneId, state: &State) -> u64 {
    let file = dir.requests(lane);
    let relative = dir.relative(&file);
    let counted_to = state
        .lanes
        .values()
        .flat_map(|l| l.finished_cells())
        .filter(|(_, cell)| cell.ended.file == relative)
        .map(|(_, cell)| cell.ended.offset + cell.ended.bytes)
        .max()
        .unwrap_or(0);
    let count = || -> std::io::Result<u64> {
        let mut open = std::fs::File::open(&file)?;
        open.seek(SeekFrom::Start(counted_to))?;
        Ok(BufReader::new(open).split(b'\n').count() as u64)
    };
    count().unwrap_or(0)
}

fn render(state: &State, alive: bool, now_us: u64, in_cell: Option<u64>) -> String {
    let mut out = String::new();
    let since = |us: u64| short_duration(Duration::from_micros(now_us.saturating_sub(us)));
    let stands = match (&state.ended, alive) {
        (Some(end), _) => match end.outcome {
            RunOutcome::Finished => "finished".to_owned(),
            RunOutcome::Interrupted => "interrupted; go on with --resume".to_owned(),
            RunOutcome::Unsafe => "stopped for safety".to_owned(),
            RunOutcome::Aborted => "stopped; go on with --resume".to_owned(),
        },
        (None, true) => format!("running for {} (pid {})", since(state.started_unix_us), state.pid),
        (None, false) => format!("died {} ago; go on with --resume", since(state.last_unix_us)),
    };
    let _ = writeln!(out, "run    {}", state.run_id);
    let _ = writeln!(out, "plan   {}", state.plan);
    let _ = writeln!(out, "state  {stands}");
    if let Some(reason) = state.ended.as_ref().and_then(|end| end.reason.as_deref()) {
        let _ = writeln!(out, "why    {reason}");
    }
    let _ = writeln!(
        out,
        "cells  {} of {}",
        state.cells_finished(),
        state.cells_planned()
    );
    if let (Some(lane), None) = (&state.current_lane, &state.ended) {
        let cell = state
            .current_cell
            .as_deref()
            .unwrap_or("server starting or stopping");
        let records = in_cell.filter(|_| state.current_cell.is_some());
        let records = records
            .map(|n| format!(", {} so far (warm-up included)", counted(n, "request")))
            .unwrap_or_default();
        let _ = writeln!(out, "now    {lane}: {cell}{records}");
    }
    let _ = writeln!(out);
    let width = state
        .lanes
        .keys()
        .map(|id| id.to_string().len())
        .max()
        .unwrap_or(0);
    for (id, lane) in &state.lanes {
        let done = lane.finished_cells().count();
        let failed: u64 = lane.finished_cells().map(|(_, cell)| cell.ended.failed).sum();
        let word = match (&lane.ended, lane.attempts) {
            (Some(end), _) if end.outcome == LaneOutcome::Finished => "finished",
            (Some(end), _) if end.outcome == LaneOutcome::Failed => "failed",
            (Some(_), _) => "interrupted",
            (None, 0) => "waiting",
            (None, _) if alive => "running",
            (None, _) => "cut off",
        };
        let _ = write!(
            out,
            "{:<width$}  {word:<11}  {done}/{} cells",
            id.to_string(),
            lane.planned_cells
        );
        if failed > 0 {
            let _ = write!(out, ", {}", counted(failed, "failed request"));
        }
        if let Some(end) = lane
            .ended
            .as_ref()
            .filter(|end| end.outcome == LaneOutcome::Failed)
        {
            let stage = end.stage.as_deref().unwrap_or("?");
            let reason = end.reason.as_deref().unwrap_or("no reason given");
            let _ = write!(
                out,
                "\n  failed at {stage}: {}",
                reason.lines().next().unwrap_or(reason)
            );
        }
        let _ = writeln!(out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use benchd_journal::{Entry, Event, JOURNAL_VERSION, LaneEnded, LaneStarted, RunStarted};

    fn entry(seq: u64, event: Event) -> Entry {
        Entry {
            v: JOURNAL_VERSION,
            seq,
            unix_us: 1_000_000 * seq,
            event,
        }
    }

    #[test]
    fn it_tells_a_dead_run_from_a_running_one_and_names_the_failed_lane() {
        let lane = LaneId {
            framework: "vllm".into(),
            model: "m".into(),
            round: 1,
        };
        let state = State::from_entries(&[
            entry(
                0,
                Event::RunStarted(RunStarted {
                    run_id: "r".into(),
                    plan: "p".into(),
                    plan_sha256: String::new(),
                    benchd_version: String::new(),
                    pid: 7,
                    boot_id: "b".into(),
                    resumed: false,
                    lanes: vec![(lane.clone(), 3)],
                }),
            ),
            entry(
                1,
                Event::LaneStarted(LaneStarted {
                    lane: lane.clone(),
                    attempt: 1,
                }),
            ),
            entry(
                2,
                Event::LaneEnded(LaneEnded {
                    lane,
                    attempt: 1,
                    outcome: LaneOutcome::Failed,
                    stage: Some("ready".into()),
                    reason: Some("the server ended with exit 1\nmore".into()),
                    log_tail: vec![],
                    by_machine: false,
                }),
            ),
        ]);
        let dead = render(&state, false, 62_000_000, None);
        assert!(dead.contains("state  died 1 m 00 s ago"), "{dead}");
        assert!(
            dead.contains("failed at ready: the server ended with exit 1\n"),
            "{dead}"
        );
        assert!(render(&state, true, 62_000_000, None).contains("running for 1 m 02 s (pid 7)"));
    }
}
