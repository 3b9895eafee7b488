//! What people read: a table with units, and one line for a run's display. Pure.

use std::fmt::Write as _;

use super::{READ_LAG_BOUND_US, THREAD_SHARE_BOUND};
use benchd_journal::{ClientCalibration, ClientPoint, RateLimit};
use benchd_report::columns;

/// Columns: name over unit or percentile. Times are microseconds.
const HEAD: [[&str; 2]; 21] = [
    ["", "streams"],
    ["", "requests"],
    ["", "tokens"],
    ["", "tokens/s"],
    ["TTFT error", "p50"],
    ["", "p95"],
    ["", "p99"],
    ["", "max"],
    ["gap error", "p50"],
    ["", "p95"],
    ["", "p99"],
    ["", "max"],
    ["one read", "%"],
    ["read lag", "p99"],
    ["send->read", "p50"],
    ["", "p99"],
    ["server late", "p50"],
    ["", "p99"],
    ["", "max"],
    ["CPU", "/event"],
    ["memory", "KiB/stream"],
];

pub(crate) fn table(found: &ClientCalibration) -> String {
    let mut rows: Vec<Vec<String>> = (0..2)
        .map(|line| HEAD.iter().map(|column| column[line].to_owned()).collect())
        .collect();
    rows.extend(found.points.iter().map(row));
    let mut text = format!(
        "times in µs; TTFT error = client's arrival - server's stamp; gap error absolute\n\n{}\n\n",
        columns(rows, |_| true)
    );
    rates(found, &mut text);
    if let Some(peak) = found.peak_rss_bytes {
        let most = found.points.last().map_or(0, |p| p.streams);
        let _ = writeln!(
            text,
            "peak memory of the whole process, up to {most} streams: {:.1} MiB",
            peak as f64 / f64::from(1 << 20)
        );
    }
    text
}

fn row(p: &ClientPoint) -> Vec<String> {
    let us = |value: f64| format!("{value:.1}");
    vec![
        p.streams.to_string(),
        p.requests.to_string(),
        p.tokens.to_string(),
        format!("{:.0}", p.tokens_per_s),
        us(p.ttft_error_us_p50),
        us(p.ttft_error_us_p95),
        us(p.ttft_error_us_p99),
        us(p.ttft_error_us_max),
        us(p.gap_error_us_p50),
        us(p.gap_error_us_p95),
        us(p.gap_error_us_p99),
        us(p.gap_error_us_max),
        format!("{:.2}", p.coalesced as f64 * 100.0 / p.tokens.max(1) as f64),
        us(p.read_lag_us_p99),
        us(p.send_to_read_us_p50),
        us(p.send_to_read_us_p99),
        us(p.server_late_us_p50),
        us(p.server_late_us_p99),
        us(p.server_late_us_max),
        format!("{:.2}", p.cpu_us_per_event),
        format!("{:.1}", p.bytes_per_stream() as f64 / 1024.0),
    ]
}

fn rates(found: &ClientCalibration, text: &mut String) {
    for r in &found.rates {
        let _ = writeln!(
            text,
            "asked for {:>7.0} events/s: {:>7.0} came, read lag p99 {:.0} µs, load thread {:.0} % busy, {:.2} µs of CPU an \
             event, server late p99 {:.0} µs{}",
            r.offered_per_s,
            r.events_per_s,
            r.read_lag_us_p99,
            r.load_thread_share * 100.0,
            r.cpu_us_per_event,
            r.server_late_us_p99,
            if r.sustained { "" } else { "  NOT SUSTAINED" }
        );
    }
    if found.rate_limit.is_some() {
        let _ = writeln!(
            text,
            "largest sustained rate: {} (bounds: read lag p99 {READ_LAG_BOUND_US:.0} µs, load thread {:.0} % busy)",
            rate(found),
            THREAD_SHARE_BOUND * 100.0
        );
    }
}

fn rate(found: &ClientCalibration) -> String {
    match (found.max_events_per_s, found.rate_limit) {
        (None, _) => format!(
            "less than {:.0} events/s, the lowest rate tried",
            found.events_limit().unwrap_or_default()
        ),
        (Some(max), Some(RateLimit::Server)) => {
            format!("at least {max:.0} events/s: the server could not send faster")
        }
        (Some(max), Some(RateLimit::Time)) => format!("at least {max:.0} events/s: no time to look further"),
        (Some(max), _) => format!("{max:.0} events/s"),
    }
}

/// `client  TTFT error at 64 streams p50 4.1 µs, p99 30.0 µs; gap error p99 12.0 µs; sustains 90000 events/s`.
pub(crate) fn summary_line(found: &ClientCalibration) -> String {
    let mut line = "client".to_owned();
    if let Some(p) = found.points.last() {
        let _ = write!(
            line,
            "  TTFT error at {} streams p50 {:.1} µs, p99 {:.1} µs; gap error p99 {:.1} µs",
            p.streams, p.ttft_error_us_p50, p.ttft_error_us_p99, p.gap_error_us_p99
        );
    }
    if found.rate_limit.is_some() {
        let _ = write!(line, "; sustains {}", rate(found));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use benchd_journal::ClientRate;

    #[test]
    fn columns_line_up_and_a_limit_of_the_server_is_said() {
        let point = |streams| ClientPoint {
            streams,
            rss_grown_bytes: u64::from(streams) * 2_048,
            ..ClientPoint::default()
        };
        let mut found = ClientCalibration {
            points: vec![point(1), point(1_000)],
            max_events_per_s: Some(90_000.0),
            rates: vec![ClientRate {
                streams: 64,
                offered_per_s: 100_000.0,
                events_per_s: 90_000.0,
                read_lag_us_p99: 10.0,
                load_thread_share: 0.5,
                cpu_us_per_event: 4.0,
                server_late_us_p99: 1.0,
                sustained: true,
            }],
            rate_limit: Some(RateLimit::Server),
            peak_rss_bytes: Some(64 << 20),
            ..ClientCalibration::default()
        };
        let text = table(&found);
        let lines: Vec<&str> = text.lines().skip(3).take(3).collect();
        assert!(
            lines
                .iter()
                .all(|line| line.chars().count() == lines[0].chars().count()),
            "{text}"
        );
        assert!(
            lines[2].trim_start().starts_with("1000 ") && lines[2].ends_with(" 2.0"),
            "{text}"
        );
        assert!(text.contains("at least 90000 events/s"), "{text}");
        assert!(text.contains("64.0 MiB"), "{text}");
        found.rate_limit = Some(RateLimit::Client);
        assert!(summary_line(&found).ends_with("; sustains 90000 events/s"));
    }
}
