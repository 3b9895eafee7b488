//! What the user's document expects (5.1 to 5.5) and how it ranks the frameworks (9.2), against what was seen.
//!
//! The document words its expectations for people; here each becomes a ratio with a line. The lines stand below and in
//! `docs/metrics.md`. `items` holds the document's words; the others look at the scenarios, and at the rankings over all
//! of them.

mod items;
mod korean;
mod load;
mod rankings;
mod requests;

use items::{EASE, ITEMS};

use super::{
    super::{Expectation, Seen, VerdictOutcome, compare::COMPARED_VALUES, measured::Night},
    decision::{AT_95, TestCells, TestResult, TestSpec, Undecided, outcome},
    effect::{Effect, Part},
    evidence::{Absent, Evidence},
    roles::{Role, RoleFrameworks},
    words::prompt_tokens,
};
use benchd_core::{
    format::{count, with_interval},
    stats::DEFAULT_LEVEL,
};
use benchd_plan::{Arrival, Bound, Cell, Figure, Hypothesis, Plan, ScenarioKind};

/// "Similar": within this share of each other.
const SIMILAR: f64 = 0.10;
/// "The same tokens": within this share of each other.
const SAME_TOKENS: f64 = 0.02;
/// "Throughput rises": at the most streams at least this many times that of the fewest.
const RISES: f64 = 1.05;
/// "Throughput stands still": at the most streams at most this many times that of the fewest.
const STANDS_STILL: f64 = 1.25;
/// "Latency rises linearly": at least this share of as many times as there are more streams.
const LINEAR: f64 = 0.75;
/// "TTFT falls a lot": later over first at most this.
const FALLS: f64 = 0.5;
/// "TTFT rises a lot": at least this many times the others'.
const RISES_A_LOT: f64 = 2.0;
/// "Stable": TTFT grows at most this many times as much as the prompt.
const STABLE: f64 = 1.1;
/// Korean prompt tokens over English ones, as the document expects them.
const KOREAN_TOKENS: (f64, f64) = (1.5, 3.0);
/// "At least as good" (`>=` in the rankings): not below this.
const NOT_BELOW: f64 = 0.95;

/// What came of one part of an expectation.
struct Finding {
    outcome: Seen,
    seen: String,
    cells: Vec<String>,
}

impl Finding {
    fn not_measured(why: impl Into<String>) -> Self {
        Self {
            outcome: Seen::NotMeasured,
            seen: why.into(),
            cells: Vec::new(),
        }
    }

    /// An expectation that holds where all of its parts do.
    fn all(parts: Vec<Self>) -> Self {
        let any = |wanted| parts.iter().any(|p| p.outcome == wanted);
        let every = |wanted| parts.iter().all(|p| p.outcome == wanted);
        let outcome = if parts.is_empty() || every(Seen::NotMeasured) {
            Seen::NotMeasured
        } else if any(Seen::Otherwise) {
            Seen::Otherwise
        } else if every(Seen::AsExpected) {
            Seen::AsExpected
        } else {
            Seen::Unclear
        };
        let (mut said, mut cells): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for part in parts {
            if !said.contains(&part.seen) {
                said.push(part.seen);
            }
            for cell in part.cells {
                if !cells.contains(&cell) {
                    cells.push(cell);
                }
            }
        }
        Self {
            outcome,
            seen: said.join("; "),
            cells,
        }
    }
}

/// The document's expectations for every model of the plan. None where no framework of the plan is one of those that the
/// document speaks of; of scenarios, only those that the plan has.
pub(crate) fn expectations(plan: &Plan, nights: &[Night<'_>]) -> Vec<Expectation> {
    let roles = RoleFrameworks::of(plan);
    if roles.is_empty() {
        return Vec::new();
    }
    let evidence = Evidence::new(plan, nights);
    let has = |kind: ScenarioKind| plan.scenarios.values().any(|s| s.kind == kind);
    ITEMS
        .iter()
        .chain([&EASE])
        .filter(|item| item.scenario.is_none_or(has))
        .flat_map(|item| plan.models.keys().map(move |model| (item, model)))
        .map(|(item, model)| {
            let of = ModelEvidence {
                evidence: &evidence,
                roles: &roles,
                model,
                compared: item.of.iter().filter_map(|role| roles.get(*role)).collect(),
            };
            let mut found = (item.find)(&of);
            if found.outcome != Seen::NotMeasured
                && let Some(why) = item.scenario.and_then(|kind| of.left_out(kind))
            {
                found.seen.push_str(&format!("; left out: {why}"));
            }
            Expectation {
                section: item.section.to_owned(),
                scenario: item.scenario,
                expected: item.expected.to_owned(),
                expected_ko: item.expected_ko.to_owned(),
                model: model.clone(),
                outcome: found.outcome,
                seen: evidence.capital(&found.seen),
                cells: found.cells,
            }
        })
        .collect()
}

/// One model's evidence, with the frameworks that the document speaks of.
struct ModelEvidence<'e, 'a> {
    evidence: &'e Evidence<'a>,
    roles: &'e RoleFrameworks<'a>,
    model: &'e str,
    /// The frameworks that the expectation speaks of, as far as the plan has them.
    compared: Vec<&'a str>,
}

fn of_outcome(outcome: VerdictOutcome) -> Seen {
    match outcome {
        VerdictOutcome::Supported => Seen::AsExpected,
        VerdictOutcome::Refuted => Seen::Otherwise,
        VerdictOutcome::Inconclusive => Seen::Unclear,
    }
}

impl<'a> ModelEvidence<'_, 'a> {
    /// The closed-loop cells of a kind that the plan has all of the compared frameworks run; all of the plan's where there
    /// is none.
    fn planned(&self, kind: ScenarioKind) -> Vec<Cell> {
        let mut cells = self.evidence.cells_of(kind);
        cells.retain(|c| c.arrival == Arrival::Closed);
        let run = self.evidence.run_by_all(&self.compared, &cells);
        if run.is_empty() { cells } else { run }
    }

    /// Those of them that all of the compared frameworks measured: one that measured none of the kind is not waited for,
    /// and where none is left all are given, so that each says what is missing.
    fn cells(&self, kind: ScenarioKind) -> Vec<Cell> {
        let planned = self.planned(kind);
        let measured_any = |f: &&&str| {
            planned
                .iter()
                .any(|c| !self.evidence.strata(self.model, f, &c.id).is_empty())
        };
        let who: Vec<&str> = self.compared.iter().filter(measured_any).copied().collect();
        let measured = self.evidence.measured_by_all(self.model, &who, &planned);
        if measured.is_empty() { planned } else { measured }
    }

    /// What of the plan is not looked at, since not all of the compared frameworks have measured it, and why.
    fn left_out(&self, kind: ScenarioKind) -> Option<String> {
        let cells = self.cells(kind);
        let mut why: Vec<String> = Vec::new();
        for cell in self.planned(kind) {
            if cells.iter().any(|c| c.id == cell.id) {
                continue;
            }
            let absent = |f: &&&str| self.evidence.strata(self.model, f, &cell.id).is_empty();
            if let Some(framework) = self.compared.iter().find(absent) {
                let absent = self.evidence.absent(self.model, framework, &cell);
                if !why.contains(&absent.why) {
                    why.push(absent.why);
                }
            }
        }
        (!why.is_empty()).then(|| why.join("; "))
    }

    /// Cells of the fewest and the most streams of one scenario.
    fn ends(&self) -> Option<(Cell, Cell)> {
        let cells = self.cells(ScenarioKind::Concurrent);
        let fewer = |most: &Cell| {
            cells
                .iter()
                .filter(|c| c.scenario == most.scenario && c.input == most.input)
                .filter(|c| c.concurrency < most.concurrency)
                .min_by_key(|c| c.concurrency)
        };
        let ends = cells.iter().filter_map(|most| Some((fewer(most)?, most)));
        let (fewest, most) = ends.max_by_key(|(_, most)| most.concurrency)?;
        Some((fewest.clone(), most.clone()))
    }

    /// The long prompts at the fewest streams, the shortest first.
    fn long(&self) -> Vec<Cell> {
        let mut cells = self.cells(ScenarioKind::LongContext);
        let fewest = cells.iter().map(|c| c.concurrency).min();
        cells.retain(|c| Some(c.concurrency) == fewest);
        cells.sort_by_key(prompt_tokens);
        cells
    }

    /// The cells of the Korean scenario at the fewest streams.
    fn korean(&self) -> Vec<Cell> {
        let mut cells = self.cells(ScenarioKind::Korean);
        let fewest = cells.iter().map(|c| c.concurrency).min();
        cells.retain(|c| Some(c.concurrency) == fewest);
        cells
    }

    fn no_framework(role: Role) -> Finding {
        Finding::not_measured(format!("{} is not in this plan", role.shown()))
    }

    /// One framework against another in several settings: the ratios in one line.
    fn against(
        &self,
        figure: Figure,
        of: Role,
        against: Role,
        bound: Bound,
        settings: Vec<TestCells>,
    ) -> Finding {
        let (of, against) = match (self.roles.get(of), self.roles.get(against)) {
            (Some(of), Some(against)) => (of, against),
            (None, _) => return Self::no_framework(of),
            (_, None) => return Self::no_framework(against),
        };
        if settings.is_empty() {
            return Finding::not_measured("the plan has no cell for it");
        }
        let results: Vec<TestResult> = settings
            .into_iter()
            .map(|at| {
                let spec = TestSpec::new(figure, (of, against), at, bound);
                self.evidence.test(self.model, &spec, AT_95)
            })
            .collect();
        Finding::all(results.into_iter().map(finding).collect())
    }

    /// A ratio within one framework.
    fn own(&self, effect: Result<Effect, Absent>, bound: Bound, cells: &[&Cell], said: &str) -> Finding {
        let effect = match effect {
            Ok(effect) => effect,
            Err(absent) => return Finding::not_measured(absent.why),
        };
        let interval = effect.interval(DEFAULT_LEVEL).filter(|_| effect.is_trusted());
        let ratio = with_interval(effect.estimate, interval.as_ref());
        let few = match interval {
            Some(_) => String::new(),
            None => format!(
                " ({} {}; {COMPARED_VALUES} are needed to tell)",
                count(effect.values as u64),
                effect.unit.words(effect.values)
            ),
        };
        Finding {
            outcome: interval.map_or(Seen::Unclear, |i| of_outcome(outcome(bound, &i))),
            seen: format!("{}{few}", said.replace("{}", &ratio)),
            cells: cells.iter().map(|c| c.id.clone()).collect(),
        }
    }

    fn over(&self, figure: Figure, framework: &str, above: &Cell, below: &Cell) -> Result<Effect, Absent> {
        let parts = [
            Part::new(1.0, framework, above),
            Part::new(-1.0, framework, below),
        ];
        self.evidence.product(self.model, figure, &parts)
    }

    fn margin(&self) -> f64 {
        let stated = self.evidence.plan.hypotheses.list.iter().find_map(|h| match h {
            Hypothesis::H3(test) => Some(test.margin),
            _ => None,
        });
        stated.unwrap_or(benchd_plan::SingleRequestTest::default().margin)
    }

    fn overwhelming(&self) -> f64 {
        let stated = self.evidence.plan.hypotheses.list.iter().find_map(|h| match h {
            Hypothesis::H2(test) => Some(test.overwhelming),
            _ => None,
        });
        stated.unwrap_or(benchd_plan::ConcurrencyTest::default().overwhelming)
    }
}

fn finding(result: TestResult) -> Finding {
    let missing = matches!(result.undecided, Some(Undecided::Missing(_)));
    Finding {
        outcome: if missing {
            Seen::NotMeasured
        } else {
            of_outcome(result.test.outcome)
        },
        seen: result.sentence,
        cells: result.test.cells,
    }
}
