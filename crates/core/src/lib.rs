//! Plain data that several rooms share, and pure functions on numbers.

pub mod record;
pub mod stats;
