//! GPU samples of a lane: from before its launch to after its release, written as they come.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinHandle,
};

use super::{alarm::Alarm, journal::JournalHandle};
use crate::check::gpu::name_process;
use benchd_core::record::{Flag, FlagKind, GpuProcess, LaneId};
use benchd_host::gpu::{DEFAULT_SAMPLE_PERIOD, Gpu, GpuError, GpuEvent, SamplerReport, Sampling};
use benchd_journal::{DiskError, Event, GpuFile, StrangerCame, StrangerLeft};

/// Samples that may wait for the disk; more are dropped and counted by the sampler.
const ROOM: usize = 4096;

#[derive(Debug)]
pub(super) struct GpuLog {
    gpu: Gpu,
    writer: JoinHandle<Result<(), DiskError>>,
    watcher: JoinHandle<()>,
    noticed: Arc<Mutex<Noticed>>,
    /// Raised when a device is gone.
    pub(super) lost: Alarm,
    /// Raised when a sample could not be stored.
    pub(super) unwritten: Alarm,
}

/// What was noticed beside the samples.
#[derive(Debug, Default)]
struct Noticed {
    /// Strangers that are there, by device and pid, and since when.
    present: BTreeMap<(u32, u32), (GpuProcess, Instant)>,
    /// Strangers that were there since the flags were last taken.
    seen: Vec<GpuProcess>,
    lost: Vec<Flag>,
}

/// A stranger's coming or going.
#[derive(Debug)]
pub(super) enum StrangerNews {
    Came(GpuProcess),
    Left(GpuProcess, Duration),
}

impl GpuLog {
    /// Starts to sample into `file`. What strangers do is journalled, and told by the receiver, which ends with the
    /// sampling.
    ///
    /// # Errors
    /// The NVML thread has ended.
    pub(super) fn start(
        gpu: &Gpu,
        mut file: GpuFile,
        baseline: &[GpuProcess],
        lane: &LaneId,
        journal: &JournalHandle,
    ) -> Result<(Self, UnboundedReceiver<StrangerNews>), GpuError> {
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
        let (lost, noticed) = (Alarm::default(), Arc::<Mutex<Noticed>>::default());
        let (news, told) = mpsc::unbounded_channel();
        let watching = Watching {
            noticed: Arc::clone(&noticed),
            lost: lost.clone(),
            lane: lane.clone(),
            journal: journal.clone(),
            news,
        };
        let watcher = tokio::spawn(async move {
            while let Some(event) = noticed_events.recv().await {
                watching.take(event);
            }
        });
        let this = Self {
            gpu: gpu.clone(),
            writer,
            watcher,
            noticed,
            lost,
            unwritten,
        };
        Ok((this, told))
    }

    /// Flags of what was noticed since the last call, and of strangers that are still there.
    pub(super) fn take_flags(&self) -> Vec<Flag> {
        let mut noticed = lock(&self.noticed);
        let mut flags = std::mem::take(&mut noticed.lost);
        let present = noticed
            .present
            .values()
            .map(|(process, _)| process.clone())
            .collect();
        let seen = std::mem::replace(&mut noticed.seen, present);
        flags.extend(seen.iter().map(|process| {
            Flag::new(
                FlagKind::StrangerOnGpu,
                format!("{} was there", name_process(process)),
            )
        }));
        flags
    }

    /// Strangers that are there now.
    pub(super) fn strangers(&self) -> Vec<GpuProcess> {
        let noticed = lock(&self.noticed);
        noticed
            .present
            .values()
            .map(|(process, _)| process.clone())
            .collect()
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

/// What becomes of what the sampler notices.
struct Watching {
    noticed: Arc<Mutex<Noticed>>,
    lost: Alarm,
    lane: LaneId,
    journal: JournalHandle,
    news: UnboundedSender<StrangerNews>,
}

impl Watching {
    fn take(&self, event: GpuEvent) {
        match event {
            GpuEvent::Lost { device, detail } => {
                tracing::error!(device, detail, "the GPU is lost");
                self.lost.raise(format!("GPU {device}: {detail}"));
                let text = format!("GPU {device} was lost: {detail}");
                let flag = Flag::new(FlagKind::GpuSamplesMissing, text);
                lock(&self.noticed).lost.push(flag);
            }
            GpuEvent::Back { device } => tracing::warn!(device, "a lost GPU answers again"),
            GpuEvent::StrangerCame(process) => {
                let mut noticed = lock(&self.noticed);
                let here = (process.clone(), Instant::now());
                noticed.present.insert((process.device, process.pid), here);
                noticed.seen.push(process.clone());
                drop(noticed);
                self.journal(Event::StrangerCame(StrangerCame {
                    lane: self.lane.clone(),
                    process: process.clone(),
                }));
                self.tell(StrangerNews::Came(process));
            }
            GpuEvent::StrangerLeft(process) => {
                let here = lock(&self.noticed).present.remove(&(process.device, process.pid));
                let stayed = here.map_or(Duration::ZERO, |(_, since)| since.elapsed());
                self.journal(Event::StrangerLeft(StrangerLeft {
                    lane: self.lane.clone(),
                    process: process.clone(),
                    stayed_ms: u64::try_from(stayed.as_millis()).unwrap_or(u64::MAX),
                }));
                self.tell(StrangerNews::Left(process, stayed));
            }
        }
    }

    /// A journal that fails raises its own alarm.
    fn journal(&self, event: Event) {
        if let Err(error) = self.journal.append(event) {
            tracing::error!(%error, "what a stranger does could not be journalled");
        }
    }

    fn tell(&self, news: StrangerNews) {
        if self.news.send(news).is_err() {
            tracing::debug!("nobody listens to what strangers do");
        }
    }
}
