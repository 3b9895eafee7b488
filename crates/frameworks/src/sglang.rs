//! SGLang, from a venv. Facts by the sources of 0.5.6.post2 unless said otherwise.
//!
//! - `/health` answers 503 until the warm-up request is done, then runs a generation of its own: at least 1 s a
//!   probe, so it is never asked while measuring.
//! - Without `--reasoning-parser gpt-oss` the raw harmony text comes as content.
//! - `/flush_cache` answers 400 while requests are pending.
//! - After TERM it drains, then ends itself by SIGKILL: 137 is its normal end.
//! - `min_tokens` turns on a penalty pass over the logits of each step; `ignore_eos` alone gives the exact
//!   length, so it goes alone.

use std::{path::PathBuf, time::Duration};

use serde_json::Value;

use super::{
    ChatRequest, Facts, FrameworkError,
    adapter::{Adapter, HttpProbe, Server},
    args::{Env, env_path},
    compiled,
    config::is_harmony,
    counters::CounterNames,
    demand::Reservation,
    facts::json,
    hub::{self, Flags, HubServer},
    kind::{BehindUrl, Kind, ModelStore},
    last_words::Says,
    load_log::{LoadLog, Part, after, count, seconds, size},
    setup::Setup,
};
use benchd_core::record::{CacheReset, Format, HttpCall, Precision, Reading, ResetProof, Step};

/// Within its venv.
const PROGRAM: &str = "bin/python3";

const FLAGS: Flags = Flags {
    host: "--host",
    port: "--port",
    name: "--served-model-name",
    length: "--context-length",
    share: "--mem-fraction-static",
};

pub(crate) const KIND: Kind = Kind {
    title: "SGLang",
    venv_program: Some(PROGRAM),
    models: ModelStore::Hub,
    reads_gguf: |_| false,
    needs_cuda: true,
    whole_on_gpu_share: None,
    parallel_variable: None,
    metrics_flag: None,
    graphs_off: Some("--disable-cuda-graph"),
    echoes_model: true,
    // RadixAttention.
    prefix_cache_disabled: |framework| framework.args.iter().any(|arg| arg == "--disable-radix-cache"),
    // One to three minutes with warm disk caches: weights, compilation, CUDA graphs.
    start: Duration::from_secs(120),
    cache_reset: Duration::from_secs(1),
    reservation: Some(Reservation {
        share_flag: FLAGS.share,
        // It computes one from the device, 0.83 to 0.9.
        share: 0.85,
        length_flag: FLAGS.length,
        starts_with_room_only: false,
    }),
    // Its prompt counter takes in what came from the radix cache. The time per output token came after 0.5.6.
    counters: CounterNames {
        prefix: "sglang:",
        requests: Some("sglang:num_requests_total"),
        prompt_tokens: &["sglang:prompt_tokens_total"],
        output_tokens: Some("sglang:generation_tokens_total"),
        ttft: Some("sglang:time_to_first_token_seconds"),
        latency: Some("sglang:e2e_request_latency_seconds"),
        tpot: Some("sglang:request_time_per_output_token_seconds"),
    },
    load_line,
    death_line,
    weights: hub::weights,
    precision: hub::precision,
    adapter: |setup| Ok(Box::new(Sglang::new(setup)?)),
    // The field is an argument of SGLang's own.
    behind_url: Some(BehindUrl {
        paths: &["/get_server_info", "/server_info"],
        is: |info| info.contains("\"disable_radix_cache\""),
        adapter: |setup, server| {
            let harmony = is_harmony(
                &[&server.model, setup.model.hf.as_deref().unwrap_or_default()],
                None,
            );
            Box::new(Sglang { server, harmony })
        },
    }),
};

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

/// SGLang serving one model.
struct Sglang {
    server: Server,
    harmony: bool,
}

impl Sglang {
    fn new(setup: &Setup<'_>) -> Result<Self, FrameworkError> {
        let owned = ["--model-path", "--model"].map(|flag| (flag, "models.<name>.hf"));
        let hub = HubServer::new(setup, &FLAGS, &owned)?;
        let mut args = hub.command(&["-m", "sglang.launch_server", "--model-path", hub.id]);
        for flag in ["--enable-metrics", "--enable-cache-report"] {
            if !hub.has(flag) {
                args.push(flag.to_owned());
            }
        }
        let harmony = hub.is_harmony();
        if harmony && !hub.has("--reasoning-parser") {
            args.extend(["--reasoning-parser", "gpt-oss"].map(str::to_owned));
        }
        let mut server = hub.server(PROGRAM, args, Vec::new(), &[])?;
        server.compile_caches = compile_folders(&|name| setup.env_of_server(name));
        Ok(Self { server, harmony })
    }
}

/// Where it keeps what it compiled, by the sources of 0.5.6.post2 and 0.5.23. Later versions put those of the compilers
/// into a folder of their own, unless they are set.
fn compile_folders(env: Env<'_>) -> Vec<PathBuf> {
    let home = compiled::home(env);
    let root = env_path(env, "SGLANG_CACHE_DIR").unwrap_or_else(|| home.join(".cache/sglang"));
    let within = [
        "torch_compile_cache",
        "deep_gemm",
        "inductor",
        "triton",
        "tilelang",
        "cute_aot",
        ".cache/flashinfer",
    ];
    let mut all: Vec<PathBuf> = within.iter().map(|name| root.join(name)).collect();
    all.push(env_path(env, "SGLANG_DG_CACHE_DIR").unwrap_or_else(|| home.join(".cache/deep_gemm")));
    all.extend(compiled::of_compilers(env));
    compiled::apart(all)
}

/// `[2026-11-24 12:37:52 TP0] Load weight end. elapsed=0.88 s, …, avail mem=63.48 GB, mem usage=15.02 GB.`
/// Of several ranks each writes it. A model with sliding windows has two pools, each with its line.
/// A child that fails by an exception logs it and sends SIGQUIT to the front end, which kills the whole tree. One that is
/// killed is noticed by the front end's watchdog (seen of later versions, not read in 0.5.6.post2).
fn death_line(line: &str) -> Option<Says> {
    if line.contains("crashed with exit code") {
        Some(Says::That)
    } else if line.contains("SIGQUIT received") || line.contains("kill_process_tree") {
        Some(Says::Nothing)
    } else {
        None
    }
}

fn load_line(told: &mut LoadLog, line: &str) {
    if let Some(rest) = after(line, "Load weight end.") {
        told.add(
            Part::Weights,
            rank(line),
            after(rest, "mem usage=").and_then(size),
        );
        told.slowest(after(rest, "elapsed=").and_then(seconds));
        // `quant=mxfp4, ` of those that are quantised (later versions).
        if let Some(quantised) = after(rest, " quant=").and_then(|rest| rest.split(',').next()) {
            told.weights_in(quantised);
        }
    } else if let Some(rest) = after(line, "KV Cache is allocated.") {
        // "K size: 13.27 GB, V size: 13.27 GB"; of a latent cache "KV size: 20.1 GB".
        let halves = ["K size: ", "V size: "].map(|name| after(rest, name).and_then(size));
        let bytes = match halves {
            [Some(keys), Some(values)] => Some(keys.saturating_add(values)),
            _ => after(rest, "KV size: ").and_then(size),
        };
        told.add(Part::KvCache, rank(line), bytes);
        if let Some(format) = after(rest, "dtype: ").and_then(|rest| rest.split(',').next()) {
            told.cache_in(format);
        }
        // With sliding windows the first pool is the one that holds whole contexts.
        told.first_tokens(after(rest, "#tokens: ").and_then(count));
    } else if let Some(rest) = after(line, "max_total_num_tokens=") {
        told.tokens(count(rest));
    } else if let Some(rest) =
        after(line, "CUDA graph end.").or_else(|| after(line, "Capture cuda graph end."))
    {
        told.add(
            Part::Compute,
            rank(line),
            after(rest, "mem usage=").and_then(size),
        );
    }
}

/// The rank that wrote a line of SGLang: `[2026-11-24 12:37:52 TP1]`; empty where there is one only.
fn rank(line: &str) -> &str {
    after(line, "[")
        .and_then(|rest| rest.split_once(']'))
        .and_then(|(stamp, _)| stamp.splitn(3, ' ').nth(2))
        .unwrap_or("")
}

impl Adapter for Sglang {
    fn server(&self) -> &Server {
        &self.server
    }

    fn health(&self) -> HttpProbe {
        // The server's own limit for the generation behind it is 20 s.
        HttpProbe::get("/health", Duration::from_secs(1), Duration::from_secs(25))
    }

    fn facts_calls(&self) -> Vec<HttpCall> {
        // Later versions call it /server_info.
        ["/get_server_info", "/server_info", "/v1/models"]
            .map(HttpCall::get)
            .into()
    }

    fn parse_facts(&self, answers: &[Option<String>]) -> Facts {
        let mut facts = Facts::default();
        if let Some(info) = json(answers, 0).or_else(|| json(answers, 1)) {
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
            if let Some(backend) = info["attention_backend"].as_str() {
                facts.set("attention_backend", backend);
            }
            let format = |field: &str| {
                let set = info[field].as_str().filter(|set| *set != "auto");
                Reading::maybe(set.map(Format::new), "/get_server_info")
            };
            facts.precision = Precision {
                weights: format("quantization").or(format("dtype")),
                kv_cache: format("kv_cache_dtype"),
                random_weights: Reading::maybe(
                    info["load_format"].as_str().map(|set| set == "dummy"),
                    "/get_server_info",
                ),
                file_bytes: None,
            };
            if let Some(disabled) = info["disable_radix_cache"].as_bool() {
                facts.set("prefix_cache", !disabled);
            }
        }
        facts.set_listed(json(answers, 2).as_ref().and_then(|v| v.pointer("/data/0")));
        self.server.judge(facts)
    }

    fn request_body(&self, request: &ChatRequest<'_>) -> Value {
        Value::Object(request.fixed_length_body(&self.server.model, self.harmony))
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
    use crate::testing::*;
    use benchd_core::record::Message;
    use benchd_plan::FrameworkKind;

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
    fn bodies_ask_for_an_exact_length_but_for_harmony_models() {
        let messages = [Message::system("be brief"), Message::user("hi")];
        let gpt_oss = gpt_oss();
        let mut request = exact(&messages, gpt_oss.reasoning_effort);
        request.seed = Some(7);
        insta::assert_snapshot!(user(FrameworkKind::Sglang, &gpt_oss).request_body(&request), @r#"{"model":"openai/gpt-oss-20b","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"seed":7,"reasoning_effort":"low"}"#);
        insta::assert_snapshot!(user(FrameworkKind::Sglang, &llama()).request_body(&exact(&messages[1..], None)), @r#"{"model":"meta-llama/Llama-3.1-8B-Instruct","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"ignore_eos":true}"#);
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
        assert_eq!(old.values[crate::KV_CAPACITY], "1163200");
        assert_eq!(old.context_length, Some(131_072));
        assert_eq!(old.values["prefix_cache"], "true");
        assert_eq!(old.flags, []);
        assert_eq!(
            old.precision.weights,
            Reading::Unknown,
            "what is `auto` its files say"
        );
    }

    #[test]
    fn precision_is_read_from_a_recorded_server_and_its_logs() {
        macro_rules! fixture {
            ($name:literal) => {
                include_str!(concat!("../../../tests/fixtures/", $name))
            };
        }
        let info = fixture!("sglang-0.5.23/server-info.200.json");
        let adapter = user(FrameworkKind::Sglang, &llama());
        let facts = adapter.parse_facts(&[Some(info.to_owned())]).precision;
        assert_eq!(facts.random_weights, Reading::read(false, "/get_server_info"));
        let set = info
            .replace(r#""load_format":"auto""#, r#""load_format":"dummy""#)
            .replace(r#""quantization":null"#, r#""quantization":"fp8""#)
            .replace(r#""kv_cache_dtype":"auto""#, r#""kv_cache_dtype":"fp8_e5m2""#);
        let facts = adapter.parse_facts(&[Some(set)]).precision;
        assert_eq!(facts.weights.value(), Some(&Format::new("fp8")));
        assert_eq!(facts.kv_cache.value(), Some(&Format::new("fp8_e5m2")));
        assert_eq!(facts.random_weights.value(), Some(&true));

        let told = |log: &str| {
            let told = crate::read_log(log).precision();
            [told.weights, told.kv_cache].map(|reading| reading.value().map(ToString::to_string))
        };
        let bf16 = Some("bf16".to_owned());
        assert_eq!(
            told(fixture!("start-logs/sglang-0.5.17-h100-gpt-oss-20b.log")),
            [Some("MXFP4".to_owned()), bf16.clone()]
        );
        assert_eq!(
            told(fixture!("start-logs/sglang-0.5.17-h100-llama31-8b.log")),
            [None, bf16]
        );
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

    #[test]
    fn what_it_compiled_lies_where_it_puts_it() {
        let bare = |name: &str| match name {
            "HOME" => Some("/home/b".to_owned()),
            "USER" => Some("b".to_owned()),
            _ => None,
        };
        insta::assert_snapshot!(shown_folders(compile_folders(&bare)), @r"
        /home/b/.cache/sglang/torch_compile_cache
        /home/b/.cache/sglang/deep_gemm
        /home/b/.cache/sglang/inductor
        /home/b/.cache/sglang/triton
        /home/b/.cache/sglang/tilelang
        /home/b/.cache/sglang/cute_aot
        /home/b/.cache/sglang/.cache/flashinfer
        /home/b/.cache/deep_gemm
        /tmp/torchinductor_b
        /home/b/.triton/cache
        /home/b/.cache/flashinfer
        /home/b/.cache/tvm-ffi
        ");
    }
}
