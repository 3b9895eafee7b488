//! Characters and bytes of written answers; Korean against English, paired by prompt.

use std::collections::HashMap;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::{Distribution, distribution::SEED};
use benchd_core::{
    record::RequestRecord,
    stats::{DEFAULT_LEVEL, Interval, Sorted, median_ratio_interval, stratified_ratio_interval},
};
use benchd_plan::{Cell, CellInput, Language, PromptType};
use benchd_prompts::{Ending, quality};

/// Characters and bytes of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TextSize {
    /// Unicode scalar values.
    pub(super) chars: u64,
    /// Bytes of UTF-8.
    pub(super) bytes: u64,
}

impl TextSize {
    /// The size of `text`.
    pub(super) fn of(text: &str) -> Self {
        Self {
            chars: text.chars().count() as u64,
            bytes: text.len() as u64,
        }
    }
}

impl std::ops::Add for TextSize {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            chars: self.chars + other.chars,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Characters and bytes of a cell's answers, reasoning included (as in its tokens).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TextFigures {
    /// Characters (Unicode scalar values) of all answers.
    pub chars: u64,
    /// Bytes of all answers in UTF-8.
    pub bytes: u64,
    /// Output tokens over characters, all answers together.
    pub output_tokens_per_char: Option<f64>,
    /// Output tokens over bytes, all answers together.
    pub output_tokens_per_byte: Option<f64>,
    /// Prompt tokens (without the chat template's share, where it is known) over characters of the prompt.
    pub prompt_tokens_per_char: Option<f64>,
    /// Prompt tokens (without the chat template's share, where it is known) over bytes of the prompt.
    pub prompt_tokens_per_byte: Option<f64>,
    /// Characters of a request's answer over its latency, characters per second.
    pub chars_per_s: Option<Distribution>,
    /// Bytes of a request's answer over its latency, bytes per second.
    pub bytes_per_s: Option<Distribution>,
    /// Signs of the answers' quality.
    pub quality: QualitySigns,
}

/// Share of repeated four-word phrases from which on an answer counts as a loop.
pub const LOOP_SHARE: f64 = 0.5;

/// Signs of the quality of a cell's answers (without reasoning). They judge no text; they show where to read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct QualitySigns {
    /// Answers looked at: all successful requests.
    pub answers: u64,
    /// Share of Hangul among the letters, 0 to 1, mean over the answers that have letters.
    pub hangul_share: Option<f64>,
    /// Answers with replacement characters (U+FFFD): bytes that were no text.
    pub broken: u64,
    /// Answers in which at least [`LOOP_SHARE`] of the four-word phrases came before.
    pub looping: u64,
    /// Answers that end in mid-sentence at the output limit (finish reason `length`).
    pub cut_at_limit: u64,
    /// Answers that end in mid-sentence though the model ended them itself.
    pub cut_before: u64,
    /// Answers without any text.
    pub empty: u64,
}

impl QualitySigns {
    /// Counts one answer; its share of Hangul, where it has letters.
    fn add(&mut self, r: &RequestRecord) -> Option<f64> {
        let signs = quality(&r.text);
        self.answers += 1;
        self.broken += u64::from(signs.replacement_characters > 0);
        self.looping += u64::from(signs.repetition.repeated_share >= LOOP_SHARE);
        let at_limit = r.finish_reason.as_deref() == Some("length");
        match signs.ending {
            Ending::Empty => self.empty += 1,
            Ending::Cut if at_limit => self.cut_at_limit += 1,
            Ending::Cut => self.cut_before += 1,
            Ending::Complete => {}
        }
        signs.hangul_share
    }
}

/// Sums over a cell's answers.
#[derive(Debug, Clone, Default)]
pub(super) struct TextFold {
    size: TextSize,
    /// Of answers whose tokens are known.
    counted: TextSize,
    tokens: u64,
    prompt_size: TextSize,
    prompt_tokens: u64,
    chars_per_s: Vec<f64>,
    bytes_per_s: Vec<f64>,
    tokens_per_char: Vec<f64>,
    tokens_per_byte: Vec<f64>,
    prompt_tokens_per_char: Vec<f64>,
    prompt_tokens_per_byte: Vec<f64>,
    /// Without the chat template's share, where it is known.
    net_prompt_tokens: Vec<f64>,
    quality: QualitySigns,
    /// Sum of the answers' shares of Hangul, and how many answers have one.
    hangul: (f64, u64),
}

impl TextFold {
    pub(super) fn add(
        &mut self,
        r: &RequestRecord,
        prompts: &HashMap<String, TextSize>,
        template: Option<u32>,
    ) {
        let size = TextSize::of(&r.text) + TextSize::of(&r.reasoning);
        self.size = self.size + size;
        if let Some(share) = self.quality.add(r) {
            self.hangul = (self.hangul.0 + share, self.hangul.1 + 1);
        }
        if let Some(tokens) = r.output_tokens {
            self.tokens += tokens;
            self.counted = self.counted + size;
            if size.chars > 0 {
                self.tokens_per_char.push(tokens as f64 / size.chars as f64);
                self.tokens_per_byte.push(tokens as f64 / size.bytes as f64);
            }
        }
        if let Some(tokens) = r.prompt_tokens {
            let net = tokens.saturating_sub(u64::from(template.unwrap_or(0)));
            self.net_prompt_tokens.push(net as f64);
            if let Some(&size) = prompts.get(&r.prompt_id).filter(|s| s.chars > 0) {
                self.prompt_tokens += net;
                self.prompt_size = self.prompt_size + size;
                self.prompt_tokens_per_char.push(net as f64 / size.chars as f64);
                self.prompt_tokens_per_byte.push(net as f64 / size.bytes as f64);
            }
        }
        let seconds = r.latency_us() as f64 / 1e6;
        if seconds > 0.0 {
            self.chars_per_s.push(size.chars as f64 / seconds);
            self.bytes_per_s.push(size.bytes as f64 / seconds);
        }
    }

    pub(super) fn figures(&self) -> Option<TextFigures> {
        let ratio = |tokens: u64, of: u64| (of > 0).then(|| tokens as f64 / of as f64);
        Some(TextFigures {
            chars: self.size.chars,
            bytes: self.size.bytes,
            output_tokens_per_char: ratio(self.tokens, self.counted.chars),
            output_tokens_per_byte: ratio(self.tokens, self.counted.bytes),
            prompt_tokens_per_char: ratio(self.prompt_tokens, self.prompt_size.chars),
            prompt_tokens_per_byte: ratio(self.prompt_tokens, self.prompt_size.bytes),
            chars_per_s: Some(Distribution::of_values(self.chars_per_s.clone(), 0)?),
            bytes_per_s: Distribution::of_values(self.bytes_per_s.clone(), 0),
            quality: QualitySigns {
                hangul_share: (self.hangul.1 > 0).then(|| self.hangul.0 / self.hangul.1 as f64),
                ..self.quality.clone()
            },
        })
    }
}

/// A written cell's numbers, request by request.
#[derive(Debug, Default)]
pub(super) struct WrittenSamples {
    pub(super) output_tokens: Option<Sorted>,
    pub(super) ttft_ms: Option<Sorted>,
    pub(super) latency_ms: Option<Sorted>,
    pub(super) tokens_per_s: Option<Sorted>,
    /// The twin's answers are in the same language: they say nothing of Korean answers.
    pub(super) one_language: bool,
    pub(super) text: TextFold,
}

/// Figures of the answers' text: over several prompts only those count whose answers are in the two languages.
const OF_ANSWERS: [&str; 5] = [
    "output_tokens",
    "output_tokens_per_char",
    "output_tokens_per_byte",
    "chars_per_s",
    "bytes_per_s",
];

/// Korean against English in one figure: medians over requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Comparison {
    /// Korean; `None` where several prompts are taken together.
    pub ko: Option<f64>,
    /// English; `None` where several prompts are taken together.
    pub en: Option<f64>,
    /// Korean over English: of the medians, or the geometric mean of that over the prompts.
    pub ratio: f64,
    /// 95 % interval of the ratio; `None` where a side has fewer than two values.
    pub interval: Option<Interval>,
}

/// Korean against English for the same meaning, at one concurrency. Figures by name: `prompt_tokens` (without
/// the chat template's share, where it is known), `prompt_tokens_per_char`, `prompt_tokens_per_byte`, `output_tokens`,
/// `output_tokens_per_char`, `output_tokens_per_byte`, `ttft_ms`, `latency_ms`, `tokens_per_s`, `chars_per_s`,
/// `bytes_per_s`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct KoreanComparison {
    /// The scenario's name in the plan.
    pub scenario: String,
    /// Streams.
    pub concurrency: u32,
    /// By prompt type.
    pub prompts: IndexMap<String, IndexMap<String, Comparison>>,
    /// Over all prompt types, paired by type; figures of the answers' text without the types whose answers are in one
    /// language.
    pub overall: IndexMap<String, Comparison>,
}

impl WrittenSamples {
    fn figures(&self) -> [(&'static str, Option<Sorted>); 11] {
        let sorted = |values: &[f64]| Sorted::new(values.to_vec());
        [
            ("prompt_tokens", sorted(&self.text.net_prompt_tokens)),
            (
                "prompt_tokens_per_char",
                sorted(&self.text.prompt_tokens_per_char),
            ),
            (
                "prompt_tokens_per_byte",
                sorted(&self.text.prompt_tokens_per_byte),
            ),
            ("output_tokens", self.output_tokens.clone()),
            ("ttft_ms", self.ttft_ms.clone()),
            ("latency_ms", self.latency_ms.clone()),
            ("tokens_per_s", self.tokens_per_s.clone()),
            ("chars_per_s", sorted(&self.text.chars_per_s)),
            ("bytes_per_s", sorted(&self.text.bytes_per_s)),
            ("output_tokens_per_char", sorted(&self.text.tokens_per_char)),
            ("output_tokens_per_byte", sorted(&self.text.tokens_per_byte)),
        ]
    }

    /// The median of a figure over the requests, by its name in [`KoreanComparison`]; `None` where it says nothing of the language.
    pub(super) fn median(&self, figure: &str) -> Option<f64> {
        if self.one_language && OF_ANSWERS.contains(&figure) {
            return None;
        }
        let sample = match figure {
            "prompt_tokens" => Sorted::new(self.text.net_prompt_tokens.clone()),
            "chars_per_s" => Sorted::new(self.text.chars_per_s.clone()),
            "ttft_ms" => self.ttft_ms.clone(),
            "latency_ms" => self.latency_ms.clone(),
            "tokens_per_s" => self.tokens_per_s.clone(),
            _ => None,
        };
        sample.map(|s| s.median())
    }
}

/// Pairs the written cells of a lane by scenario, concurrency and prompt type.
pub(super) fn compare(cells: &[(&Cell, &WrittenSamples)]) -> Vec<KoreanComparison> {
    type Sides<'a> = (Option<&'a WrittenSamples>, Option<&'a WrittenSamples>);
    let mut groups: IndexMap<(String, u32), IndexMap<PromptType, Sides<'_>>> = IndexMap::new();
    for &(cell, samples) in cells {
        if let CellInput::Written {
            prompt_type,
            language,
        } = cell.input
        {
            let group = groups
                .entry((cell.scenario.clone(), cell.concurrency))
                .or_default();
            let sides = group.entry(prompt_type).or_default();
            match language {
                Language::Ko => sides.0 = Some(samples),
                Language::En => sides.1 = Some(samples),
            }
        }
    }
    groups
        .into_iter()
        .filter_map(|((scenario, concurrency), types)| {
            let mut comparison = KoreanComparison {
                scenario,
                concurrency,
                prompts: IndexMap::new(),
                overall: IndexMap::new(),
            };
            let mut strata: IndexMap<&str, Vec<(Sorted, Sorted)>> = IndexMap::new();
            for (prompt_type, sides) in types {
                let (Some(ko), Some(en)) = sides else { continue };
                let one_language = ko.one_language;
                let figures = comparison
                    .prompts
                    .entry(prompt_type.as_str().to_owned())
                    .or_default();
                for ((name, ko), (_, en)) in ko.figures().into_iter().zip(en.figures()) {
                    let (Some(ko), Some(en)) = (ko, en) else { continue };
                    if en.median() > 0.0 {
                        figures.insert(name.to_owned(), of_one(&ko, &en));
                    }
                    if !(one_language && OF_ANSWERS.contains(&name)) {
                        strata.entry(name).or_default().push((ko, en));
                    }
                }
            }
            for (name, strata) in strata {
                if let Some((ratio, interval)) = stratified_ratio_interval(&strata, SEED, DEFAULT_LEVEL) {
                    let all = Comparison {
                        ko: None,
                        en: None,
                        ratio,
                        interval,
                    };
                    comparison.overall.insert(name.to_owned(), all);
                }
            }
            (!comparison.prompts.is_empty()).then_some(comparison)
        })
        .collect()
}

fn of_one(ko: &Sorted, en: &Sorted) -> Comparison {
    Comparison {
        ko: Some(ko.median()),
        en: Some(en.median()),
        ratio: ko.median() / en.median(),
        interval: median_ratio_interval(ko, en, SEED, DEFAULT_LEVEL),
    }
}
