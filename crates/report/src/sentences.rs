//! Sentences that every form of the report says alike: the answer in five of them, and one line a verdict.

use indexmap::IndexMap;

use super::number::{count, megabytes, number};
use benchd_analysis::{
    CellComparison, CellSummary, Difference, FrameworkComparison, MachineStudy, RunSummary, Verdict,
    VerdictOutcome, shown_framework,
};
use benchd_core::record::{FlagKind, GpuProcess};
use benchd_plan::ScenarioKind;

/// What an outcome is called.
pub fn outcome(outcome: VerdictOutcome) -> &'static str {
    match outcome {
        VerdictOutcome::Supported => "supported",
        VerdictOutcome::Refuted => "refuted",
        VerdictOutcome::Inconclusive => "inconclusive",
    }
}

/// `a`, `a and b`, `a, b and c`; `nothing yet` of nothing.
pub fn list<T: AsRef<str>>(names: &[T]) -> String {
    match names {
        [] => "nothing yet".to_owned(),
        names => benchd_core::format::list(names),
    }
}

/// What was compared and the answer, in a few sentences of plain text: who served what and where, what others on the GPU
/// spoilt, what became of the hypotheses, who is ahead under load, who with one request, and what was decided beforehand.
pub fn answer(machine: &MachineStudy) -> Vec<String> {
    let runs: Vec<&RunSummary> = machine.runs.iter().collect();
    answer_of(&machine.name, &runs, &machine.comparisons, &machine.verdicts)
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
    let kinds = scenario_kinds(runs);
    let mut sentences = vec![compared(machine, runs)];
    sentences.extend(not_alone(runs));
    sentences.extend(judged(verdicts));
    sentences.extend(under_load(comparisons, &kinds));
    sentences.extend(one_request(comparisons, &kinds));
    sentences.extend(beforehand(verdicts));
    sentences
}

/// The kind of each scenario that was measured, by its name.
fn scenario_kinds<'a>(runs: &[&'a RunSummary]) -> IndexMap<&'a str, ScenarioKind> {
    runs.iter()
        .flat_map(|run| &run.lanes)
        .flat_map(|lane| &lane.cells)
        .map(|cell| (cell.scenario.as_str(), cell.kind))
        .collect()
}

fn compared(machine: &str, runs: &[&RunSummary]) -> String {
    // A lane that was not reached knows no version; another of the same framework may.
    let mut versions: IndexMap<&str, Vec<&str>> = IndexMap::new();
    let mut models: Vec<&str> = Vec::new();
    let (mut requests, mut failed) = (0, 0);
    for lane in runs.iter().flat_map(|run| &run.lanes) {
        let known = versions.entry(&lane.lane.framework).or_default();
        if let Some(version) = lane.version.as_deref()
            && !known.contains(&version)
        {
            known.push(version);
        }
        if !models.contains(&lane.lane.model.as_str()) {
            models.push(&lane.lane.model);
        }
        for cell in &lane.cells {
            requests += cell.requests;
            failed += cell.failed;
        }
    }
    let frameworks: Vec<String> = versions
        .iter()
        .map(|(name, known)| match known[..] {
            [] => shown_framework(name).to_owned(),
            _ => format!("{} {}", shown_framework(name), list(known)),
        })
        .collect();
    let nights = match runs.len() {
        0 | 1 => String::new(),
        n => format!(" in {} runs", count(n as u64)),
    };
    let failed = match failed {
        0 => "none failed".to_owned(),
        n => format!("{} failed", count(n)),
    };
    format!(
        "{} served {} on {machine}{nights}; {} requests were measured, {failed}.",
        list(&frameworks),
        list(&models),
        count(requests)
    )
}

/// What other processes on the GPU spoilt, where they did.
fn not_alone(runs: &[&RunSummary]) -> Option<String> {
    let lanes = || runs.iter().flat_map(|run| &run.lanes);
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

    /// `SGLang 3,120 tokens/s, vLLM 2,800 (no certain difference) and Ollama 310`.
    fn words(&self, higher_is_better: bool, unit: &str) -> Option<String> {
        let ranked = self.ranked(higher_is_better);
        let ((first, best), others) = ranked.split_first()?;
        let mut said = vec![format!("{} {} {unit}", shown_framework(first), number(*best))];
        said.extend(others.iter().map(|(name, value)| {
            let mark = match self.differs(first, name) {
                Some(true) => "",
                Some(false) => " (no certain difference)",
                None => " (too few values to be certain)",
            };
            format!("{} {}{mark}", shown_framework(name), number(*value))
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

/// The cells of a kind that a model's frameworks share.
fn cells_of<'a>(
    comparisons: &'a [FrameworkComparison],
    kinds: &IndexMap<&str, ScenarioKind>,
    model: &str,
    kind: ScenarioKind,
) -> Vec<&'a CellComparison> {
    comparisons
        .iter()
        .filter(|c| c.model == model)
        .flat_map(|c| &c.cells)
        .filter(|c| kinds.get(c.scenario.as_str()) == Some(&kind))
        .collect()
}

/// Streams of a cell by its name, `concurrent/c16`.
fn streams(cell: &str) -> Option<u32> {
    cell.split('/')
        .find_map(|part| part.strip_prefix('c')?.parse().ok())
}

/// Prompt tokens of a cell by its name, `single/in512`.
fn prompt_tokens(cell: &str) -> Option<u32> {
    cell.split('/')
        .find_map(|part| part.strip_prefix("in")?.parse().ok())
}

fn under_load(comparisons: &[FrameworkComparison], kinds: &IndexMap<&str, ScenarioKind>) -> Option<String> {
    let parts: Vec<String> = models(comparisons)
        .into_iter()
        .filter_map(|model| {
            let cell = cells_of(comparisons, kinds, model, ScenarioKind::Concurrent)
                .into_iter()
                .max_by_key(|c| streams(&c.cell))?;
            let standing = Standing::of(comparisons, model, &cell.cell, "output_tokens_per_s");
            let words = standing.words(true, "tokens/s")?;
            let streams =
                streams(&cell.cell).map_or_else(String::new, |n| format!(" at {} streams", count(n.into())));
            Some(format!("on {model}{streams}, {words}"))
        })
        .collect();
    (!parts.is_empty()).then(|| {
        format!(
            "Output tokens per second under load, the best first: {}.",
            parts.join("; ")
        )
    })
}

fn one_request(comparisons: &[FrameworkComparison], kinds: &IndexMap<&str, ScenarioKind>) -> Option<String> {
    let parts: Vec<String> = models(comparisons)
        .into_iter()
        .filter_map(|model| {
            let mut cells = cells_of(comparisons, kinds, model, ScenarioKind::Single);
            cells.sort_by_key(|c| prompt_tokens(&c.cell));
            cells.dedup_by(|a, b| a.cell == b.cell);
            let cell = cells.get(cells.len() / 2)?;
            let standing = Standing::of(comparisons, model, &cell.cell, "latency_ms");
            let words = standing.words(false, "ms")?;
            let tokens = prompt_tokens(&cell.cell).map_or_else(String::new, |n| {
                format!(" with prompts of {} tokens", count(n.into()))
            });
            Some(format!("on {model}{tokens}, {words}"))
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
        if !said.contains(&text.as_str()) {
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
    (!said.is_empty()).then(|| {
        format!(
            "Decided beforehand by how the servers are set up: {}.",
            said.join("; ")
        )
    })
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
