//! One text of an exact length, found by probes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Basis, CalibrateOptions, PromptError, SaltForm, TemplateShare, TokenCounter,
    corpus::{self, Source},
    salt::Salts,
    search::{Candidate, Search, Step},
    template::LETTER,
};
use benchd_core::record::Message;

/// Measurements of one text with a counter that costs nothing.
const FREE_BUDGET: u32 = 200;
/// Tokens of salt and ending in the first guess.
const FIXED_GUESS: f64 = 46.0;
/// Tokens of an English word in the first guess.
const RATE_GUESS: f64 = 1.14;
/// Short texts whose salts differ, to see whether salts are of equal length.
const SALT_PROBES: usize = 5;
const FREE_SALT_PROBES: usize = 64;

/// A body of a known length: what follows the salt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fitted {
    /// Content tokens asked for, salt included.
    pub asked: u32,
    /// Content tokens reached: `asked`, or the nearest below that could be made.
    pub reached: u32,
    /// The text after the salt.
    pub body: String,
    /// Filler words before the ending.
    pub filler: u32,
    /// How often the corpus had to be used again because it is shorter than the prompt.
    pub repeats: u32,
    /// Texts measured to find it.
    pub probes: u32,
}

impl Fitted {
    /// Whether the length is exactly what was asked for.
    pub fn is_exact(&self) -> bool {
        self.asked == self.reached
    }
}

/// Where a text stands in the request, while it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    User,
    System,
}

/// Asks a counter, again where it fails, and keeps the sum of the requests.
pub(super) struct Prober<'a, C> {
    counter: &'a mut C,
    attempts: u32,
    retry_pause: Duration,
    budget: u32,
    salts: Salts,
    rate: f64,
    letter: u32,
    probes: u32,
}

impl<'a, C: TokenCounter> Prober<'a, C> {
    pub(super) fn new(counter: &'a mut C, options: &CalibrateOptions) -> Self {
        let budget = match counter.basis() {
            Basis::Server => options.probes_per_text.get(),
            Basis::Content => FREE_BUDGET,
        };
        Self {
            counter,
            attempts: options.attempts.get(),
            retry_pause: options.retry_pause,
            budget,
            salts: Salts::for_probes(options.seed, "probes"),
            rate: RATE_GUESS,
            letter: 1,
            probes: 0,
        }
    }

    pub(super) fn basis(&self) -> Basis {
        self.counter.basis()
    }

    /// Tokens of [`LETTER`] as a message of its own.
    pub(super) fn letter(&self) -> u32 {
        self.letter
    }

    pub(super) fn set_letter(&mut self, tokens: u32) {
        self.letter = tokens;
    }

    /// Requests made, failed ones included.
    pub(super) fn probes(&self) -> u32 {
        self.probes
    }

    /// Tokens of the messages as the counter counts them.
    pub(super) async fn total(&mut self, messages: &[Message]) -> Result<u32, PromptError> {
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
    pub(super) fn salted(&mut self, form: SaltForm, body: &str) -> String {
        form.apply(self.salts.next_salt(), body)
    }

    /// The first form in which salts are of equal length.
    pub(super) async fn salt_form(&mut self) -> Result<SaltForm, PromptError> {
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

    /// Content tokens of one text at its place.
    async fn content(
        &mut self,
        place: Place,
        template: &TemplateShare,
        text: String,
    ) -> Result<u32, PromptError> {
        let (messages, beside) = match (place, self.basis(), template.system_and_user) {
            (Place::User, ..) => (vec![Message::user(text)], template.user),
            (Place::System, Basis::Content, _) => (vec![Message::system(text)], 0),
            // A system prompt needs a user's message beside it.
            (Place::System, Basis::Server, Some(share)) => (
                vec![Message::system(text), Message::user(LETTER)],
                share + self.letter,
            ),
            (Place::System, Basis::Server, None) => {
                return Err(PromptError::Implausible(
                    "the system message's template was not measured".into(),
                ));
            }
        };
        let total = self.total(&messages).await?;
        total.checked_sub(beside).ok_or_else(|| {
            PromptError::Implausible(format!(
                "a long prompt has {total} tokens, the template alone {beside}"
            ))
        })
    }

    /// Finds a body of exactly `asked` tokens, salt included.
    pub(super) async fn fit(
        &mut self,
        place: Place,
        template: &TemplateShare,
        form: SaltForm,
        mut source: Source,
        endings: &[&str],
        asked: u32,
    ) -> Result<Fitted, PromptError> {
        let before = self.probes;
        let mut least = asked.saturating_add(1);
        for &ending in endings {
            let mut search = Search::new(asked, corpus::filler_words(), self.budget, self.rate, FIXED_GUESS);
            let found = loop {
                match search.next() {
                    Step::Measure(Candidate { words, filler }) => {
                        let body = corpus::body(&mut source, words, filler, ending);
                        let text = self.salted(form, &body);
                        let tokens = self.content(place, template, text).await?;
                        if words == 1 {
                            least = tokens;
                        }
                        search.observe(Candidate { words, filler }, tokens);
                    }
                    Step::Stuck { seen } => return Err(PromptError::Saturated { asked, seen }),
                    Step::Done(found) => break found,
                }
            };
            self.rate = search.measured_rate().unwrap_or(self.rate);
            let Some((Candidate { words, filler }, reached)) = found else {
                continue;
            };
            let fitted = Fitted {
                asked,
                reached,
                body: corpus::body(&mut source, words, filler, ending),
                filler: u32::try_from(filler).unwrap_or(u32::MAX),
                repeats: source.repeats(words),
                probes: self.probes - before,
            };
            if !fitted.is_exact() {
                tracing::warn!(asked, reached, "no text of exactly this length could be made");
            }
            if fitted.repeats > 0 {
                tracing::warn!(
                    asked,
                    repeats = fitted.repeats,
                    "the corpus is shorter than the prompt"
                );
            }
            tracing::info!(
                asked,
                reached,
                probes = fitted.probes,
                words,
                filler,
                ?place,
                "prompt length found"
            );
            return Ok(fitted);
        }
        Err(PromptError::TooShort { asked, least })
    }
}
