//! From events to bytes on the wire: SSE lines, HTTP framing, and what the faults make of both. No I/O.

use super::dialect::{Event, Script, Stamps};
use super::engine;
use super::stream_faults::{Framing, StreamFaults};

/// Room before an event's bytes for the size line of its HTTP chunk.
const SIZE_LINE: usize = 10;

/// Head of an answer that streams.
pub(super) fn stream_head(framing: Framing, keep_alive: bool, length: u64) -> Vec<u8> {
    let connection = if keep_alive && framing != Framing::Close {
        "keep-alive"
    } else {
        "close"
    };
    let body = match framing {
        Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
        Framing::Length => format!("content-length: {length}\r\n"),
        // What comes is shorter than this by so much.
        Framing::ShortLength => format!("content-length: {}\r\n", length + 1000),
        Framing::Close => String::new(),
    };
    format!(
        "HTTP/1.1 200 OK\r\nserver: benchd-sim\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n{body}connection: {connection}\r\n\r\n"
    )
    .into_bytes()
}

/// The end of a body in chunks.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// One event of a healthy stream as an HTTP chunk in `scratch`: where it starts, and where its times belong.
pub(super) fn plain_chunk(
    script: &Script,
    event: Event,
    n: u32,
    scratch: &mut Vec<u8>,
) -> (usize, Option<Stamps>) {
    scratch.clear();
    scratch.resize(SIZE_LINE, b' ');
    scratch.extend_from_slice(b"data: ");
    let stamps = script.put(event, n, 0, scratch);
    scratch.extend_from_slice(b"\n\n");
    let mut size = scratch.len() - SIZE_LINE;
    scratch.extend_from_slice(b"\r\n");
    let mut at = SIZE_LINE - 2;
    scratch[at..SIZE_LINE].copy_from_slice(b"\r\n");
    while at > 0 {
        at -= 1;
        scratch[at] = b"0123456789abcdef"[size & 15];
        size >>= 4;
        if size == 0 {
            break;
        }
    }
    (at, stamps)
}

/// One event of a faulty stream, as the bytes of its body without HTTP framing.
pub(super) fn faulty_event(
    script: &Script,
    event: Event,
    n: u32,
    chunk: Option<u32>,
    faults: &StreamFaults,
    times: (u64, u64),
) -> Vec<u8> {
    let padding = if chunk == Some(2) {
        faults.huge.unwrap_or(0)
    } else {
        0
    };
    let mut json = Vec::with_capacity(padding + 512);
    if let Some(stamps) = script.put(event, n, padding, &mut json) {
        stamps.patch(&mut json, times.0, times.1);
    }
    if chunk.is_some() && chunk == faults.bad_json {
        json.truncate(json.len() / 2);
    }
    if chunk.is_some() && chunk == faults.bad_utf8 {
        let text = memchr::memmem::find(&json, b"content\":\"").map_or(json.len() / 2, |at| at + 10);
        json.splice(text..text, [0xff, 0xc3, 0x28]);
    }
    let end: &[u8] = if faults.crlf { b"\r\n" } else { b"\n" };
    let field: &[u8] = if faults.no_space { b"data:" } else { b"data: " };
    let mut out = Vec::with_capacity(json.len() + 128);
    let mut line = |parts: &[&[u8]]| {
        for part in parts {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(end);
    };
    if faults.comments {
        line(&[b": ping"]);
        line(&[b""]);
        line(&[b":"]);
    }
    if faults.event_lines {
        line(&[b"event: message"]);
        line(&[b"id: ", n.to_string().as_bytes()]);
        line(&[b"retry: 1000"]);
    }
    // JSON allows a line end after a comma: the two lines joined by one are the same object.
    let cut = memchr::memmem::find(&json, b",\"choices\"").map(|at| at + 1);
    match cut.filter(|_| faults.multi_line) {
        Some(cut) => {
            line(&[field, &json[..cut]]);
            line(&[field, &json[cut..]]);
        }
        None => line(&[field, &json]),
    }
    line(&[b""]);
    out
}

/// HTTP framing of body bytes.
pub(super) fn frame(body: &[u8], faults: &StreamFaults) -> Vec<u8> {
    if faults.framing != Framing::Chunked {
        return body.to_vec();
    }
    if faults.one_byte_chunks {
        return body
            .iter()
            .flat_map(|b| [b'1', b'\r', b'\n', *b, b'\r', b'\n'])
            .collect();
    }
    let mut out = format!("{:x}\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
    out
}

/// Where to cut `bytes` in two: inside the first character of several bytes, else in the middle.
pub(super) fn split_point(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|b| *b >= 0x80)
        .map_or(bytes.len() / 2, |at| at + 1)
}

/// The events that a tick of the engine becomes, in order.
pub(super) fn events_of(
    script: &Script,
    tick: &engine::Tick,
    usage: Option<super::dialect::Usage>,
    faults: Option<&StreamFaults>,
) -> impl Iterator<Item = Event> + use<> {
    let shape = script.shape();
    let finish = tick.last && !faults.is_some_and(|f| f.no_finish);
    let role = (tick.first_token == 0 && shape.role_chunk).then_some(Event::Role);
    let tokens = Event::Tokens {
        first: tick.first_token,
        count: tick.tokens,
        finish: finish && !shape.finish_chunk,
    };
    let tokens = (!script.is_suppressed(tokens)).then_some(tokens);
    let finish = (finish && shape.finish_chunk).then_some(Event::Finish);
    let usage = usage
        .filter(|_| tick.last && !faults.is_some_and(|f| f.no_usage))
        .map(Event::Usage);
    let done = (tick.last && !faults.is_some_and(|f| f.no_done)).then_some(Event::Done);
    role.into_iter()
        .chain(tokens)
        .chain(finish)
        .chain(usage)
        .chain(done)
}

/// Length of the whole body of a faulty stream, for `content-length`.
pub(super) fn body_length(
    script: &Script,
    usage: Option<super::dialect::Usage>,
    faults: &StreamFaults,
) -> u64 {
    let (mut given, mut n, mut chunk, mut length) = (0, 0, 0, 0);
    while given < script.output_tokens {
        let tokens = engine::group(given, script.output_tokens, script.shape().tokens_per_chunk);
        let tick = engine::Tick {
            id: 0,
            due_ns: 0,
            first_token: given,
            tokens,
            last: given + tokens >= script.output_tokens,
            cached_tokens: 0,
        };
        for event in events_of(script, &tick, usage, Some(faults)) {
            let is_chunk = matches!(event, Event::Tokens { .. });
            chunk += u32::from(is_chunk);
            length += faulty_event(script, event, n, is_chunk.then_some(chunk), faults, (0, 0)).len() as u64;
            n += 1;
        }
        given += tokens;
    }
    length
}
