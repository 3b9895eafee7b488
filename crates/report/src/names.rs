//! How a framework is named where its figures stand: with its version and the precision of its weights.

use indexmap::IndexMap;

use benchd_analysis::{LaneSummary, shown_framework};
use benchd_core::{format::list, record::LaneId};

/// What is told of one framework serving one model, over the lanes of a report.
#[derive(Debug, Default)]
struct Told {
    versions: Vec<String>,
    /// Precisions of its weights, `precision unknown` among them.
    precisions: Vec<String>,
}

/// The names of the frameworks of some runs, by framework and model.
#[derive(Debug, Default)]
pub(crate) struct Names {
    told: IndexMap<(String, String), Told>,
}

impl Names {
    pub(crate) fn of<'a>(lanes: impl IntoIterator<Item = &'a LaneSummary>) -> Self {
        let mut names = Self::default();
        for lane in lanes {
            let key = (lane.lane.framework.clone(), lane.lane.model.clone());
            let told = names.told.entry(key).or_default();
            let mut add = |to: fn(&mut Told) -> &mut Vec<String>, text: String| {
                let known = to(told);
                if !known.contains(&text) {
                    known.push(text);
                }
            };
            if let Some(version) = &lane.version {
                add(|told| &mut told.versions, version.clone());
            }
            // A lane that never answered served nothing.
            if !lane.cells.is_empty() {
                let weights = lane.precision.weights.value();
                let text = weights.map_or("precision unknown".to_owned(), ToString::to_string);
                add(|told| &mut told.precisions, text);
            }
        }
        names
    }

    /// `vLLM 0.15.1 · bf16`, `llamacpp · Q4_0`, `vLLM 0.15.1 · precision unknown`.
    pub(crate) fn name(&self, framework: &str, model: &str) -> String {
        let mut name = shown_framework(framework).to_owned();
        let Some(told) = self.told.get(&(framework.to_owned(), model.to_owned())) else {
            return name;
        };
        for (between, of) in [(" ", &told.versions), (" · ", &told.precisions)] {
            if !of.is_empty() {
                name.push_str(between);
                name.push_str(&list(of));
            }
        }
        name
    }

    /// A lane's, with its round where there are several.
    pub(crate) fn lane(&self, lane: &LaneId) -> String {
        let name = self.name(&lane.framework, &lane.model);
        match lane.round {
            0 | 1 => name,
            round => format!("{name} #{round}"),
        }
    }

    /// The framework that is named so for some model.
    pub(crate) fn framework_of(&self, name: &str) -> Option<&str> {
        let named = |(framework, model): &&(String, String)| self.name(framework, model) == name;
        self.told
            .keys()
            .find(named)
            .map(|(framework, _)| framework.as_str())
    }
}
