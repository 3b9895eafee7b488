//! The search for the largest event rate that the client sustains. Pure.

use super::{SelfcheckError, judge::Judged, setting::Setting};
use benchd_core::stats::Sorted;
use benchd_journal::{ClientRate, RateLimit};
use benchd_load::BatchReport;

/// The client sustains a rate while the 99th percentile of how late it reads is at most this, microseconds …
pub(crate) const READ_LAG_BOUND_US: f64 = 1_000.0;
/// … and its thread is busy for at most this share of the time.
pub(crate) const THREAD_SHARE_BOUND: f64 = 0.9;
/// The server keeps up while it sends at least this share of what it should. That it sends late, as long as it sends,
/// makes the client's work no easier.
const SERVER_SHARE_BOUND: f64 = 0.95;
/// First rate, events per second.
const FIRST: f64 = 10_000.0;
/// Lowest rate that is tried.
const LEAST: f64 = 500.0;
/// The search ends when the rates that bound the largest are as close as this.
const CLOSE: f64 = 1.2;

pub(super) fn judge(
    setting: Setting,
    judged: &Judged,
    report: &BatchReport,
) -> Result<ClientRate, SelfcheckError> {
    let late = Sorted::new(judged.server_late.clone()).ok_or(SelfcheckError::Empty)?;
    let events_per_s = judged.tokens() as f64 / judged.span_s;
    let cpu_us_per_event = report.lag.cpu_us as f64 / report.lag.events.max(1) as f64;
    let mut rate = ClientRate {
        streams: setting.streams,
        offered_per_s: setting.offered_per_s(),
        events_per_s,
        read_lag_us_p99: report.reads.p99_us as f64,
        load_thread_share: cpu_us_per_event * events_per_s / 1e6,
        cpu_us_per_event,
        server_late_us_p99: late.percentile(99.0),
        sustained: false,
    };
    rate.sustained = Verdict::of(&rate) != Verdict::ClientLate;
    Ok(rate)
}

/// Who could not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Sustained,
    /// The client: a larger rate needs no look.
    ClientLate,
    /// The server only: the client sustained what came, and can't be asked for more.
    ServerLate,
}

impl Verdict {
    pub(super) fn of(rate: &ClientRate) -> Self {
        if rate.read_lag_us_p99 > READ_LAG_BOUND_US || rate.load_thread_share > THREAD_SHARE_BOUND {
            Self::ClientLate
        } else if rate.events_per_s < rate.offered_per_s * SERVER_SHARE_BOUND {
            Self::ServerLate
        } else {
            Self::Sustained
        }
    }
}

/// Doubles until it is too much (or quarters until it is not), then halves the distance. Ends at once where the server can't send faster.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Search {
    /// Largest rate that went well.
    good: Option<f64>,
    /// Smallest rate that did not, and whose limit it was.
    bad: Option<(f64, RateLimit)>,
    /// A rate at which the client was late once. Whatever else the machine did in that moment, it has a second try.
    doubtful: Option<f64>,
    out_of_time: bool,
}

impl Search {
    /// The next rate to try; `None` at the end.
    pub(super) fn next(&self) -> Option<f64> {
        if self.doubtful.is_some() {
            return self.doubtful;
        }
        match (self.good, self.bad) {
            (None, None) => Some(FIRST),
            (Some(good), None) => Some(good * 2.0),
            (_, Some((_, RateLimit::Server))) => None,
            (None, Some((bad, _))) => Some(bad / 4.0).filter(|rate| *rate >= LEAST),
            (Some(good), Some((bad, _))) => (bad / good > CLOSE).then(|| (good * bad).sqrt()),
        }
    }

    pub(super) fn tried(&mut self, offered: f64, verdict: Verdict) {
        let second = self.doubtful.take().is_some();
        match verdict {
            Verdict::Sustained => self.good = Some(offered),
            Verdict::ClientLate if !second => self.doubtful = Some(offered),
            Verdict::ClientLate => self.bad = Some((offered, RateLimit::Client)),
            Verdict::ServerLate => self.bad = Some((offered, RateLimit::Server)),
        }
    }

    pub(super) fn out_of_time(&mut self) {
        self.out_of_time = true;
    }

    /// What ended it: where something was too much, whose limit that was.
    pub(super) fn limit(&self) -> Option<RateLimit> {
        match self.bad {
            Some((_, limit)) => Some(limit),
            None => self.out_of_time.then_some(RateLimit::Time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(limit: f64, verdict: Verdict) -> (Search, Vec<f64>) {
        let (mut search, mut tried) = (Search::default(), Vec::new());
        while let Some(rate) = search.next() {
            tried.push(rate);
            assert!(tried.len() < 40, "{tried:?}");
            let what = if rate > limit { verdict } else { Verdict::Sustained };
            search.tried(rate, what);
        }
        (search, tried)
    }

    #[test]
    fn it_closes_in_on_the_limit_from_both_sides() {
        for limit in [1_500.0, 10_000.0, 11_000.0, 90_000.0, 3e6] {
            let (search, tried) = search(limit, Verdict::ClientLate);
            let good = search.good.unwrap();
            assert!(good <= limit && good > limit / CLOSE, "{limit}: {tried:?}");
            assert_eq!(search.limit(), Some(RateLimit::Client));
        }
        let (search, tried) = search(50_000.0, Verdict::ServerLate);
        assert_eq!(search.limit(), Some(RateLimit::Server));
        assert_eq!(tried, [10_000.0, 20_000.0, 40_000.0, 80_000.0]);
    }

    #[test]
    fn one_bad_moment_of_the_machine_does_not_lower_the_rate() {
        let mut search = Search::default();
        search.tried(10_000.0, Verdict::ClientLate);
        assert_eq!(search.next(), Some(10_000.0));
        search.tried(10_000.0, Verdict::Sustained);
        assert_eq!(search.next(), Some(20_000.0));
        assert_eq!(search.limit(), None);
    }

    #[test]
    fn a_client_that_sustains_nothing_is_not_searched_for_ever() {
        let (search, tried) = search(10.0, Verdict::ClientLate);
        assert_eq!(search.good, None);
        let rates = [10_000.0, 2_500.0, 625.0];
        assert_eq!(tried, rates.map(|rate| [rate; 2]).concat());
    }

    #[test]
    fn the_client_is_blamed_first_and_the_server_only_when_the_client_kept_up() {
        let rate = ClientRate {
            streams: 64,
            offered_per_s: 10_000.0,
            events_per_s: 10_000.0,
            read_lag_us_p99: 1_000.0,
            load_thread_share: 0.9,
            cpu_us_per_event: 4.0,
            server_late_us_p99: 1_000.0,
            sustained: true,
        };
        let of = |change: &dyn Fn(&mut ClientRate)| {
            let mut rate = rate.clone();
            change(&mut rate);
            Verdict::of(&rate)
        };
        assert_eq!(of(&|_| {}), Verdict::Sustained);
        assert_eq!(of(&|r| r.read_lag_us_p99 = 1_001.0), Verdict::ClientLate);
        assert_eq!(of(&|r| r.load_thread_share = 0.91), Verdict::ClientLate);
        assert_eq!(of(&|r| r.events_per_s = 9_400.0), Verdict::ServerLate);
        // Late or not, it sends.
        assert_eq!(of(&|r| r.server_late_us_p99 = 9_000.0), Verdict::Sustained);
        let both = |r: &mut ClientRate| (r.read_lag_us_p99, r.events_per_s) = (5_000.0, 100.0);
        assert_eq!(of(&both), Verdict::ClientLate);
    }
}
