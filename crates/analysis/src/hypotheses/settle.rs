//! From the results of a family of tests to one outcome, and to what is said of it.
//!
//! "All hold" is supported where every test is supported at 95 %, which needs no correction (a claim that is false in
//! one part has 2.5 % of passing there, whatever the others do), and refuted where one is refuted at the level that is
//! corrected for the number of tests. "Some hold" is judged at the corrected level throughout (Bonferroni). Tests that
//! could not be made count in that number: it is fixed before anything is measured. Settings that one side has no
//! figures for are left out of the judgement, and named, where others are left that both have.

use super::{
    super::{ModelVerdict, Side, TestRole, VerdictOutcome, Weakness, compare::COMPARED_VALUES},
    decision::{AT_95, Levels, TestResult, TestSpec, Undecided},
    effect::Unit,
    evidence::{Absent, Evidence},
    roles::shown,
};
use benchd_core::{
    format::{count, list, number},
    stats::DEFAULT_LEVEL,
};
use benchd_plan::Rule;

/// So many times more measuring is still worth a night.
const WORTH_WHILE: f64 = 20.0;

/// The tests of one hypothesis for one model.
pub(super) struct Family<'a> {
    pub(super) rule: Rule,
    /// The verdict follows from these.
    pub(super) deciding: Vec<TestSpec<'a>>,
    /// Told beside it.
    pub(super) beside: Vec<(TestRole, TestSpec<'a>)>,
    /// Tests that the plan has no way to make.
    pub(super) impossible: Vec<Undecided>,
    /// What stands before the test that speaks for all: where the family is supported, and where it is refuted.
    pub(super) lead: (&'static str, &'static str),
    /// What was decided beforehand.
    pub(super) configuration: Vec<String>,
    /// Whether the claim names each of its settings, so that none can be left out.
    pub(super) whole: bool,
}

pub(super) fn settle(evidence: &Evidence<'_>, model: &str, family: Family<'_>) -> ModelVerdict {
    let tests = family.deciding.len().max(1) as f64;
    let strict = 1.0 - (1.0 - DEFAULT_LEVEL) / tests;
    let levels = match family.rule {
        Rule::All => Levels {
            shown: DEFAULT_LEVEL,
            strict,
        },
        Rule::Any => Levels {
            shown: strict,
            strict,
        },
    };
    let deciding: Vec<TestResult> = family
        .deciding
        .iter()
        .map(|spec| evidence.test(model, spec, levels))
        .collect();
    let (left_out, deciding) = if family.whole {
        (Vec::new(), deciding)
    } else {
        leave_out(deciding)
    };
    let beside: Vec<TestResult> = family
        .beside
        .iter()
        .map(|(role, spec)| {
            let mut result = evidence.test(model, spec, AT_95);
            result.test.role = *role;
            result
        })
        .collect();
    let outcome = combine(family.rule, &deciding, family.impossible.is_empty());
    let mut because = because(evidence, outcome, &family, &deciding);
    if !left_out.is_empty() {
        let mut why: Vec<&str> = Vec::new();
        for absent in left_out.iter().filter_map(missing) {
            if !why.contains(&absent.why.as_str()) {
                why.push(&absent.why);
            }
        }
        because.push_str(&format!(" Left out: {}", sentence(evidence, &why.join("; "))));
    }
    let mut weakened_by: Vec<Weakness> = Vec::new();
    for weakness in deciding.iter().flat_map(|a| &a.weaknesses) {
        if !weakened_by.contains(weakness) {
            weakened_by.push(weakness.clone());
        }
    }
    let to_decide = if outcome == VerdictOutcome::Inconclusive {
        to_decide(
            family.impossible.iter().chain(
                deciding
                    .iter()
                    .chain(&left_out)
                    .filter_map(|a| a.undecided.as_ref()),
            ),
        )
    } else {
        Vec::new()
    };
    ModelVerdict {
        model: model.to_owned(),
        outcome,
        because,
        tests: deciding
            .into_iter()
            .chain(left_out)
            .chain(beside)
            .map(|result| {
                let mut test = result.test;
                test.says = sentence(evidence, &result.sentence);
                test
            })
            .collect(),
        weakened_by,
        decided_by_configuration: family.configuration,
        to_decide,
    }
}

/// Why a test has no figures on one side.
fn missing(result: &TestResult) -> Option<&Absent> {
    match &result.undecided {
        Some(Undecided::Missing(absent)) => Some(absent),
        _ => None,
    }
}

/// Takes out the tests that one side has no figures for, where the same two were compared by the same figure in another
/// setting: a setting that one framework alone has measured compares nothing. Not where it has none because it failed,
/// and the claim would be the better for that: of a framework that is to be faster, or of either that are to be alike.
fn leave_out(results: Vec<TestResult>) -> (Vec<TestResult>, Vec<TestResult>) {
    type Compared = (String, String, String);
    let compared = |result: &TestResult| -> Compared {
        let test = &result.test;
        (test.figure.clone(), test.framework.clone(), test.against.clone())
    };
    let elsewhere: Vec<Compared> = results
        .iter()
        .filter(|result| missing(result).is_none())
        .map(compared)
        .collect();
    let (mut left_out, mut stay) = (Vec::new(), Vec::new());
    for mut result in results {
        let spared = missing(&result).is_some_and(|absent| {
            let helps = match result.test.side {
                Side::AtLeast | Side::AtMost => absent.framework == result.test.framework,
                Side::Away | Side::Within => true,
            };
            !(absent.failed && helps)
        });
        if spared && elsewhere.contains(&compared(&result)) {
            result.test.role = TestRole::LeftOut;
            left_out.push(result);
        } else {
            stay.push(result);
        }
    }
    (left_out, stay)
}

pub(super) fn combine(rule: Rule, deciding: &[TestResult], complete: bool) -> VerdictOutcome {
    use VerdictOutcome::{Inconclusive, Refuted, Supported};
    let shown = |outcome| move |a: &TestResult| a.test.outcome == outcome;
    let whole = complete && !deciding.is_empty();
    match rule {
        Rule::All if deciding.iter().any(|a| a.strict == Refuted) => Refuted,
        Rule::All if whole && deciding.iter().all(shown(Supported)) => Supported,
        Rule::Any if deciding.iter().any(shown(Supported)) => Supported,
        Rule::Any if whole && deciding.iter().all(shown(Refuted)) => Refuted,
        Rule::All | Rule::Any => Inconclusive,
    }
}

fn sentence(evidence: &Evidence<'_>, text: &str) -> String {
    let text = evidence.capital(text);
    if text.ends_with(['.', '!', '?']) {
        text
    } else {
        format!("{text}.")
    }
}

/// One sentence with the test that speaks for all: where all had to hold the narrowest, where one was enough the
/// clearest; of an undecided family the first that is undecided.
fn because(
    evidence: &Evidence<'_>,
    outcome: VerdictOutcome,
    family: &Family<'_>,
    deciding: &[TestResult],
) -> String {
    let (rule, lead) = (family.rule, family.lead);
    let by_margin = |a: &&TestResult, b: &&TestResult| {
        let margin = |a: &TestResult| a.margin.unwrap_or(0.0);
        margin(a).total_cmp(&margin(b))
    };
    let of = |outcome| deciding.iter().filter(move |a| a.test.outcome == outcome);
    let decided = match (outcome, rule) {
        (VerdictOutcome::Supported, Rule::All) => of(outcome).min_by(by_margin),
        (VerdictOutcome::Supported, Rule::Any) => of(outcome).max_by(by_margin),
        (VerdictOutcome::Refuted, Rule::All) => {
            deciding.iter().filter(|a| a.strict == outcome).max_by(by_margin)
        }
        (VerdictOutcome::Refuted, Rule::Any) => of(outcome).min_by(by_margin),
        (VerdictOutcome::Inconclusive, _) => None,
    };
    if let Some(result) = decided {
        let several = deciding.len() > 1;
        let lead = match outcome {
            VerdictOutcome::Supported if several => lead.0,
            VerdictOutcome::Refuted if several => lead.1,
            _ => "",
        };
        let space = if lead.is_empty() { "" } else { " " };
        return format!("{lead}{space}{}", sentence(evidence, &result.sentence));
    }
    if let Some(missing) = family.impossible.first() {
        let why = match missing {
            Undecided::NoFramework(role) => format!("{} is not in this plan", role.shown()),
            Undecided::NoScenario(kind) => format!("the plan has no scenario of kind {kind}"),
            Undecided::NothingToCompare(kind) => format!("{kind} leaves nothing to compare"),
            _ => "a part of it was not measured".to_owned(),
        };
        return format!("Not decided: {why}.");
    }
    let open: Vec<&TestResult> = of(VerdictOutcome::Inconclusive).collect();
    match open.first() {
        Some(first) if open.len() < deciding.len() => format!(
            "Not decided, though {} of {} tests are: {}",
            count((deciding.len() - open.len()) as u64),
            count(deciding.len() as u64),
            sentence(evidence, &first.sentence)
        ),
        Some(first) => format!("Not decided: {}", sentence(evidence, &first.sentence)),
        // Each test says something, but not all the same.
        None => match deciding
            .iter()
            .find(|a| a.test.outcome == VerdictOutcome::Refuted)
        {
            Some(result) if rule == Rule::All => format!(
                "Not decided: {} With {} tests one may fall short by chance; at the level that is corrected for them it \
                 does not.",
                sentence(evidence, &result.sentence),
                count(deciding.len() as u64)
            ),
            _ => "Not decided: there is no test.".to_owned(),
        },
    }
}

/// What it would take, each thing once.
fn to_decide<'u>(all: impl Iterator<Item = &'u Undecided>) -> Vec<String> {
    let mut steps: Vec<String> = Vec::new();
    let mut missing: Vec<(&str, &str, Vec<String>)> = Vec::new();
    let mut more: Vec<(&str, Unit, usize, f64)> = Vec::new();
    for undecided in all {
        let step = match undecided {
            Undecided::NoFramework(role) => format!(
                "A framework that stands for {}; one of another kind is named under `hypotheses: {{ roles: {{ {}: … }} }}`.",
                role.shown(),
                role.key()
            ),
            Undecided::NoScenario(kind) => format!("A scenario of kind {kind} in the plan."),
            Undecided::NothingToCompare(kind) => {
                format!("A second framework, or a second concurrency, that runs {kind}.")
            }
            Undecided::Missing(absent) => {
                let cell = format!("`{}`", absent.cell);
                match missing
                    .iter_mut()
                    .find(|(framework, why, _)| *framework == absent.framework && *why == absent.why)
                {
                    Some((_, _, cells)) if !cells.contains(&cell) => cells.push(cell),
                    Some(_) => {}
                    None => missing.push((&absent.framework, &absent.why, vec![cell])),
                }
                continue;
            }
            Undecided::Flagged {
                framework,
                cell,
                kind,
            } => format!(
                "`{cell}` of {} without its flag {kind}: {}.",
                shown(framework),
                kind.remedy()
            ),
            Undecided::TooFew { has, unit, scenario } => match unit {
                Unit::Passes | Unit::Rounds => format!(
                    "{COMPARED_VALUES} passes of `{scenario}` instead of {} (`passes: {COMPARED_VALUES}`); \
                     `--only scenario={scenario}` narrows such a run to it.",
                    count(*has as u64)
                ),
                Unit::Pairs | Unit::Requests => {
                    format!("{COMPARED_VALUES} requests of `{scenario}` at least, with prompts of their own.")
                }
                Unit::PromptTypes => format!(
                    "{COMPARED_VALUES} prompt types of `{scenario}` instead of {} (`prompt_types:`).",
                    count(*has as u64)
                ),
            },
            Undecided::BelowClientError => {
                "Longer prompts or a larger model: the difference is smaller than the client's own error."
                    .to_owned()
            }
            Undecided::NearThreshold {
                has,
                unit,
                scenario,
                factor,
            } => {
                match more.iter_mut().find(|(s, u, ..)| s == scenario && u == unit) {
                    Some((_, _, most, largest)) => {
                        *most = (*most).max(*has);
                        *largest = largest.max(*factor);
                    }
                    None => more.push((scenario, *unit, *has, *factor)),
                }
                continue;
            }
        };
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    for (framework, why, cells) in missing {
        steps.push(format!(
            "{} of {}: {why}. `benchd run PLAN --resume` goes on with an unfinished run; `--only framework={framework}` \
             narrows a new one.",
            list(&cells),
            shown(framework)
        ));
    }
    for (scenario, unit, has, factor) in more {
        steps.push(more_values(scenario, unit, has, factor));
    }
    steps
}

fn more_values(scenario: &str, unit: Unit, has: usize, factor: f64) -> String {
    if !factor.is_finite() || factor > WORTH_WHILE {
        return format!(
            "The effect is so near the threshold that more measuring of `{scenario}` will hardly tell: for practice the \
             two are equal in it, or the threshold is the question."
        );
    }
    let needed = ((has as f64 * factor).ceil() as usize).max(has + 1);
    let remedy = match unit {
        Unit::Passes => format!("`passes: {needed}`"),
        Unit::Rounds => format!("`repeats: {needed}` of the whole plan"),
        Unit::Pairs | Unit::Requests => format!(
            "`repeats:` or `passes:` {} times as high",
            number(factor.max(1.1))
        ),
        Unit::PromptTypes => {
            "more nights, or a wider threshold: the prompt types are all there are".to_owned()
        }
    };
    format!(
        "About {} {} of `{scenario}` instead of {}, if effect and spread stay as they are ({remedy}).",
        count(needed as u64),
        unit.words(needed),
        count(has as u64)
    )
}
