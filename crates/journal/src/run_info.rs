//! `run.json`: who ran what where. Rewritten whole, atomically.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    error::{DiskError, JournalError},
    run_dir::write_atomic,
};
use benchd_core::record::GpuHost;

/// Version of `run.json`; a reader refuses a version that it does not know.
pub const RUN_INFO_VERSION: u32 = 1;

/// The content of `run.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunInfo {
    /// Layout version, [`RUN_INFO_VERSION`].
    pub v: u32,
    /// The run's id.
    pub run_id: String,
    /// The plan's name.
    pub plan: String,
    /// The plan's file, as given on the command line.
    pub plan_path: String,
    /// SHA-256 of the plan's text, hex.
    pub plan_sha256: String,
    /// benchd's version.
    pub benchd_version: String,
    /// When the run began first, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// When this file was written, microseconds since the Unix epoch.
    pub updated_unix_us: u64,
    /// Folder of the run's logs.
    pub logs: String,
    /// The machine.
    pub host: HostInfo,
    /// The GPU; `None` where the plan uses none.
    pub gpu: Option<GpuHost>,
    /// GPU memory in use before the first server, bytes, by device in the order of `gpu.devices`: the baseline of
    /// every release proof, also of a resumed run.
    pub gpu_baseline_bytes: Vec<u64>,
    /// Versions of the frameworks as found on the machine, by the framework's name in the plan.
    pub versions: BTreeMap<String, String>,
    /// What the frameworks run from, by the framework's name in the plan; those of which nothing is known are left out.
    #[serde(default)]
    pub environments: BTreeMap<String, EnvironmentInfo>,
    /// The compilers that benchd's own environment finds; a server whose plan sets PATH, CUDA_HOME, CC or CXX finds
    /// those. Absent in runs of older benchds.
    #[serde(default, skip_serializing_if = "Toolchain::is_empty")]
    pub toolchain: Toolchain,
    /// What servers compile on this machine when they start, by lane; those of which nothing is known are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub compiles: BTreeMap<String, Vec<String>>,
    /// What the client's own check found on this machine, where it ran.
    pub client: Option<ClientCalibration>,
    /// Where the run stands.
    pub state: RunState,
}

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct HostInfo {
    /// Host name.
    pub hostname: String,
    /// Distribution and its version.
    pub os: String,
    /// The distribution's own name for itself, with its point release: `Ubuntu 22.04.3 LTS`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub distribution: String,
    /// Kernel release.
    pub kernel: String,
    /// The kernel's boot id when the run last began.
    pub boot_id: String,
    /// CPU model.
    pub cpu: String,
    /// Logical CPUs that benchd may use.
    pub cpus: u32,
    /// CPU sockets of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u32>,
    /// Physical cores of the machine, all sockets together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    /// Memory, bytes.
    pub memory_bytes: u64,
}

/// The compilers that a server finds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Toolchain {
    /// NVIDIA's compiler for CUDA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvcc: Option<Tool>,
    /// The C++ compiler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cxx: Option<Tool>,
    /// The C compiler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cc: Option<Tool>,
}

impl Toolchain {
    /// Whether none was found, or looked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A program that servers call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Tool {
    /// Where it lies.
    pub path: String,
    /// Its version, where it tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// What a framework runs from. What is not known is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EnvironmentInfo {
    /// The framework's version, as installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Version of the venv's Python.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// Version of its torch: `2.9.1+cu128`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch: Option<String>,
    /// CUDA that its torch was built for: `12.8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub torch_cuda: Option<String>,
    /// Packages in the venv.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<u32>,
    /// SHA-256 over the sorted lines `name==version` of all packages in the venv, hex: the same hash, the same packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_sha256: Option<String>,
    /// What it takes on disk, bytes, downloads and models of the hub left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// When it was made, microseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_unix_us: Option<u64>,
    /// How long its recipe ran when it made it, milliseconds: downloads included, as far as they did not lie there already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_ms: Option<u64>,
    /// SHA-256 over the files that say how it is made, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe_sha256: Option<String>,
    /// Where its release archive came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_url: Option<String>,
    /// SHA-256 of that archive, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_sha256: Option<String>,
}

/// Where a run stands, as its own process last wrote it. A run whose process died still says `running`; the journal
/// and the process table decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Under way.
    Running,
    /// All lanes ran.
    Finished,
    /// Interrupted by a signal.
    Interrupted,
    /// Stopped for safety.
    Unsafe,
    /// Stopped by an error of benchd's own or of the disk.
    Aborted,
}

/// The client measured against the simulated server on this machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClientCalibration {
    /// When, microseconds since the Unix epoch.
    pub measured_unix_us: u64,
    /// By number of streams, ascending.
    pub points: Vec<ClientPoint>,
    /// Largest event rate that the client sustained, events per second; `None` where it was not looked for, or where
    /// even the lowest rate that was tried was too much.
    pub max_events_per_s: Option<f64>,
    /// The rates that were tried, in that order.
    #[serde(default)]
    pub rates: Vec<ClientRate>,
    /// What ended the search for a larger rate.
    #[serde(default)]
    pub rate_limit: Option<RateLimit>,
    /// Largest resident memory of the whole process when all was done, bytes.
    #[serde(default)]
    pub peak_rss_bytes: Option<u64>,
}

impl ClientCalibration {
    /// The event rate that must not be counted on to be exceeded: the largest that was sustained, else the lowest that
    /// was not, events per second; `None` where none was tried.
    pub fn events_limit(&self) -> Option<f64> {
        let tried = self.rates.iter().map(|rate| rate.offered_per_s);
        self.max_events_per_s.or_else(|| tried.min_by(f64::total_cmp))
    }
}

/// The client at one event rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClientRate {
    /// Streams at once.
    pub streams: u32,
    /// Rate that the server was asked to send at, events per second.
    pub offered_per_s: f64,
    /// Rate at which events came, per second.
    pub events_per_s: f64,
    /// How late the load thread read what had arrived, 99th percentile, microseconds.
    pub read_lag_us_p99: f64,
    /// Share of the time in which the load thread used a CPU.
    pub load_thread_share: f64,
    /// CPU time of the load thread, microseconds an event.
    pub cpu_us_per_event: f64,
    /// How late the server sent, 99th percentile, microseconds.
    pub server_late_us_p99: f64,
    /// Whether the client sustained it.
    pub sustained: bool,
}

/// What ended the search for the largest event rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateLimit {
    /// The client: it read too late, or its thread was busy all the time. The largest rate is the client's own.
    Client,
    /// The simulated server, which could not send faster. The client sustains at least the largest rate.
    Server,
    /// The time for the search. The client sustains at least the largest rate.
    Time,
}

/// The client's error at one number of streams, in microseconds: what it saw less what the server did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ClientPoint {
    /// Streams at once.
    pub streams: u32,
    /// Events received, those without a token included.
    pub events: u64,
    /// Requests, of which each has one TTFT.
    #[serde(default)]
    pub requests: u64,
    /// Token-bearing events received.
    #[serde(default)]
    pub tokens: u64,
    /// How many of those came in one read with the token before: they have that read's time, and no gap of their own.
    #[serde(default)]
    pub coalesced: u64,
    /// Events a second that the server was to send, all streams together; role, usage and end marker not counted.
    #[serde(default)]
    pub tokens_per_s: f64,
    /// Error of TTFT, median.
    pub ttft_error_us_p50: f64,
    /// Error of TTFT, 95th percentile.
    pub ttft_error_us_p95: f64,
    /// Error of TTFT, 99th percentile.
    pub ttft_error_us_p99: f64,
    /// Error of TTFT, largest.
    pub ttft_error_us_max: f64,
    /// Error of a gap between chunks, absolute, median.
    pub gap_error_us_p50: f64,
    /// Error of a gap between chunks, absolute, 95th percentile.
    pub gap_error_us_p95: f64,
    /// Error of a gap between chunks, absolute, 99th percentile.
    pub gap_error_us_p99: f64,
    /// Error of a gap between chunks, absolute, largest.
    pub gap_error_us_max: f64,
    /// CPU time of the load thread, microseconds an event.
    pub cpu_us_per_event: f64,
    /// From the client's send to the server's having read the request, median: part of every TTFT of a real server
    /// as well, and the client's only in part.
    #[serde(default)]
    pub send_to_read_us_p50: f64,
    /// The same, 99th percentile.
    #[serde(default)]
    pub send_to_read_us_p99: f64,
    /// How late the load thread read what had arrived, 99th percentile: what TTFT's error would be without the
    /// kernel's stamps.
    #[serde(default)]
    pub read_lag_us_p99: f64,
    /// How late the server sent a token against its own schedule, median.
    #[serde(default)]
    pub server_late_us_p50: f64,
    /// The same, 99th percentile.
    #[serde(default)]
    pub server_late_us_p99: f64,
    /// The same, largest.
    #[serde(default)]
    pub server_late_us_max: f64,
    /// By how much the process's resident memory grew at most while this was measured, bytes.
    #[serde(default)]
    pub rss_grown_bytes: u64,
}

impl ClientPoint {
    /// Memory a stream: the growth shared among the streams, answers kept for judging included, bytes.
    pub fn bytes_per_stream(&self) -> u64 {
        self.rss_grown_bytes / u64::from(self.streams.max(1))
    }
}

impl RunInfo {
    /// Writes `run.json`.
    pub fn write(&self, path: &Path) -> Result<(), DiskError> {
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|e| DiskError::new("write", path, e.into()))?;
        text.push(b'\n');
        write_atomic(path, &text)
    }

    /// Reads `run.json`; refuses a layout that it does not know.
    pub fn read(path: &Path) -> Result<Self, JournalError> {
        let text = std::fs::read(path).map_err(|e| DiskError::new("read", path, e))?;
        let damaged = |e: serde_json::Error| JournalError::Damaged {
            path: path.to_owned(),
            line: e.line() as u64,
            reason: e.to_string(),
        };
        let value: serde_json::Value = serde_json::from_slice(&text).map_err(damaged)?;
        let found = value.get("v").and_then(serde_json::Value::as_u64).unwrap_or(0);
        if found != u64::from(RUN_INFO_VERSION) {
            return Err(JournalError::Version {
                path: path.to_owned(),
                line: 1,
                found,
                known: RUN_INFO_VERSION,
            });
        }
        serde_json::from_slice(&text).map_err(damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn example() -> RunInfo {
        RunInfo {
            v: RUN_INFO_VERSION,
            run_id: "20261124T190000Z-a100".to_owned(),
            plan: "a100".to_owned(),
            plan_path: "plans/a100.yaml".to_owned(),
            plan_sha256: "ab".repeat(32),
            benchd_version: "0.1.0".to_owned(),
            started_unix_us: 1,
            updated_unix_us: 2,
            logs: "logs/20261124T190000Z-a100".to_owned(),
            host: HostInfo::default(),
            gpu: None,
            gpu_baseline_bytes: vec![1 << 20],
            versions: BTreeMap::from([("vllm".to_owned(), "0.15.1".to_owned())]),
            environments: BTreeMap::from([(
                "vllm".to_owned(),
                EnvironmentInfo {
                    version: Some("0.15.1".to_owned()),
                    ..EnvironmentInfo::default()
                },
            )]),
            toolchain: Toolchain::default(),
            compiles: BTreeMap::new(),
            client: None,
            state: RunState::Running,
        }
    }

    #[test]
    fn it_comes_back_as_written_and_another_version_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("run.json");
        example().write(&path).expect("write");
        assert_eq!(RunInfo::read(&path).expect("read"), example());
        let text = std::fs::read_to_string(&path)
            .expect("read")
            .replace("\"v\": 1", "\"v\": 7");
        std::fs::write(&path, text).expect("write");
        let error = RunInfo::read(&path).expect_err("version 7");
        assert!(matches!(error, JournalError::Version { found: 7, .. }), "{error}");
    }
}
