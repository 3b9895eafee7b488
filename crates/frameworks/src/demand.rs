//! What memory a server that reserves a share of the GPU needs there, from the model's files and configuration alone.

use serde_json::Value;

use super::{
    args::{arguments, flag_value},
    weights::Found,
};
use benchd_core::record::Format;
use benchd_plan::{Framework, Model};

/// How a kind reserves a share of each device's memory.
#[derive(Debug)]
pub(crate) struct Reservation {
    /// The argument that sets the share.
    pub(crate) share_flag: &'static str,
    /// The share where the plan says nothing, 0 to 1.
    pub(crate) share: f64,
    /// The argument that sets the longest request.
    pub(crate) length_flag: &'static str,
    /// Whether it refuses to start where one request of that length does not fit.
    pub(crate) starts_with_room_only: bool,
}

/// What a server needs, and what it may take.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// Bytes of the weights, over all devices.
    pub weights_bytes: u64,
    /// Bytes that one token takes in the KV cache, over all devices; `None` where the configuration does not tell.
    pub kv_bytes_per_token: Option<u64>,
    /// Tokens for which the server wants room before it starts: vLLM refuses to start unless one request of the
    /// longest length fits.
    pub start_tokens: Option<u64>,
    /// Share of each device's memory that it may take, 0 to 1.
    pub share: f64,
    /// The argument that sets the share.
    pub share_flag: &'static str,
    /// The argument that sets the longest request.
    pub length_flag: &'static str,
    /// Devices that it uses.
    pub devices: u32,
}

/// What a framework that reserves so needs to serve the model found. `None` where it can't be told: weights that are
/// quantised or moved to the host as they are loaded.
pub(crate) fn demand(
    reservation: &Reservation,
    framework: &Framework,
    model: &Model,
    found: &Found,
) -> Option<Demand> {
    let args = arguments(framework, model);
    let number = |flag: &str| flag_value(&args, flag).and_then(|value| value.parse::<f64>().ok());
    let changes_weights = [
        "--quantization",
        "--cpu-offload-gb",
        "--load-format",
        "--torchao-config",
    ];
    if changes_weights
        .iter()
        .any(|flag| flag_value(&args, flag).is_some_and(|v| v != "auto" && v != "safetensors"))
    {
        return None;
    }
    let config = found.config.as_ref();
    let context = number(reservation.length_flag)
        .filter(|tokens| *tokens >= 1.0)
        .map(|tokens| tokens as u64)
        .or_else(|| text_part(config?, "max_position_embeddings")?.as_u64());
    Some(Demand {
        weights_bytes: found.bytes,
        kv_bytes_per_token: config.and_then(|config| kv_bytes_per_token(config, kv_bytes(&args, config))),
        start_tokens: context.filter(|_| reservation.starts_with_room_only),
        share: number(reservation.share_flag)
            .filter(|s| *s > 0.0 && *s <= 1.0)
            .unwrap_or(reservation.share),
        share_flag: reservation.share_flag,
        length_flag: reservation.length_flag,
        devices: devices(&args),
    })
}

/// Devices by tensor and pipeline parallelism.
fn devices(args: &[String]) -> u32 {
    let short = args
        .iter()
        .position(|arg| arg == "-tp")
        .and_then(|at| args.get(at + 1).map(String::as_str));
    let first = |flags: &[&str]| flags.iter().find_map(|flag| flag_value(args, flag));
    let count = |value: Option<&str>| value.and_then(|v| v.parse().ok()).unwrap_or(1);
    let tensor: u32 = count(first(&["--tensor-parallel-size", "--tp-size", "--tp"]).or(short));
    let pipeline: u32 = count(first(&["--pipeline-parallel-size", "--pp-size"]));
    tensor.saturating_mul(pipeline).max(1)
}

/// Bytes of one number in the KV cache.
fn kv_bytes(args: &[String], config: &Value) -> u64 {
    match flag_value(args, "--kv-cache-dtype") {
        Some(dtype) if dtype.starts_with("fp8") => 1,
        _ => {
            let dtype = flag_value(args, "--dtype")
                .filter(|dtype| *dtype != "auto")
                .or_else(|| text_part(config, "torch_dtype")?.as_str())
                .or_else(|| text_part(config, "dtype")?.as_str());
            if dtype.is_some_and(|dtype| Format::new(dtype).bits() == Some(32)) {
                4
            } else {
                2
            }
        }
    }
}

/// A key of the language model's part.
fn text_part<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    let nested = config.get("text_config").and_then(|text| text.get(key));
    config.get(key).or(nested).filter(|value| !value.is_null())
}

/// Keys and values of all layers that keep every token, for one token.
fn kv_bytes_per_token(config: &Value, bytes: u64) -> Option<u64> {
    let number = |key: &str| text_part(config, key).and_then(Value::as_u64);
    let layers = number("num_hidden_layers")?;
    // Multi-head latent attention keeps one compressed vector instead of keys and values.
    if let (Some(rank), Some(rope)) = (number("kv_lora_rank"), number("qk_rope_head_dim")) {
        return Some(layers * (rank + rope) * bytes);
    }
    let heads = number("num_attention_heads")?;
    let kv_heads = number("num_key_value_heads").unwrap_or(heads);
    let head_dim = match number("head_dim") {
        Some(dim) => dim,
        None => number("hidden_size")?.checked_div(heads)?,
    };
    // Where the layers are told apart, those with a sliding window hold a few tokens only, however long a request is.
    let growing = text_part(config, "layer_types")
        .and_then(Value::as_array)
        .map(|types| types.iter().filter(|kind| *kind == "full_attention").count() as u64)
        .unwrap_or(layers);
    Some(2 * growing * kv_heads * head_dim * bytes)
}

#[cfg(test)]
mod tests {
    use benchd_core::record::Reading;
    use serde_json::json;

    use super::*;

    /// Llama 3.1 8B, as its configuration says.
    fn llama() -> Value {
        json!({
            "model_type": "llama", "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
            "hidden_size": 4096, "max_position_embeddings": 131_072, "torch_dtype": "bfloat16",
        })
    }

    #[test]
    fn a_token_takes_128_kib_in_llama_3_1_8b() {
        assert_eq!(kv_bytes_per_token(&llama(), 2), Some(128 << 10));
        let nested = json!({ "text_config": llama() });
        assert_eq!(kv_bytes_per_token(&nested, 1), Some(64 << 10));
        assert_eq!(kv_bytes_per_token(&json!({}), 2), None);
        let latent = json!({ "num_hidden_layers": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64 });
        assert_eq!(kv_bytes_per_token(&latent, 2), Some(61 * 576 * 2));
        let mut sliding = llama();
        sliding["layer_types"] = json!(["sliding_attention", "full_attention"]);
        assert_eq!(kv_bytes_per_token(&sliding, 2), Some(2 * 8 * 128 * 2));
    }

    fn asked(kind: &str, args: &[&str]) -> Option<Demand> {
        let plan = json!({
            "version": 1, "name": "x", "models": { "m": { "hf": "a/b" } },
            "frameworks": { "f": { "kind": kind, "venv": "v", "port": 1, "args": args } },
            "scenarios": { "single": { "input_tokens": [8], "output_tokens": 8, "repeats": 1 } },
        });
        let plan = benchd_plan::parse("x.yaml", &plan.to_string(), &|_| None).unwrap();
        let found = Found {
            path: "m".into(),
            bytes: 16 << 30,
            format: "safetensors",
            precision: Reading::Unknown,
            config: Some(llama()),
        };
        crate::demand(&plan.frameworks["f"], &plan.models["m"], &found)
    }

    #[test]
    fn arguments_decide_share_length_and_devices() {
        let plain = asked("vllm", &[]).unwrap();
        assert_eq!(
            (plain.share, plain.start_tokens, plain.devices),
            (0.9, Some(131_072), 1)
        );
        let args = [
            "--gpu-memory-utilization",
            "0.85",
            "--max-model-len=8192",
            "-tp",
            "2",
            "--kv-cache-dtype",
            "fp8",
        ];
        let given = asked("vllm", &args).unwrap();
        assert_eq!(
            (given.share, given.start_tokens, given.devices),
            (0.85, Some(8192), 2)
        );
        assert_eq!(given.kv_bytes_per_token, Some(64 << 10));
        // SGLang starts with less room than the longest request.
        assert_eq!(asked("sglang", &["--tp", "4"]).unwrap().start_tokens, None);
        assert_eq!(
            asked("vllm", &["--quantization", "fp8"]),
            None,
            "quantised as it is loaded"
        );
    }
}
