//! Splits the bytes of an event stream into events, without I/O.
//!
//! The rules are the standard's (<https://html.spec.whatwg.org/multipage/server-sent-events.html>, section
//! 9.2.6): lines end with LF, CRLF or CR; a line that starts with a colon is a comment; `data` lines of one
//! event are joined with LF; an empty line ends the event; one byte order mark at the very start is skipped;
//! what is unfinished when the stream ends is no event. `id` and `retry` mean nothing to a client that never
//! reconnects and are skipped.
//!
//! Bytes are split before anything is decoded, so it makes no difference where a read cut a character. Of a
//! lone CR it can't be known yet whether an LF follows: the line counts as ended at the CR, and an LF that
//! comes next is swallowed, so an event is never held back for the byte after it.

use memchr::memchr2;

use super::block::{Block, EventKind, Stamp};

/// The longest event that is accepted, bytes. A server that never ends its event would otherwise fill memory.
pub(super) const MAX_EVENT_BYTES: usize = 64 << 20;

/// A buffer for an unfinished line that grew beyond this is given back after the line, bytes.
const KEEP_CARRY_BYTES: usize = 4 << 10;

/// The stream can't be split any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {MAX_EVENT_BYTES} bytes")]
pub struct EventTooLong;

/// Whether the stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// More may follow.
    More,
    /// The last event was `[DONE]`, or said plainly that the server failed: what follows is not looked at.
    Last,
}

/// The incremental splitter. Events go into a [`Block`].
#[derive(Debug, Default)]
pub struct Framer {
    /// The start of a line whose end has not come, where it is no `data` line (yet).
    carry: Vec<u8>,
    /// The pending line is a `data` line, and what has come of its value is in the block already.
    in_data: bool,
    /// The last line ended with CR at the end of the input: an LF that comes next belongs to it.
    swallow_lf: bool,
    /// A line has been seen, so no byte order mark can come any more.
    started: bool,
    /// A `data` line of the pending event has been seen.
    has_data: bool,
    /// The pending event's `event` field.
    kind: EventKind,
}

impl Framer {
    /// A splitter at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream, and appends the events that they complete to `block`, each marked
    /// with `stamp`.
    ///
    /// # Errors
    /// [`EventTooLong`]; the stream is of no use after it.
    #[inline]
    pub fn push(&mut self, bytes: &[u8], stamp: Stamp, block: &mut Block) -> Result<Flow, EventTooLong> {
        let mut rest = bytes;
        if self.swallow_lf && !rest.is_empty() {
            self.swallow_lf = false;
            if rest[0] == b'\n' {
                rest = &rest[1..];
            }
        }
        loop {
            // Every other line of an event stream is empty: not worth a search.
            let at = match rest.first() {
                None => break,
                Some(b'\n') => 0,
                Some(_) => match memchr2(b'\n', b'\r', rest) {
                    Some(at) => at,
                    None => break,
                },
            };
            let line = &rest[..at];
            let ended_by_cr = rest[at] == b'\r';
            rest = &rest[at + 1..];
            if ended_by_cr {
                match rest.first() {
                    Some(b'\n') => rest = &rest[1..],
                    Some(_) => {}
                    None => self.swallow_lf = true,
                }
            }
            let flow = if self.in_data {
                block.append(line);
                self.in_data = false;
                Flow::More
            } else if self.carry.is_empty() {
                self.line(line, stamp, block)
            } else {
                let mut whole = std::mem::take(&mut self.carry);
                whole.extend_from_slice(line);
                let flow = self.line(&whole, stamp, block);
                if whole.capacity() <= KEEP_CARRY_BYTES {
                    whole.clear();
                    self.carry = whole;
                }
                flow
            };
            if flow == Flow::Last {
                return Ok(Flow::Last);
            }
        }
        self.unfinished(rest, block)
    }

    /// Keeps the start of a line: what is known to be data in the block, everything else apart.
    fn unfinished(&mut self, rest: &[u8], block: &mut Block) -> Result<Flow, EventTooLong> {
        if self.carry.len() + block.pending_bytes() + rest.len() > MAX_EVENT_BYTES {
            return Err(EventTooLong);
        }
        if self.in_data {
            block.append(rest);
        } else if self.started && self.carry.is_empty() && rest.starts_with(b"data: ") {
            self.data(&rest[6..], block);
            self.in_data = true;
        } else {
            self.carry.extend_from_slice(rest);
        }
        Ok(Flow::More)
    }

    /// Whether the stream stands between two events, with nothing of a next one.
    #[cfg(test)]
    pub(super) fn is_between_events(&self) -> bool {
        self.carry.is_empty() && !self.has_data
    }

    #[inline]
    fn line(&mut self, mut line: &[u8], stamp: Stamp, block: &mut Block) -> Flow {
        if !self.started {
            self.started = true;
            line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch(stamp, block);
        }
        if let Some(tail) = line.strip_prefix(b"data") {
            let Some(value) = field_value(tail) else {
                return Flow::More;
            };
            self.data(value, block);
        } else if let Some(value) = line.strip_prefix(b"event").and_then(field_value) {
            self.kind = match value {
                b"error" => EventKind::Error,
                _ => EventKind::Data,
            };
        }
        Flow::More
    }

    #[inline]
    fn data(&mut self, value: &[u8], block: &mut Block) {
        if self.has_data {
            block.append(b"\n");
        }
        block.append(value);
        self.has_data = true;
    }

    #[inline]
    fn dispatch(&mut self, stamp: Stamp, block: &mut Block) -> Flow {
        let kind = std::mem::take(&mut self.kind);
        if !std::mem::take(&mut self.has_data) {
            return Flow::More;
        }
        let data = block.complete(kind, stamp);
        if kind == EventKind::Error || is_done(data) || says_error(data) {
            Flow::Last
        } else {
            Flow::More
        }
    }
}

/// What stands after a field's name: the value, or `None` where the name goes on (`database: …`).
#[inline]
fn field_value(tail: &[u8]) -> Option<&[u8]> {
    match tail {
        [] => Some(tail),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// Whether an event's data is the end marker.
#[inline]
pub(super) fn is_done(data: &[u8]) -> bool {
    data.starts_with(b"[DONE]") && data[6..].trim_ascii().is_empty()
}

/// Whether an event's data says at its very start that it is an error (`{"error": …}`, not null). Errors
/// that stand deeper in the object are found by the decoder; this is for ending the request early.
#[inline]
fn says_error(data: &[u8]) -> bool {
    let Some(rest) = data.strip_prefix(b"{\"error\":") else {
        return false;
    };
    let rest = rest.trim_ascii_start();
    !rest.is_empty() && !rest.starts_with(b"null")
}
