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
      = help: add `kind:` sglang, vllm, ollama, or openai (any other OpenAI-compatible server)

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
    ), @r"
    error: a scenario of kind single has no `concurrency`: it sends one request at a time; for more streams there is `kind: concurrent`
     --> plan.yaml:6:13 (scenarios.single.concurrency)
      |
    6 |   single: { concurrency: 8, input_tokens: 8, output_tokens: 8, repeats: 1, arrival: { poisson: 4/s } }
      |             ^^^^^^^^^^^
      = help: take it out

    error: a scenario of kind single has no `arrival`: its requests wait for each other
     --> plan.yaml:6:76 (scenarios.single.arrival)
      |
    6 |   single: { concurrency: 8, input_tokens: 8, output_tokens: 8, repeats: 1, arrival: { poisson: 4/s } }
      |                                                                            ^^^^^^^
      = help: take it out

    error: `prefix_cache` has no `system_tokens`
     --> plan.yaml:7:3 (scenarios.prefix_cache)
      |
    7 |   prefix_cache: { concurrency: 1, input_tokens: 8, prompts: identical, output_tokens: 8, requests: 1 }
      |   ^^^^^^^^^^^^
      = help: add the length of the shared system prompt: `system_tokens: 2048`

    error: `prefix_cache` has no `question_tokens`
     --> plan.yaml:7:3 (scenarios.prefix_cache)
      |
    7 |   prefix_cache: { concurrency: 1, input_tokens: 8, prompts: identical, output_tokens: 8, requests: 1 }
      |   ^^^^^^^^^^^^
      = help: add the length of each question: `question_tokens: 128`

    error: a scenario of kind prefix_cache has no `concurrency`: it sends its requests one after another, so that the cache alone makes the difference
     --> plan.yaml:7:19 (scenarios.prefix_cache.concurrency)
      |
    7 |   prefix_cache: { concurrency: 1, input_tokens: 8, prompts: identical, output_tokens: 8, requests: 1 }
      |                   ^^^^^^^^^^^
      = help: take it out

    error: a scenario of kind prefix_cache has no `input_tokens`: its prompts are made of `system_tokens` and `question_tokens`
     --> plan.yaml:7:35 (scenarios.prefix_cache.input_tokens)
      |
    7 |   prefix_cache: { concurrency: 1, input_tokens: 8, prompts: identical, output_tokens: 8, requests: 1 }
      |                                   ^^^^^^^^^^^^
      = help: take it out

    error: a scenario of kind prefix_cache has no `prompts`: a shared beginning with different questions is what it measures
     --> plan.yaml:7:52 (scenarios.prefix_cache.prompts)
      |
    7 |   prefix_cache: { concurrency: 1, input_tokens: 8, prompts: identical, output_tokens: 8, requests: 1 }
      |                                                    ^^^^^^^
      = help: take it out

    error: one request shows nothing of a prefix cache
     --> plan.yaml:7:100 (scenarios.prefix_cache.requests)
      |
    7 |   prefix_cache: { concurrency: 1, input_tokens: 8, prompts: identical, output_tokens: 8, requests: 1 }
      |                                                                                                    ^
      = help: the first request fills the cache, the later ones show what it saves: ask for at least 2

    error: a scenario of kind korean has no `input_tokens`: its prompts are written texts; `prompt_types` chooses short or long ones
     --> plan.yaml:8:13 (scenarios.korean.input_tokens)
      |
    8 |   korean: { input_tokens: 8, output_tokens: 8, repeats: 1, system_tokens: 8 }
      |             ^^^^^^^^^^^^
      = help: take it out

    error: a scenario of kind korean has no `system_tokens`: only `prefix_cache` has a shared system prompt
     --> plan.yaml:8:60 (scenarios.korean.system_tokens)
      |
    8 |   korean: { input_tokens: 8, output_tokens: 8, repeats: 1, system_tokens: 8 }
      |                                                            ^^^^^^^^^^^^^
      = help: take it out

    error: `long` has no `kind`
     --> plan.yaml:9:3 (scenarios.long)
      |
    9 |   long: { output_tokens: 8, repeats: 1 }
      |   ^^^^
      = help: did you mean `long_context`? A scenario of another name says its `kind:`

    11 problems in plan.yaml
    ");
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
    ), @r#"
    error: 10 requests can't keep 64 streams busy
     --> plan.yaml:6:84 (scenarios.concurrent.requests)
      |
    6 |   concurrent: { concurrency: [1, 64], input_tokens: 8, output_tokens: 8, requests: 10 }
      |                                                                                    ^^
      = help: ask for at least 64 requests, or use `repeats` for so many on each stream

    error: `requests` and `repeats` exclude each other
     --> plan.yaml:7:94 (scenarios.both.repeats)
      |
    7 |   both: { kind: concurrent, concurrency: 1, input_tokens: 8, output_tokens: 8, requests: 10, repeats: 10 }
      |                                                                                              ^^^^^^^
      = help: `requests` counts all requests of a pass, `repeats` those of each stream: keep one

    error: `neither` has neither `requests` nor `repeats`
     --> plan.yaml:8:3 (scenarios.neither)
      |
    8 |   neither: { kind: concurrent, concurrency: 1, input_tokens: 8, output_tokens: 8 }
      |   ^^^^^^^
      = help: add `requests: 100` (in all) or `repeats: 10` (for each stream)

    error: `concurrency` names 8 twice
     --> plan.yaml:9:47 (scenarios.twice.concurrency[1])
      |
    9 |   twice: { kind: concurrent, concurrency: [8, 8], input_tokens: 8, output_tokens: 8, repeats: 1 }
      |                                               ^ already item 1 of the list

    error: `concurrency` and an open-loop `arrival` exclude each other
      --> plan.yaml:10:29 (scenarios.open.concurrency)
       |
    10 |   open: { kind: concurrent, concurrency: 8, input_tokens: 8, output_tokens: 8, repeats: 1, arrival: { poisson: 4 } }
       |                             ^^^^^^^^^^^
       = help: in an open loop the rate says when requests are sent, whatever is still running: take one of them out

    error: `repeats` makes no sense in an open loop
      --> plan.yaml:10:80 (scenarios.open.repeats)
       |
    10 |   open: { kind: concurrent, concurrency: 8, input_tokens: 8, output_tokens: 8, repeats: 1, arrival: { poisson: 4 } }
       |                                                                                ^^^^^^^
       = help: use `requests`: an open loop has no streams that something could be repeated on

    error: `poisson` must be a rate
      --> plan.yaml:10:112 (scenarios.open.arrival.poisson)
       |
    10 |   open: { kind: concurrent, concurrency: 8, input_tokens: 8, output_tokens: 8, repeats: 1, arrival: { poisson: 4 } }
       |                                                                                                                ^ found the number 4
       = help: for example `4/s`, `0.5/s`

    error: `arrival` takes only one key
      --> plan.yaml:11:77 (scenarios.rate.arrival)
       |
    11 |   rate: { kind: concurrent, input_tokens: 8, output_tokens: 8, requests: 1, arrival: { poisson: 4/m, constant: 1/s } }
       |                                                                             ^^^^^^^ expected `constant` or `poisson` or `gamma`

    error: `4/m` is not a rate
      --> plan.yaml:11:97 (scenarios.rate.arrival.poisson)
       |
    11 |   rate: { kind: concurrent, input_tokens: 8, output_tokens: 8, requests: 1, arrival: { poisson: 4/m, constant: 1/s } }
       |                                                                                                 ^^^
       = help: write requests per second as `4/s` or `0.5/s`

    error: `0/s` is not between 0 (excluded) and 1000000 a second
      --> plan.yaml:12:104 (scenarios.gamma.arrival.gamma.rate)
       |
    12 |   gamma: { kind: concurrent, input_tokens: 8, output_tokens: 8, requests: 1, arrival: { gamma: { rate: 0/s, burstiness: 0 } } }
       |                                                                                                        ^^^
       = help: write requests per second as `4/s` or `0.5/s`

    error: `burstiness` must be above 0 and at most 1000
      --> plan.yaml:12:121 (scenarios.gamma.arrival.gamma.burstiness)
       |
    12 |   gamma: { kind: concurrent, input_tokens: 8, output_tokens: 8, requests: 1, arrival: { gamma: { rate: 0/s, burstiness: 0 } } }
       |                                                                                                                         ^ found 0

    error: `arrival` can't be `close`
      --> plan.yaml:13:86 (scenarios.word.arrival)
       |
    13 |   word: { kind: concurrent, input_tokens: 8, output_tokens: 8, requests: 1, arrival: close }
       |                                                                                      ^^^^^ expected `closed`, `{ poisson: 4/s }`, `{ constant: 4/s }` or `{ gamma: { rate: 4/s, burstiness: 0.5 } }`
       = help: did you mean `closed`?

    error: `0s` is too short
      --> plan.yaml:14:105 (scenarios.slo.slo.ttft)
       |
    14 |   slo: { kind: concurrent, concurrency: 1, input_tokens: 8, output_tokens: 8, requests: 1, slo: { ttft: 0s, tpot: "50" } }
       |                                                                                                         ^^
       = help: it must be above zero

    error: `50` has no unit
      --> plan.yaml:14:115 (scenarios.slo.slo.tpot)
       |
    14 |   slo: { kind: concurrent, concurrency: 1, input_tokens: 8, output_tokens: 8, requests: 1, slo: { ttft: 0s, tpot: "50" } }
       |                                                                                                                   ^^^^^
       = help: write `50s` for seconds

    error: `slo` must not be empty
      --> plan.yaml:15:93 (scenarios.none.slo)
       |
    15 |   none: { kind: concurrent, concurrency: 1, input_tokens: 8, output_tokens: 8, requests: 1, slo: {} }
       |                                                                                             ^^^ expected `ttft` or `tpot` or `latency`

    15 problems in plan.yaml
    "#);
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
    ), @r#"
    error: a name holds only letters, digits, `-`, `_` and `.`, not `/`
     --> plan.yaml:2:7 (name)
      |
    2 | name: ../evil
      |       ^^^^^^^
      = help: names become folders: use ASCII letters, digits, `-`, `_` and `.`, at most 64 characters

    error: a name holds only letters, digits, `-`, `_` and `.`, not `/`
     --> plan.yaml:4:3 (models."a/b")
      |
    4 |   a/b: { hf: org/m }
      |   ^^^
      = help: names become folders: use ASCII letters, digits, `-`, `_` and `.`, at most 64 characters

    error: `m` and `M` differ only in case
     --> plan.yaml:6:3 (models.m)
      |
    6 |   m: { hf: org/m }
      |   ^
      = help: names become folders, and some file systems don't tell case apart

    error: a name starts with a letter, a digit or `_`, not with `.`
      --> plan.yaml:10:3 (frameworks.".vllm")
       |
    10 |   .vllm: { kind: vllm, venv: v }
       |   ^^^^^
       = help: names become folders: use ASCII letters, digits, `-`, `_` and `.`, at most 64 characters

    error: `run.json` is the name of one of a run's own files
      --> plan.yaml:11:3 (frameworks."run.json")
       |
    11 |   run.json: { kind: vllm, venv: v }
       |   ^^^^^^^^
       = help: each framework has a folder of its name in the run's folder

    error: framework `a-b` with model `c` and framework `a` with model `b-c` would share the log file a-b-c.log
      --> plan.yaml:13:3 (frameworks.a-b)
       |
    13 |   a-b: { kind: vllm, venv: v }
       |   ^^^
       = help: rename one of them

    error: a name must not be empty
      --> plan.yaml:15:3 (scenarios."")
       |
    15 |   "": { kind: single, input_tokens: 8, output_tokens: 8, repeats: 1 }
       |   ^^
       = help: names become folders: use ASCII letters, digits, `-`, `_` and `.`, at most 64 characters

    error: a name starts with a letter, a digit or `_`, not with `-`
      --> plan.yaml:16:3 (scenarios.-x)
       |
    16 |   -x: { kind: single, input_tokens: 8, output_tokens: 8, repeats: 1 }
       |   ^^
       = help: names become folders: use ASCII letters, digits, `-`, `_` and `.`, at most 64 characters

    8 problems in plan.yaml
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
fn references_to_what_is_not_there() {
    assert_snapshot!(report(&with(
        "venv: envs/vllm }",
        "venv: envs/vllm, scenarios: [singel, nothing] }"
    )), @r"
    error: there is no scenario `singel`
     --> plan.yaml:7:57 (frameworks.vllm.scenarios[0])
      |
    7 |   vllm: { version: 0.15.1, venv: envs/vllm, scenarios: [singel, nothing] }
      |                                                         ^^^^^^
      = help: did you mean `single`?

    error: there is no scenario `nothing`
     --> plan.yaml:7:65 (frameworks.vllm.scenarios[1])
      |
    7 |   vllm: { version: 0.15.1, venv: envs/vllm, scenarios: [singel, nothing] }
      |                                                                 ^^^^^^^
      = help: the plan's scenarios: single, concurrent

    2 problems in plan.yaml
    ");
    assert_snapshot!(report(
        &with("venv: envs/vllm }", "venv: envs/vllm, scenarios: [single] }")
            .replace("bin/ollama }", "bin/ollama, scenarios: [single] }")
    ), @r"
    error: no framework runs the scenario `concurrent`
      --> plan.yaml:11:3 (scenarios.concurrent)
       |
    11 |   concurrent: { concurrency: [1, 8], input_tokens: 512, output_tokens: 256, requests: 100 }
       |   ^^^^^^^^^^
       = help: add it to a framework's `scenarios`, or take it out

    1 problem in plan.yaml
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
    assert_eq!(
        far.source,
        crate::plan::Source::Url("http://[::1]:8080/base".into())
    );
    assert_eq!((far.host.as_str(), far.port), ("::1", 8080));
}
