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
    ), @r#"
    error: model `m` has no `ollama`, the id under which `ollama` would serve it
     --> plan.yaml:4:3 (models.m)
      |
    4 |   m: { hf: org/m }
      |   ^
      = help: add `ollama:` to the model

    error: `sglang` has no `venv`
     --> plan.yaml:6:3 (frameworks.sglang)
      |
    6 |   sglang: { binary: /usr/bin/sglang, args: [--port, "1", --mem-fraction-static, "0.9"] }
      |   ^^^^^^
      = help: add the folder of its Python venv: `venv: envs/…/.venv`

    error: a framework of kind sglang has no `binary`: its server comes from `venv`
     --> plan.yaml:6:13 (frameworks.sglang.binary)
      |
    6 |   sglang: { binary: /usr/bin/sglang, args: [--port, "1", --mem-fraction-static, "0.9"] }
      |             ^^^^^^

    error: `--port` is set from `port`
     --> plan.yaml:6:45 (frameworks.sglang.args[0])
      |
    6 |   sglang: { binary: /usr/bin/sglang, args: [--port, "1", --mem-fraction-static, "0.9"] }
      |                                             ^^^^^^
      = help: take it out of `args`

    error: `ollama` has no `binary`
     --> plan.yaml:7:3 (frameworks.ollama)
      |
    7 |   ollama: { venv: envs/ollama, env: { OLLAMA_HOST: 0.0.0.0, "A-B": x, TOKEN: "${NOT_SET}" } }
      |   ^^^^^^
      = help: add the path of ollama: `binary: envs/ollama/bin/ollama`

    error: a framework of kind ollama has no `venv`: its server comes from `binary`
     --> plan.yaml:7:13 (frameworks.ollama.venv)
      |
    7 |   ollama: { venv: envs/ollama, env: { OLLAMA_HOST: 0.0.0.0, "A-B": x, TOKEN: "${NOT_SET}" } }
      |             ^^^^

    error: `OLLAMA_HOST` is set from `host` and `port`
     --> plan.yaml:7:39 (frameworks.ollama.env.OLLAMA_HOST)
      |
    7 |   ollama: { venv: envs/ollama, env: { OLLAMA_HOST: 0.0.0.0, "A-B": x, TOKEN: "${NOT_SET}" } }
      |                                       ^^^^^^^^^^^
      = help: take it out of `env`

    error: `A-B` can't be an environment variable
     --> plan.yaml:7:61 (frameworks.ollama.env.A-B)
      |
    7 |   ollama: { venv: envs/ollama, env: { OLLAMA_HOST: 0.0.0.0, "A-B": x, TOKEN: "${NOT_SET}" } }
      |                                                             ^^^^^
      = help: use letters, digits and `_`, no digit first

    error: the environment variable NOT_SET is not set
     --> plan.yaml:7:78 (frameworks.ollama.env.TOKEN)
      |
    7 |   ollama: { venv: envs/ollama, env: { OLLAMA_HOST: 0.0.0.0, "A-B": x, TOKEN: "${NOT_SET}" } }
      |                                                                              ^^^^^^^^^^^^^
      = help: set it before the run (under systemd: Environment= or EnvironmentFile=); `$${` stands for `${` itself

    error: `mine` has no `kind`
     --> plan.yaml:8:3 (frameworks.mine)
      |
    8 |   mine: { version: "1" }
      |   ^^^^
      = help: add `kind:` sglang, vllm, ollama, lmdeploy, or openai (any other OpenAI-compatible server)

    error: `llama` has neither `command` nor `url`
     --> plan.yaml:9:3 (frameworks.llama)
      |
    9 |   llama: { kind: openai }
      |   ^^^^^
      = help: add `command: [..]` for a server that benchd starts, or `url: http://…` for one that runs already

    error: the command has no `{port}`
      --> plan.yaml:10:34 (frameworks.both.command)
       |
    10 |   both: { kind: openai, command: [server, --port, "{prot}"], url: "http://127.0.0.1:1/v1" }
       |                                  ^
       = help: benchd must know where the server listens: add for instance `--port, "{port}"`

    error: nothing fills in `{prot}`
      --> plan.yaml:10:51 (frameworks.both.command[2])
       |
    10 |   both: { kind: openai, command: [server, --port, "{prot}"], url: "http://127.0.0.1:1/v1" }
       |                                                   ^^^^^^^^
       = help: did you mean `{port}`?

    error: `command` and `url` exclude each other
      --> plan.yaml:10:62 (frameworks.both.url)
       |
    10 |   both: { kind: openai, command: [server, --port, "{prot}"], url: "http://127.0.0.1:1/v1" }
       |                                                              ^^^
       = help: with `command` benchd starts and stops the server, with `url` someone else does

    error: the URL goes too far
      --> plan.yaml:10:67 (frameworks.both.url)
       |
    10 |   both: { kind: openai, command: [server, --port, "{prot}"], url: "http://127.0.0.1:1/v1" }
       |                                                                   ^^^^^^^^^^^^^^^^^^^^^^^^
       = help: benchd adds `/v1/chat/completions` itself

    error: `cmd` has no `port`
      --> plan.yaml:11:3 (frameworks.cmd)
       |
    11 |   cmd: { kind: openai, command: [server, --model, "{gguf}", "{\"json\": 1}"], ready: { path: health }, provision: auto }
       |   ^^^
       = help: add the port that fills `{port}`

    error: the command has no `{port}`
      --> plan.yaml:11:33 (frameworks.cmd.command)
       |
    11 |   cmd: { kind: openai, command: [server, --model, "{gguf}", "{\"json\": 1}"], ready: { path: health }, provision: auto }
       |                                 ^
       = help: benchd must know where the server listens: add for instance `--port, "{port}"`

    error: `health` is not a path
      --> plan.yaml:11:94 (frameworks.cmd.ready.path)
       |
    11 |   cmd: { kind: openai, command: [server, --model, "{gguf}", "{\"json\": 1}"], ready: { path: health }, provision: auto }
       |                                                                                              ^^^^^^
       = help: write it as `/health`

    error: benchd can't make an `openai` server's environment
      --> plan.yaml:11:115 (frameworks.cmd.provision)
       |
    11 |   cmd: { kind: openai, command: [server, --model, "{gguf}", "{\"json\": 1}"], ready: { path: health }, provision: auto }
       |                                                                                                                   ^^^^
       = help: take `provision` out

    error: `https` is not supported
      --> plan.yaml:12:29 (frameworks.far.url)
       |
    12 |   far: { kind: openai, url: "https://example.org", port: 80, host: 0.0.0.0 }
       |                             ^^^^^^^^^^^^^^^^^^^^^
       = help: TLS would be part of every time measured: give the server's plain http address

    20 problems in plan.yaml
    "#);
}

#[test]
fn models_without_an_id_for_a_framework_name_both() {
    assert_snapshot!(report(&with(
        "m: { hf: org/m, ollama: \"m:1\", openai: m }",
        "m: { openai: m, args: { vlm: [x], vllm: [--model, y] } }\n  n: { hf: \"-x\", ollama: \"a b\" }"
    )), @r#"
    error: model `m` has no `hf`, the id under which `vllm` would serve it
     --> plan.yaml:5:3 (models.m)
      |
    5 |   m: { openai: m, args: { vlm: [x], vllm: [--model, y] } }
      |   ^
      = help: add `hf:` to the model

    error: model `m` has no `ollama`, the id under which `ollama` would serve it
     --> plan.yaml:5:3 (models.m)
      |
    5 |   m: { openai: m, args: { vlm: [x], vllm: [--model, y] } }
      |   ^
      = help: add `ollama:` to the model

    error: there is no framework or kind `vlm`
     --> plan.yaml:5:27 (models.m.args.vlm)
      |
    5 |   m: { openai: m, args: { vlm: [x], vllm: [--model, y] } }
      |                           ^^^
      = help: did you mean `vllm`?

    error: `--model` is set from the model's `hf`
     --> plan.yaml:5:44 (models.m.args.vllm[0])
      |
    5 |   m: { openai: m, args: { vlm: [x], vllm: [--model, y] } }
      |                                            ^^^^^^^
      = help: take it out of `args`

    error: `-x` can't be a model's id
     --> plan.yaml:6:12 (models.n.hf)
      |
    6 |   n: { hf: "-x", ollama: "a b" }
      |            ^^^^
      = help: an id holds no spaces and doesn't start with `-`

    error: `a b` can't be a model's id
     --> plan.yaml:6:26 (models.n.ollama)
      |
    6 |   n: { hf: "-x", ollama: "a b" }
      |                          ^^^^^^
      = help: an id holds no spaces and doesn't start with `-`

    6 problems in plan.yaml
    "#);
}

#[test]
fn hosts_gpus_and_requests() {
    assert_snapshot!(report(&with(
        "host: { gpu: none }",
        "host: { gpu: [0, GPU-1, cuda], expect: {} }\nrequest: { temperature: 2.5, top_p: 0, timeout: 5, warmup: -1, seed: 1.5 }\nrepeats: 5000"
    )), @r"
    error: `cuda` is not a GPU
     --> plan.yaml:3:25 (host.gpu[2])
      |
    3 | host: { gpu: [0, GPU-1, cuda], expect: {} }
      |                         ^^^^
      = help: write an NVML index (`0`), a UUID (`GPU-…`, see `nvidia-smi -L`), a list of them, or `none`

    error: `temperature` must be between 0 and 2
     --> plan.yaml:4:25 (request.temperature)
      |
    4 | request: { temperature: 2.5, top_p: 0, timeout: 5, warmup: -1, seed: 1.5 }
      |                         ^^^ found 2.5

    error: `top_p` must be above 0 and at most 1
     --> plan.yaml:4:37 (request.top_p)
      |
    4 | request: { temperature: 2.5, top_p: 0, timeout: 5, warmup: -1, seed: 1.5 }
      |                                     ^ found 0

    error: `timeout` must be a duration
     --> plan.yaml:4:49 (request.timeout)
      |
    4 | request: { temperature: 2.5, top_p: 0, timeout: 5, warmup: -1, seed: 1.5 }
      |                                                 ^ found the number 5
      = help: for example `300s`, `5m`, `500ms`

    error: `warmup` must be at least 0
     --> plan.yaml:4:60 (request.warmup)
      |
    4 | request: { temperature: 2.5, top_p: 0, timeout: 5, warmup: -1, seed: 1.5 }
      |                                                            ^^ found -1

    error: `seed` must be an integer
     --> plan.yaml:4:70 (request.seed)
      |
    4 | request: { temperature: 2.5, top_p: 0, timeout: 5, warmup: -1, seed: 1.5 }
      |                                                                      ^^^ found the number 1.5

    error: `repeats` must be between 1 and 100
     --> plan.yaml:5:10 (repeats)
      |
    5 | repeats: 5000
      |          ^^^^ found 5000

    7 problems in plan.yaml
    ");
    assert_snapshot!(report(&with(
        "host: { gpu: none }",
        "host: { gpu: None, expect: { driver: 570 } }"
    )), @r#"
    error: `None` is not a GPU
     --> plan.yaml:3:14 (host.gpu)
      |
    3 | host: { gpu: None, expect: { driver: 570 } }
      |              ^^^^
      = help: write `none` alone, in small letters

    error: `driver` must be a string
     --> plan.yaml:3:38 (host.expect.driver)
      |
    3 | host: { gpu: None, expect: { driver: 570 } }
      |                                      ^^^ found the number 570
      = help: quote it: `"570"`

    2 problems in plan.yaml
    "#);
    assert_snapshot!(report(&with("host: { gpu: none }", "host: { gpu: \"0,1\" }")), @r#"
    error: `0,1` is not a GPU
     --> plan.yaml:3:14 (host.gpu)
      |
    3 | host: { gpu: "0,1" }
      |              ^^^^^^
      = help: several devices are a list of numbers: `[0, 1]`

    1 problem in plan.yaml
    "#);
    assert_snapshot!(report(&with(
        "venv: envs/vllm }",
        "venv: ~/vllm, host: localhost, stop_grace: 8 days, start_timeout: 0s }"
    )), @r"
    error: `~` is not filled in
     --> plan.yaml:7:34 (frameworks.vllm.venv)
      |
    7 |   vllm: { version: 0.15.1, venv: ~/vllm, host: localhost, stop_grace: 8 days, start_timeout: 0s }
      |                                  ^^^^^^
      = help: write the whole path, or one relative to the working directory

    error: `localhost` is not an IP address
     --> plan.yaml:7:48 (frameworks.vllm.host)
      |
    7 |   vllm: { version: 0.15.1, venv: ~/vllm, host: localhost, stop_grace: 8 days, start_timeout: 0s }
      |                                                ^^^^^^^^^
      = help: write `127.0.0.1`: `localhost` is another address on some machines

    error: `8 days` is not a duration
     --> plan.yaml:7:71 (frameworks.vllm.stop_grace)
      |
    7 |   vllm: { version: 0.15.1, venv: ~/vllm, host: localhost, stop_grace: 8 days, start_timeout: 0s }
      |                                                                       ^^^^^^
      = help: write `300s`, `5m` or `500ms`

    error: `0s` is too short
     --> plan.yaml:7:94 (frameworks.vllm.start_timeout)
      |
    7 |   vllm: { version: 0.15.1, venv: ~/vllm, host: localhost, stop_grace: 8 days, start_timeout: 0s }
      |                                                                                              ^^
      = help: it must be above zero

    4 problems in plan.yaml
    ");
}

#[test]
fn variables_are_filled_in_where_the_schema_says_so_and_refused_elsewhere() {
    assert_snapshot!(report(&with(
        "name: good",
        "name: ${NAME}\nnotify: { webhook: \"${HOOKS}\" }"
    )), @r#"
    error: `name` holds `${`, but no variable is filled in here
     --> plan.yaml:2:7 (name)
      |
    2 | name: ${NAME}
      |       ^^^^^^^
      = help: only `notify.webhook` and the values of a framework's `env` take `${VAR}`

    error: the environment variable HOOKS is not set
     --> plan.yaml:3:20 (notify.webhook)
      |
    3 | notify: { webhook: "${HOOKS}" }
      |                    ^^^^^^^^^^^
      = help: set it before the run (under systemd: Environment= or EnvironmentFile=); `$${` stands for `${` itself

    2 problems in plan.yaml
    "#);
    assert_snapshot!(report(&with(
        "name: good",
        "name: good\nnotify: { webhook: not an address }"
    )), @r"
    error: the webhook is not an address
     --> plan.yaml:3:20 (notify.webhook)
      |
    3 | notify: { webhook: not an address }
      |                    ^^^^^^^^^^^^^^
      = help: it starts with `http://` or `https://`

    1 problem in plan.yaml
    ");
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
            "10:33 scenarios.single.input_tokens[1]",
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
    assert_eq!(far.source, crate::Source::Url("http://[::1]:8080/base".into()));
    assert_eq!((far.host.as_str(), far.port), ("::1", 8080));
}

#[test]
fn how_long_a_stranger_is_waited_for_is_a_matter_of_a_gpu_of_ones_own() {
    let wait = |host: &str| super::plan(&with("host: { gpu: none }", host)).host.stranger_wait;
    let minutes = |n: u64| std::time::Duration::from_secs(n * 60);
    assert_eq!(wait("host: { gpu: 0 }"), minutes(30));
    assert_eq!(wait("host: { gpu: 0, stranger: { wait: 1h30m } }"), minutes(90));
    assert_eq!(wait("host: { gpu: 0, stranger: { wait: 0s } }"), minutes(0));
    assert_eq!(
        places(&with(
            "host: { gpu: none }",
            "host: { gpu: none, stranger: { wait: 1m } }"
        )),
        ["3:20 host.stranger | `stranger` is about a GPU, but `gpu` is `none`"]
    );
    let shared = places(&with(
        "host: { gpu: none }",
        "host: { gpu: 0, exclusive: false, stranger: { wait: 1m } }",
    ));
    assert!(
        shared[0].starts_with("3:35 host.stranger | `stranger` has no effect"),
        "{shared:?}"
    );
    assert_eq!(
        places(&with(
            "host: { gpu: none }",
            "host: { gpu: 0, stranger: { wait: 30 } }"
        ))
        .len(),
        1
    );
}
