//! Answers of all frameworks to the same written prompt, side by side, with the place where they part.

use std::fmt::Write as _;

use super::{
    markdown::Page,
    text::{escape, with_korean},
};
use crate::{
    number::{count, percent},
    transcripts::{Answer, Said, Sheet, Transcripts},
};
use benchd_analysis::LOOP_SHARE;
use benchd_core::format::counted;
use benchd_plan::Language;
use benchd_prompts::{Ending, written};

/// Characters of all shown answers together; a page of many models and frameworks shows less of each.
const BUDGET: usize = 300_000;
/// Characters of one text that are shown at least and at most.
const FEWEST: usize = 300;
const MOST: usize = 1_600;
/// Characters before a first difference that lies further on than what is shown.
const BEFORE: usize = 80;
/// Characters that are marked at the first difference, at most.
const MARKED: usize = 24;
/// Share of Hangul among the letters of a Korean answer below which somebody should look at it.
const LITTLE_HANGUL: f64 = 0.5;

/// The section.
pub(super) fn section(transcripts: &Transcripts, page: &mut Page) -> String {
    let answers: usize = transcripts.sheets.iter().map(|s| s.answers.len()).sum();
    let most = (BUDGET / answers.max(1)).clamp(FEWEST, MOST);
    let mut out = page.heading(2, "Answers side by side", "Answers side by side");
    let _ = writeln!(
        out,
        "<p>The first measured answer of each framework to each written prompt, so that people can judge what no figure here \
         does. {} A text is shown up to {} characters; more of it is in <a href=\"transcripts.md\">transcripts.md</a>, all of \
         it in <code>requests.jsonl</code>.</p>",
        if transcripts.temperature == 0.0 {
            "With temperature 0 the same weights should give the same words at first: what an answer shares with the first \
             framework's is grey, and <mark>marked</mark> where it leaves it. Other weights (4 bit against 16) part sooner."
                .to_owned()
        } else {
            format!(
                "They were sampled at temperature {}, so they differ by chance; where they part is not marked.",
                transcripts.temperature
            )
        },
        count(most as u64)
    );
    let mut last = None;
    for sheet in &transcripts.sheets {
        let first = last != Some(&sheet.model);
        if first {
            out.push_str(&page.heading(3, &sheet.model, &with_korean(&sheet.model)));
            last = Some(&sheet.model);
        }
        out.push_str(&sheet_html(sheet, page, most, first));
    }
    format!("<section>\n{out}</section>\n")
}

fn sheet_html(sheet: &Sheet, page: &mut Page, most: usize, open: bool) -> String {
    let (language, lang) = match sheet.language {
        Language::Ko => ("Korean", "ko"),
        Language::En => ("English", "en"),
    };
    let mut out = format!(
        "<details class=\"sheet\"{}><summary><b>{}, {language}</b> <span class=\"finding\">{}</span></summary>\n",
        if open { " open" } else { "" },
        sheet.prompt_type.as_str(),
        escape(&finding(sheet))
    );
    if let Some(why) = written(sheet.prompt_type, Language::Ko).differs_in_kind {
        let _ = writeln!(
            out,
            "<p>The Korean and the English prompt differ in kind: {}.</p>",
            with_korean(why.trim_end_matches('.'))
        );
    }
    for (id, prompt) in &sheet.prompts {
        let text = prompt.as_deref().unwrap_or("(its text is not in prompts.jsonl)");
        let _ = writeln!(
            out,
            "<details class=\"prompt\"><summary>Prompt <code>{}</code></summary><div class=\"said\" lang=\"{lang}\">{}</div></details>",
            escape(id),
            said(&Said::of(text), most)
        );
    }
    out.push_str("<div class=\"answers\">\n");
    for answer in &sheet.answers {
        let _ = write!(
            out,
            "<article><h4>{}</h4><p class=\"signs\">{}</p>",
            page.framework(&answer.framework),
            signs(sheet, answer)
        );
        if !answer.reasoning.text.is_empty() {
            let _ = write!(
                out,
                "<details class=\"prompt\"><summary>Reasoning, {} characters</summary><div class=\"said\" lang=\"{lang}\">{}</div></details>",
                count(answer.reasoning.characters as u64),
                said(&answer.reasoning, most)
            );
        }
        let _ = writeln!(
            out,
            "<div class=\"said\" lang=\"{lang}\" tabindex=\"0\">{}</div></article>",
            said(&answer.text, most)
        );
    }
    out.push_str("</div></details>\n");
    out
}

/// What is seen before the prompt is opened.
fn finding(sheet: &Sheet) -> String {
    match &sheet.answers[..] {
        [] | [_] => "one framework answered".to_owned(),
        all if all[1..].iter().all(|a| a.same_as == Some(0)) => "all answers are the same".to_owned(),
        [first, ..] => match first.text.parts_at.or(first.reasoning.parts_at) {
            Some(0) => "no beginning in common".to_owned(),
            Some(at) => format!("answers diverge after {}", counted(at as u64, "character")),
            None => "not compared".to_owned(),
        },
    }
}

/// Size and oddities of an answer.
fn signs(sheet: &Sheet, answer: &Answer) -> String {
    let q = &answer.quality;
    let mut plain = vec![
        answer
            .output_tokens
            .map_or("tokens not told".to_owned(), |t| format!("{} tokens", count(t))),
        format!("{} characters", count(q.characters)),
    ];
    plain.extend(q.hangul_share.map(|s| format!("{} Hangul", percent(s))));
    plain.push(match answer.finish_reason.as_deref() {
        Some("stop") => "ended by itself".to_owned(),
        Some("length") => "cut at the limit".to_owned(),
        Some(other) => format!("finish reason {other}"),
        None => "no finish reason".to_owned(),
    });
    let first = &sheet.answers[0];
    if let Some(same) = answer.same_as.and_then(|at| sheet.answers.get(at)) {
        plain.push(format!("the same as {}, to the last character", same.framework));
    } else if first.prompt_id != answer.prompt_id {
        plain.push("another prompt".to_owned());
    } else if !std::ptr::eq(first, answer)
        && let Some(at) = answer.text.parts_at
    {
        let token = answer
            .about_token(at)
            .map_or(String::new(), |t| format!(", about token {}", count(t)));
        plain.push(format!(
            "leaves {} at character {}{token}",
            first.framework,
            count(at as u64 + 1)
        ));
    }
    let mut odd: Vec<(&str, String)> = Vec::new();
    if q.ending == Ending::Empty {
        odd.push(("bad", "no text".to_owned()));
    }
    if q.replacement_characters > 0 {
        odd.push((
            "bad",
            format!("{} broken characters", count(q.replacement_characters)),
        ));
    }
    if q.repetition.repeated_share >= LOOP_SHARE {
        odd.push(("unsure", "repeats itself".to_owned()));
    }
    if sheet.language == Language::Ko && q.hangul_share.is_some_and(|s| s < LITTLE_HANGUL) {
        odd.push(("unsure", "little Hangul".to_owned()));
    }
    if q.ending == Ending::Cut && answer.finish_reason.as_deref() == Some("stop") {
        odd.push(("unsure", "stops in mid-sentence".to_owned()));
    }
    let badges: String = odd
        .iter()
        .map(|(class, says)| format!(" <span class=\"badge {class}\">{}</span>", escape(says)))
        .collect();
    format!("{}{badges}", escape(&plain.join(" · ")))
}

/// A text: what is shared, where it parts, the rest; of a long one its beginning, and the place where it parts.
fn said(said: &Said, most: usize) -> String {
    let chars: Vec<char> = said.text.chars().collect();
    let n = chars.len();
    let far = said.parts_at.filter(|at| n > most && *at + MARKED > most);
    let mut shown = match far {
        None => vec![(0, n.min(most))],
        Some(at) => {
            let head = most / 2;
            let from = at.saturating_sub(BEFORE).max(head);
            vec![(0, head), (from, n.min(from + most - head))]
        }
    };
    // Without a gap they are one.
    if let [(start, a), (b, end)] = shown[..]
        && a == b
    {
        shown = vec![(start, end)];
    }
    let mut out = String::new();
    let mut end = 0;
    for (from, to) in shown {
        if from > end {
            gap(&mut out, from - end);
        }
        end = to;
        stretch(&mut out, &chars, (from, to), said.parts_at);
    }
    if n > end {
        gap(&mut out, n - end);
    } else if said.parts_at == Some(n) {
        out.push_str("<mark>(ends here)</mark>");
    }
    out
}

fn gap(out: &mut String, characters: usize) {
    let _ = write!(
        out,
        "<span class=\"gap\"> [… {} characters …] </span>",
        count(characters as u64)
    );
}

fn stretch(out: &mut String, chars: &[char], (start, end): (usize, usize), parts_at: Option<usize>) {
    let text = |from: usize, to: usize| -> String {
        let (from, to) = (from.clamp(start, end), to.clamp(start, end));
        escape(&chars[from..to].iter().collect::<String>())
    };
    let Some(at) = parts_at else {
        out.push_str(&text(start, end));
        return;
    };
    let marked = chars.iter().skip(at).take(MARKED);
    // A word, with the white space before it.
    let word = at
        + marked
            .enumerate()
            .find(|(i, c)| *i > 0 && c.is_whitespace())
            .map_or(MARKED, |(i, _)| i);
    let shared = text(start, at);
    if !shared.is_empty() {
        let _ = write!(out, "<span class=\"shared\">{shared}</span>");
    }
    let differs = text(at, word);
    if !differs.is_empty() {
        let _ = write!(out, "<mark>{differs}</mark>");
    }
    out.push_str(&text(word, end));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, parts_at: Option<usize>) -> Said {
        Said {
            parts_at,
            ..Said::of(text)
        }
    }

    #[test]
    fn what_is_shared_steps_back_and_the_first_difference_is_marked() {
        assert_eq!(
            said(&of("서울은 <수도>입니다. 네.", Some(4)), 100),
            "<span class=\"shared\">서울은 </span><mark>&lt;수도&gt;입니다.</mark> 네."
        );
        assert_eq!(said(&of("alike", None), 100), "alike");
        assert_eq!(
            said(&of("one", Some(3)), 100),
            "<span class=\"shared\">one</span><mark>(ends here)</mark>"
        );
        assert_eq!(said(&of("other", Some(0)), 100), "<mark>other</mark>");
        assert_eq!(said(&of("", Some(0)), 100), "<mark>(ends here)</mark>");
    }

    #[test]
    fn of_a_long_text_the_place_where_it_parts_is_seen_too() {
        let text = format!("{}HERE and on{}", "a".repeat(5_000), "b".repeat(5_000));
        let html = said(&of(&text, Some(5_000)), 400);
        assert!(html.contains("<mark>HERE</mark> and on"), "{html}");
        assert!(html.contains("[… 4,720 characters …]"), "{html}");
        assert!(html.chars().filter(|c| *c == 'a' || *c == 'b').count() < 450);
        let head = said(&of(&text, None), 400);
        assert!(head.contains("[… 9,611 characters …]"), "{head}");
        // Near the edge of what is shown the parts join.
        let near = said(&of(&text[4_700..], Some(300)), 310);
        assert_eq!(near.matches("<span class=\"gap\">").count(), 2, "{near}");
        let joined = said(&of(&text[4_840..], Some(160)), 170);
        assert_eq!(joined.matches("<span class=\"gap\">").count(), 1, "{joined}");
    }
}
