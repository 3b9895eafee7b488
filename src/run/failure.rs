//! An error with the exit code it ends benchd with.

use std::fmt::Display;

use super::decide::{EXIT_MACHINE, EXIT_PLAN, EXIT_UNSAFE};
use benchd_core::record::Redactor;
use benchd_plan::PlanError;

/// An error that ends benchd, and with which exit code.
///
/// Every error type of benchd names its causes in its own text, so that text is all there is to say.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// What went wrong, with its causes and, where a remedy is known, a hint.
    pub(crate) text: String,
    /// Whether the text has its own `error:` at its head, as a plan's rendered problems have.
    has_heading: bool,
}

impl Failure {
    fn new(code: u8, error: impl Display) -> Self {
        Self {
            code,
            text: error.to_string(),
            has_heading: false,
        }
    }

    /// The plan or the arguments are wrong; nothing was started.
    pub(crate) fn plan(error: impl Display) -> Self {
        Self::new(EXIT_PLAN, error)
    }

    /// The machine is not fit, or busy.
    pub(crate) fn machine(error: impl Display) -> Self {
        Self::new(EXIT_MACHINE, error)
    }

    /// Something must not be left as it is, and benchd can't change it.
    pub(crate) fn unsafe_machine(error: impl Display) -> Self {
        Self::new(EXIT_UNSAFE, error)
    }

    /// A plan can't be used.
    pub(crate) fn unusable_plan(error: &PlanError) -> Self {
        Self {
            has_heading: true,
            ..Self::plan(error)
        }
    }

    /// With this exit code instead.
    pub(crate) fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }

    /// Without the secrets that `redactor` knows.
    pub(crate) fn redacted(mut self, redactor: &Redactor) -> Self {
        redactor.clean(&mut self.text);
        self
    }

    /// What stderr shows.
    pub(crate) fn shown(&self) -> String {
        let heading = if self.has_heading { "" } else { "error: " };
        format!("{heading}{}", self.text)
    }
}

/// Says what could not be done where an error speaks of the machine: a folder that can't be written, a thread that
/// can't be started.
pub(crate) trait Context<T> {
    fn context(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::machine(format_args!("{what}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_headed_once() {
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        let failure = Err::<(), _>(full)
            .context("run.json can't be written")
            .unwrap_err();
        assert_eq!(
            failure.shown(),
            "error: run.json can't be written: no storage space"
        );
        assert_eq!(failure.code, EXIT_MACHINE);

        let missing = std::path::Path::new("/nowhere/plan.yaml");
        let error = benchd_plan::load(missing, &|_| None).unwrap_err();
        let failure = Failure::unusable_plan(&error);
        assert_eq!(failure.shown(), error.to_string());
        assert_eq!(failure.shown().matches("error:").count(), 1);

        let leak = Failure::plan("the key topsecret is refused");
        let redactor = Redactor::new(["topsecret".to_owned()]);
        assert!(!leak.redacted(&redactor).shown().contains("topsecret"));
    }
}
