//! The estimate goes the right way and adds up.

use std::{num::NonZeroU32, time::Duration};

use super::{GOOD, plan, with};
use crate::{Assumptions, Estimate, Framework, FrameworkKind, Only, Pace, Plan, estimate, lanes};

/// Ollama answers as many at once as its environment says; the others batch.
fn pace(framework: &Framework) -> Pace {
    let secs = Duration::from_secs;
    match framework.kind {
        FrameworkKind::Ollama => Pace {
            start: secs(10),
            cache_reset: secs(7),
            slots: Some(
                framework
                    .env
                    .get("SLOTS")
                    .map_or(1, |slots| slots.parse().unwrap()),
            ),
        },
        _ => Pace {
            start: secs(100),
            cache_reset: secs(1),
            slots: None,
        },
    }
}

fn estimated(plan: &Plan) -> Estimate {
    estimate(
        plan,
        &lanes(plan, &Only::default()),
        &Assumptions::default(),
        pace,
    )
}

#[test]
fn parts_add_up_to_the_lane_and_lanes_to_the_whole() {
    let estimate = estimated(&plan(GOOD));
    assert_eq!(estimate.lanes.len(), 2);
    for lane in &estimate.lanes {
        let scenarios: Duration = lane.scenarios.iter().map(|(_, time)| *time).sum();
        assert_eq!(
            lane.total,
            lane.start + lane.calibration + lane.warmup + scenarios + lane.stop
        );
        let names: Vec<&str> = lane.scenarios.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["single", "concurrent"]);
    }
    assert_eq!(estimate.total, estimate.lanes.iter().map(|l| l.total).sum());
}

#[test]
fn one_cell_by_hand() {
    // 1000 prompt tokens at 1000/s, 100 output tokens at 100/s: 2 s a request.
    let a = Assumptions {
        prefill_tokens_per_s: 1000.0,
        decode_tokens_per_s: 100.0,
        half_rate_streams: 1e12,
        stop_and_release: Duration::from_secs(5),
        probes_per_length: 0.0,
        ..Assumptions::default()
    };
    let plan = plan(
        "version: 1\nname: x\nmodels: { m: { hf: m, ollama: m } }\nframeworks: { vllm: { venv: v }, ollama: { binary: b } }\n\
         scenarios: { concurrent: { concurrency: 4, input_tokens: 1000, output_tokens: 100, requests: 8, passes: 2, warmup: 4 } }\n\
         request: { warmup: 1 }\n",
    );
    let estimate = estimate(&plan, &lanes(&plan, &Only::default()), &a, pace);
    // vLLM: a wave of 4 reads 4000 tokens (4 s) and writes (1 s): 5 s; 1 wave of warm-up, 2 of a pass, 2 passes; 1 s reset.
    assert_eq!(
        estimate.lanes[0].scenarios[0].1.as_secs_f64().round(),
        5.0 + 2.0 * 10.0 + 1.0
    );
    assert_eq!(
        estimate.lanes[0].total.as_secs_f64().round(),
        100.0 + 2.0 + 26.0 + 5.0
    );
    // Ollama: one after another, 2 s each: 4 of warm-up, 8 of a pass, 2 passes; 7 s to load the model again.
    assert_eq!(
        estimate.lanes[1].scenarios[0].1.as_secs_f64().round(),
        8.0 + 2.0 * 16.0 + 7.0
    );
}

#[test]
fn more_work_takes_longer() {
    let base = estimated(&plan(GOOD)).total;
    for (from, to) in [
        ("repeats: 10", "repeats: 20"),
        ("requests: 100", "requests: 200"),
        ("requests: 100", "requests: 100, passes: 2"),
        ("requests: 100", "requests: 100, warmup: 50"),
        ("input_tokens: 512", "input_tokens: 4096"),
        ("input_tokens: 512", "input_tokens: [512, 1024]"),
        ("name: good", "name: good\nrepeats: 2"),
        ("name: good", "name: good\nrequest: { warmup: 100 }"),
    ] {
        assert!(estimated(&plan(&with(from, to))).total > base, "{to}");
    }
}

#[test]
fn one_after_another_takes_longer_than_batching() {
    let estimate = estimated(&plan(&with("concurrency: [1, 8]", "concurrency: 64")));
    let concurrent = |lane: usize| estimate.lanes[lane].scenarios[1].1;
    assert!(
        concurrent(1) > concurrent(0) * 5,
        "{:?} {:?}",
        concurrent(1),
        concurrent(0)
    );
    let estimate = estimated(&plan(GOOD));
    let parallel = with("bin/ollama }", "bin/ollama, env: { SLOTS: \"8\" } }");
    assert!(estimated(&plan(&parallel)).lanes[1].total < estimate.lanes[1].total);
}

#[test]
fn a_model_is_calibrated_once_and_not_with_a_tokenizer_file() {
    let estimate = estimated(&plan(GOOD));
    assert!(estimate.lanes[0].calibration > Duration::ZERO);
    assert_eq!(estimate.lanes[1].calibration, Duration::ZERO);
    let with_file = plan(&with("openai: m", "openai: m, tokenizer: t.json"));
    assert_eq!(estimated(&with_file).lanes[0].calibration, Duration::ZERO);
}

#[test]
fn a_server_by_url_is_neither_started_nor_stopped() {
    let text = with(
        "  ollama: {",
        "  far: { kind: openai, url: \"http://127.0.0.1:1\" }\n  ollama: {",
    );
    let far = &estimated(&plan(&text)).lanes[1];
    assert_eq!((far.start, far.stop), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn an_open_loop_lasts_as_long_as_its_arrivals() {
    let text = with("concurrency: [1, 8]", "arrival: { poisson: 0.5/s }");
    let estimate = estimated(&plan(&text));
    let open = estimate.lanes[0].scenarios[1].1;
    assert!(
        open > Duration::from_secs(200) && open < Duration::from_secs(240),
        "{open:?}"
    );
}

#[test]
fn the_greatest_plan_does_not_overflow() {
    let mut huge = plan(&with(
        "repeats: 10",
        "repeats: 1000000, passes: 1000, warmup: 100000",
    ));
    huge.repeats = NonZeroU32::new(100).unwrap();
    assert!(estimated(&huge).total > Duration::from_secs(100_000_000));
}
