//! The texts of one cell, request by request.
//!
//! Everything here depends on the plan's names and the seed alone, never on the framework or the round, so
//! every lane of a model sends the same texts in the same order.

use serde::{Deserialize, Serialize};

use super::{
    calibration::Calibration,
    digest::sha256_hex,
    error::PromptError,
    fit::Fitted,
    salt::{Salt, Salts},
    written::written,
};
use benchd_core::record::{Message, Role};
use benchd_plan::{Cell, CellInput, PromptMode};

/// Version of a line of `prompts.jsonl`.
const FROZEN_PROMPT_VERSION: u32 = 1;

/// One prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptText {
    /// Its name, unique in the run: the model and then `single/in512/p1/r3` (pass from 1, index from 0),
    /// `concurrent/in512/same`, `single/in512/warmup/0` or `lane/warmup/0`.
    pub id: String,
    /// What is sent.
    pub messages: Vec<Message>,
    /// Content tokens asked for; `None` for written texts.
    pub asked_tokens: Option<u32>,
    /// Content tokens, as measured at calibration; `None` for written texts.
    pub tokens: Option<u32>,
    /// SHA-256 of roles and contents, lower-case hexadecimal.
    pub sha256: String,
    /// What the text begins with (the user's message where there is a system prompt).
    pub salt: Salt,
}

impl PromptText {
    fn new(id: String, messages: Vec<Message>, lengths: Option<(u32, u32)>, salt: Salt) -> Self {
        Self {
            id,
            sha256: hash(&messages),
            messages,
            asked_tokens: lengths.map(|(asked, _)| asked),
            tokens: lengths.map(|(_, reached)| reached),
            salt,
        }
    }

    /// The line that freezes this prompt in `prompts.jsonl`.
    pub fn frozen(&self, model: &str) -> FrozenPrompt {
        FrozenPrompt {
            v: FROZEN_PROMPT_VERSION,
            id: self.id.clone(),
            model: model.to_owned(),
            sha256: self.sha256.clone(),
            asked_tokens: self.asked_tokens,
            tokens: self.tokens,
            messages: self.messages.clone(),
        }
    }
}

/// A line of `prompts.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrozenPrompt {
    /// Layout version.
    pub v: u32,
    /// The prompt's name, unique in the run.
    pub id: String,
    /// The model's name in the plan.
    pub model: String,
    /// SHA-256 of roles and contents.
    pub sha256: String,
    /// Content tokens asked for.
    pub asked_tokens: Option<u32>,
    /// Content tokens as measured.
    pub tokens: Option<u32>,
    /// What is sent.
    pub messages: Vec<Message>,
}

impl FrozenPrompt {
    /// Refuses a line of another layout and a text that is not the one that was hashed.
    pub fn check(&self) -> Result<(), PromptError> {
        if self.v != FROZEN_PROMPT_VERSION {
            return Err(PromptError::Version {
                what: "a line of prompts.jsonl",
                found: self.v,
                known: FROZEN_PROMPT_VERSION,
            });
        }
        let found = hash(&self.messages);
        if found != self.sha256 {
            return Err(PromptError::Changed {
                id: self.id.clone(),
                expected: self.sha256.clone(),
                found,
            });
        }
        Ok(())
    }
}

/// Role and content of each message, each ended by a byte that UTF-8 doesn't have.
fn hash(messages: &[Message]) -> String {
    let parts: Vec<&[u8]> = messages
        .iter()
        .flat_map(|m| {
            let role: &[u8] = match m.role {
                Role::System => b"system\xff",
                Role::User => b"user\xff",
            };
            [role, m.content.as_bytes(), b"\xff"]
        })
        .collect();
    sha256_hex(&parts)
}

/// All texts of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellPrompts {
    /// One list a pass, in the order of requests. Each has the cell's `requests_per_pass`.
    pub passes: Vec<Vec<PromptText>>,
    /// Texts of the cell's warm-up wave: of the same length, and sent in no pass.
    pub warmup: Vec<PromptText>,
}

/// The texts of `cell`. Fails where the calibration lacks a length that the cell needs.
pub fn for_cell(cell: &Cell, seed: u64, calibration: &Calibration) -> Result<CellPrompts, PromptError> {
    let maker = Maker::new(cell, calibration)?;
    let mut salts = Salts::for_run(seed, &maker.domain());
    let passes = match cell.prompts {
        PromptMode::Identical => {
            // One text for the whole scenario: drawn by the scenario's name, not the cell's.
            let mut one = Salts::for_run(seed, &format!("{}/same", cell.scenario));
            let text = maker.text(&maker.identical_name(), one.next_salt(), one.next_salt(), 0);
            vec![vec![text; count(cell.requests_per_pass)]; count(cell.passes)]
        }
        PromptMode::Distinct => (1..=cell.passes)
            .map(|pass| {
                let system = salts.next_salt();
                (0..count(cell.requests_per_pass))
                    .map(|i| maker.text(&format!("{}/p{pass}/r{i}", cell.id), system, salts.next_salt(), i))
                    .collect()
            })
            .collect(),
    };
    let warmup = maker.warmup(&format!("{}/warmup", cell.id), cell.warmup, &mut salts);
    Ok(CellPrompts { passes, warmup })
}

/// The `requests` warm-up texts at the start of a lane, of the kind of its first cell, and sent nowhere else.
pub fn lane_warmup(
    cell: &Cell,
    requests: u32,
    seed: u64,
    calibration: &Calibration,
) -> Result<Vec<PromptText>, PromptError> {
    let mut salts = Salts::for_run(seed, "the lane's warm-up");
    Ok(Maker::new(cell, calibration)?.warmup("lane/warmup", requests, &mut salts))
}

fn count(requests: u32) -> usize {
    usize::try_from(requests).unwrap_or(usize::MAX)
}

/// Puts texts together from a cell's input.
struct Maker<'a> {
    cell: &'a Cell,
    calibration: &'a Calibration,
    input: Input<'a>,
}

enum Input<'a> {
    Exact(&'a Fitted),
    Shared {
        system: &'a Fitted,
        questions: &'a [Fitted],
    },
    Written(&'static str),
}

impl<'a> Maker<'a> {
    fn new(cell: &'a Cell, calibration: &'a Calibration) -> Result<Self, PromptError> {
        let missing = |what: String| PromptError::NotCalibrated {
            model: calibration.model.clone(),
            what,
        };
        let input = match cell.input {
            CellInput::Exact { input_tokens } => Input::Exact(
                calibration
                    .exact
                    .get(&input_tokens)
                    .ok_or_else(|| missing(format!("{input_tokens} tokens")))?,
            ),
            CellInput::SharedPrefix {
                system_tokens,
                question_tokens,
            } => Input::Shared {
                system: calibration
                    .systems
                    .get(&system_tokens)
                    .ok_or_else(|| missing(format!("a system prompt of {system_tokens} tokens")))?,
                questions: calibration
                    .questions
                    .get(&question_tokens)
                    .filter(|questions| !questions.is_empty())
                    .ok_or_else(|| missing(format!("questions of {question_tokens} tokens")))?,
            },
            CellInput::Written {
                prompt_type,
                language,
            } => Input::Written(written(prompt_type, language).text),
        };
        Ok(Self {
            cell,
            calibration,
            input,
        })
    }

    /// What the salts depend on. Korean and English twins get the same ones.
    fn domain(&self) -> String {
        match self.cell.input {
            CellInput::Written { language, .. } => {
                let id = &self.cell.id;
                id.strip_suffix(language.as_str()).unwrap_or(id).to_owned()
            }
            _ => self.cell.id.clone(),
        }
    }

    fn identical_name(&self) -> String {
        let scenario = &self.cell.scenario;
        match self.cell.input {
            CellInput::Exact { input_tokens } => format!("{scenario}/in{input_tokens}/same"),
            CellInput::SharedPrefix {
                system_tokens,
                question_tokens,
            } => format!("{scenario}/sys{system_tokens}/q{question_tokens}/same"),
            CellInput::Written {
                prompt_type,
                language,
            } => format!("{scenario}/{}/{}/same", prompt_type.as_str(), language.as_str()),
        }
    }

    /// `name` is the prompt's name within the model.
    fn text(&self, name: &str, system_salt: Salt, salt: Salt, number: usize) -> PromptText {
        let salted = |salt, body: &str| self.calibration.salt_form.apply(salt, body);
        let (messages, lengths) = match self.input {
            Input::Exact(fitted) => (
                vec![Message::user(salted(salt, &fitted.body))],
                Some((fitted.asked, fitted.reached)),
            ),
            Input::Shared { system, questions } => {
                let question = &questions[number % questions.len()];
                let messages = vec![
                    Message::system(salted(system_salt, &system.body)),
                    Message::user(salted(salt, &question.body)),
                ];
                let lengths = (system.asked + question.asked, system.reached + question.reached);
                (messages, Some(lengths))
            }
            Input::Written(text) => (vec![Message::user(salted(salt, text))], None),
        };
        PromptText::new(
            format!("{}/{name}", self.calibration.model),
            messages,
            lengths,
            salt,
        )
    }

    fn warmup(&self, name: &str, requests: u32, salts: &mut Salts) -> Vec<PromptText> {
        let system = salts.next_salt();
        (0..count(requests))
            .map(|i| self.text(&format!("{name}/{i}"), system, salts.next_salt(), i))
            .collect()
    }
}
