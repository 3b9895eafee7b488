//! The handle to the NVML thread.

use std::{
    ffi::OsString,
    path::Path,
    sync::{Arc, Mutex, PoisonError, mpsc},
};

use tokio::sync::oneshot;

use super::{
    error::{CallError, CallErrorKind, GpuError},
    observation::{DeviceHealth, Observation},
    placement::{Placement, placement},
    sample::{SamplerReport, Sampling},
    watch::OurPids,
    worker::{self, Command},
};
use benchd_core::record::{GpuHost, GpuProcess};
use benchd_plan::GpuSelection;

/// The environment variable that names the NVML library.
const LIBRARY_VARIABLE: &str = "BENCHD_NVML_LIB";

/// The driver's own name for it.
const DEFAULT_LIBRARY: &str = "libnvidia-ml.so.1";

/// The chosen devices. Cheap to clone; the NVML thread ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Gpu(Option<Arc<Open>>);

#[derive(Debug)]
struct Open {
    host: GpuHost,
    ours: OurPids,
    commands: mpsc::Sender<Command>,
    /// Why NVML's process lists prove nothing, as [`Gpu::placement`] last found.
    not_listed: Mutex<Option<String>>,
}

impl Gpu {
    /// Opens NVML for the devices that the plan chose; with [`GpuSelection::None`] nothing is opened and no
    /// library is needed. The library is `library`, else the one that `BENCHD_NVML_LIB` names, else the
    /// driver's `libnvidia-ml.so.1`.
    ///
    /// Blocks until NVML has started: milliseconds, or seconds where no process kept the driver awake.
    ///
    /// # Errors
    /// Each with a [`GpuError::hint`] where a remedy is known: no library, no driver, versions that differ, no
    /// permission, a device that is not there (the error names those that are), named twice, or lost.
    pub fn open(selection: &GpuSelection, library: Option<&Path>) -> Result<Self, GpuError> {
        let GpuSelection::Devices(selectors) = selection else {
            return Ok(Self::none());
        };
        let library = library
            .map(|path| path.as_os_str().to_owned())
            .or_else(|| std::env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty()))
            .unwrap_or_else(|| OsString::from(DEFAULT_LIBRARY));
        let selectors = selectors.clone();
        let ours = OurPids::default();
        let (commands, inbox) = mpsc::channel();
        let (opened, answer) = mpsc::sync_channel(1);
        let thread_ours = ours.clone();
        std::thread::Builder::new()
            .name("nvml".to_owned())
            .spawn(move || worker::run(&library, &selectors, &thread_ours, &opened, &inbox))
            .map_err(|error| GpuError::NoThread {
                detail: error.to_string(),
            })?;
        let host = answer.recv().map_err(|_| GpuError::ThreadEnded)??;
        Ok(Self(Some(Arc::new(Open {
            host,
            ours,
            commands,
            not_listed: Mutex::new(None),
        }))))
    }

    /// The handle for `gpu: none`: no library, no thread, every answer is empty.
    pub fn none() -> Self {
        Self(None)
    }

    /// Driver and devices, as they were when opened; `None` without a GPU.
    pub fn host(&self) -> Option<&GpuHost> {
        self.0.as_ref().map(|open| &open.host)
    }

    /// The devices' UUIDs in the plan's order, for `CUDA_VISIBLE_DEVICES`; empty without a GPU.
    pub fn uuids(&self) -> Vec<String> {
        self.host().map_or_else(Vec::new, |host| {
            host.devices.iter().map(|device| device.uuid.clone()).collect()
        })
    }

    /// The server's process ids, to be kept up to date by whoever owns the server; `None` without a GPU.
    pub fn ours(&self) -> Option<&OurPids> {
        self.0.as_ref().map(|open| &open.ours)
    }

    /// What the devices say now; nothing without a GPU.
    ///
    /// # Errors
    /// The NVML thread has ended. A call that failed is an error inside the observation.
    pub async fn observe(&self) -> Result<Observation, GpuError> {
        let Some(open) = &self.0 else {
            return Ok(Observation { devices: Vec::new() });
        };
        open.ask(Command::Observe).await
    }

    /// How well the devices are now; nothing without a GPU.
    ///
    /// # Errors
    /// The NVML thread has ended.
    pub async fn health(&self) -> Result<Vec<DeviceHealth>, GpuError> {
        let Some(open) = &self.0 else {
            return Ok(Vec::new());
        };
        open.ask(Command::Health).await
    }

    /// Memory in use on each device now, bytes, in the plan's order, without what the driver reserves.
    ///
    /// # Errors
    /// A device is lost or does not answer.
    pub async fn used_bytes(&self) -> Result<Vec<u64>, GpuError> {
        let observation = self.observe().await?;
        observation
            .devices
            .into_iter()
            .map(|device| {
                device
                    .used_bytes
                    .map_err(|error| to_gpu_error(device.index, error))
            })
            .collect()
    }

    /// The compute processes on the chosen devices now. A desktop's graphics processes are not among them:
    /// they stay all the time, and what they hold is in the baseline.
    ///
    /// # Errors
    /// A device is lost or does not list its processes.
    pub async fn processes(&self) -> Result<Vec<GpuProcess>, GpuError> {
        let mut all = Vec::new();
        for device in self.observe().await?.devices {
            all.extend(
                device
                    .processes
                    .map_err(|error| to_gpu_error(device.index, error))?,
            );
        }
        Ok(all)
    }

    /// On which devices of the whole machine NVML shows `pids`; `None` without a GPU.
    ///
    /// # Errors
    /// NVML does not list its devices.
    pub async fn placement(&self, pids: &[i32]) -> Result<Option<Placement>, GpuError> {
        let Some(open) = &self.0 else { return Ok(None) };
        let devices = open.ask(Command::Processes).await??;
        let placement = placement(&devices, pids);
        *open.not_listed.lock().unwrap_or_else(PoisonError::into_inner) = match &placement {
            Placement::NotListed { why } => Some(why.clone()),
            Placement::OnChosen(_) | Placement::OnOthers(_) => None,
        };
        Ok(Some(placement))
    }

    /// Why NVML's process lists prove nothing of this server: it ran, and [`Gpu::placement`] did not find it.
    pub(super) fn not_listed(&self) -> Option<String> {
        self.0
            .as_ref()?
            .not_listed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Starts to sample all chosen devices, the first tick at once; a sampler that runs already is replaced.
    /// Does nothing without a GPU.
    ///
    /// # Errors
    /// The NVML thread has ended.
    pub fn start_sampling(&self, sampling: Sampling) -> Result<(), GpuError> {
        let Some(open) = &self.0 else { return Ok(()) };
        open.commands
            .send(Command::StartSampling(sampling))
            .map_err(|_| GpuError::ThreadEnded)
    }

    /// Stops the sampler and tells what it did; all zero where none ran.
    ///
    /// # Errors
    /// The NVML thread has ended.
    pub async fn stop_sampling(&self) -> Result<SamplerReport, GpuError> {
        let Some(open) = &self.0 else {
            return Ok(SamplerReport::default());
        };
        open.ask(Command::StopSampling).await
    }
}

impl Open {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, GpuError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .send(command(reply))
            .map_err(|_| GpuError::ThreadEnded)?;
        answer.await.map_err(|_| GpuError::ThreadEnded)
    }
}

fn to_gpu_error(device: u32, error: CallError) -> GpuError {
    let device = device.to_string();
    match error.kind {
        CallErrorKind::Lost => GpuError::Lost {
            device,
            detail: error.to_string(),
        },
        CallErrorKind::NoPermission => GpuError::NoPermission {
            detail: error.to_string(),
        },
        CallErrorKind::Unsupported => GpuError::Unanswered {
            device,
            call: error.call,
            detail: error.detail,
        },
        CallErrorKind::Other => GpuError::Call {
            call: error.call,
            detail: error.detail,
        },
    }
}
