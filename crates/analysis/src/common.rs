//! What several have in common: sums and maxima over cells compare only where the cells are the same.

use std::hash::Hash;

use indexmap::{IndexMap, IndexSet};

/// Those who are compared and the cells that all of them have: of the fullest ones as many as make the largest table
/// without a gap, two at least where any two have a cell in common. One that measured little (it failed early, or the plan
/// has it run one scenario) does not reduce the others to that.
pub fn common_cells<Who, Cell>(
    measured: impl IntoIterator<Item = (Who, Cell)>,
) -> (IndexSet<Who>, IndexSet<Cell>)
where
    Who: Copy + Hash + Eq,
    Cell: Copy + Hash + Eq,
{
    let mut of: IndexMap<Who, IndexSet<Cell>> = IndexMap::new();
    for (who, cell) in measured {
        of.entry(who).or_default().insert(cell);
    }
    let mut fullest: Vec<(Who, IndexSet<Cell>)> = of.into_iter().collect();
    fullest.sort_by_key(|(_, cells)| std::cmp::Reverse(cells.len()));
    let Some((_, first)) = fullest.first() else {
        return Default::default();
    };
    let mut common = first.clone();
    let mut best = (1, common.clone());
    for (n, (_, cells)) in (2..).zip(fullest.iter().skip(1)) {
        common.retain(|cell| cells.contains(cell));
        let size = |who: usize, cells: &IndexSet<Cell>| who * cells.len();
        let alone = best.0 == 1 && !common.is_empty();
        if alone || size(n, &common) >= size(best.0, &best.1) {
            best = (n, common.clone());
        }
    }
    let who = fullest.into_iter().take(best.0).map(|(who, _)| who).collect();
    (who, best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cells 0 to `n`, each of them one's own.
    fn common(of: &[(&'static str, u32)]) -> (Vec<&'static str>, usize) {
        let cells = of
            .iter()
            .flat_map(|(who, n)| (0..*n).map(move |cell| (*who, cell)));
        let (who, cells) = common_cells(cells);
        (who.into_iter().collect(), cells.len())
    }

    #[test]
    fn who_measured_little_does_not_reduce_the_others_to_it() {
        let three = [("vllm", 21), ("sglang", 18), ("ollama", 21)];
        assert_eq!(common(&three), (vec!["vllm", "ollama", "sglang"], 18));
        let control = [("vllm", 21), ("sglang", 18), ("control", 1)];
        assert_eq!(common(&control), (vec!["vllm", "sglang"], 18));
        // Two are compared where they can be, however little it is.
        assert_eq!(
            common(&[("vllm", 21), ("ollama", 2)]),
            (vec!["vllm", "ollama"], 2)
        );
        assert_eq!(common(&[("vllm", 21)]), (vec!["vllm"], 21));
        assert_eq!(common(&[]), (vec![], 0));
        let (who, cells) = common_cells([("a", 1), ("b", 2)]);
        assert_eq!((who.len(), cells.len()), (1, 1), "nothing in common");
    }
}
