//! The texts that are sent, and their exact lengths.
//!
//! * [`written`]: the Korean scenario's eight prompt types, as Korean and English twins of the same meaning.
//! * [`calibrate`]: prompts of an exact length in the model's own tokens, found with a tokenizer file
//!   ([`TokenizerFile`]) or by asking a server ([`TokenCounter`]). The result, a [`Calibration`], is stored
//!   with the run, so that every framework gets the same texts.
//! * [`for_cell`]: the texts of a cell, request by request, and those of its warm-up.
//! * [`questions`]: questions with one checkable answer, and whether an answer is right.
//! * [`quality`]: signs of the quality of an answer's text, for the Korean comparison.
//!
//! Every text begins with a *salt*: a twelve-digit number of its own on a line of its own. Texts of one
//! length share their body; the salt makes them differ from the first tokens on, so that a prefix cache
//! can't answer for the prefill.

mod calibration;
mod cell;
mod corpus;
mod count;
mod digest;
mod error;
mod fit;
mod probe;
mod quality;
mod questions;
mod salt;
mod search;
mod template;
#[cfg(test)]
mod tests;
mod written;

pub use calibration::{Calibration, CountSource, JointCheck, Needs, calibrate};
pub use cell::{CellPrompts, FrozenPrompt, PromptText, for_cell, lane_warmup};
pub use count::{Basis, TokenCounter, TokenizerFile};
pub use error::PromptError;
pub use fit::Fitted;
pub use probe::CalibrateOptions;
pub use quality::{Ending, Repetition, TextQuality, quality};
pub use questions::{Expected, Grade, Question, QuestionError, Task, grade, questions, read_questions};
pub use salt::{Salt, SaltForm};
pub use template::{TemplateShare, template_share};
pub use written::{WrittenPrompt, answers_in_one_language, written};
