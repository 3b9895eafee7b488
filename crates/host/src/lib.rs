//! The processes and GPUs of one machine: start, watch, stop, prove the release.

pub mod gpu;
pub mod process;
