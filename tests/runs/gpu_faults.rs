//! GPU memory that comes late, never, or is a stranger's; a device that is lost; NVML that fails.

use std::process::{Child, Command, Stdio};

use benchd_core::record::FlagKind;
use benchd_journal::{CellEnded, Event, LaneOutcome, RunOutcome, RunState};
use serde_json::json;

use crate::{bench::Bench, ended::Ended, support::webhook::webhook};

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

/// A process that is nobody's: ended, with what it holds, when dropped.
struct Stranger(Child);

impl Stranger {
    fn start() -> Self {
        Self(
            Command::new("sleep")
                .arg("600")
                .stdin(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    /// Comes to the GPU.
    fn comes(bench: &Bench, bytes: u64) -> Self {
        let this = Self::start();
        bench.gpu().hold(this.pid(), bytes);
        this
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn named(&self) -> String {
        format!("pid {} (sleep, 3072 MiB on GPU 0)", self.pid())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn comes(event: &Event) -> bool {
    matches!(event, Event::StrangerCame(_))
}

fn spoilt(cell: &CellEnded) -> bool {
    cell.flags.iter().any(|flag| flag.kind == FlagKind::StrangerOnGpu)
}

/// The second cell of the framework ended so often, each time spoilt but for the last.
#[track_caller]
fn assert_measured_again(ended: &Ended, framework: &str, times: usize) {
    let all = ended.cells(framework);
    let second: Vec<&CellEnded> = all
        .into_iter()
        .filter(|cell| cell.cell == "concurrent/c2")
        .collect();
    let were: Vec<bool> = second.iter().map(|cell| spoilt(cell)).collect();
    let mut should = vec![true; times - 1];
    should.push(false);
    assert_eq!(were, should, "{second:?}");
}

fn launches(ended: &Ended, framework: &str) -> usize {
    let is = |e: &&Event| matches!(e, Event::ServerLaunched(l) if l.lane.framework == framework);
    ended.events.iter().filter(is).count()
}

#[test]
fn a_stranger_in_mid_run_is_said_at_once_and_what_it_spoilt_is_measured_again_after_it_left() {
    let bench = Bench::new()
        .with_gpu()
        .sim("first", &SLOW)
        .sim("last", &["--gpu-bytes", GIB]);
    let run = bench.start(&[]);
    run.sees("the slow cell", in_cell);
    let stranger = Stranger::comes(&bench, 3 << 30);
    let named = stranger.named();
    run.sees("the stranger", comes);
    let said = || std::fs::read_to_string(bench.path().join("stderr.txt")).unwrap();
    crate::bench::until("the line on the stranger", || {
        said()
            .contains(&format!("another process is on the GPU: {named}"))
            .then_some(())
    });
    run.sees(
        "the spoilt cell's end",
        |event| matches!(event, Event::CellEnded(cell) if spoilt(cell)),
    );
    crate::bench::until("the wait", || {
        said().contains("waiting for the GPU, 30 m").then_some(())
    });
    let pid = stranger.pid();
    drop(stranger);
    let ended = run.wait();
    ended.assert_code(0);
    let left = ended.events.iter().find_map(|event| match event {
        Event::StrangerLeft(left) => Some(left),
        _ => None,
    });
    let left = left.unwrap();
    assert_eq!((left.process.pid, left.process.used_bytes), (pid, Some(3 << 30)));
    assert_measured_again(&ended, "first", 2);
    assert_eq!(launches(&ended, "first"), 1, "in the same lane");
    assert_eq!(ended.lane("first").outcome, LaneOutcome::Finished);
    ended.assert_whole("last");
    ended.assert_folder(RunState::Finished);
    let run_dir = bench.only_run();
    let log = std::fs::read_dir(bench.path().join("logs")).unwrap();
    let log = log
        .flatten()
        .map(|run| run.path().join("benchd.log"))
        .find(|log| log.is_file());
    assert!(std::fs::read_to_string(log.unwrap()).unwrap().contains(&named));
    let report = std::fs::read_to_string(run_dir.join("report.md")).unwrap();
    let words = format!(
        "Another process used the GPU (pid {pid}, sleep, 3,221 MB): 1 test was measured again after it left."
    );
    assert!(report.contains(&words), "{report}");
    bench.assert_nothing_left();
}

#[test]
fn a_stranger_that_stays_ends_the_run_as_busy_and_a_resume_measures_what_it_spoilt() {
    let mut bench = Bench::new()
        .with_gpu()
        .sim("first", &SLOW)
        .sim("last", &["--gpu-bytes", GIB]);
    bench.plan["host"]["stranger"] = json!({ "wait": "300ms" });
    let run = bench.start(&[]);
    run.sees("the slow cell", in_cell);
    let stranger = Stranger::comes(&bench, 3 << 30);
    let ended = run.wait();
    ended.assert_code(3);
    ended.assert_failed("first", "cell", &[&stranger.named(), "did not leave", "--resume"]);
    assert!(ended.lane("first").by_machine);
    assert_eq!(ended.state.ended.as_ref().unwrap().outcome, RunOutcome::Aborted);
    assert!(ended.cells("last").is_empty());
    // What it holds is its own: the server's memory is proven to be back beside it.
    let released = ended.events.iter().find_map(|event| match event {
        Event::GpuReleased(released) => Some(released),
        Event::GpuHeld(held) => panic!("{held:?}"),
        _ => None,
    });
    let released = released.unwrap();
    assert_eq!(
        (&released.used_bytes[..], &released.baseline_bytes[..]),
        (&[3 << 30][..], &[0][..])
    );
    assert_eq!(released.strangers[0].pid, stranger.pid());
    // Nor does it stand in the server's figures.
    let report = bench.output(&["report"]);
    assert_eq!(report.status.code(), Some(0), "{}", report.stderr);
    let summary = std::fs::read_to_string(bench.only_run().join("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let lane = &summary["lanes"][0];
    let peak = |cell: usize| lane["cells"][cell]["gpu"]["memory_peak_bytes"].as_u64();
    assert_eq!((peak(0), peak(1)), (Some(1 << 30), Some(1 << 30)), "{lane}");
    let text = std::fs::read_to_string(bench.only_run().join("report.md")).unwrap();
    assert!(
        text.contains("1 test was measured beside it and does not count"),
        "{text}"
    );

    // It is there still: the resumed run waits, refuses, and has changed nothing.
    let refused = bench.run(&["--resume"]);
    refused.assert_code(3);
    assert!(refused.stderr.contains(&stranger.named()), "{}", refused.stderr);
    assert_eq!(refused.state.starts, 1);
    drop(stranger);
    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    assert_measured_again(&ended, "first", 2);
    ended.assert_whole("last");
    ended.assert_folder(RunState::Finished);
    bench.only_run();
    bench.assert_nothing_left();
}

#[test]
fn a_server_that_fails_beside_a_stranger_is_told_to_have_had_company() {
    let flags = [&SLOW[..], &["--fault", "crash@30:segv"]].concat();
    let bench = Bench::new().with_gpu().sim("dies", &flags);
    let run = bench.start(&[]);
    run.sees("the slow cell", in_cell);
    let stranger = Stranger::comes(&bench, 3 << 30);
    let ended = run.wait();
    ended.assert_code(1);
    let company = format!("not alone on the GPU then: {}", stranger.named());
    ended.assert_failed("dies", "cell", &["SIGSEGV", &company]);
    assert!(ended.lane("dies").by_machine, "its memory was not all there");
}

#[test]
fn where_nvml_does_not_tell_what_a_stranger_holds_the_rest_is_unattributed_and_the_gpu_is_busy() {
    let mut bench = Bench::new()
        .with_gpu()
        .sim("first", &SLOW)
        .with(json!({ "release_timeout": "500ms" }))
        .sim("last", &["--gpu-bytes", GIB]);
    bench.plan["host"]["stranger"] = json!({ "wait": "300ms" });
    let run = bench.start(&[]);
    run.sees("the slow cell", in_cell);
    let stranger = Stranger::start();
    bench.gpu().hold_untold(stranger.pid(), 3 << 30);
    let ended = run.wait();
    ended.assert_code(3);
    let pid = format!("pid {} (sleep", stranger.pid());
    ended.assert_failed("first", "release", &[&pid, "memory not told", "unattributed"]);
    ended.assert_folder(RunState::Aborted);
    drop(stranger);
    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    assert_measured_again(&ended, "first", 2);
    ended.assert_whole("last");
    bench.assert_nothing_left();
}

#[test]
fn where_the_gpu_is_shared_by_the_plan_strangers_are_said_and_not_waited_for() {
    let mut bench = Bench::new().with_gpu().sim("first", &SLOW);
    bench.plan["host"]["exclusive"] = json!(false);
    let run = bench.start(&[]);
    run.sees("the slow cell", in_cell);
    let stranger = Stranger::comes(&bench, 3 << 30);
    let ended = run.wait();
    ended.assert_code(0);
    assert!(ended.stderr.contains(&stranger.named()), "{}", ended.stderr);
    assert!(ended.events.iter().any(comes));
    assert_measured_again(&ended, "first", 1);
    let text = std::fs::read_to_string(bench.only_run().join("report.md")).unwrap();
    assert!(
        text.contains("1 test was measured beside it and does not count"),
        "{text}"
    );
    bench.assert_nothing_left();
}

#[test]
fn what_a_stranger_spoilt_in_a_run_that_has_ended_is_measured_again_by_a_resume() {
    let bench = Bench::new().with_gpu().sim("first", &[]).sim("last", &[]);
    bench.run(&[]).assert_code(0);
    let journal = bench.only_run().join("journal.jsonl");
    let lines: Vec<String> = std::fs::read_to_string(&journal)
        .unwrap()
        .lines()
        .map(|line| {
            let mut entry: serde_json::Value = serde_json::from_str(line).unwrap();
            if let Some(ended) = entry["event"].get_mut("cell_ended")
                && ended["cell"] == "concurrent/c2"
                && ended["lane"]["framework"] == "first"
            {
                ended["flags"] = json!([{ "kind": "stranger_on_gpu", "seen": "pid 4711 was there" }]);
            }
            entry.to_string()
        })
        .collect();
    std::fs::write(&journal, lines.join("\n") + "\n").unwrap();
    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    bench.only_run();
    assert_measured_again(&ended, "first", 2);
    assert_eq!((launches(&ended, "first"), launches(&ended, "last")), (2, 1));
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
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
