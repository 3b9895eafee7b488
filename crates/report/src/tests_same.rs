//! A figure is the same wherever it stands: in the JSON, in the CSV, in the Markdown. (That the page has the Markdown's
//! tables is tested on the finished page.)

use super::{
    number::*,
    sentences,
    tests::{csv_rows, small_run, written_report},
};
use benchd_analysis::{LaneSummary, RunSummary, testing::Builder};
use benchd_plan::parse;

/// The scenarios of the small run, and what is claimed of them.
const PLAN: &str = r#"version: 1
name: night
host: { gpu: none }
models:
  llama: { hf: meta-llama/Llama, ollama: llama }
frameworks:
  vllm: { version: 0.15.1, venv: envs/vllm }
  ollama: { version: 0.15.6, binary: envs/ollama/bin/ollama }
scenarios:
  single: { input_tokens: [512], output_tokens: 11, repeats: 10 }
  concurrent: { concurrency: [2], input_tokens: 512, output_tokens: 11, requests: 10, passes: 3 }
  prefix_cache: { system_tokens: 2048, question_tokens: 128, output_tokens: 11, requests: 4, passes: 3 }
  korean: { concurrency: [1], prompt_types: [question], output_tokens: 11, repeats: 4 }
hypotheses: [H2, H3, H5]
"#;

/// A run with hypotheses, its report, and the figures as programs read them.
fn judged() -> (String, String, RunSummary) {
    let mut b: Builder = small_run();
    let judged = parse("plan.yaml", PLAN, &|_| None).expect("a plan");
    b.plan.hypotheses = judged.hypotheses;
    b.plan.scenarios = judged.scenarios;
    let (md, csv) = written_report(&b);
    let text = std::fs::read(b.run.summary_json()).expect("a file");
    (md, csv, serde_json::from_slice(&text).expect("JSON"))
}

/// The table below a heading (or its first one that has this column), as rows by column name.
fn table(md: &str, heading: &str, column: &str) -> Vec<std::collections::HashMap<String, String>> {
    let part = md
        .split_once(&format!("\n{heading}\n"))
        .unwrap_or_else(|| panic!("no {heading}"))
        .1;
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim_matches('|').replace("\\|", "\u{1}");
        inner.split('|').map(|c| c.trim().replace('\u{1}', "|")).collect()
    };
    let mut lines = part
        .lines()
        .skip_while(|l| !(l.starts_with('|') && cells(l).iter().any(|c| c == column)))
        .take_while(|l| l.starts_with('|'));
    let header = cells(lines.next().expect("a header"));
    lines
        .skip(1)
        .map(|l| header.iter().cloned().zip(cells(l)).collect())
        .collect()
}

#[test]
fn csv_markdown_and_json_have_the_same_values() {
    let b = small_run();
    let (md, csv) = written_report(&b);
    let json: RunSummary =
        serde_json::from_slice(&std::fs::read(b.run.summary_json()).expect("a file")).expect("JSON");
    let cells: Vec<_> = json.lanes.iter().flat_map(|l| &l.cells).collect();
    let rows = csv_rows(&csv);
    assert_eq!(cells.len(), rows.len());
    for (cell, row) in cells.into_iter().zip(rows) {
        let close = |name: &str, value: f64| {
            let is: f64 = row[name].parse().expect("a number");
            assert!((is - value).abs() <= 5e-7, "{name}: {is} is not {value}");
        };
        let (ttft, latency) = (
            cell.ttft_ms.as_ref().expect("TTFT"),
            cell.latency_ms.as_ref().expect("latency"),
        );
        let rate = cell.output_tokens_per_s.as_ref().expect("a rate");
        close("ttft_ms_p50", ttft.p50);
        close("latency_ms_p99", latency.p99);
        close("output_tokens_per_s", rate.median);
        // The row of the scenario's table: the cell, the framework, then the same numbers.
        let start = format!("| `{}`", row["cell"]);
        let line = |part: &str| {
            md.lines()
                .find(|l| {
                    l.starts_with(&start)
                        && l.contains(&format!(
                            "| {} ",
                            benchd_analysis::shown_framework(&row["framework"])
                        ))
                        && l.contains(part)
                })
                .unwrap_or_else(|| panic!("{start} of {}: no {part}", row["framework"]))
        };
        let value = |name: &str| number(row[name].parse().expect("a number"));
        let speed = line(&format!(" {} [", value("ttft_ms_p50")));
        assert!(speed.contains(&format!("~{} ", value("ttft_ms_p95"))), "{speed}");
        assert!(speed.contains(&value("output_tokens_per_s")), "{speed}");
        line(&format!("~{} ", value("latency_ms_p95")));
    }
}

/// What is in the lane's summary, as the report shows it: the number, or a dash.
fn shown(value: Option<u64>, show: impl Fn(f64) -> String) -> String {
    value.map_or(NONE.to_owned(), |v| show(v as f64))
}

#[test]
fn operations_are_those_of_the_json() {
    let (md, _, json) = judged();
    let servers = table(&md, "## Operations", "stopped in");
    let memory = table(&md, "### Memory when idle", "weights (MB)");
    let costs = table(&md, "### Energy and size", "J/output token");
    assert_eq!([servers.len(), memory.len(), costs.len()], [json.lanes.len(); 3]);
    let said = |lane: &LaneSummary, value: Option<u64>| match value {
        Some(bytes) => megabytes(bytes as f64),
        None => {
            assert!(lane.server.as_ref().is_some_and(|s| s.load.is_some()));
            "not said".to_owned()
        }
    };
    let (mut with_load, mut with_energy) = (0, 0);
    for (at, lane) in json.lanes.iter().enumerate() {
        let server = lane.server.as_ref().expect("a server");
        let (s, m, c) = (&servers[at], &memory[at], &costs[at]);
        assert_eq!(s["healthy after"], millis(server.healthy_ms));
        assert_eq!(s["first answer after"], millis(server.ready_ms));
        assert_eq!(s["stopped in"], millis(server.stop_ms));
        assert_eq!(s["memory back after"], millis(server.release_ms));
        assert_eq!(m["idle GPU memory (MB)"], shown(server.gpu_idle_bytes, megabytes));
        let load = server.load.as_ref();
        assert_eq!(m["weights (MB)"], said(lane, load.and_then(|l| l.weights_bytes)));
        assert_eq!(
            m["KV cache (MB)"],
            said(lane, load.and_then(|l| l.kv_cache_bytes))
        );
        assert_eq!(
            m["graphs, buffers (MB)"],
            said(lane, load.and_then(|l| l.compute_bytes))
        );
        assert_eq!(m["the rest (MB)"], said(lane, server.gpu_rest_bytes));
        if let Some(load) = load.filter(|load| load.weights_bytes.is_some()) {
            with_load += 1;
            assert_eq!(s["weights loaded in"], millis(load.load_ms));
            // The parts add up to the whole.
            let parts = load
                .weights_bytes
                .zip(load.kv_cache_bytes)
                .zip(server.gpu_rest_bytes);
            let sum = parts.map(|((weights, cache), rest)| weights + cache + rest);
            assert_eq!(sum, server.gpu_idle_bytes);
        }
        let energy = lane.energy.as_ref();
        assert_eq!(
            c["J/output token"],
            optional(energy.map(|e| e.j_per_output_token))
        );
        assert_eq!(c["energy (J)"], optional(energy.map(|e| e.energy_j)));
        if let Some(energy) = energy {
            with_energy += 1;
            let certain = |lane: &LaneSummary, id: &str| {
                let cell = lane.cells.iter().find(|c| c.cell == id);
                let gpu = cell.and_then(|c| c.gpu.as_ref());
                gpu.filter(|gpu| gpu.energy_certain == Some(true))?.energy_j
            };
            let others = || json.lanes.iter().filter(|l| l.energy.is_some());
            let common = lane
                .cells
                .iter()
                .filter(|c| others().all(|l| certain(l, &c.cell).is_some()));
            let of_cells: f64 = common.filter_map(|c| certain(lane, &c.cell)).sum();
            assert!((energy.energy_j - of_cells).abs() < 1e-6);
            assert_eq!(
                energy.j_per_output_token,
                energy.energy_j / energy.output_tokens as f64
            );
        }
        let info = json.info.as_ref().expect("run.json");
        let environment = info.environments.get(&lane.lane.framework);
        assert_eq!(
            c["environment (MB)"],
            shown(environment.and_then(|e| e.bytes), megabytes)
        );
        assert_eq!(c["installed in"], millis(environment.and_then(|e| e.install_ms)));
    }
    assert_eq!((with_load, with_energy), (1, 2), "the test compares something");
}

#[test]
fn verdicts_and_the_headline_are_those_of_the_json() {
    let (md, csv, json) = judged();
    let verdicts = table(&md, "## Verdicts", "verdict");
    assert_eq!(verdicts.len(), 3);
    for (row, verdict) in verdicts.iter().zip(&json.verdicts) {
        assert_eq!(row["hypothesis"], verdict.hypothesis);
        assert_eq!(
            row["verdict"],
            format!("**{}**", sentences::outcome(verdict.outcome))
        );
        for test in verdict.models.iter().flat_map(|m| &m.tests) {
            let Some(effect) = test.effect else { continue };
            let ratio = with_interval(effect, test.interval.as_ref());
            let line = format!("{} / {}", test.framework, test.against);
            assert!(
                md.lines().any(|l| l.contains(&ratio) && l.contains(&line)),
                "{}: no {ratio} of {line}",
                verdict.hypothesis
            );
        }
    }
    let tests: usize = json
        .verdicts
        .iter()
        .flat_map(|v| &v.models)
        .flat_map(|m| &m.tests)
        .filter(|t| t.effect.is_some())
        .count();
    assert!(tests >= 2, "{tests}: the test compares something");

    let glance = table(&md, "### llama", "tokens/s, load");
    let rows = csv_rows(&csv);
    let mut compared = 0;
    for (row, lane) in glance.iter().zip(&json.lanes) {
        let of = |cell: &str| {
            rows.iter()
                .find(|r| r["framework"] == lane.lane.framework && r["cell"] == cell)
        };
        let (Some(single), Some(load)) = (of("single/in512"), of("concurrent/c2")) else {
            continue;
        };
        let begins = |column: &str, value: &str| {
            let value = number(value.parse().expect("a number"));
            let plain = row[column].replace("**", "");
            assert!(
                plain.trim_start_matches('~').starts_with(&value),
                "{column}: {plain} is not {value}"
            );
        };
        begins("TTFT, single (ms)", &single["ttft_ms_p50"]);
        begins("tokens/s, load", &load["output_tokens_per_s"]);
        begins("latency p95, load (ms)", &load["latency_ms_p95"]);
        assert_eq!(
            row["ready after"],
            millis(lane.server.as_ref().and_then(|s| s.ready_ms))
        );
        compared += 1;
    }
    assert_eq!(compared, 2);
}
