//! What goes wrong while a cell is measured, or in the warm-up before it. The request of each fault lies in the
//! second cell (some forty requests come before it at most: readiness, text lengths, warm-up, the first cell).

use benchd_core::record::{FlagKind, Outcome, Phase};
use benchd_journal::RunState;
use serde_json::json;

use crate::{bench::Bench, ended::Ended};

fn check(bench: &Bench) -> Ended {
    let ended = bench.run(&[]);
    ended.assert_code(1);
    ended.assert_whole("first");
    ended.assert_whole("last");
    ended.assert_folder(RunState::Finished);
    ended.assert_memory_back();
    bench.assert_nothing_left();
    ended
}

/// Lanes with one fault each, between two healthy ones.
fn lanes(timeout: &str, faults: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::new().with_gpu().request_timeout(timeout).sim("first", &[]);
    for (name, fault) in faults {
        bench = bench.sim(name, &["--fault", fault]);
    }
    bench.sim("last", &[])
}

#[test]
fn failed_requests_are_classed_and_the_cell_goes_on() {
    let faults = [
        ("status-500", "http@30-31:500", Outcome::HttpStatus),
        ("status-429", "http@30-31:429", Outcome::HttpStatus),
        ("proxy-page", "html@30-31", Outcome::HttpStatus),
        ("no-stream", "not-a-stream@30-31", Outcome::Malformed),
        ("error-event", "error-event@30-31:1", Outcome::StreamError),
        (
            "error-no-done",
            "error-event-no-done@30-31:1",
            Outcome::StreamError,
        ),
        ("cuts", "cut@30-31:1", Outcome::Truncated),
        ("resets", "reset@30-31:1", Outcome::Truncated),
        ("ends-early", "end-early@30-31:1", Outcome::Truncated),
        ("no-done", "no-done@30-31", Outcome::Truncated),
        ("no-usage", "no-usage@30-31", Outcome::Truncated),
        ("no-finish", "no-finish@30-31", Outcome::Truncated),
        ("bad-json", "bad-json@30-31", Outcome::Malformed),
    ];
    let lanes = lanes("30s", &faults.map(|(name, fault, _)| (name, fault)));
    let ended = check(&lanes);
    for (name, _, outcome) in faults {
        ended.assert_failing_requests(name, outcome);
        assert_eq!(ended.failures(name).len(), 2, "{name}");
    }
}

#[test]
fn a_request_that_hangs_costs_its_time_out_and_no_more() {
    let faults = [
        ("hangs", "hang@30-31:1"),
        ("no-answer", "never-answer@30-31"),
        ("slow-head", "slow-head@30-31:60s"),
    ];
    let bench = lanes("3s", &faults);
    let ended = check(&bench);
    for (name, _) in faults {
        ended.assert_failing_requests(name, Outcome::Timeout);
        assert_eq!(ended.failures(name).len(), 2, "{name}");
    }
}

#[test]
fn a_listener_that_closes_fails_what_is_left_of_the_cells() {
    let bench = lanes("30s", &[("closes", "refuse@30")]);
    let ended = check(&bench);
    ended.assert_failing_requests("closes", Outcome::Connect);
}

#[test]
fn a_server_that_dies_or_falls_silent_ends_its_lane_and_keeps_what_is_whole() {
    let faults = [
        ("exits", "exit@30:5"),
        ("segv", "crash@30:segv"),
        ("mid-stream", "crash-mid@30:1"),
        ("freezes", "freeze@30"),
        ("hangs", "never-answer@30"),
    ];
    let mut bench = Bench::new().with_gpu().request_timeout("3s").sim("first", &[]);
    for (name, fault) in faults {
        bench = bench
            .sim(name, &["--fault", fault])
            .with(json!({ "stop_grace": "500ms" }));
    }
    let bench = bench.sim("last", &[]);
    let ended = check(&bench);
    for (name, _) in faults {
        ended.assert_failed(name, "cell", &[]);
        let cells: Vec<&str> = ended.cells(name).iter().map(|cell| cell.cell.as_str()).collect();
        assert_eq!(cells, ["single/in32"], "{name}");
        let records = ended.records(name);
        assert!(
            records.iter().any(|r| r.cell == "concurrent/c2" && r.is_ok()),
            "{name}: not in mid-cell"
        );
    }
    ended.assert_failed("exits", "cell", &["exit 5", "out of memory"]);
    ended.assert_failed("segv", "cell", &["SIGSEGV"]);
    ended.assert_failed("mid-stream", "cell", &["server ended"]);
    ended.assert_failed("freezes", "cell", &["sent nothing", "it hangs"]);
    ended.assert_failed("hangs", "cell", &["sent nothing", "it hangs"]);
}

#[test]
fn a_server_that_begins_every_answer_and_ends_none_is_given_up() {
    let mut bench = Bench::new().with_gpu().request_timeout("6s").sim("first", &[]);
    // Many requests would take hours to time out; a single wave of them ends before a hang can be told by waiting.
    bench.plan["scenarios"]["concurrent"] =
        json!({ "concurrency": [2, 40, 41], "input_tokens": 32, "output_tokens": 4, "requests": 41 });
    let bench = bench
        .sim("crawls", &["--fault", "hang@12:1"])
        .with(json!({ "stop_grace": "500ms" }))
        .sim("one-wave", &["--fault", "hang@70:1"])
        .with(json!({ "stop_grace": "500ms" }))
        .sim("last", &[]);
    let ended = check(&bench);
    ended.assert_failed("crawls", "cell", &["began to answer", "it hangs"]);
    ended.assert_failed("one-wave", "cell", &["timed out", "it hangs"]);
    for lane in ["crawls", "one-wave"] {
        let seen: Vec<Outcome> = ended.records(lane).iter().map(|r| r.outcome).collect();
        assert!(seen.contains(&Outcome::Timeout), "{lane}: {seen:?}");
        let after = ended.records(lane).iter().any(|r| r.cell == "concurrent/c41");
        assert!(!after, "{lane}: the next cell was begun");
    }
}

/// Time-outs that a slow server is expected to have are a result, and the lane goes on behind them.
#[test]
fn a_server_that_is_only_too_slow_is_measured_to_its_end() {
    let mut bench = Bench::new().with_gpu().request_timeout("6s").sim("first", &[]);
    bench.plan["scenarios"]["concurrent"] =
        json!({ "concurrency": [16], "input_tokens": 32, "output_tokens": 4, "requests": 32 });
    let bench = bench
        // One request at a time, 1 s each: the last of sixteen wait longer than their limit.
        .sim("one-slot", &["--slots", "1", "--decode-rate", "4"])
        // Tokens come until each request's limit is over, and no answer ever ends.
        .sim("trickles", &["--fault", "trickle@15-50:10ms"])
        // Nothing comes for the requests of this cell (13 of its warm-up, 16 and 16 again before it is given up), and
        // whoever asks later gets an answer.
        .sim("swallows", &["--fault", "never-answer@15-59"])
        .sim("last", &[]);
    let ended = check(&bench);
    for lane in ["one-slot", "trickles"] {
        ended.assert_failing_requests(lane, Outcome::Timeout);
        assert_eq!(ended.cells(lane).len(), 2, "{lane}");
    }
    ended.assert_failed("swallows", "cell", &["sent nothing", "the lane goes on"]);
}

#[test]
fn a_death_in_the_warm_up_or_the_text_search_is_the_lanes_own_end() {
    // The first lane finds the texts' lengths, so that a later one's warm-up begins with its few first requests.
    let bench = Bench::new()
        .with_gpu()
        .sim("search", &["--fault", "exit@6:6"])
        .sim("first", &[])
        .sim("early", &["--fault", "exit@2:2"])
        .sim("warm-up", &["--fault", "exit@5:5"])
        .sim("between", &["--fault", "exit@12:8"])
        .sim("last", &[]);
    let ended = check(&bench);
    for (lane, words) in [
        ("early", "exit 2"),
        ("search", "exit 6"),
        ("warm-up", "exit 5"),
        ("between", "exit 8"),
    ] {
        let end = ended.lane(lane);
        assert_eq!(end.outcome, benchd_journal::LaneOutcome::Failed, "{lane}");
        let reason = end.reason.as_deref().unwrap();
        assert!(reason.contains(words), "{lane}: {reason}");
    }
    assert!(ended.records("warm-up").iter().all(|r| r.phase == Phase::Warmup));
}

#[test]
fn a_server_without_usage_or_end_marker_is_measured_and_flagged() {
    let bench = Bench::new()
        .sim("first", &[])
        .sim("no-usage", &["--fault", "no-usage"])
        .sim("no-done", &["--fault", "no-done"])
        .sim("last", &[]);
    let ended = bench.run(&[]);
    ended.assert_code(0);
    for lane in ["first", "no-usage", "no-done", "last"] {
        ended.assert_whole(lane);
    }
    for cell in ended.cells("no-usage") {
        assert!(
            cell.flags.iter().any(|flag| flag.kind == FlagKind::NoUsage),
            "{cell:?}"
        );
    }
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
}

#[test]
fn a_scenario_that_fails_as_a_whole_takes_no_other_with_it() {
    let mut bench = Bench::new().with_gpu();
    bench.plan["scenarios"]["single"]["input_tokens"] = json!([2048]);
    // Prompts of the first scenario do not fit these servers: each request of it is refused.
    let small = ["--context", "512"];
    let bench = bench.sim("first", &[]).sim("small", &small).sim("last", &[]);
    let ended = check(&bench);
    let failed: Vec<(&str, u64, u64)> = ended
        .cells("small")
        .iter()
        .map(|cell| (cell.cell.as_str(), cell.requests, cell.failed))
        .collect();
    assert_eq!(failed, [("single/in2048", 2, 2), ("concurrent/c2", 40, 0)]);
    ended.assert_failing_requests("small", Outcome::HttpStatus);
}

#[test]
fn lengths_that_the_first_server_cannot_take_cost_it_their_cells_only() {
    let mut bench = Bench::new().with_gpu();
    bench.plan["scenarios"]["single"]["input_tokens"] = json!([2048]);
    let small = ["--context", "512"];
    let bench = bench
        // They come before any server that takes long prompts, so nobody has found those texts.
        .sim("a-small", &small)
        .sim("b-small", &small)
        .sim("first", &[])
        .sim("last", &[]);
    let ended = check(&bench);
    for lane in ["a-small", "b-small"] {
        let cells: Vec<&str> = ended.cells(lane).iter().map(|cell| cell.cell.as_str()).collect();
        assert_eq!(cells, ["concurrent/c2"], "{lane}");
        ended.assert_failed(lane, "cell", &["single/in2048", "not measured for"]);
    }
    assert!(
        ended.stderr.contains("maximum context length"),
        "{}",
        ended.stderr
    );
    // All got the same texts where they got any.
    let prompts = |lane: &str| -> Vec<String> {
        let records = ended.records(lane).into_iter();
        records
            .filter(|r| r.cell == "concurrent/c2" && r.phase == Phase::Measured)
            .map(|r| r.prompt_id)
            .collect()
    };
    assert_eq!(prompts("a-small").len(), 40);
    let sorted = |lane: &str| {
        let mut ids = prompts(lane);
        ids.sort();
        ids
    };
    for lane in ["b-small", "first", "last"] {
        assert_eq!(sorted(lane), sorted("a-small"), "{lane}");
    }
}
