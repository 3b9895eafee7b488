//! Whether the lanes answer right: what their answers to the questions are worth.

use std::fmt::Write as _;

use super::{
    super::{
        number::{NONE, count, number, percent},
        terminal::odd_answers,
    },
    Table, escape, framework, models,
};
use benchd_analysis::{Answers, LaneQuality, LaneSummary, RunSummary, shown_framework};

fn asked(summary: &RunSummary) -> impl Iterator<Item = (&LaneSummary, &LaneQuality)> {
    summary
        .lanes
        .iter()
        .filter_map(|lane| Some((lane, lane.quality.as_ref()?)))
}

/// What must be known before a speed is praised: lanes that answer nothing right, worse than another, or worse under load.
pub(super) fn warnings(summary: &RunSummary) -> String {
    let mut text = String::new();
    for (lane, quality) in asked(summary) {
        let name = shown_framework(&lane.lane.framework);
        let name = format!("{} on {}", escape(name), escape(&lane.lane.model));
        let right = |answers: &Answers| format!("{} of {}", count(answers.right), count(answers.asked));
        if quality.alone.is_nothing() {
            let _ = writeln!(
                text,
                "> **{name} answers next to nothing right** ({} questions): its speed says nothing of answers.\n",
                right(&quality.alone)
            );
        }
        if let Some(loaded) = &quality.loaded {
            let at = count(loaded.concurrency.into());
            if quality.is_worse_under_load() {
                let _ = writeln!(
                    text,
                    "> **{name} answers worse at {at} concurrent requests**: {} questions right, {} one at a time.\n",
                    right(loaded),
                    right(&quality.alone)
                );
            }
            if loaded.foreign > 0 {
                let _ = writeln!(
                    text,
                    "> **{name} mixes requests up at {at} concurrent**: {} answers hold another request's text.\n",
                    count(loaded.foreign)
                );
            }
        }
    }
    for pair in &summary.quality {
        let Some(worse) = pair
            .worse
            .as_ref()
            .filter(|worse| !is_nothing(summary, &pair.model, worse))
        else {
            continue;
        };
        let (better, by_worse, by_better) = if *worse == pair.one {
            (&pair.other, pair.only_one, pair.only_other)
        } else {
            (&pair.one, pair.only_other, pair.only_one)
        };
        let _ = writeln!(
            text,
            "> **{} answers worse than {} on {}**: of the questions that one of them alone answered right, {} against {}.\n",
            escape(shown_framework(worse)),
            escape(shown_framework(better)),
            escape(&pair.model),
            count(by_worse),
            count(by_better)
        );
    }
    text
}

/// Such a lane is named already, and worse than every other.
fn is_nothing(summary: &RunSummary, model: &str, framework: &str) -> bool {
    let of = |lane: &LaneSummary| lane.lane.model == model && lane.lane.framework == framework;
    asked(summary).any(|(lane, quality)| of(lane) && quality.alone.is_nothing())
}

pub(super) fn section(summary: &RunSummary) -> String {
    let mut tables = String::new();
    for model in models(summary) {
        let mut table = Table::new(["framework", ">concurrency", ">right", ">share", "by task", "odd"]);
        for (lane, quality) in asked(summary).filter(|(lane, _)| lane.lane.model == model) {
            for answers in std::iter::once(&quality.alone).chain(&quality.loaded) {
                table.row(row(lane, answers));
            }
        }
        if table.is_empty() {
            continue;
        }
        let _ = writeln!(tables, "### {}\n\n{table}", escape(model));
        let mut pairs = Table::new(["one", "the other", ">only the one right", ">only the other", ">p"]);
        for pair in summary.quality.iter().filter(|pair| pair.model == model) {
            pairs.row([
                escape(&pair.one),
                escape(&pair.other),
                count(pair.only_one),
                count(pair.only_other),
                number(pair.p),
            ]);
        }
        if !pairs.is_empty() {
            let _ = writeln!(tables, "{pairs}");
        }
    }
    if tables.is_empty() {
        return tables;
    }
    format!(
        "## Do they answer right?\n\nThe same questions with one checkable answer for every framework, at temperature 0, outside \
         of what is timed: one at a time, and with as many at a time as the tests have. They find a broken kernel, template or \
         quantisation, not which model is better. Share: with its 95 % interval (Wilson). Two frameworks are held against each \
         other on the questions that only one of them answered right (McNemar's exact test, Holm over all pairs).\n\n{tables}"
    )
}

fn row(lane: &LaneSummary, answers: &Answers) -> [String; 6] {
    let share = answers.interval.map_or(NONE.to_owned(), |i| {
        let of = answers.right as f64 / answers.asked.max(1) as f64;
        format!("{} [{}, {}]", percent(of), percent(i.low), percent(i.high))
    });
    let tasks: Vec<String> = answers
        .tasks
        .iter()
        .map(|(task, (right, asked))| format!("{task} {right}/{asked}"))
        .collect();
    let odd: Vec<String> = odd_answers(answers)
        .map(|(n, what)| format!("{} {what}", count(n)))
        .collect();
    [
        framework(&lane.lane),
        count(answers.concurrency.into()),
        format!("{} of {}", count(answers.right), count(answers.asked)),
        share,
        tasks.join(", "),
        if odd.is_empty() {
            NONE.to_owned()
        } else {
            odd.join(", ")
        },
    ]
}
