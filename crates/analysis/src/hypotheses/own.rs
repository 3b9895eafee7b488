//! The plan's own hypotheses.

use super::{
    decision::{TestCells, TestSpec, Undecided},
    evidence::Evidence,
    settle::Family,
    words::prompt_tokens,
};
use benchd_plan::{self, Cell, Figure, OwnHypothesis, OwnTest, Rule};

pub(super) fn family<'a>(evidence: &Evidence<'a>, own: &'a OwnHypothesis) -> Family<'a> {
    let (mut deciding, mut impossible) = (Vec::new(), Vec::new());
    for test in &own.tests {
        let specs = specs(evidence, test);
        if specs.is_empty() {
            let kind = evidence.plan.scenarios.get(&test.scenario).map(|s| s.kind);
            impossible.extend(kind.map(Undecided::NothingToCompare));
        }
        deciding.extend(specs);
    }
    Family {
        rule: own.rule,
        deciding,
        beside: Vec::new(),
        impossible,
        lead: match own.rule {
            Rule::All => ("Every test holds; the narrowest:", ""),
            Rule::Any => ("", "No test holds; the nearest:"),
        },
        configuration: Vec::new(),
        whole: true,
    }
}

fn specs<'a>(evidence: &Evidence<'a>, test: &'a OwnTest) -> Vec<TestSpec<'a>> {
    let Some(scenario) = evidence.plan.scenarios.get(&test.scenario) else {
        return Vec::new();
    };
    let all = benchd_plan::cells(scenario);
    let fits = |cell: &Cell| {
        (test.concurrency.is_empty() || test.concurrency.contains(&cell.concurrency))
            && (test.input_tokens.is_empty() || test.input_tokens.contains(&prompt_tokens(cell)))
    };
    let spec = |at| TestSpec::new(test.figure, (&test.of, &test.against), at, test.bound);
    if test.figure.is_korean_over_english() {
        let mut levels: Vec<u32> = all.iter().filter(|c| fits(c)).map(|c| c.concurrency).collect();
        levels.dedup();
        return levels
            .into_iter()
            .map(|concurrency| {
                let of_level = |c: &&Cell| c.concurrency == concurrency;
                spec(TestCells::Korean {
                    concurrency,
                    cells: all.iter().filter(of_level).cloned().collect(),
                })
            })
            .collect();
    }
    let base = |cell: &Cell| {
        all.iter()
            .filter(|c| c.input == cell.input)
            .min_by_key(|c| c.concurrency)
            .filter(|base| base.concurrency < cell.concurrency)
            .cloned()
    };
    all.iter()
        .filter(|cell| fits(cell))
        .filter_map(|cell| {
            let at = match test.figure {
                Figure::ScalingEfficiency => TestCells::Scaling {
                    cell: cell.clone(),
                    base: base(cell)?,
                    instead: false,
                },
                _ => TestCells::Cell(cell.clone()),
            };
            Some(spec(at))
        })
        .collect()
}
