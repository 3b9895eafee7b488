//! Load: batches of requests in a closed or open loop, from a thread on which nothing else runs.
//!
//! ```text
//!  caller ── run(batch) ──▶ load thread: closed / open loop, client::exchange, lag probe
//!                              │ blocks of raw events, ends
//!                              ▼
//!                           decoder's thread (nice 10): client::Assembly ── Completed ──▶ caller
//! ```

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

pub use batch::{Batch, BatchReport, Completed, Job, LoadError, OPEN_LOOP_CAP, Progress, ReadLag};
pub use engine::{BatchHandle, LoadEngine, LoadOptions};
pub use schedule::{ScheduleError, planned_sends};
