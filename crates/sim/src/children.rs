//! The child processes of a fault, which outlive their parent in one way or another.
//!
//! Children are this program again (`benchd sim --as-child ROLE`), never a bare fork: they start clean, whatever
//! threads the parent has. A child's name in `ps` tells its role.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{SigSet, Signal};

use super::error::SimError;
use super::faults::{Hold, Kind};

/// The role of a child that is the server itself in a session of its own.
pub(super) const LISTENER: &str = "listen";

/// The role of a worker in which the engine is said to be.
pub(super) const ENGINE: &str = "engine";

/// A command that runs this program again as `role`.
pub(super) fn child(role: &str) -> Result<Command, SimError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sim", "--as-child", role]).stdin(Stdio::null());
    Ok(command)
}

fn hold_word(hold: Hold) -> &'static str {
    match hold {
        Hold::Polite => "polite",
        Hold::Stubborn => "stubborn",
    }
}

/// Starts the children that the faults ask for. They are waited for by nobody here.
pub(super) fn spawn<'a>(kinds: impl Iterator<Item = &'a Kind>) -> Result<(), SimError> {
    for kind in kinds {
        let (role, hold) = match kind {
            Kind::Child(hold) => ("hold", hold),
            Kind::ChildSession(hold) => ("session", hold),
            Kind::ChildDaemon(hold) => ("daemon", hold),
            Kind::ChildHidden(hold) => ("hidden", hold),
            Kind::Respawn(hold) => ("respawn", hold),
            _ => continue,
        };
        let mut started = start(&format!("{role}:{}", hold_word(*hold)))?;
        if role == "daemon" {
            // Its first half ends at once.
            started.wait()?;
        }
    }
    Ok(())
}

/// Starts a child and waits until it is what it should be, which it says by one word: whoever sees this server ready sees
/// the child too.
pub(super) fn start(role: &str) -> Result<Child, SimError> {
    let mut started = child(role)?.stdout(Stdio::piped()).spawn()?;
    if let Some(mut out) = started.stdout.take() {
        let mut word = [0; 16];
        let _ = std::io::Read::read(&mut out, &mut word)?;
    }
    Ok(started)
}

/// Starts this server again in a session of its own, without the fault that made it.
pub(super) fn spawn_listener() -> Result<(), SimError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sim", "--as-child", LISTENER]);
    // The flags as they were given, without those that the child must not repeat.
    let mut flags = std::env::args_os().skip_while(|a| a != "sim").skip(1);
    while let Some(flag) = flags.next() {
        if flag == "--fault" {
            if let Some(value) = flags.next()
                && value != "child-listens"
            {
                command.arg(flag).arg(value);
            }
        } else if flag != "--fault=child-listens" {
            command.arg(flag);
        }
    }
    command.stdin(Stdio::null()).spawn()?;
    Ok(())
}

/// Runs as the child of this role.
pub(super) fn run(role: &str) -> Result<(), SimError> {
    let (role, hold) = role.split_once(':').unwrap_or((role, "polite"));
    let stubborn = hold == "stubborn";
    match role {
        "hold" => wait_for_good(stubborn),
        "session" => {
            own_session()?;
            wait_for_good(stubborn)
        }
        "daemon" => {
            own_session()?;
            // The second half inherits stdout and says the word; this one's end makes it an orphan.
            child(&format!("hold:{hold}"))?.spawn()?;
            Ok(())
        }
        "hidden" => {
            own_session()?;
            overwrite_environment()?;
            wait_for_good(stubborn)
        }
        "respawn" => respawn(hold, stubborn),
        ENGINE => {
            nix::sys::prctl::set_name(c"sim::engine").map_err(|e| SimError::Io(e.into()))?;
            wait_for_good(stubborn)
        }
        "worker" => wait_for_good(stubborn),
        other => Err(SimError::Arguments(format!("unknown role `{other}`"))),
    }
}

/// Makes this process the leader of a session of its own.
pub(super) fn own_session() -> Result<(), SimError> {
    nix::unistd::setsid()
        .map(|_| ())
        .map_err(|e| SimError::Io(std::io::Error::from(e)))
}

/// Tells the parent that the child is what it should be. A worker that was started again finds nobody listening, and
/// lives all the same.
fn ready() {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "ready").and_then(|()| out.flush());
}

/// Waits without end; TERM ends it, or does not.
fn wait_for_good(stubborn: bool) -> Result<(), SimError> {
    if stubborn {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.add(Signal::SIGINT);
        mask.add(Signal::SIGHUP);
        mask.thread_block().map_err(SimError::Wait)?;
    }
    ready();
    loop {
        nix::unistd::pause();
    }
}

/// Keeps one worker alive, whatever ends it.
fn respawn(hold: &str, stubborn: bool) -> Result<(), SimError> {
    if stubborn {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGTERM);
        mask.thread_block().map_err(SimError::Wait)?;
    }
    loop {
        // The first worker says the word for both.
        child(&format!("worker:{hold}"))?.spawn()?.wait()?;
    }
}

/// Overwrites this process's arguments and environment in its own memory, as programs do that set their title: what
/// `/proc/PID/environ` and `cmdline` show afterwards is not what it was started with.
fn overwrite_environment() -> Result<(), SimError> {
    use std::io::{Seek as _, SeekFrom};
    let stat = procfs::process::Process::myself()
        .and_then(|p| p.stat())
        .map_err(|e| SimError::Io(std::io::Error::other(e)))?;
    let mut memory = std::fs::OpenOptions::new().write(true).open("/proc/self/mem")?;
    let ranges = [(stat.arg_start, stat.arg_end), (stat.env_start, stat.env_end)];
    for (i, (start, end)) in ranges.into_iter().enumerate() {
        let (Some(start), Some(end)) = (start, end) else {
            return Err(SimError::Io(std::io::Error::other(
                "/proc/self/stat hides the addresses",
            )));
        };
        let length = end.saturating_sub(start);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        if i == 0 {
            let title = b"sim::worker";
            let n = title.len().min(bytes.len());
            bytes[..n].copy_from_slice(&title[..n]);
        }
        memory.seek(SeekFrom::Start(start))?;
        memory.write_all(&bytes)?;
    }
    Ok(())
}
