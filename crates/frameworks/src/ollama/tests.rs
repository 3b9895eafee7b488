use super::*;
use crate::{Context, testing::*};
use benchd_core::record::Message;
use benchd_plan::FrameworkKind;

/// Answers recorded from Ollama 0.9.3.
macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/fixtures/ollama-0.9.3/", $name))
    };
}

fn smollm2(gguf: &std::path::Path) -> benchd_plan::Model {
    let mut model = llama();
    model.name = "smollm2-135m".to_owned();
    model.ollama = Some("smollm2:135m".to_owned());
    model.gguf = Some(gguf.to_owned());
    model.args.insert("ollama".to_owned(), strings(&["num_thread=1"]));
    model
}

fn cpu() -> Context {
    Context {
        longest_prompt_tokens: 512,
        gpus: Vec::new(),
        max_concurrency: 4,
        ..context()
    }
}

#[test]
fn command_line_and_environment_of_the_users_models() {
    insta::assert_snapshot!(typed(&user(FrameworkKind::Ollama, &gpt_oss()).launch().unwrap()), @r"
    CUDA_DEVICE_ORDER=PCI_BUS_ID
    CUDA_VISIBLE_DEVICES=GPU-5d2e
    OLLAMA_HOST=127.0.0.1:11434
    OLLAMA_CONTEXT_LENGTH=4608
    OLLAMA_KEEP_ALIVE=-1
    OLLAMA_MAX_LOADED_MODELS=1
    OLLAMA_NOPRUNE=1
    OLLAMA_NUM_PARALLEL=1
    /b/envs/ollama/bin/ollama serve
    ");
    assert_eq!(
        user(FrameworkKind::Ollama, &llama()).served_model(),
        "llama3.1:8b"
    );
}

#[test]
fn the_context_has_room_for_the_template_in_whole_steps() {
    assert_eq!(context_tokens(4352), 4608);
    assert_eq!(context_tokens(4353), 4864);
    assert_eq!(context_tokens(1), 512);
    assert_eq!(context_tokens(u32::MAX), u32::MAX);
}

#[test]
fn the_plans_own_environment_wins_but_must_do() {
    let mut fw = framework(FrameworkKind::Ollama);
    fw.env
        .insert("OLLAMA_CONTEXT_LENGTH".to_owned(), "8192".to_owned());
    let env = made(&fw, &llama(), &context()).unwrap().launch().unwrap().env;
    let lengths: Vec<_> = env
        .iter()
        .filter(|(n, _)| n == "OLLAMA_CONTEXT_LENGTH")
        .map(|(_, v)| v)
        .collect();
    assert_eq!(lengths, ["8192"]);

    fw.env
        .insert("OLLAMA_CONTEXT_LENGTH".to_owned(), "4096".to_owned());
    assert!(matches!(
        refused(&fw, &llama()),
        FrameworkError::ContextTooShort { needed: 4352, .. }
    ));

    fw.env = [("OLLAMA_HOST".to_owned(), "0.0.0.0:1".to_owned())].into();
    assert!(refused(&fw, &llama()).hint().unwrap().contains("port:"));
    fw.env = [("OLLAMA_NUM_PARALLEL".to_owned(), "0".to_owned())].into();
    assert!(matches!(refused(&fw, &llama()), FrameworkError::BadValue { .. }));
}

#[test]
fn how_many_requests_run_at_a_time_is_said() {
    let mut fw = framework(FrameworkKind::Ollama);
    let notes = |fw: &_| made(fw, &llama(), &context()).unwrap().notes();
    assert!(notes(&fw)[0].contains("OLLAMA_NUM_PARALLEL=1"));
    fw.env.clear();
    assert!(notes(&fw)[0].contains("not set"));
    fw.env.insert("OLLAMA_NUM_PARALLEL".to_owned(), "64".to_owned());
    assert_eq!(notes(&fw), Vec::<String>::new());
}

#[test]
fn bodies_hold_nothing_that_ollama_ignores() {
    let messages = [Message::user("hi")];
    let gpt_oss = gpt_oss();
    insta::assert_snapshot!(user(FrameworkKind::Ollama, &gpt_oss).request_body(&exact(&messages, gpt_oss.reasoning_effort)), @r#"{"model":"gpt-oss:20b","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0,"reasoning_effort":"low"}"#);
    insta::assert_snapshot!(user(FrameworkKind::Ollama, &llama()).request_body(&exact(&messages, None)), @r#"{"model":"llama3.1:8b","messages":[{"role":"user","content":"hi"}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":256,"temperature":0.0,"top_p":1.0}"#);
}

#[test]
fn an_absent_model_is_an_error_that_says_how_to_pull_it() {
    let steps = user(FrameworkKind::Ollama, &llama()).prepare_calls().unwrap();
    let whats: Vec<_> = steps.iter().map(|s| s.what.as_str()).collect();
    assert_eq!(
        whats,
        [
            "find model llama3.1:8b",
            "load model llama3.1:8b",
            "see the model loaded"
        ]
    );
    assert!(steps[0].done.check(404, recorded!("show-404.json")).is_err());
    assert!(steps[0].fatal.contains(&404));
    assert!(steps[0].hint.contains("pull llama3.1:8b"), "{}", steps[0].hint);
}

#[test]
fn an_absent_model_with_a_gguf_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let gguf = dir.path().join("SmolLM2.gguf");
    std::fs::write(&gguf, "abc").unwrap();
    let adapter = made(&framework(FrameworkKind::Ollama), &smollm2(&gguf), &cpu()).unwrap();
    let steps = adapter.prepare_calls().unwrap();
    let digest = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(
        steps[0].call,
        HttpCall::post_file(format!("/api/blobs/{digest}"), gguf.clone())
    );
    assert!(steps[0].done.check(201, "").is_ok());
    insta::assert_snapshot!(steps[1].call.body.as_ref().unwrap(), @r#"{"model":"smollm2:135m","files":{"SmolLM2.gguf":"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},"parameters":{"num_thread":1}}"#);
    assert_eq!(steps[1].done.check(200, recorded!("create.jsonl")), Ok(()));
    for step in &steps[..2] {
        let (_, present) = step.unless.as_ref().unwrap();
        assert!(present.check(200, recorded!("show.json")).is_ok());
        assert!(present.check(404, recorded!("show-404.json")).is_err());
    }
    assert!(steps[2].done.check(200, recorded!("generate-load.json")).is_ok());
    assert!(steps[3].done.check(200, recorded!("ps-empty.json")).is_err());
    assert_eq!(steps[3].done.check(200, recorded!("ps.json")), Ok(()));
    assert!(adapter.requirements().iter().any(|r| r.path == gguf));

    std::fs::remove_file(&gguf).unwrap();
    assert!(matches!(
        adapter.prepare_calls(),
        Err(FrameworkError::Read { .. })
    ));
}

#[test]
fn an_argument_of_the_model_must_be_a_parameter() {
    let mut model = llama();
    model.args.insert("ollama".to_owned(), strings(&["--num-thread"]));
    assert!(matches!(
        refused(&framework(FrameworkKind::Ollama), &model),
        FrameworkError::BadValue { .. }
    ));
}

#[test]
fn the_cache_is_emptied_by_a_reload() {
    let CacheReset::Reload { unload, load } = user(FrameworkKind::Ollama, &llama()).cache_reset() else {
        panic!("Ollama has no call that empties its cache");
    };
    assert_eq!(unload[0].call.body.as_ref().unwrap()["keep_alive"], 0);
    assert!(unload[1].done.check(200, recorded!("ps.json")).is_err());
    assert_eq!(unload[1].done.check(200, recorded!("ps-empty.json")), Ok(()));
    assert_eq!(load[0].call.body.as_ref().unwrap()["keep_alive"], -1);
    assert_eq!(load.len(), 2);
}

fn facts_of(adapter: &dyn Adapter, ps: &str) -> Facts {
    adapter.parse_facts(&[
        Some(recorded!("version.json").to_owned()),
        Some(recorded!("show.json").to_owned()),
        Some(ps.to_owned()),
    ])
}

#[test]
fn facts_of_a_recorded_server_are_read() {
    let model = smollm2(std::path::Path::new("/m.gguf"));
    let adapter = made(&framework(FrameworkKind::Ollama), &model, &cpu()).unwrap();
    let facts = facts_of(adapter.as_ref(), recorded!("ps.json"));
    insta::assert_snapshot!(
        facts.values.iter().map(|(k, v)| format!("{k}: {v}")).collect::<Vec<_>>().join("\n"), @r"
    context_length: 768
    family: llama
    format: gguf
    model: smollm2:135m
    num_thread: 1
    parallel_requests: 1
    parameter_size: 134.52M
    size_bytes: 249394944
    size_vram_bytes: 0
    version: 0.9.3
    ");
    assert_eq!(facts.flags, [], "without a GPU nothing is offloaded");
    assert_eq!(facts.context_length, Some(768));
    assert_eq!(
        facts.precision.weights,
        Reading::read(Format::new("Q4_1"), "/api/show")
    );
    let silent = recorded!("show.json").replace(
        r#""quantization_level": "Q4_1""#,
        r#""quantization_level": "unknown""#,
    );
    let silent = adapter.parse_facts(&[None, Some(silent), None]);
    assert_eq!(silent.precision.weights, Reading::Unknown);
}

#[test]
fn precision_is_read_from_the_file_it_imports_the_setting_and_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let gguf = dir.path().join("m.gguf");
    std::fs::write(
        &gguf,
        crate::gguf::tests::gguf(3, &[("blk.0.attn_q.weight", 3, &[64, 64])]),
    )
    .unwrap();
    let model = smollm2(&gguf);
    let by = |set: Option<&'static str>| {
        let env = move |name: &str| set.filter(|_| name == "OLLAMA_KV_CACHE_TYPE").map(str::to_owned);
        (KIND.precision)(&framework(FrameworkKind::Ollama), &model, &env)
    };
    let plain = by(None);
    assert_eq!(
        plain.weights,
        Reading::read(Format::new("q4_1"), "GGUF header: Q4_1 100 %")
    );
    assert_eq!(
        plain.kv_cache,
        Reading::read(Format::new("fp16"), "Ollama's default")
    );
    assert_eq!(plain.file_bytes, Some(gguf.metadata().unwrap().len()));
    assert_eq!(by(Some("q8_0")).kv_cache.from(), Some("OLLAMA_KV_CACHE_TYPE"));

    let told = |log: &str| crate::read_log(log).precision().kv_cache;
    let load = "time=T level=INFO source=runner.go:1271 msg=load request=\"{Operation:commit LoraPath:[] Parallel:1 BatchSize:512 FlashAttention:Enabled KvSize:4608 KvCacheType:q8_0 NumThreads:6}\"\n";
    assert_eq!(told(load).value(), Some(&Format::new("q8_0")));
    assert_eq!(
        told(&load.replace("q8_0", "")).value(),
        Some(&Format::new("fp16"))
    );
    let recorded = include_str!("../../../../tests/fixtures/start-logs/ollama-0.9.3-cpu.log");
    assert_eq!(told(recorded).value(), Some(&Format::new("fp16")));
}

#[test]
fn what_differs_from_the_plan_is_flagged() {
    let mut model = smollm2(std::path::Path::new("/m.gguf"));
    model.args.insert("ollama".to_owned(), strings(&["num_thread=2"]));
    let adapter = made(&framework(FrameworkKind::Ollama), &model, &context()).unwrap();
    let ps = r#"{"models":[{"name":"smollm2:135m","size":1000,"size_vram":600,"context_length":4096}]}"#;
    let facts = facts_of(adapter.as_ref(), ps);
    assert_eq!(
        facts.context_length,
        Some(4096),
        "what is shown counts before what was set"
    );
    let kinds: Vec<_> = facts.flags.iter().map(|f| f.kind).collect();
    assert_eq!(
        kinds,
        [
            FlagKind::WrongModel,
            FlagKind::CpuOffload,
            FlagKind::TruncatedPrompt
        ]
    );
    assert!(
        facts.flags[0].seen.contains("num_thread=1"),
        "{}",
        facts.flags[0].seen
    );
}

#[test]
fn answered_chat_requests_are_read_out_of_the_log() {
    let adapter = user(FrameworkKind::Ollama, &llama());
    assert!(adapter.counts_in_log());
    let log = r#"
2026-11-24T09:03:50.369Z out | [GIN] 2026/11/24 - 09:03:50 | 200 | 12.071723358s |       127.0.0.1 | POST     "/v1/chat/completions"
2026-11-24T09:04:23.675Z out | [GIN] 2026/11/24 - 09:04:23 | 200 |  928.5ms |       127.0.0.1 | POST     "/v1/chat/completions"
2026-11-24T09:04:24.675Z out | [GIN] 2026/11/24 - 09:04:24 | 200 |  1m2.5s |       127.0.0.1 | POST     "/v1/chat/completions"
2026-11-24T09:04:25.675Z out | [GIN] 2026/11/24 - 09:04:25 | 404 |  35.5µs |       127.0.0.1 | POST     "/v1/chat/completions"
2026-11-24T09:04:26.675Z out | [GIN] 2026/11/24 - 09:04:26 | 200 |  35.5µs |       127.0.0.1 | GET      "/api/ps"
2026-11-24T09:04:27.675Z err | time=2026-11-24T09:04:27.1Z level=INFO msg="said \"/v1/chat/completions\""
"#;
    let counters = adapter.counters_of_log(log);
    assert_eq!(counters["ollama:request_seconds_count"], 3.0);
    let sum = counters["ollama:request_seconds_sum"];
    assert!((sum - (12.071723358 + 0.9285 + 62.5)).abs() < 1e-9, "{sum}");
    let silent = adapter.counters_of_log("2026-11-24T09:03:50.369Z err | loading\n");
    assert!(
        silent.is_empty(),
        "a log without requests says nothing: {silent:?}"
    );
}
