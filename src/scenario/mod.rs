//! The five scenarios: a cell becomes requests, requests become records.
//!
//! A scenario is only an expansion: which texts, in which order, how many at a time. [`CellRequests`] is that,
//! pure; [`CellRun`] sends it and stores what comes back.

mod counter;
mod measure;
mod requests;
mod vitals;

pub use counter::ServerCounter;
pub use measure::{CellError, CellMeasured, CellProgress, CellRun, Halt, Halted};
pub use requests::{CellRequests, PlannedRequest};
pub use vitals::Hang;
