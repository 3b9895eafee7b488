//! Whether an answer is right. Lenient in form, strict in matter: "**85**", "The answer is 85." and "47 + 38 = 85" are
//! all right, another number is not.

use super::Expected;

/// What an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grade {
    /// The right answer.
    Right,
    /// Another one.
    Wrong,
    /// Nothing but white space.
    Empty,
}

/// Grades the content of an answer; what a thinking model thought is not a part of it.
pub fn grade(expected: &Expected, answer: &str) -> Grade {
    if answer.trim().is_empty() {
        return Grade::Empty;
    }
    let right = match expected {
        Expected::Number(number) => is_number(answer, number),
        Expected::Choice(letter) => first_choice(answer) == Some(letter.to_ascii_uppercase()),
        Expected::AnyOf(texts) => {
            let answer = plain(answer);
            texts.iter().any(|text| contains(&answer, &plain(text)))
        }
    };
    if right { Grade::Right } else { Grade::Wrong }
}

fn is_number(answer: &str, wanted: &str) -> bool {
    let wanted = canonical(wanted);
    let last_of = |text: &str| numbers(text).pop();
    let first_line = answer.lines().find_map(last_of);
    [first_line, last_of(answer)]
        .into_iter()
        .flatten()
        .any(|n| n == wanted)
}

/// The numbers of a text, as [`canonical`] writes them.
fn numbers(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    let digit = |at: usize| characters.get(at).is_some_and(char::is_ascii_digit);
    while at < characters.len() {
        if !digit(at) {
            at += 1;
            continue;
        }
        let minus = at > 0
            && matches!(characters[at - 1], '-' | '−')
            && (at < 2 || !digit_or_space(&characters, at - 2));
        let mut number = String::new();
        if minus {
            number.push('-');
        }
        while digit(at) || (matches!(characters.get(at), Some('.' | ',')) && digit(at + 1)) {
            number.push(characters[at]);
            at += 1;
        }
        found.push(canonical(&number));
    }
    found
}

/// Whether a minus behind this character takes away rather than negates: `7-3`, `7 - 3`.
fn digit_or_space(characters: &[char], at: usize) -> bool {
    let before = characters[..=at].iter().rev().find(|c| !c.is_whitespace());
    before.is_some_and(char::is_ascii_digit)
}

/// Without commas between thousands, and without zeros that say nothing.
fn canonical(number: &str) -> String {
    let mut plain: String = number.chars().filter(|&c| c != ',').collect();
    if plain.contains('.') {
        plain.truncate(plain.trim_end_matches('0').trim_end_matches('.').len());
    }
    plain
}

/// The first of A to J that stands alone: `B`, `(B)`, `B.`, `정답은 B입니다`. `A` as an English article is not told apart.
fn first_choice(answer: &str) -> Option<char> {
    let characters: Vec<char> = answer.chars().collect();
    let word = |at: Option<usize>| {
        at.and_then(|at| characters.get(at))
            .is_some_and(char::is_ascii_alphanumeric)
    };
    (0..characters.len())
        .find(|&at| ('A'..='J').contains(&characters[at]) && !word(at.checked_sub(1)) && !word(Some(at + 1)))
        .map(|at| characters[at])
}

/// Lower case, without marks of emphasis.
fn plain(text: &str) -> String {
    text.chars()
        .filter(|c| !matches!(c, '*' | '`' | '_'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// `wanted` in `answer`; where it begins or ends with an ASCII letter or digit, not inside a longer word. Korean particles
/// stick to their words, so Hangul may go on.
fn contains(answer: &str, wanted: &str) -> bool {
    let inside = |c: Option<char>, edge: Option<char>| {
        edge.is_some_and(|c| c.is_ascii_alphanumeric()) && c.is_some_and(|c| c.is_ascii_alphanumeric())
    };
    answer.match_indices(wanted).any(|(at, found)| {
        let before = answer[..at].chars().next_back();
        let after = answer[at + found.len()..].chars().next();
        !inside(before, wanted.chars().next()) && !inside(after, wanted.chars().next_back())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: &str) -> Expected {
        Expected::Number(n.to_owned())
    }

    fn any(texts: &[&str]) -> Expected {
        Expected::AnyOf(texts.iter().map(|t| (*t).to_owned()).collect())
    }

    #[test]
    fn numbers_are_right_in_any_dress_and_wrong_when_another() {
        for right in [
            "85",
            "**85**",
            "The answer is 85.",
            "47 + 38 = 85",
            "85\n\nBecause 47 + 38 is 80 + 5",
            "85.0",
            "정답은 85입니다.",
        ] {
            assert_eq!(grade(&number("85"), right), Grade::Right, "{right}");
        }
        for wrong in [
            "84",
            "185",
            "8 5",
            "850",
            "I don't know",
            "0.85",
            "-85",
            "85 is wrong, it is 84",
        ] {
            assert_eq!(grade(&number("85"), wrong), Grade::Wrong, "{wrong}");
        }
        assert_eq!(grade(&number("1234"), "It is 1,234."), Grade::Right);
        assert_eq!(grade(&number("-4"), "x = -4"), Grade::Right);
        assert_eq!(grade(&number("4"), "7 - 3 = 4"), Grade::Right);
        assert_eq!(grade(&number("85"), " \n"), Grade::Empty);
    }

    #[test]
    fn names_are_whole_words_and_korean_particles_stick() {
        assert_eq!(grade(&any(&["Au"]), "The symbol is **Au**."), Grade::Right);
        assert_eq!(grade(&any(&["Au"]), "Because"), Grade::Wrong);
        assert_eq!(grade(&any(&["서울"]), "서울입니다"), Grade::Right);
        assert_eq!(grade(&any(&["7", "seven"]), "17"), Grade::Wrong);
        assert_eq!(grade(&any(&["7"]), "7일입니다"), Grade::Right);
        assert_eq!(grade(&any(&["QM-4821-XK"]), "qm-4821-xk"), Grade::Right);
    }

    #[test]
    fn a_choice_is_the_first_letter_that_stands_alone() {
        for (answer, letter) in [
            ("B", 'B'),
            ("(c) no, (C)", 'C'),
            ("정답은 D입니다", 'D'),
            ("Because B.", 'B'),
        ] {
            assert_eq!(grade(&Expected::Choice(letter), answer), Grade::Right, "{answer}");
        }
        assert_eq!(grade(&Expected::Choice('A'), "B, not A"), Grade::Wrong);
    }
}
