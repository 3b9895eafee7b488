//! Signals that can't reach a stranger, and reaping that can't steal from tokio.

use std::os::fd::OwnedFd;

use nix::{
    errno::Errno,
    sys::{
        signal::Signal,
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use tokio::io::unix::AsyncFd;

use super::{
    exit::LeaderExit,
    table::{self, ProcessTable},
};
use benchd_core::record::ProcessIdentity;

/// Makes benchd the parent of whatever its servers leave behind, so that nothing escapes to init unseen.
///
/// # Errors
/// The kernel's (before Linux 3.4).
pub fn become_subreaper() -> std::io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// A process held by a pidfd: signals reach this process or nobody.
#[derive(Debug)]
pub struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// Takes hold of the process with this identity; `None` where it is no more, or its pid is another's now.
    ///
    /// # Errors
    /// The kernel's: no file descriptors left, or no pidfds (before Linux 5.3).
    pub fn open(identity: &ProcessIdentity) -> std::io::Result<Option<Self>> {
        let Some(pid) = rustix::process::Pid::from_raw(identity.pid) else {
            return Ok(None);
        };
        let fd = match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::NONBLOCK) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        // Checked after the open: if the process with these start ticks is there now, it was there when the
        // pidfd was taken, so the pidfd is its.
        let now = table::identity(identity.pid);
        Ok(now
            .filter(|n| n.start_ticks == identity.start_ticks)
            .map(|_| Self(fd)))
    }

    /// Sends a signal. `false` where the process is no more.
    ///
    /// # Errors
    /// The kernel's: no permission.
    fn signal(&self, signal: Signal) -> std::io::Result<bool> {
        let signal = rustix::process::Signal::from_named_raw(signal as i32)
            .ok_or_else(|| std::io::Error::other(format!("{signal} is no signal that a pidfd takes")))?;
        match rustix::process::pidfd_send_signal(&self.0, signal) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// The pidfd.
    #[cfg(test)]
    pub(super) fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// The pidfd, to be awaited: readable once the process has ended.
    ///
    /// # Errors
    /// The runtime's: no file descriptors left.
    pub(super) fn watched(self) -> std::io::Result<AsyncFd<OwnedFd>> {
        #[expect(unsafe_code, reason = "tokio's only registration that is not deprecated")]
        // SAFETY: the descriptor is owned by the AsyncFd and never replaced or closed while registered.
        unsafe {
            Ok(AsyncFd::register(self.0)?)
        }
    }
}

/// Signals one process, if it is still the same. Errors are told: a process that can't be signalled shows up
/// as one that won't die.
pub(super) fn signal_process(identity: &ProcessIdentity, signal: Signal) {
    let sent = ProcessHandle::open(identity).and_then(|handle| match handle {
        Some(handle) => handle.signal(signal).map(|_| ()),
        None => Ok(()),
    });
    if let Err(error) = sent {
        tracing::warn!(pid = identity.pid, name = identity.name, %signal, %error, "could not signal a process");
    }
}

/// Signals a whole group at once, so that no member can fork away in between. Only while a member whose
/// identity is known is in it, ended but unreaped ones included: so long the group's number is nobody else's.
/// `false` where there is none.
pub(super) fn signal_group(pgid: i32, vouchers: &[ProcessIdentity], signal: Signal) -> bool {
    let vouched = vouchers.iter().any(|v| {
        table::identity(v.pid).is_some_and(|now| now.start_ticks == v.start_ticks && now.pgid == pgid)
    });
    if !vouched || pgid <= 1 {
        return false;
    }
    match nix::sys::signal::killpg(Pid::from_raw(pgid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => tracing::warn!(pgid, %signal, %error, "could not signal a process group"),
    }
    true
}

/// Reaps those of `ended` that are benchd's own children. Never waits for any child at large, and the caller
/// leaves out the leaders, which are tokio's to reap.
pub(super) fn reap(ended: &[ProcessIdentity]) {
    let table = ProcessTable::read();
    let own = table::own_pid();
    for identity in ended {
        let child = table
            .find(identity)
            .is_some_and(|s| s.is_zombie() && s.ppid == own);
        if child {
            // A zombie of ours keeps its pid until this very call, so the pid can't be another's.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
            if let Err(error) = waitid(Id::Pid(Pid::from_raw(identity.pid)), flags) {
                tracing::debug!(pid = identity.pid, %error, "nothing to reap");
            }
        }
    }
}

/// How the process behind a pidfd ended, without reaping it; `None` while it runs or where it was reaped.
pub(super) fn peek_exit(fd: &OwnedFd) -> Option<LeaderExit> {
    use std::os::fd::AsFd;

    use rustix::process::{WaitId, WaitIdOptions};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let status = rustix::process::waitid(WaitId::PidFd(fd.as_fd()), options).ok()??;
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(LeaderExit::Code(code)),
        (None, Some(number)) => Some(LeaderExit::Signal {
            number,
            core: status.dumped(),
        }),
        (None, None) => None,
    }
}

/// `struct pidfd_info` of Linux 6.15, its first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup_id: u64,
    /// pid, tgid, ppid and the eight user and group ids.
    ids: [u32; 11],
    /// A wait status.
    exit_code: i32,
}

/// Asks for the status, and says that it is there.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// How the process behind a pidfd ended, once its parent has taken the status; `None` where the kernel does not keep it
/// (before Linux 6.15), and while nobody has taken it.
pub(super) fn exit_once_reaped(fd: &OwnedFd) -> Option<LeaderExit> {
    use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
    const PIDFD_GET_INFO: Opcode = opcode::read_write::<PidfdInfo>(0xFF, 11);
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        ..PidfdInfo::default()
    };
    #[expect(unsafe_code, reason = "no crate wraps this call yet")]
    // SAFETY: the kernel writes a `pidfd_info` of the size that the number of the call carries, and no more; a kernel that
    // does not know the call refuses it.
    unsafe { ioctl(fd, Updater::<PIDFD_GET_INFO, PidfdInfo>::new(&mut info)) }.ok()?;
    let status = std::os::unix::process::ExitStatusExt::from_raw(info.exit_code);
    (info.mask & PIDFD_INFO_EXIT != 0).then(|| LeaderExit::from_status(status))
}
