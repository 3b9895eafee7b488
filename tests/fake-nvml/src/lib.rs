//! Test only: exports the C functions of NVML that nvml-wrapper 0.13 calls for benchd, and answers them from
//! a state that tests control (see [`state`]). Layouts and codes are those of `nvml.h` (NVML 13).
//!
//! A handle is a number in a pointer's clothes: device index + 1 in the low 16 bits, MIG instance + 1 above;
//! it is never dereferenced.

mod state;

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void},
    time::Duration,
};

use state::{Device, Process, State};

type Code = c_uint;
type Handle = *mut c_void;

const SUCCESS: Code = 0;
const INVALID_ARGUMENT: Code = 2;
const NOT_SUPPORTED: Code = 3;
const NOT_FOUND: Code = 6;
const INSUFFICIENT_SIZE: Code = 7;
const GPU_IS_LOST: Code = 15;
const UNKNOWN: Code = 999;

/// The codes that a state file can ask for, by NVML's names without their prefix.
const CODES: [(&str, Code, &CStr); 17] = [
    ("SUCCESS", SUCCESS, c"Success"),
    ("UNINITIALIZED", 1, c"Uninitialized"),
    ("INVALID_ARGUMENT", INVALID_ARGUMENT, c"Invalid Argument"),
    ("NOT_SUPPORTED", NOT_SUPPORTED, c"Not Supported"),
    ("NO_PERMISSION", 4, c"Insufficient Permissions"),
    ("NOT_FOUND", NOT_FOUND, c"Not Found"),
    ("INSUFFICIENT_SIZE", INSUFFICIENT_SIZE, c"Insufficient Size"),
    ("DRIVER_NOT_LOADED", 9, c"Driver Not Loaded"),
    ("TIMEOUT", 10, c"Timeout"),
    ("LIBRARY_NOT_FOUND", 12, c"NVML Shared Library Not Found"),
    ("FUNCTION_NOT_FOUND", 13, c"Function Not Found"),
    ("GPU_IS_LOST", GPU_IS_LOST, c"GPU is lost"),
    ("RESET_REQUIRED", 16, c"GPU requires restart"),
    (
        "OPERATING_SYSTEM",
        17,
        c"The operating system has blocked the request.",
    ),
    ("LIB_RM_VERSION_MISMATCH", 18, c"Driver/library version mismatch"),
    ("NO_DATA", 21, c"No data"),
    ("UNKNOWN", UNKNOWN, c"Unknown Error"),
];

/// `nvmlMemory_t`.
#[repr(C)]
struct MemoryV1 {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlMemory_v2_t`.
#[repr(C)]
struct MemoryV2 {
    version: c_uint,
    total: c_ulonglong,
    reserved: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlUtilization_t`.
#[repr(C)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// `nvmlProcessInfo_t`, which is `nvmlProcessInfo_v2_t`.
#[repr(C)]
struct ProcessInfo {
    pid: c_uint,
    used_gpu_memory: c_ulonglong,
    gpu_instance_id: c_uint,
    compute_instance_id: c_uint,
}

/// `nvmlPciInfo_t`.
#[repr(C)]
struct PciInfo {
    bus_id_legacy: [c_char; 16],
    domain: c_uint,
    bus: c_uint,
    device: c_uint,
    pci_device_id: c_uint,
    pci_subsystem_id: c_uint,
    bus_id: [c_char; 32],
}

/// One device of a state, or one MIG instance of it.
struct Target<'s> {
    state: &'s State,
    device: &'s Device,
    index: usize,
    mig: Option<usize>,
}

impl Target<'_> {
    /// What only a whole device answers.
    fn whole(&self) -> Result<&Device, Code> {
        if self.mig.is_some() {
            Err(NOT_SUPPORTED)
        } else {
            Ok(self.device)
        }
    }
}

fn code_named(name: &str) -> Code {
    CODES
        .iter()
        .find(|(known, ..)| *known == name)
        .map_or(UNKNOWN, |(_, code, _)| *code)
}

fn code_of(result: Result<(), Code>) -> Code {
    match result {
        Ok(()) => SUCCESS,
        Err(code) => code,
    }
}

/// What comes before every answer: the note of the call, its delay, the error that the state asks for.
fn enter(function: &str) -> Result<State, Code> {
    let state = state::load();
    state::record(&state, function);
    if let Some(delay_ms) = state.delay_ms.get(function) {
        std::thread::sleep(Duration::from_millis(*delay_ms));
    }
    match state.fail.get(function).map(|name| code_named(name)) {
        None | Some(SUCCESS) => Ok(state),
        Some(code) => Err(code),
    }
}

fn system(function: &str, answer: impl FnOnce(&State) -> Result<(), Code>) -> Code {
    code_of(enter(function).and_then(|state| answer(&state)))
}

fn handle(index: usize, mig: Option<usize>) -> Handle {
    let number = (index + 1) | (mig.map_or(0, |mig| mig + 1) << 16);
    std::ptr::without_provenance_mut(number)
}

fn on(function: &str, handle: Handle, answer: impl FnOnce(&Target<'_>) -> Result<(), Code>) -> Code {
    code_of(enter(function).and_then(|state| {
        let number = handle.addr();
        let index = (number & 0xffff).checked_sub(1).ok_or(INVALID_ARGUMENT)?;
        let device = state.devices.get(index).ok_or(INVALID_ARGUMENT)?;
        if state.lost || device.lost {
            return Err(GPU_IS_LOST);
        }
        if let Some(name) = device.fail.get(function) {
            return Err(code_named(name));
        }
        answer(&Target {
            state: &state,
            device,
            index,
            mig: (number >> 16).checked_sub(1),
        })
    }))
}

/// Writes `value` through a pointer that came from the caller.
///
/// # Safety
/// `out` is null or valid for writing a `T`.
unsafe fn put<T>(out: *mut T, value: T) -> Result<(), Code> {
    if out.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, and valid by this function's contract.
    unsafe { out.write(value) };
    Ok(())
}

/// Writes `text` with its NUL into a caller's buffer.
///
/// # Safety
/// `out` is null or valid for writing `length` bytes.
unsafe fn put_text(out: *mut c_char, length: c_uint, text: &str) -> Result<(), Code> {
    if out.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= length as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: text and its NUL fit into `length` bytes, which are valid by this function's contract; the
    // two ranges can't overlap, one is the caller's and the other this library's.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast::<c_char>(), out, text.len());
        out.add(text.len()).write(0);
    }
    Ok(())
}

/// NVML's protocol for process lists: `count` in is the room, out what is there or what is needed.
///
/// # Safety
/// `count` is null or valid; `out` is null or valid for writing as many entries as `count` says.
unsafe fn put_processes(
    count: *mut c_uint,
    out: *mut ProcessInfo,
    state: &State,
    processes: &[Process],
) -> Result<(), Code> {
    if count.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    let processes = if state.hide_processes { &[] } else { processes };
    // SAFETY: not null, valid by this function's contract.
    let room = unsafe { count.read() };
    // SAFETY: as above.
    unsafe { count.write(processes.len() as c_uint) };
    if processes.is_empty() {
        return Ok(());
    }
    if out.is_null() || (room as usize) < processes.len() {
        return Err(INSUFFICIENT_SIZE);
    }
    for (position, process) in processes.iter().enumerate() {
        let info = ProcessInfo {
            pid: process.pid,
            // NVML_VALUE_NOT_AVAILABLE is all ones.
            used_gpu_memory: if state.hide_process_memory || process.untold {
                c_ulonglong::MAX
            } else {
                process.used_bytes
            },
            gpu_instance_id: c_uint::MAX,
            compute_instance_id: c_uint::MAX,
        };
        // SAFETY: position < processes.len() <= room, and `room` entries are valid by the contract.
        unsafe { out.add(position).write(info) };
    }
    Ok(())
}

fn used_bytes(target: &Target<'_>) -> u64 {
    target
        .device
        .base_used_bytes
        .saturating_add(state::held(target.state, target.index).bytes)
}

/// Declares exported functions. All have NVML's contract: pointers are null or valid for what is written.
macro_rules! exported {
    ($(fn $name:ident($($arg:ident: $kind:ty),*) $body:block)*) => {$(
        /// # Safety
        /// Pointers are null or valid for what NVML writes through them.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $kind),*) -> Code $body
    )*};
}

exported! {
    fn nvmlInit_v2() {
        state::uptime();
        system("nvmlInit_v2", |_| Ok(()))
    }

    fn nvmlInitWithFlags(_flags: c_uint) {
        state::uptime();
        system("nvmlInitWithFlags", |_| Ok(()))
    }

    fn nvmlShutdown() {
        system("nvmlShutdown", |_| Ok(()))
    }

    fn nvmlSystemGetDriverVersion(out: *mut c_char, length: c_uint) {
        // SAFETY: the caller's buffer has `length` bytes by NVML's contract.
        system("nvmlSystemGetDriverVersion", |state| unsafe { put_text(out, length, &state.driver) })
    }

    fn nvmlSystemGetNVMLVersion(out: *mut c_char, length: c_uint) {
        // SAFETY: the caller's buffer has `length` bytes by NVML's contract.
        system("nvmlSystemGetNVMLVersion", |state| unsafe { put_text(out, length, &state.nvml) })
    }

    fn nvmlSystemGetCudaDriverVersion_v2(out: *mut c_int) {
        // SAFETY: null or valid by NVML's contract.
        system("nvmlSystemGetCudaDriverVersion_v2", |state| unsafe { put(out, state.cuda) })
    }

    fn nvmlDeviceGetCount_v2(out: *mut c_uint) {
        // SAFETY: null or valid by NVML's contract.
        system("nvmlDeviceGetCount_v2", |state| unsafe { put(out, state.devices.len() as c_uint) })
    }

    fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, out: *mut Handle) {
        system("nvmlDeviceGetHandleByIndex_v2", |state| {
            let index = index as usize;
            let device = state.devices.get(index).ok_or(INVALID_ARGUMENT)?;
            if state.lost || device.lost {
                return Err(GPU_IS_LOST);
            }
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, handle(index, None)) }
        })
    }

    fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, out: *mut Handle) {
        system("nvmlDeviceGetHandleByUUID", |state| {
            if uuid.is_null() {
                return Err(INVALID_ARGUMENT);
            }
            // SAFETY: not null, a NUL-terminated string by NVML's contract.
            let uuid = unsafe { CStr::from_ptr(uuid) }.to_str().map_err(|_| INVALID_ARGUMENT)?;
            for (index, device) in state.devices.iter().enumerate() {
                let mig = device.mig_uuids.iter().position(|known| known == uuid);
                if device.uuid != uuid && mig.is_none() {
                    continue;
                }
                if state.lost || device.lost {
                    return Err(GPU_IS_LOST);
                }
                // SAFETY: null or valid by NVML's contract.
                return unsafe { put(out, handle(index, mig)) };
            }
            Err(NOT_FOUND)
        })
    }

    fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: *const c_char, out: *mut Handle) {
        system("nvmlDeviceGetHandleByPciBusId_v2", |state| {
            if bus_id.is_null() {
                return Err(INVALID_ARGUMENT);
            }
            // SAFETY: not null, a NUL-terminated string by NVML's contract.
            let bus_id = unsafe { CStr::from_ptr(bus_id) }.to_str().map_err(|_| INVALID_ARGUMENT)?;
            let index = state.devices.iter().position(|device| device.pci_bus_id == bus_id).ok_or(NOT_FOUND)?;
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, handle(index, None)) }
        })
    }

    fn nvmlDeviceIsMigDeviceHandle(device: Handle, out: *mut c_uint) {
        // SAFETY: null or valid by NVML's contract.
        on("nvmlDeviceIsMigDeviceHandle", device, |target| unsafe { put(out, u32::from(target.mig.is_some())) })
    }

    fn nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device: Handle, out: *mut Handle) {
        on("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", device, |target| {
            target.mig.ok_or(INVALID_ARGUMENT)?;
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, handle(target.index, None)) }
        })
    }

    fn nvmlDeviceGetIndex(device: Handle, out: *mut c_uint) {
        on("nvmlDeviceGetIndex", device, |target| {
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, target.mig.unwrap_or(target.index) as c_uint) }
        })
    }

    fn nvmlDeviceGetUUID(device: Handle, out: *mut c_char, length: c_uint) {
        on("nvmlDeviceGetUUID", device, |target| {
            let uuid = match target.mig {
                Some(mig) => target.device.mig_uuids.get(mig).ok_or(NOT_FOUND)?,
                None => &target.device.uuid,
            };
            // SAFETY: the caller's buffer has `length` bytes by NVML's contract.
            unsafe { put_text(out, length, uuid) }
        })
    }

    fn nvmlDeviceGetName(device: Handle, out: *mut c_char, length: c_uint) {
        // SAFETY: the caller's buffer has `length` bytes by NVML's contract.
        on("nvmlDeviceGetName", device, |target| unsafe { put_text(out, length, &target.device.name) })
    }

    fn nvmlDeviceGetPciInfo_v3(device: Handle, out: *mut PciInfo) {
        on("nvmlDeviceGetPciInfo_v3", device, |target| {
            let text = &target.device.pci_bus_id;
            let mut bus_id = [0; 32];
            for (place, byte) in bus_id[..31].iter_mut().zip(text.bytes()) {
                *place = byte as c_char;
            }
            let mut bus_id_legacy = [0; 16];
            for (place, byte) in bus_id_legacy[..15].iter_mut().zip(text.bytes().skip(4)) {
                *place = byte as c_char;
            }
            let info = PciInfo {
                bus_id_legacy,
                domain: 0,
                bus: 0,
                device: 0,
                pci_device_id: 0x2330_10de,
                pci_subsystem_id: 0,
                bus_id,
            };
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, info) }
        })
    }

    fn nvmlDeviceGetMemoryInfo(device: Handle, out: *mut MemoryV1) {
        on("nvmlDeviceGetMemoryInfo", device, |target| {
            let total = target.device.total_bytes;
            let used = used_bytes(target).saturating_add(target.device.reserved_bytes);
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, MemoryV1 { total, free: total.saturating_sub(used), used }) }
        })
    }

    fn nvmlDeviceGetMemoryInfo_v2(device: Handle, out: *mut MemoryV2) {
        on("nvmlDeviceGetMemoryInfo_v2", device, |target| {
            let total = target.device.total_bytes;
            let reserved = target.device.reserved_bytes;
            let used = used_bytes(target);
            let free = total.saturating_sub(used).saturating_sub(reserved);
            let version = (size_of::<MemoryV2>() | (2 << 24)) as c_uint;
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, MemoryV2 { version, total, reserved, free, used }) }
        })
    }

    fn nvmlDeviceGetUtilizationRates(device: Handle, out: *mut Utilization) {
        on("nvmlDeviceGetUtilizationRates", device, |target| {
            let device = target.whole()?;
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, Utilization { gpu: device.util_gpu_pct, memory: device.util_memory_pct }) }
        })
    }

    fn nvmlDeviceGetPowerUsage(device: Handle, out: *mut c_uint) {
        // SAFETY: null or valid by NVML's contract.
        on("nvmlDeviceGetPowerUsage", device, |target| unsafe { put(out, target.whole()?.power_mw) })
    }

    fn nvmlDeviceGetEnforcedPowerLimit(device: Handle, out: *mut c_uint) {
        // SAFETY: null or valid by NVML's contract.
        on("nvmlDeviceGetEnforcedPowerLimit", device, |target| unsafe { put(out, target.whole()?.power_limit_mw) })
    }

    fn nvmlDeviceGetTotalEnergyConsumption(device: Handle, out: *mut c_ulonglong) {
        on("nvmlDeviceGetTotalEnergyConsumption", device, |target| {
            let device = target.whole()?;
            let grown_mj = if device.energy_runs {
                (f64::from(device.power_mw) * state::uptime().as_secs_f64()) as u64
            } else {
                0
            };
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, device.energy_mj.saturating_add(grown_mj)) }
        })
    }

    fn nvmlDeviceGetClockInfo(device: Handle, clock: c_uint, out: *mut c_uint) {
        on("nvmlDeviceGetClockInfo", device, |target| {
            let device = target.whole()?;
            let mhz = match clock {
                0 | 1 => device.sm_clock_mhz,
                2 => device.memory_clock_mhz,
                _ => return Err(INVALID_ARGUMENT),
            };
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, mhz) }
        })
    }

    fn nvmlDeviceGetMaxClockInfo(device: Handle, clock: c_uint, out: *mut c_uint) {
        on("nvmlDeviceGetMaxClockInfo", device, |target| {
            let device = target.whole()?;
            let mhz = match clock {
                0 | 1 => device.sm_clock_max_mhz,
                2 => device.memory_clock_mhz,
                _ => return Err(INVALID_ARGUMENT),
            };
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, mhz) }
        })
    }

    fn nvmlDeviceGetTemperature(device: Handle, _sensor: c_uint, out: *mut c_uint) {
        // SAFETY: null or valid by NVML's contract.
        on("nvmlDeviceGetTemperature", device, |target| unsafe { put(out, target.whole()?.temperature_c) })
    }

    fn nvmlDeviceGetCurrentClocksThrottleReasons(device: Handle, out: *mut c_ulonglong) {
        // SAFETY: null or valid by NVML's contract.
        on("nvmlDeviceGetCurrentClocksThrottleReasons", device, |target| unsafe { put(out, target.whole()?.throttle) })
    }

    fn nvmlDeviceGetCurrentClocksEventReasons(device: Handle, out: *mut c_ulonglong) {
        // SAFETY: null or valid by NVML's contract.
        on("nvmlDeviceGetCurrentClocksEventReasons", device, |target| unsafe { put(out, target.whole()?.throttle) })
    }

    fn nvmlDeviceGetComputeRunningProcesses_v3(device: Handle, count: *mut c_uint, out: *mut ProcessInfo) {
        on("nvmlDeviceGetComputeRunningProcesses_v3", device, |target| {
            let held = state::held(target.state, target.index);
            // SAFETY: `out` has as many entries as `count` says by NVML's contract.
            unsafe { put_processes(count, out, target.state, &held.listed) }
        })
    }

    fn nvmlDeviceGetGraphicsRunningProcesses_v3(device: Handle, count: *mut c_uint, out: *mut ProcessInfo) {
        on("nvmlDeviceGetGraphicsRunningProcesses_v3", device, |target| {
            // SAFETY: `out` has as many entries as `count` says by NVML's contract.
            unsafe { put_processes(count, out, target.state, &target.device.graphics) }
        })
    }

    fn nvmlDeviceGetMigMode(device: Handle, current: *mut c_uint, pending: *mut c_uint) {
        on("nvmlDeviceGetMigMode", device, |target| {
            let mig = u32::from(target.device.mig.ok_or(NOT_SUPPORTED)?);
            // SAFETY: both null or valid by NVML's contract.
            unsafe { put(current, mig).and_then(|()| put(pending, mig)) }
        })
    }

    fn nvmlDeviceGetPersistenceMode(device: Handle, out: *mut c_uint) {
        on("nvmlDeviceGetPersistenceMode", device, |target| {
            let on = target.whole()?.persistence.ok_or(NOT_SUPPORTED)?;
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, u32::from(on)) }
        })
    }

    fn nvmlDeviceGetCudaComputeCapability(device: Handle, major: *mut c_int, minor: *mut c_int) {
        on("nvmlDeviceGetCudaComputeCapability", device, |target| {
            let (is_major, is_minor) = target.device.compute_capability;
            // SAFETY: null or valid by NVML's contract.
            unsafe {
                put(major, is_major)?;
                put(minor, is_minor)
            }
        })
    }

    fn nvmlDeviceGetRetiredPagesPendingStatus(device: Handle, out: *mut c_uint) {
        on("nvmlDeviceGetRetiredPagesPendingStatus", device, |target| {
            let pending = target.whole()?.retirement_pending.ok_or(NOT_SUPPORTED)?;
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, u32::from(pending)) }
        })
    }

    fn nvmlDeviceGetTotalEccErrors(device: Handle, _kind: c_uint, _counter: c_uint, out: *mut c_ulonglong) {
        on("nvmlDeviceGetTotalEccErrors", device, |target| {
            let count = target.whole()?.ecc_uncorrected.ok_or(NOT_SUPPORTED)?;
            // SAFETY: null or valid by NVML's contract.
            unsafe { put(out, count) }
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: Code) -> *const c_char {
    CODES
        .iter()
        .find(|(_, known, _)| *known == code)
        .map_or(c"Unknown Error", |(.., text)| text)
        .as_ptr()
}
