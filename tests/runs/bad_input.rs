//! What is refused before anything is started.

use std::{fs, os::unix::fs::PermissionsExt as _};

use benchd_journal::Event;
use serde_json::json;

use crate::{bench::Bench, support::webhook::webhook};

fn ready(event: &Event) -> bool {
    matches!(event, Event::ServerReady(_))
}

#[test]
fn a_wrong_plan_is_refused_with_all_its_problems_and_nothing_is_made() {
    let mut bench = Bench::new().sim("a", &[]).with(json!({ "prot": 1 }));
    bench.plan["scenarios"]["single"]["repeats"] = json!(0);
    bench.plan["name"] = json!("../up");
    bench.write_plan();
    let said = bench.output(&["run", "plan.yaml"]);
    said.assert(2, &["prot", "port", "repeats", "../up", "plan.yaml:"]);
    assert_eq!(said.stderr.matches("error:").count(), 3, "{}", said.stderr);
    assert!(bench.runs().is_empty() && !bench.results().exists());
    bench
        .output(&["run", "no-such-plan.yaml"])
        .assert(2, &["no-such-plan.yaml"]);
    fs::write(bench.plan_path(), "version: [1\n").unwrap();
    bench.output(&["run", "plan.yaml"]).assert(2, &["plan.yaml"]);
    fs::write(bench.plan_path(), "").unwrap();
    bench.output(&["run", "plan.yaml"]).assert(2, &["plan.yaml"]);
    assert!(!bench.results().exists());
}

#[test]
fn what_only_does_not_know_is_refused_with_the_nearest_name() {
    let bench = Bench::new().sim("vllm", &[]);
    bench.write_plan();
    bench
        .output(&["run", "plan.yaml", "--only", "framework=vlm"])
        .assert(2, &["vlm", "vllm"]);
    bench
        .output(&["run", "plan.yaml", "--only", "colour=red"])
        .assert(2, &["colour"]);
    bench
        .output(&["run", "plan.yaml", "--no-such-flag"])
        .assert(2, &["--no-such-flag"]);
    assert!(!bench.results().exists());
}

#[test]
fn a_dry_run_needs_neither_server_nor_gpu_nor_a_place() {
    let mut bench = Bench::new().server("vllm", json!({ "kind": "vllm", "venv": "not/there" }));
    bench.plan["host"] = json!({ "gpu": 0 });
    bench.plan["models"]["m"] = json!({ "hf": "some/model" });
    bench.write_plan();
    let said = bench.output(&["run", "plan.yaml", "--dry-run", "--results", "/proc/nowhere"]);
    assert_eq!(said.status.code(), Some(0), "{}", said.stderr);
    assert!(
        said.stdout.contains("vllm") && said.stdout.contains("concurrent/c2"),
        "{}",
        said.stdout
    );
    assert!(!bench.results().exists());
}

#[test]
fn a_gpu_without_its_library_is_a_clear_error() {
    let mut bench = Bench::new().sim("a", &[]);
    bench.plan["host"] = json!({ "gpu": 0 });
    bench.write_plan();
    let missing = bench.path().join("libnvidia-ml.so");
    let output = bench
        .command(&["run", "plan.yaml"])
        .env("BENCHD_NVML_LIB", &missing)
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(
        stderr.contains("libnvidia-ml.so") && stderr.contains("hint:"),
        "{stderr}"
    );
    assert!(!bench.results().exists());
}

#[test]
fn a_busy_gpu_is_refused_naming_who_is_on_it_and_leaves_no_run() {
    let mut bench = Bench::new().with_gpu().sim("a", &[]);
    let (port, messages) = webhook();
    bench.plan["notify"] = json!({ "webhook": format!("http://127.0.0.1:{port}/hook") });
    bench.plan["host"]["stranger"] = json!({ "wait": "300ms" });
    bench.gpu().hold(std::process::id(), 5 << 30);
    // At once, and with --resume after a wait: nobody looks at a run that systemd starts.
    for (flags, waits) in [(&[][..], false), (&["--resume"][..], true)] {
        let ended = bench.run(flags);
        ended.assert_code(3);
        let told = messages.try_recv().unwrap();
        assert_eq!(
            (&told["occasion"], &told["exit_code"]),
            (&json!("failed"), &json!(3))
        );
        assert!(
            ended.stderr.contains(&std::process::id().to_string()),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("exclusive"), "{}", ended.stderr);
        assert_eq!(
            ended.stderr.contains("waiting for the GPU"),
            waits,
            "{}",
            ended.stderr
        );
        assert!(bench.runs().is_empty(), "a refused run leaves no folder");
    }
    bench.plan["host"]["stranger"] = json!({ "wait": "30m" });
    let run = bench.start(&["--resume"]);
    crate::bench::until("the wait", || {
        let said = std::fs::read_to_string(bench.path().join("stderr.txt")).ok()?;
        said.contains("waiting for the GPU").then_some(())
    });
    bench.gpu().free(std::process::id());
    run.wait().assert_code(0);
    assert_eq!(bench.runs().len(), 1);
}

#[test]
fn a_second_benchd_on_the_gpu_is_refused_and_told_who_has_it() {
    let bench = Bench::new().with_gpu().sim("a", &["--decode-rate", "10"]);
    let first = bench.start(&[]);
    first.sees("a ready server", ready);
    let second = bench.output(&["run", "plan.yaml"]);
    second.assert(3, &[&format!("pid {}", first.pid()), "test"]);
    first.signal(nix::sys::signal::Signal::SIGTERM);
    first.wait().assert_code(143);
    bench.only_run();
    bench.assert_nothing_left();
}

#[test]
fn a_run_that_another_benchd_works_on_is_not_gone_on_with() {
    let bench = Bench::new().sim("a", &["--decode-rate", "10"]);
    let first = bench.start(&[]);
    first.sees("a ready server", ready);
    let second = bench.output(&["run", "plan.yaml", "--resume"]);
    assert_eq!(second.status.code(), Some(3), "{}", second.stderr);
    assert_eq!(bench.processes().len(), 2, "benchd and its server go on");
    first.signal(nix::sys::signal::Signal::SIGTERM);
    first.wait().assert_code(143);
    bench.assert_nothing_left();
}

#[test]
fn a_place_that_cant_be_written_is_told_before_anything_starts() {
    let bench = Bench::new().sim("a", &[]);
    bench.write_plan();
    fs::write(bench.path().join("file"), "").unwrap();
    bench
        .output(&["run", "plan.yaml", "--results", "file/results"])
        .assert(3, &["file"]);
    bench
        .output(&["run", "plan.yaml", "--logs", "file/logs"])
        .assert(3, &["file"]);
    if !nix::unistd::geteuid().is_root() {
        let closed = bench.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
        bench
            .output(&["run", "plan.yaml", "--results", "closed"])
            .assert(3, &["closed", "hint:"]);
    }
    bench.assert_nothing_left();
}

#[test]
fn a_changed_plan_is_not_resumed() {
    let mut bench = Bench::new().sim("a", &["--decode-rate", "10"]);
    let first = bench.start(&[]);
    first.sees("a ready server", ready);
    first.signal(nix::sys::signal::Signal::SIGINT);
    first.wait().assert_code(130);
    bench.plan["scenarios"]["single"]["repeats"] = json!(3);
    let ended = bench.run(&["--resume"]);
    ended.assert_code(2);
    assert!(ended.stderr.contains("the plan changed"), "{}", ended.stderr);
    bench
        .output(&["run", "plan.yaml", "--resume=no-such-run"])
        .assert(2, &["no such run"]);
    bench.only_run();
}
