//! Questions with one checkable answer each: whether a server answers right, not how well it writes.
//!
//! A broken kernel, a wrong chat template or a quantisation that went wrong is as quick as a right one. About a hundred
//! questions of four kinds, half of them Korean, and a needle in the longest texts that the plan sends, tell them
//! apart: they are asked in every lane, in the same words, at temperature 0, outside of what is timed.

mod bank;
mod grade;
mod import;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use grade::{Grade, grade};

use super::calibration::Calibration;
use benchd_core::record::Message;
use benchd_plan::Language;

/// Version of a line of `questions.jsonl`.
const QUESTION_VERSION: u32 = 1;

/// What a question asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A sum, a difference or a product.
    Arithmetic,
    /// A code, word for word.
    Copying,
    /// A figure out of a short list in the question.
    Lookup,
    /// A fact that any model of a billion parameters knows.
    Knowledge,
    /// A code out of the longest text that the plan sends.
    Needle,
    /// The plan's own question file.
    Own,
}

impl Task {
    /// The name used in files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Arithmetic => "arithmetic",
            Self::Copying => "copying",
            Self::Lookup => "lookup",
            Self::Knowledge => "knowledge",
            Self::Needle => "needle",
            Self::Own => "own",
        }
    }
}

/// What counts as a right answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// A number: the last of the answer, or the last of its first line with one. Compared as decimal text.
    Number(String),
    /// The letter of a choice, the first that stands alone.
    Choice(char),
    /// One of these texts, anywhere in the answer, in any case; ASCII ones as whole words.
    AnyOf(Vec<String>),
}

/// A question, as it is frozen with the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Layout version.
    pub v: u32,
    /// Unique in the run: `arithmetic/en/3`; with the model's name in front where its text depends on the model.
    pub id: String,
    /// What it asks for.
    pub task: Task,
    /// Its language, where it is known.
    pub language: Option<Language>,
    /// What is sent.
    pub messages: Vec<Message>,
    /// The right answer.
    pub expected: Expected,
    /// A code that only this question's text holds: found in the answer to another question, that answer is not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

impl Question {
    fn new(id: String, task: Task, language: Option<Language>, text: String, expected: Expected) -> Self {
        Self {
            v: QUESTION_VERSION,
            id,
            task,
            language,
            messages: vec![Message::user(text)],
            expected,
            code: None,
        }
    }

    fn with_code(mut self, code: String) -> Self {
        self.code = Some(code);
        self
    }
}

/// Why a question file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is in none of the known forms.
    #[error("{}:{line}: {why}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// There is no question in it.
    #[error("{}: no question in it", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl QuestionError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        "one JSON object a line: `question` and `answer`, or an export of GSM8K, KMMLU or lm-evaluation-harness; \
         docs/quality.md shows each"
    }
}

/// The questions asked of every lane of a model: the built-in ones, or the plan's own `file`; and needles in the longest
/// text that `calibration` has.
///
/// # Errors
/// The plan's own file can't be used.
pub fn questions(
    calibration: &Calibration,
    longest_tokens: Option<u32>,
    file: Option<&Path>,
) -> Result<Vec<Question>, QuestionError> {
    let mut all = match file {
        Some(path) => import::read(path)?,
        None => bank::built_in(),
    };
    if let Some(fitted) = longest_tokens.and_then(|tokens| calibration.exact.get(&tokens)) {
        all.extend(bank::needles(&calibration.model, &fitted.body));
    }
    Ok(all)
}

/// Reads the plan's own questions, to find what is wrong with them before the night.
///
/// # Errors
/// See [`QuestionError`].
pub fn read_questions(path: &Path) -> Result<usize, QuestionError> {
    import::read(path).map(|questions| questions.len())
}
