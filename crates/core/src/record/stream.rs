//! What a server's stream looks like: written by the framework's file, read by the client.

use serde::{Deserialize, Serialize};

/// How a server says that its stream is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndMarker {
    /// `data: [DONE]`.
    Done,
    /// Nothing but the end of the body after a finish reason (`transformers serve`).
    EndOfBody,
}

/// The parts of a stream that a request must show to count as whole. A framework's file gives what is known
/// of the kind; the readiness completion replaces it by what this very server showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct StreamShape {
    /// Whether `usage` comes with the stream.
    pub usage: bool,
    /// How the stream ends.
    pub end: EndMarker,
}
