//! The simulated server on the wire, seen by a bare socket.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use benchd_sim::{Args, Server, monotonic_ns, tokenizer};
use serde_json::{Value, json};

/// Only so that a fault in the server fails a test instead of hanging it.
const SAFETY: Duration = Duration::from_secs(300);

fn server(flags: &[&str]) -> Server {
    Server::start(&Args::from_flags(flags).unwrap()).unwrap()
}

/// A metronome that is done soon.
fn quick(flags: &[&str]) -> Server {
    let mut all = vec!["--mode", "fixed", "--ttft", "2ms", "--gap", "1ms"];
    all.extend(flags);
    server(&all)
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Fin,
    Reset,
}

/// Whether a fault is to be seen in an answer.
type Shown = fn(&Answer) -> bool;

struct Answer {
    status: u16,
    head: String,
    /// Without the HTTP framing.
    body: Vec<u8>,
    /// Whether the body came to the end that its framing promised.
    whole: bool,
    ended: Ended,
    /// Read calls that brought bytes.
    /// The body as it came, framing included.
    framed: Vec<u8>,
}

impl Answer {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Data of each event, as text; comments and other fields left out. Understands what it has to here: LF or CRLF.
    fn data(&self) -> Vec<String> {
        let text = self.text().replace("\r\n", "\n");
        let data = |event: &str| -> Option<String> {
            let lines: Vec<&str> = event
                .lines()
                .filter_map(|l| l.strip_prefix("data:"))
                .map(|l| l.strip_prefix(' ').unwrap_or(l))
                .collect();
            (!lines.is_empty()).then(|| lines.join("\n"))
        };
        text.split("\n\n").filter_map(data).collect()
    }

    /// The events that are JSON.
    fn events(&self) -> Vec<Value> {
        self.data()
            .iter()
            .filter(|d| *d != "[DONE]")
            .map(|d| serde_json::from_str(d).unwrap_or_else(|e| panic!("{e}: {d}")))
            .collect()
    }

    fn done(&self) -> bool {
        self.data().last().is_some_and(|d| d == "[DONE]")
    }

    /// All of a delta's field, joined.
    fn joined(&self, field: &str) -> String {
        self.events()
            .iter()
            .filter_map(|e| e["choices"][0]["delta"][field].as_str())
            .collect()
    }

    fn usage(&self) -> Value {
        self.events()
            .iter()
            .find_map(|e| e.get("usage").cloned())
            .unwrap_or_default()
    }

    fn finish_reason(&self) -> Option<String> {
        self.events()
            .iter()
            .find_map(|e| e["choices"][0]["finish_reason"].as_str().map(str::to_owned))
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(SAFETY)).unwrap();
    socket
}

fn write_request(mut socket: &TcpStream, method: &str, path: &str, headers: &str, body: &str) {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: sim\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).unwrap();
}

fn read_answer(mut socket: &TcpStream) -> Answer {
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    let ended = loop {
        match socket.read(&mut buffer) {
            Ok(0) => break Ended::Fin,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break Ended::Reset,
            Err(e) => panic!("{e}"),
        }
    };
    let Some(split) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
        panic!("no head: {:?}", String::from_utf8_lossy(&bytes));
    };
    let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
    let framed = bytes[split + 4..].to_vec();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "))
        .map(|l| l.parse::<usize>().unwrap());
    let (body, whole) = match length {
        Some(length) => (framed.clone(), framed.len() == length),
        None if head.contains("transfer-encoding: chunked") => unchunk(&framed),
        None => (framed.clone(), true),
    };
    Answer {
        status,
        head,
        body,
        whole,
        ended,
        framed,
    }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
        if size == 0 {
            return (body, rest[at..] == *b"\r\n\r\n");
        }
        let Some(chunk) = rest.get(at + 2..at + 2 + size) else {
            break;
        };
        body.extend_from_slice(chunk);
        rest = rest.get(at + 2 + size + 2..).unwrap_or_default();
    }
    (body, false)
}

fn call(addr: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let socket = connect(addr);
    write_request(
        &socket,
        method,
        path,
        &format!("connection: close\r\n{headers}"),
        body,
    );
    read_answer(&socket)
}

fn get(addr: SocketAddr, path: &str) -> Value {
    let answer = call(addr, "GET", path, "", "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).unwrap()
}

fn request(prompt: &str, more: Value) -> String {
    let mut body = json!({
        "model": "sim-model",
        "messages": [{"role": "user", "content": prompt}],
        "stream": true,
        "stream_options": {"include_usage": true},
        "max_tokens": 5,
    });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    body.to_string()
}

fn chat(addr: SocketAddr, more: Value) -> Answer {
    call(addr, "POST", "/v1/chat/completions", "", &request("hello", more))
}

fn chat_with_fault(addr: SocketAddr, fault: &str) -> Answer {
    let header = format!("x-sim-fault: {fault}\r\n");
    call(
        addr,
        "POST",
        "/v1/chat/completions",
        &header,
        &request("hello", json!({})),
    )
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Waits until the server says so of itself.
fn until(addr: SocketAddr, what: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    while !what(&get(addr, "/sim/stats")) {
        assert!(begun.elapsed() < SAFETY, "it never came to that");
        std::thread::yield_now();
    }
}

#[test]
fn a_vllm_stream_has_the_recorded_shape() {
    let sim = quick(&["--stamps", "off"]);
    let answer = chat(sim.addr(), json!({}));
    assert_eq!((answer.status, answer.whole, answer.done()), (200, true, true));
    let events = answer.events();
    // Role, five tokens of which the last carries the reason, usage.
    assert_eq!(events.len(), 7);
    assert_eq!(keys(&events[1]), ["id", "object", "created", "model", "choices"]);
    assert_eq!(
        events[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    assert_eq!(
        keys(&events[1]["choices"][0]),
        ["index", "delta", "logprobs", "finish_reason", "token_ids"]
    );
    assert_eq!(events[5]["choices"][0]["finish_reason"], "length");
    assert_ne!(events[5]["choices"][0]["delta"]["content"], "");
    assert_eq!(events[6]["choices"], json!([]));
    // Ten of the template, `hell` and `o`.
    assert_eq!(
        events[6]["usage"],
        json!({"prompt_tokens": 12, "total_tokens": 17, "completion_tokens": 5})
    );
}

#[test]
fn an_sglang_stream_has_the_recorded_shape() {
    let sim = quick(&["--stamps", "off", "--dialect", "sglang"]);
    let events = chat(sim.addr(), json!({})).events();
    assert_eq!(events.len(), 8);
    assert_eq!(
        keys(&events[1]["choices"][0]),
        ["index", "delta", "logprobs", "finish_reason", "matched_stop"]
    );
    assert_eq!(
        keys(&events[1]["choices"][0]["delta"]),
        ["reasoning_content", "content"]
    );
    assert_eq!(
        events[6]["choices"][0]["delta"],
        json!({"reasoning_content": null})
    );
    assert_eq!(events[6]["choices"][0]["finish_reason"], "length");
    assert_eq!(
        keys(&events[7]["usage"]),
        [
            "prompt_tokens",
            "total_tokens",
            "completion_tokens",
            "prompt_tokens_details",
            "reasoning_tokens"
        ]
    );
}

#[test]
fn an_ollama_stream_has_the_role_everywhere_and_ignores_ignore_eos() {
    let sim = quick(&["--dialect", "ollama", "--eos-after", "3"]);
    let answer = chat(sim.addr(), json!({"ignore_eos": true}));
    let events = answer.events();
    assert_eq!(events.len(), 5);
    for event in &events[..4] {
        assert_eq!(event["choices"][0]["delta"]["role"], "assistant");
        assert_eq!(event["system_fingerprint"], "fp_ollama");
    }
    assert_eq!(answer.finish_reason().as_deref(), Some("stop"));
    assert_eq!(answer.usage()["completion_tokens"], 3);
}

#[test]
fn a_llamacpp_stream_begins_with_null_and_ends_with_timings() {
    let sim = quick(&["--dialect", "llamacpp", "--eos-after", "3"]);
    let answer = chat(sim.addr(), json!({"ignore_eos": true}));
    let events = answer.events();
    assert_eq!(
        events[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": null})
    );
    assert_eq!(events.last().unwrap()["timings"]["predicted_n"], 5);
    assert_eq!(answer.finish_reason().as_deref(), Some("length"));
}

#[test]
fn reasoning_comes_first_and_under_the_names_of_the_dialect() {
    for (flags, fields) in [
        (["--dialect", "vllm"], &["reasoning", "reasoning_content"][..]),
        (["--dialect", "sglang"], &["reasoning_content"]),
        (["--dialect", "ollama"], &["reasoning"]),
    ] {
        let sim = quick(&[&flags[..], &["--reasoning-tokens", "2"]].concat());
        let answer = chat(sim.addr(), json!({}));
        let plain = chat(quick(&flags).addr(), json!({})).joined("content");
        for field in fields {
            let thought = answer.joined(field);
            assert_eq!(thought.split_whitespace().count(), 2, "{flags:?}");
            assert_eq!(
                thought + &answer.joined("content"),
                plain,
                "{flags:?}: nothing twice, nothing lost"
            );
        }
    }
}

#[test]
fn the_number_of_tokens_is_exact_whatever_a_chunk_carries() {
    for (per_chunk, max, chunks) in [("1", 7, 7), ("4", 10, 4), ("8", 1, 1), ("100", 50, 2)] {
        let sim = quick(&["--tokens-per-chunk", per_chunk, "--dialect", "sglang"]);
        let answer = chat(sim.addr(), json!({"max_tokens": max}));
        let content: Vec<Value> = answer.events();
        let carrying = content
            .iter()
            .filter(|e| {
                e["choices"][0]["delta"]["content"]
                    .as_str()
                    .is_some_and(|t| !t.is_empty())
            })
            .count();
        assert_eq!(carrying, chunks, "{per_chunk} a chunk of {max}");
        assert_eq!(answer.usage()["completion_tokens"], max);
        assert_eq!(answer.joined("content").split_whitespace().count(), max);
    }
}

#[test]
fn prompt_tokens_are_those_of_the_documented_tokenizer() {
    let sim = quick(&["--template-tokens", "7"]);
    let prompt = "Explain 32768 positions of 회전 위치 임베딩 briefly";
    let body = request(
        prompt,
        json!({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]}),
    );
    let answer = call(sim.addr(), "POST", "/v1/chat/completions", "", &body);
    let expected = 7 + tokenizer::count("Be brief.") + tokenizer::count(prompt);
    assert_eq!(answer.usage()["prompt_tokens"], expected);
    let tokenized = call(
        sim.addr(),
        "POST",
        "/tokenize",
        "",
        &json!({"prompt": prompt}).to_string(),
    );
    let tokenized: Value = serde_json::from_slice(&tokenized.body).unwrap();
    assert_eq!(tokenized["count"], tokenizer::count(prompt));
}

#[test]
fn stamps_are_monotone_on_the_grid_and_never_early() {
    let sim = server(&["--mode", "fixed", "--ttft", "20ms", "--gap", "3ms"]);
    let before = monotonic_ns();
    let answer = chat(sim.addr(), json!({"max_tokens": 20}));
    let after = monotonic_ns();
    let events = answer.events();
    let at = |event: &Value, field: &str| event["sim"][field].as_u64().unwrap();
    let read = at(&events[0], "read_ns");
    assert!(before < read && read < after);
    for (n, event) in events.iter().enumerate() {
        assert_eq!(at(event, "n"), n as u64);
        assert_eq!(at(event, "read_ns"), read);
        assert!(at(event, "t_ns") >= at(event, "due_ns"), "early: {event}");
    }
    assert!(events.is_sorted_by_key(|e| at(e, "t_ns")));
    // Role and first token share the first due time; the usage the last.
    for (k, event) in events[1..21].iter().enumerate() {
        assert_eq!(at(event, "due_ns"), read + 20_000_000 + 3_000_000 * k as u64);
    }
    let stats = sim.stats(false);
    assert_eq!(stats["lateness_ns"]["count"], 23, "22 with JSON, and [DONE]");
}

#[test]
fn korean_text_is_korean_and_may_be_cut_inside_a_character() {
    let sim = quick(&["--text", "korean"]);
    let whole = chat(sim.addr(), json!({})).joined("content");
    assert!(whole.chars().any(|c| ('가'..='힣').contains(&c)), "{whole}");
    for fault in [
        "split-utf8",
        "split-utf8:3ms",
        "split-bytes",
        "one-byte-chunks",
        "trickle:10us",
    ] {
        let answer = chat_with_fault(sim.addr(), fault);
        assert_eq!(answer.joined("content"), whole, "{fault}");
        assert!(answer.whole && answer.done(), "{fault}");
    }
    // Five tokens, and the second part of each is held back: a reader may see both at once, but never early.
    let asked = Instant::now();
    chat_with_fault(sim.addr(), "split-utf8:20ms");
    assert!(asked.elapsed() >= 5 * Duration::from_millis(20));
}

#[test]
fn the_same_bytes_in_another_shape_mean_the_same() {
    let sim = quick(&[]);
    let plain = chat(sim.addr(), json!({}));
    let shapes: &[(&str, Shown)] = &[
        ("crlf", |a| a.text().contains("}\r\n\r\n")),
        ("comments", |a| a.text().contains(": ping\n")),
        ("event-lines", |a| {
            a.text().contains("event: message\nid: 0\nretry: ")
        }),
        ("multi-line", |a| a.text().contains(",\ndata: \"choices\"")),
        ("no-space", |a| {
            a.text().contains("data:{") && !a.text().contains("data: ")
        }),
        ("merge:3", |a| {
            a.framed.windows(6).filter(|w| w == b"data: ").count()
                > a.framed.windows(5).filter(|w| w == b"\n\n\r\n5").count()
        }),
        ("huge:3MiB", |a| a.body.len() > 3 << 20),
        ("content-length", |a| {
            a.head.contains("content-length: ") && !a.head.contains("chunked")
        }),
        ("close-delimited", |a| {
            !a.head.contains("content-length: ") && !a.head.contains("chunked")
        }),
        ("slow-head:5ms", |a| a.status == 200),
        ("one-byte-chunks", |a| {
            a.framed.starts_with(b"1\r\nd\r\n1\r\na\r\n")
        }),
    ];
    for (fault, shown) in shapes {
        let answer = chat_with_fault(sim.addr(), fault);
        assert!(shown(&answer), "{fault} is not on the wire");
        assert!(answer.whole && answer.done(), "{fault}");
        assert_eq!(answer.joined("content"), plain.joined("content"), "{fault}");
        assert_eq!(answer.usage(), plain.usage(), "{fault}");
    }
}

#[test]
fn a_stream_that_stops_early_stops_as_told() {
    let sim = quick(&[]);
    let tokens = |a: &Answer| a.joined("content").split_whitespace().count();
    let cut = chat_with_fault(sim.addr(), "cut:2");
    assert_eq!(
        (
            cut.ended,
            cut.whole,
            tokens(&chat_with_fault(sim.addr(), "cut:2"))
        ),
        (Ended::Fin, false, 2)
    );
    let reset = chat_with_fault(sim.addr(), "reset:2");
    assert_eq!(reset.ended, Ended::Reset);
    let early = chat_with_fault(sim.addr(), "end-early:3");
    assert!(early.whole && !early.done() && early.finish_reason().is_none() && early.usage().is_null());
    assert_eq!(tokens(&early), 3);
    let error = chat_with_fault(sim.addr(), "error-event:1");
    assert!(error.done() && error.whole && error.events().last().unwrap()["error"]["message"].is_string());
    assert_eq!(error.status, 200);
    let error = chat_with_fault(sim.addr(), "error-event-no-done");
    assert!(!error.done() && error.whole);
}

#[test]
fn a_stream_that_hangs_gives_its_chunks_and_then_nothing() {
    let sim = quick(&[]);
    let socket = connect(sim.addr());
    write_request(
        &socket,
        "POST",
        "/v1/chat/completions",
        "x-sim-fault: hang:2\r\n",
        &request("hello", json!({})),
    );
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while seen.windows(9).filter(|w| w == b"\"content\"").count() < 3 {
        let n = (&socket).read(&mut buffer).unwrap();
        assert_ne!(n, 0);
        seen.extend_from_slice(&buffer[..n]);
    }
    // Another stream comes to its end meanwhile, so the time for a third chunk is long over.
    assert!(chat(sim.addr(), json!({"max_tokens": 30})).done());
    socket.set_nonblocking(true).unwrap();
    assert_eq!(
        (&socket).read(&mut buffer).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn what_is_missing_or_wrong_is_so_on_the_wire() {
    let sim = quick(&[]);
    let addr = sim.addr();
    let no_done = chat_with_fault(addr, "no-done");
    assert!(no_done.whole && !no_done.done() && no_done.usage().is_object());
    assert!(chat_with_fault(addr, "no-usage").usage().is_null());
    assert!(chat_with_fault(addr, "no-finish").finish_reason().is_none());
    let open = chat_with_fault(addr, "no-terminator");
    assert!(open.done() && !open.whole && open.ended == Ended::Fin);
    let short = chat_with_fault(addr, "short-length");
    assert!(short.done() && !short.whole && short.ended == Ended::Fin);
    let bad = chat_with_fault(addr, "bad-json:2");
    let broken = bad
        .data()
        .iter()
        .filter(|d| *d != "[DONE]" && serde_json::from_str::<Value>(d).is_err())
        .count();
    assert_eq!(broken, 1);
    assert!(std::str::from_utf8(&chat_with_fault(addr, "bad-utf8:2").body).is_err());
    assert_eq!(
        chat_with_fault(addr, "wrong-model:other").events()[0]["model"],
        "other"
    );
    assert_eq!(
        chat_with_fault(addr, "wrong-usage:99").usage()["completion_tokens"],
        99
    );
    let ended = chat_with_fault(addr, "eos-after:2");
    assert_eq!(
        (
            ended.finish_reason().as_deref(),
            ended.usage()["completion_tokens"].as_u64()
        ),
        (Some("stop"), Some(2))
    );
    let object = chat_with_fault(addr, "not-a-stream");
    assert_eq!(
        serde_json::from_slice::<Value>(&object.body).unwrap()["object"],
        "chat.completion"
    );
}

#[test]
fn error_statuses_carry_the_dialects_body() {
    let sim = quick(&["--context", "50"]);
    let addr = sim.addr();
    for status in [400, 429, 500, 503] {
        let answer = chat_with_fault(addr, &format!("http:{status}"));
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(
            (answer.status, body["error"]["code"].as_u64()),
            (status, Some(u64::from(status)))
        );
    }
    assert!(chat_with_fault(addr, "html").text().starts_with("<html>"));
    assert_eq!(chat(addr, json!({"model": "unknown"})).status, 404);
    assert_eq!(chat(addr, json!({"messages": []})).status, 400);
    assert_eq!(
        chat(addr, json!({"max_tokens": 100})).status,
        400,
        "beyond the context"
    );
    assert_eq!(call(addr, "POST", "/v1/chat/completions", "", "{").status, 400);
    assert_eq!(chat_with_fault(addr, "no-such-fault").status, 400);
}

#[test]
fn ollama_cuts_a_long_prompt_and_only_the_usage_tells() {
    let sim = quick(&["--dialect", "ollama", "--context", "64"]);
    let prompt = "word ".repeat(500);
    let answer = call(
        sim.addr(),
        "POST",
        "/v1/chat/completions",
        "",
        &request(&prompt, json!({})),
    );
    assert_eq!(
        (answer.status, answer.usage()["prompt_tokens"].as_u64()),
        (200, Some(64))
    );
}

#[test]
fn faults_meet_the_nth_request_and_can_be_changed_while_it_runs() {
    let sim = quick(&["--fault", "http@2-3:503"]);
    let addr = sim.addr();
    let statuses = |n: usize| -> Vec<u16> { (0..n).map(|_| chat(addr, json!({})).status).collect() };
    assert_eq!(statuses(4), [200, 503, 503, 200]);
    let control = call(
        addr,
        "POST",
        "/sim/fault",
        "",
        r#"{"faults":["http@2:500"],"relative":true}"#,
    );
    assert_eq!(control.status, 200);
    assert_eq!(statuses(2), [200, 500]);
    assert_eq!(
        call(addr, "POST", "/sim/fault", "", r#"{"faults":["bogus"]}"#).status,
        400
    );
    assert_eq!(call(addr, "DELETE", "/sim/fault", "", "").status, 200);
    assert_eq!(statuses(1), [200]);
}

#[test]
fn a_refusing_server_refuses_from_its_nth_request_on() {
    let sim = quick(&["--fault", "refuse@2"]);
    assert_eq!(chat(sim.addr(), json!({})).status, 200);
    let refused = TcpStream::connect(sim.addr()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_server_that_never_answers_keeps_the_connection() {
    let sim = quick(&[]);
    let socket = connect(sim.addr());
    write_request(
        &socket,
        "POST",
        "/v1/chat/completions",
        "x-sim-fault: never-answer\r\n",
        &request("hi", json!({})),
    );
    until(sim.addr(), |s| s["requests"] == 1);
    assert!(chat(sim.addr(), json!({})).done());
    socket.set_nonblocking(true).unwrap();
    assert_eq!(
        (&socket).read(&mut [0; 16]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn one_connection_serves_several_requests() {
    let sim = quick(&[]);
    let socket = connect(sim.addr());
    let body = request("hello", json!({"stream": false}));
    write_request(&socket, "POST", "/v1/chat/completions", "", &body);
    write_request(&socket, "GET", "/v1/models", "", "");
    write_request(
        &socket,
        "POST",
        "/v1/chat/completions",
        "connection: close\r\n",
        &body,
    );
    let mut all = Vec::new();
    (&socket).read_to_end(&mut all).unwrap();
    let text = String::from_utf8(all).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3);
    assert_eq!(text.matches("\"chat.completion\"").count(), 2);
}

#[test]
fn a_client_that_goes_away_frees_its_place() {
    let sim = server(&["--mode", "serial", "--decode-rate", "50"]);
    let socket = connect(sim.addr());
    write_request(
        &socket,
        "POST",
        "/v1/chat/completions",
        "",
        &request("hello", json!({"max_tokens": 100_000})),
    );
    until(sim.addr(), |s| s["running"] == 1);
    drop(socket);
    until(sim.addr(), |s| s["running"] == 0);
}

#[test]
fn who_does_not_read_holds_nobody_up() {
    let sim = quick(&[]);
    let lazy = connect(sim.addr());
    let body = request("hello", json!({"max_tokens": 8}));
    write_request(
        &lazy,
        "POST",
        "/v1/chat/completions",
        "x-sim-fault: huge:64MiB\r\nconnection: close\r\n",
        &body,
    );
    until(sim.addr(), |s| s["events"].as_u64().unwrap() >= 9);
    assert!(chat(sim.addr(), json!({"max_tokens": 50})).done());
    let answer = read_answer(&lazy);
    assert!(answer.done() && answer.whole && answer.body.len() > 64 << 20);
}

#[test]
fn the_prefix_cache_is_seen_in_usage_and_counters_and_can_be_reset() {
    let sim = server(&[
        "--report-cached",
        "--decode-rate",
        "10000",
        "--stream-cost",
        "1us",
        "--prefill-rate",
        "1000000",
    ]);
    let addr = sim.addr();
    let ask = || {
        let body = request(&"abcd ".repeat(100), json!({}));
        call(addr, "POST", "/v1/chat/completions", "", &body).usage()["prompt_tokens_details"]["cached_tokens"].as_u64()
    };
    assert_eq!(ask(), None, "vLLM leaves it out where nothing was cached");
    // 110 tokens: six whole blocks of 16.
    assert_eq!(ask(), Some(96));
    let metrics = call(addr, "GET", "/metrics", "", "").text();
    assert!(
        metrics.contains("vllm:prefix_cache_queries_total{engine=\"0\",model_name=\"sim-model\"} 220\n"),
        "{metrics}"
    );
    assert!(metrics.contains("vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"sim-model\"} 96\n"));
    assert!(metrics.contains("vllm:generation_tokens_total{engine=\"0\",model_name=\"sim-model\"} 10\n"));
    assert!(
        metrics.contains("vllm:time_to_first_token_seconds_count{engine=\"0\",model_name=\"sim-model\"} 2\n")
    );
    until(addr, |s| s["running"] == 0);
    assert_eq!(call(addr, "POST", "/reset_prefix_cache", "", "").status, 200);
    assert_eq!(ask(), None);
    call(addr, "POST", "/sim/fault", "", r#"{"faults":["reset-lies"]}"#);
    until(addr, |s| s["running"] == 0);
    assert_eq!(call(addr, "POST", "/reset_prefix_cache", "", "").status, 200);
    assert_eq!(ask(), Some(96), "the reset lied");
}

#[test]
fn sglang_refuses_a_flush_while_requests_run() {
    let sim = server(&["--dialect", "sglang", "--decode-rate", "50"]);
    let addr = sim.addr();
    assert_eq!(call(addr, "POST", "/flush_cache", "", "").status, 200);
    let socket = connect(addr);
    write_request(
        &socket,
        "POST",
        "/v1/chat/completions",
        "",
        &request("hello", json!({"max_tokens": 100_000})),
    );
    until(addr, |s| s["running"] == 1);
    assert_eq!(call(addr, "POST", "/flush_cache", "", "").status, 400);
    assert_eq!(
        get(addr, "/get_server_info")["internal_states"][0]["memory_usage"]["token_capacity"],
        262_144
    );
    assert_eq!(get(addr, "/get_model_info")["model_path"], "sim-model");
}

#[test]
fn health_can_lie_and_a_start_can_be_watched() {
    let sim = quick(&["--fault", "health-lies"]);
    assert_eq!(call(sim.addr(), "GET", "/health", "", "").status, 200);
    assert_eq!(chat(sim.addr(), json!({})).status, 503);
    let never = quick(&["--fault", "never-ready"]);
    assert_eq!(call(never.addr(), "GET", "/health", "", "").status, 503);
    let starting = quick(&["--start-delay", "1h", "--start-style", "503"]);
    assert_eq!(call(starting.addr(), "GET", "/health", "", "").status, 503);
    let early = quick(&["--start-delay", "1h", "--start-style", "early-ok"]);
    assert_eq!(call(early.addr(), "GET", "/health", "", "").status, 200);
    assert_eq!(chat(early.addr(), json!({})).status, 503);
}

#[test]
fn ollamas_models_are_created_loaded_seen_and_unloaded() {
    let sim = server(&[
        "--dialect",
        "ollama",
        "--absent",
        "--load-delay",
        "30ms",
        "--context",
        "8192",
        "--gpu-share",
        "0.5",
    ]);
    let addr = sim.addr();
    let post = |path: &str, body: Value| {
        let answer = call(addr, "POST", path, "", &body.to_string());
        let json = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        (answer.status, json)
    };
    assert_eq!(call(addr, "GET", "/health", "", "").status, 404);
    assert_eq!(get(addr, "/api/version")["version"], "0.15.6");
    assert_eq!(post("/api/show", json!({"model": "sim-model"})).0, 404);
    assert_eq!(
        post("/api/create", json!({"model": "sim-model", "files": {}})).0,
        200
    );
    let (status, shown) = post("/api/show", json!({"model": "sim-model"}));
    assert_eq!(
        (status, &shown["details"]["quantization_level"]),
        (200, &json!("Q4_K_M"))
    );
    assert_eq!(get(addr, "/api/ps")["models"], json!([]));
    let before = monotonic_ns();
    let (_, loaded) = post("/api/generate", json!({"model": "sim-model", "keep_alive": -1}));
    assert_eq!(loaded["done_reason"], "load");
    assert!(monotonic_ns() - before >= 30_000_000, "loading takes its time");
    let ps = get(addr, "/api/ps");
    let model = &ps["models"][0];
    assert_eq!(model["context_length"], 8192);
    assert_eq!(
        model["size_vram"].as_u64().unwrap() * 2,
        model["size"].as_u64().unwrap()
    );
    let (_, unloaded) = post("/api/generate", json!({"model": "sim-model", "keep_alive": 0}));
    assert_eq!(unloaded["done_reason"], "unload");
    assert_eq!(get(addr, "/api/ps")["models"], json!([]));
    let cold = monotonic_ns();
    let answer = chat(addr, json!({"max_tokens": 1}));
    assert!(answer.done());
    assert!(monotonic_ns() - cold >= 30_000_000, "the first request loads");
}

#[test]
fn a_request_that_does_not_stream_gets_one_object() {
    let sim = quick(&["--reasoning-tokens", "2"]);
    let answer = chat(sim.addr(), json!({"stream": false}));
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let message = &body["choices"][0]["message"];
    assert_eq!(
        message["reasoning"].as_str().unwrap().split_whitespace().count(),
        2
    );
    assert_eq!(message["content"].as_str().unwrap().split_whitespace().count(), 3);
    assert_eq!(body["usage"]["completion_tokens"], 5);
}
