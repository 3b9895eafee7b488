//! Where requests go, and the bytes that a request is made of.

use std::net::SocketAddr;

use bytes::Bytes;

/// Address, path and headers of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Address; names are resolved before, so that no lookup stands in the measured time.
    pub addr: SocketAddr,
    /// Value of the `host` header: the name that was resolved, with its port.
    pub host_header: String,
    /// Path with query, `/v1/chat/completions`.
    pub path: String,
    /// More headers, `authorization` for example.
    pub headers: Vec<(String, String)>,
}

/// A target that can't be put into a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The path does not start with a slash, or holds spaces or control characters.
    #[error("the path {0:?} can't stand in a request line (hint: it starts with / and has no spaces)")]
    Path(String),
    /// A header's name or value holds characters that would break the request apart.
    #[error(
        "the header {0:?} holds characters that are not allowed (hint: no line breaks, no spaces in names)"
    )]
    Header(String),
}

impl Target {
    /// `path` at `addr`, with no more headers.
    pub fn new(addr: SocketAddr, path: impl Into<String>) -> Self {
        Self {
            addr,
            host_header: addr.to_string(),
            path: path.into(),
            headers: Vec::new(),
        }
    }

    /// The head that all requests to this target have in common, checked.
    ///
    /// # Errors
    /// Where a part of the target would break the request apart.
    pub(crate) fn request_head(&self) -> Result<RequestHead, TargetError> {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
        if !self.path.starts_with('/') || !plain(&self.path) {
            return Err(TargetError::Path(self.path.clone()));
        }
        let host = ("host".to_owned(), self.host_header.clone());
        let mut text = format!("POST {} HTTP/1.1\r\n", self.path);
        for (name, value) in std::iter::once(&host).chain(&self.headers) {
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let value_ok = value.bytes().all(|b| b == b'\t' || b >= b' ' && b != 0x7f);
            if name.is_empty() || !name.bytes().all(token) || !value_ok {
                return Err(TargetError::Header(name.clone()));
            }
            text += &format!("{name}: {value}\r\n");
        }
        text +=
            "content-type: application/json\r\naccept: text/event-stream\r\naccept-encoding: identity\r\n";
        text += concat!(
            "user-agent: benchd/",
            env!("CARGO_PKG_VERSION"),
            "\r\nconnection: close\r\n"
        );
        Ok(RequestHead { text: text.into() })
    }
}

/// The lines of a request's head that do not depend on its body.
#[derive(Debug, Clone)]
pub(crate) struct RequestHead {
    text: std::sync::Arc<str>,
}

impl RequestHead {
    /// The whole request with `body`, ready to be written.
    pub(crate) fn with_body(&self, body: Bytes) -> Request {
        let head = format!("{}content-length: {}\r\n\r\n", self.text, body.len());
        Request {
            head: head.into(),
            body,
        }
    }
}

/// A request, ready to be written.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(super) head: Bytes,
    pub(super) body: Bytes,
}
