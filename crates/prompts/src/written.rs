//! The written texts of the Korean scenario: eight prompt types, each in Korean and in English.
//!
//! Twins have the same meaning, sentence by sentence, not the same length. Short Korean texts have about 240 to
//! 280 characters (124 to 150 tokens of o200k), long ones 900 to 970 (500 to 552). The user's own document gives
//! the base of each: its question on Korea's economic development, a technical passage to sum up, a text to
//! translate, an essay on the future of AI. It translates from Korean to English only. A twin that translates from English
//! would ask for Korean, and its answers be held against English ones the wrong way round; so the control has the text that
//! the translation would come to, and is to write it again in English.

use benchd_plan::{Language, PromptType};

/// One text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenPrompt {
    /// All of it, without a salt.
    pub text: &'static str,
    /// Why Korean and English ask for different kinds of work, where they must, and what is the control: their answers compare
    /// less well.
    pub differs_in_kind: Option<&'static str>,
}

macro_rules! twin {
    ($language:expr, $name:literal) => {
        match $language {
            Language::Ko => include_str!(concat!("texts/ko/", $name, ".txt")),
            Language::En => include_str!(concat!("texts/en/", $name, ".txt")),
        }
    };
}

/// The written text of a type in a language.
pub fn written(prompt_type: PromptType, language: Language) -> WrittenPrompt {
    let text = match prompt_type {
        PromptType::Question => twin!(language, "question"),
        PromptType::QuestionLong => twin!(language, "question-long"),
        PromptType::Summary => twin!(language, "summary"),
        PromptType::SummaryLong => twin!(language, "summary-long"),
        PromptType::Translation => twin!(language, "translation"),
        PromptType::TranslationLong => twin!(language, "translation-long"),
        PromptType::Essay => twin!(language, "essay"),
        PromptType::EssayLong => twin!(language, "essay-long"),
    }
    .trim_end();
    let differs_in_kind = match prompt_type {
        PromptType::Translation | PromptType::TranslationLong => Some(
            "the Korean text is translated into English; its control gives the same text in English, to be rewritten in \
             English: the answers to both are in English",
        ),
        PromptType::Essay => Some(
            "500 characters are asked for in Korean, 500 words in English; its control is essay-long, which asks for the same \
             in both",
        ),
        _ => None,
    };
    WrittenPrompt {
        text,
        differs_in_kind,
    }
}

/// Whether the answers to both twins are in one language: then they say nothing of Korean answers.
pub fn answers_in_one_language(prompt_type: PromptType) -> bool {
    matches!(prompt_type, PromptType::Translation | PromptType::TranslationLong)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::quality::hangul_share;

    fn all() -> impl Iterator<Item = (PromptType, Language, &'static str)> {
        PromptType::ALL
            .into_iter()
            .flat_map(|t| [Language::Ko, Language::En].map(|l| (t, l, written(t, l).text)))
    }

    fn is_long(prompt_type: PromptType) -> bool {
        prompt_type.as_str().ends_with("-long")
    }

    /// Sentences: marks that end one, before white space or the end. Decimals and `2 p.m.` within a sentence
    /// are no end.
    fn sentences(text: &str) -> usize {
        text.split_whitespace()
            .filter(|w| !matches!(*w, "a.m." | "p.m."))
            .filter(|w| w.trim_end_matches(['\'', '"', ')']).ends_with(['.', '?', '!']))
            .count()
    }

    #[test]
    fn korean_texts_have_the_stated_lengths() {
        for t in PromptType::ALL {
            let characters = written(t, Language::Ko).text.chars().count();
            let range = if is_long(t) { 890..=1_000 } else { 220..=290 };
            assert!(range.contains(&characters), "{}: {characters}", t.as_str());
        }
    }

    #[test]
    fn korean_is_korean_and_english_is_english() {
        for (prompt_type, language, text) in all() {
            let share = hangul_share(text).unwrap();
            let name = prompt_type.as_str();
            match language {
                // The translation's instruction is English, as in the document.
                Language::Ko if name == "translation" => assert!(share > 0.75, "{name}: {share}"),
                Language::Ko => assert!(share > 0.88, "{name}: {share}"),
                Language::En => assert!(text.is_ascii(), "{name}"),
            }
        }
    }

    #[test]
    fn twins_have_as_many_paragraphs_and_sentences() {
        for t in PromptType::ALL {
            let (ko, en) = (written(t, Language::Ko), written(t, Language::En));
            let paragraphs = |text: &str| text.split("\n\n").map(sentences).collect::<Vec<_>>();
            assert_eq!(paragraphs(ko.text), paragraphs(en.text), "{}", t.as_str());
            assert_eq!(ko.differs_in_kind, en.differs_in_kind);
        }
    }

    #[test]
    fn twins_name_the_same_figures() {
        // Digits that both scripts write as digits: sizes, shares, times, counts of thousands.
        let figures = |text: &str| -> Vec<String> {
            let mut found: Vec<String> = text
                .split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ','))
                .map(|n| n.trim_matches(['.', ',']).to_owned())
                .filter(|n| n.len() >= 3)
                .collect();
            found.sort();
            found
        };
        for t in [
            PromptType::Question,
            PromptType::QuestionLong,
            PromptType::TranslationLong,
            PromptType::EssayLong,
        ] {
            let (ko, en) = (written(t, Language::Ko), written(t, Language::En));
            assert_eq!(figures(ko.text), figures(en.text), "{}", t.as_str());
            assert!(t != PromptType::QuestionLong || figures(ko.text).len() >= 8);
        }
    }

    #[test]
    fn no_text_comes_twice() {
        let texts: HashSet<&str> = all().map(|(_, _, text)| text).collect();
        assert_eq!(texts.len(), 16);
        let starts: HashSet<String> = all()
            .map(|(_, _, text)| text.chars().take(40).collect())
            .collect();
        // The two translations of a language begin with one instruction, the document's own in Korean.
        assert_eq!(starts.len(), 14);
    }

    #[test]
    fn the_documents_own_examples_are_there() {
        let text = |t, l| written(t, l).text;
        assert!(
            text(PromptType::Question, Language::Ko)
                .starts_with("대한민국의 경제 발전 과정을 시대별로 자세히 설명해주세요.")
        );
        assert!(
            text(PromptType::Question, Language::En)
                .starts_with("Please explain South Korea's economic development process in detail by era.")
        );
        assert!(text(PromptType::SummaryLong, Language::Ko).ends_with("위 내용을 요약해주세요."));
        assert!(text(PromptType::SummaryLong, Language::En).ends_with("Summarize the above."));
        assert!(
            text(PromptType::Translation, Language::Ko)
                .starts_with("Translate the following Korean text to English:")
        );
        // Both are answered in English.
        for t in [PromptType::Translation, PromptType::TranslationLong] {
            assert!(answers_in_one_language(t));
            assert!(text(t, Language::Ko).starts_with("Translate the following Korean text to English:"));
            assert!(text(t, Language::En).starts_with("Rewrite the following text in English:"));
        }
        assert!(
            text(PromptType::Essay, Language::Ko)
                .starts_with("인공지능의 미래에 대한 에세이를 500자 내외로 작성해주세요.")
        );
        assert!(
            text(PromptType::Essay, Language::En)
                .starts_with("Write an essay about the future of AI in about 500 words.")
        );
    }
}
