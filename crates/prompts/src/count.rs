//! Counting a prompt's tokens.
//!
//! `tokenizers` is heavy, but it is what the servers count with. The lighter `kitoken` 0.11 gives the same counts with
//! Llama 3.1's and gpt-oss's files, not with SmolLM2's: its pattern for GPT-2's byte level is not GPT-2's.

use std::{
    future::Future,
    path::{Path, PathBuf},
};

use tokenizers::Tokenizer;

use super::{digest::sha256_hex, error::PromptError};
use benchd_core::record::Message;

/// What a counter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// Prompt tokens as the server's usage says: content and chat template. Every count is a request.
    Server,
    /// The contents' tokens alone, without special tokens. Counting costs next to nothing.
    Content,
}

/// Something that counts the prompt tokens of messages.
pub trait TokenCounter: Send {
    /// Prompt tokens of `messages`, by this counter's [`basis`](Self::basis). A failure that may pass is
    /// [`PromptError::probe`]; the caller asks again.
    fn count(&mut self, messages: &[Message]) -> impl Future<Output = Result<u32, PromptError>> + Send;

    /// What is counted; a server's usage unless said otherwise.
    fn basis(&self) -> Basis {
        Basis::Server
    }
}

/// A `tokenizer.json`, read offline.
#[derive(Debug)]
pub struct TokenizerFile {
    path: PathBuf,
    sha256: String,
    tokenizer: Tokenizer,
}

impl TokenizerFile {
    /// Reads a tokenizer file. Fails with the library's message where it isn't one.
    pub fn open(path: &Path) -> Result<Self, PromptError> {
        let fail = |reason: String| PromptError::Tokenizer {
            path: path.to_owned(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| fail(e.to_string()))?;
        // Some files carry training settings that would cut or fill every text to one length.
        tokenizer.with_truncation(None).map_err(|e| fail(e.to_string()))?;
        tokenizer.with_padding(None);
        Ok(Self {
            path: path.to_owned(),
            sha256: sha256_hex(&[&bytes]),
            tokenizer,
        })
    }

    /// Tokens of a text without special tokens.
    pub fn tokens(&self, text: &str) -> Result<u32, PromptError> {
        let encoding = self
            .tokenizer
            .encode(text, false)
            .map_err(|e| PromptError::Encode(e.to_string()))?;
        u32::try_from(encoding.len()).map_err(|e| PromptError::Encode(e.to_string()))
    }

    /// Where it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the file, lower-case hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl TokenCounter for TokenizerFile {
    async fn count(&mut self, messages: &[Message]) -> Result<u32, PromptError> {
        messages.iter().map(|m| self.tokens(&m.content)).sum()
    }

    fn basis(&self) -> Basis {
        Basis::Content
    }
}
