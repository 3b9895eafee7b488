//! What emptying a server's prefix cache came to.

use serde::{Deserialize, Serialize};

/// What the cache reset before a cell came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ResetOutcome {
    /// The plan keeps the cache.
    #[default]
    Kept,
    /// A prompt was answered from the cache before, and not after.
    Proven,
    /// It was done, but nothing shows whether it worked.
    Unproven {
        /// For people.
        why: String,
    },
    /// The server can't.
    NotPossible {
        /// For people.
        why: String,
    },
    /// It did not work.
    Failed {
        /// For people.
        why: String,
    },
}

impl std::fmt::Display for ResetOutcome {
    /// As summaries show it: `proven`, `unproven`, `not_possible`, `kept`, `failed: …`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kept => f.write_str("kept"),
            Self::Proven => f.write_str("proven"),
            Self::Unproven { .. } => f.write_str("unproven"),
            Self::NotPossible { .. } => f.write_str("not_possible"),
            Self::Failed { why } => write!(f, "failed: {why}"),
        }
    }
}

/// Journals once held the shown text instead, without the reasons but for that of a failure.
impl<'de> Deserialize<'de> for ResetOutcome {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Reasoned {
            Unproven { why: String },
            NotPossible { why: String },
            Failed { why: String },
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            Text(String),
            Reasoned(Reasoned),
        }
        let why = String::new();
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Reasoned(Reasoned::Unproven { why }) => Self::Unproven { why },
            Stored::Reasoned(Reasoned::NotPossible { why }) => Self::NotPossible { why },
            Stored::Reasoned(Reasoned::Failed { why }) => Self::Failed { why },
            Stored::Text(text) => match text.as_str() {
                "kept" => Self::Kept,
                "proven" => Self::Proven,
                "unproven" => Self::Unproven { why },
                "not_possible" => Self::NotPossible { why },
                other => match other.strip_prefix("failed: ") {
                    Some(why) => Self::Failed { why: why.to_owned() },
                    None => {
                        return Err(serde::de::Error::custom(format!(
                            "`{other}` is no outcome of a cache reset"
                        )));
                    }
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> ResetOutcome {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn it_comes_back_as_written() {
        let why = || "status 404".to_owned();
        for outcome in [
            ResetOutcome::Kept,
            ResetOutcome::Proven,
            ResetOutcome::Unproven { why: why() },
            ResetOutcome::NotPossible { why: why() },
            ResetOutcome::Failed { why: why() },
        ] {
            assert_eq!(read(&serde_json::to_string(&outcome).unwrap()), outcome);
        }
    }

    #[test]
    fn texts_of_older_journals_are_read() {
        let none = String::new;
        assert_eq!(read(r#""kept""#), ResetOutcome::Kept);
        assert_eq!(read(r#""proven""#), ResetOutcome::Proven);
        assert_eq!(read(r#""unproven""#), ResetOutcome::Unproven { why: none() });
        assert_eq!(
            read(r#""not_possible""#),
            ResetOutcome::NotPossible { why: none() }
        );
        let failed = read(r#""failed: could not flush: status 400""#);
        assert_eq!(failed.to_string(), "failed: could not flush: status 400");
        assert!(serde_json::from_str::<ResetOutcome>(r#""perhaps""#).is_err());
    }
}
