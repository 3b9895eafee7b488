//! NVML: what the GPU is, what it does while a server is measured, and the proof that its memory came back.
//!
//! All NVML calls block, so they are made by one OS thread of their own ([`Gpu`] is a handle to it); commands
//! go in by a channel, answers come back by oneshots, samples and events by channels that never block it.
//! What is decided (released or held, stranger or not, which tick is next, which error is worth recording) are
//! plain functions beside it.
//!
//! With `gpu: none` no library is opened and no thread is started.

mod error;
mod expect;
mod handle;
mod nvml;
mod observation;
mod placement;
mod release;
mod sample;
mod ticks;
mod verdict;
mod watch;
mod worker;

pub use error::{CallError, CallErrorKind, GpuError};
pub use expect::{Mismatch, check_expectations, version_fits};
pub use handle::Gpu;
pub use observation::{DeviceHealth, DeviceObservation, Observation};
pub use placement::Placement;
pub use release::{Held, ReleaseProof, Witness, prove_release};
pub use sample::{DEFAULT_SAMPLE_PERIOD, GpuEvent, SamplerReport, Sampling};
pub use verdict::{Baseline, HeldReason};
pub use watch::OurPids;
