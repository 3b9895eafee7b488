//! Verdicts: the plan's hypotheses, each a family of tests with thresholds that were stated before anything was measured.
//!
//! ```text
//! evidence       measured cells by framework, model and stratum; who stands for whom
//! effect         ratios with intervals at any level
//! question       one test: effect, threshold, flags -> supported, refuted or inconclusive
//! settle         a family of tests -> one outcome, why, and what it would take
//! document, own  H1 to H5, and the plan's own, as families
//! expected       what the document expects, against what was seen
//! configuration  what the servers' settings decide beforehand
//! words          sentences
//! ```
//!
//! The exact test of each hypothesis stands in `docs/metrics.md`.

mod configuration;
mod document;
mod effect;
mod evidence;
mod expected;
mod own;
mod question;
mod settle;
mod words;

use super::{ModelVerdict, Verdict, VerdictOutcome};
use benchd_plan::{Hypothesis, Plan};

use document::CLAIMS_KO;
pub(super) use evidence::Night;
pub use evidence::shown as shown_framework;
use evidence::{Cast, Evidence, Role};
pub(super) use expected::expectations;
use words::list;

/// What the runs on one machine say of the plan's hypotheses.
pub(super) fn verdicts(plan: &Plan, nights: &[Night<'_>]) -> Vec<Verdict> {
    if plan.hypotheses.list.is_empty() {
        return Vec::new();
    }
    let evidence = Evidence::new(plan, nights);
    let cast = Cast::of(plan);
    plan.hypotheses
        .list
        .iter()
        .map(|hypothesis| verdict(&evidence, &cast, hypothesis))
        .collect()
}

fn verdict<'a>(evidence: &Evidence<'a>, cast: &Cast<'a>, hypothesis: &'a Hypothesis) -> Verdict {
    let models: Vec<ModelVerdict> = evidence
        .plan
        .models
        .keys()
        .map(|model| {
            let family = match hypothesis {
                Hypothesis::H1(test) => document::shared_prefix(evidence, cast, model, *test),
                Hypothesis::H2(test) => document::concurrency(evidence, cast, model, *test),
                Hypothesis::H3(test) => document::single_request(evidence, cast, model, *test),
                Hypothesis::H4(test) => document::degradation(evidence, cast, model, *test),
                Hypothesis::H5(test) => document::korean(evidence, cast, model, *test),
                Hypothesis::Own(own) => own::family(evidence, own),
            };
            settle::settle(evidence, model, family)
        })
        .collect();
    let (claim, claim_ko) = claim(cast, hypothesis);
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

fn claim(cast: &Cast<'_>, hypothesis: &Hypothesis) -> (String, Option<String>) {
    let (sglang, vllm, ollama) = (
        cast.name(Role::Sglang),
        cast.name(Role::Vllm),
        cast.name(Role::Ollama),
    );
    let (n, claim) = match hypothesis {
        Hypothesis::H1(_) => (
            0,
            format!("{sglang} has a higher throughput than {vllm} on a shared prefix"),
        ),
        Hypothesis::H2(_) => (
            1,
            format!("{sglang} and {vllm} serve concurrent requests overwhelmingly better than {ollama}"),
        ),
        Hypothesis::H3(_) => (
            2,
            format!("{ollama} is competitive in the latency of a single request"),
        ),
        Hypothesis::H4(_) => (
            3,
            "The frameworks differ in how performance degrades as concurrent requests increase".to_owned(),
        ),
        Hypothesis::H5(_) => (
            4,
            "The frameworks differ in token efficiency and throughput of Korean against English".to_owned(),
        ),
        Hypothesis::Own(own) => return (own.claim.clone(), None),
    };
    (claim, Some(CLAIMS_KO[n].to_owned()))
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
