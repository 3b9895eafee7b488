//! One event's JSON: only the fields that a request record needs, borrowed from the event's text.
//!
//! Read for the chat stream (`choices[0].delta`) and the completions stream (`choices[0].text`) alike. Keys
//! that are not named here are skipped without being built.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// One event of the stream.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Chunk<'a> {
    #[serde(borrow, default)]
    pub id: Text<'a>,
    #[serde(borrow, default)]
    pub object: Text<'a>,
    #[serde(borrow, default)]
    pub model: Text<'a>,
    #[serde(borrow, default)]
    pub choices: Option<FirstChoice<'a>>,
    #[serde(default)]
    pub usage: Option<Usage>,
    #[serde(default)]
    pub error: Option<serde_json::Value>,
    #[serde(default)]
    pub timings: Option<serde_json::Value>,
}

/// The first element of `choices`; benchd asks for one answer only.
#[derive(Debug, Default)]
pub(super) struct FirstChoice<'a>(pub Option<Choice<'a>>);

#[derive(Debug, Default, Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(borrow, default)]
    pub delta: Option<Delta<'a>>,
    #[serde(borrow, default)]
    pub text: Text<'a>,
    #[serde(borrow, default)]
    pub finish_reason: Text<'a>,
}

/// A delta: the content, and every other field that holds a non-empty string (the reasoning is one of them,
/// under a name that depends on the server).
#[derive(Debug, Default)]
pub(super) struct Delta<'a> {
    pub content: Text<'a>,
    pub others: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

/// The server's count.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Usage {
    #[serde(default)]
    pub prompt_tokens: Option<u64>,
    #[serde(default)]
    pub completion_tokens: Option<u64>,
    #[serde(default)]
    pub prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct PromptDetails {
    #[serde(default)]
    pub cached_tokens: Option<u64>,
}

/// A string, null, or something else that should have been one of the two.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) enum Text<'a> {
    /// Absent or null.
    #[default]
    None,
    /// A string, maybe empty.
    Some(Cow<'a, str>),
    /// Another type.
    Other,
}

impl Chunk<'_> {
    /// What the server says went wrong: `error` in any form, or `"object": "error"` (older vLLM).
    pub(super) fn failure(&self, text: &str) -> Option<String> {
        match &self.error {
            Some(error) => Some(error_message(error)),
            None => (self.object.non_empty() == Some("error")).then(|| error_text(text)),
        }
    }
}

impl Text<'_> {
    /// The string, where there is one that is not empty.
    pub(super) fn non_empty(&self) -> Option<&str> {
        match self {
            Text::Some(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }
    fn visit_borrowed_str<E: de::Error>(self, v: &'de str) -> Result<Self::Value, E> {
        Ok(Text::Some(Cow::Borrowed(v)))
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<Self::Value, E> {
        Ok(Text::Some(Cow::Owned(v.to_owned())))
    }
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Text::None)
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Text::Other)
    }
    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Text::Other)
    }
    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Text::Other)
    }
    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Text::Other)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Text::Other)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text::Other)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor)
    }
}

struct FirstChoiceVisitor;

impl<'de> Visitor<'de> for FirstChoiceVisitor {
    type Value = FirstChoice<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of choices")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let first = seq.next_element()?;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(FirstChoice(first))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for FirstChoice<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FirstChoiceVisitor)
    }
}

struct DeltaVisitor;

impl<'de> Visitor<'de> for DeltaVisitor {
    type Value = Delta<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a delta object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut delta = Delta::default();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            let value: Text<'de> = map.next_value()?;
            match (key, value) {
                (Text::Some(key), value) if key == "content" => delta.content = value,
                (Text::Some(key), Text::Some(value)) if key != "role" && !value.is_empty() => {
                    delta.others.push((key, value));
                }
                _ => {}
            }
        }
        Ok(delta)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Delta<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(DeltaVisitor)
    }
}

/// The text of an error in any of the forms that servers use: a string, `{"message": …}`, `{"error": …}`
/// around either, `{"object": "error", "message": …}` (older vLLM), `{"detail": …}` (FastAPI). Other bodies
/// are quoted. At most [`MAX_ERROR_CHARS`] characters.
pub(super) fn error_text(body: &str) -> String {
    let text = match serde_json::from_str::<serde_json::Value>(body) {
        Ok(value) => error_message(&value),
        Err(_) => body.trim().to_owned(),
    };
    shortened(&text)
}

/// The text of an error object.
pub(super) fn error_message(error: &serde_json::Value) -> String {
    let mut at = error;
    for key in ["error", "message", "detail"] {
        if let Some(inner) = at.get(key).filter(|inner| !inner.is_null()) {
            at = inner;
        }
    }
    shortened(&at.as_str().map_or_else(|| at.to_string(), str::to_owned))
}

/// The longest error text that is kept, characters.
pub(super) const MAX_ERROR_CHARS: usize = 500;

/// `text`, cut to [`MAX_ERROR_CHARS`].
pub(super) fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_ERROR_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
