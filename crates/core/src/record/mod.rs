//! Plain data that all floors share: what one request did, what the GPU did, why to distrust a cell.
//!
//! Nothing here does I/O. Every quantity carries its unit in its name.

mod call;
mod compiled;
mod flag;
mod gpu;
mod lag;
mod load;
mod message;
mod precision;
mod process;
mod redact;
mod request;
mod stream;

pub use call::{CacheReset, DoneWhen, HttpCall, Method, ResetProof, Step};
pub use compiled::{CacheFolder, CompileCaches, Warmth};
pub use flag::{Flag, FlagKind};
pub use gpu::{GPU_SAMPLE_VERSION, GpuDevice, GpuHost, GpuProcess, GpuSample, ThrottleReason};
pub use lag::ClientLag;
pub use load::LoadFigures;
pub use message::{Message, Role};
pub use precision::{Format, Precision, Reading};
pub use process::ProcessIdentity;
pub use redact::{
    REDACTED, Redactor, SHORTEST_SECRET, is_secret_name, secrets_of_arguments, secrets_of_environment,
};
pub use request::{Outcome, Phase, REQUEST_RECORD_VERSION, RequestRecord, TokenSource};
pub use stream::{EndMarker, StreamShape};

/// The name under which a lane's results are stored and reported: one framework serving one model, in one
/// round of the plan (`repeats:` of the whole plan).
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
pub struct LaneId {
    /// The framework's name in the plan, not its kind: `vllm-no-prefix-cache`.
    pub framework: String,
    /// The model's name in the plan.
    pub model: String,
    /// Round of the whole plan, 1 on.
    pub round: u32,
}

impl std::fmt::Display for LaneId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.framework, self.model)?;
        if self.round > 1 {
            write!(f, "#{}", self.round)?;
        }
        Ok(())
    }
}

/// Microseconds, saturating: a stored time never wraps.
pub fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Wall clock, microseconds since the Unix epoch.
pub fn unix_us() -> u64 {
    micros(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}
