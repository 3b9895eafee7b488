//! HTTP calls to a server's control side, as plain data: written by a framework's file, made by the server room.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The HTTP methods that control calls use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    Get,
    /// Asks whether something is there.
    Head,
    /// Acts.
    Post,
    /// Removes.
    Delete,
}

impl Method {
    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// One call: never retried by the client itself, never through a proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HttpCall {
    /// `GET`, `HEAD`, `POST` or `DELETE`.
    pub method: Method,
    /// Path with its query, from `/`.
    pub path: String,
    /// JSON body.
    pub body: Option<Value>,
    /// A file whose bytes are the body (Ollama's blobs); never together with `body`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<PathBuf>,
}

impl HttpCall {
    /// `GET path`.
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: Method::Get,
            path: path.into(),
            body: None,
            upload: None,
        }
    }

    /// `HEAD path`.
    pub fn head(path: impl Into<String>) -> Self {
        Self {
            method: Method::Head,
            ..Self::get(path)
        }
    }

    /// `POST path` without a body.
    pub fn post(path: impl Into<String>) -> Self {
        Self {
            method: Method::Post,
            ..Self::get(path)
        }
    }

    /// `POST path` with a JSON body.
    pub fn post_json(path: impl Into<String>, body: Value) -> Self {
        Self {
            body: Some(body),
            ..Self::post(path)
        }
    }

    /// `POST path` with a file's bytes.
    pub fn post_file(path: impl Into<String>, file: PathBuf) -> Self {
        Self {
            upload: Some(file),
            ..Self::post(path)
        }
    }
}

impl std::fmt::Display for HttpCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method.as_str(), self.path)
    }
}

/// What an answer must show. JSON pointers are RFC 6901 (`/models/0/size`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoneWhen {
    /// The status is one of these.
    Status(Vec<u16>),
    /// Status 200 and this value at this place.
    JsonEquals {
        /// Where in the answer.
        pointer: String,
        /// What must stand there, types included: `1` is not `"1"`.
        value: Value,
    },
    /// Status 200 and something other than `null` at this place.
    JsonPresent {
        /// Where in the answer.
        pointer: String,
    },
    /// Status 200 and the same value, not absent, at both places (Ollama's `size_vram` and `size`).
    JsonPathsEqual {
        /// Where one of them is.
        a: String,
        /// Where the other is.
        b: String,
    },
    /// Status 200 and a body of JSON lines (Ollama's `/api/create`) whose last one has this value at this place.
    LastLineEquals {
        /// Where in the last line that is not empty.
        pointer: String,
        /// What must stand there, types included: `1` is not `"1"`.
        value: Value,
    },
    /// All of them.
    All(Vec<DoneWhen>),
    /// Any of them.
    Any(Vec<DoneWhen>),
}

impl DoneWhen {
    /// Status 200.
    pub fn ok() -> Self {
        Self::Status(vec![200])
    }

    /// Whether an answer with this status and body shows it; if not, what was seen instead.
    ///
    /// # Errors
    /// What was seen instead, for people.
    pub fn check(&self, status: u16, body: &str) -> Result<(), String> {
        let json_at = |text: &str, pointer: &str| -> Result<Option<Value>, String> {
            if status != 200 {
                return Err(format!("status {status}"));
            }
            let json: Value =
                serde_json::from_str(text).map_err(|e| format!("the answer is no JSON ({e})"))?;
            Ok(json.pointer(pointer).cloned())
        };
        let equals = |text: &str, pointer: &str, value: &Value| match json_at(text, pointer)? {
            Some(seen) if seen == *value => Ok(()),
            Some(seen) => Err(format!("`{pointer}` is {seen}, not {value}")),
            None => Err(format!("`{pointer}` is absent, not {value}")),
        };
        match self {
            Self::Status(wanted) if wanted.contains(&status) => Ok(()),
            Self::Status(_) => Err(format!("status {status}")),
            Self::JsonEquals { pointer, value } => equals(body, pointer, value),
            Self::JsonPresent { pointer } => match json_at(body, pointer)? {
                Some(Value::Null) | None => Err(format!("`{pointer}` is absent")),
                Some(_) => Ok(()),
            },
            Self::JsonPathsEqual { a, b } => match (json_at(body, a)?, json_at(body, b)?) {
                (Some(x), Some(y)) if x == y => Ok(()),
                (Some(x), Some(y)) => Err(format!("`{a}` is {x}, `{b}` is {y}")),
                (None, _) => Err(format!("`{a}` is absent")),
                (_, None) => Err(format!("`{b}` is absent")),
            },
            Self::LastLineEquals { pointer, value } => {
                let last = body
                    .lines()
                    .rev()
                    .find(|l| !l.trim().is_empty())
                    .unwrap_or_default();
                equals(last, pointer, value)
            }
            Self::All(all) => all.iter().try_for_each(|d| d.check(status, body)),
            Self::Any(any) => {
                let mut seen = Vec::new();
                for done in any {
                    match done.check(status, body) {
                        Ok(()) => return Ok(()),
                        Err(e) => seen.push(e),
                    }
                }
                Err(seen.join("; "))
            }
        }
    }
}

/// A call that is made until its answer shows what it must, or its time is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What it is for, in words: `load the model`.
    pub what: String,
    /// A question asked first: where its answer shows what it must, the step is not needed.
    pub unless: Option<(HttpCall, DoneWhen)>,
    /// Made again until it shows `done`.
    pub call: HttpCall,
    /// What its answer must show.
    pub done: DoneWhen,
    /// Statuses that make asking again pointless (404 for a model that is not there): the step fails at once.
    pub fatal: Vec<u16>,
    /// From the first call, at the longest; one call may take all of it.
    pub timeout: Duration,
    /// Pause between an answer that does not show it and the next call.
    pub interval: Duration,
    /// What to do where it fails.
    pub hint: String,
}

impl Step {
    /// A step that is done at status 200 and asks again every half second.
    pub fn new(what: impl Into<String>, call: HttpCall, timeout: Duration) -> Self {
        Self {
            what: what.into(),
            unless: None,
            call,
            done: DoneWhen::ok(),
            fatal: Vec::new(),
            timeout,
            interval: Duration::from_millis(500),
            hint: String::new(),
        }
    }
}

/// How a server's prefix cache is emptied between cells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheReset {
    /// By calls.
    Http {
        /// The calls, in order; each is asked again while requests are pending (SGLang's 400).
        steps: Vec<Step>,
        /// What proves that it worked.
        proof: ResetProof,
    },
    /// By unloading the model and loading it again.
    Reload {
        /// Unloads, and is done when nothing is loaded.
        unload: Vec<Step>,
        /// Loads, and is done when all of it is loaded.
        load: Vec<Step>,
    },
    /// Not at all.
    NotPossible {
        /// For people.
        why: String,
    },
}

/// What proves that a cache reset worked: a prompt that was answered from the cache before is no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetProof {
    /// A counter of hits, in tokens, in the Prometheus text at a path (vLLM's `vllm:prefix_cache_hits_total`).
    HitCounter {
        /// Path of the metrics.
        metrics_path: String,
        /// The counter's name.
        counter: String,
    },
    /// `cached_tokens` in the usage of a request.
    CachedTokens,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_shows_what_it_must_or_says_what_it_showed() {
        let ps = r#"{"models":[{"size":10,"size_vram":10,"context_length":4096}]}"#;
        let equal = DoneWhen::JsonPathsEqual {
            a: "/models/0/size_vram".into(),
            b: "/models/0/size".into(),
        };
        assert_eq!(equal.check(200, ps), Ok(()));
        assert_eq!(equal.check(503, ps), Err("status 503".into()));
        assert_eq!(
            equal.check(200, r#"{"models":[{"size":10,"size_vram":4}]}"#),
            Err("`/models/0/size_vram` is 4, `/models/0/size` is 10".into())
        );
        // Absent on both sides is not equality: an empty list is not a loaded model.
        assert_eq!(
            equal.check(200, r#"{"models":[]}"#),
            Err("`/models/0/size_vram` is absent".into())
        );
        let context = DoneWhen::JsonEquals {
            pointer: "/models/0/context_length".into(),
            value: json!(4096),
        };
        assert_eq!(
            DoneWhen::All(vec![equal.clone(), context.clone()]).check(200, ps),
            Ok(())
        );
        assert!(
            DoneWhen::All(vec![equal, context])
                .check(200, "not json")
                .is_err()
        );
    }

    #[test]
    fn the_last_line_of_a_stream_decides() {
        let done = DoneWhen::LastLineEquals {
            pointer: "/status".into(),
            value: json!("success"),
        };
        assert_eq!(
            done.check(200, "{\"status\":\"reading\"}\n{\"status\":\"success\"}\n\n"),
            Ok(())
        );
        assert_eq!(
            done.check(200, "{\"status\":\"success\"}\n{\"error\":\"no space\"}\n"),
            Err("`/status` is absent, not \"success\"".into())
        );
        assert!(done.check(200, "").is_err());
    }

    #[test]
    fn any_of_several_and_presence() {
        let any = DoneWhen::Any(vec![
            DoneWhen::Status(vec![404]),
            DoneWhen::JsonPresent { pointer: "/x".into() },
        ]);
        assert_eq!(any.check(404, ""), Ok(()));
        assert_eq!(any.check(200, r#"{"x":0}"#), Ok(()));
        assert_eq!(
            any.check(200, r#"{"x":null}"#),
            Err("status 200; `/x` is absent".into())
        );
    }
}
