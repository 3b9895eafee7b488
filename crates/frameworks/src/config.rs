//! The only look at the disk: a model's configuration, and the digest under which Ollama takes a GGUF.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex},
    time::SystemTime,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::FrameworkError;

/// What a model's `config.json` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ModelConfig {
    /// `llama`, `gpt_oss`, …
    pub(super) model_type: Option<String>,
    /// `bf16`, or the quantisation's name where the weights are quantised.
    pub(super) precision: Option<String>,
}

/// Whether this is meant as a folder, not as a hub id (`org/name`).
pub fn looks_like_folder(id: &str) -> bool {
    id.starts_with(['/', '.', '~']) || id.matches('/').count() > 1 || is_folder(id)
}

/// Whether this is a folder on disk.
pub(super) fn is_folder(id: &str) -> bool {
    Path::new(id).is_dir()
}

/// The configuration of a model: a folder's, or that of the revision in the hub's cache. `None` where it is not
/// on disk (yet), or is no JSON.
pub(super) fn find(id: &str, revision: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<ModelConfig> {
    let folder = folder(id, revision, env)?;
    let text = std::fs::read_to_string(folder.join("config.json")).ok()?;
    Some(parse(&serde_json::from_str(&text).ok()?))
}

/// The folder in which a model's files lie, or will lie: the folder itself, or the revision's in the hub's cache.
/// `None` where nothing says where that cache is.
pub(super) fn folder(id: &str, revision: &str, env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if looks_like_folder(id) {
        return Some(PathBuf::from(id));
    }
    let repo = hub_cache(env)?.join(format!("models--{}", id.replace('/', "--")));
    let commit = std::fs::read_to_string(repo.join("refs").join(revision))
        .map_or_else(|_| revision.to_owned(), |commit| commit.trim().to_owned());
    Some(repo.join("snapshots").join(commit))
}

/// Where the hub client keeps models, in the order in which it looks.
fn hub_cache(env: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("HF_HUB_CACHE")
        .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("huggingface/hub")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/huggingface/hub")))
}

fn parse(config: &Value) -> ModelConfig {
    // Models with more than text keep the language model's part in `text_config`.
    let text = |key: &str| {
        [config.get(key), config.pointer(&format!("/text_config/{key}"))]
            .into_iter()
            .flatten()
            .find_map(|v| v.as_str().map(str::to_owned))
    };
    let quantised = config.get("quantization_config").and_then(|q| {
        let method = q.get("quant_method")?.as_str()?;
        Some(match q.get("bits").and_then(Value::as_u64) {
            Some(bits) => format!("{method}_int{bits}"),
            None => method.to_owned(),
        })
    });
    ModelConfig {
        model_type: text("model_type"),
        precision: quantised.or_else(|| text("torch_dtype").or_else(|| text("dtype")).map(|d| short(&d))),
    }
}

/// The short name of a dtype: `bf16` for `torch.bfloat16`.
pub(super) fn short(dtype: &str) -> String {
    let name = dtype.trim().to_ascii_lowercase();
    match name.strip_prefix("torch.").unwrap_or(&name) {
        "bfloat16" => "bf16".to_owned(),
        "float16" | "half" => "fp16".to_owned(),
        "float32" | "float" => "fp32".to_owned(),
        other => other.to_owned(),
    }
}

/// Digests known in this process, by file, length and time of change.
static DIGESTS: LazyLock<Mutex<HashMap<FileState, String>>> = LazyLock::new(Mutex::default);

/// A file, its length in bytes, its time of change.
type FileState = (PathBuf, u64, SystemTime);

/// SHA-256 of a file, hex; read once a process as long as the file does not change.
///
/// # Errors
/// Where it can't be read.
pub(super) fn sha256(path: &Path) -> Result<String, FrameworkError> {
    let read = |source| FrameworkError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(read)?;
    let about = file.metadata().map_err(read)?;
    let key = (path.to_owned(), about.len(), about.modified().map_err(read)?);
    if let Ok(digests) = DIGESTS.lock()
        && let Some(digest) = digests.get(&key)
    {
        return Ok(digest.clone());
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => hash.update(&buffer[..bytes]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(read(e)),
        }
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if let Ok(mut digests) = DIGESTS.lock() {
        digests.insert(key, digest.clone());
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn precision_is_the_quantisation_or_the_dtype() {
        let precision = |config: Value| parse(&config).precision;
        assert_eq!(
            precision(json!({"torch_dtype": "bfloat16"})).as_deref(),
            Some("bf16")
        );
        assert_eq!(precision(json!({"dtype": "float16"})).as_deref(), Some("fp16"));
        assert_eq!(
            precision(json!({"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}))
                .as_deref(),
            Some("mxfp4")
        );
        assert_eq!(
            precision(
                json!({"torch_dtype": "float16", "quantization_config": {"quant_method": "awq", "bits": 4}})
            )
            .as_deref(),
            Some("awq_int4")
        );
        assert_eq!(
            precision(json!({"model_type": "gemma3", "text_config": {"torch_dtype": "bfloat16"}})).as_deref(),
            Some("bf16")
        );
        assert_eq!(precision(json!({})), None);
    }

    #[test]
    fn a_folder_and_the_hub_cache_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("hub");
        let repo = cache.join("models--openai--gpt-oss-20b");
        let snapshot = repo.join("snapshots/abc123");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::write(repo.join("refs/main"), "abc123\n").unwrap();
        std::fs::write(snapshot.join("config.json"), r#"{"model_type":"gpt_oss"}"#).unwrap();

        let cache_dir = cache.display().to_string();
        let env = |name: &str| (name == "HF_HUB_CACHE").then(|| cache_dir.clone());
        let found = find("openai/gpt-oss-20b", "main", &env).unwrap();
        assert_eq!(found.model_type.as_deref(), Some("gpt_oss"));
        assert!(
            find("openai/gpt-oss-20b", "abc123", &env).is_some(),
            "a commit names itself"
        );
        assert_eq!(find("openai/gpt-oss-120b", "main", &env), None);
        assert_eq!(find("openai/gpt-oss-20b", "main", &|_| None), None);

        let folder = snapshot.display().to_string();
        assert_eq!(find(&folder, "main", &|_| None), Some(found));
    }

    #[test]
    fn hub_ids_and_folders_are_told_apart() {
        assert!(!looks_like_folder("meta-llama/Llama-3.1-8B-Instruct"));
        assert!(!looks_like_folder("gpt2"));
        assert!(looks_like_folder("/models/llama"));
        assert!(looks_like_folder("./llama"));
        assert!(looks_like_folder("data/models/llama"));
    }

    #[test]
    fn a_digest_follows_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), abc);
        std::fs::write(&path, "abcd").unwrap();
        assert_ne!(sha256(&path).unwrap(), abc);
        assert!(sha256(&dir.path().join("absent")).is_err());
    }
}
