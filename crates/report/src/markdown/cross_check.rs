//! benchd's figures beside the servers' own of the same requests.

use std::fmt::Write as _;

use super::{super::number::*, Table, escape, framework};
use benchd_analysis::{CellSummary, CheckedFigure, CrossCheck, RunSummary};

/// Figures by table, in the order of its columns; of each there is one column for benchd's and one for the server's.
const AMOUNTS: [CheckedFigure; 3] = [
    CheckedFigure::PromptTokens,
    CheckedFigure::OutputTokens,
    CheckedFigure::OutputTokensPerS,
];
const TIMES: [CheckedFigure; 3] = [
    CheckedFigure::TtftMeanMs,
    CheckedFigure::LatencyMeanMs,
    CheckedFigure::TpotMeanMs,
];

/// The section; empty where no server says anything of itself.
pub(super) fn section(summary: &RunSummary) -> String {
    let cells: Vec<&CellSummary> = summary.lanes.iter().flat_map(|l| &l.cells).collect();
    let checked = cells.iter().filter(|c| !c.server_says.checks.is_empty()).count();
    let silent = silent(summary);
    if checked == 0 {
        return if silent.is_empty() {
            silent
        } else {
            format!("## Agreement with the servers' own figures\n\n{silent}")
        };
    }
    let off: Vec<&&CellSummary> = cells
        .iter()
        .filter(|c| c.server_says.checks.iter().any(|check| !check.agrees()))
        .collect();
    let mut text = String::from("## Agreement with the servers' own figures\n\n");
    let _ = match off.len() {
        0 => writeln!(
            text,
            "benchd's figures and the servers' own agree in all {checked} cells in which a server says anything of itself."
        ),
        n => writeln!(
            text,
            "benchd's figures and the servers' own agree in {} of {checked} cells in which a server says anything of \
             itself; **they disagree in {n}**, marked in the last column and flagged `disagrees_with_server`.",
            checked - n
        ),
    };
    let _ = writeln!(
        text,
        "In each pair benchd's figure comes first, the server's second. Counts must be equal. A server's clock starts \
         when its front end has read a request, applied the template and counted the tokens, and stops before benchd sees \
         the event: its times may be shorter by any amount (what is missing in them every client waits for), and longer by \
         1 % or 1 ms; its time per token may differ by 5 % or 1 ms, whichever is more. vLLM and SGLang \
         say it by the counters and histograms of `/metrics`, llama-server by `/metrics` and the `timings` in its \
         answers, Ollama by its log's line of each request, all over the measured passes of the cell alone. Cells with \
         failed requests are left out.\n"
    );
    let mut amounts = Table::new([
        "cell",
        "framework",
        ">prompt tokens",
        ">server",
        ">output tokens",
        ">server",
        ">tok/s",
        ">server",
        "agree",
    ]);
    let mut times = Table::new([
        "cell",
        "framework",
        ">mean TTFT (ms)",
        ">server",
        ">mean latency (ms)",
        ">server",
        ">mean TPOT (ms)",
        ">server",
        "agree",
    ]);
    for c in &cells {
        for (figures, table) in [(AMOUNTS, &mut amounts), (TIMES, &mut times)] {
            if figures.iter().all(|figure| find(c, *figure).is_none()) {
                continue;
            }
            let pair = |figure: CheckedFigure| match find(c, figure) {
                Some(check) => [value(figure, check.ours), value(figure, check.server)],
                None => [NONE, NONE].map(str::to_owned),
            };
            let [[a1, a2], [b1, b2], [c1, c2]] = figures.map(pair);
            table.row([
                format!("`{}`", c.cell),
                lane_name(summary, c),
                a1,
                a2,
                b1,
                b2,
                c1,
                c2,
                result(c, &figures),
            ]);
        }
    }
    for table in [amounts, times] {
        if !table.is_empty() {
            let _ = writeln!(text, "{table}");
        }
    }
    text.push_str(&silent);
    text.push_str(&timings(summary, &cells));
    text
}

/// The servers that say nothing of themselves, and why.
fn silent(summary: &RunSummary) -> String {
    let mut lines: Vec<String> = Vec::new();
    for lane in &summary.lanes {
        let whole = lane.cells.iter().any(|c| c.failed == 0);
        if !whole || lane.cells.iter().any(|c| !c.server_says.checks.is_empty()) {
            continue;
        }
        let kind = benchd_frameworks::named(&lane.framework_kind);
        let why = match (kind.and_then(|kind| kind.metrics_flag), &lane.server) {
            (_, None) => "someone else runs it, and it shows itself to be of no kind that has metrics",
            (Some(flag), Some(server)) if !server.argv.iter().any(|arg| arg == flag) => {
                "its command has no `--metrics`, and its answers no `timings`"
            }
            _ => "its metrics could not be read, or have none of the figures",
        };
        let line = format!(
            "- {} / {}: not said by the server ({why})",
            framework(&lane.lane),
            escape(&lane.lane.model)
        );
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    format!(
        "Of these servers there is nothing to compare with:\n\n{}\n\n",
        lines.join("\n")
    )
}

/// The first check of this figure.
fn find(c: &CellSummary, figure: CheckedFigure) -> Option<&CrossCheck> {
    c.server_says.checks.iter().find(|check| check.figure == figure)
}

fn value(figure: CheckedFigure, value: f64) -> String {
    if figure.is_count() {
        count(value.max(0.0).round() as u64)
    } else {
        optional(Some(value))
    }
}

fn result(c: &CellSummary, figures: &[CheckedFigure]) -> String {
    let off: Vec<&str> = c
        .server_says
        .checks
        .iter()
        .filter(|check| figures.contains(&check.figure) && !check.agrees())
        .map(|check| check.figure.as_str())
        .collect();
    if off.is_empty() {
        "yes".to_owned()
    } else {
        format!("**no: {}**", off.join(", "))
    }
}

fn lane_name(summary: &RunSummary, c: &CellSummary) -> String {
    let name = framework(&c.lane);
    let several = summary
        .lanes
        .iter()
        .any(|l| l.lane.framework == c.lane.framework && l.lane.model != c.lane.model);
    if several {
        format!("{name} / {}", escape(&c.lane.model))
    } else {
        name
    }
}

/// llama-server's durations, which come with each answer.
fn timings(summary: &RunSummary, cells: &[&CellSummary]) -> String {
    let mut table = Table::new([
        "cell",
        "framework",
        ">TTFT p50 (ms)",
        ">server: prompt p50 (ms)",
        ">TTFT less prompt p50 (ms)",
        ">mean generation (ms)",
        ">server",
    ]);
    for c in cells {
        let says = &c.server_says;
        if says.prompt_ms.is_none() && says.predicted_ms.is_none() {
            continue;
        }
        let generation = find(c, CheckedFigure::GenerationMeanMs);
        table.row([
            format!("`{}`", c.cell),
            lane_name(summary, c),
            optional(c.ttft_ms.as_ref().map(|d| d.p50)),
            optional(says.prompt_ms.as_ref().map(|d| d.p50)),
            optional(says.ttft_less_prompt_ms.as_ref().map(|d| d.p50)),
            optional(generation.map(|check| check.ours)),
            optional(generation.map(|check| check.server)),
        ]);
    }
    if table.is_empty() {
        return String::new();
    }
    format!(
        "Durations in the answers themselves (`timings`). The time for the prompt has no queue in it, nor the saving of \
         an older prompt's cache, so it may be shorter than TTFT by any amount; generation, from the first token to the \
         last, may differ by 5 % or 10 ms:\n\n{table}\n"
    )
}
