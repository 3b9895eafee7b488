//! GPU samples of a lane: from before its launch to after its release, written as they come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use benchd_core::record::{Flag, FlagKind, GpuProcess};
use benchd_host::gpu::{DEFAULT_SAMPLE_PERIOD, Gpu, GpuError, GpuEvent, SamplerReport, Sampling};
use benchd_journal::{DiskError, GpuFile};

/// Samples that may wait for the disk; more are dropped and counted by the sampler.
const ROOM: usize = 4096;

#[derive(Debug)]
pub(super) struct GpuLog {
    gpu: Gpu,
    writer: JoinHandle<Result<(), DiskError>>,
    watcher: JoinHandle<()>,
    noticed: Arc<Mutex<Noticed>>,
    lost: CancellationToken,
    unwritten: CancellationToken,
}

/// What the sampler noticed since it was last asked.
#[derive(Debug, Default)]
struct Noticed {
    flags: Vec<Flag>,
    lost: Option<String>,
    unwritten: Option<String>,
}

impl GpuLog {
    /// Starts to sample into `file`.
    ///
    /// # Errors
    /// The NVML thread has ended.
    pub(super) fn start(gpu: &Gpu, mut file: GpuFile, baseline: &[GpuProcess]) -> Result<Self, GpuError> {
        let (samples, mut incoming) = mpsc::channel(ROOM);
        let (events, mut noticed_events) = mpsc::unbounded_channel();
        gpu.start_sampling(Sampling {
            period: DEFAULT_SAMPLE_PERIOD,
            samples,
            events,
            baseline: baseline.to_vec(),
        })?;
        let noticed = Arc::new(Mutex::new(Noticed::default()));
        let unwritten = CancellationToken::new();
        let writer = tokio::spawn({
            let (noticed, unwritten) = (Arc::clone(&noticed), unwritten.clone());
            async move {
                let written = async {
                    while let Some(sample) = incoming.recv().await {
                        file.append(&sample)?;
                    }
                    file.sync().map(|_| ())
                };
                // Told at once: a cell whose samples are lost need not go on to its end.
                written.await.inspect_err(|error: &DiskError| {
                    lock(&noticed).unwritten = Some(error.to_string());
                    unwritten.cancel();
                })
            }
        });
        let lost = CancellationToken::new();
        let watcher = tokio::spawn({
            let (noticed, lost) = (Arc::clone(&noticed), lost.clone());
            async move {
                while let Some(event) = noticed_events.recv().await {
                    note(&mut lock(&noticed), &lost, &event);
                }
            }
        });
        Ok(Self {
            gpu: gpu.clone(),
            writer,
            watcher,
            noticed,
            lost,
            unwritten,
        })
    }

    /// Cancelled when a device is gone.
    pub(super) fn lost(&self) -> &CancellationToken {
        &self.lost
    }

    pub(super) fn why_lost(&self) -> String {
        lock(&self.noticed).lost.clone().unwrap_or_default()
    }

    /// Cancelled when a sample could not be stored.
    pub(super) fn unwritten(&self) -> &CancellationToken {
        &self.unwritten
    }

    pub(super) fn why_unwritten(&self) -> String {
        lock(&self.noticed).unwritten.clone().unwrap_or_default()
    }

    /// Flags of what was noticed since the last call.
    pub(super) fn take_flags(&self) -> Vec<Flag> {
        std::mem::take(&mut lock(&self.noticed).flags)
    }

    /// Stops, and waits until everything is written.
    ///
    /// # Errors
    /// A sample could not be written.
    pub(super) async fn stop(self) -> Result<SamplerReport, DiskError> {
        let report = self.gpu.stop_sampling().await.unwrap_or_default();
        // The sampler's end closes both channels; a task of ours neither panics nor is aborted.
        let _ = self.watcher.await;
        self.writer.await.unwrap_or(Ok(()))?;
        Ok(report)
    }
}

fn lock(noticed: &Mutex<Noticed>) -> MutexGuard<'_, Noticed> {
    noticed.lock().unwrap_or_else(PoisonError::into_inner)
}

fn note(noticed: &mut Noticed, lost: &CancellationToken, event: &GpuEvent) {
    match event {
        GpuEvent::Lost { device, detail } => {
            tracing::error!(device, detail, "the GPU is lost");
            noticed.lost = Some(format!("GPU {device}: {detail}"));
            noticed.flags.push(Flag::new(
                FlagKind::GpuSamplesMissing,
                format!("GPU {device} was lost: {detail}"),
            ));
            lost.cancel();
        }
        GpuEvent::Back { device } => tracing::warn!(device, "a lost GPU answers again"),
        GpuEvent::Stranger(stranger) if stranger.visible => {
            let process = &stranger.process;
            let name = process.name.as_deref().unwrap_or("?");
            tracing::warn!(pid = process.pid, name, "a stranger appeared on the GPU");
            noticed.flags.push(Flag::new(
                FlagKind::StrangerOnGpu,
                format!("pid {} ({name}) appeared on GPU {}", process.pid, process.device),
            ));
        }
        // In a container NVML shows the host's process ids: this may be the server itself.
        GpuEvent::Stranger(stranger) => {
            tracing::info!(
                pid = stranger.process.pid,
                "NVML shows a process id that this system does not know"
            );
        }
    }
}
