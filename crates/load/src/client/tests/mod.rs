//! Tests of the room as a whole.

mod framing;
mod outcomes;
mod streams;

use super::*;
use benchd_core::record::{EndMarker, RequestRecord};

pub(super) const FULL: StreamShape = StreamShape {
    usage: true,
    end: EndMarker::Done,
};
pub(super) const REASONING: &[&str] = &["reasoning", "reasoning_content"];

/// The record of the answer to `bytes`, see [`answer_to`].
pub(super) fn record_of(bytes: &[u8], pieces: &[usize], shape: StreamShape) -> RequestRecord {
    answer_to(bytes, pieces, shape).record
}

/// The answer to `bytes`, a whole connection's worth, arriving in pieces of these sizes (the last repeats).
/// Time is the number of the read in milliseconds.
pub(super) fn answer_to(bytes: &[u8], pieces: &[usize], shape: StreamShape) -> Answer {
    let mut intake = Intake::new();
    let mut assembly = Assembly::new(shape, REASONING);
    let mut sizes = pieces
        .iter()
        .copied()
        .chain(std::iter::repeat(*pieces.last().unwrap()));
    let mut rest = bytes;
    let (mut end, mut at_us) = (None, 0);
    while end.is_none() && !rest.is_empty() {
        let (piece, after) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
        at_us += 1_000;
        end = intake.push(piece, at_us);
        rest = after;
        if intake.block.is_full() {
            assembly.block(&intake.block.take());
        }
    }
    let end = end.unwrap_or_else(|| intake.closed());
    assembly.block(&intake.block.take());
    let (connect_us, status) = (Some(1), intake.status());
    assembly.finish(Closing {
        end,
        status,
        sent_unix_us: 5,
        sent_monotonic_ns: Some(6),
        queued_us: None,
        connect_us,
        end_us: at_us,
    })
}

/// A chunked response with `body` in HTTP chunks of these sizes (the last repeats).
pub(super) fn chunked_response(body: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut bytes = test_server::SSE_HEAD.as_bytes().to_vec();
    let mut sizes = sizes
        .iter()
        .copied()
        .chain(std::iter::repeat(*sizes.last().unwrap()));
    let mut rest = body;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
        bytes.extend_from_slice(&test_server::chunked(piece));
        rest = after;
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}
