//! The processes and GPUs of one machine: starts a server, watches it, stops it, and proves that nothing of it is left.
//!
//! - [`process`]: [`ServerProcess`](process::ServerProcess) starts a server, reads its output and stops it with all that
//!   it started; [`leftovers`](process::leftovers) and [`clear`](process::clear) find and end what a dead benchd left;
//!   [`Lock`](process::Lock) keeps two benchds off one GPU.
//! - [`gpu`]: [`Gpu`](gpu::Gpu) is the handle to NVML, with samples while a server is measured;
//!   [`prove_release`](gpu::prove_release) shows that its memory came back.

pub mod gpu;
pub mod process;
