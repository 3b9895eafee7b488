//! Frameworks against the first one of their model.

use std::fmt::Write as _;

use super::{super::number::*, Table, escape};
use benchd_analysis::{Difference, FrameworkComparison};

/// The table of a scenario: every other framework against the first.
pub(super) fn section(comparisons: &[FrameworkComparison], model: &str, scenario: &str) -> String {
    let all: Vec<_> = comparisons.iter().filter(|c| c.model == model).collect();
    let Some(first) = all.first().map(|c| &c.baseline) else {
        return String::new();
    };
    let mut table = Table::new([
        "cell",
        "framework",
        ">TTFT",
        ">latency",
        ">TPOT",
        ">tokens/s a request",
        ">output tokens/s",
        ">prompts paired",
    ]);
    for against in all.iter().filter(|c| c.baseline == *first) {
        for cell in against.cells.iter().filter(|c| c.scenario == scenario) {
            let figure = |name: &str| cell.figures.get(name).map_or(NONE.to_owned(), difference);
            let pairs = cell.figures.values().map(|d| d.pairs).max().unwrap_or(0);
            table.row([
                format!("`{}`", cell.cell),
                escape(&against.framework),
                figure("ttft_ms"),
                figure("latency_ms"),
                figure("tpot_ms"),
                figure("tokens_per_s"),
                figure("output_tokens_per_s"),
                if pairs > 0 { count(pairs) } else { "no".to_owned() },
            ]);
        }
    }
    if table.is_empty() {
        return String::new();
    }
    let mut text = String::new();
    let _ = writeln!(
        text,
        "Compared with {}: ratios, 1 is equal; `=` where the interval holds 1, which is no difference; `?` where there are too \
         few values to tell; δ is Cliff's delta. A difference can be certain and too small to matter:\n\n{table}",
        escape(first)
    );
    text
}

fn difference(d: &Difference) -> String {
    let mark = match d.differs {
        Some(true) => "",
        Some(false) => "= ",
        None => "? ",
    };
    format!(
        "{mark}{} δ {:+.2}",
        with_interval(d.ratio, d.interval.as_ref()),
        d.cliffs_delta
    )
}
