//! The user's own plan, as far as tests of this room need it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{Adapter, ChatRequest, Context, FrameworkError, Launch, VisibleGpu, build, given::Given};
use benchd_core::record::Message;
use benchd_plan::{Framework, FrameworkKind, Model, Provision, ReasoningEffort, Source};

pub(super) fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

pub(super) fn framework(kind: FrameworkKind) -> Framework {
    let (source, port, args, env): (_, _, &[&str], &[(&str, &str)]) = match kind {
        FrameworkKind::Sglang => (
            Source::Venv("/b/envs/sglang/.venv".into()),
            30000,
            &["--tp", "1", "--mem-fraction-static", "0.85"],
            &[],
        ),
        FrameworkKind::Vllm => (
            Source::Venv("/b/envs/vllm/.venv".into()),
            8000,
            &[
                "--tensor-parallel-size",
                "1",
                "--gpu-memory-utilization",
                "0.85",
                "--enable-prefix-caching",
            ],
            &[],
        ),
        FrameworkKind::Ollama => (
            Source::Binary("/b/envs/ollama/bin/ollama".into()),
            11434,
            &[],
            &[("OLLAMA_NUM_PARALLEL", "1")],
        ),
        FrameworkKind::Openai => (
            Source::Command {
                command: strings(&[
                    "/b/llama-server",
                    "-m",
                    "{gguf}",
                    "--alias",
                    "{model}",
                    "--host",
                    "{host}",
                    "--port",
                    "{port}",
                    "--metrics",
                ]),
                ready_path: "/health".to_owned(),
            },
            8080,
            &[],
            &[],
        ),
    };
    Framework {
        name: kind.as_str().to_owned(),
        kind,
        version: None,
        source,
        host: "127.0.0.1".to_owned(),
        port,
        args: strings(args),
        env: env.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
        scenarios: None,
        start_timeout: Duration::from_secs(1200),
        stop_grace: Duration::from_secs(30),
        release_timeout: Duration::from_secs(60),
        release_tolerance_bytes: 64 << 20,
        retries: 0,
        provision: Provision::None,
    }
}

fn model(name: &str, hf: &str, ollama: &str) -> Model {
    Model {
        name: name.to_owned(),
        hf: Some(hf.to_owned()),
        ollama: Some(ollama.to_owned()),
        openai: None,
        tokenizer: None,
        gguf: None,
        reasoning_effort: None,
        precision: None,
        args: BTreeMap::new(),
    }
}

pub(super) fn gpt_oss() -> Model {
    Model {
        reasoning_effort: Some(ReasoningEffort::Low),
        args: BTreeMap::from([("sglang".to_owned(), strings(&["--reasoning-parser", "gpt-oss"]))]),
        ..model("gpt-oss-20b", "openai/gpt-oss-20b", "gpt-oss:20b")
    }
}

pub(super) fn llama() -> Model {
    model("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", "llama3.1:8b")
}

pub(super) fn context() -> Context {
    Context {
        longest_prompt_tokens: 4352,
        gpus: vec![VisibleGpu {
            index: 0,
            uuid: "GPU-5d2e".to_owned(),
        }],
        max_concurrency: 64,
        work_dir: PathBuf::from("logs/x"),
    }
}

/// An adapter in an environment of nothing but a path.
pub(super) fn made(
    framework: &Framework,
    model: &Model,
    context: &Context,
) -> Result<Box<dyn Adapter>, FrameworkError> {
    build(&Given {
        framework,
        model,
        context,
        inherited: &|name| (name == "PATH").then(|| "/usr/bin".to_owned()),
    })
}

pub(super) fn user(kind: FrameworkKind, model: &Model) -> Box<dyn Adapter> {
    made(&framework(kind), model, &context()).unwrap()
}

/// The error, where there is no adapter.
pub(super) fn refused(framework: &Framework, model: &Model) -> FrameworkError {
    match made(framework, model, &context()) {
        Ok(_) => panic!("not refused"),
        Err(e) => e,
    }
}

/// Environment and command line, as one would type them.
pub(super) fn typed(launch: &Launch) -> String {
    let mut lines: Vec<String> = launch.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
    lines.push(launch.argv().join(" "));
    lines.join("\n")
}

/// A request for exactly 256 tokens, as the four scenarios of fixed length make it.
pub(super) fn exact(messages: &[Message], effort: Option<ReasoningEffort>) -> ChatRequest<'_> {
    ChatRequest {
        messages,
        max_tokens: 256,
        exact_output: true,
        temperature: 0.0,
        top_p: 1.0,
        seed: None,
        reasoning_effort: effort,
    }
}
