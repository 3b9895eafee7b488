//! GPU memory that comes late, never, or is a stranger's; a device that is lost; NVML that fails.

use benchd_core::record::FlagKind;
use benchd_journal::{Event, LaneOutcome, RunOutcome, RunState};
use serde_json::json;

use crate::{bench::Bench, support::webhook::webhook};

const GIB: &str = "1073741824";

/// A lane whose second cell takes a few seconds, so that something can happen in it.
const SLOW: [&str; 4] = ["--decode-rate", "20", "--gpu-bytes", GIB];

fn in_cell(event: &Event) -> bool {
    matches!(event, Event::CellStarted(cell) if cell.cell == "concurrent/c2")
}

#[test]
fn memory_that_comes_back_late_is_waited_for() {
    let bench = Bench::new()
        .with_gpu()
        .sim("first", &["--gpu-bytes", GIB])
        .sim("late", &["--gpu-bytes", GIB, "--gpu-release-delay", "never"])
        .sim("last", &["--gpu-bytes", GIB]);
    // Counted from when somebody first sees the process gone.
    bench.set_gpu(&json!({ "reap_dead_after_ms": 1000 }));
    let ended = bench.run(&[]);
    ended.assert_code(0);
    let released = |name: &str| {
        ended.events.iter().find_map(|event| match event {
            Event::GpuReleased(released) if released.lane.framework == name => Some(released.clone()),
            _ => None,
        })
    };
    for lane in ["first", "late", "last"] {
        ended.assert_whole(lane);
        let released = released(lane).unwrap();
        assert_eq!(released.used_bytes, released.baseline_bytes);
    }
    assert!(released("late").unwrap().release_ms >= 500);
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
}

#[test]
fn memory_of_a_killed_server_and_of_its_children_comes_back_too() {
    let bench = Bench::new()
        .with_gpu()
        .sim(
            "stubborn",
            &[
                "--gpu-bytes",
                GIB,
                "--fault",
                "ignore-term",
                "--fault",
                "child-daemon:stubborn",
            ],
        )
        .with(json!({ "stop_grace": "200ms" }))
        .sim("dies", &["--gpu-bytes", GIB, "--fault", "crash@30:segv"])
        .sim("last", &["--gpu-bytes", GIB]);
    let ended = bench.run(&[]);
    ended.assert_code(1);
    ended.assert_whole("stubborn");
    ended.assert_failed("dies", "cell", &["SIGSEGV"]);
    ended.assert_whole("last");
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
}

#[test]
fn memory_that_never_comes_back_stops_the_run_for_safety() {
    let mut bench = Bench::new()
        .with_gpu()
        .sim("first", &["--gpu-bytes", GIB])
        .sim("leaks", &["--gpu-bytes", GIB, "--gpu-release-delay", "never"])
        .with(json!({ "release_timeout": "500ms" }))
        .sim("last", &["--gpu-bytes", GIB]);
    let (port, messages) = webhook();
    bench.plan["notify"] = json!({ "webhook": format!("http://127.0.0.1:{port}/hook") });
    bench.set_gpu(&json!({ "reap_dead_after_ms": null }));
    let ended = bench.run(&[]);
    ended.assert_code(4);
    let told: Vec<_> = messages.try_iter().collect();
    let last = told.last().unwrap();
    assert_eq!(last["occasion"], "stopped_for_safety", "{told:?}");
    assert_eq!(last["exit_code"], 4);
    assert!(last["text"].as_str().unwrap().contains("1024 MiB"), "{last}");
    ended.assert_whole("first");
    ended.assert_failed("leaks", "release", &["1024 MiB"]);
    assert_eq!(ended.cells("leaks").len(), 2, "what is measured stays");
    assert_eq!(ended.state.ended.as_ref().unwrap().outcome, RunOutcome::Unsafe);
    assert!(ended.cells("last").is_empty());
    ended.assert_folder(RunState::Unsafe);
    bench.assert_nothing_left();

    // Whoever held it is gone: the lane that was measured is not begun again for it.
    bench.set_gpu(&json!({}));
    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    assert_eq!(ended.lane("leaks").attempt, 1);
    for lane in ["first", "leaks", "last"] {
        ended.assert_whole_cells(lane);
    }
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
}

#[test]
fn a_stranger_that_comes_and_goes_is_flagged_and_one_that_stays_stops_the_run() {
    for stays in [false, true] {
        let bench = Bench::new()
            .with_gpu()
            .sim("first", &SLOW)
            .with(json!({ "release_timeout": "500ms" }))
            .sim("last", &["--gpu-bytes", GIB]);
        let run = bench.start(&[]);
        run.sees("the slow cell", in_cell);
        bench.gpu().hold(std::process::id(), 3 << 30);
        if !stays {
            // Until the sampler has seen it.
            let run_dir = bench.only_run();
            let samples = run_dir.join("first/m/gpu.jsonl");
            let own = format!("{}", std::process::id());
            crate::bench::until("a sample that shows the stranger", || {
                std::fs::read_to_string(&samples)
                    .ok()?
                    .contains(&own)
                    .then_some(())
            });
            bench.gpu().free(std::process::id());
        }
        let ended = run.wait();
        let flagged = ended
            .cells("first")
            .iter()
            .flat_map(|cell| &cell.flags)
            .any(|flag| {
                flag.kind == FlagKind::StrangerOnGpu && flag.seen.contains(&std::process::id().to_string())
            });
        assert!(flagged, "{:?}", ended.cells("first"));
        if stays {
            ended.assert_code(4);
            ended.assert_failed("first", "release", &[&std::process::id().to_string()]);
            ended.assert_folder(RunState::Unsafe);
        } else {
            ended.assert_code(0);
            ended.assert_whole("first");
            ended.assert_whole("last");
            ended.assert_folder(RunState::Finished);
        }
        bench.assert_nothing_left();
    }
}

#[test]
fn a_device_that_is_lost_in_mid_cell_ends_the_run_for_safety() {
    let bench = Bench::new()
        .with_gpu()
        .sim("first", &SLOW)
        .with(json!({ "release_timeout": "500ms" }))
        .sim("last", &["--gpu-bytes", GIB]);
    let run = bench.start(&[]);
    run.sees("the slow cell", in_cell);
    bench.set_gpu(&json!({ "lost": true }));
    let ended = run.wait();
    ended.assert_code(4);
    assert_eq!(ended.lane("first").outcome, LaneOutcome::Failed);
    let why = ended.state.ended.as_ref().unwrap().reason.clone().unwrap();
    assert!(why.contains("lost"), "{why}");
    assert_eq!(ended.cells("first").len(), 1);
    assert!(ended.cells("last").is_empty());
    ended.assert_folder(RunState::Unsafe);
    bench.assert_nothing_left();

    // The machine was mended: what it failed is measured after all, what was measured stays.
    bench.set_gpu(&json!({}));
    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    bench.only_run();
    for lane in ["first", "last"] {
        ended.assert_whole_cells(lane);
    }
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
}

#[test]
fn calls_that_fail_in_mid_run_cost_their_samples_only() {
    let bench = Bench::new()
        .with_gpu()
        .sim("first", &SLOW)
        .sim("last", &["--gpu-bytes", GIB]);
    let run = bench.start(&[]);
    run.sees("the slow cell", in_cell);
    bench.set_gpu(&json!({ "fail": {
        "nvmlDeviceGetPowerUsage": "UNKNOWN",
        "nvmlDeviceGetUtilizationRates": "TIMEOUT",
        "nvmlDeviceGetTemperature": "NOT_SUPPORTED",
    } }));
    let ended = run.wait();
    ended.assert_code(0);
    ended.assert_whole("first");
    ended.assert_whole("last");
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
}
