//! The search for a text of an exact length: a state machine without I/O.
//!
//! Two phases. First the number of words: from the measured points a straight line gives the next guess,
//! aimed slightly short, until a text is at most [`NEAR`] tokens short or one word more is too much. Then
//! filler words, about one token each, make up the rest. Every candidate is measured as a whole, so what
//! merges at a boundary is counted as it is; where filler can't reach the length, a word less is tried.

use std::collections::BTreeMap;

/// A text so many tokens short is filled up instead of searched on.
const NEAR: u32 = 6;
/// Guesses aim so many tokens short, as filler can add but not take away.
const AIM_SHORT: f64 = 2.0;
/// After so many guesses by a straight line the interval is halved instead.
const LINEAR_GUESSES: u32 = 6;
/// So many times the budget may be used until a text is found that is not too long.
const UNTIL_ONE_FITS: u32 = 3;
/// More words than this without a token more means that the counter cuts the text.
const STUCK_WORDS: usize = 8;

/// A text to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    pub(crate) words: usize,
    pub(crate) filler: usize,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Measure this candidate and [`observe`](Search::observe) its length.
    Measure(Candidate),
    /// The longest text found that is not too long, with its length.
    Done(Option<(Candidate, u32)>),
    /// Texts get longer, their count does not.
    Stuck {
        /// The count at which it stands.
        seen: u32,
    },
}

/// A search for `asked` tokens.
#[derive(Debug)]
pub(crate) struct Search {
    asked: u32,
    most_filler: usize,
    budget: u32,
    measured: BTreeMap<Candidate, u32>,
    /// First guess: tokens of a word, and tokens of everything that isn't cut.
    rate: f64,
    fixed: f64,
    stuck: Option<u32>,
    /// Words less than the longest that fits, while filling.
    given_up: usize,
}

impl Search {
    /// Searches with at most `budget` measurements, a few times as many if nothing fits yet. `rate` (tokens a word)
    /// and `fixed` (tokens of salt and ending) shape the first guess only.
    pub(crate) fn new(asked: u32, most_filler: usize, budget: u32, rate: f64, fixed: f64) -> Self {
        Self {
            asked,
            most_filler,
            budget,
            measured: BTreeMap::new(),
            rate: rate.max(0.1),
            fixed,
            stuck: None,
            given_up: 0,
        }
    }

    /// Takes a measured length.
    pub(crate) fn observe(&mut self, candidate: Candidate, tokens: u32) {
        if candidate.filler == 0
            && let Some((words, before)) = self.floor()
            && candidate.words > words + STUCK_WORDS
            && tokens <= before
        {
            self.stuck = Some(tokens);
        }
        self.measured.insert(candidate, tokens);
    }

    /// Measurements so far.
    pub(crate) fn measurements(&self) -> u32 {
        u32::try_from(self.measured.len()).unwrap_or(u32::MAX)
    }

    /// Tokens a word between the shortest and the longest text measured; a better first guess for the next
    /// search.
    pub(crate) fn measured_rate(&self) -> Option<f64> {
        let plain: Vec<(usize, u32)> = self.plain().collect();
        let (first, last) = (plain.first()?, plain.last()?);
        let (words, tokens) = (last.0.checked_sub(first.0)?, last.1.checked_sub(first.1)?);
        (words >= 20).then(|| f64::from(tokens) / words as f64)
    }

    fn plain(&self) -> impl DoubleEndedIterator<Item = (usize, u32)> {
        self.measured
            .iter()
            .filter(|(c, _)| c.filler == 0)
            .map(|(c, &tokens)| (c.words, tokens))
    }

    /// The longest text without filler that is not too long.
    fn floor(&self) -> Option<(usize, u32)> {
        self.plain().rfind(|&(_, tokens)| tokens <= self.asked)
    }

    /// The shortest text without filler that is too long, above the floor.
    fn ceiling(&self) -> Option<(usize, u32)> {
        let above = self.floor().map_or(0, |(words, _)| words);
        self.plain()
            .find(|&(words, tokens)| words > above && tokens > self.asked)
    }

    fn best(&self) -> Option<(Candidate, u32)> {
        self.measured
            .iter()
            .map(|(&candidate, &tokens)| (candidate, tokens))
            .filter(|&(_, tokens)| tokens <= self.asked)
            // Of equal lengths the one with the least filler.
            .max_by_key(|&(candidate, tokens)| (tokens, std::cmp::Reverse(candidate.filler)))
    }

    /// The next step.
    pub(crate) fn next(&mut self) -> Step {
        if let Some(seen) = self.stuck {
            return Step::Stuck { seen };
        }
        let best = self.best();
        let spent = match best {
            Some((_, tokens)) => tokens == self.asked || self.measurements() >= self.budget,
            None => self.measurements() >= self.budget.saturating_mul(UNTIL_ONE_FITS),
        };
        if spent {
            return Step::Done(best);
        }
        let (floor, ceiling) = (self.floor(), self.ceiling());
        let next = match (floor, ceiling) {
            (Some((words, tokens)), _) if self.asked - tokens <= NEAR => self.fill(words),
            (Some((words, _)), Some((above, _))) if above == words + 1 => self.fill(words),
            (None, Some((1, _))) => None,
            _ => Some(Candidate {
                words: self.guess(floor, ceiling),
                filler: 0,
            }),
        };
        next.map_or(Step::Done(best), Step::Measure)
    }

    /// Tokens a word between the text of so many words and the measured one nearest to it.
    fn slope_at(&self, words: usize) -> Option<f64> {
        let tokens = self.measured.get(&Candidate { words, filler: 0 })?;
        let (other, others) = self
            .plain()
            .filter(|&(other, _)| other != words)
            .min_by_key(|&(other, _)| other.abs_diff(words))?;
        let slope = (f64::from(*tokens) - f64::from(others)) / (words as f64 - other as f64);
        (slope > 0.0).then_some(slope)
    }

    fn guess(&self, floor: Option<(usize, u32)>, ceiling: Option<(usize, u32)>) -> usize {
        let target = f64::from(self.asked) - AIM_SHORT;
        let ((words, tokens), rate) = match (floor, ceiling) {
            (None, None) => ((0, self.fixed), self.rate),
            (Some((words, tokens)), None) | (None, Some((words, tokens))) => (
                (words, f64::from(tokens)),
                self.slope_at(words).unwrap_or(self.rate),
            ),
            (Some((words, tokens)), Some((above, too_long))) => {
                if self.measurements() >= LINEAR_GUESSES {
                    return usize::midpoint(words, above);
                }
                let rate = f64::from(too_long - tokens) / (above - words) as f64;
                ((words, f64::from(tokens)), rate.max(0.1))
            }
        };
        // A float becomes an integer saturating, so a wild count can't overflow.
        let guess = (words as f64 + (target - tokens) / rate).round() as usize;
        let least = floor.map_or(1, |(words, _)| words + 1);
        let most = ceiling.map_or(usize::MAX, |(words, _)| words - 1);
        guess.clamp(least, most.max(least))
    }

    /// The next candidate with filler, on the longest fitting text or one some words shorter.
    fn fill(&mut self, longest: usize) -> Option<Candidate> {
        while let Some(words) = longest.checked_sub(self.given_up).filter(|&words| words > 0) {
            if let Some(filler) = self.filler_for(words) {
                return Some(Candidate { words, filler });
            }
            self.given_up += 1;
        }
        None
    }

    fn filler_for(&self, words: usize) -> Option<usize> {
        let range = Candidate { words, filler: 0 }..=Candidate {
            words,
            filler: usize::MAX,
        };
        let mut short: Option<(usize, u32)> = None;
        let mut long: Option<(usize, u32)> = None;
        for (candidate, &tokens) in self.measured.range(range) {
            if tokens <= self.asked {
                short = Some((candidate.filler, tokens));
            } else if long.is_none() {
                long = Some((candidate.filler, tokens));
            }
        }
        let guess = match (short, long) {
            (Some((filler, tokens)), _) => filler + (self.asked - tokens) as usize,
            (None, Some((filler, tokens))) => filler.saturating_sub((tokens - self.asked) as usize),
            // Not measured yet: a word less is about one filler word more.
            (None, None) => {
                let (floor, tokens) = self.floor()?;
                (self.asked - tokens) as usize + floor.saturating_sub(words)
            }
        };
        let least = short.map_or(0, |(filler, _)| filler + 1);
        let most = long.map_or(Some(self.most_filler), |(filler, _)| filler.checked_sub(1))?;
        (least <= most).then(|| guess.clamp(least, most.min(self.most_filler)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(search: &mut Search, count: impl Fn(Candidate) -> u32) -> Step {
        loop {
            match search.next() {
                Step::Measure(candidate) => {
                    assert!(candidate.words >= 1);
                    let tokens = count(candidate);
                    search.observe(candidate, tokens);
                }
                end => return end,
            }
        }
    }

    #[test]
    fn ordinary_prose_takes_a_handful_of_measurements() {
        // Every fifth word has three tokens, the others one; salt and ending 47.
        let count = |c: Candidate| (47 + c.words + c.words / 5 * 2 + c.filler) as u32;
        for asked in [128, 512, 1_024, 2_048, 4_096] {
            let mut search = Search::new(asked, 20, 12, 1.2, 50.0);
            let Step::Done(Some((_, tokens))) = run(&mut search, count) else {
                panic!("not found")
            };
            assert_eq!(tokens, asked);
            assert!(search.measurements() <= 6, "{asked}: {}", search.measurements());
        }
    }

    #[test]
    fn a_counter_that_stands_still_is_noticed() {
        let mut search = Search::new(4_096, 20, 12, 1.2, 50.0);
        let step = run(&mut search, |c| (60 + c.words as u32).min(2_000));
        assert_eq!(step, Step::Stuck { seen: 2_000 });
        assert!(search.measurements() <= 4);
    }

    #[test]
    fn lengths_that_no_text_has_give_the_nearest_below() {
        // Only even lengths exist.
        let count = |c: Candidate| 20 + 2 * (c.words + c.filler) as u32;
        let mut search = Search::new(101, 20, 40, 1.2, 20.0);
        let Step::Done(Some((_, tokens))) = run(&mut search, count) else {
            panic!("not found")
        };
        assert_eq!(tokens, 100);
    }

    #[test]
    fn too_short_a_length_ends_without_a_text() {
        let mut search = Search::new(10, 20, 12, 1.2, 50.0);
        assert_eq!(
            run(&mut search, |c| 40 + (c.words + c.filler) as u32),
            Step::Done(None)
        );
    }

    proptest! {
        /// Any vocabulary in which filler words have one token each reaches any length exactly, whatever the
        /// words' own tokens and the first guess are.
        #[test]
        fn exact_with_single_token_filler(
            asked in 100u32..5_000,
            costs in prop::collection::vec(1u32..7, 1..40),
            fixed in 0u32..60,
            rate in 0.5f64..5.0,
        ) {
            let count = |c: Candidate| -> u32 {
                let whole: u32 = costs.iter().sum();
                let rounds = (c.words / costs.len()) as u32;
                let rest: u32 = costs.iter().take(c.words % costs.len()).sum();
                fixed + rounds * whole + rest + c.filler as u32
            };
            let mut search = Search::new(asked, 20, 24, rate, f64::from(fixed));
            let Step::Done(Some((_, tokens))) = run(&mut search, count) else { panic!("not found") };
            prop_assert_eq!(tokens, asked);
        }

        /// Filler that merges or splits now and then still ends, within the budget, at or below the length.
        #[test]
        fn never_too_long_and_never_endless(
            asked in 100u32..3_000,
            costs in prop::collection::vec(1u32..9, 1..40),
            filler_costs in prop::collection::vec(0u32..4, 20),
            budget in 1u32..30,
        ) {
            let count = |c: Candidate| -> u32 {
                let whole: u32 = costs.iter().sum();
                let rounds = (c.words / costs.len()) as u32;
                let rest: u32 = costs.iter().take(c.words % costs.len()).sum();
                10 + rounds * whole + rest + filler_costs[..c.filler].iter().sum::<u32>()
            };
            let mut search = Search::new(asked, 20, budget, 1.2, 30.0);
            if let Step::Done(Some((_, tokens))) = run(&mut search, count) {
                prop_assert!(tokens <= asked);
            }
            prop_assert!(search.measurements() <= budget.max(12));
        }
    }
}
