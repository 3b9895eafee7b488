//! The end of a lane's server: its GPU memory is back, or the run stops.

use super::{
    attempt::LaneAttempt,
    decide::Halt,
    display::Display,
    lane_end::LaneEnd,
    lines::{Line, Status},
};
use crate::server::{Reaped, ReleaseHeld, ReleaseProof};
use benchd_host::gpu::{self, Gpu};
use benchd_journal::LaneOutcome;

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
        },
    }
}
