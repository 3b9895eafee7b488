//! Whether frameworks answer alike.

use std::fmt::Write as _;

use super::{super::number::*, Table, escape, models};
use benchd_analysis::RunSummary;

/// Every pair of frameworks of a model, cell by cell; empty where nothing was compared.
pub(super) fn section(summary: &RunSummary) -> String {
    let mut tables = String::new();
    for model in models(summary) {
        let mut table = Table::new([
            "cell",
            "one",
            "the other",
            ">prompts",
            ">identical",
            ">one with itself",
            ">the other with itself",
            ">part after (characters)",
            ">of the answer",
        ]);
        for pair in summary.agreement.iter().filter(|a| a.model == model) {
            for cell in &pair.cells {
                let parts = cell.parts.as_ref();
                let share = |s: Option<f64>| s.map_or(NONE.to_owned(), percent);
                table.row([
                    format!("`{}`", cell.cell),
                    escape(&pair.baseline),
                    escape(&pair.framework),
                    count(cell.prompts),
                    percent(cell.identical_share),
                    share(cell.baseline_repeats_share),
                    share(cell.framework_repeats_share),
                    parts.map_or(NONE.to_owned(), |p| {
                        format!(
                            "{} ({} to {})",
                            number(p.common_chars_p50),
                            count(p.common_chars_min),
                            count(p.common_chars_max)
                        )
                    }),
                    share(parts.map(|p| p.common_share_p50)),
                ]);
            }
        }
        if !table.is_empty() {
            let _ = writeln!(tables, "### {}\n\n{table}", escape(model));
        }
    }
    if tables.is_empty() {
        return tables;
    }
    format!(
        "## Do they answer alike?\n\nWith temperature 0 the same weights should. Identical: the chance that an answer of one and \
         an answer of the other to the same prompt are equal to the last character, beside how often each agrees with itself. \
         Where answers part: median (least to most) of what they have in common from their start on. Other quantisation, \
         kernels or batches make small differences that grow from the first other token on; nothing here says which answer \
         is better.\n\n{tables}"
    )
}
