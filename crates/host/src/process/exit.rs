//! How a server's leader ended.

use std::process::ExitStatus;

/// The exit status of a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaderExit {
    /// By itself, with this code.
    Code(i32),
    /// By a signal.
    Signal {
        /// The signal's number.
        number: i32,
        /// Whether a core file was written.
        core: bool,
    },
}

impl LeaderExit {
    pub(super) fn from_status(status: ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) => Self::Code(code),
            (None, signal) => Self::Signal {
                number: signal.unwrap_or_default(),
                core: status.core_dumped(),
            },
        }
    }
}

impl std::fmt::Display for LeaderExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit {code}"),
            Self::Signal { number, core } => {
                write!(f, "signal {number}")?;
                if let Ok(signal) = nix::sys::signal::Signal::try_from(*number) {
                    write!(f, " ({signal})")?;
                }
                if *core {
                    write!(f, ", core dumped")?;
                }
                Ok(())
            }
        }
    }
}
