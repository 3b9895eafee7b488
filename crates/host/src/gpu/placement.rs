//! Whether a server really sits on the devices it was given.

use benchd_core::record::GpuProcess;

/// The compute processes of one device of the machine, chosen or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceProcesses {
    /// NVML index.
    pub(super) index: u32,
    /// Whether the plan chose it.
    pub(super) chosen: bool,
    /// Its compute processes; the error's words where NVML does not list them.
    pub(super) processes: Result<Vec<GpuProcess>, String>,
}

/// Where NVML shows the processes of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// On chosen devices only; their indexes, ascending.
    OnChosen(Vec<u32>),
    /// Also, or only, on devices that the plan did not choose.
    OnOthers(Vec<GpuProcess>),
    /// On none: the server does not use a GPU, or NVML shows other process ids than this system's (containers).
    NotListed {
        /// What NVML did show.
        why: String,
    },
}

/// Finds `pids` among the processes of all devices.
pub(super) fn placement(devices: &[DeviceProcesses], pids: &[i32]) -> Placement {
    let ours = |process: &&GpuProcess| i32::try_from(process.pid).is_ok_and(|pid| pids.contains(&pid));
    let mut on_chosen = Vec::new();
    let mut on_others = Vec::new();
    for device in devices {
        let Ok(processes) = &device.processes else {
            continue;
        };
        let found: Vec<GpuProcess> = processes.iter().filter(ours).cloned().collect();
        match (device.chosen, found.is_empty()) {
            (_, true) => {}
            (true, false) => on_chosen.push(device.index),
            (false, false) => on_others.extend(found),
        }
    }
    if !on_others.is_empty() {
        return Placement::OnOthers(on_others);
    }
    if !on_chosen.is_empty() {
        on_chosen.sort_unstable();
        return Placement::OnChosen(on_chosen);
    }
    let errors: Vec<String> = devices
        .iter()
        .filter_map(|device| {
            Some(format!(
                "GPU {}: {}",
                device.index,
                device.processes.as_ref().err()?
            ))
        })
        .collect();
    let others: Vec<String> = devices
        .iter()
        .filter_map(|device| device.processes.as_ref().ok())
        .flatten()
        .map(|process| process.pid.to_string())
        .collect();
    let why = match (errors.is_empty(), others.is_empty()) {
        (false, _) => format!("NVML does not list processes: {}", errors.join("; ")),
        (true, true) => "NVML lists no compute process at all".to_owned(),
        (true, false) => format!("NVML lists other processes only: {}", others.join(", ")),
    };
    Placement::NotListed { why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processes_of(device: u32, chosen: bool, pids: &[u32]) -> DeviceProcesses {
        let processes = pids
            .iter()
            .map(|pid| GpuProcess {
                pid: *pid,
                device,
                used_bytes: Some(1),
                name: None,
            })
            .collect();
        DeviceProcesses {
            index: device,
            chosen,
            processes: Ok(processes),
        }
    }

    #[test]
    fn a_server_on_its_devices_is_seen_there() {
        let devices = [
            processes_of(1, true, &[11, 99]),
            processes_of(0, true, &[10]),
            processes_of(2, false, &[98]),
        ];
        assert_eq!(placement(&devices, &[10, 11]), Placement::OnChosen(vec![0, 1]));
    }

    #[test]
    fn a_server_elsewhere_is_told_even_if_it_is_also_here() {
        let devices = [processes_of(0, true, &[10]), processes_of(1, false, &[10])];
        assert!(matches!(placement(&devices, &[10]), Placement::OnOthers(found) if found[0].device == 1));
    }

    #[test]
    fn a_server_that_is_not_listed_says_what_is() {
        let why = |devices: &[DeviceProcesses]| match placement(devices, &[10]) {
            Placement::NotListed { why } => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            why(&[processes_of(0, true, &[])]),
            "NVML lists no compute process at all"
        );
        assert_eq!(
            why(&[processes_of(0, true, &[4, 5])]),
            "NVML lists other processes only: 4, 5"
        );
        let refused = DeviceProcesses {
            index: 0,
            chosen: true,
            processes: Err("not supported".to_owned()),
        };
        assert_eq!(
            why(&[refused]),
            "NVML does not list processes: GPU 0: not supported"
        );
    }
}
