//! Whether a server really sits on the devices it was given.

use benchd_core::record::GpuProcess;

/// The compute processes of one device of the machine, chosen or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// NVML index.
    pub device: u32,
    /// Whether the plan chose it.
    pub chosen: bool,
    /// Its compute processes; the error's words where NVML does not list them.
    pub processes: Result<Vec<GpuProcess>, String>,
}

/// Where NVML shows the processes of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// On chosen devices only; their indexes, ascending.
    OnChosen(Vec<u32>),
    /// Also, or only, on devices that the plan did not choose.
    Astray(Vec<GpuProcess>),
    /// On none: the server does not use a GPU, or NVML shows other process ids than this system's (containers).
    NotListed {
        /// What NVML did show.
        why: String,
    },
}

/// Finds `pids` in the listings of all devices.
pub fn place(listings: &[Listing], pids: &[i32]) -> Placement {
    let ours = |process: &&GpuProcess| i32::try_from(process.pid).is_ok_and(|pid| pids.contains(&pid));
    let mut on_chosen = Vec::new();
    let mut astray = Vec::new();
    for listing in listings {
        let Ok(processes) = &listing.processes else {
            continue;
        };
        let found: Vec<GpuProcess> = processes.iter().filter(ours).cloned().collect();
        match (listing.chosen, found.is_empty()) {
            (_, true) => {}
            (true, false) => on_chosen.push(listing.device),
            (false, false) => astray.extend(found),
        }
    }
    if !astray.is_empty() {
        return Placement::Astray(astray);
    }
    if !on_chosen.is_empty() {
        on_chosen.sort_unstable();
        return Placement::OnChosen(on_chosen);
    }
    let errors: Vec<String> = listings
        .iter()
        .filter_map(|listing| {
            Some(format!(
                "GPU {}: {}",
                listing.device,
                listing.processes.as_ref().err()?
            ))
        })
        .collect();
    let others: Vec<String> = listings
        .iter()
        .filter_map(|listing| listing.processes.as_ref().ok())
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

    fn listing(device: u32, chosen: bool, pids: &[u32]) -> Listing {
        let processes = pids
            .iter()
            .map(|pid| GpuProcess {
                pid: *pid,
                device,
                used_bytes: Some(1),
                name: None,
            })
            .collect();
        Listing {
            device,
            chosen,
            processes: Ok(processes),
        }
    }

    #[test]
    fn a_server_on_its_devices_is_seen_there() {
        let listings = [
            listing(1, true, &[11, 99]),
            listing(0, true, &[10]),
            listing(2, false, &[98]),
        ];
        assert_eq!(place(&listings, &[10, 11]), Placement::OnChosen(vec![0, 1]));
    }

    #[test]
    fn a_server_elsewhere_is_astray_even_if_it_is_also_here() {
        let listings = [listing(0, true, &[10]), listing(1, false, &[10])];
        assert!(matches!(place(&listings, &[10]), Placement::Astray(found) if found[0].device == 1));
    }

    #[test]
    fn a_server_that_is_not_listed_says_what_is() {
        let why = |listings: &[Listing]| match place(listings, &[10]) {
            Placement::NotListed { why } => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            why(&[listing(0, true, &[])]),
            "NVML lists no compute process at all"
        );
        assert_eq!(
            why(&[listing(0, true, &[4, 5])]),
            "NVML lists other processes only: 4, 5"
        );
        let refused = Listing {
            device: 0,
            chosen: true,
            processes: Err("not supported".to_owned()),
        };
        assert_eq!(
            why(&[refused]),
            "NVML does not list processes: GPU 0: not supported"
        );
    }
}
