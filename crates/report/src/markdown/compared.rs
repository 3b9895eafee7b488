//! Frameworks against the first one of their model.

use std::fmt::Write as _;

use super::{
    super::{names::Names, number::*},
    Table, escape,
};
use benchd_analysis::{Difference, FrameworkComparison, shown_framework};

/// The table of a scenario: every other framework against the first.
pub(super) fn section(
    comparisons: &[FrameworkComparison],
    model: &str,
    scenario: &str,
    names: &Names,
) -> String {
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
            let unequal = cell.unequal_outputs.map_or("", |_| OTHER_LENGTHS);
            let pairs = cell.figures.values().map(|d| d.pairs).max().unwrap_or(0);
            table.row([
                format!("`{}`", cell.cell),
                escape(&names.name(&against.framework, model)),
                figure("ttft_ms"),
                figure("latency_ms"),
                figure("tpot_ms"),
                figure("tokens_per_s"),
                format!("{}{unequal}", figure("output_tokens_per_s")),
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
        escape(&names.name(first, model))
    );
    let cells = || {
        let of_first = all.iter().filter(|c| c.baseline == *first);
        of_first.flat_map(|c| {
            c.cells
                .iter()
                .filter(|cell| cell.scenario == scenario)
                .map(move |cell| (c, cell))
        })
    };
    for against in all.iter().filter(|c| c.baseline == *first) {
        for why in &against.unlike {
            let _ = writeln!(
                text,
                "Not like with like, {} and {}: {}.\n",
                escape(shown_framework(first)),
                escape(shown_framework(&against.framework)),
                escape(why)
            );
        }
    }
    let unequal: Vec<String> = cells()
        .filter_map(|(against, cell)| {
            let [base, other] = cell.unequal_outputs?;
            Some(format!(
                "`{}` {} against {} ({})",
                cell.cell,
                number(other),
                number(base),
                escape(shown_framework(&against.framework))
            ))
        })
        .collect();
    if !unequal.is_empty() {
        let _ = writeln!(
            text,
            "{OTHER_LENGTHS} Answers of other lengths than {}'s, output tokens on average: {}. Its time to the first token falls \
             on fewer or more tokens in a rate of whole passes; latency and tokens/s of a request are compared among full-length \
             answers, TPOT is time per token after the first.\n",
            escape(shown_framework(first)),
            unequal.join("; ")
        );
    }
    text
}

/// Marks a rate over answers of other lengths.
const OTHER_LENGTHS: &str = "‡";

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
