//! What a terminal shows: one line as each cell ends, and a table at the end.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use comfy_table::{CellAlignment, Row, Table, presets};

use super::{
    number::{NONE, number, optional, percentile},
    sentences::doubts_of_weights,
};
use benchd_analysis::{Answers, CellSummary, LaneSummary, RunSummary};
use benchd_core::{format::counted, record::FlagKind};

/// Writes data that was asked for to stdout. A reader that has seen enough (`| head`) is no error.
///
/// # Errors
/// When stdout can't be written for another reason: a full disk behind it, a terminal that is gone.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

/// One line: `concurrent/c16  TTFT 41.2 ms, p95 ~88.0  312 tok/s  latency 1,204 ms  100 requests`.
pub fn cell_line(cell: &CellSummary) -> String {
    let mut line = cell.cell.clone();
    if let Some(ttft) = &cell.ttft_ms {
        let _ = write!(
            line,
            "  TTFT {} ms, p95 {}",
            number(ttft.p50),
            percentile(ttft.p95, ttft.p95_certain)
        );
    }
    if let Some(rate) = &cell.output_tokens_per_s {
        let _ = write!(line, "  {} tok/s", number(rate.median));
    }
    if let Some(latency) = &cell.latency_ms {
        let _ = write!(line, "  latency {} ms", number(latency.p50));
    }
    let _ = write!(line, "  {}", counted(cell.requests, "request"));
    if cell.failed > 0 {
        let classes: Vec<String> = cell
            .failures
            .iter()
            .map(|(class, n)| format!("{n} {class}"))
            .collect();
        let _ = write!(line, ", {} failed ({})", cell.failed, classes.join(", "));
    }
    line
}

/// One line: `quality/c64  97 of 104 right [0.87, 0.97]`, and what is odd.
pub fn questions_line(answers: &Answers) -> String {
    let mut line = format!(
        "quality/c{}  {} of {} right",
        answers.concurrency, answers.right, answers.asked
    );
    for (n, what) in odd_answers(answers) {
        let _ = write!(line, ", {n} {what}");
    }
    line
}

/// What is odd about answers, whatever they should have been.
pub(crate) fn odd_answers(answers: &Answers) -> impl Iterator<Item = (u64, &'static str)> {
    [
        (answers.failed, "failed"),
        (answers.empty, "empty"),
        (answers.foreign, "with another request's text"),
        (answers.broken, "with broken characters"),
        (answers.looping, "repeating themselves"),
    ]
    .into_iter()
    .filter(|(n, _)| *n > 0)
}

/// The final table: one row a cell, with its lane; below it, where weights are not alike or are made up.
pub fn final_table(summary: &RunSummary) -> String {
    let head = [
        "lane",
        "cell",
        "TTFT ms",
        "p95",
        "tok/s",
        "req/s",
        "latency ms",
        "p95",
        "failed",
        "flags",
    ];
    let rows = summary
        .lanes
        .iter()
        .flat_map(|lane| lane.cells.iter().map(|cell| row(lane, cell)));
    let rows = std::iter::once(head.map(str::to_owned)).chain(rows);
    // Lane, cell and flags are words.
    let mut text = columns(rows, |column| !matches!(column, 0 | 1 | 9)) + "\n";
    for doubt in doubts_of_weights(summary) {
        let _ = writeln!(text, "\n{doubt}");
    }
    text
}

/// Rows of cells as text, columns lined up with two spaces between them. Those that hold numbers are set to the `right`.
pub fn columns<Cells>(rows: impl IntoIterator<Item = Cells>, right: impl Fn(usize) -> bool) -> String
where
    Cells: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .add_rows(rows.into_iter().map(Row::from));
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right(at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn row(lane: &LaneSummary, cell: &CellSummary) -> [String; 10] {
    // Too few samples shows as `~` already.
    let mut flags: Vec<&str> = cell
        .flags
        .iter()
        .filter(|flag| flag.kind != FlagKind::FewSamples)
        .map(|flag| flag.kind.as_str())
        .collect();
    flags.sort_unstable();
    flags.dedup();
    let spread = |d: Option<&benchd_analysis::Distribution>| match d {
        Some(d) => (number(d.p50), percentile(d.p95, d.p95_certain)),
        None => (NONE.to_owned(), NONE.to_owned()),
    };
    let (ttft, ttft_p95) = spread(cell.ttft_ms.as_ref());
    let (latency, latency_p95) = spread(cell.latency_ms.as_ref());
    [
        lane.lane.to_string(),
        cell.cell.clone(),
        ttft,
        ttft_p95,
        optional(cell.output_tokens_per_s.as_ref().map(|rate| rate.median)),
        optional(cell.requests_per_s.as_ref().map(|rate| rate.median)),
        latency,
        latency_p95,
        if cell.failed > 0 {
            cell.failed.to_string()
        } else {
            String::new()
        },
        flags.join(" "),
    ]
}
