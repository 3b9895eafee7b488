//! The sampler: one sample per device per tick, and the events that it notices on the way.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    error::{CallError, CallErrorKind},
    nvml::Chosen,
    ticks::{ErrorLog, Ticks},
    watch::{Change, OurPids, Watch},
};
use crate::process::Seen;
use benchd_core::record::{GPU_SAMPLE_VERSION, GpuProcess, GpuSample, micros, unix_us};

/// Default time between samples. NVML's own utilisation figure covers the last 1/6 s to 1 s (nvml.h,
/// `nvmlUtilization_t`), so a faster rate would only repeat it; memory, power and clocks are instantaneous, and
/// ten a second resolve a prefill of some 100 ms. On an H100 (driver 580) a call took 1 to 11 us, so the dozen
/// calls of a sample cost the machine next to nothing.
pub const DEFAULT_SAMPLE_PERIOD: Duration = Duration::from_millis(100);

/// The shortest period; a shorter one is taken as this.
const MIN_SAMPLE_PERIOD: Duration = Duration::from_millis(5);

/// A lost device is asked again only every so many ticks (5 s at the default period): it hardly ever comes
/// back without a reset, and each failed call may take long.
const LOST_RETRY_TICKS: u64 = 50;

/// What to sample, and where to put it.
#[derive(Debug)]
pub struct Sampling {
    /// Time between ticks.
    pub period: Duration,
    /// Takes the samples. The NVML thread never waits for room: what does not fit is dropped and counted. The
    /// sampler ends when the receiver is closed.
    pub samples: mpsc::Sender<GpuSample>,
    /// Takes what is noticed on the way; unbounded, for it is rare.
    pub events: mpsc::UnboundedSender<GpuEvent>,
    /// Processes that were on the devices before the first server.
    pub baseline: Vec<GpuProcess>,
}

/// What the sampler notices beside its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GpuEvent {
    /// The device fell off the bus or needs a reset. Reported once; the sampler goes on to ask at a slower pace
    /// and writes no samples of this device meanwhile.
    Lost {
        /// NVML index.
        device: u32,
        /// The call and NVML's words.
        detail: String,
    },
    /// A lost device answers again.
    Back {
        /// NVML index.
        device: u32,
    },
    /// A process is on the device that is neither ours nor was there before.
    StrangerCame(GpuProcess),
    /// It is gone; with the most memory that it was seen to hold.
    StrangerLeft(GpuProcess),
}

/// What the sampler did, from its start to its stop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SamplerReport {
    /// Ticks kept.
    pub ticks: u64,
    /// Ticks skipped because the calls before them took too long.
    pub missed: u64,
    /// Samples that found room, of all devices together.
    pub samples: u64,
    /// Samples dropped for want of room.
    pub dropped: u64,
    /// Whether NVML ever listed a process of ours.
    pub ours_listed: bool,
    /// How often each call failed, by `device N call`.
    pub errors: BTreeMap<String, u64>,
}

pub(super) struct Sampler {
    settings: Sampling,
    ticks: Ticks,
    errors: ErrorLog,
    watch: Watch,
    /// Lost devices, and at which of the sampler's ticks each is asked again.
    lost: BTreeMap<u32, u64>,
    report: SamplerReport,
}

impl Sampler {
    pub(super) fn new(settings: Sampling, now: Instant) -> Self {
        Self {
            ticks: Ticks::new(now, settings.period.max(MIN_SAMPLE_PERIOD)),
            errors: ErrorLog::default(),
            watch: Watch::new(&settings.baseline),
            lost: BTreeMap::new(),
            report: SamplerReport::default(),
            settings,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.ticks.due()
    }

    pub(super) fn report(&self) -> SamplerReport {
        SamplerReport {
            ours_listed: self.watch.ours_listed(),
            errors: self.errors.totals(),
            ..self.report.clone()
        }
    }

    /// Takes one sample of each device; breaks when nobody listens any more.
    pub(super) fn tick(&mut self, devices: &[Chosen<'_>], pids: &OurPids, benchd: i32) -> ControlFlow<()> {
        let ours = pids.snapshot();
        let tick = self.report.ticks + self.report.missed;
        for device in devices {
            if self.lost.get(&device.index).is_some_and(|retry| tick < *retry) {
                continue;
            }
            let (mut sample, errors) = read(device);
            let lost = errors
                .iter()
                .find(|error| error.kind == CallErrorKind::Lost)
                .cloned();
            sample.errors = errors
                .iter()
                .filter_map(|error| self.errors.note(device.index, error))
                .collect();
            if let Some(processes) = &sample.processes {
                for change in self
                    .watch
                    .look(device.index, processes, ours.as_ref(), benchd, &Seen::read)
                {
                    self.tell(match change {
                        Change::Came(process) => GpuEvent::StrangerCame(process),
                        Change::Left(process) => GpuEvent::StrangerLeft(process),
                    });
                }
            }
            let known_lost = self.lost.contains_key(&device.index);
            match lost {
                Some(error) => {
                    self.lost.insert(device.index, tick + LOST_RETRY_TICKS);
                    if known_lost {
                        continue;
                    }
                    self.tell(GpuEvent::Lost {
                        device: device.index,
                        detail: error.to_string(),
                    });
                }
                None if known_lost => {
                    self.lost.remove(&device.index);
                    self.tell(GpuEvent::Back { device: device.index });
                }
                None => {}
            }
            match self.settings.samples.try_send(sample) {
                Ok(()) => self.report.samples += 1,
                Err(mpsc::error::TrySendError::Full(_)) => self.report.dropped += 1,
                Err(mpsc::error::TrySendError::Closed(_)) => return ControlFlow::Break(()),
            }
        }
        let known = ours.unwrap_or_default();
        let new = self.watch.ours().difference(&known).copied();
        pids.remember(new);
        self.report.ticks += 1;
        self.report.missed += self.ticks.advance(Instant::now());
        ControlFlow::Continue(())
    }

    fn tell(&self, event: GpuEvent) {
        if let Err(error) = self.settings.events.send(event) {
            tracing::debug!(event = ?error.0, "nobody listens to GPU events");
        }
    }
}

/// Reads one sample. A lost device is not asked for the rest.
fn read(device: &Chosen<'_>) -> (GpuSample, Vec<CallError>) {
    let started = Instant::now();
    let started_unix_us = unix_us();
    let mut asked = Asked::default();
    let memory = asked.ask(|| device.memory());
    let utilisation = asked.ask(|| device.utilisation());
    let sample = GpuSample {
        v: GPU_SAMPLE_VERSION,
        unix_us: started_unix_us,
        device: device.index,
        memory_used_bytes: memory.map(|memory| memory.used_bytes),
        memory_reserved_bytes: memory.map(|memory| memory.reserved_bytes),
        util_gpu_pct: utilisation.map(|(gpu, _)| gpu),
        util_memory_pct: utilisation.map(|(_, memory)| memory),
        power_mw: asked.ask(|| device.power_mw()),
        energy_mj: asked.ask(|| device.energy_mj()),
        sm_clock_mhz: asked.ask(|| device.sm_clock_mhz()),
        memory_clock_mhz: asked.ask(|| device.memory_clock_mhz()),
        temperature_c: asked.ask(|| device.temperature_c()),
        throttle: asked.ask(|| device.throttle()),
        processes: asked.ask(|| device.compute_processes()),
        took_us: micros(started.elapsed()),
        errors: Vec::new(),
    };
    (sample, asked.errors)
}

#[derive(Default)]
struct Asked {
    errors: Vec<CallError>,
}

impl Asked {
    fn ask<T>(&mut self, call: impl FnOnce() -> Result<T, CallError>) -> Option<T> {
        if self
            .errors
            .last()
            .is_some_and(|error| error.kind == CallErrorKind::Lost)
        {
            return None;
        }
        call().map_err(|error| self.errors.push(error)).ok()
    }
}
