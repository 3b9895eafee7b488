//! The watchdog is fed by what the run does: through all that takes long and is right, and not through a hang.

use super::*;

/// systemd's limit.
const LIMIT: Duration = Duration::from_secs(1);

/// Feeds that show that a wait longer than the limit was bridged: there are four looks in it.
const FEEDS: usize = 8;

/// What listens as systemd does.
struct Listener(UnixDatagram);

impl Listener {
    fn at(night: &Night) -> Self {
        let socket = UnixDatagram::bind(night.path("notify")).unwrap();
        Self(socket)
    }

    fn command(night: &Night) -> Command {
        let mut command = night.command();
        command
            .env("NOTIFY_SOCKET", night.path("notify"))
            .env("WATCHDOG_USEC", LIMIT.as_micros().to_string());
        command
    }

    /// The next message; `None` where none comes for so long.
    fn next(&self, patience: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        self.0.set_read_timeout(Some(patience)).unwrap();
        let n = self.0.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..n]).into_owned())
    }

    /// Takes what was said before now.
    fn forget(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.next(PATIENCE).is_some() {}
        self.0.set_nonblocking(false).unwrap();
    }

    fn await_feeds(&self, count: usize, when: &str) {
        let mut fed = 0;
        while fed < count {
            let message = self.next(PATIENCE);
            let message = message.unwrap_or_else(|| panic!("{when}: the watchdog starves after {fed} feeds"));
            fed += usize::from(message == "WATCHDOG=1\n");
        }
    }

    /// Waits until the watchdog has starved several limits long, whatever else is said.
    fn await_hunger(&self) {
        let since = Instant::now();
        let mut fed = Instant::now();
        while fed.elapsed() < LIMIT * 4 {
            assert!(
                since.elapsed() < PATIENCE,
                "it feeds and feeds, though nothing gets forward"
            );
            if self.next(LIMIT).is_some_and(|message| message == "WATCHDOG=1\n") {
                fed = Instant::now();
            }
        }
    }
}

#[test]
fn a_long_start_and_a_quiet_cell_feed_the_watchdog() {
    let night = Night::new(
        &framework("f", "while [ ! -e go ]; do sleep 0.05; done;", ""),
        400,
        "",
    );
    let systemd = Listener::at(&night);
    let child = Running(Some(Listener::command(&night).spawn().unwrap()));

    night.await_journal("server_launched");
    systemd.forget();
    systemd.await_feeds(FEEDS, "a server that takes long to start");
    assert!(!night.journal().contains("server_ready"), "{}", night.journal());
    fs::write(night.path("go"), "").unwrap();

    // A server that is stopped sends nothing at all, and its connections stay.
    night.await_journal("cell_started");
    let server = leader(&night.journal());
    kill(server, Signal::SIGSTOP).unwrap();
    let stored = || {
        let records = fs::read(night.path("results/latest/f/sim/requests.jsonl")).unwrap_or_default();
        records.len()
    };
    let mut before = usize::MAX;
    while before != stored() {
        before = stored();
        systemd.forget();
        systemd.await_feeds(FEEDS, "a cell in which nothing happens");
    }
    assert!(!night.journal().contains("cell_ended"), "{}", night.journal());
    kill(server, Signal::SIGCONT).unwrap();

    // It was alive all the time.
    await_that("no request was stored after the pause", || stored() > before);
    let benchd = Pid::from_raw(i32::try_from(child.0.as_ref().unwrap().id()).unwrap());
    kill(benchd, Signal::SIGTERM).unwrap();
    let output = child.wait();
    assert_eq!(output.status.code(), Some(143), "{}", text(&output));
    nothing_left(&night.journal());
}

#[test]
fn a_run_that_hangs_starves_the_watchdog_though_its_threads_live() {
    let two = [framework("one", "", ""), framework("two", "", "")].concat();
    let night = Night::new(&two, 60, "");
    let Some(disk) = FailingDisk::new(&night, "hang") else {
        return;
    };
    let systemd = Listener::at(&night);
    let child = long_run(&night, Listener::command(&night).envs(disk.env()));
    systemd.forget();
    systemd.await_feeds(1, "a cell that is measured");

    // A disk that does not answer: the run waits for it, and only the run.
    disk.fail();
    disk.await_stuck();
    systemd.await_hunger();
    let pid = child.0.as_ref().unwrap().id();
    let threads: Vec<String> = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|task| fs::read_to_string(task.unwrap().path().join("comm")).unwrap())
        .collect();
    assert!(threads.iter().any(|comm| comm == "systemd\n"), "{threads:?}");
    assert!(!night.path("results/latest/two").exists());

    // It answers again, and nothing is lost.
    disk.work_again();
    systemd.await_feeds(1, "the run goes on");
    let output = child.wait();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let journal = night.journal();
    assert_eq!(journal.matches("\"cell_ended\"").count(), 2, "{journal}");
    nothing_left(&journal);
}

#[test]
fn a_systemd_that_does_not_listen_holds_up_nothing() {
    let night = Night::new(&framework("f", "", ""), 60, "");
    // Takes a handful of messages; then every sender waits, or goes on without.
    let systemd = Listener::at(&night);
    let output = Listener::command(&night).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(systemd.next(PATIENCE).is_some(), "it was spoken to");
}

#[test]
fn a_notify_socket_that_is_no_file_is_spoken_to() {
    use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};
    let night = Night::new(&framework("f", "", ""), 2, "");
    let name = format!("benchd-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut command = night.command();
    let output = command.env("NOTIFY_SOCKET", format!("@{name}")).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let first = Listener(socket).next(PATIENCE);
    assert_eq!(first.as_deref(), Some("READY=1\n"));
}
