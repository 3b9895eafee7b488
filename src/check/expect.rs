//! The host against what the plan expects of it. The GPU and its driver are held against it in the host's room.

use super::finding::{Area, Finding, size};
use benchd_host::gpu::version_fits;
use benchd_journal::{HostInfo, Toolchain};
use benchd_plan::Expect;

/// Compares; empty where all is as expected. Hardware that is another stops a run: its figures would be another
/// machine's. Software may have been updated since the plan was written: that is told.
pub(super) fn host(expected: &Expect, found: &HostInfo, toolchain: &Toolchain) -> Vec<Finding> {
    let other_machine =
        |key: &str| format!("run this plan on its own machine, or change `host.expect.{key}`");
    let mut findings = Vec::new();
    // `Intel(R) Xeon(R) Platinum 8468` is a Xeon Platinum 8468.
    let plain = |text: &str| text.to_lowercase().replace("(r)", "").replace("(tm)", "");
    let holds = |text: &str, part: &str| plain(text).contains(&plain(part));
    if let Some(cpu) = expected.cpu.as_deref().filter(|cpu| !holds(&found.cpu, cpu)) {
        findings.push(Finding::stop(
            Area::Cpu,
            format!(
                "the CPU is {}, the plan expects a name with {cpu:?}",
                known(&found.cpu)
            ),
            other_machine("cpu"),
        ));
    }
    for (key, wanted, is) in [
        ("sockets", expected.sockets, found.sockets),
        ("cores", expected.cores, found.cores),
    ] {
        if let Some(wanted) = wanted.filter(|wanted| is != Some(*wanted)) {
            let is = is.map_or_else(|| "not known".to_owned(), |n| n.to_string());
            findings.push(Finding::stop(
                Area::Cpu,
                format!("{key} of the CPU: {is}, the plan expects {wanted}"),
                other_machine(key),
            ));
        }
    }
    if let Some(gib) = expected.memory_gib.filter(|gib| found.memory_bytes < gib << 30) {
        findings.push(Finding::stop(
            Area::Memory,
            format!(
                "the host has {} of memory, the plan expects {gib} GiB at least",
                size(found.memory_bytes)
            ),
            other_machine("memory_gib"),
        ));
    }
    let os = if found.distribution.is_empty() {
        &found.os
    } else {
        &found.distribution
    };
    if let Some(wanted) = expected.os.as_deref().filter(|wanted| !holds(os, wanted)) {
        findings.push(Finding::warn(
            Area::Environment,
            format!("the system is {}, the plan expects {wanted}", known(os)),
            "change `host.expect.os` where that is meant",
        ));
    }
    if let Some(wanted) = &expected.nvcc {
        let version = toolchain.nvcc.as_ref().and_then(|nvcc| nvcc.version.as_deref());
        if !version.is_some_and(|version| version_fits(wanted, version)) {
            let is = match (&toolchain.nvcc, version) {
                (None, _) => "there is no nvcc".to_owned(),
                (Some(nvcc), version) => format!("{} is {}", nvcc.path, known(version.unwrap_or(""))),
            };
            findings.push(Finding::warn(
                Area::Toolchain,
                format!("{is}, the plan expects nvcc {wanted}"),
                "change `host.expect.nvcc` where that is meant",
            ));
        }
    }
    findings
}

fn known(text: &str) -> &str {
    if text.is_empty() { "not known" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;
    use benchd_journal::Tool;

    #[test]
    fn the_documents_machine_fits_and_each_difference_is_told() {
        let expected = Expect {
            os: Some("Ubuntu 22.04".to_owned()),
            cpu: Some("Xeon Platinum 8468".to_owned()),
            sockets: Some(2),
            cores: Some(96),
            memory_gib: Some(900),
            nvcc: Some("12.1".to_owned()),
            ..Expect::default()
        };
        let machine = HostInfo {
            distribution: "Ubuntu 22.04.3 LTS".to_owned(),
            cpu: "Intel(R) Xeon(R) Platinum 8468".to_owned(),
            sockets: Some(2),
            cores: Some(96),
            memory_bytes: 1_081_000_000_000,
            ..HostInfo::default()
        };
        let nvcc = |version: &str| Toolchain {
            nvcc: Some(Tool {
                path: "/usr/local/cuda/bin/nvcc".to_owned(),
                version: Some(version.to_owned()),
            }),
            ..Toolchain::default()
        };
        assert_eq!(host(&expected, &machine, &nvcc("12.1.66")), []);

        let other = HostInfo {
            distribution: "Debian GNU/Linux 12".to_owned(),
            cpu: "AMD EPYC 9654".to_owned(),
            sockets: Some(1),
            cores: None,
            memory_bytes: 64 << 30,
            ..HostInfo::default()
        };
        let found = host(&expected, &other, &nvcc("12.10.1"));
        let stops = found.iter().filter(|f| f.severity == Severity::Stop).count();
        assert_eq!((stops, found.len()), (4, 6), "{found:?}");
        assert!(found.iter().all(|finding| finding.remedy.is_some()));
    }
}
