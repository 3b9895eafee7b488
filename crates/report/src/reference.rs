//! The cells that stand for a model wherever one of a kind must do: those that all who are compared have measured.

use std::hash::Hash;

use indexmap::{IndexMap, IndexSet};

use benchd_analysis::{CellSummary, StudyCell};
use benchd_plan::ScenarioKind;

/// A cell that somebody measured: a framework, or one on one of several machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate<'a, Who> {
    pub(super) who: Who,
    pub(super) kind: ScenarioKind,
    pub(super) cell: &'a str,
    pub(super) concurrency: u32,
    pub(super) prompt_tokens: Option<u32>,
}

impl<'a> Candidate<'a, &'a str> {
    pub(super) fn of(cell: &'a CellSummary) -> Self {
        Self {
            who: &cell.lane.framework,
            kind: cell.kind,
            cell: &cell.cell,
            concurrency: cell.concurrency,
            prompt_tokens: cell.asked_prompt_tokens,
        }
    }
}

impl<'a, Who> Candidate<'a, Who> {
    pub(super) fn of_study(who: Who, cell: &'a StudyCell) -> Self {
        Self {
            who,
            kind: cell.kind,
            cell: &cell.cell,
            concurrency: cell.concurrency,
            prompt_tokens: cell.asked_prompt_tokens,
        }
    }
}

/// The cells that stand for a model: the same for everybody.
#[derive(Debug)]
pub(super) struct References<'a, Who> {
    /// The single request of the middle length.
    pub(super) single: Option<Candidate<'a, Who>>,
    /// The most concurrent requests.
    pub(super) load: Option<Candidate<'a, Who>>,
    /// The shared prefix.
    pub(super) prefix: Option<Candidate<'a, Who>>,
    /// Cells of more concurrent requests, and who measured them: not all.
    pub(super) beyond: IndexMap<&'a str, IndexSet<Who>>,
}

impl<'a, Who: Copy + Eq + Hash> References<'a, Who> {
    pub(super) fn among(all: &[Candidate<'a, Who>]) -> Self {
        let of = |kind| all.iter().copied().filter(move |c| c.kind == kind);
        let mut singles = measured_by_most(of(ScenarioKind::Single), |c| c.who, |c| c.cell);
        singles.sort_by_key(|c| (c.prompt_tokens.unwrap_or(0), c.cell));
        singles.dedup_by_key(|c| c.cell);
        // One request at a time is no load where there is any other.
        let several = of(ScenarioKind::Concurrent).any(|c| c.concurrency > 1);
        let loads = || of(ScenarioKind::Concurrent).filter(|c| c.concurrency > 1 || !several);
        let common = measured_by_most(loads(), |c| c.who, |c| c.cell);
        let load = common.into_iter().max_by_key(|c| c.concurrency);
        let mut beyond: IndexMap<&str, IndexSet<Who>> = IndexMap::new();
        for more in loads().filter(|c| load.is_some_and(|load| c.concurrency > load.concurrency)) {
            beyond.entry(more.cell).or_default().insert(more.who);
        }
        Self {
            single: singles.get(singles.len() / 2).copied(),
            load,
            prefix: measured_by_most(of(ScenarioKind::PrefixCache), |c| c.who, |c| c.cell)
                .first()
                .copied(),
            beyond,
        }
    }
}

/// Those that the most have: all, where there is anything that all have.
pub(super) fn measured_by_most<T, Who, Cell>(
    all: impl IntoIterator<Item = T>,
    who: impl Fn(&T) -> Who,
    cell: impl Fn(&T) -> Cell,
) -> Vec<T>
where
    Who: Hash + Eq,
    Cell: Hash + Eq,
{
    let all: Vec<T> = all.into_iter().collect();
    let mut by_cell: IndexMap<Cell, IndexSet<Who>> = IndexMap::new();
    for one in &all {
        by_cell.entry(cell(one)).or_default().insert(who(one));
    }
    let most = by_cell.values().map(IndexSet::len).max().unwrap_or(0);
    let have_most = |one: &T| by_cell.get(&cell(one)).is_some_and(|who| who.len() == most);
    let keep: Vec<bool> = all.iter().map(have_most).collect();
    all.into_iter()
        .zip(keep)
        .filter_map(|(one, keep)| keep.then_some(one))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(who: &'static str, cell: &'static str, concurrency: u32) -> Candidate<'static, &'static str> {
        Candidate {
            who,
            kind: ScenarioKind::Concurrent,
            cell,
            concurrency,
            prompt_tokens: Some(512),
        }
    }

    #[test]
    fn the_most_concurrent_requests_are_those_that_all_measured() {
        let mut all = vec![
            at("vllm", "concurrent/c1", 1),
            at("vllm", "concurrent/c16", 16),
            at("sglang", "concurrent/c16", 16),
            at("sglang", "concurrent/c64", 64),
            at("vllm", "concurrent/c64", 64),
            at("vllm", "burst/c256", 256),
            at("ollama", "concurrent/c1", 1),
            at("ollama", "concurrent/c16", 16),
        ];
        let of = References::among(&all);
        assert_eq!(of.load.map(|c| c.cell), Some("concurrent/c16"));
        assert_eq!(
            of.beyond,
            IndexMap::from([
                ("concurrent/c64", IndexSet::from(["sglang", "vllm"])),
                ("burst/c256", IndexSet::from(["vllm"])),
            ])
        );
        // Who has no figure under load holds nobody back.
        all.truncate(6);
        all.push(Candidate {
            kind: ScenarioKind::PrefixCache,
            ..at("control", "prefix_cache/sys2048", 1)
        });
        let of = References::among(&all);
        assert_eq!(of.load.map(|c| c.cell), Some("concurrent/c64"));
        assert_eq!(of.prefix.map(|c| c.who), Some("control"));
        // One at a time stands for load only where nobody measured more.
        let of = References::among(&all[..1]);
        assert_eq!(of.load.map(|c| c.cell), Some("concurrent/c1"));
        assert_eq!((of.single, of.beyond.len()), (None, 0));
    }

    #[test]
    fn the_middle_length_is_the_middle_of_those_that_all_measured() {
        let single = |who, cell, tokens| Candidate {
            kind: ScenarioKind::Single,
            prompt_tokens: Some(tokens),
            ..at(who, cell, 1)
        };
        let of = References::among(&[
            single("vllm", "single/in128", 128),
            single("vllm", "single/in512", 512),
            single("vllm", "single/in1024", 1024),
            single("ollama", "single/in128", 128),
        ]);
        assert_eq!(of.single.map(|c| c.cell), Some("single/in128"));
    }
}
