//! Fetching models: those of the Hugging Face hub by the hub's own library in a venv, those of Ollama by a server of its
//! own that sees no GPU.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    pin::pin,
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::TryStreamExt as _;
use tokio::{io::AsyncBufReadExt as _, process::Command};
use tokio_util::{io::StreamReader, sync::CancellationToken};

use super::provision::{EnvError, diagnose, run};
use crate::untimed::untimed_client;
use benchd_frameworks::{self, ModelStore, Weights, kind};
use benchd_plan::{Framework, Model, Plan, Source};

/// From the launch of Ollama's server to its first answer, at the longest.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Pause between two questions whether it is up.
const START_POLL: Duration = Duration::from_millis(100);

/// Limit of a question to a server on this machine.
const ASK_LIMIT: Duration = Duration::from_secs(5);

/// A pull of which nothing is heard for this long is broken.
const SILENCE_LIMIT: Duration = Duration::from_secs(300);

const PROGRESS_PERIOD: Duration = Duration::from_secs(2);

/// Fetches a model of the hub: repository, revision. Second copies of the weights in other forms are left out. Not by the
/// command `hf download`, which takes several patterns as `--exclude a b` before 1.0 and as `--exclude a --exclude b`
/// since then, and each form silently means something else to the other; the library's call is the same in all.
const FETCH_FROM_HUB: &str = r#"
import sys
# One line instead of a traceback: its last line is what people read.
sys.excepthook = lambda kind, value, trace: print(f"{kind.__name__}: {value}", file=sys.stderr)
from huggingface_hub import HfApi, snapshot_download
repo, revision = sys.argv[1:3]
files = HfApi().list_repo_files(repo, revision=revision)
skip = ["original/*", "metal/*", "onnx/*", "*.onnx", "*.gguf", "*.pth", "*.msgpack", "*.h5", "*.ot"]
top = [f for f in files if "/" not in f and f.endswith(".safetensors")]
if top:
    skip += ["*.bin", "*.pt"]
if any(f.startswith("model") for f in top):
    skip += ["consolidated*"]
print(snapshot_download(repo, revision=revision, ignore_patterns=skip))
"#;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) model: String,
    /// Its id of the hub, or its tag.
    pub(crate) id: String,
    /// The framework by whose environment it is fetched.
    pub(crate) framework: String,
}

/// The models of a plan that are not whole on disk and can be fetched, each once.
pub(crate) fn models_to_fetch(plan: &Plan) -> Vec<Fetch> {
    let mut all: Vec<Fetch> = Vec::new();
    for (framework, model) in super::served(plan) {
        let wanted = match benchd_frameworks::weights(framework, model) {
            Weights::Absent(absent) => absent.fetchable,
            Weights::Damaged { .. } => is_fetched(framework, model),
            Weights::Whole(_) | Weights::NotKnown => false,
        };
        let Some(id) = model.id_for(framework.kind).filter(|_| wanted) else {
            continue;
        };
        let known = all.iter().any(|fetch| {
            let place = |name: &str| plan.frameworks.get(name).map(|f| (kind(f.kind).models, &f.env));
            fetch.id == id && place(&fetch.framework) == place(&framework.name)
        });
        if !known {
            all.push(Fetch {
                model: model.name.clone(),
                id: id.to_owned(),
                framework: framework.name.clone(),
            });
        }
    }
    all
}

/// Models that are not whole on disk, in words, each once: what a fetch could not mend, and what nobody fetches.
pub(crate) fn models_missing(plan: &Plan) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for (framework, model) in super::served(plan) {
        let text = match benchd_frameworks::weights(framework, model) {
            Weights::Absent(absent) if absent.fetchable => {
                format!("models.{}: {} is not on this machine", model.name, absent.id)
            }
            // The plan's own files are among the environments' missing ones.
            Weights::Absent(_) if kind(framework.kind).models != ModelStore::Hub => continue,
            Weights::Absent(absent) => format!("models.{}: {} is not there", model.name, absent.id),
            Weights::Damaged { folder, wrong } => {
                format!(
                    "models.{}: {} is not whole: {}",
                    model.name,
                    folder.display(),
                    wrong.join("; ")
                )
            }
            Weights::Whole(_) | Weights::NotKnown => continue,
        };
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

/// Whether fetching again can mend what is damaged: not a folder or file of the plan's own.
fn is_fetched(framework: &Framework, model: &Model) -> bool {
    match kind(framework.kind).models {
        ModelStore::Hub => model
            .hf
            .as_deref()
            .is_some_and(|id| !benchd_frameworks::looks_like_folder(id)),
        ModelStore::Own => model.gguf.is_none(),
        ModelStore::File => false,
    }
}

/// # Errors
/// No network, no such model, a licence that was not accepted, a full disk, a server that does not start; each with a
/// hint.
pub(crate) async fn fetch(
    plan: &Plan,
    fetch: &Fetch,
    cancel: &CancellationToken,
    mut progress: impl FnMut(&str) + Send,
) -> Result<(), EnvError> {
    let (Some(framework), Some(model)) = (
        plan.frameworks.get(&fetch.framework),
        plan.models.get(&fetch.model),
    ) else {
        return Ok(());
    };
    match &framework.source {
        Source::Venv(venv) => {
            let revision = benchd_frameworks::revision(framework, model);
            from_hub(venv, framework, &fetch.id, &revision, cancel, &mut progress).await?;
        }
        Source::Binary(binary) => pull(binary, framework, &fetch.id, cancel, &mut progress).await?,
        Source::Command { .. } | Source::Url(_) => {}
    }
    match benchd_frameworks::weights(framework, model) {
        Weights::Damaged { folder, wrong } => Err(EnvError::Model {
            id: fetch.id.clone(),
            why: format!(
                "it came, and {} is not whole: {}",
                folder.display(),
                wrong.join("; ")
            ),
            hint: "remove that folder and run it again".to_owned(),
        }),
        _ => Ok(()),
    }
}

async fn from_hub(
    venv: &Path,
    framework: &Framework,
    id: &str,
    revision: &str,
    cancel: &CancellationToken,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), EnvError> {
    let python = venv.join("bin/python3");
    let absolute = std::path::absolute(&python).unwrap_or(python);
    let mut command = Command::new(&absolute);
    command
        .args(["-c", FETCH_FROM_HUB, id, revision])
        .stdin(Stdio::null())
        .envs(&framework.env);
    let fetched = run(command, &absolute, cancel, progress).await;
    match fetched {
        Err(EnvError::Failed { last_lines, .. }) => Err(EnvError::Model {
            id: id.to_owned(),
            why: last_lines
                .last()
                .cloned()
                .unwrap_or_else(|| "it does not say why".to_owned()),
            hint: hub_hint(id, &last_lines),
        }),
        other => other,
    }
}

/// What to do about a failure of the hub's library, told by its words.
fn hub_hint(id: &str, last_lines: &[String]) -> String {
    let text = last_lines.join("\n");
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let page = format!("https://huggingface.co/{id}");
    if says(&[
        "GatedRepo",
        "gated repo",
        "Access to model",
        "403 Client Error",
        "awaiting a review",
    ]) {
        return if std::env::var_os("HF_TOKEN").is_none_or(|token| token.is_empty()) {
            format!("accept its licence at {page}, then set HF_TOKEN to a token of that account")
        } else {
            format!("the account of HF_TOKEN has no access yet: accept its licence at {page}")
        };
    }
    if says(&[
        "RepositoryNotFound",
        "401 Client Error",
        "404 Client Error",
        "Invalid username or password",
    ]) {
        return format!(
            "is the id right? {page} must open; for a private model, or one whose licence must be accepted, set HF_TOKEN"
        );
    }
    if says(&["RevisionNotFound"]) {
        return format!("is the --revision right? {page} lists them");
    }
    if says(&["No module named"]) {
        return "the environment is not whole: remove its .venv and run it again".to_owned();
    }
    match diagnose(last_lines) {
        Some(hint) if hint.contains("registry") => {
            "is there a network here? run it again: what came is kept".to_owned()
        }
        Some(hint) => hint.to_owned(),
        None => "run it again: what came is kept".to_owned(),
    }
}

/// A port that is free now. Another program may take it in the moment before the server does; the pull then fails, and
/// says so.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Pulls by a server of Ollama that runs only for that. Its own command `ollama pull` draws for a terminal even where
/// there is none, ten pictures a second; its answer to a client is made of lines.
async fn pull(
    binary: &Path,
    framework: &Framework,
    tag: &str,
    cancel: &CancellationToken,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), EnvError> {
    let program = if binary.components().count() > 1 {
        std::path::absolute(binary).unwrap_or_else(|_| binary.to_owned())
    } else {
        binary.to_owned()
    };
    let port = free_port().map_err(|source| EnvError::Start {
        recipe: program.clone(),
        source,
    })?;
    let address = format!("127.0.0.1:{port}");
    let mut command = Command::new(&program);
    command
        .arg("serve")
        .envs(&framework.env)
        .env("OLLAMA_HOST", &address)
        .env("OLLAMA_NOPRUNE", "1")
        .env("CUDA_VISIBLE_DEVICES", "")
        .stdin(Stdio::null());
    let failed = |why: String| EnvError::Model {
        id: tag.to_owned(),
        hint: pull_hint(&why),
        why,
    };
    let client = untimed_client()
        .no_proxy()
        .read_timeout(SILENCE_LIMIT)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let stop = cancel.child_token();
    let said = Mutex::new(String::new());
    let last = || said.lock().unwrap_or_else(PoisonError::into_inner);
    let mut hear = |line: &str| line.clone_into(&mut last());
    let mut serving = pin!(run(command, &program, &stop, &mut hear));
    let pulled = tokio::select! {
        ended = &mut serving => return Err(match ended {
            Err(EnvError::Failed { status, last_lines, .. }) => {
                failed(format!("its server ended ({status}): {}", last_lines.join(" | ")))
            }
            Err(EnvError::Cancelled { .. }) => EnvError::Cancelled { recipe: PathBuf::from(tag) },
            Err(other) => other,
            Ok(()) => failed("its server ended".to_owned()),
        }),
        pulled = async {
            let ready = tokio::time::timeout(START_LIMIT, ready(&client, &address)).await;
            ready.map_err(|_| {
                format!("its server gave no answer within {} s: {}", START_LIMIT.as_secs(), last())
            })?;
            ask_to_pull(&client, &address, tag, progress).await
        } => pulled,
    };
    stop.cancel();
    // It was told to end: that it was stopped is no news.
    let _ = serving.await;
    pulled.map_err(failed)
}

/// What a line of a pull's answer says.
#[derive(Debug, serde::Deserialize)]
struct PullLine {
    #[serde(default)]
    status: String,
    error: Option<String>,
    total: Option<u64>,
    completed: Option<u64>,
}

async fn ask_to_pull(
    client: &reqwest::Client,
    address: &str,
    tag: &str,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), String> {
    let answer = client
        .post(format!("http://{address}/api/pull"))
        .json(&serde_json::json!({ "model": tag, "stream": true }))
        .send()
        .await
        .map_err(|error| error.to_string())?;
    let body = StreamReader::new(answer.bytes_stream().map_err(io::Error::other));
    let mut lines = body.lines();
    let mut last = String::new();
    let mut told = Instant::now();
    while let Some(line) = lines.next_line().await.map_err(|error| error.to_string())? {
        let Ok(line) = serde_json::from_str::<PullLine>(&line) else {
            continue;
        };
        if let Some(error) = line.error {
            return Err(error);
        }
        if line.status != last || told.elapsed() >= PROGRESS_PERIOD {
            told = Instant::now();
            let share = line
                .total
                .zip(line.completed)
                .map(|(total, completed)| format!(": {} of {} MB", completed / 1_000_000, total / 1_000_000));
            progress(&format!("{}{}", line.status, share.unwrap_or_default()));
        }
        last = line.status;
    }
    if last == "success" {
        Ok(())
    } else {
        Err(format!("the pull ended after `{last}`"))
    }
}

/// Waits until the server answers.
async fn ready(client: &reqwest::Client, address: &str) {
    let url = format!("http://{address}/api/version");
    loop {
        let answer = client.get(&url).timeout(ASK_LIMIT).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return;
        }
        tokio::time::sleep(START_POLL).await;
    }
}

fn pull_hint(why: &str) -> String {
    let lower = why.to_ascii_lowercase();
    if lower.contains("file does not exist") || lower.contains("not found") {
        return "is the tag right? ollama.com/library lists them".to_owned();
    }
    match diagnose(&[why.to_owned()]) {
        Some(hint) if !hint.contains("registry") => hint.to_owned(),
        _ if lower.contains("lookup ") || lower.contains("dial tcp") || lower.contains("no such host") => {
            "is there a network here (a proxy is taken from HTTPS_PROXY)? run it again: what came is kept"
                .to_owned()
        }
        _ => "run it again: what came is kept".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_the_hub_name_the_licence_the_id_or_the_network() {
        let hint = |line: &str| hub_hint("meta/llama", &[line.to_owned()]);
        let gated = hint("huggingface_hub.errors.GatedRepoError: 401 Client Error.");
        assert!(
            gated.contains("https://huggingface.co/meta/llama") && gated.contains("HF_TOKEN"),
            "{gated}"
        );
        assert!(hint("RepositoryNotFoundError: 404 Client Error.").contains("is the id right"));
        assert!(hint("OSError: [Errno 28] No space left on device").contains("make room"));
        assert!(hint("[Errno -2] Name or service not known").contains("network"));
        assert!(hint("ModuleNotFoundError: No module named 'huggingface_hub'").contains("not whole"));
    }

    #[test]
    fn failures_of_a_pull_name_the_tag_the_disk_or_the_network() {
        assert!(pull_hint("pull model manifest: file does not exist").contains("tag"));
        assert!(pull_hint("write /x: no space left on device").contains("make room"));
        assert!(pull_hint("dial tcp: lookup some.host: no such host").contains("network"));
    }
}
