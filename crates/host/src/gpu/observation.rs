//! What the devices say at one moment.

use super::error::CallError;
use benchd_core::record::{GpuProcess, ThrottleReason};

/// What the devices say at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The chosen devices, in the plan's order.
    pub devices: Vec<DeviceObservation>,
}

/// What one device says at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceObservation {
    /// NVML index; of a MIG instance, its GPU's.
    pub index: u32,
    /// Memory in use, bytes, without what the driver reserves.
    pub used_bytes: Result<u64, CallError>,
    /// Compute processes; the failed call where NVML does not list them.
    pub processes: Result<Vec<GpuProcess>, CallError>,
    /// Graphics processes, where NVML lists them; they hold memory too.
    pub graphics: Vec<GpuProcess>,
}

/// How well one device is, beyond what it holds. A value that the driver does not give is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceHealth {
    /// NVML index; of a MIG instance, its GPU's.
    pub index: u32,
    /// Why clocks are low now.
    pub throttle: Option<Vec<ThrottleReason>>,
    /// Degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Whether the driver stays awake without a client.
    pub persistence: Option<bool>,
    /// Whether memory pages wait for a reset to be retired.
    pub retirement_pending: Option<bool>,
    /// Share of the last driver period in which a kernel ran, percent.
    pub util_gpu_pct: Option<u32>,
}
