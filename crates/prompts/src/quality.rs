//! Signs of the quality of an answer's text. They don't judge a text; they show where one is odd enough to be
//! read: the wrong script, broken characters, loops, an end in mid-sentence.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Units of a text that are looked at for repetition, at most; an endless answer is judged by its start.
const MOST_UNITS: usize = 4_096;
/// Length of the short phrases whose repetition is counted.
const PHRASE_UNITS: usize = 4;
/// With longer words than this on average (characters) a text has no word breaks to speak of.
const LONGEST_MEAN_WORD: usize = 20;

/// Signs of one text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextQuality {
    /// Unicode scalar values.
    pub characters: u64,
    /// UTF-8 bytes.
    pub bytes: u64,
    /// Share of Hangul among letters, 0 to 1; `None` without letters.
    pub hangul_share: Option<f64>,
    /// U+FFFD: bytes that were no text, or a character cut between two chunks by the server.
    pub replacement_characters: u64,
    /// How much the text repeats itself.
    pub repetition: Repetition,
    /// How the text ends.
    pub ending: Ending,
}

/// Signs of `text`.
pub fn quality(text: &str) -> TextQuality {
    TextQuality {
        characters: text.chars().count() as u64,
        bytes: text.len() as u64,
        hangul_share: hangul_share(text),
        replacement_characters: text.chars().filter(|&c| c == char::REPLACEMENT_CHARACTER).count() as u64,
        repetition: repetition(text),
        ending: ending(text),
    }
}

/// Share of Hangul (syllables and jamo) among the letters of `text`, 0 to 1; `None` without letters. Digits,
/// marks and symbols are no letters.
pub(crate) fn hangul_share(text: &str) -> Option<f64> {
    let (mut letters, mut hangul) = (0_u64, 0_u64);
    for c in text.chars().filter(|c| c.is_alphabetic()) {
        letters += 1;
        hangul += u64::from(is_hangul(c));
    }
    (letters > 0).then(|| hangul as f64 / letters as f64)
}

/// Blocks of Unicode 16: Hangul Jamo, Compatibility Jamo, Jamo Extended-A, Syllables, Jamo Extended-B, and the
/// half-width forms.
fn is_hangul(c: char) -> bool {
    matches!(c,
        '\u{1100}'..='\u{11FF}'
        | '\u{3130}'..='\u{318F}'
        | '\u{A960}'..='\u{A97F}'
        | '\u{AC00}'..='\u{D7A3}'
        | '\u{D7B0}'..='\u{D7FF}'
        | '\u{FFA0}'..='\u{FFDC}')
}

/// How much a text repeats itself, in words (characters where it has no word breaks). Letter case and
/// punctuation count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// Units of the longest phrase that comes twice without overlap.
    pub longest: u64,
    /// `longest` as a share of all units: 0, or up to 0.5 for a text that is the same half twice.
    pub longest_share: f64,
    /// Share of four-unit phrases that came before, 0 to 1; near 1 for a loop.
    pub repeated_share: f64,
}

/// Repetition within `text`.
pub(crate) fn repetition(text: &str) -> Repetition {
    let units = units(text);
    let longest = longest_repeated(&units);
    let mut seen: HashMap<&[u32], ()> = HashMap::new();
    let (mut phrases, mut repeated) = (0_u64, 0_u64);
    for phrase in units.windows(PHRASE_UNITS) {
        phrases += 1;
        repeated += u64::from(seen.insert(phrase, ()).is_some());
    }
    Repetition {
        longest: longest as u64,
        longest_share: share(longest as u64, units.len() as u64),
        repeated_share: share(repeated, phrases),
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// The text as numbers, one for each different word or character.
fn units(text: &str) -> Vec<u32> {
    let words = text.split_whitespace().count();
    let characters = text.chars().filter(|c| !c.is_whitespace()).count();
    let by_character = characters > words * LONGEST_MEAN_WORD;
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut number = |unit| {
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        *numbers.entry(unit).or_insert(next)
    };
    if by_character {
        let starts = text
            .char_indices()
            .filter(|(_, c)| !c.is_whitespace())
            .take(MOST_UNITS);
        starts
            .map(|(at, c)| number(&text[at..at + c.len_utf8()]))
            .collect()
    } else {
        text.split_whitespace().take(MOST_UNITS).map(number).collect()
    }
}

/// Length of the longest phrase that comes twice without overlap. If one of length n does, so does one of
/// length n - 1: the length is found by halving.
fn longest_repeated(units: &[u32]) -> usize {
    let comes_twice = |length: usize| -> bool {
        let mut first: HashMap<&[u32], usize> = HashMap::new();
        units.windows(length).enumerate().any(|(at, phrase)| {
            let before = *first.entry(phrase).or_insert(at);
            at >= before + length
        })
    };
    let (mut known, mut too_long) = (0, units.len() / 2 + 1);
    while known + 1 < too_long {
        let middle = usize::midpoint(known, too_long);
        if comes_twice(middle) {
            known = middle;
        } else {
            too_long = middle;
        }
    }
    known
}

/// How a text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Nothing but white space.
    Empty,
    /// With the end of a sentence.
    Complete,
    /// In the middle of one, of a list or of a code block.
    Cut,
}

/// Marks that may follow the end of a sentence: quotes, brackets, emphasis.
const CLOSERS: &[char] = &[
    '"', '\'', ')', ']', '}', '*', '_', '`', '”', '’', '」', '』', '》', '〉', '】', '）', '»',
];
/// Marks that end a sentence.
const STOPS: &[char] = &['.', '!', '?', '…', '。', '！', '？', '．'];
/// Endings of Korean sentences (formal, polite, plain) that are no ending of a noun, so that they end a
/// sentence also without a full stop.
const KOREAN_ENDINGS: &[&str] = &[
    "니다",
    "니까",
    "어요",
    "아요",
    "여요",
    "해요",
    "에요",
    "예요",
    "세요",
    "네요",
    "군요",
    "지요",
    "죠",
    "한다",
    "했다",
    "였다",
    "었다",
    "았다",
    "있다",
    "없다",
    "된다",
    "됐다",
    "이다",
    "는다",
    "겠다",
    "하자",
    "습니까",
    "십시오",
];

/// How `text` ends. A sentence ends with its mark, also within quotes, brackets or emphasis; in Korean also with
/// a final ending without a mark. A list number (`3.`) is the start of a point, not the end of a sentence; an
/// open code block is cut.
pub(crate) fn ending(text: &str) -> Ending {
    let text = text.trim_end();
    if text.is_empty() {
        return Ending::Empty;
    }
    if text.matches("```").count() % 2 == 1 {
        return Ending::Cut;
    }
    if text.ends_with("```") {
        return Ending::Complete;
    }
    let bare = text.trim_end_matches(CLOSERS).trim_end();
    let complete = if bare.ends_with(STOPS) {
        !is_list_number(bare)
    } else {
        KOREAN_ENDINGS.iter().any(|ending| bare.ends_with(ending))
    };
    if complete { Ending::Complete } else { Ending::Cut }
}

/// Whether the text's last line is nothing but a list number of one or two digits: `3.` or `**12.`
fn is_list_number(text: &str) -> bool {
    let line = text.rsplit('\n').next().unwrap_or(text);
    let line = line.trim_matches(|c: char| c.is_whitespace() || matches!(c, '*' | '#' | '-'));
    line.strip_suffix('.')
        .is_some_and(|n| matches!(n.len(), 1 | 2) && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hangul_is_counted_among_letters_only() {
        assert_eq!(hangul_share("대한민국"), Some(1.0));
        assert_eq!(hangul_share("GPU 메모리 12GB"), Some(3.0 / 8.0));
        assert_eq!(hangul_share("2024. 10% → 😀"), None);
        assert_eq!(hangul_share("経済 economy"), Some(0.0));
        // Decomposed syllables are Hangul as well.
        assert_eq!(hangul_share("\u{1112}\u{1161}\u{11ab}"), Some(1.0));
        assert_eq!(hangul_share("ㅋㅋ"), Some(1.0));
    }

    #[test]
    fn characters_bytes_and_broken_characters() {
        let q = quality("가나\u{FFFD}a");
        assert_eq!((q.characters, q.bytes, q.replacement_characters), (4, 10, 1));
    }

    #[test]
    fn ends_of_sentences() {
        for complete in [
            "서버가 정상으로 돌아왔습니다.",
            "서버가 정상으로 돌아왔습니다",
            "그는 \"끝났다.\"",
            "정말 그럴까요?",
            "**결론을 내려야 한다.**",
            "모두 처리했다(표 참고).",
            "It works!",
            "He said “done.”",
            "1950년대.\n\n끝.\n",
            "```rust\nfn main() {}\n```",
            "값은 0.5.",
            "올해는\n2024.",
        ] {
            assert_eq!(ending(complete), Ending::Complete, "{complete}");
        }
        for cut in [
            "서버가 정상으로 돌아",
            "첫째, 메모리를",
            "바다",
            "이러한 이유로,",
            "the scheduler moves the",
            "항목은 다음과 같습니다.\n1. 메모리\n2.",
            "- **3.**",
            "설명:",
            "끝입니다.\n```python\nprint(1).",
            "가나\u{FFFD}",
        ] {
            assert_eq!(ending(cut), Ending::Cut, "{cut}");
        }
        assert_eq!(ending(" \n"), Ending::Empty);
    }

    #[test]
    fn loops_are_seen_and_prose_is_not() {
        let prose = crate::written::written(benchd_plan::PromptType::SummaryLong, benchd_plan::Language::Ko);
        let r = repetition(prose.text);
        assert!(r.longest_share < 0.05 && r.repeated_share < 0.05, "{r:?}");
        let sentence = "서버는 요청을 처리하고 결과를 돌려준다. ";
        let r = repetition(&sentence.repeat(40));
        assert!(r.longest_share > 0.45 && r.repeated_share > 0.9, "{r:?}");
        // Without word breaks the characters are looked at.
        let r = repetition(&"아".repeat(300));
        assert!(r.longest_share > 0.45 && r.repeated_share > 0.9, "{r:?}");
        let half = "a b c d e f g h";
        let r = repetition(&format!("{half} {half}"));
        assert_eq!((r.longest, r.longest_share), (8, 0.5));
        assert_eq!(repetition("").longest, 0);
        assert_eq!(repetition("하나").longest_share, 0.0);
    }

    proptest! {
        #[test]
        fn longest_repeated_agrees_with_trying_all(units in prop::collection::vec(0u32..3, 0..24)) {
            let mut longest = 0;
            for a in 0..units.len() {
                for b in a + 1..units.len() {
                    let most = (b - a).min(units.len() - b);
                    let equal = (0..most).take_while(|&i| units[a + i] == units[b + i]).count();
                    longest = longest.max(equal);
                }
            }
            prop_assert_eq!(longest_repeated(&units), longest);
        }

        #[test]
        fn no_text_breaks_it(text in "\\PC*") {
            let q = quality(&text);
            prop_assert!(q.hangul_share.is_none_or(|s| (0.0..=1.0).contains(&s)));
            prop_assert!((0.0..=0.5).contains(&q.repetition.longest_share));
        }
    }
}
