//! The user's own plan, as far as tests of this room need it.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::json;

use super::{Adapter, ChatRequest, Context, FrameworkError, Launch, VisibleGpu, kind, setup::Setup};
use benchd_core::record::Message;
use benchd_plan::{Framework, FrameworkKind, Model, ReasoningEffort};

pub(crate) fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

pub(crate) fn framework(kind: FrameworkKind) -> Framework {
    let settings = match kind {
        FrameworkKind::Sglang => json!({
            "venv": "/b/envs/sglang/.venv",
            "args": ["--tp", "1", "--mem-fraction-static", "0.85"],
        }),
        FrameworkKind::Vllm => json!({
            "venv": "/b/envs/vllm/.venv",
            "args": [
                "--tensor-parallel-size", "1", "--gpu-memory-utilization", "0.85", "--enable-prefix-caching",
            ],
        }),
        FrameworkKind::Ollama => json!({
            "binary": "/b/envs/ollama/bin/ollama",
            "env": { "OLLAMA_NUM_PARALLEL": "1" },
        }),
        FrameworkKind::Openai => json!({
            "port": 8080,
            "command": [
                "/b/llama-server", "-m", "{gguf}", "--alias", "{model}", "--host", "{host}", "--port", "{port}",
                "--metrics",
            ],
        }),
        _ => json!({ "venv": format!("/b/envs/{kind}/.venv") }),
    };
    let plan = json!({
        "version": 1, "name": "x",
        "models": { "m": { "hf": "a/b", "ollama": "m", "gguf": "/m/m.gguf" } },
        "frameworks": { kind.as_str(): settings },
        "scenarios": { "single": { "input_tokens": [8], "output_tokens": 8, "repeats": 1 } },
    });
    let plan = benchd_plan::parse("x.yaml", &plan.to_string(), &|_| None).unwrap();
    plan.frameworks[kind.as_str()].clone()
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
        not_on: BTreeMap::new(),
    }
}

pub(crate) fn gpt_oss() -> Model {
    Model {
        reasoning_effort: Some(ReasoningEffort::Low),
        args: BTreeMap::from([("sglang".to_owned(), strings(&["--reasoning-parser", "gpt-oss"]))]),
        ..model("gpt-oss-20b", "openai/gpt-oss-20b", "gpt-oss:20b")
    }
}

pub(crate) fn llama() -> Model {
    model("llama-3.1-8b", "meta-llama/Llama-3.1-8B-Instruct", "llama3.1:8b")
}

pub(crate) fn context() -> Context {
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
pub(crate) fn made(
    framework: &Framework,
    model: &Model,
    context: &Context,
) -> Result<Box<dyn Adapter>, FrameworkError> {
    (kind(framework.kind).adapter)(&Setup {
        framework,
        model,
        context,
        inherited: &|name| (name == "PATH").then(|| "/usr/bin".to_owned()),
    })
}

pub(crate) fn user(kind: FrameworkKind, model: &Model) -> Box<dyn Adapter> {
    made(&framework(kind), model, &context()).unwrap()
}

/// The error, where there is no adapter.
pub(crate) fn refused(framework: &Framework, model: &Model) -> FrameworkError {
    match made(framework, model, &context()) {
        Ok(_) => panic!("not refused"),
        Err(e) => e,
    }
}

/// Environment and command line, as one would type them.
pub(crate) fn typed(launch: &Launch) -> String {
    let mut lines: Vec<String> = launch.env.iter().map(|(n, v)| format!("{n}={v}")).collect();
    lines.push(launch.argv().join(" "));
    lines.join("\n")
}

/// A request for exactly 256 tokens, as the four scenarios of fixed length make it.
pub(crate) fn exact(messages: &[Message], effort: Option<ReasoningEffort>) -> ChatRequest<'_> {
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

pub(crate) fn asks_for_exact_length(adapter: &dyn Adapter) -> bool {
    let body = adapter.request_body(&exact(&[Message::user("hi")], None));
    body.get("ignore_eos").is_some()
}

/// Folders, a line each.
pub(crate) fn shown_folders(folders: Vec<PathBuf>) -> String {
    let lines: Vec<String> = folders.iter().map(|path| path.display().to_string()).collect();
    lines.join("\n")
}
