//! The sentences of a verdict.

use benchd_core::{
    format::{chosen, chosen_percent, count, counted, number},
    stats::Interval,
};
use benchd_plan::{Bound, Cell, CellInput, Figure, ScenarioKind};

use super::super::{VerdictOutcome, context::asked_prompt_tokens};

/// Where a figure was taken, to be put behind what was seen: ` at 16 streams`.
pub(super) fn setting(cell: &Cell) -> String {
    let at = format!(" at {}", counted(cell.concurrency.into(), "stream"));
    let streams = if cell.concurrency == 1 { "" } else { &at };
    match (cell.kind, cell.input) {
        (ScenarioKind::PrefixCache, _) => " on the shared prefix".to_owned(),
        (ScenarioKind::Concurrent, _) => at,
        (_, CellInput::Exact { input_tokens }) => {
            format!(" on prompts of {} tokens{streams}", count(input_tokens.into()))
        }
        (_, CellInput::Written { .. } | CellInput::SharedPrefix { .. }) => streams.to_owned(),
    }
}

/// Tokens of a cell's prompts as the plan asks for them; 0 for written texts.
pub(super) fn prompt_tokens(cell: &Cell) -> u32 {
    asked_prompt_tokens(cell).unwrap_or(0)
}

/// A figure as people say it.
pub(super) fn noun(figure: Figure) -> &'static str {
    match figure {
        Figure::TtftMs => "time to first token",
        Figure::LatencyMs => "latency",
        Figure::TpotMs => "time per output token",
        Figure::TokensPerS => "tokens per second of a request",
        Figure::OutputTokensPerS => "output tokens per second",
        Figure::FirstTtftMs => "time to first token of the first request",
        Figure::LaterTtftMs => "time to first token of the later requests",
        Figure::LaterOverFirst => "later-over-first time to first token",
        Figure::ScalingEfficiency => "scaling efficiency",
        Figure::KoOverEnPromptTokens => "Korean-over-English ratio of prompt tokens",
        Figure::KoOverEnTokensPerS => "Korean-over-English ratio of tokens per second",
        Figure::KoOverEnCharsPerS => "Korean-over-English ratio of characters per second",
        Figure::KoOverEnTtftMs => "Korean-over-English ratio of the time to first token",
        Figure::KoOverEnLatencyMs => "Korean-over-English ratio of latency",
    }
}

/// `[1.24, 1.38]` with a space before it, or nothing.
pub(super) fn brackets(interval: Option<&Interval>) -> String {
    interval.map_or_else(String::new, |i| {
        format!(" [{}, {}]", number(i.low), number(i.high))
    })
}

/// What was seen, without the judgement: `SGLang generated 1.31 times vLLM's tokens per second [1.24, 1.38] on the
/// shared prefix`.
pub(super) fn seen(
    figure: Figure,
    of: &str,
    against: &str,
    setting: &str,
    effect: f64,
    interval: Option<&Interval>,
) -> String {
    let (times, brackets) = (number(effect), brackets(interval));
    match figure {
        Figure::OutputTokensPerS => {
            format!("{of} generated {times} times {against}'s tokens per second{brackets}{setting}")
        }
        figure => format!(
            "{of}'s {} was {times} times {against}'s{brackets}{setting}",
            noun(figure)
        ),
    }
}

/// How that stands to the threshold: `, above the threshold of 1.05`.
pub(super) fn stands(bound: Bound, outcome: VerdictOutcome) -> String {
    use VerdictOutcome::{Inconclusive, Refuted, Supported};
    match (bound, outcome) {
        (Bound::AtLeast(t), Supported) => format!(", above the threshold of {}", chosen(t)),
        (Bound::AtLeast(t), Refuted) => format!(", below the threshold of {}", chosen(t)),
        (Bound::AtLeast(t), Inconclusive) => format!("; the interval holds the threshold of {}", chosen(t)),
        (Bound::AtMost(t), Supported) => format!(", below the limit of {}", chosen(t)),
        (Bound::AtMost(t), Refuted) => format!(", above the limit of {}", chosen(t)),
        (Bound::AtMost(t), Inconclusive) => format!("; the interval holds the limit of {}", chosen(t)),
        (Bound::DiffersBy(share), Supported) | (Bound::Within(share), Refuted) => {
            format!(", a difference of more than {}", chosen_percent(share))
        }
        (Bound::DiffersBy(share), Refuted) | (Bound::Within(share), Supported) => {
            format!(", a difference of less than {}", chosen_percent(share))
        }
        (Bound::DiffersBy(share) | Bound::Within(share), Inconclusive) => {
            format!("; the interval holds the line of {}", chosen_percent(share))
        }
    }
}

/// The first letter large, but for a name that has its own capitals (vLLM).
pub(super) fn capital(text: &str) -> String {
    let word = text.split([' ', '\'']).next().unwrap_or("");
    if word.chars().any(char::is_uppercase) {
        return text.to_owned();
    }
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}
