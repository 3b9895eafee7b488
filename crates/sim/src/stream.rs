//! One answer on its way out: what of it is written, what waits for the socket or for its time.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use super::clock::{monotonic_ns, nanos};
use super::dialect::{Event, Script, Stamps, Usage};
use super::engine::Tick;
use super::faults::{Crash, Kind};
use super::process_faults;
use super::stream_faults::{Framing, Stop, StreamFaults};
use super::wire;

/// A connection as both threads know it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) socket: Arc<TcpStream>,
    /// Its name at the front.
    pub(super) token: u64,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The next request may come.
    KeepAlive,
    /// FIN.
    Close,
    /// RST.
    Reset,
}

/// What an answer consists of.
#[derive(Debug)]
pub(super) enum Content {
    /// Events as the engine says.
    Events(Script),
    /// One object with the last token.
    Whole(Script),
    /// Bytes that are ready, at their time.
    Ready,
}

/// Bytes that are not out yet.
#[derive(Debug)]
struct Segment {
    bytes: Vec<u8>,
    sent: usize,
    stamps: Option<(Stamps, u64)>,
    not_before_ns: u64,
}

/// What a flush came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// Everything is out.
    All,
    /// The socket takes no more now.
    Blocked,
    /// The next bytes have their time later.
    Until(u64),
    /// The other side is gone.
    Gone,
}

/// One answer.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) connection: Connection,
    pub(super) content: Content,
    pub(super) prompt_tokens: u32,
    pub(super) include_usage: bool,
    pub(super) keep_alive: bool,
    pub(super) faults: Option<Box<StreamFaults>>,
    /// What follows when the queue is empty; `None` while more will come.
    pub(super) end: Option<End>,
    /// Whether it waits in the emitter's epoll.
    pub(super) registered: bool,
    queue: VecDeque<Segment>,
    /// Events so far.
    n: u32,
    /// Of those, chunks with tokens.
    chunks: u32,
    head_sent: bool,
    merged: Vec<u8>,
    merged_events: u32,
}

impl Stream {
    pub(super) fn new(connection: Connection, content: Content, keep_alive: bool) -> Self {
        Self {
            connection,
            content,
            prompt_tokens: 0,
            include_usage: false,
            keep_alive,
            faults: None,
            end: None,
            registered: false,
            queue: VecDeque::new(),
            n: 0,
            chunks: 0,
            head_sent: false,
            merged: Vec::new(),
            merged_events: 0,
        }
    }

    /// An answer that is ready and goes out at `at_ns`.
    pub(super) fn ready(connection: Connection, bytes: Vec<u8>, at_ns: u64, keep_alive: bool) -> Self {
        let mut stream = Self::new(connection, Content::Ready, keep_alive);
        stream.queue(bytes, None, at_ns);
        stream.finish();
        stream
    }

    /// Whether bytes wait.
    pub(super) fn is_waiting(&self) -> bool {
        !self.queue.is_empty()
    }

    fn finish(&mut self) {
        self.end = Some(if self.keep_alive {
            End::KeepAlive
        } else {
            End::Close
        });
    }

    /// Sends the head if it goes out before the first token.
    pub(super) fn start(&mut self, now_ns: u64) {
        if let Content::Events(script) = &self.content
            && script.shape().early_head()
        {
            self.send_head(now_ns, 0);
        }
    }

    fn usage(&self, script: &Script, cached: u32) -> Usage {
        let mut usage = script.usage(self.prompt_tokens, cached);
        if let Some(n) = self.faults.as_ref().and_then(|f| f.wrong_usage) {
            usage.completion = n;
        }
        usage
    }

    fn send_head(&mut self, now_ns: u64, cached: u32) {
        if std::mem::replace(&mut self.head_sent, true) {
            return;
        }
        let Content::Events(script) = &self.content else {
            return;
        };
        let head = match self.faults.as_deref() {
            None => wire::stream_head(Framing::Chunked, self.keep_alive, 0),
            Some(faults) => {
                let length = match faults.framing {
                    Framing::Length | Framing::ShortLength => {
                        let usage = self.include_usage.then(|| self.usage(script, cached));
                        wire::body_length(script, usage, faults)
                    }
                    _ => 0,
                };
                if faults.framing == Framing::Close || faults.framing == Framing::ShortLength {
                    self.keep_alive = false;
                }
                wire::stream_head(faults.framing, self.keep_alive, length)
            }
        };
        let delay = self.faults.as_ref().and_then(|f| f.head_delay).map_or(0, nanos);
        self.queue_split(head, now_ns.saturating_add(delay));
    }

    /// What a tick of the engine brings; true if the engine has to forget the request. `sent` hears of each event
    /// that is written or queued: when it was due and when it went.
    pub(super) fn tick(
        &mut self,
        tick: &Tick,
        scratch: &mut Vec<u8>,
        sent: &mut dyn FnMut(u64, u64),
    ) -> bool {
        match std::mem::replace(&mut self.content, Content::Ready) {
            Content::Events(script) => {
                self.content = Content::Events(script);
                self.tick_events(tick, scratch, sent)
            }
            Content::Whole(script) => {
                if tick.last {
                    self.whole(&script, tick);
                }
                self.content = Content::Whole(script);
                false
            }
            Content::Ready => false,
        }
    }

    fn tick_events(&mut self, tick: &Tick, scratch: &mut Vec<u8>, sent: &mut dyn FnMut(u64, u64)) -> bool {
        self.send_head(monotonic_ns(), tick.cached_tokens);
        let Content::Events(script) = &self.content else {
            return false;
        };
        let usage = self.include_usage.then(|| self.usage(script, tick.cached_tokens));
        for event in wire::events_of(script, tick, usage, self.faults.as_deref()) {
            if event != Event::Role
                && let Some((after, stop)) = self.faults.as_ref().and_then(|f| f.stop)
                && self.chunks >= after
            {
                self.stop(stop, tick.due_ns);
                return true;
            }
            self.chunks += u32::from(matches!(event, Event::Tokens { .. }));
            sent(tick.due_ns, self.emit(event, tick.due_ns, scratch));
        }
        if tick.last {
            self.end_body();
        }
        false
    }

    /// Writes or queues one event; when that was.
    fn emit(&mut self, event: Event, due_ns: u64, scratch: &mut Vec<u8>) -> u64 {
        let Content::Events(script) = &self.content else {
            return due_ns;
        };
        let n = self.n;
        self.n += 1;
        let Some(faults) = self.faults.as_deref() else {
            let (start, stamps) = wire::plain_chunk(script, event, n, scratch);
            let now_ns = monotonic_ns();
            if !self.queue.is_empty() {
                let stamps = stamps.map(|s| (s.after_cut(start), due_ns));
                self.queue(scratch[start..].to_vec(), stamps, 0);
                return now_ns;
            }
            if let Some(stamps) = stamps {
                stamps.patch(scratch, due_ns, now_ns);
            }
            let bytes = &scratch[start..];
            // What the socket does not take, an error included, is met again by the flush.
            let written = (&*self.connection.socket).write(bytes).unwrap_or(0);
            if written < bytes.len() {
                let rest = bytes[written..].to_vec();
                self.queue(rest, None, 0);
            }
            return now_ns;
        };
        let now_ns = monotonic_ns();
        let chunk = matches!(event, Event::Tokens { .. }).then_some(self.chunks);
        let body = wire::faulty_event(script, event, n, chunk, faults, (due_ns, now_ns));
        if let Some(merge) = faults.merge {
            self.merged.extend_from_slice(&body);
            self.merged_events += 1;
            if self.merged_events >= merge {
                self.release_merged();
            }
        } else {
            let framed = wire::frame(&body, faults);
            self.queue_split(framed, now_ns);
        }
        now_ns
    }

    fn release_merged(&mut self) {
        let body = std::mem::take(&mut self.merged);
        self.merged_events = 0;
        if let Some(faults) = self.faults.as_deref()
            && !body.is_empty()
        {
            let framed = wire::frame(&body, faults);
            self.queue_split(framed, 0);
        }
    }

    /// The body's proper end.
    fn end_body(&mut self) {
        self.release_merged();
        let faults = self.faults.as_deref();
        if faults.is_some_and(|f| f.no_terminator) {
            self.end = Some(End::Close);
            return;
        }
        if faults.is_none_or(|f| f.framing == Framing::Chunked) {
            let direct = faults.is_none() && self.queue.is_empty();
            let written = if direct {
                (&*self.connection.socket).write(wire::LAST_CHUNK).unwrap_or(0)
            } else {
                0
            };
            if written < wire::LAST_CHUNK.len() {
                self.queue_split(wire::LAST_CHUNK[written..].to_vec(), 0);
            }
        }
        self.finish();
    }

    fn stop(&mut self, stop: Stop, due_ns: u64) {
        self.release_merged();
        match stop {
            Stop::Cut => self.end = Some(End::Close),
            Stop::Reset => self.end = Some(End::Reset),
            Stop::Hang => {}
            Stop::Die => process_faults::die_if(&Kind::Crash(Crash::Kill)),
            Stop::EndEarly => self.end_body(),
            Stop::ErrorEvent { done } => {
                let mut scratch = Vec::new();
                self.emit(Event::Error, due_ns, &mut scratch);
                if done {
                    self.emit(Event::Done, due_ns, &mut scratch);
                }
                self.end_body();
            }
        }
    }

    fn whole(&mut self, script: &Script, tick: &Tick) {
        let usage = self.usage(script, tick.cached_tokens);
        let mut body = Vec::new();
        if let Some(stamps) = script.put_whole(usage, &mut body) {
            stamps.patch(&mut body, tick.due_ns, monotonic_ns());
        }
        let mut bytes = super::http::head(200, "application/json", body.len(), self.keep_alive);
        bytes.extend_from_slice(&body);
        let end = match self.faults.as_ref().and_then(|f| f.stop) {
            Some((_, Stop::Cut | Stop::EndEarly)) => Some(End::Close),
            Some((_, Stop::Reset)) => Some(End::Reset),
            Some((_, Stop::Hang)) => None,
            _ => {
                self.queue_split(bytes, 0);
                self.finish();
                return;
            }
        };
        bytes.truncate(bytes.len() - body.len() / 2);
        self.queue_split(bytes, 0);
        self.end = end;
    }

    fn queue(&mut self, bytes: Vec<u8>, stamps: Option<(Stamps, u64)>, not_before_ns: u64) {
        self.queue.push_back(Segment {
            bytes,
            sent: 0,
            stamps,
            not_before_ns,
        });
    }

    /// Queues bytes as the faults cut and delay them.
    fn queue_split(&mut self, bytes: Vec<u8>, at_ns: u64) {
        let at_ns = at_ns.max(self.queue.back().map_or(0, |s| s.not_before_ns));
        let Some(faults) = self.faults.as_deref() else {
            return self.queue(bytes, None, at_ns);
        };
        if faults.split_bytes || faults.trickle.is_some() {
            let pause = faults.trickle.map_or(0, nanos);
            let start = if pause > 0 {
                at_ns.max(monotonic_ns())
            } else {
                at_ns
            };
            for (byte, i) in bytes.into_iter().zip(1_u64..) {
                self.queue(vec![byte], None, start.saturating_add(pause.saturating_mul(i)));
            }
        } else if let Some(pause) = faults.split_utf8 {
            let tail = bytes[wire::split_point(&bytes)..].to_vec();
            let head = bytes[..bytes.len() - tail.len()].to_vec();
            self.queue(head, None, at_ns);
            self.queue(tail, None, at_ns.max(monotonic_ns()).saturating_add(nanos(pause)));
        } else {
            self.queue(bytes, None, at_ns);
        }
    }

    /// Writes what waits, as far as it may.
    pub(super) fn flush(&mut self) -> Flushed {
        while let Some(segment) = self.queue.front_mut() {
            if segment.not_before_ns > 0 {
                if segment.not_before_ns > monotonic_ns() {
                    return Flushed::Until(segment.not_before_ns);
                }
                segment.not_before_ns = 0;
            }
            if let Some((stamps, due_ns)) = segment.stamps.take() {
                stamps.patch(&mut segment.bytes, due_ns, monotonic_ns());
            }
            match (&*self.connection.socket).write(&segment.bytes[segment.sent..]) {
                Ok(written) => {
                    segment.sent += written;
                    if segment.sent == segment.bytes.len() {
                        self.queue.pop_front();
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Gone,
            }
        }
        Flushed::All
    }
}
