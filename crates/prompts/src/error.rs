//! What can go wrong with texts and their lengths.

use std::path::PathBuf;

/// Why a text could not be made, measured or read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptError {
    /// The tokenizer file can't be used.
    #[error("can't read the tokenizer {}: {reason}\n  hint: `tokenizer:` must name a tokenizer.json in the format of the Hugging Face tokenizers library; without it benchd asks the first server", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What the library said.
        reason: String,
    },
    /// The tokenizer refused a text.
    #[error("the tokenizer can't encode a prompt: {0}")]
    Encode(String),
    /// A counter could not count. Given by implementations of `TokenCounter`.
    #[error("{reason}")]
    Probe {
        /// What happened.
        reason: String,
        /// Whether asking again may help.
        retry: bool,
    },
    /// The counter failed too often in a row.
    #[error(
        "the length of a prompt could not be measured in {attempts} attempts: {last}\n  hint: read the server's log, or give the model's `tokenizer:` in the plan"
    )]
    ProbeFailed {
        /// Attempts made.
        attempts: u32,
        /// The last failure.
        last: String,
        /// It was a refusal: asking for this prompt again would not help, and another one may fare better.
        refused: bool,
    },
    /// The counter's numbers contradict each other.
    #[error(
        "the prompt token counts make no sense: {0}\n  hint: the server's usage may be wrong; give the model's `tokenizer:` in the plan"
    )]
    Implausible(String),
    /// Longer prompts are not counted as longer.
    #[error(
        "a prompt of {asked} tokens can't be made: the server counts {seen} prompt tokens however long the text is; it cuts prompts silently\n  hint: raise the server's context length (OLLAMA_CONTEXT_LENGTH, --max-model-len, --context-length)"
    )]
    Saturated {
        /// Content tokens asked for.
        asked: u32,
        /// Content tokens at which the count stands still.
        seen: u32,
    },
    /// Not even the shortest text fits.
    #[error(
        "a prompt of {asked} tokens can't be made: the shortest has {least}\n  hint: ask for at least {least} tokens"
    )]
    TooShort {
        /// Content tokens asked for.
        asked: u32,
        /// Content tokens of the shortest text.
        least: u32,
    },
    /// No form of salt has a constant length.
    #[error(
        "numbers of equal length differ in tokens in every form known ({0}): prompts that share no prefix can't be of equal length\n  hint: use `prompts: identical` for this model"
    )]
    UnevenSalts(String),
    /// The calibration lacks a length that a cell needs.
    #[error(
        "the prompts of model `{model}` were not measured for {what}\n  hint: the note where the lane's texts were found says why"
    )]
    NotCalibrated {
        /// The model.
        model: String,
        /// Which length.
        what: String,
    },
    /// A frozen prompt or calibration is of a version that this build doesn't know.
    #[error(
        "{what} has version {found}; this benchd reads version {known}\n  hint: use the benchd that made the run"
    )]
    Version {
        /// What was read.
        what: &'static str,
        /// Its version.
        found: u32,
        /// The version known here.
        known: u32,
    },
    /// A frozen prompt's text is not the one that was hashed.
    #[error(
        "the prompt `{id}` in prompts.jsonl was changed: its hash is {found}, not {expected}\n  hint: results of changed prompts can't be compared; start a new run"
    )]
    Changed {
        /// The prompt.
        id: String,
        /// Hash in the file.
        expected: String,
        /// Hash of the text.
        found: String,
    },
}

impl PromptError {
    /// Whether only this one length can't be had here: others may.
    pub fn is_of_one_length(&self) -> bool {
        matches!(
            self,
            Self::ProbeFailed { refused: true, .. } | Self::Saturated { .. } | Self::TooShort { .. }
        )
    }

    /// A failed probe that may succeed when it is asked again.
    pub fn probe(reason: impl Into<String>) -> Self {
        Self::Probe {
            reason: reason.into(),
            retry: true,
        }
    }

    /// A failed probe that will fail again.
    pub fn probe_for_good(reason: impl Into<String>) -> Self {
        Self::Probe {
            reason: reason.into(),
            retry: false,
        }
    }
}
