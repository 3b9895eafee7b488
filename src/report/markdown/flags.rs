//! Reasons to distrust cells: what was seen, why it matters, what to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{super::number::count, escape, framework};
use crate::{analysis::RunSummary, record::FlagKind};

pub(super) fn section(summary: &RunSummary) -> String {
    // By kind, then by lane and what was seen, the cells.
    let mut kinds: BTreeMap<FlagKind, BTreeMap<(String, &str), Vec<&str>>> = BTreeMap::new();
    for cell in summary.lanes.iter().flat_map(|l| &l.cells) {
        for flag in &cell.flags {
            let lane = format!("{} / {}", framework(&cell.lane), escape(&cell.lane.model));
            kinds
                .entry(flag.kind)
                .or_default()
                .entry((lane, &flag.seen))
                .or_default()
                .push(&cell.cell);
        }
    }
    let mut text = "## Flags\n\n".to_owned();
    if kinds.is_empty() {
        text.push_str("None.\n");
    }
    for (kind, seen) in kinds {
        let cells: usize = seen.values().map(Vec::len).sum();
        let _ = writeln!(text, "### {kind} ({} cells)\n", count(cells as u64));
        let _ = writeln!(
            text,
            "Why it matters: {}. What to do: {}.\n",
            escape(kind.why()),
            escape(kind.remedy())
        );
        for ((lane, seen), cells) in seen {
            let cells: BTreeSet<String> = cells.into_iter().map(|c| format!("`{c}`")).collect();
            let cells: Vec<String> = cells.into_iter().collect();
            let _ = writeln!(text, "- {lane}: {} ({})", escape(seen), cells.join(", "));
        }
        text.push('\n');
    }
    text
}
