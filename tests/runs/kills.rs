//! benchd is killed at any moment, again and again; each time it goes on, until the run is what an undisturbed
//! one would be.
//!
//! `BENCHD_KILLS=300 cargo test --test runs kills -- --nocapture` kills more often than CI does.

use std::{
    collections::BTreeSet,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use benchd_journal::RunState;
use nix::sys::signal::Signal;
use rand::{RngExt as _, SeedableRng as _};

use crate::{bench::Bench, ended::Ended};

/// Kills where nothing else is asked for.
const KILLS: u32 = 15;

/// Kills of one run at most: on a busy machine a run would hardly get forward between two of them, and the start of
/// a new one is a moment, too.
const KILLS_A_RUN: u32 = 12;

/// When after its start benchd is killed: before its folder is made, while it starts, or anywhere.
fn moment(random: &mut rand_chacha::ChaCha8Rng) -> Duration {
    let latest_ms = [20, 300, 2500, 2500][random.random_range(0..4)];
    Duration::from_micros(random.random_range(0..latest_ms * 1000))
}

fn bench() -> Bench {
    Bench::new()
        .sim("plain", &["--decode-rate", "200"])
        .sim(
            "escapes",
            &[
                "--decode-rate",
                "200",
                "--fault",
                "child-session:stubborn",
                "--fault",
                "child-daemon:stubborn",
                "--fault",
                "respawn",
            ],
        )
        .with(serde_json::json!({ "stop_grace": "200ms" }))
        .sim("last", &["--decode-rate", "200"])
}

fn cells(ended: &Ended) -> BTreeSet<(String, String)> {
    ["plain", "escapes", "last"]
        .iter()
        .flat_map(|lane| ended.cells(lane))
        .map(|cell| (cell.lane.framework.clone(), cell.cell.clone()))
        .collect()
}

#[test]
fn killed_anywhere_it_goes_on_until_the_run_is_whole() {
    let kills: u32 = std::env::var("BENCHD_KILLS").map_or(KILLS, |n| n.parse().unwrap());
    let seed: u64 = std::env::var("BENCHD_KILL_SEED").map_or(1, |n| n.parse().unwrap());
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);

    let undisturbed = bench();
    let expected = undisturbed.run(&[]);
    expected.assert_code(0);
    let expected = cells(&expected);
    assert_eq!(expected.len(), 6);

    // Looks like a server of ours, and is not.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut bystander = Command::new(env!("CARGO_BIN_EXE_benchd"))
        .args(["sim", "--port", "0"])
        .env("BENCHD_TOKEN", "somebody else's")
        .current_dir(elsewhere.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();

    let (mut killed, mut runs, mut in_server, mut before_folder) = (0, 0, 0, 0);
    while killed < kills {
        let bench = bench();
        let before = killed;
        let ended = loop {
            let mut run = bench.start(&["--resume"]);
            let at = moment(&mut random);
            if killed < kills && killed - before < KILLS_A_RUN {
                // The moment is the test's subject: nothing is waited for.
                let since = Instant::now();
                while since.elapsed() < at && !run.has_ended() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if !run.has_ended() {
                    run.signal(Signal::SIGKILL);
                    run.wait();
                    killed += 1;
                    in_server += u32::from(!bench.processes().is_empty());
                    before_folder += u32::from(bench.runs().is_empty());
                    continue;
                }
            }
            break run.wait();
        };
        runs += 1;
        ended.assert_code(0);
        assert_eq!(cells(&ended), expected);
        assert_eq!(bench.runs().len(), 1, "one run folder: {:?}", bench.runs());
        ended.assert_folder(RunState::Finished);
        for lane in ["plain", "escapes", "last"] {
            ended.assert_whole_cells(lane);
        }
        bench.assert_nothing_left();
    }
    let alive = bystander.try_wait().unwrap().is_none();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert!(alive, "a process that is not ours was ended");
    eprintln!(
        "{killed} kills over {runs} runs (seed {seed}): {in_server} while a server ran, {before_folder} before the run had its folder"
    );
}

#[test]
fn what_hides_its_environment_and_session_is_found_by_the_inventory() {
    let bench = Bench::new()
        .with_gpu()
        .sim(
            "hides",
            &[
                "--decode-rate",
                "50",
                "--gpu-bytes",
                "1073741824",
                "--fault",
                "child-hidden:stubborn",
                "--fault",
                "ignore-term",
            ],
        )
        .with(serde_json::json!({ "stop_grace": "300ms" }));
    let run = bench.start(&[]);
    run.stores("hides", 8);
    run.signal(Signal::SIGKILL);
    run.wait();
    assert_eq!(
        bench.processes().len(),
        2,
        "the server and its hidden child live on"
    );
    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    ended.assert_whole_cells("hides");
    assert!(
        ended
            .notes()
            .iter()
            .any(|note| note.contains("cleared what was left of hides/m")),
        "{:?}",
        ended.notes()
    );
    ended.assert_folder(RunState::Finished);
    bench.only_run();
    bench.assert_nothing_left();
}
