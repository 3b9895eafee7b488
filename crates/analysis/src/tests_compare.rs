//! Frameworks, rounds and lanes against each other: figures known by hand.

use super::{testing::*, *};
use benchd_core::record::Outcome;
use benchd_core::record::{Flag, FlagKind, LaneId, ResetOutcome};
use benchd_journal::Event;
use benchd_plan::{Framework, PromptMode, ScenarioKind, Source};

fn single() -> benchd_plan::Cell {
    exact("single/in512", ScenarioKind::Single, 1, 512)
}

#[track_caller]
fn close(is: f64, should: f64) {
    assert!(
        (is - should).abs() < 1e-9 * should.abs().max(1.0),
        "{is} is not {should}"
    );
}

fn round(framework: &str, round: u32) -> LaneId {
    LaneId {
        round,
        ..lane_id(framework, "llama")
    }
}

/// Ten requests on ten prompts whose TTFT differ by far more than the frameworks do.
fn requests(percent: u64) -> Vec<(u64, Vec<Did>)> {
    let all = (1..=10)
        .map(|i| Did::ok(i * 2000, i * percent, i * percent + 1000))
        .collect();
    vec![(22_000, all)]
}

fn two(change: &dyn Fn(&mut benchd_plan::Cell), a: u64, b: u64) -> RunSummary {
    let mut cell = single();
    change(&mut cell);
    let lanes = [lane_id("vllm", "llama"), lane_id("sglang", "llama")];
    let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), vec![cell.clone()])).collect());
    for (lane, percent) in lanes.iter().zip([a, b]) {
        run.ready(lane);
        run.measured(lane, "single/in512", &requests(percent));
    }
    run.summary().expect("a summary")
}

#[test]
fn graphs_that_one_side_lacks_make_the_two_unlike() {
    let unlike = |without: &[(&str, &str)]| {
        let lanes = [lane_id("vllm", "llama"), lane_id("sglang", "llama")];
        let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), vec![single()])).collect());
        for lane in &lanes {
            run.ready(lane);
            run.measured(lane, "single/in512", &requests(100));
        }
        for event in &mut run.events {
            if let Event::ServerPrepared(prepared) = event {
                let given = without.iter().filter(|(of, _)| *of == prepared.lane.framework);
                prepared
                    .argv
                    .extend(given.map(|(_, argument)| (*argument).to_owned()));
            }
        }
        run.summary().expect("a summary").comparisons[0].unlike.clone()
    };
    assert_eq!(
        unlike(&[("vllm", "--enforce-eager")]),
        ["CUDA graphs are off in vLLM"]
    );
    let both = [("vllm", "--enforce-eager"), ("sglang", "--disable-cuda-graph")];
    assert_eq!(unlike(&both), [""; 0]);
}

#[test]
fn the_same_prompts_are_paired() {
    // 100, 200, … against 110, 220, …: medians 550 and 605. Each prompt is 1.1 times as slow; unpaired the interval
    // would be far too wide to see it.
    let summary = two(&|_| {}, 100, 110);
    assert_eq!(summary.comparisons.len(), 1);
    let all = &summary.comparisons[0];
    assert_eq!(
        (all.baseline.as_str(), all.framework.as_str()),
        ("vllm", "sglang")
    );
    let ttft = &all.cells[0].figures["ttft_ms"];
    close(ttft.baseline, 550.0);
    close(ttft.framework, 605.0);
    close(ttft.ratio, 1.1);
    assert_eq!((ttft.pairs, ttft.differs), (10, Some(true)));
    // Of 100 pairs of values i·110 > j·100 holds for j <= i: 55, and falls short for 45: 10 %.
    close(ttft.cliffs_delta, 0.1);
    // The decoding takes the same time: no difference, and said so.
    let tpot = &all.cells[0].figures["tpot_ms"];
    close(tpot.ratio, 1.0);
    assert_eq!(tpot.differs, Some(false));
    // One pass: a rate without an interval tells nothing.
    assert_eq!(all.cells[0].figures["output_tokens_per_s"].differs, None);
}

#[test]
fn answers_of_other_lengths_are_compared_by_what_compares() {
    let lanes = [lane_id("vllm", "llama"), lane_id("ollama", "llama")];
    let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), vec![single()])).collect());
    // The second ends two of three answers early: 6 of 11 tokens.
    for (lane, short) in lanes.iter().zip([false, true]) {
        run.ready(lane);
        let all = (0..9)
            .map(|i| match short && i % 3 > 0 {
                true => Did {
                    tokens: 6,
                    ..Did::ok(i * 2000, 100, 600)
                },
                false => Did::ok(i * 2000, 100, 1100),
            })
            .collect();
        run.measured(lane, "single/in512", &[(18_000, all)]);
    }
    let summary = run.summary().expect("a summary");
    let cell = &summary.comparisons[0].cells[0];
    let [full, cut] = cell.unequal_outputs.expect("other lengths");
    close(full, 11.0);
    close(cut, (3.0 * 11.0 + 6.0 * 6.0) / 9.0);
    // Full-length answers and the time per token are the same; the short ones would give 6 tokens in 600 ms.
    for figure in ["latency_ms", "tokens_per_s", "tpot_ms"] {
        close(cell.figures[figure].ratio, 1.0);
    }
    // As the builder has them: bf16 against 4 bit.
    assert_eq!(
        summary.comparisons[0].unlike,
        ["the weights differ: bf16 in vLLM, Q4_K_M in Ollama"]
    );
    assert_eq!(two(&|_| {}, 100, 110).comparisons[0].unlike, [""; 0]);
    assert_eq!(
        two(&|_| {}, 100, 110).comparisons[0].cells[0].unequal_outputs,
        None
    );
}

#[test]
fn other_prompts_are_not_paired() {
    let mut cell = single();
    cell.prompts = PromptMode::Identical;
    let lanes = [lane_id("vllm", "llama"), lane_id("sglang", "llama")];
    let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), vec![cell.clone()])).collect());
    for (lane, ttfts) in lanes
        .iter()
        .zip([[10, 11, 12, 13, 14, 15], [20, 22, 24, 26, 28, 30]])
    {
        run.ready(lane);
        // A pass each with one prompt only.
        let passes: Vec<_> = ttfts.iter().map(|t| (2000, vec![Did::ok(0, *t, 1000)])).collect();
        run.measured(lane, "single/in512", &passes);
    }
    let summary = run.summary().expect("a summary");
    let ttft = &summary.comparisons[0].cells[0].figures["ttft_ms"];
    close(ttft.ratio, 2.0);
    assert_eq!(
        (ttft.pairs, ttft.differs, ttft.cliffs_delta),
        (0, Some(true), 1.0)
    );
}

#[test]
fn a_difference_inside_the_interval_is_none() {
    let lanes = [lane_id("vllm", "llama"), lane_id("sglang", "llama")];
    let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), vec![single()])).collect());
    // The same values in another order: the prompts differ, the frameworks don't.
    for (lane, ttfts) in lanes
        .iter()
        .zip([[10, 20, 30, 40, 50, 60], [60, 50, 40, 30, 20, 10]])
    {
        run.ready(lane);
        let all = (0..)
            .zip(ttfts)
            .map(|(i, t)| Did::ok(i * 2000, t, 1000))
            .collect();
        run.measured(lane, "single/in512", &[(12_000, all)]);
    }
    let summary = run.summary().expect("a summary");
    let ttft = &summary.comparisons[0].cells[0].figures["ttft_ms"];
    assert_eq!((ttft.differs, ttft.cliffs_delta), (Some(false), 0.0));
    assert!(ttft.interval.is_some_and(|i| i.low < 1.0 && i.high > 1.0));
}

#[test]
fn rounds_are_strata_and_a_round_that_does_not_repeat_is_flagged() {
    let lanes: Vec<LaneId> = (1..=2)
        .flat_map(|r| [round("vllm", r), round("sglang", r)])
        .collect();
    let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), vec![single()])).collect());
    // The machine is twice as slow in the second round; sglang takes 1.1 times as long in both.
    for (lane, percent) in lanes.iter().zip([100, 110, 200, 220]) {
        run.ready(lane);
        run.measured(lane, "single/in512", &requests(percent));
    }
    let summary = run.summary().expect("a summary");
    let cell = &summary.comparisons[0].cells[0];
    let ttft = &cell.figures["ttft_ms"];
    assert_eq!((cell.rounds, ttft.pairs, ttft.differs), (2, 20, Some(true)));
    close(ttft.ratio, 1.1);
    close(ttft.baseline, (550.0_f64 * 1100.0).sqrt());

    let rounds = &summary.rounds[0];
    assert_eq!((rounds.framework.as_str(), rounds.cells.len()), ("vllm", 1));
    let ttft = &rounds.cells[0].figures["ttft_ms"];
    assert_eq!(
        ttft.rounds.iter().map(|(r, v)| (*r, *v)).collect::<Vec<_>>(),
        [(1, 550.0), (2, 1100.0)]
    );
    close(ttft.pooled, (550.0_f64 * 1100.0).sqrt());
    close(ttft.over_first[&2].ratio, 2.0);
    let drifts = |lane: usize| {
        summary.lanes[lane].cells[0]
            .flags
            .iter()
            .any(|f| f.kind == FlagKind::Drift)
    };
    // Only latency_ms (mean 1,550 against 2,100) and TTFT can tell, and only in the later round.
    assert_eq!([0, 1, 2, 3].map(drifts), [false, false, true, true]);
}

#[test]
fn a_trend_that_the_cells_share_is_the_lanes() {
    let cells: Vec<_> = (0..4)
        .map(|i| {
            exact(
                &format!("single/in{}", 512 << i),
                ScenarioKind::Single,
                1,
                512 << i,
            )
        })
        .collect();
    let run = |growth: u64| {
        let lane = lane_id("vllm", "llama");
        let mut run = Builder::new(vec![(lane.clone(), cells.clone())]);
        run.ready(&lane);
        for (n, cell) in (1u64..).zip(&cells) {
            // TPOT is 100 n ms and grows by `growth` per mille a request; each cell on its own is too short to tell.
            let all = (0..12)
                .map(|i| Did {
                    prompt_tokens: u64::from(512u32 << (n - 1)),
                    ..Did::ok(i * 10_000, 10, 10 + n * (1000 + i * growth))
                })
                .collect();
            run.measured(&lane, &cell.id, &[(120_000, all)]);
        }
        run.summary().expect("a summary").lanes.remove(0)
    };
    let lane = run(6);
    let drift = lane.drift.as_ref().expect("drift");
    let tpot = drift.tpot.as_ref().expect("a trend");
    assert_eq!(tpot.cells, 4);
    // About 0.6 % in 10 s over the 120 s of a cell.
    assert!((0.06..0.1).contains(&tpot.change) && tpot.p < 1e-3, "{tpot:?}");
    let flagged = |lane: &LaneSummary| {
        lane.cells
            .iter()
            .filter(|c| c.flags.iter().any(|f| f.kind == FlagKind::Drift))
            .count()
    };
    assert_eq!((flagged(&lane), drift.seen.len()), (4, 2));
    assert_eq!(flagged(&run(0)), 0);
}

#[test]
fn clocks_are_compared_with_the_same_cell_in_another_round_only() {
    let cells: Vec<_> = (0..8)
        .map(|i| exact(&format!("single/in{}", 512 + i), ScenarioKind::Single, 1, 512 + i))
        .collect();
    let lanes: Vec<LaneId> = (1..=2).map(|r| round("vllm", r)).collect();
    let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), cells.clone())).collect());
    for (lane, percent) in lanes.iter().zip([100, 95]) {
        run.ready(lane);
        for (n, cell) in (0u64..).zip(&cells) {
            let start = u64::from(lane.round) * 1_000_000 + n * 10_000;
            let ended = run.measured(lane, &cell.id, &[(9_000, vec![Did::ok(start, 10, 1000)])]);
            ended.passes[0].started_unix_us += start * 1000;
            // 1410, 1380, … 1200 MHz: each cell has a load of its own. Only the last is slower in the second round.
            let of_cell = 1410 - 30 * n as u32;
            let mut sample = gpu_sample(start + 4_000, 1);
            sample.sm_clock_mhz = Some(if n == 7 { of_cell * percent / 100 } else { of_cell });
            sample.temperature_c = Some(60 + n as u32);
            run.samples(lane, &[sample]);
        }
        run.finish_lane(lane);
    }
    let summary = run.summary().expect("a summary");
    let drift = summary.lanes[0].drift.as_ref().expect("drift");
    assert_eq!(
        (drift.first_temperature_c, drift.last_temperature_c),
        (Some(60.0), Some(67.0))
    );
    let flagged = |lane: usize| -> Vec<(&str, &str)> {
        let cells = summary.lanes[lane].cells.iter();
        let flags = cells.flat_map(|c| c.flags.iter().map(|f| (c.cell.as_str(), f)));
        flags
            .filter(|(_, f)| f.kind == FlagKind::Drift)
            .map(|(cell, f)| (cell, f.seen.as_str()))
            .collect()
    };
    assert_eq!(flagged(0), []);
    let said = "the SM clock differs by -5 % from round 1's in the same cell (1140 MHz, 1200 MHz there)";
    assert_eq!(flagged(1), [("single/in519", said)]);
}

#[test]
fn energy_is_compared_where_all_have_it_and_it_is_certain() {
    // Cells of 20 s, but the third, which is over in half a second; 300 W throughout. The second lane lacks the last one,
    // the third has the first only.
    let cells: Vec<_> = [128, 256, 512, 1024]
        .map(|n| exact(&format!("single/in{n}"), ScenarioKind::Single, 1, n))
        .into();
    let lanes = ["vllm", "sglang", "control"].map(|framework| lane_id(framework, "llama"));
    let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), cells.clone())).collect());
    for (lane, last) in lanes.iter().zip([4, 3, 1]) {
        run.ready(lane);
        let mut at = 0;
        for (cell, length_ms) in cells.iter().zip([20_000, 20_000, 500, 20_000]).take(last) {
            let ended = run.measured(lane, &cell.id, &[(length_ms, vec![Did::ok(at, 10, 100)])]);
            ended.passes[0].started_unix_us += at * 1000;
            let samples: Vec<_> = (0..length_ms / 100)
                .map(|i| gpu_sample(at + i * 100, 1))
                .collect();
            run.samples(lane, &samples);
            at += length_ms;
        }
        run.finish_lane(lane);
    }
    let summary = run.summary().expect("a summary");
    let certain = |lane: usize| -> Vec<Option<bool>> {
        let cells = summary.lanes[lane].cells.iter();
        cells
            .map(|c| c.gpu.as_ref().and_then(|g| g.energy_certain))
            .collect()
    };
    assert_eq!(certain(0), [Some(true), Some(true), Some(false), Some(true)]);
    let energy = |lane: usize| {
        summary.lanes[lane]
            .energy
            .as_ref()
            .map(|e| (e.cells, e.energy_j.round()))
    };
    // Two cells of 300 W for 20 s; the control has too little in common with them.
    assert_eq!(
        [0, 1, 2].map(energy),
        [Some((2, 12_000.0)), Some((2, 12_000.0)), None]
    );
}

/// Requests of several streams in waves that wander, and of an open loop that falls behind: no machine drifts there.
#[test]
fn what_the_load_does_is_no_drift() {
    let flagged = |cell: benchd_plan::Cell, passes: &[(u64, Vec<Did>)]| {
        let mut run = Builder::one(cell.clone());
        run.measured(&lane_id("vllm", "llama"), &cell.id, passes);
        run.cell().flags.iter().any(|f| f.kind == FlagKind::Drift)
    };
    // An arrival every 100 ms, an answer every 110 ms: each waits longer than the one before.
    let mut open = exact("concurrent/open", ScenarioKind::Concurrent, 1, 512);
    open.arrival = benchd_plan::Arrival::Constant { rate_per_s: 10.0 };
    let waits = (0..200)
        .map(|i| Did::ok(i * 100, 20 + i * 10, 90 + i * 10))
        .collect();
    assert!(!flagged(open, &[(30_000, waits)]));
    // Waves of 8 that share what they met; the level wanders from wave to wave.
    let loads = (0..60).map(|wave: u64| 1000 + (80.0 * (wave as f64 / 9.0).sin()) as u64 + wave * 37 % 11);
    let mut at = 0;
    let mut waves = Vec::new();
    for latency in loads {
        waves.extend((0..8).map(|i| Did::ok(at, 20, latency + i)));
        at += latency + 10;
    }
    let closed = exact("concurrent/c8", ScenarioKind::Concurrent, 8, 512);
    assert!(!flagged(closed.clone(), &[(at, waves[..300].to_vec())]));
    // The same load that takes longer and longer is.
    let mut at = 0;
    let mut slower = Vec::new();
    for wave in 0..60 {
        let latency = 1000 + wave * 5 + wave * 37 % 11;
        slower.extend((0..8).map(|i| Did::ok(at, 20, latency + i)));
        at += latency + 10;
    }
    assert!(flagged(closed, &[(at, slower)]));
}

#[test]
fn doubts_from_the_stream_and_from_the_journal_have_their_flags() {
    let kinds = |change: &dyn Fn(&mut Did), journal: &dyn Fn(&mut Builder)| {
        let mut run = Builder::one(single());
        let mut did = Did::ok(0, 10, 90);
        change(&mut did);
        run.measured(&lane_id("vllm", "llama"), "single/in512", &[(100, vec![did])]);
        run.samples(&lane_id("vllm", "llama"), &[gpu_sample(10, 1)]);
        journal(&mut run);
        run.cell()
            .flags
            .iter()
            .map(|f| f.kind)
            .filter(|k| *k != FlagKind::FewSamples)
            .collect::<Vec<_>>()
    };
    let stream = |change: &dyn Fn(&mut Did)| kinds(change, &|_| {});
    assert_eq!(stream(&|_| {}), []);
    // 11 tokens in 8 chunks: 1.375 a chunk; in 9: 1.22.
    assert_eq!(stream(&|d| d.chunks = Some(8)), [FlagKind::MultiTokenChunks]);
    assert_eq!(stream(&|d| d.chunks = Some(9)), []);
    // 6 of 11 events are more than half.
    assert_eq!(stream(&|d| d.coalesced = 6), [FlagKind::CoalescedChunks]);
    assert_eq!(stream(&|d| d.coalesced = 5), []);
    assert_eq!(stream(&|d| d.usage = false), [FlagKind::NoUsage]);
    assert_eq!(stream(&|d| d.silent = true), [FlagKind::NoText]);

    let reset = |outcome: ResetOutcome| {
        kinds(&|_| {}, &|run| {
            for event in &mut run.events {
                if let Event::CellStarted(started) = event {
                    started.cache_reset = outcome.clone();
                }
            }
        })
    };
    let why = || "status 500".to_owned();
    assert_eq!(reset(ResetOutcome::Proven), []);
    assert_eq!(reset(ResetOutcome::Kept), []);
    let not_possible = ResetOutcome::NotPossible { why: why() };
    assert_eq!(reset(not_possible), [FlagKind::CacheNotReset]);
    assert_eq!(
        reset(ResetOutcome::Failed { why: why() }),
        [FlagKind::CacheNotReset]
    );
    assert_eq!(
        reset(ResetOutcome::Unproven { why: why() }),
        [FlagKind::CacheResetUnproven]
    );

    // What the framework's facts said is journalled with the cell and stays.
    for kind in [FlagKind::Precision, FlagKind::CpuOffload] {
        let journalled = kinds(&|_| {}, &|run| {
            for event in &mut run.events {
                if let Event::CellEnded(ended) = event {
                    ended.flags.push(Flag::new(kind, "seen"));
                }
            }
        });
        assert_eq!(journalled, [kind]);
    }
    let attached = kinds(&|_| {}, &|run| {
        for framework in run.plan.frameworks.values_mut() {
            *framework = Framework {
                source: Source::Url("http://127.0.0.1:8000".to_owned()),
                ..framework.clone()
            };
        }
    });
    assert_eq!(attached, [FlagKind::NotControlled]);
}

#[test]
fn an_open_loop_counts_from_the_planned_send() {
    let mut cell = single();
    cell.arrival = benchd_plan::Arrival::Poisson { rate_per_s: 4.0 };
    let mut run = Builder::one(cell);
    let did = Did {
        queued_ms: Some(30),
        ..Did::ok(0, 10, 90)
    };
    run.measured(
        &lane_id("vllm", "llama"),
        "single/in512",
        &[(500, vec![did.clone(), did])],
    );
    let cell = run.cell();
    let p50 = |d: &Option<Distribution>| d.as_ref().map(|d| d.p50);
    assert_eq!(
        (p50(&cell.ttft_ms), p50(&cell.latency_ms), p50(&cell.queued_ms)),
        (Some(40.0), Some(120.0), Some(30.0))
    );
    assert_eq!(cell.asked_requests_per_s, Some(4.0));
    assert_eq!(cell.requests_per_s.map(|r| r.median), Some(4.0));
}

#[test]
fn the_servers_own_figures_stand_beside_ours() {
    let mut run = Builder::one(single());
    let did = |prompt_ms: f64| Did {
        timings: Some(serde_json::json!({"prompt_ms": prompt_ms, "predicted_ms": 75.5})),
        ..Did::ok(0, 10, 90)
    };
    let ended = run.measured(
        &lane_id("vllm", "llama"),
        "single/in512",
        &[(500, vec![did(8.0), did(9.0)])],
    );
    ended.server_counters = [
        ("vllm:prompt_tokens_total", 1044.0),
        ("vllm:generation_tokens_total", 23.0),
        ("vllm:time_to_first_token_seconds_sum", 0.018),
        ("vllm:time_to_first_token_seconds_count", 2.0),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let says = run.cell().server_says;
    // 2 · 522 prompt tokens are what the usage says too; 22 output tokens are one less.
    assert_eq!(
        (says.prompt_tokens, says.output_tokens),
        (Some(1044.0), Some(23.0))
    );
    close(says.ttft_mean_ms.expect("a mean"), 9.0);
    let off: Vec<CheckedFigure> = says
        .checks
        .iter()
        .filter(|check| !check.agrees())
        .map(|check| check.figure)
        .collect();
    assert_eq!(
        off,
        [CheckedFigure::OutputTokens, CheckedFigure::OutputTokensPerS]
    );
    let p50 = |d: Option<Distribution>| d.map(|d| d.p50);
    assert_eq!(
        (
            p50(says.prompt_ms),
            p50(says.ttft_less_prompt_ms),
            p50(says.predicted_ms)
        ),
        (Some(8.5), Some(1.5), Some(75.5))
    );
}

/// Two requests of 522 and 11 tokens, TTFT 100 ms, latency 1,000 ms, and what the server says of them.
fn told(counters: &[(&str, f64)]) -> CellSummary {
    let mut run = Builder::one(single());
    let ended = run.measured(
        &lane_id("vllm", "llama"),
        "single/in512",
        &[(5_000, vec![Did::ok(0, 100, 900), Did::ok(1_000, 100, 900)])],
    );
    ended.server_counters = counters.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
    run.cell()
}

#[test]
fn a_server_that_says_otherwise_is_flagged_beyond_the_bounds() {
    let flagged = |counters: &[(&str, f64)]| {
        told(counters)
            .flags
            .into_iter()
            .find(|f| f.kind == FlagKind::DisagreesWithServer)
            .map(|f| f.seen)
    };
    let times = |ttft: f64, latency: f64| {
        [
            ("vllm:time_to_first_token_seconds_sum", 2.0 * ttft / 1e3),
            ("vllm:time_to_first_token_seconds_count", 2.0),
            ("vllm:e2e_request_latency_seconds_sum", 2.0 * latency / 1e3),
            ("vllm:e2e_request_latency_seconds_count", 2.0),
        ]
    };
    // What comes before the server's clock, and what its front end holds back, is every client's: by any amount.
    assert_eq!(flagged(&times(76.0, 770.0)), None);
    assert_eq!(flagged(&times(3.0, 500.0)), None);
    // More than ours can't be: the server saw less of the request than we did.
    let seen = flagged(&times(102.0, 915.0)).expect("both are too long");
    assert!(
        seen.contains("mean TTFT") && seen.contains("mean latency"),
        "{seen}"
    );
    assert_eq!(flagged(&times(100.5, 908.0)), None);

    assert_eq!(flagged(&[("vllm:prompt_tokens_total", 1_044.0)]), None);
    let seen = flagged(&[("vllm:prompt_tokens_total", 1_043.0)]).expect("a token less");
    assert_eq!(seen, "prompt tokens 1044 here, 1043 by the server");
    let seen = flagged(&[("vllm:request_success_total", 3.0)]).expect("a request more");
    assert_eq!(seen, "requests 2 here, 3 by the server");
}

#[test]
fn with_failed_requests_nothing_is_compared() {
    let mut run = Builder::one(single());
    let failed = Did {
        outcome: Outcome::StreamError,
        ..Did::ok(1_000, 100, 900)
    };
    let ended = run.measured(
        &lane_id("vllm", "llama"),
        "single/in512",
        &[(5_000, vec![Did::ok(0, 100, 900), failed])],
    );
    ended.server_counters = [("vllm:prompt_tokens_total".to_owned(), 9.0)].into();
    let cell = run.cell();
    assert_eq!(cell.server_says.checks, []);
    assert!(!cell.flags.iter().any(|f| f.kind == FlagKind::DisagreesWithServer));
}
