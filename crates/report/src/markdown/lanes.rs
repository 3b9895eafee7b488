//! What holds for lanes and rounds rather than for one cell: drift, rounds, prompt lengths, the servers' own counters.

use std::fmt::Write as _;

use super::{super::number::*, Table, escape, framework};
use benchd_analysis::{DriftFigure, OverRounds, RunSummary};

/// Each framework's cells over the rounds of the plan.
pub(super) fn rounds(summary: &RunSummary) -> String {
    let mut text = String::new();
    for of in &summary.rounds {
        let mut table = Table::new([
            "cell",
            ">TTFT by round (ms)",
            ">pooled",
            ">last / first",
            ">latency by round (ms)",
            ">pooled",
            ">last / first",
            ">output tokens/s by round",
            ">pooled",
        ]);
        for cell in &of.cells {
            let columns = |name: &str| {
                let Some(over) = cell.figures.get(name) else {
                    return [NONE, NONE, NONE].map(str::to_owned);
                };
                [
                    by_round(over),
                    with_interval(over.pooled, over.interval.as_ref()),
                    over.over_first
                        .values()
                        .last()
                        .map_or(NONE.to_owned(), |r| with_interval(r.ratio, r.interval.as_ref())),
                ]
            };
            let [t1, t2, t3] = columns("ttft_ms");
            let [l1, l2, l3] = columns("latency_ms");
            let [r1, r2, _] = columns("output_tokens_per_s");
            table.row([format!("`{}`", cell.cell), t1, t2, t3, l1, l2, l3, r1, r2]);
        }
        let _ = writeln!(
            text,
            "### {} / {}\n\n{table}",
            escape(&of.framework),
            escape(&of.model)
        );
    }
    if text.is_empty() {
        return text;
    }
    format!(
        "## Rounds\n\nThe plan was run several times. By round: medians in the order of the rounds. Pooled: their geometric \
         mean, every round counting the same, with an interval resampled within the rounds. Last / first is paired by \
         prompt where the prompts are the same; where its interval leaves 1 out by more than 5 %, the later round's cell \
         is flagged `drift`.\n\n{text}"
    )
}

fn by_round(over: &OverRounds) -> String {
    let values: Vec<String> = over.rounds.values().map(|v| number(*v)).collect();
    values.join(", ")
}

/// What changed from each lane's start to its end.
pub(super) fn drift(summary: &RunSummary) -> String {
    let mut table = Table::new([
        "framework",
        "model",
        ">measured",
        ">TPOT within cells",
        ">latency within cells",
        ">temperature (°C)",
        ">throttled, halves",
    ]);
    let mut seen = String::new();
    for lane in &summary.lanes {
        let Some(d) = &lane.drift else { continue };
        let pair = |a: Option<f64>, b: Option<f64>, show: &dyn Fn(f64) -> String| match (a, b) {
            (Some(a), Some(b)) => format!("{} → {}", show(a), show(b)),
            _ => NONE.to_owned(),
        };
        table.row([
            framework(&lane.lane),
            escape(&lane.lane.model),
            duration(std::time::Duration::from_secs_f64(d.measured_s.max(0.0))),
            change(d.tpot.as_ref()),
            change(d.latency.as_ref()),
            pair(d.first_temperature_c, d.last_temperature_c, &number),
            pair(d.first_half_throttled, d.second_half_throttled, &percent),
        ]);
        for text in &d.seen {
            let _ = writeln!(
                seen,
                "- **{} / {}:** {}.",
                framework(&lane.lane),
                escape(&lane.lane.model),
                escape(text)
            );
        }
    }
    if table.is_empty() {
        return String::new();
    }
    if seen.is_empty() {
        seen.push_str("No lane drifts.\n");
    }
    format!(
        "## Drift over the lanes\n\n{table}\nA lane measures each cell once, so its cells tell by the trend that they have in \
         common: of requests that met the same load (one after another, or in a steady state), as means of batches longer \
         than the figures are correlated, ten at least (pooled Kendall test; change over the length of a cell, with its \
         p value). A change counts from p < 0.001 and 5 % on; the cells that it touches are flagged `drift`. Clocks follow \
         the load, so they are compared with the same cell in another round only (3 %).\n\n{seen}"
    )
}

fn change(figure: Option<&DriftFigure>) -> String {
    figure.map_or(NONE.to_owned(), |f| {
        let p = if f.p < 0.001 {
            "< 0.001".to_owned()
        } else {
            format!("{:.3}", f.p)
        };
        format!("{:+.1} % (p {p})", f.change * 100.0)
    })
}

/// How the exact lengths were found, and the chat template's share by lane.
pub(super) fn prompts(summary: &RunSummary) -> String {
    if summary.prompt_lengths.is_empty() {
        return String::new();
    }
    let mut table = Table::new([
        "model",
        "counted by",
        ">lengths",
        ">not exact",
        ">template, one message",
        ">template, system and user",
        "template confirmed",
        ">requests asked",
    ]);
    let mut off = String::new();
    for p in &summary.prompt_lengths {
        table.row([
            escape(&p.model),
            escape(&p.source),
            count(p.lengths.len() as u64),
            count(p.lengths.iter().filter(|l| l.asked != l.reached).count() as u64),
            p.template_user.map_or(NONE.to_owned(), |t| t.to_string()),
            p.template_system_and_user
                .map_or(NONE.to_owned(), |t| t.to_string()),
            if p.template_user.is_none() {
                // The lanes' own shares stand below.
                NONE.to_owned()
            } else if p.template_confirmed {
                "yes".to_owned()
            } else {
                format!("no: uncertain by {} tokens", p.template_disagreement)
            },
            count(p.probes),
        ]);
        for l in p.lengths.iter().filter(|l| l.asked != l.reached) {
            let _ = writeln!(
                off,
                "- {}, {}: {} tokens asked, {} reached.",
                escape(&p.model),
                l.what,
                l.asked,
                l.reached
            );
        }
        for (separate, together) in p.joints.iter().filter(|(a, b)| a != b) {
            let _ = writeln!(
                off,
                "- {}: a system prompt and a question of {separate} tokens in all count {together} together.",
                escape(&p.model)
            );
        }
    }
    let mut shares = Table::new([
        "model",
        "framework",
        ">template tokens",
        "prompt tokens beyond it",
    ]);
    for lane in &summary.lanes {
        let wrong = lane
            .cells
            .iter()
            .flat_map(|c| &c.flags)
            .filter(|f| {
                matches!(
                    f.kind,
                    benchd_core::record::FlagKind::PromptLength
                        | benchd_core::record::FlagKind::TruncatedPrompt
                )
            })
            .count();
        shares.row([
            escape(&lane.lane.model),
            framework(&lane.lane),
            lane.template_tokens.map_or(NONE.to_owned(), |t| t.to_string()),
            if lane.cells.is_empty() {
                NONE.to_owned()
            } else if wrong == 0 {
                "as asked in every cell, within 2 %".to_owned()
            } else {
                format!("**off in {wrong} cells**, see the flags")
            },
        ]);
    }
    format!(
        "### Prompt lengths\n\nThe same texts went to every framework. Lengths are content tokens, the chat template left \
         out; the texts are in `calibration.json` and `prompts.jsonl`.\n\n{table}\n{off}{}{shares}\n",
        if off.is_empty() { "" } else { "\n" }
    )
}
