//! One text of an exact length, found by probes.

use serde::{Deserialize, Serialize};

use super::{
    corpus::{self, Source},
    count::{Basis, TokenCounter},
    error::PromptError,
    probe::{LETTER, Prober},
    salt::SaltForm,
    search::{Candidate, Search, Step},
    template::TemplateShare,
};
use benchd_core::record::{Message, Role};

/// Tokens of salt and ending in the first guess.
const FIXED_GUESS: f64 = 46.0;
/// Tokens of an English word in the first guess.
const RATE_GUESS: f64 = 1.14;

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
    pub(crate) fn is_exact(&self) -> bool {
        self.asked == self.reached
    }
}

/// Finds texts of exact length, one after another; each makes the first guess for the next better.
pub(crate) struct Fitter<'a, C> {
    pub(crate) prober: Prober<'a, C>,
    template: TemplateShare,
    form: SaltForm,
    /// Tokens a word, as far as is known.
    rate: f64,
}

impl<'a, C: TokenCounter> Fitter<'a, C> {
    pub(crate) fn new(prober: Prober<'a, C>, template: TemplateShare, form: SaltForm) -> Self {
        Self {
            prober,
            template,
            form,
            rate: RATE_GUESS,
        }
    }

    /// Content tokens of one text in its role.
    async fn content(&mut self, role: Role, text: String) -> Result<u32, PromptError> {
        let (messages, beside) = match (role, self.prober.basis(), self.template.system_and_user) {
            (Role::User, ..) => (vec![Message::user(text)], self.template.user),
            (Role::System, Basis::Content, _) => (vec![Message::system(text)], 0),
            // A system prompt needs a user's message beside it.
            (Role::System, Basis::Server, Some(share)) => (
                vec![Message::system(text), Message::user(LETTER)],
                share + self.prober.letter,
            ),
            (Role::System, Basis::Server, None) => {
                return Err(PromptError::Implausible(
                    "the system message's template was not measured".into(),
                ));
            }
        };
        let total = self.prober.total(&messages).await?;
        total.checked_sub(beside).ok_or_else(|| {
            PromptError::Implausible(format!(
                "a long prompt has {total} tokens, the template alone {beside}"
            ))
        })
    }

    /// Finds a body of exactly `asked` tokens, salt included.
    pub(crate) async fn fit(
        &mut self,
        role: Role,
        mut source: Source,
        asked: u32,
    ) -> Result<Fitted, PromptError> {
        let before = self.prober.probes;
        let mut least = asked.saturating_add(1);
        for ending in source.endings {
            let mut search = Search::new(
                asked,
                corpus::filler_words(),
                self.prober.budget,
                self.rate,
                FIXED_GUESS,
            );
            let found = loop {
                match search.next() {
                    Step::Measure(Candidate { words, filler }) => {
                        let body = corpus::body(&mut source, words, filler, ending);
                        let text = self.prober.salted(self.form, &body);
                        let tokens = self.content(role, text).await?;
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
                probes: self.prober.probes - before,
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
                place = ?role,
                "prompt length found"
            );
            return Ok(fitted);
        }
        Err(PromptError::TooShort { asked, least })
    }
}
