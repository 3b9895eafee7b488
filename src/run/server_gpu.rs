//! A lane's server on the GPU: where it sits, how much memory is in use, and that it is back in the end.

use std::time::Duration;

use super::{
    attempt::LaneAttempt,
    decide::Halt,
    display::Display,
    lane_end::LaneEnd,
    lines::{Line, Status},
};
use crate::{
    check::gpu::name_processes,
    server::{Reaped, ReleaseHeld, ReleaseProof, Watch},
};
use benchd_core::record::LaneId;
use benchd_host::gpu::{self, Gpu, Placement};
use benchd_journal::LaneOutcome;

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

/// GPU memory in use now, all chosen devices together, bytes.
pub(super) async fn used_bytes(gpu: &Gpu) -> Option<u64> {
    let used = gpu.used_bytes().await.ok()?;
    (!used.is_empty()).then(|| used.iter().sum())
}

/// Waits until the memory is back. What holds it is named, and the run stops.
pub(super) async fn prove_release(
    attempt: &LaneAttempt<'_>,
    gpu: &Gpu,
    baseline_bytes: &[u64],
    reaped: Reaped,
    end: LaneEnd,
    display: &Display,
) -> LaneEnd {
    let framework = attempt.framework;
    display.status(&Status::Releasing(&attempt.lane.id));
    let proven = reaped.prove_release(async |pids: Vec<i32>| {
        gpu::prove_release(
            gpu,
            &pids,
            baseline_bytes,
            framework.release_tolerance_bytes,
            framework.release_timeout,
        )
        .await
        .map(|proof| ReleaseProof {
            used_bytes: proof.used_bytes,
            baseline_bytes: proof.baseline_bytes,
        })
        .map_err(|held| ReleaseHeld {
            waited: held.waited,
            used_bytes: held.used_bytes.iter().map(|used| used.unwrap_or(0)).collect(),
            baseline_bytes: held.baseline_bytes.clone(),
            holders: held.holders.clone(),
            reason: format!("{held}\n  hint: {}", held.hint()),
        })
    });
    let proven = display.watchdog().wait(framework.release_timeout, proven).await;
    if let Some(ours) = gpu.ours() {
        ours.set([]);
    }
    match proven {
        Ok(released) => {
            display.say(&Line::ServerStopped {
                killed: released.reaped.killed,
                took: released.reaped.stop_took,
                memory_back: gpu.host().map(|_| released.release_took),
            });
            end
        }
        Err((_, held)) => LaneEnd {
            outcome: LaneOutcome::Failed,
            stage: "release",
            halt: Some(Halt::Unsafe(format!("lane {}: {}", attempt.lane.id, held.reason))),
            reason: Some(held.reason),
            by_machine: end.by_machine || end.outcome != LaneOutcome::Failed,
            log_tail: end.log_tail,
            died: end.died,
        },
    }
}
