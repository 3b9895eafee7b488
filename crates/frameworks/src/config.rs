//! A model's configuration, in a folder or in the hub's cache.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::args::{Env, env_path};
use benchd_core::record::{Format, Reading};

/// The file that says it.
const FILE: &str = "config.json";

/// What a model's `config.json` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ModelConfig {
    /// `llama`, `gpt_oss`, …
    pub(crate) model_type: Option<String>,
    /// What the weights are quantised to.
    pub(crate) quantised: Option<Format>,
    /// What is not quantised is kept in, and computed in.
    pub(crate) dtype: Option<Format>,
    /// Whether the weights come with a format of their own for the KV cache.
    pub(crate) has_cache_format: bool,
}

impl ModelConfig {
    /// The format of the weights.
    pub(crate) fn weights(&self) -> Reading<Format> {
        Reading::maybe(self.quantised.clone().or_else(|| self.dtype.clone()), FILE)
    }
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

pub(crate) fn parse(config: &Value) -> ModelConfig {
    // Models with more than text keep the language model's part in `text_config`.
    let text = |key: &str| {
        [config.get(key), config.pointer(&format!("/text_config/{key}"))]
            .into_iter()
            .flatten()
            .find_map(|v| v.as_str().map(str::to_owned))
    };
    let quantisation = config.get("quantization_config").filter(|q| q.is_object());
    let format = text("torch_dtype").or_else(|| text("dtype"));
    ModelConfig {
        model_type: text("model_type"),
        quantised: quantisation.and_then(quantised),
        dtype: format.map(|name| Format::new(&name)),
        has_cache_format: quantisation.is_some_and(|q| {
            ["kv_cache_scheme", "kv_cache_quant_algo"]
                .iter()
                .any(|key| q.get(key).is_some_and(|v| !v.is_null()))
        }),
    }
}

/// `mxfp4`, `awq_int4`, `compressed_tensors_fp8`, `modelopt_nvfp4`: the method, and what of its numbers it says.
fn quantised(q: &Value) -> Option<Format> {
    let method = q.get("quant_method")?.as_str()?;
    let numbers = |of: &Value| {
        let bits = of.get("bits").or_else(|| of.get("num_bits"))?.as_u64()?;
        let float = of.get("type").and_then(Value::as_str) == Some("float");
        Some(format!("{}{bits}", if float { "fp" } else { "int" }))
    };
    // compressed-tensors tells it by groups of layers, modelopt by the algorithm's name, bitsandbytes by switches.
    let grouped = || {
        let groups = q.get("config_groups")?.as_object()?;
        groups.values().find_map(|group| numbers(group.get("weights")?))
    };
    let named = || Some(q.get("quant_algo")?.as_str()?.to_ascii_lowercase());
    let switched = || {
        let on = |key: &str| q.get(key).and_then(Value::as_bool) == Some(true);
        on("load_in_4bit")
            .then(|| "int4".to_owned())
            .or_else(|| on("load_in_8bit").then(|| "int8".to_owned()))
    };
    let detail = numbers(q).or_else(grouped).or_else(named).or_else(switched);
    Some(Format::new(&match detail {
        Some(detail) => format!("{method}_{detail}"),
        None => method.to_owned(),
    }))
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
        let weights = |config: Value| parse(&config).weights().value().map(|f| f.as_str().to_owned());
        for (config, format) in [
            (json!({"torch_dtype": "bfloat16"}), "bf16"),
            (json!({"dtype": "float16"}), "fp16"),
            (
                json!({"model_type": "gemma3", "text_config": {"torch_dtype": "bfloat16"}}),
                "bf16",
            ),
            // As openai/gpt-oss-20b has it.
            (
                json!({
                    "model_type": "gpt_oss",
                    "quantization_config": {
                        "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"], "quant_method": "mxfp4",
                    },
                }),
                "mxfp4",
            ),
            (
                json!({"torch_dtype": "float16", "quantization_config": {"quant_method": "awq", "bits": 4}}),
                "awq_int4",
            ),
            (
                json!({"torch_dtype": "bfloat16", "quantization_config": {
                    "quant_method": "compressed-tensors",
                    "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
                }}),
                "compressed_tensors_fp8",
            ),
            (
                json!({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}),
                "modelopt_nvfp4",
            ),
            (
                json!({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}}),
                "bitsandbytes_int4",
            ),
            (json!({"quantization_config": {"quant_method": "fp8"}}), "fp8"),
        ] {
            assert_eq!(weights(config.clone()).as_deref(), Some(format), "{config}");
        }
        assert_eq!(weights(json!({})), None);
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
