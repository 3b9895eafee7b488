//! The written prompts and what each framework answered: read here, written as `transcripts.md` ([`markdown`]) and as a
//! section of the page.
//!
//! Bounded: of each scenario with written prompts its lowest concurrency, of each prompt and language the first
//! measured request of the first round.

mod markdown;

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{BufRead, BufReader},
};

use indexmap::IndexMap;
use serde::Deserialize;

pub(super) use markdown::transcripts_md;

use super::ReportError;
use benchd_analysis::{AnalysisError, first_difference};
use benchd_core::record::{Phase, RequestRecord};
use benchd_journal::{self, DiskError, RunDir, State, cell_records};
use benchd_plan::{Cell, CellInput, Lane, Language, Plan, PromptType};
use benchd_prompts::{TextQuality, quality};

/// Answers of all frameworks to the same written prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcripts {
    /// The run.
    pub(super) run_id: String,
    /// Temperature of all requests.
    pub(super) temperature: f64,
    /// In the plan's order.
    pub(super) sheets: Vec<Sheet>,
}

/// One prompt in one language, with the answers to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sheet {
    pub(super) model: String,
    pub(super) cell: String,
    pub(super) prompt_type: PromptType,
    pub(super) language: Language,
    /// Text of each prompt by its id; one, unless frameworks were asked differently.
    pub(super) prompts: IndexMap<String, Option<String>>,
    pub(super) answers: Vec<Answer>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) framework: String,
    pub(super) prompt_id: String,
    pub(super) reasoning: Said,
    pub(super) text: Said,
    pub(super) quality: TextQuality,
    pub(super) output_tokens: Option<u64>,
    pub(super) finish_reason: Option<String>,
    /// The first answer before it that says the same to the last character.
    pub(super) same_as: Option<usize>,
}

/// A text, and where it leaves the first framework's.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Said {
    pub(super) text: String,
    /// Characters of the text.
    pub(super) characters: usize,
    /// The first character that is not the first framework's, from 0; of the first framework's own text the first that
    /// is not everybody's. `None` where nothing differs, or where nothing can be compared.
    pub(super) parts_at: Option<usize>,
}

impl Said {
    pub(super) fn of(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            characters: text.chars().count(),
            parts_at: None,
        }
    }
}

impl Answer {
    fn of(framework: &str, r: &RequestRecord) -> Self {
        Self {
            framework: framework.to_owned(),
            prompt_id: r.prompt_id.clone(),
            reasoning: Said::of(&r.reasoning),
            text: Said::of(&r.text),
            quality: quality(&r.text),
            output_tokens: r.output_tokens,
            finish_reason: r.finish_reason.clone(),
            same_as: None,
        }
    }

    /// About which token it is that begins at this character of the text, from 1: tokens are taken as equally long.
    /// `None` where the server did not count them, or counted reasoning among them.
    pub(super) fn about_token(&self, at: usize) -> Option<u64> {
        let tokens = self.output_tokens.filter(|_| self.reasoning.text.is_empty())?;
        (self.text.characters > 0)
            .then(|| (at as f64 / self.text.characters as f64 * tokens as f64).round() as u64 + 1)
    }
}

/// What can be compared: greedy answers to the same prompt.
fn compare(answers: &mut [Answer]) {
    for at in 1..answers.len() {
        let (before, [answer, ..]) = answers.split_at_mut(at) else {
            return;
        };
        answer.same_as = before.iter().position(|b| {
            (&b.prompt_id, &b.text.text, &b.reasoning.text)
                == (&answer.prompt_id, &answer.text.text, &answer.reasoning.text)
        });
        let first = &mut before[0];
        if first.prompt_id != answer.prompt_id {
            continue;
        }
        for (first, other) in [
            (&mut first.reasoning, &mut answer.reasoning),
            (&mut first.text, &mut answer.text),
        ] {
            other.parts_at = first_difference(&first.text, &other.text);
            first.parts_at = [first.parts_at, other.parts_at].into_iter().flatten().min();
        }
    }
}

/// Reads the answers; `None` where no cell has written prompts and answers.
pub(super) fn read(dir: &RunDir, plan: &Plan, lanes: &[Lane]) -> Result<Option<Transcripts>, ReportError> {
    let replay = benchd_journal::replay(&dir.journal()).map_err(AnalysisError::from)?;
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
                    model: lane.id.model.clone(),
                    cell: cell.id.clone(),
                    prompt_type,
                    language,
                    prompts: IndexMap::new(),
                    answers: Vec::new(),
                })
                .answers
                .push(Answer::of(&lane.id.framework, &record));
        }
    }
    if sheets.is_empty() {
        return Ok(None);
    }
    let mut sheets: Vec<Sheet> = sheets.into_values().collect();
    let ids = sheets
        .iter()
        .flat_map(|s| &s.answers)
        .map(|a| a.prompt_id.as_str());
    let texts = prompt_texts(dir, &ids.collect())?;
    for sheet in &mut sheets {
        for answer in &sheet.answers {
            let id = &answer.prompt_id;
            sheet.prompts.insert(id.clone(), texts.get(id).cloned());
        }
        // By chance answers differ too: where they part would mean nothing.
        if plan.request.temperature == 0.0 {
            compare(&mut sheet.answers);
        }
    }
    // Both languages of a prompt stand together, and all prompts of a model.
    let models: Vec<String> = sheets.iter().map(|s| s.model.clone()).collect();
    sheets.sort_by_key(|s| models.iter().position(|m| *m == s.model));
    Ok(Some(Transcripts {
        run_id: dir.id().to_owned(),
        temperature: plan.request.temperature,
        sheets,
    }))
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
    use super::{markdown::MOST_CHARS, *};
    use benchd_analysis::testing::{self, *};
    use benchd_plan::ScenarioKind;

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
        let transcripts = read(&run.run, &run.plan, &run.lanes)
            .expect("readable")
            .expect("answers");
        let md = transcripts_md(&transcripts);
        assert!(md.contains("서울은?"), "{md}");
        // 서울은_ are four characters.
        assert!(
            md.contains(
                "vllm and sglang part at character 5: “서울은 ▸수도입니다.” against “서울은 ▸도시이고”"
            ),
            "{md}"
        );
        assert!(
            md.contains("서울은 ▸수도입니다.\n```") && md.contains("서울은 ▸도시이고\n```"),
            "{md}"
        );
        assert!(md.contains("The same as vllm, to the last character."));
        assert!(md.contains("in mid-sentence") && md.contains("100 %"));
        assert!(!md.contains("not shown") && md.contains("[… 16,000 more characters]"));
        assert!(md.len() < 20 * MOST_CHARS, "{}", md.len());
        assert_eq!(md.matches("Prompt `p0`").count(), 2);
    }

    #[test]
    fn what_was_sampled_is_not_compared_and_other_prompts_are_told() {
        let said = |framework: &str, prompt: &str, text: &str| Answer {
            prompt_id: prompt.to_owned(),
            ..Answer::of(
                framework,
                &record(
                    1,
                    &exact("s/c", ScenarioKind::Single, 1, 1),
                    1,
                    0,
                    &Did {
                        text: text.to_owned(),
                        ..Did::ok(0, 1, 2)
                    },
                ),
            )
        };
        let mut answers = [
            said("a", "p0", "one two three"),
            said("b", "p1", "one two three"),
            said("c", "p0", "one two four"),
            said("d", "p0", "one two"),
            said("e", "p0", "one two four"),
        ];
        compare(&mut answers);
        let seen: Vec<_> = answers.iter().map(|a| (a.text.parts_at, a.same_as)).collect();
        // The first one's own mark is where the first of the others leaves it: d ends after "one two".
        assert_eq!(
            seen,
            [
                (Some(7), None),
                (None, None),
                (Some(8), None),
                (Some(7), None),
                (Some(8), Some(2))
            ]
        );
        // 11 tokens over 12 characters: character 8 is in the eighth.
        assert_eq!(answers[2].about_token(8), Some(8));
        let mut sampled = Transcripts {
            run_id: "r".to_owned(),
            temperature: 0.7,
            sheets: Vec::new(),
        };
        assert!(transcripts_md(&sampled).contains("differ by chance"));
        sampled.temperature = 0.0;
        assert!(transcripts_md(&sampled).contains("▸"));
    }
}
