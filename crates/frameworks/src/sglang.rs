//! SGLang, from a venv. Facts by the sources of 0.5.6.post2 unless said otherwise.
//!
//! - `/health` answers 503 until the warm-up request is done, then runs a generation of its own: at least 1 s a
//!   probe, so it is never asked while measuring.
//! - Without `--reasoning-parser gpt-oss` the raw harmony text comes as content.
//! - `/flush_cache` answers 400 while requests are pending.
//! - After TERM it drains, then ends itself by SIGKILL: 137 is its normal end.
//! - `min_tokens` turns on a penalty pass over the logits of each step; `ignore_eos` alone gives the exact
//!   length, so it goes alone.

use std::{
    collections::BTreeMap, os::unix::process::ExitStatusExt, path::PathBuf, process::ExitStatus,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    Adapter, ChatRequest, Endpoint, Facts, FrameworkError, HttpProbe, Launch, Quirks, Requirement, compiled,
    config, ended_by_term,
    given::{Given, GpuNaming, flag_value, has_flag, pair},
    metrics,
    own::OwnNames,
    vllm::{is_harmony, memory_note, precision},
};
use benchd_core::record::{CacheReset, HttpCall, ResetProof, Step};
use benchd_plan::FrameworkKind;

const COUNTERS: &[&str] = &[
    "sglang:prompt_tokens_total",
    "sglang:generation_tokens_total",
    "sglang:cached_tokens_total",
    "sglang:num_requests_total",
    "sglang:num_retracted_reqs_total",
    "sglang:time_to_first_token_seconds_sum",
    "sglang:time_to_first_token_seconds_count",
    "sglang:e2e_request_latency_seconds_sum",
    "sglang:e2e_request_latency_seconds_count",
    "sglang:request_time_per_output_token_seconds_sum",
    "sglang:request_time_per_output_token_seconds_count",
];

/// Its prompt counter takes in what came from the radix cache. The time per output token came after 0.5.6.
pub(super) const OWN: OwnNames = OwnNames {
    prefix: "sglang:",
    requests: Some("sglang:num_requests_total"),
    prompt_tokens: &["sglang:prompt_tokens_total"],
    output_tokens: Some("sglang:generation_tokens_total"),
    ttft: Some("sglang:time_to_first_token_seconds"),
    latency: Some("sglang:e2e_request_latency_seconds"),
    tpot: Some("sglang:request_time_per_output_token_seconds"),
};

/// Switches RadixAttention off, which is on by default.
pub(super) const WITHOUT_PREFIX_CACHE: &str = "--disable-radix-cache";

/// SGLang serving one model.
pub(super) struct Sglang {
    endpoint: Endpoint,
    served: String,
    launch: Launch,
    requirements: Vec<Requirement>,
    precision: Option<String>,
    expected_precision: Option<String>,
    longest_tokens: u32,
    notes: Vec<String>,
    compile_caches: Vec<PathBuf>,
}

impl Sglang {
    pub(super) fn new(given: &Given<'_>) -> Result<Self, FrameworkError> {
        let id = given.model_id()?;
        let venv = given.venv()?;
        given.check_effort()?;
        let plan_args = given.plan_args(&[
            ("--host", "host:"),
            ("--port", "port:"),
            ("--model-path", "models.<name>.hf"),
            ("--model", "models.<name>.hf"),
        ])?;
        if let Some(tokens) = flag_value(&plan_args, "--context-length") {
            given.check_context("--context-length", tokens)?;
        }
        let endpoint = given.endpoint();
        let served = flag_value(&plan_args, "--served-model-name")
            .unwrap_or(id)
            .to_owned();
        let config = given.model_config(id, &plan_args);
        let program = venv.join("bin/python3");

        let port = endpoint.port.to_string();
        let mut args: Vec<String> = [
            "-m",
            "sglang.launch_server",
            "--model-path",
            id,
            "--host",
            &endpoint.host,
            "--port",
            &port,
        ]
        .map(str::to_owned)
        .into();
        if !has_flag(&plan_args, "--served-model-name") {
            args.extend(["--served-model-name".to_owned(), served.clone()]);
        }
        args.extend(plan_args.iter().cloned());
        for flag in ["--enable-metrics", "--enable-cache-report"] {
            if !has_flag(&plan_args, flag) {
                args.push(flag.to_owned());
            }
        }
        if is_harmony(&[id, &served], config.as_ref()) && !has_flag(&plan_args, "--reasoning-parser") {
            args.extend(["--reasoning-parser", "gpt-oss"].map(str::to_owned));
        }

        let mut env = given.gpu_env(GpuNaming::Index);
        env.extend(given.venv_env(&venv));
        if config::is_folder(id) {
            env.push(pair("HF_HUB_OFFLINE", "1"));
        }
        let env = given.environment(env, &[])?;

        Ok(Self {
            precision: precision(&plan_args, config),
            requirements: given.venv_requirements(&program, id),
            launch: given.launch(program, args, env),
            expected_precision: given.model.precision.clone(),
            longest_tokens: given.context.longest_prompt_tokens,
            notes: memory_note(&plan_args, "--mem-fraction-static")
                .filter(|_| !given.context.gpus.is_empty())
                .into_iter()
                .collect(),
            compile_caches: compiled::apart(compiled::of_sglang(&|name| given.env_of_server(name))),
            endpoint,
            served,
        })
    }
}

impl Adapter for Sglang {
    fn kind(&self) -> FrameworkKind {
        FrameworkKind::Sglang
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
            interval: Duration::from_secs(1),
            // The server's own limit for the generation behind it is 20 s.
            timeout: Duration::from_secs(25),
        }
    }

    fn facts_calls(&self) -> Vec<HttpCall> {
        // Later versions call it /server_info.
        ["/get_server_info", "/server_info", "/v1/models"]
            .map(HttpCall::get)
            .into()
    }

    fn parse_facts(&self, answers: &[Option<String>]) -> Facts {
        let mut facts = Facts::default();
        let json = |at: usize| {
            let text = answers.get(at)?.as_deref()?;
            serde_json::from_str::<Value>(text).ok()
        };
        if let Some(info) = json(0).or_else(|| json(1)) {
            if let Some(version) = info["version"].as_str() {
                facts.set("version", version);
            }
            let capacity = info
                .pointer("/internal_states/0/memory_usage/token_capacity")
                .or_else(|| info.get("max_total_num_tokens"))
                .and_then(Value::as_u64);
            if let Some(tokens) = capacity {
                facts.set_kv_capacity(tokens);
            }
            for (field, name) in [
                ("kv_cache_dtype", "kv_cache_dtype"),
                ("attention_backend", "attention_backend"),
            ] {
                if let Some(value) = info[field].as_str() {
                    facts.set(name, value);
                }
            }
            if let Some(disabled) = info["disable_radix_cache"].as_bool() {
                facts.set("prefix_cache", !disabled);
            }
        }
        if let Some(model) = json(2).as_ref().and_then(|v| v.pointer("/data/0")) {
            if let Some(id) = model["id"].as_str() {
                facts.set("model", id);
            }
            if let Some(tokens) = model["max_model_len"].as_u64() {
                facts.set_context_length(tokens);
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
        if request.exact_output {
            body.insert("ignore_eos".into(), json!(true));
        }
        Value::Object(body)
    }

    fn reasoning_fields(&self) -> &'static [&'static str] {
        &["reasoning_content", "reasoning"]
    }

    fn cache_reset(&self) -> CacheReset {
        let mut step = Step::new(
            "flush the cache",
            HttpCall::post("/flush_cache"),
            Duration::from_secs(30),
        );
        step.fatal = vec![404];
        step.hint = "it answers 400 as long as requests are pending".to_owned();
        CacheReset::Http {
            steps: vec![step],
            proof: ResetProof::CachedTokens,
        }
    }

    fn compile_caches(&self) -> Vec<PathBuf> {
        self.compile_caches.clone()
    }

    fn metrics_path(&self) -> Option<&str> {
        Some("/metrics")
    }

    fn parse_counters(&self, text: &str) -> BTreeMap<String, f64> {
        metrics::sums(text, COUNTERS)
    }

    fn clean_exit(&self, status: ExitStatus) -> bool {
        ended_by_term(status) || status.signal() == Some(libc::SIGKILL) || status.code() == Some(137)
    }

    fn quirks(&self) -> Quirks {
        Quirks {
            exact_output: true,
            cached_tokens: true,
            truncates_silently: false,
            health_costs: true,
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
    use benchd_core::record::Message;

    #[test]
    fn command_line_and_environment_of_the_users_models() {
        insta::assert_snapshot!(typed(&user(FrameworkKind::Sglang, &gpt_oss()).launch().unwrap()), @r"
        CUDA_DEVICE_ORDER=PCI_BUS_ID
        CUDA_VISIBLE_DEVICES=0
        VIRTUAL_ENV=/b/envs/sglang/.venv
        PATH=/b/envs/sglang/.venv/bin:/usr/bin
        /b/envs/sglang/.venv/bin/python3 -m sglang.launch_server --model-path openai/gpt-oss-20b --host 127.0.0.1 --port 30000 --served-model-name openai/gpt-oss-20b --tp 1 --mem-fraction-static 0.85 --reasoning-parser gpt-oss --enable-metrics --enable-cache-report
        ");
        let line = user(FrameworkKind::Sglang, &llama())
            .launch()
            .unwrap()
            .argv()
            .join(" ");
        assert!(
            line.ends_with("--mem-fraction-static 0.85 --enable-metrics --enable-cache-report"),
            "{line}"
        );
    }

    #[test]
    fn the_harmony_parser_is_added_where_the_plan_forgot_it() {
        let mut model = gpt_oss();
        model.args.clear();
        let line = user(FrameworkKind::Sglang, &model)
            .launch()
            .unwrap()
            .argv()
            .join(" ");
        assert!(line.ends_with("--reasoning-parser gpt-oss"), "{line}");
        let given_once = user(FrameworkKind::Sglang, &gpt_oss())
            .launch()
            .unwrap()
            .argv()
            .join(" ");
        assert_eq!(given_once.matches("--reasoning-parser").count(), 1);
    }

    #[test]
    fn bodies_ask_for_an_exact_length_without_min_tokens() {
        let messages = [Message::system("be brief"), Message::user("hi")];
        let gpt_oss = gpt_oss();
        let mut request = exact(&messages, gpt_oss.reasoning_effort);
        request.seed = Some(7);
        insta::assert_snapshot!(user(FrameworkKind::Sglang, &gpt_oss).request_body(&request), @r#"{"model":"openai/gpt-oss-20b","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"seed":7,"reasoning_effort":"low","ignore_eos":true}"#);
        insta::assert_snapshot!(user(FrameworkKind::Sglang, &llama()).request_body(&exact(&messages[1..], None)), @r#"{"model":"meta-llama/Llama-3.1-8B-Instruct","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"ignore_eos":true}"#);
    }

    #[test]
    fn a_kill_by_itself_after_term_is_its_normal_end() {
        let sglang = user(FrameworkKind::Sglang, &llama());
        let vllm = user(FrameworkKind::Vllm, &llama());
        let exit = |code: i32| ExitStatus::from_raw(code << 8);
        for clean in [exit(0), exit(143), ExitStatus::from_raw(15)] {
            assert!(sglang.clean_exit(clean) && vllm.clean_exit(clean), "{clean}");
        }
        for own_kill in [exit(137), ExitStatus::from_raw(9)] {
            assert!(sglang.clean_exit(own_kill), "{own_kill}");
            assert!(!vllm.clean_exit(own_kill), "{own_kill}");
        }
        assert!(!sglang.clean_exit(exit(1)) && !sglang.clean_exit(ExitStatus::from_raw(11)));
    }

    #[test]
    fn the_flush_is_asked_again_while_requests_are_pending() {
        let CacheReset::Http { steps, proof } = user(FrameworkKind::Sglang, &llama()).cache_reset() else {
            panic!("SGLang flushes by a call");
        };
        assert_eq!(steps[0].call.to_string(), "POST /flush_cache");
        assert!(steps[0].done.check(200, "Cache flushed.").is_ok());
        assert!(steps[0].done.check(400, "").is_err() && !steps[0].fatal.contains(&400));
        assert_eq!(proof, ResetProof::CachedTokens);
    }

    #[test]
    fn the_ready_check_leaves_time_for_its_generation() {
        let adapter = user(FrameworkKind::Sglang, &llama());
        assert!(adapter.health().timeout >= Duration::from_secs(20));
        assert!(adapter.quirks().health_costs);
    }

    #[test]
    fn facts_are_read_from_either_name_of_the_call() {
        let info = r#"{"model_path":"openai/gpt-oss-20b","served_model_name":"openai/gpt-oss-20b","context_length":null,"kv_cache_dtype":"auto","attention_backend":"fa3","disable_radix_cache":false,"tp_size":1,"status":"ready","max_total_num_tokens":1163264,"max_req_input_len":131066,"internal_states":[{"attention_backend":"fa3","last_gen_throughput":0.0,"memory_usage":{"weight":12.8,"kvcache":53.25,"token_capacity":1163200,"graph":0.46}}],"version":"0.5.6.post2"}"#;
        let models = r#"{"object":"list","data":[{"id":"openai/gpt-oss-20b","object":"model","created":1795498500,"owned_by":"sglang","root":"openai/gpt-oss-20b","parent":null,"max_model_len":131072}]}"#;
        let adapter = user(FrameworkKind::Sglang, &gpt_oss());
        let old = adapter.parse_facts(&[Some(info.to_owned()), None, Some(models.to_owned())]);
        let new = adapter.parse_facts(&[None, Some(info.to_owned()), Some(models.to_owned())]);
        assert_eq!(old, new);
        assert_eq!(old.values["version"], "0.5.6.post2");
        assert_eq!(old.kv_capacity_tokens, Some(1_163_200));
        assert_eq!(old.context_length, Some(131_072));
        assert_eq!(old.values["prefix_cache"], "true");
        assert_eq!(old.flags, []);
    }

    #[test]
    fn a_context_that_is_too_short_is_refused() {
        let mut fw = framework(FrameworkKind::Sglang);
        fw.args = strings(&["--context-length=4000"]);
        let error = refused(&fw, &llama());
        assert!(error.to_string().contains("4352"), "{error}");
        fw.args = strings(&["--context-length=8192"]);
        assert!(made(&fw, &llama(), &context()).is_ok());
    }
}
