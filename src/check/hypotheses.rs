//! Hypotheses that can't be decided, whatever is measured: a framework that they speak of does not serve the model.

use super::{
    Subject,
    finding::{Area, Finding},
};
use benchd_core::record::LaneId;
use benchd_plan::{FrameworkKind, Hypothesis, Only};

/// Frameworks that the document's hypotheses H1 to H3 speak of: all of them must be measured. H4 and H5 compare any two.
fn needed(hypothesis: &Hypothesis) -> &'static [FrameworkKind] {
    use FrameworkKind::{Ollama, Sglang, Vllm};
    match hypothesis {
        Hypothesis::H1(_) => &[Sglang, Vllm],
        Hypothesis::H2(_) | Hypothesis::H3(_) => &[Sglang, Vllm, Ollama],
        Hypothesis::H4(_) | Hypothesis::H5(_) | Hypothesis::Own(_) => &[],
    }
}

/// Looks at each model; `unfit` are lanes that will not run. A part that is run on its own (`--only`) decides nothing
/// either way, so the whole plan's lanes count.
pub(super) fn undecidable(subject: &Subject<'_>, unfit: &[(LaneId, String)]) -> Vec<Finding> {
    let plan = subject.plan;
    let lanes = benchd_plan::lanes(plan, &Only::default());
    let roles = &plan.hypotheses.roles;
    let mut findings = Vec::new();
    for model in plan.models.keys() {
        let serves = |kind: FrameworkKind| {
            let named = match kind {
                FrameworkKind::Sglang => roles.sglang.as_ref(),
                FrameworkKind::Vllm => roles.vllm.as_ref(),
                FrameworkKind::Ollama => roles.ollama.as_ref(),
                FrameworkKind::Lmdeploy | FrameworkKind::Openai => None,
            };
            let plays = |name: &str| match named {
                Some(named) => named == name,
                None => name == kind.as_str() || plan.frameworks.get(name).is_some_and(|f| f.kind == kind),
            };
            let mut lanes = lanes.iter().map(|lane| &lane.id);
            lanes.any(|lane| {
                lane.model == *model && plays(&lane.framework) && !unfit.iter().any(|(id, _)| id == lane)
            })
        };
        // By whom is missing: several hypotheses may lack the same.
        let mut lacking: Vec<(Vec<FrameworkKind>, Vec<&str>)> = Vec::new();
        for hypothesis in &plan.hypotheses.list {
            let missing: Vec<FrameworkKind> = needed(hypothesis)
                .iter()
                .copied()
                .filter(|kind| !serves(*kind))
                .collect();
            if missing.is_empty() {
                continue;
            }
            match lacking.iter_mut().find(|(other, _)| *other == missing) {
                Some((_, names)) => names.push(hypothesis.name()),
                None => lacking.push((missing, vec![hypothesis.name()])),
            }
        }
        for (missing, names) in lacking {
            let titles: Vec<&str> = missing
                .iter()
                .map(|kind| benchd_frameworks::kind(*kind).title)
                .collect();
            findings.push(Finding::note(
                Area::Hypothesis,
                format!(
                    "{model}: {} can't be decided: not served by {}",
                    names.join(", "),
                    titles.join(", ")
                ),
            ));
        }
    }
    findings
}

/// Lanes that the plan leaves out, with its reasons.
pub(super) fn left_out(subject: &Subject<'_>) -> Vec<Finding> {
    let plan = subject.plan;
    let pairs = plan
        .models
        .values()
        .flat_map(|model| plan.frameworks.values().map(move |framework| (framework, model)));
    pairs
        .filter_map(|(framework, model)| {
            let reason = model.left_out(framework)?;
            Some(Finding::note(
                Area::Environment,
                format!(
                    "{} / {} is left out by the plan: {reason}",
                    framework.name, model.name
                ),
            ))
        })
        .collect()
}
