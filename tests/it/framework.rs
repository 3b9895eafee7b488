//! What the adapters say, tried on real servers. These tests need what `benchd env plans/quickstart.yaml` makes:
//! `envs/quickstart/setup.sh && cargo test --test it -- --ignored real_`.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use benchd::{
    framework::{Adapter, ChatRequest, Context, adapter},
    plan::{Framework, FrameworkKind, Model, Provision, Source},
    record::{CacheReset, HttpCall, Message, Method, Step},
};
use serde_json::Value;

struct Server {
    child: tokio::process::Child,
    base: String,
    client: reqwest::Client,
}

impl Server {
    fn start(adapter: &dyn Adapter) -> Self {
        let launch = adapter.launch().expect("a server that benchd starts");
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
            client: reqwest::Client::builder().no_proxy().build().expect("a client"),
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
    let free = TcpListener::bind("127.0.0.1:0")
        .expect("a free port")
        .local_addr()
        .expect("a free port")
        .port();
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
    assert_eq!(facts.precision.as_deref(), Some("q4_1"));
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
    assert!(adapter.clean_exit(status), "{status}");
}
