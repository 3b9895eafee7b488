//! A model's configuration, in a folder or in the hub's cache.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::args::{Env, env_path};

/// What a model's `config.json` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ModelConfig {
    /// `llama`, `gpt_oss`, …
    pub(crate) model_type: Option<String>,
    /// `bf16`, or the quantisation's name where the weights are quantised.
    pub(crate) precision: Option<String>,
}

/// Whether this is meant as a folder, not as a hub id (`org/name`).
pub fn looks_like_folder(id: &str) -> bool {
    id.starts_with(['/', '.', '~']) || id.matches('/').count() > 1 || is_folder(id)
}

/// Whether this is a folder on disk.
pub(crate) fn is_folder(id: &str) -> bool {
    Path::new(id).is_dir()
}

/// The configuration of a model: a folder's, or that of the revision in the hub's cache. `None` where it is not
/// on disk (yet), or is no JSON.
pub(crate) fn find(id: &str, revision: &str, env: Env<'_>) -> Option<ModelConfig> {
    let folder = folder(id, revision, env)?;
    let text = std::fs::read_to_string(folder.join("config.json")).ok()?;
    Some(parse(&serde_json::from_str(&text).ok()?))
}

/// The folder in which a model's files lie, or will lie: the folder itself, or the revision's in the hub's cache.
/// `None` where nothing says where that cache is.
pub(crate) fn folder(id: &str, revision: &str, env: Env<'_>) -> Option<PathBuf> {
    if looks_like_folder(id) {
        return Some(PathBuf::from(id));
    }
    let repo = hub_cache(env)?.join(format!("models--{}", id.replace('/', "--")));
    let commit = std::fs::read_to_string(repo.join("refs").join(revision))
        .map_or_else(|_| revision.to_owned(), |commit| commit.trim().to_owned());
    Some(repo.join("snapshots").join(commit))
}

/// Where the hub client keeps models, in the order in which it looks.
fn hub_cache(env: Env<'_>) -> Option<PathBuf> {
    let set = |name| env_path(env, name);
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
pub(crate) fn short(dtype: &str) -> String {
    let name = dtype.trim().to_ascii_lowercase();
    match name.strip_prefix("torch.").unwrap_or(&name) {
        "bfloat16" => "bf16".to_owned(),
        "float16" | "half" => "fp16".to_owned(),
        "float32" | "float" => "fp32".to_owned(),
        other => other.to_owned(),
    }
}

/// Names of model types by what ids of such models hold, for models that are not on disk.
const TYPES_BY_NAME: [(&str, &str); 3] = [("gpt-oss", "gpt_oss"), ("qwen3", "qwen3"), ("llama", "llama")];

/// The type of a model, as its configuration names it (`llama`, `gpt_oss`), or, where that is not on disk, as its names
/// tell.
pub(crate) fn model_type(names: &[&str], config: Option<&ModelConfig>) -> Option<String> {
    config.and_then(|c| c.model_type.clone()).or_else(|| {
        let names: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        let told = |part: &str| names.iter().any(|name| name.contains(part));
        let known = TYPES_BY_NAME.iter().find(|(part, _)| told(part));
        known.map(|(_, model_type)| (*model_type).to_owned())
    })
}

/// Whether a model speaks harmony (gpt-oss).
pub(crate) fn is_harmony(names: &[&str], config: Option<&ModelConfig>) -> bool {
    model_type(names, config).as_deref() == Some("gpt_oss")
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
}
