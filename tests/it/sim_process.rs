//! The simulated server as a process: its start, its end, and what it leaves.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// Only so that a fault fails a test instead of hanging it.
const SAFETY: Duration = Duration::from_secs(300);

/// A simulated server in its own process group, and everything that knows its token.
struct Sim {
    child: Child,
    out: BufReader<ChildStdout>,
    token: String,
}

impl Sim {
    fn spawn(name: &str, flags: &[&str], env: &[(&str, &Path)]) -> Self {
        let token = format!("{name}-{}", std::process::id());
        let mut child = Command::new(env!("CARGO_BIN_EXE_benchd"))
            .arg("sim")
            .args(flags)
            .env("BENCHD_TOKEN", &token)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out, token }
    }

    fn pid(&self) -> i32 {
        self.child.id().try_into().unwrap()
    }

    /// The line that says where it listens: (address, pid).
    fn listening(&mut self) -> (std::net::SocketAddr, i32) {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        let pid = line["pid"].as_i64().unwrap().try_into().unwrap();
        (line["listening"].as_str().unwrap().parse().unwrap(), pid)
    }

    fn term(&mut self) -> ExitStatus {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
        self.child.wait().unwrap()
    }

    /// Other living processes that were started with this one's token, whether or not it is still to be seen.
    fn others(&self) -> Vec<procfs::process::Stat> {
        let token = format!("BENCHD_TOKEN={}", self.token);
        processes(|p| {
            let environ = std::fs::read(format!("/proc/{}/environ", p.pid)).unwrap_or_default();
            p.pid != self.pid() && environ.split(|b| *b == 0).any(|entry| entry == token.as_bytes())
        })
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        for _ in 0..2 {
            for other in self.others() {
                let _ = kill(Pid::from_raw(other.pid), Signal::SIGKILL);
            }
        }
        let _ = self.child.wait();
    }
}

fn processes(wanted: impl Fn(&procfs::process::Stat) -> bool) -> Vec<procfs::process::Stat> {
    procfs::process::all_processes()
        .unwrap()
        .filter_map(|p| p.ok()?.stat().ok())
        .filter(|stat| stat.state != 'Z' && wanted(stat))
        .collect()
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < SAFETY, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Everything that a streamed completion of so many tokens brings.
fn ask(addr: std::net::SocketAddr, max_tokens: u32) -> Vec<u8> {
    let mut socket = std::net::TcpStream::connect(addr).unwrap();
    let body = format!(
        r#"{{"model":"sim-model","messages":[{{"role":"user","content":"x"}}],"max_tokens":{max_tokens},"stream":true}}"#
    );
    let length = body.len();
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut all = Vec::new();
    // A reset is as good as an end here.
    let _ = socket.read_to_end(&mut all);
    all
}

/// Whether a process blocks TERM, as the kernel shows it.
fn blocks_term(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let blocked = status
        .lines()
        .find_map(|l| l.strip_prefix("SigBlk:"))
        .map_or("0", str::trim);
    u64::from_str_radix(blocked, 16).unwrap_or(0) & (1 << (Signal::SIGTERM as u32 - 1)) != 0
}

#[test]
fn it_says_where_it_listens_and_ends_cleanly_on_term() {
    let mut sim = Sim::spawn("clean", &[], &[]);
    let (addr, pid) = sim.listening();
    assert_eq!(pid, sim.pid());
    std::net::TcpStream::connect(addr).unwrap();
    assert_eq!(sim.term().code(), Some(0));
    assert!(std::net::TcpStream::connect(addr).is_err());
}

#[test]
fn wrong_flags_are_refused() {
    for flags in [
        &["--fault", "nonsense"][..],
        &["--jitter", "3"],
        &["--gpu-bytes", "1"],
    ] {
        let mut sim = Sim::spawn("wrong", flags, &[]);
        assert_eq!(sim.child.wait().unwrap().code(), Some(2), "{flags:?}");
    }
}

#[test]
fn it_dies_in_its_start_as_told() {
    let mut sim = Sim::spawn("exit", &["--fault", "exit:3"], &[]);
    assert_eq!(sim.child.wait().unwrap().code(), Some(3));
    for (fault, signal) in [
        ("crash", Signal::SIGSEGV),
        ("crash:abort", Signal::SIGABRT),
        ("crash:kill", Signal::SIGKILL),
    ] {
        let mut sim = Sim::spawn("crash", &["--fault", fault], &[]);
        assert_eq!(sim.child.wait().unwrap().signal(), Some(signal as i32), "{fault}");
    }
}

#[test]
fn it_dies_at_its_nth_request_as_told() {
    let mut sim = Sim::spawn(
        "late",
        &["--fault", "crash@2:segv", "--mode", "fixed", "--ttft", "1ms"],
        &[],
    );
    let (addr, _) = sim.listening();
    assert!(ask(addr, 1).starts_with(b"HTTP/1.1 200"));
    assert!(ask(addr, 1).is_empty());
    assert_eq!(sim.child.wait().unwrap().signal(), Some(Signal::SIGSEGV as i32));
}

#[test]
fn it_dies_in_mid_stream_as_told() {
    let mut sim = Sim::spawn("mid", &["--fault", "crash-mid:3", "--mode", "fixed"], &[]);
    let (addr, _) = sim.listening();
    let brought = ask(addr, 10);
    assert_eq!(
        brought.windows(12).filter(|w| w == b"\"content\":\" ").count(),
        2,
        "three tokens, the first without a space"
    );
    assert!(!brought.ends_with(b"0\r\n\r\n"));
    assert_eq!(sim.child.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
}

#[test]
fn without_its_worker_it_answers_500_and_ends_as_told() {
    let status = |answer: Vec<u8>| String::from_utf8_lossy(&answer).lines().next().map(str::to_owned);
    let ok = Some("HTTP/1.1 200 OK".to_owned());
    // Killed by itself at the second request, or by anybody.
    for (fault, by_itself) in [
        ("engine-dies@2:50ms", true),
        ("engine-dies:50ms", false),
        ("engine-dies-killed:50ms", false),
        ("engine-dead", false),
    ] {
        let mut sim = Sim::spawn(fault, &["--port", "0", "--fault", fault], &[]);
        let (addr, _) = sim.listening();
        let worker = sim
            .others()
            .into_iter()
            .find(|p| p.comm == "sim::engine")
            .unwrap();
        assert_eq!(worker.pgrp, sim.pid(), "{fault}: in its group");
        assert_eq!(status(ask(addr, 4)), ok, "{fault}");
        if by_itself {
            let broken = status(ask(addr, 4));
            assert!(broken.is_some_and(|line| line.contains(" 500 ")), "{fault}");
        } else {
            kill(Pid::from_raw(worker.pid), Signal::SIGKILL).unwrap();
        }
        match fault {
            "engine-dead" => {
                until("it notices", || status(ask(addr, 4)) != ok);
                assert!(sim.child.try_wait().unwrap().is_none());
                assert_eq!(sim.term().code(), Some(0));
            }
            "engine-dies-killed:50ms" => assert_eq!(sim.child.wait().unwrap().signal(), Some(9)),
            _ => assert_eq!(sim.child.wait().unwrap().code(), Some(0), "{fault}"),
        }
    }
}

#[test]
fn it_freezes_as_told() {
    let sim = Sim::spawn("freeze", &["--fault", "freeze"], &[]);
    until("stopped", || {
        processes(|p| p.pid == sim.pid() && p.state == 'T').len() == 1
    });
}

#[test]
fn it_ignores_term_as_told_and_goes_on_serving() {
    let mut sim = Sim::spawn("stubborn", &["--fault", "ignore-term", "--mode", "fixed"], &[]);
    let (addr, _) = sim.listening();
    kill(Pid::from_raw(sim.pid()), Signal::SIGTERM).unwrap();
    // It has read the signal when none is pending any more.
    let status = format!("/proc/{}/status", sim.pid());
    until("TERM read", || {
        let status = std::fs::read_to_string(&status).unwrap_or_default();
        status.lines().any(|l| {
            l.strip_prefix("ShdPnd:")
                .is_some_and(|v| v.trim().bytes().all(|b| b == b'0'))
        })
    });
    // A server that were stopping would cut this answer of fifty chunks.
    assert!(ask(addr, 50).ends_with(b"data: [DONE]\n\n\r\n0\r\n\r\n"));
    assert!(sim.child.try_wait().unwrap().is_none());
}

#[test]
fn children_are_where_the_fault_puts_them_and_outlive_their_parent() {
    for fault in [
        "child",
        "child:stubborn",
        "child-session",
        "child-daemon",
        "respawn",
    ] {
        let mut sim = Sim::spawn("children", &["--fault", fault], &[]);
        sim.listening();
        let children = sim.others();
        assert!(!children.is_empty(), "{fault}");
        let (pid, own_group) = (sim.pid(), |p: &procfs::process::Stat| p.pgrp == sim.pid());
        match fault {
            "child-session" => assert!(
                children
                    .iter()
                    .all(|c| !own_group(c) && c.session == c.pid && c.ppid == pid)
            ),
            "child-daemon" => assert!(
                children
                    .iter()
                    .all(|c| !own_group(c) && c.session != pid && c.ppid != pid)
            ),
            _ => assert!(children.iter().all(own_group), "{fault}"),
        }
        assert_eq!(sim.term().code(), Some(0));
        assert_eq!(sim.others().len(), children.len(), "{fault}: they stay");
        assert_eq!(blocks_term(children[0].pid), fault == "child:stubborn", "{fault}");
    }
}

#[test]
fn a_killed_worker_comes_again() {
    let mut sim = Sim::spawn("respawn", &["--fault", "respawn"], &[]);
    sim.listening();
    let workers = || -> Vec<i32> {
        let of = |p: &procfs::process::Stat| {
            let line = std::fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
            line.windows(7).any(|w| w == b"worker:")
        };
        sim.others().iter().filter(|p| of(p)).map(|p| p.pid).collect()
    };
    let first = workers();
    assert_eq!(first.len(), 1);
    kill(Pid::from_raw(first[0]), Signal::SIGKILL).unwrap();
    until("another worker", || workers().iter().any(|pid| *pid != first[0]));
}

#[test]
fn a_hidden_child_shows_neither_environment_nor_arguments() {
    let mut sim = Sim::spawn("hidden", &["--fault", "child-hidden"], &[]);
    sim.listening();
    let children = processes(|p| p.ppid == sim.pid());
    assert_eq!(children.len(), 1);
    let pid = children[0].pid;
    let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(environ.iter().all(|b| *b == 0));
    let title = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(title.starts_with(b"sim::worker\0"));
    assert!(sim.others().is_empty(), "its token is not to be seen");
    assert_ne!(children[0].session, sim.pid());
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn a_child_can_be_the_one_that_listens() {
    let mut sim = Sim::spawn("listener", &["--fault", "child-listens", "--model", "m"], &[]);
    let (addr, pid) = sim.listening();
    assert_ne!(pid, sim.pid());
    let child = processes(|p| p.pid == pid);
    assert_ne!(child[0].pgrp, sim.pid());
    assert_eq!(sim.term().code(), Some(0));
    std::net::TcpStream::connect(addr).unwrap();
}

#[test]
fn floods_are_as_long_as_told_and_of_their_kind() {
    for (fault, kind) in [
        ("flood-lines:100KiB", b'\n'),
        ("flood-endless:100KiB", b'0'),
        ("flood-progress:100KiB", b'\r'),
        ("flood-binary:100KiB", 0xff),
    ] {
        let mut sim = Sim::spawn("flood", &["--fault", fault], &[]);
        let (addr, _) = sim.listening();
        // Nobody reads yet, and it serves all the same.
        std::net::TcpStream::connect(addr).unwrap();
        let mut flood = vec![0; 100 << 10];
        sim.out.read_exact(&mut flood).unwrap();
        assert!(flood.contains(&kind), "{fault}");
        assert_eq!(flood.contains(&b'\n'), matches!(kind, b'\n' | 0xff), "{fault}");
        assert_eq!(std::str::from_utf8(&flood).is_err(), kind == 0xff, "{fault}");
        assert_eq!(sim.term().code(), Some(0));
        let mut rest = Vec::new();
        sim.out.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{fault}: {} bytes more", rest.len());
    }
}

#[test]
fn gpu_memory_is_said_to_be_held_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state.json");
    let env = [("FAKE_NVML_STATE", state.as_path())];
    for (delay, removed) in [("0s", true), ("50ms", true), ("never", false)] {
        let mut sim = Sim::spawn(
            "gpu",
            &["--gpu-bytes", "1000000", "--gpu-release-delay", delay],
            &env,
        );
        sim.listening();
        let file = folder.path().join(format!("state.json.d/{}.json", sim.pid()));
        let held: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        assert_eq!(held["pid"], sim.pid());
        assert_eq!(
            (&held["used_bytes"], &held["device"]),
            (&1_000_000.into(), &0.into())
        );
        assert_eq!(sim.term().code(), Some(0));
        if delay == "50ms" {
            until("released later", || !file.exists());
        }
        assert_eq!(file.exists(), !removed, "{delay}");
    }
}

#[test]
fn a_start_with_refusal_can_be_ended_before_it_listens() {
    let mut sim = Sim::spawn("starting", &["--start-delay", "1h"], &[]);
    // Blocked signals wait: TERM counts whenever it comes.
    until("TERM blocked", || blocks_term(sim.pid()));
    assert_eq!(sim.term().code(), Some(0));
    let mut out = String::new();
    sim.out.read_to_string(&mut out).unwrap();
    assert_eq!(out, "");
}

#[test]
fn the_kinds_of_faults_are_listed() {
    let output = Command::new(env!("CARGO_BIN_EXE_benchd"))
        .args(["sim", "--fault", "list"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), benchd_sim::KINDS.len());
    assert!(text.contains("split-utf8"));
}
