//! Signals: the run ends cleanly wherever it is, is marked interrupted, and goes on.

use benchd_journal::{Event, LaneOutcome, RunOutcome, RunState};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{bench::Bench, ended::Ended};

fn launched(event: &Event) -> bool {
    matches!(event, Event::ServerLaunched(_))
}

fn stopping(event: &Event) -> bool {
    matches!(event, Event::ServerStopping(_))
}

#[track_caller]
fn assert_interrupted(bench: &Bench, ended: &Ended, code: i32) {
    ended.assert_code(code);
    assert_eq!(
        ended.state.ended.as_ref().unwrap().outcome,
        RunOutcome::Interrupted
    );
    ended.assert_folder(RunState::Interrupted);
    bench.assert_nothing_left();
}

/// Goes on with it: in the same folder, to the end, no cell twice.
#[track_caller]
fn assert_resumes(bench: &Bench, lanes: &[&str]) {
    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    bench.only_run();
    for lane in lanes {
        ended.assert_whole_cells(lane);
    }
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
}

#[test]
fn in_mid_cell_the_lane_is_stopped_cleanly_and_goes_on_later() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let bench = Bench::new().sim("a", &["--decode-rate", "100"]).sim("b", &[]);
        let run = bench.start(&[]);
        // Lane warm-up 1, first cell 3 + 2, second cell 3 + some of 40.
        run.stores("a", 14);
        run.signal(signal);
        let ended = run.wait();
        assert_interrupted(&bench, &ended, code);
        assert_eq!(ended.lane("a").outcome, LaneOutcome::Interrupted);
        assert_eq!(ended.cells("a").len(), 1, "the finished cell stays");
        assert!(!ended.reaped("a").killed);
        assert_resumes(&bench, &["a", "b"]);
    }
}

#[test]
fn while_a_server_starts_it_is_stopped_too() {
    let bench = Bench::new().sim("a", &["--start-delay", "60s"]);
    let run = bench.start(&[]);
    run.sees("the launch", launched);
    run.signal(Signal::SIGINT);
    let ended = run.wait();
    assert_interrupted(&bench, &ended, 130);
    assert_eq!(ended.lane("a").outcome, LaneOutcome::Interrupted);
}

#[test]
fn while_a_server_stops_its_measured_cells_stay_and_nothing_is_left_to_do() {
    let bench = Bench::new().sim("a", &["--stop-delay", "1s"]);
    let run = bench.start(&[]);
    run.sees("the stop", stopping);
    run.signal(Signal::SIGTERM);
    let ended = run.wait();
    assert_interrupted(&bench, &ended, 143);
    ended.assert_whole("a");
    assert_resumes(&bench, &["a"]);
}

#[test]
fn a_second_signal_passes_over_the_grace() {
    let bench = Bench::new()
        .sim(
            "a",
            &[
                "--decode-rate",
                "50",
                "--fault",
                "ignore-term",
                "--fault",
                "child-session:stubborn",
            ],
        )
        .with(json!({ "stop_grace": "1h" }));
    let run = bench.start(&[]);
    run.stores("a", 8);
    run.signal(Signal::SIGTERM);
    run.sees("the stop", stopping);
    run.signal(Signal::SIGINT);
    let ended = run.wait();
    assert_interrupted(&bench, &ended, 143);
    assert!(ended.reaped("a").killed);
    assert_eq!(ended.reaped("a").swept.len(), 1);
}

#[test]
fn a_terminal_that_goes_stops_the_run_cleanly() {
    let bench = Bench::new().sim("a", &["--decode-rate", "100"]).hup("default");
    let run = bench.start(&[]);
    run.stores("a", 8);
    run.signal(Signal::SIGHUP);
    assert_interrupted(&bench, &run.wait(), 129);
    assert_resumes(&bench, &["a"]);
}

#[test]
fn under_nohup_a_run_outlives_its_terminal() {
    let bench = Bench::new().sim("a", &["--decode-rate", "100"]).hup("ignore");
    let run = bench.start(&[]);
    run.stores("a", 8);
    run.signal(Signal::SIGHUP);
    let ended = run.wait();
    ended.assert_code(0);
    ended.assert_whole("a");
    bench.assert_nothing_left();
}
