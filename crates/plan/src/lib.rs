//! The plan: YAML in, a checked [`Plan`] out, and its expansion into lanes and cells.
//!
//! This room owns the names of kinds, scenarios and prompt types.
//!
//! ```text
//! parse     file -> text -> problems or Plan
//!   spanned   text -> tree with places          raw*, values, shapes  the YAML's structs, the schema's one source
//!   walk, wording   tree against the schema     check         what the raw structs mean
//!   diagnostic  problems, as they are shown
//! expand    Plan -> lanes and cells             only          `--only`
//! estimate  how long it will take               needs         what lanes ask of their servers
//! ```

mod check;
mod diagnostic;
mod estimate;
mod expand;
mod hypotheses;
mod kind;
mod model;
mod name;
mod needs;
mod only;
mod parse;
mod raw;
mod raw_hypotheses;
mod schema;
mod shapes;
mod spanned;
mod values;
mod walk;
mod wording;

pub use check::Secrets;
pub use diagnostic::{KeyPath, Problem, Problems, Spot, Step};
pub use estimate::{Assumptions, Estimate, LaneEstimate, Pace, estimate};
pub use expand::{cells, lanes};
pub use hypotheses::*;
pub use kind::FrameworkKind;
pub use model::*;
pub use name::{MAX_NAME_CHARS, NameError, check_name};
pub use needs::{heaviest_load, longest_prompt_tokens, most_streams};
pub use only::{Only, OnlyError};
pub use parse::{LoadedPlan, MAX_PLAN_BYTES, PlanError, from_yaml, load, parse};
pub use schema::schema;

#[cfg(test)]
mod tests;
