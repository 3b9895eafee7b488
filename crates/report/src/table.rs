//! Markdown tables, aligned in the source as well.

/// Escapes what a table cell or a line of text must not hold: pipes, line ends, and what Markdown or HTML would read
/// as markup.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '|' | '\\' | '*' | '`' | '[' | ']' => {
                out.push('\\');
                out.push(c);
            }
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// A code block whose fence is longer than any in its text.
pub(super) fn code_block<'a>(lines: impl IntoIterator<Item = &'a str>) -> String {
    let text: Vec<String> = lines
        .into_iter()
        .map(|l| l.chars().filter(|c| !c.is_control() || *c == '\t').collect())
        .collect();
    let longest = text
        .iter()
        .flat_map(|l| l.split(|c| c != '`').map(str::len))
        .max()
        .unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}\n", text.join("\n"))
}

/// A table. Cells hold Markdown: texts from outside are escaped by who puts them in.
#[derive(Debug)]
pub(super) struct Table {
    header: Vec<String>,
    /// Whether a column holds numbers and is aligned to the right.
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns; those that start with `>` are aligned to the right.
    pub(super) fn new<const N: usize>(columns: [&str; N]) -> Self {
        Self {
            header: columns
                .iter()
                .map(|c| c.trim_start_matches('>').to_owned())
                .collect(),
            right: columns.iter().map(|c| c.starts_with('>')).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.header.len(), "a row has as many cells as the header");
        self.rows.push(cells.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let width = |i: usize| {
            let cells = self.rows.iter().chain([&self.header]).filter_map(|r| r.get(i));
            cells.map(|c| c.chars().count()).max().unwrap_or(0).max(3)
        };
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let line = |f: &mut std::fmt::Formatter<'_>, cells: &[String]| {
            for ((cell, &width), &right) in cells.iter().zip(&widths).zip(&self.right) {
                if right {
                    write!(f, "| {cell:>width$} ")?;
                } else {
                    write!(f, "| {cell:<width$} ")?;
                }
            }
            f.write_str("|\n")
        };
        line(f, &self.header)?;
        for (&width, &right) in widths.iter().zip(&self.right) {
            let rule = "-".repeat(width - usize::from(right));
            write!(f, "| {rule}{} ", if right { ":" } else { "" })?;
        }
        f.write_str("|\n")?;
        self.rows.iter().try_for_each(|row| line(f, row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_pipes_stay_in_their_cell() {
        let mut table = Table::new(["framework", ">tokens/s"]);
        table.row([escape("a|b\n<c>"), "1,234".to_owned()]);
        let expected = "\
| framework   | tokens/s |
| ----------- | -------: |
| a\\|b &lt;c> |    1,234 |
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn a_fence_is_longer_than_those_in_its_text() {
        let block = code_block(["a", "````", "\u{1b}[31mred"]);
        assert!(
            block.starts_with("`````text\na\n````\n[31mred\n`````\n"),
            "{block}"
        );
    }
}
