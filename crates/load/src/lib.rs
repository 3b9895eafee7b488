//! Load: one timed streaming request, and batches of them in a closed or open loop from a thread on which nothing else
//! runs.
//!
//! ```text
//!  caller ── run(batch) ──▶ load thread: closed / open loop, client::exchange, lag probe
//!                              │ blocks of raw events, ends
//!                              ▼
//!                           decoder's thread (nice 10): client::Assembly ── Answer ──▶ caller
//! ```
//!
//! - [`LoadEngine`] runs a [`Batch`]; its [`BatchHandle`] shows [`Progress`] and ends with a [`BatchReport`].
//! - [`client`]: a request's [`Target`](client::Target) and [`Answer`](client::Answer), and single requests whose times
//!   do not matter much.

mod batch;
pub mod client;
mod decoder;
mod engine;
mod lag;
mod limits;
mod run;
mod schedule;
#[cfg(test)]
mod tests;
mod timer;

pub use batch::{Batch, BatchReport, LoadError, Progress, ReadLag};
pub use engine::{BatchHandle, LoadEngine, LoadOptions};
pub use schedule::ScheduleError;
