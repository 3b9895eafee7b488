//! Answers of a cell for comparison with another's: all by their hashes, a bounded number with their texts.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use benchd_core::record::RequestRecord;

/// Prompts of a cell whose answers' texts are kept.
const KEPT_PROMPTS: usize = 64;
/// Characters of a text that are kept.
const KEPT_CHARS: usize = 4_000;

/// An answer's identity; 0 stands for none. As [`super::samples::prompt_key`], it is for comparisons in memory only.
pub(super) fn answer_key(r: &RequestRecord) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&r.reasoning, &r.text).hash(&mut hasher);
    hasher.finish().max(1)
}

/// The texts that are kept, by prompt.
#[derive(Debug, Default)]
pub(super) struct AnswerTexts(pub(super) BTreeMap<u64, KeptAnswer>);

#[derive(Debug)]
pub(super) struct KeptAnswer {
    pass: u32,
    index: u32,
    /// Characters of the whole text.
    pub(super) chars: usize,
    /// Its first [`KEPT_CHARS`] characters, reasoning first.
    pub(super) text: String,
}

impl AnswerTexts {
    /// Keeps the answer where its prompt is among those with the smallest keys, and it is the first to it.
    pub(super) fn add(&mut self, prompt: u64, r: &RequestRecord) {
        let full = self.0.len() >= KEPT_PROMPTS;
        if full && self.0.last_key_value().is_some_and(|(last, _)| prompt > *last) {
            return;
        }
        let later = |kept: &KeptAnswer| (kept.pass, kept.index) <= (r.pass, r.index);
        if self.0.get(&prompt).is_some_and(later) {
            return;
        }
        let all = || r.reasoning.chars().chain(r.text.chars());
        let kept = KeptAnswer {
            pass: r.pass,
            index: r.index,
            chars: all().count(),
            text: all().take(KEPT_CHARS).collect(),
        };
        self.0.insert(prompt, kept);
        if self.0.len() > KEPT_PROMPTS {
            self.0.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use benchd_plan::ScenarioKind;

    #[test]
    fn the_kept_texts_are_those_of_the_same_prompts_whatever_their_order() {
        let cell = exact("single/in512", ScenarioKind::Single, 1, 512);
        let record = |index: u32| record(1, &cell, 1, index, &Did::ok(0, 10, 90));
        let (mut up, mut down) = (AnswerTexts::default(), AnswerTexts::default());
        for i in 0..1000u32 {
            up.add(u64::from(i), &record(i));
            down.add(u64::from(999 - i), &record(999 - i));
        }
        let keys = |texts: &AnswerTexts| texts.0.keys().copied().collect::<Vec<_>>();
        assert_eq!(keys(&up), keys(&down));
        assert_eq!(keys(&up).len(), KEPT_PROMPTS);
    }
}
