//! Reads an HTTP/1.1 response, without I/O: bytes in, head and pieces of the body out.
//!
//! Bodies may be chunked, of a stated length, or end with the connection (RFC 9112, section 6.3). Interim
//! responses (1xx) are skipped. Pieces of the body are slices of the input: nothing is copied.

/// The longest head or trailer that is accepted, bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// The most header fields that are accepted.
const MAX_HEADERS: usize = 96;
/// The longest line with a chunk's size that is accepted, bytes (extensions are legal and unbounded).
const MAX_CHUNK_LINE_BYTES: usize = 4 << 10;

/// What of a response's head matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) status: u16,
    /// `content-type`, lower case.
    pub(super) content_type: Option<String>,
}

/// A step through a response.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// The final head; comes once, first.
    Head(Head),
    /// The next bytes of the body, never empty.
    Body(&'a [u8]),
    /// The body is whole; comes once, last.
    End,
}

/// Why the bytes are no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum HttpError {
    /// What came first is no status line of HTTP/1.
    #[error("what came is no HTTP/1 status line: {0}")]
    NoStatusLine(String),
    /// A status line came, and after it something that is no head.
    #[error("malformed response head: {0}")]
    Head(String),
    /// The chunked framing is broken.
    #[error("broken chunk framing: {0}")]
    Chunk(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    Sized {
        left_bytes: u64,
    },
    UntilClose,
    ChunkLine {
        size: u64,
        digits: u8,
        part: SizeLinePart,
        line_bytes: usize,
    },
    ChunkBytes {
        left_bytes: u64,
    },
    ChunkCr,
    ChunkLf,
    Trailer {
        line_bytes: usize,
        all_bytes: usize,
        cr: bool,
    },
    Ended,
    Over,
}

/// Where in a chunk's size line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SizeLinePart {
    Size,
    Extension,
    Lf,
}

const CHUNK_LINE: State = State::ChunkLine {
    size: 0,
    digits: 0,
    part: SizeLinePart::Size,
    line_bytes: 0,
};

/// The incremental reader of one response.
#[derive(Debug)]
pub(super) struct ResponseReader {
    state: State,
    /// The start of a head whose end has not come.
    head: Vec<u8>,
}

impl Default for ResponseReader {
    fn default() -> Self {
        Self::new()
    }
}

impl ResponseReader {
    /// A reader at the start of a response.
    pub(super) fn new() -> Self {
        Self {
            state: State::Head,
            head: Vec::new(),
        }
    }

    /// Whether the final head has come.
    pub(super) fn has_head(&self) -> bool {
        self.state != State::Head
    }

    /// Whether the whole response has been read.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Ended | State::Over)
    }

    /// The connection ended: whether that is a legal end here (of a body that ends with the connection, or
    /// after the end).
    pub(super) fn may_close(&self) -> bool {
        matches!(self.state, State::UntilClose | State::Ended | State::Over)
    }

    /// Takes the next step, removing from `input` what it used. `None`: more input is needed. Bytes after
    /// the end of the response are left in `input`.
    ///
    /// # Errors
    /// [`HttpError`]; the response is of no use after it.
    #[inline]
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, HttpError> {
        loop {
            match &mut self.state {
                State::Head => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    match self.read_head(input)? {
                        Some(head) => return Ok(Some(Part::Head(head))),
                        None if input.is_empty() => return Ok(None),
                        None => {}
                    }
                }
                State::ChunkBytes { left_bytes } => {
                    let Some(piece) = take(input, left_bytes) else {
                        return Ok(None);
                    };
                    if *left_bytes == 0 {
                        self.state = State::ChunkCr;
                    }
                    return Ok(Some(Part::Body(piece)));
                }
                State::Sized { left_bytes } => {
                    if *left_bytes == 0 {
                        self.state = State::Ended;
                        continue;
                    }
                    return Ok(take(input, left_bytes).map(Part::Body));
                }
                State::UntilClose => {
                    let mut all_bytes = input.len() as u64;
                    return Ok(take(input, &mut all_bytes).map(Part::Body));
                }
                State::Ended => {
                    self.state = State::Over;
                    return Ok(Some(Part::End));
                }
                State::Over => return Ok(None),
                State::ChunkCr if input.starts_with(b"\r\n") => {
                    *input = &input[2..];
                    self.state = CHUNK_LINE;
                }
                State::ChunkLine { digits: 0, .. } => match whole_chunk_line(input) {
                    Some((left_bytes, used)) => {
                        *input = &input[used..];
                        self.state = State::ChunkBytes { left_bytes };
                    }
                    None => {
                        if !self.framing_byte(input)? {
                            return Ok(None);
                        }
                    }
                },
                _ => {
                    if !self.framing_byte(input)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Takes one byte of the framing between chunks; whether there was one.
    fn framing_byte(&mut self, input: &mut &[u8]) -> Result<bool, HttpError> {
        let Some((&byte, rest)) = input.split_first() else {
            return Ok(false);
        };
        *input = rest;
        self.state = framing_byte(self.state, byte)?;
        Ok(true)
    }

    /// Reads the head, or a part of it. `None` after an interim response, or when more input is needed.
    fn read_head(&mut self, input: &mut &[u8]) -> Result<Option<Head>, HttpError> {
        let carried_bytes = self.head.len();
        self.head.extend_from_slice(input);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&self.head) {
            Ok(httparse::Status::Complete(head_bytes)) => {
                *input = &input[head_bytes - carried_bytes..];
                let status = response.code.unwrap_or_default();
                if (100..200).contains(&status) {
                    if status == 101 {
                        return Err(HttpError::Head(
                            "101: the server switched protocols unasked".to_owned(),
                        ));
                    }
                    self.head.clear();
                    return Ok(None);
                }
                let (head, state) = body_of(status, response.headers)?;
                self.state = state;
                self.head = Vec::new();
                Ok(Some(head))
            }
            Ok(httparse::Status::Partial) => {
                if self.head.len() > MAX_HEAD_BYTES {
                    return Err(HttpError::Head(format!("longer than {MAX_HEAD_BYTES} bytes")));
                }
                *input = &[];
                Ok(None)
            }
            Err(error) if response.code.is_some() => Err(HttpError::Head(error.to_string())),
            Err(error) => {
                let start = &self.head[..self.head.len().min(40)];
                Err(HttpError::NoStatusLine(format!(
                    "{error}: \"{}\"",
                    start.escape_ascii()
                )))
            }
        }
    }
}

#[inline]
fn take<'a>(input: &mut &'a [u8], left_bytes: &mut u64) -> Option<&'a [u8]> {
    if input.is_empty() {
        return None;
    }
    let count = usize::try_from(*left_bytes).map_or(input.len(), |left| left.min(input.len()));
    let (piece, rest) = input.split_at(count);
    *input = rest;
    *left_bytes -= count as u64;
    Some(piece)
}

/// The usual line with a chunk's size, in one piece, not zero and without extension: the size, and the bytes
/// that the line takes. Everything else goes byte by byte.
#[inline]
fn whole_chunk_line(input: &[u8]) -> Option<(u64, usize)> {
    let mut size = 0;
    for (at, &byte) in input.iter().enumerate().take(8) {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if size > 0 && input.get(at + 1) == Some(&b'\n') => return Some((size, at + 2)),
            _ => return None,
        };
        size = size << 4 | u64::from(digit);
    }
    None
}

/// One byte of the framing between chunks.
fn framing_byte(state: State, byte: u8) -> Result<State, HttpError> {
    Ok(match state {
        State::ChunkLine {
            size,
            digits,
            part,
            line_bytes,
        } => chunk_line_byte(size, digits, part, line_bytes + 1, byte)?,
        State::ChunkCr if byte == b'\r' => State::ChunkLf,
        State::ChunkLf if byte == b'\n' => CHUNK_LINE,
        State::ChunkCr | State::ChunkLf => return Err(HttpError::Chunk("a chunk is longer than its size")),
        State::Trailer {
            line_bytes,
            all_bytes,
            cr,
        } => match byte {
            b'\n' if line_bytes == 0 => State::Ended,
            b'\n' => State::Trailer {
                line_bytes: 0,
                all_bytes: all_bytes + 1,
                cr: false,
            },
            _ if cr => return Err(HttpError::Chunk("a lone CR in the trailer")),
            _ if all_bytes >= MAX_HEAD_BYTES => return Err(HttpError::Chunk("the trailer is too long")),
            b'\r' => State::Trailer {
                line_bytes,
                all_bytes: all_bytes + 1,
                cr: true,
            },
            _ => State::Trailer {
                line_bytes: line_bytes + 1,
                all_bytes: all_bytes + 1,
                cr: false,
            },
        },
        // The other states have no framing bytes; `next` never brings them here.
        other => other,
    })
}

fn chunk_line_byte(
    size: u64,
    digits: u8,
    part: SizeLinePart,
    line_bytes: usize,
    byte: u8,
) -> Result<State, HttpError> {
    if line_bytes > MAX_CHUNK_LINE_BYTES {
        return Err(HttpError::Chunk("the line with the size is too long"));
    }
    let no_number = Err(HttpError::Chunk("the size is no hexadecimal number"));
    match part {
        SizeLinePart::Lf => match (byte, size) {
            (b'\n', 0) => Ok(State::Trailer {
                line_bytes: 0,
                all_bytes: 0,
                cr: false,
            }),
            (b'\n', left_bytes) => Ok(State::ChunkBytes { left_bytes }),
            _ => Err(HttpError::Chunk("a lone CR after the size")),
        },
        SizeLinePart::Size => {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                b'A'..=b'F' => byte - b'A' + 10,
                b'\r' if digits > 0 => {
                    return Ok(State::ChunkLine {
                        size,
                        digits,
                        part: SizeLinePart::Lf,
                        line_bytes,
                    });
                }
                b';' | b' ' | b'\t' if digits > 0 => {
                    return Ok(State::ChunkLine {
                        size,
                        digits,
                        part: SizeLinePart::Extension,
                        line_bytes,
                    });
                }
                _ => return no_number,
            };
            if digits >= 16 {
                return no_number;
            }
            let size = size << 4 | u64::from(digit);
            Ok(State::ChunkLine {
                size,
                digits: digits + 1,
                part,
                line_bytes,
            })
        }
        SizeLinePart::Extension => match byte {
            b'\r' => Ok(State::ChunkLine {
                size,
                digits,
                part: SizeLinePart::Lf,
                line_bytes,
            }),
            b'\n' => Err(HttpError::Chunk("a lone LF after the size")),
            _ => Ok(State::ChunkLine {
                size,
                digits,
                part,
                line_bytes,
            }),
        },
    }
}

/// What the head says of the body (RFC 9112, section 6.3).
fn body_of(status: u16, headers: &[httparse::Header<'_>]) -> Result<(Head, State), HttpError> {
    let mut length: Option<u64> = None;
    let mut chunked = false;
    let mut content_type = None;
    for header in headers {
        let value = || String::from_utf8_lossy(header.value).trim().to_ascii_lowercase();
        if header.name.eq_ignore_ascii_case("content-length") {
            let value = value();
            let parsed = value
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| value.parse().ok())
                .flatten();
            let Some(stated) = parsed else {
                return Err(HttpError::Head(format!("content-length \"{value}\"")));
            };
            if length.is_some_and(|earlier| earlier != stated) {
                return Err(HttpError::Head("several content-lengths that differ".to_owned()));
            }
            length = Some(stated);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            let value = value();
            match value.as_str() {
                "chunked" => chunked = true,
                "identity" => {}
                _ => {
                    return Err(HttpError::Head(format!(
                        "transfer-encoding \"{value}\" is not supported"
                    )));
                }
            }
        } else if header.name.eq_ignore_ascii_case("content-encoding") {
            let value = value();
            if value != "identity" && !value.is_empty() {
                return Err(HttpError::Head(format!(
                    "content-encoding \"{value}\" was not asked for"
                )));
            }
        } else if header.name.eq_ignore_ascii_case("content-type") {
            content_type = Some(value());
        }
    }
    let state = match (chunked, length) {
        _ if status == 204 || status == 304 => State::Ended,
        (true, _) => CHUNK_LINE,
        (false, Some(left_bytes)) => State::Sized { left_bytes },
        (false, None) => State::UntilClose,
    };
    Ok((Head { status, content_type }, state))
}
