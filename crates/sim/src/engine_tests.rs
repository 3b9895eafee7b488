use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

fn steps(slots: usize) -> Settings {
    Settings {
        schedule: Schedule::Steps {
            base_ns: 9 * MS,
            stream_ns: MS,
            prefill_ns_per_token: 1000.0,
            prefill_chunk: 1000,
            slots,
        },
        jitter: 0.0,
        seed: 1,
        tokens_per_chunk: 1,
        cache_blocks: 1000,
        block_tokens: 16,
    }
}

fn fixed(ttft_ns: u64, gap_ns: u64) -> Settings {
    Settings {
        schedule: Schedule::Fixed {
            ttft_ns,
            gap_ns,
            spacing_ns: 0,
        },
        ..steps(1)
    }
}

fn job(id: u64, arrived_ns: u64, prompt_tokens: u32, output_tokens: u32) -> Job {
    Job {
        id,
        arrived_ns,
        prompt_tokens,
        output_tokens,
        blocks: Vec::new(),
    }
}

fn drain(engine: &mut Engine) -> Vec<Tick> {
    let mut ticks = Vec::new();
    while let Some(due) = engine.next_due() {
        while let Some(tick) = engine.pop(due) {
            ticks.push(tick);
        }
    }
    ticks
}

fn run(settings: Settings, jobs: impl IntoIterator<Item = Job>) -> Vec<Tick> {
    let mut engine = Engine::new(settings);
    for job in jobs {
        engine.submit(job);
    }
    drain(&mut engine)
}

/// Tokens a second of `n` equal streams while all of them decode.
fn throughput(n: u64) -> f64 {
    let ticks = run(steps(256), (0..n).map(|id| job(id, 0, 1, 101)));
    let mut steps: Vec<u64> = ticks.iter().map(|t| t.due_ns).collect();
    steps.dedup();
    let (from, to) = (steps[40], steps[60]);
    let tokens = ticks.iter().filter(|t| t.due_ns > from && t.due_ns <= to).count();
    tokens as f64 / ((to - from) as f64 / 1e9)
}

#[test]
fn a_lone_stream_takes_what_the_documentation_says() {
    let ticks = run(steps(4), [job(7, 5 * MS, 500, 3)]);
    let due: Vec<u64> = ticks.iter().map(|t| t.due_ns).collect();
    // 9 ms base and 500 µs prefill; then 9 ms and 1 ms a step.
    assert_eq!(due, [14 * MS + MS / 2, 24 * MS + MS / 2, 34 * MS + MS / 2]);
    assert!(ticks[2].last && !ticks[1].last);
}

#[test]
fn throughput_grows_with_concurrency_but_less_and_less() {
    let (one, eight, sixty_four) = (throughput(1), throughput(8), throughput(64));
    assert!((one - 100.0).abs() < 0.01, "{one}");
    assert!((eight - 8000.0 / 17.0).abs() < 0.01, "{eight}");
    assert!(eight > 4.0 * one && eight < 8.0 * one);
    assert!(sixty_four > eight && sixty_four < 8.0 * eight);
}

#[test]
fn one_slot_serves_in_order_one_after_the_other() {
    let ticks = run(steps(1), (0..3).map(|id| job(id, id, 100, 5)));
    let order: Vec<u64> = ticks.iter().map(|t| t.id).collect();
    assert_eq!(order, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
    let last_of_0 = ticks[4].due_ns;
    assert!(ticks[5].due_ns > last_of_0);
}

#[test]
fn who_arrives_in_mid_step_waits_for_the_next() {
    let ticks = run(steps(4), [job(1, 0, 1, 3), job(2, MS, 1, 1)]);
    let first_step_ends = ticks[0].due_ns;
    let second = ticks.iter().find(|t| t.id == 2).unwrap();
    assert!(second.due_ns > first_step_ends);
    assert_eq!(second.due_ns, ticks[1].due_ns, "they share the second step");
}

#[test]
fn who_arrives_when_nothing_runs_begins_at_once() {
    let mut engine = Engine::new(steps(4));
    engine.submit(job(1, 0, 1, 1));
    drain(&mut engine);
    engine.submit(job(2, 1000 * MS, 1, 1));
    let tick = drain(&mut engine)[0];
    assert_eq!(tick.due_ns, 1009 * MS + 1000);
}

#[test]
fn a_long_prompt_is_prefilled_in_chunks_while_others_decode() {
    let ticks = run(steps(4), [job(1, 0, 1, 10), job(2, 1, 2500, 1)]);
    let before = ticks.iter().position(|t| t.id == 2).unwrap();
    // Three steps of at most 1000 tokens, and the one that ran when it came.
    assert_eq!(before, 4);
}

#[test]
fn cached_prefixes_are_not_prefilled_again_and_are_counted() {
    let blocks: Vec<u64> = (0..10).collect();
    let ask = |id, arrived_ns, blocks: &[u64]| Job {
        blocks: blocks.to_vec(),
        ..job(id, arrived_ns, 160, 1)
    };
    let mut engine = Engine::new(steps(4));
    engine.submit(ask(1, 0, &blocks));
    let cold = drain(&mut engine)[0];
    assert_eq!((cold.cached_tokens, cold.due_ns), (0, 9 * MS + 160_000));
    engine.submit(ask(2, 100 * MS, &blocks));
    let warm = drain(&mut engine)[0];
    // All blocks are there, but the last token has to be computed: its block is.
    assert_eq!((warm.cached_tokens, warm.due_ns), (144, 109 * MS + 16_000));
    let mut other = blocks.clone();
    other[4] = 99;
    engine.submit(ask(3, 200 * MS, &other));
    assert_eq!(drain(&mut engine)[0].cached_tokens, 64);
    engine.cache().lock().unwrap().clear();
    engine.submit(ask(4, 300 * MS, &blocks));
    assert_eq!(drain(&mut engine)[0].cached_tokens, 0);
}

#[test]
fn fixed_holds_its_grid_whatever_else_runs_and_however_late_one_looks() {
    let mut engine = Engine::new(fixed(50 * MS, 10 * MS));
    for id in 0..100 {
        engine.submit(job(id, id * 1000, 5000, 20));
    }
    // Nobody looked for ten seconds: the due times are the same.
    let mut ticks = Vec::new();
    while let Some(tick) = engine.pop(10_000 * MS) {
        ticks.push(tick);
    }
    assert_eq!(ticks.len(), 2000);
    assert!(ticks.is_sorted_by_key(|t| t.due_ns));
    for tick in ticks {
        assert_eq!(
            tick.due_ns,
            tick.id * 1000 + 50 * MS + u64::from(tick.first_token) * 10 * MS
        );
    }
}

#[test]
fn spacing_keeps_a_burst_of_streams_apart() {
    let settings = Settings {
        schedule: Schedule::Fixed {
            ttft_ns: 5 * MS,
            gap_ns: 10 * MS,
            spacing_ns: MS,
        },
        ..steps(1)
    };
    let late = job(9, 100 * MS, 1, 1);
    let ticks = run(settings, (0..4).map(|id| job(id, id, 1, 2)).chain([late]));
    let due: Vec<u64> = ticks.iter().map(|t| t.due_ns / MS).collect();
    assert_eq!(due, [5, 6, 7, 8, 15, 16, 17, 18, 105]);
}

#[test]
fn a_cancelled_stream_gives_nothing_more_and_frees_its_slot() {
    let mut engine = Engine::new(steps(1));
    engine.submit(job(1, 0, 1, 1000));
    engine.submit(job(2, 0, 1, 1));
    let due = engine.next_due().unwrap();
    assert_eq!(engine.pop(due).unwrap().id, 1);
    engine.cancel(1);
    let rest = drain(&mut engine);
    assert_eq!(rest.iter().map(|t| t.id).collect::<Vec<_>>(), [2]);
    assert_eq!(engine.load(), (0, 0));
}

#[test]
fn jitter_is_seeded_and_bounded() {
    let settings = |seed| Settings {
        jitter: 0.5,
        seed,
        ..steps(1)
    };
    let due = |seed| run(settings(seed), [job(1, 0, 1, 50)]);
    assert_eq!(due(1), due(1));
    assert_ne!(due(1), due(2));
    for pair in due(1).windows(2) {
        let gap = pair[1].due_ns - pair[0].due_ns;
        assert!((5 * MS..=15 * MS).contains(&gap), "{gap}");
    }
}

proptest! {
    /// Every stream gets exactly its tokens, in order, the last chunk marked, and never before it arrived.
    #[test]
    fn every_stream_gets_exactly_its_tokens(
        jobs in prop::collection::vec((0_u64..200, 1_u32..3000, 1_u32..60), 1..20),
        slots in 1_usize..6,
        tokens_per_chunk in 1_u32..7,
        metronome in any::<bool>(),
    ) {
        let base = if metronome { fixed(3 * MS, MS) } else { steps(slots) };
        let mut jobs: Vec<Job> = jobs
            .into_iter()
            .zip(0_u64..)
            .map(|((at, prompt, output), id)| job(id, at * MS, prompt, output))
            .collect();
        jobs.sort_by_key(|j| j.arrived_ns);
        let ticks = run(Settings { tokens_per_chunk, ..base }, jobs.clone());
        for job in jobs {
            let own: Vec<&Tick> = ticks.iter().filter(|t| t.id == job.id).collect();
            let mut given = 0;
            for (i, tick) in own.iter().enumerate() {
                prop_assert_eq!(tick.first_token, given);
                prop_assert!(tick.due_ns > job.arrived_ns);
                prop_assert_eq!(tick.last, i + 1 == own.len());
                given += tick.tokens;
            }
            prop_assert_eq!(given, job.output_tokens);
            prop_assert!(own.is_sorted_by_key(|t| t.due_ns));
            prop_assert_eq!(own[0].tokens, 1);
        }
    }
}
