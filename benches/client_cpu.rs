//! CPU time of the client per event, and how late it stamps what arrives.
//!
//! A server in another process sends streams of stamped events at a fixed pace. Against it, in turns: the
//! load engine; raw hyper, reading and discarding; a bare socket reader, reading and discarding. CPU time is
//! that of the thread that reads. Ratios are between figures of one run.
//!
//! `cargo bench --bench client_cpu -- [STREAMS…]`

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use benchd_core::record::{EndMarker, StreamShape};
use benchd_load::client::{Answer, Target};
use benchd_load::{Batch, BatchReport, LoadEngine, LoadOptions};
use benchd_plan::Arrival;
use nix::time::{ClockId, clock_gettime, clock_nanosleep};

/// Tokens of a stream.
const TOKENS: usize = 100;
/// Time between two tokens of a stream.
const TOKEN_EVERY: Duration = Duration::from_millis(20);
/// Events of a stream beside its tokens: role, finish reason, usage, end marker.
const OTHER_EVENTS: usize = 4;
const ROUNDS: usize = 3;

/// How the server paces the streams.
#[derive(Clone, Copy, PartialEq)]
enum Pace {
    /// All streams get their token at once, as from one step of a batch.
    Steps,
    /// Each stream at its own moment.
    Spread,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().is_some_and(|arg| arg == "--serve") {
        serve(
            args[1].parse().expect("a number of streams"),
            if args[2] == "steps" {
                Pace::Steps
            } else {
                Pace::Spread
            },
        );
    }
    let mut streams: Vec<usize> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    if streams.is_empty() {
        streams = vec![1, 8, 64, 256, 1_000];
    }
    println!(
        "µs of CPU per event of the reading thread (best of {ROUNDS}); error in µs = client's stamp - server's stamp"
    );
    println!(
        "{:>7} {:>7} | {:>7} {:>7} {:>7} {:>7} {:>7} | {:>23} | {:>23} | {:>9}",
        "streams",
        "pace",
        "benchd",
        "decode",
        "hyper",
        "bare",
        "/hyper",
        "ttft err p50/p99/max",
        "gap err p50/p99/max",
        "rss grown"
    );
    for &streams in &streams {
        for pace in [Pace::Spread, Pace::Steps] {
            compare(streams, pace);
        }
    }
}

fn compare(streams: usize, pace: Pace) {
    let server = Server::start(streams, pace);
    let (mut benchd_us, mut decode_us, mut hyper_us, mut bare_us) = (f64::MAX, f64::MAX, f64::MAX, f64::MAX);
    let events = (streams * (TOKENS + OTHER_EVENTS)) as f64;
    let (mut ttft, mut gaps) = (Vec::new(), Vec::new());
    let mut grown_kib = 0;
    for _ in 0..ROUNDS {
        let rss_before = rss_kib();
        let process_before = process_cpu();
        let (answers, report) = run_benchd(server.addr, streams);
        grown_kib = grown_kib.max(rss_kib().saturating_sub(rss_before));
        let all = (process_cpu() - process_before).as_secs_f64() * 1e6;
        benchd_us = benchd_us.min(report.lag.cpu_us as f64 / events);
        decode_us = decode_us.min((all - report.lag.cpu_us as f64) / events);
        errors(&answers, &mut ttft, &mut gaps);
        hyper_us =
            hyper_us.min(run_thread(server.addr, streams, read_with_hyper).as_secs_f64() * 1e6 / events);
        bare_us = bare_us.min(run_thread(server.addr, streams, read_bare).as_secs_f64() * 1e6 / events);
    }
    let name = if pace == Pace::Steps { "steps" } else { "spread" };
    println!(
        "{streams:>7} {name:>7} | {benchd_us:>7.2} {decode_us:>7.2} {hyper_us:>7.2} {bare_us:>7.2} {:>6.2}x | {:>23} | {:>23} | {grown_kib:>5} KiB",
        benchd_us / hyper_us,
        spread_of(&mut ttft),
        spread_of(&mut gaps),
    );
}

fn run_benchd(addr: SocketAddr, streams: usize) -> (Vec<Answer>, BatchReport) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let engine = LoadEngine::start(LoadOptions::default()).expect("an engine");
    let (out, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let batch = Batch {
        target: Target::new(addr, "/v1/chat/completions"),
        bodies: vec!["{}".into(); streams],
        concurrency: streams as u32,
        arrival: Arrival::Closed,
        seed: 0,
        timeout: Duration::from_secs(300),
        shape: StreamShape {
            usage: true,
            end: EndMarker::Done,
        },
        reasoning_fields: &[],
    };
    let mut handle = engine.run(batch, out).expect("a batch");
    let report = runtime.block_on(handle.wait()).expect("an end");
    let answers: Vec<Answer> = std::iter::from_fn(|| answers.try_recv().ok()).collect();
    assert_eq!(answers.len(), streams);
    for answer in &answers {
        assert!(answer.record.is_ok(), "{:?}", answer.record.error);
    }
    (answers, report)
}

/// Errors of first tokens and of gaps, microseconds.
fn errors(answers: &[Answer], ttft: &mut Vec<i64>, gaps: &mut Vec<i64>) {
    for answer in answers {
        let sent_ns = answer.sent_monotonic_ns.expect("a send") as i64;
        let late_us: Vec<i64> = answer
            .record
            .text
            .split_whitespace()
            .zip(&answer.record.chunks_us)
            .map(|(stamp, at_us)| {
                let stamp_ns: i64 = stamp.parse().expect("a stamp");
                (sent_ns - stamp_ns) / 1_000 + *at_us as i64
            })
            .collect();
        assert_eq!(late_us.len(), TOKENS);
        ttft.push(late_us[0]);
        gaps.extend(late_us.windows(2).map(|pair| (pair[1] - pair[0]).abs()));
    }
}

fn spread_of(values: &mut [i64]) -> String {
    values.sort_unstable();
    let at = |q: f64| values[((values.len() - 1) as f64 * q) as usize];
    format!("{} / {} / {}", at(0.5), at(0.99), at(1.0))
}

/// CPU time that a fresh thread uses for `read` on a runtime of its own.
fn run_thread(addr: SocketAddr, streams: usize, read: fn(SocketAddr, usize) -> usize) -> Duration {
    std::thread::spawn(move || {
        let before = thread_cpu();
        let bytes = read(addr, streams);
        assert!(bytes > streams * TOKENS * 100, "{bytes} bytes only");
        thread_cpu() - before
    })
    .join()
    .expect("a reader")
}

fn read_with_hyper(addr: SocketAddr, streams: usize) -> usize {
    use http_body_util::{BodyExt, Empty};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let tasks: Vec<_> = (0..streams)
            .map(|_| {
                tokio::spawn(async move {
                    let stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
                    stream.set_nodelay(true).expect("nodelay");
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
                        .await
                        .expect("a handshake");
                    tokio::spawn(connection);
                    let request = hyper::Request::post("/v1/chat/completions")
                        .header("host", "x")
                        .header("content-length", "0")
                        .body(Empty::<bytes::Bytes>::new())
                        .expect("a request");
                    let mut body = sender
                        .send_request(request)
                        .await
                        .expect("a response")
                        .into_body();
                    let mut bytes = 0;
                    while let Some(frame) = body.frame().await {
                        bytes += frame.expect("a frame").data_ref().map_or(0, |data| data.len());
                    }
                    bytes
                })
            })
            .collect();
        let mut bytes = 0;
        for task in tasks {
            bytes += task.await.expect("a stream");
        }
        bytes
    })
}

fn read_bare(addr: SocketAddr, streams: usize) -> usize {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let tasks: Vec<_> = (0..streams)
            .map(|_| {
                tokio::spawn(async move {
                    let mut stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
                    stream
                        .write_all(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n")
                        .await
                        .expect("a send");
                    let (mut bytes, mut buffer) = (0, vec![0; 16 << 10]);
                    loop {
                        match stream.read(&mut buffer).await.expect("a read") {
                            0 => return bytes,
                            count => bytes += count,
                        }
                    }
                })
            })
            .collect();
        let mut bytes = 0;
        for task in tasks {
            bytes += task.await.expect("a stream");
        }
        bytes
    })
}

/// The server's process; ended when dropped.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Server {
    fn start(streams: usize, pace: Pace) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--serve",
                &streams.to_string(),
                if pace == Pace::Steps { "steps" } else { "spread" },
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("an address");
        Self {
            addr: line.trim().parse().expect("an address"),
            child,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves rounds of `streams` requests until killed: when all of a round have come, all are answered.
fn serve(streams: usize, pace: Pace) -> ! {
    let _ = nix::sys::prctl::set_timerslack(1);
    let _ = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::MAXCONN).expect("a queue");
    println!("{}", listener.local_addr().expect("an address"));
    loop {
        let mut round: Vec<TcpStream> = (0..streams)
            .map(|_| listener.accept().expect("a client").0)
            .collect();
        for stream in &mut round {
            stream.set_nodelay(true).expect("nodelay");
            let mut seen = Vec::new();
            let mut buffer = [0; 1024];
            while !seen.windows(4).any(|w| w == b"\r\n\r\n") {
                let count = stream.read(&mut buffer).expect("a request");
                seen.extend_from_slice(&buffer[..count]);
            }
        }
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let start = monotonic() + TOKEN_EVERY;
        for stream in &mut round {
            stream.write_all(head.as_bytes()).expect("a client");
            write_event(stream, &chunk(r#""role":"assistant","content":"""#, "null"));
        }
        for token in 0..TOKENS as u32 {
            for (i, stream) in round.iter_mut().enumerate() {
                let within = if pace == Pace::Spread {
                    TOKEN_EVERY * i as u32 / streams as u32
                } else {
                    Duration::ZERO
                };
                sleep_until(start + TOKEN_EVERY * token + within);
                let stamp_ns = monotonic().as_nanos();
                write_event(stream, &chunk(&format!(r#""content":"{stamp_ns} ""#), "null"));
            }
        }
        for mut stream in round {
            write_event(&mut stream, &chunk("", r#""length""#));
            write_event(
                &mut stream,
                &format!(r#"{{"choices":[],"usage":{{"prompt_tokens":1,"completion_tokens":{TOKENS}}}}}"#),
            );
            write_event(&mut stream, "[DONE]");
            stream.write_all(b"0\r\n\r\n").expect("a client");
        }
    }
}

fn chunk(delta: &str, finish: &str) -> String {
    format!(
        r#"{{"id":"chatcmpl-a73b1c099dc3ee12","object":"chat.completion.chunk","created":1795492608,"model":"llama31-8b","choices":[{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":{finish},"token_ids":null}}]}}"#
    )
}

fn write_event(stream: &mut TcpStream, data: &str) {
    let bytes = format!("{:x}\r\ndata: {data}\n\n\r\n", data.len() + 8);
    stream.write_all(bytes.as_bytes()).expect("a client");
}

fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).expect("a clock").into()
}

fn sleep_until(at: Duration) {
    if monotonic() < at {
        let flags = nix::time::ClockNanosleepFlags::TIMER_ABSTIME;
        let _ = clock_nanosleep(
            ClockId::CLOCK_MONOTONIC,
            flags,
            &nix::sys::time::TimeSpec::from_duration(at),
        );
    }
}

fn thread_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("a clock")
        .into()
}

fn process_cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .expect("a clock")
        .into()
}

/// Resident memory, KiB.
fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .expect("a line");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number")
}
