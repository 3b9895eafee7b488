//! The framer and the response reader against any chunking, against `sseer` and against hyper.

use std::time::Duration;

use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::client::{
    block::EventKind,
    http::{HttpError, Part, ResponseReader},
    sse::MAX_EVENT_BYTES,
};

/// Events that the framer finds when the bytes come in pieces of these sizes.
fn events_of(bytes: &[u8], pieces: &[usize]) -> Vec<(EventKind, Vec<u8>)> {
    let mut framer = Framer::new();
    let mut block = Block::new();
    let mut found = Vec::new();
    let mut sizes = pieces.iter().copied().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
        rest = after;
        let flow = framer.push(piece, Stamp::default(), &mut block).unwrap();
        // Taking blocks at odd moments must not change anything, an event half-way included.
        found.extend(
            block
                .take()
                .events()
                .map(|event| (event.kind, event.data.to_vec())),
        );
        if flow == Flow::Last {
            break;
        }
    }
    found
}

/// Events as `sseer` finds them.
fn events_of_sseer(bytes: &[u8]) -> Vec<(EventKind, Vec<u8>)> {
    let pieces = [Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(bytes))];
    let stream = sseer::EventStream::new(futures_util::stream::iter(pieces));
    futures_util::pin_mut!(stream);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut found = Vec::new();
        while let Some(event) = futures_util::StreamExt::next(&mut stream).await {
            let event = event.unwrap();
            let kind = if event.event.as_bytes() == b"error" {
                EventKind::Error
            } else {
                EventKind::Data
            };
            found.push((kind, event.data.as_bytes().to_vec()));
            if kind == EventKind::Error {
                break;
            }
        }
        found
    })
}

/// Lines that a stream may hold, nonsense included. `[DONE]` and errors end the framer's stream on purpose
/// and have tests of their own.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[ -~가-힣🦀]{0,40}".prop_map(|text| format!("data: {text}")),
        1 => "[a-z 한]{0,10}".prop_map(|text| format!("data:{text}")),
        1 => Just("data".to_owned()),
        1 => Just("event: message".to_owned()),
        1 => Just("event: error".to_owned()),
        1 => Just("event:ping".to_owned()),
        1 => ":[ -~]{0,20}",
        1 => "(id|retry|database|dat|events|x): ?[a-z0-9]{0,8}",
        1 => "[a-z가]{1,6}",
        6 => Just(String::new()),
    ]
}

fn stream_text() -> impl Strategy<Value = Vec<u8>> {
    let ends = prop_oneof![3 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\r")];
    (any::<bool>(), prop::collection::vec((line(), ends), 0..40)).prop_map(|(bom, lines)| {
        let mut text = if bom { "\u{feff}".to_owned() } else { String::new() };
        for (line, end) in lines {
            text += &line;
            text += end;
        }
        // sseer holds an event back at a last lone CR, until it knows the byte after it.
        text += ": end\n";
        text.into_bytes()
    })
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1_usize..4, 1_usize..64, Just(10_000)], 1..12)
}

/// Bytes that are mostly what framing turns on.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        Just(b'\n'),
        Just(b'\r'),
        Just(b':'),
        Just(b'd'),
        Just(b'0'),
        any::<u8>()
    ];
    prop::collection::vec(byte, 0..200)
}

/// The framer finds the same events in any pieces, and they are those of `sseer`.
fn check_stream(text: &[u8], pieces: &[usize]) -> Result<(), TestCaseError> {
    let found = events_of(text, pieces);
    prop_assert_eq!(&found, &events_of(text, &[usize::MAX]));
    prop_assert_eq!(found, events_of_sseer(text));
    Ok(())
}

/// What is read of any bytes does not hang on how they came.
fn check_bytes(head: &str, bytes: &[u8], pieces: &[usize]) -> Result<(), TestCaseError> {
    let bytes = [head.as_bytes(), bytes].concat();
    let whole = record_of(&bytes, &[usize::MAX], FULL);
    let parts = record_of(&bytes, pieces, FULL);
    prop_assert_eq!(
        whole.outcome,
        parts.outcome,
        "{:?} / {:?}",
        whole.error,
        parts.error
    );
    prop_assert_eq!(whole.text, parts.text);
    Ok(())
}

fn heads() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just(""),
        Just(test_server::SSE_HEAD),
        Just(test_server::CLOSE_HEAD)
    ]
}

/// A response in one of the framings of HTTP/1.1, cut off at its end or not.
fn response() -> impl Strategy<Value = Vec<u8>> {
    let chunked = (
        sizes(),
        prop_oneof![Just(""), Just(";a=b"), Just(" ;x")],
        prop_oneof![Just(""), Just("x-sum: 1\r\n"), Just("a: b\r\nc: d\r\n")],
    );
    (
        prop::collection::vec(any::<u8>(), 0..400),
        0..4_u8,
        chunked,
        prop_oneof![Just(200_u16), Just(404), Just(503)],
        prop_oneof![3 => Just(0_usize), 1 => 1_usize..60],
    )
        .prop_map(|(body, framing, (chunks, extension, trailer), status, cut)| {
            let mut bytes = format!("HTTP/1.1 {status} Some Reason\r\nServer: x\r\n").into_bytes();
            match framing {
                0 => {
                    bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                    bytes.extend_from_slice(&body);
                }
                1 => {
                    bytes.extend_from_slice(b"\r\n");
                    bytes.extend_from_slice(&body);
                }
                _ => {
                    bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                    let mut sizes = chunks.iter().copied().cycle();
                    let mut rest = &body[..];
                    while !rest.is_empty() {
                        let (piece, after) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
                        bytes.extend_from_slice(format!("{:X}{extension}\r\n", piece.len()).as_bytes());
                        bytes.extend_from_slice(piece);
                        bytes.extend_from_slice(b"\r\n");
                        rest = after;
                    }
                    bytes.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
                }
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            bytes
        })
}

proptest! {
    #[test]
    fn any_chunking_gives_the_events_of_sseer(text in stream_text(), pieces in sizes()) {
        check_stream(&text, &pieces)?;
    }

    #[test]
    fn any_bytes_in_any_chunking_give_the_same_end(
        bytes in any_bytes(), pieces in sizes(), head in heads(),
    ) {
        check_bytes(head, &bytes, &pieces)?;
    }

    #[test]
    fn any_chunking_of_a_response_gives_the_same_answer(
        tokens in prop::collection::vec("[ -~가-힣🦀]{1,6}", 1..30),
        http_chunks in sizes(),
        pieces in sizes(),
        line_end in prop_oneof![Just("\n"), Just("\r\n"), Just("\r")],
    ) {
        check_answer(&tokens, &http_chunks, &pieces, line_end)?;
    }

    #[test]
    fn responses_are_read_as_hyper_reads_them(bytes in response(), pieces in sizes()) {
        prop_assert_eq!(read_by_us(&bytes, &pieces), read_by_hyper(&bytes, &pieces));
    }
}

#[test]
#[ignore = "a long run, by command"]
fn fuzz_sse() {
    benchd_fuzzing::run(
        "SSE framer against sseer",
        &(stream_text(), sizes()),
        |(text, pieces)| check_stream(&text, &pieces),
    );
}

#[test]
#[ignore = "a long run, by command"]
fn fuzz_any_bytes() {
    let values = (heads(), any_bytes(), sizes());
    benchd_fuzzing::run(
        "response reader and framer, any bytes",
        &values,
        |(head, bytes, pieces)| check_bytes(head, &bytes, &pieces),
    );
}

#[test]
#[ignore = "a long run, by command"]
fn fuzz_http() {
    benchd_fuzzing::run(
        "response reader against hyper",
        &(response(), sizes()),
        |(bytes, pieces)| {
            prop_assert_eq!(read_by_us(&bytes, &pieces), read_by_hyper(&bytes, &pieces));
            Ok(())
        },
    );
}

/// A whole answer in any HTTP chunks and any pieces is read as the tokens that were sent.
fn check_answer(
    tokens: &[String],
    http_chunks: &[usize],
    pieces: &[usize],
    line_end: &str,
) -> Result<(), TestCaseError> {
    let mut body = String::new();
    for data in std::iter::once(test_server::ROLE.to_owned())
        .chain(
            tokens
                .iter()
                .map(|t| serde_json::json!({"choices": [{"delta": {"content": t}}]}).to_string()),
        )
        .chain([
            test_server::FINISH.to_owned(),
            test_server::usage(tokens.len()),
            "[DONE]".to_owned(),
        ])
    {
        body += &format!(": note{line_end}data: {data}{line_end}{line_end}");
    }
    let answer = record_of(&chunked_response(body.as_bytes(), http_chunks), pieces, FULL);
    prop_assert_eq!(
        answer.outcome,
        benchd_core::record::Outcome::Ok,
        "{:?}",
        answer.error
    );
    prop_assert_eq!(&answer.text, &tokens.concat());
    prop_assert_eq!(answer.chunks_us.len(), tokens.len());
    prop_assert_eq!(answer.output_tokens, Some(tokens.len() as u64));
    prop_assert!(answer.chunks_us.is_sorted());
    let gaps_of_zero = answer
        .chunks_us
        .windows(2)
        .filter(|pair| pair[0] == pair[1])
        .count();
    prop_assert_eq!(answer.coalesced as usize, gaps_of_zero);
    Ok(())
}

/// Status, body, and whether it was whole. `None`: no response at all.
type Read = Option<(u16, Vec<u8>, bool)>;

fn read_by_us(bytes: &[u8], pieces: &[usize]) -> Read {
    let mut reader = ResponseReader::new();
    let (mut status, mut body) = (None, Vec::new());
    let mut sizes = pieces.iter().copied().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut piece, after) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
        rest = after;
        while let Some(part) = reader.next(&mut piece).unwrap() {
            match part {
                Part::Head(head) => status = Some(head.status),
                Part::Body(data) => body.extend_from_slice(data),
                Part::End => {}
            }
        }
    }
    let whole = reader.may_close();
    status.map(|status| (status, if whole { body } else { Vec::new() }, whole))
}

fn read_by_hyper(bytes: &[u8], pieces: &[usize]) -> Read {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (mut from_client, mut to_client) = tokio::io::split(theirs);
        let bytes = bytes.to_vec();
        let mut sizes = pieces.iter().copied().cycle();
        let server = async move {
            let mut request = [0; 1024];
            assert!(from_client.read(&mut request).await.unwrap() > 0);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(sizes.next().unwrap().clamp(1, rest.len()));
                if to_client.write_all(piece).await.is_err() {
                    return;
                }
                rest = after;
                tokio::task::yield_now().await;
            }
            // Hyper needs to see the end of the connection.
            let _ = to_client.shutdown().await;
        };
        let client = async move {
            let io = hyper_util::rt::TokioIo::new(ours);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            let request = hyper::Request::post("/x")
                .header("host", "h")
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .unwrap();
            let response = sender.send_request(request).await.ok()?;
            let status = response.status().as_u16();
            Some(match response.into_body().collect().await {
                Ok(body) => (status, body.to_bytes().to_vec(), true),
                Err(_) => (status, Vec::new(), false),
            })
        };
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(server, client).1 })
            .await
            .unwrap()
    })
}

#[test]
fn an_event_of_megabytes_is_one_event() {
    let data = "가".repeat(1 << 20);
    let text = format!("data: {data}\n\ndata: after\n\n");
    for pieces in [&[usize::MAX][..], &[65_536], &[1_000, 7, 65_536]] {
        let found = events_of(text.as_bytes(), pieces);
        assert_eq!(found.len(), 2);
        assert!(found[0].1 == data.as_bytes());
        assert_eq!(found[1].1, b"after");
    }
}

#[test]
fn an_event_without_end_is_refused() {
    let mut framer = Framer::new();
    let mut block = Block::new();
    let piece = vec![b'x'; 1 << 20];
    let refused = (0..=MAX_EVENT_BYTES / piece.len())
        .any(|_| framer.push(&piece, Stamp::default(), &mut block).is_err());
    assert!(refused);
    // In many short lines as well as in a long one.
    let mut framer = Framer::new();
    let lines = b"data: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\n".repeat(20_000);
    let refused = (0..=MAX_EVENT_BYTES / (lines.len() - 20_000 * 6))
        .any(|_| framer.push(&lines, Stamp::default(), &mut block).is_err());
    assert!(refused);
}

#[test]
fn an_event_is_complete_at_a_lone_cr() {
    let mut framer = Framer::new();
    let mut block = Block::new();
    framer
        .push(b"data: a\r\r", Stamp { at_us: 1, read: 0 }, &mut block)
        .unwrap();
    assert_eq!(block.len(), 1);
    // The LF belongs to the CR before it: it is no empty line of its own.
    framer
        .push(b"\ndata: b\r\n\r", Stamp { at_us: 2, read: 1 }, &mut block)
        .unwrap();
    framer
        .push(b"\n", Stamp { at_us: 3, read: 2 }, &mut block)
        .unwrap();
    let events: Vec<_> = block
        .events()
        .map(|event| (event.data.to_vec(), event.stamp.at_us))
        .collect();
    assert_eq!(events, [(b"a".to_vec(), 1), (b"b".to_vec(), 2)]);
    assert!(framer.is_between_events());
}

#[test]
fn the_stream_is_over_at_done_and_at_plain_errors() {
    for (text, last) in [
        ("data: [DONE]\n\n", true),
        ("data:[DONE]\n\n", true),
        ("data: {\"error\": {\"message\": \"x\"}}\n\n", true),
        ("event: error\ndata: whatever\n\n", true),
        ("data: {\"error\":null,\"choices\":[]}\n\n", false),
        ("data: {\"errors\":1}\n\n", false),
        ("data: [DONE\n\n", false),
        ("data: [DONE] but not yet\n\n", false),
    ] {
        let flow = Framer::new()
            .push(text.as_bytes(), Stamp::default(), &mut Block::new())
            .unwrap();
        assert_eq!(flow == Flow::Last, last, "{text}");
    }
}

#[test]
fn interim_responses_are_skipped_and_bad_ones_told_apart() {
    let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    for pieces in [&[usize::MAX][..], &[1]] {
        assert_eq!(read_by_us(bytes, pieces), Some((200, b"hi".to_vec(), true)));
    }
    let error_of = |bytes: &[u8]| ResponseReader::new().next(&mut &bytes[..]).unwrap_err();
    assert!(matches!(
        error_of(b"SSH-2.0-OpenSSH_9.2\r\n"),
        HttpError::NoStatusLine(_)
    ));
    assert!(matches!(
        error_of(b"HTTP/2 200\r\n\r\n"),
        HttpError::NoStatusLine(_)
    ));
    assert!(matches!(
        error_of(b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"),
        HttpError::Head(_)
    ));
    for header in [
        "content-length: -1",
        "content-length: 1\r\ncontent-length: 2",
        "transfer-encoding: gzip, chunked",
        "content-encoding: gzip",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n");
        assert!(
            matches!(error_of(bytes.as_bytes()), HttpError::Head(_)),
            "{header}"
        );
    }
}

#[test]
fn broken_chunk_framing_is_seen() {
    for body in [
        "x\r\n",
        "\r\n",
        "3\nabc",
        "3\r\nabcd\r\n",
        "3\rabc",
        "11111111111111111\r\n",
        "3;e\n",
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        for size in [1, usize::MAX] {
            let answer = record_of(bytes.as_bytes(), &[size], FULL);
            assert_eq!(
                answer.outcome,
                benchd_core::record::Outcome::Malformed,
                "{body:?}: {:?}",
                answer.error
            );
        }
    }
}
