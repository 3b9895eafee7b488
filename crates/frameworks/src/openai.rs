//! Any other OpenAI-compatible server: a command of the plan, or a server that someone else runs.
//!
//! Its likeliest tenant is llama.cpp's `llama-server` (see `llama_server`), which honours `ignore_eos`; servers ignore fields
//! that they don't know. Nothing turns the server's prompt cache off (`cache_prompt: false`):
//! the prefix-cache scenario measures it, and `cached_tokens` tells where it answered.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{
    ChatRequest, Facts, FrameworkError, Launch,
    adapter::{Adapter, Endpoint, HttpProbe, Requirement, Server},
    args::{Env, absolute, arguments, has_flag},
    config::is_harmony,
    facts,
    kind::{Kind, ModelStore},
    llama_server,
    precision::{random_weights, set_by},
    setup::{GpuNaming, Setup},
    weights::{Weights, of_gguf},
};
use benchd_core::record::{CacheReset, Format, HttpCall, Precision, Reading};
use benchd_plan::{Framework, Model, Source};

pub(crate) const KIND: Kind = Kind {
    title: "openai",
    venv_program: None,
    models: ModelStore::File,
    reads_gguf: names_gguf,
    needs_cuda: false,
    whole_on_gpu_share: None,
    parallel_variable: None,
    metrics_flag: Some(llama_server::METRICS_FLAG),
    graphs_off: None,
    echoes_model: false,
    prefix_cache_disabled: |_| false,
    // llama-server maps the file: seconds.
    start: Duration::from_secs(15),
    cache_reset: Duration::ZERO,
    reservation: None,
    counters: llama_server::COUNTER_NAMES,
    load_line: llama_server::load_line,
    death_line: |_| None,
    weights,
    precision,
    adapter: |setup| Ok(Box::new(Openai::new(setup)?)),
    behind_url: None,
};

/// Any other server, serving one model.
struct Openai {
    server: Server,
    health_path: String,
    /// Path before `/v1`.
    prefix: String,
    chat_path: String,
    has_metrics: bool,
    harmony: bool,
    cache_reset: CacheReset,
}

impl Openai {
    fn new(setup: &Setup<'_>) -> Result<Self, FrameworkError> {
        let served = setup.model_id()?;
        let mut server = setup.server(served, None, Vec::new());
        let mut prefix = String::new();
        let health_path = match &setup.framework.source {
            Source::Url(url) => {
                (server.endpoint, prefix) = base(setup, url)?;
                format!("{prefix}/v1/models")
            }
            Source::Command { command, ready_path } => {
                let (launch, requirements) = command_line(setup, served, command)?;
                server.launch = Some(launch);
                server.requirements = requirements;
                ready_path.clone()
            }
            _ => return Err(setup.wrong_source("`command: [..]` or `url: http://..`")),
        };
        let launch = server.launch.as_ref();
        Ok(Self {
            cache_reset: llama_server::cache_reset(launch),
            has_metrics: launch.is_some_and(|l| has_flag(&l.args, llama_server::METRICS_FLAG)),
            // A server says its name, not its architecture; `hf` names the weights where the plan has it.
            harmony: is_harmony(&[served, setup.model.hf.as_deref().unwrap_or_default()], None),
            chat_path: format!("{prefix}/v1/chat/completions"),
            health_path,
            prefix,
            server,
        })
    }
}

/// The server behind the root of the plan's URL, under the name that the plan gives the model; `None` where the URL has a
/// path, or is none.
pub(crate) fn someone_elses(setup: &Setup<'_>) -> Result<Option<Server>, FrameworkError> {
    let Source::Url(url) = &setup.framework.source else {
        return Ok(None);
    };
    let (endpoint, prefix) = base(setup, url)?;
    let mut server = setup.server(setup.model_id()?, None, Vec::new());
    server.endpoint = endpoint;
    Ok(prefix.is_empty().then_some(server))
}

/// Whether its command takes the model's GGUF.
fn names_gguf(framework: &Framework) -> bool {
    let Source::Command { command, .. } = &framework.source else {
        return false;
    };
    let mut words = command.iter().chain(&framework.args);
    words.any(|word| word.contains("{gguf}"))
}

/// The GGUF that its command serves: the plan's, or the file that it names itself.
fn served_gguf(framework: &Framework, model: &Model) -> Option<PathBuf> {
    let words = words(framework, model)?;
    // Files of another use: projectors of images, drafts, adapters.
    let beside = [
        "--mmproj",
        "-mm",
        "--model-draft",
        "-md",
        "--lora",
        "--control-vector",
        "--vocoder",
        "-mv",
    ];
    let is_gguf = |word: &str| {
        Path::new(word)
            .extension()
            .is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
    };
    let named = llama_server::value(&words, "--model", "-m").filter(|word| is_gguf(word));
    let any = || {
        words.iter().enumerate().find_map(|(at, word)| {
            let before = at.checked_sub(1).and_then(|at| words.get(at)).map(String::as_str);
            let (flag, path) = match word.split_once('=') {
                Some((flag, path)) => (Some(flag), path),
                None => (before, word.as_str()),
            };
            let serves = is_gguf(path) && !flag.is_some_and(|flag| beside.contains(&flag));
            serves.then_some(path)
        })
    };
    named.or_else(any).map(PathBuf::from)
}

/// The words of its command and its arguments, the model's placeholders filled; `None` without a command.
fn words(framework: &Framework, model: &Model) -> Option<Vec<String>> {
    let Source::Command { command, .. } = &framework.source else {
        return None;
    };
    let gguf = model.gguf.as_ref().map(|path| path.display().to_string());
    let served = model.id_for(framework.kind).unwrap_or_default();
    let fill = |word: &String| {
        let word = word.replace("{model}", served);
        match &gguf {
            Some(path) => word.replace("{gguf}", path),
            None => word,
        }
    };
    Some(
        command
            .iter()
            .chain(&arguments(framework, model))
            .map(fill)
            .collect(),
    )
}

/// The file that its command takes; what else it serves can't be known from here.
fn weights(framework: &Framework, model: &Model, _: Env<'_>) -> Weights {
    served_gguf(framework, model).map_or(Weights::NotKnown, |gguf| of_gguf(&gguf))
}

/// By the file that its command takes, and by the arguments that it shares with servers that benchd knows.
fn precision(framework: &Framework, model: &Model, env: Env<'_>) -> Precision {
    let words = words(framework, model).unwrap_or_default();
    let is_llama_server = words
        .first()
        .is_some_and(|program| llama_server::is_llama_server(Path::new(program)));
    let (file, file_bytes) = match weights(framework, model, env) {
        Weights::Whole(found) => (found.precision, Some(found.bytes)),
        _ => (Reading::Unknown, None),
    };
    let from_file = Reading::maybe(file_bytes.map(|_| false), "GGUF file");
    Precision {
        weights: file
            .or(set_by(&words, "--quantization"))
            .or(set_by(&words, "--dtype")),
        kv_cache: set_by(&words, "--kv-cache-dtype").or(llama_server::cache_format(&words, is_llama_server)),
        random_weights: random_weights(&words).or(from_file),
        file_bytes,
    }
}

/// The command with its placeholders filled, and what must be on disk for it.
fn command_line(
    setup: &Setup<'_>,
    served: &str,
    command: &[String],
) -> Result<(Launch, Vec<Requirement>), FrameworkError> {
    let framework = setup.framework;
    let gguf = setup.model.gguf.as_ref().map(|path| path.display().to_string());
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
        return Err(setup.wrong_source("`command:` with a program"));
    };
    let mut args: Vec<String> = words.collect();
    args.extend(
        setup
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
        let program = absolute(Path::new(&first));
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
    if let Some(path) = setup.model.gguf.as_ref().filter(|_| names_gguf(framework)) {
        requirements.push(setup.gguf_requirement(path));
    }
    llama_server::check_context(setup, &args)?;
    let env = setup.environment(setup.gpu_env(GpuNaming::Uuid), &[])?;
    Ok((setup.launch(program, args, env), requirements))
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
fn base(setup: &Setup<'_>, url: &str) -> Result<(Endpoint, String), FrameworkError> {
    let wrong = |why: &str| FrameworkError::Url {
        framework: setup.framework.name.clone(),
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
    fn server(&self) -> &Server {
        &self.server
    }

    fn health(&self) -> HttpProbe {
        HttpProbe::get(
            &self.health_path,
            Duration::from_millis(250),
            Duration::from_secs(5),
        )
    }

    fn facts_calls(&self) -> Vec<HttpCall> {
        // /props is llama-server's, /version vLLM's.
        ["/v1/models", "/props", "/version"]
            .map(|path| HttpCall::get(format!("{}{path}", self.prefix)))
            .into()
    }

    fn parse_facts(&self, answers: &[Option<String>]) -> Facts {
        let mut facts = Facts::default();
        if let Some(models) = facts::json(answers, 0) {
            let listed = models["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            let ours = listed
                .iter()
                .find(|m| m["id"] == self.server.model.as_str())
                .or(listed.first());
            facts.set_listed(ours);
            // llama-server's.
            let meta = ours.map(|model| &model["meta"]);
            let file_type = meta
                .and_then(|meta| meta["ftype"].as_str())
                .filter(|told| !told.is_empty());
            facts.precision.weights = Reading::maybe(
                file_type.map(|told| Format::new(&llama_server::format_name(told))),
                "/v1/models",
            );
            facts.precision.file_bytes = meta.and_then(|meta| meta["size"].as_u64());
        }
        if let Some(props) = facts::json(answers, 1) {
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
        if let Some(version) = facts::json(answers, 2)
            .as_ref()
            .and_then(|v| v["version"].as_str())
        {
            facts.set("version", version);
        }
        self.server.judge(facts)
    }

    fn chat_path(&self) -> &str {
        &self.chat_path
    }

    fn request_body(&self, request: &ChatRequest<'_>) -> Value {
        Value::Object(request.fixed_length_body(&self.server.model, self.harmony))
    }

    fn cache_reset(&self) -> CacheReset {
        self.cache_reset.clone()
    }

    fn metrics_path(&self) -> Option<&str> {
        self.has_metrics.then_some("/metrics")
    }

    fn counters(&self) -> &'static [&'static str] {
        llama_server::COUNTERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use benchd_core::record::Message;
    use benchd_core::record::{FlagKind, ResetProof};
    use benchd_plan::FrameworkKind;
    use std::path::PathBuf;

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
    fn precision_is_read_from_the_file_that_a_command_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, id: u32| {
            let path = dir.path().join(name);
            std::fs::write(
                &path,
                crate::gguf::tests::gguf(id, &[("blk.0.attn_q.weight", id, &[64, 64])]),
            )
            .unwrap();
            path.display().to_string()
        };
        let (plan, own, draft) = (file("plan.gguf", 2), file("llama.gguf", 8), file("draft.gguf", 3));
        let mut model = with_gguf();
        model.gguf = Some(plan.clone().into());
        let by = |words: &[&str]| (KIND.precision)(&command(words), &model, &|_| None);
        let weights = |words: &[&str]| by(words).weights.value().map(ToString::to_string);
        assert_eq!(
            weights(&["/b/llama-server", "-m", "{gguf}"]).as_deref(),
            Some("Q4_0")
        );
        assert_eq!(
            weights(&["/b/llama-server", "-md", &draft, "-m", &own]).as_deref(),
            Some("Q8_0")
        );
        assert_eq!(
            weights(&["wrapper", "--mmproj", &draft, &format!("--weights={own}")]).as_deref(),
            Some("Q8_0")
        );
        let named = format!("{}/{{model}}.gguf", dir.path().display());
        assert_eq!(weights(&["x", &named]).as_deref(), Some("Q8_0"), "llama.gguf");
        assert_eq!(weights(&["x", "--dtype", "bfloat16"]).as_deref(), Some("bf16"));
        assert_eq!(by(&["x"]), Precision::default());

        let cached = |words: &[&str]| by(words).kv_cache.value().map(ToString::to_string);
        assert_eq!(
            cached(&["/b/llama-server", "-m", "{gguf}"]).as_deref(),
            Some("fp16")
        );
        assert_eq!(cached(&["x", "-m", "{gguf}"]), None, "its default is not known");
        assert_eq!(
            cached(&["x", "-ctk", "q8_0", "-ctv", "q8_0"]).as_deref(),
            Some("Q8_0")
        );
        assert_eq!(
            cached(&["x", "--cache-type-k=q8_0"]).as_deref(),
            Some("q8_0/f16".to_ascii_uppercase().as_str())
        );
        assert_eq!(
            by(&["x", "-m", "{gguf}"]).random_weights,
            Reading::read(false, "GGUF file")
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
        insta::assert_snapshot!(user(FrameworkKind::Openai, &with_gguf()).request_body(&exact(&messages, None)), @r#"{"model":"llama","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"ignore_eos":true}"#);
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
        let listed = include_str!("../../../tests/fixtures/llamacpp-b11434/models.200.json");
        let served = adapter
            .parse_facts(&[Some(listed.to_owned()), None, None])
            .precision;
        assert_eq!(served.weights, Reading::read(Format::new("Q4_1"), "/v1/models"));
        assert_eq!(served.file_bytes, Some(96_576_768));
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
