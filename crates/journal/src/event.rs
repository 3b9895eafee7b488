//! What the journal says, one JSON object a line.

use serde::{Deserialize, Serialize};

use benchd_core::record::{
    ClientLag, CompileCaches, Flag, GpuHost, GpuProcess, LaneId, LoadFigures, Precision, ProcessIdentity,
};

/// Version of the journal's layout; a reader refuses a version that it does not know.
pub const JOURNAL_VERSION: u32 = 1;

/// One line of `journal.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Entry {
    /// Layout version, [`JOURNAL_VERSION`].
    pub v: u32,
    /// Position in the journal, from 0, without gaps.
    pub seq: u64,
    /// Wall clock, microseconds since the Unix epoch.
    pub unix_us: u64,
    /// What happened.
    pub event: Event,
}

/// What happened. Externally tagged: `{"lane_started": {…}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// benchd began (or, with `resumed`, went on with) the run.
    RunStarted(RunStarted),
    /// The GPU as it was before the first server: the baseline of every release proof of this run.
    GpuBaseline(GpuBaseline),
    /// A lane begins; from here to its end everything is the lane's.
    LaneStarted(LaneStarted),
    /// The server is about to be launched: written before, so that what it starts can be found again.
    ServerPrepared(ServerPrepared),
    /// The server's process exists.
    ServerLaunched(ServerLaunched),
    /// Descendants of the server, as seen at one moment.
    ServerDescendants(ServerDescendants),
    /// The server really answers.
    ServerReady(ServerReady),
    /// The stop begins.
    ServerStopping(ServerStopping),
    /// No process of the server is left but those that can't be ended.
    ServerReaped(ServerReaped),
    /// The GPU memory is back.
    GpuReleased(GpuReleased),
    /// The GPU memory is not back: what holds it.
    GpuHeld(GpuHeld),
    /// A process that is not the server's is on the GPU.
    StrangerCame(StrangerCame),
    /// It is gone.
    StrangerLeft(StrangerLeft),
    /// A cell begins.
    CellStarted(CellStarted),
    /// A cell ended; only what this event names is counted.
    CellEnded(CellEnded),
    /// A cell failed; what it left is kept and not counted.
    CellFailed(CellFailed),
    /// The lane's questions are answered: which records of its `quality.jsonl` count. `cell` is `quality/c1`, or with as
    /// many streams as the lane has at most, `quality/c64`.
    QualityAsked(CellEnded),
    /// The lane is over.
    LaneEnded(LaneEnded),
    /// Something worth telling that is none of the above.
    Note(Note),
    /// The run is over, or interrupted.
    RunEnded(RunEnded),
}

/// See [`Event::RunStarted`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunStarted {
    /// The run's id.
    pub run_id: String,
    /// The plan's name.
    pub plan: String,
    /// SHA-256 of the plan's text, hex.
    pub plan_sha256: String,
    /// benchd's version.
    pub benchd_version: String,
    /// benchd's process id.
    pub pid: u32,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Whether this goes on with an earlier start.
    pub resumed: bool,
    /// Lanes to run, in order, with the number of cells of each.
    pub lanes: Vec<(LaneId, u32)>,
}

/// See [`Event::GpuBaseline`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GpuBaseline {
    /// Driver and devices.
    pub host: GpuHost,
    /// Memory in use on each device, bytes, in the order of `host.devices`.
    pub used_bytes: Vec<u64>,
    /// Processes already there.
    pub strangers: Vec<GpuProcess>,
    /// Graphics processes already there (a desktop): what they hold later is not taken for a server's. `null` in runs
    /// from before they were recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphics: Option<Vec<GpuProcess>>,
}

/// See [`Event::LaneStarted`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LaneStarted {
    /// The lane.
    pub lane: LaneId,
    /// Attempt of the lane, 1 on.
    pub attempt: u32,
}

/// See [`Event::ServerPrepared`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerPrepared {
    /// The lane.
    pub lane: LaneId,
    /// Random token, also in the server's environment as `BENCHD_TOKEN`.
    pub token: String,
    /// Program and arguments, secrets redacted.
    pub argv: Vec<String>,
    /// Environment that benchd sets, secrets redacted.
    pub env: Vec<(String, String)>,
    /// Port.
    pub port: u16,
}

/// See [`Event::ServerLaunched`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerLaunched {
    /// The lane.
    pub lane: LaneId,
    /// The leader.
    pub leader: ProcessIdentity,
    /// Inode numbers of the pipes that take its output: whoever holds one later comes from this server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output_pipes: Vec<u64>,
}

/// See [`Event::ServerDescendants`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerDescendants {
    /// The lane.
    pub lane: LaneId,
    /// All processes of the server.
    pub processes: Vec<ProcessIdentity>,
}

/// The fact under which [`ServerReady::facts`] tells what the chat template adds to a system and a user message, tokens.
pub const TEMPLATE_WITH_SYSTEM: &str = "template_tokens_with_system";

/// See [`Event::ServerReady`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerReady {
    /// The lane.
    pub lane: LaneId,
    /// From launch to the health endpoint's yes, milliseconds.
    pub healthy_ms: u64,
    /// From launch to the first real completion, milliseconds.
    pub ready_ms: u64,
    /// What the server says of itself: version, model, context length, KV cache capacity.
    pub facts: std::collections::BTreeMap<String, String>,
    /// What its stream looks like.
    pub stream: benchd_core::record::StreamShape,
    /// Tokens that the chat template adds to a user message.
    pub template_tokens: Option<u32>,
    /// GPU memory in use when ready, bytes, all chosen devices together.
    pub gpu_used_bytes: Option<u64>,
    /// What its log said of its memory and of the loading; absent where there is no log to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<LoadFigures>,
    /// In which numbers it serves the model, and what said so; absent in older runs, whose `facts` may hold `precision`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Its compile caches over the start; `None` where none is known of its kind, or someone else runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_caches: Option<CompileCaches>,
    /// Of a server that someone else runs: its processes, found by its listening socket; empty where they can't be found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub processes: Vec<ProcessIdentity>,
}

/// See [`Event::ServerStopping`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerStopping {
    /// The lane.
    pub lane: LaneId,
    /// Why: `finished`, `failed`, `interrupted`, `orphaned` (benchd died, and the next one stops what it left).
    pub why: String,
}

/// See [`Event::ServerReaped`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ServerReaped {
    /// The lane.
    pub lane: LaneId,
    /// From the first signal to the last process's end, milliseconds.
    pub stop_ms: u64,
    /// Exit status of the leader, for people: `exit 0`, `signal 9 (SIGKILL)`; `not known` of one whose benchd had died.
    pub exit: String,
    /// Whether the grace passed and KILL was needed.
    pub killed: bool,
    /// Processes that had left the group and were swept.
    pub swept: Vec<ProcessIdentity>,
    /// Processes that no signal could end; they are looked for again when the run goes on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stuck: Vec<ProcessIdentity>,
}

/// See [`Event::GpuReleased`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GpuReleased {
    /// The lane.
    pub lane: LaneId,
    /// From the last process's end to the memory's return, milliseconds.
    pub release_ms: u64,
    /// Memory in use then, bytes, by device.
    pub used_bytes: Vec<u64>,
    /// The baseline, bytes, by device.
    pub baseline_bytes: Vec<u64>,
    /// Strangers that hold what is in use beyond the baseline, by NVML's account.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<GpuProcess>,
}

/// See [`Event::GpuHeld`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GpuHeld {
    /// The lane.
    pub lane: LaneId,
    /// How long benchd waited, milliseconds.
    pub waited_ms: u64,
    /// Memory in use, bytes, by device.
    pub used_bytes: Vec<u64>,
    /// The baseline, bytes, by device.
    pub baseline_bytes: Vec<u64>,
    /// Who holds it, as far as NVML says.
    pub holders: Vec<GpuProcess>,
    /// For people.
    pub reason: String,
}

/// See [`Event::StrangerCame`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StrangerCame {
    /// The lane that runs.
    pub lane: LaneId,
    /// Who, and what it held when it was seen.
    pub process: GpuProcess,
}

/// See [`Event::StrangerLeft`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StrangerLeft {
    /// The lane that runs.
    pub lane: LaneId,
    /// Who, and the most that it was seen to hold.
    pub process: GpuProcess,
    /// How long it was there, milliseconds.
    pub stayed_ms: u64,
}

/// See [`Event::CellStarted`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CellStarted {
    /// The lane.
    pub lane: LaneId,
    /// The cell.
    pub cell: String,
    /// Attempt of the cell, 1 on.
    pub attempt: u32,
    /// What the cache reset before it came to: `proven`, `unproven`, `not_possible`, `kept`, `failed: …`.
    pub cache_reset: String,
}

/// One pass of a cell: what throughput is computed from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PassTimes {
    /// Pass, 1 on.
    pub pass: u32,
    /// Wall clock of the first send, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// From the first send to the last end, microseconds, by the monotonic clock.
    pub duration_us: u64,
}

/// See [`Event::CellEnded`]. `offset` and `bytes` name the range of `file` that holds the records of this
/// attempt, warm-up included; `records` their number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CellEnded {
    /// The lane.
    pub lane: LaneId,
    /// The cell.
    pub cell: String,
    /// Attempt of the cell.
    pub attempt: u32,
    /// File with the records, relative to the run folder.
    pub file: String,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Lines.
    pub records: u64,
    /// Measured requests.
    pub requests: u64,
    /// Failed ones among them.
    pub failed: u64,
    /// Passes.
    pub passes: Vec<PassTimes>,
    /// The client's own lag.
    pub client: ClientLag,
    /// What is known only while it runs: cache reset, strangers on the GPU. Others come from analysis.
    pub flags: Vec<Flag>,
    /// The server's own counters over the cell, where it has some (`/metrics` deltas).
    #[serde(default)]
    pub server_counters: std::collections::BTreeMap<String, f64>,
}

/// See [`Event::CellFailed`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CellFailed {
    /// The lane.
    pub lane: LaneId,
    /// The cell.
    pub cell: String,
    /// Attempt of the cell.
    pub attempt: u32,
    /// For people.
    pub reason: String,
}

/// How a lane ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LaneOutcome {
    /// Every cell ended (requests may have failed).
    Finished,
    /// The lane failed; its reason says where.
    Failed,
    /// Interrupted by a signal.
    Interrupted,
}

/// See [`Event::LaneEnded`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct LaneEnded {
    /// The lane.
    pub lane: LaneId,
    /// Attempt of the lane.
    pub attempt: u32,
    /// How.
    pub outcome: LaneOutcome,
    /// Where it failed: `prepare`, `launch`, `ready`, `cell`, `stop`, `release`.
    pub stage: Option<String>,
    /// For people.
    pub reason: Option<String>,
    /// Last lines of the server's log, where it failed.
    pub log_tail: Vec<String>,
    /// The machine failed it (GPU lost, not idle, memory held), not the framework: once the run goes on, this attempt
    /// counts as no failure.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_machine: bool,
}

/// See [`Event::Note`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Note {
    /// The lane, where it is one's.
    pub lane: Option<LaneId>,
    /// For people.
    pub text: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// All lanes ran.
    Finished,
    /// Interrupted by a signal; can be resumed.
    Interrupted,
    /// Stopped for safety.
    Unsafe,
    /// Stopped by an error of benchd's own or of the disk, or by a stranger that did not leave the GPU; can be resumed.
    Aborted,
}

/// See [`Event::RunEnded`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RunEnded {
    /// How.
    pub outcome: RunOutcome,
    /// Exit code.
    pub exit_code: u8,
    /// For people.
    pub reason: Option<String>,
}
