//! Reasons to distrust cells: what was seen, why it matters, what to do.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use super::{super::number::count, escape, framework};
use benchd_analysis::{CellSummary, RunSummary};
use benchd_core::record::FlagKind;

pub(super) fn section(summary: &RunSummary) -> String {
    // By kind, then by lane and what was seen, the cells.
    let mut kinds: BTreeMap<FlagKind, BTreeMap<(String, &str), BTreeSet<&str>>> = BTreeMap::new();
    let mut cells_of_lane: BTreeMap<String, usize> = BTreeMap::new();
    let (mut few, mut all) = (0_u64, 0_u64);
    for cell in summary.lanes.iter().flat_map(|l| &l.cells) {
        let lane = format!("{} / {}", framework(&cell.lane), escape(&cell.lane.model));
        *cells_of_lane.entry(lane.clone()).or_default() += 1;
        all += 1;
        for flag in &cell.flags {
            if flag.kind == FlagKind::FewSamples {
                few += 1;
                continue;
            }
            kinds
                .entry(flag.kind)
                .or_default()
                .entry((lane.clone(), &flag.seen))
                .or_default()
                .insert(&cell.cell);
        }
    }
    let mut text = "## Flags\n\n".to_owned();
    if kinds.is_empty() {
        text.push_str("None.\n\n");
    }
    for (kind, seen) in kinds {
        let cells: usize = seen.values().map(BTreeSet::len).sum();
        let _ = writeln!(text, "### {kind} ({} cells)\n", count(cells as u64));
        let _ = writeln!(text, "{}\n", advice(kind));
        for ((lane, seen), cells) in seen {
            let of_lane = cells_of_lane.get(&lane).copied().unwrap_or(0);
            let cells = if cells.len() > 1 && cells.len() == of_lane {
                format!("all {of_lane} cells")
            } else {
                let cells: Vec<String> = cells.into_iter().map(|c| format!("`{c}`")).collect();
                cells.join(", ")
            };
            let _ = writeln!(text, "- {lane}: {} ({cells})", escape(seen));
        }
        text.push('\n');
    }
    if few > 0 {
        let _ = writeln!(
            text,
            "`few_samples`: in {} of {} cells p95 or p99 is an estimate, marked `~` wherever it stands.",
            count(few),
            count(all)
        );
    }
    text
}

fn advice(kind: FlagKind) -> String {
    format!(
        "Why it matters: {}. What to do: {}.",
        escape(kind.why()),
        escape(kind.remedy())
    )
}

/// The flags of some cells, beside their figures: one line a kind.
pub(super) fn beside(cells: &[&CellSummary]) -> String {
    let mut kinds: BTreeMap<FlagKind, (BTreeSet<&str>, usize)> = BTreeMap::new();
    for flag in cells.iter().flat_map(|c| &c.flags) {
        if flag.kind != FlagKind::FewSamples {
            let (seen, n) = kinds.entry(flag.kind).or_default();
            seen.insert(&flag.seen);
            *n += 1;
        }
    }
    let mut text = String::new();
    for (kind, (seen, n)) in kinds {
        let more = match seen.len() {
            0 | 1 => String::new(),
            several => format!(" (and {} more, in the section on flags)", several - 1),
        };
        let _ = writeln!(
            text,
            "- `{kind}`, {} of {} rows: {}{more}. {}",
            n,
            cells.len(),
            seen.first().map_or(String::new(), |s| escape(s)),
            advice(kind)
        );
    }
    if text.is_empty() {
        text
    } else {
        format!("Flags:\n\n{text}\n")
    }
}
