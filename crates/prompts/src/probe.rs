//! Asks a counter for the tokens of texts, again where it fails.

use std::{num::NonZeroU32, time::Duration};

use super::{
    count::{Basis, TokenCounter},
    error::PromptError,
    salt::{SaltForm, Salts},
};
use benchd_core::record::Message;

/// One token.
pub(crate) const LETTER: &str = "a";
/// Measurements of one text with a counter that costs nothing.
const FREE_BUDGET: u32 = 200;
/// Short texts whose salts differ, to see whether salts are of equal length.
const SALT_PROBES: usize = 5;
const FREE_SALT_PROBES: usize = 64;

/// How to measure.
#[derive(Debug, Clone)]
pub struct CalibrateOptions {
    pub(crate) seed: u64,
    /// Times that one probe is asked, at most.
    pub(crate) attempts: NonZeroU32,
    /// Pause before a probe is asked again; grows with each attempt.
    pub(crate) retry_pause: Duration,
    /// Texts measured for one length, at most, where each is a request.
    pub(crate) probes_per_text: NonZeroU32,
}

impl CalibrateOptions {
    /// Three attempts with a pause of half a second, twelve texts for a length. `seed` is the run's.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            attempts: NonZeroU32::MIN.saturating_add(2),
            retry_pause: Duration::from_millis(500),
            probes_per_text: NonZeroU32::MIN.saturating_add(11),
        }
    }
}

/// Asks a counter, again where it fails, and keeps the sum of the requests.
pub(crate) struct Prober<'a, C> {
    counter: &'a mut C,
    attempts: u32,
    retry_pause: Duration,
    salts: Salts,
    /// Texts measured for one length, at most.
    pub(crate) budget: u32,
    /// Tokens of [`LETTER`] as a message of its own.
    pub(crate) letter: u32,
    /// Requests made, failed ones included.
    pub(crate) probes: u32,
}

impl<'a, C: TokenCounter> Prober<'a, C> {
    pub(crate) fn new(counter: &'a mut C, options: &CalibrateOptions) -> Self {
        let budget = match counter.basis() {
            Basis::Server => options.probes_per_text.get(),
            Basis::Content => FREE_BUDGET,
        };
        Self {
            counter,
            attempts: options.attempts.get(),
            retry_pause: options.retry_pause,
            salts: Salts::for_probes(options.seed, "probes"),
            budget,
            letter: 1,
            probes: 0,
        }
    }

    pub(crate) fn basis(&self) -> Basis {
        self.counter.basis()
    }

    /// Tokens of the messages as the counter counts them.
    pub(crate) async fn total(&mut self, messages: &[Message]) -> Result<u32, PromptError> {
        let mut attempt = 1;
        loop {
            self.probes += 1;
            match self.counter.count(messages).await {
                Err(PromptError::Probe { reason, retry: true }) if attempt < self.attempts => {
                    tracing::warn!(attempt, reason, "a probe for a prompt's length failed");
                    tokio::time::sleep(self.retry_pause * attempt).await;
                    attempt += 1;
                }
                Err(PromptError::Probe { reason, retry }) => {
                    return Err(PromptError::ProbeFailed {
                        attempts: attempt,
                        last: reason,
                        refused: !retry,
                    });
                }
                other => return other,
            }
        }
    }

    /// A text that begins with a salt that no measured text has.
    pub(crate) fn salted(&mut self, form: SaltForm, body: &str) -> String {
        form.apply(self.salts.next_salt(), body)
    }

    /// The first form in which salts are of equal length.
    pub(crate) async fn salt_form(&mut self) -> Result<SaltForm, PromptError> {
        let count = match self.basis() {
            Basis::Server => SALT_PROBES,
            Basis::Content => FREE_SALT_PROBES,
        };
        let mut seen = Vec::new();
        'forms: for form in SaltForm::ALL {
            let mut first = None;
            for salt in self.salts.samples(count) {
                let text = form.apply(salt, "The server answers.");
                let tokens = self.total(&[Message::user(text)]).await?;
                if *first.get_or_insert(tokens) != tokens {
                    seen.push(format!("{} and {tokens} tokens", first.unwrap_or(tokens)));
                    continue 'forms;
                }
            }
            return Ok(form);
        }
        Err(PromptError::UnevenSalts(seen.join("; ")))
    }
}
