//! The life of one server, on real processes that answer what a test tells them to.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use benchd::{
    Attached, CompletionProbe, Control, EventSink, Failed, Interrupt, Launched, Prepared, ProbeAnswer,
    ProbeError, Ready, ReadyPlan, ReleaseHeld, ReleaseProof, ResetOutcome, ResetProbe, ServerSettings, Stage,
    StepOutcome, StopWhy, reset_cache,
};
use benchd_core::record::{
    CacheReset, DoneWhen, EndMarker, HttpCall, LaneId, Precision, ResetProof, Step, StreamShape,
};
use benchd_frameworks::{Launch, Requirement};
use benchd_host::process::{self, LeaderExit, LogSettings, StopPolicy};
use benchd_journal::Event;
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;

use super::process::until;
use crate::{alone::alone, ports::Port};

/// Events as they came.
#[derive(Default)]
struct Recorder(Mutex<Vec<Event>>);

impl EventSink for Recorder {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap().clone()
    }

    /// Their names in order, but for the inventories, which come when they come.
    fn names(&self) -> Vec<String> {
        let name = |e: &Event| {
            let json = serde_json::to_value(e).unwrap();
            json.as_object().unwrap().keys().next().unwrap().clone()
        };
        self.all()
            .iter()
            .map(name)
            .filter(|n| n != "server_descendants")
            .collect()
    }
}

/// One test's folder, settings and journal.
struct Bench {
    dir: tempfile::TempDir,
    sink: Arc<Recorder>,
    settings: ServerSettings,
    _port: Port,
}

impl Bench {
    /// A server that answers by `behave`.
    fn new(behave: &Value) -> Self {
        Self::by("exec python3 misbehaving_server.py $HOST $PORT", behave)
    }

    /// A server started by a shell script.
    fn by(script: &str, behave: &Value) -> Self {
        process::become_subreaper().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let reserved = Port::free();
        let port = reserved.number();
        let env = [
            ("BEHAVE", behave.to_string()),
            ("HOST", "127.0.0.1".into()),
            ("PORT", port.to_string()),
        ];
        let settings = ServerSettings {
            lane: lane(),
            launch: Launch {
                program: "/bin/sh".into(),
                args: vec!["-c".into(), script.into()],
                env: env.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect(),
                cwd: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it")),
                host: "127.0.0.1".into(),
                port,
            },
            shown_argv: vec!["sh".into(), "<redacted>".into()],
            shown_env: vec![("HF_TOKEN".into(), "<redacted>".into())],
            requirements: vec![],
            start_timeout: Duration::from_secs(60),
            stop: StopPolicy::with_grace(Duration::from_secs(60)),
            log: LogSettings {
                path: dir.path().join("logs/server.log"),
                limit_bytes: 1 << 20,
                ring_lines: 20,
                redactor: Default::default(),
            },
            delegated_cgroup: None,
        };
        Self {
            dir,
            sink: Arc::default(),
            settings,
            _port: reserved,
        }
    }

    fn prepare(&self) -> Result<Prepared, Failed> {
        Prepared::new(
            self.settings.clone(),
            Arc::clone(&self.sink) as Arc<dyn EventSink>,
        )
    }

    fn launch(&self) -> Launched {
        self.prepare().unwrap().launch().unwrap()
    }

    fn control(&self) -> Control {
        Control::new("127.0.0.1", self.settings.launch.port)
    }

    async fn wait_ready(&self, plan: &ReadyPlan, interrupt: &Interrupt) -> Result<Ready, Failed> {
        let completion = Completion(self.control());
        self.launch().wait_ready(plan, &completion, interrupt).await
    }

    async fn ready(&self) -> Ready {
        self.wait_ready(&plan(), &Interrupt::default()).await.unwrap()
    }

    /// What a server that does not become ready fails with; nothing of it is left then.
    async fn failure(&self, plan: &ReadyPlan) -> Failed {
        let failed = self.wait_ready(plan, &Interrupt::default()).await.unwrap_err();
        self.assert_gone(&failed);
        failed
    }

    /// As [`Bench::failure`], of a server that is given up when its time is over: by a longer one where so far it has
    /// not come to what it is to be `seen` with.
    async fn given_up(&mut self, plan: &ReadyPlan, seen: &str) -> Failed {
        let mut limit = Duration::from_secs(1);
        loop {
            self.settings.start_timeout = limit;
            let failed = self.failure(plan).await;
            if failed.reason.contains(seen) || limit > Duration::from_secs(60) {
                let limit = format!("not ready after {} s; at last: ", limit.as_secs());
                assert!(failed.reason.contains(&limit), "{failed}");
                return failed;
            }
            limit *= 2;
        }
    }

    #[track_caller]
    fn assert_gone(&self, failed: &Failed) {
        let reaped = failed.reaped.as_ref().unwrap();
        assert_eq!(reaped.stuck, []);
        let table = process::ProcessTable::read();
        assert!(reaped.processes.iter().all(|p| table.find(p).is_none()));
        process::port_is_free("127.0.0.1", self.settings.launch.port).unwrap();
    }
}

fn lane() -> LaneId {
    LaneId {
        framework: "vllm".into(),
        model: "m".into(),
        round: 1,
    }
}

fn plan() -> ReadyPlan {
    ReadyPlan {
        health: HttpCall::get("/health"),
        health_done: DoneWhen::ok(),
        interval: Duration::from_millis(20),
        probe_timeout: Duration::from_secs(10),
        steps: vec![],
        completion_timeout: Duration::from_secs(10),
        completion_tries: 3,
        expected_models: vec!["m".into()],
    }
}

const COMPLETE: &str = "POST /v1/chat/completions";

/// A server that is ready at once.
fn good() -> Value {
    json!({ "GET /health": [[200, "ok"]], COMPLETE: [[200, "{\"model\":\"m\"}"]] })
}

/// The readiness completion, as far as these tests need it.
struct Completion(Control);

impl CompletionProbe for Completion {
    fn complete(&self, timeout: Duration) -> BoxFuture<'_, Result<ProbeAnswer, ProbeError>> {
        async move {
            let call = HttpCall::post_json("/v1/chat/completions", json!({ "model": "m" }));
            let reply = self.0.call(&call, timeout).await.map_err(|e| ProbeError {
                text: e.to_string(),
                retryable: true,
            })?;
            if reply.status != 200 {
                return Err(ProbeError {
                    text: format!("HTTP {}{}", reply.status, reply.excerpt()),
                    retryable: reply.status == 503,
                });
            }
            let body = reply.json().unwrap();
            Ok(ProbeAnswer {
                model: body["model"].as_str().map(str::to_owned),
                shape: StreamShape {
                    usage: true,
                    end: EndMarker::Done,
                },
                prompt_tokens: Some(8),
                output_tokens: Some(1),
                cached_tokens: body["cached"].as_u64(),
            })
        }
        .boxed()
    }
}

impl ResetProbe for Completion {
    fn send(&self) -> BoxFuture<'_, Result<ProbeAnswer, String>> {
        self.complete(Duration::from_secs(10))
            .map(|r| r.map_err(|e| e.text))
            .boxed()
    }
}

fn proof() -> ReleaseProof {
    ReleaseProof {
        used_bytes: vec![10],
        baseline_bytes: vec![9],
        strangers: Vec::new(),
    }
}

#[tokio::test]
async fn a_whole_life_with_all_its_events_and_times() {
    alone!();
    let mut behave = good();
    behave["GET /health"] = json!([[503, "loading"], [500, "still"], [200, "ok"]]);
    behave[COMPLETE] = json!([[503, "loading model"], [200, "{\"model\":\"m\"}"]]);
    behave["GET /api/ps"] = json!([
        [200, "{\"models\":[]}"],
        [200, "{\"models\":[{\"size\":2,\"size_vram\":1}]}"],
        [200, "{\"models\":[{\"size\":2,\"size_vram\":2}]}"]
    ]);
    let bench = Bench::new(&behave);
    let prepared = bench.prepare().unwrap();
    let token = prepared.token().to_owned();
    let launched = prepared.launch().unwrap();
    let environ = std::fs::read_to_string(format!("/proc/{}/environ", launched.leader().pid)).unwrap();
    assert!(environ.contains(&format!("BENCHD_TOKEN={token}")));

    let mut plan = plan();
    let mut loaded = Step::new(
        "load the model",
        HttpCall::get("/api/ps"),
        Duration::from_secs(60),
    );
    loaded.done = DoneWhen::JsonPathsEqual {
        a: "/models/0/size_vram".into(),
        b: "/models/0/size".into(),
    };
    loaded.interval = Duration::from_millis(5);
    plan.steps = vec![loaded];
    let ready = launched
        .wait_ready(&plan, &Completion(bench.control()), &Interrupt::default())
        .await
        .unwrap();
    assert_eq!(ready.answer().model.as_deref(), Some("m"));
    assert!(Duration::ZERO < ready.healthy_after() && ready.healthy_after() <= ready.ready_after());
    assert!(
        ready
            .watch()
            .processes()
            .contains(&process::identity(ready.leader().pid).unwrap())
    );
    assert_eq!(ready.watch().exit(), None);
    let facts = [("version".into(), "1".into())].into();
    ready.announce(facts, Precision::default(), Some(7), None, None, None);

    let reaped = ready.stop(StopWhy::Finished, &CancellationToken::new()).await;
    assert!(!reaped.killed);
    assert!(reaped.launched.at < reaped.stopping.at && reaped.stopping.at <= reaped.reaped.at);
    let leader = reaped.processes[0].pid;
    let released = reaped
        .prove_release(async |pids| {
            assert!(pids.contains(&leader));
            Ok(proof())
        })
        .await
        .unwrap();
    assert_eq!(released.proof, proof());
    assert_eq!(
        bench.sink.names(),
        [
            "server_prepared",
            "server_launched",
            "server_ready",
            "server_stopping",
            "server_reaped",
            "gpu_released"
        ]
    );
    let events = bench.sink.all();
    let Event::ServerPrepared(prepared) = &events[0] else {
        panic!()
    };
    // What may be shown, not what was run.
    assert_eq!(
        (&prepared.token, prepared.argv[1].as_str()),
        (&token, "<redacted>")
    );
    let log = std::fs::read_to_string(bench.dir.path().join("logs/server.log")).unwrap();
    assert!(log.contains("GET /api/ps #3"), "{log}");
    process::port_is_free("127.0.0.1", bench.settings.launch.port).unwrap();
}

#[tokio::test]
async fn a_server_that_dies_while_starting_tells_its_status_and_last_lines() {
    alone!();
    let bench = Bench::new(&json!({ "GET /health": [[503, "loading"], [0, "CUDA out of memory"]] }));
    let failed = bench.failure(&plan()).await;
    assert_eq!(
        (failed.stage, failed.exit),
        (Stage::Ready, Some(LeaderExit::Code(3)))
    );
    assert!(
        failed.reason.contains("ended before it was ready: exit 3"),
        "{failed}"
    );
    assert!(
        failed.log_tail.contains(&"CUDA out of memory".to_owned()),
        "{:?}",
        failed.log_tail
    );
    assert!(!failed.interrupted);
    assert_eq!(
        bench.sink.names(),
        [
            "server_prepared",
            "server_launched",
            "server_stopping",
            "server_reaped"
        ]
    );
}

#[tokio::test]
async fn a_server_that_is_never_healthy_tells_what_it_answered_last() {
    alone!();
    let mut bench = Bench::new(&json!({ "GET /health": [[503, "loading weights 17 %"]] }));
    let seen = "at last: GET /health: status 503: loading weights 17 %";
    let failed = bench.given_up(&plan(), seen).await;
    assert!(failed.reason.ends_with(seen), "{failed}");
    assert!(failed.to_string().contains("start_timeout"));
    assert!(
        failed.log_tail.iter().any(|l| l.starts_with("GET /health #")),
        "{:?}",
        failed.log_tail
    );
}

#[tokio::test]
async fn a_server_that_hangs_or_does_not_listen_is_timed_out() {
    alone!();
    let mut hangs = Bench::new(&json!({ "GET /health": [[-1, ""]] }));
    let mut quick = plan();
    quick.probe_timeout = Duration::from_millis(300);
    let seen = "GET /health: no answer within 0.3 s";
    let failed = hangs.given_up(&quick, seen).await;
    assert!(failed.reason.contains(seen), "{failed}");

    let mut deaf = Bench::by("exec sleep 1000", &json!({}));
    let seen = "no connection (Connection refused";
    let failed = deaf.given_up(&plan(), seen).await;
    assert!(failed.reason.contains(seen), "{failed}");
}

#[tokio::test]
async fn a_health_check_that_lies_does_not_make_a_server_ready() {
    alone!();
    let mut behave = good();
    behave[COMPLETE] = json!([[503, "{\"error\":\"loading model\"}"]]);
    let mut bench = Bench::new(&behave);
    let seen = "a completion failed: HTTP 503: {\"error\":\"loading model\"}";
    let failed = bench.given_up(&plan(), seen).await;
    assert!(failed.reason.contains(seen), "{failed}");
}

#[tokio::test]
async fn an_answer_that_no_waiting_mends_ends_the_start_soon() {
    alone!();
    let mut behave = good();
    behave[COMPLETE] = json!([[404, "{\"error\":\"model 'm' not found\"}"]]);
    let failed = Bench::new(&behave).failure(&plan()).await;
    assert!(
        failed.reason.contains("HTTP 404") && failed.reason.contains("model 'm' not found"),
        "{failed}"
    );

    behave[COMPLETE] = json!([[200, "{\"model\":\"another\"}"]]);
    let failed = Bench::new(&behave).failure(&plan()).await;
    assert_eq!(failed.reason, "the server answers as model `another`, not `m`");

    // Not at the first such answer: the server may be about to learn its model.
    behave[COMPLETE] = json!([[404, "no"], [404, "no"], [200, "{\"model\":\"m\"}"]]);
    let ready = Bench::new(&behave).ready().await;
    ready.stop(StopWhy::Finished, &CancellationToken::new()).await;
}

#[tokio::test]
async fn a_step_that_fails_ends_the_start_with_its_hint() {
    alone!();
    let mut behave = good();
    behave["POST /api/generate"] = json!([[404, "{\"error\":\"model not found, try pulling it\"}"]]);
    let bench = Bench::new(&behave);
    let mut plan = plan();
    let mut step = Step::new(
        "load the model",
        HttpCall::post("/api/generate"),
        Duration::from_secs(60),
    );
    step.fatal = vec![404];
    step.hint = "ollama pull m".into();
    plan.steps = vec![step];
    let failed = bench.failure(&plan).await;
    assert!(
        failed
            .reason
            .starts_with("could not load the model: POST /api/generate: status 404: {\"error\""),
        "{failed}"
    );
    assert_eq!(failed.hint.as_deref(), Some("ollama pull m"));
}

#[tokio::test]
async fn an_interrupt_while_starting_stops_cleanly_and_a_second_one_at_once() {
    alone!();
    let mut bench = Bench::by(
        "trap '' TERM; echo deaf; while :; do sleep 1000; done",
        &json!({}),
    );
    bench.settings.stop = StopPolicy::with_grace(Duration::from_secs(3600));
    let (plan, interrupt) = (plan(), Interrupt::default());
    let (failed, ()) = tokio::join!(bench.wait_ready(&plan, &interrupt), async {
        // Not before it is deaf: TERM would end it.
        let log = &bench.settings.log.path;
        until("its word that it is deaf", || {
            std::fs::read_to_string(log).ok()?.contains("deaf").then_some(())
        })
        .await;
        interrupt.stop.cancel();
        // Long enough for the TERM; the hour of grace is passed over.
        tokio::time::sleep(Duration::from_millis(50)).await;
        interrupt.now.cancel();
    });
    let failed = failed.unwrap_err();
    bench.assert_gone(&failed);
    assert!(failed.interrupted && failed.reaped.unwrap().killed);
    let Some(Event::ServerStopping(stopping)) = bench
        .sink
        .all()
        .into_iter()
        .find(|e| matches!(e, Event::ServerStopping(_)))
    else {
        panic!("no stop was told");
    };
    assert_eq!(stopping.why, "interrupted");
}

#[tokio::test]
async fn what_is_missing_is_told_before_anything_is_started() {
    alone!();
    let mut bench = Bench::new(&good());
    let need = |path: &str, executable| Requirement {
        path: path.into(),
        what: "the venv's Python".into(),
        executable,
        remedy: "benchd env plans/x.yaml".into(),
    };
    let plain = bench.dir.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    bench.settings.requirements = vec![
        need("/nowhere/python", true),
        need(plain.to_str().unwrap(), true),
        need("/bin/sh", true),
    ];
    let failed = bench.prepare().unwrap_err();
    assert_eq!(failed.stage, Stage::Prepare);
    assert_eq!(
        failed.to_string(),
        format!(
            "the venv's Python is missing: `/nowhere/python`; the venv's Python is not an executable file: \
             `{}`\nhint: benchd env plans/x.yaml",
            plain.display()
        )
    );

    bench.settings.requirements.clear();
    let holder = std::net::TcpListener::bind(("127.0.0.1", bench.settings.launch.port)).unwrap();
    let failed = bench.prepare().unwrap_err();
    assert!(
        failed
            .reason
            .contains(&format!("is taken by process {} (`", std::process::id())),
        "{failed}"
    );
    drop(holder);

    bench.settings.launch.program = "/nowhere/server".into();
    let failed = bench.prepare().unwrap().launch().unwrap_err();
    assert_eq!(failed.stage, Stage::Launch);
    assert!(failed.reaped.is_none());
    assert_eq!(bench.sink.names(), ["server_prepared"]);
}

#[tokio::test]
async fn a_stranger_that_answers_on_the_port_is_named() {
    alone!();
    let bench = Bench::by("exec sleep 1000", &json!({}));
    let launched = bench.launch();
    // Between the launch and the server's own bind somebody else takes the port.
    let stranger = TcpListener::bind(("127.0.0.1", bench.settings.launch.port))
        .await
        .unwrap();
    let serve = async {
        loop {
            let (mut stream, _) = stranger.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .await;
        }
    };
    let (plan, interrupt, completion) = (plan(), Interrupt::default(), Completion(bench.control()));
    let failed = tokio::select! {
        failed = launched.wait_ready(&plan, &completion, &interrupt) => failed.unwrap_err(),
        () = serve => unreachable!(),
    };
    assert!(
        failed.reason.contains("is not the launched server: process "),
        "{failed}"
    );
    assert!(
        failed.reason.contains(&std::process::id().to_string()),
        "{failed}"
    );
}

#[tokio::test]
async fn a_listener_in_a_child_of_its_own_session_is_the_servers() {
    alone!();
    let bench = Bench::by("setsid python3 misbehaving_server.py $HOST $PORT & wait", &good());
    let ready = bench.ready().await;
    let child = ready
        .watch()
        .processes()
        .into_iter()
        .find(|p| p.pgid != ready.leader().pgid)
        .unwrap();
    // The inventory tells of it while it runs, not only when it is stopped.
    let told = |e: &Event| matches!(e, Event::ServerDescendants(d) if d.processes.iter().any(|p| p.pid == child.pid));
    until("the inventory", || {
        bench.sink.all().iter().any(told).then_some(())
    })
    .await;
    let reaped = ready.stop(StopWhy::Finished, &CancellationToken::new()).await;
    assert!(reaped.swept.iter().any(|p| p.pid == child.pid));
}

#[tokio::test]
async fn a_ready_server_that_dies_is_noticed() {
    alone!();
    let mut behave = good();
    behave["POST /die"] = json!([[0, "engine dead"]]);
    let bench = Bench::new(&behave);
    let ready = bench.ready().await;
    let watch = ready.watch();
    let control = ready.control();
    let die = HttpCall::post("/die");
    let (exit, reply) = tokio::join!(watch.ended(), control.call(&die, Duration::from_secs(60)));
    assert_eq!(
        (exit, watch.exit()),
        (LeaderExit::Code(3), Some(LeaderExit::Code(3)))
    );
    assert!(reply.is_err());
    assert!(ready.log_tail().contains(&"engine dead".to_owned()));
    let reaped = ready.stop(StopWhy::Failed, &CancellationToken::new()).await;
    assert_eq!((reaped.exit, reaped.killed), (Some(LeaderExit::Code(3)), false));
    assert_eq!(watch.processes(), []);
}

#[tokio::test]
async fn memory_that_stays_is_told_and_stops_the_way() {
    alone!();
    let bench = Bench::new(&good());
    let reaped = bench
        .ready()
        .await
        .stop(StopWhy::Finished, &CancellationToken::new())
        .await;
    let held = ReleaseHeld {
        waited: Duration::from_secs(60),
        used_bytes: vec![5 << 30],
        baseline_bytes: vec![1 << 20],
        holders: vec![],
        busy: false,
        reason: "5 GiB stay".into(),
    };
    let (reaped, told) = reaped
        .prove_release(async |_| Err(held.clone()))
        .await
        .unwrap_err();
    assert_eq!((told.clone(), reaped.stuck.len()), (held, 0));
    assert_eq!(bench.sink.names().last().unwrap(), "gpu_held");
}

#[tokio::test]
async fn a_server_of_someone_elses_is_never_stopped() {
    alone!();
    let bench = Bench::new(&good());
    let theirs = bench.ready().await;
    let url = format!("http://127.0.0.1:{}", bench.settings.launch.port);
    let sink = Recorder::default();
    let interrupt = Interrupt::default();
    let attach = |plan: ReadyPlan, timeout: Duration| {
        let (sink, url, interrupt, completion) = (&sink, &url, &interrupt, Completion(bench.control()));
        async move { Attached::wait_ready(lane(), url, &plan, &completion, timeout, interrupt, sink).await }
    };
    let attached = attach(plan(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(attached.answer.model.as_deref(), Some("m"));
    assert!(matches!(&sink.all()[..], [Event::Note(n)] if n.text.contains("someone else")));
    drop(attached);
    assert_eq!(theirs.watch().exit(), None);

    let mut other = plan();
    other.expected_models = vec!["other".into()];
    let failed = attach(other, Duration::from_secs(60)).await.unwrap_err();
    assert!(
        failed.reason.contains("`m`, not `other`") && failed.reaped.is_none(),
        "{failed}"
    );
    theirs.stop(StopWhy::Finished, &CancellationToken::new()).await;
    let mut limit = Duration::from_millis(200);
    let failed = loop {
        let failed = attach(plan(), limit).await.unwrap_err();
        if failed.reason.contains("no connection") || limit > Duration::from_secs(60) {
            break failed;
        }
        limit *= 2;
    };
    assert!(failed.reason.contains("no connection"), "{failed}");
}

#[tokio::test]
async fn steps_are_skipped_where_not_needed_and_files_are_uploaded() {
    alone!();
    let mut behave = good();
    behave["POST /api/show"] = json!([[404, "no"], [200, "yes"]]);
    behave["POST /api/blobs/x"] = json!([[201, ""]]);
    let bench = Bench::new(&behave);
    let ready = bench.ready().await;
    let control = ready.control();
    let file = bench.dir.path().join("model.gguf");
    std::fs::write(&file, vec![7u8; 300_000]).unwrap();
    let mut step = Step::new(
        "create the model",
        HttpCall::post_file("/api/blobs/x", file),
        Duration::from_secs(60),
    );
    step.unless = Some((
        HttpCall::post_json("/api/show", json!({ "model": "m" })),
        DoneWhen::ok(),
    ));
    step.done = DoneWhen::Status(vec![200, 201]);
    assert!(matches!(control.run(&step).await, Ok(StepOutcome::Done(r)) if r.status == 201));
    assert_eq!(control.run(&step).await.unwrap(), StepOutcome::NotNeeded);

    step.unless = None;
    step.call = HttpCall::post_file("/api/blobs/x", bench.dir.path().join("missing.gguf"));
    let error = control.run(&step).await.unwrap_err();
    assert!(error.seen.contains("missing.gguf"), "{error}");
    let reaped = ready.stop(StopWhy::Finished, &CancellationToken::new()).await;
    // All of the file, once.
    let uploaded = format!("POST /api/blobs/x #1 300000 {}", 300_000 * 7);
    assert!(reaped.log_tail.contains(&uploaded), "{:?}", reaped.log_tail);
}

#[tokio::test]
async fn a_cache_reset_is_believed_only_when_it_is_seen_to_work() {
    alone!();
    let hits = |values: [u32; 6]| {
        Value::from_iter(values.map(|v| json!([200, format!("hits_total{{engine=\"0\"}} {v}\n")])))
    };
    let cached = |values: [u32; 3]| {
        // The first completion is the readiness one.
        let all = [0].into_iter().chain(values);
        Value::from_iter(all.map(|v| json!([200, format!("{{\"model\":\"m\",\"cached\":{v}}}")])))
    };
    let by_counter = ResetProof::HitCounter {
        metrics_path: "/metrics".into(),
        counter: "hits_total".into(),
    };
    let mut short = Step::new("reset", HttpCall::post("/reset"), Duration::from_secs(30));
    short.interval = Duration::from_millis(1);
    let ok = json!([[400, "requests pending"], [200, ""]]);
    let cases = [
        // Before and after each of three probes.
        (
            "works",
            by_counter.clone(),
            json!({"GET /metrics": hits([0, 0, 0, 32, 32, 32]), "POST /reset": ok}),
            "proven",
        ),
        (
            "lies",
            by_counter.clone(),
            json!({"GET /metrics": hits([0, 0, 0, 32, 32, 64]), "POST /reset": ok}),
            "failed: 32 tokens of a prompt came from the cache after its reset",
        ),
        (
            "has no cache",
            by_counter.clone(),
            json!({"GET /metrics": hits([0; 6]), "POST /reset": ok}),
            "unproven",
        ),
        (
            "has no metrics",
            by_counter,
            json!({"POST /reset": ok}),
            "unproven",
        ),
        (
            "works",
            ResetProof::CachedTokens,
            json!({COMPLETE: cached([0, 30, 0]), "POST /reset": ok}),
            "proven",
        ),
        (
            "lies",
            ResetProof::CachedTokens,
            json!({COMPLETE: cached([0, 30, 30]), "POST /reset": ok}),
            "failed: 30 tokens of a prompt came from the cache after its reset",
        ),
    ];
    for (what, proof, more, expected) in cases {
        let mut behave = good();
        behave
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let ready = Bench::new(&behave).ready().await;
        let control = ready.control();
        let reset = CacheReset::Http {
            steps: vec![short.clone()],
            proof,
        };
        let outcome = reset_cache(&control, &reset, &Completion(control.clone())).await;
        assert_eq!(outcome.to_string(), expected, "{what}: {outcome:?}");
        ready.stop(StopWhy::Finished, &CancellationToken::new()).await;
    }

    let mut missing = short;
    missing.fatal = vec![404];
    let ready = Bench::new(&good()).ready().await;
    let control = ready.control();
    let reset = CacheReset::Http {
        steps: vec![missing.clone()],
        proof: ResetProof::CachedTokens,
    };
    let outcome = reset_cache(&control, &reset, &Completion(control.clone())).await;
    assert!(
        matches!(&outcome, ResetOutcome::Failed { why } if why.contains("status 404")),
        "{outcome:?}"
    );
    let reset = CacheReset::Reload {
        unload: vec![missing],
        load: vec![],
    };
    let outcome = reset_cache(&control, &reset, &Completion(control.clone())).await;
    assert!(matches!(outcome, ResetOutcome::Failed { .. }));
    ready.stop(StopWhy::Finished, &CancellationToken::new()).await;
}
