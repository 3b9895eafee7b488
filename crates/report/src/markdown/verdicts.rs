//! Verdicts: the table near the top, each in detail further down; and what the document expects beside what was seen.

use std::fmt::Write as _;

use super::{
    super::{names::Names, number::*, sentences},
    Table, escape,
};
use benchd_analysis::{
    Expectation, ModelVerdict, RunSummary, Seen, Side, TestRole, Verdict, VerdictOutcome, VerdictTest,
};

/// What was compared, and the answer.
pub(super) fn answer(summary: &RunSummary) -> String {
    let sentences: Vec<String> = sentences::answer_of_run(summary)
        .iter()
        .map(|s| format!("- {}\n", escape_but_code(s)))
        .collect();
    sentences.concat()
}

/// The verdict table.
pub(super) fn table(verdicts: &[Verdict]) -> String {
    if verdicts.is_empty() {
        return String::new();
    }
    format!(
        "## Verdicts\n\n{}\nComputed from thresholds that the plan states beforehand; each test stands under \
         [Hypotheses in detail](#hypotheses-in-detail).\n",
        rows(verdicts)
    )
}

/// One row a hypothesis.
pub(super) fn rows(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new(["hypothesis", "claim", "verdict", "why"]);
    for v in verdicts {
        table.row([
            escape(&v.hypothesis),
            escape(&v.claim),
            format!("**{}**", sentences::outcome(v.outcome)),
            escape_but_code(&v.because),
        ]);
    }
    table
}

/// Every test of every hypothesis.
pub(super) fn details(verdicts: &[Verdict], names: &Names) -> String {
    if verdicts.is_empty() {
        return String::new();
    }
    let mut text = "## Hypotheses in detail\n\n".to_owned();
    for v in verdicts {
        let _ = writeln!(
            text,
            "### {}: {}\n",
            escape(&v.hypothesis),
            sentences::outcome(v.outcome)
        );
        let korean = v
            .claim_ko
            .as_deref()
            .map(|ko| format!(" ({})", escape(ko)))
            .unwrap_or_default();
        let _ = writeln!(text, "{}{korean}.\n", escape(&v.claim));
        for model in &v.models {
            of_model(&mut text, model, names);
        }
    }
    text
}

fn of_model(text: &mut String, m: &ModelVerdict, names: &Names) {
    let _ = writeln!(
        text,
        "**{}: {}.** {}\n",
        escape(&m.model),
        sentences::outcome(m.outcome),
        escape_but_code(&m.because)
    );
    if !m.tests.is_empty() {
        let mut table = Table::new([
            "test",
            "of / against",
            "part",
            ">ratio",
            ">threshold",
            "says",
            "cells",
        ]);
        for t in &m.tests {
            table.row([
                escape(&t.what),
                format!(
                    "{} / {}",
                    escape(&names.name(&t.framework, &m.model)),
                    escape(&names.name(&t.against, &m.model))
                ),
                role(t.role).to_owned(),
                t.effect
                    .map_or(NONE.to_owned(), |e| with_interval(e, t.interval.as_ref())),
                threshold(t),
                says(t),
                cells(&t.cells),
            ]);
        }
        let _ = writeln!(text, "{table}");
    }
    let mut points = |head: &str, items: Vec<String>| {
        if !items.is_empty() {
            let _ = writeln!(text, "{head}\n");
            for item in items {
                let _ = writeln!(text, "- {item}");
            }
            text.push('\n');
        }
    };
    points(
        "Configuration differences:",
        m.decided_by_configuration
            .iter()
            .map(|c| escape_but_code(c))
            .collect(),
    );
    points(
        "Flags of the cells used, which make it weaker:",
        m.weakened_by
            .iter()
            .map(|w| {
                format!(
                    "`{}` of {}: {} ({})",
                    w.cell,
                    escape(&w.lane.to_string()),
                    w.kind,
                    escape(&w.text)
                )
            })
            .collect(),
    );
    points(
        "What would decide it:",
        m.to_decide.iter().map(|c| escape_but_code(c)).collect(),
    );
}

/// Most cells that are named one by one.
const CELLS_NAMED: usize = 2;

fn cells(cells: &[String]) -> String {
    match cells {
        [] => NONE.to_owned(),
        few if few.len() <= CELLS_NAMED => few
            .iter()
            .map(|c| format!("`{c}`"))
            .collect::<Vec<_>>()
            .join(", "),
        [first, .., last] => format!("`{first}` to `{last}` ({})", count(cells.len() as u64)),
        [one] => format!("`{one}`"),
    }
}

/// Escapes all but the code in a text of benchd's own.
fn escape_but_code(text: &str) -> String {
    if !text.matches('`').count().is_multiple_of(2) {
        return escape(text);
    }
    text.split('`')
        .enumerate()
        .map(|(n, part)| {
            if n % 2 == 1 {
                format!("`{part}`")
            } else {
                escape(part)
            }
        })
        .collect()
}

fn role(role: TestRole) -> &'static str {
    match role {
        TestRole::Deciding => "decides",
        TestRole::Supporting => "beside",
        TestRole::Control => "control",
        TestRole::LeftOut => "left out",
    }
}

fn threshold(t: &VerdictTest) -> String {
    let share = || chosen_percent(t.threshold - 1.0);
    match t.side {
        Side::AtLeast => format!("at least {}", chosen(t.threshold)),
        Side::AtMost => format!("at most {}", chosen(t.threshold)),
        Side::Away => format!("differs by {}", share()),
        Side::Within => format!("within {}", share()),
    }
}

fn says(t: &VerdictTest) -> String {
    let word = match t.outcome {
        VerdictOutcome::Supported => "yes",
        VerdictOutcome::Refuted => "no",
        VerdictOutcome::Inconclusive => "undecided",
    };
    match &t.why {
        Some(why) => format!("{word}: {}", escape_but_code(why)),
        None => word.to_owned(),
    }
}

/// What the document expects of a section (`5.1`; of all in `sections`), and what was seen.
pub(super) fn expectations(all: &[Expectation], section: &str) -> String {
    let mut table = Table::new(["expected by the document", "model", "seen", "figures"]);
    for e in all.iter().filter(|e| e.section == section) {
        table.row([
            format!("{} ({})", escape(&e.expected), escape(&e.expected_ko)),
            escape(&e.model),
            seen(e.outcome).to_owned(),
            escape_but_code(&e.seen),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    format!("Expected by the document ({section}), and seen:\n\n{table}\n")
}

fn seen(outcome: Seen) -> &'static str {
    match outcome {
        Seen::AsExpected => "as expected",
        Seen::Otherwise => "otherwise",
        Seen::Unclear => "unclear",
        Seen::NotMeasured => "not measured",
    }
}
