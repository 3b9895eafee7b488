//! Hypotheses: both forms, thresholds, parts, and tests of one's own.

use super::{plan, with};
use crate::{
    Bound, ConcurrencyTest, Figure, Hypothesis, HypothesisId, Rule, SharedPrefixTest, SingleRequestTest,
};

/// A plan with these hypotheses.
fn hypotheses(text: &str) -> String {
    with(
        "host: { gpu: none }\n",
        &format!("host: {{ gpu: none }}\nhypotheses:{text}\n"),
    )
}

#[test]
fn a_list_takes_the_defaults() {
    let plan = plan(&hypotheses(" [H3, H1]"));
    assert_eq!(
        plan.hypotheses.list,
        [HypothesisId::H3, HypothesisId::H1].map(Hypothesis::by_default)
    );
    assert_eq!(plan.hypotheses.roles, crate::Roles::default());
}

#[test]
fn a_mapping_takes_thresholds_and_parts() {
    let plan = plan(&hypotheses(
        "\n  roles: { sglang: vllm, ollama: ollama }\n  H1: {}\n  H2: { overwhelming: 5 }\n  H3: { margin: 2.5% }",
    ));
    assert_eq!(plan.hypotheses.roles.sglang.as_deref(), Some("vllm"));
    assert_eq!(
        plan.hypotheses.list,
        [
            Hypothesis::H1(SharedPrefixTest::default()),
            Hypothesis::H2(ConcurrencyTest {
                overwhelming: 5.0,
                from_concurrency: 16
            }),
            Hypothesis::H3(SingleRequestTest { margin: 0.025 }),
        ]
    );
}

#[test]
fn tests_of_ones_own_name_what_the_plan_has() {
    let plan = plan(&hypotheses(
        "\n  own:\n    fast: { claim: fast, rule: any, tests: [{ figure: ttft_ms, of: vllm, against: ollama, scenario: concurrent, concurrency: 8, at_most: 0.5 }] }",
    ));
    let [Hypothesis::Own(own)] = &plan.hypotheses.list[..] else {
        panic!("{:?}", plan.hypotheses.list);
    };
    assert_eq!((own.name.as_str(), own.rule), ("fast", Rule::Any));
    assert_eq!(
        (
            own.tests[0].figure,
            own.tests[0].bound,
            &own.tests[0].concurrency[..]
        ),
        (Figure::TtftMs, Bound::AtMost(0.5), &[8][..])
    );
}
