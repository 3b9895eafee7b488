//! The calls themselves, each with its C name in its error. Only the NVML thread comes here.

use nvml_wrapper::{
    Device, Nvml,
    bitmasks::device::ThrottleReasons,
    cuda_driver_version_major, cuda_driver_version_minor,
    enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor},
    enums::device::UsedGpuMemory,
    error::{Bits, NvmlError},
    struct_wrappers::device::ProcessInfo,
};

use super::{
    error::{CallError, CallErrorKind, GpuError},
    observation::{DeviceHealth, DeviceObservation},
    placement::DeviceProcesses,
};
use crate::process::Seen;
use benchd_core::record::{GpuDevice, GpuHost, GpuProcess, ThrottleReason};
use benchd_plan::DeviceSelector;

const MEMORY: &str = "nvmlDeviceGetMemoryInfo_v2";
const COMPUTE: &str = "nvmlDeviceGetComputeRunningProcesses_v3";

/// A device that the plan chose.
pub(super) struct Chosen<'nvml> {
    device: Device<'nvml>,
    /// NVML index; of a MIG instance, its GPU's.
    pub(super) index: u32,
    uuid: String,
    mig_instance: bool,
}

/// Memory of a device, bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    pub(super) reserved_bytes: u64,
    pub(super) used_bytes: u64,
}

/// A failed call under its C name.
fn named<T>(call: &'static str, result: Result<T, NvmlError>) -> Result<T, CallError> {
    result.map_err(|error| CallError::new(call, &error))
}

impl Chosen<'_> {
    /// Memory by version 2 of the call; version 1 would count what the driver reserves as used.
    pub(super) fn memory(&self) -> Result<Memory, CallError> {
        let info = named(MEMORY, self.device.memory_info())?;
        Ok(Memory {
            reserved_bytes: info.reserved,
            used_bytes: info.used,
        })
    }

    /// Percent of time in which a kernel ran, and in which memory was read or written.
    pub(super) fn utilisation(&self) -> Result<(u32, u32), CallError> {
        let rates = named("nvmlDeviceGetUtilizationRates", self.device.utilization_rates())?;
        Ok((rates.gpu, rates.memory))
    }

    pub(super) fn power_mw(&self) -> Result<u32, CallError> {
        named("nvmlDeviceGetPowerUsage", self.device.power_usage())
    }

    pub(super) fn energy_mj(&self) -> Result<u64, CallError> {
        named(
            "nvmlDeviceGetTotalEnergyConsumption",
            self.device.total_energy_consumption(),
        )
    }

    pub(super) fn sm_clock_mhz(&self) -> Result<u32, CallError> {
        named("nvmlDeviceGetClockInfo(SM)", self.device.clock_info(Clock::SM))
    }

    pub(super) fn memory_clock_mhz(&self) -> Result<u32, CallError> {
        named(
            "nvmlDeviceGetClockInfo(MEM)",
            self.device.clock_info(Clock::Memory),
        )
    }

    pub(super) fn temperature_c(&self) -> Result<u32, CallError> {
        named(
            "nvmlDeviceGetTemperature",
            self.device.temperature(TemperatureSensor::Gpu),
        )
    }

    pub(super) fn throttle(&self) -> Result<Vec<ThrottleReason>, CallError> {
        match self.device.current_throttle_reasons_strict() {
            Ok(reasons) => Ok(throttle_reasons(reasons.bits())),
            // Bits that the wrapper does not know are kept as `Unknown`.
            Err(NvmlError::IncorrectBits(Bits::U64(bits))) => Ok(throttle_reasons(bits)),
            Err(error) => Err(CallError::new(
                "nvmlDeviceGetCurrentClocksThrottleReasons",
                &error,
            )),
        }
    }

    pub(super) fn compute_processes(&self) -> Result<Vec<GpuProcess>, CallError> {
        let processes = named(COMPUTE, self.device.running_compute_processes())?;
        Ok(processes
            .iter()
            .map(|process| to_process(self.index, process))
            .collect())
    }

    fn graphics_processes(&self) -> Result<Vec<GpuProcess>, CallError> {
        let processes = self.device.running_graphics_processes();
        let processes = named("nvmlDeviceGetGraphicsRunningProcesses_v3", processes)?;
        Ok(processes
            .iter()
            .map(|process| to_process(self.index, process))
            .collect())
    }

    pub(super) fn observe(&self) -> DeviceObservation {
        DeviceObservation {
            index: self.index,
            used_bytes: self.memory().map(|memory| memory.used_bytes),
            processes: self.compute_processes(),
            graphics: self.graphics_processes().unwrap_or_default(),
        }
    }

    pub(super) fn health(&self) -> DeviceHealth {
        DeviceHealth {
            index: self.index,
            throttle: self.throttle().ok(),
            temperature_c: self.temperature_c().ok(),
            persistence: optional(
                "nvmlDeviceGetPersistenceMode",
                self.device.is_in_persistent_mode(),
            ),
            retirement_pending: optional(
                "nvmlDeviceGetRetiredPagesPendingStatus",
                self.device.are_pages_pending_retired(),
            ),
            util_gpu_pct: self.utilisation().ok().map(|(gpu, _)| gpu),
        }
    }

    fn describe(&self) -> Result<GpuDevice, GpuError> {
        let device = &self.device;
        let label = self.index.to_string();
        let memory = device
            .memory_info()
            .map_err(|error| GpuError::at_device(&label, MEMORY, &error))?;
        Ok(GpuDevice {
            index: self.index,
            uuid: self.uuid.clone(),
            name: device
                .name()
                .map_err(|error| GpuError::at_device(&label, "nvmlDeviceGetName", &error))?,
            memory_total_bytes: memory.total,
            memory_used_bytes: memory.used,
            power_limit_mw: optional("nvmlDeviceGetEnforcedPowerLimit", device.enforced_power_limit()),
            sm_clock_max_mhz: optional("nvmlDeviceGetMaxClockInfo", device.max_clock_info(Clock::SM)),
            pci_bus_id: optional("nvmlDeviceGetPciInfo_v3", device.pci_info()).map(|pci| pci.bus_id),
            mig: if self.mig_instance {
                Some(true)
            } else {
                // NVML_DEVICE_MIG_ENABLE is 1.
                optional("nvmlDeviceGetMigMode", device.mig_mode()).map(|mode| mode.current == 1)
            },
            ecc_uncorrected: optional(
                "nvmlDeviceGetTotalEccErrors",
                device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile),
            ),
            compute_capability: optional(
                "nvmlDeviceGetCudaComputeCapability",
                device.cuda_compute_capability(),
            )
            .map(|capability| format!("{}.{}", capability.major, capability.minor)),
        })
    }
}

/// A value that may be absent; why it is, goes to the log.
fn optional<T>(call: &'static str, result: Result<T, NvmlError>) -> Option<T> {
    result
        .map_err(|error| tracing::debug!(call, %error, "NVML has no such value here"))
        .ok()
}

fn to_process(device: u32, process: &ProcessInfo) -> GpuProcess {
    GpuProcess {
        pid: process.pid,
        device,
        used_bytes: match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        },
        name: i32::try_from(process.pid)
            .ok()
            .and_then(Seen::read)
            .map(|seen| seen.identity.name),
    }
}

/// The reasons by NVML's bits (nvml.h, `nvmlClocksEventReason…`).
fn throttle_reasons(bits: u64) -> Vec<ThrottleReason> {
    const KNOWN: [(ThrottleReasons, ThrottleReason); 9] = [
        (ThrottleReasons::GPU_IDLE, ThrottleReason::GpuIdle),
        (
            ThrottleReasons::APPLICATIONS_CLOCKS_SETTING,
            ThrottleReason::ApplicationsClocksSetting,
        ),
        (ThrottleReasons::SW_POWER_CAP, ThrottleReason::SwPowerCap),
        (ThrottleReasons::HW_SLOWDOWN, ThrottleReason::HwSlowdown),
        (ThrottleReasons::SYNC_BOOST, ThrottleReason::SyncBoost),
        (
            ThrottleReasons::SW_THERMAL_SLOWDOWN,
            ThrottleReason::SwThermalSlowdown,
        ),
        (
            ThrottleReasons::HW_THERMAL_SLOWDOWN,
            ThrottleReason::HwThermalSlowdown,
        ),
        (
            ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN,
            ThrottleReason::HwPowerBrakeSlowdown,
        ),
        (
            ThrottleReasons::DISPLAY_CLOCK_SETTING,
            ThrottleReason::DisplayClockSetting,
        ),
    ];
    let mut unknown = bits;
    let mut reasons = Vec::new();
    for (bit, reason) in KNOWN {
        if bits & bit.bits() != 0 {
            reasons.push(reason);
        }
        unknown &= !bit.bits();
    }
    if unknown != 0 {
        reasons.push(ThrottleReason::Unknown);
    }
    reasons
}

/// The devices that the plan chose, in its order.
pub(super) fn choose<'nvml>(
    nvml: &'nvml Nvml,
    selectors: &[DeviceSelector],
) -> Result<Vec<Chosen<'nvml>>, GpuError> {
    let mut chosen: Vec<Chosen<'nvml>> = Vec::new();
    for selector in selectors {
        let next = choose_one(nvml, selector)?;
        if chosen.iter().any(|earlier| earlier.uuid == next.uuid) {
            return Err(GpuError::NamedTwice { uuid: next.uuid });
        }
        chosen.push(next);
    }
    if chosen.len() > 1
        && let Some(mig) = chosen.iter().find(|device| device.mig_instance)
    {
        return Err(GpuError::MigBesideOthers {
            uuid: mig.uuid.clone(),
        });
    }
    Ok(chosen)
}

fn choose_one<'nvml>(nvml: &'nvml Nvml, selector: &DeviceSelector) -> Result<Chosen<'nvml>, GpuError> {
    let (label, call, found) = match selector {
        DeviceSelector::Index(index) => (
            index.to_string(),
            "nvmlDeviceGetHandleByIndex_v2",
            nvml.device_by_index(*index),
        ),
        DeviceSelector::Uuid(uuid) => (
            uuid.clone(),
            "nvmlDeviceGetHandleByUUID",
            nvml.device_by_uuid(uuid.as_str()),
        ),
    };
    let device = found.map_err(|error| match (selector, &error) {
        (DeviceSelector::Index(index), NvmlError::InvalidArg | NvmlError::NotFound) => {
            GpuError::NoSuchIndex {
                index: *index,
                present: present(nvml),
            }
        }
        (
            DeviceSelector::Uuid(uuid),
            NvmlError::InvalidArg | NvmlError::NotFound | NvmlError::NulError(_),
        ) => GpuError::NoSuchUuid {
            uuid: uuid.clone(),
            present: present(nvml),
        },
        _ if CallErrorKind::of(&error) == CallErrorKind::Other => GpuError::Call {
            call,
            detail: error.to_string(),
        },
        _ => GpuError::at_device(&label, call, &error),
    })?;
    let at = |call| {
        let label = label.clone();
        move |error: NvmlError| GpuError::at_device(&label, call, &error)
    };
    // A driver without the call knows no MIG.
    let mig_instance =
        optional("nvmlDeviceIsMigDeviceHandle", device.mig_is_mig_device_handle()).unwrap_or(false);
    let index = if mig_instance {
        let parent = device
            .mig_parent_device()
            .map_err(at("nvmlDeviceGetDeviceHandleFromMigDeviceHandle"))?;
        parent.index().map_err(at("nvmlDeviceGetIndex"))?
    } else {
        device.index().map_err(at("nvmlDeviceGetIndex"))?
    };
    let uuid = device.uuid().map_err(at("nvmlDeviceGetUUID"))?;
    Ok(Chosen {
        device,
        index,
        uuid,
        mig_instance,
    })
}

/// The devices that are there, in words that go on after "there".
fn present(nvml: &Nvml) -> String {
    let count = match nvml.device_count() {
        Ok(count) => count,
        Err(error) => return format!("may be others (nvmlDeviceGetCount_v2: {error})"),
    };
    let devices: Vec<String> = (0..count)
        .map(|index| {
            let named = nvml
                .device_by_index(index)
                .and_then(|device| Ok((device.name()?, device.uuid()?)));
            match named {
                Ok((name, uuid)) => format!("{index}: {name} ({uuid})"),
                Err(error) => format!("{index}: {error}"),
            }
        })
        .collect();
    match devices.as_slice() {
        [] => "are none".to_owned(),
        [only] => format!("is {only}"),
        several => format!("are {}", several.join(", ")),
    }
}

/// The driver, and the chosen devices with what each is.
pub(super) fn inventory(nvml: &Nvml, chosen: &[Chosen<'_>]) -> Result<GpuHost, GpuError> {
    let driver = nvml.sys_driver_version().map_err(|error| GpuError::Call {
        call: "nvmlSystemGetDriverVersion",
        detail: error.to_string(),
    })?;
    let cuda = optional(
        "nvmlSystemGetCudaDriverVersion_v2",
        nvml.sys_cuda_driver_version(),
    );
    Ok(GpuHost {
        driver,
        cuda: cuda.map(|version| {
            format!(
                "{}.{}",
                cuda_driver_version_major(version),
                cuda_driver_version_minor(version)
            )
        }),
        nvml: optional("nvmlSystemGetNVMLVersion", nvml.sys_nvml_version()),
        devices: chosen.iter().map(Chosen::describe).collect::<Result<_, _>>()?,
    })
}

/// The compute processes of all devices of the machine.
pub(super) fn processes(nvml: &Nvml, chosen: &[Chosen<'_>]) -> Result<Vec<DeviceProcesses>, GpuError> {
    let count = nvml.device_count().map_err(|error| GpuError::Call {
        call: "nvmlDeviceGetCount_v2",
        detail: error.to_string(),
    })?;
    Ok((0..count)
        .map(|index| {
            let ours = chosen.iter().find(|device| device.index == index);
            let processes = match ours {
                Some(device) => device.compute_processes().map_err(|error| error.to_string()),
                None => nvml
                    .device_by_index(index)
                    .and_then(|device| device.running_compute_processes())
                    .map(|processes| {
                        processes
                            .iter()
                            .map(|process| to_process(index, process))
                            .collect()
                    })
                    .map_err(|error| format!("{COMPUTE}: {error}")),
            };
            DeviceProcesses {
                index,
                chosen: ours.is_some(),
                processes,
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttle_bits_have_names_and_new_ones_are_not_lost() {
        assert_eq!(throttle_reasons(0), []);
        assert_eq!(throttle_reasons(1), [ThrottleReason::GpuIdle]);
        assert_eq!(
            throttle_reasons(0x4 | 0x40),
            [ThrottleReason::SwPowerCap, ThrottleReason::HwThermalSlowdown]
        );
        assert_eq!(
            throttle_reasons(0x8 | 0x1000 | 0x2000),
            [ThrottleReason::HwSlowdown, ThrottleReason::Unknown]
        );
        assert_eq!(throttle_reasons(0x1ff).len(), 9);
    }
}
