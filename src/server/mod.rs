//! The life of one server, as a chain of types. Each owns what exists by then, carries the times of what
//! happened so far, and fails into the clean-up of exactly that.
//!
//! ```text
//!  Prepared ----launch----> Launched ----wait_ready----> Ready
//!     |  port taken, file      |  died, timed out,         |  measured, failed,
//!     |  missing               |  wrong model, ...         |  interrupted
//!     v                        v                           v
//!  Failed (nothing exists)   Failed, with Reaped         stop -> Reaped ----prove_release----> Released
//!                                                          |                     |
//!                                                          | who won't die       | memory not back
//!                                                          v                     v
//!                                                       named in it          ReleaseHeld
//! ```
//!
//! A server that someone else runs is [`Attached`]: checked, never started, never stopped.
//!
//! What a framework needs is given as plain data ([`LaunchSpec`], [`ReadyPlan`]), so nothing here knows a
//! framework's name. Everything that happens is told to an [`EventSink`], in the words of the journal.

mod attached;
mod control;
mod failure;
mod launched;
mod prepared;
mod ready;
mod readying;
mod reaped;
mod reset;
mod settings;
mod watch;

pub use attached::Attached;
pub use control::{CallError, Control, Reply, StepError, StepOutcome};
pub use failure::{Failed, Stage};
pub use launched::Launched;
pub use prepared::Prepared;
pub use ready::{Ready, Watch};
pub use reaped::{Reaped, ReleaseHeld, ReleaseProof, Released};
pub use reset::{ResetOutcome, ResetProbe, reset_cache};
pub use settings::{
    CompletionProbe, Interrupt, LaunchSpec, Moment, ProbeAnswer, ProbeError, ReadyPlan, Requirement,
    ServerSettings, StopWhy,
};

/// Where events go: the one task that owns the journal.
pub trait EventSink: Send + Sync {
    /// Takes an event. Never waits: the caller may be on its way to stop a server.
    fn event(&self, event: benchd_journal::Event);
}
