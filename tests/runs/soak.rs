//! A long night in short: tens of server lives and thousands of requests in one run, and what benchd itself takes.
//!
//! `cargo test --test runs soak -- --ignored --nocapture`, longer with `BENCHD_SOAK_LANES=160`.

use std::fs;

use benchd_journal::RunState;
use serde_json::json;

use crate::bench::Bench;

/// Server lives where nothing else is asked for.
const LANES: usize = 40;

/// What benchd takes at one moment.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// All that is in memory, its program's pages and libraries included.
    resident_kib: u64,
    /// What it asked for itself.
    own_kib: u64,
    files: usize,
    threads: u64,
}

fn taken(pid: i32) -> Option<Taken> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(Taken {
        resident_kib: field("VmRSS:")?,
        own_kib: field("RssAnon:")?,
        files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
        threads: field("Threads:")?,
    })
}

/// The usual growth from one life to the next: the median of the slopes between any two, which a few lives that
/// happened to take more do not move.
fn growth_per_life(values: &[u64]) -> f64 {
    let mut slopes: Vec<f64> = Vec::new();
    for (i, early) in values.iter().enumerate() {
        for (j, late) in values.iter().enumerate().skip(i + 1) {
            slopes.push((*late as f64 - *early as f64) / (j - i) as f64);
        }
    }
    slopes.sort_by(f64::total_cmp);
    slopes[slopes.len() / 2]
}

fn usual(samples: &[Taken], what: impl Fn(&Taken) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(what).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

/// The most that benchd may grow by with a life, KiB. What it keeps of one, what the journal says of its lane and its
/// cells, is some 3 KiB by a heap profile (`docs/night.md`); the rest is how the allocator fills its pages. A server's
/// output, a cell's records or texts would be a hundred times that.
const KEPT_OF_A_LIFE_KIB: f64 = 64.0;

#[test]
#[ignore = "takes minutes; by command"]
fn memory_and_open_files_stay_flat_over_many_lives() {
    let lanes: usize = std::env::var("BENCHD_SOAK_LANES").map_or(LANES, |n| n.parse().unwrap());
    let mut bench = Bench::new().with_gpu();
    bench.plan["scenarios"]["concurrent"] =
        json!({ "concurrency": [16], "input_tokens": 32, "output_tokens": 16, "requests": 100, "passes": 2 });
    for n in 0..lanes {
        let faults: &[&str] = match n % 4 {
            1 => &["--fault", "child-daemon:stubborn"],
            2 => &["--fault", "flood-lines:1MiB"],
            3 => &["--fault", "http@100-110:500"],
            _ => &[],
        };
        let flags: Vec<&str> = ["--decode-rate", "2000", "--gpu-bytes", "1073741824"]
            .iter()
            .chain(faults)
            .copied()
            .collect();
        bench = bench.sim(&format!("lane{n:02}"), &flags);
    }
    let mut run = bench.start(&[]);
    let mut samples: Vec<Taken> = Vec::new();
    while !run.has_ended() {
        let ended = bench.runs().pop().map_or(0, |run| {
            let journal = fs::read_to_string(run.join("journal.jsonl")).unwrap_or_default();
            journal.matches("{\"lane_ended\":").count()
        });
        if ended > samples.len()
            && let Some(now) = taken(run.pid())
        {
            samples.resize(ended, now);
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let ended = run.wait();
    ended.assert_code(1);
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
    let requests: u64 = (0..lanes)
        .flat_map(|n| ended.cells(&format!("lane{n:02}")))
        .map(|cell| cell.records)
        .sum();
    for (n, sample) in samples.iter().enumerate() {
        eprintln!(
            "life {:>3}: {} KiB resident, {} KiB its own, {} files, {} threads",
            n + 1,
            sample.resident_kib,
            sample.own_kib,
            sample.files,
            sample.threads
        );
    }
    // The first lives fill what is filled once: connections, buffers, the allocator's arenas. At the last one's end
    // the report is being written.
    let settled = &samples[samples.len() / 4..samples.len() - 1];
    let growth = |what: fn(&Taken) -> u64| growth_per_life(&settled.iter().map(what).collect::<Vec<_>>());
    let (own, resident) = (growth(|t| t.own_kib), growth(|t| t.resident_kib));
    // A moment falls here into one server's end, there into the next one's start.
    let (early, late) = settled.split_at(settled.len() / 2);
    let (files, threads) = (|t: &Taken| t.files as u64, |t: &Taken| t.threads);
    eprintln!(
        "{lanes} lives, {requests} requests; from life {} on: {own:.2} KiB its own and {resident:.2} KiB resident more \
         from one to the next, {} files early and {} late, {} threads early and {} late",
        samples.len() / 4 + 1,
        usual(early, files),
        usual(late, files),
        usual(early, threads),
        usual(late, threads),
    );
    assert!(usual(late, files) <= usual(early, files) + 1, "open files grow");
    assert!(usual(late, threads) <= usual(early, threads), "threads grow");
    assert!(own <= KEPT_OF_A_LIFE_KIB, "memory grows by {own} KiB a life");
}
