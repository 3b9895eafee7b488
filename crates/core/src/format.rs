//! Numbers and lists as people read them: one form everywhere.

use std::time::Duration;

use crate::stats::Interval;

/// What stands where there is no number.
pub const NONE: &str = "–";

/// Three significant digits below 1,000 (`0.0123`, `1.23`, `12.3`, `123`), whole numbers with separators from there on
/// (`12,345`).
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let magnitude = value.abs().log10().floor();
    // 999.6 becomes 1,000: the digits follow the rounded value.
    let rounded_up = value.abs() >= 999.5;
    if rounded_up {
        return grouped(value.round());
    }
    let decimals = (2.0 - magnitude).clamp(0.0, 9.0) as usize;
    let text = format!("{value:.decimals$}");
    // 9.996 with two decimals is 10.00: one digit too many.
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if value.abs() >= 1.0 && digits > 3 && decimals > 0 {
        return format!("{value:.*}", decimals - 1);
    }
    text
}

/// A number that someone chose, a threshold: at most three decimals, none that say nothing (`1.05`, `3`, `0.333`).
pub fn chosen(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// [`chosen`] of a share as a percentage: `10 %`.
pub fn chosen_percent(share: f64) -> String {
    format!("{} %", chosen(share * 100.0))
}

/// A whole number with separators.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// So many of something that has its plural by an s: `1 request`, `1,980 requests`.
pub fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A number with separators and no decimals.
pub fn grouped(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}", count(value.abs() as u64))
}

/// `55.0 [30.0, 80.0]`; without an interval only the value.
pub fn with_interval(value: f64, interval: Option<&Interval>) -> String {
    match interval {
        Some(i) => format!("{} [{}, {}]", number(value), number(i.low), number(i.high)),
        None => number(value),
    }
}

/// A share as a percentage: `12.3 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", number(share * 100.0))
}

/// `410 ms`, `21.5 s`, `3 min 20 s`, `5 min`, `2 h 5 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.9995 {
        format!("{} ms", number(seconds * 1e3))
    } else if seconds < 59.95 {
        format!("{} s", number(seconds))
    } else if seconds < 3_599.5 {
        let whole = seconds.round() as u64;
        match whole % 60 {
            0 => format!("{} min", whole / 60),
            rest => format!("{} min {rest} s", whole / 60),
        }
    } else {
        let minutes = (seconds / 60.0).round() as u64;
        format!("{} h {} min", count(minutes / 60), minutes % 60)
    }
}

/// Longest reason that is told in a sentence, characters.
const REASON_CHARS: usize = 120;

/// A reason from outside as part of a sentence: its first line, without hints, cut where it is long.
pub fn brief(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let line = line.split(" hint:").next().unwrap_or_default().replace('`', "'");
    if line.chars().count() <= REASON_CHARS {
        return line;
    }
    let mut cut: String = line.chars().take(REASON_CHARS).collect();
    cut.push('…');
    cut
}

/// `a`, `a and b`, `a, b and c`.
pub fn list<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [all @ .., last] => {
            let all: Vec<&str> = all.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", all.join(", "), last.as_ref())
        }
    }
}
