//! The chat template's share of a prompt's tokens.
//!
//! A server's usage counts the content and what its chat template puts around it. The share follows from a
//! message of one letter, which is one token in every vocabulary in use, and is checked with two texts and
//! their concatenation: `u(A) + u(B) - u(A∘B)` counts the template twice and takes it away once.

use serde::{Deserialize, Serialize};

use super::{
    count::{Basis, TokenCounter},
    error::PromptError,
    probe::{CalibrateOptions, LETTER, Prober},
};
use benchd_core::record::Message;

/// Texts whose concatenation has a clean boundary, with and without the trimming that some templates do.
const PAIRS: [(&str, &str); 2] = [
    ("The cat sat on the mat.", " The dog lay on the floor."),
    ("one two three", " four five six"),
];

/// Tokens that the chat template adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateShare {
    /// Around one user message.
    pub user: u32,
    /// Around a system and a user message; `None` where not measured.
    pub system_and_user: Option<u32>,
    /// Whether two independent ways to measure `user` agreed. Where they don't, contents are uncertain by
    /// `disagreement`.
    pub confirmed: bool,
    /// Largest difference between the ways to measure, tokens; 0 where two agreed.
    pub disagreement: u32,
}

impl TemplateShare {
    /// No template: a tokenizer file counts contents alone.
    pub const NONE: Self = Self {
        user: 0,
        system_and_user: Some(0),
        confirmed: true,
        disagreement: 0,
    };
}

/// Measures the chat template's share, in 4 to 7 probes, and 1 more with `system`. Every lane does this, since
/// each framework has templates of its own; the share is reported.
pub async fn template_share<C: TokenCounter>(
    counter: &mut C,
    system: bool,
    options: &CalibrateOptions,
) -> Result<TemplateShare, PromptError> {
    measure(&mut Prober::new(counter, options), system).await
}

pub(crate) async fn measure<C: TokenCounter>(
    prober: &mut Prober<'_, C>,
    system: bool,
) -> Result<TemplateShare, PromptError> {
    if prober.basis() == Basis::Content {
        return Ok(TemplateShare::NONE);
    }
    let letter = prober.total(&[Message::user(LETTER)]).await?;
    let by_letter = letter
        .checked_sub(1)
        .ok_or_else(|| PromptError::Implausible(format!("a prompt of one letter has {letter} tokens")))?;
    let mut by_sum = Vec::new();
    for (a, b) in PAIRS {
        let mut count = async |text: &str| prober.total(&[Message::user(text)]).await;
        let (first, second, both) = (count(a).await?, count(b).await?, count(&format!("{a}{b}")).await?);
        let share = (first + second).checked_sub(both).ok_or_else(|| {
            PromptError::Implausible(format!(
                "`{a}` has {first} tokens, `{b}` {second}, together {both}"
            ))
        })?;
        by_sum.push(share);
        if share == by_letter {
            break;
        }
    }
    let letter_agrees = by_sum.contains(&by_letter);
    // Two pairs that agree with each other outweigh the letter, which may be no token of its own.
    let pairs_agree = by_sum.len() > 1 && by_sum.iter().all(|&share| share == by_sum[0]);
    let user = if pairs_agree { by_sum[0] } else { by_letter };
    let confirmed = letter_agrees || pairs_agree;
    prober.letter = letter.saturating_sub(user);
    let disagreement = by_sum
        .iter()
        .map(|share| share.abs_diff(by_letter))
        .max()
        .unwrap_or(0);
    let system_and_user = if system {
        let total = prober
            .total(&[Message::system(LETTER), Message::user(LETTER)])
            .await?;
        Some(total.checked_sub(2 * prober.letter).ok_or_else(|| {
            PromptError::Implausible(format!(
                "a system and a user message of one letter have {total} tokens"
            ))
        })?)
    } else {
        None
    };
    Ok(TemplateShare {
        user,
        system_and_user,
        confirmed,
        disagreement: if confirmed { 0 } else { disagreement },
    })
}
