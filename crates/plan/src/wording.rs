//! The words in which the walk says what it wanted and what it found.

use serde_json::{Map, Value as Json};

use super::{
    diagnostic::{KeyPath, Step},
    spanned::{Node, Value},
};

/// What to do about a value of the wrong type, where the slip is a known one.
pub(super) fn type_help(
    node: &Node,
    branches: &[&Map<String, Json>],
    examples: Option<&Vec<Json>>,
) -> Option<String> {
    let wants = |t: &str| branches.iter().any(|b| b.get("type").is_some_and(|x| x == t));
    match &node.value {
        Value::Text(word)
            if wants("boolean") && matches!(word.to_lowercase().as_str(), "yes" | "on" | "no" | "off") =>
        {
            let meant = matches!(word.to_lowercase().as_str(), "yes" | "on");
            Some(format!("write `{meant}`: `{word}` is a word in YAML 1.2"))
        }
        Value::Text(word) if wants("boolean") && matches!(word.as_str(), "true" | "false") => {
            Some(format!("take the quotes off: `{word}`"))
        }
        Value::Text(word) if wants("integer") || wants("number") => match word.trim().parse::<f64>() {
            // Digits behind a zero are text also without quotes.
            Ok(_) if word.trim().starts_with('0') && word.trim().len() > 1 && !word.contains('.') => {
                Some(format!("write `{}`", word.trim().trim_start_matches('0')))
            }
            Ok(_) => Some(format!("take the quotes off: `{}`", word.trim())),
            Err(_) => None,
        },
        Value::Float(_, text) if wants("string") && examples.is_none() => {
            Some(format!("quote it: `\"{text}\"`"))
        }
        Value::Integer(n) if wants("string") && examples.is_none() => Some(format!("quote it: `\"{n}\"`")),
        Value::Bool(b) if wants("string") && examples.is_none() => Some(format!("quote it: `\"{b}\"`")),
        Value::Text(_) | Value::Integer(_) | Value::Float(..) | Value::Bool(_)
            if wants("array") && !wants("string") =>
        {
            Some("write a list: `[…]`".to_owned())
        }
        _ => examples.map(|list| {
            let shown: Vec<String> = list
                .iter()
                .map(|e| format!("`{}`", e.as_str().map_or_else(|| e.to_string(), str::to_owned)))
                .collect();
            format!("for example {}", shown.join(", "))
        }),
    }
}

pub(super) fn one_of(names: &[&str]) -> String {
    names
        .iter()
        .map(|n| format!("`{n}`"))
        .collect::<Vec<_>>()
        .join(" or ")
}

/// The last part of a path that says something: `args[1]`.
pub(super) fn last(path: &KeyPath) -> String {
    let from = path
        .0
        .iter()
        .rposition(|step| matches!(step, Step::Key(_)))
        .unwrap_or(0);
    KeyPath(path.0[from..].to_vec()).to_string()
}

pub(super) fn expected(branches: &[&Map<String, Json>]) -> String {
    let words: Vec<&str> = branches
        .iter()
        .filter_map(|b| b.get("const").and_then(Json::as_str))
        .collect();
    if !words.is_empty() && words.len() == branches.len() {
        return format!(
            "one of {}",
            words
                .iter()
                .map(|w| format!("`{w}`"))
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    let mut kinds: Vec<&str> = Vec::new();
    for branch in branches {
        let kind = match branch.get("type").and_then(Json::as_str) {
            Some("object") => "a mapping",
            Some("array") => "a list",
            Some("integer") => "an integer",
            Some("number") => "a number",
            Some("boolean") => "`true` or `false`",
            _ => "a string",
        };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.join(" or ")
}

pub(super) fn quoted(path: &KeyPath) -> String {
    if path.0.is_empty() {
        last(path)
    } else {
        format!("`{}`", last(path))
    }
}

/// A list's item as it was written.
pub(super) fn plain(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => format!("`{text}`"),
        Value::Integer(n) => n.to_string(),
        _ => found(node),
    }
}

pub(super) fn found(node: &Node) -> String {
    match &node.value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(b) => format!("the truth value `{b}`"),
        Value::Integer(n) => format!("the number {n}"),
        Value::Float(_, text) => format!("the number {text}"),
        Value::Text(text) if text.chars().count() > 40 => "a string".to_owned(),
        Value::Text(text) => format!("the string {text:?}"),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
    }
}
