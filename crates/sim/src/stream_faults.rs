//! What the faults that meet one request come to for its stream.

use std::time::Duration;

use super::faults::Kind;

/// What the kinds that meet one request's stream come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct StreamFaults {
    /// After so many chunks that carry tokens, this.
    pub(super) stop: Option<(u32, Stop)>,
    pub(super) no_done: bool,
    pub(super) no_usage: bool,
    pub(super) no_finish: bool,
    pub(super) no_terminator: bool,
    pub(super) bad_json: Option<u32>,
    pub(super) bad_utf8: Option<u32>,
    pub(super) split_bytes: bool,
    pub(super) one_byte_chunks: bool,
    pub(super) split_utf8: Option<Duration>,
    pub(super) merge: Option<u32>,
    pub(super) trickle: Option<Duration>,
    pub(super) huge: Option<usize>,
    pub(super) crlf: bool,
    pub(super) comments: bool,
    pub(super) event_lines: bool,
    pub(super) multi_line: bool,
    pub(super) no_space: bool,
    pub(super) head_delay: Option<Duration>,
    pub(super) framing: Framing,
    pub(super) wrong_usage: Option<u32>,
}

/// How the body's end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Framing {
    #[default]
    Chunked,
    Length,
    ShortLength,
    Close,
}

/// How a stream stops before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// FIN in mid-body.
    Cut,
    /// RST.
    Reset,
    /// Nothing more.
    Hang,
    /// The body's proper end.
    EndEarly,
    /// The process kills itself.
    Die,
    /// An error event, then `[DONE]` or not, then the body's proper end.
    ErrorEvent {
        /// Whether `[DONE]` follows.
        done: bool,
    },
}

impl StreamFaults {
    /// What `kinds` come to; `None` if none of them concerns the stream.
    pub(super) fn of<'a>(kinds: impl Iterator<Item = &'a Kind>) -> Option<Box<Self>> {
        let mut all = Self::default();
        for kind in kinds {
            all.add(kind);
        }
        (all != Self::default()).then(|| Box::new(all))
    }

    fn add(&mut self, kind: &Kind) {
        match *kind {
            Kind::Cut(k) => self.stop = Some((k, Stop::Cut)),
            Kind::Reset(k) => self.stop = Some((k, Stop::Reset)),
            Kind::Hang(k) => self.stop = Some((k, Stop::Hang)),
            Kind::EndEarly(k) => self.stop = Some((k, Stop::EndEarly)),
            Kind::ErrorEvent(k) => self.stop = Some((k, Stop::ErrorEvent { done: true })),
            Kind::ErrorEventNoDone(k) => self.stop = Some((k, Stop::ErrorEvent { done: false })),
            Kind::CrashMid(k) => self.stop = Some((k, Stop::Die)),
            Kind::NoDone => self.no_done = true,
            Kind::NoUsage => self.no_usage = true,
            Kind::NoFinish => self.no_finish = true,
            Kind::NoTerminator => self.no_terminator = true,
            Kind::BadJson(k) => self.bad_json = Some(k),
            Kind::BadUtf8(k) => self.bad_utf8 = Some(k),
            Kind::SplitBytes => self.split_bytes = true,
            Kind::OneByteChunks => self.one_byte_chunks = true,
            Kind::SplitUtf8(pause) => self.split_utf8 = Some(pause),
            Kind::Merge(k) => self.merge = Some(k),
            Kind::Trickle(pause) => self.trickle = Some(pause),
            Kind::Huge(bytes) => self.huge = Some(bytes),
            Kind::Crlf => self.crlf = true,
            Kind::Comments => self.comments = true,
            Kind::EventLines => self.event_lines = true,
            Kind::MultiLine => self.multi_line = true,
            Kind::NoSpace => self.no_space = true,
            Kind::SlowHead(delay) => self.head_delay = Some(delay),
            Kind::ContentLength => self.framing = Framing::Length,
            Kind::ShortLength => self.framing = Framing::ShortLength,
            Kind::CloseDelimited => self.framing = Framing::Close,
            Kind::WrongUsage(n) => self.wrong_usage = Some(n),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_nothing_concerns_has_no_faults() {
        assert!(StreamFaults::of([Kind::HealthLies, Kind::Http(500)].iter()).is_none());
        let faults = StreamFaults::of([Kind::Cut(2), Kind::Crlf].iter()).unwrap();
        assert_eq!(faults.stop, Some((2, Stop::Cut)));
        assert!(faults.crlf);
    }
}
