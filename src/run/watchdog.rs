//! What shows systemd's watchdog that the run makes progress.
//!
//! Whoever gets the run forward pings: the loop of lanes, a cell whose requests go on, a wait that has not passed its
//! own limit. A thread looks at the number of pings and tells systemd only where it grew. So a run whose task hangs
//! starves the watchdog, though its threads live.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What a bounded wait may take beyond its own limit before it counts as a hang.
const HANG_MARGIN: Duration = Duration::from_secs(60);

/// How often a bounded wait pings.
const PING_PERIOD: Duration = Duration::from_millis(250);

/// Counts what gets the run forward; clones count together.
#[derive(Debug, Clone, Default)]
pub(super) struct Watchdog(Arc<AtomicU64>);

impl Watchdog {
    /// The run got forward.
    pub(super) fn ping(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn pings(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for something that has to end within `limit`. It pings until then, in the task that waits; what takes
    /// longer by more than a margin is a hang, and pings no more.
    pub(super) async fn wait<F: Future>(&self, limit: Duration, work: F) -> F::Output {
        self.ping_for(limit + HANG_MARGIN, work).await
    }

    async fn ping_for<F: Future>(&self, time: Duration, work: F) -> F::Output {
        let began = Instant::now();
        let mut work = std::pin::pin!(work);
        let mut tick = tokio::time::interval(PING_PERIOD);
        loop {
            tokio::select! {
                done = &mut work => {
                    self.ping();
                    return done;
                }
                _ = tick.tick() => {
                    if began.elapsed() <= time {
                        self.ping();
                    }
                }
            }
        }
    }
}

/// Pings for something that shows its progress as a number, until the number has stood still for too long.
#[derive(Debug)]
pub(super) struct ProgressPings {
    watchdog: Watchdog,
    limit: Duration,
    last: Mutex<(u64, Instant)>,
}

impl ProgressPings {
    /// From now on. The number stands still for `limit` at the longest while all is well.
    pub(super) fn new(watchdog: Watchdog, limit: Duration) -> Self {
        Self {
            watchdog,
            limit: limit + HANG_MARGIN,
            last: Mutex::new((0, Instant::now())),
        }
    }

    /// The number is this now.
    pub(super) fn at(&self, number: u64) {
        if self.goes_on(number, Instant::now()) {
            self.watchdog.ping();
        }
    }

    fn goes_on(&self, number: u64, now: Instant) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 != number {
            *last = (number, now);
        }
        now.saturating_duration_since(last.1) <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_pings_up_to_its_limit_and_no_longer() {
        let watchdog = Watchdog::default();
        // Ends only because the wait itself pings.
        let until_pinged = async {
            while watchdog.pings() == 0 {
                tokio::task::yield_now().await;
            }
        };
        watchdog.wait(Duration::from_secs(3600), until_pinged).await;

        let before = watchdog.pings();
        let longer_than_its_limit = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            watchdog.pings()
        };
        let at_its_end = watchdog.ping_for(Duration::ZERO, longer_than_its_limit).await;
        assert_eq!(at_its_end, before, "past the limit nothing pings");
        assert_eq!(watchdog.pings(), before + 1, "its end does");
    }

    #[test]
    fn progress_stops_when_its_number_stands_still() {
        let s = Duration::from_secs;
        let progress = ProgressPings::new(Watchdog::default(), s(10));
        let start = progress.last.lock().unwrap().1;
        let limit = s(10) + HANG_MARGIN;
        assert!(progress.goes_on(0, start + limit));
        assert!(!progress.goes_on(0, start + limit + s(1)));
        assert!(progress.goes_on(1, start + limit + s(2)));
        assert!(progress.goes_on(1, start + limit * 2 + s(2)));
        assert!(!progress.goes_on(1, start + limit * 2 + s(3)));
    }
}
