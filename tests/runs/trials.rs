//! Lanes that are left out since they are known not to start, and each server once before the night.

use std::fs;

use benchd_journal::RunInfo;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use crate::bench::{Bench, until};

#[test]
fn a_lane_that_is_known_not_to_start_is_left_out_on_request_and_recorded_with_the_reason() {
    let mut bench = Bench::new().with_gpu().sim("first", &[]).server(
        "sglang",
        json!({ "kind": "sglang", "version": "0.5.6.post2", "venv": "no/venv" }),
    );
    bench.plan["models"]["m"] = json!({ "openai": "sim", "hf": "org/llama" });
    let bench = bench.sim("last", &[]);
    // Runs of other tests, and of a suite beside this one, must not meet on its lock.
    let uuid = format!("GPU-of-the-trials-{}", std::process::id());
    bench.set_gpu(&json!({ "devices": [{
        "uuid": uuid, "name": "NVIDIA GeForce RTX 5090", "compute_capability": [12, 0], "total_bytes": 34_190_917_632_u64,
    }] }));
    let refused = bench.run(&[]);
    refused.assert_code(3);
    assert!(
        refused.run.is_none() && refused.stderr.contains("trtllm_mha"),
        "{}",
        refused.stderr
    );

    let ended = bench.run(&["--skip-unfit"]);
    ended.assert_code(1);
    ended.assert_failed("sglang", "prepare", &["left out", "trtllm_mha"]);
    ended.assert_whole("first");
    ended.assert_whole("last");
    bench.assert_nothing_left();
    let info = RunInfo::read(&ended.run.unwrap().join("run.json")).unwrap();
    assert!(
        info.compiles["sglang/m"][0].contains("Triton"),
        "{:?}",
        info.compiles
    );
    let gpu = info.gpu.unwrap().devices.remove(0);
    assert_eq!(gpu.compute_capability.as_deref(), Some("12.0"));
}

#[test]
fn each_server_is_started_once_asked_stopped_and_its_memory_is_back() {
    let bench = Bench::new().with_gpu().sim("first", &[]).sim("last", &[]);
    bench.write_plan();
    let said = bench.output(&["check", "plan.yaml", "--start"]);
    assert_eq!(said.status.code(), Some(0), "{}\n{}", said.stdout, said.stderr);
    for words in [
        "first / m",
        "last / m",
        "answered after",
        "1.0 GiB",
        "memory back",
        "the run will take about",
    ] {
        assert!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
    assert!(bench.results().join("starts").is_dir());
    let runs = bench.runs();
    assert!(
        runs.iter().all(|run| run.ends_with("starts")),
        "no run of the plan: {runs:?}"
    );
    bench.assert_nothing_left();
    // A run knows nothing of it.
    bench.run(&["--resume"]).assert_code(0);
}

#[test]
fn a_server_that_does_not_start_is_told_before_the_night() {
    let bench = Bench::new()
        .with_gpu()
        .server(
            "broken",
            json!({ "command": ["sh", "-c", "echo no luck; exit 4", "{port}"] }),
        )
        .sim("last", &[]);
    bench.write_plan();
    let said = bench.output(&["env", "plan.yaml", "--warm"]);
    assert_eq!(said.status.code(), Some(3), "{}\n{}", said.stdout, said.stderr);
    for words in ["broken / m", "failed", "exit 4", "last / m", "answered after"] {
        assert!(said.stderr.contains(words), "{words}: {}", said.stderr);
    }
    assert!(fs::read_dir(bench.results().join("starts")).unwrap().count() > 0);
    bench.assert_nothing_left();
}

#[test]
fn what_a_killed_trial_left_is_named_with_what_clears_it_and_cleared() {
    let bench = Bench::new()
        .with_gpu()
        .sim("slow", &["--start-delay", "1h"])
        .with(json!({ "start_timeout": "2h" }));
    bench.write_plan();
    let mut benchd = bench.command(&["check", "plan.yaml", "--start"]).spawn().unwrap();
    let is_server = |process: &crate::bench::Process| process.pid != i32::try_from(benchd.id()).unwrap_or(0);
    until("a server", || {
        bench.processes().iter().any(is_server).then_some(())
    });
    until("its launch in the journal", || {
        let starts = fs::read_dir(bench.results().join("starts")).ok()?;
        let journals = starts.flatten().map(|run| run.path().join("journal.jsonl"));
        let launched = |text: String| text.contains("server_launched");
        journals
            .filter_map(|path| fs::read_to_string(path).ok())
            .any(launched)
            .then_some(())
    });
    benchd.kill().unwrap();
    benchd.wait().unwrap();

    let said = bench.output(&["check", "plan.yaml"]);
    assert_eq!(said.status.code(), Some(3), "{}", said.stdout);
    assert!(
        said.stdout.contains("died and left running") && said.stdout.contains("--warm"),
        "{}",
        said.stdout
    );
    let left: Vec<i32> = bench.processes().iter().map(|process| process.pid).collect();
    assert!(!left.is_empty());
    let mut again = bench.command(&["env", "plan.yaml", "--warm"]).spawn().unwrap();
    until("the orphans' end", || {
        let now: Vec<i32> = bench.processes().iter().map(|process| process.pid).collect();
        left.iter().all(|pid| !now.contains(pid)).then_some(())
    });
    kill(Pid::from_raw(i32::try_from(again.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(again.wait().unwrap().code(), Some(143));
    bench.assert_nothing_left();
}
