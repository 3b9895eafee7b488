//! In which numbers the frameworks of a model serve it, and whether their figures compare by that.

use std::collections::BTreeSet;

use super::LaneSummary;
use benchd_core::{
    format::list,
    record::{Format, Precision, Reading},
};
use benchd_journal::ServerReady;

use super::shown_framework;

/// The precision of a lane's server. Older runs have the name of the weights' format among the facts, and what said it not.
pub(super) fn precision_of(ready: &ServerReady) -> Precision {
    let fact = |name: &str| {
        ready
            .facts
            .get(name)
            .filter(|told| *told != "auto")
            .map(|told| Format::new(told))
    };
    ready.precision.clone().unwrap_or_else(|| Precision {
        weights: Reading::maybe(fact("precision"), "facts of the run"),
        kv_cache: Reading::maybe(fact("kv_cache_dtype"), "facts of the run"),
        ..Precision::default()
    })
}

/// The weights of one model, by framework.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServedWeights<'a> {
    /// Formats that were read, in the order of the lanes, each with the frameworks that serve it.
    pub read: Vec<(&'a Format, BTreeSet<&'a str>)>,
    /// Frameworks of which nothing says it.
    pub unknown: BTreeSet<&'a str>,
    /// Frameworks that made their weights up.
    pub random: BTreeSet<&'a str>,
}

impl<'a> ServedWeights<'a> {
    /// Of these lanes of one model.
    pub fn of(lanes: impl IntoIterator<Item = &'a LaneSummary>) -> Self {
        let mut served = Self::default();
        for lane in lanes {
            let framework = lane.lane.framework.as_str();
            match lane.precision.weights.value() {
                Some(format) => match served.read.iter_mut().find(|(known, _)| *known == format) {
                    Some((_, frameworks)) => {
                        frameworks.insert(framework);
                    }
                    None => served.read.push((format, BTreeSet::from([framework]))),
                },
                None => {
                    served.unknown.insert(framework);
                }
            }
            if lane.precision.random_weights.value() == Some(&true) {
                served.random.insert(framework);
            }
        }
        // A framework that one lane tells of is not unknown for another's silence (a round that failed).
        let read = &served.read;
        served
            .unknown
            .retain(|name| read.iter().all(|(_, of)| !of.contains(name)));
        served
    }

    /// Whether all of them serve weights that take the same memory and time.
    pub fn alike(&self) -> bool {
        let mut formats = self.read.iter().map(|(format, _)| *format);
        match formats.next() {
            Some(first) => self.unknown.is_empty() && formats.all(|other| other.is_like(first)),
            None => self.unknown.is_empty(),
        }
    }

    /// Why figures of several frameworks don't compare like with like, as a statement; `None` where they do, or where there
    /// is one framework only.
    pub fn statement(&self) -> Option<String> {
        let frameworks: BTreeSet<&str> = self
            .read
            .iter()
            .flat_map(|(_, of)| of)
            .chain(&self.unknown)
            .copied()
            .collect();
        if frameworks.len() < 2 || self.alike() {
            return None;
        }
        let mut parts: Vec<String> = Vec::new();
        for (format, of) in &self.read {
            parts.push(format!("{format} in {}", names(of)));
        }
        if !self.unknown.is_empty() {
            parts.push(format!("of unknown precision in {}", names(&self.unknown)));
        }
        let head = if self.read.is_empty() {
            return Some(format!(
                "{WEIGHTS} are of unknown precision in {}",
                names(&self.unknown)
            ));
        } else if self.read.len() == 1 {
            "may differ"
        } else {
            "differ"
        };
        Some(format!("{WEIGHTS} {head}: {}", parts.join(", ")))
    }
}

/// How a statement on the weights begins.
const WEIGHTS: &str = "the weights";

/// Whether a statement on how the servers are set up is about their weights.
pub fn is_about_weights(statement: &str) -> bool {
    statement.starts_with(WEIGHTS)
}

fn names(of: &BTreeSet<&str>) -> String {
    let shown: Vec<&str> = of.iter().map(|name| shown_framework(name)).collect();
    list(&shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Builder, exact, lane_id, served_in};
    use benchd_plan::ScenarioKind;

    /// Lanes of one model, each with the precision of its weights, or none.
    fn lanes(of: &[(&str, Option<&str>)]) -> Vec<LaneSummary> {
        let cell = exact("single/in512", ScenarioKind::Single, 1, 512);
        let ids = of.iter().map(|(framework, _)| lane_id(framework, "llama"));
        let run = Builder::new(ids.map(|id| (id, vec![cell.clone()])).collect());
        let mut lanes = run.summary().expect("a summary").lanes;
        for (lane, (_, weights)) in lanes.iter_mut().zip(of) {
            lane.precision = weights.map(served_in).unwrap_or_default();
        }
        lanes
    }

    fn said(of: &[(&str, Option<&str>)]) -> Option<String> {
        ServedWeights::of(&lanes(of)).statement()
    }

    #[test]
    fn only_what_is_known_to_be_alike_is_left_unsaid() {
        assert_eq!(said(&[("vllm", Some("bf16")), ("sglang", Some("fp16"))]), None);
        assert_eq!(said(&[("vllm", None)]), None, "nobody to compare it with");
        assert_eq!(
            said(&[
                ("vllm", Some("bf16")),
                ("sglang", Some("bf16")),
                ("ollama", Some("q4_k_m"))
            ])
            .as_deref(),
            Some("the weights differ: bf16 in SGLang and vLLM, Q4_K_M in Ollama")
        );
        assert_eq!(
            said(&[("vllm", Some("bf16")), ("other", None)]).as_deref(),
            Some("the weights may differ: bf16 in vLLM, of unknown precision in other")
        );
        assert_eq!(
            said(&[("vllm", None), ("other", None)]).as_deref(),
            Some("the weights are of unknown precision in other and vLLM")
        );
    }

    #[test]
    fn an_older_run_has_its_precision_among_the_facts() {
        let mut run = Builder::one(exact("single/in512", ScenarioKind::Single, 1, 512));
        for event in &mut run.events {
            if let benchd_journal::Event::ServerReady(ready) = event {
                ready.precision = None;
                ready.facts.insert("precision".to_owned(), "q4_1".to_owned());
                ready.facts.insert("kv_cache_dtype".to_owned(), "auto".to_owned());
            }
        }
        let precision = &run.summary().expect("a summary").lanes[0].precision;
        assert_eq!(precision.weights.value(), Some(&Format::new("Q4_1")));
        assert_eq!(precision.kv_cache, Reading::Unknown);
    }
}
