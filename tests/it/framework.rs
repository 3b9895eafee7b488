//! What the adapters say, tried on recorded answers of real servers, and on real servers. The latter need what
//! `benchd env plans/cpu.yaml` makes: `cargo test --test it -- --ignored --test-threads 1 real_`.

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use benchd_core::record::{
    CacheReset, EndMarker, Format, HttpCall, Message, Method, Outcome, RequestRecord, Step, StreamShape,
};
use benchd_frameworks::{Adapter, ChatRequest, Context, adapter};
use benchd_load::client::{Answer, OneOff, Target, request_once};
use benchd_plan::{Framework, FrameworkKind, Model, Provision, Source};
use serde_json::Value;

/// What the streams of all of them look like.
const SHAPE: StreamShape = StreamShape {
    usage: true,
    end: EndMarker::Done,
};

struct Server {
    child: tokio::process::Child,
    base: String,
    client: reqwest::Client,
}

impl Server {
    fn start(adapter: &dyn Adapter) -> Self {
        let launch = adapter.launch().expect("a server that benchd starts");
        let client = benchd::untimed_client()
            .tls_certs_only(std::iter::empty())
            .no_proxy()
            // A kept connection may be closed by the server just as it is used again.
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client");
        // Last: a test that fails before it has started nothing, and one that fails after it stops it.
        let child = tokio::process::Command::new(&launch.program)
            .args(&launch.args)
            .envs(launch.env.iter().cloned())
            .process_group(0)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the server's binary");
        Self {
            child,
            base: format!("http://{}:{}", launch.host, launch.port),
            client,
        }
    }

    async fn call(&self, call: &HttpCall) -> Option<(u16, String)> {
        let url = format!("{}{}", self.base, call.path);
        let mut request = match call.method {
            Method::Get => self.client.get(url),
            Method::Head => self.client.head(url),
            Method::Post => self.client.post(url),
            Method::Delete => self.client.delete(url),
        };
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        if let Some(file) = &call.upload {
            request = request.body(std::fs::read(file).expect("the model's file"));
        }
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    async fn healthy(&self, adapter: &dyn Adapter) {
        let probe = adapter.health();
        while !matches!(self.call(&probe.call).await, Some((200, _))) {
            tokio::time::sleep(probe.interval).await;
        }
    }

    /// Does the steps; gives the names of those that were needed.
    async fn perform(&self, steps: &[Step]) -> Vec<String> {
        let mut done = Vec::new();
        for step in steps {
            if let Some((question, shown)) = &step.unless
                && let Some((status, body)) = self.call(question).await
                && shown.check(status, &body).is_ok()
            {
                continue;
            }
            let started = Instant::now();
            loop {
                let (status, body) = self.call(&step.call).await.expect("an answer");
                match step.done.check(status, &body) {
                    Ok(()) => break,
                    Err(seen) => {
                        assert!(!step.fatal.contains(&status), "{}: {seen}: {body}", step.what);
                        assert!(started.elapsed() < step.timeout, "{}: {seen}", step.what);
                        tokio::time::sleep(step.interval).await;
                    }
                }
            }
            done.push(step.what.clone());
        }
        done
    }

    async fn chat(&self, adapter: &dyn Adapter, request: &ChatRequest<'_>) -> Vec<Value> {
        let call = HttpCall::post_json(adapter.chat_path(), adapter.request_body(request));
        let (status, body) = self.call(&call).await.expect("an answer");
        assert_eq!(status, 200, "{body}");
        let mut data: Vec<&str> = body.lines().filter_map(|l| l.strip_prefix("data: ")).collect();
        assert_eq!(data.pop(), Some("[DONE]"));
        data.into_iter()
            .map(|d| serde_json::from_str(d).expect("an event of JSON"))
            .collect()
    }

    /// TERM to the group, as benchd does; gives the leader's status.
    async fn stop(mut self) -> std::process::ExitStatus {
        let group = nix::unistd::Pid::from_raw(
            self.child
                .id()
                .expect("a process that runs")
                .try_into()
                .expect("a process id"),
        );
        nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGTERM).expect("a process that runs");
        self.child.wait().await.expect("a child of ours")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = self.child.id() {
            let group = nix::unistd::Pid::from_raw(pid.try_into().expect("a process id"));
            let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// The quickstart's own model, imported into a folder of the test's.
fn quickstart(models: &Path) -> Box<dyn Adapter> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("envs/quickstart");
    let free = crate::free_port();
    let framework = Framework {
        name: "ollama".to_owned(),
        kind: FrameworkKind::Ollama,
        version: Some("0.9.3".to_owned()),
        source: Source::Binary(here.join("ollama/ollama-cpu")),
        host: "127.0.0.1".to_owned(),
        port: free,
        args: Vec::new(),
        env: BTreeMap::from([
            ("OLLAMA_MODELS".to_owned(), models.display().to_string()),
            ("OLLAMA_NUM_PARALLEL".to_owned(), "1".to_owned()),
        ]),
        scenarios: None,
        start_timeout: Duration::from_secs(300),
        stop_grace: Duration::from_secs(10),
        release_timeout: Duration::from_secs(10),
        release_tolerance_bytes: 0,
        retries: 0,
        provision: Provision::None,
    };
    let model = Model {
        name: "smollm2-135m".to_owned(),
        hf: None,
        ollama: Some("smollm2:135m".to_owned()),
        openai: None,
        tokenizer: None,
        gguf: Some(here.join("SmolLM2-135M-Instruct.Q4_1.gguf")),
        reasoning_effort: None,
        precision: Some("q4_1".to_owned()),
        args: BTreeMap::from([("ollama".to_owned(), vec!["num_thread=1".to_owned()])]),
        not_on: BTreeMap::new(),
    };
    let context = Context {
        longest_prompt_tokens: 512,
        gpus: Vec::new(),
        max_concurrency: 1,
        work_dir: models.to_owned(),
    };
    adapter(&framework, &model, &context).expect("a framework that fits")
}

#[tokio::test]
#[ignore = "needs envs/quickstart"]
async fn real_ollama_imports_loads_answers_reloads_and_ends() {
    let models = tempfile::tempdir().unwrap();
    let adapter = quickstart(models.path());
    for needed in adapter.requirements() {
        assert!(
            needed.path.is_file(),
            "{}: {}",
            needed.path.display(),
            needed.remedy
        );
    }
    let server = Server::start(adapter.as_ref());
    server.healthy(adapter.as_ref()).await;
    let steps = adapter.prepare_calls().unwrap();
    assert_eq!(
        server.perform(&steps).await.len(),
        4,
        "an empty store: imported, created, loaded, seen"
    );
    assert_eq!(server.perform(&steps).await.len(), 2, "the model is there now");

    let mut answers = Vec::new();
    for call in adapter.facts_calls() {
        answers.push(
            server
                .call(&call)
                .await
                .filter(|(status, _)| *status == 200)
                .map(|(_, body)| body),
        );
    }
    let facts = adapter.parse_facts(&answers);
    assert_eq!(facts.values["version"], "0.9.3");
    assert_eq!(facts.values["num_thread"], "1");
    assert_eq!(facts.precision.weights.value(), Some(&Format::new("Q4_1")));
    assert_eq!(facts.flags, []);

    let messages = [Message::user("Write a very long story about a river.")];
    let request = ChatRequest {
        messages: &messages,
        max_tokens: 6,
        exact_output: true,
        temperature: 0.0,
        top_p: 1.0,
        seed: None,
        reasoning_effort: None,
    };
    let chunks = server.chat(adapter.as_ref(), &request).await;
    assert!(chunks.iter().all(|c| c["model"] == adapter.served_model()));
    assert!(
        chunks
            .iter()
            .any(|c| c["choices"][0]["finish_reason"] == "length")
    );
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 6);

    let CacheReset::Reload { unload, load } = adapter.cache_reset() else {
        panic!("Ollama reloads");
    };
    assert_eq!(server.perform(&unload).await.len(), 2);
    assert_eq!(server.perform(&load).await.len(), 2);
    let again = server.chat(adapter.as_ref(), &request).await;
    let text = |chunks: &[Value]| -> String {
        chunks
            .iter()
            .filter_map(|c| c["choices"][0]["delta"]["content"].as_str())
            .collect()
    };
    assert_eq!(text(&chunks), text(&again), "greedy answers repeat");

    let status = server.stop().await;
    assert!(ended_by_term("ollama", status), "{status}");
}

/// Exit 0, or an end by TERM itself, told as a signal or as a shell's 143. SGLang drains, then kills itself.
fn ended_by_term(name: &str, status: ExitStatus) -> bool {
    let ends: &[(i32, i32)] = match name {
        "sglang" => &[(143, libc::SIGTERM), (137, libc::SIGKILL)],
        _ => &[(143, libc::SIGTERM)],
    };
    let by = |&(code, signal)| status.code() == Some(code) || status.signal() == Some(signal);
    status.success() || ends.iter().any(by)
}

/// What `tests/fixtures/record.py` kept of a server under this name: its HTTP status and its bytes.
fn recorded(server: &str, name: &str) -> (u16, Vec<u8>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(server);
    let file = std::fs::read_dir(&folder)
        .expect("the recordings")
        .map(|entry| entry.expect("a file").path())
        .find(|path| {
            let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            file.split_once('.').is_some_and(|(stem, _)| stem == name)
        })
        .unwrap_or_else(|| panic!("{server} has no recording {name}"));
    let status = file
        .file_name()
        .and_then(|n| n.to_str())
        .and_then(|n| n.split('.').nth(1))
        .and_then(|status| status.parse().ok())
        .expect("a status in the file's name");
    (status, std::fs::read(file).expect("a recording"))
}

/// Answers one request with recorded bytes, as a chunked stream, and gives what the client makes of them.
async fn replayed(server: &str, name: &str, adapter: &dyn Adapter) -> RequestRecord {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (status, body) = recorded(server, name);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let addr = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut seen = [0; 4096];
        let _ = stream.read(&mut seen).await.expect("a request");
        let kind = if status == 200 {
            "text/event-stream"
        } else {
            "application/json"
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("a client");
        for piece in body.chunks(97) {
            let chunk = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
            stream.write_all(&chunk).await.expect("a client");
        }
        stream.write_all(b"0\r\n\r\n").await.expect("a client");
    });
    let how = OneOff {
        timeout: Duration::from_secs(30),
        shape: SHAPE,
        reasoning_fields: adapter.reasoning_fields(),
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    let target = Target::new(addr, adapter.chat_path());
    let answer = request_once(&target, "{}".into(), how).await.expect("a target");
    serving.await.expect("the server's task");
    answer.record
}

/// A framework of plans/cpu.yaml serving its model, on a free port.
fn planned(name: &str, work_dir: &Path) -> Box<dyn Adapter> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let plan = benchd_plan::load(&root.join("plans/cpu.yaml"), &|_| None)
        .expect("a shipped plan")
        .plan;
    let mut framework = plan.frameworks[name].clone();
    framework.port = crate::free_port();
    if framework.kind == FrameworkKind::Ollama {
        let models = work_dir.join("models").display().to_string();
        framework.env.insert("OLLAMA_MODELS".to_owned(), models);
    }
    let context = Context {
        longest_prompt_tokens: 2048,
        gpus: Vec::new(),
        max_concurrency: 4,
        work_dir: work_dir.to_owned(),
    };
    adapter(&framework, &plan.models["smollm2-135m"], &context).expect("a framework that fits")
}

/// The servers with recordings of plans/cpu.yaml's versions.
const RECORDED: [(&str, &str); 3] = [
    ("llamacpp", "llamacpp-b11434"),
    ("vllm", "vllm-0.32.0"),
    ("sglang", "sglang-0.5.23"),
];

#[tokio::test]
async fn recorded_streams_have_their_tokens_usage_and_end() {
    for (name, server) in RECORDED {
        let dir = tempfile::tempdir().unwrap();
        let adapter = planned(name, dir.path());
        let answer = replayed(server, "chat-length", adapter.as_ref()).await;
        assert_eq!(answer.outcome, Outcome::Ok, "{server}: {:?}", answer.error);
        assert_eq!(answer.finish_reason.as_deref(), Some("length"), "{server}");
        assert_eq!(answer.output_tokens, Some(12), "{server}");
        assert!(
            answer.chunks_us.len() <= 12,
            "{server}: the role's chunk is no token"
        );
        assert!(!answer.text.is_empty() && answer.reasoning.is_empty(), "{server}");

        let korean = replayed(server, "chat-korean", adapter.as_ref()).await;
        assert_eq!(korean.outcome, Outcome::Ok, "{server}: {:?}", korean.error);
        assert!(korean.prompt_tokens > Some(20), "{server}");

        let free = replayed(server, "chat-stop", adapter.as_ref()).await;
        let exact = replayed(server, "chat-ignore-eos", adapter.as_ref()).await;
        assert_eq!(free.outcome, Outcome::Ok, "{server}: {:?}", free.error);
        assert_eq!(free.finish_reason.as_deref(), Some("stop"), "{server}");
        assert!(free.output_tokens < Some(64), "{server}");
        assert_eq!(exact.output_tokens, Some(64), "{server} honours ignore_eos");
        assert_eq!(exact.finish_reason.as_deref(), Some("length"), "{server}");
    }
}

#[tokio::test]
async fn recorded_errors_are_failures_with_the_servers_words() {
    for (name, server) in RECORDED {
        let dir = tempfile::tempdir().unwrap();
        let adapter = planned(name, dir.path());
        for asked in ["bad-body", "too-long"] {
            let answer = replayed(server, asked, adapter.as_ref()).await;
            assert_eq!(answer.outcome, Outcome::HttpStatus, "{server} {asked}");
            assert!(
                answer.error.is_some_and(|text| !text.is_empty()),
                "{server} {asked}"
            );
        }
    }
}

#[tokio::test]
async fn recorded_resets_empty_the_cache() {
    for (name, server) in RECORDED {
        let dir = tempfile::tempdir().unwrap();
        let adapter = planned(name, dir.path());
        let cached = replayed(server, "chat-cached", adapter.as_ref()).await;
        assert!(
            cached.cached_tokens > Some(100),
            "{server}: {:?}",
            cached.cached_tokens
        );
        if let CacheReset::Http { steps, .. } = adapter.cache_reset() {
            let (status, body) = recorded(server, "reset");
            let body = String::from_utf8(body).unwrap();
            let step = steps.last().expect("a call");
            assert_eq!(step.done.check(status, &body), Ok(()), "{server}");
            let after = replayed(server, "chat-after-reset", adapter.as_ref()).await;
            assert_eq!(after.cached_tokens.unwrap_or(0), 0, "{server}");
        }
    }
}

#[test]
fn recorded_metrics_hold_the_figures_that_are_compared() {
    for (name, server) in RECORDED {
        let dir = tempfile::tempdir().unwrap();
        let adapter = planned(name, dir.path());
        let (_, text) = recorded(server, "metrics");
        let counters = adapter.parse_counters(&String::from_utf8(text).unwrap());
        let own = benchd_frameworks::server_figures(&counters);
        assert!(own.prompt_tokens > Some(500.0), "{server}: {counters:?}");
        assert!(own.output_tokens > Some(100.0), "{server}: {counters:?}");
        // llama-server and SGLang serve whatever is asked for.
        if matches!(name, "vllm" | "ollama") {
            assert!(own.requests >= Some(6.0), "{server}: {counters:?}");
            assert!(
                own.ttft_mean_ms > Some(1.0) && own.latency_mean_ms > own.ttft_mean_ms,
                "{server}"
            );
            assert!(own.tpot_mean_ms > Some(1.0), "{server}: {counters:?}");
        }
    }
}

/// Processes of a group that are not zombies, by /proc.
fn alive_in_group(group: i32) -> Vec<i32> {
    let mut alive = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // pid (name) state ppid pgrp …; the name may hold anything, a bracket too.
        let after: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        if after.first() != Some(&"Z") && after.get(2).and_then(|g| g.parse().ok()) == Some(group) {
            alive.push(pid);
        }
    }
    alive
}

async fn until_gone(group: i32, what: &str) {
    let started = Instant::now();
    while !alive_in_group(group).is_empty() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{what}: {:?} live on",
            alive_in_group(group)
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Started, healthy within its time, and prepared; says what the ready check answered on the way.
async fn started(name: &str, adapter: &dyn Adapter) -> (Server, i32) {
    for needed in adapter.requirements() {
        assert!(
            needed.path.exists(),
            "{}: benchd env plans/cpu.yaml",
            needed.path.display()
        );
    }
    let launched = Instant::now();
    let server = Server::start(adapter);
    let group = server
        .child
        .id()
        .and_then(|pid| i32::try_from(pid).ok())
        .expect("a process");
    let probe = adapter.health();
    let mut seen: Vec<String> = Vec::new();
    while seen.last().is_none_or(|last| last != "200") {
        assert!(launched.elapsed() < Duration::from_secs(900), "{name}: {seen:?}");
        let answer = match server.call(&probe.call).await {
            Some((status, _)) => status.to_string(),
            None => "no answer".to_owned(),
        };
        if seen.last() != Some(&answer) {
            seen.push(answer);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let healthy = launched.elapsed();
    let steps = adapter.prepare_calls().expect("the calls can be made");
    let done = server.perform(&steps).await;
    println!(
        "{name}: {} {} after {:.1} s; preload {done:?} until {:.1} s",
        probe.call,
        seen.join(", then "),
        healthy.as_secs_f64(),
        launched.elapsed().as_secs_f64()
    );
    (server, group)
}

/// What benchd's own client makes of the answer to this body.
async fn answered(server: &Server, adapter: &dyn Adapter, body: Value) -> Answer {
    sent(server, adapter, body.to_string()).await
}

async fn sent(server: &Server, adapter: &dyn Adapter, body: String) -> Answer {
    let address = server
        .base
        .trim_start_matches("http://")
        .parse()
        .expect("an address");
    let how = OneOff {
        timeout: Duration::from_secs(300),
        shape: SHAPE,
        reasoning_fields: adapter.reasoning_fields(),
        cancel: tokio_util::sync::CancellationToken::new(),
    };
    request_once(&Target::new(address, adapter.chat_path()), body.into(), how)
        .await
        .expect("a target")
}

/// Names of a group's processes, the leader first.
fn names(group: i32) -> String {
    let name = |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let mut alive = alive_in_group(group);
    alive.sort_by_key(|pid| (*pid != group, *pid));
    alive.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// A whole life: the ready check, the preload, the process tree, usage and end, an exact length, errors, the cache's reset
/// and its proof, TERM, and KILL of the leader alone.
async fn lives(name: &str, processes: usize) {
    let dir = tempfile::tempdir().expect("a folder can be made");
    let adapter = planned(name, dir.path());
    let adapter = adapter.as_ref();
    let (server, group) = started(name, adapter).await;
    let tree = alive_in_group(group);
    assert!(tree.len() >= processes, "{name}: {tree:?}");
    println!("{name}: processes {}", names(group));

    let long: String = (1..60)
        .map(|n| format!("The {n}th house is older than the one before it. "))
        .collect();
    let brief = [Message::user("Say hi.")];
    let lengthy = [Message::user(long.as_str())];
    let request = |messages| ChatRequest {
        messages,
        max_tokens: 48,
        exact_output: true,
        temperature: 0.0,
        top_p: 1.0,
        seed: None,
        reasoning_effort: None,
    };
    // The end marker is looked for by `chat`; the usage comes last.
    let usage = |chunks: &[Value]| chunks.last().expect("a last event")["usage"].clone();
    let chunks = server.chat(adapter, &request(&brief)).await;
    let said = usage(&chunks);
    if adapter.request_body(&request(&brief)).get("ignore_eos").is_some() {
        assert_eq!(said["completion_tokens"], 48, "{name} honours ignore_eos");
    } else {
        assert!(said["completion_tokens"].as_u64() <= Some(48), "{name}");
    }
    let first = &chunks[0]["choices"][0]["delta"];
    println!("{name}: first delta {first}; usage {said}");

    // The same through benchd's own client, and what it makes of what a server refuses.
    let asked = adapter.request_body(&request(&brief));
    let good = answered(&server, adapter, asked.clone()).await;
    assert_eq!(
        good.record.outcome,
        Outcome::Ok,
        "{name}: {:?}",
        good.record.error
    );
    assert_eq!(
        good.record.output_tokens,
        said["completion_tokens"].as_u64(),
        "{name}"
    );
    assert_eq!(good.shown_shape(), SHAPE, "{name}");
    let mut stranger = asked;
    stranger["model"] = "no-such-model".into();
    let stranger = answered(&server, adapter, stranger).await;
    // llama-server and SGLang serve whatever is asked for.
    if matches!(name, "vllm" | "ollama") {
        assert_eq!(
            stranger.record.outcome,
            Outcome::HttpStatus,
            "{name}: {:?}",
            stranger.record.error
        );
    }
    let broken = sent(&server, adapter, "{\"model\": ".to_owned()).await;
    assert_eq!(broken.record.outcome, Outcome::HttpStatus, "{name}");
    assert!(
        broken.record.error.as_ref().is_some_and(|said| !said.is_empty()),
        "{name}"
    );
    println!(
        "{name}: unknown model {:?} {:?}; bad body {:?} {:?}",
        stranger.record.status, stranger.record.error, broken.record.status, broken.record.error
    );

    match adapter.cache_reset() {
        CacheReset::Http { steps, .. } => {
            let cached = |usage: Value| {
                usage["prompt_tokens_details"]["cached_tokens"]
                    .as_u64()
                    .unwrap_or(0)
            };
            server.chat(adapter, &request(&lengthy)).await;
            let before = cached(usage(&server.chat(adapter, &request(&lengthy)).await));
            assert!(before > 100, "{name}: {before} tokens from the cache");
            // One that lies in another slot, or another part of the cache.
            server.chat(adapter, &request(&brief)).await;
            server.perform(&steps).await;
            let after = cached(usage(&server.chat(adapter, &request(&lengthy)).await));
            assert_eq!(after, 0, "{name}");
            println!("{name}: {before} tokens from the cache before the reset, {after} after");
        }
        CacheReset::Reload { unload, load } => {
            let gone = server.perform(&unload).await;
            let back = server.perform(&load).await;
            println!("{name}: reloaded: {gone:?}, {back:?}");
        }
        CacheReset::NotPossible { why } => panic!("{name}: {why}"),
    }
    let stopping = Instant::now();
    let status = server.stop().await;
    assert!(ended_by_term(name, status), "{name}: {status}");
    until_gone(group, name).await;
    println!(
        "{name}: after TERM {status}, all gone after {:.1} s",
        stopping.elapsed().as_secs_f64()
    );

    // The leader alone is killed: what it leaves lies in its group, and dies with it.
    let (mut server, group) = started(name, adapter).await;
    server.child.start_kill().expect("a process that runs");
    server.child.wait().await.expect("a child of ours");
    tokio::time::sleep(Duration::from_secs(2)).await;
    println!("{name}: after KILL of the leader lives on: {}", names(group));
    let _ = nix::sys::signal::killpg(
        nix::unistd::Pid::from_raw(group),
        nix::sys::signal::Signal::SIGKILL,
    );
    until_gone(group, name).await;
}

#[tokio::test]
#[ignore = "needs envs/quickstart"]
async fn real_ollama_lives() {
    lives("ollama", 2).await;
}

#[tokio::test]
#[ignore = "needs envs/cpu-llamacpp"]
async fn real_llamacpp_lives() {
    lives("llamacpp", 1).await;
}

#[tokio::test]
#[ignore = "needs envs/cpu-vllm; minutes"]
async fn real_vllm_lives() {
    lives("vllm", 3).await;
}

#[tokio::test]
#[ignore = "needs envs/cpu-sglang; minutes"]
async fn real_sglang_lives() {
    lives("sglang", 3).await;
}
