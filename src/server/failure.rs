//! How a server's life fails.

use super::reaped::Reaped;
use benchd_host::process::LeaderExit;

/// Where it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Before the launch: nothing was started.
    Prepare,
    /// At the launch.
    Launch,
    /// Before it was ready.
    Ready,
}

impl Stage {
    /// The journal's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Launch => "launch",
            Self::Ready => "ready",
        }
    }
}

/// A server that did not come to be ready, and what became of what existed by then.
#[derive(Debug, thiserror::Error)]
#[error("{reason}{}", hint.as_ref().map(|h| format!("\nhint: {h}")).unwrap_or_default())]
pub struct Failed {
    /// Where.
    pub stage: Stage,
    /// Why, for people.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// How its leader ended, where that is what failed (not the stop that followed).
    pub exit: Option<LeaderExit>,
    /// The last lines of its log.
    pub log_tail: Vec<String>,
    /// Whether it was interrupted, not at fault.
    pub interrupted: bool,
    /// The clean-up, where something was started: its memory is still to be proven back.
    pub reaped: Option<Box<Reaped>>,
}

impl Failed {
    /// It was launched and stopped again, because what follows could not be prepared.
    pub fn while_starting(reason: String, reaped: Reaped) -> Self {
        Self {
            stage: Stage::Ready,
            reason,
            hint: None,
            exit: None,
            log_tail: reaped.log_tail.clone(),
            interrupted: false,
            reaped: Some(Box::new(reaped)),
        }
    }

    pub(super) fn before_launch(stage: Stage, reason: String, hint: Option<String>) -> Self {
        Self {
            stage,
            reason,
            hint,
            exit: None,
            log_tail: Vec::new(),
            interrupted: false,
            reaped: None,
        }
    }
}
