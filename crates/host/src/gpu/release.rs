//! The proof that a server's GPU memory came back.
//!
//! Killing a process only queues the driver's teardown, so memory comes back some time after the process is
//! gone; it is asked for until it has, or until a deadline. [`judge`] decides on one observation and knows no
//! clock; [`prove_release`] asks.
//!
//! ```text
//!   observation ──► nothing of ours listed, and what no other process is known to hold
//!        │          is within the baseline + tolerance on every device ──────────────────────► Released
//!        │      ──► a device is lost, or the baseline is another machine's ───────────────────► Held, at once
//!        └──────── anything else ──► KeepWaiting ──(deadline)──► Held, with what holds it
//! ```

use std::{
    collections::HashSet,
    fmt,
    time::{Duration, Instant},
};

use super::{
    handle::Gpu,
    observation::Observation,
    verdict::{Baseline, HeldReason, Verdict, judge, listed},
    watch::{self, OurPids},
};
use crate::process::Seen;
use benchd_core::record::GpuProcess;

/// On what the proof rests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Witness {
    /// Memory is back, and NVML's process lists show nothing of ours.
    MemoryAndProcesses,
    /// Memory is back; the process lists prove nothing.
    MemoryOnly {
        /// Why not.
        why: String,
    },
}

/// The memory came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseProof {
    /// From the call of [`prove_release`] to the observation that proves it.
    pub took: Duration,
    /// Memory in use then, bytes, by device.
    pub used_bytes: Vec<u64>,
    /// The baseline, bytes, by device.
    pub baseline_bytes: Vec<u64>,
    /// Strangers that hold what is in use beyond the baseline.
    pub strangers: Vec<GpuProcess>,
    /// Observations taken.
    pub polls: u32,
    /// On what it rests.
    pub witness: Witness,
    /// Calls that failed on the way and were made again, each text once.
    pub retried: Vec<String>,
}

/// The memory did not come back; nothing may be launched on these devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// How long it was waited for.
    pub waited: Duration,
    /// Memory in use at last, bytes, by device; `None` where NVML did not say.
    pub used_bytes: Vec<Option<u64>>,
    /// The baseline, bytes, by device.
    pub baseline_bytes: Vec<u64>,
    /// How far above the baseline it may stay, bytes.
    pub tolerance_bytes: u64,
    /// Who is on the devices, as far as NVML says.
    pub holders: Vec<GpuProcess>,
    /// Why it counts as held.
    pub reason: HeldReason,
    /// Calls that failed on the way, each text once.
    pub retried: Vec<String>,
}

const MIB: u64 = 1 << 20;

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waited_s = self.waited.as_secs_f64();
        match &self.reason {
            HeldReason::DeviceLost { device, detail } => {
                return write!(
                    f,
                    "GPU {device} is lost, so its memory can't be proved to be back ({detail})"
                );
            }
            HeldReason::OtherBaseline { devices, baseline } => {
                return write!(
                    f,
                    "the baseline is of {baseline} devices and the plan chooses {devices}: it proves nothing"
                );
            }
            HeldReason::NoAnswer { detail } => {
                return write!(
                    f,
                    "NVML did not tell for {waited_s:.1} s whether GPU memory is back ({detail})"
                );
            }
            HeldReason::OurProcesses => {
                write!(
                    f,
                    "processes of the server are still on the GPU after {waited_s:.1} s"
                )?;
            }
            HeldReason::Strangers | HeldReason::Unattributed => {
                write!(f, "GPU memory is not back after {waited_s:.1} s")?;
            }
        }
        for (place, (used, baseline)) in self.used_bytes.iter().zip(&self.baseline_bytes).enumerate() {
            let used = used.map_or("unknown".to_owned(), |used| format!("{} MiB", used.div_ceil(MIB)));
            let start = if place == 0 { ": " } else { ", " };
            write!(f, "{start}{used} in use, baseline {} MiB", baseline / MIB)?;
        }
        write!(f, ", tolerance {} MiB", self.tolerance_bytes / MIB)?;
        let held_by: Vec<String> = self.holders.iter().map(describe).collect();
        match &self.reason {
            HeldReason::Unattributed if held_by.is_empty() => {
                return f.write_str("; NVML lists no process that holds it");
            }
            _ => write!(f, "; on the GPU: {}", held_by.join(", "))?,
        }
        match &self.reason {
            HeldReason::Unattributed => f.write_str(", and the rest is unattributed: nobody is known to hold it"),
            HeldReason::Strangers => f.write_str(
                ", of which NVML does not tell how much they hold: what is beyond the baseline is unattributed",
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Held {}

impl Held {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self.reason {
            HeldReason::OurProcesses => "end these processes, then go on with --resume",
            HeldReason::Strangers => "end what is not yours to measure; then go on with --resume",
            HeldReason::Unattributed => {
                "a process of another container or namespace, or a stuck driver: see `nvidia-smi` and `fuser -v \
                 /dev/nvidia*` on the host; a longer `release_timeout` helps if it only comes late"
            }
            HeldReason::DeviceLost { .. } => {
                "see `dmesg` for the Xid; the device needs a reset (`nvidia-smi --gpu-reset`) or a reboot"
            }
            HeldReason::NoAnswer { .. } => "see `nvidia-smi` and `dmesg`; then go on with --resume",
            HeldReason::OtherBaseline { .. } => "resume with the devices that the run began with",
        }
    }
}

fn describe(process: &GpuProcess) -> String {
    let name = process.name.as_deref().unwrap_or("not visible here");
    let used = process.used_bytes.map_or(", memory not told".to_owned(), |used| {
        format!(", {} MiB", used.div_ceil(MIB))
    });
    format!("pid {} ({name}{used})", process.pid)
}

/// How long to wait before the next observation, `elapsed` into the proof: memory mostly comes back within a
/// second or so, and that time is a result; later a slower pace is enough.
fn next_poll(elapsed: Duration) -> Duration {
    const FAST: Duration = Duration::from_millis(20);
    const SLOW: Duration = Duration::from_millis(100);
    const FAST_FOR: Duration = Duration::from_secs(2);
    if elapsed < FAST_FOR { FAST } else { SLOW }
}

/// NVML gets at least this long for an answer, also when the deadline is nearer.
const ANSWER_AT_LEAST: Duration = Duration::from_secs(2);

/// Waits until the memory of all chosen devices is back at `baseline` (within `tolerance_bytes`, and but for what
/// strangers hold) and none of `ours`, nor any descendant of benchd, is on them. To be called when the last process has ended. Failing NVML
/// calls are made again until `timeout`. Without a GPU there is nothing to prove.
///
/// # Errors
/// [`Held`]: it was not back by `timeout`, or can't be known. The run must stop for safety.
pub async fn prove_release(
    gpu: &Gpu,
    ours: &[i32],
    baseline: &Baseline,
    tolerance_bytes: u64,
    timeout: Duration,
) -> Result<ReleaseProof, Held> {
    let started = Instant::now();
    let mut polls = 0;
    let mut retried: Vec<String> = Vec::new();
    if gpu.host().is_none() {
        return Ok(ReleaseProof {
            took: Duration::ZERO,
            used_bytes: Vec::new(),
            baseline_bytes: Vec::new(),
            strangers: Vec::new(),
            polls,
            witness: Witness::MemoryOnly {
                why: "no GPU was chosen".to_owned(),
            },
            retried,
        });
    }
    let held = |waited, used_bytes, holders, reason, retried| Held {
        waited,
        used_bytes,
        baseline_bytes: baseline.used_bytes.clone(),
        tolerance_bytes,
        holders,
        reason,
        retried,
    };
    let mut seen_before = false;
    loop {
        let patience = timeout.saturating_sub(started.elapsed()).max(ANSWER_AT_LEAST);
        let observation = match tokio::time::timeout(patience, gpu.observe()).await {
            Ok(Ok(observation)) => observation,
            Ok(Err(ended)) => {
                let reason = HeldReason::NoAnswer {
                    detail: ended.to_string(),
                };
                return Err(held(started.elapsed(), Vec::new(), Vec::new(), reason, retried));
            }
            Err(_) => {
                let detail = format!(
                    "NVML has not returned from a call for {:.1} s",
                    patience.as_secs_f64()
                );
                let reason = HeldReason::NoAnswer { detail };
                return Err(held(started.elapsed(), Vec::new(), Vec::new(), reason, retried));
            }
        };
        polls += 1;
        let elapsed = started.elapsed();
        note_failures(&observation, &mut retried);
        let seen = gpu.ours().and_then(OurPids::snapshot).unwrap_or_default();
        let ours = with_family(&observation, ours.iter().copied().chain(seen));
        let not_listed = gpu.not_listed();
        // A server that does not use the GPU is not listed either; then all who are, are known here.
        let mut all = observation.devices.iter().flat_map(listed);
        let tells = not_listed.is_none() || all.all(|process| process.name.is_some());
        match judge(
            &observation,
            baseline,
            tolerance_bytes,
            &ours,
            tells,
            elapsed,
            timeout,
        ) {
            // Memory and lists are asked for one after the other, and a stranger may have come in between.
            Verdict::Released { strangers } if !strangers.is_empty() && !seen_before => {
                seen_before = true;
                tokio::time::sleep(next_poll(elapsed)).await;
            }
            Verdict::Released { strangers } => {
                return Ok(ReleaseProof {
                    took: elapsed,
                    used_bytes: used(&observation).into_iter().flatten().collect(),
                    baseline_bytes: baseline.used_bytes.clone(),
                    strangers,
                    polls,
                    witness: witness(&observation, not_listed),
                    retried,
                });
            }
            Verdict::Held { reason, holders } => {
                return Err(held(elapsed, used(&observation), holders, reason, retried));
            }
            Verdict::KeepWaiting => {
                seen_before = false;
                let left = timeout.saturating_sub(started.elapsed());
                tokio::time::sleep(next_poll(elapsed).min(left)).await;
            }
        }
    }
}

fn used(observation: &Observation) -> Vec<Option<u64>> {
    observation
        .devices
        .iter()
        .map(|device| device.used_bytes.as_ref().ok().copied())
        .collect()
}

/// `ours`, and those listed processes that descend from them or from benchd.
fn with_family(observation: &Observation, ours: impl Iterator<Item = i32>) -> Vec<i32> {
    let set: HashSet<i32> = ours.collect();
    let benchd = i32::try_from(std::process::id()).unwrap_or(0);
    let family = observation
        .devices
        .iter()
        .flat_map(listed)
        .filter(|process| watch::is_ours(process.pid, &set, benchd, &Seen::read))
        .filter_map(|process| i32::try_from(process.pid).ok());
    let family: Vec<i32> = family.collect();
    set.into_iter().chain(family).collect()
}

fn note_failures(observation: &Observation, retried: &mut Vec<String>) {
    for device in &observation.devices {
        let errors = [device.used_bytes.as_ref().err(), device.processes.as_ref().err()];
        for error in errors.into_iter().flatten() {
            let text = format!("GPU {}: {error}", device.index);
            if !retried.contains(&text) {
                retried.push(text);
            }
        }
    }
}

fn witness(observation: &Observation, not_listed: Option<String>) -> Witness {
    let refused = observation.devices.iter().find_map(|device| {
        Some(format!(
            "GPU {}: {}",
            device.index,
            device.processes.as_ref().err()?
        ))
    });
    match refused.or(not_listed) {
        Some(why) => Witness::MemoryOnly { why },
        None => Witness::MemoryAndProcesses,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::{CallError, CallErrorKind, DeviceObservation};

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

    #[test]
    fn the_witness_says_when_lists_prove_nothing() {
        let with = |processes| Observation {
            devices: vec![DeviceObservation {
                index: 0,
                used_bytes: Ok(0),
                processes,
                graphics: Vec::new(),
            }],
        };
        let refused = CallError {
            call: "nvmlDeviceGetComputeRunningProcesses_v3",
            kind: CallErrorKind::Unsupported,
            detail: "not supported".to_owned(),
        };
        assert!(
            matches!(witness(&with(Err(refused)), None), Witness::MemoryOnly { why } if why.contains("GPU 0"))
        );
        assert_eq!(witness(&with(Ok(Vec::new())), None), Witness::MemoryAndProcesses);
        let why = "NVML lists no compute process at all".to_owned();
        assert_eq!(
            witness(&with(Ok(Vec::new())), Some(why.clone())),
            Witness::MemoryOnly { why }
        );
    }

    #[test]
    fn polls_are_fast_at_first() {
        assert!(next_poll(Duration::ZERO) < next_poll(Duration::from_secs(10)));
        assert!(next_poll(Duration::from_secs(10)) <= Duration::from_millis(100));
    }

    #[test]
    fn what_holds_the_memory_is_said_in_full() {
        let held = |reason, holders| Held {
            waited: TIMEOUT,
            used_bytes: vec![Some(1524 * MIB)],
            baseline_bytes: vec![BASELINE],
            tolerance_bytes: TOLERANCE,
            holders,
            reason,
            retried: Vec::new(),
        };
        let unseen = GpuProcess {
            name: None,
            used_bytes: None,
            ..process(8)
        };
        assert_eq!(
            held(HeldReason::Unattributed, vec![process(77), unseen.clone()]).to_string(),
            "GPU memory is not back after 60.0 s: 1524 MiB in use, baseline 500 MiB, tolerance 64 MiB; \
             on the GPU: pid 77 (python3, 900 MiB), pid 8 (not visible here, memory not told), and the rest is \
             unattributed: nobody is known to hold it"
        );
        assert_eq!(
            held(HeldReason::Strangers, vec![unseen]).to_string(),
            "GPU memory is not back after 60.0 s: 1524 MiB in use, baseline 500 MiB, tolerance 64 MiB; \
             on the GPU: pid 8 (not visible here, memory not told), of which NVML does not tell how much they hold: \
             what is beyond the baseline is unattributed"
        );
        assert_eq!(
            held(HeldReason::Unattributed, vec![]).to_string(),
            "GPU memory is not back after 60.0 s: 1524 MiB in use, baseline 500 MiB, tolerance 64 MiB; \
             NVML lists no process that holds it"
        );
        assert_eq!(
            held(HeldReason::OurProcesses, vec![process(10)]).to_string(),
            "processes of the server are still on the GPU after 60.0 s: 1524 MiB in use, baseline 500 MiB, \
             tolerance 64 MiB; on the GPU: pid 10 (python3, 900 MiB)"
        );
        let lost = HeldReason::DeviceLost {
            device: 3,
            detail: "memory: gone".to_owned(),
        };
        assert_eq!(
            held(lost, vec![]).to_string(),
            "GPU 3 is lost, so its memory can't be proved to be back (memory: gone)"
        );
        let silent = HeldReason::NoAnswer {
            detail: "GPU 0: memory: timeout".to_owned(),
        };
        assert_eq!(
            held(silent, vec![]).to_string(),
            "NVML did not tell for 60.0 s whether GPU memory is back (GPU 0: memory: timeout)"
        );
        let other = HeldReason::OtherBaseline {
            devices: 1,
            baseline: 2,
        };
        assert_eq!(
            held(other, vec![]).to_string(),
            "the baseline is of 2 devices and the plan chooses 1: it proves nothing"
        );
    }
}
