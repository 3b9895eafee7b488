//! H1 to H5, each supported, refuted and undecided.

use super::{super::super::TestRole, *};
use VerdictOutcome::{Inconclusive, Refuted, Supported};

fn usual() -> [Speed; 4] {
    let control = Speed {
        later_ms: 200,
        shared_rate: 80.0,
        ..Speed::batching()
    };
    [Speed::batching(), Speed::batching(), Speed::serial(), control]
}

fn run(change: impl FnOnce(&mut [Speed; 4])) -> RunSummary {
    let mut speeds = usual();
    change(&mut speeds);
    let [sglang, vllm, ollama, control] = speeds;
    four(sglang, vllm, ollama, control)
}

#[test]
fn h1_is_supported_above_its_threshold_and_the_control_shows_the_cause() {
    let summary = run(|s| s[0].shared_rate = 131.0);
    let m = only(&summary, "H1");
    assert_eq!(m.outcome, Supported, "{m:#?}");
    let decides = &m.tests[0];
    assert_eq!(
        (decides.figure.as_str(), decides.threshold),
        ("output_tokens_per_s", 1.05)
    );
    let effect = decides.effect.expect("an effect");
    assert!((effect - 1.31).abs() < 0.02, "{effect}");
    assert!(
        m.because.starts_with("SGLang generated 1.3")
            && m.because.contains("times vLLM's tokens per second [")
            && m.because
                .ends_with("on the shared prefix, above the threshold of 1.05."),
        "{}",
        m.because
    );
    // vLLM against itself without its cache: 100 to 80 tokens/s, and the later requests' TTFT 50 to 200 ms.
    let control = test_of(m, "later_ttft_ms", "vllm", "prefix_cache/sys2048");
    assert_eq!(control.against, "vllm-no-prefix-cache");
    assert_eq!(control.outcome, Supported);
    assert!(m.to_decide.is_empty());
}

#[test]
fn h1_is_refuted_where_both_are_equal_and_undecided_at_the_threshold() {
    is(&run(|_| {}), "H1", Refuted);
    let near = run(|s| s[0].shared_rate = 105.0);
    let m = only(&near, "H1");
    assert_eq!(m.outcome, Inconclusive, "{m:#?}");
    assert!(
        m.because.contains("the interval holds the threshold of 1.05"),
        "{}",
        m.because
    );
    assert_eq!(m.to_decide.len(), 1, "{:?}", m.to_decide);
}

#[test]
fn h2_needs_both_frameworks_at_every_deciding_level() {
    let summary = run(|_| {});
    let m = only(&summary, "H2");
    assert_eq!(m.outcome, Supported, "{m:#?}");
    assert!(
        m.because.starts_with("Every test holds; the narrowest:"),
        "{}",
        m.because
    );
    // 16 and 64 streams of both decide, 8 streams and TTFT stand beside.
    let deciding = m.tests.iter().filter(|t| t.role == TestRole::Deciding);
    assert_eq!(deciding.count(), 4);
    assert!(m.decided_by_configuration[0].starts_with("OLLAMA_NUM_PARALLEL=1"));
    assert!(m.decided_by_configuration.iter().any(|c| c.contains("same text")));

    let one_fails = run(|s| s[1].rates = vec![(1, 100.0), (8, 150.0), (16, 160.0), (64, 170.0)]);
    let m = only(&one_fails, "H2");
    assert_eq!(m.outcome, Refuted, "{m:#?}");
    assert!(m.because.starts_with("vLLM generated"), "{}", m.because);
}

#[test]
fn time_outs_count_as_slow_not_as_absent() {
    let some = run(|s| s[2].timeouts = 40);
    let m = only(&some, "H2");
    assert_eq!(m.outcome, Supported, "{m:#?}");
    let at_64 = test_of(m, "output_tokens_per_s", "sglang", "concurrent/c64");
    assert!(
        at_64.says.contains("(Ollama failed 200 of 320 requests)"),
        "{}",
        at_64.says
    );
    assert!(
        m.weakened_by
            .iter()
            .any(|w| w.kind == benchd_core::record::FlagKind::FailedRequests)
    );

    let all = run(|s| s[2].timeouts = 64);
    let m = only(&all, "H2");
    assert_eq!(m.outcome, Supported, "{m:#?}");
    let at_64 = test_of(m, "output_tokens_per_s", "vllm", "concurrent/c64");
    assert_eq!(at_64.outcome, Supported, "{at_64:#?}");
    assert!(
        at_64.says.contains("(Ollama failed all 320 requests)"),
        "{}",
        at_64.says
    );
}

#[test]
fn h3_is_not_inferior_to_the_better_of_both() {
    // As fast as both: within 10 %.
    is(&run(|_| {}), "H3", Supported);
    // Faster than vLLM, slower than SGLang: the better one counts.
    let mixed = run(|s| {
        s[0].single_ms = 700.0;
        s[1].single_ms = 1500.0;
    });
    let m = only(&mixed, "H3");
    assert_eq!(m.outcome, Refuted, "{m:#?}");
    assert!(m.because.contains("SGLang's"), "{}", m.because);
    assert!(
        m.because
            .ends_with("on prompts of 512 tokens, above the limit of 1.1."),
        "{}",
        m.because
    );
    // The weights of ollama are quantised, and the verdict says so.
    assert!(
        m.decided_by_configuration[0].contains("Q4_K_M in Ollama"),
        "{m:#?}"
    );
    let near = run(|s| s[2].single_ms = 1100.0);
    is(&near, "H3", Inconclusive);
}

#[test]
fn h4_is_about_the_shape_of_the_curves() {
    // Serial against batching.
    let summary = run(|_| {});
    let m = only(&summary, "H4");
    assert_eq!(m.outcome, Supported, "{m:#?}");
    assert!(
        m.because.starts_with("The curves differ, most clearly here:"),
        "{}",
        m.because
    );
    // Three pairs at three levels: the level is corrected for nine tests.
    assert_eq!(m.tests.len(), 9);
    let level = m.tests[0].interval.expect("an interval").level;
    assert!((level - (1.0 - 0.05 / 9.0)).abs() < 1e-12, "{level}");

    // Twice as fast throughout is the same curve.
    let same = run(|s| {
        s[2] = Speed::batching();
        for (_, rate) in &mut s[0].rates {
            *rate *= 2.0;
        }
    });
    let m = only(&same, "H4");
    assert_eq!(m.outcome, Refuted, "{m:#?}");
    assert!(
        m.because.starts_with("No two frameworks differ by as much"),
        "{}",
        m.because
    );
}

#[test]
fn h5_compares_what_korean_costs() {
    // The same tokenizer everywhere: no difference at all.
    let summary = run(|_| {});
    let m = only(&summary, "H5");
    assert_eq!(m.outcome, Refuted, "{m:#?}");
    let other = run(|s| s[2].korean_tokens = 240);
    let m = only(&other, "H5");
    assert_eq!(m.outcome, Supported, "{m:#?}");
    assert!(m.because.contains("ratio of prompt tokens was"), "{}", m.because);
    // 180 to 240: exactly three quarters, over eight prompt types.
    let tokens = test_of(m, "ko_over_en_prompt_tokens", "sglang", "korean/c1/essay/ko");
    let effect = m
        .tests
        .iter()
        .find(|t| t.framework == "sglang" && t.against == "ollama" && t.figure == tokens.figure);
    let effect = effect.and_then(|t| t.effect).expect("an effect");
    assert!((effect - 0.75).abs() < 1e-9, "{effect}");
}

#[test]
fn a_lane_that_fails_leaves_it_open_and_says_what_is_missing() {
    let summary = night(PLAN, |lane| {
        (lane.framework != "ollama").then(|| {
            if lane.framework == "sglang" {
                Speed {
                    shared_rate: 131.0,
                    ..Speed::batching()
                }
            } else {
                Speed::batching()
            }
        })
    })
    .summary()
    .expect("a summary");
    is(&summary, "H1", Supported);
    for hypothesis in ["H2", "H3"] {
        let m = only(&summary, hypothesis);
        assert_eq!(m.outcome, Inconclusive);
        assert_eq!(
            m.because,
            "Not decided: Ollama failed on llama before it measured anything (the server did not come up)."
        );
        assert_eq!(m.to_decide.len(), 1, "{:?}", m.to_decide);
        assert!(
            m.to_decide[0].contains("--only framework=ollama"),
            "{:?}",
            m.to_decide
        );
    }
    // SGLang and vLLM are the same; the pairs with Ollama could still have differed.
    is(&summary, "H4", Inconclusive);
}

#[test]
fn a_plan_without_a_framework_names_the_part_that_nobody_plays() {
    let plan = PLAN.replace("  sglang: { version: 0.5.6.post2, venv: envs/sglang }\n", "");
    let summary = night(&plan, |_| Some(Speed::batching()))
        .summary()
        .expect("a summary");
    let m = only(&summary, "H1");
    assert_eq!(m.outcome, Inconclusive);
    assert_eq!(m.because, "Not decided: SGLang is not in this plan.");
    assert!(
        m.to_decide[0].contains("roles: { sglang: … }"),
        "{:?}",
        m.to_decide
    );
}

#[test]
fn others_can_stand_in() {
    let plan = PLAN
        .replace("  ollama: {", "  llamacpp: { kind: ollama,")
        .replace("  sglang: {", "  sglang-main: { kind: sglang,")
        .replace(
            "hypotheses: [H1, H2, H3, H4, H5]",
            "hypotheses: { roles: { ollama: llamacpp, sglang: sglang-main, vllm: vllm, control: vllm-no-prefix-cache }, H2: { overwhelming: 2, from_concurrency: 64 } }",
        );
    let summary = night(&plan, |lane| {
        Some(if lane.framework == "llamacpp" {
            Speed::serial()
        } else {
            Speed::batching()
        })
    })
    .summary()
    .expect("a summary");
    assert_eq!(summary.verdicts.len(), 1);
    let v = verdict(&summary, "H2");
    assert_eq!(v.outcome, Supported, "{v:#?}");
    assert_eq!(
        v.claim,
        "sglang-main and vLLM serve concurrent requests overwhelmingly better than llamacpp"
    );
    // A name is as the plan has it, also at the start of a sentence.
    let refuted = night(&plan, |_| Some(Speed::batching()));
    let refuted = refuted.summary().expect("a summary");
    assert!(
        verdict(&refuted, "H2")
            .because
            .starts_with("sglang-main generated"),
        "{refuted:#?}"
    );
    let deciding: Vec<_> = v.models[0].tests.iter().filter(|t| t.threshold == 2.0).collect();
    assert!(deciding.iter().take(2).all(|t| t.cells == ["concurrent/c64"]));
}

#[test]
fn a_contaminated_cell_does_not_count() {
    let mut run = night(PLAN, |lane| {
        Some(match lane.framework.as_str() {
            "sglang" => Speed {
                shared_rate: 131.0,
                ..Speed::batching()
            },
            "ollama" => Speed::serial(),
            _ => Speed::batching(),
        })
    });
    for event in &mut run.events {
        if let benchd_journal::Event::CellEnded(ended) = event
            && ended.cell == "prefix_cache/sys2048"
            && ended.lane.framework == "sglang"
        {
            ended.flags.push(benchd_core::record::Flag::new(
                benchd_core::record::FlagKind::StrangerOnGpu,
                "pid 4711 took 2,000 MB",
            ));
        }
    }
    let summary = run.summary().expect("a summary");
    let m = only(&summary, "H1");
    assert_eq!(m.outcome, Inconclusive, "{m:#?}");
    assert!(
        m.because
            .contains("flagged stranger_on_gpu (pid 4711 took 2,000 MB)"),
        "{}",
        m.because
    );
    assert!(m.tests[0].effect.is_some(), "what was seen is told all the same");
    assert!(
        m.to_decide[0].contains("run with the GPU to yourself"),
        "{:?}",
        m.to_decide
    );
    is(&summary, "H2", Supported);
}

#[test]
fn models_that_disagree_are_both_told() {
    let plan = PLAN.replace(
        "  llama: { hf: meta-llama/Llama, ollama: llama }\n",
        "  llama: { hf: meta-llama/Llama, ollama: llama }\n  other: { hf: meta-llama/Llama, ollama: llama }\n",
    );
    let summary = night(&plan, |lane| {
        Some(match (lane.framework.as_str(), lane.model.as_str()) {
            ("sglang", "llama") => Speed {
                shared_rate: 131.0,
                ..Speed::batching()
            },
            ("ollama", _) => Speed::serial(),
            _ => Speed::batching(),
        })
    })
    .summary()
    .expect("a summary");
    let v = verdict(&summary, "H1");
    assert_eq!(v.outcome, Inconclusive);
    assert_eq!((v.models[0].outcome, v.models[1].outcome), (Supported, Refuted));
    assert!(
        v.because
            .starts_with("It depends on the model: supported on llama, refuted on other."),
        "{}",
        v.because
    );
    is(&summary, "H2", Supported);
}

#[test]
fn rounds_are_strata_and_five_of_them_the_sample() {
    // The machine is slower in each further round; SGLang is 1.3 times as fast in all of them.
    for (rounds, passes) in [(2, 5), (5, 1)] {
        let plan = PLAN
            .replace("hypotheses:", &format!("repeats: {rounds}\nhypotheses:"))
            .replace(
                "requests: 10, passes: 5",
                &format!("requests: 10, passes: {passes}"),
            );
        let summary = night(&plan, |lane| {
            let machine = 1.0 / f64::from(lane.round);
            let rate = if lane.framework == "sglang" { 130.0 } else { 100.0 };
            Some(Speed {
                shared_rate: rate * machine,
                ..Speed::batching()
            })
        })
        .summary()
        .expect("a summary");
        let m = only(&summary, "H1");
        assert_eq!(m.outcome, Supported, "{rounds} rounds: {m:#?}");
        let effect = m.tests[0].effect.expect("an effect");
        assert!((effect - 1.3).abs() < 0.02, "{effect}");
    }
}

#[test]
fn one_pass_can_not_tell_and_says_so() {
    let plan = PLAN.replace("requests: 10, passes: 5", "requests: 10, passes: 1");
    let summary = night(&plan, |lane| {
        let rate = if lane.framework == "sglang" { 200.0 } else { 100.0 };
        Some(Speed {
            shared_rate: rate,
            ..Speed::batching()
        })
    })
    .summary()
    .expect("a summary");
    let m = only(&summary, "H1");
    assert_eq!(m.outcome, Inconclusive);
    assert!(
        m.because.contains("1 pass can't tell: at least 5 are needed"),
        "{}",
        m.because
    );
    assert!(
        m.to_decide[0].starts_with("5 passes of `prefix_cache` instead of 1"),
        "{:?}",
        m.to_decide
    );
    assert_eq!(m.tests[0].interval, None);
}

fn seen<'a>(summary: &'a RunSummary, expected: &str) -> &'a super::super::super::Expectation {
    summary
        .expectations
        .iter()
        .find(|e| e.expected.starts_with(expected))
        .unwrap_or_else(|| panic!("no expectation {expected:?}"))
}

#[test]
fn the_documents_expectations_stand_beside_what_was_seen() {
    use super::super::super::Seen;
    let summary = run(|s| s[2].timeouts = 3);
    assert_eq!(summary.expectations.len(), 20);
    for (expected, outcome) in [
        ("Ollama may be competitive", Seen::AsExpected),
        ("SGLang and vLLM show a similar throughput", Seen::AsExpected),
        // The plan has no GPU.
        ("SGLang and vLLM use more GPU memory", Seen::NotMeasured),
        ("SGLang and vLLM: throughput rises", Seen::AsExpected),
        // Its throughput stands still, but the latency of the simulated requests does too.
        ("Ollama: latency rises linearly", Seen::Otherwise),
        ("Ollama may time out", Seen::AsExpected),
        ("SGLang keeps a stable TTFT", Seen::AsExpected),
        ("vLLM performs alike", Seen::AsExpected),
        // As fast as the others.
        ("Ollama's TTFT may rise", Seen::Otherwise),
        ("SGLang: TTFT of later requests", Seen::AsExpected),
        ("vLLM: the same with prefix caching", Seen::AsExpected),
        ("Ollama: no cache", Seen::AsExpected),
        ("Korean prompts take 1.5 to 3 times", Seen::AsExpected),
        ("Tokens per second are alike", Seen::AsExpected),
        ("Ollama's tokenizer", Seen::Otherwise),
        ("SGLang and vLLM have a similar token", Seen::AsExpected),
        ("Serving at scale", Seen::AsExpected),
        ("One local user", Seen::AsExpected),
        ("Ease of installation", Seen::AsExpected),
    ] {
        let e = seen(&summary, expected);
        assert_eq!(e.outcome, outcome, "{e:#?}");
    }
    let e = seen(&summary, "SGLang: TTFT of later requests");
    assert!(
        e.seen.starts_with("SGLang's later requests had 0.25"),
        "{}",
        e.seen
    );
    assert_eq!(
        (e.section.as_str(), e.cells.as_slice()),
        ("5.4", &["prefix_cache/sys2048".to_owned()][..])
    );
    let e = seen(&summary, "Ollama may time out");
    assert_eq!(e.seen, "15 of Ollama's 320 requests failed at 64 streams");
}

/// What comes of the expectation on memory where the weights are so large, in MB and in such a format, and a token takes so
/// many bytes of KV cache (0: nothing says it); all of them reserve the same.
fn memory(needs: [(u64, &str, u64); 3]) -> (super::super::super::Seen, String) {
    let plan = PLAN.replace("gpu: none", "gpu: 0");
    let mut run = night(&plan, |_| Some(Speed::batching()));
    for event in &mut run.events {
        if let benchd_journal::Event::ServerReady(ready) = event {
            let at = ["sglang", "vllm", "ollama"]
                .iter()
                .position(|f| *f == ready.lane.framework);
            let (megabytes, format, token_bytes) = needs[at.unwrap_or(1)];
            ready.precision = Some(served_in(format));
            ready.load = Some(benchd_core::record::LoadFigures {
                weights_bytes: Some(megabytes * 1_000_000),
                kv_cache_bytes: (token_bytes > 0).then_some(token_bytes * 100_000),
                kv_cache_tokens: Some(100_000),
                devices: 1,
                ..Default::default()
            });
        }
    }
    let summary = run.summary().expect("a summary");
    let e = seen(&summary, "SGLang and vLLM use more GPU memory");
    (e.outcome, e.seen.clone())
}

#[test]
fn memory_is_judged_by_what_the_servers_need_not_by_what_they_reserve() {
    use super::super::super::Seen;
    // Llama 3.1 8B; 523 tokens of 131,072 bytes are 68.6 MB.
    let llama = memory([
        (16_100, "bf16", 131_072),
        (16_100, "bf16", 131_072),
        (4_900, "q4_k_m", 131_072),
    ]);
    assert_eq!(llama.0, Seen::AsExpected);
    assert_eq!(
        llama.1,
        "Weights and the KV cache of a request of 523 tokens: SGLang 16,169 MB (bf16), vLLM 16,169 MB (bf16) and Ollama 4,969 \
         MB (Q4_K_M)"
    );
    // gpt-oss is MXFP4 everywhere, and one of them does not tell its cache.
    let gpt_oss = memory([
        (13_900, "mxfp4", 49_152),
        (13_990, "mxfp4", 49_152),
        (13_700, "mxfp4", 0),
    ]);
    assert_eq!(gpt_oss.0, Seen::Otherwise);
    assert!(
        gpt_oss.1.starts_with("Weights alone: SGLang 13,900 MB (MXFP4)"),
        "{}",
        gpt_oss.1
    );
    assert!(
        gpt_oss.1.ends_with("the document supposes 16 bit against 4"),
        "{}",
        gpt_oss.1
    );
}

#[test]
fn a_plan_about_other_servers_has_no_such_expectations() {
    let plan = PLAN
        .replace(
            "  sglang: {",
            r#"  one: { kind: openai, command: [server, "{port}"], #"#,
        )
        .replace(
            "  vllm: {",
            r#"  two: { kind: openai, command: [server, "{port}"], #"#,
        )
        .replace(
            "  ollama: {",
            r#"  three: { kind: openai, command: [server, "{port}"], #"#,
        )
        .replace(
            "  vllm-no-prefix-cache: {",
            r#"  four: { kind: openai, command: [server, "{port}"], #"#,
        );
    // Each of those lines ends in a comment: close the braces.
    let plan: String = plan
        .lines()
        .map(|l| match l.split_once(", #") {
            Some((head, _)) => format!("{head}, port: {} }}\n", 9000 + l.len()),
            None => format!("{l}\n"),
        })
        .collect();
    let summary = night(&plan, |_| Some(Speed::batching()))
        .summary()
        .expect("a summary");
    assert_eq!(summary.expectations, []);
    // What needs no part to be played is judged all the same.
    is(&summary, "H4", Refuted);
    is(&summary, "H1", Inconclusive);
}

/// The plan with a scenario of more streams, which vLLM alone runs.
fn with_a_burst_of_one() -> String {
    let others = "scenarios: [single, concurrent, long_context, prefix_cache, korean]";
    PLAN.replace(
        "  concurrent: {",
        "  burst: { kind: concurrent, concurrency: [256], input_tokens: 512, output_tokens: 11, requests: 256, passes: 5 }\n  concurrent: {",
    )
    .replace("venv: envs/sglang }", &format!("venv: envs/sglang, {others} }}"))
    .replace(
        "env: { OLLAMA_NUM_PARALLEL: \"1\" } }",
        &format!("env: {{ OLLAMA_NUM_PARALLEL: \"1\" }}, {others} }}"),
    )
}

#[test]
fn a_scenario_that_one_framework_runs_alone_takes_nothing_from_the_others() {
    use super::super::super::Seen;
    let summary = night(&with_a_burst_of_one(), |lane| {
        Some(match lane.framework.as_str() {
            "ollama" => Speed::serial(),
            _ => Speed::batching(),
        })
    })
    .summary()
    .expect("a summary");
    let m = only(&summary, "H2");
    assert_eq!(m.outcome, Supported, "{m:#?}");
    // 16 and 64 streams of two pairs; nobody can supply 256.
    let deciding = m.tests.iter().filter(|t| t.role == TestRole::Deciding);
    assert!(
        deciding.clone().count() == 4 && deciding.clone().all(|t| t.cells != ["burst/c256"]),
        "{m:#?}"
    );
    for (expected, outcome) in [
        ("SGLang and vLLM: throughput rises", Seen::AsExpected),
        ("Ollama may time out", Seen::Otherwise),
        ("Serving at scale", Seen::AsExpected),
    ] {
        let e = seen(&summary, expected);
        assert_eq!(
            (e.outcome, e.seen.contains("at 64 streams")),
            (outcome, true),
            "{e:#?}"
        );
    }
    // All alike: nothing is left open for want of what one alone ran.
    let alike = night(&with_a_burst_of_one(), |_| Some(Speed::batching()));
    is(&alike.summary().expect("a summary"), "H4", Refuted);
}

/// Ollama stops at 64 streams, before it comes to the scenarios after them.
fn stopped_at_64(framework: &str, outcome: LaneOutcome) -> RunSummary {
    let speed = |lane: &LaneId| {
        Some(match lane.framework.as_str() {
            "ollama" => Speed::serial(),
            _ => Speed::batching(),
        })
    };
    night_until(PLAN, speed, |lane| {
        (lane.framework == framework).then_some(("concurrent/c64", outcome))
    })
    .summary()
    .expect("a summary")
}

#[test]
fn a_setting_that_one_has_not_measured_is_left_out_and_named() {
    use super::super::super::Seen;
    let summary = stopped_at_64("ollama", LaneOutcome::Interrupted);
    let m = only(&summary, "H2");
    assert_eq!(m.outcome, Supported, "{m:#?}");
    assert!(
        m.because.contains("at 16 streams")
            && m.because
                .ends_with("Left out: Ollama has no figures for `concurrent/c64` (not reached yet)."),
        "{}",
        m.because
    );
    let left_out = m.tests.iter().filter(|t| t.role == TestRole::LeftOut);
    assert!(left_out.clone().count() == 2 && left_out.clone().all(|t| t.cells == ["concurrent/c64"]));
    // H3 needs nothing of it, H1 neither; of H5 Ollama has no part.
    is(&summary, "H3", Supported);
    is(&summary, "H1", Refuted);
    is(&summary, "H5", Inconclusive);
    let e = seen(&summary, "Serving at scale");
    assert_eq!(
        (e.outcome, e.seen.contains("at 16 streams")),
        (Seen::AsExpected, true),
        "{e:#?}"
    );
    // SGLang and vLLM have all of it.
    let e = seen(&summary, "SGLang and vLLM: throughput rises");
    assert!(e.seen.contains("at 64 streams"), "{e:#?}");
    // The document names 64 streams: that nothing failed at 16 does not answer it.
    let e = seen(&summary, "Ollama may time out");
    assert_eq!(e.outcome, Seen::NotMeasured);
    assert_eq!(
        e.seen,
        "Ollama has no figures for `concurrent/c64` (not reached yet); none of Ollama's 320 requests failed at 16 streams"
    );
    let e = seen(&summary, "Ollama: latency rises linearly");
    assert!(
        e.seen
            .ends_with("; left out: Ollama has no figures for `concurrent/c64` (not reached yet)"),
        "{e:#?}"
    );
}

#[test]
fn who_fails_is_not_spared_what_it_failed_in() {
    // It is no merit of SGLang's to have died at 64 streams.
    let m = stopped_at_64("sglang", LaneOutcome::Failed);
    let m = only(&m, "H2");
    assert_eq!(m.outcome, Inconclusive, "{m:#?}");
    assert!(
        m.because.contains("SGLang has no figures for `concurrent/c64`")
            && m.because.contains("the server died"),
        "{}",
        m.because
    );
    // Nor does it take anything from the claim that Ollama did.
    let m = stopped_at_64("ollama", LaneOutcome::Failed);
    assert_eq!(only(&m, "H2").outcome, Supported);
}

#[test]
fn curves_start_where_both_have_measured() {
    let mut run = night(PLAN, |_| Some(Speed::batching()));
    run.events.retain(|event| match event {
        benchd_journal::Event::CellEnded(ended) => {
            (ended.cell.as_str(), ended.lane.framework.as_str()) != ("concurrent/c1", "vllm")
        }
        _ => true,
    });
    let summary = run.summary().expect("a summary");
    let m = only(&summary, "H4");
    assert_eq!(m.outcome, Refuted, "{m:#?}");
    let of = |framework: &str, against: &str| {
        let pair = |t: &&VerdictTest| t.framework == framework && t.against == against;
        m.tests
            .iter()
            .filter(pair)
            .map(|t| t.what.as_str())
            .collect::<Vec<_>>()
    };
    assert!(
        of("sglang", "vllm").contains(&"scaling efficiency at 64 streams over 8 streams"),
        "{m:#?}"
    );
    assert!(
        of("sglang", "ollama").contains(&"scaling efficiency at 64 streams"),
        "{m:#?}"
    );
}
