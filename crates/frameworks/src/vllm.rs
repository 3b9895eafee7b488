//! vLLM, from a venv. Facts by the sources of 0.15.1 unless said otherwise.
//!
//! - `/health` answers only once the engine is ready.
//! - `ignore_eos` breaks the harmony parser of gpt-oss ("Unexpected token 200002 while expecting start token
//!   200006"; vllm#50690), so a fixed output length can't be had there.
//! - `min_tokens` writes into the logits of each step, greedy sampling included (`v1/sample/logits_processor/builtin.py`,
//!   0.26.0); `ignore_eos` alone gives the exact length, so it goes alone.
//! - A reasoning delta comes under `reasoning` *and*, the same text, under the deprecated `reasoning_content`.
//! - `/reset_prefix_cache` exists only under `VLLM_SERVER_DEV_MODE=1` and answers 200 whether it reset anything
//!   or not; the counters prove it.
//! - It keeps what it compiled for its next start.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;

use super::{
    ChatRequest, CompileLine, Facts, FrameworkError,
    adapter::{Adapter, HttpProbe, Server},
    args::{Env, env_path, pair},
    compiled,
    counters::CounterNames,
    demand::Reservation,
    facts::json,
    hub::{self, Flags, HubServer},
    kind::{BehindUrl, Kind, ModelStore},
    last_words::Says,
    load_log::{GIB, LoadLog, Part, after, bytes, count, seconds, size},
    metrics,
    setup::Setup,
};
use benchd_core::record::{CacheReset, Format, HttpCall, Reading, ResetProof, Step};

/// Within its venv.
const PROGRAM: &str = "bin/vllm";

const FLAGS: Flags = Flags {
    host: "--host",
    port: "--port",
    name: "--served-model-name",
    length: "--max-model-len",
    share: "--gpu-memory-utilization",
};

pub(crate) const KIND: Kind = Kind {
    title: "vLLM",
    venv_program: Some(PROGRAM),
    models: ModelStore::Hub,
    reads_gguf: |_| false,
    needs_cuda: true,
    whole_on_gpu_share: None,
    parallel_variable: None,
    metrics_flag: None,
    graphs_off: Some("--enforce-eager"),
    echoes_model: true,
    prefix_cache_disabled: |framework| {
        framework
            .args
            .iter()
            .any(|arg| arg == "--no-enable-prefix-caching")
    },
    // One to three minutes with warm disk caches: weights, compilation, CUDA graphs.
    start: Duration::from_secs(120),
    cache_reset: Duration::from_secs(1),
    reservation: Some(Reservation {
        share_flag: FLAGS.share,
        share: 0.9,
        length_flag: FLAGS.length,
        starts_with_room_only: true,
    }),
    // Its prompt counter takes in what came from the prefix cache.
    counters: CounterNames {
        prefix: "vllm:",
        requests: Some("vllm:request_success_total"),
        prompt_tokens: &["vllm:prompt_tokens_total"],
        output_tokens: Some("vllm:generation_tokens_total"),
        ttft: Some("vllm:time_to_first_token_seconds"),
        latency: Some("vllm:e2e_request_latency_seconds"),
        tpot: Some("vllm:request_time_per_output_token_seconds"),
    },
    load_line,
    death_line,
    weights: hub::weights,
    precision: hub::precision,
    adapter: |setup| Ok(Box::new(Vllm::new(setup)?)),
    // Every version serves its metrics, and its configuration is among them from the start.
    behind_url: Some(BehindUrl {
        paths: &["/metrics"],
        is: |metrics| metrics.contains("\nvllm:cache_config_info"),
        adapter: |setup, server| {
            let harmony = setup.names_harmony(&server.model);
            Box::new(Vllm { server, harmony })
        },
    }),
};

const COUNTERS: &[&str] = &[
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:num_preemptions_total",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:time_to_first_token_seconds_sum",
    "vllm:time_to_first_token_seconds_count",
    "vllm:e2e_request_latency_seconds_sum",
    "vllm:e2e_request_latency_seconds_count",
    "vllm:request_time_per_output_token_seconds_sum",
    "vllm:request_time_per_output_token_seconds_count",
];

/// vLLM serving one model.
struct Vllm {
    server: Server,
    harmony: bool,
}

impl Vllm {
    fn new(setup: &Setup<'_>) -> Result<Self, FrameworkError> {
        let owned = [("--uds", "host:"), ("--model", "models.<name>.hf")];
        let hub = HubServer::new(setup, &FLAGS, &owned)?;
        let mut args = hub.command(&["serve", hub.id]);
        if !hub.has("--enable-prompt-tokens-details") && !hub.has("--no-enable-prompt-tokens-details") {
            args.push("--enable-prompt-tokens-details".to_owned());
        }
        let env = vec![
            pair("VLLM_SERVER_DEV_MODE", "1"),
            pair("VLLM_NO_USAGE_STATS", "1"),
            pair("DO_NOT_TRACK", "1"),
        ];
        let owned_env = [("VLLM_SERVER_DEV_MODE", "nothing: the cache reset needs it")];
        let harmony = hub.is_harmony();
        let mut server = hub.server(PROGRAM, args, env, &owned_env)?;
        server.compile_caches = compile_folders(&|name| setup.env_of_server(name));
        Ok(Self { server, harmony })
    }
}

/// Where it keeps what it compiled, by the sources of 0.15.1 and 0.32.0.
fn compile_folders(env: Env<'_>) -> Vec<PathBuf> {
    let cache = env_path(env, "XDG_CACHE_HOME").unwrap_or_else(|| compiled::home(env).join(".cache"));
    let root = env_path(env, "VLLM_CACHE_ROOT").unwrap_or_else(|| cache.join("vllm"));
    let mut all = vec![
        root.join("torch_compile_cache"),
        env_path(env, "DG_JIT_CACHE_DIR").unwrap_or_else(|| root.join("deep_gemm")),
    ];
    all.extend(compiled::of_compilers(env));
    compiled::apart(all)
}

/// `(EngineCore pid=1252) INFO … Model loading took 15.0 GiB and 2.626892 seconds`; to 0.26 `… 13.03 GiB memory and`.
/// Of several ranks each writes it, or (from 0.10) only the first.
/// The front end notices the end of its engine, then tells every request of it; an engine that fails by an exception logs
/// that before (0.15.1: `core_client.py`, `async_llm.py`, `core.py`).
fn death_line(line: &str) -> Option<Says> {
    let aftermath = [
        "EngineDeadError",
        "See stack trace (above)",
        "AsyncLLM output_handler failed",
    ];
    if aftermath.iter().any(|text| line.contains(text)) {
        Some(Says::Nothing)
    } else if line.contains("died unexpectedly, shutting down")
        || line.contains("engine core exited unexpectedly")
    {
        // The second as 0.26.0 says it.
        Some(Says::That)
    } else {
        None
    }
}

fn load_line(told: &mut LoadLog, line: &str) {
    if let Some(rest) = after(line, "Model loading took ") {
        told.add(Part::Weights, process(line), size(rest));
        told.slowest(after(rest, " and ").and_then(seconds));
    } else if let Some(rest) = after(line, "Available KV cache memory: ") {
        told.add(Part::KvCache, process(line), size(rest));
    } else if let Some(rest) = after(line, "Graph capturing finished in ") {
        told.add(
            Part::Compute,
            process(line),
            after(rest, ", took ").and_then(size),
        );
    } else if let Some(rest) = after(line, "Explicitly set (")
        && rest.contains("GiB for KV cache")
    {
        // On a CPU: "Explicitly set (1.0/23.54) GiB for KV cache on node 0."
        let gib = rest.split('/').next().and_then(|n| n.parse::<f64>().ok());
        told.add(Part::KvCache, "CPU", gib.and_then(|n| bytes(n, GIB)));
    } else if let Some(rest) = after(line, "PU KV cache size: ") {
        // "GPU KV cache size: 417,536 tokens", on a CPU "CPU KV cache size: …".
        if rest.contains(" tokens") {
            told.tokens(count(rest));
        }
    } else if line.contains(" LLM engine (v")
        && let Some(rest) = after(line, " with config: ")
    {
        config_line(told, rest);
    }
}

/// `Initializing a V1 LLM engine (v0.15.1) with config: model='…', …, dtype=torch.bfloat16, …, load_format=auto, …,
/// quantization=mxfp4, …, kv_cache_dtype=auto, …`.
fn config_line(told: &mut LoadLog, config: &str) {
    let field = |name: &str| {
        let value = after(config, name)?.split([',', ' ']).next()?;
        Some(value).filter(|value| !value.is_empty() && *value != "None")
    };
    let dtype = field(" dtype=");
    // A GGUF's own header says in what.
    let quantised = field(" quantization=");
    if let Some(weights) = quantised.or(dtype).filter(|format| *format != "gguf") {
        told.weights_in(weights);
    }
    match field(" kv_cache_dtype=") {
        Some("auto") => dtype.into_iter().for_each(|dtype| told.cache_in(dtype)),
        Some(cache) => told.cache_in(cache),
        None => {}
    }
    if let Some(format) = field(" load_format=") {
        // To 0.9 it was `LoadFormat.DUMMY`.
        told.made_up(
            format
                .trim_start_matches("LoadFormat.")
                .eq_ignore_ascii_case("dummy"),
        );
    }
}

/// The process that wrote a line of vLLM: `(EngineCore pid=1252)`, `(Worker_TP1 pid=…)`; empty where none is named.
fn process(line: &str) -> &str {
    after(line, "(")
        .and_then(|rest| rest.split_once(" pid="))
        .map_or("", |(name, _)| name)
}

impl Adapter for Vllm {
    fn server(&self) -> &Server {
        &self.server
    }

    fn health(&self) -> HttpProbe {
        HttpProbe::get("/health", Duration::from_millis(250), Duration::from_secs(5))
    }

    fn facts_calls(&self) -> Vec<HttpCall> {
        ["/version", "/v1/models", "/metrics"].map(HttpCall::get).into()
    }

    fn parse_facts(&self, answers: &[Option<String>]) -> Facts {
        let mut facts = Facts::default();
        if let Some(version) = json(answers, 0).as_ref().and_then(|v| v["version"].as_str()) {
            facts.set("version", version);
        }
        facts.set_listed(json(answers, 1).as_ref().and_then(|v| v.pointer("/data/0")));
        let metrics = answers.get(2).and_then(Option::as_deref).unwrap_or_default();
        let cache = metrics::labels(metrics, "vllm:cache_config_info");
        let number = |name: &str| cache.get(name).and_then(|v| v.parse::<u64>().ok());
        if let (Some(blocks), Some(size)) = (number("num_gpu_blocks"), number("block_size")) {
            facts.set_kv_capacity(blocks.saturating_mul(size));
        }
        if let Some(on) = cache.get("enable_prefix_caching") {
            facts.set("prefix_cache", on);
        }
        // `auto` is what its settings resolve.
        let format = cache.get("cache_dtype").filter(|format| *format != "auto");
        facts.precision.kv_cache = Reading::maybe(format.map(|f| Format::new(f)), "/metrics");
        self.server.judge(facts)
    }

    fn request_body(&self, request: &ChatRequest<'_>) -> Value {
        Value::Object(request.fixed_length_body(&self.server.model, self.harmony))
    }

    fn cache_reset(&self) -> CacheReset {
        let mut step = Step::new(
            "reset the prefix cache",
            HttpCall::post("/reset_prefix_cache"),
            Duration::from_secs(30),
        );
        step.fatal = vec![404];
        step.hint = "the endpoint needs VLLM_SERVER_DEV_MODE=1 in the server's environment".to_owned();
        CacheReset::Http {
            steps: vec![step],
            proof: ResetProof::HitCounter {
                metrics_path: "/metrics".to_owned(),
                counter: "vllm:prefix_cache_hits_total".to_owned(),
            },
        }
    }

    fn compile_line(&self, line: &str) -> Option<CompileLine> {
        if line.contains("Directly load the compiled graph") || line.contains("Directly load AOT compilation")
        {
            return Some(CompileLine::Loaded);
        }
        line.contains("Compiling a graph for compile range")
            .then_some(CompileLine::Compiled)
    }

    fn metrics_path(&self) -> Option<&str> {
        Some("/metrics")
    }

    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VisibleGpu;
    use crate::{args::has_flag, testing::*};
    use benchd_core::record::{FlagKind, Message, Precision};
    use benchd_plan::FrameworkKind;

    #[test]
    fn command_line_and_environment_of_the_users_models() {
        insta::assert_snapshot!(typed(&user(FrameworkKind::Vllm, &llama()).launch().unwrap()), @r"
        CUDA_DEVICE_ORDER=PCI_BUS_ID
        CUDA_VISIBLE_DEVICES=0
        VIRTUAL_ENV=/b/envs/vllm/.venv
        PATH=/b/envs/vllm/.venv/bin:/usr/bin
        VLLM_SERVER_DEV_MODE=1
        VLLM_NO_USAGE_STATS=1
        DO_NOT_TRACK=1
        /b/envs/vllm/.venv/bin/vllm serve meta-llama/Llama-3.1-8B-Instruct --host 127.0.0.1 --port 8000 --served-model-name meta-llama/Llama-3.1-8B-Instruct --tensor-parallel-size 1 --gpu-memory-utilization 0.85 --enable-prefix-caching --enable-prompt-tokens-details
        ");
        let gpt_oss = user(FrameworkKind::Vllm, &gpt_oss());
        assert_eq!(gpt_oss.served_model(), "openai/gpt-oss-20b");
        assert_eq!(
            gpt_oss.launch().unwrap().args[..3],
            ["serve", "openai/gpt-oss-20b", "--host"]
        );
        assert!(
            !has_flag(&gpt_oss.launch().unwrap().args, "--reasoning-parser"),
            "SGLang's argument only"
        );
    }

    #[test]
    fn bodies_ask_for_an_exact_length_but_for_harmony_models() {
        let messages = [Message::user("hi")];
        insta::assert_snapshot!(user(FrameworkKind::Vllm, &llama()).request_body(&exact(&messages, None)), @r#"{"model":"meta-llama/Llama-3.1-8B-Instruct","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"ignore_eos":true}"#);

        let gpt_oss = gpt_oss();
        let harmony = user(FrameworkKind::Vllm, &gpt_oss);
        insta::assert_snapshot!(harmony.request_body(&exact(&messages, gpt_oss.reasoning_effort)), @r#"{"model":"openai/gpt-oss-20b","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"reasoning_effort":"low"}"#);

        let mut free = exact(&messages, None);
        free.exact_output = false;
        let body = user(FrameworkKind::Vllm, &llama()).request_body(&free);
        assert_eq!(body.get("ignore_eos"), None);
        assert_eq!(body.get("min_tokens"), None);
    }

    #[test]
    fn harmony_is_told_by_the_configuration_before_the_name() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("config.json"),
            r#"{"model_type":"gpt_oss","quantization_config":{"quant_method":"mxfp4"}}"#,
        )
        .unwrap();
        let mut model = llama();
        model.hf = Some(dir.path().display().to_string());
        let adapter = user(FrameworkKind::Vllm, &model);
        assert!(!asks_for_exact_length(adapter.as_ref()));
        let launch = adapter.launch().unwrap();
        assert!(
            launch.env.contains(&pair("HF_HUB_OFFLINE", "1")),
            "a folder needs no hub"
        );
        let served = (KIND.precision)(&framework(FrameworkKind::Vllm), &model, &|_| None);
        assert_eq!(served.weights, Reading::read(Format::new("mxfp4"), "config.json"));
        assert_eq!(served.random_weights.value(), Some(&false));
        assert!(
            adapter
                .requirements()
                .iter()
                .any(|r| r.path == dir.path().join("config.json"))
        );

        std::fs::write(dir.path().join("config.json"), r#"{"model_type":"llama"}"#).unwrap();
        let odd_name = dir.path().join("not-gpt-oss");
        std::fs::create_dir(&odd_name).unwrap();
        std::fs::copy(dir.path().join("config.json"), odd_name.join("config.json")).unwrap();
        model.hf = Some(odd_name.display().to_string());
        assert!(asks_for_exact_length(user(FrameworkKind::Vllm, &model).as_ref()));
    }

    #[test]
    fn a_flag_of_the_plan_is_not_given_twice() {
        let mut fw = framework(FrameworkKind::Vllm);
        fw.args = strings(&[
            "--served-model-name",
            "short",
            "--no-enable-prompt-tokens-details",
        ]);
        let adapter = made(&fw, &llama(), &context()).unwrap();
        assert_eq!(adapter.served_model(), "short");
        let args = adapter.launch().unwrap().args;
        assert_eq!(args.iter().filter(|a| *a == "--served-model-name").count(), 1);
        assert!(!has_flag(&args, "--enable-prompt-tokens-details"));
    }

    #[test]
    fn what_benchd_sets_itself_is_refused_with_the_key_to_use() {
        let with_args = |args: &[&str]| {
            let mut fw = framework(FrameworkKind::Vllm);
            fw.args = strings(args);
            refused(&fw, &llama())
        };
        assert!(
            matches!(with_args(&["--port=1"]), FrameworkError::OwnedFlag { flag, key: "port:", .. } if flag == "--port")
        );
        assert!(matches!(
            with_args(&["--max-model-len", "4096"]),
            FrameworkError::ContextTooShort { needed: 4352, .. }
        ));

        let mut fw = framework(FrameworkKind::Vllm);
        fw.env.insert("CUDA_VISIBLE_DEVICES".to_owned(), "1".to_owned());
        let error = refused(&fw, &llama());
        assert!(error.hint().unwrap().contains("host.gpu"), "{error}");

        let mut model = llama();
        model.hf = None;
        assert!(
            refused(&framework(FrameworkKind::Vllm), &model)
                .hint()
                .unwrap()
                .contains("hf:")
        );
        model = gpt_oss();
        model.reasoning_effort = Some(benchd_plan::ReasoningEffort::None);
        assert!(matches!(
            refused(&framework(FrameworkKind::Vllm), &model),
            FrameworkError::ReasoningEffort { .. }
        ));
    }

    #[test]
    fn gpus_are_given_by_index_but_mig_slices_by_uuid() {
        let visible = |gpus: &[(u32, &str)]| {
            let mut context = context();
            context.gpus = gpus
                .iter()
                .map(|&(index, uuid)| VisibleGpu {
                    index,
                    uuid: uuid.to_owned(),
                })
                .collect();
            let env = made(&framework(FrameworkKind::Vllm), &llama(), &context)
                .unwrap()
                .launch()
                .unwrap()
                .env;
            env.into_iter()
                .find(|(n, _)| n == "CUDA_VISIBLE_DEVICES")
                .map(|(_, v)| v)
        };
        assert_eq!(visible(&[(2, "GPU-b"), (0, "GPU-a")]).as_deref(), Some("2,0"));
        assert_eq!(visible(&[(0, "MIG-c")]).as_deref(), Some("MIG-c"));
        assert_eq!(visible(&[]).as_deref(), Some(""), "no GPU: all are hidden");
    }

    #[test]
    fn model_arguments_come_by_kind_and_by_name() {
        let mut fw = framework(FrameworkKind::Vllm);
        fw.name = "vllm-no-prefix-cache".to_owned();
        fw.args = strings(&["--no-enable-prefix-caching"]);
        let mut model = llama();
        model
            .args
            .insert("vllm".to_owned(), strings(&["--dtype", "float16"]));
        model
            .args
            .insert("vllm-no-prefix-cache".to_owned(), strings(&["--seed", "1"]));
        model.args.insert("sglang".to_owned(), strings(&["--x"]));
        let adapter = made(&fw, &model, &context()).unwrap();
        let line = adapter.launch().unwrap().argv().join(" ");
        assert!(
            line.ends_with(
                "--no-enable-prefix-caching --dtype float16 --seed 1 --enable-prompt-tokens-details"
            ),
            "{line}"
        );
        let served = (KIND.precision)(&fw, &model, &|_| None);
        assert_eq!(served.weights, Reading::read(Format::new("fp16"), "--dtype"));
    }

    /// A folder in the hub's form with this configuration, and how vLLM serves it with these arguments.
    fn served(config: &str, args: &[&str]) -> Precision {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        let mut model = llama();
        model.hf = Some(dir.path().display().to_string());
        let mut fw = framework(FrameworkKind::Vllm);
        fw.args = strings(args);
        (KIND.precision)(&fw, &model, &|_| None)
    }

    fn names(precision: &Precision) -> [Option<String>; 2] {
        [&precision.weights, &precision.kv_cache].map(|reading| reading.value().map(ToString::to_string))
    }

    #[test]
    fn precision_is_read_from_arguments_and_the_configuration() {
        let of =
            |config, args: &[&str]| names(&served(config, args)).map(|name| name.unwrap_or("?".to_owned()));
        let bf16 = r#"{"torch_dtype":"bfloat16"}"#;
        assert_eq!(of(bf16, &[]), ["bf16", "bf16"]);
        assert_eq!(
            of(bf16, &["--dtype", "half", "--kv-cache-dtype=fp8"]),
            ["fp16", "fp8"]
        );
        assert_eq!(of(bf16, &["--quantization", "fp8"]), ["fp8", "bf16"]);
        let gpt_oss = r#"{"torch_dtype":"bfloat16","quantization_config":{"quant_method":"mxfp4"}}"#;
        assert_eq!(of(gpt_oss, &["--dtype", "bfloat16"]), ["MXFP4", "bf16"]);
        let awq = r#"{"dtype":"float16","quantization_config":{"quant_method":"awq","bits":4}}"#;
        assert_eq!(of(awq, &["--quantization", "awq_marlin"]), ["awq_int4", "fp16"]);
        // 32 bits are served in 16, and which 16 only the log says.
        assert_eq!(of(r#"{"dtype":"float32"}"#, &[]), ["?", "?"]);
        assert_eq!(
            of(r#"{"dtype":"float32"}"#, &["--dtype", "float32"]),
            ["fp32", "fp32"]
        );
        // Weights that come with a format for the cache.
        let cached = r#"{"dtype":"bfloat16","quantization_config":{"quant_method":"fp8","kv_cache_scheme":{"num_bits":8}}}"#;
        assert_eq!(of(cached, &[]), ["fp8", "?"]);
        assert_eq!(of("{}", &[]), ["?", "?"]);

        let dummy = served(bf16, &["--load-format", "dummy"]).random_weights;
        assert_eq!(dummy, Reading::read(true, "--load-format"));
        assert_eq!(
            served(bf16, &["--load-format", "safetensors"])
                .random_weights
                .value(),
            Some(&false)
        );
    }

    #[test]
    fn its_log_says_in_which_numbers_it_serves() {
        // As 0.26.0 writes it, fields of no interest left out.
        let line = |fields: &str| {
            format!(
                "(EngineCore pid=1252) INFO 11-24 12:14:00 [core.py:109] Initializing a V1 LLM engine (v0.26.0) with config: model='m', revision=None, {fields}, device_config=cuda, seed=0\n"
            )
        };
        let told = |fields: &str| crate::read_log(&line(fields)).precision();
        let plain = told(
            "dtype=torch.bfloat16, max_seq_len=8192, load_format=dummy, quantization=None, quantization_config=None, kv_cache_dtype=auto",
        );
        assert_eq!(names(&plain), [Some("bf16".to_owned()), Some("bf16".to_owned())]);
        assert_eq!(plain.random_weights, Reading::read(true, "the server's log"));
        let quantised =
            told("dtype=torch.bfloat16, load_format=auto, quantization=mxfp4, kv_cache_dtype=fp8_e4m3");
        assert_eq!(
            names(&quantised),
            [Some("MXFP4".to_owned()), Some("fp8_e4m3".to_owned())]
        );
        assert_eq!(quantised.random_weights.value(), Some(&false));
        assert_eq!(
            names(&told(
                "dtype=torch.float16, quantization=gguf, kv_cache_dtype=auto"
            ))[0],
            None
        );
    }

    const METRICS: &str = r#"# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",cache_dtype="auto",calculate_kv_scales="False",cpu_offload_gb="0",enable_prefix_caching="True",engine="0",gpu_memory_utilization="0.85",num_cpu_blocks="None",num_gpu_blocks="27451",prefix_caching_hash_algo="sha256"} 1.0
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 2176.0
vllm:prefix_cache_hits_total{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 2048.0
vllm:prefix_cache_hits_created{engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"} 1.7e+09
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 3.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 14.0
vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="m"} 0.0
vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 17.0
vllm:time_to_first_token_seconds_sum{engine="0",model_name="m"} 0.425
"#;

    #[test]
    fn facts_and_counters_are_read() {
        let adapter = user(FrameworkKind::Vllm, &llama());
        assert_eq!(adapter.facts_calls().len(), 3);
        let facts = adapter.parse_facts(&[
            Some(r#"{"version":"0.15.1"}"#.to_owned()),
            Some(r#"{"object":"list","data":[{"id":"meta-llama/Llama-3.1-8B-Instruct","object":"model","created":1795498500,"owned_by":"vllm","root":"meta-llama/Llama-3.1-8B-Instruct","parent":null,"max_model_len":4096,"permission":[]}]}"#.to_owned()),
            Some(METRICS.to_owned()),
        ]);
        assert_eq!(facts.values["version"], "0.15.1");
        assert_eq!(facts.values[crate::KV_CAPACITY], (27_451 * 16).to_string());
        assert_eq!(facts.context_length, Some(4096));
        assert_eq!(facts.values["prefix_cache"], "True");
        assert_eq!(
            facts.flags.iter().map(|f| f.kind).collect::<Vec<_>>(),
            [FlagKind::TruncatedPrompt]
        );

        let counters = adapter.parse_counters(METRICS);
        assert_eq!(counters["vllm:prefix_cache_hits_total"], 2048.0);
        assert_eq!(counters["vllm:request_success_total"], 17.0);
        assert_eq!(counters["vllm:time_to_first_token_seconds_sum"], 0.425);

        // A server that answers nothing of it leaves no facts and no panic.
        assert_eq!(
            adapter.parse_facts(&[None, Some("not json".to_owned()), None]),
            Facts::default()
        );
    }

    #[test]
    fn the_reset_is_proven_by_the_hit_counter() {
        let CacheReset::Http { steps, proof } = user(FrameworkKind::Vllm, &llama()).cache_reset() else {
            panic!("vLLM resets by a call");
        };
        assert_eq!(steps[0].call.to_string(), "POST /reset_prefix_cache");
        assert_eq!(
            proof,
            ResetProof::HitCounter {
                metrics_path: "/metrics".to_owned(),
                counter: "vllm:prefix_cache_hits_total".to_owned()
            }
        );
    }

    #[test]
    fn its_log_says_what_it_compiled() {
        let adapter = user(FrameworkKind::Vllm, &llama());
        for (line, said) in [
            (
                "(EngineCore pid=1252) INFO 11-24 12:14:56 [backends.py:393] Compiling a graph for compile range (1, 8192) takes 14.19 s",
                Some(CompileLine::Compiled),
            ),
            (
                "INFO [backends.py:296] Directly load the compiled graph(s) for compile range (1, 8192) from the cache, took 1.023 s",
                Some(CompileLine::Loaded),
            ),
            (
                "INFO [decorators.py:320] Directly load AOT compilation from path /c/torch_aot_compile/1f/rank_0_0/model",
                Some(CompileLine::Loaded),
            ),
            (
                "INFO [backends.py:1155] Dynamo bytecode transform time: 10.24 s",
                None,
            ),
        ] {
            assert_eq!(adapter.compile_line(line), said, "{line}");
        }
    }

    #[test]
    fn reserved_memory_is_said() {
        assert!(user(FrameworkKind::Vllm, &llama()).notes()[0].contains("--gpu-memory-utilization 0.85"));
    }

    #[test]
    fn what_it_compiled_lies_where_it_puts_it() {
        let bare = |name: &str| match name {
            "HOME" => Some("/home/b".to_owned()),
            "USER" => Some("b".to_owned()),
            _ => None,
        };
        insta::assert_snapshot!(shown_folders(compile_folders(&bare)), @r"
        /home/b/.cache/vllm/torch_compile_cache
        /home/b/.cache/vllm/deep_gemm
        /tmp/torchinductor_b
        /home/b/.triton/cache
        /home/b/.cache/flashinfer
        /home/b/.cache/tvm-ffi
        ");

        // Variables of the plan move them, and each is counted once.
        let moved = |name: &str| match name {
            "HOME" => Some("/home/b".to_owned()),
            "USER" => Some("b".to_owned()),
            "VLLM_CACHE_ROOT" => Some("/c/vllm".to_owned()),
            "TORCHINDUCTOR_CACHE_DIR" => Some("/c/vllm/torch_compile_cache/inductor".to_owned()),
            "TRITON_CACHE_DIR" => Some("/c/triton".to_owned()),
            "FLASHINFER_WORKSPACE_BASE" => Some("/c".to_owned()),
            "TVM_FFI_CACHE_DIR" => Some("/c/triton".to_owned()),
            _ => None,
        };
        insta::assert_snapshot!(shown_folders(compile_folders(&moved)), @r"
        /c/vllm/torch_compile_cache
        /c/vllm/deep_gemm
        /c/triton
        /c/.cache/flashinfer
        ");
    }
}
