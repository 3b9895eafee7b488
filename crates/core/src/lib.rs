//! Plain data that several rooms share, and pure functions on numbers.

pub mod format;
pub mod record;
pub mod stats;
