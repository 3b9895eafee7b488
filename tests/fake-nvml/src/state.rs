//! The state that tests control: one JSON file, read again at every call, and beside it a folder with one
//! JSON file for every process that holds GPU memory.
//!
//! The file is named by the environment variable `FAKE_NVML_STATE`; without it, it is `state.json` in the
//! folder of the library itself, so that several copies of the library in one process have states of their own.

use std::{
    collections::BTreeMap,
    ffi::CStr,
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde::Deserialize;

/// The whole machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct State {
    /// Driver version.
    pub(crate) driver: String,
    /// NVML version.
    pub(crate) nvml: String,
    /// CUDA version as NVML gives it: 1000 × major + 10 × minor.
    pub(crate) cuda: i32,
    /// Devices in NVML's order.
    pub(crate) devices: Vec<Device>,
    /// Error by C function name: `{"nvmlDeviceGetPowerUsage": "NOT_SUPPORTED"}`.
    pub(crate) fail: BTreeMap<String, String>,
    /// Sleep before the answer, by C function name, milliseconds.
    pub(crate) delay_ms: BTreeMap<String, u64>,
    /// Every call on a device answers `GPU_IS_LOST`.
    pub(crate) lost: bool,
    /// Process lists are empty while memory is in use, as in some containers.
    pub(crate) hide_processes: bool,
    /// Processes are listed, what they hold is not.
    pub(crate) hide_process_memory: bool,
    /// Processes that have ended are still listed while they hold memory.
    pub(crate) list_dead: bool,
    /// What a process holds comes back this long after the first call that saw it gone, milliseconds. Without
    /// it, it never comes back by itself: the test removes the file.
    pub(crate) reap_dead_after_ms: Option<u64>,
    /// What ended processes held never comes back.
    pub(crate) never_release: bool,
    /// Append the name of each C function called to `<state file>.calls`.
    pub(crate) record_calls: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            driver: "580.159.04".to_owned(),
            nvml: "13.580.159.04".to_owned(),
            cuda: 13_000,
            devices: vec![Device::default()],
            fail: BTreeMap::new(),
            delay_ms: BTreeMap::new(),
            lost: false,
            hide_processes: false,
            hide_process_memory: false,
            list_dead: false,
            reap_dead_after_ms: None,
            never_release: false,
            record_calls: false,
        }
    }
}

/// One device.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) pci_bus_id: String,
    pub(crate) total_bytes: u64,
    /// Memory that the driver reserves; version 1 of the memory call counts it as used.
    pub(crate) reserved_bytes: u64,
    /// Memory in use by nobody in particular.
    pub(crate) base_used_bytes: u64,
    pub(crate) util_gpu_pct: u32,
    pub(crate) util_memory_pct: u32,
    pub(crate) power_mw: u32,
    pub(crate) power_limit_mw: u32,
    pub(crate) energy_mj: u64,
    /// Energy grows with `power_mw` from the first call on.
    pub(crate) energy_runs: bool,
    pub(crate) sm_clock_mhz: u32,
    pub(crate) sm_clock_max_mhz: u32,
    pub(crate) memory_clock_mhz: u32,
    pub(crate) temperature_c: u32,
    /// Clocks event reasons, NVML's bits.
    pub(crate) throttle: u64,
    /// MIG mode; `null`: the device knows none.
    pub(crate) mig: Option<bool>,
    /// MIG instances' UUIDs. An instance answers for its identity, memory and processes only.
    pub(crate) mig_uuids: Vec<String>,
    /// Uncorrected volatile ECC errors; `null`: the device has no ECC.
    pub(crate) ecc_uncorrected: Option<u64>,
    /// CUDA compute capability, major and minor.
    pub(crate) compute_capability: (i32, i32),
    /// Persistence mode; `null`: the driver does not say.
    pub(crate) persistence: Option<bool>,
    /// Whether memory pages wait to be retired; `null`: the device retires none.
    pub(crate) retirement_pending: Option<bool>,
    /// Every call on this device answers `GPU_IS_LOST`.
    pub(crate) lost: bool,
    /// As [`State::fail`], for this device only.
    pub(crate) fail: BTreeMap<String, String>,
    /// Compute processes that are always there.
    pub(crate) processes: Vec<Process>,
    /// Graphics processes that are always there.
    pub(crate) graphics: Vec<Process>,
}

impl Default for Device {
    fn default() -> Self {
        Self {
            uuid: "GPU-00000000-0000-0000-0000-000000000000".to_owned(),
            name: "Fake H100 80GB".to_owned(),
            pci_bus_id: "00000000:1B:00.0".to_owned(),
            total_bytes: 85_520_809_984,
            reserved_bytes: 503_316_480,
            base_used_bytes: 0,
            util_gpu_pct: 0,
            util_memory_pct: 0,
            power_mw: 70_000,
            power_limit_mw: 700_000,
            energy_mj: 1_000_000,
            energy_runs: false,
            sm_clock_mhz: 345,
            sm_clock_max_mhz: 1980,
            memory_clock_mhz: 2619,
            temperature_c: 30,
            throttle: 1,
            mig: Some(false),
            mig_uuids: Vec::new(),
            ecc_uncorrected: Some(0),
            compute_capability: (9, 0),
            persistence: Some(true),
            retirement_pending: Some(false),
            lost: false,
            fail: BTreeMap::new(),
            processes: Vec::new(),
            graphics: Vec::new(),
        }
    }
}

/// A process and what it holds; also the content of one file in `<state file>.d/`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) used_bytes: u64,
    /// Device index; only in files.
    #[serde(default)]
    pub(crate) device: usize,
    /// It is listed, what it holds is not (as some drivers do in containers and under MIG).
    #[serde(default)]
    pub(crate) untold: bool,
}

/// What processes hold on one device.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// Listed processes.
    pub(crate) listed: Vec<Process>,
    /// All that is held, also by what is not listed.
    pub(crate) bytes: u64,
}

static LAST_GOOD: Mutex<Option<State>> = Mutex::new(None);
static FIRST_CALL: OnceLock<Instant> = OnceLock::new();

/// Time since the first call of this process.
pub(crate) fn uptime() -> Duration {
    FIRST_CALL.get_or_init(Instant::now).elapsed()
}

/// The state file's path.
fn path() -> Option<&'static Path> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    PATH.get_or_init(|| match std::env::var_os("FAKE_NVML_STATE") {
        Some(path) => Some(PathBuf::from(path)),
        None => Some(own_path()?.parent()?.join("state.json")),
    })
    .as_deref()
}

/// The path under which this library was loaded.
fn own_path() -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    // SAFETY: all-zero bytes are a valid Dl_info (null pointers).
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: the address is a function of this library, and info is a live, writable Dl_info.
    let found = unsafe { libc::dladdr(own_path as *const libc::c_void, &mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr succeeded, so dli_fname is a NUL-terminated string that lives as long as the library.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes())))
}

/// The state as it is now. A file that can't be read or parsed (a test is just writing it) leaves the last
/// good one; without any, the default machine stands.
pub(crate) fn load() -> State {
    let mut last = LAST_GOOD.lock().unwrap_or_else(PoisonError::into_inner);
    let text = path().and_then(|path| fs::read(path).ok());
    match text.map(|text| serde_json::from_slice::<State>(&text)) {
        Some(Ok(state)) => *last = Some(state),
        Some(Err(error)) if last.is_none() => eprintln!("fake-nvml: state file: {error}"),
        _ => {}
    }
    last.clone().unwrap_or_default()
}

/// What processes hold on device `index`.
pub(crate) fn held(state: &State, index: usize) -> Held {
    let mut held = Held::default();
    let device = &state.devices[index];
    for process in device.processes.iter().chain(&device.graphics) {
        held.bytes = held.bytes.saturating_add(process.used_bytes);
    }
    held.listed.extend(device.processes.iter().cloned());
    let Some(folder) = path().map(|path| with_suffix(path, ".d")) else {
        return held;
    };
    let Ok(entries) = fs::read_dir(folder) else {
        return held;
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
    {
        let Some(process) = fs::read(file)
            .ok()
            .and_then(|text| serde_json::from_slice::<Process>(&text).ok())
        else {
            continue;
        };
        if process.device != index {
            continue;
        }
        let alive = is_alive(process.pid);
        if !alive && is_reaped(state, file) {
            continue;
        }
        held.bytes = held.bytes.saturating_add(process.used_bytes);
        if alive || state.list_dead {
            held.listed.push(process);
        }
    }
    held
}

/// Whether the process exists and is no zombie: a zombie's memory is already being given back.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

/// Whether the driver has given back what the dead process of `file` held. The moment when it was first seen
/// gone is kept beside the file, so that it is the same for every process that asks.
fn is_reaped(state: &State, file: &Path) -> bool {
    if state.never_release {
        return false;
    }
    let Some(after_ms) = state.reap_dead_after_ms else {
        return false;
    };
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let gone = with_suffix(file, ".gone");
    let seen_ms: u128 = match fs::read_to_string(&gone).ok().and_then(|text| text.parse().ok()) {
        Some(seen_ms) => seen_ms,
        None => {
            if let Err(error) = fs::write(&gone, now_ms.to_string()) {
                eprintln!("fake-nvml: {}: {error}", gone.display());
            }
            now_ms
        }
    };
    now_ms.saturating_sub(seen_ms) >= u128::from(after_ms)
}

/// Notes a call, where the state asks for it.
pub(crate) fn record(state: &State, function: &str) {
    if !state.record_calls {
        return;
    }
    let Some(path) = path().map(|path| with_suffix(path, ".calls")) else {
        return;
    };
    let written = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{function}\n").as_bytes()));
    if let Err(error) = written {
        eprintln!("fake-nvml: calls: {error}");
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
