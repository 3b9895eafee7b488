//! Durations as people read them.

use std::time::Duration;

/// `1 h 05 m`, `3 m 20 s`, `12 s`: short and readable from afar.
pub(crate) fn short_duration(duration: Duration) -> String {
    let s = duration.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} m {:02} s", s / 60, s % 60),
        _ => format!("{} h {:02} m", s / 3600, s % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let shown = |s| short_duration(Duration::from_secs(s));
        assert_eq!(
            (shown(7), shown(200), shown(3900)),
            ("7 s".into(), "3 m 20 s".into(), "1 h 05 m".into())
        );
    }
}
