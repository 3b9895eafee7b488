//! Problems of a plan: where they are, and how they are shown to people.
//!
//! ```text
//! error: `repeats` must be at least 1
//!   --> plans/x.yaml:12:14 (scenarios.single.repeats)
//!    |
//! 12 |     repeats: 0
//!    |              ^ found 0
//!    = help: …
//! ```

use std::fmt::{self, Write as _};

use unicode_width::UnicodeWidthChar as _;

/// Columns that a tab takes in the line shown. The caret follows it, whatever the terminal's own tab stops are.
const TAB_COLUMNS: usize = 4;
/// Longest part of a line that is shown, in terminal columns; a longer line is cut around the place.
const SHOWN_COLUMNS: usize = 160;

/// So many problems are written out; a file with more is no plan, and nobody reads on.
const SHOWN_PROBLEMS: usize = 100;

/// A place in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Line, 1 on.
    pub line: usize,
    /// Column in characters, 1 on.
    pub column: usize,
    /// Characters that it spans on its line; 0 where it is only a point.
    pub chars: usize,
}

impl Spot {
    /// The very start of a text.
    pub const START: Self = Self {
        line: 1,
        column: 1,
        chars: 0,
    };
}

/// One step of a key path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// A mapping's key.
    Key(String),
    /// A list's index, 0 on.
    Index(usize),
}

/// The path of a key, from the plan's root.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyPath(pub Vec<Step>);

impl KeyPath {
    /// From keys.
    pub(crate) fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|k| Step::Key((*k).to_owned())).collect())
    }

    /// This path and one more key.
    #[must_use]
    pub(crate) fn key(&self, key: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Key(key.to_owned()));
        Self(steps)
    }

    /// This path and one more index.
    #[must_use]
    pub(crate) fn index(&self, index: usize) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Index(index));
        Self(steps)
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the plan");
        }
        for (n, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    if n > 0 {
                        f.write_char('.')?;
                    }
                    let plain =
                        !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
                    if plain {
                        f.write_str(key)?
                    } else {
                        write!(f, "{key:?}")?
                    }
                }
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// One thing that is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
    /// The key that it is about.
    pub path: KeyPath,
    /// Where it stands.
    pub spot: Spot,
    /// A few words at the caret.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

/// All problems of one plan, with the text that they are in.
#[derive(Debug, Clone)]
pub struct Problems {
    /// The file's name, as it is shown.
    pub file: String,
    /// In the order of the text; never empty.
    pub list: Vec<Problem>,
    text: String,
}

impl Problems {
    /// Sorts the problems by place and drops repeated ones.
    pub(crate) fn new(file: &str, text: &str, mut list: Vec<Problem>) -> Self {
        let lines = lines(text);
        let lengths: Vec<usize> = lines.iter().map(|line| line.chars().count()).collect();
        for problem in &mut list {
            problem.spot = clamp(problem.spot, &lengths);
        }
        list.sort_by_key(|p| (p.spot.line, p.spot.column));
        list.dedup();
        Self {
            file: file.to_owned(),
            list,
            text: text.to_owned(),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = lines(&self.text);
        for problem in self.list.iter().take(SHOWN_PROBLEMS) {
            render(f, &self.file, &lines, problem)?;
            f.write_char('\n')?;
        }
        if self.list.len() > SHOWN_PROBLEMS {
            writeln!(f, "… and {} more", self.list.len() - SHOWN_PROBLEMS)?;
        }
        match self.list.len() {
            1 => write!(f, "1 problem in {}", self.file),
            n => write!(f, "{n} problems in {}", self.file),
        }
    }
}

/// The lines of a text as YAML breaks them: LF, CRLF, or CR alone.
pub(crate) fn lines(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r']) {
        out.push(&rest[..at]);
        let end = if rest[at..].starts_with("\r\n") {
            at + 2
        } else {
            at + 1
        };
        rest = &rest[end..];
    }
    if !rest.is_empty() || out.is_empty() {
        out.push(rest);
    }
    out
}

/// A place within the text, whatever the YAML parser said: an error at the end of the file stands after the last
/// character of the last line.
fn clamp(spot: Spot, lengths: &[usize]) -> Spot {
    let last = lengths.len().max(1);
    let length = |line: usize| lengths.get(line - 1).copied().unwrap_or(0);
    if spot.line > last {
        return Spot {
            line: last,
            column: length(last) + 1,
            chars: 0,
        };
    }
    let line = spot.line.max(1);
    let column = spot.column.clamp(1, length(line) + 1);
    Spot {
        line,
        column,
        chars: spot.chars.min(length(line) + 1 - column),
    }
}

/// A character as it is shown, never one that moves the cursor or the terminal's state.
fn shown(c: char, out: &mut String) -> usize {
    if c == '\t' {
        out.extend(std::iter::repeat_n(' ', TAB_COLUMNS));
        return TAB_COLUMNS;
    }
    // Bidirectional controls would make the line read otherwise than it is.
    let hidden = c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let c = if hidden { '\u{fffd}' } else { c };
    out.push(c);
    c.width().unwrap_or(0)
}

fn render(f: &mut fmt::Formatter<'_>, file: &str, lines: &[&str], problem: &Problem) -> fmt::Result {
    let Spot { line, column, chars } = problem.spot;
    let source = lines.get(line - 1).copied().unwrap_or("");
    let (text, before, under) = cut(source, column, chars);
    let gutter = line.to_string().len();

    writeln!(f, "error: {}", problem.message)?;
    writeln!(f, "{:gutter$}--> {file}:{line}:{column} ({})", "", problem.path)?;
    writeln!(f, "{:gutter$} |", "")?;
    writeln!(f, "{line} | {}", text.trim_end())?;
    write!(f, "{:gutter$} | {:before$}{}", "", "", "^".repeat(under.max(1)))?;
    match &problem.label {
        Some(label) => writeln!(f, " {label}")?,
        None => writeln!(f)?,
    }
    if let Some(help) = &problem.help {
        writeln!(f, "{:gutter$} = help: {help}", "")?;
    }
    Ok(())
}

/// The line as shown, the columns before the caret, and the columns under it.
fn cut(source: &str, column: usize, chars: usize) -> (String, usize, usize) {
    // Only so much of the line can be shown; it may be megabytes long.
    let skipped = (column - 1).saturating_sub(SHOWN_COLUMNS);
    let mut rest = source.chars().skip(skipped);
    let window: Vec<char> = rest.by_ref().take(3 * SHOWN_COLUMNS).collect();
    let more = rest.next().is_some();
    let at = (column - 1 - skipped).min(window.len());

    let mut scratch = String::new();
    let width: usize = window.iter().map(|c| shown(*c, &mut scratch)).sum();
    let whole = skipped == 0 && !more && width <= SHOWN_COLUMNS;
    // A line that is too long is shown from half the room before the place on.
    let mut from = if whole { 0 } else { at };
    let mut room = SHOWN_COLUMNS / 2;
    while from > 0 {
        let columns = shown(window[from - 1], &mut scratch);
        if columns > room {
            break;
        }
        room -= columns;
        from -= 1;
    }

    let cut_before = from > 0 || skipped > 0;
    let mut text = if cut_before {
        "…".to_owned()
    } else {
        String::new()
    };
    let mut used = usize::from(cut_before);
    let (mut before, mut under) = (used, 0);
    let mut index = from;
    while index < window.len() && used < SHOWN_COLUMNS {
        let columns = shown(window[index], &mut text);
        used += columns;
        if index < at {
            before = used;
        } else if index < at + chars {
            under += columns;
        }
        index += 1;
    }
    if index < window.len() || more {
        text.push('…');
    }
    (text, before, under)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: usize, column: usize, chars: usize) -> Problem {
        Problem {
            message: "wrong".into(),
            path: KeyPath::of(&["scenarios", "single"]).key("a.b").index(2),
            spot: Spot { line, column, chars },
            label: Some("here".into()),
            help: Some("do it right".into()),
        }
    }

    fn shown_with(text: &str, p: Problem) -> String {
        Problems::new("x.yaml", text, vec![p]).to_string()
    }

    #[test]
    fn the_caret_stands_under_the_place_behind_wide_characters_and_tabs() {
        insta::assert_snapshot!(shown_with("a: 1\n이름: 모델\tx: 0\n", problem(2, 8, 4)), @r#"
    error: wrong
     --> x.yaml:2:8 (scenarios.single."a.b"[2])
      |
    2 | 이름: 모델    x: 0
      |               ^^^^ here
      = help: do it right

    1 problem in x.yaml
    "#);
    }

    #[test]
    fn a_long_line_is_cut_around_the_place() {
        let line = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let out = shown_with(&line, problem(1, 501, 1));
        let rows: Vec<&str> = out.lines().collect();
        assert!(rows[3].chars().count() < 180, "{out}");
        assert_eq!(
            rows[3].chars().position(|c| c == 'X'),
            rows[4].chars().position(|c| c == '^'),
            "{out}"
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let out = shown_with("a: \u{1b}[31mred\u{202e}\u{7}", problem(1, 1, 1));
        assert!(!out.chars().any(|c| c.is_control() && c != '\n'), "{out:?}");
        assert!(!out.contains('\u{202e}'));
    }

    #[test]
    fn a_place_behind_the_end_is_moved_to_the_end() {
        let p = Problems::new("x", "a\nbc\n", vec![problem(9, 9, 9)]);
        assert_eq!(
            p.list[0].spot,
            Spot {
                line: 2,
                column: 3,
                chars: 0
            }
        );
    }

    #[test]
    fn lines_break_as_in_yaml() {
        assert_eq!(lines("a\r\nb\rc\n\nd"), ["a", "b", "c", "", "d"]);
        assert_eq!(lines(""), [""]);
        assert_eq!(lines("a\u{2028}b\n"), ["a\u{2028}b"]);
    }
}
