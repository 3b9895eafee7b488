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
//! What a framework needs is given as plain data ([`ServerSettings`], [`ReadyPlan`]), so nothing here knows a
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
mod running;
mod settings;
mod watch;

pub use attached::Attached;
pub(crate) use attached::Told;
pub use control::{Control, StepOutcome};
pub use failure::{Failed, Stage};
pub use launched::Launched;
pub use prepared::Prepared;
pub use ready::Ready;
pub(crate) use ready::Watch;
pub(crate) use reaped::Reaped;
pub use reaped::{ReleaseHeld, ReleaseProof};
pub use reset::{ResetProbe, reset_cache};
pub use settings::{
    CompletionProbe, EventSink, Interrupt, ProbeAnswer, ProbeError, ReadyPlan, ServerSettings,
};
