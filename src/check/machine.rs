//! The host: memory, CPUs, limits, clock. Read once, judged by plain functions.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use nix::sys::resource::{Resource, getrlimit};

use super::finding::{Area, Finding, size};

/// Host memory that a server on a GPU wants free, bytes: Python, CUDA's host side, weights on their way.
const SERVER_HOST_BYTES: u64 = 8 << 30;

/// Swap in use beyond this is worth a warning, bytes: what was swapped out comes back while something is measured.
const SWAP_IN_USE_BYTES: u64 = 1 << 30;

/// Shared memory that servers over several GPUs want, bytes; containers give 64 MiB.
const SHARED_MEMORY_BYTES: u64 = 1 << 30;

/// Descriptors that benchd and a server use beside one a stream.
const OTHER_DESCRIPTORS: u64 = 256;

/// Share of the CPUs above which others' work is worth a warning.
const BUSY_SHARE: f64 = 0.15;

/// How long the CPUs are watched.
const WATCH: Duration = Duration::from_millis(300);

const NAMED: usize = 3;

/// Clock sources that take a system call or a bus cycle for each reading.
const SLOW_CLOCKS: [&str; 2] = ["hpet", "acpi_pm"];

/// What is known of the host. What can't be read is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Host {
    /// Memory free for new processes, bytes.
    pub(super) available_bytes: Option<u64>,
    /// Swap in use, bytes.
    pub(super) swap_used_bytes: Option<u64>,
    /// Free in /dev/shm, bytes.
    pub(super) shared_free_bytes: Option<u64>,
    /// Soft and hard limit of open files.
    pub(super) open_files: Option<(u64, u64)>,
    pub(super) cpus: u64,
    /// Frequency governors of the CPUs, each once.
    pub(super) governors: Vec<String>,
    pub(super) clock_source: Option<String>,
    /// Whether the kernel's clock is disciplined.
    pub(super) synchronised: Option<bool>,
    /// CPUs that others use, and the busiest of them.
    pub(super) others: Option<Others>,
}

/// What other processes compute.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Others {
    /// CPUs in use on average.
    pub(super) cpus: f64,
    /// The busiest: pid, name, CPUs.
    pub(super) busiest: Vec<(i32, String, f64)>,
}

/// What the run needs of the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    pub(super) gpus: usize,
    /// Most streams at a time.
    pub(super) streams: u32,
}

/// Reads what is known; `watch` takes a moment to see who computes.
pub(super) fn read(watch: bool) -> Host {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| {
        let line = memory
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
    };
    let swap = kib("SwapTotal")
        .zip(kib("SwapFree"))
        .map(|(total, free)| total.saturating_sub(free));
    Host {
        available_bytes: kib("MemAvailable"),
        swap_used_bytes: swap,
        shared_free_bytes: rustix::fs::statvfs("/dev/shm")
            .ok()
            .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)),
        open_files: getrlimit(Resource::RLIMIT_NOFILE).ok(),
        cpus: std::thread::available_parallelism().map_or(0, |n| n.get() as u64),
        governors: governors(Path::new("/sys/devices/system/cpu")),
        clock_source: std::fs::read_to_string(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
        )
        .ok()
        .map(|name| name.trim().to_owned()),
        synchronised: is_synchronised(),
        others: watch.then(others).flatten(),
    }
}

fn governors(cpus: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(cpus) else {
        return Vec::new();
    };
    let mut all: Vec<String> = entries
        .flatten()
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("cpufreq/scaling_governor")).ok())
        .map(|name| name.trim().to_owned())
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Whether the kernel knows that its clock follows a better one.
fn is_synchronised() -> Option<bool> {
    // SAFETY: all-zero bytes are a valid timex; modes 0 only reads.
    #[expect(unsafe_code, reason = "a plain C struct of numbers")]
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: a live, writable timex.
    #[expect(unsafe_code, reason = "adjtimex has no safe wrapper")]
    let result = unsafe { libc::adjtimex(&raw mut state) };
    (result >= 0).then_some(state.status & libc::STA_UNSYNC == 0)
}

/// CPU time of every process but this one, over a moment.
fn others() -> Option<Others> {
    let hz = procfs::ticks_per_second() as f64;
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let look = || -> Option<Vec<(i32, String, u64, u64)>> {
        Some(
            procfs::process::all_processes()
                .ok()?
                .flatten()
                .filter_map(|process| process.stat().ok())
                .filter(|stat| stat.pid != own)
                .map(|stat| (stat.pid, stat.comm, stat.starttime, stat.utime + stat.stime))
                .collect(),
        )
    };
    let started = Instant::now();
    let before = look()?;
    std::thread::sleep(WATCH);
    let after = look()?;
    let seconds = started.elapsed().as_secs_f64();
    let mut busiest: Vec<(i32, String, f64)> = after
        .into_iter()
        .filter_map(|(pid, name, start, ticks)| {
            let earlier = before.iter().find(|(p, _, s, _)| *p == pid && *s == start)?;
            let used = ticks.saturating_sub(earlier.3) as f64 / hz / seconds;
            (used > 0.0).then_some((pid, name, used))
        })
        .collect();
    busiest.sort_by(|a, b| b.2.total_cmp(&a.2));
    let cpus = busiest.iter().fold(0.0, |sum, (.., used)| sum + used);
    busiest.truncate(NAMED);
    Some(Others { cpus, busiest })
}

/// What of the host stands in the run's way.
pub(super) fn judge(host: &Host, needs: Needs) -> Vec<Finding> {
    let mut findings = memory(host, needs);
    findings.extend(limits(host, needs));
    findings.extend(cpus(host));
    findings.extend(clock(host));
    findings
}

fn memory(host: &Host, needs: Needs) -> Vec<Finding> {
    let mut findings = Vec::new();
    match host.available_bytes {
        Some(free) if needs.gpus > 0 && free < SERVER_HOST_BYTES => findings.push(Finding::warn(
            Area::Memory,
            format!(
                "{} of the host's memory are free; a server on a GPU wants about {}",
                size(free),
                size(SERVER_HOST_BYTES)
            ),
            "end what uses the memory (ps aux --sort -rss | head)",
        )),
        Some(free) => findings.push(Finding::ok(
            Area::Memory,
            format!("{} of the host's memory are free", size(free)),
        )),
        None => {}
    }
    if let Some(used) = host.swap_used_bytes.filter(|&used| used > SWAP_IN_USE_BYTES) {
        findings.push(Finding::warn(
            Area::Memory,
            format!(
                "{} are swapped out: reading them back disturbs what is measured",
                size(used)
            ),
            "end what is not needed, then: sudo swapoff -a",
        ));
    }
    if let Some(free) = host
        .shared_free_bytes
        .filter(|&free| needs.gpus > 1 && free < SHARED_MEMORY_BYTES)
    {
        findings.push(Finding::lose(
            Area::Memory,
            format!(
                "/dev/shm has {} free; servers over several GPUs talk through it and want {}",
                size(free),
                size(SHARED_MEMORY_BYTES)
            ),
            "in a container: --ipc=host or --shm-size=8g; else: sudo mount -o remount,size=8G /dev/shm",
        ));
    }
    findings
}

fn limits(host: &Host, needs: Needs) -> Option<Finding> {
    let (soft, hard) = host.open_files?;
    let needed = u64::from(needs.streams) + OTHER_DESCRIPTORS;
    if hard < needed {
        return Some(Finding::lose(
            Area::Limits,
            format!(
                "{hard} open files at most, {} streams need about {needed}",
                needs.streams
            ),
            format!("ulimit -Hn {needed} (as root), or LimitNOFILE={needed} in the unit"),
        ));
    }
    Some(Finding::ok(
        Area::Limits,
        format!(
            "{soft} open files, {hard} at most; {} streams need about {needed}",
            needs.streams
        ),
    ))
}

fn cpus(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    let slow: Vec<&String> = host
        .governors
        .iter()
        .filter(|governor| *governor != "performance")
        .collect();
    if !slow.is_empty() {
        let names: Vec<&str> = slow.iter().map(|name| name.as_str()).collect();
        findings.push(Finding::warn(
            Area::Cpu,
            format!(
                "CPUs are governed by {}: the client wakes up late, and servers' host side is slower",
                names.join(", ")
            ),
            "for the night: sudo cpupower frequency-set -g performance",
        ));
    }
    if let Some(others) = &host.others {
        let busy = host.cpus as f64 * BUSY_SHARE;
        if others.cpus > busy {
            let names: Vec<String> = others
                .busiest
                .iter()
                .map(|(pid, name, used)| format!("pid {pid} ({name}) {used:.1}"))
                .collect();
            findings.push(Finding::warn(
                Area::Cpu,
                format!(
                    "others use {:.1} of {} CPUs: {}",
                    others.cpus,
                    host.cpus,
                    names.join(", ")
                ),
                "end them, or move them to another time: client and servers need the CPUs",
            ));
        } else {
            findings.push(Finding::ok(
                Area::Cpu,
                format!("{} CPUs, {:.1} in use by others", host.cpus, others.cpus),
            ));
        }
    }
    findings
}

fn clock(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(source) = host
        .clock_source
        .as_deref()
        .filter(|source| SLOW_CLOCKS.contains(source))
    {
        findings.push(Finding::warn(
            Area::Clock,
            format!("the kernel reads its time from `{source}`, which is slow: every time stamp costs microseconds"),
            "boot with clocksource=tsc, where the processor's TSC is stable (dmesg | grep -i tsc)",
        ));
    }
    match host.synchronised {
        Some(false) => findings.push(Finding::warn(
            Area::Clock,
            "system clock is not synchronised (NTP); durations are unaffected",
            "timedatectl set-ntp true, or start chronyd",
        )),
        Some(true) => findings.push(Finding::ok(Area::Clock, "the clock is synchronised")),
        None => {}
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;

    const GIB: u64 = 1 << 30;

    fn fit() -> Host {
        Host {
            available_bytes: Some(200 * GIB),
            swap_used_bytes: Some(0),
            shared_free_bytes: Some(64 * GIB),
            open_files: Some((1024, 524_288)),
            cpus: 32,
            governors: vec!["performance".to_owned()],
            clock_source: Some("tsc".to_owned()),
            synchronised: Some(true),
            others: Some(Others::default()),
        }
    }

    const NEEDS: Needs = Needs { gpus: 2, streams: 64 };

    fn only(change: impl Fn(&mut Host)) -> (Severity, String) {
        let mut host = fit();
        change(&mut host);
        let mut bad: Vec<Finding> = judge(&host, NEEDS)
            .into_iter()
            .filter(|f| f.severity != Severity::Ok)
            .collect();
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert!(bad[0].remedy.is_some());
        let only = bad.remove(0);
        (only.severity, only.text)
    }

    #[test]
    fn a_fit_host_has_nothing_to_complain_of() {
        let findings = judge(&fit(), NEEDS);
        assert!(
            findings.iter().all(|f| f.severity == Severity::Ok),
            "{findings:?}"
        );
        assert_eq!(
            judge(&Host::default(), NEEDS),
            [],
            "what can't be read is not complained of"
        );
    }

    #[test]
    fn each_fault_of_the_host_is_found() {
        let (severity, text) = only(|h| h.available_bytes = Some(3 * GIB));
        assert!(
            severity == Severity::Warn && text.starts_with("3.0 GiB"),
            "{text}"
        );
        let (_, text) = only(|h| h.swap_used_bytes = Some(5 * GIB));
        assert!(text.contains("swapped out"), "{text}");
        let (severity, text) = only(|h| h.shared_free_bytes = Some(64 << 20));
        assert!(
            severity == Severity::Lose && text.contains("/dev/shm has 64 MiB"),
            "{text}"
        );
        let (severity, text) = only(|h| h.open_files = Some((64, 128)));
        assert!(
            severity == Severity::Lose && text.contains("128 open files at most"),
            "{text}"
        );
        let (_, text) = only(|h| h.governors = vec!["powersave".to_owned()]);
        assert!(text.contains("powersave"), "{text}");
        let (_, text) = only(|h| h.clock_source = Some("hpet".to_owned()));
        assert!(text.contains("hpet"), "{text}");
        let (_, text) = only(|h| h.synchronised = Some(false));
        assert!(text.contains("not synchronised"), "{text}");
        let (_, text) = only(|h| {
            h.others = Some(Others {
                cpus: 9.3,
                busiest: vec![(7, "cargo".to_owned(), 8.0)],
            });
        });
        assert!(text.contains("9.3 of 32 CPUs: pid 7 (cargo) 8.0"), "{text}");
    }

    #[test]
    fn this_machine_is_read() {
        let host = read(false);
        assert!(host.available_bytes.is_some() && host.open_files.is_some() && host.cpus > 0);
    }

    #[test]
    fn somebody_who_computes_is_seen() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        // On a machine that is busy throughout the child may get no turn within one watch.
        let seen = (0..50).any(|_| {
            let others = others().unwrap();
            others.cpus > 0.0 && others.busiest.iter().any(|(found, ..)| *found == pid)
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(seen);
    }
}
