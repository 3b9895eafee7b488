//! `benchd selfcheck` through the binary, and the short one of a run.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn benchd(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_benchd"))
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap()
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Percentiles in order, counts that agree with each other, and no arrival before its emission.
fn check_point(point: &Value) {
    let number = |key: &str| point[key].as_f64().unwrap_or_else(|| panic!("{key}: {point}"));
    for name in ["ttft_error_us", "gap_error_us"] {
        let of = |p: &str| number(&format!("{name}_{p}"));
        assert!(
            of("p50") <= of("p95") && of("p95") <= of("p99") && of("p99") <= of("max"),
            "{point}"
        );
    }
    // Offsets are cut to whole microseconds.
    assert!(number("ttft_error_us_p50") >= -1.0, "{point}");
    assert!(
        number("gap_error_us_p50") >= 0.0 && number("send_to_read_us_p50") > 0.0,
        "{point}"
    );
    assert!(
        number("server_late_us_p50") >= 0.0 && number("cpu_us_per_event") > 0.0,
        "{point}"
    );
    let (streams, requests) = (
        point["streams"].as_u64().unwrap(),
        point["requests"].as_u64().unwrap(),
    );
    let (tokens, events) = (
        point["tokens"].as_u64().unwrap(),
        point["events"].as_u64().unwrap(),
    );
    assert!(requests >= streams && requests.is_multiple_of(streams), "{point}");
    assert!(tokens > 0 && tokens.is_multiple_of(requests), "{point}");
    // Role, usage and end marker of each request beside its tokens.
    assert_eq!(events, tokens + 3 * requests, "{point}");
}

#[test]
fn the_table_and_the_stored_result_are_there_and_agree() {
    let dir = tempfile::tempdir().unwrap();
    let out = benchd(dir.path(), &["selfcheck", "--quick", "--streams", "8,1,8"]);
    let (stdout, stderr) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert_eq!(out.status.code(), Some(0), "{stderr}");
    let stored = json(&dir.path().join("results/selfcheck.json"));
    assert_eq!(stored["v"], 1);
    let points = stored["client"]["points"].as_array().unwrap();
    let streams: Vec<u64> = points.iter().map(|p| p["streams"].as_u64().unwrap()).collect();
    assert_eq!(streams, [1, 8]);
    points.iter().for_each(check_point);
    for rate in stored["client"]["rates"].as_array().unwrap() {
        assert!(rate["events_per_s"].as_f64().unwrap() > 0.0, "{rate}");
    }
    assert!(stored["client"]["rate_limit"].is_string());
    assert!(stored["client"]["peak_rss_bytes"].as_u64().unwrap() > 0);
    // A row for each number of streams, with the stored median in it.
    for point in points {
        let row = format!("{} ", point["streams"]);
        let line = stdout.lines().find(|l| l.trim_start().starts_with(&row)).unwrap();
        let median = format!(" {:.1} ", point["ttft_error_us_p50"].as_f64().unwrap());
        assert!(line.contains(&median), "{median} is not in {line}");
    }
    assert!(
        stdout.contains("largest sustained rate") && stdout.contains("peak memory"),
        "{stdout}"
    );
}

#[test]
fn json_goes_to_stdout_and_to_the_named_file() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "selfcheck",
        "--quick",
        "--no-rate",
        "--burst",
        "--streams",
        "32",
        "--json",
        "--output",
        "own.json",
    ];
    let out = benchd(dir.path(), &args);
    assert_eq!(
        out.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let printed: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(printed, json(&dir.path().join("own.json")));
    check_point(&printed["client"]["points"][0]);
    assert_eq!(printed["client"]["rates"], Value::Array(Vec::new()));
    assert_eq!(printed["client"]["rate_limit"], Value::Null);
}

#[test]
fn a_number_of_streams_out_of_range_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for streams in ["0", "20001"] {
        let out = benchd(dir.path(), &["selfcheck", "--streams", streams]);
        assert_eq!(out.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&out.stderr).contains("1 to 20000"));
    }
    assert!(!dir.path().join("results").exists());
}

/// A plan of one request, on a port that is free now.
fn plan(dir: &Path) {
    let port = crate::free_port();
    let text = format!(
        r#"version: 1
name: one
host: {{ gpu: none }}
request: {{ timeout: 30s, warmup: 1 }}
models: {{ sim: {{ openai: sim }} }}
frameworks:
  sim:
    kind: openai
    command: ["{program}", sim, --host, "{{host}}", --port, "{{port}}", --model, "{{model}}"]
    port: {port}
    start_timeout: 30s
    stop_grace: 5s
scenarios:
  single: {{ input_tokens: [64], output_tokens: 4, repeats: 1 }}
"#,
        program = env!("CARGO_BIN_EXE_benchd"),
    );
    std::fs::write(dir.join("plan.yaml"), text).unwrap();
}

#[test]
fn a_run_measures_its_client_first_and_its_report_says_what_came_of_it() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path());
    let out = benchd(dir.path(), &["run", "plan.yaml"]);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{stderr}");
    let run = dir.path().join("results/latest");
    let info = json(&run.join("run.json"));
    let points = info["client"]["points"].as_array().unwrap();
    assert!(points.len() >= 2, "{info}");
    points.iter().for_each(check_point);
    let client = stderr.find("client  TTFT error at").unwrap();
    assert!(client < stderr.find("lane sim").unwrap(), "{stderr}");
    let report = std::fs::read_to_string(run.join("report.md")).unwrap();
    assert!(report.contains("benchd's own error on this machine"), "{report}");
}

#[test]
fn a_run_can_leave_it_out() {
    let dir = tempfile::tempdir().unwrap();
    plan(dir.path());
    let out = benchd(dir.path(), &["run", "plan.yaml", "--no-selfcheck"]);
    assert_eq!(
        out.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let run = dir.path().join("results/latest");
    assert_eq!(json(&run.join("run.json"))["client"], Value::Null);
    let report = std::fs::read_to_string(run.join("report.md")).unwrap();
    assert!(report.contains("was not checked"), "{report}");
}

#[test]
fn a_killed_self_check_leaves_no_server() {
    use std::io::{BufRead as _, BufReader};
    use std::os::fd::AsFd as _;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    let dir = tempfile::tempdir().unwrap();
    let mut benchd = Command::new(env!("CARGO_BIN_EXE_benchd"))
        .args(["selfcheck", "--no-rate", "--streams", "1,2"])
        .current_dir(dir.path())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(benchd.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("1 streams"), "{line}");
    // Its server is its only child; it is there within the three seconds that this point takes.
    let children = format!("/proc/{0}/task/{0}/children", benchd.id());
    let server = loop {
        let text = std::fs::read_to_string(&children).unwrap();
        if let Some(pid) = text.split_whitespace().next() {
            break Pid::from_raw(pid.parse().unwrap()).unwrap();
        }
        std::thread::yield_now();
    };
    let server = pidfd_open(server, PidfdFlags::empty()).unwrap();
    benchd.kill().unwrap();
    benchd.wait().unwrap();
    let mut ended = [PollFd::new(server.as_fd(), PollFlags::POLLIN)];
    // Only so that a server that stays fails the test instead of hanging it.
    let safety = PollTimeout::try_from(300_000_i32).unwrap();
    assert_eq!(poll(&mut ended, safety).unwrap(), 1, "the server outlived benchd");
}
