//! How late the load thread is: a probe that knows when it should have been woken.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::batch::ReadLag;
use super::timer::PreciseTimer;
use benchd_core::record::ClientLag;
use benchd_core::record::micros;

/// Time between two probes. Not a divisor of the periods that servers like, so that the probe does not
/// always fall between their tokens.
const PROBE_PERIOD: Duration = Duration::from_micros(9_700);

/// Latenesses above this are stored as this, microseconds.
const MAX_LAG_US: u64 = 60_000_000;

/// Lateness of the load thread, in microseconds.
#[derive(Debug, Clone)]
pub(super) struct LagHistogram(Histogram<u64>);

impl LagHistogram {
    /// # Errors
    /// The bounds are refused (they are constants, so it does not happen).
    pub(super) fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self(Histogram::new_with_bounds(1, MAX_LAG_US, 3)?))
    }

    pub(super) fn record(&mut self, late: Duration) {
        self.0.saturating_record(micros(late));
    }

    /// The summary, without CPU time and events.
    pub(super) fn summary(&self) -> ClientLag {
        ClientLag {
            probes: self.0.len(),
            p50_us: self.0.value_at_quantile(0.5),
            p99_us: self.0.value_at_quantile(0.99),
            max_us: self.0.max(),
            ..ClientLag::default()
        }
    }
}

/// Reads, and how late those were of which the kernel gave the time of arrival.
#[derive(Debug)]
pub(super) struct ReadLags {
    reads: u64,
    stamped: LagHistogram,
}

impl ReadLags {
    /// # Errors
    /// As [`LagHistogram::new`].
    pub(super) fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            reads: 0,
            stamped: LagHistogram::new()?,
        })
    }

    pub(super) fn note(&mut self, lag: Option<Duration>) {
        self.reads += 1;
        if let Some(lag) = lag {
            self.stamped.record(lag);
        }
    }

    pub(super) fn summary(&self) -> ReadLag {
        let ClientLag {
            probes: stamped,
            p50_us,
            p99_us,
            max_us,
            ..
        } = self.stamped.summary();
        ReadLag {
            reads: self.reads,
            stamped,
            p50_us,
            p99_us,
            max_us,
        }
    }
}

/// Probes until dropped. A wake-up that was missed altogether, because the thread was busy over several
/// periods, counts once for each period, each from its own due time: one long stall weighs as much as it
/// would have weighed on the requests.
pub(super) async fn probe(timer: PreciseTimer, lag: &std::sync::Mutex<LagHistogram>) -> std::io::Error {
    let mut due = Instant::now() + PROBE_PERIOD;
    loop {
        if let Err(error) = timer.sleep_until(due).await {
            return error;
        }
        let now = Instant::now();
        let mut lag = lag.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while due <= now {
            lag.record(now - due);
            due += PROBE_PERIOD;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_stall_counts_for_every_period_it_covers() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let lag = Mutex::new(LagHistogram::new().unwrap());
        let stall = PROBE_PERIOD * 10;
        runtime.block_on(async {
            let timer = PreciseTimer::new().unwrap();
            tokio::select! {
                error = probe(timer, &lag) => panic!("{error}"),
                () = async {
                    tokio::task::yield_now().await;
                    std::thread::sleep(stall);
                    // The probe runs before this task is polled again: the stall was over long before.
                    tokio::time::sleep(PROBE_PERIOD).await;
                } => {}
            }
        });
        let summary = lag.lock().unwrap().summary();
        assert!(summary.probes >= 9, "{summary:?}");
        assert!(summary.max_us >= micros(stall - PROBE_PERIOD), "{summary:?}");
        assert!(summary.p50_us >= micros(stall / 4), "{summary:?}");
        assert!(summary.p99_us <= summary.max_us);
    }
}
