//! `benchd check`: the doctor's findings on a plan and this machine, the worst first.

use std::{fmt::Write as _, io::IsTerminal as _, path::PathBuf, time::Duration};

use indexmap::IndexMap;
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use super::{CommandResult, DONE, answer, count_cells, load_plan, narrowed_lanes, runtime, trial};
use crate::{
    check::{self, Area, Finding, Severity, Subject, known::Machine},
    cli::CheckArgs,
    run::{Context as _, EXIT_MACHINE, Failure, redactor, short_duration},
};
use benchd_frameworks::Context as Around;
use benchd_plan::{Assumptions, Estimate, Lane, Plan, longest_prompt_tokens, most_streams};
use benchd_report::{columns, number};

/// Version of the JSON form.
const JSON_VERSION: u32 = 1;

/// Width of a terminal that does not tell its own, and the widest that lines are broken to.
const WIDTH: usize = 110;

/// Narrowest column of text that lines are broken to.
const LEAST_TEXT_WIDTH: usize = 30;

/// Looks at the machine, prints what it finds on stdout, and answers 3 where the run should not start.
///
/// # Errors
/// When the plan or the arguments are wrong (2).
pub(super) fn run(args: CheckArgs) -> CommandResult {
    let loaded = load_plan(&args.plan)?;
    let lanes = narrowed_lanes(&loaded.plan, &args.only, "check")?;
    settings_fit(&loaded.plan, &lanes)?;
    let subject = Subject {
        plan: &loaded.plan,
        plan_path: &args.plan,
        lanes: &lanes,
        results: &args.places.results,
        logs: &args.places.logs,
    };
    let findings = match &args.gpu {
        Some(name) => {
            let machine = Machine::with_gpu(name).map_err(Failure::plan)?;
            runtime()?.block_on(check::elsewhere(subject, &machine))
        }
        None => runtime()?.block_on(check::everything(subject)),
    };
    let estimate = benchd_plan::estimate(
        &loaded.plan,
        &lanes,
        &Assumptions::default(),
        benchd_frameworks::pace,
    );
    let text = if args.json {
        json(&loaded.plan, &estimate, &findings)?
    } else {
        let style = Style::of_stdout();
        format!(
            "{}\n{}\n{}\n",
            duration(&loaded.plan, &lanes, &estimate),
            table(&findings, style),
            verdict(&findings)
        )
    };
    answer(&redactor(&loaded).text(&text))?;
    if findings.iter().any(|finding| finding.severity.forbids()) {
        return Ok(EXIT_MACHINE);
    }
    if args.start {
        let trial = trial::start_each(&args.plan, &lanes, &args.places)?;
        answer(&redactor(&loaded).text(&format!("\n{}", trial.text)))?;
        return Ok(trial.code);
    }
    DONE
}

/// Settings that a framework can't have are the plan's fault, as for a dry run.
fn settings_fit(plan: &Plan, lanes: &[Lane]) -> Result<(), Failure> {
    for lane in lanes {
        let (Some(fw), Some(model)) = (
            plan.frameworks.get(&lane.id.framework),
            plan.models.get(&lane.id.model),
        ) else {
            continue;
        };
        let around = Around {
            longest_prompt_tokens: longest_prompt_tokens(lanes, &lane.id.model),
            gpus: Vec::new(),
            max_concurrency: most_streams(lane),
            work_dir: PathBuf::from("logs"),
        };
        benchd_frameworks::adapter(fw, model, &around).map_err(Failure::plan)?;
    }
    Ok(())
}

/// What is to be run, and how long it will take.
fn duration(plan: &Plan, lanes: &[Lane], estimate: &Estimate) -> String {
    let (cells, requests) = count_cells(lanes);
    let mut out = format!(
        "plan {}: {} lanes, {} cells, {} counted requests\n",
        plan.name,
        lanes.len(),
        number::count(cells as u64),
        number::count(requests)
    );
    let end = jiff::ZonedDateTime::now()
        .checked_add(estimate.total)
        .ok()
        .map(|end| format!("; started now, it ends about {}", end.strftime("%a %H:%M")))
        .unwrap_or_default();
    let _ = writeln!(out, "about {}{end}", short_duration(estimate.total));
    let parts = scenarios(estimate);
    let rows = parts
        .iter()
        .map(|(name, time)| [name.clone(), short_duration(*time)]);
    for line in columns(rows, |_| false).lines() {
        let _ = writeln!(out, "  {line}");
    }
    out
}

/// The time of each scenario over all lanes, and of what lies around them.
fn scenarios(estimate: &Estimate) -> IndexMap<String, Duration> {
    let mut parts: IndexMap<String, Duration> = IndexMap::new();
    for lane in &estimate.lanes {
        for (name, time) in &lane.scenarios {
            *parts.entry(name.clone()).or_default() += *time;
        }
    }
    let around = estimate
        .lanes
        .iter()
        .map(|lane| lane.start + lane.calibration + lane.quality + lane.warmup + lane.stop)
        .sum();
    parts.insert("servers' start and stop".to_owned(), around);
    parts
}

/// How findings are shown.
#[derive(Debug, Clone, Copy)]
struct Style {
    colour: bool,
    /// Columns; `None` where lines are not broken.
    width: Option<usize>,
}

impl Style {
    fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self {
                colour: false,
                width: None,
            };
        }
        let columns = rustix::termios::tcgetwinsize(&stdout)
            .ok()
            .map(|size| usize::from(size.ws_col))
            .filter(|&columns| columns > 0);
        Self {
            colour: std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
            width: Some(columns.map_or(WIDTH, |columns| columns.min(WIDTH))),
        }
    }
}

/// A sign beside the word, and a colour where there may be one: neither is needed to read the word.
fn sign(severity: Severity) -> (&'static str, &'static str) {
    match severity {
        Severity::Stop => ("✖", "\x1b[1;31m"),
        Severity::Lose => ("✖", "\x1b[31m"),
        Severity::Warn => ("!", "\x1b[33m"),
        Severity::Note => ("·", "\x1b[36m"),
        Severity::Ok => ("✓", "\x1b[32m"),
    }
}

/// One finding a line, its remedy below it.
fn table(findings: &[Finding], style: Style) -> String {
    let width = findings
        .iter()
        .map(|f| f.area.as_str().width())
        .max()
        .unwrap_or(0);
    // "✖ stop  environment  "
    let indent = 2 + 4 + 2 + width + 2;
    let text_width = style
        .width
        .map(|columns| columns.saturating_sub(indent).max(LEAST_TEXT_WIDTH));
    let rows = findings.iter().map(|finding| {
        let mut lines = broken(&finding.text, text_width);
        if let Some(remedy) = &finding.remedy {
            let below = text_width.map(|width| width - 2);
            lines.push(format!("→ {}", broken(remedy, below).join("\n  ")));
        }
        [
            word(finding.severity),
            finding.area.as_str().to_owned(),
            lines.join("\n"),
        ]
    });
    let mut severities = findings.iter().map(|finding| finding.severity);
    let mut out = String::new();
    for line in columns(rows, |_| false).lines() {
        // Only a finding's first line begins in the first column.
        let begins = line.starts_with(|c: char| !c.is_whitespace());
        let severity = if begins { severities.next() } else { None };
        let _ = match severity.filter(|_| style.colour) {
            Some(severity) => {
                let (word, (_, on)) = (word(severity), sign(severity));
                writeln!(out, "{}", line.replacen(&word, &format!("{on}{word}\x1b[0m"), 1))
            }
            None => writeln!(out, "{line}"),
        };
    }
    out
}

fn word(severity: Severity) -> String {
    format!("{} {}", sign(severity).0, severity.as_str())
}

/// The last line: how many of each, and what they come to.
fn verdict(findings: &[Finding]) -> String {
    let counts: Vec<String> = Severity::ALL
        .into_iter()
        .map(|severity| {
            (
                severity,
                findings.iter().filter(|f| f.severity == severity).count(),
            )
        })
        .filter(|(_, count)| *count > 0)
        .map(|(severity, count)| format!("{count} {}", severity.as_str()))
        .collect();
    let worst = findings.iter().map(|f| f.severity).min().unwrap_or(Severity::Ok);
    let mut stops = findings.iter().filter(|f| f.severity == Severity::Stop);
    let meaning = match worst {
        Severity::Stop if stops.all(|stop| stop.area == Area::KnownIssue) => {
            "the run would not start; --skip-unfit leaves these lanes out and runs the others"
        }
        Severity::Stop => "the run would not start",
        Severity::Lose => "the run should not start: a part of it would be lost, or measure something else",
        Severity::Warn => "the run can start; look at the warnings",
        Severity::Note | Severity::Ok => "the run can start",
    };
    format!("{}: {meaning}", counts.join(", "))
}

/// Breaks a text at its spaces and line ends; only at line ends where there is no width.
fn broken(text: &str, width: Option<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    for part in text.lines() {
        let mut line = String::new();
        for word in part.split(' ') {
            let too_long = width.is_some_and(|width| line.width() + 1 + word.width() > width);
            if !line.is_empty() && too_long {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

/// The JSON form.
#[derive(Serialize)]
struct JsonForm<'a> {
    v: u32,
    plan: &'a str,
    /// Whether the run should start.
    fit: bool,
    /// Estimated duration, seconds, in all and by scenario.
    estimate_s: u64,
    estimate_by_scenario_s: IndexMap<String, u64>,
    findings: &'a [Finding],
}

fn json(plan: &Plan, estimate: &Estimate, findings: &[Finding]) -> Result<String, Failure> {
    let form = JsonForm {
        v: JSON_VERSION,
        plan: &plan.name,
        fit: !findings.iter().any(|finding| finding.severity.forbids()),
        estimate_s: estimate.total.as_secs(),
        estimate_by_scenario_s: scenarios(estimate)
            .into_iter()
            .map(|(name, time)| (name, time.as_secs()))
            .collect(),
        findings,
    };
    let mut text = serde_json::to_string_pretty(&form).context("the findings can't be written as JSON")?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, area: Area, text: &str, remedy: Option<&str>) -> Finding {
        Finding {
            severity,
            area,
            text: text.to_owned(),
            remedy: remedy.map(str::to_owned),
        }
    }

    #[test]
    fn findings_line_up_and_break_at_the_terminals_width() {
        let findings = [
            finding(
                Severity::Lose,
                Area::Environment,
                "frameworks.vllm: envs/vllm/.venv/bin/vllm is not there",
                Some("make it: benchd env plans/a100.yaml"),
            ),
            finding(Severity::Ok, Area::Port, "free: 8000", None),
        ];
        let style = Style {
            colour: false,
            width: Some(64),
        };
        let expected = "\
✖ lose  environment  frameworks.vllm: envs/vllm/.venv/bin/vllm
                     is not there
                     → make it: benchd env plans/a100.yaml
✓ ok    port         free: 8000
";
        assert_eq!(table(&findings, style), expected);
        assert_eq!(
            verdict(&findings),
            "1 lose, 1 ok: the run should not start: a part of it would be lost, or measure something else"
        );
        let coloured = Style {
            colour: true,
            width: None,
        };
        let text = table(&findings, coloured);
        assert!(text.contains("\x1b[31m✖ lose\x1b[0m"), "{text}");
        assert_eq!(text.lines().count(), 3, "a pipe's lines are whole");
    }
}
