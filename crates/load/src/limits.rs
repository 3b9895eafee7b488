//! What the kernel allows: file descriptors for many connections, the threads' priorities and clocks.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{ClockId, clock_gettime};

use super::batch::LoadError;

/// Descriptors kept free for the rest of the process: logs, results, the server's pipes.
const SPARE_DESCRIPTORS: u64 = 128;

/// Makes sure that `connections` sockets can be open beside what is open now, raising the process's soft
/// limit where it is lower (shells give 1024). Processes started later inherit the raised limit.
///
/// # Errors
/// The hard limit is too low, or the kernel refused.
pub(super) fn make_room_for(connections: u64) -> Result<(), LoadError> {
    let open = std::fs::read_dir("/proc/self/fd")?.count() as u64;
    let needed = open + connections + SPARE_DESCRIPTORS;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(std::io::Error::from)?;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(LoadError::Descriptors {
            needed: connections,
            hard_limit: hard,
        });
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(std::io::Error::from)?;
    Ok(())
}

/// CPU time that the calling thread has used.
pub(super) fn thread_cpu_time() -> Duration {
    // The clock exists on every Linux that benchd runs on; a zero shows as a CPU time of 0 in the report.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Lets every other thread go before the calling one.
pub(super) fn yield_to_others(niceness: i32) {
    // On Linux PRIO_PROCESS with 0 is the calling thread. A refusal leaves the priority as it was: decoding
    // then competes with the load thread, whose lag is watched and reported.
    #[expect(
        unsafe_code,
        reason = "setpriority has no safe wrapper; it takes three integers and no pointer"
    )]
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, niceness) };
    if result != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "the decoder keeps its priority");
    }
}
