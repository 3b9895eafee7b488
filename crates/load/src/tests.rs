//! The engine against a server on a real socket.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::client::test_server::{FINISH, ROLE, SSE_HEAD, Served, TestServer, token, usage};
use crate::client::{Answer, Target};
use crate::schedule::planned_sends;
use benchd_core::record::{EndMarker, Outcome, StreamShape};
use benchd_plan::Arrival;

const TIMEOUT: Duration = Duration::from_secs(60);

fn batch(server: &TestServer, requests: u32, concurrency: u32, arrival: Arrival) -> Batch {
    Batch {
        target: Target::new(server.addr, "/v1/chat/completions"),
        bodies: (0..requests)
            .map(|index| format!("request {index}").into())
            .collect(),
        concurrency,
        arrival,
        seed: 11,
        timeout: TIMEOUT,
        shape: StreamShape {
            usage: true,
            end: EndMarker::Done,
        },
        reasoning_fields: &["reasoning"],
    }
}

fn engine() -> LoadEngine {
    LoadEngine::start(LoadOptions::default()).unwrap()
}

/// Runs a batch to its end.
async fn run_all(batch: Batch) -> (Vec<Answer>, BatchReport) {
    let engine = engine();
    let (out, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let mut handle = engine.run(batch, out).unwrap();
    let report = handle.wait().await.unwrap();
    assert!(matches!(handle.wait().await, Err(LoadError::Gone)));
    (drain(&mut answers), report)
}

/// What is in the channel now.
fn drain(answers: &mut UnboundedReceiver<Answer>) -> Vec<Answer> {
    std::iter::from_fn(|| answers.try_recv().ok()).collect()
}

/// A server at which as many requests as `wave` must be there before any of them is answered.
fn in_waves(wave: usize) -> TestServer {
    let barrier = Barrier::new(wave);
    TestServer::start(move |mut served: Served| {
        barrier.wait();
        served.answer(3);
    })
}

#[tokio::test]
async fn every_job_is_sent_once_and_the_streams_take_turns() {
    const STREAMS: u32 = 5;
    let server = in_waves(STREAMS as usize);
    let (answers, report) = run_all(batch(&server, 20, STREAMS, Arrival::Closed)).await;
    assert_eq!(answers.len(), 20);
    assert!(
        answers.iter().all(|completed| completed.record.is_ok()),
        "{answers:?}"
    );
    // Every request once.
    let indices: BTreeSet<u32> = answers.iter().map(|completed| completed.record.index).collect();
    assert_eq!(indices, (0..20).collect());
    // The first wave goes out in order: stream k sends request k.
    for completed in answers
        .iter()
        .filter(|completed| completed.record.index < STREAMS)
    {
        assert_eq!(completed.record.stream, completed.record.index);
    }
    // With answers in waves, each stream sends one request of each wave, in the order of the queue.
    for wave in 0..4 {
        let in_wave = (wave * STREAMS)..((wave + 1) * STREAMS);
        let streams: BTreeSet<u32> = answers
            .iter()
            .filter(|c| in_wave.contains(&c.record.index))
            .map(|c| c.record.stream)
            .collect();
        assert_eq!(streams, (0..STREAMS).collect(), "wave {wave}");
    }
    assert_eq!(report.most_in_flight, STREAMS);
    assert_eq!((report.capped, report.cancelled), (0, false));
    assert_eq!(
        server.connections.load(Ordering::SeqCst),
        20,
        "a connection of its own for each request"
    );
}

#[tokio::test]
async fn no_request_is_sent_while_connections_of_the_first_wave_are_missing() {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::socket::{Backlog, listen};
    use std::os::fd::AsFd;
    // A listen queue of one: with the one that is accepted, two of eight connections can be open. The kernel
    // drops the others' first packets, and the client's repeats them after a second.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let started = std::time::Instant::now();
    let server = std::thread::spawn(move || {
        let (first, _) = listener.accept().unwrap();
        let mut fds = [PollFd::new(first.as_fd(), PollFlags::POLLIN)];
        let has_sent = poll(&mut fds, PollTimeout::from(200_u16)).unwrap() > 0;
        // On a machine so slow that the barrier's limit may have passed, nothing is proven.
        let too_early = has_sent && started.elapsed() < run::BARRIER_LIMIT;
        listen(&listener, Backlog::new(64).unwrap()).unwrap();
        let rest: Vec<_> = (1..8).map(|_| listener.accept().unwrap().0).collect();
        drop((first, rest));
        too_early
    });
    let fake = TestServer {
        addr,
        connections: Arc::default(),
        bodies: Arc::default(),
    };
    let (answers, _) = run_all(batch(&fake, 8, 8, Arrival::Closed)).await;
    assert!(!server.join().unwrap(), "sent while connections were missing");
    // The server closed all of them unanswered: recorded as such, each once.
    assert_eq!(answers.len(), 8);
    assert!(
        answers.iter().all(|c| c.record.outcome == Outcome::Connect),
        "{answers:?}"
    );
}

#[tokio::test]
async fn one_stream_sends_in_order_and_more_streams_than_jobs_are_no_harm() {
    let server = in_waves(1);
    let (answers, report) = run_all(batch(&server, 6, 1, Arrival::Closed)).await;
    let order: Vec<u32> = answers.iter().map(|completed| completed.record.index).collect();
    assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    let bodies = server.bodies.lock().unwrap().clone();
    assert_eq!(
        bodies,
        [
            "request 0",
            "request 1",
            "request 2",
            "request 3",
            "request 4",
            "request 5"
        ]
    );
    assert_eq!(report.most_in_flight, 1);
    assert!(report.duration_us >= answers.iter().map(|c| c.record.end_us).sum::<u64>());
    // A request is not sent before the one before has ended.
    for pair in answers.windows(2) {
        assert!(pair[1].record.sent_unix_us >= pair[0].record.sent_unix_us);
    }
    let server = in_waves(3);
    let (answers, _) = run_all(batch(&server, 3, 100, Arrival::Closed)).await;
    assert_eq!(answers.len(), 3);
    let (answers, report) = run_all(batch(&server, 0, 4, Arrival::Closed)).await;
    assert!(answers.is_empty());
    assert_eq!(report.duration_us, 0);
}

#[tokio::test]
async fn failures_are_recorded_and_the_streams_go_on() {
    let server = TestServer::start(|mut served| match served.body.as_str() {
        "request 1" => {}
        "request 3" => {
            served.send("HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\noops");
        }
        _ => served.answer(2),
    });
    let engine = engine();
    let (out, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let mut handle = engine.run(batch(&server, 6, 2, Arrival::Closed), out).unwrap();
    let progress = handle.progress();
    let report = handle.wait().await.unwrap();
    let mut answers = drain(&mut answers);
    answers.sort_by_key(|completed| completed.record.index);
    let outcomes: Vec<Outcome> = answers.iter().map(|completed| completed.record.outcome).collect();
    use Outcome::{Connect, HttpStatus, Ok};
    assert_eq!(outcomes, [Ok, Connect, Ok, HttpStatus, Ok, Ok]);
    assert_eq!((progress.sent(), progress.done(), progress.failed()), (6, 6, 2));
    // Role, two tokens, finish, usage, end marker: six events of each good answer.
    assert_eq!((progress.events(), report.lag.events), (24, 24));
    assert!(report.lag.cpu_us > 0);
    assert!(report.lag.p50_us <= report.lag.p99_us && report.lag.p99_us <= report.lag.max_us);
}

#[tokio::test]
async fn nobody_listening_is_recorded_for_each_job() {
    let fake = TestServer {
        addr: TestServer::nobody(),
        connections: Arc::default(),
        bodies: Arc::default(),
    };
    for arrival in [Arrival::Closed, Arrival::Constant { rate_per_s: 1_000.0 }] {
        let (answers, report) = run_all(batch(&fake, 7, 3, arrival)).await;
        assert_eq!(answers.len(), 7);
        assert!(answers.iter().all(|c| c.record.outcome == Outcome::Connect));
        assert_eq!(report.most_in_flight, 0);
    }
}

#[tokio::test]
async fn cancel_ends_what_is_in_flight_at_once_and_sends_nothing_more() {
    let waiting = Arc::new(Barrier::new(4));
    let server = {
        let waiting = Arc::clone(&waiting);
        TestServer::start(move |mut served: Served| {
            served.send(SSE_HEAD);
            served.event(ROLE);
            served.event(&token(0));
            waiting.wait();
            served.wait_for_close();
        })
    };
    let engine = engine();
    let (out, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let mut handle = engine.run(batch(&server, 30, 3, Arrival::Closed), out).unwrap();
    tokio::task::spawn_blocking(move || waiting.wait()).await.unwrap();
    handle.cancel();
    let report = handle.wait().await.unwrap();
    assert!(report.cancelled);
    let answers = drain(&mut answers);
    assert_eq!(answers.len(), 3);
    assert!(
        answers.iter().all(|c| c.record.outcome == Outcome::Cancelled),
        "{answers:?}"
    );
    assert_eq!(server.bodies.lock().unwrap().len(), 3);
    // The engine is as good as before.
    let server = in_waves(2);
    let (out, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let report = engine
        .run(batch(&server, 4, 2, Arrival::Closed), out)
        .unwrap()
        .wait()
        .await
        .unwrap();
    assert!(!report.cancelled);
    assert_eq!(drain(&mut answers).len(), 4);
}

#[tokio::test]
async fn dropping_the_handle_the_receiver_or_the_engine_stops_the_batch() {
    let server = TestServer::start(|mut served| {
        served.send(SSE_HEAD);
        served.wait_for_close();
    });
    let engine = engine();
    let (out, mut answers) = tokio::sync::mpsc::unbounded_channel();
    drop(engine.run(batch(&server, 3, 3, Arrival::Closed), out).unwrap());
    // The channel's end shows that nothing of the batch is left.
    while let Some(completed) = answers.recv().await {
        assert_eq!(completed.record.outcome, Outcome::Cancelled);
    }

    let quick = in_waves(1);
    let (out, answers) = tokio::sync::mpsc::unbounded_channel();
    drop(answers);
    let mut handle = engine
        .run(batch(&quick, 100_000, 1, Arrival::Closed), out)
        .unwrap();
    assert!(handle.wait().await.unwrap().cancelled);

    let (out, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let _handle = engine.run(batch(&server, 3, 3, Arrival::Closed), out).unwrap();
    tokio::task::spawn_blocking(move || drop(engine)).await.unwrap();
    while let Some(completed) = answers.recv().await {
        assert_eq!(completed.record.outcome, Outcome::Cancelled);
    }
}

#[tokio::test]
async fn the_open_loop_sends_whatever_is_in_flight_and_counts_from_the_plan() {
    // No request is answered before all have been sent: a closed loop would never end.
    let barrier = Barrier::new(12);
    let read_us = Arc::new(Mutex::new(vec![0; 12]));
    let server = {
        let read_us = Arc::clone(&read_us);
        TestServer::start(move |mut served: Served| {
            let index: usize = served.body.trim_start_matches("request ").parse().unwrap();
            read_us.lock().unwrap()[index] = monotonic_us();
            barrier.wait();
            served.answer(3);
        })
    };
    let arrival = Arrival::Poisson { rate_per_s: 400.0 };
    let before_us = monotonic_us();
    let (answers, report) = run_all(batch(&server, 12, 1, arrival)).await;
    assert_eq!(answers.len(), 12);
    assert!(
        answers.iter().all(|completed| completed.record.is_ok()),
        "{answers:?}"
    );
    assert!(
        answers
            .iter()
            .all(|completed| completed.record.queued_us.is_some())
    );
    assert_eq!((report.most_in_flight, report.capped), (12, 0));
    let slots: BTreeSet<u32> = answers.iter().map(|completed| completed.record.stream).collect();
    assert_eq!(slots, (0..12).collect());
    // Never sent before its time.
    let sends = planned_sends(arrival, 12, 11).unwrap().unwrap();
    for (planned, read_us) in sends.iter().zip(read_us.lock().unwrap().iter()) {
        assert!(*read_us >= before_us + planned.as_micros() as u64);
    }
}

#[tokio::test]
async fn beyond_the_cap_the_open_loop_waits_and_says_so() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let server = TestServer::start(move |mut served: Served| {
        // Until all that can't be sent yet is due; afterwards the channel is closed and nobody waits.
        let _ = gone.lock().unwrap().recv();
        served.answer(1);
    });
    let engine = LoadEngine::start(LoadOptions {
        open_loop_cap: 2,
        ..LoadOptions::default()
    })
    .unwrap();
    let (out, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let mut handle = engine
        .run(
            batch(&server, 7, 1, Arrival::Constant { rate_per_s: 2_000.0 }),
            out,
        )
        .unwrap();
    let progress = handle.progress();
    while progress.capped() < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(progress.sent() <= 2);
    drop(go);
    let report = handle.wait().await.unwrap();
    assert_eq!(report.capped, 5);
    assert!(report.most_in_flight <= 2);
    let mut answers = drain(&mut answers);
    assert_eq!(answers.len(), 7);
    answers.sort_by_key(|completed| completed.record.index);
    assert!(
        answers
            .iter()
            .all(|completed| completed.record.is_ok() && completed.record.stream < 2)
    );
    // The wait is in the record: the last was due before the first was answered.
    assert!(answers[6].record.queued_us.unwrap() > 0);
}

#[tokio::test]
async fn the_open_loop_can_be_cancelled_between_sends() {
    let (asked, mut when_asked) = tokio::sync::mpsc::unbounded_channel();
    let server = TestServer::start(move |mut served| {
        served.send(SSE_HEAD);
        asked.send(()).unwrap();
        served.wait_for_close();
    });
    let engine = engine();
    let (out, mut answers) = tokio::sync::mpsc::unbounded_channel();
    // The second request would be sent after an hour.
    let mut slow = batch(&server, 2, 1, Arrival::Constant { rate_per_s: 1_000.0 });
    slow.arrival = Arrival::Constant {
        rate_per_s: 1.0 / 3_600.0,
    };
    let mut handle = engine.run(slow, out).unwrap();
    handle.cancel();
    assert!(handle.wait().await.unwrap().cancelled);
    assert!(drain(&mut answers).is_empty());

    let (out, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let fast = batch(&server, 3, 1, Arrival::Constant { rate_per_s: 1_000.0 });
    let mut handle = engine.run(fast, out).unwrap();
    for _ in 0..3 {
        when_asked.recv().await.unwrap();
    }
    handle.cancel();
    handle.wait().await.unwrap();
    let answers = drain(&mut answers);
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|c| c.record.outcome == Outcome::Cancelled));
}

#[tokio::test]
async fn arrivals_are_never_before_the_servers_own_stamp() {
    // The server writes the monotonic clock into each token; the client's offsets, put on the same clock by
    // its send, must not lie before them. Instant is CLOCK_MONOTONIC on Linux.
    let server = TestServer::start(|mut served| {
        served.send(SSE_HEAD);
        served.event(ROLE);
        for _ in 0..20 {
            let now_us = monotonic_us();
            served.event(&format!(
                r#"{{"choices":[{{"delta":{{"content":"{now_us} "}}}}]}}"#
            ));
            std::thread::yield_now();
        }
        served.event(FINISH);
        served.event(&usage(20));
        served.event("[DONE]");
        served.end();
    });
    let before_us = monotonic_us();
    let (answers, _) = run_all(batch(&server, 16, 8, Arrival::Closed)).await;
    let after_us = monotonic_us();
    assert_eq!(answers.len(), 16);
    for answer in &answers {
        assert!(answer.record.is_ok(), "{answer:?}");
        let stamps_us: Vec<u64> = answer
            .record
            .text
            .split_whitespace()
            .map(|s| s.parse().unwrap())
            .collect();
        assert_eq!((stamps_us.len(), answer.record.chunks_us.len()), (20, 20));
        assert!(answer.record.chunks_us.is_sorted());
        assert!(answer.record.first_chunk_us <= answer.record.first_token_us);
        let sent_us = answer.sent_monotonic_ns.unwrap() / 1_000;
        assert!(sent_us >= before_us && sent_us <= stamps_us[0]);
        for (offset_us, stamp_us) in answer.record.chunks_us.iter().zip(&stamps_us) {
            // Three times are cut to whole microseconds here.
            assert!(
                sent_us + offset_us + 2 >= *stamp_us,
                "{sent_us} + {offset_us} < {stamp_us}"
            );
            assert!(sent_us + offset_us <= after_us);
        }
        let emitted_us = stamps_us[19] - stamps_us[0];
        assert!(answer.record.last_token_us.unwrap() + 1 >= emitted_us);
        assert!(answer.record.end_us >= answer.record.last_token_us.unwrap());
    }
}

fn monotonic_us() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000 + now.tv_nsec() as u64 / 1_000
}

#[tokio::test]
async fn what_can_not_be_run_is_refused_before_anything_is_sent() {
    let server = in_waves(1);
    let engine = engine();
    let refused = |batch: Batch| {
        let (out, _answers) = tokio::sync::mpsc::unbounded_channel();
        engine.run(batch, out).map(|_| ()).unwrap_err()
    };
    assert!(matches!(
        refused(batch(&server, 1, 0, Arrival::Closed)),
        LoadError::NoStreams
    ));
    let endless = batch(&server, 1, 1, Arrival::Poisson { rate_per_s: 0.0 });
    assert!(matches!(refused(endless), LoadError::Schedule(_)));
    let mut spaced = batch(&server, 1, 1, Arrival::Closed);
    spaced.target.path = "/a b".to_owned();
    assert!(matches!(refused(spaced), LoadError::Target(_)));
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}
