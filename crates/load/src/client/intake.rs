//! From the bytes of one connection to stamped events, without I/O: the response reader and the framer
//! together, and how the stream ended.

use super::block::{Block, Stamp};
use super::http::{HttpError, Part, ResponseReader};
use super::sse::{Flow, Framer};

/// How much of a body that is no event stream is kept for the error's text, bytes.
pub(super) const MAX_ERROR_BODY_BYTES: usize = 16 << 10;

/// How a request ended, as far as the timed path can see. What the events say comes on top (see
/// [`Assembly`](super::answer::Assembly)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// `[DONE]`, or an event that says plainly that the server failed.
    LastEvent,
    /// The body is whole.
    EndOfBody,
    /// No connection, or none that lasted until a status line; why.
    Connect(String),
    /// Another status than 200, with the start of the body.
    HttpStatus(String),
    /// The connection ended within the body; how.
    Truncated(String),
    /// Bytes that are no event stream; what about them.
    Malformed(String),
    /// 200 with a JSON body in place of a stream; its start.
    NotAStream(String),
    /// The limit passed.
    Timeout(String),
    /// benchd stopped it.
    Cancelled,
}

/// What one connection brings.
#[derive(Debug, Default)]
pub struct Intake {
    response: ResponseReader,
    framer: Framer,
    /// Events that were not handed on yet.
    pub block: Block,
    status: Option<u16>,
    /// The start of a body that is no event stream.
    body: Option<Vec<u8>>,
    reads: u32,
}

impl Intake {
    /// An intake at the start of a response.
    pub fn new() -> Self {
        Self::default()
    }

    /// The status, where the head has come.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Whether the body was read to its end, so that nothing more will come.
    pub(super) fn is_over(&self) -> bool {
        self.response.is_over()
    }

    /// Takes what one read brought, `at_us` microseconds after the send. `Some`: the request is over.
    #[inline]
    pub fn push(&mut self, bytes: &[u8], at_us: u64) -> Option<End> {
        let stamp = Stamp {
            at_us,
            read: self.reads,
        };
        self.reads = self.reads.wrapping_add(1);
        let mut input = bytes;
        loop {
            match self.response.next(&mut input) {
                Ok(Some(Part::Body(piece))) => match &mut self.body {
                    None => match self.framer.push(piece, stamp, &mut self.block) {
                        Ok(Flow::More) => {}
                        Ok(Flow::Last) => {
                            // What came with the last event may hold the body's end: then nothing is left
                            // to be drained.
                            while let Ok(Some(_)) = self.response.next(&mut input) {}
                            return Some(End::LastEvent);
                        }
                        Err(error) => return Some(End::Malformed(error.to_string())),
                    },
                    Some(body) => {
                        let room = MAX_ERROR_BODY_BYTES.saturating_sub(body.len());
                        body.extend_from_slice(&piece[..piece.len().min(room)]);
                    }
                },
                Ok(Some(Part::Head(head))) => {
                    self.status = Some(head.status);
                    let is_json = head
                        .content_type
                        .is_some_and(|t| t.starts_with("application/json"));
                    if head.status != 200 || is_json {
                        self.body = Some(Vec::new());
                    }
                }
                Ok(Some(Part::End)) => return Some(self.end_of_body()),
                Ok(None) => return None,
                Err(HttpError::NoStatusLine(what)) => {
                    return Some(End::Connect(HttpError::NoStatusLine(what).to_string()));
                }
                Err(error) => return Some(self.or_status(End::Malformed(error.to_string()))),
            }
        }
    }

    /// The server closed the connection.
    pub fn closed(&mut self) -> End {
        if !self.response.has_head() {
            return End::Connect("the server closed the connection without a status line".to_owned());
        }
        if self.response.may_close() {
            return self.end_of_body();
        }
        self.or_status(End::Truncated(
            "the server closed the connection within the body".to_owned(),
        ))
    }

    /// The connection broke (reset).
    pub(super) fn broken(&mut self, error: &std::io::Error) -> End {
        if self.response.has_head() {
            self.or_status(End::Truncated(format!(
                "the connection broke within the body: {error}"
            )))
        } else {
            End::Connect(format!("the connection broke before a status line: {error}"))
        }
    }

    /// The request was given up for `end`. A status that says by itself that the request failed came first
    /// and decides.
    pub(super) fn or_status(&mut self, end: End) -> End {
        match (self.status, &mut self.body) {
            (Some(status), Some(body)) if status != 200 => End::HttpStatus(text_of(std::mem::take(body))),
            _ => end,
        }
    }

    fn end_of_body(&mut self) -> End {
        match &mut self.body {
            Some(body) if self.status == Some(200) => End::NotAStream(text_of(std::mem::take(body))),
            Some(body) => End::HttpStatus(text_of(std::mem::take(body))),
            None => End::EndOfBody,
        }
    }
}

fn text_of(body: Vec<u8>) -> String {
    String::from_utf8(body).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
