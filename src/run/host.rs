//! The machine, as `run.json` tells it.

use benchd_host::process;
use benchd_journal::HostInfo;

/// Reads what is known of this machine. What can't be read is left empty.
pub(crate) fn host_info() -> HostInfo {
    let system = sysinfo::System::new().ok().map(|mut system| {
        system.refresh_memory();
        system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
        system
    });
    HostInfo {
        hostname: sysinfo::System::host_name().unwrap_or_default(),
        os: sysinfo::System::long_os_version().unwrap_or_default(),
        kernel: sysinfo::System::kernel_version().unwrap_or_default(),
        boot_id: boot_id(),
        cpu: system
            .as_ref()
            .and_then(|system| system.cpus().first())
            .map(|cpu| cpu.brand().to_owned())
            .unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: system.map_or(0, |system| system.total_memory()),
    }
}

/// The kernel's boot id; empty where there is none to read.
pub(crate) fn boot_id() -> String {
    process::boot_id().unwrap_or_default()
}
