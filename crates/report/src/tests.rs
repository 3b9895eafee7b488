//! The files of synthetic runs: their values agree, and they say what is missing.

use std::collections::HashMap;

use super::*;
use benchd_analysis::testing::*;
use benchd_core::record::{GpuDevice, GpuHost};
use benchd_journal::{
    ClientCalibration, ClientPoint, EnvironmentInfo, Event, GpuBaseline, HostInfo, LaneOutcome,
    RUN_INFO_VERSION, RunInfo, RunState, Toolchain,
};
use benchd_plan::{Language, PromptType, ScenarioKind};

/// Two frameworks, four scenarios, one lane that failed, a client that was checked.
pub(super) fn small_run() -> Builder {
    let cells = || {
        vec![
            exact("single/in512", ScenarioKind::Single, 1, 512),
            exact("concurrent/c2", ScenarioKind::Concurrent, 2, 512),
            shared("prefix_cache/sys2048"),
            written(1, PromptType::Question, Language::Ko),
            written(1, PromptType::Question, Language::En),
        ]
    };
    let (vllm, ollama, broken) = (
        lane_id("vllm", "llama"),
        lane_id("ollama", "llama"),
        lane_id("vllm-odd|name", "llama"),
    );
    let mut b = Builder::new(vec![
        (vllm.clone(), cells()),
        (ollama.clone(), cells()),
        (broken.clone(), cells()),
    ]);
    let host = info(&b).gpu.expect("a GPU");
    b.events.push(Event::GpuBaseline(GpuBaseline {
        host,
        used_bytes: vec![1_000_000],
        strangers: Vec::new(),
        graphics: None,
    }));
    for (lane, slow) in [(&vllm, 1), (&ollama, 3)] {
        b.ready(lane);
        let did = |at: u64, ttft: u64, latency: u64| Did {
            model: if slow == 1 { "meta-llama/Llama" } else { "llama" },
            ..Did::ok(at, ttft * slow, latency * slow)
        };
        b.measured(
            lane,
            "single/in512",
            &[(
                22_000 * slow,
                (1..=10).map(|i| did(i * 2000, i * 10, i * 10 + 1000)).collect(),
            )],
        );
        let pass = |n: u64| {
            (
                6_000 * slow + n,
                (0..10).map(|i| did(i / 2 * 1000 * slow, 50, 1000)).collect(),
            )
        };
        b.measured(lane, "concurrent/c2", &[pass(0), pass(10), pass(20)]);
        let prefix = |first: u64| {
            let with = |i: u64, ttft: u64, cached: u64| Did {
                prompt_tokens: 2186,
                cached: (slow == 1).then_some(cached),
                ..did(i * 1000, ttft, ttft + 100)
            };
            (
                4000 * slow,
                vec![
                    with(0, first, 0),
                    with(1, 10, 2048),
                    with(2, 20, 2048),
                    with(3, 30, 2048),
                ],
            )
        };
        b.measured(
            lane,
            "prefix_cache/sys2048",
            &[prefix(100), prefix(120), prefix(140)],
        );
        let text = |text: &str, prompt_tokens| {
            let did = |i: u64| Did {
                text: text.to_owned(),
                prompt_tokens,
                ..did(i * 1000, 30 + i, 900)
            };
            vec![(4000 * slow, (0..4).map(did).collect())]
        };
        b.measured(lane, "korean/c1/question/ko", &text("가나다라마", 210));
        b.measured(lane, "korean/c1/question/en", &text("abcdefghij", 110));
        b.samples(
            lane,
            &(0..40)
                .map(|i| gpu_sample(i * 1000, 70_000_000_000 + i * 1_000_000))
                .collect::<Vec<_>>(),
        );
        b.finish_lane(lane);
    }
    b.ready(&broken);
    let tail = ["loading | weights", "CUDA out of memory ```"];
    b.end_lane(
        &broken,
        LaneOutcome::Failed,
        Some(("ready", "exit 1 while starting: out of *memory*", &tail)),
    );
    b.finish();
    info(&b).write(&b.run.run_json()).expect("run.json");
    b
}

fn info(b: &Builder) -> RunInfo {
    RunInfo {
        v: RUN_INFO_VERSION,
        run_id: b.run.id().to_owned(),
        plan: "night".to_owned(),
        plan_path: "plans/night.yaml".to_owned(),
        plan_sha256: "5e".repeat(32),
        benchd_version: "0.1.0".to_owned(),
        started_unix_us: T0,
        updated_unix_us: T0,
        logs: format!("logs/{}", b.run.id()),
        host: HostInfo {
            hostname: "gpu-1".to_owned(),
            os: "Ubuntu 22.04.3 LTS".to_owned(),
            kernel: "6.8.0".to_owned(),
            boot_id: "boot".to_owned(),
            cpu: "Intel Xeon Platinum 8468".to_owned(),
            cpus: 192,
            memory_bytes: 1_000_000_000_000,
            ..HostInfo::default()
        },
        gpu: Some(GpuHost {
            driver: "570.86.10".to_owned(),
            cuda: Some("12.8".to_owned()),
            nvml: None,
            devices: vec![GpuDevice {
                index: 0,
                uuid: "GPU-1".to_owned(),
                name: "NVIDIA A100-SXM4-80GB".to_owned(),
                memory_total_bytes: 85_899_345_920,
                memory_used_bytes: 1_000_000,
                power_limit_mw: Some(400_000),
                sm_clock_max_mhz: Some(1410),
                pci_bus_id: None,
                mig: Some(false),
                ecc_uncorrected: Some(0),
                compute_capability: None,
            }],
        }),
        gpu_baseline_bytes: vec![1_000_000],
        environments: [(
            "vllm".to_owned(),
            EnvironmentInfo {
                version: Some("0.15.1".to_owned()),
                bytes: Some(10_200_000_000),
                install_ms: Some(182_000),
                ..EnvironmentInfo::default()
            },
        )]
        .into(),
        versions: [].into(),
        toolchain: Toolchain::default(),
        compiles: [].into(),
        client: Some(ClientCalibration {
            measured_unix_us: T0,
            points: vec![ClientPoint {
                streams: 1,
                events: 1000,
                ttft_error_us_p50: 30.0,
                ttft_error_us_p95: 60.0,
                ttft_error_us_p99: 90.0,
                ttft_error_us_max: 120.0,
                gap_error_us_p50: 5.0,
                gap_error_us_p95: 20.0,
                gap_error_us_p99: 40.0,
                gap_error_us_max: 80.0,
                cpu_us_per_event: 3.5,
                ..ClientPoint::default()
            }],
            max_events_per_s: Some(250_000.0),
            ..ClientCalibration::default()
        }),
        state: RunState::Finished,
    }
}

pub(super) fn written_report(b: &Builder) -> (String, String) {
    b.write_journal();
    write_all(&b.run, &b.plan, &b.lanes).expect("a report");
    let read = |path| std::fs::read_to_string(path).expect("a file");
    (read(b.run.report_md()), read(b.run.summary_csv()))
}

/// Rows of the CSV by column name.
pub(super) fn csv_rows(csv: &str) -> Vec<HashMap<String, String>> {
    let mut lines = csv
        .lines()
        .map(|l| l.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().expect("a header");
    lines
        .map(|row| {
            assert_eq!(row.len(), header.len(), "{row:?}");
            header.iter().cloned().zip(row).collect()
        })
        .collect()
}

#[test]
fn a_small_run_reads_well() {
    let (md, _) = written_report(&small_run());
    insta::assert_snapshot!(md);
}

#[test]
fn the_csv_has_its_columns_first_and_a_row_a_cell() {
    let (_, csv) = written_report(&small_run());
    assert!(csv.starts_with(&format!("{CSV_HEADER},concurrency,")), "{csv}");
    let rows = csv_rows(&csv);
    assert_eq!(rows.len(), 10);
    let row = &rows[0];
    let is = |name: &str| row[name].as_str();
    assert_eq!(
        (is("framework"), is("model"), is("scenario"), is("cell")),
        ("vllm", "llama", "single", "single/in512")
    );
    assert_eq!(
        (is("requests"), is("failed"), is("ttft_ms_p50"), is("ttft_ms_p95")),
        ("10", "0", "55", "95.5")
    );
    assert_eq!(
        (is("output_tokens_per_s"), is("requests_per_s")),
        ("5", "0.454545")
    );
    assert_eq!(
        (
            is("gpu_memory_mb_peak"),
            is("gpu_memory_mb_mean"),
            is("gpu_util_pct_mean")
        ),
        ("70022", "70011", "80")
    );
    assert_eq!(is("flags"), "few_samples");
}

#[test]
fn a_lane_has_a_summary_of_its_own() {
    let b = small_run();
    written_report(&b);
    let text = std::fs::read_to_string(b.run.lane_summary(&lane_id("ollama", "llama"))).expect("a file");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(value["rounds"].as_array().map(Vec::len), Some(1));
    assert_eq!(value["rounds"][0]["cells"][0]["cell"], "single/in512");
    assert!(
        !b.run.lane_summary(&lane_id("vllm-odd|name", "llama")).exists(),
        "the broken lane has no folder"
    );
}

#[test]
fn a_partial_run_says_so_at_every_moment() {
    let whole = small_run();
    let events = whole.events.clone();
    let mut b = small_run();
    // A step of three meets every kind of event.
    for n in (0..events.len()).step_by(3) {
        b.events = events[..n].to_vec();
        let (md, csv) = written_report(&b);
        assert!(md.contains("> **Partial:**"), "after {n} events");
        assert!(csv.starts_with(CSV_HEADER));
    }
    b.events = events[..8].to_vec();
    let (md, csv) = written_report(&b);
    assert!(
        md.contains("1 of 15 cells are measured; the run is under way, or its process died."),
        "{md}"
    );
    assert!(md.contains("not reached yet"));
    assert_eq!(csv_rows(&csv).len(), 1);
}

#[test]
fn a_torn_tail_is_told_in_the_report() {
    let b = small_run();
    b.write_journal();
    let mut text = std::fs::read(b.run.journal()).expect("read");
    text.truncate(text.len() - 5);
    std::fs::write(b.run.journal(), text).expect("write");
    let summary = write_all(&b.run, &b.plan, &b.lanes).expect("a report");
    assert_eq!(summary.outcome, "open");
    let md = std::fs::read_to_string(b.run.report_md()).expect("a file");
    assert!(md.contains("dropped a torn last line"), "{md}");
}

#[test]
fn a_run_without_run_json_is_reported_all_the_same() {
    let b = small_run();
    std::fs::remove_file(b.run.run_json()).expect("remove");
    let (md, _) = written_report(&b);
    assert!(md.contains("`run.json` is missing: the machine is not known."));
}

#[test]
fn counters_and_rounds_have_their_sections() {
    let lanes: Vec<benchd_core::record::LaneId> = (1..=2)
        .map(|round| benchd_core::record::LaneId {
            round,
            ..lane_id("vllm", "llama")
        })
        .collect();
    let cell = exact("single/in512", ScenarioKind::Single, 1, 512);
    let mut b = Builder::new(lanes.iter().map(|l| (l.clone(), vec![cell.clone()])).collect());
    for (lane, ttft) in lanes.iter().zip([100, 200]) {
        b.ready(lane);
        let did = |i: u64| Did::ok(i * 1000, ttft + i, 900);
        let ended = b.measured(lane, "single/in512", &[(10_000, (0..10).map(did).collect())]);
        ended.server_counters = [
            ("vllm:prompt_tokens_total", 5230.0),
            ("vllm:generation_tokens_total", 110.0),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        b.finish_lane(lane);
    }
    b.finish();
    let (report, _) = written_report(&b);
    // 10 · 522 prompt tokens by usage, ten more by the server; the output agrees.
    let line = report
        .lines()
        .find(|l| l.contains("5,220") && l.contains("5,230"))
        .expect("a line of counters");
    let values: Vec<&str> = line.split('|').map(str::trim).collect();
    assert_eq!(values[3..7], ["5,220", "5,230", "110", "110"], "{line}");
    assert_eq!(values[9], "**no: prompt tokens**", "{line}");
    assert!(report.contains("they disagree in 2"), "{report}");
    // Medians 104.5 and 204.5 ms; every prompt repeats a hundred milliseconds later.
    assert!(
        report.contains("## Rounds") && report.contains("104, 204"),
        "{report}"
    );
    assert!(
        report.contains("round 2 does not repeat round 1: ttft +96 %"),
        "{report}"
    );
}

#[test]
fn few_samples_are_no_noise_in_tables() {
    let b = small_run();
    let (report, csv) = written_report(&b);
    let summary = b.summary().expect("a summary");
    assert!(csv.contains("few_samples"));
    assert!(!final_table(&summary).contains("few_samples"));
    assert_eq!(report.matches("few_samples").count(), 1);
}

#[test]
fn the_formats_page_names_every_column_and_field() {
    let page = include_str!("../../../docs/formats.md");
    let (_, csv) = written_report(&small_run());
    let header = csv.lines().next().expect("a header");
    let mut names: Vec<String> = header.split(',').map(str::to_owned).collect();
    let b = small_run();
    let summary = serde_json::to_value(b.summary().expect("a summary")).expect("JSON");
    let line = |path| {
        let text = std::fs::read_to_string(path).expect("a file");
        serde_json::from_str(text.lines().next().expect("a line")).expect("JSON")
    };
    let lane = lane_id("vllm", "llama");
    let values: [serde_json::Value; 3] = [summary, line(b.run.requests(&lane)), line(b.run.gpu(&lane))];
    for value in &values {
        let keys = value.as_object().expect("an object").keys().cloned();
        names.extend(keys);
    }
    let cell = values[0]["lanes"][0]["cells"][0].as_object().expect("a cell");
    names.extend(cell.keys().cloned());
    let unnamed: Vec<_> = names
        .iter()
        .filter(|n| !page.contains(&format!("| `{n}` |")))
        .collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
}

/// CPU time of this process, all of its threads, seconds.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("stat");
    let after_name = stat.rsplit(')').next().expect("fields");
    // utime and stime are the 14th and 15th of all, so the 12th and 13th after the name; ticks of 10 ms.
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().expect("ticks"))
        .sum();
    ticks as f64 / 100.0
}

/// Time, memory and size of a large run's report. Prints them, and fails where memory or the page is too large; run with
/// `cargo test --release -p benchd-report -- --ignored --nocapture a_large_run`. `BENCHD_REQUESTS` sets the number of requests.
#[test]
#[ignore = "writes about a gigabyte; for a release build"]
fn a_large_run() {
    const CELLS: u32 = 16;
    let requests: u64 = std::env::var("BENCHD_REQUESTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1_000_000);
    let cells: Vec<_> = (0..CELLS / 2)
        .map(|i| {
            let mut cell = exact(
                &format!("concurrent/c{}", 64 + i),
                ScenarioKind::Concurrent,
                64 + i,
                512,
            );
            cell.output_tokens = 64;
            cell
        })
        .collect();
    let lanes = [lane_id("vllm", "llama"), lane_id("sglang", "llama")];
    let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), cells.clone())).collect());
    for lane in &lanes {
        run.ready(lane);
        for cell in &cells {
            let each = requests / u64::from(CELLS);
            let did = |i: u64| Did {
                tokens: 64,
                ..Did::ok(i / 64 * 700, 20 + i * 7 % 40, 700)
            };
            run.measured(
                lane,
                &cell.id,
                &[(each / 64 * 700 + 700, (0..each).map(did).collect())],
            );
        }
        // Ten samples a second.
        let ticks = requests / u64::from(CELLS) / 64 * u64::from(CELLS / 2) * 7;
        let samples: Vec<_> = (0..ticks).map(|i| gpu_sample(i * 100, 70_000_000_000)).collect();
        run.samples(lane, &samples);
        run.finish_lane(lane);
    }
    run.finish();
    run.write_journal();
    let bytes: u64 = lanes
        .iter()
        .map(|l| std::fs::metadata(run.run.requests(l)).expect("a file").len())
        .sum();
    // The peak so far is the making of the records.
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak is set back");
    let (began, cpu_before_s) = (std::time::Instant::now(), cpu_s());
    write_all(&run.run, &run.plan, &run.lanes).expect("a report");
    let took = began.elapsed();
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let peak = status.lines().find(|l| l.starts_with("VmHWM")).unwrap_or("");
    let page_bytes = std::fs::metadata(run.run.report_html()).expect("the page").len();
    println!(
        "{requests} requests, {} MB of records: {took:.1?} ({:.1} s of CPU time), {peak}, a page of {} kB",
        bytes / 1_000_000,
        cpu_s() - cpu_before_s,
        page_bytes / 1000
    );
    let peak_kib: u64 = peak
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a size");
    assert!(peak_kib <= 512 << 10, "{peak}");
    assert!(page_bytes < 5_000_000, "{page_bytes} bytes");
}

/// Three frameworks with one and sixteen streams; vLLM alone went on to 256, and alone came up with another model.
fn one_goes_on_alone() -> Builder {
    let of = |streams: u32| {
        exact(
            &format!("concurrent/c{streams}"),
            ScenarioKind::Concurrent,
            streams,
            512,
        )
    };
    let names = ["vllm", "sglang", "ollama"];
    let lanes: Vec<_> = ["llama", "other"]
        .into_iter()
        .flat_map(|model| names.map(|framework| lane_id(framework, model)))
        .collect();
    let cells = vec![of(1), of(16), of(256)];
    let mut b = Builder::new(lanes.iter().map(|l| (l.clone(), cells.clone())).collect());
    for lane in &lanes {
        b.ready(lane);
        let last = match (lane.framework.as_str(), lane.model.as_str()) {
            ("vllm", _) => 3,
            (_, "llama") => 2,
            _ => {
                let why = "the server did not come up\nhint: look at its log";
                b.end_lane(lane, LaneOutcome::Failed, Some(("ready", why, &[])));
                continue;
            }
        };
        for cell in cells.iter().take(last) {
            let ttft = 10 * u64::from(cell.concurrency);
            let did = |_| Did::ok(0, ttft, ttft + 1000);
            b.measured(
                lane,
                &cell.id,
                &[(ttft + 1000, (0..cell.concurrency).map(did).collect())],
            );
        }
        b.finish_lane(lane);
    }
    b.finish();
    b
}

#[test]
fn what_one_went_on_to_alone_hides_nothing_of_the_others() {
    let b = one_goes_on_alone();
    let (md, _) = written_report(&b);
    let glance =
        &md[md.find("## At a glance").expect("a glance")..md.find("## Scenario").expect("a scenario")];
    let llama = glance.split("### other").next().expect("a model");
    assert!(
        llama.contains("Load: `concurrent/c16`, 16 streams;")
            && llama.contains("Only vllm measured `concurrent/c256`."),
        "{llama}"
    );
    // 16 requests of 11 tokens in 1.16 s, of all three.
    let rows = llama
        .lines()
        .filter(|l| l.starts_with("| ") && l.contains(" 152 "));
    assert_eq!(rows.count(), 3, "{llama}");
    let summary = b.summary().expect("a summary");
    let answer = sentences::answer_of_run(&summary);
    assert!(
        answer.iter().any(|s| s
            .starts_with("Output tokens per second under load, the best first: on llama at 16 streams, ")),
        "{answer:#?}"
    );
    // What a table of its own says of the most streams is of the same.
    let points = &md[md.find("share of ideal").expect("a table")..];
    let points = points.split("\n\n").next().expect("a table");
    assert!(
        points.contains("1 to 16") && !points.contains("1 to 256"),
        "{points}"
    );
}

#[test]
fn the_first_sentence_names_what_was_measured_and_the_second_what_was_not() {
    let summary = one_goes_on_alone().summary().expect("a summary");
    let answer = sentences::answer_of_run(&summary);
    // 3 × 17 requests and 256 of llama, 273 of the other.
    assert_eq!(
        answer[..2],
        [
            "vLLM 0.15.1, SGLang 0.15.1 and Ollama 0.15.1 served llama and vLLM 0.15.1 served other on night; 580 requests \
             were measured, none failed.",
            "Not measured: SGLang on other (the server did not come up) and Ollama on other (the server did not come up).",
        ]
    );
    let mut nothing = one_goes_on_alone();
    nothing.events.retain(|e| !matches!(e, Event::CellEnded(_)));
    let answer = sentences::answer_of_run(&nothing.summary().expect("a summary"));
    assert_eq!(answer[0], "Nothing was measured on night.");
    let mut one = Builder::one(exact("single/in512", ScenarioKind::Single, 1, 512));
    one.measured(
        &lane_id("vllm", "llama"),
        "single/in512",
        &[(100, vec![Did::ok(0, 10, 90)])],
    );
    let summary = one.summary().expect("a summary");
    let answer = sentences::answer_of_run(&summary);
    assert!(
        answer[0].ends_with("; 1 request was measured, none failed."),
        "{answer:?}"
    );
    assert!(cell_line(&summary.lanes[0].cells[0]).ends_with("  1 request"));
}
