//! One test: a question with a threshold, and what the evidence answers.

use super::{
    super::{Side, TestRole, VerdictOutcome, VerdictTest, Weakness, compare::COMPARED_VALUES},
    effect::{Absent, Effect, Part, Unit},
    evidence::{Evidence, Role, shown},
    words::{noun, place, seen, stands},
};
use benchd_core::{
    record::FlagKind,
    stats::{
        Interval,
        number::{count, number},
    },
};
use benchd_plan::{Bound, Cell, Figure, ScenarioKind};

/// Where a figure is taken.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// In one cell.
    Cell(Cell),
    /// In one cell over the same scenario's cell of the fewest streams.
    Scaling {
        /// The cell.
        cell: Cell,
        /// That of the fewest streams.
        base: Cell,
    },
    /// In the Korean and English cells of one concurrency.
    Korean {
        /// Streams.
        concurrency: u32,
        /// The cells.
        cells: Vec<Cell>,
    },
}

impl Place {
    fn cells(&self) -> Vec<&Cell> {
        match self {
            Self::Cell(cell) => vec![cell],
            Self::Scaling { cell, base } => vec![cell, base],
            Self::Korean { cells, .. } => cells.iter().collect(),
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Cell(cell) | Self::Scaling { cell, .. } => place(cell),
            Self::Korean { concurrency: 1, .. } => String::new(),
            Self::Korean { concurrency, .. } => format!(" at {} streams", count((*concurrency).into())),
        }
    }

    /// The scenario in which more measuring would tell more.
    fn scenario(&self) -> Option<&str> {
        self.cells().first().map(|c| c.scenario.as_str())
    }
}

/// What is asked of one model's evidence.
#[derive(Debug, Clone)]
pub(super) struct Question<'a> {
    pub(super) role: TestRole,
    pub(super) figure: Figure,
    pub(super) of: &'a str,
    pub(super) against: &'a str,
    pub(super) at: Place,
    pub(super) bound: Bound,
}

/// What keeps a test from being decided.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Gap {
    /// Nobody plays a part.
    Role(Role),
    /// The plan has no scenario of this kind.
    Scenario(ScenarioKind),
    /// The scenario of this kind has one framework, or one concurrency, only: there is nothing to compare.
    OneOnly(ScenarioKind),
    /// A framework's cell has no figures.
    Missing(Absent),
    /// A flag makes the cell worthless for this figure.
    Void {
        /// The framework.
        framework: String,
        /// The cell.
        cell: String,
        /// The flag.
        kind: FlagKind,
    },
    /// Too few values.
    TooFew {
        /// Values.
        has: usize,
        /// What they are.
        unit: Unit,
        /// Where.
        scenario: String,
    },
    /// The difference is smaller than the client's own error.
    BelowClientError,
    /// The interval holds the threshold.
    Near {
        /// Values.
        has: usize,
        /// What they are.
        unit: Unit,
        /// Where.
        scenario: String,
        /// How many times as many values would do, if the effect and the spread stay as they are.
        factor: f64,
    },
}

/// A test's answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) test: VerdictTest,
    /// The outcome at the level that is corrected for the family.
    pub(super) strict: VerdictOutcome,
    /// How far the interval is from the threshold, as a difference of logarithms; `None` where it is not decided.
    pub(super) margin: Option<f64>,
    /// The answer in words.
    pub(super) sentence: String,
    pub(super) weaknesses: Vec<Weakness>,
    pub(super) gap: Option<Gap>,
}

/// The levels of a family of tests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Levels {
    /// Of the intervals that are shown, and of each test's outcome.
    pub(super) shown: f64,
    /// Corrected for the number of tests.
    pub(super) strict: f64,
}

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
    /// Answers a question for one model.
    pub(super) fn ask(&self, model: &str, question: &Question<'_>, levels: Levels) -> Answer {
        let q = question;
        let effect = match &q.at {
            Place::Cell(cell) => self.ratio(model, q.figure, q.of, q.against, cell),
            Place::Scaling { cell, base } => {
                let part = |power, framework, cell| Part {
                    power,
                    framework,
                    cell,
                };
                let parts = [
                    part(1.0, q.of, cell),
                    part(-1.0, q.of, base),
                    part(-1.0, q.against, cell),
                    part(1.0, q.against, base),
                ];
                self.product(model, q.figure, &parts)
            }
            Place::Korean { cells, .. } => self.korean(model, q.figure, q.of, Some(q.against), cells),
        };
        let (side, threshold) = side(q.bound);
        let cells = q.at.cells();
        let mut test = VerdictTest {
            what: format!("{}{}", noun(q.figure), q.at.words()),
            role: q.role,
            figure: q.figure.as_str().to_owned(),
            framework: q.of.to_owned(),
            against: q.against.to_owned(),
            effect: None,
            interval: None,
            threshold,
            side,
            outcome: VerdictOutcome::Inconclusive,
            why: None,
            says: String::new(),
            cells: cells.iter().map(|c| c.id.clone()).collect(),
        };
        let effect = match effect {
            Ok(effect) => effect,
            Err(absent) => {
                test.why = Some(absent.why.clone());
                return Answer {
                    sentence: absent.why.clone(),
                    test,
                    strict: VerdictOutcome::Inconclusive,
                    margin: None,
                    weaknesses: Vec::new(),
                    gap: Some(Gap::Missing(absent)),
                };
            }
        };
        let interval = effect.interval(levels.shown).filter(|_| effect.is_trusted());
        let strict = effect.interval(levels.strict).filter(|_| effect.is_trusted());
        test.effect = Some(effect.estimate);
        test.interval = interval;
        let (weaknesses, void) = self.weaknesses(model, q, &cells);
        let mut answer = Answer {
            sentence: String::new(),
            strict: VerdictOutcome::Inconclusive,
            margin: None,
            weaknesses,
            gap: None,
            test,
        };
        let said = self.said(model, q, &effect, interval.as_ref());
        let undecided = |answer: &mut Answer, why: String, gap: Gap| {
            answer.sentence = format!("{said}; {why}");
            answer.test.why = Some(why);
            answer.gap = Some(gap);
        };
        let scenario = q.at.scenario().unwrap_or_default().to_owned();
        if let Some((framework, cell, kind, text)) = void {
            let why = format!(
                "it does not count, since `{cell}` of {} is flagged {kind} ({text})",
                shown(&framework)
            );
            let gap = Gap::Void {
                framework,
                cell,
                kind,
            };
            undecided(&mut answer, why, gap);
            return answer;
        }
        let (Some(interval), Some(strict)) = (interval, strict) else {
            let why = format!(
                "{} {} can't tell: at least {COMPARED_VALUES} are needed",
                count(effect.values as u64),
                effect.unit.words(effect.values)
            );
            let gap = Gap::TooFew {
                has: effect.values,
                unit: effect.unit,
                scenario,
            };
            undecided(&mut answer, why, gap);
            return answer;
        };
        if let Some(error_ms) = self.below_client_error(model, q, &cells)
            && !matches!(q.bound, Bound::Within(_))
        {
            let why = format!(
                "the difference is smaller than the client's own error of {} ms",
                number(error_ms)
            );
            undecided(&mut answer, why, Gap::BelowClientError);
            return answer;
        }
        let outcome_shown = outcome(q.bound, &interval);
        answer.test.outcome = outcome_shown;
        answer.strict = outcome(q.bound, &strict);
        answer.sentence = format!("{said}{}", stands(q.bound, outcome_shown));
        if outcome_shown == VerdictOutcome::Inconclusive {
            answer.test.why = Some(stands(q.bound, outcome_shown).trim_start_matches("; ").to_owned());
            answer.gap = Some(Gap::Near {
                has: effect.values,
                unit: effect.unit,
                scenario,
                factor: factor(q.bound, effect.estimate, &interval),
            });
        } else {
            answer.margin = Some(margin(q.bound, &interval));
        }
        answer
    }

    /// What was seen, and how many requests failed where that counts.
    fn said(&self, model: &str, q: &Question<'_>, effect: &Effect, interval: Option<&Interval>) -> String {
        let mut said = seen(
            q.figure,
            shown(q.of),
            shown(q.against),
            &q.at.words(),
            effect.estimate,
            interval,
        );
        if matches!(q.figure, Figure::OutputTokensPerS | Figure::ScalingEfficiency) {
            for framework in [q.of, q.against] {
                let (mut failed, mut requests) = (0, 0);
                for cell in q.at.cells() {
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

    /// The flags that weaken a test, and the first that makes it worthless.
    #[expect(
        clippy::type_complexity,
        reason = "framework, cell, flag and its text, used once"
    )]
    fn weaknesses(
        &self,
        model: &str,
        q: &Question<'_>,
        cells: &[&Cell],
    ) -> (Vec<Weakness>, Option<(String, String, FlagKind, String)>) {
        let (mut weaknesses, mut void) = (Vec::new(), None);
        for framework in [q.of, q.against] {
            for cell in cells {
                for seen in self.strata(model, framework, &cell.id).values() {
                    for flag in &seen.cell.flags {
                        let weight = weight(flag.kind, q.figure);
                        if weight == Weight::Silent {
                            continue;
                        }
                        if weight == Weight::Void && void.is_none() {
                            void = Some((
                                framework.to_owned(),
                                cell.id.clone(),
                                flag.kind,
                                flag.seen.clone(),
                            ));
                        }
                        weaknesses.push(Weakness {
                            lane: seen.lane.lane.clone(),
                            cell: cell.id.clone(),
                            kind: flag.kind,
                            text: flag.seen.clone(),
                        });
                    }
                }
            }
        }
        (weaknesses, void)
    }

    /// The client's own error, where two times to the first token are nearer to each other than that in every stratum.
    fn below_client_error(&self, model: &str, q: &Question<'_>, cells: &[&Cell]) -> Option<f64> {
        if !matches!(
            q.figure,
            Figure::TtftMs | Figure::FirstTtftMs | Figure::LaterTtftMs
        ) {
            return None;
        }
        let cell = cells.first()?;
        let others = self.strata(model, q.against, &cell.id);
        let mut largest: Option<f64> = None;
        for (stratum, seen) in self.strata(model, q.of, &cell.id) {
            let Some(other) = others.get(stratum) else {
                continue;
            };
            let median = |cell: &super::super::CellSummary| {
                let prefix = cell.prefix_cache.as_ref();
                let distribution = match q.figure {
                    Figure::FirstTtftMs => prefix.and_then(|p| p.first_ttft_ms.as_ref()),
                    Figure::LaterTtftMs => prefix.and_then(|p| p.later_ttft_ms.as_ref()),
                    _ => cell.ttft_ms.as_ref(),
                };
                distribution.map(|d| d.p50)
            };
            let error = seen.client_error_ms?;
            if (median(seen.cell)? - median(other.cell)?).abs() >= error {
                return None;
            }
            largest = Some(largest.map_or(error, |l| l.max(error)));
        }
        largest
    }
}
