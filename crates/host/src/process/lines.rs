//! A server's output cut into lines, without I/O: whatever the bytes and however they are chunked.

use std::time::{Duration, Instant};

use benchd_core::record::Redactor;

/// Longest line; what is longer goes on as another one.
pub(super) const LINE_CAP_BYTES: usize = 64 * 1024;

/// How often a progress bar is let through; what it showed in between is dropped.
const PROGRESS_PERIOD: Duration = Duration::from_secs(1);

/// A line of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The text: invalid UTF-8 replaced, escape sequences and control characters removed.
    pub(super) text: String,
    /// Whether it goes on in the next one (it was longer than the cap).
    pub(super) continues: bool,
    /// Whether a lone carriage return ended it: the program means to write over it.
    pub(super) overwritten: bool,
}

/// Cuts bytes into lines at `\n`, `\r` and `\r\n`.
#[derive(Debug, Default)]
pub(super) struct LineSplitter {
    line: Vec<u8>,
    /// A `\r` was the last byte: whether the line ends or is written over depends on the next one.
    after_return: bool,
    redactor: Redactor,
}

impl LineSplitter {
    /// A splitter whose lines show no secret, also where one is cut at the cap.
    pub(super) fn redacting(redactor: Redactor) -> Self {
        Self {
            redactor,
            ..Self::default()
        }
    }

    /// Takes bytes and gives the lines that they end to `sink`.
    pub(super) fn push(&mut self, bytes: &[u8], mut sink: impl FnMut(Line)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.after_return {
                self.after_return = false;
                let newline = rest[0] == b'\n';
                self.end_line(!newline, &mut sink);
                if newline {
                    rest = &rest[1..];
                    continue;
                }
            }
            let room = LINE_CAP_BYTES - self.line.len();
            let window = &rest[..rest.len().min(room)];
            match memchr::memchr2(b'\n', b'\r', window) {
                Some(at) => {
                    self.line.extend_from_slice(&rest[..at]);
                    if rest[at] == b'\n' {
                        self.end_line(false, &mut sink);
                    } else {
                        self.after_return = true;
                    }
                    rest = &rest[at + 1..];
                }
                None => {
                    self.line.extend_from_slice(window);
                    rest = &rest[window.len()..];
                    if self.line.len() >= LINE_CAP_BYTES {
                        self.cut(&mut sink);
                    }
                }
            }
        }
    }

    /// Gives what is there as a line, at the end of the output or when nothing more is awaited.
    pub(super) fn flush(&mut self, mut sink: impl FnMut(Line)) {
        let overwritten = std::mem::take(&mut self.after_return);
        if !self.line.is_empty() {
            self.end_line(overwritten, &mut sink);
        }
    }

    fn end_line(&mut self, overwritten: bool, sink: &mut impl FnMut(Line)) {
        // A program that only moves back (`\r\r`, `\r` after an empty line) says nothing.
        if !(overwritten && self.line.is_empty()) {
            sink(Line {
                text: self.shown(&self.line),
                continues: false,
                overwritten,
            });
        }
        self.line.clear();
    }

    fn shown(&self, line: &[u8]) -> String {
        let mut text = clean(line);
        self.redactor.clean(&mut text);
        text
    }

    /// Gives a full line, but for a character of which only the first bytes are here.
    fn cut(&mut self, sink: &mut impl FnMut(Line)) {
        let keep = unfinished_character(&self.line)
            .max(self.redactor.open_end(&self.line))
            .min(LINE_CAP_BYTES / 2);
        let at = self.line.len() - keep;
        sink(Line {
            text: self.shown(&self.line[..at]),
            continues: true,
            overwritten: false,
        });
        self.line.drain(..at);
    }
}

/// How many bytes at the end are the start of a UTF-8 character that goes on (0 to 3).
fn unfinished_character(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0b1100_0000..=0b1101_1111 => 2,
            0b1110_0000..=0b1110_1111 => 3,
            0b1111_0000..=0b1111_0111 => 4,
            0b1000_0000..=0b1011_1111 => continue,
            _ => return 0,
        };
        return if length > back { back } else { 0 };
    }
    0
}

/// Text for people: no escape sequences, no control characters but the tab, so that a server can't act on the
/// terminal of who reads its log.
fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.chars().any(|c| c.is_control() && c != '\t') {
        return text.into_owned();
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            // CSI: parameters up to a final letter. Other sequences: one character.
            if chars.next() == Some('[') {
                for c in chars.by_ref() {
                    if ('\x40'..='\x7e').contains(&c) {
                        break;
                    }
                }
            }
        } else if !c.is_control() || c == '\t' {
            out.push(c);
        }
    }
    out
}

/// Thins out progress bars: of lines that are written over, the first, one a second, and the last.
#[derive(Debug, Default)]
pub(super) struct Progress {
    let_through: Option<Instant>,
    held: Option<String>,
}

impl Progress {
    /// What of a line that came at `now` is to be written: none, it, or the held last state of a bar and it.
    pub(super) fn pass(&mut self, line: Line, now: Instant) -> impl Iterator<Item = Line> + use<> {
        let (held, line) = if line.overwritten {
            let due = self
                .let_through
                .is_none_or(|last| now.saturating_duration_since(last) >= PROGRESS_PERIOD);
            if due {
                self.let_through = Some(now);
                self.held = None;
                (None, Some(line))
            } else {
                self.held = Some(line.text);
                (None, None)
            }
        } else {
            self.let_through = None;
            (self.flush(), Some(line))
        };
        held.into_iter().chain(line)
    }

    /// The last state of a bar that was not written yet.
    pub(super) fn flush(&mut self) -> Option<Line> {
        self.held.take().map(|text| Line {
            text,
            continues: false,
            overwritten: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<(String, bool, bool)> {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, |l| lines.push((l.text, l.continues, l.overwritten)));
        }
        splitter.flush(|l| lines.push((l.text, l.continues, l.overwritten)));
        lines
    }

    fn texts(chunks: &[&[u8]]) -> Vec<String> {
        split(chunks).into_iter().map(|l| l.0).collect()
    }

    #[test]
    fn lines_end_at_newline_return_and_both() {
        assert_eq!(
            split(&[b"a\nb\r\nc\rd\r", b"\ne\r", b"f"]),
            [
                ("a".into(), false, false),
                ("b".into(), false, false),
                ("c".into(), false, true),
                ("d".into(), false, false),
                ("e".into(), false, true),
                ("f".into(), false, false)
            ]
        );
        assert_eq!(texts(&[b"\n\nx\r\r\ry"]), ["", "", "x", "y"]);
    }

    #[test]
    fn an_endless_line_is_cut_at_the_cap_and_never_inside_a_character() {
        let long = "한".repeat(LINE_CAP_BYTES); // three bytes each; the cap is not a multiple of three
        let lines = split(&[long.as_bytes()]);
        assert!(lines.iter().all(|l| l.0.len() <= LINE_CAP_BYTES));
        assert!(lines[..lines.len() - 1].iter().all(|l| l.1));
        assert!(!lines.last().unwrap().1);
        assert_eq!(lines.into_iter().map(|l| l.0).collect::<String>(), long);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_control_is_removed() {
        assert_eq!(texts(&[b"a\xff\xfeb\n"]), ["a\u{fffd}\u{fffd}b"]);
        assert_eq!(texts(&[b"\x1b[31mred\x1b[0m\x07 \x1b[2K\tx\x1b]\n"]), ["red \tx"]);
    }

    #[test]
    fn of_a_progress_bar_the_first_one_a_second_and_the_last_are_kept() {
        let start = Instant::now();
        let mut progress = Progress::default();
        let mut written = Vec::new();
        let mut pass = |text: &str, overwritten, ms| {
            let line = Line {
                text: text.into(),
                continues: false,
                overwritten,
            };
            written.extend(
                progress
                    .pass(line, start + Duration::from_millis(ms))
                    .map(|l| l.text),
            );
        };
        for (text, ms) in [
            ("0%", 0),
            ("1%", 10),
            ("2%", 999),
            ("3%", 1000),
            ("4%", 1001),
            ("5%", 1500),
        ] {
            pass(text, true, ms);
        }
        pass("done", false, 1501);
        pass("0%", true, 1502);
        pass("9%", true, 1503);
        written.extend(progress.flush().map(|l| l.text));
        assert_eq!(written, ["0%", "3%", "5%", "done", "0%", "9%"]);
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(bytes in proptest::collection::vec(prop_oneof![
            Just(b'\n'), Just(b'\r'), Just(b'a'), any::<u8>()], 0..300), cuts in proptest::collection::vec(0usize..300, 0..8)) {
            let mut at: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(split(&chunks), split(&[&bytes]));
        }

        #[test]
        fn nothing_that_is_plain_text_is_lost(lines in proptest::collection::vec("[a-z가-힣 ]{0,40}", 0..20)) {
            let text = lines.join("\n");
            let mut seen = texts(&[text.as_bytes()]);
            if lines.last().is_some_and(String::is_empty) { seen.push(String::new()); }
            if lines.is_empty() { prop_assert!(seen.is_empty()); } else { prop_assert_eq!(seen, lines); }
        }
    }
}
