//! Synthetic cells with figures known by hand.

use std::time::Duration;

use super::{testing::*, *};
use benchd_core::record::ClientLag;
use benchd_core::{
    record::{FlagKind, GpuProcess, Outcome, ThrottleReason},
    stats::IntervalMethod,
};
use benchd_journal::{Event, LaneOutcome};
use benchd_plan::{Language, PromptMode, PromptType, ScenarioKind, Slo};

fn single() -> benchd_plan::Cell {
    exact("single/in512", ScenarioKind::Single, 1, 512)
}

fn lane() -> benchd_core::record::LaneId {
    lane_id("vllm", "llama")
}

#[track_caller]
fn close(is: f64, should: f64) {
    assert!(
        (is - should).abs() < 1e-9 * should.abs().max(1.0),
        "{is} is not {should}"
    );
}

fn kinds(cell: &CellSummary) -> Vec<FlagKind> {
    cell.flags.iter().map(|f| f.kind).collect()
}

#[test]
fn a_plain_cell_by_hand() {
    let mut b = Builder::one(single());
    // TTFT 10, 20, …, 100 ms; then 10 tokens in 1,000 ms.
    let requests = (1..=10)
        .map(|i| Did::ok(i * 2000, i * 10, i * 10 + 1000))
        .collect();
    b.measured(&lane(), "single/in512", &[(22_000, requests)]);
    b.samples(
        &lane(),
        &[gpu_sample(0, 10), gpu_sample(4_000, 40), gpu_sample(8_000, 10)],
    );
    b.samples(
        &lane(),
        &[
            gpu_sample(12_000, 20),
            gpu_sample(16_500, 20),
            gpu_sample(21_000, 20),
        ],
    );
    // Long before and after: not the cell's.
    b.samples(&lane(), &[gpu_sample(90_000, 99)]);
    let cell = b.cell();

    assert_eq!(
        (cell.requests, cell.failed, cell.full_outputs, cell.short_outputs),
        (10, 0, 10, 0)
    );
    let ttft = cell.ttft_ms.as_ref().expect("TTFT");
    close(ttft.p50, 55.0);
    close(ttft.p95, 95.5);
    close(ttft.p99, 99.1);
    close(ttft.mean, 55.0);
    close(ttft.sd.expect("ten values"), 30.276503540974915);
    assert_eq!((ttft.min, ttft.max, ttft.n), (10.0, 100.0, 10));
    assert!(!ttft.p95_certain && !ttft.p99_certain);
    let interval = ttft.p50_interval.expect("an interval");
    assert!(interval.method == IntervalMethod::Bca && interval.low < 55.0 && interval.high > 55.0);
    let latency = cell.latency_ms.as_ref().expect("latency");
    close(latency.p50, 1055.0);
    assert_eq!(cell.latency_full_ms, cell.latency_ms);
    close(cell.tpot_ms.as_ref().expect("TPOT").p50, 100.0);
    let gaps = cell.chunk_gap_ms.as_ref().expect("gaps");
    assert_eq!(gaps.n, 100);
    assert!((gaps.p50 - 100.0).abs() < 0.1, "{gaps:?}");
    // 110 tokens, 10 requests in 22 s: one pass, so no interval.
    let rate = cell.output_tokens_per_s.as_ref().expect("a rate");
    close(rate.median, 5.0);
    assert_eq!((rate.passes.len(), rate.interval), (1, None));
    close(cell.requests_per_s.as_ref().expect("a rate").median, 10.0 / 22.0);
    close(
        cell.request_tokens_per_s.as_ref().expect("a rate").max,
        11.0 / 1.01,
    );
    assert_eq!(
        cell.prompt_tokens.as_ref().map(|c| (c.total, c.median)),
        Some((5220, 522.0))
    );
    assert_eq!(cell.steady, None);

    let gpu = cell.gpu.as_ref().expect("samples");
    assert_eq!(
        (gpu.samples, gpu.memory_peak_bytes, gpu.memory_mean_bytes),
        (6, Some(40), Some(20.0))
    );
    // 300 mJ a millisecond: 6,300 J over 21 s, 6,600 J over the 22 s of the pass.
    close(gpu.energy_j.expect("energy"), 6600.0);
    close(gpu.energy_j_per_output_token.expect("energy"), 60.0);
    assert_eq!(kinds(&cell), [FlagKind::FewSamples]);
}

#[test]
fn a_time_out_counts_as_its_limit_and_other_failures_do_not_count() {
    let mut b = Builder::one(single());
    let mut broken = Did::ok(0, 1, 2);
    broken.outcome = Outcome::Truncated;
    let requests = vec![Did::ok(0, 10, 100), Did::ok(0, 10, 200), Did::timeout(0), broken];
    b.measured(&lane(), "single/in512", &[(300_000, requests)]);
    let cell = b.cell();
    assert_eq!((cell.requests, cell.failed), (4, 2));
    assert_eq!(
        cell.failures
            .iter()
            .map(|(k, n)| (k.as_str(), *n))
            .collect::<Vec<_>>(),
        [("timeout", 1), ("truncated", 1)]
    );
    assert_eq!(cell.failure_example.as_deref(), Some("no answer within 300 s"));
    let latency = cell.latency_ms.as_ref().expect("latency");
    assert_eq!(
        (latency.n, latency.timeouts, latency.p50, latency.max),
        (3, 1, 200.0, 300_000.0)
    );
    assert_eq!(
        cell.latency_full_ms.as_ref().map(|l| (l.n, l.max)),
        Some((3, 300_000.0))
    );
    // It had no first token either.
    assert_eq!(
        cell.ttft_ms.as_ref().map(|t| (t.n, t.timeouts, t.max)),
        Some((3, 1, 300_000.0))
    );
    assert!(kinds(&cell).contains(&FlagKind::FailedRequests));
    close(cell.requests_per_s.expect("a rate").median, 2.0 / 300.0);
}

#[test]
fn latency_is_also_told_among_full_outputs() {
    let mut b = Builder::one(single());
    let mut short = Did::ok(0, 10, 50);
    short.tokens = 4;
    b.measured(
        &lane(),
        "single/in512",
        &[(1000, vec![short, Did::ok(100, 10, 100), Did::ok(300, 10, 300)])],
    );
    let cell = b.cell();
    assert_eq!((cell.full_outputs, cell.short_outputs), (2, 1));
    assert_eq!(cell.latency_ms.as_ref().map(|l| l.p50), Some(100.0));
    assert_eq!(cell.latency_full_ms.as_ref().map(|l| l.p50), Some(200.0));
    let flag = cell
        .flags
        .iter()
        .find(|f| f.kind == FlagKind::ShortOutput)
        .expect("a flag");
    assert_eq!(
        flag.seen,
        "1 of 3 answers have fewer than 11 tokens, the shortest 4 tokens"
    );
}

#[test]
fn a_rate_has_as_many_samples_as_passes() {
    let mut b = Builder::one(single());
    let pass = |n: u64| (1000, (0..n).map(|i| Did::ok(i * 100, 10, 90)).collect());
    b.measured(&lane(), "single/in512", &[pass(2), pass(4), pass(3)]);
    let cell = b.cell();
    let rate = cell.output_tokens_per_s.expect("a rate");
    assert_eq!((rate.passes, rate.median), (vec![22.0, 44.0, 33.0], 33.0));
    let interval = rate.interval.expect("three passes");
    assert!(interval.low >= 22.0 && interval.high <= 44.0);
}

#[test]
fn a_shared_prefix_compares_first_and_later_requests() {
    let mut b = Builder::one(shared("prefix_cache/sys2048"));
    let pass = |first: u64| {
        let did = |i: u64, ttft: u64, cached: u64| Did {
            prompt_tokens: 2000,
            cached: Some(cached),
            ..Did::ok(i * 1000, ttft, ttft + 100)
        };
        (
            4000,
            vec![
                did(0, first, 0),
                did(1, 10, 1500),
                did(2, 20, 1500),
                did(3, 30, 1500),
            ],
        )
    };
    b.measured(&lane(), "prefix_cache/sys2048", &[pass(100), pass(200)]);
    let cell = b.cell();
    let cache = cell.prefix_cache.as_ref().expect("first against later");
    assert_eq!(
        cache.first_ttft_ms.as_ref().map(|d| (d.n, d.p50)),
        Some((2, 150.0))
    );
    assert_eq!(
        cache.later_ttft_ms.as_ref().map(|d| (d.n, d.p50)),
        Some((6, 20.0))
    );
    // 20 / 100 and 20 / 200.
    close(cache.later_over_first.as_ref().expect("a ratio").p50, 0.15);
    assert_eq!(
        (cache.first_cached_share, cache.later_cached_share),
        (Some(0.0), Some(0.75))
    );
    close(cache.first_tokens_per_s.as_ref().expect("a rate").max, 11.0 / 0.2);
    // Cached tokens are what this scenario is about: no flag. The prompts are shorter than asked: a flag.
    let kinds = kinds(&cell);
    assert!(!kinds.contains(&FlagKind::ServedFromCache) && kinds.contains(&FlagKind::TruncatedPrompt));
}

#[test]
fn the_steady_state_leaves_out_the_burst_and_the_end() {
    let mut cell = exact("concurrent/c2", ScenarioKind::Concurrent, 2, 512);
    cell.requests_per_pass = 5;
    let mut b = Builder::one(cell);
    // Stream 1: 0–1000, 1000–2000, 2000–3000; stream 2: 0–1500, 1500–2500. Both fly from 0 to 2500.
    let requests = vec![
        Did::ok(0, 500, 1000),
        Did::ok(0, 500, 1500),
        Did::ok(1000, 100, 1000),
        Did::ok(1500, 100, 1000),
        Did::ok(2000, 100, 1000),
    ];
    b.measured(&lane(), "concurrent/c2", &[(3000, requests)]);
    let cell = b.cell();
    let steady = cell.steady.as_ref().expect("a steady state");
    close(steady.share, 2500.0 / 3000.0);
    assert_eq!(steady.requests, 3);
    assert_eq!(steady.ttft_ms.as_ref().map(|d| (d.n, d.p50)), Some((3, 100.0)));
    // The last request's tokens come from 2100 to 3000; 400 of the 900 ms are in.
    let tokens = 44.0 + 11.0 * 400.0 / 900.0;
    close(
        steady.output_tokens_per_s.as_ref().expect("a rate").median,
        tokens / 2.5,
    );
    assert!(!kinds(&cell).contains(&FlagKind::NoSteadyState));
    // The whole cell's figure is another one.
    assert_eq!(cell.ttft_ms.as_ref().map(|d| d.n), Some(5));
}

#[test]
fn a_time_out_counts_in_the_steady_state_too() {
    let mut b = Builder::one(exact("concurrent/c2", ScenarioKind::Concurrent, 2, 512));
    // The third request hangs until its limit while the other stream goes on.
    let mut requests = vec![Did::ok(0, 10, 1000), Did::ok(0, 10, 1500), Did::timeout(1000)];
    requests.extend((0..299).map(|i| Did::ok(1500 + i * 1000, 10, 1000)));
    b.measured(&lane(), "concurrent/c2", &[(301_000, requests)]);
    let steady = b.cell().steady.expect("a steady state");
    let latency = steady.latency_ms.expect("latencies");
    assert_eq!(
        (latency.n, latency.timeouts, latency.p50, latency.max),
        (300, 1, 1000.0, 300_000.0)
    );
    assert_eq!(
        steady.ttft_ms.map(|t| (t.n, t.timeouts, t.max)),
        Some((300, 1, 300_000.0))
    );
}

#[test]
fn less_than_two_waves_are_no_steady_state() {
    let mut b = Builder::one(exact("concurrent/c8", ScenarioKind::Concurrent, 8, 512));
    b.measured(
        &lane(),
        "concurrent/c8",
        &[(3000, (0..15).map(|i| Did::ok(i / 8 * 1000, 10, 1000)).collect())],
    );
    let cell = b.cell();
    assert_eq!(cell.steady, None);
    assert!(kinds(&cell).contains(&FlagKind::NoSteadyState));
}

#[test]
fn goodput_needs_every_objective() {
    let mut cell = single();
    cell.slo = Some(Slo {
        ttft: Some(Duration::from_millis(50)),
        tpot: Some(Duration::from_millis(20)),
        latency: None,
    });
    let mut b = Builder::one(cell);
    let requests = vec![
        Did::ok(0, 50, 250),
        Did::ok(300, 51, 251),
        Did::ok(600, 10, 211),
        Did::timeout(900),
    ];
    b.measured(&lane(), "single/in512", &[(2000, requests)]);
    let goodput = b.cell().goodput.expect("objectives");
    assert_eq!(
        (goodput.share, goodput.requests_per_s.expect("a rate").median),
        (0.25, 0.5)
    );
}

#[test]
fn korean_and_english_are_paired_by_prompt() {
    let cells = || {
        [PromptType::Question, PromptType::Essay]
            .into_iter()
            .flat_map(|t| [written(1, t, Language::Ko), written(1, t, Language::En)])
            .collect::<Vec<_>>()
    };
    let mut b = Builder::new(vec![(lane(), cells())]);
    b.ready(&lane());
    std::fs::write(
        b.run.prompts(),
        "{\"id\":\"p0\",\"messages\":[{\"role\":\"user\",\"content\":\"가나다라마\"}],\"sha256\":\"x\"}\n",
    )
    .expect("write");
    for (scale, prompt_type) in [(1, "question"), (10, "essay")] {
        let did = |text: &str, prompt_tokens, ttft| Did {
            text: text.to_owned(),
            prompt_tokens,
            ..Did::ok(0, ttft, 1000)
        };
        // Korean: twice the prompt tokens, half the characters, three times the TTFT.
        let ko: Vec<_> = (0..5).map(|_| did("가나다라마", 200 * scale, 30)).collect();
        let en: Vec<_> = (0..5).map(|_| did("abcdefghij", 100 * scale, 10)).collect();
        b.measured(&lane(), &format!("korean/c1/{prompt_type}/ko"), &[(5000, ko)]);
        b.measured(&lane(), &format!("korean/c1/{prompt_type}/en"), &[(5000, en)]);
    }
    let summary = b.summary().expect("a summary");
    let ko = summary.lanes[0].cells[0].text.as_ref().expect("text");
    assert_eq!((ko.chars, ko.bytes), (25, 75));
    close(ko.output_tokens_per_char.expect("tokens"), 55.0 / 25.0);
    close(ko.output_tokens_per_byte.expect("tokens"), 55.0 / 75.0);
    close(ko.chars_per_s.as_ref().expect("a rate").p50, 5.0);
    // 가나다라마 is all Hangul, no sentence, and ended at the limit.
    let signs = &ko.quality;
    assert_eq!(
        (signs.answers, signs.hangul_share, signs.cut_at_limit),
        (5, Some(1.0), 5)
    );
    assert_eq!(
        (signs.broken, signs.cut_before, signs.empty, signs.looping),
        (0, 0, 0, 0)
    );
    // One prompt's text is known: 190 tokens without the template for 5 characters.
    close(ko.prompt_tokens_per_char.expect("a prompt"), 38.0);

    let korean = &summary.lanes[0].korean;
    assert_eq!(
        (korean.len(), korean[0].concurrency, korean[0].prompts.len()),
        (1, 1, 2)
    );
    let question = &korean[0].prompts["question"];
    assert_eq!(
        (question["prompt_tokens"].ko, question["prompt_tokens"].en),
        // 10 tokens are the template's.
        (Some(190.0), Some(90.0))
    );
    close(question["ttft_ms"].ratio, 3.0);
    close(question["chars_per_s"].ratio, 0.5);
    close(question["output_tokens_per_char"].ratio, 2.0);
    let overall = &korean[0].overall;
    close(
        overall["prompt_tokens"].ratio,
        (190.0_f64 / 90.0 * 1990.0 / 990.0).sqrt(),
    );
    close(
        question["output_tokens_per_byte"].ratio,
        11.0 / 15.0 / (11.0 / 10.0),
    );
    assert_eq!(
        overall["prompt_tokens"].interval.map(|i| i.method),
        Some(IntervalMethod::Point)
    );
    close(overall["bytes_per_s"].ratio, 1.5);
}

#[test]
fn a_translations_english_answers_say_nothing_of_korean_ones() {
    let types = [PromptType::Question, PromptType::Translation];
    let cells = types
        .iter()
        .flat_map(|t| [written(1, *t, Language::Ko), written(1, *t, Language::En)]);
    let mut b = Builder::new(vec![(lane(), cells.collect())]);
    b.ready(&lane());
    for (name, ko) in [("question", "가나다라마"), ("translation", "abcdefghij")] {
        for (language, text, prompt_tokens) in [("ko", ko, 210), ("en", "abcdefghij", 110)] {
            let did = |_| Did {
                text: text.to_owned(),
                prompt_tokens,
                ..Did::ok(0, 10, 1000)
            };
            let cell = format!("korean/c1/{name}/{language}");
            b.measured(&lane(), &cell, &[(5000, (0..5).map(did).collect())]);
        }
    }
    let korean = &b.summary().expect("a summary").lanes[0].korean[0];
    close(korean.prompts["translation"]["output_tokens_per_char"].ratio, 1.0);
    // Of the question alone; the prompts of both count.
    close(korean.overall["output_tokens_per_char"].ratio, 2.0);
    close(korean.overall["chars_per_s"].ratio, 0.5);
    close(korean.overall["prompt_tokens"].ratio, 2.0);
}

#[test]
fn every_doubt_has_its_flag() {
    let seen = |change: &dyn Fn(&mut Did)| {
        let mut b = Builder::one(single());
        let requests = (0..4).map(|i| {
            let mut did = Did::ok(i * 100, 10, 90);
            change(&mut did);
            did
        });
        b.measured(&lane(), "single/in512", &[(400, requests.collect())]);
        b.samples(&lane(), &[gpu_sample(10, 1)]);
        kinds(&b.cell())
    };
    let base = [FlagKind::FewSamples];
    assert_eq!(seen(&|_| {}), base);
    let with = |kind: FlagKind, change: &dyn Fn(&mut Did)| {
        let kinds = seen(change);
        assert!(kinds.contains(&kind), "{kind}: {kinds:?}");
        assert_eq!(kinds.len(), 2, "{kind}: {kinds:?}");
    };
    with(FlagKind::TruncatedPrompt, &|d| d.prompt_tokens = 500);
    // 512 asked, 10 of the template, 2 %: up to 532 are right.
    with(FlagKind::PromptLength, &|d| d.prompt_tokens = 533);
    assert_eq!(seen(&|d| d.prompt_tokens = 532), base);
    // The template's 10 and a block of 16 may be cached.
    with(FlagKind::ServedFromCache, &|d| d.cached = Some(27));
    assert_eq!(seen(&|d| d.cached = Some(26)), base);
    with(FlagKind::ShortOutput, &|d| d.tokens = 10);
    with(FlagKind::WrongModel, &|d| d.model = "other/Model");
    assert_eq!(seen(&|d| d.model = "/models/llama"), base);
}

#[test]
fn the_machine_and_the_client_are_doubted_too() {
    let cell_with = |change: &dyn Fn(&mut Builder)| {
        let mut b = Builder::one(single());
        b.measured(
            &lane(),
            "single/in512",
            &[(400, vec![Did::ok(0, 10, 90), Did::ok(100, 10, 90)])],
        );
        change(&mut b);
        kinds(&b.cell())
    };
    let sample = |change: &dyn Fn(&mut benchd_core::record::GpuSample)| {
        cell_with(&|b| {
            let mut s = gpu_sample(10, 1);
            change(&mut s);
            b.samples(&lane(), &[s]);
        })
    };
    let process = |pid| GpuProcess {
        pid,
        device: 0,
        used_bytes: None,
        name: None,
    };
    let few = FlagKind::FewSamples;
    assert_eq!(cell_with(&|_| {}), [few, FlagKind::GpuSamplesMissing]);
    assert_eq!(
        sample(&|s| s.errors.push("power: lost".to_owned())),
        [few, FlagKind::GpuSamplesMissing]
    );
    assert_eq!(
        sample(&|s| s.throttle = Some(vec![ThrottleReason::HwThermalSlowdown])),
        [few, FlagKind::Throttled]
    );
    assert_eq!(
        sample(&|s| s.processes = Some(vec![process(100), process(7)])),
        [few, FlagKind::StrangerOnGpu]
    );
    // Only foreign pids: another pid namespace, nothing can be said.
    assert_eq!(sample(&|s| s.processes = Some(vec![process(7)])), [few]);

    let lag = |p50_us: u64, p99_us: u64, probes: u64| {
        let mut b = Builder::one(single());
        b.samples(&lane(), &[gpu_sample(10, 1)]);
        let ended = b.measured(&lane(), "single/in512", &[(400, vec![Did::ok(0, 10, 400)])]);
        ended.client = ClientLag {
            probes,
            p50_us,
            p99_us,
            ..ClientLag::default()
        };
        kinds(&b.cell())
    };
    // 5 % of a latency of 400 ms.
    assert_eq!(lag(20_000, 20_000, 90), [few, FlagKind::ClientTooSlow]);
    assert_eq!(lag(19_999, 20_000, 90), [few]);
    // One outlier of ninety probes, or a median of too few.
    assert_eq!(lag(90, 100_000, 90), [few]);
    assert_eq!(lag(20_000, 20_000, 29), [few]);
}

#[test]
fn a_clock_a_hair_below_the_one_that_is_held_is_not_throttled() {
    let throttled = |mhz: u32| {
        let mut b = Builder::one(single());
        b.measured(&lane(), "single/in512", &[(4_000, vec![Did::ok(0, 10, 90)])]);
        let sample = |i: u64| {
            let slowed = i.is_multiple_of(2) && i < 40;
            benchd_core::record::GpuSample {
                sm_clock_mhz: Some(if slowed { mhz } else { 1980 }),
                throttle: Some(if slowed {
                    vec![ThrottleReason::SwPowerCap]
                } else {
                    Vec::new()
                }),
                ..gpu_sample(i * 100, 1)
            }
        };
        b.samples(&lane(), &(0..50).map(sample).collect::<Vec<_>>());
        let cell = b.cell();
        cell.flags
            .iter()
            .find(|f| f.kind == FlagKind::Throttled)
            .map(|f| f.seen.clone())
    };
    // The reason is there in half of the samples.
    assert_eq!(throttled(1979), None);
    assert_eq!(throttled(1920), None, "1.5 % of the clock");
    let seen = throttled(1860).expect("3 %");
    assert!(
        seen.starts_with("3.0 % of the SM clock of 1980 MHz lost; share of the samples: sw power cap 49 %"),
        "{seen}"
    );
}

#[test]
fn identical_prompts_are_said() {
    let mut cell = single();
    cell.prompts = PromptMode::Identical;
    let mut b = Builder::one(cell);
    let did = Did {
        cached: Some(500),
        ..Did::ok(0, 10, 90)
    };
    b.measured(&lane(), "single/in512", &[(400, vec![did])]);
    b.samples(&lane(), &[gpu_sample(10, 1)]);
    assert_eq!(
        kinds(&b.cell()),
        [FlagKind::FewSamples, FlagKind::IdenticalPrompts]
    );
}

#[test]
fn a_slow_drift_within_a_cell_is_seen() {
    let run = |growth: u64| {
        let mut b = Builder::one(single());
        let requests = (0..40)
            .map(|i| Did::ok(i * 2000, 10, 1000 + i * growth))
            .collect();
        b.measured(&lane(), "single/in512", &[(80_000, requests)]);
        kinds(&b.cell()).contains(&FlagKind::Drift)
    };
    // 39 steps of 2 ms are 7.5 % of 1,039 ms; of 1 ms, 3.8 %.
    assert!(run(2) && !run(1));
}

#[test]
fn records_that_do_not_fit_their_end_event_are_named_and_the_rest_stays() {
    let cells = vec![single(), exact("single/in128", ScenarioKind::Single, 1, 128)];
    let mut b = Builder::new(vec![(lane(), cells)]);
    b.ready(&lane());
    b.measured(&lane(), "single/in512", &[(400, vec![Did::ok(0, 10, 90)])])
        .records = 7;
    b.measured(&lane(), "single/in128", &[(400, vec![Did::ok(0, 10, 90)])]);
    let summary = b.summary().expect("a summary");
    let lane = &summary.lanes[0];
    assert_eq!(
        (lane.cells.len(), lane.cells[0].cell.as_str()),
        (1, "single/in128")
    );
    let why = &lane.missing[0].why;
    assert!(
        why.contains("has 2 records in its range, its end event says 7"),
        "{why}"
    );
    assert!(summary.partial);
}

#[test]
fn a_failed_lane_says_where_and_why() {
    let mut b = Builder::new(vec![(lane(), vec![single()])]);
    b.ready(&lane());
    b.end_lane(
        &lane(),
        LaneOutcome::Failed,
        Some(("ready", "exit 1 while starting", &["CUDA out of memory"])),
    );
    let summary = b.summary().expect("a summary");
    let lane = &summary.lanes[0];
    assert_eq!(
        (lane.outcome.as_str(), lane.stage.as_deref()),
        ("failed", Some("ready"))
    );
    assert_eq!(lane.log_tail, ["CUDA out of memory"]);
    assert_eq!(
        lane.missing[0].why,
        "not reached: the lane failed (exit 1 while starting)"
    );
}

#[test]
fn a_summary_comes_back_from_json_as_it_was() {
    let mut b = Builder::one(single());
    b.measured(
        &lane(),
        "single/in512",
        &[(1000, vec![Did::ok(0, 10, 90), Did::timeout(0)])],
    );
    let summary = b.summary().expect("a summary");
    let text = serde_json::to_string(&summary).expect("JSON");
    assert_eq!(serde_json::from_str::<RunSummary>(&text).expect("JSON"), summary);
}

#[test]
fn a_measured_cell_that_the_plan_does_not_have_is_named() {
    let mut b = Builder::one(single());
    b.measured(&lane(), "single/in512", &[(400, vec![Did::ok(0, 10, 90)])]);
    b.lanes[0].cells.clear();
    let summary = b.summary().expect("a summary");
    assert_eq!(summary.lanes[0].missing[0].cell, "single/in512");
    assert_eq!(
        summary.lanes[0].missing[0].why,
        "measured, but the plan has no such cell"
    );
}

#[test]
fn cells_that_only_left_out_are_not_missing() {
    let cells = vec![single(), exact("single/in128", ScenarioKind::Single, 1, 128)];
    let mut b = Builder::new(vec![(lane(), cells)]);
    if let Some(Event::RunStarted(e)) = b.events.first_mut() {
        e.lanes[0].1 = 1;
    }
    b.ready(&lane());
    b.measured(&lane(), "single/in512", &[(400, vec![Did::ok(0, 10, 90)])]);
    let summary = b.summary().expect("a summary");
    assert_eq!(summary.lanes[0].missing, []);
    assert!(!summary.partial);
}
