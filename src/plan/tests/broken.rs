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
    ));
}

#[test]
fn a_key_in_the_wrong_place_is_sent_home() {
    assert_snapshot!(report(&with("name: good\n", "name: good\ntemperature: 0\n")));
}

#[test]
fn an_unknown_key_without_a_likeness_lists_what_is_known() {
    assert_snapshot!(report(&with(
        "host: { gpu: none }",
        "host: { gpu: none, colour: red }"
    )));
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
    ));
}

#[test]
fn keys_without_a_value_are_refused() {
    assert_snapshot!(report(&with(
        "host: { gpu: none }",
        "host:\nnotify:\n  webhook: ~\norder: null"
    )));
}

#[test]
fn nothing_but_the_version() {
    assert_snapshot!(report("version: 2\n"));
}

#[test]
fn empty_sections_and_lists() {
    assert_snapshot!(report(
        "version: 1\nname: x\nmodels: {}\nframeworks: []\nscenarios:\n  single: { input_tokens: [], output_tokens: 1, repeats: 1 }\n  korean: {}\n"
    ));
}

#[test]
fn a_tab_is_shown_and_explained() {
    assert_snapshot!(report("version: 1\nname: x\nmodels:\n\tm: { hf: x }\n"));
}

#[test]
fn syntax_errors_have_a_place() {
    assert_snapshot!(report("version: 1\nname: [x\nmodels: {}\n"));
    assert_snapshot!(report("version: 1\nname: a: b\n"));
    assert_snapshot!(report("version: 1\nname: \"open\n"));
}

#[test]
fn what_plans_have_no_use_for_in_yaml_is_refused() {
    assert_snapshot!(report("version: &v 1\nname: *v\nmodels: !!map {}\n"));
    assert_snapshot!(report("version: 1\n---\nversion: 1\n"));
    assert_snapshot!(report("version: 1\n[a, b]: 1\n"));
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
        ["10:66 scenarios.single.repeats | `repeats` must be at least 1"]
    );
}
