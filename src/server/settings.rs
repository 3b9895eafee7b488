//! What a server's life needs to be told, as plain data.

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use benchd_core::record::{DoneWhen, HttpCall, LaneId, Step, StreamShape};
use benchd_frameworks::{Launch, Requirement};
use benchd_host::process::{LogSettings, StopPolicy};
use benchd_journal::Event;

/// Where events go: the one owner of the journal. An event may wait for the disk: what finds a server again must be
/// there before the server is.
pub trait EventSink: Send + Sync {
    /// Takes an event. What can't be kept is the sink's to remember: the caller may be on its way to stop a server.
    fn event(&self, event: Event);
}

/// One server's settings.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The lane that it serves.
    pub lane: LaneId,
    /// The command.
    pub launch: Launch,
    /// Program and arguments, secrets blanked, for the journal.
    pub shown_argv: Vec<String>,
    /// Environment, secrets blanked, for the journal.
    pub shown_env: Vec<(String, String)>,
    /// What must be there before.
    pub requirements: Vec<Requirement>,
    /// From launch to a real answer, at the longest.
    pub start_timeout: Duration,
    /// How it is stopped.
    pub stop: StopPolicy,
    /// Its log.
    pub log: LogSettings,
    /// A delegated cgroup v2 directory in which it gets a cgroup of its own, where there is one.
    pub delegated_cgroup: Option<PathBuf>,
}

/// How to tell that a server really answers.
#[derive(Debug, Clone)]
pub struct ReadyPlan {
    /// The health check.
    pub health: HttpCall,
    /// What its answer must show.
    pub health_done: DoneWhen,
    /// Pause between two checks.
    pub interval: Duration,
    /// Limit of one check.
    pub probe_timeout: Duration,
    /// What to do between health and the first completion: model presence, preload.
    pub steps: Vec<Step>,
    /// Limit of one readiness completion.
    pub completion_timeout: Duration,
    /// After how many answers that no waiting mends (404, 400, another model) to give up: the first may come
    /// from a server that listens before it knows its model.
    pub completion_tries: u32,
    /// Names under which the model may answer; any where empty.
    pub expected_models: Vec<String>,
}

/// What the readiness completion brought back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// The model's name in the answer.
    pub model: Option<String>,
    /// What the stream showed.
    pub shape: StreamShape,
    /// Prompt tokens by the server's usage.
    pub prompt_tokens: Option<u64>,
    /// Output tokens by the server's usage.
    pub output_tokens: Option<u64>,
    /// Prompt tokens that came from a cache, where the server says so.
    pub cached_tokens: Option<u64>,
}

/// Why a completion failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeError {
    /// For people, with status and text.
    pub text: String,
    /// Whether waiting may mend it: no connection, 503, `loading`.
    pub retryable: bool,
}

/// One real streamed completion, sent by the client room.
pub trait CompletionProbe: Send + Sync {
    /// Sends it; ends within `timeout`.
    fn complete(&self, timeout: Duration) -> BoxFuture<'_, Result<ProbeAnswer, ProbeError>>;
}

/// How somebody says stop.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    /// Stop cleanly.
    pub stop: CancellationToken,
    /// Stop at once, without grace.
    pub now: CancellationToken,
}

/// A moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic.
    pub at: Instant,
    /// Wall clock, microseconds since the Unix epoch.
    pub unix_us: u64,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            at: Instant::now(),
            unix_us: benchd_core::record::micros(since_epoch),
        }
    }
}
