//! Who is best, where that can be said.

use benchd_analysis::FrameworkComparison;

/// The framework with the best value, where the interval of its ratio to every other one leaves equality out and all compare
/// like with like; nobody where there is nobody else. `values` are by framework, one each.
pub(super) fn best<'a>(
    values: &[(&'a str, f64)],
    comparisons: &[FrameworkComparison],
    (model, cell): (&str, &str),
    figure: &str,
    more_is_better: bool,
) -> Option<&'a str> {
    let (name, _) = values.iter().max_by(|(_, a), (_, b)| {
        if more_is_better {
            a.total_cmp(b)
        } else {
            b.total_cmp(a)
        }
    })?;
    let differs = |other: &str| {
        comparisons
            .iter()
            .filter(|c| c.model == model && c.unlike.is_empty())
            .filter(|c| {
                let pair = (c.baseline.as_str(), c.framework.as_str());
                pair == (name, other) || pair == (other, name)
            })
            .flat_map(|c| &c.cells)
            .filter(|c| c.cell == cell)
            .any(|c| c.figures.get(figure).is_some_and(|d| d.differs == Some(true)))
    };
    let mut others = values.iter().map(|(other, _)| *other).filter(|o| o != name);
    let first = differs(others.next()?);
    (first && others.all(differs)).then_some(name)
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;

    use super::*;
    use benchd_analysis::{CellComparison, Difference};

    fn pair(baseline: &str, framework: &str, differs: Option<bool>) -> FrameworkComparison {
        let difference = Difference {
            baseline: 1.0,
            framework: 2.0,
            ratio: 2.0,
            interval: None,
            pairs: 0,
            cliffs_delta: 1.0,
            differs,
        };
        FrameworkComparison {
            model: "m".to_owned(),
            baseline: baseline.to_owned(),
            framework: framework.to_owned(),
            unlike: Vec::new(),
            cells: vec![CellComparison {
                scenario: "single".to_owned(),
                cell: "single/in512".to_owned(),
                rounds: 1,
                unequal_outputs: None,
                figures: IndexMap::from([("ttft_ms".to_owned(), difference)]),
            }],
        }
    }

    #[test]
    fn only_who_is_told_apart_from_everyone_is_best() {
        let of = |ab, ac, values: &[(&'static str, f64)]| {
            let all = [pair("a", "b", ab), pair("a", "c", ac), pair("b", "c", Some(true))];
            best(values, &all, ("m", "single/in512"), "ttft_ms", false)
        };
        let values = [("a", 1.0), ("b", 2.0), ("c", 3.0)];
        assert_eq!(of(Some(true), Some(true), &values), Some("a"));
        // Within the uncertainty of one other, or not known.
        assert_eq!(of(Some(true), Some(false), &values), None);
        assert_eq!(of(None, Some(true), &values), None);
        // The lane that would tell is missing.
        assert_eq!(of(Some(false), Some(true), &[values[0], values[2]]), Some("a"));
        assert_eq!(of(Some(true), Some(true), &values[..1]), None);
        // Other weights: whatever the interval says.
        let mut unlike = pair("a", "b", Some(true));
        unlike.unlike.push("the weights differ".to_owned());
        assert_eq!(
            best(&values[..2], &[unlike], ("m", "single/in512"), "ttft_ms", false),
            None
        );
    }
}
