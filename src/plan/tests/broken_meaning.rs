//! Reports on plans that are right in form and wrong in meaning.

use insta::assert_snapshot;

use super::{GOOD, places, report, with};

#[test]
fn frameworks_whose_source_does_not_fit() {
    assert_snapshot!(report(
        r#"version: 1
name: x
models:
  m: { hf: org/m }
frameworks:
  sglang: { binary: /usr/bin/sglang, args: [--port, "1", --mem-fraction-static, "0.9"] }
  ollama: { venv: envs/ollama, env: { OLLAMA_HOST: 0.0.0.0, "A-B": x, TOKEN: "${NOT_SET}" } }
  mine: { version: "1" }
  llama: { kind: openai }
  both: { kind: openai, command: [server, --port, "{prot}"], url: "http://127.0.0.1:1/v1" }
  cmd: { kind: openai, command: [server, --model, "{gguf}", "{\"json\": 1}"], ready: { path: health }, provision: auto }
  far: { kind: openai, url: "https://example.org", port: 80, host: 0.0.0.0 }
scenarios:
  single: { input_tokens: 8, output_tokens: 8, repeats: 1 }
"#
    ));
}

#[test]
fn models_without_an_id_for_a_framework_name_both() {
    assert_snapshot!(report(&with(
        "m: { hf: org/m, ollama: \"m:1\", openai: m }",
        "m: { openai: m, args: { vlm: [x], vllm: [--model, y] } }\n  n: { hf: \"-x\", ollama: \"a b\" }"
    )));
}

#[test]
fn keys_that_a_scenario_kind_does_not_use() {
    assert_snapshot!(report(
        r#"version: 1
name: x
models: { m: { hf: org/m } }
frameworks: { vllm: { venv: v } }
scenarios:
  single: { concurrency: 8, input_tokens: 8, output_tokens: 8, repeats: 1, arrival: { poisson: 4/s } }
  prefix_cache: { concurrency: 1, input_tokens: 8, prompts: identical, output_tokens: 8, requests: 1 }
  korean: { input_tokens: 8, output_tokens: 8, repeats: 1, system_tokens: 8 }
  long: { output_tokens: 8, repeats: 1 }
"#
    ));
}

#[test]
fn counts_and_arrivals_that_make_no_sense_together() {
    assert_snapshot!(report(
        r#"version: 1
name: x
models: { m: { hf: org/m } }
frameworks: { vllm: { venv: v } }
scenarios:
  concurrent: { concurrency: [1, 64], input_tokens: 8, output_tokens: 8, requests: 10 }
  both: { kind: concurrent, concurrency: 1, input_tokens: 8, output_tokens: 8, requests: 10, repeats: 10 }
  neither: { kind: concurrent, concurrency: 1, input_tokens: 8, output_tokens: 8 }
  twice: { kind: concurrent, concurrency: [8, 8], input_tokens: 8, output_tokens: 8, repeats: 1 }
  open: { kind: concurrent, concurrency: 8, input_tokens: 8, output_tokens: 8, repeats: 1, arrival: { poisson: 4 } }
  rate: { kind: concurrent, input_tokens: 8, output_tokens: 8, requests: 1, arrival: { poisson: 4/m, constant: 1/s } }
  gamma: { kind: concurrent, input_tokens: 8, output_tokens: 8, requests: 1, arrival: { gamma: { rate: 0/s, burstiness: 0 } } }
  word: { kind: concurrent, input_tokens: 8, output_tokens: 8, requests: 1, arrival: close }
  slo: { kind: concurrent, concurrency: 1, input_tokens: 8, output_tokens: 8, requests: 1, slo: { ttft: 0s, tpot: "50" } }
  none: { kind: concurrent, concurrency: 1, input_tokens: 8, output_tokens: 8, requests: 1, slo: {} }
"#
    ));
}

#[test]
fn names_that_would_not_make_good_folders() {
    assert_snapshot!(report(
        r#"version: 1
name: ../evil
models:
  a/b: { hf: org/m }
  M: { hf: org/m }
  m: { hf: org/m }
  c: { hf: org/m }
  b-c: { hf: org/m }
frameworks:
  .vllm: { kind: vllm, venv: v }
  run.json: { kind: vllm, venv: v }
  a: { kind: vllm, venv: v }
  a-b: { kind: vllm, venv: v }
scenarios:
  "": { kind: single, input_tokens: 8, output_tokens: 8, repeats: 1 }
  -x: { kind: single, input_tokens: 8, output_tokens: 8, repeats: 1 }
"#
    ));
}

#[test]
fn hosts_gpus_and_requests() {
    assert_snapshot!(report(&with(
        "host: { gpu: none }",
        "host: { gpu: [0, GPU-1, cuda], expect: {} }\nrequest: { temperature: 2.5, top_p: 0, timeout: 5, warmup: -1, seed: 1.5 }\nrepeats: 5000"
    )));
    assert_snapshot!(report(&with(
        "host: { gpu: none }",
        "host: { gpu: None, expect: { driver: 570 } }"
    )));
    assert_snapshot!(report(&with("host: { gpu: none }", "host: { gpu: \"0,1\" }")));
    assert_snapshot!(report(&with(
        "venv: envs/vllm }",
        "venv: ~/vllm, host: localhost, stop_grace: 8 days, start_timeout: 0s }"
    )));
}

#[test]
fn references_to_what_is_not_there() {
    assert_snapshot!(report(&with(
        "venv: envs/vllm }",
        "venv: envs/vllm, scenarios: [singel, nothing] }"
    )));
    assert_snapshot!(report(
        &with("venv: envs/vllm }", "venv: envs/vllm, scenarios: [single] }")
            .replace("bin/ollama }", "bin/ollama, scenarios: [single] }")
    ));
}

#[test]
fn variables_are_filled_in_where_the_schema_says_so_and_refused_elsewhere() {
    assert_snapshot!(report(&with(
        "name: good",
        "name: ${NAME}\nnotify: { webhook: \"${HOOKS}\" }"
    )));
    assert_snapshot!(report(&with(
        "name: good",
        "name: good\nnotify: { webhook: not an address }"
    )));
}

#[test]
fn a_secret_never_stands_in_a_report_or_in_debug_output() {
    let text = with("name: good", "name: good\nnotify: { webhook: \"${HOOK}\" }").replace(
        "bin/ollama }",
        "bin/ollama, env: { KEY: \"x-${HOOK}\", PLAIN: y } }",
    );
    let plan = super::plan(&text);
    assert_eq!(
        plan.notify.as_ref().map(|n| n.webhook.as_str()),
        Some("http://127.0.0.1/hook?key=topsecret")
    );
    assert_eq!(
        plan.frameworks["ollama"].env["KEY"],
        "x-http://127.0.0.1/hook?key=topsecret"
    );
    assert!(!format!("{:?}", plan.notify).contains("topsecret"));
    let wrong = text.replace("repeats: 10", "repeats: 0");
    assert!(!report(&wrong).contains("topsecret"));
}

#[test]
fn one_wrong_thing_gives_one_problem_at_its_place() {
    // (what is replaced, by what, where)
    for (from, to, place) in [
        (
            "input_tokens: [128, 512]",
            "input_tokens: [128, 128]",
            "10:32 scenarios.single.input_tokens[1]",
        ),
        ("gpu: none", "gpu: -1", "3:14 host.gpu"),
        ("gpu: none", "gpu: []", "3:14 host.gpu"),
        ("gpu: none", "gpu: [0, 0]", "3:18 host.gpu[1]"),
        ("gpu: none", "gpu: { a: 1 }", "3:14 host.gpu"),
        ("version: 0.15.1", "port: 0", "7:17 frameworks.vllm.port"),
        (
            "version: 0.15.1",
            "provision: auto",
            "7:22 frameworks.vllm.provision",
        ),
        ("version: 0.15.1", "url: http://x", "7:11 frameworks.vllm.url"),
        (
            "version: 0.15.1",
            "ready: { path: /x }",
            "7:11 frameworks.vllm.ready",
        ),
        (
            "version: 0.15.1",
            "env: { CUDA_VISIBLE_DEVICES: \"1\" }",
            "7:18 frameworks.vllm.env.CUDA_VISIBLE_DEVICES",
        ),
        (
            "version: 0.15.1",
            "env: { A: \"${\" }",
            "7:21 frameworks.vllm.env.A",
        ),
        (
            "version: 0.15.1",
            "args: [\"a${B}\"]",
            "7:18 frameworks.vllm.args[0]",
        ),
        (
            "version: 0.15.1",
            "args: [\"a\\0b\"]",
            "7:18 frameworks.vllm.args[0]",
        ),
        ("version: 0.15.1", "venv: a", "7:20 frameworks.vllm.venv"),
        (
            "version: 0.15.1",
            "scenarios: []",
            "7:22 frameworks.vllm.scenarios",
        ),
        (
            "concurrency: [1, 8]",
            "concurrency: 20000",
            "11:30 scenarios.concurrent.concurrency",
        ),
        ("concurrency: [1, 8], ", "", "11:3 scenarios.concurrent"),
        (
            "requests: 100",
            "repeats: 1000000, concurrency: 1",
            "11:99 scenarios.concurrent.concurrency",
        ),
        (
            "requests: 100",
            "requests: 7",
            "11:87 scenarios.concurrent.requests",
        ),
        (
            "requests: 100",
            "requests: 99999999999999999999999",
            "11:87 scenarios.concurrent.requests",
        ),
        (
            "requests: 100",
            "requests: .nan",
            "11:87 scenarios.concurrent.requests",
        ),
        ("name: good", "name: good\norder: fixd", "3:8 order"),
        (
            "name: good",
            "name: good\nhypotheses: [H1, H1]",
            "3:18 hypotheses[1]",
        ),
        (
            "name: good",
            "name: good\nrequest: { timeout: 8d }",
            "3:21 request.timeout",
        ),
        (
            "name: good",
            "name: good\nrequest: { temperature: .nan }",
            "3:25 request.temperature",
        ),
        (
            "name: good",
            "name: good\nrequest: { temperature: .inf }",
            "3:25 request.temperature",
        ),
        ("name: good", "name: good\nnotify: {}", "3:1 notify"),
    ] {
        let text = with(from, to);
        let found = places(&text);
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
        assert!(found[0].starts_with(place), "{to}: {found:#?}");
    }
    assert_eq!(places(GOOD), [""; 0]);
}

#[test]
fn what_is_allowed() {
    for (from, to) in [
        ("gpu: none", "gpu: 0"),
        ("gpu: none", "gpu: [1, 0]"),
        ("gpu: none", "gpu: GPU-0a1b2c3d-0000-1111-2222-333344445555"),
        ("gpu: none", "gpu: [MIG-0a1b2c3d-0000-1111-2222-333344445555]"),
        ("version: 0.15.1", "host: 0.0.0.0"),
        ("version: 0.15.1", "host: \"::1\""),
        ("version: 0.15.1", "kind: vllm, stop_grace: 0s, provision: none"),
        ("version: 0.15.1", "args: ['{\"a\": {\"b\": 1}}', '{x}']"),
        (
            "repeats: 10",
            "repeats: 10, warmup: 0, cache: keep, slo: { ttft: 500ms }",
        ),
        (
            "concurrency: [1, 8], ",
            "arrival: { gamma: { rate: 0.5/s, burstiness: 2 } }, ",
        ),
        ("concurrency: [1, 8], ", "concurrency: 1, arrival: closed, "),
        ("  concurrent: {", "  steady: { kind: concurrent,"),
        (
            "name: good",
            "name: good\nrequest: { temperature: 0.7, top_p: 0.9, seed: 18, timeout: 1h30m }",
        ),
    ] {
        assert_eq!(places(&with(from, to)), [""; 0], "{to}");
    }
}

#[test]
fn a_server_by_url_takes_host_and_port_from_it() {
    let plan = super::plan(&with(
        "  ollama: {",
        "  far: { kind: openai, url: \"http://[::1]:8080/base/\" }\n  ollama: {",
    ));
    let far = &plan.frameworks["far"];
    assert_eq!(
        far.source,
        crate::plan::Source::Url("http://[::1]:8080/base".into())
    );
    assert_eq!((far.host.as_str(), far.port), ("::1", 8080));
}
