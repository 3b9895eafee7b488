//! vLLM, from a venv. Facts by the sources of 0.15.1 unless said otherwise.
//!
//! - `/health` answers only once the engine is ready.
//! - `ignore_eos` breaks the harmony parser of gpt-oss ("Unexpected token 200002 while expecting start token
//!   200006"), so a fixed output length can't be had there.
//! - A reasoning delta comes under `reasoning` *and*, the same text, under the deprecated `reasoning_content`.
//! - `/reset_prefix_cache` exists only under `VLLM_SERVER_DEV_MODE=1` and answers 200 whether it reset anything
//!   or not; the counters prove it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use super::{
    Adapter, ChatRequest, CompileLine, Endpoint, Facts, FrameworkError, HttpProbe, Launch, Quirks,
    Requirement, compiled, config,
    given::{Given, GpuNaming, flag_value, has_flag, pair},
    metrics,
    own::OwnNames,
};
use benchd_core::record::{CacheReset, HttpCall, ResetProof, Step};
use benchd_plan::FrameworkKind;

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

/// Its prompt counter takes in what came from the prefix cache.
pub(super) const OWN: OwnNames = OwnNames {
    prefix: "vllm:",
    requests: Some("vllm:request_success_total"),
    prompt_tokens: &["vllm:prompt_tokens_total"],
    output_tokens: Some("vllm:generation_tokens_total"),
    ttft: Some("vllm:time_to_first_token_seconds"),
    latency: Some("vllm:e2e_request_latency_seconds"),
    tpot: Some("vllm:request_time_per_output_token_seconds"),
};

/// Switches the prefix cache off, which is on by default.
pub(super) const WITHOUT_PREFIX_CACHE: &str = "--no-enable-prefix-caching";

/// vLLM serving one model.
pub(super) struct Vllm {
    endpoint: Endpoint,
    served: String,
    launch: Launch,
    requirements: Vec<Requirement>,
    harmony: bool,
    precision: Option<String>,
    expected_precision: Option<String>,
    longest_tokens: u32,
    notes: Vec<String>,
    compile_caches: Vec<PathBuf>,
}

impl Vllm {
    pub(super) fn new(given: &Given<'_>) -> Result<Self, FrameworkError> {
        let id = given.model_id()?;
        let venv = given.venv()?;
        given.check_effort()?;
        let plan_args = given.plan_args(&[
            ("--host", "host:"),
            ("--port", "port:"),
            ("--uds", "host:"),
            ("--model", "models.<name>.hf"),
        ])?;
        if let Some(tokens) = flag_value(&plan_args, "--max-model-len") {
            given.check_context("--max-model-len", tokens)?;
        }
        let endpoint = given.endpoint();
        let served = flag_value(&plan_args, "--served-model-name")
            .unwrap_or(id)
            .to_owned();
        let program = venv.join("bin/vllm");

        let port = endpoint.port.to_string();
        let mut args: Vec<String> = ["serve", id, "--host", &endpoint.host, "--port", &port]
            .map(str::to_owned)
            .into();
        if !has_flag(&plan_args, "--served-model-name") {
            args.extend(["--served-model-name".to_owned(), served.clone()]);
        }
        args.extend(plan_args.iter().cloned());
        if !has_flag(&plan_args, "--enable-prompt-tokens-details")
            && !has_flag(&plan_args, "--no-enable-prompt-tokens-details")
        {
            args.push("--enable-prompt-tokens-details".to_owned());
        }

        let mut env = given.gpu_env(GpuNaming::Index);
        env.extend(given.venv_env(&venv));
        env.extend([
            pair("VLLM_SERVER_DEV_MODE", "1"),
            pair("VLLM_NO_USAGE_STATS", "1"),
            pair("DO_NOT_TRACK", "1"),
        ]);
        if config::is_folder(id) {
            env.push(pair("HF_HUB_OFFLINE", "1"));
        }
        let env = given.environment(
            env,
            &[("VLLM_SERVER_DEV_MODE", "nothing: the cache reset needs it")],
        )?;

        let config = given.model_config(id, &plan_args);
        Ok(Self {
            harmony: is_harmony(&[id, &served], config.as_ref()),
            precision: precision(&plan_args, config),
            requirements: given.venv_requirements(&program, id),
            launch: given.launch(program, args, env),
            expected_precision: given.model.precision.clone(),
            longest_tokens: given.context.longest_prompt_tokens,
            notes: memory_note(&plan_args, "--gpu-memory-utilization")
                .filter(|_| !given.context.gpus.is_empty())
                .into_iter()
                .collect(),
            compile_caches: compiled::apart(compiled::of_vllm(&|name| given.env_of_server(name))),
            endpoint,
            served,
        })
    }
}

/// Whether the model speaks harmony (gpt-oss), by its configuration or, where that is not on disk, its name.
pub(super) fn is_harmony(names: &[&str], config: Option<&config::ModelConfig>) -> bool {
    match config.and_then(|c| c.model_type.as_deref()) {
        Some(model_type) => model_type == "gpt_oss",
        None => names
            .iter()
            .any(|name| name.to_ascii_lowercase().contains("gpt-oss")),
    }
}

/// Precision of the weights: an explicit argument, else the model's configuration.
pub(super) fn precision(args: &[String], config: Option<config::ModelConfig>) -> Option<String> {
    let explicit = |flag| flag_value(args, flag).filter(|&value| value != "auto");
    explicit("--quantization")
        .map(str::to_owned)
        .or_else(|| explicit("--dtype").map(config::short))
        .or_else(|| config.and_then(|c| c.precision))
}

/// Memory that is reserved up front says nothing of what the framework needs.
pub(super) fn memory_note(args: &[String], flag: &str) -> Option<String> {
    flag_value(args, flag).map(|share| {
        format!("GPU memory is reserved up front ({flag} {share}): its figure is a setting, not a need")
    })
}

impl Adapter for Vllm {
    fn kind(&self) -> FrameworkKind {
        FrameworkKind::Vllm
    }

    fn served_model(&self) -> &str {
        &self.served
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn launch(&self) -> Option<Launch> {
        Some(self.launch.clone())
    }

    fn requirements(&self) -> Vec<Requirement> {
        self.requirements.clone()
    }

    fn health(&self) -> HttpProbe {
        HttpProbe {
            call: HttpCall::get("/health"),
            interval: Duration::from_millis(250),
            timeout: Duration::from_secs(5),
        }
    }

    fn facts_calls(&self) -> Vec<HttpCall> {
        ["/version", "/v1/models", "/metrics"].map(HttpCall::get).into()
    }

    fn parse_facts(&self, answers: &[Option<String>]) -> Facts {
        let mut facts = Facts::default();
        let [version, models, metrics] = [0, 1, 2].map(|at| answers.get(at).and_then(Option::as_deref));
        let json = |text: Option<&str>| text.and_then(|t| serde_json::from_str::<Value>(t).ok());
        if let Some(version) = json(version).as_ref().and_then(|v| v["version"].as_str()) {
            facts.set("version", version);
        }
        if let Some(model) = json(models).as_ref().and_then(|v| v.pointer("/data/0")) {
            if let Some(id) = model["id"].as_str() {
                facts.set("model", id);
            }
            if let Some(tokens) = model["max_model_len"].as_u64() {
                facts.set_context_length(tokens);
            }
        }
        let cache = metrics::labels(metrics.unwrap_or_default(), "vllm:cache_config_info");
        let number = |name: &str| cache.get(name).and_then(|v| v.parse::<u64>().ok());
        if let (Some(blocks), Some(size)) = (number("num_gpu_blocks"), number("block_size")) {
            facts.set_kv_capacity(blocks.saturating_mul(size));
        }
        for (label, name) in [
            ("cache_dtype", "kv_cache_dtype"),
            ("enable_prefix_caching", "prefix_cache"),
        ] {
            if let Some(value) = cache.get(label) {
                facts.set(name, value);
            }
        }
        if let Some(precision) = &self.precision {
            facts.set_precision(precision);
        }
        facts.compare(self.longest_tokens, self.expected_precision.as_deref());
        facts
    }

    fn request_body(&self, request: &ChatRequest<'_>) -> Value {
        let mut body = request.safe_body(&self.served);
        if request.exact_output && !self.harmony {
            body.insert("ignore_eos".into(), json!(true));
            body.insert("min_tokens".into(), json!(request.max_tokens));
        }
        Value::Object(body)
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

    fn compile_caches(&self) -> Vec<PathBuf> {
        self.compile_caches.clone()
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

    fn parse_counters(&self, text: &str) -> BTreeMap<String, f64> {
        metrics::sums(text, COUNTERS)
    }

    fn quirks(&self) -> Quirks {
        Quirks {
            exact_output: !self.harmony,
            cached_tokens: !self
                .launch
                .args
                .iter()
                .any(|a| a == "--no-enable-prompt-tokens-details"),
            truncates_silently: false,
            health_costs: false,
        }
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::VisibleGpu;
    use benchd_core::record::{FlagKind, Message};

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
        insta::assert_snapshot!(user(FrameworkKind::Vllm, &llama()).request_body(&exact(&messages, None)), @r#"{"model":"meta-llama/Llama-3.1-8B-Instruct","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"ignore_eos":true,"min_tokens":256}"#);

        let gpt_oss = gpt_oss();
        let harmony = user(FrameworkKind::Vllm, &gpt_oss);
        insta::assert_snapshot!(harmony.request_body(&exact(&messages, gpt_oss.reasoning_effort)), @r#"{"model":"openai/gpt-oss-20b","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"reasoning_effort":"low"}"#);
        assert!(!harmony.quirks().exact_output);

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
        assert!(!adapter.quirks().exact_output);
        let launch = adapter.launch().unwrap();
        assert!(
            launch.env.contains(&pair("HF_HUB_OFFLINE", "1")),
            "a folder needs no hub"
        );
        assert_eq!(adapter.parse_facts(&[]).precision.as_deref(), Some("mxfp4"));
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
        assert!(user(FrameworkKind::Vllm, &model).quirks().exact_output);
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
        assert!(!adapter.quirks().cached_tokens);
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
        assert_eq!(adapter.parse_facts(&[]).precision.as_deref(), Some("fp16"));
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
        assert_eq!(facts.kv_capacity_tokens, Some(27_451 * 16));
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
}
