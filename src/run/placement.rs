//! Where a lane's server sits on the GPU, and how much memory is in use.

use std::time::Duration;

use super::lane_end::LaneEnd;
use crate::{check::gpu::name_processes, server::Watch};
use benchd_core::record::LaneId;
use benchd_host::gpu::{Gpu, Placement};

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
