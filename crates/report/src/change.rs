//! A run against an older one, for people: `benchd compare` as aligned text and as Markdown. Both are made of the same
//! rows, so they say the same.

use std::fmt::Write as _;

use super::{
    number::{NONE, change, change_interval, count, number, time},
    table::{Table, escape},
    terminal::columns,
};
use benchd_analysis::{
    Better, CellChange, Change, ChangeOutcome, ComparedRun, FAILURES_P, FailureChange, RunComparison,
    RunSide, SameMachine,
};

/// Names for people, in the order of the figures.
const NAMES: [(&str, &str); 7] = [
    ("ttft_ms", "TTFT (ms)"),
    ("latency_ms", "latency (ms)"),
    ("tpot_ms", "TPOT (ms)"),
    ("output_tokens_per_s", "output tokens/s"),
    ("requests_per_s", "requests/s"),
    ("gpu_memory_peak_mb", "peak GPU memory (MB)"),
    ("gpu_energy_j_per_output_token", "J/output token"),
];

fn name(figure: &str) -> &str {
    match figure {
        "failures" => "failed requests",
        "missing" => "not measured",
        _ => NAMES
            .iter()
            .find(|(id, _)| *id == figure)
            .map_or(figure, |(_, name)| name),
    }
}

/// The outcome in a word: colour only repeats it.
fn word(outcome: ChangeOutcome) -> &'static str {
    match outcome {
        ChangeOutcome::NoChange => "no change",
        ChangeOutcome::Better => "better",
        ChangeOutcome::Worse => "worse",
        ChangeOutcome::Regression => "REGRESSION",
        ChangeOutcome::NotJudged => "not judged",
    }
}

/// One figure of a cell, in texts.
struct Row {
    figure: String,
    base: String,
    new: String,
    change: String,
    interval: String,
    outcome: ChangeOutcome,
}

fn rows(cell: &CellChange) -> Vec<Row> {
    let of = |(figure, c): (&String, &Change)| Row {
        figure: name(figure).to_owned(),
        base: number(c.base),
        new: number(c.new),
        change: change(c.change),
        interval: c.interval.as_ref().map_or(NONE.to_owned(), change_interval),
        outcome: c.outcome,
    };
    let mut rows: Vec<Row> = cell.figures.iter().map(of).collect();
    let f = &cell.failures;
    if f.base_failed + f.new_failed > 0 {
        rows.push(failures(f));
    }
    rows
}

fn failures(f: &FailureChange) -> Row {
    Row {
        figure: name("failures").to_owned(),
        base: format!("{} of {}", count(f.base_failed), count(f.base_requests)),
        new: format!("{} of {}", count(f.new_failed), count(f.new_requests)),
        change: NONE.to_owned(),
        interval: format!("p {}", number(f.p)),
        outcome: f.outcome,
    }
}

/// What stands under a cell's rows.
fn remarks(cell: &CellChange) -> Vec<String> {
    let mut out = Vec::new();
    if !cell.asked_differently.is_empty() {
        out.push(format!(
            "the runs ask something different here, nothing is judged: {}",
            cell.asked_differently.join("; ")
        ));
    }
    if !cell.new_flags.is_empty() {
        let flags: Vec<&str> = cell.new_flags.iter().map(|f| f.as_str()).collect();
        out.push(format!("flagged in the new run only: {}", flags.join(", ")));
    }
    out
}

/// What has to be known before any figure is read.
fn warnings(c: &RunComparison) -> Vec<String> {
    let mut out = Vec::new();
    match c.same_machine {
        SameMachine::Yes => {}
        SameMachine::AnotherUnit => out.push("another unit of the same kind of machine".to_owned()),
        SameMachine::No => out.push("not the same machine".to_owned()),
        SameMachine::NotKnown => out.push("whether it is the same machine is not known".to_owned()),
    }
    for (name, run) in [("base", &c.base), ("new", &c.new)] {
        if run.partial {
            out.push(match run.outcome.as_str() {
                "finished" => format!("the {name} run is over, and some of its cells are not measured"),
                outcome => format!("the {name} run is partial ({outcome})"),
            });
        }
    }
    out
}

fn run_line(run: &ComparedRun) -> String {
    format!(
        "{}, begun {}; {}",
        run.run_id,
        time(run.started_unix_us),
        run.machine
    )
}

fn one_sided(c: &RunComparison) -> Vec<[String; 4]> {
    c.one_sided
        .iter()
        .map(|o| {
            let side = match o.measured_in {
                RunSide::Base => "only in base",
                RunSide::New => "only in new",
            };
            [
                format!("{}/{}", o.framework, o.model),
                o.cell.clone(),
                side.to_owned(),
                // The whole reason stands in that run's own report.
                o.why.lines().next().unwrap_or_default().to_owned(),
            ]
        })
        .collect()
}

/// The last lines: what it comes to.
fn summary(c: &RunComparison) -> Vec<String> {
    let outcomes = || {
        c.cells.iter().flat_map(|cell| {
            let f = &cell.failures;
            let failed = (f.base_failed + f.new_failed > 0).then_some(f.outcome);
            cell.figures.values().map(|f| f.outcome).chain(failed)
        })
    };
    let n = |outcome| outcomes().filter(|o| *o == outcome).count() as u64;
    let mut out = vec![format!(
        "{} cells, {} figures: {} better, {} worse, {} no change, {} not judged.",
        count(c.cells.len() as u64),
        count(outcomes().count() as u64),
        count(n(ChangeOutcome::Better)),
        count(n(ChangeOutcome::Worse) + n(ChangeOutcome::Regression)),
        count(n(ChangeOutcome::NoChange)),
        count(n(ChangeOutcome::NotJudged)),
    )];
    let Some(threshold) = c.threshold else {
        return out;
    };
    let limit = number(threshold * 100.0);
    if c.regressions.is_empty() {
        out.push(format!(
            "No regression: nothing is certainly worse by more than {limit} %."
        ));
    } else {
        out.push(format!(
            "{} beyond {limit} %:",
            match c.regressions.len() {
                1 => "One regression".to_owned(),
                n => format!("{} regressions", count(n as u64)),
            }
        ));
        for r in &c.regressions {
            let by = r.change.map(|by| format!(" {}", change(by))).unwrap_or_default();
            out.push(format!(
                "  {}/{} {}: {}{by}",
                r.framework,
                r.model,
                r.cell,
                name(&r.figure)
            ));
        }
    }
    out
}

/// How to read it.
fn legend() -> String {
    format!(
        "Change is new over base, less 1, with its 95 % interval; paired by prompt where both runs sent the same texts. \
         Worse or better: the interval leaves 0 out. A regression is certainly worse and by more than the threshold; so \
         are failures where there were none (or more, p < {FAILURES_P}) and cells that were to be measured and were not. \
         Not judged: too few values for an interval (a rate needs five passes, memory and energy five rounds). Of twenty \
         true equalities one still looks like a change, and intervals know nothing of what differs from night to night."
    )
}

/// The comparison as aligned text; with colour where a terminal shows it.
pub fn change_text(c: &RunComparison, colour: bool) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "base  {}\nnew   {}", run_line(&c.base), run_line(&c.new));
    for warning in warnings(c) {
        let _ = writeln!(out, "{}", paint(&format!("note  {warning}"), "33", colour));
    }
    if !c.differs.is_empty() {
        out.push_str("\nDiffers beside the figures (base against new):\n");
        for text in &c.differs {
            let _ = writeln!(out, "  {text}");
        }
    }
    let head = ["cell", "figure", "base", "new", "change", "95 % interval", ""];
    let texts = |cell: &CellChange| -> Vec<[String; 7]> {
        let row = |(i, r): (usize, Row)| {
            let cell = if i == 0 { cell.cell.clone() } else { String::new() };
            let word = word(r.outcome).to_owned();
            [cell, r.figure, r.base, r.new, r.change, r.interval, word]
        };
        rows(cell).into_iter().enumerate().map(row).collect()
    };
    let all = std::iter::once(head.map(str::to_owned)).chain(c.cells.iter().flat_map(texts));
    let table = columns(all, |column| (2..6).contains(&column));
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    let mut lane = None;
    for cell in &c.cells {
        let of = (&cell.framework, &cell.model);
        if lane != Some(of) {
            let _ = writeln!(out, "\n{}/{}\n  {head}", cell.framework, cell.model);
            lane = Some(of);
        }
        for (r, line) in rows(cell).into_iter().zip(&mut lines) {
            let code = match r.outcome {
                ChangeOutcome::Regression => "31",
                ChangeOutcome::Worse => "33",
                ChangeOutcome::Better => "32",
                ChangeOutcome::NoChange | ChangeOutcome::NotJudged => "",
            };
            let word = word(r.outcome);
            let figures = line.strip_suffix(word).unwrap_or(line);
            let _ = writeln!(out, "  {figures}{}", paint(word, code, colour));
        }
        for remark in remarks(cell) {
            let _ = writeln!(out, "  {remark}");
        }
    }
    let one_sided = one_sided(c);
    if !one_sided.is_empty() {
        out.push_str("\nMeasured on one side only:\n");
        for [lane, cell, side, why] in one_sided {
            let _ = writeln!(out, "  {lane} {cell}: {side}; the other: {why}");
        }
    }
    out.push('\n');
    for (i, text) in summary(c).into_iter().enumerate() {
        let code = match (i, c.regressions.is_empty()) {
            (0, _) => "",
            (_, true) => "32",
            (_, false) => "31",
        };
        let _ = writeln!(out, "{}", paint(&text, code, colour));
    }
    out.push('\n');
    let mut width = 0;
    for word in legend().split_whitespace() {
        if width > 0 && width + 1 + word.len() > TEXT_WIDTH {
            out.push('\n');
            width = 0;
        } else if width > 0 {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += word.len();
    }
    out.push('\n');
    out
}

/// Width of running text on a terminal.
const TEXT_WIDTH: usize = 100;

fn paint(text: &str, code: &str, colour: bool) -> String {
    if colour && !code.is_empty() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// The comparison as Markdown.
pub fn change_md(c: &RunComparison) -> String {
    let mut out = String::from("# benchd compare\n\n");
    let mut runs = Table::new(["", "run", "begun", "plan", "machine", "benchd"]);
    for (name, run) in [("base", &c.base), ("new", &c.new)] {
        runs.row([
            name.to_owned(),
            format!("`{}`", escape(&run.run_id)),
            time(run.started_unix_us),
            escape(&run.plan),
            escape(&run.machine),
            escape(&run.benchd_version),
        ]);
    }
    let _ = writeln!(out, "{runs}");
    for warning in warnings(c) {
        let _ = writeln!(out, "> **Note:** {}.\n", escape(&warning));
    }
    for (i, text) in summary(c).into_iter().enumerate() {
        match text.strip_prefix("  ") {
            Some(regression) => {
                let _ = writeln!(out, "- {}", escape(regression));
            }
            None if i == 0 => {
                let _ = writeln!(out, "{text}\n");
            }
            None => {
                let _ = writeln!(out, "**{text}**\n");
            }
        }
    }
    if !c.regressions.is_empty() {
        out.push('\n');
    }
    if !c.differs.is_empty() {
        out.push_str("## What differs beside the figures\n\nBase against new:\n\n");
        for text in &c.differs {
            let _ = writeln!(out, "- {}", escape(text));
        }
        out.push('\n');
    }
    let mut at = 0;
    while let Some(first) = c.cells.get(at) {
        let same = |o: &&CellChange| (&o.framework, &o.model) == (&first.framework, &first.model);
        let lane: Vec<&CellChange> = c.cells[at..].iter().take_while(same).collect();
        at += lane.len();
        let mut table = Table::new([
            "cell",
            "figure",
            ">base",
            ">new",
            ">change",
            ">95 % interval",
            "outcome",
        ]);
        let mut notes = String::new();
        for cell in lane {
            for (i, r) in rows(cell).into_iter().enumerate() {
                let outcome = match r.outcome {
                    ChangeOutcome::Regression => "**REGRESSION**".to_owned(),
                    other => word(other).to_owned(),
                };
                table.row([
                    if i == 0 {
                        format!("`{}`", escape(&cell.cell))
                    } else {
                        String::new()
                    },
                    r.figure,
                    r.base,
                    r.new,
                    r.change,
                    r.interval,
                    outcome,
                ]);
            }
            for remark in remarks(cell) {
                let _ = writeln!(notes, "- `{}`: {}", escape(&cell.cell), escape(&remark));
            }
        }
        let _ = writeln!(
            out,
            "## {} / {}\n\n{table}",
            escape(&first.framework),
            escape(&first.model)
        );
        if !notes.is_empty() {
            let _ = writeln!(out, "{notes}");
        }
    }
    let one_sided = one_sided(c);
    if !one_sided.is_empty() {
        let mut table = Table::new(["lane", "cell", "measured", "why not in the other"]);
        for [lane, cell, side, why] in one_sided {
            table.row([escape(&lane), format!("`{}`", escape(&cell)), side, escape(&why)]);
        }
        let _ = writeln!(out, "## Measured on one side only\n\n{table}");
    }
    let lower: Vec<&str> = better(c, Better::Lower);
    let higher: Vec<&str> = better(c, Better::Higher);
    for (way, names) in [("Less", lower), ("More", higher)] {
        if !names.is_empty() {
            let _ = writeln!(out, "{way} is better: {}.", names.join(", "));
        }
    }
    let _ = writeln!(out, "\n{}", legend());
    out
}

/// The figures of which less (or more) is better.
fn better(c: &RunComparison, way: Better) -> Vec<&'static str> {
    let has = |id: &str| {
        let mut cells = c.cells.iter();
        cells.any(|cell| cell.figures.get(id).is_some_and(|f| f.better == way))
    };
    NAMES
        .iter()
        .filter(|(id, _)| has(id))
        .map(|(_, name)| *name)
        .collect()
}
