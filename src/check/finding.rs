//! What the doctor finds.

use serde::Serialize;

/// How bad a finding is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// `benchd run` would refuse to start.
    Stop,
    /// It would start, and a lane would be lost or measure something else.
    Lose,
    /// It would run; figures may be doubtful, or something may go wrong on the way.
    Warn,
    /// Good to know.
    Note,
    /// As it should be.
    Ok,
}

impl Severity {
    pub(crate) const ALL: [Self; 5] = [Self::Stop, Self::Lose, Self::Warn, Self::Note, Self::Ok];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Lose => "lose",
            Self::Warn => "warn",
            Self::Note => "note",
            Self::Ok => "ok",
        }
    }

    /// Whether the run should not start with such a finding.
    pub(crate) fn forbids(self) -> bool {
        matches!(self, Self::Stop | Self::Lose)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Area {
    Gpu,
    /// What is known to break, to be wrong, or to need something.
    KnownIssue,
    /// Compilers.
    Toolchain,
    /// Hypotheses that can't be decided.
    Hypothesis,
    /// Venvs and binaries.
    Environment,
    /// Models on disk and in memory.
    Model,
    Port,
    /// Other runs, and what they left.
    Run,
    Disk,
    Memory,
    Cpu,
    /// What the kernel allows.
    Limits,
    Clock,
    Systemd,
}

impl Area {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gpu => "GPU",
            Self::KnownIssue => "known issue",
            Self::Toolchain => "toolchain",
            Self::Hypothesis => "hypothesis",
            Self::Environment => "environment",
            Self::Model => "model",
            Self::Port => "port",
            Self::Run => "other runs",
            Self::Disk => "disk",
            Self::Memory => "memory",
            Self::Cpu => "CPU",
            Self::Limits => "limits",
            Self::Clock => "clock",
            Self::Systemd => "systemd",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) area: Area,
    pub(crate) text: String,
    pub(crate) remedy: Option<String>,
}

impl Finding {
    pub(super) fn stop(area: Area, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::with(Severity::Stop, area, text, remedy)
    }

    pub(super) fn lose(area: Area, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::with(Severity::Lose, area, text, remedy)
    }

    pub(super) fn warn(area: Area, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::with(Severity::Warn, area, text, remedy)
    }

    pub(super) fn note(area: Area, text: impl Into<String>) -> Self {
        Self::plain(Severity::Note, area, text)
    }

    pub(super) fn ok(area: Area, text: impl Into<String>) -> Self {
        Self::plain(Severity::Ok, area, text)
    }

    fn with(severity: Severity, area: Area, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            severity,
            area,
            text: text.into(),
            remedy: Some(remedy.into()),
        }
    }

    fn plain(severity: Severity, area: Area, text: impl Into<String>) -> Self {
        Self {
            severity,
            area,
            text: text.into(),
            remedy: None,
        }
    }
}

/// As an error's text: what was found, and the remedy as a hint.
impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        match &self.remedy {
            Some(remedy) => write!(f, "\n  hint: {remedy}"),
            None => Ok(()),
        }
    }
}

/// Bytes for people: `15.9 GiB`, `512 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const GIB: f64 = (1_u64 << 30) as f64;
    if bytes >= 1 << 30 {
        format!("{:.1} GiB", bytes as f64 / GIB)
    } else if bytes >= 1 << 20 {
        format!("{} MiB", bytes >> 20)
    } else {
        format!("{} KiB", bytes.div_ceil(1 << 10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_comes_first() {
        let mut all = vec![
            Severity::Ok,
            Severity::Warn,
            Severity::Stop,
            Severity::Note,
            Severity::Lose,
        ];
        all.sort();
        assert_eq!(all, Severity::ALL);
        assert!(Severity::Lose.forbids() && !Severity::Warn.forbids());
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!(size(80 << 30), "80.0 GiB");
        assert_eq!(size(700 << 20), "700 MiB");
        assert_eq!(size(4), "1 KiB", "what is there is not nothing");
    }
}
