//! A worker that dies under a front end that goes on for a while: nothing of the cell counts, the lane ends with the cause,
//! and who goes on measures what is missing.

use benchd_core::record::{Outcome, Phase};
use benchd_journal::{Event, LaneOutcome, RunState, ServerDied};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::{
    bench::{Bench, Running, until},
    ended::Ended,
};

/// A cell before, the cell in which servers die, and one after it.
fn three_cells(requests: u32) -> Bench {
    let mut bench = Bench::new().with_gpu();
    let cell = |requests: u32| json!({ "kind": "concurrent", "concurrency": [2], "input_tokens": 32, "output_tokens": 4, "requests": requests });
    bench.plan["scenarios"] = json!({ "before": cell(4), "dying": cell(requests), "after": cell(4) });
    bench
}

/// How the framework's lane died.
#[track_caller]
fn death<'e>(ended: &'e Ended, framework: &str) -> &'e ServerDied {
    let end = ended.lane(framework);
    assert_eq!(end.outcome, LaneOutcome::Failed, "{framework}: {:?}", end.reason);
    end.died
        .as_ref()
        .unwrap_or_else(|| panic!("{framework} did not die: {:?}", end.reason))
}

fn ended_cells(ended: &Ended, framework: &str) -> Vec<String> {
    ended
        .cells(framework)
        .iter()
        .map(|cell| cell.cell.clone())
        .collect()
}

/// Cells of a framework that were begun.
fn begun_cells(ended: &Ended, framework: &str) -> Vec<String> {
    let begun = ended.events.iter().filter_map(|event| match event {
        Event::CellStarted(started) if started.lane.framework == framework => Some(started.cell.clone()),
        _ => None,
    });
    begun.collect()
}

/// Kills the worker of the only server that runs.
#[track_caller]
fn kill_worker(bench: &Bench) {
    let worker = until("the worker", || {
        let mut processes = bench.processes().into_iter();
        processes.find(|process| process.command.contains("--as-child engine"))
    });
    kill(Pid::from_raw(worker.pid), Signal::SIGKILL).unwrap();
}

/// Kills the worker once so many lines of the framework are stored.
#[track_caller]
fn kill_after(bench: &Bench, run: &Running<'_>, framework: &str, lines: usize) {
    run.stores(framework, lines);
    kill_worker(bench);
}

/// Lines that a lane stores before the measured requests of its second cell: the lane's warm-up, the first cell with its
/// own, and the second cell's warm-up.
const BEFORE_DYING: usize = 1 + 3 + 4 + 3;

/// Requests before those: the first answer, and those that tell the chat template's share.
const UNSTORED: usize = 5;

#[test]
fn a_cell_whose_worker_died_does_not_count_however_few_of_its_requests_were_left() {
    // The first lane finds the texts; of the others each request is known.
    let mut bench = three_cells(330).sim("first", &[]);
    for (left, then) in [
        (5, "engine-dies"),
        (40, "engine-dies"),
        (300, "engine-dies-killed"),
    ] {
        // That one and the one beside it are the first that break.
        let at = UNSTORED + BEFORE_DYING + 330 - left + 2;
        bench = bench.sim(&format!("left-{left}"), &["--fault", &format!("{then}@{at}")]);
    }
    let bench = bench.sim("last", &[]);
    let ended = bench.run(&[]);
    ended.assert_code(1);
    ended.assert_whole("first");
    ended.assert_whole("last");
    for (left, how) in [(5, "exit 0"), (40, "exit 0"), (300, "signal 9 (SIGKILL)")] {
        let lane = format!("left-{left}");
        let died = death(&ended, &lane);
        assert_eq!(died.cell.as_deref(), Some("dying/c2"), "{lane}");
        assert!(
            died.cause.starts_with("sim::engine (pid ")
                && died.cause.contains(") was killed by signal 9 (SIGKILL); ")
                && died.cause.ends_with(how),
            "{lane}: {}",
            died.cause
        );
        // The next cell is not even begun, so nothing is its fault.
        assert_eq!(ended_cells(&ended, &lane), ["before/c2"], "{lane}");
        assert_eq!(begun_cells(&ended, &lane), ["before/c2", "dying/c2"], "{lane}");
        // What was sent is kept.
        let mut records = ended.records(&lane);
        records.retain(|r| r.cell == "dying/c2" && r.phase == Phase::Measured);
        let failed = records.iter().filter(|r| !r.is_ok()).count();
        assert_eq!(failed as u64, died.failed_requests, "{lane}");
        assert!((1..=left + 1).contains(&failed), "{lane}: {failed}");
        let (answered, before) = (records.len() - failed, 330 - left);
        assert!(answered.abs_diff(before) <= 1, "{lane}: {answered}");
        let broken = [
            Outcome::HttpStatus,
            Outcome::Truncated,
            Outcome::Connect,
            Outcome::Cancelled,
        ];
        assert!(
            records.iter().all(|r| r.is_ok() || broken.contains(&r.outcome)),
            "{lane}"
        );
    }
    ended.assert_folder(RunState::Finished);
    ended.assert_memory_back();
    bench.assert_nothing_left();

    let status = bench.output(&["status"]);
    assert!(
        status.stdout.contains("died in cell dying/c2 with ") && status.stdout.contains("sim::engine (pid "),
        "{}",
        status.stdout
    );
}

#[test]
fn a_death_in_the_lanes_last_cell_is_found_and_tried_again() {
    let mut bench = three_cells(40);
    bench.plan["scenarios"].as_object_mut().unwrap().remove("after");
    let bench = bench
        .sim("dies", &["--fault", "engine-dies", "--decode-rate", "100"])
        .with(json!({ "retries": 1 }))
        .sim("last", &[]);
    let run = bench.start(&[]);
    kill_after(&bench, &run, "dies", BEFORE_DYING + 30);
    let ended = run.wait();
    ended.assert_code(0);
    assert_eq!(begun_cells(&ended, "dies"), ["before/c2", "dying/c2", "dying/c2"]);
    ended.assert_whole_cells("dies");
    ended.assert_whole("last");
    assert_eq!(ended.lane("dies").outcome, LaneOutcome::Finished);
    // Said all the same.
    let deaths: Vec<&ServerDied> = ended.state.lanes.values().flat_map(|lane| &lane.deaths).collect();
    assert_eq!(deaths.len(), 1);
    assert_eq!(deaths[0].cell.as_deref(), Some("dying/c2"));
    ended.assert_folder(RunState::Finished);
    ended.assert_memory_back();
    bench.assert_nothing_left();
}

#[test]
fn a_run_that_ended_with_a_dead_server_is_resumed_and_one_that_is_whole_is_not() {
    let bench = three_cells(40)
        .sim("dies", &["--fault", "engine-dies-killed", "--decode-rate", "100"])
        .sim("last", &[]);
    let run = bench.start(&[]);
    kill_after(&bench, &run, "dies", BEFORE_DYING + 10);
    let ended = run.wait();
    ended.assert_code(1);
    assert_eq!(death(&ended, "dies").cell.as_deref(), Some("dying/c2"));

    let status = bench.output(&["status"]).stdout;
    assert!(status.contains("state  finished, not all measured"), "{status}");
    let folder = bench.only_run();
    let check = bench.output(&["check", "plan.yaml"]);
    assert!(
        check.stdout.contains("ended with 4 of 6 cells measured"),
        "{}",
        check.stdout
    );

    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    assert_eq!(bench.only_run(), folder);
    ended.assert_whole_cells("dies");
    assert_eq!(
        begun_cells(&ended, "dies"),
        ["before/c2", "dying/c2", "dying/c2", "after/c2"]
    );
    assert_eq!(
        begun_cells(&ended, "last").len(),
        3,
        "what was measured is not measured again"
    );
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();

    bench.run(&["--resume"]).assert_code(0);
    assert_eq!(bench.runs().len(), 2, "a whole run is left alone");
}

#[test]
fn who_asks_for_unfinished_runs_only_gets_a_new_one_after_one_that_ended() {
    let bench = Bench::new().sim("fails", &["--fault", "exit:1"]);
    bench.run(&[]).assert_code(1);
    bench.run(&["--resume=unfinished"]).assert_code(1);
    assert_eq!(bench.runs().len(), 2);
    bench.run(&["--resume"]).assert_code(1);
    assert_eq!(bench.runs().len(), 2, "its failed lane is tried again");
    // A plan that was mended begins anew.
    let mut bench = bench;
    bench.plan["request"]["timeout"] = json!("29s");
    bench.run(&["--resume"]).assert_code(1);
    assert_eq!(bench.runs().len(), 3);
}

#[test]
fn a_front_end_that_lives_on_with_a_dead_engine_is_found_out() {
    let at = UNSTORED + BEFORE_DYING + 36;
    let bench = three_cells(40)
        .sim("first", &[])
        .sim("worker", &["--fault", &format!("engine-dead@{at}")])
        // Without a process of its own that could be missed.
        .sim("alone", &["--fault", &format!("http@{at}:500")])
        .sim("last", &[]);
    let ended = bench.run(&[]);
    ended.assert_code(1);
    ended.assert_whole("first");
    ended.assert_whole("last");
    for lane in ["worker", "alone"] {
        assert_eq!(death(&ended, lane).cell.as_deref(), Some("dying/c2"), "{lane}");
        assert_eq!(begun_cells(&ended, lane), ["before/c2", "dying/c2"], "{lane}");
    }
    assert!(
        death(&ended, "worker")
            .cause
            .ends_with("was killed by signal 9 (SIGKILL)")
    );
    let alone = &death(&ended, "alone").cause;
    assert!(
        alone.contains("has not answered a short request for") && alone.contains("500"),
        "{alone}"
    );
    ended.assert_folder(RunState::Finished);
    ended.assert_memory_back();
    bench.assert_nothing_left();
}

#[test]
fn a_worker_that_dies_between_cells_ends_the_lane_before_the_next() {
    let bench = three_cells(4)
        .sim("dies", &["--fault", "engine-dies:60s", "--decode-rate", "20"])
        .with(json!({ "stop_grace": "1s" }))
        .sim("last", &[]);
    let run = bench.start(&[]);
    // Killed in the first cell's last requests, or behind them: whichever it is, no cell counts in which a request broke.
    run.sees("the first cell's end", |event| {
        matches!(event, Event::CellEnded(_))
    });
    kill_worker(&bench);
    let ended = run.wait();
    ended.assert_code(1);
    let died = death(&ended, "dies");
    assert!(died.cause.starts_with("sim::engine (pid "), "{}", died.cause);
    assert_eq!(ended_cells(&ended, "dies"), ["before/c2"]);
    assert!(ended.cells("dies").iter().all(|cell| cell.failed == 0));
    ended.assert_whole("last");
    bench.assert_nothing_left();
}

#[test]
fn a_helper_that_is_killed_costs_nothing() {
    let bench = three_cells(40)
        .sim("helped", &["--fault", "child", "--decode-rate", "100"])
        .sim("last", &[]);
    let run = bench.start(&[]);
    run.stores("helped", BEFORE_DYING + 5);
    let child = until("the helper", || {
        let mut processes = bench.processes().into_iter();
        processes.find(|process| process.command.contains("--as-child hold"))
    });
    kill(Pid::from_raw(child.pid), Signal::SIGKILL).unwrap();
    let ended = run.wait();
    ended.assert_code(0);
    ended.assert_whole("helped");
    ended.assert_whole("last");
    bench.assert_nothing_left();
}
