//! The decision on one observation after a server's end: pure, without a clock.

use std::time::Duration;

use super::{
    error::CallErrorKind,
    observation::{DeviceObservation, Observation},
};
use benchd_core::record::GpuProcess;

/// The devices before the first server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Baseline {
    /// Memory in use, bytes, by device.
    pub used_bytes: Vec<u64>,
    /// Who was there, compute and graphics processes, with what each held.
    pub processes: Vec<GpuProcess>,
}

/// What one observation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The memory is back.
    Released {
        /// Strangers whose memory is what is in use beyond the baseline; none where nothing is.
        strangers: Vec<GpuProcess>,
    },
    /// Not yet, or not known; ask again.
    KeepWaiting,
    /// It did not come back.
    Held {
        /// Why.
        reason: HeldReason,
        /// Who is on the devices, as far as NVML says.
        holders: Vec<GpuProcess>,
    },
}

/// Why the memory counts as held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeldReason {
    /// Processes of the server are still on a device.
    OurProcesses,
    /// Memory over the baseline, and on the device are other processes of which NVML does not tell how much they hold:
    /// it may be all theirs.
    Strangers,
    /// Memory over the baseline that no listed process is known to hold.
    Unattributed,
    /// A device is lost: nothing can be known of it.
    DeviceLost {
        /// Device index.
        device: u32,
        /// The call and NVML's words.
        detail: String,
    },
    /// NVML did not tell how much memory is in use.
    NoAnswer {
        /// The calls and NVML's words.
        detail: String,
    },
    /// The baseline does not belong to these devices.
    OtherBaseline {
        /// Devices now.
        devices: usize,
        /// Devices of the baseline.
        baseline: usize,
    },
}

/// Decides on one observation, taken `elapsed` after the last process's end was known. `ours` are the server's process
/// ids, also those that have ended.
///
/// What is compared is the memory that no other process is known to hold, then and now: a stranger's is no reason to
/// call the server's held. Others count only where `tells` says that NVML's process ids are this system's, and the
/// process is one that this system knows: any other may be the server.
///
/// Where a device does not list its processes, memory alone decides; [`Witness`](super::Witness) says so. A list
/// that merely failed is asked for again until the deadline.
pub(super) fn judge(
    observation: &Observation,
    baseline: &Baseline,
    tolerance_bytes: u64,
    ours: &[i32],
    tells: bool,
    elapsed: Duration,
    timeout: Duration,
) -> Verdict {
    let devices = &observation.devices;
    if devices.len() != baseline.used_bytes.len() {
        let reason = HeldReason::OtherBaseline {
            devices: devices.len(),
            baseline: baseline.used_bytes.len(),
        };
        return Verdict::Held {
            reason,
            holders: Vec::new(),
        };
    }
    for device in devices {
        let errors = [device.used_bytes.as_ref().err(), device.processes.as_ref().err()];
        if let Some(error) = errors
            .into_iter()
            .flatten()
            .find(|error| error.kind == CallErrorKind::Lost)
        {
            let reason = HeldReason::DeviceLost {
                device: device.index,
                detail: error.to_string(),
            };
            return Verdict::Held {
                reason,
                holders: Vec::new(),
            };
        }
    }
    let still_ours: Vec<GpuProcess> = devices
        .iter()
        .flat_map(listed)
        .filter(|process| is_listed_in(process, ours))
        .cloned()
        .collect();
    let above = |take_off: bool| -> Vec<&DeviceObservation> {
        let devices = devices.iter().zip(&baseline.used_bytes);
        devices
            .filter(|(device, then)| {
                let (others_now, others_then) = if take_off {
                    let then = baseline.processes.iter().filter(|p| p.device == device.index);
                    (held(others(device, ours)), held(then))
                } else {
                    (0, 0)
                };
                let limit = then.saturating_sub(others_then).saturating_add(tolerance_bytes);
                let used = device.used_bytes.as_ref();
                used.is_ok_and(|used| used.saturating_sub(others_now) > limit)
            })
            .map(|(device, _)| device)
            .collect()
    };
    let over = above(tells);
    let unanswered: Vec<String> = devices
        .iter()
        .filter_map(|device| {
            Some(format!(
                "GPU {}: {}",
                device.index,
                device.used_bytes.as_ref().err()?
            ))
        })
        .collect();

    // A list that this device never gives is not waited for; one that only failed just now is.
    let list_may_come = devices.iter().any(|device| {
        device
            .processes
            .as_ref()
            .is_err_and(|error| error.kind == CallErrorKind::Other)
    });

    if still_ours.is_empty() && over.is_empty() && unanswered.is_empty() {
        let waited = elapsed >= timeout;
        return if list_may_come && !waited {
            Verdict::KeepWaiting
        } else {
            let beyond = above(false).into_iter();
            Verdict::Released {
                strangers: beyond.flat_map(|device| others(device, ours)).cloned().collect(),
            }
        };
    }
    if elapsed < timeout {
        return Verdict::KeepWaiting;
    }
    if !still_ours.is_empty() {
        return Verdict::Held {
            reason: HeldReason::OurProcesses,
            holders: still_ours,
        };
    }
    if !over.is_empty() {
        let holders: Vec<GpuProcess> = over
            .iter()
            .flat_map(|device| listed(device).chain(&device.graphics))
            .cloned()
            .collect();
        let may_be_theirs =
            |device: &&DeviceObservation| tells && others(device, ours).any(|p| p.used_bytes.is_none());
        let reason = if over.iter().all(may_be_theirs) {
            HeldReason::Strangers
        } else {
            HeldReason::Unattributed
        };
        return Verdict::Held { reason, holders };
    }
    Verdict::Held {
        reason: HeldReason::NoAnswer {
            detail: unanswered.join("; "),
        },
        holders: Vec::new(),
    }
}

/// Processes on the device that are surely not the server's, each once: compute and graphics lists may both have it.
fn others<'a>(device: &'a DeviceObservation, ours: &[i32]) -> impl Iterator<Item = &'a GpuProcess> {
    let graphics = device.graphics.iter();
    let only_there = graphics.filter(|process| listed(device).all(|compute| compute.pid != process.pid));
    listed(device)
        .chain(only_there)
        .filter(|process| process.name.is_some() && !is_listed_in(process, ours))
}

/// What these are known to hold, bytes.
fn held<'a>(processes: impl Iterator<Item = &'a GpuProcess>) -> u64 {
    processes.filter_map(|process| process.used_bytes).sum()
}

pub(super) fn listed(device: &DeviceObservation) -> impl Iterator<Item = &GpuProcess> {
    device.processes.iter().flatten()
}

fn is_listed_in(process: &GpuProcess, pids: &[i32]) -> bool {
    i32::try_from(process.pid).is_ok_and(|pid| pids.contains(&pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::CallError;

    const OURS: [i32; 2] = [10, 11];
    const MIB: u64 = 1 << 20;
    const BASELINE: u64 = 500 * MIB;
    const TOLERANCE: u64 = 64 * MIB;
    const TIMEOUT: Duration = Duration::from_secs(60);

    fn process(pid: u32) -> GpuProcess {
        GpuProcess {
            pid,
            device: 0,
            used_bytes: Some(900 * MIB),
            name: Some("python3".to_owned()),
        }
    }

    fn device(used_bytes: u64, pids: &[u32]) -> DeviceObservation {
        DeviceObservation {
            index: 0,
            used_bytes: Ok(used_bytes),
            processes: Ok(pids.iter().map(|pid| process(*pid)).collect()),
            graphics: Vec::new(),
        }
    }

    fn failing(kind: CallErrorKind, detail: &str) -> CallError {
        CallError {
            call: "nvmlDeviceGetMemoryInfo_v2",
            kind,
            detail: detail.to_owned(),
        }
    }

    fn judged(devices: Vec<DeviceObservation>, elapsed: Duration) -> Verdict {
        judged_by(devices, true, elapsed)
    }

    fn judged_by(devices: Vec<DeviceObservation>, tells: bool, elapsed: Duration) -> Verdict {
        let baseline = Baseline {
            used_bytes: vec![BASELINE; devices.len()],
            processes: Vec::new(),
        };
        judge(
            &Observation { devices },
            &baseline,
            TOLERANCE,
            &OURS,
            tells,
            elapsed,
            TIMEOUT,
        )
    }

    fn released() -> Verdict {
        Verdict::Released {
            strangers: Vec::new(),
        }
    }

    fn untold(pid: u32) -> GpuProcess {
        GpuProcess {
            used_bytes: None,
            ..process(pid)
        }
    }

    /// What a state is judged at the start, and what at the deadline.
    fn early_and_late(device: DeviceObservation) -> (Verdict, Verdict) {
        (
            judged(vec![device.clone()], Duration::ZERO),
            judged(vec![device], TIMEOUT),
        )
    }

    fn reason(verdict: Verdict) -> (HeldReason, Vec<u32>) {
        match verdict {
            Verdict::Held { reason, holders } => (reason, holders.iter().map(|holder| holder.pid).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn memory_at_below_and_within_tolerance_of_the_baseline_is_released() {
        for used in [0, BASELINE - 1, BASELINE, BASELINE + TOLERANCE] {
            let (early, late) = early_and_late(device(used, &[]));
            assert_eq!((early, late), (released(), released()), "{used}");
        }
        let (early, late) = early_and_late(device(BASELINE + TOLERANCE + 1, &[]));
        assert_eq!(early, Verdict::KeepWaiting);
        assert_eq!(reason(late), (HeldReason::Unattributed, vec![]));
    }

    #[test]
    fn a_process_of_ours_is_waited_for_even_if_memory_is_back() {
        let (early, late) = early_and_late(device(BASELINE, &[77, 11]));
        assert_eq!(early, Verdict::KeepWaiting);
        assert_eq!(reason(late), (HeldReason::OurProcesses, vec![11]));
    }

    #[test]
    fn a_strangers_memory_is_not_the_servers() {
        let theirs = vec![process(77)];
        assert_eq!(
            judged(vec![device(BASELINE + 900 * MIB, &[77])], Duration::ZERO),
            Verdict::Released { strangers: theirs }
        );
        assert_eq!(judged(vec![device(BASELINE, &[77])], Duration::ZERO), released());
        // What it does not hold is not its.
        let (early, late) = early_and_late(device(BASELINE + 2000 * MIB, &[77]));
        assert_eq!(early, Verdict::KeepWaiting);
        assert_eq!(reason(late), (HeldReason::Unattributed, vec![77]));
    }

    #[test]
    fn a_desktop_counts_with_what_it_has_grown() {
        let mut desktop = device(BASELINE + 900 * MIB, &[]);
        // Listed twice, as a program that draws and computes is.
        desktop.graphics = vec![process(5)];
        desktop.processes = Ok(vec![process(5)]);
        let judged = |held_then: u64| {
            let baseline = Baseline {
                used_bytes: vec![BASELINE],
                processes: vec![GpuProcess {
                    used_bytes: Some(held_then),
                    ..process(5)
                }],
            };
            let devices = vec![desktop.clone()];
            judge(
                &Observation { devices },
                &baseline,
                TOLERANCE,
                &OURS,
                true,
                TIMEOUT,
                TIMEOUT,
            )
        };
        let strangers = vec![process(5)];
        assert_eq!(judged(0), Verdict::Released { strangers });
        assert_eq!(
            reason(judged(300 * MIB)),
            (HeldReason::Unattributed, vec![5, 5]),
            "it has grown by 600 MiB, not by 900"
        );
    }

    #[test]
    fn memory_of_which_nvml_does_not_tell_whose_it_is_may_be_a_strangers() {
        let beside = |processes: Vec<GpuProcess>| DeviceObservation {
            processes: Ok(processes),
            ..device(BASELINE + 900 * MIB, &[])
        };
        let (early, late) = early_and_late(beside(vec![untold(77)]));
        assert_eq!(early, Verdict::KeepWaiting);
        assert_eq!(reason(late), (HeldReason::Strangers, vec![77]));
        // One that this system does not know may be the server; so may all where NVML shows another namespace's ids.
        let unseen = GpuProcess {
            name: None,
            ..process(77)
        };
        let late = judged(vec![beside(vec![unseen])], TIMEOUT);
        assert_eq!(reason(late), (HeldReason::Unattributed, vec![77]));
        for there in [process(77), untold(77)] {
            let late = judged_by(vec![beside(vec![there])], false, TIMEOUT);
            assert_eq!(reason(late), (HeldReason::Unattributed, vec![77]));
        }
    }

    #[test]
    fn without_a_process_list_memory_alone_decides() {
        let unlisted = |used| DeviceObservation {
            processes: Err(failing(CallErrorKind::Unsupported, "not supported")),
            ..device(used, &[])
        };
        assert_eq!(judged(vec![unlisted(BASELINE)], Duration::ZERO), released());
        let (early, late) = early_and_late(unlisted(BASELINE + 900 * MIB));
        assert_eq!(early, Verdict::KeepWaiting);
        assert_eq!(reason(late), (HeldReason::Unattributed, vec![]));
    }

    #[test]
    fn a_process_list_that_failed_once_is_asked_for_again() {
        let failed = |used| DeviceObservation {
            processes: Err(failing(CallErrorKind::Other, "timeout")),
            ..device(used, &[])
        };
        assert_eq!(
            early_and_late(failed(BASELINE)),
            (Verdict::KeepWaiting, released())
        );
        let refused = DeviceObservation {
            processes: Err(failing(CallErrorKind::NoPermission, "no permission")),
            ..device(BASELINE, &[])
        };
        assert_eq!(judged(vec![refused], Duration::ZERO), released());
    }

    #[test]
    fn a_failing_call_is_waited_for_and_then_named() {
        let silent = DeviceObservation {
            used_bytes: Err(failing(CallErrorKind::Other, "timeout")),
            ..device(0, &[])
        };
        let (early, late) = early_and_late(silent);
        assert_eq!(early, Verdict::KeepWaiting);
        let detail = "GPU 0: nvmlDeviceGetMemoryInfo_v2: timeout".to_owned();
        assert_eq!(reason(late).0, HeldReason::NoAnswer { detail });
    }

    #[test]
    fn a_lost_device_is_held_at_once() {
        for lost in [
            DeviceObservation {
                used_bytes: Err(failing(CallErrorKind::Lost, "gone")),
                ..device(0, &[])
            },
            DeviceObservation {
                processes: Err(failing(CallErrorKind::Lost, "gone")),
                ..device(0, &[])
            },
        ] {
            let verdict = judged(vec![device(0, &[]), lost], Duration::ZERO);
            assert!(matches!(
                reason(verdict).0,
                HeldReason::DeviceLost { device: 0, .. }
            ));
        }
    }

    #[test]
    fn every_device_must_be_back() {
        let verdict = judged(
            vec![device(0, &[]), device(BASELINE + 900 * MIB, &[])],
            Duration::ZERO,
        );
        assert_eq!(verdict, Verdict::KeepWaiting);
    }

    #[test]
    fn a_baseline_of_other_devices_proves_nothing() {
        let observation = Observation {
            devices: vec![device(0, &[])],
        };
        let baseline = Baseline {
            used_bytes: vec![1, 2],
            processes: Vec::new(),
        };
        let verdict = judge(
            &observation,
            &baseline,
            TOLERANCE,
            &OURS,
            true,
            Duration::ZERO,
            TIMEOUT,
        );
        assert_eq!(
            reason(verdict).0,
            HeldReason::OtherBaseline {
                devices: 1,
                baseline: 2
            }
        );
    }
}
