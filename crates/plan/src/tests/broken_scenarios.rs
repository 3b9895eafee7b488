//! Reports on scenarios and names that are wrong in meaning.

use insta::assert_snapshot;

use super::{report, with};

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
