//! The least of HTTP/1.1 that the simulated server needs: requests in, heads of answers out.

/// Headers that a request may have at most.
const MAX_HEADERS: usize = 64;
/// Bytes that a request's head may have at most.
const MAX_HEAD: usize = 64 << 10;
/// Bytes that a body may have at most.
pub(super) const MAX_BODY: usize = 256 << 20;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) query: String,
    /// Value of `x-sim-fault`.
    pub(super) fault: Option<String>,
    pub(super) keep_alive: bool,
    pub(super) body: Vec<u8>,
}

/// What the bytes so far come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// More is needed.
    Partial {
        /// The client waits for a word before it sends the body.
        expects_continue: bool,
    },
    /// A request, and the bytes that it took.
    Complete(Box<Request>, usize),
    /// No request; the status says why.
    Bad(u16, &'static str),
}

/// Reads a request from the start of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let head = match request.parse(bytes) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD => return Parsed::Bad(431, "head too large"),
        Ok(httparse::Status::Partial) => {
            return Parsed::Partial {
                expects_continue: false,
            };
        }
        Err(_) => return Parsed::Bad(400, "not HTTP/1.1"),
    };
    let (method, target) = (
        request.method.unwrap_or_default(),
        request.path.unwrap_or_default(),
    );
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut parsed = Request {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        fault: None,
        keep_alive: request.version == Some(1),
        body: Vec::new(),
    };
    let (mut length, mut expects_continue) = (0, false);
    for header in request.headers.iter() {
        let value = String::from_utf8_lossy(header.value);
        let value = value.trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            match value.parse::<usize>() {
                Ok(n) if n <= MAX_BODY => length = n,
                Ok(_) => return Parsed::Bad(413, "body too large"),
                Err(_) => return Parsed::Bad(400, "content-length is no number"),
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Parsed::Bad(411, "send the body with content-length");
        } else if header.name.eq_ignore_ascii_case("connection") {
            parsed.keep_alive = match value.to_ascii_lowercase().as_str() {
                "close" => false,
                "keep-alive" => true,
                _ => parsed.keep_alive,
            };
        } else if header.name.eq_ignore_ascii_case("expect") {
            expects_continue = value.eq_ignore_ascii_case("100-continue");
        } else if header.name.eq_ignore_ascii_case("x-sim-fault") {
            parsed.fault = Some(value.to_owned());
        }
    }
    match bytes.get(head..head + length) {
        Some(body) => {
            parsed.body = body.to_vec();
            Parsed::Complete(Box::new(parsed), head + length)
        }
        None => Parsed::Partial {
            expects_continue: expects_continue && bytes.len() == head,
        },
    }
}

/// Head of an answer with a body of `length` bytes.
pub(super) fn head(status: u16, content_type: &str, length: usize, keep_alive: bool) -> Vec<u8> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    format!(
        "HTTP/1.1 {status} {}\r\nserver: benchd-sim\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: {connection}\r\n\r\n",
        reason(status)
    )
    .into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn json(status: u16, value: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            body: value.to_string().into_bytes(),
        }
    }

    pub(super) fn text(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; version=0.0.4; charset=utf-8",
            body: body.into().into_bytes(),
        }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self::text(status, "")
    }

    pub(super) fn bytes(&self, keep_alive: bool) -> Vec<u8> {
        let mut bytes = head(self.status, self.content_type, self.body.len(), keep_alive);
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_complete_with_its_last_byte_and_not_before() {
        let whole =
            b"POST /v1/x?a=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nX-Sim-Fault: cut:2\r\n\r\nbodyGET ";
        let end = whole.len() - 4;
        for cut in 0..end {
            assert!(matches!(parse(&whole[..cut]), Parsed::Partial { .. }), "{cut}");
        }
        let Parsed::Complete(request, used) = parse(whole) else {
            panic!("complete")
        };
        assert_eq!(used, end);
        assert_eq!((request.path.as_str(), request.query.as_str()), ("/v1/x", "a=1"));
        assert_eq!(request.body, b"body");
        assert_eq!(request.fault.as_deref(), Some("cut:2"));
        assert!(request.keep_alive);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert!(matches!(parse(b"\x16\x03\x01\x02\x00"), Parsed::Bad(400, _)));
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(matches!(parse(chunked), Parsed::Bad(411, _)));
        let huge = b"POST / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n";
        assert!(matches!(parse(huge), Parsed::Bad(413, _)));
    }

    #[test]
    fn a_client_that_waits_for_100_is_heard_once() {
        let head = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(
            parse(head),
            Parsed::Partial {
                expects_continue: true
            }
        );
    }
}
