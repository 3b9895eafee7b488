//! Flags about the client itself: each from its evidence, and not without it.

use std::collections::BTreeMap;

use super::testing::*;
use benchd_core::record::ClientLag;
use benchd_core::record::{Flag, FlagKind};
use benchd_journal::{
    ClientCalibration, ClientPoint, ClientRate, HostInfo, RUN_INFO_VERSION, RateLimit, RunInfo, RunState,
    Toolchain,
};
use benchd_plan::ScenarioKind;

const CELL: &str = "concurrent/c16";

/// Writes run.json with a client whose TTFT error (p99) is 3 ms at 8 streams and 5 ms at 32.
fn calibrate(b: &Builder, max_events_per_s: Option<f64>, tried: &[f64]) {
    let point = |streams, ttft_error_us_p99| ClientPoint {
        streams,
        ttft_error_us_p99,
        ..ClientPoint::default()
    };
    let info = RunInfo {
        v: RUN_INFO_VERSION,
        run_id: b.run.id().to_owned(),
        plan: "night".to_owned(),
        plan_path: "plans/night.yaml".to_owned(),
        plan_sha256: "5e".repeat(32),
        benchd_version: "0.1.0".to_owned(),
        started_unix_us: T0,
        updated_unix_us: T0,
        logs: "logs".to_owned(),
        host: HostInfo::default(),
        gpu: None,
        gpu_baseline_bytes: Vec::new(),
        environments: Default::default(),
        versions: BTreeMap::new(),
        toolchain: Toolchain::default(),
        compiles: [].into(),
        client: Some(ClientCalibration {
            points: vec![point(8, 3_000.0), point(32, 5_000.0)],
            max_events_per_s,
            rates: tried.iter().copied().map(not_sustained).collect(),
            rate_limit: Some(RateLimit::Client),
            ..ClientCalibration::default()
        }),
        state: RunState::Finished,
    };
    info.write(&b.run.run_json()).expect("write");
}

fn not_sustained(offered_per_s: f64) -> ClientRate {
    ClientRate {
        streams: 64,
        offered_per_s,
        events_per_s: offered_per_s,
        read_lag_us_p99: 5_000.0,
        load_thread_share: 0.5,
        cpu_us_per_event: 20.0,
        server_late_us_p99: 1.0,
        sustained: false,
    }
}

/// Two frameworks with the same cell, their median TTFT as given; flags of one kind of both.
fn two(streams: u32, ttft_ms: [u64; 2], calibrated: bool) -> [Vec<Flag>; 2] {
    let lanes = ["vllm", "ollama"].map(|framework| lane_id(framework, "llama"));
    let cell = exact(CELL, ScenarioKind::Concurrent, streams, 512);
    let mut b = Builder::new(lanes.iter().map(|l| (l.clone(), vec![cell.clone()])).collect());
    for (lane, ttft_ms) in lanes.iter().zip(ttft_ms) {
        b.ready(lane);
        let requests = (0..3).map(|i| Did::ok(i * 500, ttft_ms, 400)).collect();
        b.measured(lane, CELL, &[(2_000, requests)]);
        b.finish_lane(lane);
    }
    if calibrated {
        calibrate(&b, None, &[]);
    }
    let summary = b.summary().expect("a summary");
    [0, 1].map(|i| {
        let flags = summary.lanes[i].cells[0].flags.iter();
        flags
            .filter(|f| f.kind == FlagKind::BelowClientError)
            .cloned()
            .collect()
    })
}

#[test]
fn a_difference_below_the_clients_error_at_that_many_streams_is_flagged_on_both_sides() {
    let [ours, theirs] = two(16, [40, 44], true);
    assert_eq!((ours.len(), theirs.len()), (1, 1));
    assert!(
        ours[0].seen.contains("ollama") && ours[0].seen.contains("5.000 ms"),
        "{ours:?}"
    );
    assert!(theirs[0].seen.contains("vllm"), "{theirs:?}");
    // 5 ms are not less than 5 ms.
    assert_eq!(two(16, [40, 45], true), [vec![], vec![]]);
    // At 8 streams the error is 3 ms only; above 32 the last one known counts.
    assert_eq!(two(8, [40, 44], true), [vec![], vec![]]);
    assert_eq!(two(100, [40, 44], true)[0].len(), 1);
    // Nothing is known of the client: nothing is said.
    assert_eq!(two(16, [40, 44], false), [vec![], vec![]]);
}

#[test]
fn half_of_the_clients_largest_rate_is_near_its_limit() {
    let run = |events, limit, tried: &[f64]| {
        let mut b = Builder::one(exact(CELL, ScenarioKind::Concurrent, 16, 512));
        let lane = lane_id("vllm", "llama");
        // Two passes of a second each.
        let pass = || (1_000, vec![Did::ok(0, 10, 90)]);
        b.measured(&lane, CELL, &[pass(), pass()]).client = ClientLag {
            events,
            ..ClientLag::default()
        };
        calibrate(&b, limit, tried);
        let near = |f: &&Flag| f.kind == FlagKind::ClientNearLimit;
        b.cell().flags.iter().find(near).cloned()
    };
    let flag = run(50_002, Some(50_000.0), &[60_000.0]).expect("a flag");
    assert!(
        flag.seen.contains("25001 events/s") && flag.seen.contains("50000"),
        "{flag:?}"
    );
    assert_eq!(run(50_000, Some(50_000.0), &[]), None);
    assert_eq!(run(50_002, None, &[]), None);
    // A client that sustained nothing: the lowest rate that was too much is the limit.
    let flag = run(5_002, None, &[10_000.0, 5_000.0]).expect("a flag");
    assert!(flag.seen.ends_with(": 5000"), "{flag:?}");
}

#[test]
fn a_client_is_too_slow_by_the_difference_that_is_shown() {
    // Ten passes of a second with ten requests of 100 ms each; ollama's are longer by so many per mille.
    let run = |p50_us: u64, longer: u64| {
        let lanes = ["vllm", "ollama"].map(|framework| lane_id(framework, "llama"));
        let cell = exact(CELL, ScenarioKind::Concurrent, 16, 512);
        let mut b = Builder::new(lanes.iter().map(|l| (l.clone(), vec![cell.clone()])).collect());
        for (lane, longer) in lanes.iter().zip([0, longer]) {
            b.ready(lane);
            let pass = |n: u64| (1_000 + longer + n % 2, vec![Did::ok(0, 10, 100); 10]);
            b.measured(lane, CELL, &(0..10).map(pass).collect::<Vec<_>>())
                .client = ClientLag {
                probes: 1_000,
                p50_us,
                p99_us: 30_000,
                max_us: 99_999,
                ..ClientLag::default()
            };
            b.finish_lane(lane);
        }
        let slow = |f: &&Flag| f.kind == FlagKind::ClientTooSlow;
        let summary = b.summary().expect("a summary");
        let flag = summary.lanes[0].cells[0].flags.iter().find(slow).cloned();
        flag.map(|f| f.seen)
    };
    // 0.5 ms of 100 ms are 0.5 %: nothing beside a difference of 10 %, more than one of 0.4 %.
    assert_eq!(run(500, 100), None);
    let seen = run(500, 4).expect("a flag");
    assert!(
        seen.starts_with("requests were sent 0.500 ms late (median of 1,000 probes of the load thread)")
            && seen.contains("output tokens/s is off by up to 0.500 %; the difference from ollama is 0.4"),
        "{seen}"
    );
    // No difference is told: only what is wrong by itself is.
    assert_eq!(run(500, 0), None);
    assert!(run(5_000, 0).is_some());
}

#[test]
fn in_an_open_loop_the_wait_for_the_first_token_counts_from_when_it_was_due() {
    let run = |p50_us| {
        let mut cell = exact(CELL, ScenarioKind::Concurrent, 1, 512);
        cell.arrival = benchd_plan::Arrival::Constant { rate_per_s: 4.0 };
        let mut b = Builder::one(cell);
        let ended = b.measured(
            &lane_id("vllm", "llama"),
            CELL,
            &[(2_000, vec![Did::ok(0, 20, 900)])],
        );
        ended.client = ClientLag {
            probes: 100,
            p50_us,
            ..ClientLag::default()
        };
        let flags = b.cell().flags;
        flags
            .into_iter()
            .any(|f| f.kind == FlagKind::ClientTooSlow && f.seen.contains("TTFT and latency are off"))
    };
    assert!(run(1_000) && !run(999));
}
