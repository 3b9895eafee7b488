//! Verdicts: the plan's hypotheses, each a family of tests with thresholds that were stated before anything was measured.
//!
//! ```text
//! evidence       measured cells by framework, model and stratum
//! roles          which frameworks the document's hypotheses speak of
//! effect         ratios with intervals at any level
//! decision       one test: effect, threshold, flags -> supported, refuted or inconclusive
//! settle         a family of tests -> one outcome, why, and what it would take
//! document, own  H1 to H5, and the plan's own, as families
//! expected       what the document expects, against what was seen
//! configuration  what the servers' settings decide beforehand
//! words          sentences
//! ```
//!
//! The exact test of each hypothesis stands in `docs/metrics.md`.

mod configuration;
mod decision;
mod document;
mod effect;
mod evidence;
mod expected;
mod own;
mod roles;
mod settle;
mod words;

use super::{ModelVerdict, Verdict, VerdictOutcome, measured::Night};
use benchd_core::format::list;
use benchd_plan::{Hypothesis, Plan};

use document::CLAIMS_KO;
use evidence::Evidence;
pub(super) use expected::expectations;
pub use roles::shown as shown_framework;
use roles::{Role, RoleFrameworks};

/// What the runs on one machine say of the plan's hypotheses.
pub(super) fn verdicts(plan: &Plan, nights: &[Night<'_>]) -> Vec<Verdict> {
    if plan.hypotheses.list.is_empty() {
        return Vec::new();
    }
    let evidence = Evidence::new(plan, nights);
    let roles = RoleFrameworks::of(plan);
    plan.hypotheses
        .list
        .iter()
        .map(|hypothesis| verdict(&evidence, &roles, hypothesis))
        .collect()
}

fn verdict<'a>(evidence: &Evidence<'a>, roles: &RoleFrameworks<'a>, hypothesis: &'a Hypothesis) -> Verdict {
    let models: Vec<ModelVerdict> = evidence
        .plan
        .models
        .keys()
        .map(|model| {
            let family = match hypothesis {
                Hypothesis::H1(test) => document::shared_prefix(evidence, roles, model, *test),
                Hypothesis::H2(test) => document::concurrency(evidence, roles, model, *test),
                Hypothesis::H3(test) => document::single_request(evidence, roles, model, *test),
                Hypothesis::H4(test) => document::degradation(evidence, roles, model, *test),
                Hypothesis::H5(test) => document::korean(evidence, roles, model, *test),
                Hypothesis::Own(own) => own::family(evidence, own),
            };
            settle::settle(evidence, model, family)
        })
        .collect();
    let (claim, claim_ko) = claim(roles, hypothesis);
    let (outcome, because) = over_models(&models);
    Verdict {
        hypothesis: hypothesis.name().to_owned(),
        claim,
        claim_ko,
        outcome,
        because,
        models,
    }
}

fn claim(roles: &RoleFrameworks<'_>, hypothesis: &Hypothesis) -> (String, Option<String>) {
    let (sglang, vllm, ollama) = (
        roles.name(Role::Sglang),
        roles.name(Role::Vllm),
        roles.name(Role::Ollama),
    );
    let claim = match hypothesis {
        Hypothesis::H1(_) => format!("{sglang} has a higher throughput than {vllm} on a shared prefix"),
        Hypothesis::H2(_) => {
            format!("{sglang} and {vllm} serve concurrent requests overwhelmingly better than {ollama}")
        }
        Hypothesis::H3(_) => format!("{ollama} is competitive in the latency of a single request"),
        Hypothesis::H4(_) => {
            "The frameworks differ in how performance degrades as concurrent requests increase".to_owned()
        }
        Hypothesis::H5(_) => {
            "The frameworks differ in token efficiency and throughput of Korean against English".to_owned()
        }
        Hypothesis::Own(own) => return (own.claim.clone(), None),
    };
    let claim_ko = CLAIMS_KO.iter().find(|(name, _)| *name == hypothesis.name());
    (claim, claim_ko.map(|(_, words)| (*words).to_owned()))
}

/// What all models say, else inconclusive.
fn over_models(models: &[ModelVerdict]) -> (VerdictOutcome, String) {
    let of = |outcome| models.iter().filter(move |m| m.outcome == outcome);
    let names = |outcome| {
        let names: Vec<&str> = of(outcome).map(|m| m.model.as_str()).collect();
        list(&names)
    };
    let (supported, refuted) = (
        of(VerdictOutcome::Supported).count(),
        of(VerdictOutcome::Refuted).count(),
    );
    let each = || {
        let said: Vec<String> = models
            .iter()
            .map(|m| format!("{}: {}", m.model, m.because))
            .collect();
        said.join(" ")
    };
    match models {
        [] => (VerdictOutcome::Inconclusive, "Not decided: no model.".to_owned()),
        [one] => (one.outcome, one.because.clone()),
        _ if supported == models.len() => (VerdictOutcome::Supported, each()),
        _ if refuted == models.len() => (VerdictOutcome::Refuted, each()),
        _ if supported > 0 && refuted > 0 => (
            VerdictOutcome::Inconclusive,
            format!(
                "It depends on the model: supported on {}, refuted on {}. {}",
                names(VerdictOutcome::Supported),
                names(VerdictOutcome::Refuted),
                each()
            ),
        ),
        _ if supported + refuted > 0 => {
            let (word, decided) = if supported > 0 {
                ("Supported", VerdictOutcome::Supported)
            } else {
                ("Refuted", VerdictOutcome::Refuted)
            };
            (
                VerdictOutcome::Inconclusive,
                format!(
                    "{word} on {}, not decided on {}. {}",
                    names(decided),
                    names(VerdictOutcome::Inconclusive),
                    each()
                ),
            )
        }
        _ => (VerdictOutcome::Inconclusive, each()),
    }
}

#[cfg(test)]
mod tests;
