//! `--only framework=vllm,scenario=korean`: a part of a plan.

use serde::Serialize;

use super::{Cell, Plan, expand, name::nearest};

/// Which part of a plan runs. Several values of one key add up, several keys narrow each other; nothing given is
/// everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Only {
    /// Frameworks by name; all where empty.
    pub frameworks: Vec<String>,
    /// Models by name; all where empty.
    pub models: Vec<String>,
    /// Scenarios by name; all where empty.
    pub scenarios: Vec<String>,
    /// Cells by id; all where empty.
    pub cells: Vec<String>,
}

/// What is wrong with `--only`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OnlyError {
    /// Not `key=value`.
    #[error("`{0}` is not `key=value`; for example `--only framework=vllm,scenario=korean`")]
    NotAPair(String),
    /// A key that `--only` does not know.
    #[error("`--only` knows framework, model, scenario and cell, not `{key}`{}", did_you_mean(suggestion.as_deref()))]
    UnknownKey {
        /// As given.
        key: String,
        /// The key most like it.
        suggestion: Option<String>,
    },
    /// A name that the plan does not have.
    #[error(
        "the plan has no {what} `{name}`{}; it has {}", did_you_mean(suggestion.as_deref()), listed(known)
    )]
    UnknownName {
        /// `framework`, `model`, `scenario` or `cell`.
        what: &'static str,
        /// As given.
        name: String,
        /// The name most like it.
        suggestion: Option<String>,
        /// The plan's names.
        known: Vec<String>,
    },
    /// Each name is there, but together they leave nothing.
    #[error("nothing of the plan is left by `--only {0}`: no framework runs that")]
    Nothing(String),
}

fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map_or_else(String::new, |s| format!(" (did you mean `{s}`?)"))
}

/// So many names are listed in an error; a plan may have hundreds of cells.
const LISTED: usize = 12;

fn listed(known: &[String]) -> String {
    let mut out = known.iter().take(LISTED).cloned().collect::<Vec<_>>().join(", ");
    if known.len() > LISTED {
        out.push_str(&format!(" and {} more", known.len() - LISTED));
    }
    out
}

impl Only {
    /// Reads the values of `--only`, each of which may hold several pairs.
    ///
    /// # Errors
    /// The first that is no pair or has an unknown key.
    pub fn parse(values: &[String]) -> Result<Self, OnlyError> {
        const KEYS: [&str; 4] = ["framework", "model", "scenario", "cell"];
        let mut only = Self::default();
        for pair in values.iter().flat_map(|v| v.split(',')) {
            let (key, value) = match pair.split_once('=') {
                Some((key, value)) if !value.trim().is_empty() => (key.trim(), value.trim().to_owned()),
                _ => return Err(OnlyError::NotAPair(pair.to_owned())),
            };
            let list = match key {
                "framework" => &mut only.frameworks,
                "model" => &mut only.models,
                "scenario" => &mut only.scenarios,
                "cell" => &mut only.cells,
                _ => {
                    let suggestion = nearest(key, KEYS).map(str::to_owned);
                    return Err(OnlyError::UnknownKey {
                        key: key.to_owned(),
                        suggestion,
                    });
                }
            };
            if !list.contains(&value) {
                list.push(value);
            }
        }
        Ok(only)
    }

    /// Whether it narrows nothing.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the names against a plan.
    ///
    /// # Errors
    /// The first unknown name, or that nothing is left.
    pub fn check(&self, plan: &Plan) -> Result<(), OnlyError> {
        let cells = plan
            .scenarios
            .values()
            .flat_map(expand::cells)
            .map(|c| c.id)
            .collect();
        let all = [
            (
                "framework",
                &self.frameworks,
                plan.frameworks.keys().cloned().collect(),
            ),
            ("model", &self.models, plan.models.keys().cloned().collect()),
            (
                "scenario",
                &self.scenarios,
                plan.scenarios.keys().cloned().collect(),
            ),
            ("cell", &self.cells, cells),
        ];
        for (what, given, known) in all {
            let known: Vec<String> = known;
            if let Some(name) = given.iter().find(|name| !known.contains(name)) {
                let suggestion = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
                return Err(OnlyError::UnknownName {
                    what,
                    name: name.clone(),
                    suggestion,
                    known,
                });
            }
        }
        if expand::lanes(plan, self).is_empty() {
            return Err(OnlyError::Nothing(self.to_string()));
        }
        Ok(())
    }

    /// Whether it takes this cell of this lane.
    pub fn takes(&self, framework: &str, model: &str, scenario: &str, cell: &str) -> bool {
        self.takes_lane(framework, model) && takes(&self.scenarios, scenario) && takes(&self.cells, cell)
    }

    pub(super) fn takes_lane(&self, framework: &str, model: &str) -> bool {
        takes(&self.frameworks, framework) && takes(&self.models, model)
    }

    pub(super) fn takes_cell(&self, cell: &Cell) -> bool {
        takes(&self.scenarios, &cell.scenario) && takes(&self.cells, &cell.id)
    }
}

fn takes(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|n| n == name)
}

impl std::fmt::Display for Only {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys = [
            ("framework", &self.frameworks),
            ("model", &self.models),
            ("scenario", &self.scenarios),
            ("cell", &self.cells),
        ];
        let pairs: Vec<String> = keys
            .into_iter()
            .flat_map(|(key, list)| list.iter().map(move |v| format!("{key}={v}")))
            .collect();
        f.write_str(&pairs.join(","))
    }
}
