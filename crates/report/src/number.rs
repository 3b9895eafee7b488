//! Numbers for people: one form everywhere.

use std::time::Duration;

pub use benchd_core::format::{
    NONE, chosen, chosen_percent, count, duration, grouped, number, percent, with_interval,
};

use benchd_analysis::Distribution;
use benchd_core::stats::Interval;

/// `value`, or a dash.
pub fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.to_owned(), number)
}

/// A percentile; `~` before one that has too few samples to be certain.
pub fn percentile(value: f64, certain: bool) -> String {
    format!("{}{}", if certain { "" } else { "~" }, number(value))
}

/// Median with interval, 95th and 99th percentile of a distribution; `≥` before one that time-outs reach: it is a lower
/// bound.
pub fn spread(d: Option<&Distribution>) -> [String; 3] {
    let Some(d) = d else {
        return [NONE, NONE, NONE].map(str::to_owned);
    };
    // Time-outs are the largest values: a percentile whose upper rank is among them is at least what is printed.
    let at_least = |percent: f64| {
        let upper_rank = ((d.n.saturating_sub(1)) as f64 * percent / 100.0).ceil();
        if d.timeouts > 0 && upper_rank >= (d.n - d.timeouts) as f64 {
            "≥"
        } else {
            ""
        }
    };
    [
        format!(
            "{}{}",
            at_least(50.0),
            with_interval(d.p50, d.p50_interval.as_ref())
        ),
        format!("{}{}", at_least(95.0), percentile(d.p95, d.p95_certain)),
        format!("{}{}", at_least(99.0), percentile(d.p99, d.p99_certain)),
    ]
}

/// The number at a tick of an axis: as many decimals as tell it from the next, `step` away.
pub fn tick(value: f64, step: f64) -> String {
    let decimals = (-step.abs().log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
    if decimals == 0 || !value.is_finite() {
        return grouped(value.round());
    }
    format!("{value:.decimals$}")
}

/// A change as a signed percentage: `+12.3 %`, `-4.00 %`, `0 %`.
pub fn change(share: f64) -> String {
    let text = percent(share);
    // What rounds to nothing has no sign.
    if share > 0.0 && text != "0 %" {
        format!("+{text}")
    } else {
        text
    }
}

/// The interval of a change: `[+8.10 %, +16.5 %]`.
pub fn change_interval(interval: &Interval) -> String {
    format!("[{}, {}]", change(interval.low), change(interval.high))
}

/// Bytes as megabytes (1 MB = 1,000,000 bytes), the number only.
pub fn megabytes(bytes: f64) -> String {
    number(bytes / 1e6)
}

/// [`duration`] of milliseconds, or a dash.
pub fn millis(ms: Option<u64>) -> String {
    ms.map_or_else(|| NONE.to_owned(), |ms| duration(Duration::from_millis(ms)))
}

/// `2026-11-24 19:00:05 UTC`.
pub fn time(unix_us: u64) -> String {
    i64::try_from(unix_us)
        .ok()
        .and_then(|us| jiff::Timestamp::from_microsecond(us).ok())
        .map_or_else(
            || NONE.to_owned(),
            |t| t.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        )
}

/// A bar of at most `width` characters, in eighths: a picture beside a number, never instead of it.
pub fn bar(value: f64, largest: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    if largest <= 0.0 || !value.is_finite() {
        return String::new();
    }
    let eighths = ((value / largest).clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_then_whole_numbers() {
        let cases = [
            (0.0, "0"),
            (0.000_123_4, "0.000123"),
            (0.0123, "0.0123"),
            (0.9996, "1.000"),
            (1.234, "1.23"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (12.34, "12.3"),
            (99.96, "100"),
            (123.4, "123"),
            (999.4, "999"),
            (999.6, "1,000"),
            (1234.5, "1,235"),
            (1_234_567.0, "1,234,567"),
            (-12.34, "-12.3"),
            (-1234.0, "-1,234"),
            (f64::NAN, NONE),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text, "{value}");
        }
    }

    #[test]
    fn percentiles_that_time_outs_reach_are_lower_bounds() {
        let of = |timeouts| Distribution {
            n: 101,
            timeouts,
            mean: 1.0,
            sd: None,
            min: 1.0,
            p50: 1.0,
            p50_interval: None,
            p95: 2.0,
            p95_certain: true,
            p99: 3.0,
            p99_certain: false,
            max: 4.0,
        };
        // Of 101 values the 95th percentile is the 6th from above.
        assert_eq!(spread(Some(&of(0))), ["1.00", "2.00", "~3.00"]);
        assert_eq!(spread(Some(&of(5))), ["1.00", "2.00", "≥~3.00"]);
        assert_eq!(spread(Some(&of(6))), ["1.00", "≥2.00", "≥~3.00"]);
        assert_eq!(spread(Some(&of(101))), ["≥1.00", "≥2.00", "≥~3.00"]);
    }

    #[test]
    fn ticks_have_the_decimals_of_their_step() {
        let cases = [
            (0.0, 500.0, "0"),
            (1500.0, 500.0, "1,500"),
            (0.4, 0.2, "0.4"),
            (2.0, 0.5, "2.0"),
            (0.05, 0.01, "0.05"),
            (-1.0, 1.0, "-1"),
            (1e6, 1e6, "1,000,000"),
        ];
        for (value, step, text) in cases {
            assert_eq!(tick(value, step), text, "{value} by {step}");
        }
    }

    #[test]
    fn durations_and_bars() {
        let of = |s: f64| duration(Duration::from_secs_f64(s));
        assert_eq!(
            (of(0.41).as_str(), of(0.9999).as_str(), of(21.5).as_str()),
            ("410 ms", "1.000 s", "21.5 s")
        );
        assert_eq!(
            (of(59.97).as_str(), of(200.0).as_str(), of(7500.0).as_str()),
            ("1 min", "3 min 20 s", "2 h 5 min")
        );
        assert_eq!(
            (
                bar(5.0, 10.0, 4).as_str(),
                bar(1.0, 32.0, 4).as_str(),
                bar(0.0, 1.0, 4).as_str()
            ),
            ("██", "▏", "")
        );
        assert_eq!(time(1_800_000_000_000_000), "2027-01-15 08:00:00 UTC");
    }
}
