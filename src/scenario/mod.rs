//! The five scenarios: a cell becomes requests, requests become records.
//!
//! A scenario is only an expansion: which texts, in which order, how many at a time. [`CellRequests`] is that,
//! pure; [`CellRun`] sends it and stores what comes back.

mod counter;
mod liveness;
mod measure;
mod requests;

pub(crate) use counter::ServerCounter;
pub(crate) use measure::{Broken, CellError, CellMeasured, CellProgress, CellRun, Stop, StopCause};
pub(crate) use requests::CellRequests;
