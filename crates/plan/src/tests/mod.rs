//! Tests of the whole way from YAML to lanes and figures.

mod broken;
mod broken_hypotheses;
mod broken_meaning;
mod broken_scenarios;
mod estimate;
mod expansion;
mod fuzz;
mod hypotheses;
mod loading;
mod shipped;

use super::{Plan, PlanError};

/// The variables of the tests.
pub(super) fn env(name: &str) -> Option<String> {
    (name == "HOOK").then(|| "http://127.0.0.1/hook?key=topsecret".to_owned())
}

/// A plan that is right.
pub(super) const GOOD: &str = r#"version: 1
name: good
host: { gpu: none }
models:
  m: { hf: org/m, ollama: "m:1", openai: m }
frameworks:
  vllm: { version: 0.15.1, venv: envs/vllm }
  ollama: { binary: envs/ollama/bin/ollama }
scenarios:
  single: { input_tokens: [128, 512], output_tokens: 256, repeats: 10 }
  concurrent: { concurrency: [1, 8], input_tokens: 512, output_tokens: 256, requests: 100 }
"#;

pub(super) fn plan(text: &str) -> Plan {
    super::parse("plan.yaml", text, &env).unwrap_or_else(|e| panic!("{e}"))
}

/// [`GOOD`] with one piece replaced.
pub(super) fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from:?} is not in the plan");
    GOOD.replacen(from, to, 1)
}

/// The report on a plan that is wrong.
pub(super) fn report(text: &str) -> String {
    match super::parse("plan.yaml", text, &env) {
        Ok(_) => panic!("the plan passed:\n{text}"),
        Err(error @ PlanError::Invalid(_)) => error.to_string(),
        Err(other) => panic!("{other}"),
    }
}

/// `line:column path message` of each problem.
pub(super) fn places(text: &str) -> Vec<String> {
    match super::parse("plan.yaml", text, &env) {
        Ok(_) => Vec::new(),
        Err(error) => error
            .problems()
            .iter()
            .map(|p| format!("{}:{} {} | {}", p.spot.line, p.spot.column, p.path, p.message))
            .collect(),
    }
}
