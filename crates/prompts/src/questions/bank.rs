//! The built-in questions. All are drawn from one fixed seed: the same in every run, so that runs compare.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{Expected, Question, Task};
use benchd_plan::Language::{self, En, Ko};

/// `benchd` in ASCII.
const SEED: u64 = 0x6265_6e63_6864;

/// Questions of a task in each language.
const ARITHMETIC: usize = 12;
const COPYING: usize = 10;
const LOOKUP: usize = 12;

/// Where in the text a needle lies, as a share of its words.
const DEPTHS_PERCENT: [usize; 4] = [5, 35, 65, 95];

/// 100 questions, half of them Korean.
pub(super) fn built_in() -> Vec<Question> {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(SEED));
    let mut all = Vec::new();
    for language in [En, Ko] {
        all.extend((0..ARITHMETIC).map(|n| arithmetic(&mut draw, language, n)));
        all.extend((0..COPYING).map(|n| copying(&mut draw, language, n)));
        all.extend((0..LOOKUP).map(|n| lookup(&mut draw, language, n)));
        let facts = match language {
            En => &ENGLISH_FACTS,
            Ko => &KOREAN_FACTS,
        };
        all.extend((0..).zip(facts).map(|(n, (question, answers))| {
            let ask = match language {
                En => "Answer with one word or a short name only.",
                Ko => "한 단어나 짧은 이름으로만 답하세요.",
            };
            let expected = Expected::AnyOf(answers.iter().map(|a| (*a).to_owned()).collect());
            let id = id(Task::Knowledge, language, n);
            Question::new(
                id,
                Task::Knowledge,
                Some(language),
                format!("{question} {ask}"),
                expected,
            )
        }));
    }
    all
}

/// Codes hidden in `text` at several depths, each asked for after it.
pub(super) fn needles(model: &str, text: &str) -> Vec<Question> {
    let mut draw = Draw(ChaCha8Rng::seed_from_u64(SEED ^ 1));
    // Lines stay whole: the needle is a line of its own.
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    DEPTHS_PERCENT
        .iter()
        .zip([En, Ko, En, Ko])
        .map(|(&percent, language)| {
            let code = draw.code();
            let at = cut_at(text, percent);
            let (needle, ask) = match language {
                En => (
                    format!("The access code of the archive is {code}."),
                    "What is the access code of the archive, as the text above says it? Answer with the code only.",
                ),
                Ko => (
                    format!("기록 보관소의 출입 코드는 {code}입니다."),
                    "위 글에서 말하는 기록 보관소의 출입 코드는 무엇입니까? 코드로만 답하세요.",
                ),
            };
            let body = if lines.len() > 1 {
                format!("{}\n{needle}\n{}\n\n{ask}", text[..at].trim_end(), text[at..].trim_start())
            } else {
                format!("{} {needle} {}\n\n{ask}", text[..at].trim_end(), text[at..].trim_start())
            };
            let expected = Expected::AnyOf(vec![code.clone()]);
            let id = format!("{model}/needle/{percent}");
            Question::new(id, Task::Needle, Some(language), body, expected).with_code(code)
        })
        .collect()
}

/// The start of a word near this share of the text.
fn cut_at(text: &str, percent: usize) -> usize {
    let wanted = text.len() * percent / 100;
    text.char_indices()
        .filter(|(_, c)| c.is_whitespace())
        .map(|(at, c)| at + c.len_utf8())
        .find(|&at| at >= wanted)
        .unwrap_or(text.len())
}

fn id(task: Task, language: Language, n: usize) -> String {
    format!("{}/{}/{n}", task.as_str(), language.as_str())
}

struct Draw(ChaCha8Rng);

impl Draw {
    /// From `least` to `most`, both included.
    fn between(&mut self, least: u32, most: u32) -> u32 {
        least + self.0.next_u32() % (most - least + 1)
    }

    /// `QM-4821-XK`: unique enough that no two of a run's codes coincide (checked by a test), and no word of any text.
    fn code(&mut self) -> String {
        let mut letter = || char::from(b"BCDFGHJKLMNPQRSTVWXZ"[self.0.next_u32() as usize % 20]);
        let (a, b, c, d) = (letter(), letter(), letter(), letter());
        format!("{a}{b}-{}-{c}{d}", self.between(1000, 9999))
    }
}

fn arithmetic(draw: &mut Draw, language: Language, n: usize) -> Question {
    let (question, result) = match n % 3 {
        0 => {
            let (a, b) = (draw.between(12, 79), draw.between(12, 79));
            (format!("{a} + {b}"), a + b)
        }
        1 => {
            let b = draw.between(12, 49);
            let a = b + draw.between(50, 99);
            (format!("{a} - {b}"), a - b)
        }
        _ => {
            let (a, b) = (draw.between(3, 9), draw.between(11, 19));
            (format!("{a} × {b}"), a * b)
        }
    };
    let text = match language {
        En => format!("What is {question}? Answer with the number only."),
        Ko => format!("{question}의 값은 얼마입니까? 숫자로만 답하세요."),
    };
    let expected = Expected::Number(result.to_string());
    Question::new(
        id(Task::Arithmetic, language, n),
        Task::Arithmetic,
        Some(language),
        text,
        expected,
    )
}

fn copying(draw: &mut Draw, language: Language, n: usize) -> Question {
    let code = draw.code();
    let text = match language {
        En => format!("Repeat this code exactly, and write nothing else: {code}"),
        Ko => format!("다음 코드를 그대로 한 번 쓰고 다른 말은 쓰지 마세요: {code}"),
    };
    let expected = Expected::AnyOf(vec![code.clone()]);
    Question::new(
        id(Task::Copying, language, n),
        Task::Copying,
        Some(language),
        text,
        expected,
    )
    .with_code(code)
}

const ENGLISH_ITEMS: [&str; 6] = ["lamp", "chair", "kettle", "mirror", "blanket", "clock"];
const KOREAN_ITEMS: [&str; 6] = ["전등", "의자", "주전자", "거울", "담요", "시계"];

fn lookup(draw: &mut Draw, language: Language, n: usize) -> Question {
    let items = match language {
        En => ENGLISH_ITEMS,
        Ko => KOREAN_ITEMS,
    };
    let prices = distinct(draw, items.len());
    let wanted = n % items.len();
    let lines: Vec<String> = items
        .iter()
        .zip(&prices)
        .map(|(item, price)| match language {
            En => format!("- {item}: {price} dollars"),
            Ko => format!("- {item}: {price}원"),
        })
        .collect();
    let (list, item) = (lines.join("\n"), items[wanted]);
    let text = match language {
        En => format!(
            "Price list:\n{list}\n\nHow many dollars does the {item} cost? Answer with the number only."
        ),
        Ko => format!("가격표:\n{list}\n\n{item}의 가격은 몇 원입니까? 숫자로만 답하세요."),
    };
    let expected = Expected::Number(prices[wanted].to_string());
    Question::new(
        id(Task::Lookup, language, n),
        Task::Lookup,
        Some(language),
        text,
        expected,
    )
}

/// Different prices of three digits.
fn distinct(draw: &mut Draw, count: usize) -> Vec<u32> {
    let mut prices = Vec::with_capacity(count);
    while prices.len() < count {
        let price = draw.between(101, 989);
        if !prices.contains(&price) {
            prices.push(price);
        }
    }
    prices
}

type Fact = (&'static str, &'static [&'static str]);

const ENGLISH_FACTS: [Fact; 16] = [
    ("What is the capital of France?", &["Paris"]),
    ("What is the capital of Japan?", &["Tokyo"]),
    ("What is the capital of Italy?", &["Rome"]),
    ("Which planet do we live on?", &["Earth"]),
    ("What is the chemical symbol of gold?", &["Au"]),
    ("What is the chemical formula of water?", &["H2O", "H₂O"]),
    (
        "Which gas do plants take from the air to grow?",
        &["carbon dioxide", "CO2", "CO₂"],
    ),
    ("Who wrote the play \"Romeo and Juliet\"?", &["Shakespeare"]),
    ("Who formulated the theory of general relativity?", &["Einstein"]),
    ("What is the largest ocean on Earth?", &["Pacific"]),
    ("On which continent is Egypt?", &["Africa"]),
    ("What is the opposite of \"hot\"?", &["cold"]),
    ("How many days does a week have?", &["7", "seven"]),
    ("How many legs does a spider have?", &["8", "eight"]),
    (
        "What colour does one get by mixing blue and yellow paint?",
        &["green"],
    ),
    ("Which month comes after March?", &["April"]),
];

const KOREAN_FACTS: [Fact; 16] = [
    ("대한민국의 수도는 어디입니까?", &["서울", "Seoul"]),
    ("프랑스의 수도는 어디입니까?", &["파리", "Paris"]),
    ("일본의 수도는 어디입니까?", &["도쿄", "동경", "Tokyo"]),
    ("한글을 창제한 조선의 왕은 누구입니까?", &["세종", "Sejong"]),
    ("임진왜란 때 거북선을 이끈 장군은 누구입니까?", &["이순신"]),
    ("대한민국에서 가장 큰 섬은 어디입니까?", &["제주"]),
    ("대한민국의 화폐 단위는 무엇입니까?", &["원", "KRW", "won"]),
    ("물의 화학식은 무엇입니까?", &["H2O", "H₂O"]),
    ("금의 원소 기호는 무엇입니까?", &["Au"]),
    ("태양계에서 가장 큰 행성은 무엇입니까?", &["목성", "Jupiter"]),
    ("지구의 위성은 무엇입니까?", &["달", "Moon"]),
    ("일 년은 몇 달입니까?", &["12", "열두", "십이"]),
    ("일주일은 며칠입니까?", &["7", "일곱"]),
    ("삼각형의 변은 몇 개입니까?", &["3", "셋", "세 개", "삼 개"]),
    ("'크다'의 반대말은 무엇입니까?", &["작다", "작은"]),
    ("봄 다음에 오는 계절은 무엇입니까?", &["여름"]),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::questions::{Grade, grade};

    #[test]
    fn a_hundred_questions_half_of_them_korean_and_no_two_alike() {
        let all = built_in();
        assert_eq!(all.len(), 100);
        assert_eq!(all.iter().filter(|q| q.language == Some(Ko)).count(), 50);
        let ids: HashSet<&str> = all.iter().map(|q| q.id.as_str()).collect();
        let texts: HashSet<&str> = all.iter().map(|q| q.messages[0].content.as_str()).collect();
        let needles = needles("m", &"a line of text\n".repeat(50));
        let codes: HashSet<String> = all
            .iter()
            .chain(&needles)
            .filter_map(|q| q.code.clone())
            .collect();
        assert_eq!(
            (ids.len(), texts.len(), codes.len()),
            (100, 100, 2 * COPYING + DEPTHS_PERCENT.len())
        );
        assert_eq!(all, built_in(), "the same in every run");
    }

    #[test]
    fn no_question_gives_its_answer_away_but_those_that_must() {
        for question in built_in() {
            let text = &question.messages[0].content;
            let echoed = grade(&question.expected, text) == Grade::Right;
            let must = matches!(question.task, Task::Copying);
            assert!(
                !echoed || must || question.task == Task::Lookup,
                "{}: {text}",
                question.id
            );
        }
    }

    #[test]
    fn a_needle_lies_at_its_depth_and_is_asked_for_at_the_end() {
        let text = "one two three four five six seven eight nine ten ".repeat(40);
        for question in needles("m", &text) {
            let sent = &question.messages[0].content;
            let code = question.code.as_deref().unwrap();
            assert_eq!(sent.matches(code).count(), 1);
            assert!(sent.ends_with("only.") || sent.ends_with("답하세요."));
        }
    }
}
