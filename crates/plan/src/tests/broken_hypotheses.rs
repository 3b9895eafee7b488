//! Reports on hypotheses that are wrong in form or in meaning.

use insta::assert_snapshot;

use super::{report, with};

/// A plan with these hypotheses; its frameworks are vllm and ollama, its scenarios those of the good plan.
fn broken(text: &str) -> String {
    report(&with(
        "host: { gpu: none }\n",
        &format!("host: {{ gpu: none }}\nhypotheses:\n{text}"),
    ))
}

#[test]
fn roles_of_frameworks_that_the_plan_does_not_have() {
    assert_snapshot!(broken("  roles: { sglang: sgalng, vllm: vlm, ollama: ollama, control: ollama, other: vllm }\n  H1: {}\n"), @r#"
    error: the plan has no framework `sgalng`
     --> plan.yaml:5:20 (hypotheses.roles.sglang)
      |
    5 |   roles: { sglang: sgalng, vllm: vlm, ollama: ollama, control: ollama, other: vllm }
      |                    ^^^^^^
      = help: the plan's frameworks: vllm, ollama

    error: the plan has no framework `vlm`
     --> plan.yaml:5:34 (hypotheses.roles.vllm)
      |
    5 |   roles: { sglang: sgalng, vllm: vlm, ollama: ollama, control: ollama, other: vllm }
      |                                  ^^^
      = help: did you mean `vllm`?

    error: `ollama` stands for both ollama and control
     --> plan.yaml:5:64 (hypotheses.roles.control)
      |
    5 |   roles: { sglang: sgalng, vllm: vlm, ollama: ollama, control: ollama, other: vllm }
      |                                                                ^^^^^^
      = help: a framework compared with itself says nothing: give each role one of its own

    error: unknown key `other`
     --> plan.yaml:5:72 (hypotheses.roles.other)
      |
    5 |   roles: { sglang: sgalng, vllm: vlm, ollama: ollama, control: ollama, other: vllm }
      |                                                                        ^^^^^
      = help: known here: sglang, vllm, ollama, control

    4 problems in plan.yaml
    "#);
}

#[test]
fn thresholds_out_of_range() {
    assert_snapshot!(broken("  H1: { throughput: 0, ttft: -1, cache_gain: 1001 }\n  H2: { overwhelming: a lot, from_concurrency: 1 }\n  H3: { margin: 10 }\n  H4: { difference: 250% }\n  H5: { difference: -5% }\n"), @r#"
    error: `throughput` must be above 0 and at most 1000
     --> plan.yaml:5:21 (hypotheses.H1.throughput)
      |
    5 |   H1: { throughput: 0, ttft: -1, cache_gain: 1001 }
      |                     ^ found 0

    error: `ttft` must be above 0 and at most 1000
     --> plan.yaml:5:30 (hypotheses.H1.ttft)
      |
    5 |   H1: { throughput: 0, ttft: -1, cache_gain: 1001 }
      |                              ^^ found -1

    error: `cache_gain` must be above 0 and at most 1000
     --> plan.yaml:5:46 (hypotheses.H1.cache_gain)
      |
    5 |   H1: { throughput: 0, ttft: -1, cache_gain: 1001 }
      |                                              ^^^^ found 1001

    error: `overwhelming` must be a number
     --> plan.yaml:6:23 (hypotheses.H2.overwhelming)
      |
    6 |   H2: { overwhelming: a lot, from_concurrency: 1 }
      |                       ^^^^^ found the string "a lot"

    error: `from_concurrency` must be at least 2
     --> plan.yaml:6:48 (hypotheses.H2.from_concurrency)
      |
    6 |   H2: { overwhelming: a lot, from_concurrency: 1 }
      |                                                ^ found 1

    error: `margin` must be a share in per cent
     --> plan.yaml:7:17 (hypotheses.H3.margin)
      |
    7 |   H3: { margin: 10 }
      |                 ^^ found the number 10
      = help: for example `10%`, `2.5%`

    error: `-5%` is not a share
     --> plan.yaml:9:21 (hypotheses.H5.difference)
      |
    9 |   H5: { difference: -5% }
      |                     ^^^
      = help: write a share as `10%`

    7 problems in plan.yaml
    "#);
}

#[test]
fn keys_that_no_hypothesis_has() {
    assert_snapshot!(broken("  H1: { thruput: 1.05 }\n  H6: {}\n  h2: {}\n  H3:\n"), @r#"
    error: unknown key `thruput`
     --> plan.yaml:5:9 (hypotheses.H1.thruput)
      |
    5 |   H1: { thruput: 1.05 }
      |         ^^^^^^^
      = help: known here: throughput, ttft, cache_gain

    error: unknown key `H6`
     --> plan.yaml:6:3 (hypotheses.H6)
      |
    6 |   H6: {}
      |   ^^
      = help: known here: roles, H1, H2, H3, H4, H5, own

    error: unknown key `h2`
     --> plan.yaml:7:3 (hypotheses.h2)
      |
    7 |   h2: {}
      |   ^^
      = help: did you mean `H2`?

    error: `H3` has no value
     --> plan.yaml:8:3 (hypotheses.H3)
      |
    8 |   H3:
      |   ^^ expected a mapping
      = help: write a value, or take the key out

    4 problems in plan.yaml
    "#);
}

#[test]
fn a_list_with_names_that_are_none_of_the_five() {
    assert_snapshot!(report(&with("host: { gpu: none }\n", "host: { gpu: none }\nhypotheses: [H1, H7, h2, H1]\n")), @r#"
    error: `hypotheses[1]` can't be `H7`
     --> plan.yaml:4:18 (hypotheses[1])
      |
    4 | hypotheses: [H1, H7, h2, H1]
      |                  ^^ expected one of `H1`, `H2`, `H3`, `H4`, `H5`

    error: `hypotheses[2]` can't be `h2`
     --> plan.yaml:4:22 (hypotheses[2])
      |
    4 | hypotheses: [H1, H7, h2, H1]
      |                      ^^ expected one of `H1`, `H2`, `H3`, `H4`, `H5`
      = help: did you mean `H2`?

    2 problems in plan.yaml
    "#);
    assert_snapshot!(report(&with("host: { gpu: none }\n", "host: { gpu: none }\nhypotheses: all\n")), @r#"
    error: `hypotheses` must be a list of H1 to H5, or a mapping of them
     --> plan.yaml:4:13 (hypotheses)
      |
    4 | hypotheses: all
      |             ^^^ found the string "all"
      = help: write a list: `[…]`

    1 problem in plan.yaml
    "#);
    assert_snapshot!(report(&with("host: { gpu: none }\n", "host: { gpu: none }\nhypotheses: {}\n")), @r#"
    error: `hypotheses` must not be empty
     --> plan.yaml:4:1 (hypotheses)
      |
    4 | hypotheses: {}
      | ^^^^^^^^^^ expected `roles` or `H1` or `H2` or `H3` or `H4` or `H5` or `own`

    1 problem in plan.yaml
    "#);
}

#[test]
fn an_own_hypothesis_without_what_it_needs() {
    assert_snapshot!(broken("  own:\n    bare: {}\n    empty: { claim: nothing, tests: [] }\n    half:\n      claim: half a test\n      tests:\n        - { of: vllm, against: ollama }\n        - { figure: ttft_ms, of: vllm, against: ollama, scenario: concurrent }\n"), @r#"
    error: `bare` has no `claim`
     --> plan.yaml:6:5 (hypotheses.own.bare)
      |
    6 |     bare: {}
      |     ^^^^
      = help: `claim`: The claim in words.

    error: `bare` has no `tests`
     --> plan.yaml:6:5 (hypotheses.own.bare)
      |
    6 |     bare: {}
      |     ^^^^
      = help: `tests`: Its tests.

    error: `tests` must not be empty
     --> plan.yaml:7:37 (hypotheses.own.empty.tests)
      |
    7 |     empty: { claim: nothing, tests: [] }
      |                                     ^

    error: `tests[0]` has no `figure`
      --> plan.yaml:11:11 (hypotheses.own.half.tests[0])
       |
    11 |         - { of: vllm, against: ollama }
       |           ^^
       = help: `figure`: What is compared.

    error: `tests[0]` has no `scenario`
      --> plan.yaml:11:11 (hypotheses.own.half.tests[0])
       |
    11 |         - { of: vllm, against: ollama }
       |           ^^
       = help: `scenario`: The scenario.

    error: the test has no threshold
      --> plan.yaml:11:11 (hypotheses.own.half.tests[0])
       |
    11 |         - { of: vllm, against: ollama }
       |           ^^
       = help: add one of `at_least: 1.5`, `at_most: 0.5`, `differs_by: 10%`, `within: 10%`

    error: the test has no threshold
      --> plan.yaml:12:11 (hypotheses.own.half.tests[1])
       |
    12 |         - { figure: ttft_ms, of: vllm, against: ollama, scenario: concurrent }
       |           ^^
       = help: add one of `at_least: 1.5`, `at_most: 0.5`, `differs_by: 10%`, `within: 10%`

    7 problems in plan.yaml
    "#);
}

#[test]
fn an_own_hypothesis_that_can_not_mean_what_it_says() {
    assert_snapshot!(broken("  own:\n    h1: { claim: taken, tests: [{ figure: ttft_ms, of: vllm, against: ollama, scenario: concurrent, at_most: 1 }] }\n    odd:\n      claim: odd\n      rule: most\n      tests:\n        - { figure: ttft, of: vllm, against: vllm, scenario: concurent, at_most: 1, at_least: 2 }\n        - { figure: later_over_first, of: vllm, against: sglang, scenario: concurrent, at_most: 0 }\n        - { figure: ttft_ms, of: vllm, against: ollama, scenario: concurrent, concurrency: 7, within: 10% }\n"), @r#"
    error: `h1` is the name of one of the document's hypotheses
     --> plan.yaml:6:5 (hypotheses.own.h1)
      |
    6 |     h1: { claim: taken, tests: [{ figure: ttft_ms, of: vllm, against: ollama, scenario: concurrent, at_most: 1 }] }
      |     ^^
      = help: give your own another name, or set the thresholds of that one beside `own`

    error: `rule` can't be `most`
     --> plan.yaml:9:13 (hypotheses.own.odd.rule)
      |
    9 |       rule: most
      |             ^^^^ expected one of `all`, `any`

    error: `figure` can't be `ttft`
      --> plan.yaml:11:21 (hypotheses.own.odd.tests[0].figure)
       |
    11 |         - { figure: ttft, of: vllm, against: vllm, scenario: concurent, at_most: 1, at_least: 2 }
       |                     ^^^^ expected one of `ttft_ms`, `latency_ms`, `tpot_ms`, `tokens_per_s`, `output_tokens_per_s`, `first_ttft_ms`, `later_ttft_ms`, `later_over_first`, `scaling_efficiency`, `ko_over_en_prompt_tokens`, `ko_over_en_tokens_per_s`, `ko_over_en_chars_per_s`, `ko_over_en_ttft_ms`, `ko_over_en_latency_ms`
       = help: did you mean `ttft_ms`?

    error: a framework is compared with itself
      --> plan.yaml:11:46 (hypotheses.own.odd.tests[0].against)
       |
    11 |         - { figure: ttft, of: vllm, against: vllm, scenario: concurent, at_most: 1, at_least: 2 }
       |                                              ^^^^
       = help: name the framework that it is compared with

    error: the plan has no scenario `concurent`
      --> plan.yaml:11:62 (hypotheses.own.odd.tests[0].scenario)
       |
    11 |         - { figure: ttft, of: vllm, against: vllm, scenario: concurent, at_most: 1, at_least: 2 }
       |                                                              ^^^^^^^^^
       = help: did you mean `concurrent`?

    error: `at_least` and `at_most` exclude each other
      --> plan.yaml:11:73 (hypotheses.own.odd.tests[0].at_most)
       |
    11 |         - { figure: ttft, of: vllm, against: vllm, scenario: concurent, at_most: 1, at_least: 2 }
       |                                                                         ^^^^^^^
       = help: one test has one threshold: write two tests, or keep one

    error: a scenario of kind concurrent has no `later_over_first`
      --> plan.yaml:12:21 (hypotheses.own.odd.tests[1].figure)
       |
    12 |         - { figure: later_over_first, of: vllm, against: sglang, scenario: concurrent, at_most: 0 }
       |                     ^^^^^^^^^^^^^^^^
       = help: `later_over_first` is a figure of `prefix_cache`

    error: the plan has no framework `sglang`
      --> plan.yaml:12:58 (hypotheses.own.odd.tests[1].against)
       |
    12 |         - { figure: later_over_first, of: vllm, against: sglang, scenario: concurrent, at_most: 0 }
       |                                                          ^^^^^^
       = help: the plan's frameworks: vllm, ollama

    error: `at_most` must be above 0 and at most 1000000
      --> plan.yaml:12:97 (hypotheses.own.odd.tests[1].at_most)
       |
    12 |         - { figure: later_over_first, of: vllm, against: sglang, scenario: concurrent, at_most: 0 }
       |                                                                                                 ^ found 0

    error: `concurrent` has no cell with `concurrency` 7
      --> plan.yaml:13:92 (hypotheses.own.odd.tests[2].concurrency[0])
       |
    13 |         - { figure: ttft_ms, of: vllm, against: ollama, scenario: concurrent, concurrency: 7, within: 10% }
       |                                                                                            ^
       = help: it has 1, 8

    10 problems in plan.yaml
    "#);
}

#[test]
fn a_hypothesis_named_twice() {
    assert_snapshot!(report(&with("host: { gpu: none }\n", "host: { gpu: none }\nhypotheses: [H1, H2, H1]\n")), @r#"
    error: `hypotheses` names `H1` twice
     --> plan.yaml:4:22 (hypotheses[2])
      |
    4 | hypotheses: [H1, H2, H1]
      |                      ^^ already item 1 of the list

    1 problem in plan.yaml
    "#);
}
