//! What a request brought back, put together off the timed path.
//!
//! # Which outcome
//!
//! The first thing that goes wrong decides, in the order in which the bytes came:
//!
//! 1. an event that can't be read (`malformed`) or that says the server failed (`stream_error`): the first
//!    such event decides, whatever follows it, and `end_us` is its arrival;
//! 2. else what ended the request on the wire: `connect`, `http_status`, `timeout`, `truncated`,
//!    `malformed` (framing) or `cancelled`; a status other than 200 came before anything that happened while
//!    its body was read, so it wins over a time-out or a cut within that body;
//! 3. else, of a stream that ended by itself: the end marker that the server's shape promises, a finish
//!    reason, and usage where promised; the first of these that is missing makes it `truncated`.
//!
//! Times and text up to the failure are kept in every case.

use benchd_core::record::{
    EndMarker, Outcome, REQUEST_RECORD_VERSION, RequestRecord, StreamShape, TokenSource,
};

use super::block::{Block, Event, EventKind};
use super::chunk::{self, Chunk, Text, Usage};
use super::intake::End;
use super::sse::is_done;

/// What one request brought.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Its record. Which lane, cell, attempt, pass and prompt it belongs to is the caller's to fill in; a batch fills in
    /// index and stream.
    pub record: RequestRecord,
    /// The send by CLOCK_MONOTONIC, nanoseconds, for comparing with a server on the same machine that stamps
    /// by that clock; `None` where nothing was sent.
    pub sent_monotonic_ns: Option<u64>,
    /// Whether `data: [DONE]` came.
    pub saw_done: bool,
    /// The simulated server's stamps of the token-bearing events that have one, in order; only where they
    /// were asked for ([`LoadOptions::keep_stamps`](crate::LoadOptions::keep_stamps)).
    pub server_stamps: Vec<ServerStamp>,
}

/// When the simulated server did what led to an event, CLOCK_MONOTONIC, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub struct ServerStamp {
    /// It had read the request's last byte.
    pub read_ns: u64,
    /// The event was due.
    pub due_ns: u64,
    /// It handed the event to the kernel.
    pub t_ns: u64,
}

/// The stamp in an event's text, found without reading the rest again.
fn server_stamp(data: &[u8]) -> Option<ServerStamp> {
    const KEY: &[u8] = b"\"sim\":";
    let at = memchr::memmem::rfind(data, KEY)? + KEY.len();
    serde_json::Deserializer::from_slice(&data[at..])
        .into_iter()
        .next()?
        .ok()
}

impl Answer {
    /// The shape that this answer's stream showed, for those that follow.
    pub fn shown_shape(&self) -> StreamShape {
        StreamShape {
            usage: self.record.token_source == TokenSource::Usage,
            end: if self.saw_done {
                EndMarker::Done
            } else {
                EndMarker::EndOfBody
            },
        }
    }
}

/// What the timed path knows of a request when it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closing {
    pub(crate) end: End,
    pub(super) status: Option<u16>,
    /// Wall clock at the send (of a request that was never sent: at its failure), microseconds since the
    /// Unix epoch.
    pub(crate) sent_unix_us: u64,
    /// By CLOCK_MONOTONIC, see [`Answer::sent_monotonic_ns`].
    pub(super) sent_monotonic_ns: Option<u64>,
    /// From the planned send to the actual one, open loop only, microseconds.
    pub(super) queued_us: Option<u64>,
    /// Time that opening the connection took, microseconds; `None` where none was opened.
    pub(super) connect_us: Option<u64>,
    /// Arrival of the last byte, or the moment of the failure, microseconds from the send. Of a request that was never
    /// sent: 0.
    pub(crate) end_us: u64,
}

/// Puts an answer together, block by block.
#[derive(Debug)]
pub(crate) struct Assembly {
    keep_stamps: bool,
    shape: StreamShape,
    reasoning_fields: &'static [&'static str],
    answer: Answer,
    usage: Option<Usage>,
    last_event_us: Option<u64>,
    last_token_read: Option<u32>,
    /// The first event that decides the outcome, and when it came.
    failure: Option<(Outcome, String, u64)>,
}

impl Assembly {
    /// An answer of which nothing has come. `reasoning_fields`: names under which this kind of server sends
    /// its reasoning, the first that is present wins.
    pub(crate) fn new(shape: StreamShape, reasoning_fields: &'static [&'static str]) -> Self {
        Self {
            keep_stamps: false,
            shape,
            reasoning_fields,
            answer: Answer {
                record: RequestRecord {
                    v: REQUEST_RECORD_VERSION,
                    ..RequestRecord::default()
                },
                ..Answer::default()
            },
            usage: None,
            last_event_us: None,
            last_token_read: None,
            failure: None,
        }
    }

    /// Keeps the simulated server's stamps as well.
    pub(crate) fn keeping_stamps(mut self, keep: bool) -> Self {
        self.keep_stamps = keep;
        self
    }

    /// Decodes the completed events of a block.
    pub(crate) fn block(&mut self, block: &Block) {
        for event in block.events() {
            if self.failure.is_some() || self.answer.saw_done {
                return;
            }
            self.event(event);
        }
    }

    fn event(&mut self, event: Event<'_>) {
        let at_us = event.stamp.at_us;
        if is_done(event.data) {
            self.last_event_us = Some(at_us);
            self.answer.saw_done = true;
            return;
        }
        let text = match std::str::from_utf8(event.data) {
            Ok(text) if text.trim_ascii().is_empty() => return,
            Ok(text) => text,
            Err(error) => {
                return self.fail(
                    Outcome::Malformed,
                    format!("an event is not UTF-8: {error}"),
                    at_us,
                );
            }
        };
        self.last_event_us = Some(at_us);
        self.answer.record.first_chunk_us.get_or_insert(at_us);
        if event.kind == EventKind::Error {
            return self.fail(Outcome::StreamError, chunk::error_text(text), at_us);
        }
        let chunk: Chunk<'_> = match serde_json::from_str(text) {
            Ok(chunk) => chunk,
            Err(error) => {
                let what = format!("an event is no chunk: {error}: {}", chunk::shortened(text));
                return self.fail(Outcome::Malformed, what, at_us);
            }
        };
        if let Some(what) = chunk.failure(text) {
            return self.fail(Outcome::StreamError, what, at_us);
        }
        self.chunk(chunk, event);
    }

    fn chunk(&mut self, chunk: Chunk<'_>, event: Event<'_>) {
        let record = &mut self.answer.record;
        if record.response_id.is_none() {
            record.response_id = chunk.id.non_empty().map(str::to_owned);
        }
        if record.response_model.is_none() {
            record.response_model = chunk.model.non_empty().map(str::to_owned);
        }
        if chunk.usage.is_some() {
            // With continuous usage every chunk has one; the last is the whole.
            self.usage = chunk.usage;
        }
        if chunk.timings.is_some() {
            record.server_timings = chunk.timings;
        }
        let Some(choice) = chunk.choices.and_then(|choices| choices.0) else {
            return;
        };
        if let Some(reason) = choice.finish_reason.non_empty() {
            record.finish_reason = Some(reason.to_owned());
        }
        let delta = choice.delta.unwrap_or_default();
        if delta.content == Text::Other || choice.text == Text::Other {
            let what = "an event's text is no string".to_owned();
            return self.fail(Outcome::Malformed, what, event.stamp.at_us);
        }
        let content = delta.content.non_empty().or_else(|| choice.text.non_empty());
        let reasoning = self.reasoning_fields.iter().find_map(|name| {
            delta
                .others
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_ref())
        });
        if content.is_none() && reasoning.is_none() {
            return;
        }
        let at_us = event.stamp.at_us;
        record.chunks_us.push(at_us);
        if self.keep_stamps {
            self.answer.server_stamps.extend(server_stamp(event.data));
        }
        record.first_token_us.get_or_insert(at_us);
        record.last_token_us = Some(at_us);
        if self.last_token_read.replace(event.stamp.read) == Some(event.stamp.read) {
            record.coalesced += 1;
        }
        if let Some(reasoning) = reasoning {
            record.reasoning.push_str(reasoning);
        }
        if let Some(content) = content {
            record.first_content_us.get_or_insert(at_us);
            record.text.push_str(content);
        }
    }

    fn fail(&mut self, outcome: Outcome, what: String, at_us: u64) {
        self.failure = Some((outcome, what, at_us));
    }

    /// The answer, once nothing more comes.
    pub(crate) fn finish(mut self, closing: Closing) -> Answer {
        let missing = self.missing();
        let mut answer = self.answer;
        answer.sent_monotonic_ns = closing.sent_monotonic_ns;
        let record = &mut answer.record;
        record.status = closing.status;
        record.sent_unix_us = closing.sent_unix_us;
        record.queued_us = closing.queued_us;
        record.connect_us = closing.connect_us;
        record.end_us = closing.end_us;
        if let Some(usage) = self.usage {
            record.prompt_tokens = usage.prompt_tokens;
            record.output_tokens = usage.completion_tokens;
            record.cached_tokens = usage
                .prompt_tokens_details
                .and_then(|details| details.cached_tokens);
            if record.output_tokens.is_some() {
                record.token_source = TokenSource::Usage;
            }
        }
        let verdict = if let Some((outcome, what, at_us)) = self.failure.take() {
            record.end_us = at_us;
            Some((outcome, what))
        } else {
            match closing.end {
                End::LastEvent | End::EndOfBody => {
                    missing.map(|what| (Outcome::Truncated, format!("the stream ended without {what}")))
                }
                End::Connect(what) => Some((Outcome::Connect, what)),
                End::HttpStatus(body) => Some((
                    Outcome::HttpStatus,
                    format!(
                        "{}: {}",
                        closing.status.unwrap_or_default(),
                        chunk::error_text(&body)
                    ),
                )),
                End::Truncated(what) => Some((Outcome::Truncated, what)),
                End::Malformed(what) => Some((Outcome::Malformed, what)),
                End::NotAStream(body) => Some(not_a_stream(&body)),
                End::Timeout(what) => Some((Outcome::Timeout, what)),
                End::Cancelled => Some((Outcome::Cancelled, "stopped by benchd".to_owned())),
            }
        };
        if let Some((outcome, what)) = verdict {
            record.outcome = outcome;
            record.error = Some(what);
        }
        if answer.saw_done && record.is_ok() {
            // The stream ended with its marker; when the connection ended is of no interest.
            record.end_us = self.last_event_us.unwrap_or(record.end_us);
        }
        answer
    }

    /// The first thing that a whole stream must have and this one has not.
    fn missing(&self) -> Option<&'static str> {
        if self.shape.end == EndMarker::Done && !self.answer.saw_done {
            Some("its end marker [DONE]")
        } else if self.answer.record.finish_reason.is_none() {
            Some("a finish reason")
        } else if self.shape.usage && self.usage.and_then(|usage| usage.completion_tokens).is_none() {
            Some("usage")
        } else {
            None
        }
    }
}

/// 200 and JSON where a stream was asked for.
fn not_a_stream(body: &str) -> (Outcome, String) {
    let failure = serde_json::from_str::<Chunk<'_>>(body)
        .ok()
        .and_then(|chunk| chunk.failure(body));
    failure.map_or_else(
        || {
            let start = chunk::shortened(body);
            (
                Outcome::Malformed,
                format!("the answer is one JSON body and no event stream: {start}"),
            )
        },
        |what| (Outcome::StreamError, what),
    )
}
