//! Effects: ratios with intervals at any level, from the values that are independent.
//!
//! One request at a time: the same prompt under both frameworks is a pair, and the pairs are the sample; where there
//! are none, the requests are. Several
//! streams share batches and queues, so there a pass is one value: requests of one pass are not independent. Five strata
//! (rounds, nights) or more are themselves the sample, since each has servers of its own. The Korean scenario's sample
//! are its prompts: what is claimed is of a language, not of eight texts.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        compare::{COMPARED_VALUES, prompt_ratios},
        distribution::SEED,
        measured::{MeasuredCell, Strata, Stratum},
        samples::RequestFigure,
    },
    evidence::{Absent, Evidence},
    roles::shown,
};
use benchd_core::stats::{Interval, LogContrast, Sorted, Term, stratified_median_interval};
use benchd_plan::{Cell, CellInput, Figure, Language, PromptType};

/// What an effect's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Passes,
    /// Requests, one after another.
    Requests,
    /// Rounds of the plan, or nights.
    Rounds,
    /// Requests that answer the same prompt.
    Pairs,
    /// Prompt types of the Korean scenario.
    PromptTypes,
}

impl Unit {
    pub(super) fn words(self, n: usize) -> &'static str {
        match (self, n) {
            (Self::Passes, 1) => "pass",
            (Self::Passes, _) => "passes",
            (Self::Requests, 1) => "request",
            (Self::Requests, _) => "requests",
            (Self::Rounds, 1) => "round",
            (Self::Rounds, _) => "rounds",
            (Self::Pairs, 1) => "pair of requests",
            (Self::Pairs, _) => "pairs of requests",
            (Self::PromptTypes, 1) => "prompt type",
            (Self::PromptTypes, _) => "prompt types",
        }
    }
}

#[derive(Debug, Clone)]
enum Source {
    Contrast(LogContrast),
    /// Ratios of the same prompt, by stratum.
    Pairs(Vec<Sorted>),
}

#[derive(Debug, Clone)]
pub(super) struct Effect {
    pub(super) estimate: f64,
    /// Values of its smallest sample.
    pub(super) values: usize,
    pub(super) unit: Unit,
    source: Source,
}

impl Effect {
    /// The interval at a level; `None` where there are too few values for any.
    pub(super) fn interval(&self, level: f64) -> Option<Interval> {
        match &self.source {
            Source::Contrast(contrast) => contrast.interval(level),
            Source::Pairs(strata) => stratified_median_interval(strata, SEED, level)?.1,
        }
    }

    /// Whether there are enough values to tell anything.
    pub(super) fn is_trusted(&self) -> bool {
        self.values >= COMPARED_VALUES
    }

    fn contrast(contrast: LogContrast, values: usize, unit: Unit) -> Self {
        Self {
            estimate: contrast.estimate(),
            values,
            unit,
            source: Source::Contrast(contrast),
        }
    }
}

/// One cell of one framework in a ratio: above the line or below it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) power: f64,
    pub(super) framework: &'a str,
    pub(super) cell: &'a Cell,
}

impl<'a> Part<'a> {
    pub(super) fn new(power: f64, framework: &'a str, cell: &'a Cell) -> Self {
        Self {
            power,
            framework,
            cell,
        }
    }
}

impl Evidence<'_> {
    /// A figure of one framework over the same of another in one cell.
    pub(super) fn ratio(
        &self,
        model: &str,
        figure: Figure,
        of: &str,
        against: &str,
        cell: &Cell,
    ) -> Result<Effect, Absent> {
        if cell.concurrency == 1
            && let Some(request) = of_request(figure)
            && let Some(paired) = self.paired(model, request, of, against, cell)
        {
            return Ok(paired);
        }
        let parts = [Part::new(1.0, of, cell), Part::new(-1.0, against, cell)];
        self.product(model, figure, &parts)
    }

    /// A product of powers of a figure's means.
    pub(super) fn product(&self, model: &str, figure: Figure, parts: &[Part<'_>]) -> Result<Effect, Absent> {
        let absent = |part: &Part<'_>, why: String| Absent {
            framework: part.framework.to_owned(),
            cell: part.cell.id.clone(),
            why,
            failed: false,
        };
        let mut common: Option<BTreeSet<Stratum>> = None;
        for part in parts {
            let strata = self.strata(model, part.framework, &part.cell.id);
            if strata.is_empty() {
                return Err(self.absent(model, part.framework, part.cell));
            }
            let own: BTreeSet<Stratum> = strata.keys().copied().collect();
            common = Some(match common {
                None => own,
                Some(others) => others.intersection(&own).copied().collect(),
            });
        }
        let common = common.unwrap_or_default();
        let mut strata: Vec<Vec<Term>> = Vec::new();
        let mut without: Option<Absent> = None;
        'strata: for stratum in &common {
            let mut terms = Vec::with_capacity(parts.len());
            for part in parts {
                let seen = &self.strata(model, part.framework, &part.cell.id)[stratum];
                match values(seen, figure) {
                    Ok(values) => terms.push(Term {
                        power: part.power,
                        values,
                    }),
                    Err(why) => {
                        let why = format!(
                            "{} has no {figure} for `{}` ({why})",
                            shown(part.framework),
                            part.cell.id
                        );
                        without = Some(absent(part, why));
                        continue 'strata;
                    }
                }
            }
            strata.push(terms);
        }
        if strata.is_empty() {
            return Err(without.unwrap_or_else(|| {
                let part = parts
                    .first()
                    .map_or(("", ""), |p| (p.framework, p.cell.id.as_str()));
                Absent {
                    framework: part.0.to_owned(),
                    cell: part.1.to_owned(),
                    why: format!("no round measured `{}` under both frameworks", part.1),
                    failed: false,
                }
            }));
        }
        let fewest = strata.iter().flatten().map(|t| t.values.len()).min().unwrap_or(0);
        let (contrast, values, unit) = if strata.len() >= COMPARED_VALUES {
            (LogContrast::between(&strata), strata.len(), Unit::Rounds)
        } else {
            let alone = of_request(figure).is_some() && parts.iter().all(|p| p.cell.concurrency == 1);
            let unit = if alone { Unit::Requests } else { Unit::Passes };
            (LogContrast::within(&strata), fewest, unit)
        };
        contrast
            .map(|c| Effect::contrast(c, values, unit))
            .ok_or_else(|| Absent {
                framework: parts.first().map_or("", |p| p.framework).to_owned(),
                cell: parts.first().map_or("", |p| &p.cell.id).to_owned(),
                why: format!("a value of {figure} is 0: it has no ratio"),
                failed: false,
            })
    }

    /// The same prompts under both frameworks; `None` where they are not the same, or too few.
    fn paired(
        &self,
        model: &str,
        figure: RequestFigure,
        of: &str,
        against: &str,
        cell: &Cell,
    ) -> Option<Effect> {
        let (of, against) = (
            self.strata(model, of, &cell.id),
            self.strata(model, against, &cell.id),
        );
        let strata: Vec<Sorted> = of
            .iter()
            .filter_map(|(stratum, of)| Some((of, against.get(stratum)?)))
            .map(|(of, against)| Sorted::new(prompt_ratios(against.samples, of.samples, figure)))
            .collect::<Option<_>>()?;
        let fewest = strata.iter().map(Sorted::len).min()?;
        if fewest < COMPARED_VALUES {
            return None;
        }
        if strata.len() >= COMPARED_VALUES {
            let terms: Vec<Vec<Term>> = strata
                .iter()
                .map(|s| {
                    vec![Term {
                        power: 1.0,
                        values: vec![s.median()],
                    }]
                })
                .collect();
            let contrast = LogContrast::between(&terms)?;
            return Some(Effect::contrast(contrast, strata.len(), Unit::Rounds));
        }
        let (estimate, _) = stratified_median_interval(&strata, SEED, benchd_core::stats::DEFAULT_LEVEL)?;
        Some(Effect {
            estimate,
            values: fewest,
            unit: Unit::Pairs,
            source: Source::Pairs(strata),
        })
    }

    /// Korean over English of one framework (`against` is `None`), or that over the same of another. The prompts of the
    /// same meaning are the sample.
    pub(super) fn korean(
        &self,
        model: &str,
        figure: Figure,
        of: &str,
        against: Option<&str>,
        cells: &[Cell],
    ) -> Result<Effect, Absent> {
        let name = figure.as_str().trim_start_matches("ko_over_en_");
        let mut pairs: BTreeMap<&'static str, (Option<&Cell>, Option<&Cell>)> = BTreeMap::new();
        for cell in cells {
            if let CellInput::Written {
                prompt_type,
                language,
            } = cell.input
            {
                let pair = pairs.entry(PromptType::as_str(prompt_type)).or_default();
                match language {
                    Language::Ko => pair.0 = Some(cell),
                    Language::En => pair.1 = Some(cell),
                }
            }
        }
        let frameworks: Vec<(f64, &str)> = [(1.0, Some(of)), (-1.0, against)]
            .into_iter()
            .filter_map(|(power, f)| Some((power, f?)))
            .collect();
        let (mut values, mut without) = (Vec::new(), None);
        for (ko, en) in pairs.into_values().filter_map(|(ko, en)| Some((ko?, en?))) {
            let mut by_stratum: Vec<f64> = Vec::new();
            for stratum in self.strata(model, of, &ko.id).keys() {
                let logs: Option<f64> = frameworks
                    .iter()
                    .map(|(power, framework)| {
                        let median = |cell: &Cell| {
                            let strata: &Strata<'_> = self.strata(model, framework, &cell.id);
                            strata
                                .get(stratum)?
                                .samples
                                .written
                                .median(name)
                                .filter(|m| *m > 0.0)
                        };
                        Some(power * (median(ko)? / median(en)?).ln())
                    })
                    .sum();
                by_stratum.extend(logs);
            }
            if by_stratum.is_empty() {
                without = without.or_else(|| self.first_absent(model, &frameworks, [ko, en], figure));
            } else {
                values.push((by_stratum.iter().sum::<f64>() / by_stratum.len() as f64).exp());
            }
        }
        let count = values.len();
        let terms = [vec![Term { power: 1.0, values }]];
        LogContrast::within(&terms)
            .filter(|_| count > 0)
            .map(|c| Effect::contrast(c, count, Unit::PromptTypes))
            .ok_or_else(|| {
                without.unwrap_or_else(|| Absent {
                    framework: of.to_owned(),
                    cell: cells.first().map_or("", |c| &c.id).to_owned(),
                    why: "the plan has no prompt in both languages".to_owned(),
                    failed: false,
                })
            })
    }

    fn first_absent(
        &self,
        model: &str,
        frameworks: &[(f64, &str)],
        cells: [&Cell; 2],
        figure: Figure,
    ) -> Option<Absent> {
        for (_, framework) in frameworks {
            for cell in cells {
                if self.strata(model, framework, &cell.id).is_empty() {
                    return Some(self.absent(model, framework, cell));
                }
            }
        }
        let (_, framework) = frameworks.first()?;
        Some(Absent {
            framework: (*framework).to_owned(),
            cell: cells[0].id.clone(),
            why: format!("`{}` has no {figure}", cells[0].id),
            failed: false,
        })
    }
}

/// A figure of single requests; `None` where it is one of passes.
fn of_request(figure: Figure) -> Option<RequestFigure> {
    match figure {
        Figure::TtftMs => Some(|r| r.ttft_ms),
        Figure::LatencyMs => Some(|r| r.latency_ms),
        Figure::TpotMs => Some(|r| r.tpot_ms),
        Figure::TokensPerS => Some(|r| r.tokens_per_s),
        Figure::LaterTtftMs => Some(|r| if r.first_of_pass { f64::NAN } else { r.ttft_ms }),
        _ => None,
    }
}

/// The independent values of a figure in a cell: one a request where they come one after another, else one a pass.
fn values(seen: &MeasuredCell<'_>, figure: Figure) -> Result<Vec<f64>, &'static str> {
    let samples = seen.samples;
    let given = |values: &[f64], why| {
        if values.is_empty() {
            Err(why)
        } else {
            Ok(values.to_vec())
        }
    };
    match figure {
        Figure::OutputTokensPerS | Figure::ScalingEfficiency => rates(seen),
        Figure::FirstTtftMs => given(&samples.first_ttft_ms, "no first request succeeded"),
        Figure::LaterOverFirst => given(
            &samples.later_over_first,
            "no pass has a first and later requests",
        ),
        figure => {
            let value = of_request(figure).ok_or("it has no value by pass")?;
            if seen.cell.concurrency == 1 {
                let all: Vec<f64> = samples
                    .requests
                    .iter()
                    .map(value)
                    .filter(|v| v.is_finite())
                    .collect();
                return given(&all, "no request gave one");
            }
            let mut passes: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
            for r in &samples.requests {
                passes.entry(r.pass).or_default().push(value(r));
            }
            let medians: Vec<f64> = passes
                .into_values()
                .filter_map(|values| Some(Sorted::new(values)?.median()))
                .collect();
            given(&medians, "no request gave one")
        }
    }
}

/// Output tokens per second by pass. A pass without any counts as one token: what failed is slow, not absent, and a
/// ratio needs something to divide by.
fn rates(seen: &MeasuredCell<'_>) -> Result<Vec<f64>, &'static str> {
    let cell = seen.cell;
    let longest_s = cell.passes_s.iter().copied().fold(0.0, f64::max);
    let all_failed = cell.requests > 0 && cell.failed == cell.requests;
    let passes = &seen.samples.output_tokens_per_s;
    if longest_s <= 0.0 {
        return Err("its passes have no duration");
    }
    let least = 1.0 / longest_s;
    if passes.is_empty() {
        return if all_failed {
            Ok(vec![least; cell.passes_s.len()])
        } else {
            Err("the server sends no token counts")
        };
    }
    Ok(passes.iter().map(|rate| rate.max(least)).collect())
}
