//! The run folder and its journal: the only truth about a run.

mod event;

pub use event::*;
