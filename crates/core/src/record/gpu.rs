//! What the GPU is and what it did.

use serde::{Deserialize, Serialize};

/// Version of the GPU sample's layout.
pub const GPU_SAMPLE_VERSION: u32 = 1;

/// The driver's side of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GpuHost {
    /// NVIDIA driver version, `570.86.10`.
    pub driver: String,
    /// CUDA version that the driver supports, `12.8`.
    pub cuda: Option<String>,
    /// NVML version.
    pub nvml: Option<String>,
    /// The devices that the plan chose.
    pub devices: Vec<GpuDevice>,
}

/// One device's identity and limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GpuDevice {
    /// NVML index.
    pub index: u32,
    /// `GPU-…`, or `MIG-…`.
    pub uuid: String,
    /// Marketing name.
    pub name: String,
    /// All memory, bytes.
    pub memory_total_bytes: u64,
    /// Memory in use when benchd looked first, bytes.
    pub memory_used_bytes: u64,
    /// Enforced power limit, milliwatts.
    pub power_limit_mw: Option<u32>,
    /// Largest SM clock, MHz.
    pub sm_clock_max_mhz: Option<u32>,
    /// PCI bus id.
    pub pci_bus_id: Option<String>,
    /// Whether MIG mode is on.
    pub mig: Option<bool>,
    /// Uncorrected volatile ECC errors, where the device counts them.
    pub ecc_uncorrected: Option<u64>,
    /// CUDA compute capability, `8.0` for an A100; absent in runs of older benchds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
}

/// A process that NVML sees on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GpuProcess {
    /// Process id as NVML gives it (in a container it may be the host's).
    pub pid: u32,
    /// Device index.
    pub device: u32,
    /// Memory it holds, bytes; `None` where the driver doesn't say.
    pub used_bytes: Option<u64>,
    /// Its name by /proc, where it can be seen.
    pub name: Option<String>,
}

/// A reason why clocks are below what was asked. Names follow NVML's clocks event reasons.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ThrottleReason {
    /// Nothing to do; not a fault.
    GpuIdle,
    /// Clocks set by an application.
    ApplicationsClocksSetting,
    /// Software power cap.
    SwPowerCap,
    /// Hardware slowdown (temperature, power brake).
    HwSlowdown,
    /// Sync boost group.
    SyncBoost,
    /// Software thermal slowdown.
    SwThermalSlowdown,
    /// Hardware thermal slowdown.
    HwThermalSlowdown,
    /// Hardware power brake.
    HwPowerBrakeSlowdown,
    /// Display clock setting.
    DisplayClockSetting,
    /// A bit that this version does not know.
    Unknown,
}

impl ThrottleReason {
    /// Whether this reason makes figures of the moment suspect.
    pub fn slows(self) -> bool {
        !matches!(self, Self::GpuIdle | Self::ApplicationsClocksSetting)
    }
}

/// One line of `gpu.jsonl`: one device at one tick. A value that the driver refused is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GpuSample {
    /// Layout version, [`GPU_SAMPLE_VERSION`].
    pub v: u32,
    /// Wall clock, microseconds since the Unix epoch.
    pub unix_us: u64,
    /// Device index.
    pub device: u32,
    /// Memory in use, bytes (without what the driver reserves).
    pub memory_used_bytes: Option<u64>,
    /// Memory that the driver reserves, bytes.
    pub memory_reserved_bytes: Option<u64>,
    /// Share of the last driver period in which a kernel ran, percent.
    pub util_gpu_pct: Option<u32>,
    /// Share of the last driver period in which memory was read or written, percent.
    pub util_memory_pct: Option<u32>,
    /// Power draw, milliwatts.
    pub power_mw: Option<u32>,
    /// Energy since the driver was loaded, millijoules.
    pub energy_mj: Option<u64>,
    /// SM clock, MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Memory clock, MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Temperature, degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Why clocks are low.
    pub throttle: Option<Vec<ThrottleReason>>,
    /// Memory by process: the server's own, and strangers.
    pub processes: Option<Vec<GpuProcess>>,
    /// How long the NVML calls of this sample took, microseconds.
    pub took_us: u64,
    /// Calls that failed in this sample, `call: error`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}
