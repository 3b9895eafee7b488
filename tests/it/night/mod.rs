//! A night's run through the binary: systemd and its watchdog, secrets and the webhook, disks.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a failed one is a failed test"
)]

mod disk;
mod systemd;
mod telling;
mod watchdog;

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::{fs::MetadataExt, net::UnixDatagram, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::free_port;

/// A watch over tests that wait for something which never comes.
const PATIENCE: Duration = Duration::from_secs(300);

const BENCHD: &str = env!("CARGO_BIN_EXE_benchd");

/// A framework that serves by the simulated server, after `first` in its shell.
fn framework(name: &str, first: &str, more: &str) -> String {
    let port = free_port();
    format!(
        "  {name}:\n    kind: openai\n    command: [sh, -c, '{first} exec {BENCHD} sim --host {{host}} --port {{port}} \
         --model {{model}} --prefill-rate 20000 --decode-rate 200']\n    port: {port}\n    start_timeout: 30s\n    \
         stop_grace: 5s\n{more}"
    )
}

struct Night {
    dir: tempfile::TempDir,
}

impl Night {
    fn new(frameworks: &str, repeats: u32, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plan = format!(
            "version: 1\nname: night\nhost: {{ gpu: none }}\nrequest: {{ timeout: 20s, warmup: 1 }}\n\
             models: {{ sim: {{ openai: sim }} }}\nframeworks:\n{frameworks}\n\
             scenarios: {{ single: {{ input_tokens: [32], output_tokens: 8, repeats: {repeats}, prompts: identical }} }}\n{more}"
        );
        fs::write(dir.path().join("night.yaml"), plan).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(BENCHD);
        command
            .args([
                "run",
                "night.yaml",
                "--results",
                "results",
                "--logs",
                "logs",
                "--no-selfcheck",
            ])
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for inherited in ["NOTIFY_SOCKET", "JOURNAL_STREAM", "WATCHDOG_USEC", "HF_TOKEN"] {
            command.env_remove(inherited);
        }
        command
    }

    fn journal(&self) -> String {
        fs::read_to_string(self.path("results/latest/journal.jsonl")).unwrap_or_default()
    }

    /// Waits until the journal holds this text.
    fn await_journal(&self, text: &str) {
        await_that(&format!("no `{text}` in the journal"), || {
            self.journal().contains(text)
        });
    }
}

/// Waits until it is so.
fn await_that(else_say: &str, mut is: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is() {
        assert!(since.elapsed() < PATIENCE, "{else_say}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Every regular file below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// No process of a server that a run of this journal launched is left.
fn nothing_left(journal: &str) {
    let launched = journal.lines().filter_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap();
        entry["event"]["server_launched"]["leader"]["pid"].as_i64()
    });
    for pid in launched {
        let running = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!running.contains("sim"), "{pid} still runs: {running}");
    }
}

/// Ends a run that a failed test leaves.
struct Running(Option<Child>);

impl Running {
    fn wait(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &self.0 {
            let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
            let _ = kill(pid, Signal::SIGTERM);
        }
    }
}

/// Starts a run of many requests and waits until some cell of it is being measured.
fn long_run(night: &Night, command: &mut Command) -> Running {
    let child = Running(Some(command.spawn().unwrap()));
    night.await_journal("cell_started");
    child
}

/// The leader of the server that was launched last.
fn leader(journal: &str) -> Pid {
    let pid = journal.lines().rev().find_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        entry["event"]["server_launched"]["leader"]["pid"].as_i64()
    });
    Pid::from_raw(i32::try_from(pid.unwrap()).unwrap())
}

/// A library that makes a disk fail under what runs with it.
const FAILING_DISK: &str = include_str!("../../fixtures/failing_disk.c");

/// A disk under a run that can be made to fail.
struct FailingDisk {
    env: [(&'static str, PathBuf); 3],
    now: PathBuf,
}

impl FailingDisk {
    /// `None` where no C compiler makes it.
    fn new(night: &Night, how: &str) -> Option<Self> {
        fs::write(night.path("disk.c"), FAILING_DISK).unwrap();
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-o", "disk.so", "disk.c", "-ldl"])
            .current_dir(night.dir.path())
            .output();
        if !built.as_ref().is_ok_and(|b| b.status.success()) {
            println!("SKIPPED: no C compiler makes the failing disk: {built:?}");
            return None;
        }
        let now = night.path("now");
        Some(Self {
            env: [
                ("LD_PRELOAD", night.path("disk.so")),
                ("DISK_FAILS", now.clone()),
                ("DISK_FAILS_AS", how.into()),
            ],
            now,
        })
    }

    fn env(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.env.iter().map(|(name, value)| (*name, value.as_path()))
    }

    fn fail(&self) {
        fs::write(&self.now, "").unwrap();
    }

    /// Waits until somebody waits for the disk.
    fn await_stuck(&self) {
        await_that("nobody waits for the disk", || {
            self.now.with_extension("stuck").exists()
        });
    }

    fn work_again(&self) {
        fs::remove_file(&self.now).unwrap();
    }
}
