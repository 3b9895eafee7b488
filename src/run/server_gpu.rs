//! A lane's server on the GPU: where it sits, how much memory is in use, and that it is back in the end.

use std::time::Duration;

use super::{
    decide::Halt,
    display::Display,
    lane_end::LaneEnd,
    lines::{Line, Status},
    signals::Signals,
    start::StartedRun,
    strangers::{Waited, wait_alone},
};
use crate::{
    check::gpu::name_processes,
    server::{Reaped, ReleaseHeld, ReleaseProof, Watch},
};
use benchd_core::record::{GpuProcess, LaneId};
use benchd_host::gpu::{self, Gpu, Held, HeldReason, Placement};
use benchd_journal::LaneOutcome;
use benchd_plan::Framework;

/// How often the server's process ids are told to the GPU room.
const PIDS_PERIOD: Duration = Duration::from_secs(2);

/// Keeps the GPU room's list of the server's processes up to date, until dropped.
pub(super) struct FollowPids(tokio::task::JoinHandle<()>);

impl FollowPids {
    pub(super) fn start(gpu: Gpu, server: Watch) -> Self {
        Self(tokio::spawn(async move {
            let Some(ours) = gpu.ours() else { return };
            loop {
                ours.set(server.processes().iter().map(|process| process.pid));
                tokio::time::sleep(PIDS_PERIOD).await;
            }
        }))
    }
}

impl Drop for FollowPids {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Refuses a server on a device that the plan did not choose.
pub(super) async fn ensure_on_chosen(gpu: &Gpu, lane: &LaneId, server: &Watch) -> Result<(), LaneEnd> {
    let pids: Vec<i32> = server.processes().iter().map(|process| process.pid).collect();
    if let Some(ours) = gpu.ours() {
        ours.set(pids.iter().copied());
    }
    match gpu.placement(&pids).await {
        Ok(Some(Placement::OnOthers(others))) => {
            return Err(LaneEnd::failed(
                "ready",
                format!(
                    "the server is on a device that the plan did not choose: {}\n  hint: does something in its \
                     arguments or environment override CUDA_VISIBLE_DEVICES?",
                    name_processes(&others)
                ),
            ));
        }
        Ok(Some(Placement::NotListed { why })) => tracing::warn!(%lane, "{why}"),
        Ok(Some(Placement::OnChosen(_)) | None) => {}
        Err(error) => tracing::warn!(%lane, %error, "where the server sits can't be told"),
    }
    Ok(())
}

/// GPU memory in use now, all chosen devices together, without what `strangers` are known to hold, bytes.
pub(super) async fn used_bytes(gpu: &Gpu, strangers: &[GpuProcess]) -> Option<u64> {
    let used = gpu.used_bytes().await.ok()?;
    let others: u64 = strangers.iter().filter_map(|process| process.used_bytes).sum();
    (!used.is_empty()).then(|| used.iter().sum::<u64>().saturating_sub(others))
}

/// The proof that a stopped server's memory came back, and what it needs.
pub(super) struct Release<'a> {
    pub(super) run: &'a StartedRun,
    pub(super) framework: &'a Framework,
    pub(super) lane: &'a LaneId,
    /// How long strangers are waited for; `None` where the GPU is shared by the plan's word.
    pub(super) strangers_for: Option<Duration>,
    pub(super) signals: &'a Signals,
    pub(super) display: &'a Display,
}

impl Release<'_> {
    /// Waits until the memory is back. What holds it is named, and the run stops.
    pub(super) async fn prove(&self, reaped: Reaped, end: LaneEnd) -> LaneEnd {
        let (gpu, display) = (&self.run.gpu, self.display);
        display.status(&Status::Releasing(self.lane));
        let proven = reaped.prove_release(async |pids: Vec<i32>| {
            self.proof(&pids).await.map_err(|held| ReleaseHeld {
                waited: held.waited,
                used_bytes: held.used_bytes.iter().map(|used| used.unwrap_or(0)).collect(),
                baseline_bytes: held.baseline_bytes.clone(),
                holders: held.holders.clone(),
                busy: held.reason == HeldReason::Strangers,
                reason: format!("{held}\n  hint: {}", held.hint()),
            })
        });
        let limit = 2 * self.framework.release_timeout + self.strangers_for.unwrap_or_default();
        let proven = display.watchdog().wait(limit, proven).await;
        if let Some(ours) = gpu.ours() {
            ours.clear();
        }
        match proven {
            Ok(released) => {
                display.say(&Line::ServerStopped {
                    killed: released.reaped.killed,
                    took: released.reaped.stop_took,
                    memory_back: gpu.host().map(|_| released.release_took),
                    beside: &name_processes(&released.proof.strangers),
                });
                end
            }
            Err((_, held)) => {
                let reason = format!("lane {}: {}", self.lane, held.reason);
                let halt = match held.busy {
                    true if self.signals.first().is_some() => None,
                    true => Some(Halt::Busy(reason)),
                    false => Some(Halt::Unsafe(reason)),
                };
                LaneEnd {
                    outcome: LaneOutcome::Failed,
                    stage: "release",
                    halt,
                    reason: Some(held.reason),
                    by_machine: end.by_machine || end.outcome != LaneOutcome::Failed,
                    log_tail: end.log_tail,
                    died: end.died,
                }
            }
        }
    }

    /// The proof. Where NVML does not tell what strangers hold, once more after they left.
    async fn proof(&self, pids: &[i32]) -> Result<ReleaseProof, Held> {
        let (gpu, framework) = (&self.run.gpu, self.framework);
        let prove = async || {
            let (tolerance, timeout) = (framework.release_tolerance_bytes, framework.release_timeout);
            gpu::prove_release(gpu, pids, &self.run.baseline, tolerance, timeout).await
        };
        let mut proven = prove().await;
        if let Err(held) = &proven
            && held.reason == HeldReason::Strangers
            && let Some(limit) = self.strangers_for
        {
            let known = &self.run.strangers;
            let look = async || {
                let mut found = gpu.processes().await.map_err(drop)?;
                found.retain(|p| known.iter().all(|k| (k.device, k.pid) != (p.device, p.pid)));
                Ok(found)
            };
            let stop = self.signals.clean().cancelled();
            if let Waited::Alone = wait_alone(limit, look, stop, self.display).await {
                proven = prove().await;
            }
        }
        proven.map(|proof| ReleaseProof {
            used_bytes: proof.used_bytes,
            baseline_bytes: proof.baseline_bytes,
            strangers: proof.strangers,
        })
    }
}
