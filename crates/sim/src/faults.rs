//! What can go wrong on purpose: the kinds, how they are written, and which of them meet the nth request.
//!
//! A fault is written `KIND[@N][:PARAMETER]`. `@N` means from the Nth completion request on (counted from 1; without
//! it: always). `@N-M` means from the Nth to the Mth only. Faults come from the flag `--fault`, from the request's
//! header `x-sim-fault` (several separated by `;`, that request only) and from `POST /sim/fault`.

use std::str::FromStr;
use std::time::Duration;

use super::clock::parse_duration;

/// One fault.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fault {
    /// What.
    pub(super) kind: Kind,
    /// First completion request that it meets, from 1; `None` where none was given: always (for process faults: at
    /// the start).
    pub(super) from: Option<u64>,
    /// Last completion request that it meets.
    pub(super) to: Option<u64>,
}

/// Kinds of faults with their parameters; their words stand in [`KINDS`]. Chunks are counted as those that carry tokens.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    // The connection and the answer's head.
    Refuse(Option<Duration>),
    NeverAnswer,
    Http(u16),
    Html(u16),
    NotAStream,
    SlowHead(Duration),
    ContentLength,
    ShortLength,
    CloseDelimited,
    // The stream.
    ErrorEvent(u32),
    ErrorEventNoDone(u32),
    Cut(u32),
    Reset(u32),
    Hang(u32),
    EndEarly(u32),
    NoDone,
    NoUsage,
    NoFinish,
    NoTerminator,
    BadJson(u32),
    BadUtf8(u32),
    // The same bytes in another shape.
    SplitBytes,
    OneByteChunks,
    SplitUtf8(Duration),
    Merge(u32),
    Trickle(Duration),
    Huge(usize),
    Crlf,
    Comments,
    EventLines,
    MultiLine,
    NoSpace,
    // What it says.
    WrongModel(String),
    WrongUsage(u32),
    EosAfter(u32),
    MixUp,
    Noise,
    // Endpoints.
    HealthLies,
    NeverReady,
    ResetLies,
    ResetRefused,
    MetricsLie,
    // The process.
    Exit(i32),
    Crash(Crash),
    CrashMid(u32),
    Freeze,
    IgnoreTerm,
    Child(Hold),
    ChildSession(Hold),
    ChildDaemon(Hold),
    ChildHidden(Hold),
    Respawn(Hold),
    ChildListens,
    Flood(Flood, u64),
}

/// How the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crash {
    /// SIGSEGV.
    Segv,
    /// SIGABRT.
    Abort,
    /// SIGKILL of itself, as SGLang ends and as the kernel's memory killer does.
    Kill,
}

/// Whether a child process obeys TERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// It ends on TERM.
    Polite,
    /// It ignores TERM.
    Stubborn,
}

/// What a flood on stdout is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flood {
    /// Whole lines.
    Lines,
    /// One line that never ends.
    Endless,
    /// A progress bar redrawn with carriage returns.
    Progress,
    /// Bytes that are not UTF-8, with some line ends.
    Binary,
}

/// Every kind: how it is written, and what it does.
pub const KINDS: &[(&str, &str)] = &[
    (
        "refuse[:FOR]",
        "the listener is closed (for that time, else for good): connections are refused",
    ),
    ("never-answer", "the request is read and nothing comes"),
    (
        "http:STATUS",
        "an error status with the dialect's JSON body (400, 429, 500, 503 …)",
    ),
    (
        "html:STATUS",
        "an error status with an HTML page, as a proxy in between would",
    ),
    (
        "not-a-stream",
        "200 with one JSON object where a stream was asked for",
    ),
    ("slow-head:TIME", "the status line and headers come so much later"),
    (
        "content-length",
        "the stream's body has a length instead of chunks",
    ),
    (
        "short-length",
        "the same, with a length that is greater than what comes, then FIN",
    ),
    ("close-delimited", "the body ends where the connection does"),
    (
        "error-event[:K]",
        "after K chunks an error event, then [DONE], status 200",
    ),
    ("error-event-no-done[:K]", "the same without [DONE]"),
    ("cut[:K]", "after K chunks FIN, in mid-body"),
    ("reset[:K]", "after K chunks RST"),
    ("hang[:K]", "after K chunks nothing more, the connection stays"),
    (
        "end-early[:K]",
        "after K chunks the body ends properly: no finish reason, no usage, no [DONE]",
    ),
    ("no-done", "no [DONE]"),
    ("no-usage", "no usage although it was asked for"),
    ("no-finish", "no finish reason"),
    (
        "no-terminator",
        "everything but the body's last chunk of length 0, then FIN",
    ),
    ("bad-json[:K]", "the Kth chunk's JSON is cut"),
    (
        "bad-utf8[:K]",
        "the Kth chunk's text holds bytes that are not UTF-8",
    ),
    ("split-bytes", "each byte is a write of its own"),
    ("one-byte-chunks", "each byte is an HTTP chunk of its own"),
    (
        "split-utf8[:PAUSE]",
        "each event is sent in two parts, cut inside a character where it has one (pause: 1ms)",
    ),
    ("merge:K", "K events in one write"),
    ("trickle:PAUSE", "byte by byte with a pause after each"),
    (
        "huge:BYTES",
        "the second chunk carries so much padding (KiB, MiB understood)",
    ),
    ("crlf", "lines end with CR LF"),
    ("comments", "a comment line before each event, and empty comments"),
    ("event-lines", "event:, id: and retry: lines"),
    ("multi-line", "an event's data in two data: lines"),
    ("no-space", "no space after data:"),
    ("wrong-model[:NAME]", "another model's name in the answers"),
    ("wrong-usage:N", "the usage says N completion tokens"),
    (
        "eos-after:N",
        "the answer ends by itself after N tokens, whatever was asked",
    ),
    (
        "mix-up",
        "with --text last-word: the last word of the request before it",
    ),
    ("noise", "with --text last-word: any words but the prompt's last"),
    ("health-lies", "health is fine, completions are answered with 503"),
    ("never-ready", "health says 503 for ever"),
    ("reset-lies", "a cache reset answers 200 and does nothing"),
    ("reset-refused", "a cache reset answers 400"),
    (
        "exit[:CODE]",
        "without @N: log lines, then exit during the start; with @N: at the Nth request",
    ),
    ("crash[:segv|abort|kill]", "the same by a signal"),
    (
        "crash-mid[:K]",
        "the process kills itself after K chunks of the request's stream",
    ),
    (
        "freeze",
        "the process stops itself (SIGSTOP), in its start or with @N at the Nth request",
    ),
    (
        "metrics-lie",
        "the counters say one output token a request more than the answers, and half the time to the first token",
    ),
    ("ignore-term", "TERM is ignored"),
    (
        "child[:stubborn]",
        "a child in the same group that outlives its parent",
    ),
    ("child-session[:stubborn]", "a child in a session of its own"),
    (
        "child-daemon[:stubborn]",
        "a child of a child whose parent is gone, in a session of its own",
    ),
    (
        "child-hidden[:stubborn]",
        "a child in its own session that overwrites its environment and title",
    ),
    (
        "respawn[:stubborn]",
        "a child that starts a worker again whenever it dies",
    ),
    (
        "child-listens",
        "the listener belongs to a child in another group; this process only waits",
    ),
    (
        "flood-lines[:BYTES]",
        "that much text on stdout as fast as it is taken (8 MiB)",
    ),
    ("flood-endless[:BYTES]", "one line without an end"),
    ("flood-progress[:BYTES]", "a progress bar with carriage returns"),
    ("flood-binary[:BYTES]", "bytes that are not UTF-8"),
];

impl Fault {
    /// Whether it meets the `n`th completion request (from 1).
    pub(super) fn meets(&self, n: u64) -> bool {
        self.from.unwrap_or(1) <= n && self.to.is_none_or(|to| n <= to)
    }

    /// Whether it happens to the process at its start.
    pub(super) fn at_start(&self) -> bool {
        self.from.is_none()
    }

    /// Faults of a header or control call: several, separated by `;`.
    ///
    /// # Errors
    /// One can't be read.
    pub(super) fn parse_list(text: &str) -> Result<Vec<Self>, FaultError> {
        text.split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(Self::from_str)
            .collect()
    }
}

/// A fault that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Not one of [`KINDS`].
    #[error("unknown fault `{0}`\n  hint: `benchd sim --fault list` prints the kinds")]
    Kind(String),
    /// The parameter is missing or wrong.
    #[error("fault `{kind}`: {problem}")]
    Parameter {
        /// The kind as written.
        kind: String,
        /// What is wrong.
        problem: String,
    },
    /// What follows `@` is no number from 1 on.
    #[error("fault `{0}`: after @ stands the number of a request from 1 on, or a range: cut@3, cut@3-5")]
    Number(String),
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (head, parameter) = match text.split_once(':') {
            Some((head, parameter)) => (head, Some(parameter)),
            None => (text, None),
        };
        let (name, at) = match head.split_once('@') {
            Some((name, at)) => (name, Some(at)),
            None => (head, None),
        };
        let bound = |s: &str| {
            s.parse::<u64>()
                .ok()
                .filter(|n| *n >= 1)
                .ok_or_else(|| FaultError::Number(text.to_owned()))
        };
        let (from, to) = match at.map(|at| at.split_once('-').ok_or(at)) {
            None => (None, None),
            Some(Ok((from, to))) => (Some(bound(from)?), Some(bound(to)?)),
            Some(Err(from)) => (Some(bound(from)?), None),
        };
        let kind = parse_kind(
            name,
            &Parameter {
                kind: name,
                text: parameter,
            },
        )?;
        Ok(Self { kind, from, to })
    }
}

struct Parameter<'a> {
    kind: &'a str,
    text: Option<&'a str>,
}

impl Parameter<'_> {
    fn wrong(&self, problem: impl Into<String>) -> FaultError {
        FaultError::Parameter {
            kind: self.kind.to_owned(),
            problem: problem.into(),
        }
    }

    fn number<T: FromStr>(&self, default: Option<T>) -> Result<T, FaultError> {
        match (self.text, default) {
            (None, Some(value)) => Ok(value),
            (None, None) => Err(self.wrong("needs a number after `:`")),
            (Some(text), _) => text
                .parse()
                .map_err(|_| self.wrong(format!("`{text}` is no number of its range"))),
        }
    }

    fn status(&self, default: Option<u16>) -> Result<u16, FaultError> {
        let status = self.number(default)?;
        if (400..600).contains(&status) {
            Ok(status)
        } else {
            Err(self.wrong("an error status is 400 to 599"))
        }
    }

    fn duration(&self, default: Option<Duration>) -> Result<Duration, FaultError> {
        match (self.text, default) {
            (None, Some(value)) => Ok(value),
            (None, None) => Err(self.wrong("needs a duration after `:`, as 50ms")),
            (Some(text), _) => parse_duration(text).map_err(|e| self.wrong(e)),
        }
    }

    fn bytes(&self, default: Option<u64>) -> Result<u64, FaultError> {
        let Some(text) = self.text else {
            return default.ok_or_else(|| self.wrong("needs a size after `:`, as 4MiB"));
        };
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let unit: u64 = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(self.wrong(format!("`{unit}` is no unit; write KiB, MiB or GiB"))),
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(unit))
            .ok_or_else(|| self.wrong(format!("`{text}` is no size")))
    }

    fn hold(&self) -> Result<Hold, FaultError> {
        match self.text {
            None => Ok(Hold::Polite),
            Some("stubborn") => Ok(Hold::Stubborn),
            Some(other) => Err(self.wrong(format!("`{other}`: only `stubborn` can follow"))),
        }
    }
}

/// What a flood has by default.
const FLOOD_BYTES: u64 = 8 << 20;

fn parse_kind(name: &str, p: &Parameter<'_>) -> Result<Kind, FaultError> {
    let kind = match name {
        "refuse" => Kind::Refuse(p.text.map(|_| p.duration(None)).transpose()?),
        "never-answer" => Kind::NeverAnswer,
        "http" => Kind::Http(p.status(None)?),
        "html" => Kind::Html(p.status(Some(502))?),
        "not-a-stream" => Kind::NotAStream,
        "slow-head" => Kind::SlowHead(p.duration(None)?),
        "content-length" => Kind::ContentLength,
        "short-length" => Kind::ShortLength,
        "close-delimited" => Kind::CloseDelimited,
        "error-event" => Kind::ErrorEvent(p.number(Some(0))?),
        "error-event-no-done" => Kind::ErrorEventNoDone(p.number(Some(0))?),
        "cut" => Kind::Cut(p.number(Some(0))?),
        "reset" => Kind::Reset(p.number(Some(0))?),
        "hang" => Kind::Hang(p.number(Some(0))?),
        "end-early" => Kind::EndEarly(p.number(Some(0))?),
        "no-done" => Kind::NoDone,
        "no-usage" => Kind::NoUsage,
        "no-finish" => Kind::NoFinish,
        "no-terminator" => Kind::NoTerminator,
        "bad-json" => Kind::BadJson(p.number(Some(1))?),
        "bad-utf8" => Kind::BadUtf8(p.number(Some(1))?),
        "split-bytes" => Kind::SplitBytes,
        "one-byte-chunks" => Kind::OneByteChunks,
        "split-utf8" => Kind::SplitUtf8(p.duration(Some(Duration::from_millis(1)))?),
        "merge" => Kind::Merge(p.number::<u32>(None)?.max(1)),
        "trickle" => Kind::Trickle(p.duration(None)?),
        "huge" => Kind::Huge(usize::try_from(p.bytes(None)?).map_err(|e| p.wrong(e.to_string()))?),
        "crlf" => Kind::Crlf,
        "comments" => Kind::Comments,
        "event-lines" => Kind::EventLines,
        "multi-line" => Kind::MultiLine,
        "no-space" => Kind::NoSpace,
        "wrong-model" => Kind::WrongModel(p.text.unwrap_or("another-model").to_owned()),
        "wrong-usage" => Kind::WrongUsage(p.number(None)?),
        "eos-after" => Kind::EosAfter(p.number::<u32>(None)?.max(1)),
        "mix-up" => Kind::MixUp,
        "noise" => Kind::Noise,
        "health-lies" => Kind::HealthLies,
        "never-ready" => Kind::NeverReady,
        "reset-lies" => Kind::ResetLies,
        "reset-refused" => Kind::ResetRefused,
        "metrics-lie" => Kind::MetricsLie,
        "exit" => Kind::Exit(p.number(Some(1))?),
        "crash" => Kind::Crash(match p.text {
            None | Some("segv") => Crash::Segv,
            Some("abort") => Crash::Abort,
            Some("kill") => Crash::Kill,
            Some(other) => return Err(p.wrong(format!("`{other}` is none of segv, abort, kill"))),
        }),
        "crash-mid" => Kind::CrashMid(p.number(Some(1))?),
        "freeze" => Kind::Freeze,
        "ignore-term" => Kind::IgnoreTerm,
        "child" => Kind::Child(p.hold()?),
        "child-session" => Kind::ChildSession(p.hold()?),
        "child-daemon" => Kind::ChildDaemon(p.hold()?),
        "child-hidden" => Kind::ChildHidden(p.hold()?),
        "respawn" => Kind::Respawn(p.hold()?),
        "child-listens" => Kind::ChildListens,
        "flood-lines" => Kind::Flood(Flood::Lines, p.bytes(Some(FLOOD_BYTES))?),
        "flood-endless" => Kind::Flood(Flood::Endless, p.bytes(Some(FLOOD_BYTES))?),
        "flood-progress" => Kind::Flood(Flood::Progress, p.bytes(Some(FLOOD_BYTES))?),
        "flood-binary" => Kind::Flood(Flood::Binary, p.bytes(Some(FLOOD_BYTES))?),
        other => return Err(FaultError::Kind(other.to_owned())),
    };
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_form_is_kind_at_number_and_parameter() {
        let fault: Fault = "cut@3:5".parse().unwrap();
        assert_eq!((fault.kind, fault.from, fault.to), (Kind::Cut(5), Some(3), None));
        let fault: Fault = "http@2-4:503".parse().unwrap();
        assert!(!fault.meets(1) && fault.meets(2) && fault.meets(4) && !fault.meets(5));
        let fault: Fault = "huge:2MiB".parse().unwrap();
        assert_eq!(fault.kind, Kind::Huge(2 << 20));
    }

    #[test]
    fn what_cant_be_read_is_refused() {
        for wrong in [
            "nonsense",
            "cut@0",
            "cut@x",
            "http",
            "http:200",
            "cut:many",
            "slow-head",
            "child:rude",
            "huge:1XB",
        ] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_listed_kind_is_understood() {
        for (form, _) in KINDS {
            let name = form.split([':', '[']).next().unwrap_or_default();
            let parameter = match form.split_once(':').map(|(_, p)| p.trim_end_matches(']')) {
                None => String::new(),
                Some("TIME" | "PAUSE" | "FOR") => ":1ms".to_owned(),
                Some("STATUS") => ":500".to_owned(),
                Some("BYTES") => ":1KiB".to_owned(),
                Some("K" | "N" | "CODE") => ":2".to_owned(),
                Some(other) => format!(":{}", other.split('|').next().unwrap_or_default()),
            };
            let text = format!("{name}{parameter}");
            assert!(text.parse::<Fault>().is_ok(), "{text}");
        }
    }
}
