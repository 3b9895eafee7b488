//! `transcripts.md`.

use std::fmt::Write as _;

use super::{
    super::{
        number::{count, percent},
        table::{Table, code_block, escape},
    },
    Answer, Said, Sheet, Transcripts,
};
use benchd_plan::Language;
use benchd_prompts::{Ending, written};

/// Characters of a text that are shown.
pub(super) const MOST_CHARS: usize = 4_000;
/// Characters shown around the first difference.
const AROUND: usize = 40;
/// Put where a text leaves the first framework's.
const PARTS: char = '▸';

/// The whole file.
pub(in super::super) fn transcripts_md(transcripts: &Transcripts) -> String {
    let how = if transcripts.temperature == 0.0 {
        format!(
            "With temperature 0 frameworks that serve the same weights should answer alike at first: `{PARTS}` is put in where \
             an answer leaves the first framework's, and in the first one's where somebody leaves it. Other weights (4 bit \
             against 16) part sooner."
        )
    } else {
        format!(
            "They were sampled at temperature {}, so they differ by chance; where they part is not told.",
            transcripts.temperature
        )
    };
    let mut out = format!(
        "# Transcripts: {}\n\nThe written prompts in both languages and the first measured answer of each framework. A text \
         is shown up to {} characters; all of them are in `requests.jsonl`. {how} Nothing here is judged.\n\n",
        escape(&transcripts.run_id),
        count(MOST_CHARS as u64)
    );
    let mut last = None;
    for sheet in &transcripts.sheets {
        if last != Some((&sheet.model, sheet.prompt_type)) {
            let _ = writeln!(
                out,
                "## {}: {}\n",
                escape(&sheet.model),
                sheet.prompt_type.as_str()
            );
            if let Some(why) = written(sheet.prompt_type, Language::Ko).differs_in_kind {
                let _ = writeln!(
                    out,
                    "> **The Korean and the English prompt differ in kind:** {}.\n",
                    escape(why.trim_end_matches('.'))
                );
            }
            last = Some((&sheet.model, sheet.prompt_type));
        }
        out.push_str(&sheet_md(sheet));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn sheet_md(sheet: &Sheet) -> String {
    let language = match sheet.language {
        Language::Ko => "Korean",
        Language::En => "English",
    };
    let mut text = format!("### {language} (`{}`)\n\n", sheet.cell);
    for (id, prompt) in &sheet.prompts {
        let prompt = prompt.as_deref().unwrap_or("(its text is not in prompts.jsonl)");
        let _ = writeln!(text, "Prompt `{}`:\n\n{}", escape(id), block(&Said::of(prompt)));
    }
    let mut signs = Table::new([
        "framework",
        ">tokens",
        ">characters",
        ">Hangul among letters",
        ">broken characters",
        "finish reason",
        "ends",
        "against the first",
    ]);
    for (at, answer) in sheet.answers.iter().enumerate() {
        signs.row([
            escape(&answer.framework),
            answer.output_tokens.map_or("not told".to_owned(), count),
            count(answer.quality.characters),
            answer.quality.hangul_share.map_or("–".to_owned(), percent),
            count(answer.quality.replacement_characters),
            escape(answer.finish_reason.as_deref().unwrap_or("none")),
            match answer.quality.ending {
                Ending::Cut => "in mid-sentence",
                Ending::Empty => "**no text**",
                Ending::Complete => "with a sentence",
            }
            .to_owned(),
            if at == 0 {
                "–".to_owned()
            } else {
                against(sheet, answer)
            },
        ]);
    }
    let _ = writeln!(text, "{signs}");
    for answer in &sheet.answers {
        let _ = writeln!(text, "**{}**:\n", escape(&answer.framework));
        let same = answer.same_as.and_then(|at| sheet.answers.get(at));
        if let Some(same) = same.filter(|s| !s.text.text.is_empty()) {
            let _ = writeln!(
                text,
                "The same as {}, to the last character.\n",
                escape(&same.framework)
            );
            continue;
        }
        if !answer.reasoning.text.is_empty() {
            let _ = writeln!(text, "Reasoning:\n\n{}\nAnswer:\n", block(&answer.reasoning));
        }
        let _ = writeln!(text, "{}", block(&answer.text));
    }
    if let [first, others @ ..] = &sheet.answers[..] {
        for other in others {
            let Some(at) = other.text.parts_at else { continue };
            let _ = writeln!(
                text,
                "- {} and {} part at character {}: “{}” against “{}”.",
                escape(&first.framework),
                escape(&other.framework),
                count(at as u64 + 1),
                escape(&around(&first.text.text, at)),
                escape(&around(&other.text.text, at))
            );
        }
        if others.iter().any(|o| o.text.parts_at.is_some()) {
            text.push('\n');
        }
    }
    text
}

fn against(sheet: &Sheet, answer: &Answer) -> String {
    let first = &sheet.answers[0];
    match answer.text.parts_at.or(answer.reasoning.parts_at) {
        _ if first.prompt_id != answer.prompt_id => "another prompt".to_owned(),
        Some(at) => {
            let where_ = if answer.text.parts_at.is_some() {
                ""
            } else {
                " of the reasoning"
            };
            let token = answer
                .about_token(at)
                .map_or(String::new(), |t| format!(" (about token {})", count(t)));
            format!("parts at character {}{where_}{token}", count(at as u64 + 1))
        }
        None if answer.same_as == Some(0) => "the same".to_owned(),
        None => "not compared".to_owned(),
    }
}

/// A text around a place, the place marked.
fn around(text: &str, at: usize) -> String {
    let start = at.saturating_sub(AROUND / 2);
    let before: String = text.chars().skip(start).take(at - start).collect();
    let after: String = text.chars().skip(at).take(AROUND).collect();
    if after.is_empty() {
        format!("{before}{PARTS}(ends here)")
    } else {
        format!("{before}{PARTS}{after}")
    }
}

fn block(said: &Said) -> String {
    let mut shown = String::new();
    for (at, c) in said.text.chars().take(MOST_CHARS).enumerate() {
        if said.parts_at == Some(at) {
            shown.push(PARTS);
        }
        shown.push(c);
    }
    if said.parts_at == Some(said.characters) {
        shown.push(PARTS);
    }
    if said.characters > MOST_CHARS {
        let _ = write!(
            shown,
            "\n[… {} more characters]",
            count((said.characters - MOST_CHARS) as u64)
        );
    }
    code_block(shown.lines())
}
