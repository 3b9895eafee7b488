//! From a file to a checked [`Plan`].
//!
//! ```text
//! bytes -> text -> tree with places -> walk against the schema -> typed raw structs -> checks of meaning -> Plan
//! ```
//!
//! The text is parsed once, by a parser that keeps places; `serde_yaml` makes the typed structs from that same
//! tree, so that what was checked is what is used.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::de::Error as _;
use sha2::{Digest as _, Sha256};

use super::{
    Plan,
    check::{Secrets, check},
    diagnostic::{KeyPath, Problem, Problems, Spot},
    raw::RawPlan,
    schema::schema,
    spanned, walk,
};

/// Reads YAML that is benchd's own, not a user's: its problems are told as serde tells them.
///
/// # Errors
/// The text is no YAML, or not of this form; with line and column.
pub fn from_yaml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}

/// The largest plan file, bytes.
pub const MAX_PLAN_BYTES: u64 = 1024 * 1024;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file can't be read.
    #[error("error: can't read the plan {}: {source}{}", path.display(), hint_for(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no plan by its size.
    #[error(
        "error: {} is too large for a plan: more than {MAX_PLAN_BYTES} bytes\n  = help: give the plan's YAML file",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file's bytes are no text.
    #[error(
        "error: {} is not UTF-8 text: byte {at} (line {line}) is no character\n  = help: save the file as UTF-8",
        path.display()
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Offset of the first bad byte, 0 on.
        at: usize,
        /// Its line, 1 on.
        line: usize,
    },
    /// The plan has problems.
    #[error("{0}")]
    Invalid(Problems),
}

impl PlanError {
    /// The problems of the plan's text; none where the file could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Invalid(problems) => &problems.list,
            _ => &[],
        }
    }
}

fn hint_for(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "\n  = help: plans that come with benchd are in plans/; paths are relative to the working directory"
        }
        std::io::ErrorKind::IsADirectory => "\n  = help: give a file in that folder",
        _ => "",
    }
}

/// A plan and the file that it came from.
#[derive(Debug, Clone)]
pub struct LoadedPlan {
    /// The plan.
    pub plan: Plan,
    /// The file's text, to be frozen in the run's folder. It holds `${VAR}` as written, not what was filled in.
    pub text: String,
    /// SHA-256 of the file's bytes, in hexadecimal: a run is resumed only with the same plan.
    pub sha256: String,
    /// The file.
    pub path: PathBuf,
    /// What the environment filled in.
    pub secrets: Secrets,
}

/// Reads and checks a plan. `env` gives the variables for `${VAR}`.
///
/// # Errors
/// The file can't be read, or all that is wrong with it.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<LoadedPlan, PlanError> {
    let read_error = |source| PlanError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(read_error)?;
    if file.metadata().map_err(read_error)?.is_dir() {
        return Err(read_error(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    let mut bytes = Vec::new();
    file.take(MAX_PLAN_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(read_error)?;
    if bytes.len() as u64 > MAX_PLAN_BYTES {
        return Err(PlanError::TooLarge {
            path: path.to_owned(),
        });
    }
    let sha256: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes()[..at].iter().filter(|b| **b == b'\n').count();
        PlanError::NotUtf8 {
            path: path.to_owned(),
            at,
            line,
        }
    })?;
    let (plan, secrets) = parse_all(&path.display().to_string(), &text, env)?;
    Ok(LoadedPlan {
        plan,
        text,
        sha256,
        path: path.to_owned(),
        secrets,
    })
}

/// Checks a plan's text; `file_name` is shown with its problems.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(file_name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Plan, PlanError> {
    parse_all(file_name, text, env).map(|(plan, _)| plan)
}

fn parse_all(
    file: &str,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(Plan, Secrets), PlanError> {
    // A byte order mark is no part of the text.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let invalid = |problems| PlanError::Invalid(Problems::new(file, text, problems));
    let tree = spanned::read(text).map_err(invalid)?;
    let schema = schema();
    let walk::Walked {
        rest,
        mut problems,
        misspelt,
    } = walk::walk(&tree, &schema);
    let raw = rest
        .ok_or_else(|| serde_yaml::Error::custom("the plan is not a mapping of keys"))
        .and_then(serde_yaml::from_value::<RawPlan>);
    match raw {
        Ok(raw) => match check(&raw, &tree, &misspelt, env) {
            Ok((Some(plan), secrets)) if problems.is_empty() => return Ok((plan, secrets)),
            Ok(_) => {}
            Err(more) => problems.extend(more),
        },
        // The walk has found what serde stumbles over; where it has not, serde's word stands alone.
        Err(error) if problems.is_empty() => problems.push(untyped(&error)),
        Err(_) => {}
    }
    if problems.is_empty() {
        problems.push(untyped(&serde_yaml::Error::custom("the plan is incomplete")));
    }
    Err(invalid(problems))
}

/// A problem of the typed parse, as near to its place as serde says.
fn untyped(error: &serde_yaml::Error) -> Problem {
    let spot = error.location().map_or(Spot::START, |at| Spot {
        line: at.line(),
        column: at.column(),
        chars: 0,
    });
    Problem {
        message: error.to_string(),
        path: KeyPath::default(),
        spot,
        label: None,
        help: None,
    }
}
