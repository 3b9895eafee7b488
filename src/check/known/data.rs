//! `envs/known-issues.yaml`, which is part of the program.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde::Deserialize;

use super::version::Range;

const TEXT: &str = include_str!("../../../envs/known-issues.yaml");

/// Layout of the file that this benchd reads.
const VERSION: u32 = 1;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    version: u32,
    pub(super) gpus: IndexMap<String, GpuModel>,
    pub(super) issues: IndexMap<String, Issue>,
}

/// A GPU as it is sold.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GpuModel {
    /// Its name by NVML.
    pub(super) nvml: String,
    /// CUDA compute capability.
    pub(super) compute: String,
    pub(super) memory_mib: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Issue {
    pub(super) what: String,
    pub(super) when: When,
    #[serde(default)]
    pub(super) needs: Needs,
    pub(super) compiles: Option<String>,
    pub(super) effect: Effect,
    pub(super) remedy: String,
    pub(super) sources: Vec<Source>,
}

/// What a lane and its GPU must be for an issue to be theirs; what is left out may be anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    /// Kinds of framework, each with its versions.
    pub(super) of: BTreeMap<String, Wanted>,
    pub(super) compute: Option<Range>,
    pub(super) memory_gib_below: Option<f64>,
    #[serde(default)]
    pub(super) model_type: Vec<String>,
    /// Ids of models.
    #[serde(default)]
    pub(super) model: Vec<String>,
    #[serde(default)]
    pub(super) with: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub(super) without: Vec<String>,
    #[serde(default)]
    pub(super) without_packages: Vec<String>,
    pub(super) streams_above: Option<u32>,
    pub(super) below_longest: Option<String>,
}

/// What the machine must have; where it has, there is no issue.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Needs {
    pub(super) nvcc: Option<Wanted>,
    pub(super) driver: Option<Range>,
    pub(super) cxx: bool,
    pub(super) cc: bool,
    pub(super) python_headers: bool,
    pub(super) harmony_vocabulary: bool,
}

/// A range of versions; `any` where any will do.
#[derive(Debug)]
pub(super) struct Wanted(pub(super) Option<Range>);

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "any" {
            return Ok(Self(None));
        }
        let range = serde::de::value::StringDeserializer::new(text);
        Range::deserialize(range).map(|range| Self(Some(range)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Effect {
    FailsToStart,
    WrongAnswers,
    Slow,
    NeedsSetting,
    Note,
}

/// Where an issue is known from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    read: Option<String>,
    documented: Option<String>,
    reported: Option<String>,
    seen: Option<String>,
}

impl Source {
    /// How it is known, and from where.
    pub(super) fn told(&self) -> Option<(&'static str, &str)> {
        let all = [
            ("read in", &self.read),
            ("documented at", &self.documented),
            ("reported at", &self.reported),
            ("seen", &self.seen),
        ];
        let mut given = all
            .into_iter()
            .filter_map(|(how, at)| Some((how, at.as_deref()?)));
        given.next().filter(|_| given.next().is_none())
    }
}

/// Reads it.
///
/// # Errors
/// It is not of the form of this benchd; a test keeps that from being built.
pub(super) fn read() -> Result<Known, String> {
    let known: Known = benchd_plan::from_yaml(TEXT)?;
    if known.version != VERSION {
        return Err(format!(
            "its layout is {}, this benchd reads {VERSION}",
            known.version
        ));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use benchd_plan::FrameworkKind;

    #[test]
    fn every_issue_is_of_a_known_kind_and_has_sources_a_remedy_and_a_name_that_says_whose_it_is() {
        let known = read().unwrap();
        assert!(known.issues.len() > 20 && known.gpus.len() > 5);
        for (id, issue) in &known.issues {
            assert!(!issue.when.of.is_empty(), "{id}");
            assert!(
                issue
                    .when
                    .of
                    .keys()
                    .all(|kind| FrameworkKind::named(kind).is_some()),
                "{id}"
            );
            assert!(!issue.sources.is_empty(), "{id}");
            assert_eq!(
                issue.remedy.is_empty(),
                issue.effect == Effect::Note && issue.remedy.is_empty(),
                "{id}"
            );
            for source in &issue.sources {
                let (_, at) = source.told().unwrap_or_else(|| panic!("{id}: one way a source"));
                assert!(at.len() > 10, "{id}: {at}");
            }
            let dotted = |text: &str| text.ends_with('.');
            assert!(
                !dotted(&issue.what) && !dotted(&issue.remedy),
                "{id}: no full stop, it stands in a list"
            );
        }
    }
}
