//! The system's journal: where benchd's stderr goes there, lines for people carry a priority and the fields
//! `BENCHD_RUN`, `BENCHD_LANE` and `BENCHD_CELL` (`journalctl BENCHD_LANE=vllm/llama`).

use std::{
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::Path,
};

use super::lines::Tone;

/// Where journald takes entries with fields (its native protocol, systemd.io/JOURNAL_NATIVE_PROTOCOL).
const SOCKET: &str = "/run/systemd/journal/socket";

/// What a line speaks of; empty where it speaks of none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) run: String,
    pub(super) lane: String,
    pub(super) cell: String,
}

/// Handle on the journal.
#[derive(Debug)]
pub(super) struct Journald {
    /// `None` where only the stream is there: lines then carry `<priority>`.
    socket: Option<UnixDatagram>,
}

impl Journald {
    /// The journal, where it is what stderr is connected to.
    pub(super) fn behind_stderr() -> Option<Self> {
        let announced = std::env::var("JOURNAL_STREAM").ok()?;
        let stderr = rustix::fs::fstat(std::io::stderr().as_fd()).ok()?;
        (announced == format!("{}:{}", stderr.st_dev, stderr.st_ino)).then(|| Self::at(Path::new(SOCKET)))
    }

    fn at(socket: &Path) -> Self {
        let connected = UnixDatagram::unbound().and_then(|s| s.connect(socket).map(|()| s));
        Self {
            socket: connected.ok(),
        }
    }

    /// Writes a line; gives back what is to be written to stderr instead, where the socket does not take it.
    pub(super) fn line(&self, tone: Tone, text: &str, subject: &Subject) -> Option<String> {
        let sent = self
            .socket
            .as_ref()
            .is_some_and(|s| s.send(&entry(tone, text, subject)).is_ok());
        (!sent).then(|| {
            // The prefix is the line's own: a text of several lines needs several.
            let lines: Vec<String> = text
                .lines()
                .map(|line| format!("<{}>{line}", priority(tone)))
                .collect();
            lines.join("\n")
        })
    }
}

/// syslog's severities: err, warning, info.
fn priority(tone: Tone) -> u8 {
    match tone {
        Tone::Bad => 3,
        Tone::Warn => 4,
        Tone::Plain | Tone::Good => 6,
    }
}

fn entry(tone: Tone, text: &str, subject: &Subject) -> Vec<u8> {
    let mut out = format!("PRIORITY={}\nSYSLOG_IDENTIFIER=benchd\n", priority(tone)).into_bytes();
    field(&mut out, "MESSAGE", text);
    for (name, value) in [
        ("BENCHD_RUN", &subject.run),
        ("BENCHD_LANE", &subject.lane),
        ("BENCHD_CELL", &subject.cell),
    ] {
        if !value.is_empty() {
            field(&mut out, name, value);
        }
    }
    out
}

/// A value of several lines goes with its length: name, newline, 64-bit little-endian length, value, newline.
fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            run: "r1".into(),
            lane: "vllm/llama".into(),
            cell: String::new(),
        }
    }

    #[test]
    fn entries_reach_the_socket_with_their_fields() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        let journald = Journald::at(&path);
        assert_eq!(journald.line(Tone::Warn, "one line", &subject()), None);
        assert_eq!(journald.line(Tone::Bad, "a\nb", &subject()), None);
        let mut buffer = [0; 1024];
        let n = listener.recv(&mut buffer).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&buffer[..n]),
            "PRIORITY=4\nSYSLOG_IDENTIFIER=benchd\nMESSAGE=one line\nBENCHD_RUN=r1\nBENCHD_LANE=vllm/llama\n"
        );
        let n = listener.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..n]);
        assert!(
            text.contains("MESSAGE\n\u{3}\0\0\0\0\0\0\0a\nb\nBENCHD_RUN=r1\n"),
            "{text:?}"
        );
    }

    #[test]
    fn without_the_socket_lines_carry_their_priority() {
        let journald = Journald::at(Path::new("/nonexistent/socket"));
        assert_eq!(
            journald.line(Tone::Bad, "a\nb", &Subject::default()).as_deref(),
            Some("<3>a\n<3>b")
        );
    }
}
