//! Bytes of an event stream parsed per second: a plain `memchr` pass over the lines, benchd's framer, the
//! whole intake (HTTP chunks and framer), and the `sseer` crate, on the same bytes, in turns, best of many.
//!
//! `cargo bench --bench sse_parse`

use std::hint::black_box;
use std::time::{Duration, Instant};

use benchd_load::client::{Block, Framer, Intake, Stamp};

/// A stream's size.
const EVENTS: usize = 20_000;
/// Rounds; the best counts, since everything else on the machine only makes it slower.
const ROUNDS: usize = 60;

fn main() {
    println!(
        "{:<34} {:>9} {:>12} {:>9} {:>9}",
        "stream", "bytes/ev", "pass", "GB/s", "ratio"
    );
    let short = r#"{"id":"chatcmpl-a73b1c099dc3ee12","object":"chat.completion.chunk","created":1795492608,"model":"llama31-8b","choices":[{"index":0,"delta":{"content":" pixels"},"logprobs":null,"finish_reason":null,"token_ids":null}]}"#;
    let long = format!(
        r#"{{"choices":[{{"delta":{{"content":"{}"}}}}]}}"#,
        "가나다라".repeat(400)
    );
    for (name, data, events) in [
        ("vLLM's chunks, one a token", short, EVENTS),
        ("chunks of 5 kB", &long, EVENTS / 20),
    ] {
        for piece in [data.len() + 8, 65_536] {
            compare(&format!("{name}, reads of {piece}"), data, events, piece);
        }
    }
}

/// Name, bytes of its input, and the pass, which returns what it found.
type Contestant<'a> = (&'static str, usize, Box<dyn FnMut() -> usize + 'a>);

fn compare(name: &str, data: &str, events: usize, piece: usize) {
    let body = format!("data: {data}\n\n").repeat(events);
    let body = body.as_bytes();
    let mut response = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for event in body.chunks(data.len() + 8) {
        response.extend_from_slice(format!("{:x}\r\n", event.len()).as_bytes());
        response.extend_from_slice(event);
        response.extend_from_slice(b"\r\n");
    }
    let mut contestants: [Contestant<'_>; 4] = [
        (
            "memchr",
            body.len(),
            Box::new(|| body.chunks(piece).map(memchr_pass).sum()),
        ),
        ("framer", body.len(), Box::new(|| framer_pass(body, piece))),
        (
            "intake",
            response.len(),
            Box::new(|| intake_pass(&response, piece)),
        ),
        ("sseer", body.len(), Box::new(|| sseer_pass(body, piece))),
    ];
    let mut best = [Duration::MAX; 4];
    for _ in 0..ROUNDS {
        for ((pass, _, run), best) in contestants.iter_mut().zip(&mut best) {
            let started = Instant::now();
            let found = black_box(run());
            *best = (*best).min(started.elapsed());
            let expected = if *pass == "memchr" { 2 * events } else { events };
            assert_eq!(found, expected, "{pass} lost events");
        }
    }
    let plain_s_per_byte = best[0].as_secs_f64() / body.len() as f64;
    for ((pass, bytes, _), best) in contestants.iter().zip(best) {
        let s_per_byte = best.as_secs_f64() / *bytes as f64;
        let per_event = body.len() / events;
        let (rate, ratio) = (1e-9 / s_per_byte, s_per_byte / plain_s_per_byte);
        println!("{name:<34} {per_event:>9} {pass:>12} {rate:>9.2} {ratio:>8.2}x");
    }
}

/// Finds the ends of lines, one call a line, and does nothing with them.
fn memchr_pass(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).map(black_box).count()
}

fn framer_pass(body: &[u8], piece: usize) -> usize {
    let (mut framer, mut block, mut found) = (Framer::new(), Block::new(), 0);
    for bytes in body.chunks(piece) {
        framer
            .push(bytes, Stamp::default(), &mut block)
            .expect("no event is too long");
        if block.is_full() {
            found += block.len();
            block.clear_completed();
        }
    }
    found + block.len()
}

fn intake_pass(response: &[u8], piece: usize) -> usize {
    let (mut intake, mut found) = (Intake::new(), 0);
    for bytes in response.chunks(piece) {
        assert_eq!(intake.push(bytes, 1), None);
        if intake.block.is_full() {
            found += intake.block.len();
            intake.block.clear_completed();
        }
    }
    found + intake.block.len()
}

fn sseer_pass(body: &[u8], piece: usize) -> usize {
    use futures_util::{FutureExt, StreamExt};
    let pieces = body
        .chunks(piece)
        .map(|bytes| Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(bytes)));
    let events = sseer::EventStream::new(futures_util::stream::iter(pieces));
    // Nothing ever waits: the stream is an iterator.
    events
        .map(|event| black_box(event).is_ok())
        .filter(|ok| std::future::ready(*ok))
        .count()
        .now_or_never()
        .unwrap_or(0)
}
