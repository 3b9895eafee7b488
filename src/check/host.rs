//! The machine, as `run.json` tells it.

use std::{collections::BTreeSet, path::Path};

use benchd_host::process;
use benchd_journal::HostInfo;

/// Reads what is known of this machine. What can't be read is left empty.
pub(crate) fn host_info() -> HostInfo {
    let system = sysinfo::System::new().ok().map(|mut system| {
        system.refresh_memory();
        system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
        system
    });
    let (sockets, cores) = topology(Path::new("/sys/devices/system/cpu")).unzip();
    HostInfo {
        hostname: sysinfo::System::host_name().unwrap_or_default(),
        os: sysinfo::System::long_os_version().unwrap_or_default(),
        distribution: std::fs::read_to_string("/etc/os-release")
            .ok()
            .and_then(|text| pretty_name(&text))
            .unwrap_or_default(),
        kernel: sysinfo::System::kernel_version().unwrap_or_default(),
        boot_id: boot_id(),
        cpu: system
            .as_ref()
            .and_then(|system| system.cpus().first())
            .map(|cpu| cpu.brand().to_owned())
            .unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        sockets,
        cores,
        memory_bytes: system.map_or(0, |system| system.total_memory()),
    }
}

/// The kernel's boot id; empty where there is none to read.
pub(crate) fn boot_id() -> String {
    process::boot_id().unwrap_or_default()
}

/// The distribution's own name: `PRETTY_NAME="Ubuntu 22.04.3 LTS"`.
fn pretty_name(os_release: &str) -> Option<String> {
    let value = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// Sockets and physical cores, by the kernel's own folder of its CPUs.
fn topology(cpus: &Path) -> Option<(u32, u32)> {
    let mut sockets = BTreeSet::new();
    let mut cores = BTreeSet::new();
    for entry in std::fs::read_dir(cpus).ok()?.flatten() {
        let read = |name: &str| -> Option<u32> {
            let text = std::fs::read_to_string(entry.path().join("topology").join(name)).ok()?;
            text.trim().parse().ok()
        };
        if let (Some(socket), Some(core)) = (read("physical_package_id"), read("core_id")) {
            sockets.insert(socket);
            cores.insert((socket, core));
        }
    }
    let count = |n: usize| u32::try_from(n).ok().filter(|&n| n > 0);
    count(sockets.len()).zip(count(cores.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyper_threads_share_a_core_and_sockets_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        for cpu in 0..8 {
            let folder = dir.path().join(format!("cpu{cpu}/topology"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("physical_package_id"), format!("{}\n", cpu / 4)).unwrap();
            std::fs::write(folder.join("core_id"), format!("{}\n", cpu % 2)).unwrap();
        }
        std::fs::create_dir(dir.path().join("cpufreq")).unwrap();
        assert_eq!(topology(dir.path()), Some((2, 4)));
        assert_eq!(topology(&dir.path().join("cpufreq")), None);
        assert_eq!(
            pretty_name("NAME=\"Ubuntu\"\nPRETTY_NAME=\"Ubuntu 22.04.3 LTS\"\n").as_deref(),
            Some("Ubuntu 22.04.3 LTS")
        );
    }
}
