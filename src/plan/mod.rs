//! The plan: YAML in, a checked [`Plan`] out, and its expansion into lanes and cells.
//!
//! This room owns the names of kinds, scenarios and prompt types.

mod model;

pub use model::*;
