//! `transcripts.md`: the written prompts and what each framework answered, one after another.
//!
//! Bounded: of each scenario with written prompts its lowest concurrency, of each prompt and language the first
//! measured request of the first round, and of each text its first [`MOST_CHARS`] characters.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader},
};

use indexmap::IndexMap;
use serde::Deserialize;

use super::{
    ReportError,
    table::{code_block, escape},
};
use crate::{
    analysis::{AnalysisError, first_difference},
    journal::{self, DiskError, RunDir, State, cell_records},
    plan::{Cell, CellInput, Lane, Language, PromptType},
    prompt::{Ending, quality, written},
    record::{Phase, RequestRecord},
};

/// Characters of a text that are shown.
const MOST_CHARS: usize = 4_000;
/// Characters shown around the first difference.
const AROUND: usize = 40;

/// One answer.
struct Answer {
    framework: String,
    record: RequestRecord,
}

/// One prompt in one language, with the answers to it.
struct Sheet {
    prompt_type: PromptType,
    language: Language,
    model: String,
    answers: Vec<Answer>,
}

/// The whole file; `None` where no cell has written prompts and answers.
pub(super) fn transcripts_md(dir: &RunDir, lanes: &[Lane]) -> Result<Option<String>, ReportError> {
    let replay = journal::replay(&dir.journal()).map_err(AnalysisError::from)?;
    let state = State::from_entries(&replay.entries);
    let mut sheets: IndexMap<(String, String), Sheet> = IndexMap::new();
    for lane in lanes.iter().filter(|l| l.id.round == 1) {
        for (cell, prompt_type, language) in shown(&lane.cells) {
            let Some(finished) = state.finished(&lane.id, &cell.id) else {
                continue;
            };
            // A damaged file is named in the report's own list of cells without figures.
            let Ok(records) = cell_records(dir.root(), &finished.ended) else {
                continue;
            };
            let first = records
                .map_while(Result::ok)
                .find(|r| r.phase == Phase::Measured && r.is_ok());
            let Some(record) = first else { continue };
            sheets
                .entry((lane.id.model.clone(), cell.id.clone()))
                .or_insert_with(|| Sheet {
                    prompt_type,
                    language,
                    model: lane.id.model.clone(),
                    answers: Vec::new(),
                })
                .answers
                .push(Answer {
                    framework: lane.id.framework.clone(),
                    record,
                });
        }
    }
    if sheets.is_empty() {
        return Ok(None);
    }
    let ids: HashSet<&str> = sheets
        .values()
        .flat_map(|s| &s.answers)
        .map(|a| a.record.prompt_id.as_str())
        .collect();
    let prompts = prompt_texts(dir, &ids)?;
    let mut out = format!(
        "# Transcripts: {}\n\nThe written prompts in both languages and the first measured answer of each framework. A text \
         is shown up to {MOST_CHARS} characters; all of them are in `requests.jsonl`. With temperature 0 frameworks that serve \
         the same weights should answer alike at first; where they part is said. Nothing here is judged.\n\n",
        escape(dir.id())
    );
    let mut last = None;
    for ((_, cell), sheet) in &sheets {
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
        out.push_str(&sheet_md(cell, sheet, &prompts));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    Ok(Some(out))
}

/// The written cells that are shown: each scenario's lowest concurrency, Korean and English of a prompt together.
fn shown(cells: &[Cell]) -> Vec<(&Cell, PromptType, Language)> {
    let mut lowest: HashMap<&str, u32> = HashMap::new();
    for cell in cells {
        let streams = lowest.entry(&cell.scenario).or_insert(cell.concurrency);
        *streams = cell.concurrency.min(*streams);
    }
    cells
        .iter()
        .filter(|c| lowest.get(c.scenario.as_str()) == Some(&c.concurrency))
        .filter_map(|cell| match cell.input {
            CellInput::Written {
                prompt_type,
                language,
            } => Some((cell, prompt_type, language)),
            _ => None,
        })
        .collect()
}

fn sheet_md(cell: &str, sheet: &Sheet, prompts: &HashMap<String, String>) -> String {
    let language = match sheet.language {
        Language::Ko => "Korean",
        Language::En => "English",
    };
    let mut text = format!("### {language} (`{cell}`)\n\n");
    let mut before: Vec<&str> = Vec::new();
    for answer in &sheet.answers {
        let id = answer.record.prompt_id.as_str();
        if !before.contains(&id) {
            let prompt = prompts
                .get(id)
                .map_or("(its text is not in prompts.jsonl)", String::as_str);
            let _ = writeln!(text, "Prompt `{}`:\n\n{}", escape(id), block(prompt));
            before.push(id);
        }
        let r = &answer.record;
        let signs = quality(&r.text);
        let mut notes = vec![
            r.output_tokens
                .map_or("tokens not told".to_owned(), |t| format!("{t} tokens")),
            format!("{} characters", signs.characters),
            format!("finish reason {}", r.finish_reason.as_deref().unwrap_or("none")),
        ];
        notes.extend(signs.hangul_share.map(|s| format!("{:.0} % Hangul", s * 100.0)));
        if signs.replacement_characters > 0 {
            notes.push(format!("**{} broken characters**", signs.replacement_characters));
        }
        match signs.ending {
            Ending::Cut => notes.push("ends in mid-sentence".to_owned()),
            Ending::Empty => notes.push("**no text**".to_owned()),
            Ending::Complete => {}
        }
        let _ = writeln!(
            text,
            "**{}** ({}):\n",
            escape(&answer.framework),
            escape(&notes.join(", ")).replace("\\*\\*", "**")
        );
        if !r.reasoning.is_empty() {
            let _ = writeln!(text, "Reasoning:\n\n{}\nAnswer:\n", block(&r.reasoning));
        }
        let _ = writeln!(text, "{}", block(&r.text));
    }
    if let [first, others @ ..] = &sheet.answers[..] {
        for other in others {
            let said = match first_difference(&first.record.text, &other.record.text) {
                None => "answers are the same to the last character".to_owned(),
                Some(at) => format!(
                    "answers part at character {at}: “{}” against “{}”",
                    escape(&around(&first.record.text, at)),
                    escape(&around(&other.record.text, at))
                ),
            };
            let _ = writeln!(
                text,
                "- {} and {}: {said}.",
                escape(&first.framework),
                escape(&other.framework)
            );
        }
        if !others.is_empty() {
            text.push('\n');
        }
    }
    text
}

fn around(text: &str, at: usize) -> String {
    let start = at.saturating_sub(AROUND / 2);
    let part: String = text.chars().skip(start).take(AROUND).collect();
    if part.is_empty() {
        "(ends before)".to_owned()
    } else {
        part
    }
}

fn block(text: &str) -> String {
    let mut shown: String = text.chars().take(MOST_CHARS).collect();
    if shown.len() < text.len() {
        shown.push_str("\n[…]");
    }
    code_block(shown.lines())
}

#[derive(Deserialize)]
struct PromptLine {
    id: String,
    messages: Vec<MessageLine>,
}

#[derive(Deserialize)]
struct MessageLine {
    content: String,
}

/// The texts of these prompts.
fn prompt_texts(dir: &RunDir, ids: &HashSet<&str>) -> Result<HashMap<String, String>, ReportError> {
    let path = dir.prompts();
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(e) => return Err(DiskError::new("open", &path, e).into()),
    };
    let (mut reader, mut line, mut texts) = (BufReader::new(file), Vec::new(), HashMap::new());
    loop {
        line.clear();
        let n = reader
            .read_until(b'\n', &mut line)
            .map_err(|e| DiskError::new("read", &path, e))?;
        if n == 0 {
            return Ok(texts);
        }
        // Lines that are no prompts are named by the analysis.
        if let Ok(prompt) = serde_json::from_slice::<PromptLine>(&line)
            && ids.contains(prompt.id.as_str())
        {
            let text: Vec<String> = prompt.messages.into_iter().map(|m| m.content).collect();
            texts.insert(prompt.id, text.join("\n\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analysis::testing::{self, *},
        plan::ScenarioKind,
    };

    #[test]
    fn answers_stand_one_after_another_and_where_they_part_is_said() {
        let cells = vec![
            exact("single/in512", ScenarioKind::Single, 1, 512),
            testing::written(1, PromptType::Question, Language::Ko),
            testing::written(8, PromptType::Question, Language::Ko),
            testing::written(1, PromptType::Question, Language::En),
        ];
        let lanes = [
            lane_id("vllm", "llama"),
            lane_id("sglang", "llama"),
            lane_id("ollama", "llama"),
        ];
        let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), cells.clone())).collect());
        std::fs::write(
            run.run.prompts(),
            "{\"id\":\"p0\",\"messages\":[{\"role\":\"user\",\"content\":\"서울은?\"}]}\n",
        )
        .expect("write");
        for (lane, text) in lanes
            .iter()
            .zip(["서울은 수도입니다.", "서울은 도시이고", "서울은 수도입니다."])
        {
            run.ready(lane);
            let answer = |text: &str| {
                let did = Did {
                    text: text.to_owned(),
                    ..Did::ok(0, 10, 90)
                };
                vec![(100, vec![did])]
            };
            run.measured(lane, "korean/c1/question/ko", &answer(text));
            run.measured(lane, "korean/c8/question/ko", &answer("not shown"));
            run.measured(
                lane,
                "korean/c1/question/en",
                &answer(&"long ".repeat(MOST_CHARS)),
            );
        }
        run.write_journal();
        let md = transcripts_md(&run.run, &run.lanes)
            .expect("readable")
            .expect("answers");
        assert!(md.contains("서울은?"), "{md}");
        // 서울은_ are four characters.
        assert!(
            md.contains(
                "vllm and sglang: answers part at character 4: “서울은 수도입니다.” against “서울은 도시이고”"
            ),
            "{md}"
        );
        assert!(md.contains("vllm and ollama: answers are the same to the last character"));
        assert!(md.contains("ends in mid-sentence") && md.contains("100 % Hangul"));
        assert!(!md.contains("not shown") && md.contains("[…]"));
        assert!(md.len() < 20 * MOST_CHARS, "{}", md.len());
        assert_eq!(md.matches("Prompt `p0`").count(), 2);
    }
}
