//! Open loops through the binary, on the simulated server.

use std::{path::Path, process::Command};

use serde_json::Value;

use crate::free_port;

fn run(plan: &str) -> (tempfile::TempDir, Value) {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("plan.yaml"), plan).expect("write");
    let out = Command::new(env!("CARGO_BIN_EXE_benchd"))
        .args([
            "run",
            "plan.yaml",
            "--results",
            "results",
            "--logs",
            "logs",
            "--no-selfcheck",
        ])
        .current_dir(dir.path())
        .output()
        .expect("it runs");
    assert!(
        out.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    let summary = read(dir.path(), "summary.json");
    (dir, serde_json::from_str(&summary).expect("JSON"))
}

fn read(dir: &Path, name: &str) -> String {
    std::fs::read_to_string(dir.join("results/latest").join(name)).expect(name)
}

fn cell<'a>(summary: &'a Value, scenario: &str) -> &'a Value {
    let cells = summary["lanes"][0]["cells"].as_array().expect("cells");
    cells
        .iter()
        .find(|c| c["scenario"] == scenario)
        .unwrap_or_else(|| panic!("{scenario} is not in {summary}"))
}

#[test]
fn asked_and_achieved_rates_queueing_and_goodput_are_told() {
    let port = free_port();
    let plan = format!(
        r#"
version: 1
name: arrivals
host: {{ gpu: none }}
request: {{ temperature: 0, timeout: 30s, warmup: 1 }}
models:
  sim: {{ openai: sim }}
frameworks:
  sim:
    kind: openai
    command: [benchd, sim, --host, "{{host}}", --port, "{{port}}", --model, "{{model}}", --mode, batching, --prefill-rate, "20000", --decode-rate, "1000"]
    port: {port}
    start_timeout: 30s
    stop_grace: 5s
scenarios:
  constant: {{ kind: concurrent, input_tokens: 64, output_tokens: 8, requests: 40, arrival: {{ constant: 40/s }}, slo: {{ ttft: 30s, latency: 30s }} }}
  poisson: {{ kind: concurrent, input_tokens: 64, output_tokens: 8, requests: 40, arrival: {{ poisson: 40/s }}, slo: {{ ttft: 1ms }} }}
  gamma: {{ kind: concurrent, input_tokens: 64, output_tokens: 8, requests: 40, arrival: {{ gamma: {{ rate: 40/s, burstiness: 0.3 }} }} }}
"#
    );
    let (dir, summary) = run(&plan);
    for (name, arrival) in [
        ("constant", "constant"),
        ("poisson", "poisson"),
        ("gamma", "gamma (burstiness 0.3)"),
    ] {
        let cell = cell(&summary, name);
        assert_eq!(
            (cell["arrival"].as_str(), cell["asked_requests_per_s"].as_f64()),
            (Some(arrival), Some(40.0))
        );
        assert_eq!(
            (cell["requests"].as_u64(), cell["failed"].as_u64()),
            (Some(40), Some(0))
        );
        // Every request has its time from the planned send, and it is part of TTFT and latency.
        assert_eq!(cell["queued_ms"]["n"].as_u64(), Some(40));
        assert!(cell["ttft_ms"]["min"].as_f64() >= cell["queued_ms"]["min"].as_f64());
        // An open loop has no steady state of its own: it has no fixed number of streams.
        assert!(cell["steady"].is_null(), "{cell}");
    }
    let sent = cell(&summary, "constant")["sent_requests_per_s"]["median"]
        .as_f64()
        .expect("a rate");
    assert!(sent > 0.0, "{sent}");
    // Objectives that all meet, and one that none can: 64 tokens at 20,000 a second take 3 ms.
    assert_eq!(cell(&summary, "constant")["goodput"]["share"].as_f64(), Some(1.0));
    assert_eq!(cell(&summary, "poisson")["goodput"]["share"].as_f64(), Some(0.0));
    assert!(cell(&summary, "gamma")["goodput"].is_null());

    let report = read(dir.path(), "report.md");
    assert!(report.contains("Open loop (TTFT and latency count from the planned send"));
    assert!(report.contains("gamma (burstiness 0.3)"));
    // Latency by the records: planned send to the end, for each request.
    let records = read(dir.path(), "sim/sim/requests.jsonl");
    let measured: Vec<Value> = records
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).expect("a record"))
        .filter(|r| r["phase"] == "measured" && r["scenario"] == "constant")
        .collect();
    // However late a busy machine sends: planned are 39 gaps of 25 ms. The two clocks that tell are not read at once.
    let planned =
        |r: &Value| r["sent_unix_us"].as_u64().expect("a time") - r["queued_us"].as_u64().expect("a queue");
    let (first, last) = (
        measured.iter().map(planned).min(),
        measured.iter().map(planned).max(),
    );
    let span = last.expect("records") - first.expect("records");
    assert!((500_000..2_000_000).contains(&span), "{span} us");
    let mut latencies: Vec<u64> = measured
        .iter()
        .map(|r| r["end_us"].as_u64().expect("an end") + r["queued_us"].as_u64().expect("a queue"))
        .collect();
    latencies.sort_unstable();
    let largest = cell(&summary, "constant")["latency_ms"]["max"]
        .as_f64()
        .expect("a latency");
    assert_eq!(latencies.last().map(|us| *us as f64 / 1e3), Some(largest));
}

#[test]
fn rounds_in_turn_are_reported_by_round_and_pooled() {
    let (a, b) = (free_port(), free_port());
    let server = |port: u16, rate: u32| {
        format!(
            r#"{{ kind: openai, port: {port}, start_timeout: 30s, stop_grace: 5s, command: [benchd, sim, --host, "{{host}}", --port, "{{port}}", --model, "{{model}}", --mode, batching, --prefill-rate, "20000", --decode-rate, "{rate}"] }}"#
        )
    };
    let plan = format!(
        "version: 1
name: rounds
order: interleave
repeats: 2
host: {{ gpu: none }}
request: {{ temperature: 0, timeout: 30s, warmup: 1 }}
models: {{ sim: {{ openai: sim }} }}
frameworks:
  fast: {}
  slow: {}
scenarios:
  single: {{ input_tokens: [64], output_tokens: 8, repeats: 8 }}
",
        server(a, 500),
        server(b, 20),
    );
    let (dir, summary) = run(&plan);
    let order: Vec<(&str, u64)> = summary["lanes"]
        .as_array()
        .expect("lanes")
        .iter()
        .map(|l| {
            let lane = &l["lane"];
            (
                lane["framework"].as_str().expect("a name"),
                lane["round"].as_u64().expect("a round"),
            )
        })
        .collect();
    assert_eq!(order, [("fast", 1), ("slow", 1), ("slow", 2), ("fast", 2)]);
    // 25 times the time an answer, seen on the same prompts in both rounds. A busy machine takes from that: it makes the
    // fast one late, and its tokens come in one read.
    let latency = &summary["comparisons"][0]["cells"][0]["figures"]["latency_ms"];
    assert_eq!(
        (latency["pairs"].as_u64(), latency["differs"].as_bool()),
        (Some(16), Some(true))
    );
    let ratio = latency["ratio"].as_f64().expect("a ratio");
    assert!(ratio > 1.5, "{ratio}");
    assert!(latency["cliffs_delta"].as_f64() > Some(0.5), "{latency}");
    let rounds = &summary["rounds"][0]["cells"][0]["figures"]["latency_ms"]["rounds"];
    assert_eq!(rounds.as_object().map(serde_json::Map::len), Some(2));
    let report = read(dir.path(), "report.md");
    assert!(report.contains("## Rounds") && report.contains("slow #2"));
    assert!(report.contains("Compared with fast"));
}
