//! What is made of streams: those of real servers, and odd ones.

use super::*;
use crate::client::block::BLOCK_BYTES;
use benchd_core::record::{Outcome, TokenSource};

struct Expected {
    file: &'static str,
    token_events: usize,
    prompt_tokens: u64,
    text: String,
    model: &'static str,
}

/// Streams recorded from servers on an H100, 24 tokens each.
fn recorded() -> [Expected; 4] {
    let llama = " pixels\n\n".repeat(12);
    [
        Expected {
            file: "h100-sglang-0.5.17-gpt-oss-20b",
            token_events: 24,
            prompt_tokens: 68,
            text: "уль overse".repeat(12),
            model: "gpt-oss-20b",
        },
        Expected {
            file: "h100-sglang-0.5.17-llama31-8b",
            token_events: 24,
            prompt_tokens: 36,
            text: llama.clone(),
            model: "llama31-8b",
        },
        Expected {
            file: "h100-vllm-0.26.0-gpt-oss-20b",
            token_events: 1,
            prompt_tokens: 68,
            text: " overseуль".repeat(12),
            model: "gpt-oss-20b",
        },
        Expected {
            file: "h100-vllm-0.26.0-llama31-8b",
            token_events: 24,
            prompt_tokens: 36,
            text: llama,
            model: "llama31-8b",
        },
    ]
}

#[test]
fn recorded_streams_of_real_servers_decode_to_the_right_counts() {
    for expected in recorded() {
        let path = format!(
            "{}/tests/fixtures/sse/{}.sse",
            concat!(env!("CARGO_MANIFEST_DIR"), "/../.."),
            expected.file
        );
        let body = std::fs::read(&path).unwrap();
        for (chunks, pieces) in [(usize::MAX, usize::MAX), (100, 7), (1, 1), (333, 64)] {
            let whole = answer_to(&chunked_response(&body, &[chunks]), &[pieces], FULL);
            assert_eq!(whole.shown_shape(), FULL);
            let answer = whole.record;
            let name = expected.file;
            assert_eq!(answer.outcome, Outcome::Ok, "{name}: {:?}", answer.error);
            assert_eq!(answer.chunks_us.len(), expected.token_events, "{name}");
            assert_eq!(answer.output_tokens, Some(24), "{name}");
            assert_eq!(answer.prompt_tokens, Some(expected.prompt_tokens), "{name}");
            assert_eq!(answer.cached_tokens, None, "{name}");
            assert_eq!(answer.token_source, TokenSource::Usage);
            assert_eq!(answer.finish_reason.as_deref(), Some("length"), "{name}");
            assert_eq!(answer.text, expected.text, "{name}");
            assert_eq!(answer.reasoning, "");
            assert_eq!(answer.response_model.as_deref(), Some(expected.model));
            // The role chunk comes first and is no token.
            assert!(answer.first_chunk_us <= answer.first_token_us);
            if pieces == 1 {
                assert!(answer.first_chunk_us < answer.first_token_us, "{name}");
                assert_eq!(answer.coalesced, 0);
            }
            assert_eq!(answer.first_token_us, answer.chunks_us.first().copied());
            assert_eq!(answer.first_content_us, answer.first_token_us);
            assert_eq!(answer.last_token_us, answer.chunks_us.last().copied());
            assert!(Some(answer.end_us) >= answer.last_token_us);
        }
    }
}

/// The record of the answer to these events, one a read.
fn answer_to_events(events: &[&str], shape: StreamShape) -> RequestRecord {
    whole_answer_to_events(events, shape).record
}

fn whole_answer_to_events(events: &[&str], shape: StreamShape) -> Answer {
    let mut bytes = test_server::SSE_HEAD.as_bytes().to_vec();
    let mut sizes = vec![bytes.len()];
    for event in events {
        let chunk = test_server::chunked(format!("data: {event}\n\n").as_bytes());
        sizes.push(chunk.len());
        bytes.extend_from_slice(&chunk);
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    sizes.push(5);
    answer_to(&bytes, &sizes, shape)
}

#[test]
fn the_same_reasoning_under_two_names_counts_once() {
    let answer = answer_to_events(
        &[
            r#"{"choices":[{"delta":{"role":"assistant","content":"","reasoning":null}}]}"#,
            r#"{"choices":[{"delta":{"reasoning":"Hm, ","reasoning_content":"Hm, "}}]}"#,
            r#"{"choices":[{"delta":{"reasoning_content":"so.","reasoning":"so."}}]}"#,
            r#"{"choices":[{"delta":{"reasoning":"","reasoning_content":"!"}}]}"#,
            r#"{"choices":[{"delta":{"content":"Yes","reasoning_content":null}}]}"#,
            r#"{"choices":[{"delta":{"content":""},"finish_reason":"stop"}],"usage":{"completion_tokens":4,"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":8}}}"#,
            "[DONE]",
        ],
        FULL,
    );
    assert_eq!(answer.outcome, Outcome::Ok, "{:?}", answer.error);
    assert_eq!(answer.reasoning, "Hm, so.!");
    assert_eq!(answer.text, "Yes");
    assert_eq!(answer.chunks_us, [3_000, 4_000, 5_000, 6_000]);
    assert_eq!(answer.first_chunk_us, Some(2_000));
    assert_eq!(answer.first_token_us, Some(3_000));
    assert_eq!(answer.first_content_us, Some(6_000));
    assert_eq!(answer.last_token_us, Some(6_000));
    assert_eq!(answer.end_us, 8_000);
    assert_eq!(answer.cached_tokens, Some(8));
    assert_eq!(answer.finish_reason.as_deref(), Some("stop"));
}

#[test]
fn transformers_serve_ends_with_the_body_and_sends_usage_in_the_last_choice() {
    let shape = StreamShape {
        usage: true,
        end: EndMarker::EndOfBody,
    };
    let events = [
        r#"{"id":"a","model":"/m@main","choices":[{"delta":{"role":"assistant"},"index":0}]}"#,
        r#"{"id":"a","model":"/m@main","choices":[{"delta":{"content":"Hi"},"index":0}]}"#,
        r#"{"id":"a","model":"/m@main","choices":[{"delta":{},"finish_reason":"stop","index":0}],"usage":{"completion_tokens":2,"prompt_tokens":3,"total_tokens":5}}"#,
    ];
    let whole = whole_answer_to_events(&events, shape);
    assert_eq!(whole.shown_shape(), shape);
    let answer = whole.record;
    assert_eq!(answer.outcome, Outcome::Ok, "{:?}", answer.error);
    assert_eq!(answer.output_tokens, Some(2));
    // The end of the body is the end of the answer.
    assert_eq!(answer.end_us, 5_000);
    // A server that showed [DONE] when it was ready owes it.
    let answer = answer_to_events(&events, FULL);
    assert_eq!(answer.outcome, Outcome::Truncated);
    assert_eq!(answer.text, "Hi");
}

#[test]
fn completions_streams_and_timings_and_other_models_keys_are_read() {
    let answer = answer_to_events(
        &[
            r#"{"id":7,"object":"text_completion","choices":[{"text":"a\"b\u00e9","index":0,"logprobs":null,"finish_reason":null}]}"#,
            r#"{"choices":[{"text":"c","finish_reason":"length"},{"text":"second answer"}],"usage":null}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2},"timings":{"prompt_ms":1.5}}"#,
            "[DONE]",
        ],
        FULL,
    );
    assert_eq!(answer.outcome, Outcome::Ok, "{:?}", answer.error);
    assert_eq!(answer.text, "a\"béc");
    assert_eq!(answer.response_id, None);
    assert_eq!(answer.server_timings, Some(serde_json::json!({"prompt_ms": 1.5})));
}

#[test]
fn continuous_usage_ends_with_the_last_count() {
    let with_usage = |i: usize| {
        format!(
            r#"{{"choices":[{{"delta":{{"content":"x"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":4,"completion_tokens":{i}}}}}"#
        )
    };
    let events: Vec<String> = (1..=5).map(with_usage).chain(["[DONE]".to_owned()]).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    assert_eq!(answer_to_events(&events, FULL).output_tokens, Some(5));
}

#[test]
fn each_part_of_success_is_needed() {
    let full = ["ROLE", "T", "FINISH", "USAGE", "DONE"];
    let text_of = |part: &str| match part {
        "ROLE" => test_server::ROLE.to_owned(),
        "T" => test_server::token(0),
        "FINISH" => test_server::FINISH.to_owned(),
        "USAGE" => test_server::usage(1),
        _ => "[DONE]".to_owned(),
    };
    let outcome = |without: &str, shape| {
        let events: Vec<String> = full
            .iter()
            .filter(|p| **p != without)
            .map(|p| text_of(p))
            .collect();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let answer = answer_to_events(&events, shape);
        (answer.outcome, answer.error.unwrap_or_default())
    };
    assert_eq!(outcome("", FULL).0, Outcome::Ok);
    assert_eq!(outcome("ROLE", FULL).0, Outcome::Ok);
    for (without, named) in [
        ("FINISH", "finish reason"),
        ("USAGE", "usage"),
        ("DONE", "[DONE]"),
    ] {
        let (outcome, error) = outcome(without, FULL);
        assert_eq!(outcome, Outcome::Truncated, "{without}");
        assert!(error.contains(named), "{error}");
    }
    assert_eq!(
        outcome("USAGE", StreamShape { usage: false, ..FULL }).0,
        Outcome::Ok
    );
    assert_eq!(
        outcome(
            "DONE",
            StreamShape {
                end: EndMarker::EndOfBody,
                ..FULL
            }
        )
        .0,
        Outcome::Ok
    );
}

#[test]
fn errors_in_the_stream_are_found_in_every_form_and_decide() {
    for (event, message) in [
        (r#"{"error":{"message":"boom","code":500}}"#, "boom"),
        (r#"{"error":"boom"}"#, "boom"),
        (r#"{ "object": "error", "message": "boom", "code": 400 }"#, "boom"),
        (r#"{"id":"x","choices":[],"error":{"message":"boom"}}"#, "boom"),
        (r#"{"error":{"code":3}}"#, r#"{"code":3}"#),
    ] {
        let answer = answer_to_events(
            &[
                test_server::ROLE,
                &test_server::token(0),
                event,
                test_server::FINISH,
                &test_server::usage(1),
                "[DONE]",
            ],
            FULL,
        );
        assert_eq!(answer.outcome, Outcome::StreamError, "{event}");
        assert_eq!(answer.error.as_deref(), Some(message));
        assert_eq!(answer.text, "t0 ");
        assert_eq!(answer.chunks_us, [3_000]);
        // The failure is where the error came, not where the stream went on to.
        assert_eq!(answer.end_us, 4_000);
        assert_eq!(answer.status, Some(200));
    }
    let answer = answer_to_events(&[r#"{"error":null,"choices":[{"delta":{"content":"x"}}]}"#], FULL);
    assert_eq!((answer.outcome, answer.text.as_str()), (Outcome::Truncated, "x"));
}

#[test]
fn what_is_no_chunk_is_malformed_and_the_first_failure_decides() {
    for event in [
        "{broken",
        "42",
        "\"text\"",
        "{\"choices\":5}",
        "{\"choices\":[{\"delta\":{\"content\":[1]}}]}",
    ] {
        let answer = answer_to_events(&[&test_server::token(0), event, r#"{"error":"later"}"#], FULL);
        assert_eq!(answer.outcome, Outcome::Malformed, "{event}");
        assert_eq!(answer.text, "t0 ");
        assert_eq!(answer.end_us, 3_000);
    }
    let mut body = b"data: {\"choices\":[{\"delta\":{\"content\":\"".to_vec();
    body.extend_from_slice(b"\xEA\xB0\"}}]}\n\n");
    let answer = record_of(&chunked_response(&body, &[100]), &[10], FULL);
    assert_eq!(answer.outcome, Outcome::Malformed);
    assert!(answer.error.unwrap().contains("UTF-8"));
    // Skipped keys are looked at too: bytes that are no text are no event, wherever they stand.
    let answer = record_of(
        &chunked_response(b"data: {\"other\":\"\xFF\"}\n\n", &[100]),
        &[10],
        FULL,
    );
    assert_eq!(answer.outcome, Outcome::Malformed);
}

#[test]
fn blank_events_and_comments_are_no_chunks() {
    let body = b": hello\n\ndata:\n\ndata:  \n\nid: 3\n\n";
    let answer = record_of(&chunked_response(body, &[100]), &[10], FULL);
    assert_eq!(
        (answer.outcome, answer.first_chunk_us),
        (Outcome::Truncated, None)
    );
}

#[test]
fn json_instead_of_a_stream_is_told_as_such() {
    let response = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\n";
        let bytes = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        record_of(bytes.as_bytes(), &[30], FULL)
    };
    let answer = response(r#"{"choices":[{"message":{"content":"whole"}}]}"#);
    assert_eq!(answer.outcome, Outcome::Malformed);
    assert!(answer.error.unwrap().contains("no event stream"));
    let answer = response(r#"{"error":{"message":"out of memory"}}"#);
    assert_eq!(
        (answer.outcome, answer.error.as_deref()),
        (Outcome::StreamError, Some("out of memory"))
    );
}

#[test]
fn a_waiting_stream_holds_little_memory() {
    let body: String = (0..10_000)
        .map(|i| format!("data: {}\n\n", test_server::token(i)))
        .collect();
    let bytes = chunked_response(body.as_bytes(), &[150]);
    let mut intake = Intake::new();
    let mut largest = 0;
    for piece in bytes.chunks(150) {
        intake.push(piece, 1);
        largest = largest.max(intake.block.capacity_bytes());
        if intake.block.is_full() {
            intake.block.take();
        }
    }
    assert!(largest > BLOCK_BYTES / 2 && largest < 14 << 10, "{largest} bytes");
}
