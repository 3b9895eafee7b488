//! The room as a whole: lengths with real tokenizers and with servers of different behaviour, and the texts of
//! cells.

mod cells;
mod lengths;

use super::*;
use benchd_core::record::{Message, Role};
use benchd_plan::{Arrival, CachePolicy, Cell, CellInput, Language, PromptMode, PromptType, ScenarioKind};

/// How a fake server's vocabulary treats digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Digits {
    OneByOne,
    ByThree,
    /// Repeated digits are one token: salts differ in length.
    Merged,
}

/// A server that counts by a made-up vocabulary and a chat template.
#[derive(Debug, Clone)]
struct FakeServer {
    digits: Digits,
    /// Tokens around a lone user message.
    template: u32,
    /// Tokens around a system and a user message.
    template_with_system: u32,
    /// A content's first letter merges with the template's last one: one token less.
    merges_at_start: bool,
    /// Every so many counts fail; 0 never.
    fails_every: u32,
    /// Counts no more prompt tokens than this.
    context: u32,
    trims: bool,
    /// Tokens of a lone letter.
    lone_letter: u32,
    counts: u32,
    texts: Vec<Vec<Message>>,
}

impl FakeServer {
    fn new(digits: Digits) -> Self {
        Self {
            digits,
            template: 37,
            template_with_system: 52,
            merges_at_start: false,
            fails_every: 0,
            context: u32::MAX,
            trims: false,
            lone_letter: 1,
            counts: 0,
            texts: Vec::new(),
        }
    }

    fn content(&self, text: &str) -> u32 {
        let text = if self.trims { text.trim() } else { text };
        if text.len() == 1 {
            return self.lone_letter;
        }
        let words: u32 = text.split(' ').map(|word| self.word(word)).sum();
        let merged =
            self.merges_at_start && text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.len() > 1;
        words - u32::from(merged)
    }

    /// A word of up to six letters is one token, a longer one several; marks and line ends are tokens.
    fn word(&self, word: &str) -> u32 {
        let mut tokens = 0;
        for run in word.split_inclusive(|c: char| c.is_ascii_punctuation() || c == '\n') {
            let letters = run.chars().filter(|c| c.is_alphabetic()).count() as u32;
            let digits: Vec<char> = run.chars().filter(char::is_ascii_digit).collect();
            tokens += letters.div_ceil(6);
            tokens += match self.digits {
                Digits::OneByOne => digits.len() as u32,
                Digits::ByThree => digits.len().div_ceil(3) as u32,
                Digits::Merged => digits.chunk_by(|a, b| a == b).count() as u32,
            };
            tokens += u32::from(run.ends_with(|c: char| c.is_ascii_punctuation() || c == '\n'));
        }
        tokens
    }
}

impl TokenCounter for FakeServer {
    async fn count(&mut self, messages: &[Message]) -> Result<u32, PromptError> {
        self.counts += 1;
        if self.fails_every > 0 && self.counts.is_multiple_of(self.fails_every) {
            return Err(PromptError::probe("connection reset"));
        }
        self.texts.push(messages.to_vec());
        let template = match messages {
            [only] if only.role == Role::User => self.template,
            _ => self.template_with_system,
        };
        let contents: u32 = messages.iter().map(|m| self.content(&m.content)).sum();
        Ok((template + contents).min(self.context))
    }
}

fn options() -> CalibrateOptions {
    CalibrateOptions {
        retry_pause: std::time::Duration::ZERO,
        ..CalibrateOptions::new(42)
    }
}

fn server() -> CountSource {
    CountSource::Server {
        framework: "sglang".to_owned(),
    }
}

fn needs(exact: &[u32], shared: &[((u32, u32), u32)]) -> Needs {
    Needs {
        exact: exact.iter().copied().collect(),
        shared: shared.iter().copied().collect(),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

fn cell(id: &str, kind: ScenarioKind, input: CellInput) -> Cell {
    Cell {
        id: id.to_owned(),
        scenario: id.split('/').next().unwrap().to_owned(),
        kind,
        concurrency: 4,
        input,
        output_tokens: 256,
        requests_per_pass: 10,
        passes: 3,
        prompts: PromptMode::Distinct,
        warmup: 4,
        cache: CachePolicy::Reset,
        arrival: Arrival::Closed,
        slo: None,
    }
}

fn exact_cell(id: &str, input_tokens: u32) -> Cell {
    cell(id, ScenarioKind::Single, CellInput::Exact { input_tokens })
}

fn shared_cell(id: &str, system_tokens: u32, question_tokens: u32) -> Cell {
    let input = CellInput::SharedPrefix {
        system_tokens,
        question_tokens,
    };
    cell(id, ScenarioKind::PrefixCache, input)
}

fn written_cell(id: &str, prompt_type: PromptType, language: Language) -> Cell {
    let input = CellInput::Written {
        prompt_type,
        language,
    };
    cell(id, ScenarioKind::Korean, input)
}
