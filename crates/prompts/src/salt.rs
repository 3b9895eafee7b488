//! Salts: numbers of a fixed count of digits at the very start of a text.
//!
//! Twelve digits are four tokens where digits go by three and twelve where they go one by one, so salts are
//! of equal length in the vocabularies in use (Llama 3 and o200k: by three; Llama 2, Qwen, Gemma, SmolLM2:
//! one by one). Twelve is a multiple of three: grouping from the left and from the right agree. Where a
//! vocabulary merges digits freely (GPT-2), the digits are written apart. Which form holds is measured at
//! calibration. Two of 10,000 random salts of a run coincide with a probability of about 1 in 20,000; within
//! a cell they are different for certain.

use std::{collections::HashSet, fmt::Write as _};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use serde::{Deserialize, Serialize};

use super::digest::sha256;

/// The first three digits of salts of texts that are measured or warm up: 100 to 899.
const RUN_LEADS: std::ops::Range<u64> = 100..900;
/// The first three digits of salts of texts that only find lengths: 900 to 999, so that nothing measured
/// can be in a cache because of a probe.
const PROBE_LEADS: std::ops::Range<u64> = 900..1000;
/// The digits after the first three: nine.
const TAILS: u64 = 1_000_000_000;

/// A twelve-digit number that makes a text differ from all others at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Salt(u64);

impl Salt {
    /// The number's first three digits: where digits go by three, the first token.
    pub fn lead(self) -> u64 {
        self.0 / TAILS
    }
}

impl std::fmt::Display for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:012}", self.0)
    }
}

/// How a salt is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaltForm {
    /// `483920175264`.
    Digits,
    /// `4 8 3 9 2 0 1 7 5 2 6 4`, for vocabularies that merge digits freely.
    SpacedDigits,
}

impl SaltForm {
    /// The forms, best first.
    pub(crate) const ALL: [Self; 2] = [Self::Digits, Self::SpacedDigits];

    /// A text that begins with `salt` on a line of its own.
    pub fn apply(self, salt: Salt, body: &str) -> String {
        let digits = salt.to_string();
        let mut text = String::with_capacity(digits.len() * 2 + 2 + body.len());
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && self == Self::SpacedDigits {
                text.push(' ');
            }
            text.push(digit);
        }
        // Writing to a String can't fail.
        let _ = write!(text, "\n\n{body}");
        text
    }
}

/// A stream of salts: the same for the same seed and domain, never the same twice. The first three digits
/// repeat only once all have been used.
pub(crate) struct Salts {
    random: ChaCha8Rng,
    leads: Vec<u64>,
    next_lead: usize,
    given: HashSet<Salt>,
}

impl Salts {
    /// Salts for texts that are measured or warm up.
    pub(crate) fn for_run(seed: u64, domain: &str) -> Self {
        Self::new(seed, domain, RUN_LEADS)
    }

    /// Salts for texts that only find lengths.
    pub(crate) fn for_probes(seed: u64, domain: &str) -> Self {
        Self::new(seed, domain, PROBE_LEADS)
    }

    fn new(seed: u64, domain: &str, leads: std::ops::Range<u64>) -> Self {
        let mut random = random_for(seed, domain);
        let mut leads: Vec<u64> = leads.collect();
        shuffle(&mut random, &mut leads);
        Self {
            random,
            leads,
            next_lead: 0,
            given: HashSet::new(),
        }
    }

    pub(crate) fn next_salt(&mut self) -> Salt {
        loop {
            let lead = self.leads[self.next_lead];
            self.next_lead = (self.next_lead + 1) % self.leads.len();
            let salt = Salt(lead * TAILS + self.random.next_u64() % TAILS);
            if self.given.insert(salt) {
                return salt;
            }
        }
    }

    /// Salts that a vocabulary with merged digits would count differently, if any: repeated digits, which such
    /// vocabularies merge, against random ones.
    pub(crate) fn samples(&mut self, count: usize) -> Vec<Salt> {
        [900_000_000_000, 911_111_111_111, 919_191_919_191]
            .map(Salt)
            .into_iter()
            .chain(std::iter::repeat_with(|| self.next_salt()))
            .take(count)
            .collect()
    }
}

/// A generator that depends on the seed and on what it is for; ChaCha8 gives the same numbers everywhere.
pub(crate) fn random_for(seed: u64, domain: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(sha256(&[&seed.to_le_bytes(), domain.as_bytes()]))
}

/// Fisher and Yates. The bias of `%` over a few thousand items is below 1e-15.
pub(crate) fn shuffle<T>(random: &mut ChaCha8Rng, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        let bound = i as u64 + 1;
        items.swap(i, usize::try_from(random.next_u64() % bound).unwrap_or(i));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_repeat_for_the_same_seed_and_differ_for_others() {
        let take = |seed, domain: &str| -> Vec<Salt> {
            let mut salts = Salts::for_run(seed, domain);
            (0..50).map(|_| salts.next_salt()).collect()
        };
        assert_eq!(take(1, "a"), take(1, "a"));
        assert_ne!(take(1, "a"), take(2, "a"));
        assert_ne!(take(1, "a"), take(1, "b"));
    }

    #[test]
    fn first_three_digits_are_used_up_before_one_comes_again() {
        let mut salts = Salts::for_run(7, "cell");
        let first: HashSet<u64> = (0..800).map(|_| salts.next_salt().lead()).collect();
        assert_eq!(first.len(), 800);
        let all: HashSet<Salt> = (0..5_000).map(|_| salts.next_salt()).collect();
        assert_eq!(all.len(), 5_000);
    }

    #[test]
    fn probes_and_measured_texts_never_share_their_first_three_digits() {
        let (mut run, mut probes) = (Salts::for_run(7, "x"), Salts::for_probes(7, "x"));
        for _ in 0..2_000 {
            assert!(run.next_salt().lead() < 900);
            assert!(probes.next_salt().lead() >= 900);
        }
        assert!(probes.samples(8).iter().all(|s| s.lead() >= 900));
    }

    #[test]
    fn every_salt_has_twelve_digits_in_either_form() {
        let mut salts = Salts::for_run(3, "form");
        for _ in 0..200 {
            let salt = salts.next_salt();
            let plain = SaltForm::Digits.apply(salt, "body");
            let spaced = SaltForm::SpacedDigits.apply(salt, "body");
            assert_eq!(plain.len(), 12 + 2 + 4);
            assert_eq!(spaced.len(), 23 + 2 + 4);
            assert_eq!(
                plain.replace('\n', " ").replace(' ', ""),
                spaced.replace('\n', " ").replace(' ', "")
            );
        }
    }
}
