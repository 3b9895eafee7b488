//! Reports on plans that are wrong in form: keys, types, words, YAML itself.

use insta::assert_snapshot;

use super::{places, report, with};

#[test]
fn all_problems_are_reported_at_once_each_at_its_line() {
    assert_snapshot!(report(
        r#"version: 1
name: a100
hosts: { gpu: 0 }
request: { temperature: warm, timeout: 300 }
models:
  모델: { hf: openai/gpt-oss-20b, olama: "gpt-oss:20b" }
frameworks:
  vllm: { kind: vlm, version: 0.15, venv: envs/vllm, port: 70000 }
  ollama: { binary: envs/ollama, binary: envs/other }
scenarios:
  single:
    input_tokens: [128, 0]
    output_token: 256
    repeats: 0
  korean: { output_tokens: 256, repeats: 10, input_tokens: 512 }
hypotheses: [H1, H9]
"#
    ), @r#"
    error: unknown key `hosts`
     --> plan.yaml:3:1 (hosts)
      |
    3 | hosts: { gpu: 0 }
      | ^^^^^
      = help: did you mean `host`?

    error: `temperature` must be a number
     --> plan.yaml:4:25 (request.temperature)
      |
    4 | request: { temperature: warm, timeout: 300 }
      |                         ^^^^ found the string "warm"

    error: `timeout` must be a duration
     --> plan.yaml:4:40 (request.timeout)
      |
    4 | request: { temperature: warm, timeout: 300 }
      |                                        ^^^ found the number 300
      = help: for example `300s`, `5m`, `500ms`

    error: a name holds only letters, digits, `-`, `_` and `.`, not `모`
     --> plan.yaml:6:3 (models.모델)
      |
    6 |   모델: { hf: openai/gpt-oss-20b, olama: "gpt-oss:20b" }
      |   ^^^^
      = help: names become folders: use ASCII letters, digits, `-`, `_` and `.`, at most 64 characters

    error: unknown key `olama`
     --> plan.yaml:6:33 (models.모델.olama)
      |
    6 |   모델: { hf: openai/gpt-oss-20b, olama: "gpt-oss:20b" }
      |                                   ^^^^^
      = help: did you mean `ollama`?

    error: `kind` can't be `vlm`
     --> plan.yaml:8:17 (frameworks.vllm.kind)
      |
    8 |   vllm: { kind: vlm, version: 0.15, venv: envs/vllm, port: 70000 }
      |                 ^^^ expected one of `sglang`, `vllm`, `ollama`, `lmdeploy`, `openai`
      = help: did you mean `vllm`?

    error: `version` must be a string
     --> plan.yaml:8:31 (frameworks.vllm.version)
      |
    8 |   vllm: { kind: vlm, version: 0.15, venv: envs/vllm, port: 70000 }
      |                               ^^^^ found the number 0.15
      = help: quote it: `"0.15"`

    error: `port` must be between 1 and 65535
     --> plan.yaml:8:60 (frameworks.vllm.port)
      |
    8 |   vllm: { kind: vlm, version: 0.15, venv: envs/vllm, port: 70000 }
      |                                                            ^^^^^ found 70000

    error: `binary` is given twice
     --> plan.yaml:9:34 (frameworks.ollama.binary)
      |
    9 |   ollama: { binary: envs/ollama, binary: envs/other }
      |                                  ^^^^^^ first given on line 9
      = help: keep one of them

    error: `input_tokens[1]` must be at least 1
      --> plan.yaml:12:25 (scenarios.single.input_tokens[1])
       |
    12 |     input_tokens: [128, 0]
       |                         ^ found 0

    error: unknown key `output_token`
      --> plan.yaml:13:5 (scenarios.single.output_token)
       |
    13 |     output_token: 256
       |     ^^^^^^^^^^^^
       = help: did you mean `output_tokens`?

    error: `repeats` must be at least 1
      --> plan.yaml:14:14 (scenarios.single.repeats)
       |
    14 |     repeats: 0
       |              ^ found 0

    error: a scenario of kind korean has no `input_tokens`: its prompts are written texts; `prompt_types` chooses short or long ones
      --> plan.yaml:15:46 (scenarios.korean.input_tokens)
       |
    15 |   korean: { output_tokens: 256, repeats: 10, input_tokens: 512 }
       |                                              ^^^^^^^^^^^^
       = help: take it out

    error: `hypotheses[1]` can't be `H9`
      --> plan.yaml:16:18 (hypotheses[1])
       |
    16 | hypotheses: [H1, H9]
       |                  ^^ expected one of `H1`, `H2`, `H3`, `H4`, `H5`

    14 problems in plan.yaml
    "#);
}

#[test]
fn a_key_in_the_wrong_place_is_sent_home() {
    assert_snapshot!(report(&with("name: good\n", "name: good\ntemperature: 0\n")), @r"
    error: unknown key `temperature`
     --> plan.yaml:3:1 (temperature)
      |
    3 | temperature: 0
      | ^^^^^^^^^^^
      = help: `temperature` belongs under `request`

    1 problem in plan.yaml
    ");
}

#[test]
fn an_unknown_key_without_a_likeness_lists_what_is_known() {
    assert_snapshot!(report(&with(
        "host: { gpu: none }",
        "host: { gpu: none, colour: red }"
    )), @r"
    error: unknown key `colour`
     --> plan.yaml:3:20 (host.colour)
      |
    3 | host: { gpu: none, colour: red }
      |                    ^^^^^^
      = help: known here: gpu, expect, exclusive, stranger

    1 problem in plan.yaml
    ");
}

#[test]
fn yaml_traps_are_explained() {
    assert_snapshot!(report(
        r#"version: "1"
name: 5
host: { gpu: none, exclusive: yes }
models:
  m: { hf: org/m, ollama: 1.5, precision: on }
frameworks:
  vllm: { version: 0.15, venv: envs/vllm, args: [--tp, 1, true], retries: "2" }
  ollama: { binary: envs/ollama, env: { OLLAMA_NUM_PARALLEL: 1 }, args: --verbose }
scenarios:
  single: { input_tokens: "128", output_tokens: 2.5, repeats: 1e1, passes: 010 }
"#
    ), @r#"
    error: `version` must be an integer
     --> plan.yaml:1:10 (version)
      |
    1 | version: "1"
      |          ^^^ found the string "1"
      = help: take the quotes off: `1`

    error: `name` must be a string
     --> plan.yaml:2:7 (name)
      |
    2 | name: 5
      |       ^ found the number 5
      = help: quote it: `"5"`

    error: `exclusive` must be `true` or `false`
     --> plan.yaml:3:31 (host.exclusive)
      |
    3 | host: { gpu: none, exclusive: yes }
      |                               ^^^ found the string "yes"
      = help: write `true`: `yes` is a word in YAML 1.2

    error: `ollama` must be a string
     --> plan.yaml:5:27 (models.m.ollama)
      |
    5 |   m: { hf: org/m, ollama: 1.5, precision: on }
      |                           ^^^ found the number 1.5
      = help: quote it: `"1.5"`

    error: `version` must be a string
     --> plan.yaml:7:20 (frameworks.vllm.version)
      |
    7 |   vllm: { version: 0.15, venv: envs/vllm, args: [--tp, 1, true], retries: "2" }
      |                    ^^^^ found the number 0.15
      = help: quote it: `"0.15"`

    error: `args[1]` must be a string
     --> plan.yaml:7:56 (frameworks.vllm.args[1])
      |
    7 |   vllm: { version: 0.15, venv: envs/vllm, args: [--tp, 1, true], retries: "2" }
      |                                                        ^ found the number 1
      = help: quote it: `"1"`

    error: `args[2]` must be a string
     --> plan.yaml:7:59 (frameworks.vllm.args[2])
      |
    7 |   vllm: { version: 0.15, venv: envs/vllm, args: [--tp, 1, true], retries: "2" }
      |                                                           ^^^^ found the truth value `true`
      = help: quote it: `"true"`

    error: `retries` must be an integer
     --> plan.yaml:7:75 (frameworks.vllm.retries)
      |
    7 |   vllm: { version: 0.15, venv: envs/vllm, args: [--tp, 1, true], retries: "2" }
      |                                                                           ^^^^ found the string "2"
      = help: take the quotes off: `2`

    error: `OLLAMA_NUM_PARALLEL` must be a string
     --> plan.yaml:8:62 (frameworks.ollama.env.OLLAMA_NUM_PARALLEL)
      |
    8 |   ollama: { binary: envs/ollama, env: { OLLAMA_NUM_PARALLEL: 1 }, args: --verbose }
      |                                                              ^ found the number 1
      = help: quote it: `"1"`

    error: `args` must be a list
     --> plan.yaml:8:73 (frameworks.ollama.args)
      |
    8 |   ollama: { binary: envs/ollama, env: { OLLAMA_NUM_PARALLEL: 1 }, args: --verbose }
      |                                                                         ^^^^^^^^^ found the string "--verbose"
      = help: write a list: `[…]`

    error: `input_tokens` must be an integer or a list of integers
      --> plan.yaml:10:27 (scenarios.single.input_tokens)
       |
    10 |   single: { input_tokens: "128", output_tokens: 2.5, repeats: 1e1, passes: 010 }
       |                           ^^^^^ found the string "128"
       = help: take the quotes off: `128`

    error: `output_tokens` must be an integer
      --> plan.yaml:10:49 (scenarios.single.output_tokens)
       |
    10 |   single: { input_tokens: "128", output_tokens: 2.5, repeats: 1e1, passes: 010 }
       |                                                 ^^^ found the number 2.5

    error: `repeats` must be an integer
      --> plan.yaml:10:63 (scenarios.single.repeats)
       |
    10 |   single: { input_tokens: "128", output_tokens: 2.5, repeats: 1e1, passes: 010 }
       |                                                               ^^^ found the number 1e1

    error: `passes` must be an integer
      --> plan.yaml:10:76 (scenarios.single.passes)
       |
    10 |   single: { input_tokens: "128", output_tokens: 2.5, repeats: 1e1, passes: 010 }
       |                                                                            ^^^ found the string "010"
       = help: write `10`

    14 problems in plan.yaml
    "#);
}

#[test]
fn keys_without_a_value_are_refused() {
    assert_snapshot!(report(&with(
        "host: { gpu: none }",
        "host:\nnotify:\n  webhook: ~\norder: null"
    )), @r"
    error: `host` has no value
     --> plan.yaml:3:1 (host)
      |
    3 | host:
      | ^^^^ expected a mapping
      = help: write a value, or take the key out

    error: `webhook` has no value
     --> plan.yaml:5:12 (notify.webhook)
      |
    5 |   webhook: ~
      |            ^ expected a string
      = help: write a value, or take the key out

    error: `order` has no value
     --> plan.yaml:6:8 (order)
      |
    6 | order: null
      |        ^^^^ expected one of `fixed`, `rotate`, `interleave`
      = help: write a value, or take the key out

    3 problems in plan.yaml
    ");
}

#[test]
fn nothing_but_the_version() {
    assert_snapshot!(report("version: 2\n"), @r"
    error: the plan has no `name`
     --> plan.yaml:1:1 (the plan)
      |
    1 | version: 2
      | ^
      = help: `name`: Name of the plan, a part of the run's name: letters, digits, `-`, `_`, `.`; at most 64.

    error: the plan has no `models`
     --> plan.yaml:1:1 (the plan)
      |
    1 | version: 2
      | ^
      = help: `models`: The models, by a name of your choice.

    error: the plan has no `frameworks`
     --> plan.yaml:1:1 (the plan)
      |
    1 | version: 2
      | ^
      = help: `frameworks`: The frameworks, by a name of your choice: each one configuration of a server.

    error: the plan has no `scenarios`
     --> plan.yaml:1:1 (the plan)
      |
    1 | version: 2
      | ^
      = help: `scenarios`: The scenarios, by their kind's name, or by another name with `kind`.

    error: `version` must be 1
     --> plan.yaml:1:10 (version)
      |
    1 | version: 2
      |          ^ found 2

    5 problems in plan.yaml
    ");
}

#[test]
fn empty_sections_and_lists() {
    assert_snapshot!(report(
        "version: 1\nname: x\nmodels: {}\nframeworks: []\nscenarios:\n  single: { input_tokens: [], output_tokens: 1, repeats: 1 }\n  korean: {}\n"
    ), @r"
    error: `models` must not be empty
     --> plan.yaml:3:1 (models)
      |
    3 | models: {}
      | ^^^^^^

    error: `frameworks` must be a mapping
     --> plan.yaml:4:13 (frameworks)
      |
    4 | frameworks: []
      |             ^ found a list

    error: `input_tokens` must not be empty
     --> plan.yaml:6:27 (scenarios.single.input_tokens)
      |
    6 |   single: { input_tokens: [], output_tokens: 1, repeats: 1 }
      |                           ^

    error: `korean` has no `output_tokens`
     --> plan.yaml:7:3 (scenarios.korean)
      |
    7 |   korean: {}
      |   ^^^^^^
      = help: `output_tokens`: Length of the answers in tokens: exact, but for `korean`, where it is the most.

    error: `korean` has neither `requests` nor `repeats`
     --> plan.yaml:7:3 (scenarios.korean)
      |
    7 |   korean: {}
      |   ^^^^^^
      = help: add `requests: 100` (in all) or `repeats: 10` (for each stream)

    5 problems in plan.yaml
    ");
}

#[test]
fn a_tab_is_shown_and_explained() {
    assert_snapshot!(report("version: 1\nname: x\nmodels:\n\tm: { hf: x }\n"), @r"
    error: this is not YAML: tabs disallowed within this context (block indentation)
     --> plan.yaml:4:2 (models)
      |
    4 |     m: { hf: x }
      |     ^
      = help: YAML is indented by spaces, never by tabs

    1 problem in plan.yaml
    ");
}

#[test]
fn syntax_errors_have_a_place() {
    assert_snapshot!(report("version: 1\nname: [x\nmodels: {}\n"), @r"
    error: this is not YAML: illegal placement of ':' indicator
     --> plan.yaml:3:7 (name[0])
      |
    3 | models: {}
      |       ^
      = help: check that every `{`, `[` and quote is closed, with `,` between the items

    1 problem in plan.yaml
    ");
    assert_snapshot!(report("version: 1\nname: a: b\n"), @r"
    error: this is not YAML: mapping values are not allowed in this context
     --> plan.yaml:2:8 (the plan)
      |
    2 | name: a: b
      |        ^
      = help: a value that holds `: ` must be quoted, and a key needs a line of its own

    1 problem in plan.yaml
    ");
    assert_snapshot!(report("version: 1\nname: \"open\n"), @r#"
    error: this is not YAML: while scanning a quoted scalar, found unexpected end of stream
     --> plan.yaml:2:7 (name)
      |
    2 | name: "open
      |       ^
      = help: check that every `{`, `[` and quote is closed, with `,` between the items

    1 problem in plan.yaml
    "#);
}

#[test]
fn what_plans_have_no_use_for_in_yaml_is_refused() {
    assert_snapshot!(report("version: &v 1\nname: *v\nmodels: !!map {}\n"), @r"
    error: YAML anchors (`&name`) are not supported in plans
     --> plan.yaml:1:10 (version)
      |
    1 | version: &v 1
      |          ^^^^
      = help: write the value out, so that a plan reads the same wherever one looks

    error: YAML aliases (`*name`) are not supported in plans
     --> plan.yaml:2:7 (name)
      |
    2 | name: *v
      |       ^^
      = help: write the value out, so that a plan reads the same wherever one looks

    error: YAML tags (`!name`) are not supported in plans
     --> plan.yaml:3:9 (models)
      |
    3 | models: !!map {}
      |         ^^^^^^^
      = help: quote the value if it starts with `!`

    3 problems in plan.yaml
    ");
    assert_snapshot!(report("version: 1\n---\nversion: 1\n"), @r"
    error: a second YAML document in one file
     --> plan.yaml:2:1 (the plan)
      |
    2 | ---
      | ^^^
      = help: one file holds one plan: remove the `---` line, or put the second plan into its own file

    1 problem in plan.yaml
    ");
    assert_snapshot!(report("version: 1\n[a, b]: 1\n"), @r"
    error: a key must be a plain word, not a list or mapping
     --> plan.yaml:2:1 (the plan)
      |
    2 | [a, b]: 1
      | ^
      = help: quote a value that starts with `{` or `[`

    1 problem in plan.yaml
    ");
}

#[test]
fn texts_that_are_no_mapping() {
    for (text, message) in [
        ("", "the plan is empty"),
        ("# nothing\n", "the plan is empty"),
        ("~", "the plan is empty"),
        ("---\n", "the plan is empty"),
        ("just words", "must be a mapping"),
        ("[1, 2]", "must be a mapping"),
        ("5", "must be a mapping"),
    ] {
        let out = report(text);
        assert!(out.contains(message), "{text:?}:\n{out}");
    }
}

#[test]
fn deep_nesting_is_refused_not_followed() {
    let flow = format!("name: {}{}", "[".repeat(100), "]".repeat(100));
    assert!(report(&flow).contains("nested deeper"), "{}", report(&flow));
    let huge = "[".repeat(100_000);
    assert!(report(&huge).contains("error: "));
    let block: String = (0..100).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    assert!(report(&block).contains("nested deeper"));
}

#[test]
fn a_misspelt_key_is_one_problem_not_two() {
    let found = places(&with("repeats: 10", "repeat: 10"));
    assert_eq!(found.len(), 1, "{found:#?}");
    let found = places(&with(
        "output_tokens: 256, repeats",
        "output-tokens: 256, repeats",
    ));
    assert_eq!(found.len(), 1, "{found:#?}");
    let found = places(&with("venv:", "venw:"));
    assert_eq!(found.len(), 1, "{found:#?}");
}

#[test]
fn crlf_and_byte_order_mark_are_fine_and_places_stay_right() {
    let text = format!("\u{feff}{}", super::GOOD.replace('\n', "\r\n"));
    assert_eq!(super::plan(&text).name, "good");
    let wrong = text.replace("repeats: 10", "repeats: 0");
    assert_eq!(
        places(&wrong),
        ["10:68 scenarios.single.repeats | `repeats` must be at least 1"]
    );
}
