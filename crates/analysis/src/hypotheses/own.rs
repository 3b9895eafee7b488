//! The plan's own hypotheses.

use super::{
    super::{TestRole, VerdictOutcome},
    evidence::Evidence,
    question::{Gap, Place, Question},
    settle::Family,
    words::prompt_tokens,
};
use benchd_plan::{self, Cell, Figure, OwnHypothesis, OwnTest, Rule};

pub(super) fn family<'a>(evidence: &Evidence<'a>, own: &'a OwnHypothesis) -> Family<'a> {
    let (mut deciding, mut gaps) = (Vec::new(), Vec::new());
    for test in &own.tests {
        let questions = questions(evidence, test);
        if questions.is_empty() {
            let kind = evidence.plan.scenarios.get(&test.scenario).map(|s| s.kind);
            gaps.extend(kind.map(Gap::OneOnly));
        }
        deciding.extend(questions);
    }
    Family {
        rule: own.rule,
        deciding,
        beside: Vec::new(),
        gaps,
        lead: match own.rule {
            Rule::All => |outcome| match outcome {
                VerdictOutcome::Supported => "Every test holds; the narrowest:",
                _ => "",
            },
            Rule::Any => |outcome| match outcome {
                VerdictOutcome::Refuted => "No test holds; the nearest:",
                _ => "",
            },
        },
        configuration: Vec::new(),
    }
}

/// One question for each cell that fits.
fn questions<'a>(evidence: &Evidence<'a>, test: &'a OwnTest) -> Vec<Question<'a>> {
    let Some(scenario) = evidence.plan.scenarios.get(&test.scenario) else {
        return Vec::new();
    };
    let all = benchd_plan::cells(scenario);
    let fits = |cell: &Cell| {
        (test.concurrency.is_empty() || test.concurrency.contains(&cell.concurrency))
            && (test.input_tokens.is_empty() || test.input_tokens.contains(&prompt_tokens(cell)))
    };
    let ask = |at| Question {
        role: TestRole::Deciding,
        figure: test.figure,
        of: &test.of,
        against: &test.against,
        at,
        bound: test.bound,
    };
    if test.figure.is_korean_over_english() {
        let mut levels: Vec<u32> = all.iter().filter(|c| fits(c)).map(|c| c.concurrency).collect();
        levels.dedup();
        return levels
            .into_iter()
            .map(|concurrency| {
                let of_level = |c: &&Cell| c.concurrency == concurrency;
                ask(Place::Korean {
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
                Figure::ScalingEfficiency => Place::Scaling {
                    cell: cell.clone(),
                    base: base(cell)?,
                },
                _ => Place::Cell(cell.clone()),
            };
            Some(ask(at))
        })
        .collect()
}
