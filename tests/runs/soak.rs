//! A long night in short: tens of server lives and thousands of requests in one run, and what benchd itself takes.
//!
//! `cargo test --release --test runs soak -- --ignored --nocapture`, longer with `BENCHD_SOAK_LANES=160`.

use std::fs;

use benchd::journal::{Event, RunState};
use serde_json::json;

use crate::bench::Bench;

/// Server lives where nothing else is asked for.
const LANES: usize = 40;

/// What benchd takes at one moment.
#[derive(Debug, Clone, Copy)]
struct Taken {
    resident_kib: u64,
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
        files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
        threads: field("Threads:")?,
    })
}

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
        let ended = bench
            .events()
            .iter()
            .filter(|e| matches!(e, Event::LaneEnded(_)))
            .count();
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
    for (n, sample) in samples.iter().enumerate().step_by(4) {
        eprintln!("after lane {:>2}: {sample:?}", n + 1);
    }
    let (early, late) = (samples[lanes / 4], *samples.last().unwrap());
    eprintln!("{lanes} lives, {requests} requests: {early:?} after a quarter, {late:?} at the end");
    assert!(late.files <= early.files + 2, "open files grow");
    assert!(late.threads <= early.threads + 1, "threads grow");
    assert!(
        late.resident_kib <= early.resident_kib + early.resident_kib / 4,
        "memory grows"
    );
}
