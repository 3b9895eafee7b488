//! Faults of the process as a whole: how it dies, what children it leaves, what it writes to stdout.
//!
//! Children are this program again (`benchd sim --as-child ROLE`), never a bare fork: they start clean, whatever
//! threads the parent has. A child's name in `ps` tells its role.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::SignalFd;

use super::SimError;
use super::args::Args;
use super::clock::{monotonic_ns, timespec};
use super::faults::{Crash, Flood, Hold, Kind};
use super::gpu_hook;

/// Lines as a server writes them while it starts.
pub(super) fn log_start(model: &str) {
    tell(&format!("INFO [sim] loading weights of {model}"));
    tell("INFO [sim] memory profiling done, capturing graphs");
}

/// A line on stderr. A log that nobody reads any more is no reason to stop.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Dies, or stops until somebody continues it, if that is the fault.
pub(super) fn die_if(kind: &Kind) {
    match kind {
        Kind::Exit(code) => {
            tell("Traceback (most recent call last):");
            tell("  File \"engine.py\", line 1, in <module>");
            tell("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.");
            std::process::exit(*code);
        }
        Kind::Freeze => {
            tell("INFO [sim] stopping itself as told");
            let _ = raise(Signal::SIGSTOP);
        }
        Kind::Crash(how) => {
            tell("*** the simulated server crashes as told");
            let signal = match how {
                Crash::Segv => Signal::SIGSEGV,
                Crash::Abort => Signal::SIGABRT,
                Crash::Kill => Signal::SIGKILL,
            };
            // The first SIGSEGV only takes the runtime's own handler away.
            for _ in 0..3 {
                let _ = raise(signal);
            }
            std::process::abort();
        }
        _ => {}
    }
}

/// Waits for TERM or INT until `until_ns`; whether one came. A process that ignores TERM goes on after it.
pub(super) fn term_before(signals: &SignalFd, until_ns: u64, ignores_term: bool) -> Result<bool, SimError> {
    use std::os::fd::AsFd as _;
    loop {
        let left = until_ns.saturating_sub(monotonic_ns());
        if left == 0 {
            return Ok(false);
        }
        let timeout = (until_ns != u64::MAX).then(|| timespec(left));
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match ppoll(&mut fds, timeout, None) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
            Ok(_) => {}
            Err(e) => return Err(SimError::Wait(e)),
        }
        if signals.read_signal().map_err(SimError::Wait)?.is_some() {
            if !ignores_term {
                return Ok(true);
            }
            tell("INFO [sim] ignoring TERM as told");
        }
    }
}

/// A command that runs this program again as `role`.
fn child(role: &str) -> Result<Command, SimError> {
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
pub(super) fn spawn_children<'a>(kinds: impl Iterator<Item = &'a Kind>) -> Result<(), SimError> {
    for kind in kinds {
        let (role, hold) = match kind {
            Kind::Child(hold) => ("hold", hold),
            Kind::ChildSession(hold) => ("session", hold),
            Kind::ChildDaemon(hold) => ("daemon", hold),
            Kind::ChildHidden(hold) => ("hidden", hold),
            Kind::Respawn(hold) => ("respawn", hold),
            _ => continue,
        };
        let mut started = child(&format!("{role}:{}", hold_word(*hold)))?
            .stdout(Stdio::piped())
            .spawn()?;
        // It says one word when it is what it should be, so that whoever sees this server ready sees the child too.
        if let Some(mut out) = started.stdout.take() {
            let mut word = [0; 16];
            let _ = std::io::Read::read(&mut out, &mut word)?;
        }
        if role == "daemon" {
            // Its first half ends at once.
            started.wait()?;
        }
    }
    Ok(())
}

/// Starts this server again in a session of its own, without the fault that made it.
pub(super) fn spawn_listener(args: &Args) -> Result<(), SimError> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sim", "--as-child", "listen"]);
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
    debug_assert!(args.as_child.is_none(), "a child starts no listener");
    command.stdin(Stdio::null()).spawn()?;
    Ok(())
}

/// Starts the helper that removes the file of the fake GPU later. It belongs to nobody's run any more: own session,
/// no output, and without the token by which a run knows its processes.
pub(super) fn spawn_release(path: &Path, delay: Duration) -> Result<(), SimError> {
    let mut command = child("release")?;
    command
        .env("BENCHD_SIM_RELEASE", path)
        .env("BENCHD_SIM_RELEASE_MS", delay.as_millis().to_string())
        .env_remove("BENCHD_TOKEN")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn()?;
    Ok(())
}

/// Runs as a child.
pub(super) fn run_child(role: &str, args: &Args) -> Result<(), SimError> {
    let (role, hold) = role.split_once(':').unwrap_or((role, "polite"));
    let stubborn = hold == "stubborn";
    // The server blocks TERM to wait for it, and a child inherits that.
    SigSet::all().thread_unblock().map_err(SimError::Wait)?;
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
        "worker" => wait_for_good(stubborn),
        "listen" => {
            own_session()?;
            let mut args = args.clone();
            args.as_child = None;
            args.faults.retain(|f| f != "child-listens");
            super::run(&args)
        }
        "release" => {
            own_session()?;
            let (Some(path), Ok(ms)) = (
                std::env::var_os("BENCHD_SIM_RELEASE"),
                std::env::var("BENCHD_SIM_RELEASE_MS").map(|ms| ms.parse().unwrap_or(0)),
            ) else {
                return Err(SimError::NoGpuState);
            };
            std::thread::sleep(Duration::from_millis(ms));
            gpu_hook::remove(Path::new(&path))
        }
        other => Err(SimError::Arguments(format!("unknown role `{other}`"))),
    }
}

fn own_session() -> Result<(), SimError> {
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

/// Starts a thread that floods stdout, if that is among the faults.
pub(super) fn flood<'a>(kinds: impl Iterator<Item = &'a Kind>) -> Result<(), SimError> {
    for kind in kinds {
        if let Kind::Flood(what, bytes) = *kind {
            std::thread::Builder::new()
                .name("sim-flood".to_owned())
                .spawn(move || flood_with(what, bytes))?;
        }
    }
    Ok(())
}

fn flood_with(what: Flood, bytes: u64) {
    let block = match what {
        Flood::Lines => {
            b"INFO 01-01 00:00:00 [loggers.py:123] Engine 000: Avg prompt throughput: 0.0 tokens/s\n"
                .repeat(64)
        }
        Flood::Endless => b"0123456789abcdef".repeat(256),
        Flood::Progress => {
            "\rLoading safetensors checkpoint shards:  50% ████▌     | 2/4 [00:01<00:01,  1.50it/s]"
                .repeat(64)
                .into_bytes()
        }
        Flood::Binary => b"\xff\xfe\x00\x80 not \xc3\x28 text\n\xed\xa0\x80".repeat(64),
    };
    // `Stdout` would look for line ends and buffer; a file of its own does not.
    let Ok(out) = nix::unistd::dup(std::io::stdout()) else {
        return;
    };
    let mut out = std::fs::File::from(out);
    let mut left = bytes;
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        // Nobody reads any more: enough.
        if out.write_all(&block[..n]).is_err() {
            return;
        }
        left -= n as u64;
    }
}
