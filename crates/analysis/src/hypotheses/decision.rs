//! One test: a figure of two frameworks against a threshold, and what the evidence says.

use super::{
    super::{
        Side, TestRole, VerdictOutcome, VerdictTest, Weakness, compare::COMPARED_VALUES,
        measured::MeasuredCell,
    },
    effect::{Effect, Part, Unit},
    evidence::{Absent, Evidence},
    roles::{Role, shown},
    words::{noun, seen, setting, stands},
};
use benchd_core::{
    format::{count, counted, number},
    record::FlagKind,
    stats::{DEFAULT_LEVEL, Interval},
};
use benchd_plan::{Bound, Cell, Figure, ScenarioKind};

/// The cells that a test takes its figure from.
#[derive(Debug, Clone)]
pub(super) enum TestCells {
    Cell(Cell),
    /// In one cell over the same scenario's cell of the fewest streams.
    Scaling {
        cell: Cell,
        /// That of the fewest streams.
        base: Cell,
        /// Whether the plan has fewer, which the two have not both measured.
        instead: bool,
    },
    /// In the Korean and English cells of one concurrency.
    Korean {
        concurrency: u32,
        cells: Vec<Cell>,
    },
}

impl TestCells {
    fn cells(&self) -> Vec<&Cell> {
        match self {
            Self::Cell(cell) => vec![cell],
            Self::Scaling { cell, base, .. } => vec![cell, base],
            Self::Korean { cells, .. } => cells.iter().collect(),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Scaling {
                cell,
                base,
                instead: true,
            } => format!(
                "{} over {}",
                setting(cell),
                counted(base.concurrency.into(), "stream")
            ),
            Self::Cell(cell) | Self::Scaling { cell, .. } => setting(cell),
            Self::Korean { concurrency: 1, .. } => String::new(),
            Self::Korean { concurrency, .. } => format!(" at {} streams", count((*concurrency).into())),
        }
    }

    /// The scenario in which more measuring would tell more.
    fn scenario(&self) -> Option<&str> {
        self.cells().first().map(|c| c.scenario.as_str())
    }
}

/// One test of a family, before it is made.
#[derive(Debug, Clone)]
pub(super) struct TestSpec<'a> {
    pub(super) figure: Figure,
    pub(super) of: &'a str,
    pub(super) against: &'a str,
    pub(super) at: TestCells,
    pub(super) bound: Bound,
}

impl<'a> TestSpec<'a> {
    pub(super) fn new(
        figure: Figure,
        (of, against): (&'a str, &'a str),
        at: TestCells,
        bound: Bound,
    ) -> Self {
        Self {
            figure,
            of,
            against,
            at,
            bound,
        }
    }
}

/// What keeps a test from being decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Undecided {
    /// No framework of the plan takes the role.
    NoFramework(Role),
    /// The plan has no scenario of this kind.
    NoScenario(ScenarioKind),
    /// The scenario of this kind has one framework, or one concurrency, only: there is nothing to compare.
    NothingToCompare(ScenarioKind),
    /// A framework's cell has no figures.
    Missing(Absent),
    /// A flag makes the cell worthless for this figure.
    Flagged {
        framework: String,
        cell: String,
        kind: FlagKind,
    },
    TooFew {
        has: usize,
        unit: Unit,
        scenario: String,
    },
    /// The difference is smaller than the client's own error.
    BelowClientError,
    /// The interval holds the threshold.
    NearThreshold {
        has: usize,
        unit: Unit,
        scenario: String,
        /// How many times as many values would do, if the effect and the spread stay as they are.
        factor: f64,
    },
}

#[derive(Debug, Clone)]
pub(super) struct TestResult {
    pub(super) test: VerdictTest,
    /// The outcome at the level that is corrected for the family.
    pub(super) strict: VerdictOutcome,
    /// How far the interval is from the threshold, as a difference of logarithms; `None` where it is not decided.
    pub(super) margin: Option<f64>,
    pub(super) sentence: String,
    pub(super) weaknesses: Vec<Weakness>,
    pub(super) undecided: Option<Undecided>,
}

/// The levels of a family of tests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    /// Of the intervals that are shown, and of each test's outcome.
    pub(super) shown: f64,
    /// Corrected for the number of tests.
    pub(super) strict: f64,
}

/// Without a correction.
pub(super) const AT_95: Levels = Levels {
    shown: DEFAULT_LEVEL,
    strict: DEFAULT_LEVEL,
};

/// On which side of the threshold an interval lies.
pub(super) fn outcome(bound: Bound, interval: &Interval) -> VerdictOutcome {
    use VerdictOutcome::{Inconclusive, Refuted, Supported};
    let (low, high) = (interval.low, interval.high);
    match bound {
        Bound::AtLeast(t) if low >= t => Supported,
        Bound::AtLeast(t) if high < t => Refuted,
        Bound::AtMost(t) if high <= t => Supported,
        Bound::AtMost(t) if low > t => Refuted,
        Bound::AtLeast(_) | Bound::AtMost(_) => Inconclusive,
        Bound::DiffersBy(share) | Bound::Within(share) => {
            let (least, most) = (1.0 / (1.0 + share), 1.0 + share);
            let apart = low > most || high < least;
            let inside = low >= least && high <= most;
            match (apart, inside, matches!(bound, Bound::Within(_))) {
                (true, _, false) | (_, true, true) => Supported,
                (_, true, false) | (true, _, true) => Refuted,
                _ => Inconclusive,
            }
        }
    }
}

/// The lines of a bound, as logarithms.
fn lines(bound: Bound) -> Vec<f64> {
    match bound {
        Bound::AtLeast(t) | Bound::AtMost(t) => vec![t.ln()],
        Bound::DiffersBy(share) | Bound::Within(share) => vec![-share.ln_1p(), share.ln_1p()],
    }
}

/// Distance of the interval from the nearest line.
fn margin(bound: Bound, interval: &Interval) -> f64 {
    let ends = [interval.low.ln(), interval.high.ln()];
    lines(bound)
        .iter()
        .flat_map(|line| ends.map(|end| (end - line).abs()))
        .fold(f64::INFINITY, f64::min)
}

/// How many times as many values an interval would need to leave the nearest line out.
fn factor(bound: Bound, estimate: f64, interval: &Interval) -> f64 {
    let half = (interval.high / interval.low).ln() / 2.0;
    let distance = lines(bound)
        .iter()
        .map(|line| (estimate.ln() - line).abs())
        .fold(f64::INFINITY, f64::min);
    (half / distance).powi(2)
}

fn side(bound: Bound) -> (Side, f64) {
    match bound {
        Bound::AtLeast(t) => (Side::AtLeast, t),
        Bound::AtMost(t) => (Side::AtMost, t),
        Bound::DiffersBy(share) => (Side::Away, 1.0 + share),
        Bound::Within(share) => (Side::Within, 1.0 + share),
    }
}

/// What a flag means for a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// The figure is not of what it says: the test does not count.
    Void,
    /// Told beside the verdict.
    Weakens,
    /// Says nothing against this figure.
    Silent,
}

/// Whether a figure rests on the time to the first token.
fn is_ttft(figure: Figure) -> bool {
    matches!(
        figure,
        Figure::TtftMs
            | Figure::FirstTtftMs
            | Figure::LaterTtftMs
            | Figure::LaterOverFirst
            | Figure::KoOverEnTtftMs
    )
}

fn weight(kind: FlagKind, figure: Figure) -> Weight {
    use Weight::{Silent, Void, Weakens};
    match kind {
        // Of another model, of a shorter prompt, or of two loads at once.
        FlagKind::WrongModel | FlagKind::TruncatedPrompt | FlagKind::StrangerOnGpu => Void,
        FlagKind::NoUsage => match figure {
            Figure::TtftMs
            | Figure::LatencyMs
            | Figure::FirstTtftMs
            | Figure::LaterTtftMs
            | Figure::LaterOverFirst
            | Figure::KoOverEnCharsPerS
            | Figure::KoOverEnTtftMs
            | Figure::KoOverEnLatencyMs => Weakens,
            _ => Void,
        },
        // A cache answered for the prefill, and the prefill is all of TTFT.
        FlagKind::ServedFromCache if is_ttft(figure) => Void,
        FlagKind::NoSteadyState if figure == Figure::ScalingEfficiency => Weakens,
        // What the plan asks for, what is shown elsewhere, or what this room judges itself.
        FlagKind::FewSamples
        | FlagKind::NoSteadyState
        | FlagKind::IdenticalPrompts
        | FlagKind::CoalescedChunks
        | FlagKind::MultiTokenChunks
        | FlagKind::GpuSamplesMissing
        | FlagKind::BelowClientError => Silent,
        _ => Weakens,
    }
}

impl Evidence<'_> {
    pub(super) fn test(&self, model: &str, spec: &TestSpec<'_>, levels: Levels) -> TestResult {
        let effect = match &spec.at {
            TestCells::Cell(cell) => self.ratio(model, spec.figure, spec.of, spec.against, cell),
            TestCells::Scaling { cell, base, .. } => {
                let parts = [
                    Part::new(1.0, spec.of, cell),
                    Part::new(-1.0, spec.of, base),
                    Part::new(-1.0, spec.against, cell),
                    Part::new(1.0, spec.against, base),
                ];
                self.product(model, spec.figure, &parts)
            }
            TestCells::Korean { cells, .. } => {
                self.korean(model, spec.figure, spec.of, Some(spec.against), cells)
            }
        };
        let (side, threshold) = side(spec.bound);
        let cells = spec.at.cells();
        let mut result = TestResult {
            test: VerdictTest {
                what: format!("{}{}", noun(spec.figure), spec.at.words()),
                role: TestRole::Deciding,
                figure: spec.figure.as_str().to_owned(),
                framework: spec.of.to_owned(),
                against: spec.against.to_owned(),
                effect: None,
                interval: None,
                threshold,
                side,
                outcome: VerdictOutcome::Inconclusive,
                why: None,
                says: String::new(),
                cells: cells.iter().map(|c| c.id.clone()).collect(),
            },
            strict: VerdictOutcome::Inconclusive,
            margin: None,
            sentence: String::new(),
            weaknesses: Vec::new(),
            undecided: None,
        };
        let effect = match effect {
            Ok(effect) => effect,
            Err(absent) => {
                result.sentence.clone_from(&absent.why);
                result.test.why = Some(absent.why.clone());
                result.undecided = Some(Undecided::Missing(absent));
                return result;
            }
        };
        let interval = effect.interval(levels.shown).filter(|_| effect.is_trusted());
        let strict = effect.interval(levels.strict).filter(|_| effect.is_trusted());
        result.test.effect = Some(effect.estimate);
        result.test.interval = interval;
        result.weaknesses = self.weaknesses(model, spec, &cells);
        let void = |w: &&Weakness| weight(w.kind, spec.figure) == Weight::Void;
        let void = result.weaknesses.iter().find(void).cloned();
        let said = self.said(model, spec, &effect, interval.as_ref());
        let leave_open = |mut result: TestResult, why: String, undecided: Undecided| {
            result.sentence = format!("{said}; {why}");
            result.test.why = Some(why);
            result.undecided = Some(undecided);
            result
        };
        let scenario = spec.at.scenario().unwrap_or_default().to_owned();
        if let Some(Weakness {
            lane,
            cell,
            kind,
            text,
        }) = void
        {
            let why = format!(
                "it does not count, since `{cell}` of {} is flagged {kind} ({text})",
                shown(&lane.framework)
            );
            let undecided = Undecided::Flagged {
                framework: lane.framework,
                cell,
                kind,
            };
            return leave_open(result, why, undecided);
        }
        let (Some(interval), Some(strict)) = (interval, strict) else {
            let why = format!(
                "{} {} can't tell: at least {COMPARED_VALUES} are needed",
                count(effect.values as u64),
                effect.unit.words(effect.values)
            );
            let undecided = Undecided::TooFew {
                has: effect.values,
                unit: effect.unit,
                scenario,
            };
            return leave_open(result, why, undecided);
        };
        if let Some(error_ms) = self.below_client_error(model, spec, &cells)
            && !matches!(spec.bound, Bound::Within(_))
        {
            let why = format!(
                "the difference is smaller than the client's own error of {} ms",
                number(error_ms)
            );
            return leave_open(result, why, Undecided::BelowClientError);
        }
        let outcome_shown = outcome(spec.bound, &interval);
        result.test.outcome = outcome_shown;
        result.strict = outcome(spec.bound, &strict);
        result.sentence = format!("{said}{}", stands(spec.bound, outcome_shown));
        if outcome_shown == VerdictOutcome::Inconclusive {
            result.test.why = Some(
                stands(spec.bound, outcome_shown)
                    .trim_start_matches("; ")
                    .to_owned(),
            );
            result.undecided = Some(Undecided::NearThreshold {
                has: effect.values,
                unit: effect.unit,
                scenario,
                factor: factor(spec.bound, effect.estimate, &interval),
            });
        } else {
            result.margin = Some(margin(spec.bound, &interval));
        }
        result
    }

    /// What was seen, and how many requests failed where that counts.
    fn said(&self, model: &str, spec: &TestSpec<'_>, effect: &Effect, interval: Option<&Interval>) -> String {
        let mut said = seen(
            spec.figure,
            shown(spec.of),
            shown(spec.against),
            &spec.at.words(),
            effect.estimate,
            interval,
        );
        if matches!(spec.figure, Figure::OutputTokensPerS | Figure::ScalingEfficiency) {
            for framework in [spec.of, spec.against] {
                let (mut failed, mut requests) = (0, 0);
                for cell in spec.at.cells() {
                    for seen in self.strata(model, framework, &cell.id).values() {
                        failed += seen.cell.failed;
                        requests += seen.cell.requests;
                    }
                }
                if failed > 0 {
                    let failed = match failed == requests {
                        true => format!("all {}", count(requests)),
                        false => format!("{} of {}", count(failed), count(requests)),
                    };
                    said.push_str(&format!(" ({} failed {failed} requests)", shown(framework)));
                }
            }
        }
        said
    }

    /// The flags that weaken a test or make it worthless.
    fn weaknesses(&self, model: &str, spec: &TestSpec<'_>, cells: &[&Cell]) -> Vec<Weakness> {
        let mut weaknesses = Vec::new();
        for framework in [spec.of, spec.against] {
            for seen in cells
                .iter()
                .flat_map(|c| self.strata(model, framework, &c.id).values())
            {
                let flags = seen.cell.flags.iter();
                let telling = flags.filter(|f| weight(f.kind, spec.figure) != Weight::Silent);
                weaknesses.extend(telling.map(|flag| Weakness {
                    lane: seen.lane.lane.clone(),
                    cell: seen.cell.cell.clone(),
                    kind: flag.kind,
                    text: flag.seen.clone(),
                }));
            }
        }
        weaknesses
    }

    /// The client's own error, where two times to the first token are nearer to each other than that in every stratum.
    fn below_client_error(&self, model: &str, spec: &TestSpec<'_>, cells: &[&Cell]) -> Option<f64> {
        if !matches!(
            spec.figure,
            Figure::TtftMs | Figure::FirstTtftMs | Figure::LaterTtftMs
        ) {
            return None;
        }
        let cell = cells.first()?;
        let others = self.strata(model, spec.against, &cell.id);
        let median = |measured: &MeasuredCell<'_>| {
            let prefix = measured.cell.prefix_cache.as_ref();
            let distribution = match spec.figure {
                Figure::FirstTtftMs => prefix.and_then(|p| p.first_ttft_ms.as_ref()),
                Figure::LaterTtftMs => prefix.and_then(|p| p.later_ttft_ms.as_ref()),
                _ => measured.cell.ttft_ms.as_ref(),
            };
            distribution.map(|d| d.p50)
        };
        let mut largest: Option<f64> = None;
        for (stratum, seen) in self.strata(model, spec.of, &cell.id) {
            let Some(other) = others.get(stratum) else {
                continue;
            };
            let error = self.client_error_ms(seen)?;
            if (median(seen)? - median(other)?).abs() >= error {
                return None;
            }
            largest = Some(largest.map_or(error, |l| l.max(error)));
        }
        largest
    }
}
