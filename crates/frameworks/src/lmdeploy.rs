//! LMDeploy's `api_server`, from a venv. Facts by the package of 0.18.0 (`lmdeploy-0.18.0-cp311-…_x86_64.whl` of PyPI;
//! paths below are within it): read there, and its HTTP layer tried on a stub engine. **Not run here on a GPU**: what
//! needs one (speeds, its log's figures, gpt-oss) is by its sources alone.
//!
//! - The port opens only after the load (`serve/openai/api_server.py`), so the first answer of `/health` is late but true.
//!   It tells a snapshot that it takes every 12 s, and runs no generation.
//! - Two engines: TurboMind by default, and PyTorch where the architecture is none of TurboMind's, with no more than a
//!   warning (`archs.py`). Which one runs decides most figures. Only PyTorch's answers `/distserve/engine_info`, with JSON
//!   inside a JSON string (`serve/openai/endpoints/distserve.py`).
//! - No call tells its version or its context length, which is `--session-len` or the model's own (`utils.py`). A longer
//!   prompt is refused by a 400 with both lengths, and never cut.
//! - Unknown fields of a request are ignored. Under `ignore_eos` TurboMind stops looking for the end; it goes alone, as
//!   `min_new_tokens` (`serve/openai/protocol.py`) works on the logits of each step. Not for gpt-oss, whose parser should
//!   fail at the end token (`serve/parsers/_openai_harmony.py`).
//! - TurboMind keeps `top_k` (50 by default, `messages.py`) at temperature 0: greedy answers need `top_k: 1`.
//! - Its prefix cache is off unless `--enable-prefix-caching` is given, and no call empties it. `/sleep` and `/wakeup` are
//!   no substitute: TurboMind's do nothing and answer 200, PyTorch's zero the cache and keep its index (`pytorch/engine/`).
//! - `completion_tokens` leaves the stop token out (`serve/core/async_engine.py`), its generation counter takes it in.
//! - At TERM it ends open streams first, without limit, then ends by the signal. PyTorch's engine is a process of its own
//!   that does not watch its parent: after a KILL it keeps the GPU until its group is cleared.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    ChatRequest, Facts, FrameworkError,
    adapter::{Adapter, HttpProbe, Server},
    args::{Env, arguments, flag_value, has_flag},
    compiled,
    counters::CounterNames,
    facts::json,
    hub::{self, Flags, HubServer},
    kind::{Kind, ModelStore},
    load_log::{LoadLog, Part, after, count, size},
    precision::{hub_dtype, hub_weights, random_weights, set_by},
    setup::Setup,
};
use benchd_core::record::{CacheReset, Format, HttpCall, Precision, Reading, ResetProof};
use benchd_plan::{Framework, Model};

/// Within its venv.
const PROGRAM: &str = "bin/lmdeploy";

const FLAGS: Flags = Flags {
    host: "--server-name",
    port: "--server-port",
    name: "--model-name",
    length: "--session-len",
    share: "--cache-max-entry-count",
};

const PREFIX_CACHE_FLAG: &str = "--enable-prefix-caching";

pub(crate) const KIND: Kind = Kind {
    title: "LMDeploy",
    venv_program: Some(PROGRAM),
    models: ModelStore::Hub,
    reads_gguf: |_| false,
    needs_cuda: true,
    whole_on_gpu_share: None,
    parallel_variable: None,
    metrics_flag: None,
    graphs_off: None,
    echoes_model: true,
    prefix_cache_disabled: |framework| !has_flag(&framework.args, PREFIX_CACHE_FLAG),
    // As vLLM and SGLang; not measured. TurboMind tunes its kernels at every start.
    start: Duration::from_secs(120),
    cache_reset: Duration::ZERO,
    // `--cache-max-entry-count` is a share of what the weights leave free, not of the device.
    reservation: None,
    // Its prompt counter takes in what came from the prefix cache. Its generation counter is no count of the answers'
    // tokens (the stop token), and its time per output token has one sample a chunk, not a request.
    counters: CounterNames {
        prefix: "lmdeploy:",
        requests: Some("lmdeploy:request_success_total"),
        prompt_tokens: &["lmdeploy:prompt_tokens_total"],
        output_tokens: None,
        ttft: Some("lmdeploy:time_to_first_token_seconds"),
        latency: Some("lmdeploy:e2e_request_latency_seconds"),
        tpot: None,
    },
    load_line,
    death_line: |_| None,
    weights: hub::weights,
    precision,
    adapter: |setup| Ok(Box::new(Lmdeploy::new(setup)?)),
    behind_url: None,
};

/// By `metrics/loggers.py`.
const COUNTERS: &[&str] = &[
    "lmdeploy:prompt_tokens_total",
    "lmdeploy:generation_tokens_total",
    "lmdeploy:cached_tokens_total",
    "lmdeploy:request_success_total",
    "lmdeploy:time_to_first_token_seconds_sum",
    "lmdeploy:time_to_first_token_seconds_count",
    "lmdeploy:e2e_request_latency_seconds_sum",
    "lmdeploy:e2e_request_latency_seconds_count",
];

/// LMDeploy serving one model.
struct Lmdeploy {
    server: Server,
    harmony: bool,
    has_metrics: bool,
    prefix_cache: bool,
    /// `--session-len`, where it is given.
    session_tokens: Option<u64>,
}

impl Lmdeploy {
    fn new(setup: &Setup<'_>) -> Result<Self, FrameworkError> {
        let hub = HubServer::new(setup, &FLAGS, &[])?;
        let args = hub.command(&["serve", "api_server", hub.id]);
        let (harmony, has_metrics) = (hub.is_harmony(), !hub.has("--disable-metrics"));
        let prefix_cache = hub.has(PREFIX_CACHE_FLAG);
        let session_tokens = flag_value(&hub.args, FLAGS.length).and_then(|tokens| tokens.parse().ok());
        let mut server = hub.server(PROGRAM, args, Vec::new(), &[])?;
        server.compile_caches = compiled::apart(compiled::of_compilers(&|name| setup.env_of_server(name)));
        Ok(Self {
            server,
            harmony,
            has_metrics,
            prefix_cache,
            session_tokens,
        })
    }
}

/// By its arguments and the model's configuration. Its cache is quantised by `--quant-policy` alone (`cli/utils.py`).
fn precision(framework: &Framework, model: &Model, env: Env<'_>) -> Precision {
    const CACHE: &str = "--quant-policy";
    let args = arguments(framework, model);
    let config = hub::configuration(model, &args, env);
    let cache = match flag_value(&args, CACHE) {
        Some("4") => Reading::read(Format::new("int4"), CACHE),
        Some("8") => Reading::read(Format::new("int8"), CACHE),
        Some("0") | None => set_by(&args, "--dtype").or(hub_dtype(&config)),
        Some(_) => Reading::Unknown,
    };
    Precision {
        weights: hub_weights(&args, &config),
        kv_cache: cache,
        random_weights: random_weights(&args).or(Reading::read(false, "no --load-format dummy")),
        file_bytes: None,
    }
}

/// Tokens of a KV cache of so many blocks, of which PyTorch's engine keeps one for itself
/// (`pytorch/engine/config_builder.py`).
fn tokens(blocks: u64, block_tokens: u64) -> Option<u64> {
    blocks.checked_sub(1)?.checked_mul(block_tokens)
}

/// TurboMind's budget of its KV cache, and PyTorch's blocks, both at the level INFO: `Object cache budget: X MB from free
/// Y MB and ratio R`, and the line after `Building CacheEngine with config:`, `CacheConfig(…, block_size=64, …,
/// num_gpu_blocks=…, …)`. Neither tells its weights or how long it loaded.
fn load_line(told: &mut LoadLog, line: &str) {
    if let Some(rest) = after(line, "Object cache budget: ") {
        told.add(Part::KvCache, "", size(rest));
    } else if let Some(rest) = after(line, "CacheConfig(max_batches=") {
        let number = |name| after(rest, name).and_then(count);
        let blocks = number("num_gpu_blocks=").zip(number(" block_size="));
        told.tokens(blocks.and_then(|(blocks, size)| tokens(blocks, size)));
    }
}

impl Adapter for Lmdeploy {
    fn server(&self) -> &Server {
        &self.server
    }

    fn health(&self) -> HttpProbe {
        HttpProbe::get("/health", Duration::from_millis(250), Duration::from_secs(5))
    }

    fn facts_calls(&self) -> Vec<HttpCall> {
        ["/v1/models", "/distserve/engine_info"].map(HttpCall::get).into()
    }

    fn parse_facts(&self, answers: &[Option<String>]) -> Facts {
        let mut facts = Facts::default();
        facts.set_listed(json(answers, 0).as_ref().and_then(|v| v.pointer("/data/0")));
        facts.set("prefix_cache", self.prefix_cache);
        if let Some(tokens) = self.session_tokens {
            facts.set_context_length(tokens);
        }
        let info = json(answers, 1).and_then(|text| serde_json::from_str::<Value>(text.as_str()?).ok());
        if let Some(info) = info {
            facts.set("engine", "pytorch");
            let number = |name: &str| info[name].as_u64();
            let blocks = number("num_gpu_blocks").zip(number("block_size"));
            if let Some(tokens) = blocks.and_then(|(blocks, size)| tokens(blocks, size)) {
                facts.set_kv_capacity(tokens);
            }
        }
        self.server.judge(facts)
    }

    fn request_body(&self, request: &ChatRequest<'_>) -> Value {
        let mut body = request.fixed_length_body(&self.server.model, self.harmony);
        if request.temperature == 0.0 {
            body.insert("top_k".into(), json!(1));
        }
        Value::Object(body)
    }

    fn reasoning_fields(&self) -> &'static [&'static str] {
        &["reasoning_content"]
    }

    fn cache_reset(&self) -> CacheReset {
        if self.prefix_cache {
            return CacheReset::NotPossible {
                why: "LMDeploy has no call that empties its prefix cache".to_owned(),
            };
        }
        // There is none to empty; the probe shows it.
        CacheReset::Http {
            steps: Vec::new(),
            proof: ResetProof::CachedTokens,
        }
    }

    fn metrics_path(&self) -> Option<&str> {
        self.has_metrics.then_some("/metrics")
    }

    fn counters(&self) -> &'static [&'static str] {
        COUNTERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{load_figures, testing::*};
    use benchd_core::record::Message;
    use benchd_plan::FrameworkKind;

    fn with_args(args: &[&str]) -> benchd_plan::Framework {
        let mut fw = framework(FrameworkKind::Lmdeploy);
        fw.args = strings(args);
        fw
    }

    #[test]
    fn command_line_and_environment() {
        let launch = user(FrameworkKind::Lmdeploy, &llama()).launch().unwrap();
        insta::assert_snapshot!(typed(&launch), @r"
        CUDA_DEVICE_ORDER=PCI_BUS_ID
        CUDA_VISIBLE_DEVICES=0
        VIRTUAL_ENV=/b/envs/lmdeploy/.venv
        PATH=/b/envs/lmdeploy/.venv/bin:/usr/bin
        /b/envs/lmdeploy/.venv/bin/lmdeploy serve api_server meta-llama/Llama-3.1-8B-Instruct --server-name 127.0.0.1 --server-port 23333 --model-name meta-llama/Llama-3.1-8B-Instruct
        ");
        let named = with_args(&["--model_name=short", "--session-len", "8192"]);
        let adapter = made(&named, &llama(), &context()).unwrap();
        assert_eq!(adapter.served_model(), "short");
        assert_eq!(adapter.parse_facts(&[]).context_length, Some(8192));
        assert!(matches!(
            refused(&with_args(&["--server-port=1"]), &llama()),
            FrameworkError::OwnedFlag { key: "port:", .. }
        ));
        assert!(matches!(
            refused(&with_args(&["--session-len", "4000"]), &llama()),
            FrameworkError::ContextTooShort { needed: 4352, .. }
        ));
    }

    #[test]
    fn bodies_ask_for_an_exact_length_and_greedy_answers() {
        let messages = [Message::user("hi")];
        insta::assert_snapshot!(user(FrameworkKind::Lmdeploy, &llama()).request_body(&exact(&messages, None)), @r#"{"model":"meta-llama/Llama-3.1-8B-Instruct","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"ignore_eos":true,"top_k":1}"#);
        assert!(!asks_for_exact_length(
            user(FrameworkKind::Lmdeploy, &gpt_oss()).as_ref()
        ));
    }

    #[test]
    fn its_prefix_cache_is_off_unless_asked_for_and_can_not_be_emptied() {
        let on = with_args(&[PREFIX_CACHE_FLAG]);
        let off = with_args(&[]);
        assert!((KIND.prefix_cache_disabled)(&off) && !(KIND.prefix_cache_disabled)(&on));
        let reset = |fw| made(fw, &llama(), &context()).unwrap().cache_reset();
        assert!(matches!(reset(&on), CacheReset::NotPossible { .. }));
        assert!(matches!(reset(&off), CacheReset::Http { steps, .. } if steps.is_empty()));
    }

    #[test]
    fn facts_and_counters_are_read() {
        let adapter = user(FrameworkKind::Lmdeploy, &llama());
        // As its endpoints make them: the second is JSON in a JSON string.
        let info = r#""{\"tp_size\":1,\"dp_size\":1,\"pp_size\":null,\"ep_size\":1,\"dp_rank\":0,\"block_size\":64,\"num_cpu_blocks\":0,\"num_gpu_blocks\":5001}""#;
        let models = r#"{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"lmdeploy","root":"m","parent":null,"permission":[]}]}"#;
        let facts = adapter.parse_facts(&[Some(models.to_owned()), Some(info.to_owned())]);
        assert_eq!(facts.values["engine"], "pytorch");
        assert_eq!(facts.values["model"], "m");
        assert_eq!(facts.values["prefix_cache"], "false");
        assert_eq!(facts.values[crate::KV_CAPACITY], (5000 * 64).to_string());
        // Of a server that answers nothing of it only the setting is known.
        assert_eq!(adapter.parse_facts(&[None, None]).values.len(), 1);

        let counters = adapter.parse_counters(
            "lmdeploy:prompt_tokens_total{engine=\"0\",model_name=\"m\"} 61.0\n\
             lmdeploy:time_to_first_token_seconds_sum{engine=\"0\",model_name=\"m\"} 0.5\n\
             lmdeploy:time_to_first_token_seconds_count{engine=\"0\",model_name=\"m\"} 2.0\n\
             lmdeploy:gpu_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.1\n",
        );
        let figures = crate::server_figures(&counters);
        assert_eq!(
            (figures.prompt_tokens, figures.ttft_mean_ms),
            (Some(61.0), Some(250.0))
        );
        let silent = with_args(&["--disable-metrics"]);
        assert_eq!(made(&silent, &llama(), &context()).unwrap().metrics_path(), None);
    }

    /// Lines as its sources write them; none was recorded.
    #[test]
    fn its_log_tells_the_cache() {
        let turbomind =
            load_figures("[TM][INFO] Object cache budget: 51200 MB from free 64000 MB and ratio 0.8\n");
        assert_eq!(turbomind.kv_cache_bytes, Some(51_200 << 20));
        let pytorch = load_figures(
            "2026-11-24 20:00:00,000 - lmdeploy - INFO - base.py:441 - Building CacheEngine with config: \n\
             CacheConfig(max_batches=128, block_size=64, num_cpu_blocks=0, num_gpu_blocks=5001, kernel_block_size=64).\n",
        );
        assert_eq!(pytorch.kv_cache_tokens, Some(5000 * 64));
    }
}
