//! When to sample, and which errors are worth a line: both without clocks or I/O.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::error::{CallError, CallErrorKind};

/// A grid of absolute times: tick `n` is due at `start + n × period`, however long earlier ticks took, so the
/// samples of a night don't drift. A tick whose time has passed before it could begin is skipped and counted.
#[derive(Debug)]
pub(super) struct Ticks {
    start: Instant,
    period: Duration,
    next: u64,
}

impl Ticks {
    /// The first tick is due at `start`.
    pub(super) fn new(start: Instant, period: Duration) -> Self {
        Self {
            start,
            period,
            next: 0,
        }
    }

    /// When the next tick is due.
    pub(super) fn due(&self) -> Instant {
        self.start + mul(self.period, self.next)
    }

    /// The tick that was due is done, and it is `now`: goes on to the next one that is not yet past, and tells
    /// how many were skipped.
    pub(super) fn advance(&mut self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start);
        let passed = u64::try_from(elapsed.as_nanos() / self.period.as_nanos().max(1)).unwrap_or(u64::MAX);
        // A tick due exactly now can still be kept.
        let reachable = if mul(self.period, passed) == elapsed {
            passed
        } else {
            passed.saturating_add(1)
        };
        let following = self.next + 1;
        self.next = reachable.max(following);
        self.next - following
    }
}

fn mul(period: Duration, times: u64) -> Duration {
    let nanos = period.as_nanos().saturating_mul(u128::from(times));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A repeated error gets a line at its first occurrence, when its words change, and then once per this many
/// (a minute at the default period).
const REPEATS_PER_LINE: u64 = 600;

/// Keeps errors from filling the samples: each is counted, few are written.
#[derive(Debug, Default)]
pub(super) struct ErrorLog {
    seen: BTreeMap<(u32, &'static str), Seen>,
}

#[derive(Debug)]
struct Seen {
    detail: String,
    unwritten: u64,
    total: u64,
}

impl ErrorLog {
    /// Counts `error` of `device`; the line to write, if it is time for one. A value that the device does not
    /// have gets one line only.
    pub(super) fn note(&mut self, device: u32, error: &CallError) -> Option<String> {
        let seen = self.seen.entry((device, error.call)).or_insert_with(|| Seen {
            detail: String::new(),
            unwritten: 0,
            total: 0,
        });
        seen.total += 1;
        if seen.detail != error.detail {
            seen.detail.clone_from(&error.detail);
            seen.unwritten = 0;
            return Some(error.to_string());
        }
        seen.unwritten += 1;
        if error.kind == CallErrorKind::Unsupported || seen.unwritten < REPEATS_PER_LINE {
            return None;
        }
        let repeats = std::mem::take(&mut seen.unwritten);
        Some(format!("{error} ({repeats} times more)"))
    }

    /// How often each call failed, by `device N call`.
    pub(super) fn totals(&self) -> BTreeMap<String, u64> {
        self.seen
            .iter()
            .map(|((device, call), seen)| (format!("device {device} {call}"), seen.total))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(100);

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn ticks_stay_on_the_grid_however_late_each_was() {
        let start = Instant::now();
        let mut ticks = Ticks::new(start, PERIOD);
        for n in 0..1000_u64 {
            assert_eq!(ticks.due(), at(start, 100 * n));
            // Each tick ends 1 to 99 ms after it was due.
            assert_eq!(ticks.advance(at(start, 100 * n + 1 + n % 99)), 0);
        }
    }

    #[test]
    fn ticks_that_have_passed_are_skipped_and_counted() {
        let start = Instant::now();
        let mut ticks = Ticks::new(start, PERIOD);
        assert_eq!(ticks.advance(at(start, 350)), 3);
        assert_eq!(ticks.due(), at(start, 400));
        assert_eq!(ticks.advance(at(start, 500)), 0, "a tick due exactly now is kept");
        assert_eq!(ticks.due(), at(start, 500));
    }

    #[test]
    fn a_tick_done_early_does_not_come_again() {
        let start = Instant::now();
        let mut ticks = Ticks::new(start, PERIOD);
        assert_eq!(ticks.advance(start), 0);
        assert_eq!(ticks.due(), at(start, 100));
    }

    fn error(kind: CallErrorKind, detail: &str) -> CallError {
        CallError {
            call: "nvmlDeviceGetPowerUsage",
            kind,
            detail: detail.to_owned(),
        }
    }

    #[test]
    fn the_same_error_is_written_once_and_counted() {
        let mut log = ErrorLog::default();
        let timeout = error(CallErrorKind::Other, "timeout");
        assert_eq!(
            log.note(0, &timeout).as_deref(),
            Some("nvmlDeviceGetPowerUsage: timeout")
        );
        for _ in 1..REPEATS_PER_LINE {
            assert_eq!(log.note(0, &timeout), None);
        }
        assert_eq!(
            log.note(0, &timeout).as_deref(),
            Some("nvmlDeviceGetPowerUsage: timeout (600 times more)")
        );
        assert!(
            log.note(1, &timeout).is_some(),
            "another device has lines of its own"
        );
        assert!(
            log.note(0, &error(CallErrorKind::Other, "unknown")).is_some(),
            "other words are news"
        );
        assert_eq!(
            log.totals()["device 0 nvmlDeviceGetPowerUsage"],
            REPEATS_PER_LINE + 2
        );
    }

    #[test]
    fn what_a_device_does_not_have_is_said_once() {
        let mut log = ErrorLog::default();
        let missing = error(CallErrorKind::Unsupported, "not supported");
        assert!(log.note(0, &missing).is_some());
        assert!((0..10 * REPEATS_PER_LINE).all(|_| log.note(0, &missing).is_none()));
    }
}
