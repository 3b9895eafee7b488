//! `report.md`.

mod agreement;
mod compared;
mod cross_check;
mod environment;
mod fairness;
mod flags;
pub(super) mod headline;
mod korean;
mod lanes;
mod method;
mod operations;
mod points;
mod quality;
mod scenarios;
mod study;
mod verdicts;

use std::fmt::Write as _;

pub(super) use study::{Link, study_md, study_sections};

use super::{
    names::Names,
    number::{count, duration, time},
    table::{Table, code_block, escape},
};
use benchd_analysis::{LaneSummary, RunSummary};
use benchd_core::record::LaneId;
use benchd_plan::{Plan, ScenarioKind};

/// What a part of the report is about. The page lays the same parts out, and puts its figures into them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Which run it is, what was compared.
    Title,
    /// What became of the hypotheses.
    Verdicts,
    /// Every test of every hypothesis.
    Tests,
    /// The comparison at a glance.
    Glance,
    /// One scenario.
    Scenario(ScenarioKind),
    /// How the servers came and went.
    Operations,
    /// Anything that needs nothing of its own.
    Text,
}

/// A part of the report, in Markdown, its heading included. All texts from outside are escaped in it.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) about: About,
    pub(super) text: String,
}

/// The parts of a run's report, in their order. `plan` is the run's own (its frozen copy).
pub(super) fn sections(summary: &RunSummary, plan: &Plan) -> Vec<Section> {
    let mut all = vec![
        (About::Title, title(summary)),
        (About::Verdicts, verdicts::table(&summary.verdicts)),
        (About::Glance, headline::section(summary)),
    ];
    let scenarios = scenarios::sections(summary, plan).into_iter();
    all.extend(scenarios.map(|(kind, text)| (About::Scenario(kind), text)));
    all.extend([
        (About::Text, rankings(summary)),
        (
            About::Tests,
            verdicts::details(&summary.verdicts, &Names::of(&summary.lanes)),
        ),
        (About::Text, quality::section(summary)),
        (About::Text, agreement::section(summary)),
        (About::Text, lanes::rounds(summary)),
        (About::Operations, operations::section(summary)),
        (About::Text, environment::section(summary, plan)),
        (About::Text, cross_check::section(summary)),
        (About::Text, lanes::drift(summary)),
        (About::Text, flags::section(summary)),
        (About::Text, failures(summary)),
        (About::Text, method::section(summary, plan)),
    ]);
    let parts = all.into_iter().filter(|(_, text)| !text.trim().is_empty());
    parts.map(|(about, text)| Section { about, text }).collect()
}

/// The whole report of a run.
pub fn report_md(summary: &RunSummary, plan: &Plan) -> String {
    let parts: Vec<String> = sections(summary, plan)
        .into_iter()
        .map(|s| s.text.trim_end().to_owned())
        .collect();
    format!("{}\n", parts.join("\n\n"))
}

/// How a lane's framework is shown: with the round where there are several.
fn framework(lane: &LaneId) -> String {
    let name = escape(&lane.framework);
    if lane.round > 1 {
        format!("{name} #{}", lane.round)
    } else {
        name
    }
}

/// The models of a run, in order.
fn models(summary: &RunSummary) -> Vec<&str> {
    let mut models: Vec<&str> = Vec::new();
    for lane in &summary.lanes {
        if !models.contains(&lane.lane.model.as_str()) {
            models.push(&lane.lane.model);
        }
    }
    models
}

fn lanes_of<'a>(summary: &'a RunSummary, model: &'a str) -> impl Iterator<Item = &'a LaneSummary> {
    summary.lanes.iter().filter(move |l| l.lane.model == model)
}

fn title(summary: &RunSummary) -> String {
    let mut text = format!("# benchd: {}\n\n", escape(&summary.plan));
    let took = std::time::Duration::from_micros(summary.last_unix_us.saturating_sub(summary.started_unix_us));
    let _ = writeln!(
        text,
        "Run `{}`, begun {}, {} until its last event{}.\n",
        summary.run_id,
        time(summary.started_unix_us),
        duration(took),
        match summary.starts {
            0 | 1 => String::new(),
            2 => "; resumed once".to_owned(),
            n => format!("; resumed {} times", n - 1),
        }
    );
    if summary.partial || summary.outcome != "finished" {
        let state = match summary.outcome.as_str() {
            "open" => "the run is under way, or its process died",
            "finished" => "the run is over",
            "interrupted" => "the run was interrupted and can go on with `--resume`",
            "unsafe" => "the run was stopped for safety",
            _ => "the run was stopped and can go on with `--resume`",
        };
        let reason = summary
            .reason
            .as_deref()
            .map(|r| format!(" ({})", escape(r)))
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "> **Partial:** {} of {} cells are measured; {state}{reason}.\n",
            count(summary.cells_measured),
            count(summary.cells_planned)
        );
    }
    text.push_str(&quality::warnings(summary));
    text.push_str(&verdicts::answer(summary));
    text
}

/// The document's rankings over all scenarios (9.2).
fn rankings(summary: &RunSummary) -> String {
    let table = verdicts::expectations(&summary.expectations, "9.2");
    if table.is_empty() {
        table
    } else {
        format!("## The document's rankings\n\n{table}")
    }
}

fn failures(summary: &RunSummary) -> String {
    let mut text = String::new();
    let mut missing = Table::new(["framework", "model", "cell", "why"]);
    for lane in &summary.lanes {
        let (framework, model) = (framework(&lane.lane), escape(&lane.lane.model));
        if lane.reason.is_some() || !lane.log_tail.is_empty() {
            let stage = lane
                .stage
                .as_deref()
                .map(|s| format!(" at stage `{s}`"))
                .unwrap_or_default();
            let _ = writeln!(text, "### {framework} / {model}: {}{stage}\n", lane.outcome);
            if let Some(reason) = &lane.reason {
                let _ = writeln!(text, "{}\n", escape(reason));
            }
            if !lane.log_tail.is_empty() {
                let _ = writeln!(
                    text,
                    "Last lines of its log:\n\n{}",
                    code_block(lane.log_tail.iter().map(String::as_str))
                );
            }
        }
        for cell in &lane.missing {
            missing.row([
                framework.clone(),
                model.clone(),
                format!("`{}`", cell.cell),
                escape(&cell.why),
            ]);
        }
    }
    if !missing.is_empty() {
        let _ = writeln!(text, "### Cells without figures\n\n{missing}");
    }
    let mut errors = Table::new(["framework", "model", "cell", "failures", "an example"]);
    for cell in summary
        .lanes
        .iter()
        .flat_map(|l| &l.cells)
        .filter(|c| c.failed > 0)
    {
        let kinds: Vec<_> = cell
            .failures
            .iter()
            .map(|(k, n)| format!("{} {k}", count(*n)))
            .collect();
        errors.row([
            framework(&cell.lane),
            escape(&cell.lane.model),
            format!("`{}`", cell.cell),
            escape(&kinds.join(", ")),
            escape(cell.failure_example.as_deref().unwrap_or("")),
        ]);
    }
    if !errors.is_empty() {
        let _ = writeln!(text, "### Failed requests\n\n{errors}");
    }
    if text.is_empty() {
        text
    } else {
        format!("## Failures\n\n{text}")
    }
}
