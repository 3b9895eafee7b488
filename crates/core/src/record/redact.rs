//! Secrets taken out of text, at the few edges where text leaves benchd: the server's log, the journal, benchd's
//! own log, what is shown to people, what is sent to a webhook.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use aho_corasick::{AhoCorasick, MatchKind};
use serde_json::Value;

/// What a secret is replaced by.
pub const REDACTED: &str = "<redacted>";

/// Characters. A shorter value is blanked where it is set, but not looked for in text: it would blank parts of
/// ordinary words and figures.
pub const SHORTEST_SECRET: usize = 6;

/// A value of digits alone that is shorter is taken for a figure (`MAX_INPUT_TOKEN=131072`), not a secret.
const SHORTEST_ALL_DIGITS: usize = 10;

/// Whether a variable or flag of this name holds a secret. `--max-num-batched-tokens` and
/// `--enable-prompt-tokens-details` do not: a plural or a word after `token` is about lengths.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.replace('-', "_").to_ascii_uppercase();
    [
        "TOKEN",
        "API_KEY",
        "APIKEY",
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "CREDENTIALS",
        "PRIVATE_KEY",
        "ACCESS_KEY",
    ]
    .iter()
    .any(|end| name.ends_with(end))
}

/// Replaces secrets in text. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redactor(Option<Arc<Patterns>>);

struct Patterns {
    automaton: AhoCorasick,
    replacements: Vec<&'static str>,
    texts: Vec<String>,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secrets = self.0.as_ref().map_or(0, |p| p.texts.len());
        write!(f, "Redactor(<{secrets}>)")
    }
}

impl Redactor {
    /// Looks for these values, whole and line by line, also as they stand inside a JSON string. Values too short
    /// to tell from ordinary text are passed over.
    pub fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut texts = BTreeSet::new();
        for secret in secrets {
            // A key of several lines shows line by line in a log.
            for part in secret.lines().chain([secret.as_str()]) {
                let part = part.trim();
                if !is_worth_looking_for(part) {
                    continue;
                }
                texts.insert(part.to_owned());
                let escaped = Value::from(part).to_string();
                texts.insert(escaped[1..escaped.len() - 1].to_owned());
            }
        }
        if texts.is_empty() {
            return Self(None);
        }
        let texts: Vec<String> = texts.into_iter().collect();
        // One secret may hold another: the longest wins.
        let built = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&texts);
        match built {
            Ok(automaton) => Self(Some(Arc::new(Patterns {
                automaton,
                replacements: vec![REDACTED; texts.len()],
                texts,
            }))),
            // Only where the patterns together exceed gigabytes; the kernel allows no such environment.
            Err(error) => {
                tracing::error!(%error, "secrets can't be looked for");
                Self(None)
            }
        }
    }

    /// The text without secrets.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match &self.0 {
            Some(p) if p.automaton.is_match(text) => {
                Cow::Owned(p.automaton.replace_all(text, &p.replacements))
            }
            _ => Cow::Borrowed(text),
        }
    }

    /// Takes secrets out of a text in place.
    pub fn clean(&self, text: &mut String) {
        if let Cow::Owned(clean) = self.text(text) {
            *text = clean;
        }
    }

    /// Takes secrets out of every text of a JSON value; keys stay.
    pub fn clean_value(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.clean(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.clean_value(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.clean_value(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Whether there is anything to look for.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many bytes at the end of `text` may be the start of a secret that goes on after it: where a text is
    /// cut into pieces, the cut must be before them.
    pub fn open_end(&self, text: &[u8]) -> usize {
        let Some(patterns) = &self.0 else { return 0 };
        let open = |secret: &str| {
            let longest = text.len().min(secret.len().saturating_sub(1));
            (1..=longest)
                .rev()
                .find(|n| text.ends_with(&secret.as_bytes()[..*n]))
                .unwrap_or(0)
        };
        let open = patterns
            .texts
            .iter()
            .map(|secret| open(secret))
            .max()
            .unwrap_or(0);
        let at = text.len() - open;
        // A whole secret may end in what looks like the start of another one.
        let whole = patterns
            .automaton
            .find_iter(text)
            .find(|m| m.start() < at && at < m.end());
        text.len() - whole.map_or(at, |m| m.start())
    }
}

fn is_worth_looking_for(text: &str) -> bool {
    let least = if text.bytes().all(|b| b.is_ascii_digit()) {
        SHORTEST_ALL_DIGITS
    } else {
        SHORTEST_SECRET
    };
    text.chars().count() >= least
}

/// The secrets of an environment: values of variables whose name says so, and passwords inside addresses
/// (`http://user:password@proxy`).
pub fn secrets_of_environment<'v>(
    variables: impl IntoIterator<Item = (&'v str, &'v str)>,
) -> impl Iterator<Item = String> {
    let mut secrets = Vec::new();
    for (name, value) in variables {
        // The path of a credentials file is no secret, and is needed to understand an error.
        let is_path = value.starts_with('/') && name.to_ascii_uppercase().ends_with("CREDENTIALS");
        if is_secret_name(name) && !is_path {
            secrets.push(value.to_owned());
        }
        secrets.extend(password_in_address(value));
    }
    secrets.into_iter()
}

fn password_in_address(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    let (_, password) = user.split_once(':')?;
    Some(password.to_owned())
}

/// The secrets among arguments: what follows or is set by a flag whose name says so (`--api-key`).
pub fn secrets_of_arguments<'a>(args: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = String> {
    let mut secrets = Vec::new();
    let mut follows = false;
    for arg in args {
        if std::mem::take(&mut follows) {
            secrets.push(arg.to_owned());
            continue;
        }
        let Some(flag) = arg.strip_prefix("--") else {
            continue;
        };
        match flag.split_once('=') {
            Some((name, value)) if is_secret_name(name) => secrets.push(value.to_owned()),
            Some(_) => {}
            None => follows = is_secret_name(flag),
        }
    }
    secrets.into_iter()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redactor(secrets: &[&str]) -> Redactor {
        Redactor::new(secrets.iter().map(|&s| s.to_owned()))
    }

    #[test]
    fn a_secret_is_replaced_wherever_it_stands_the_longest_first() {
        let r = redactor(&["hf_abcdef", "hf_abcdefghi"]);
        assert_eq!(
            r.text("a=hf_abcdef b=hf_abcdefghi,hf_abcde"),
            "a=<redacted> b=<redacted>,hf_abcde"
        );
    }

    #[test]
    fn short_values_and_figures_are_no_secrets() {
        let r = redactor(&["", "true", "abcde", "131072", "한국어다섯"]);
        assert!(r.is_empty());
        assert_eq!(r.text("true 131072"), "true 131072");
        assert_eq!(redactor(&["1234567890"]).text("x1234567890"), "x<redacted>");
    }

    #[test]
    fn a_secret_is_found_in_json_and_line_by_line() {
        let r = redactor(&["pass\"word\\1", "-----BEGIN-----\nMIIEabcdef\n"]);
        let json = serde_json::json!({ "a": "pass\"word\\1" }).to_string();
        assert_eq!(r.text(&json), r#"{"a":"<redacted>"}"#);
        assert_eq!(r.text("MIIEabcdef"), "<redacted>");
        let mut value = serde_json::json!({ "a": ["x", { "b": "key MIIEabcdef" }], "n": 1 });
        r.clean_value(&mut value);
        assert_eq!(
            value,
            serde_json::json!({ "a": ["x", { "b": "key <redacted>" }], "n": 1 })
        );
    }

    #[test]
    fn the_environment_and_arguments_are_searched_by_name() {
        let env = [
            ("HF_TOKEN", "hf_secret"),
            ("PATH", "/usr/bin"),
            ("https_proxy", "http://me:pa55word@proxy:3128/"),
            ("GOOGLE_APPLICATION_CREDENTIALS", "/home/me/key.json"),
        ];
        let found: Vec<String> = secrets_of_environment(env).collect();
        assert_eq!(found, ["hf_secret", "pa55word"]);
        let args = [
            "serve",
            "--api-key",
            "sk-1",
            "--hf-token=t2",
            "--max-num-batched-tokens",
            "8192",
        ];
        let found: Vec<String> = secrets_of_arguments(args).collect();
        assert_eq!(found, ["sk-1", "t2"]);
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", redactor(&["topsecret"])), "Redactor(<1>)");
    }

    proptest! {
        /// However a text is cut at the places that `open_end` allows, no piece and no joint shows the secret.
        #[test]
        fn cuts_never_split_a_secret(before in "[a-c]{0,12}", after in "[a-c]{0,12}", cut in 0usize..40) {
            let secret = "abcabcab";
            let r = redactor(&[secret]);
            let text = format!("{before}{secret}{after}");
            let cut = cut.min(text.len());
            let at = cut - r.open_end(&text.as_bytes()[..cut]);
            let joined = format!("{}{}", r.text(&text[..at]), r.text(&text[at..]));
            prop_assert!(!joined.contains(secret), "{joined}");
        }
    }
}
