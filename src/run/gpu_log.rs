//! GPU samples of a lane: from before its launch to after its release, written as they come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::{sync::mpsc, task::JoinHandle};

use super::alarm::Alarm;
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
    /// Of what was noticed since they were last taken.
    flags: Arc<Mutex<Vec<Flag>>>,
    /// Raised when a device is gone.
    pub(super) lost: Alarm,
    /// Raised when a sample could not be stored.
    pub(super) unwritten: Alarm,
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
        let unwritten = Alarm::default();
        let alarm = unwritten.clone();
        let writer = tokio::spawn(async move {
            let written = async {
                while let Some(sample) = incoming.recv().await {
                    file.append(&sample)?;
                }
                file.sync().map(|_| ())
            };
            // Told at once: a cell whose samples are lost need not go on to its end.
            written
                .await
                .inspect_err(|error: &DiskError| alarm.raise(error.to_string()))
        });
        let (lost, flags) = (Alarm::default(), Arc::default());
        let (alarm, noticed) = (lost.clone(), Arc::clone(&flags));
        let watcher = tokio::spawn(async move {
            while let Some(event) = noticed_events.recv().await {
                lock(&noticed).extend(flag_of(&event, &alarm));
            }
        });
        Ok(Self {
            gpu: gpu.clone(),
            writer,
            watcher,
            flags,
            lost,
            unwritten,
        })
    }

    /// Flags of what was noticed since the last call.
    pub(super) fn take_flags(&self) -> Vec<Flag> {
        std::mem::take(&mut lock(&self.flags))
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

fn lock(flags: &Mutex<Vec<Flag>>) -> MutexGuard<'_, Vec<Flag>> {
    flags.lock().unwrap_or_else(PoisonError::into_inner)
}

fn flag_of(event: &GpuEvent, lost: &Alarm) -> Option<Flag> {
    match event {
        GpuEvent::Lost { device, detail } => {
            tracing::error!(device, detail, "the GPU is lost");
            lost.raise(format!("GPU {device}: {detail}"));
            let text = format!("GPU {device} was lost: {detail}");
            Some(Flag::new(FlagKind::GpuSamplesMissing, text))
        }
        GpuEvent::Back { device } => {
            tracing::warn!(device, "a lost GPU answers again");
            None
        }
        GpuEvent::Stranger(stranger) if stranger.visible => {
            let process = &stranger.process;
            let name = process.name.as_deref().unwrap_or("?");
            tracing::warn!(pid = process.pid, name, "a stranger appeared on the GPU");
            let text = format!("pid {} ({name}) appeared on GPU {}", process.pid, process.device);
            Some(Flag::new(FlagKind::StrangerOnGpu, text))
        }
        // In a container NVML shows the host's process ids: this may be the server itself.
        GpuEvent::Stranger(stranger) => {
            tracing::info!(
                pid = stranger.process.pid,
                "NVML shows a process id that this system does not know"
            );
            None
        }
    }
}
