//! Any other OpenAI-compatible server: a command of the plan, or a server that someone else runs.
//!
//! Its likeliest tenant is llama.cpp's `llama-server`, which honours `ignore_eos`. `min_tokens` goes along for
//! those that know it; servers ignore fields that they don't know. Both stay out for gpt-oss, which `ignore_eos`
//! breaks on vLLM, and this may be one.
//!
//! llama-server's prompt cache (by b11434): a slot keeps the tokens of its last prompt, and `POST /slots/N?action=erase`
//! empties it, but only under `--slot-save-path` (501 without). Beside it lies a cache in host memory, on by default,
//! that no call empties: after the erasure it gives the prompt back. So a reset needs `--cache-ram 0` as well. Nothing turns the server's prompt cache off (`cache_prompt: false`):
//! the prefix-cache scenario measures it, and `cached_tokens` tells where it answered.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde_json::{Value, json};

use super::{
    Adapter, ChatRequest, Endpoint, Facts, FrameworkError, HttpProbe, Launch, Quirks, Requirement,
    given::{Given, GpuNaming, absolute, flag_value, has_flag},
    metrics,
    own::OwnNames,
    vllm::is_harmony,
};
use benchd_core::record::{CacheReset, Flag, FlagKind, HttpCall, ResetProof, Step};
use benchd_plan::{FrameworkKind, Source};

/// llama-server's counters.
const COUNTERS: &[&str] = &[
    "llamacpp:prompt_tokens_total",
    "llamacpp:prompt_tokens_cached_total",
    "llamacpp:prompt_seconds_total",
    "llamacpp:tokens_predicted_total",
    "llamacpp:tokens_predicted_seconds_total",
    "llamacpp:n_decode_total",
];

/// Its prompt counter holds what was computed; what came from its cache is counted apart (by builds that count it at
/// all: b11434 does). Its times are not here but in the `timings` of each answer.
pub(super) const OWN: OwnNames = OwnNames {
    prefix: "llamacpp:",
    requests: None,
    prompt_tokens: &[
        "llamacpp:prompt_tokens_total",
        "llamacpp:prompt_tokens_cached_total",
    ],
    output_tokens: Some("llamacpp:tokens_predicted_total"),
    ttft: None,
    latency: None,
    tpot: None,
};

/// llama-server answers calls on its slots only with this.
const SLOT_ACTIONS: &str = "--slot-save-path";

/// Limit of emptying one slot.
const ERASE_TIMEOUT: Duration = Duration::from_secs(30);

/// Any other server, serving one model.
pub(super) struct Openai {
    endpoint: Endpoint,
    served: String,
    launch: Option<Launch>,
    requirements: Vec<Requirement>,
    health_path: String,
    prefix: String,
    chat_path: String,
    has_metrics: bool,
    harmony: bool,
    longest_tokens: u32,
    expected_precision: Option<String>,
    cache_reset: CacheReset,
}

impl Openai {
    pub(super) fn new(given: &Given<'_>) -> Result<Self, FrameworkError> {
        let served = given.model_id()?.to_owned();
        let (endpoint, prefix, launch, requirements, health_path) = match &given.framework.source {
            Source::Url(url) => {
                let (endpoint, prefix) = base(given, url)?;
                let health_path = format!("{prefix}/v1/models");
                (endpoint, prefix, None, Vec::new(), health_path)
            }
            Source::Command { command, ready_path } => {
                let (launch, requirements) = command_line(given, &served, command)?;
                (
                    given.endpoint(),
                    String::new(),
                    Some(launch),
                    requirements,
                    ready_path.clone(),
                )
            }
            _ => return Err(given.wrong_source("`command: [..]` or `url: http://..`")),
        };
        Ok(Self {
            cache_reset: cache_reset(launch.as_ref()),
            has_metrics: launch.as_ref().is_some_and(|l| has_flag(&l.args, "--metrics")),
            // A server says its name, not its architecture; `hf` names the weights where the plan has it.
            harmony: is_harmony(&[&served, given.model.hf.as_deref().unwrap_or_default()], None),
            chat_path: format!("{prefix}/v1/chat/completions"),
            endpoint,
            served,
            launch,
            requirements,
            health_path,
            prefix,
            longest_tokens: given.context.longest_prompt_tokens,
            expected_precision: given.model.precision.clone(),
        })
    }
}

/// The command with its placeholders filled, and what must be on disk for it.
fn command_line(
    given: &Given<'_>,
    served: &str,
    command: &[String],
) -> Result<(Launch, Vec<Requirement>), FrameworkError> {
    let framework = given.framework;
    let gguf = given.model.gguf.as_ref().map(|path| path.display().to_string());
    let port = framework.port.to_string();
    let value = |name: &str| match name {
        "host" => Some(framework.host.clone()),
        "port" => Some(port.clone()),
        "model" => Some(served.to_owned()),
        "gguf" => gguf.clone(),
        _ => None,
    };
    let fill = |text: &String| {
        fill(text, &value).map_err(|placeholder| FrameworkError::Placeholder {
            framework: framework.name.clone(),
            placeholder,
        })
    };
    let mut words = command
        .iter()
        .map(fill)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter();
    let Some(first) = words.next() else {
        return Err(given.wrong_source("`command:` with a program"));
    };
    let mut args: Vec<String> = words.collect();
    args.extend(
        given
            .plan_args(&[])?
            .iter()
            .map(fill)
            .collect::<Result<Vec<_>, _>>()?,
    );

    let mut requirements = Vec::new();
    let program = if first == "benchd" {
        // Our own simulated server, from wherever this benchd was started.
        std::env::current_exe().map_err(FrameworkError::OwnExecutable)?
    } else if first.contains('/') {
        let program = absolute(&PathBuf::from(&first));
        requirements.push(Requirement {
            path: program.clone(),
            what: format!("program of framework `{}`", framework.name),
            executable: true,
            remedy: format!("install it, or correct frameworks.{}.command", framework.name),
        });
        program
    } else {
        // A bare name is looked for on the path, when it is started.
        PathBuf::from(&first)
    };
    if let Some(path) = given.model.gguf.as_ref()
        && command
            .iter()
            .chain(&framework.args)
            .any(|word| word.contains("{gguf}"))
    {
        requirements.push(Requirement {
            path: path.clone(),
            what: format!("weights of model `{}`", given.model.name),
            executable: false,
            remedy: format!("fetch the file, or correct models.{}.gguf", given.model.name),
        });
    }
    if let Some(tokens) = flag_value(&args, "--ctx-size").filter(|_| !has_flag(&args, "--parallel")) {
        // llama-server divides its context by its slots; 0 means the model's own.
        if tokens != "0" {
            given.check_context("--ctx-size", tokens)?;
        }
    }
    let env = given.environment(given.gpu_env(GpuNaming::Uuid), &[])?;
    Ok((given.launch(program, args, env), requirements))
}

/// How llama-server's cache is emptied, where its arguments allow it.
fn cache_reset(launch: Option<&Launch>) -> CacheReset {
    let not_possible = |why: &str| CacheReset::NotPossible { why: why.to_owned() };
    let Some(launch) = launch else {
        return not_possible("no call that empties the cache is known of a server that someone else runs");
    };
    let args = &launch.args;
    let named = |name: &str| launch.program.file_name().is_some_and(|file| file == name);
    if !has_flag(args, SLOT_ACTIONS) {
        return not_possible(if named("llama-server") {
            "llama-server empties its slots only under `--slot-save-path FOLDER --cache-ram 0 --parallel N`"
        } else {
            "no call that empties the cache is known of this server"
        });
    }
    // Its short names have one dash.
    let value = |long: &str, short: &str| {
        let short = args.iter().rposition(|arg| arg == short);
        flag_value(args, long).or_else(|| args.get(short? + 1).map(String::as_str))
    };
    if value("--cache-ram", "-cram") != Some("0") {
        return not_possible(
            "llama-server keeps prompts in host memory too, which no call empties: `--cache-ram 0` switches that off",
        );
    }
    let Some(slots) = value("--parallel", "-np").and_then(|slots| slots.parse::<u32>().ok()) else {
        return not_possible("how many slots llama-server has is not known: say it by `--parallel N`");
    };
    let erase = |slot: u32| {
        let mut step = Step::new(
            format!("empty slot {slot}"),
            HttpCall::post(format!("/slots/{slot}?action=erase")),
            ERASE_TIMEOUT,
        );
        step.fatal = vec![400, 404, 501];
        step.hint = "is it llama-server, with --slot-save-path?".to_owned();
        step
    };
    CacheReset::Http {
        steps: (0..slots).map(erase).collect(),
        proof: ResetProof::CachedTokens,
    }
}

/// `{name}` replaced by its value. A brace that opens no name (JSON in an argument) stays as it is.
///
/// # Errors
/// The name that nothing fills.
fn fill(text: &str, value: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('{') {
        filled.push_str(&rest[..open]);
        rest = &rest[open..];
        let name = rest[1..]
            .split_once('}')
            .map(|(name, _)| name)
            .filter(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        match name {
            Some(name) => {
                filled.push_str(&value(name).ok_or_else(|| name.to_owned())?);
                rest = &rest[name.len() + 2..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Host and port of a base URL, and the path before `/v1`.
fn base(given: &Given<'_>, url: &str) -> Result<(Endpoint, String), FrameworkError> {
    let wrong = |why: &str| FrameworkError::Url {
        framework: given.framework.name.clone(),
        url: url.to_owned(),
        why: why.to_owned(),
    };
    let parsed = url::Url::parse(url).map_err(|e| wrong(&e.to_string()))?;
    if parsed.scheme() != "http" {
        return Err(wrong("only http is spoken"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(wrong(
            "it holds a user name or password, which would reach logs and reports",
        ));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong("a base has no query or fragment"));
    }
    let host = parsed.host_str().ok_or_else(|| wrong("it has no host"))?;
    let endpoint = Endpoint {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: parsed
            .port_or_known_default()
            .ok_or_else(|| wrong("it has no port"))?,
    };
    let path = parsed.path().trim_end_matches('/');
    let prefix = path.strip_suffix("/v1").unwrap_or(path).to_owned();
    Ok((endpoint, prefix))
}

impl Adapter for Openai {
    fn kind(&self) -> FrameworkKind {
        FrameworkKind::Openai
    }

    fn served_model(&self) -> &str {
        &self.served
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn launch(&self) -> Option<Launch> {
        self.launch.clone()
    }

    fn requirements(&self) -> Vec<Requirement> {
        self.requirements.clone()
    }

    fn health(&self) -> HttpProbe {
        HttpProbe {
            call: HttpCall::get(self.health_path.clone()),
            interval: Duration::from_millis(250),
            timeout: Duration::from_secs(5),
        }
    }

    fn facts_calls(&self) -> Vec<HttpCall> {
        // /props is llama-server's, /version vLLM's.
        ["/v1/models", "/props", "/version"]
            .map(|path| HttpCall::get(format!("{}{path}", self.prefix)))
            .into()
    }

    fn parse_facts(&self, answers: &[Option<String>]) -> Facts {
        let mut facts = Facts::default();
        let json = |at: usize| {
            let text = answers.get(at)?.as_deref()?;
            serde_json::from_str::<Value>(text).ok()
        };
        if let Some(models) = json(0) {
            let listed = models["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            let ours = listed
                .iter()
                .find(|m| m["id"] == self.served.as_str())
                .or(listed.first());
            if let Some(model) = ours {
                if let Some(id) = model["id"].as_str() {
                    facts.set("model", id);
                }
                if let Some(tokens) = model["max_model_len"].as_u64() {
                    facts.set_context_length(tokens);
                }
            }
        }
        if let Some(props) = json(1) {
            // A build outside its repository knows no number of its own; the plan's version says more.
            if let Some(build) = props["build_info"]
                .as_str()
                .filter(|build| *build != "b0-unknown")
            {
                facts.set("version", build);
            }
            if let Some(tokens) = props
                .pointer("/default_generation_settings/n_ctx")
                .and_then(Value::as_u64)
            {
                facts.set_context_length(tokens);
            }
            if let Some(slots) = props["total_slots"].as_u64() {
                facts.set("parallel_requests", slots);
            }
            if let Some(path) = props["model_path"].as_str() {
                facts.set("model_path", path);
            }
        }
        if let Some(version) = json(2).as_ref().and_then(|v| v["version"].as_str()) {
            facts.set("version", version);
        }
        if self.launch.is_none() {
            facts.flags.push(Flag::new(
                FlagKind::NotControlled,
                format!(
                    "{}:{} was running already",
                    self.endpoint.host, self.endpoint.port
                ),
            ));
        }
        facts.compare(self.longest_tokens, self.expected_precision.as_deref());
        facts
    }

    fn chat_path(&self) -> &str {
        &self.chat_path
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
        self.cache_reset.clone()
    }

    fn metrics_path(&self) -> Option<&str> {
        self.has_metrics.then_some("/metrics")
    }

    fn parse_counters(&self, text: &str) -> BTreeMap<String, f64> {
        metrics::sums(text, COUNTERS)
    }

    fn quirks(&self) -> Quirks {
        Quirks {
            exact_output: !self.harmony,
            // Not known; where the field comes, it counts.
            cached_tokens: false,
            truncates_silently: false,
            health_costs: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use benchd_core::record::Message;

    fn with_gguf() -> benchd_plan::Model {
        let mut model = llama();
        model.openai = Some("llama".to_owned());
        model.gguf = Some("/m/llama.gguf".into());
        model
    }

    fn at(url: &str) -> benchd_plan::Framework {
        let mut fw = framework(FrameworkKind::Openai);
        fw.source = Source::Url(url.to_owned());
        fw
    }

    fn command(words: &[&str]) -> benchd_plan::Framework {
        let mut fw = framework(FrameworkKind::Openai);
        fw.source = Source::Command {
            command: strings(words),
            ready_path: "/health".to_owned(),
        };
        fw
    }

    #[test]
    fn placeholders_are_filled() {
        let adapter = user(FrameworkKind::Openai, &with_gguf());
        insta::assert_snapshot!(typed(&adapter.launch().unwrap()), @r"
        CUDA_DEVICE_ORDER=PCI_BUS_ID
        CUDA_VISIBLE_DEVICES=GPU-5d2e
        /b/llama-server -m /m/llama.gguf --alias llama --host 127.0.0.1 --port 8080 --metrics
        ");
        assert_eq!(adapter.health().call, HttpCall::get("/health"));
        assert_eq!(adapter.metrics_path(), Some("/metrics"));
        let needed: Vec<_> = adapter.requirements().into_iter().map(|r| r.path).collect();
        assert_eq!(
            needed,
            [PathBuf::from("/b/llama-server"), PathBuf::from("/m/llama.gguf")]
        );
    }

    #[test]
    fn unknown_or_unfilled_placeholders_are_refused_and_other_braces_stay() {
        let unknown = refused(&command(&["x", "--p={prot}"]), &with_gguf());
        assert_eq!(
            unknown.to_string(),
            "framework `openai`: nothing fills `{prot}` in its command"
        );
        assert!(unknown.hint().unwrap().contains("{gguf}"));
        let unfilled = refused(&command(&["x", "{gguf}"]), &llama());
        assert!(unfilled.hint().unwrap().contains("gguf:"), "{unfilled}");

        let json = r#"{"a":{"b":1}} {port}"#;
        let args = made(&command(&["x", json]), &with_gguf(), &context())
            .unwrap()
            .launch()
            .unwrap()
            .args;
        assert_eq!(args, [r#"{"a":{"b":1}} 8080"#]);
    }

    #[test]
    fn benchd_is_the_running_executable_and_bare_names_are_left_to_the_path() {
        let own = made(
            &command(&["benchd", "sim", "--port", "{port}"]),
            &llama(),
            &context(),
        )
        .unwrap();
        assert_eq!(own.launch().unwrap().program, std::env::current_exe().unwrap());
        let bare = made(&command(&["llama-server"]), &llama(), &context()).unwrap();
        assert_eq!(bare.launch().unwrap().program, PathBuf::from("llama-server"));
        assert_eq!(bare.requirements(), []);
        assert!(matches!(
            refused(&command(&[]), &llama()),
            FrameworkError::Source { .. }
        ));
    }

    #[test]
    fn a_running_server_is_reached_by_its_url() {
        for (url, host, port, chat) in [
            ("http://10.0.0.5:9000", "10.0.0.5", 9000, "/v1/chat/completions"),
            ("http://gpu1:9000/v1", "gpu1", 9000, "/v1/chat/completions"),
            ("http://gpu1/proxy/v1/", "gpu1", 80, "/proxy/v1/chat/completions"),
            ("http://[::1]:8000/api", "::1", 8000, "/api/v1/chat/completions"),
        ] {
            let adapter = made(&at(url), &with_gguf(), &context()).unwrap();
            assert_eq!(
                (adapter.endpoint().host.as_str(), adapter.endpoint().port),
                (host, port),
                "{url}"
            );
            assert_eq!(adapter.chat_path(), chat, "{url}");
            assert!(adapter.launch().is_none());
            assert!(adapter.health().call.path.ends_with("/v1/models"));
            let flags: Vec<_> = adapter
                .parse_facts(&[])
                .flags
                .into_iter()
                .map(|f| f.kind)
                .collect();
            assert_eq!(flags, [FlagKind::NotControlled]);
        }
        for url in [
            "https://gpu1:9000",
            "gpu1:9000",
            "http://user:secret@gpu1",
            "http://gpu1/?key=1",
            "not a url",
        ] {
            assert!(
                matches!(refused(&at(url), &with_gguf()), FrameworkError::Url { .. }),
                "{url}"
            );
        }
    }

    #[test]
    fn bodies_of_the_users_models() {
        let messages = [Message::user("hi")];
        insta::assert_snapshot!(user(FrameworkKind::Openai, &with_gguf()).request_body(&exact(&messages, None)), @r#"{"model":"llama","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"ignore_eos":true,"min_tokens":256}"#);
        let mut gpt_oss = gpt_oss();
        gpt_oss.gguf = Some("/m/g.gguf".into());
        gpt_oss.openai = Some("oss".to_owned());
        insta::assert_snapshot!(user(FrameworkKind::Openai, &gpt_oss).request_body(&exact(&messages, gpt_oss.reasoning_effort)), @r#"{"model":"oss","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"reasoning_effort":"low"}"#);
    }

    #[test]
    fn the_cache_of_llama_server_is_emptied_where_its_arguments_allow_it() {
        let reset = |args: &[&str]| {
            let words = [&["/b/llama-server"], args].concat();
            made(&command(&words), &with_gguf(), &context())
                .unwrap()
                .cache_reset()
        };
        let CacheReset::Http { steps, proof } =
            reset(&["--slot-save-path", "/tmp", "--cache-ram", "0", "--parallel", "2"])
        else {
            panic!("it can");
        };
        let calls: Vec<_> = steps.iter().map(|step| step.call.to_string()).collect();
        assert_eq!(
            calls,
            ["POST /slots/0?action=erase", "POST /slots/1?action=erase"]
        );
        assert_eq!(proof, ResetProof::CachedTokens);
        let short = reset(&["--slot-save-path=/tmp", "-cram", "0", "-np", "3"]);
        assert!(matches!(short, CacheReset::Http { steps, .. } if steps.len() == 3));

        for (args, said) in [
            (&["--parallel", "2"][..], "--slot-save-path"),
            (&["--slot-save-path", "/tmp", "--parallel", "2"], "--cache-ram 0"),
            (
                &["--slot-save-path", "/tmp", "--cache-ram", "8192", "-np", "2"],
                "--cache-ram 0",
            ),
            (&["--slot-save-path", "/tmp", "--cache-ram", "0"], "--parallel N"),
        ] {
            let CacheReset::NotPossible { why } = reset(args) else {
                panic!("{args:?}");
            };
            assert!(why.contains(said), "{args:?}: {why}");
        }
        let running = made(&at("http://gpu1:9000"), &with_gguf(), &context()).unwrap();
        assert!(matches!(running.cache_reset(), CacheReset::NotPossible { .. }));
    }

    #[test]
    fn facts_of_llama_server_are_read() {
        let adapter = user(FrameworkKind::Openai, &with_gguf());
        let facts = adapter.parse_facts(&[
            Some(r#"{"object":"list","data":[{"id":"llama","object":"model","created":1795498500,"owned_by":"llamacpp","meta":{"vocab_type":2,"n_vocab":128256,"n_ctx_train":131072,"n_embd":4096,"n_params":8030261312,"size":4912898048}}]}"#.to_owned()),
            Some(r#"{"default_generation_settings":{"id":0,"n_ctx":2048,"params":{}},"total_slots":4,"model_path":"/m/llama.gguf","chat_template":"..","build_info":"b11434-abc"}"#.to_owned()),
            None,
        ]);
        assert_eq!(facts.values["version"], "b11434-abc");
        assert_eq!(facts.values["parallel_requests"], "4");
        let nameless = Some(r#"{"build_info":"b0-unknown"}"#.to_owned());
        assert!(
            !adapter
                .parse_facts(&[None, nameless, None])
                .values
                .contains_key("version")
        );
        assert_eq!(facts.context_length, Some(2048));
        assert_eq!(
            facts.flags.iter().map(|f| f.kind).collect::<Vec<_>>(),
            [FlagKind::TruncatedPrompt]
        );
        let counters =
            adapter.parse_counters("llamacpp:prompt_tokens_total 61\nllamacpp:kv_cache_usage_ratio 0.1\n");
        assert_eq!(
            counters.into_iter().collect::<Vec<_>>(),
            [("llamacpp:prompt_tokens_total".to_owned(), 61.0)]
        );
    }
}
