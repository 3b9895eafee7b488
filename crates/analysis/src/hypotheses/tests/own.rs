//! A plan's own hypotheses.

use super::*;
use VerdictOutcome::{Inconclusive, Refuted, Supported};

fn with_own(own: &str) -> RunSummary {
    let plan = PLAN.replace("hypotheses: [H1, H2, H3, H4, H5]", own);
    night(&plan, |lane| {
        Some(match lane.framework.as_str() {
            "ollama" => Speed::serial(),
            "sglang" => Speed {
                later_ms: 25,
                ..Speed::batching()
            },
            _ => Speed::batching(),
        })
    })
    .summary()
    .expect("a summary")
}

#[test]
fn each_cell_that_fits_is_a_test() {
    let summary = with_own(
        r#"hypotheses:
  own:
    ten-times:
      claim: "vLLM is ten times as fast as Ollama under load"
      tests:
        - { figure: output_tokens_per_s, of: vllm, against: ollama, scenario: concurrent, concurrency: [16, 64], at_least: 10 }
    somewhere:
      claim: "vLLM is thirty times as fast somewhere"
      rule: any
      tests:
        - { figure: output_tokens_per_s, of: vllm, against: ollama, scenario: concurrent, at_least: 30 }
    later:
      claim: "SGLang saves more of the prefill"
      tests:
        - { figure: later_ttft_ms, of: sglang, against: vllm, scenario: prefix_cache, at_most: 0.6 }
        - { figure: first_ttft_ms, of: sglang, against: vllm, scenario: prefix_cache, within: 10% }
    tokens:
      claim: "Korean costs the same tokens"
      tests:
        - { figure: ko_over_en_prompt_tokens, of: sglang, against: ollama, scenario: korean, within: 2% }
    shape:
      claim: "The curves differ by a half"
      tests:
        - { figure: scaling_efficiency, of: vllm, against: ollama, scenario: concurrent, concurrency: 64, differs_by: 50% }
"#,
    );
    assert_eq!(summary.verdicts.len(), 5);
    is(&summary, "ten-times", Supported);
    assert_eq!(only(&summary, "ten-times").tests.len(), 2);
    // 4,000 to 105 at 64 streams.
    is(&summary, "somewhere", Supported);
    is(&summary, "later", Supported);
    is(&summary, "tokens", Supported);
    is(&summary, "shape", Supported);
    assert_eq!(verdict(&summary, "later").claim_ko, None);
}

#[test]
fn it_is_refuted_by_one_test_of_all_and_by_none_of_any() {
    let summary = with_own(
        r#"hypotheses:
  own:
    all:
      claim: "at all loads"
      tests:
        - { figure: output_tokens_per_s, of: vllm, against: ollama, scenario: concurrent, at_least: 10 }
    any:
      claim: "at some load"
      rule: any
      tests:
        - { figure: output_tokens_per_s, of: vllm, against: ollama, scenario: concurrent, at_least: 100 }
    open:
      claim: "a threshold where the effect is"
      tests:
        - { figure: output_tokens_per_s, of: vllm, against: sglang, scenario: concurrent, concurrency: 8, at_least: 1.0 }
"#,
    );
    is(&summary, "all", Refuted);
    is(&summary, "any", Refuted);
    is(&summary, "open", Inconclusive);
}
