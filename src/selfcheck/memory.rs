//! Resident memory of this process. What can't be read is `None`: a table without memory is still a table.

use procfs::process::Process;

/// Resident now, bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    Process::myself().ok()?.status().ok()?.vmrss.map(|kib| kib << 10)
}

/// Most that was resident since the last [`forget_peak`], or ever where the kernel does not forget; bytes.
pub(super) fn peak_bytes() -> Option<u64> {
    Process::myself().ok()?.status().ok()?.vmhwm.map(|kib| kib << 10)
}

/// Starts the peak anew (proc_pid_clear_refs(5), 5).
pub(super) fn forget_peak() {
    if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
        tracing::debug!(%error, "the peak of resident memory counts from the process's start");
    }
}
