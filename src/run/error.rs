//! An error with the exit code it ends benchd with.

use super::{EXIT_MACHINE, EXIT_PLAN, EXIT_UNSAFE};

/// An error that ends benchd, and with which exit code.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What went wrong, with its causes.
    pub error: anyhow::Error,
}

impl Failure {
    /// The plan or the arguments are wrong; nothing was started.
    pub fn plan(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: EXIT_PLAN,
            error: error.into(),
        }
    }

    /// The machine is not fit, or busy.
    pub fn machine(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: EXIT_MACHINE,
            error: error.into(),
        }
    }

    /// Something must not be left as it is, and benchd can't change it.
    pub fn unsafe_machine(error: impl Into<anyhow::Error>) -> Self {
        Self {
            code: EXIT_UNSAFE,
            error: error.into(),
        }
    }
}

/// Errors without a code of their own speak of the machine: a folder that can't be written, a thread that can't
/// be started.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::machine(error)
    }
}
