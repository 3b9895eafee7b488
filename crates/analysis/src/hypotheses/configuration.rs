//! What the servers' settings decide before anything is measured: said beside the verdicts.

use super::{super::ServedWeights, evidence::Evidence, roles::shown};
use benchd_core::format::list;
use benchd_plan::{PromptMode, ScenarioKind};

/// How many requests Ollama answers at a time, where that is known.
pub(super) fn parallel(evidence: &Evidence<'_>, model: &str, ollama: Option<&str>) -> Vec<String> {
    let Some((ollama, planned)) = ollama.and_then(|name| Some((name, evidence.plan.frameworks.get(name)?)))
    else {
        return Vec::new();
    };
    let Some(variable) = benchd_frameworks::kind(planned.kind).parallel_variable else {
        return Vec::new();
    };
    let set = evidence
        .lanes(model, ollama)
        .filter_map(|lane| lane.server.as_ref())
        .flat_map(|server| &server.env)
        .find(|(name, _)| name == variable)
        .map(|(_, value)| value);
    match set.or_else(|| planned.env.get(variable)).map(String::as_str) {
        Some("1") => vec![format!(
            "{variable}=1: {} answers one request after another, so its throughput can't rise with the number of streams",
            shown(ollama)
        )],
        Some(n) => vec![format!(
            "{variable}={n}: {} answers at most {n} requests at a time",
            shown(ollama)
        )],
        None => Vec::new(),
    }
}

/// Weights of different precision, or of one that nothing says.
pub(super) fn precision(evidence: &Evidence<'_>, model: &str, frameworks: &[Option<&str>]) -> Vec<String> {
    let measured = frameworks
        .iter()
        .copied()
        .flatten()
        .flat_map(|framework| evidence.lanes(model, framework))
        .filter(|lane| !lane.cells.is_empty());
    ServedWeights::of(measured).statement().into_iter().collect()
}

/// One text throughout.
pub(super) fn identical_prompts(evidence: &Evidence<'_>, kind: ScenarioKind) -> Vec<String> {
    evidence
        .scenarios(kind)
        .filter(|(scenario, _)| scenario.prompts == PromptMode::Identical)
        .map(|(scenario, _)| {
            format!(
                "every request of `{}` has the same text: a server with a prefix cache computes the prompt once",
                scenario.name
            )
        })
        .collect()
}

/// Whether the servers say that their prefix cache is on.
pub(super) fn prefix_caches(
    evidence: &Evidence<'_>,
    model: &str,
    frameworks: &[Option<&str>],
) -> Vec<String> {
    let (mut on, mut off) = (Vec::new(), Vec::new());
    for framework in frameworks.iter().copied().flatten() {
        match evidence
            .lanes(model, framework)
            .find_map(|lane| lane.facts.get("prefix_cache"))
            .map(|said| said.eq_ignore_ascii_case("true"))
        {
            Some(true) => on.push(shown(framework)),
            Some(false) => off.push(shown(framework)),
            None => {}
        }
    }
    let mut said = Vec::new();
    if !on.is_empty() {
        said.push(format!("the prefix cache is on in {}", list(&on)));
    }
    if !off.is_empty() {
        said.push(format!("the prefix cache is off in {}", list(&off)));
    }
    said
}
