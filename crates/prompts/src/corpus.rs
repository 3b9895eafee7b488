//! The written English material that prompts of an exact length are cut from.
//!
//! The corpus has about 4,600 words (about 5,200 tokens of o200k, Llama 3 or SmolLM2), so a prompt of 4,096
//! tokens repeats nothing. A longer one goes on with the same paragraphs in another order; how often is
//! reported as `repeats` of [`Fitted`](super::fit::Fitted).

use super::salt::{random_for, shuffle};

const CORPUS: &str = include_str!("texts/corpus.txt");
const SYSTEM: &str = include_str!("texts/system.txt");
const QUESTIONS: &str = include_str!("texts/questions.txt");

/// What a text may end with, the wordiest first.
type Endings = &'static [&'static str];

/// Words that lengthen a text by one token each in common vocabularies. They read on from any word.
const FILLER: &str =
    "again and so on in the same way for all of the rest of it too as far as we can see from here";

/// Endings of a prompt of exact length, the wordiest first; a short prompt takes a short one. They push the
/// model to write past any output cap, since a server that can't be told to ignore the end of the text
/// (Ollama) would otherwise stop early.
const EXACT_ENDINGS: Endings = &[
    "\n\nWrite a very long and detailed article of at least 2,000 words about the text above. Explain every \
     point step by step with examples, and do not stop early.",
    "\n\nWrite a very long and detailed article about this.",
    "",
];

/// Endings of a system prompt.
const SYSTEM_ENDINGS: Endings = &["\n\nFollow all of the above in every answer.", ""];

/// Endings of a question under a shared system prompt.
const QUESTION_ENDINGS: Endings = &[
    "\n\nTreat every part in full detail, in at least 2,000 words.",
    "\n\nAnswer at great length.",
    "",
];

/// How many questions were written.
pub(crate) fn question_count() -> usize {
    paragraphs(QUESTIONS).count()
}

fn paragraphs(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.split("\n\n").map(str::trim).filter(|p| !p.is_empty())
}

/// A text that can be cut after any word and never ends.
pub(crate) struct Source {
    /// What a text cut from it may end with.
    pub(crate) endings: Endings,
    text: String,
    /// Byte offset behind each word.
    ends: Vec<usize>,
    /// Number of words before the second, third, … time that the corpus is used.
    again_from: Vec<usize>,
    rounds: u64,
    first: usize,
    seed: u64,
}

impl Source {
    /// The corpus.
    pub(crate) fn exact(seed: u64) -> Self {
        Self::new(std::iter::empty(), EXACT_ENDINGS, 0, seed)
    }

    /// A realistic system prompt, with the corpus as its reference notes.
    pub(crate) fn system(seed: u64) -> Self {
        Self::new(paragraphs(SYSTEM), SYSTEM_ENDINGS, 0, seed)
    }

    /// The question of this number, with a passage of the corpus as its background. Questions begin their
    /// background at different paragraphs.
    pub(crate) fn question(number: usize, seed: u64) -> Self {
        let question = paragraphs(QUESTIONS).nth(number % question_count().max(1));
        let opening = question.into_iter().chain(["Some background:"]);
        Self::new(opening, QUESTION_ENDINGS, number * 3, seed)
    }

    fn new(opening: impl Iterator<Item = &'static str>, endings: Endings, first: usize, seed: u64) -> Self {
        let mut source = Self {
            endings,
            text: String::new(),
            ends: Vec::new(),
            again_from: Vec::new(),
            rounds: 0,
            first,
            seed,
        };
        for paragraph in opening {
            source.push(paragraph);
        }
        source
    }

    fn push(&mut self, paragraph: &str) {
        for (i, word) in paragraph.split_whitespace().enumerate() {
            if !self.text.is_empty() {
                self.text.push_str(if i == 0 { "\n\n" } else { " " });
            }
            self.text.push_str(word);
            self.ends.push(self.text.len());
        }
    }

    fn push_corpus(&mut self) {
        let mut order: Vec<&str> = paragraphs(CORPUS).collect();
        if self.rounds == 0 {
            let first = self.first % order.len().max(1);
            order.rotate_left(first);
        } else {
            self.again_from.push(self.ends.len());
            let domain = format!("corpus, time {}", self.rounds + 1);
            shuffle(&mut random_for(self.seed, &domain), &mut order);
        }
        for paragraph in order {
            self.push(paragraph);
        }
        self.rounds += 1;
    }

    /// The first `words` words.
    pub(crate) fn words(&mut self, words: usize) -> &str {
        while self.ends.len() < words {
            self.push_corpus();
        }
        let end = words.checked_sub(1).map_or(0, |last| self.ends[last]);
        &self.text[..end]
    }

    /// How often the corpus is used again within the first `words` words.
    pub(crate) fn repeats(&self, words: usize) -> u32 {
        let repeats = self.again_from.iter().filter(|&&from| from < words).count();
        u32::try_from(repeats).unwrap_or(u32::MAX)
    }
}

/// The text after the salt: the first words of `source`, filler, a full stop, and an ending.
pub(crate) fn body(source: &mut Source, words: usize, filler: usize, ending: &str) -> String {
    let start = source
        .words(words)
        .trim_end_matches(|c: char| c.is_ascii_punctuation());
    let filler: String = FILLER
        .split_whitespace()
        .take(filler)
        .flat_map(|word| [" ", word])
        .collect();
    format!("{start}{filler}.{ending}")
}

/// The most filler words.
pub(crate) fn filler_words() -> usize {
    FILLER.split_whitespace().count()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn the_corpus_holds_a_prompt_of_4096_tokens() {
        let words: usize = paragraphs(CORPUS).map(|p| p.split_whitespace().count()).sum();
        // Dense English technical prose is at least 1.1 tokens a word.
        assert!(words >= 3_800, "{words} words");
        let mut source = Source::exact(1);
        source.words(words);
        assert_eq!(source.repeats(words), 0);
        source.words(words + 1);
        assert_eq!(source.repeats(words + 1), 1);
    }

    #[test]
    fn no_sentence_and_no_long_phrase_comes_twice() {
        let all: Vec<&str> = [CORPUS, SYSTEM, QUESTIONS]
            .into_iter()
            .flat_map(|t| t.split_whitespace())
            .collect();
        let mut phrases: HashMap<&[&str], usize> = HashMap::new();
        for (at, phrase) in all.windows(8).enumerate() {
            if let Some(first) = phrases.insert(phrase, at) {
                panic!("`{}` at words {first} and {at}", phrase.join(" "));
            }
        }
    }

    #[test]
    fn paragraphs_are_prose_of_some_length() {
        for paragraph in paragraphs(CORPUS)
            .chain(paragraphs(SYSTEM))
            .chain(paragraphs(QUESTIONS))
        {
            let words = paragraph.split_whitespace().count();
            assert!(words >= 25 && !paragraph.contains('\n'), "{words}: {paragraph}");
            assert!(paragraph.ends_with(['.', '?']), "{paragraph}");
            assert!(paragraph.is_ascii(), "{paragraph}");
        }
    }

    #[test]
    fn questions_differ_from_their_first_words_on() {
        let starts: HashSet<String> = (0..question_count())
            .map(|i| Source::question(i, 1).words(4).to_owned())
            .collect();
        assert_eq!(starts.len(), 16);
    }

    #[test]
    fn a_longer_source_starts_like_a_shorter_one() {
        let (mut a, mut b) = (Source::exact(5), Source::exact(5));
        let short = a.words(300).to_owned();
        let text = b.words(9_500).to_owned();
        assert!(text.starts_with(&short));
        // The second time, the same paragraphs come in another order.
        let all: Vec<&str> = text.split("\n\n").collect();
        let (first, second) = all.split_at(paragraphs(CORPUS).count());
        let second = &second[..first.len()];
        assert_ne!(first, second);
        assert_eq!(
            first.iter().collect::<HashSet<_>>(),
            second.iter().collect::<HashSet<_>>()
        );
    }

    #[test]
    fn a_body_ends_a_cut_sentence_and_keeps_the_instruction_last() {
        let mut source = Source::exact(1);
        let text = body(&mut source, 4, 3, EXACT_ENDINGS[0]);
        assert!(
            text.starts_with("A language model server again and so.\n\nWrite a very long"),
            "{text}"
        );
        assert!(text.ends_with("do not stop early."));
        let words = "A language model server spends its life in two very different kinds of work.";
        assert_eq!(body(&mut source, words.split(' ').count(), 0, ""), words);
    }
}
