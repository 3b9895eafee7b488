//! Words of SVG: coordinates, widths of texts that no browser has measured yet.

use std::fmt::{self, Write as _};

use super::super::text::escape;

/// A coordinate: one decimal, as short as it goes. What is no number is 0, so that a drawing stays well-formed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Px(pub(super) f64);

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = if self.0.is_finite() {
            (self.0 * 10.0).round()
        } else {
            0.0
        };
        if tenths % 10.0 == 0.0 {
            // Adding 0 makes -0 plain.
            write!(f, "{:.0}", tenths / 10.0 + 0.0)
        } else {
            write!(f, "{:.1}", tenths / 10.0)
        }
    }
}

/// About how wide a text is in the page's font, pixels: the widths of DejaVu Sans, which are the widest of the fonts that
/// the page asks for, so that nothing is cut in the others. Hangul and Han take all of the size.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let of = |c: char| match c {
        'i' | 'l' | 'j' | 'I' | 'J' | '\'' => 0.29,
        '.' | ',' | ':' | '|' | ';' | ' ' | '/' | 'f' | '-' => 0.35,
        't' | 'r' | '(' | ')' | '[' | ']' => 0.41,
        's' | 'z' | 'c' | '_' | '*' | '"' => 0.53,
        'm' | 'W' | '%' | '@' => 0.98,
        'w' | 'M' | 'O' | 'Q' | '+' | '=' | '<' | '>' | '×' | '~' => 0.84,
        c if c.is_ascii_uppercase() => 0.71,
        c if c.is_ascii() => 0.63,
        c if unicode_width::UnicodeWidthChar::width(c) == Some(2) => 1.0,
        _ => 0.65,
    };
    text.chars().map(of).sum::<f64>() * size
}

/// The text, cut with `…` where it is wider than `most` pixels.
pub(super) fn fitted(text: &str, size: f64, most: f64) -> String {
    if text_width(text, size) <= most {
        return text.to_owned();
    }
    let mut cut = String::new();
    for c in text.chars() {
        cut.push(c);
        if text_width(&cut, size) + 0.6 * size > most {
            cut.pop();
            break;
        }
    }
    cut.push('…');
    cut
}

/// Where a text is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// Adds a text; `class` is one of the style sheet's, `text` is escaped here.
pub(super) fn text(out: &mut String, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
    let anchor = match anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let _ = write!(
        out,
        "<text x=\"{}\" y=\"{}\"{anchor} class=\"{class}\">{}</text>",
        Px(x),
        Px(y),
        escape(text)
    );
}

/// Adds a straight line.
pub(super) fn line(out: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
    let _ = write!(
        out,
        "<path class=\"{class}\" d=\"M{} {}L{} {}\"/>",
        Px(x1),
        Px(y1),
        Px(x2),
        Px(y2)
    );
}

/// Adds a rectangle.
pub(super) fn rect(out: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), class: &str) {
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
        Px(x),
        Px(y),
        Px(width.max(0.0)),
        Px(height.max(0.0))
    );
}

/// The `d` of a path through points.
pub(super) fn path(points: impl IntoIterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (i, (x, y)) in points.into_iter().enumerate() {
        let _ = write!(d, "{}{} {}", if i == 0 { 'M' } else { 'L' }, Px(x), Px(y));
    }
    d
}

/// The shape of a framework's points.
pub(super) fn marker(shape: usize, x: f64, y: f64, r: f64) -> String {
    let corners: &[(f64, f64)] = match shape % 8 {
        // A circle as two arcs, so that every marker is a path.
        0 => {
            return format!(
                "M{} {}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0z",
                Px(x - r),
                Px(y),
                r = Px(r),
                d = Px(2.0 * r)
            );
        }
        1 => &[(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],
        2 => &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        3 => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
        4 => &[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
        5 => &[
            (-0.4, -1.2),
            (0.4, -1.2),
            (0.4, -0.4),
            (1.2, -0.4),
            (1.2, 0.4),
            (0.4, 0.4),
            (0.4, 1.2),
            (-0.4, 1.2),
            (-0.4, 0.4),
            (-1.2, 0.4),
            (-1.2, -0.4),
            (-0.4, -0.4),
        ],
        6 => &[(-1.2, 0.0), (0.8, -1.1), (0.8, 1.1)],
        _ => &[(1.2, 0.0), (-0.8, -1.1), (-0.8, 1.1)],
    };
    format!(
        "{}z",
        path(corners.iter().map(|(dx, dy)| (x + dx * r, y + dy * r)))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_short_and_always_numbers() {
        let cases = [
            (12.0, "12"),
            (12.34, "12.3"),
            (12.96, "13"),
            (-0.04, "0"),
            (-3.25, "-3.3"),
            (f64::NAN, "0"),
            (f64::INFINITY, "0"),
        ];
        for (value, text) in cases {
            assert_eq!(Px(value).to_string(), text);
        }
    }

    #[test]
    fn what_comes_from_outside_can_not_leave_its_text() {
        let mut out = String::new();
        text(&mut out, 1.0, 2.5, Anchor::End, "m", "a</text><b>");
        assert_eq!(
            out,
            "<text x=\"1\" y=\"2.5\" text-anchor=\"end\" class=\"m\">a&lt;/text&gt;&lt;b&gt;</text>"
        );
    }

    #[test]
    fn long_names_are_cut_to_their_place() {
        assert_eq!(fitted("vllm", 10.0, 60.0), "vllm");
        let cut = fitted("vllm-no-prefix-cache-at-all", 10.0, 60.0);
        assert!(cut.ends_with('…') && cut.starts_with("vllm-no"), "{cut}");
        assert!(text_width(&cut, 10.0) <= 60.0);
        assert!(text_width("가나", 10.0) > text_width("ab", 10.0));
    }
}
