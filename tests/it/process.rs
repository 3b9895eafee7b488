//! The life and death of real processes that misbehave.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use benchd_core::record::ProcessIdentity;
use benchd_host::process::{
    self, Cgroup, LeaderExit, LogSettings, Membership, ProcessHandle, ServerProcess, SpawnError, SpawnSpec,
    StopPolicy, StopReport, Witnesses,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio_util::sync::CancellationToken;

use crate::alone::alone;

/// Longest wait for something that must happen; passing tests never come near it.
const PATIENCE: Duration = Duration::from_secs(300);

/// A grace that no test waits out.
const LONG: StopPolicy = StopPolicy {
    grace: Duration::from_secs(3600),
    patience: Duration::from_secs(30),
};

/// A grace for those who ignore TERM.
const SHORT: StopPolicy = StopPolicy {
    grace: Duration::from_millis(200),
    patience: Duration::from_secs(30),
};

const IGNORES_TERM: &str = "trap '' TERM; echo ready; while :; do sleep 1000; done";

fn spec(dir: &Path, program: &str, args: &[&str]) -> SpawnSpec {
    SpawnSpec {
        program: program.into(),
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        env: vec![],
        env_remove: vec![],
        cwd: None,
        token: process::new_token().unwrap(),
        log: LogSettings {
            path: dir.join("server.log"),
            limit_bytes: 1 << 20,
            ring_lines: 40,
            redactor: Default::default(),
        },
        cgroup: None,
    }
}

fn start(dir: &Path, program: &str, args: &[&str]) -> ServerProcess {
    process::become_subreaper().unwrap();
    ServerProcess::spawn(spec(dir, program, args)).unwrap()
}

fn sh(dir: &Path, script: &str) -> ServerProcess {
    start(dir, "sh", &["-c", script])
}

fn python(dir: &Path, script: &str) -> ServerProcess {
    start(dir, "python3", &["-u", "-c", script])
}

/// Waits until a condition holds.
pub(crate) async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(value) = condition() {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never happened: {what}")
}

async fn says(server: &ServerProcess, line: &str) {
    until(&format!("the line {line:?}; tail {:?}", server.tail()), || {
        server.tail().iter().any(|l| l == line).then_some(())
    })
    .await;
}

/// The pid that the server printed as `<name> <pid>`.
async fn told_pid(server: &ServerProcess, name: &str) -> ProcessIdentity {
    let pid = until(name, || {
        let prefix = format!("{name} ");
        server
            .tail()
            .iter()
            .find_map(|l| l.strip_prefix(&prefix)?.parse::<i32>().ok())
    })
    .await;
    process::identity(pid).unwrap()
}

fn runs(identity: &ProcessIdentity) -> bool {
    process::ProcessTable::read()
        .find(identity)
        .is_some_and(|s| !s.is_zombie())
}

/// Nothing of it runs, nothing waits to be reaped.
#[track_caller]
fn assert_nothing_left(server: &ServerProcess) {
    let table = process::ProcessTable::read();
    for known in server.known() {
        assert!(
            table.find(&known).is_none(),
            "left: {known:?} {:?}",
            table.find(&known)
        );
    }
    assert_eq!(process::carriers(&table, server.token()), []);
}

async fn stop(server: &ServerProcess, policy: &StopPolicy) -> StopReport {
    let report = server.stop(policy, &CancellationToken::new()).await;
    assert_eq!(report.stuck, []);
    assert_nothing_left(server);
    report
}

fn log_of(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("server.log")).unwrap()
}

#[tokio::test]
async fn a_server_that_obeys_ends_by_itself_and_is_not_killed() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = sh(
        dir.path(),
        "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done",
    );
    says(&server, "ready").await;
    let report = stop(&server, &LONG).await;
    assert_eq!((report.exit, report.killed), (Some(LeaderExit::Code(5)), false));
    assert_eq!(report.swept, []);
    let log = log_of(dir.path());
    assert!(log.contains(" out | bye\n"), "{log}");
    assert!(
        log.contains(" --- | the server's process ended: exit 5\n"),
        "{log}"
    );
    // Arrival times: RFC 3339, UTC, milliseconds.
    assert!(
        log.lines().all(|l| l[..24].parse::<jiff::Timestamp>().is_ok()),
        "{log}"
    );
}

#[tokio::test]
async fn a_server_runs_in_its_own_group_with_its_token_and_no_input() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let mut spec = spec(
        dir.path(),
        "sh",
        &["-c", "cat; echo $A-$BENCHD_TOKEN-$HOME; pwd; exec sleep 1000"],
    );
    spec.env = vec![("A".into(), "b".into())];
    spec.env_remove = vec!["HOME".into()];
    spec.cwd = Some("/".into());
    let expected = format!("b-{}-", spec.token);
    let server = ServerProcess::spawn(spec).unwrap();
    says(&server, &expected).await;
    says(&server, "/").await;
    let leader = server.leader();
    assert_eq!((leader.pgid, leader.sid), (leader.pid, leader.pid));
    let table = process::ProcessTable::read();
    let in_group = |s: &&process::Seen| s.identity.pgid == leader.pgid;
    assert_eq!(table.iter().filter(in_group).count(), 1);
    let report = stop(&server, &LONG).await;
    assert_eq!(report.exit.unwrap().to_string(), "signal 15 (SIGTERM)");
}

#[tokio::test]
async fn term_ignored_the_group_is_killed_after_the_grace() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = sh(dir.path(), IGNORES_TERM);
    says(&server, "ready").await;
    let report = stop(&server, &SHORT).await;
    assert!(report.killed);
    assert_eq!(report.exit.unwrap().to_string(), "signal 9 (SIGKILL)");
    assert!(report.took >= SHORT.grace);
}

#[tokio::test]
async fn a_second_request_passes_over_the_grace() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = sh(dir.path(), IGNORES_TERM);
    says(&server, "ready").await;
    let hurry = CancellationToken::new();
    let (report, ()) = tokio::join!(server.stop(&LONG, &hurry), async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        hurry.cancel();
    });
    assert!(report.killed);
    assert_nothing_left(&server);
}

#[tokio::test]
async fn a_stopped_process_gets_its_term() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = sh(dir.path(), "echo ready; exec sleep 1000");
    says(&server, "ready").await;
    kill(Pid::from_raw(server.leader().pid), Signal::SIGSTOP).unwrap();
    let report = stop(&server, &LONG).await;
    assert!(!report.killed);
}

#[tokio::test]
async fn a_worker_that_outlives_its_leader_in_the_group_is_stopped() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = sh(
        dir.path(),
        &format!("({IGNORES_TERM}) & echo worker $!; exec sleep 1000"),
    );
    let worker = told_pid(&server, "worker").await;
    says(&server, "ready").await;
    kill(Pid::from_raw(server.leader().pid), Signal::SIGKILL).unwrap();
    // The worker holds the pipes: the leader's end is noticed all the same.
    assert_eq!(server.leader_exited().await.to_string(), "signal 9 (SIGKILL)");
    assert!(runs(&worker));
    assert!(
        server
            .processes()
            .contains(&process::identity(worker.pid).unwrap())
    );
    let report = stop(&server, &SHORT).await;
    assert!(report.killed);
    assert_eq!(report.swept, []);
}

#[tokio::test]
async fn the_leaders_end_comes_with_its_last_words_while_a_child_holds_the_pipe() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = sh(dir.path(), "sleep 1000 & echo boom >&2; printf 'cut off'; exit 7");
    assert_eq!(server.leader_exited().await, LeaderExit::Code(7));
    let tail = server.tail();
    assert!(
        tail.contains(&"boom".into()) && tail.contains(&"cut off".into()),
        "{tail:?}"
    );
    assert_eq!(server.processes().len(), 1);
    let report = stop(&server, &LONG).await;
    assert_eq!((report.exit, report.killed), (Some(LeaderExit::Code(7)), false));
}

#[tokio::test]
async fn a_child_in_its_own_session_is_swept() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = sh(
        dir.path(),
        &format!("setsid sh -c \"echo child \\$\\$; {IGNORES_TERM}\" & exec sleep 1000"),
    );
    let child = told_pid(&server, "child").await;
    assert_ne!(child.pgid, server.leader().pgid);
    let report = stop(&server, &LONG).await;
    assert!(
        report.killed && report.swept.iter().any(|s| s.pid == child.pid),
        "{report:?}"
    );
}

/// Forks twice into a session of its own, with an environment that tells nothing, and ignores TERM.
const DAEMON: &str = r#"
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(1, b"daemon %d\n" % os.getpid())  # whole: others write to the same pipe meanwhile, and `print` writes in bits
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2): os.dup2(null, fd)
        os.execve("/bin/sh", ["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"], {})
    os._exit(0)
os.wait()
"#;

#[tokio::test]
async fn a_daemon_without_token_group_or_parent_is_swept() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = python(
        dir.path(),
        &format!("{DAEMON}\nos.execvp('sleep', ['sleep', '1000'])"),
    );
    let daemon = told_pid(&server, "daemon").await;
    until("the daemon's exec", || {
        (process::identity(daemon.pid)?.name == "sh").then_some(())
    })
    .await;
    let report = stop(&server, &LONG).await;
    assert!(report.swept.iter().any(|s| s.pid == daemon.pid), "{report:?}");
}

#[tokio::test]
async fn beside_another_server_only_ones_own_is_stopped() {
    alone!();
    let (one_dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let other = python(
        other_dir.path(),
        &format!("{DAEMON}\nos.execvp('sleep', ['sleep', '1000'])"),
    );
    let daemon = told_pid(&other, "daemon").await;
    let one = sh(one_dir.path(), IGNORES_TERM);
    says(&one, "ready").await;
    stop(&one, &SHORT).await;
    assert!(runs(other.leader()) && runs(&daemon));
    assert_eq!(other.exit(), None);
    stop(&other, &SHORT).await;
    assert!(!runs(&daemon));
}

#[tokio::test]
async fn a_server_that_restarts_what_is_killed_ends_as_well() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    // The keeper is in its own session, and starts two workers for each that ends.
    let keeper = r#"
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
workers = [subprocess.Popen(["sleep", "1000"], start_new_session=True) for _ in range(3)]
print("keeper", os.getpid(), flush=True)
while True:
    os.wait()
    workers += [subprocess.Popen(["sleep", "1000"], start_new_session=True) for _ in range(2)]
"#;
    let server = python(
        dir.path(),
        &format!(
            "import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {keeper:?}], start_new_session=True).wait()"
        ),
    );
    let keeper = told_pid(&server, "keeper").await;
    let report = stop(&server, &SHORT).await;
    assert!(!runs(&keeper) && report.swept.len() >= 4, "{report:?}");
}

#[tokio::test]
async fn a_server_that_ended_before_its_stop_needs_no_signal() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = sh(dir.path(), "echo boom; exit 3");
    assert_eq!(server.leader_exited().await, LeaderExit::Code(3));
    let report = stop(&server, &LONG).await;
    assert_eq!((report.exit, report.killed), (Some(LeaderExit::Code(3)), false));
    assert_eq!(report.found, []);
}

/// A server whose main thread is gone while another one works on, deaf to TERM where `deaf`; the thread ends once
/// the file named `go` is there. `/proc` calls such a process a zombie.
fn headless(go: &Path, deaf: bool) -> String {
    let ignore = if deaf {
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    } else {
        ""
    };
    format!(
        r#"
import ctypes, os, signal, threading, time
{ignore}
def work():
    while open(f"/proc/{{os.getpid()}}/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.005)
    print("headless", flush=True)
    while not os.path.exists({go:?}):
        time.sleep(0.005)
    os._exit(11)
threading.Thread(target=work).start()
ctypes.CDLL(None).syscall(60, 0)  # exit(2): the calling thread alone, no clean-up of Python's
"#
    )
}

#[tokio::test]
async fn a_server_that_lost_its_main_thread_is_told_to_end_like_any_other() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = python(dir.path(), &headless(&dir.path().join("go"), false));
    says(&server, "headless").await;
    assert_eq!(server.exit(), None);
    assert_eq!(server.processes().len(), 1, "it runs");
    let carriers = process::carriers(&process::ProcessTable::read(), server.token());
    assert_eq!(carriers.len(), 1, "its token is seen in the thread that is left");
    let report = stop(&server, &LONG).await;
    assert_eq!(report.exit.unwrap().to_string(), "signal 15 (SIGTERM)");
    assert!(!report.killed);
}

#[tokio::test]
async fn a_stop_waits_for_the_threads_of_a_leader_that_looks_ended() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let server = python(dir.path(), &headless(&go, true));
    says(&server, "headless").await;
    let hurry = CancellationToken::new();
    let (report, ()) = tokio::join!(server.stop(&LONG, &hurry), async {
        // Time to go wrong in; what is right does not depend on it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(runs(server.leader()), "a thread works on");
        std::fs::write(&go, "").unwrap();
    });
    assert_eq!((report.exit, report.killed), (Some(LeaderExit::Code(11)), false));
    assert!(report.took >= Duration::from_millis(300));
    assert_nothing_left(&server);

    // With nobody to end the thread, KILL does after the grace.
    let deaf = python(dir.path(), &headless(&dir.path().join("never"), true));
    says(&deaf, "headless").await;
    let report = stop(&deaf, &SHORT).await;
    assert!(report.killed);
    assert_eq!(report.exit.unwrap().to_string(), "signal 9 (SIGKILL)");
}

#[tokio::test]
async fn dropped_without_a_stop_nothing_stays() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = sh(
        dir.path(),
        &format!("setsid sh -c \"echo child \\$\\$; {IGNORES_TERM}\" & exec sleep 1000"),
    );
    let child = told_pid(&server, "child").await;
    let leader = server.leader().clone();
    drop(server);
    until("their end", || (!runs(&leader) && !runs(&child)).then_some(())).await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why_and_leaves_nothing() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let error = ServerProcess::spawn(spec(dir.path(), "/nowhere/python", &[])).unwrap_err();
    assert!(
        error.to_string().contains("cannot run `/nowhere/python`"),
        "{error}"
    );
    assert!(error.to_string().contains("hint:"), "{error}");

    let script = dir.path().join("script");
    std::fs::write(&script, "#!/nowhere/python\n").unwrap();
    let error = ServerProcess::spawn(spec(dir.path(), script.to_str().unwrap(), &[])).unwrap_err();
    assert!(error.to_string().contains("executable"), "{error}");

    let mut elsewhere = spec(dir.path(), "true", &[]);
    elsewhere.cwd = Some("/nowhere".into());
    assert!(matches!(ServerProcess::spawn(elsewhere), Err(SpawnError::Cwd(_))));

    let mut unlogged = spec(dir.path(), "true", &[]);
    unlogged.log.path = PathBuf::from("/proc/nowhere/server.log");
    assert!(matches!(
        ServerProcess::spawn(unlogged),
        Err(SpawnError::Log { .. })
    ));
}

#[tokio::test]
async fn a_flood_of_any_bytes_never_stops_the_server() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = python(
        dir.path(),
        r#"
import os, sys
for i in range(100): os.write(2, b"\r%d%%" % i)
os.write(2, b"\n")
os.write(1, b"\xff\xfe\x80 not text\n")
for _ in range(64): os.write(1, b"x" * 65536)      # one line of 4 MiB
os.write(1, b"\n")
for i in range(20000): os.write(1, b"line %d\n" % i)
os.write(1, b"last words")
"#,
    );
    assert_eq!(server.leader_exited().await, LeaderExit::Code(0));
    until("the last words", || {
        server.tail().iter().any(|l| l == "last words").then_some(())
    })
    .await;
    stop(&server, &LONG).await;
    let log = log_of(dir.path());
    assert!(log.contains("\u{fffd}\u{fffd}\u{fffd} not text"));
    assert!(log.contains(" out + xxxx"));
    let bars = log.lines().filter(|l| l.ends_with('%')).count();
    assert!((2..20).contains(&bars), "{bars} of 100 states of the bar");
    assert!(log.contains(" 99%\n"));
    let sizes: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|f| f.unwrap().metadata().unwrap().len())
        .sum();
    assert!(sizes < (1 << 20) + 300_000, "{sizes} bytes for a limit of 1 MiB");
    let newest = std::fs::read_to_string(dir.path().join("server.newest.log")).unwrap();
    assert!(
        newest.contains(" out | last words\n"),
        "{}",
        server.log_state().lost_lines
    );
    assert_eq!(server.log_state().lost_lines, 0);
}

#[tokio::test]
async fn a_full_disk_costs_the_log_and_not_the_server() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let mut spec = spec(
        dir.path(),
        "python3",
        &["-c", "for i in range(200000): print('line', i)"],
    );
    spec.log.path = "/dev/full".into();
    let server = ServerProcess::spawn(spec).unwrap();
    assert_eq!(server.leader_exited().await, LeaderExit::Code(0));
    assert!(server.tail().contains(&"line 199999".into()));
    stop(&server, &LONG).await;
    let state = server.log_state();
    assert_eq!((state.lines, state.lost_lines), (200_001, 200_001));
    assert!(state.error.is_some_and(|e| e.contains("No space left")));
}

/// A process that has nothing to do with any server, killed when dropped.
struct Stranger(std::process::Child);

impl Stranger {
    fn start() -> Self {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new("sleep");
        command.arg("1000").process_group(0).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn identity(&self) -> ProcessIdentity {
        process::identity(i32::try_from(self.0.id()).unwrap()).unwrap()
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_pid_that_was_given_out_again_is_never_signalled() {
    alone!();
    let stranger = Stranger::start();
    let mut earlier = stranger.identity();
    earlier.start_ticks -= 1;
    assert!(ProcessHandle::open(&earlier).unwrap().is_none());
    assert!(ProcessHandle::open(&stranger.identity()).unwrap().is_some());

    // The leader's pid, and with it its group's number, are a stranger's now.
    let witnesses = Witnesses {
        boot_id: process::boot_id(),
        token: Some(process::new_token().unwrap()),
        leader: Some(earlier.clone()),
        members: vec![earlier],
        output_pipes: vec![],
        cgroup: None,
    };
    let left = process::leftovers(&witnesses);
    assert_eq!((left.ours, left.suspects), (vec![], vec![stranger.identity()]));
    let cleared = process::clear(&witnesses, &SHORT, &CancellationToken::new()).await;
    assert_eq!(cleared.report.found, []);
    assert_eq!(cleared.suspects, [stranger.identity()]);
    assert!(runs(&stranger.identity()));
}

/// benchd, as far as its death matters here: starts a server, tells its witnesses, waits to be killed.
#[tokio::test]
#[ignore = "a helper that other tests start"]
async fn supervisor_to_be_killed() {
    let Ok(dir) = std::env::var("SUPERVISED_DIR") else {
        return;
    };
    process::become_subreaper().unwrap();
    let dir = PathBuf::from(dir);
    // A worker in the group, a child in a session of its own, and a daemon whose environment tells nothing.
    let script = format!(
        "import subprocess\n{DAEMON}\nsubprocess.Popen(['sh', '-c', \"trap '' TERM; while :; do sleep 1000; done\"])\n\
         subprocess.Popen(['sleep', '1000'], start_new_session=True)\n\
         os.execvp('sleep', ['sleep', '1000'])"
    );
    let server = python(&dir, &script);
    // All of them, each come to what it stays: leader, worker, its sleep, session child, daemon, its sleep.
    let members = until("the server's processes", || {
        let members = server.processes();
        let mut names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
        names.sort_unstable();
        (names == ["sh", "sh", "sleep", "sleep", "sleep", "sleep"]).then_some(members)
    })
    .await;
    let told = serde_json::json!({ "token": server.token(), "leader": server.leader(), "members": members,
        "pipes": server.output_pipes() });
    std::fs::write(dir.join("witnesses.tmp"), told.to_string()).unwrap();
    std::fs::rename(dir.join("witnesses.tmp"), dir.join("witnesses.json")).unwrap();
    server.leader_exited().await;
}

/// Starts that helper, kills it, and gives what its journal would know.
async fn killed_supervisor(dir: &Path) -> Witnesses {
    process::become_subreaper().unwrap();
    let mut supervisor = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "process::supervisor_to_be_killed",
            "--ignored",
            "--nocapture",
        ])
        .env("SUPERVISED_DIR", dir)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(dir.join("supervisor.err")).unwrap())
        .spawn()
        .unwrap();
    let told: serde_json::Value = until("the witnesses", || {
        if let Some(status) = supervisor.try_wait().unwrap() {
            let said = std::fs::read_to_string(dir.join("supervisor.err")).unwrap();
            panic!("the supervisor ended by itself, {status}: {said}");
        }
        serde_json::from_str(&std::fs::read_to_string(dir.join("witnesses.json")).ok()?).ok()
    })
    .await;
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    Witnesses {
        boot_id: process::boot_id(),
        token: Some(told["token"].as_str().unwrap().to_owned()),
        leader: serde_json::from_value(told["leader"].clone()).unwrap(),
        members: serde_json::from_value(told["members"].clone()).unwrap(),
        output_pipes: serde_json::from_value(told["pipes"].clone()).unwrap(),
        cgroup: None,
    }
}

#[tokio::test]
async fn what_a_killed_benchd_left_is_found_and_cleared_and_a_stranger_is_not() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let stranger = Stranger::start();
    let witnesses = killed_supervisor(dir.path()).await;
    // The leader died with benchd's death? It did not: nobody told it. Now it does, to make it harder.
    let leader = witnesses.leader.clone().unwrap();
    let left = process::leftovers(&witnesses);
    assert_eq!(left.ours.len(), witnesses.members.len(), "{left:?}");
    assert!(
        left.ours
            .iter()
            .any(|l| l.identity == process::identity(leader.pid).unwrap())
    );
    kill(Pid::from_raw(leader.pid), Signal::SIGKILL).unwrap();

    let cleared = process::clear(&witnesses, &SHORT, &CancellationToken::new()).await;
    assert_eq!(cleared.report.stuck, []);
    assert_eq!(cleared.suspects, []);
    let table = process::ProcessTable::read();
    for member in &witnesses.members {
        assert!(table.find(member).is_none(), "left: {member:?}");
    }
    assert_eq!(process::leftovers(&witnesses), process::Leftovers::default());
    assert!(runs(&stranger.identity()));
}

#[tokio::test]
async fn the_token_alone_finds_what_the_journal_did_not_come_to_know() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let all = killed_supervisor(dir.path()).await;
    // Killed between the launch and its journal entry.
    let token_only = Witnesses {
        leader: None,
        members: vec![],
        output_pipes: vec![],
        ..all.clone()
    };
    let left = process::leftovers(&token_only);
    assert!(left.ours.iter().any(|l| l.by == Membership::Token), "{left:?}");
    let cleared = process::clear(&token_only, &SHORT, &CancellationToken::new()).await;
    assert!(cleared.report.found.len() >= 4, "{cleared:?}");
    // The daemon's environment tells nothing and it hangs from nobody of the server: only the inventory knows it.
    let rest = process::clear(&all, &SHORT, &CancellationToken::new()).await;
    assert!(!rest.report.found.is_empty());
    assert_eq!(process::leftovers(&all), process::Leftovers::default());
}

#[tokio::test]
async fn who_hides_everything_but_its_output_is_found_by_the_pipe() {
    alone!();
    let dir = tempfile::tempdir().unwrap();
    let server = python(
        dir.path(),
        // It keeps standard error, as what is started by a framework does.
        &format!(
            "{}\nos.execvp('sleep', ['sleep', '1000'])",
            DAEMON.replace("(0, 1, 2)", "(0, 1)")
        ),
    );
    let daemon = told_pid(&server, "daemon").await;
    until("the daemon's exec", || {
        (process::identity(daemon.pid)?.name == "sh").then_some(())
    })
    .await;
    assert_eq!(server.output_pipes().len(), 2);
    // Killed before the first inventory: only the launch is known.
    let launch_only = Witnesses {
        boot_id: process::boot_id(),
        token: None,
        leader: Some(ProcessIdentity {
            pid: i32::MAX,
            ..server.leader().clone()
        }),
        members: vec![],
        output_pipes: server.output_pipes().to_vec(),
        cgroup: None,
    };
    let left = process::leftovers(&launch_only);
    let found = |pid| {
        left.ours
            .iter()
            .any(|l| l.identity.pid == pid && l.by == Membership::Pipe)
    };
    assert!(found(daemon.pid), "{left:?}");
    // Of an older server of the same numbers nobody could hold one.
    let mut later = launch_only.clone();
    later.leader.as_mut().unwrap().start_ticks = u64::MAX;
    assert_eq!(process::leftovers(&later), process::Leftovers::default());
    let other_pipes = Witnesses {
        output_pipes: vec![1],
        ..launch_only
    };
    assert_eq!(process::leftovers(&other_pipes), process::Leftovers::default());
    stop(&server, &SHORT).await;
}

#[tokio::test]
async fn after_a_reboot_nothing_is_ours() {
    alone!();
    let stranger = Stranger::start();
    let witnesses = Witnesses {
        boot_id: Some("00000000-0000-0000-0000-000000000000".into()),
        leader: Some(stranger.identity()),
        members: vec![stranger.identity()],
        ..Witnesses::default()
    };
    assert_eq!(process::leftovers(&witnesses), process::Leftovers::default());
    process::clear(&witnesses, &SHORT, &CancellationToken::new()).await;
    assert!(runs(&stranger.identity()));
}

/// A delegated cgroup v2 directory, where this machine lets the test have one.
fn delegated() -> Option<tempfile::TempDir> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .filter(|root| Path::new(root).join("cgroup.procs").exists())
        .find_map(|root| {
            tempfile::Builder::new()
                .prefix("benchd-test-")
                .tempdir_in(root)
                .ok()
        })
}

#[tokio::test]
async fn a_cgroup_holds_what_escapes_everything_else() {
    alone!();
    let Some(parent) = delegated() else {
        eprintln!("skipped: no cgroup v2 directory to write to");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    process::become_subreaper().unwrap();
    let script = format!("{DAEMON}\nos.execvp('sleep', ['sleep', '1000'])");
    let mut spec = spec(dir.path(), "python3", &["-u", "-c", &script]);
    let cgroup = Cgroup::create(parent.path(), &spec.token).unwrap();
    let cgroup_dir = Cgroup::dir_of(parent.path(), &spec.token);
    assert_eq!(cgroup.dir(), cgroup_dir);
    spec.cgroup = Some(cgroup);
    let server = ServerProcess::spawn(spec).unwrap();
    let daemon = told_pid(&server, "daemon").await;
    let inside = server.cgroup().unwrap().pids();
    assert!(
        inside.contains(&daemon.pid) && inside.contains(&server.leader().pid),
        "{inside:?}"
    );
    // A later benchd finds it by the cgroup alone.
    let left = process::leftovers(&Witnesses {
        cgroup: Some(cgroup_dir.clone()),
        ..Witnesses::default()
    });
    assert!(
        left.ours
            .iter()
            .any(|l| l.identity.pid == daemon.pid && l.by == Membership::Cgroup)
    );
    stop(&server, &SHORT).await;
    assert_eq!(server.cgroup().unwrap().pids(), Vec::<i32>::new());
    drop(server);
    assert!(!cgroup_dir.exists());
    std::fs::remove_dir(parent.keep()).unwrap();
}
