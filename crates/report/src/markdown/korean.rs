//! Korean against English.

use std::fmt::Write as _;

use super::{
    super::{names::Names, number::*},
    Table, escape, lanes_of,
};
use benchd_analysis::{CellSummary, Comparison, RunSummary};
use benchd_plan::{Language, PromptType};
use benchd_prompts::written;

/// Marks a pair whose sides ask for different kinds of work.
const OTHER_KIND: &str = "†";

pub(super) fn section(
    summary: &RunSummary,
    model: &str,
    scenario: &str,
    (cells, names): (&[&CellSummary], &Names),
) -> String {
    let ratio =
        |c: Option<&Comparison>| c.map_or(NONE.to_owned(), |c| with_interval(c.ratio, c.interval.as_ref()));
    let mut tokens = Table::new([
        ">streams",
        "framework",
        ">prompt tokens",
        ">prompt tokens a character",
        ">prompt tokens a byte",
        ">output tokens",
        ">output tokens a character",
        ">output tokens a byte",
    ]);
    let mut speed = Table::new([
        ">streams",
        "framework",
        ">TTFT",
        ">latency",
        ">tokens/s",
        ">characters/s",
        ">bytes/s",
    ]);
    let mut by_type = Table::new([
        ">streams",
        "framework",
        "prompt",
        ">prompt tokens ko / en",
        ">ratio",
        ">output tokens ko / en",
        ">tokens a character ratio",
        ">TTFT ratio",
        ">characters/s ratio",
    ]);
    let mut kinds: Vec<(String, &str)> = Vec::new();
    for lane in lanes_of(summary, model) {
        for k in lane.korean.iter().filter(|k| k.scenario == scenario) {
            let (streams, name) = (count(k.concurrency.into()), escape(&names.lane(&lane.lane)));
            let all = |figure: &str| ratio(k.overall.get(figure));
            tokens.row([
                streams.clone(),
                name.clone(),
                all("prompt_tokens"),
                all("prompt_tokens_per_char"),
                all("prompt_tokens_per_byte"),
                all("output_tokens"),
                all("output_tokens_per_char"),
                all("output_tokens_per_byte"),
            ]);
            speed.row([
                streams.clone(),
                name.clone(),
                all("ttft_ms"),
                all("latency_ms"),
                all("tokens_per_s"),
                all("chars_per_s"),
                all("bytes_per_s"),
            ]);
            for (prompt, figures) in &k.prompts {
                let both = |name: &str| {
                    figures.get(name).map_or(NONE.to_owned(), |c| {
                        format!("{} / {}", optional(c.ko), optional(c.en))
                    })
                };
                let differs = differs_in_kind(prompt);
                let mark = if differs.is_some() { OTHER_KIND } else { "" };
                if let Some(why) = differs
                    && !kinds.iter().any(|(p, _)| p == prompt)
                {
                    kinds.push((prompt.clone(), why));
                }
                by_type.row([
                    streams.clone(),
                    name.clone(),
                    format!("{prompt}{mark}"),
                    both("prompt_tokens"),
                    ratio(figures.get("prompt_tokens")),
                    both("output_tokens"),
                    ratio(figures.get("output_tokens_per_char")),
                    ratio(figures.get("ttft_ms")),
                    ratio(figures.get("chars_per_s")),
                ]);
            }
        }
    }
    let mut text = String::new();
    if !tokens.is_empty() {
        let _ = writeln!(
            text,
            "Korean over English for the same meaning, paired by prompt (geometric mean over the prompts of the ratios of \
             medians; 1 is equal). Prompt tokens without the chat template:\n\n{tokens}\n{speed}\nBy prompt:\n\n{by_type}"
        );
        for (prompt, why) in &kinds {
            let _ = writeln!(
                text,
                "{OTHER_KIND} `{prompt}` differs in kind: {}.\n",
                escape(why.trim_end_matches('.'))
            );
        }
    }
    text.push_str(&texts(cells, names));
    text
}

/// Why a pair asks for different kinds of work, where it does.
fn differs_in_kind(prompt: &str) -> Option<&'static str> {
    let prompt_type = PromptType::ALL.into_iter().find(|t| t.as_str() == prompt)?;
    written(prompt_type, Language::Ko).differs_in_kind
}

fn texts(cells: &[&CellSummary], names: &Names) -> String {
    let mut texts = Table::new([
        "cell",
        "framework",
        ">output tokens a character",
        ">a byte",
        ">prompt tokens a character",
        ">a byte",
        ">characters/s p50",
        ">bytes/s p50",
    ]);
    let mut signs = Table::new([
        "cell",
        "framework",
        ">answers",
        ">Hangul among letters",
        ">broken characters",
        ">loops",
        ">cut at the limit",
        ">cut before it",
        ">empty",
    ]);
    for c in cells {
        let Some(t) = &c.text else { continue };
        let q = &t.quality;
        signs.row([
            format!("`{}`", c.cell),
            escape(&names.lane(&c.lane)),
            count(q.answers),
            q.hangul_share.map_or(NONE.to_owned(), percent),
            count(q.broken),
            count(q.looping),
            count(q.cut_at_limit),
            count(q.cut_before),
            count(q.empty),
        ]);
        texts.row([
            format!("`{}`", c.cell),
            escape(&names.lane(&c.lane)),
            optional(t.output_tokens_per_char),
            optional(t.output_tokens_per_byte),
            optional(t.prompt_tokens_per_char),
            optional(t.prompt_tokens_per_byte),
            spread(t.chars_per_s.as_ref())[0].clone(),
            spread(t.bytes_per_s.as_ref())[0].clone(),
        ]);
    }
    format!(
        "Text of the answers:\n\n{texts}\nSigns of the answers' quality (they judge no text; they show where to read: the \
         answers stand side by side in `transcripts.md`):\n\n{signs}\n"
    )
}
