//! A server for tests that does what a test tells it, byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// One accepted connection, with the request read.
pub(crate) struct Served {
    pub(crate) stream: TcpStream,
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) struct TestServer {
    pub(crate) addr: SocketAddr,
    pub(crate) connections: Arc<AtomicUsize>,
    /// Bodies of the requests, in the order in which they were read.
    pub(crate) bodies: Arc<Mutex<Vec<String>>>,
}

pub(crate) const SSE_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
pub(crate) const CLOSE_HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";

impl TestServer {
    /// Serves each connection on a thread of its own. A client that closes without a request is counted and
    /// not served.
    pub(crate) fn start(serve: impl Fn(Served) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let serve = Arc::new(serve);
        let (counter, seen) = (Arc::clone(&connections), Arc::clone(&bodies));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let (serve, seen) = (Arc::clone(&serve), Arc::clone(&seen));
                std::thread::spawn(move || {
                    if let Some(served) = read_request(stream) {
                        seen.lock().unwrap().push(served.body.clone());
                        serve(served);
                    }
                });
            }
        });
        Self {
            addr,
            connections,
            bodies,
        }
    }

    /// An address on which nobody listens.
    pub(crate) fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }
}

fn read_request(mut stream: TcpStream) -> Option<Served> {
    stream.set_nodelay(true).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    let head_end = loop {
        let count = stream.read(&mut buffer).ok().filter(|&count| count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    let mut body = bytes[head_end..].to_vec();
    let mut rest = vec![0; length.parse::<usize>().unwrap() - body.len()];
    stream.read_exact(&mut rest).ok()?;
    body.extend_from_slice(&rest);
    Some(Served {
        stream,
        head,
        body: String::from_utf8(body).unwrap(),
    })
}

impl Served {
    /// Writes; a client that is gone is no fault of the server's.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Writes `data` as one HTTP chunk.
    pub(crate) fn chunk(&mut self, data: impl AsRef<[u8]>) -> bool {
        self.send(chunked(data.as_ref()))
    }

    /// Writes one event as one HTTP chunk.
    pub(crate) fn event(&mut self, data: &str) -> bool {
        self.chunk(format!("data: {data}\n\n"))
    }

    /// Ends a chunked body.
    pub(crate) fn end(&mut self) -> bool {
        self.send("0\r\n\r\n")
    }

    /// Waits until the client has closed.
    pub(crate) fn wait_for_close(&mut self) {
        let mut buffer = [0; 64];
        while self.stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        use nix::sys::socket::{setsockopt, sockopt::Linger};
        setsockopt(
            &self.stream,
            Linger,
            &nix::libc::linger {
                l_onoff: 1,
                l_linger: 0,
            },
        )
        .unwrap();
    }

    /// A whole, ordinary answer of `tokens` tokens, each in a write of its own.
    pub(crate) fn answer(&mut self, tokens: usize) {
        self.send(SSE_HEAD);
        self.event(ROLE);
        for i in 0..tokens {
            self.event(&token(i));
        }
        self.event(FINISH);
        self.event(&usage(tokens));
        self.event("[DONE]");
        self.end();
    }
}

pub(crate) const ROLE: &str = r#"{"id":"r1","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#;
pub(crate) const FINISH: &str =
    r#"{"id":"r1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"length"}]}"#;

pub(crate) fn token(i: usize) -> String {
    format!(
        r#"{{"id":"r1","model":"m","choices":[{{"index":0,"delta":{{"content":"t{i} "}},"finish_reason":null}}]}}"#
    )
}

pub(crate) fn usage(tokens: usize) -> String {
    format!(
        r#"{{"id":"r1","model":"m","choices":[],"usage":{{"prompt_tokens":7,"completion_tokens":{tokens},"total_tokens":0}}}}"#
    )
}

pub(crate) fn chunked(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}
