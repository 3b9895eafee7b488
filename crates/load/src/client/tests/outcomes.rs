//! Each outcome, against a server that misbehaves on a real socket.

use std::time::Duration;

use super::test_server::{CLOSE_HEAD, FINISH, ROLE, SSE_HEAD, Served, TestServer, token, usage};
use super::*;
use benchd_core::record::Outcome;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(150);

async fn ask(addr: std::net::SocketAddr, timeout: Duration) -> RequestRecord {
    ask_until(addr, timeout, CancellationToken::new()).await
}

async fn ask_until(
    addr: std::net::SocketAddr,
    timeout: Duration,
    cancel: CancellationToken,
) -> RequestRecord {
    let target = Target::new(addr, "/v1/chat/completions");
    let how = OneOff {
        timeout,
        shape: FULL,
        reasoning_fields: REASONING,
        cancel,
    };
    request_once(&target, Bytes::from_static(b"{\"q\":1}"), how)
        .await
        .unwrap()
        .record
}

/// The answer of a server that serves each connection so.
async fn answer_of(timeout: Duration, serve: impl Fn(Served) + Send + Sync + 'static) -> RequestRecord {
    ask(TestServer::start(serve).addr, timeout).await
}

fn assert_two_tokens_kept(answer: &RequestRecord) {
    assert_eq!(answer.text, "t0 t1 ");
    assert_eq!(answer.chunks_us.len(), 2);
    assert_eq!(answer.status, Some(200));
    assert!(answer.first_chunk_us <= answer.first_token_us);
    assert!(Some(answer.end_us) >= answer.last_token_us);
    assert!(answer.connect_us.is_some());
}

fn two_tokens(served: &mut Served) {
    served.send(SSE_HEAD);
    served.event(ROLE);
    served.event(&token(0));
    served.event(&token(1));
}

#[tokio::test]
async fn ok() {
    let server = TestServer::start(|mut served| {
        assert!(
            served.head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"),
            "{}",
            served.head
        );
        assert!(served.head.contains("\r\nconnection: close\r\n"));
        assert_eq!(served.body, "{\"q\":1}");
        served.answer(5);
    });
    let answer = ask(server.addr, LONG).await;
    assert_eq!(answer.outcome, Outcome::Ok, "{:?}", answer.error);
    assert_eq!(answer.error, None);
    assert_eq!(answer.text, "t0 t1 t2 t3 t4 ");
    assert_eq!((answer.prompt_tokens, answer.output_tokens), (Some(7), Some(5)));
    assert_eq!(answer.chunks_us.len(), 5);
    assert!(answer.chunks_us.is_sorted());
    assert_eq!(answer.queued_us, None);
    assert!(answer.sent_unix_us > 1_700_000_000_000_000);
    assert_eq!(answer.response_id.as_deref(), Some("r1"));
}

#[tokio::test]
async fn done_ends_the_request_though_the_connection_stays_open() {
    let (closed, mut was_closed) = tokio::sync::mpsc::unbounded_channel();
    let answer = answer_of(LONG, move |mut served| {
        two_tokens(&mut served);
        served.event(FINISH);
        served.event(&usage(2));
        served.event("[DONE]");
        // The body's end never comes; the client gives up waiting for it, and nobody waits for that.
        served.wait_for_close();
        closed.send(()).unwrap();
    })
    .await;
    assert_eq!(answer.outcome, Outcome::Ok, "{:?}", answer.error);
    was_closed.recv().await.unwrap();
}

#[tokio::test]
async fn a_late_end_of_the_body_is_awaited_before_closing() {
    let (result, mut results) = tokio::sync::mpsc::unbounded_channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let server = TestServer::start(move |mut served| {
        two_tokens(&mut served);
        served.event(FINISH);
        served.event(&usage(2));
        served.event("[DONE]");
        gone.lock().unwrap().recv().unwrap();
        served.end();
        // Reading shows whether the client closed in order or reset the connection over unread bytes.
        let read = std::io::Read::read(&mut served.stream, &mut [0; 8]);
        result.send(read.is_ok()).unwrap();
    });
    let answer = ask(server.addr, LONG).await;
    assert!(answer.is_ok());
    go.send(()).unwrap();
    assert!(results.recv().await.unwrap(), "the connection was reset");
}

#[tokio::test]
async fn connect_refused() {
    let answer = ask(TestServer::nobody(), LONG).await;
    assert_eq!(answer.outcome, Outcome::Connect);
    assert_eq!((answer.status, answer.connect_us, answer.end_us), (None, None, 0));
    assert!(answer.error.unwrap().contains("refused"));
}

#[tokio::test]
async fn connect_closed_reset_or_garbage_before_a_status_line() {
    let answer = answer_of(LONG, drop).await;
    assert_eq!(answer.outcome, Outcome::Connect, "{:?}", answer.error);
    let answer = answer_of(LONG, Served::reset).await;
    assert_eq!(answer.outcome, Outcome::Connect, "{:?}", answer.error);
    let answer = answer_of(LONG, |mut served| {
        served.send("220 smtp.example ESMTP\r\n");
        served.wait_for_close();
    })
    .await;
    assert_eq!(answer.outcome, Outcome::Connect, "{:?}", answer.error);
    let answer = answer_of(LONG, |mut served| {
        served.send("HTTP/1.1 2");
    })
    .await;
    assert_eq!((answer.outcome, answer.status), (Outcome::Connect, None));
}

#[tokio::test]
async fn http_status_with_the_bodys_message() {
    for (body, message) in [
        (
            r#"{"error":{"message":"no such model","type":"x"}}"#,
            "404: no such model",
        ),
        (
            r#"{"object":"error","message":"no such model"}"#,
            "404: no such model",
        ),
        (r#"{"detail":"no such model"}"#, "404: no such model"),
        ("<html>no</html>", "404: <html>no</html>"),
        ("", "404: "),
    ] {
        let answer = answer_of(LONG, move |mut served| {
            served.send(format!(
                "HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ));
            served.wait_for_close();
        })
        .await;
        assert_eq!((answer.outcome, answer.status), (Outcome::HttpStatus, Some(404)));
        assert_eq!(answer.error.as_deref(), Some(message));
        assert_eq!(answer.first_chunk_us, None);
    }
}

#[tokio::test]
async fn http_status_wins_over_what_happens_to_its_body_and_the_body_is_bounded() {
    let answer = answer_of(SHORT, |mut served| {
        served.send("HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\nwait");
        served.wait_for_close();
    })
    .await;
    assert_eq!(
        (answer.outcome, answer.error.as_deref()),
        (Outcome::HttpStatus, Some("503: wait"))
    );
    let answer = answer_of(LONG, |mut served| {
        served.send("HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..1000 {
            served.chunk([b'x'; 1024]);
        }
        served.reset();
    })
    .await;
    assert_eq!((answer.outcome, answer.status), (Outcome::HttpStatus, Some(500)));
    assert!(answer.error.unwrap().len() < 2_000);
}

#[tokio::test]
async fn a_refusal_before_the_whole_request_was_read_is_read() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig";
        tokio::io::AsyncWriteExt::write_all(&mut stream, refusal)
            .await
            .unwrap();
        stream
    };
    let how = OneOff {
        timeout: LONG,
        shape: FULL,
        reasoning_fields: REASONING,
        cancel: CancellationToken::new(),
    };
    let target = Target::new(addr, "/x");
    let body = Bytes::from(vec![b'x'; 32 << 20]);
    let (stream, answer) = tokio::join!(server, request_once(&target, body, how));
    drop(stream);
    let answer = answer.unwrap().record;
    assert_eq!(
        (answer.outcome, answer.error.as_deref()),
        (Outcome::HttpStatus, Some("413: big"))
    );
}

#[tokio::test]
async fn timeout_before_and_within_the_stream() {
    let answer = answer_of(SHORT, |mut served| served.wait_for_close()).await;
    assert_eq!((answer.outcome, answer.status), (Outcome::Timeout, None));
    assert!(answer.end_us >= benchd_core::record::micros(SHORT));
    let answer = answer_of(SHORT, |mut served| {
        two_tokens(&mut served);
        served.wait_for_close();
    })
    .await;
    assert_eq!(answer.outcome, Outcome::Timeout);
    assert!(answer.end_us >= benchd_core::record::micros(SHORT));
    assert_two_tokens_kept(&answer);
}

#[tokio::test]
async fn timeout_while_tokens_keep_coming() {
    let answer = answer_of(SHORT, |mut served| {
        served.send(SSE_HEAD);
        while served.event(&token(0)) {}
    })
    .await;
    assert_eq!(answer.outcome, Outcome::Timeout);
    assert!(!answer.chunks_us.is_empty());
}

#[tokio::test]
async fn stream_error() {
    let answer = answer_of(LONG, |mut served| {
        two_tokens(&mut served);
        served.chunk("event: error\ndata: {\"message\":\"engine died\"}\n\n");
        // The client does not wait for more.
        served.wait_for_close();
    })
    .await;
    assert_eq!(
        (answer.outcome, answer.error.as_deref()),
        (Outcome::StreamError, Some("engine died"))
    );
    assert_two_tokens_kept(&answer);
    // As vLLM does it: the error, then the end marker.
    let answer = answer_of(LONG, |mut served| {
        two_tokens(&mut served);
        served.event(r#"{"error":{"message":"engine died"}}"#);
        served.event("[DONE]");
        served.end();
    })
    .await;
    assert_eq!(answer.outcome, Outcome::StreamError);
    assert_two_tokens_kept(&answer);
}

#[tokio::test]
async fn truncated_by_close_reset_or_a_short_stream() {
    let answer = answer_of(LONG, |mut served| two_tokens(&mut served)).await;
    assert_eq!(answer.outcome, Outcome::Truncated, "{:?}", answer.error);
    assert_two_tokens_kept(&answer);

    let answer = answer_of(LONG, |mut served| {
        two_tokens(&mut served);
        served.send("5\r\nda");
        served.reset();
    })
    .await;
    // A reset may overtake bytes that the client had not read yet: the class is what is certain.
    assert!(
        matches!(answer.outcome, Outcome::Truncated | Outcome::Connect),
        "{:?}",
        answer.error
    );

    // A body that ends with the connection, as Ollama's do when its runner dies: no finish reason, no end.
    let answer = answer_of(LONG, |mut served| {
        served.send(CLOSE_HEAD);
        served.send(format!(
            "data: {ROLE}\n\ndata: {}\n\ndata: {}\n\n",
            token(0),
            token(1)
        ));
    })
    .await;
    assert_eq!(answer.outcome, Outcome::Truncated, "{:?}", answer.error);
    assert_two_tokens_kept(&answer);
}

#[tokio::test]
async fn a_reset_after_what_was_read_is_truncated() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let server = TestServer::start(move |mut served| {
        two_tokens(&mut served);
        let gone = gone.lock().unwrap().take().unwrap();
        gone.recv().unwrap();
        served.reset();
    });
    struct Telling(Assembly, Option<std::sync::mpsc::Sender<()>>, usize);
    impl Sink for Telling {
        fn received(&mut self, events: usize, _lag: Option<Duration>) {
            self.2 += events;
            if self.2 == 3 {
                self.1.take().unwrap().send(()).unwrap();
            }
        }
        fn block(&mut self, block: Block) {
            self.0.block(&block);
        }
    }
    let cancel = CancellationToken::new();
    let connection = Connection::open(server.addr, LONG, &cancel).await.unwrap();
    let request = Target::new(server.addr, "/")
        .request_head()
        .unwrap()
        .with_body(Bytes::new());
    let mut sink = Telling(Assembly::new(FULL, REASONING), Some(go), 0);
    let closing = exchange(connection, request, LONG, None, &cancel, &mut sink).await;
    let answer = sink.0.finish(closing).record;
    assert_eq!(answer.outcome, Outcome::Truncated, "{:?}", answer.error);
    assert_two_tokens_kept(&answer);
}

#[tokio::test]
async fn malformed() {
    for bad in ["data: {broken\n\n".as_bytes(), b"data: \"\xFF\"\n\n"] {
        let answer = answer_of(LONG, move |mut served| {
            two_tokens(&mut served);
            served.chunk(bad);
            served.event("[DONE]");
            served.end();
        })
        .await;
        assert_eq!(answer.outcome, Outcome::Malformed);
        assert_two_tokens_kept(&answer);
    }
    let answer = answer_of(LONG, |mut served| {
        two_tokens(&mut served);
        served.send("zz\r\n");
        served.wait_for_close();
    })
    .await;
    assert_eq!(answer.outcome, Outcome::Malformed);
    assert_two_tokens_kept(&answer);
}

#[tokio::test]
async fn cancelled() {
    let cancel = CancellationToken::new();
    let stopper = cancel.clone();
    let server = TestServer::start(move |mut served| {
        two_tokens(&mut served);
        stopper.cancel();
        served.wait_for_close();
    });
    let answer = ask_until(server.addr, LONG, cancel.clone()).await;
    assert_eq!(answer.outcome, Outcome::Cancelled);
    assert_eq!(server.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    // Before anything was sent.
    let answer = ask_until(server.addr, LONG, cancel).await;
    assert_eq!((answer.outcome, answer.connect_us), (Outcome::Cancelled, None));
}

#[tokio::test]
async fn a_server_that_accepts_nothing_is_bounded() {
    // A full listen queue: the kernel answers no further connection.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    nix::sys::socket::listen(&socket, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let mut held = Vec::new();
    let answer = loop {
        let cancel = CancellationToken::new();
        match Connection::open(addr, SHORT, &cancel).await {
            Ok(connection) => held.push(connection),
            Err(failure) => {
                break Assembly::new(FULL, REASONING)
                    .finish(failure.closing(None))
                    .record;
            }
        }
        assert!(held.len() < 64, "the queue does not fill");
    };
    assert_eq!(answer.outcome, Outcome::Connect);
    assert!(answer.error.unwrap().contains("not open after"));
}

#[test]
fn a_target_that_would_break_the_request_is_refused() {
    let addr = "127.0.0.1:80".parse().unwrap();
    for path in ["x", "/a b", "/\r\nx: y", ""] {
        let error = Target::new(addr, path).request_head().unwrap_err();
        assert_eq!(error, TargetError::Path(path.to_owned()));
    }
    for (name, value) in [("a b", "c"), ("", "c"), ("a", "b\r\nc: d"), ("a:", "b")] {
        let mut target = Target::new(addr, "/");
        target.headers.push((name.to_owned(), value.to_owned()));
        assert_eq!(
            target.request_head().unwrap_err(),
            TargetError::Header(name.to_owned())
        );
    }
}
