//! Sentences that every form of the report says alike: the answer in five of them, and one line a verdict.

use indexmap::{IndexMap, IndexSet};

use super::{
    names::Names,
    number::{count, megabytes, number},
    reference::{Candidate, References},
};
use benchd_analysis::{
    CellSummary, Difference, FrameworkComparison, LaneSummary, MachineStudy, RunSummary, ServedWeights,
    Verdict, VerdictOutcome, is_about_weights, shown_framework,
};
use benchd_core::{
    format::{brief, counted, list},
    record::{FlagKind, GpuProcess},
};

/// What an outcome is called.
pub fn outcome(outcome: VerdictOutcome) -> &'static str {
    match outcome {
        VerdictOutcome::Supported => "supported",
        VerdictOutcome::Refuted => "refuted",
        VerdictOutcome::Inconclusive => "inconclusive",
    }
}

/// What was compared and the answer, in a few sentences of plain text: who served what and where, what was not measured and
/// why, whose server died, what others on the GPU spoilt, in which numbers where that decides, what became of the
/// hypotheses, who is ahead under load, who with one request, and what was decided beforehand.
pub fn answer(machine: &MachineStudy) -> Vec<String> {
    let runs: Vec<&RunSummary> = machine.runs.iter().collect();
    answer_of(&machine.name, &runs, &machine.comparisons, &machine.verdicts)
}

/// Where the figures of a run's frameworks don't compare like with like by their weights, or where answers mean nothing.
pub(crate) fn doubts_of_weights(summary: &RunSummary) -> Vec<String> {
    let served = Served::of(&[summary]);
    served.random().into_iter().chain(served.unlike()).collect()
}

/// [`answer`] of one run.
pub fn answer_of_run(summary: &RunSummary) -> Vec<String> {
    let name = benchd_analysis::machine_name(summary);
    answer_of(&name, &[summary], &summary.comparisons, &summary.verdicts)
}

fn answer_of(
    machine: &str,
    runs: &[&RunSummary],
    comparisons: &[FrameworkComparison],
    verdicts: &[Verdict],
) -> Vec<String> {
    let references = references(runs);
    let served = Served::of(runs);
    let mut sentences = vec![compared(machine, runs)];
    sentences.extend(not_measured(runs));
    sentences.extend(deaths(runs));
    sentences.extend(not_alone(runs));
    sentences.extend(served.random());
    sentences.extend(served.unlike());
    sentences.extend(settings_differ(comparisons));
    sentences.extend(judged(verdicts));
    sentences.extend(under_load(comparisons, &references, &served));
    sentences.extend(one_request(comparisons, &references, &served));
    sentences.extend(beforehand(verdicts));
    sentences
}

fn lanes<'a>(runs: &[&'a RunSummary]) -> impl Iterator<Item = &'a LaneSummary> {
    runs.iter().flat_map(|run| &run.lanes)
}

/// The cells that stand for each model, by its name.
fn references<'a>(runs: &[&'a RunSummary]) -> IndexMap<&'a str, References<'a, &'a str>> {
    let mut models: IndexMap<&str, Vec<Candidate<'_, &str>>> = IndexMap::new();
    for lane in lanes(runs) {
        let of_model = models.entry(&lane.lane.model).or_default();
        of_model.extend(lane.cells.iter().map(Candidate::of));
    }
    let among = |(model, all): (_, Vec<_>)| (model, References::among(&all));
    models.into_iter().map(among).collect()
}

/// Who served what, as far as it was measured.
fn compared(machine: &str, runs: &[&RunSummary]) -> String {
    // A lane that was not reached knows no version; another of the same framework may.
    let mut versions: IndexMap<&str, Vec<&str>> = IndexMap::new();
    let mut models: IndexMap<&str, IndexSet<&str>> = IndexMap::new();
    let (mut requests, mut failed) = (0, 0);
    for lane in lanes(runs) {
        let known = versions.entry(&lane.lane.framework).or_default();
        if let Some(version) = lane.version.as_deref()
            && !known.contains(&version)
        {
            known.push(version);
        }
        if !lane.cells.is_empty() {
            models
                .entry(&lane.lane.model)
                .or_default()
                .insert(&lane.lane.framework);
        }
        for cell in &lane.cells {
            requests += cell.requests;
            failed += cell.failed;
        }
    }
    if models.is_empty() {
        return format!("Nothing was measured on {machine}.");
    }
    // Models that the same frameworks served are told together.
    let mut served: IndexMap<Vec<&str>, Vec<&str>> = IndexMap::new();
    for (model, frameworks) in &models {
        let by = served.entry(frameworks.iter().copied().collect()).or_default();
        by.push(model);
    }
    let versioned = |name: &&str| match versions.get(name).map(Vec::as_slice) {
        None | Some([]) => shown_framework(name).to_owned(),
        Some(known) => format!("{} {}", shown_framework(name), list(known)),
    };
    let served: Vec<String> = served
        .iter()
        .map(|(frameworks, models)| {
            let names: Vec<String> = frameworks.iter().map(versioned).collect();
            format!("{} served {}", list(&names), list(models))
        })
        .collect();
    let nights = match runs.len() {
        0 | 1 => String::new(),
        n => format!(" in {} runs", count(n as u64)),
    };
    let died = lanes(runs).any(|lane| !lane.deaths.is_empty());
    let failed = match failed {
        // Requests did fail where a server died, in cells of which nothing counts.
        0 if died => String::new(),
        0 => ", none failed".to_owned(),
        n => format!(", {} failed", count(n)),
    };
    let was = if requests == 1 { "was" } else { "were" };
    format!(
        "{} on {machine}{nights}; {} {was} measured{failed}.",
        list(&served),
        counted(requests, "request"),
    )
}

/// The frameworks that measured nothing of a model, and why.
fn not_measured(runs: &[&RunSummary]) -> Option<String> {
    let mut silent: IndexMap<(&str, &str), &LaneSummary> = IndexMap::new();
    for lane in lanes(runs) {
        let key = (lane.lane.framework.as_str(), lane.lane.model.as_str());
        let measured = lanes(runs).any(|other| {
            let same = (other.lane.framework.as_str(), other.lane.model.as_str()) == key;
            same && !other.cells.is_empty()
        });
        if !measured && lane.deaths.is_empty() {
            // The newest that says why.
            let newest = silent.entry(key).or_insert(lane);
            if lane.reason.is_some() {
                *newest = lane;
            }
        }
    }
    let said: Vec<String> = silent
        .iter()
        .map(|((framework, model), lane)| {
            let why = lane.reason.as_deref().map_or_else(|| lane.outcome.clone(), brief);
            format!("{} on {model} ({why})", shown_framework(framework))
        })
        .collect();
    (!said.is_empty()).then(|| format!("Not measured: {}.", list(&said)))
}

/// Whose server died, in which test, of what, and how much was measured all the same; `None` where none died.
pub fn deaths(runs: &[&RunSummary]) -> Option<String> {
    let mut told: Vec<String> = Vec::new();
    for lane in lanes(runs) {
        for died in &lane.deaths {
            let framework = shown_framework(&lane.lane.framework);
            let mut text = format!("{framework} died on {}", lane.lane.model);
            if let Some(cell) = &died.cell {
                text += &format!(" in test {cell}");
            }
            text += &match died.failed_requests {
                0 => String::new(),
                n => format!(" with {} broken", counted(n, "request")),
            };
            text += &format!(" ({}", died.cause);
            if let Some(line) = &died.log_line {
                text += &format!("; its log: {line}");
            }
            text += ")";
            let again = died
                .cell
                .as_ref()
                .is_some_and(|id| lane.cells.iter().any(|c| c.cell == *id));
            if again {
                text += ", and that test was measured again";
            }
            told.push(text);
        }
    }
    if told.is_empty() {
        return None;
    }
    let sum = |of: fn(&RunSummary) -> u64| runs.iter().map(|run| of(run)).sum::<u64>();
    Some(format!(
        "{}; {} of {} tests were measured.",
        told.join("; "),
        count(sum(|run| run.cells_measured)),
        count(sum(|run| run.cells_planned))
    ))
}

/// What other processes on the GPU spoilt, where they did.
fn not_alone(runs: &[&RunSummary]) -> Option<String> {
    let lanes = || lanes(runs);
    let again: u64 = lanes().map(|lane| u64::from(lane.measured_again)).sum();
    let is_spoilt = |cell: &&CellSummary| cell.flags.iter().any(|flag| flag.kind == FlagKind::StrangerOnGpu);
    let spoilt = lanes().flat_map(|lane| &lane.cells).filter(is_spoilt).count() as u64;
    if again + spoilt == 0 {
        return None;
    }
    let mut who: Vec<String> = Vec::new();
    for GpuProcess {
        pid,
        name,
        used_bytes,
        ..
    } in lanes()
        .flat_map(|lane| &lane.strangers)
        .map(|stranger| &stranger.process)
    {
        let name = name.as_deref().unwrap_or("not visible");
        let memory = used_bytes.map_or("memory not told".to_owned(), |bytes| {
            format!("{} MB", megabytes(bytes as f64))
        });
        let named = format!("pid {pid}, {name}, {memory}");
        if !who.contains(&named) {
            who.push(named);
        }
    }
    let who = match &who[..] {
        [] => String::new(),
        known => format!(" ({})", known.join("; ")),
    };
    let tests = |n: u64| {
        if n == 1 {
            "1 test was".to_owned()
        } else {
            format!("{} tests were", count(n))
        }
    };
    let mut parts = Vec::new();
    if again > 0 {
        parts.push(format!("{} measured again after it left", tests(again)));
    }
    if spoilt > 0 {
        let does = if spoilt == 1 { "does" } else { "do" };
        parts.push(format!(
            "{} measured beside it and {does} not count",
            tests(spoilt)
        ));
    }
    Some(format!(
        "Another process used the GPU{who}: {}.",
        parts.join(", ")
    ))
}

fn judged(verdicts: &[Verdict]) -> Option<String> {
    let of = |wanted| {
        let names: Vec<&str> = verdicts
            .iter()
            .filter(|v| v.outcome == wanted)
            .map(|v| v.hypothesis.as_str())
            .collect();
        (!names.is_empty())
            .then(|| format!("{} {}", list(&names), if names.len() == 1 { "is" } else { "are" }))
    };
    let parts: Vec<String> = [
        (VerdictOutcome::Supported, "supported"),
        (VerdictOutcome::Refuted, "refuted"),
        (VerdictOutcome::Inconclusive, "undecided"),
    ]
    .into_iter()
    .filter_map(|(wanted, word)| Some(format!("{} {word}", of(wanted)?)))
    .collect();
    match verdicts.len() {
        0 => None,
        1 => Some(format!("The plan's hypothesis {}.", parts.join(", "))),
        n => Some(format!(
            "Of the plan's {} hypotheses, {}.",
            count(n as u64),
            list(&parts)
        )),
    }
}

/// In which numbers the frameworks of some runs serve their models.
struct Served<'a> {
    names: Names,
    weights: IndexMap<&'a str, ServedWeights<'a>>,
}

impl<'a> Served<'a> {
    fn of(runs: &[&'a RunSummary]) -> Self {
        let lanes = || {
            runs.iter()
                .flat_map(|run| &run.lanes)
                .filter(|lane| !lane.cells.is_empty())
        };
        let mut weights = IndexMap::new();
        for lane in lanes() {
            let model = lane.lane.model.as_str();
            weights
                .entry(model)
                .or_insert_with(|| ServedWeights::of(lanes().filter(|l| l.lane.model == model)));
        }
        Self {
            names: Names::of(lanes()),
            weights,
        }
    }

    /// Which servers made their weights up.
    fn random(&self) -> Option<String> {
        let parts: Vec<String> = self
            .weights
            .iter()
            .filter(|(_, served)| !served.random.is_empty())
            .map(|(model, served)| {
                let names: Vec<&str> = served.random.iter().map(|name| shown_framework(name)).collect();
                format!("{} on {model}", list(&names))
            })
            .collect();
        (!parts.is_empty()).then(|| {
            format!(
                "Random weights in {}: answers mean nothing, speed only.",
                list(&parts)
            )
        })
    }

    /// Where figures of several frameworks don't compare like with like, by their weights.
    fn unlike(&self) -> Option<String> {
        let mut parts: IndexMap<String, Vec<&str>> = IndexMap::new();
        for (model, served) in &self.weights {
            if let Some(statement) = served.statement() {
                parts.entry(statement).or_default().push(model);
            }
        }
        let parts: Vec<String> = parts
            .iter()
            .map(|(statement, models)| format!("on {}, {statement}", list(models)))
            .collect();
        (!parts.is_empty()).then(|| {
            format!(
                "Not like with like: {}; part of any difference is theirs.",
                parts.join("; ")
            )
        })
    }
}

/// Where frameworks don't compare like with like by more than their weights.
fn settings_differ(comparisons: &[FrameworkComparison]) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    for comparison in comparisons {
        for why in comparison.unlike.iter().filter(|why| !is_about_weights(why)) {
            let part = format!("on {}, {why}", comparison.model);
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
    }
    (!parts.is_empty()).then(|| format!("Not like with like: {}.", parts.join("; ")))
}

/// Stands in a ranking of frameworks that don't compare like with like.
fn mark(comparisons: &[FrameworkComparison], model: &str) -> &'static str {
    let unlike = |c: &FrameworkComparison| c.model == model && !c.unlike.is_empty();
    if comparisons.iter().any(unlike) {
        " (not like with like)"
    } else {
        ""
    }
}

/// Each framework's value of a figure in one cell of a model, and the differences between them.
struct Standing<'a> {
    values: IndexMap<&'a str, f64>,
    differences: Vec<(&'a str, &'a str, &'a Difference)>,
}

impl<'a> Standing<'a> {
    fn of(comparisons: &'a [FrameworkComparison], model: &str, cell: &str, figure: &str) -> Self {
        let mut standing = Self {
            values: IndexMap::new(),
            differences: Vec::new(),
        };
        for comparison in comparisons.iter().filter(|c| c.model == model) {
            let found = comparison
                .cells
                .iter()
                .find(|c| c.cell == cell)
                .and_then(|c| c.figures.get(figure));
            if let Some(difference) = found {
                standing.values.insert(&comparison.baseline, difference.baseline);
                standing
                    .values
                    .insert(&comparison.framework, difference.framework);
                standing
                    .differences
                    .push((&comparison.baseline, &comparison.framework, difference));
            }
        }
        standing
    }

    /// Whether two are told apart; `None` where there are too few values to tell.
    fn differs(&self, a: &str, b: &str) -> Option<bool> {
        let of_both = self
            .differences
            .iter()
            .find(|(base, other, _)| (*base, *other) == (a, b) || (*base, *other) == (b, a));
        of_both.and_then(|(.., d)| d.differs)
    }

    /// The best first.
    fn ranked(&self, higher_is_better: bool) -> Vec<(&'a str, f64)> {
        let mut ranked: Vec<(&str, f64)> = self.values.iter().map(|(name, value)| (*name, *value)).collect();
        ranked.sort_by(|a, b| {
            if higher_is_better {
                b.1.total_cmp(&a.1)
            } else {
                a.1.total_cmp(&b.1)
            }
        });
        ranked
    }

    /// `SGLang 0.5.6 · bf16 3,120 tokens/s, vLLM 0.15.1 · bf16 2,800 (no certain difference) and Ollama 0.15.6 · Q4_K_M 310`.
    fn words(&self, higher_is_better: bool, unit: &str, name: impl Fn(&str) -> String) -> Option<String> {
        let ranked = self.ranked(higher_is_better);
        let ((first, best), others) = ranked.split_first()?;
        let mut said = vec![format!("{}: {} {unit}", name(first), number(*best))];
        said.extend(others.iter().map(|(other, value)| {
            let mark = match self.differs(first, other) {
                Some(true) => "",
                Some(false) => " (no certain difference)",
                None => " (too few values to be certain)",
            };
            format!("{}: {}{mark}", name(other), number(*value))
        }));
        Some(list(&said))
    }
}

/// The models of the comparisons, in order.
fn models(comparisons: &[FrameworkComparison]) -> Vec<&str> {
    let mut models: Vec<&str> = Vec::new();
    for comparison in comparisons {
        if !models.contains(&comparison.model.as_str()) {
            models.push(&comparison.model);
        }
    }
    models
}

fn under_load(
    comparisons: &[FrameworkComparison],
    references: &IndexMap<&str, References<'_, &str>>,
    served: &Served<'_>,
) -> Option<String> {
    let parts: Vec<String> = models(comparisons)
        .into_iter()
        .filter_map(|model| {
            let load = references.get(model)?.load?;
            let standing = Standing::of(comparisons, model, load.cell, "output_tokens_per_s");
            let words = standing.words(true, "tokens/s", |name| served.names.name(name, model))?;
            let streams = counted(load.concurrency.into(), "stream");
            Some(format!(
                "on {model} at {streams}{}, {words}",
                mark(comparisons, model)
            ))
        })
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "Output tokens per second under load, the best first: {}.",
            parts.join("; ")
        )
    })
}

fn one_request(
    comparisons: &[FrameworkComparison],
    references: &IndexMap<&str, References<'_, &str>>,
    served: &Served<'_>,
) -> Option<String> {
    let parts: Vec<String> = models(comparisons)
        .into_iter()
        .filter_map(|model| {
            let single = references.get(model)?.single?;
            let standing = Standing::of(comparisons, model, single.cell, "latency_ms");
            let words = standing.words(false, "ms", |name| served.names.name(name, model))?;
            let tokens = single.prompt_tokens.map_or_else(String::new, |n| {
                format!(" with prompts of {} tokens", count(n.into()))
            });
            Some(format!("on {model}{tokens}{}, {words}", mark(comparisons, model)))
        })
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "Latency of a single request, the best first: {}.",
            parts.join("; ")
        )
    })
}

/// Words from which on two statements on the set-up are about the same.
const SAME_WORDS: usize = 3;

fn beforehand(verdicts: &[Verdict]) -> Option<String> {
    let mut said: Vec<&str> = Vec::new();
    for text in verdicts
        .iter()
        .flat_map(|v| &v.models)
        .flat_map(|m| &m.decided_by_configuration)
    {
        // What is said of the weights stands further up.
        if !said.contains(&text.as_str()) && !is_about_weights(text) {
            said.push(text);
        }
    }
    // One model's statement may say less than another's of the same, or the same in another order.
    let begins = |text: &str| {
        text.split(' ')
            .take(SAME_WORDS)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let all = said.clone();
    let covers = |other: &str, text: &str| {
        begins(other) == begins(text) && text.split([' ', ',', ';']).all(|word| other.contains(word))
    };
    let said: Vec<&str> = all
        .iter()
        .enumerate()
        .filter(|(i, text)| {
            let mut others = all.iter().enumerate().filter(|(j, _)| j != i);
            !others.any(|(j, other)| covers(other, text) && (j < *i || !covers(text, other)))
        })
        .map(|(_, text)| *text)
        .collect();
    (!said.is_empty()).then(|| format!("Configuration differences: {}.", said.join("; ")))
}

/// One line a hypothesis, for a terminal: name, outcome, reason.
pub fn verdict_lines(verdicts: &[Verdict]) -> String {
    let widest = verdicts
        .iter()
        .map(|v| v.hypothesis.chars().count())
        .max()
        .unwrap_or(0);
    verdicts
        .iter()
        .map(|v| {
            let gap = " ".repeat(widest - v.hypothesis.chars().count());
            format!(
                "{}{gap}  {:<12}  {}\n",
                v.hypothesis,
                outcome(v.outcome),
                v.because
            )
        })
        .collect()
}
