//! Faults of the process as a whole: how it dies, whether it obeys TERM, what it writes to stdout.

use std::io::Write as _;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{Signal, raise};
use nix::sys::signalfd::SignalFd;

use super::clock::{monotonic_ns, timespec};
use super::error::SimError;
use super::faults::{Crash, Flood, Kind};

/// Lines as a server writes them while it starts.
pub(super) fn log_start(model: &str) {
    tell(&format!("INFO [sim] loading weights of {model}"));
    tell("INFO [sim] memory profiling done, capturing graphs");
}

/// A line on stderr. A log that nobody reads any more is no reason to stop.
pub(super) fn tell(line: &str) {
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
