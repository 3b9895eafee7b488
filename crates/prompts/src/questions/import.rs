//! The plan's own questions, one JSON object a line, in the forms in which such sets are published:
//!
//! * own: `{"question": "…", "answer": "…" | ["…", …] | 85}`, optional `language` (`ko`, `en`) and `id`;
//! * GSM8K: `{"question": "…", "answer": "… #### 18"}`;
//! * KMMLU: `{"question": "…", "A": "…", "B": "…", "C": "…", "D": "…", "answer": 1..4}`;
//! * samples of lm-evaluation-harness (`--log_samples`): `{"doc": …, "arguments": …, "target": …}`.

use std::{fs, path::Path};

use serde_json::Value;

use super::{Expected, Question, QuestionError, Task};
use benchd_plan::Language;

const LETTERS: [&str; 4] = ["A", "B", "C", "D"];

pub(super) fn read(path: &Path) -> Result<Vec<Question>, QuestionError> {
    let text = fs::read_to_string(path).map_err(|source| QuestionError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mut all = Vec::new();
    for (n, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |why: String| QuestionError::Line {
            path: path.to_owned(),
            line: n,
            why,
        };
        let value: Value = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        let (text, expected) = question(&value).map_err(wrong)?;
        let language = match value["language"].as_str() {
            Some("ko") => Some(Language::Ko),
            Some("en") => Some(Language::En),
            _ => None,
        };
        all.push(Question::new(
            format!("own/{n}"),
            Task::Own,
            language,
            text,
            expected,
        ));
    }
    if all.is_empty() {
        return Err(QuestionError::Empty {
            path: path.to_owned(),
        });
    }
    Ok(all)
}

fn question(value: &Value) -> Result<(String, Expected), String> {
    if let Some(arguments) = value.get("arguments") {
        return harness(arguments, value);
    }
    let text = value["question"]
        .as_str()
        .ok_or("`question` is missing or no text")?;
    if LETTERS.iter().all(|letter| value[*letter].is_string()) {
        return Ok((choices(text, value), Expected::Choice(letter(&value["answer"])?)));
    }
    let expected = match &value["answer"] {
        Value::Number(number) => Expected::Number(number.to_string()),
        Value::Array(texts) => Expected::AnyOf(
            texts
                .iter()
                .map(|t| {
                    t.as_str()
                        .map(str::to_owned)
                        .ok_or("an `answer` of the list is no text")
                })
                .collect::<Result<_, _>>()?,
        ),
        Value::String(text) => of_text(text),
        _ => return Err("`answer` is missing, or neither text, number nor list".to_owned()),
    };
    if matches!(&expected, Expected::AnyOf(texts) if texts.iter().all(|t| t.trim().is_empty())) {
        return Err("`answer` is empty".to_owned());
    }
    Ok((text.to_owned(), expected))
}

/// GSM8K's answers end with `#### 18`; an answer that is a number is compared as one.
fn of_text(text: &str) -> Expected {
    let last = text.rsplit("####").next().unwrap_or(text).trim();
    let number: String = last.chars().filter(|&c| c != ',').collect();
    if number.parse::<f64>().is_ok() {
        Expected::Number(number)
    } else {
        Expected::AnyOf(vec![last.to_owned()])
    }
}

fn choices(text: &str, value: &Value) -> String {
    let lines: Vec<String> = LETTERS
        .iter()
        .map(|letter| format!("{letter}. {}", value[*letter].as_str().unwrap_or_default()))
        .collect();
    format!(
        "{text}\n\n{}\n\nAnswer with the letter only. 글자로만 답하세요.",
        lines.join("\n")
    )
}

/// KMMLU counts from 1; others write the letter.
fn letter(answer: &Value) -> Result<char, String> {
    match answer {
        Value::Number(n) => n
            .as_u64()
            .and_then(|n| n.checked_sub(1))
            .and_then(|n| LETTERS.get(usize::try_from(n).ok()?)),
        Value::String(text) => LETTERS
            .iter()
            .find(|letter| letter.eq_ignore_ascii_case(text.trim())),
        _ => None,
    }
    .and_then(|letter| letter.chars().next())
    .ok_or_else(|| "`answer` is none of 1 to 4 and none of A to D".to_owned())
}

/// A sample's prompt is the first argument of its first request; its target is the answer. Samples of multiple choice come
/// as one request a choice: the target is then a choice's position.
fn harness(arguments: &Value, value: &Value) -> Result<(String, Expected), String> {
    let first = match arguments {
        Value::Array(requests) => requests.first(),
        // Newer exports: {"gen_args_0": {"arg_0": "…"}}.
        Value::Object(requests) => requests.values().next(),
        _ => None,
    };
    let prompt = first.and_then(|request| match request {
        Value::Array(parts) => parts.first(),
        Value::Object(parts) => parts.get("arg_0"),
        _ => None,
    });
    let prompt = prompt
        .and_then(Value::as_str)
        .ok_or("`arguments` holds no prompt")?;
    let expected = match &value["target"] {
        Value::String(text) if !text.trim().is_empty() => match text.trim().as_bytes() {
            [letter @ b'A'..=b'J'] => Expected::Choice(char::from(*letter)),
            _ => of_text(text),
        },
        Value::Number(position) if value["doc"]["choices"].is_array() => {
            let choice = position
                .as_u64()
                .and_then(|n| value["doc"]["choices"].get(usize::try_from(n).ok()?))
                .and_then(Value::as_str)
                .ok_or("`target` is none of `doc.choices`")?;
            Expected::AnyOf(vec![choice.trim().to_owned()])
        }
        Value::Number(number) => Expected::Number(number.to_string()),
        _ => return Err("`target` is missing, or neither text nor number".to_owned()),
    };
    Ok((prompt.to_owned(), expected))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read_text(text: &str) -> Result<Vec<Question>, QuestionError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read(file.path())
    }

    #[test]
    fn the_published_forms_are_read_as_they_come() {
        let all = read_text(concat!(
            r#"{"question": "2 + 2?", "answer": 4}"#, "\n",
            r#"{"question": "Capital?", "answer": ["Seoul", "서울"], "language": "ko"}"#, "\n\n",
            r#"{"question": "Natalia sold…", "answer": "She sold 48/2 = <<48/2=24>>24 clips.\n#### 1,072"}"#, "\n",
            r#"{"question": "다음 중 옳은 것은?", "A": "가", "B": "나", "C": "다", "D": "라", "answer": 3, "Category": "Law"}"#, "\n",
            r#"{"doc_id": 0, "doc": {"question": "q"}, "target": "18", "arguments": [["Q: q\nA:", {"until": ["\n"]}]]}"#, "\n",
            r#"{"doc": {"choices": ["red", "green"]}, "target": 1, "arguments": {"gen_args_0": {"arg_0": "Colour?"}}}"#, "\n",
        ))
        .unwrap();
        let expected: Vec<Expected> = all.iter().map(|q| q.expected.clone()).collect();
        let any = |t: &[&str]| Expected::AnyOf(t.iter().map(|t| (*t).to_owned()).collect());
        assert_eq!(
            expected,
            [
                Expected::Number("4".to_owned()),
                any(&["Seoul", "서울"]),
                Expected::Number("1072".to_owned()),
                Expected::Choice('C'),
                Expected::Number("18".to_owned()),
                any(&["green"]),
            ]
        );
        assert!(all[3].messages[0].content.contains("B. 나"));
        assert_eq!(all[1].language, Some(Language::Ko));
    }

    #[test]
    fn a_line_of_another_form_is_refused_with_its_place() {
        for (text, why) in [
            ("{\"question\": \"a\", \"answer\": 1}\nnothing", ":2: "),
            ("{\"answer\": 1}", "`question`"),
            ("{\"question\": \"a\"}", "`answer`"),
            ("\n", "no question"),
        ] {
            let error = read_text(text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
