//! A YAML text as a tree in which every key and value knows its place.
//!
//! The events come from `saphyr-parser`; plain scalars are resolved as `serde_yaml` resolves them (YAML 1.2 core
//! schema). What a plan has no use for is refused: anchors, aliases, tags, several documents, keys that are no
//! scalars.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::diagnostic::{KeyPath, Problem, Spot, Step};

/// Deepest nesting that is read. A plan needs five levels; the bound keeps recursion over the tree safe.
const MAX_DEPTH: usize = 32;

/// A value and its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) spot: Spot,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(Integer),
    /// A number with a fraction or exponent, or an integer beyond 64 bits; as written.
    Float(f64, String),
    Text(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// An integer of 64 bits, of either sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Integer {
    Unsigned(u64),
    Negative(i64),
}

impl std::fmt::Display for Integer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsigned(n) => n.fmt(f),
            Self::Negative(n) => n.fmt(f),
        }
    }
}

/// A key, its place and its value. Repeated keys are all kept, for the walk to report.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_spot: Spot,
    pub(super) value: Node,
}

impl Node {
    /// The entries of a mapping, none of anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    fn child(&self, step: &Step) -> Option<(Option<Spot>, &Node)> {
        match (step, &self.value) {
            (Step::Key(key), Value::Mapping(entries)) => entries
                .iter()
                .find(|e| e.key == *key)
                .map(|e| (Some(e.key_spot), &e.value)),
            (Step::Index(index), Value::Sequence(items)) => items.get(*index).map(|n| (None, n)),
            // A single value where a list may stand (`input_tokens: 512`).
            (Step::Index(0), Value::Integer(_) | Value::Text(_)) => Some((None, self)),
            _ => None,
        }
    }

    /// The value at a path.
    pub(super) fn at(&self, path: &KeyPath) -> Option<&Self> {
        path.0
            .iter()
            .try_fold(self, |node, step| node.child(step).map(|(_, n)| n))
    }

    /// Where a path's value stands, or the nearest thing above it that exists.
    pub(super) fn value_spot(&self, path: &KeyPath) -> Spot {
        self.spots(path).1
    }

    /// Where a path's key stands, or the nearest thing above it that exists.
    pub(super) fn key_spot(&self, path: &KeyPath) -> Spot {
        self.spots(path).0
    }

    fn spots(&self, path: &KeyPath) -> (Spot, Spot) {
        let mut node = self;
        let mut key = Spot::START;
        for (n, step) in path.0.iter().enumerate() {
            match node.child(step) {
                Some((key_spot, child)) => {
                    key = key_spot.unwrap_or(child.spot);
                    node = child;
                }
                // The missing thing's parent: its key says more than the place where its value starts.
                None => {
                    return if n == 0 {
                        (Spot::START, Spot::START)
                    } else {
                        (key, key)
                    };
                }
            }
        }
        (key, if path.0.is_empty() { Spot::START } else { node.spot })
    }
}

/// Reads a text.
///
/// # Errors
/// The syntax error, or everything that plans have no use for, each with its place.
pub(super) fn read(text: &str) -> Result<Node, Vec<Problem>> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => {
                if !builder.event(event, span) {
                    break;
                }
            }
            Err(error) => {
                let mark = error.marker();
                let spot = Spot {
                    line: mark.line().max(1),
                    column: mark.col() + 1,
                    chars: 0,
                };
                let (message, help) = syntax(error.info());
                builder.refuse(spot, message, help);
                break;
            }
        }
    }
    if !builder.problems.is_empty() {
        return Err(builder.problems);
    }
    match builder.root {
        Some(node) if !matches!(node.value, Value::Null) => Ok(node),
        _ => {
            builder.refuse(
                Spot::START,
                "the plan is empty".to_owned(),
                Some("start from plans/a100.yaml, or print the schema with `benchd schema`"),
            );
            Err(builder.problems)
        }
    }
}

/// The parser's words, and ours for the slips that it names least clearly.
fn syntax(info: &str) -> (String, Option<&'static str>) {
    let help = if info.contains("tab") {
        Some("YAML is indented by spaces, never by tabs")
    } else if info.contains("mapping values are not allowed") {
        Some("a value that holds `: ` must be quoted, and a key needs a line of its own")
    } else if info.contains("simple key") {
        Some("a key is followed by `: ` on the same line")
    } else if info.contains("unclosed")
        || info.contains("illegal placement")
        || info.contains("end of stream")
        || info.contains("did not find expected ',' or")
    {
        Some("check that every `{`, `[` and quote is closed, with `,` between the items")
    } else {
        None
    };
    (format!("this is not YAML: {info}"), help)
}

/// A collection that is still open.
enum Open {
    Sequence(Spot, Vec<Node>),
    Mapping {
        spot: Spot,
        entries: Vec<Entry>,
        key: Option<(String, Spot)>,
    },
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    problems: Vec<Problem>,
}

impl Builder {
    fn refuse(&mut self, spot: Spot, message: String, help: Option<&str>) {
        let path = KeyPath(
            self.stack
                .iter()
                .filter_map(|open| match open {
                    Open::Mapping {
                        key: Some((key, _)), ..
                    } => Some(Step::Key(key.clone())),
                    Open::Mapping { key: None, .. } => None,
                    Open::Sequence(_, items) => Some(Step::Index(items.len())),
                })
                .collect(),
        );
        self.problems.push(Problem {
            message,
            path,
            spot,
            label: None,
            help: help.map(str::to_owned),
        });
    }

    /// Takes an event; false when reading can't go on.
    fn event(&mut self, event: Event<'_>, span: Span) -> bool {
        let spot = spot(span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.refuse(
                        spot,
                        "a second YAML document in one file".to_owned(),
                        Some("one file holds one plan: remove the `---` line, or put the second plan into its own file"),
                    );
                    return false;
                }
            }
            Event::Alias(_) => {
                self.refuse(
                    spot,
                    "YAML aliases (`*name`) are not supported in plans".to_owned(),
                    Some("write the value out, so that a plan reads the same wherever one looks"),
                );
                return self.add(Node {
                    value: Value::Null,
                    spot,
                });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_decoration(spot, anchor, tag.is_some());
                let value = if style == ScalarStyle::Plain {
                    resolve(&text)
                } else {
                    Value::Text(text.into_owned())
                };
                return self.add(Node { value, spot });
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_decoration(spot, anchor, tag.is_some());
                return self.open(spot, Open::Sequence(spot, Vec::new()));
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_decoration(spot, anchor, tag.is_some());
                return self.open(
                    spot,
                    Open::Mapping {
                        spot,
                        entries: Vec::new(),
                        key: None,
                    },
                );
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let node = match self.stack.pop() {
                    Some(Open::Sequence(spot, items)) => Node {
                        value: Value::Sequence(items),
                        spot,
                    },
                    Some(Open::Mapping { spot, entries, .. }) => Node {
                        value: Value::Mapping(entries),
                        spot,
                    },
                    None => return false,
                };
                return self.add(node);
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        true
    }

    fn refuse_decoration(&mut self, spot: Spot, anchor: usize, tag: bool) {
        if anchor != 0 {
            self.refuse(
                spot,
                "YAML anchors (`&name`) are not supported in plans".to_owned(),
                Some("write the value out, so that a plan reads the same wherever one looks"),
            );
        }
        if tag {
            self.refuse(
                spot,
                "YAML tags (`!name`) are not supported in plans".to_owned(),
                Some("quote the value if it starts with `!`"),
            );
        }
    }

    fn open(&mut self, spot: Spot, open: Open) -> bool {
        if matches!(self.stack.last(), Some(Open::Mapping { key: None, .. })) {
            self.refuse(
                spot,
                "a key must be a plain word, not a list or mapping".to_owned(),
                Some("quote a value that starts with `{` or `[`"),
            );
            return false;
        }
        if self.stack.len() >= MAX_DEPTH {
            self.refuse(spot, format!("nested deeper than {MAX_DEPTH} levels"), None);
            return false;
        }
        self.stack.push(open);
        true
    }

    fn add(&mut self, node: Node) -> bool {
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence(_, items)) => items.push(node),
            Some(Open::Mapping { entries, key, .. }) => match key.take() {
                Some((key, key_spot)) => {
                    // An absent value has no place of its own; the parser puts it at the next token.
                    let absent = matches!(node.value, Value::Null) && node.spot.chars == 0;
                    let value = if absent {
                        Node {
                            spot: key_spot,
                            ..node
                        }
                    } else {
                        node
                    };
                    entries.push(Entry { key, key_spot, value });
                }
                None => {
                    let text = match &node.value {
                        Value::Text(text) | Value::Float(_, text) => text.clone(),
                        Value::Bool(b) => b.to_string(),
                        Value::Integer(n) => n.to_string(),
                        Value::Null | Value::Sequence(_) | Value::Mapping(_) => String::new(),
                    };
                    *key = Some((text, node.spot));
                }
            },
        }
        true
    }
}

fn spot(span: Span) -> Spot {
    let (line, column) = (span.start.line().max(1), span.start.col() + 1);
    let chars = if span.end.line() == span.start.line() {
        span.end.col().saturating_sub(span.start.col())
    } else {
        // Over several lines: the rest of the first; clamped to its end when shown.
        usize::MAX / 2
    };
    Spot { line, column, chars }
}

/// A plain scalar's value, as `serde_yaml` takes it.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::Text(text.to_owned());
    }
    match serde_yaml::from_str::<serde_yaml::Value>(text) {
        Ok(serde_yaml::Value::Number(number)) => {
            if let Some(n) = number.as_u64() {
                Value::Integer(Integer::Unsigned(n))
            } else if let Some(n) = number.as_i64() {
                Value::Integer(Integer::Negative(n))
            } else {
                Value::Float(number.as_f64().unwrap_or(f64::NAN), text.to_owned())
            }
        }
        Ok(_) => Value::Text(text.to_owned()),
        // Digits beyond 64 bits are no value for serde_yaml; text with YAML's own signs in it is text.
        Err(_) => match text.parse::<f64>() {
            Ok(number)
                if text
                    .bytes()
                    .all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+')) =>
            {
                Value::Float(number, text.to_owned())
            }
            _ => Value::Text(text.to_owned()),
        },
    }
}
