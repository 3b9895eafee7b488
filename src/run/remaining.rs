//! How long the rest of a run will take: the plan's estimate, corrected by what was seen so far.

use std::time::Duration;

/// Keeps the estimate honest. Work is counted in estimated seconds; what has been done tells how far off the
/// estimate is on this machine.
#[derive(Debug, Clone, Default)]
pub struct Remaining {
    estimated_left_s: f64,
    estimated_done_s: f64,
    actual_done_s: f64,
}

/// Estimated seconds of finished work below which the plan's own estimate counts alone.
const TRUST_OWN_SPEED_AFTER_S: f64 = 5.0;

impl Remaining {
    /// Starts with `total` estimated for everything.
    pub fn new(total: Duration) -> Self {
        Self {
            estimated_left_s: total.as_secs_f64(),
            ..Self::default()
        }
    }

    /// A piece of work estimated at `estimated` took `actual`.
    pub fn finished(&mut self, estimated: Duration, actual: Duration) {
        self.estimated_left_s = (self.estimated_left_s - estimated.as_secs_f64()).max(0.0);
        self.estimated_done_s += estimated.as_secs_f64();
        self.actual_done_s += actual.as_secs_f64();
    }

    /// A piece of work estimated at `estimated` will not be done.
    pub fn dropped(&mut self, estimated: Duration) {
        self.estimated_left_s = (self.estimated_left_s - estimated.as_secs_f64()).max(0.0);
    }

    /// The rest.
    pub fn left(&self) -> Duration {
        let factor = if self.estimated_done_s >= TRUST_OWN_SPEED_AFTER_S {
            self.actual_done_s / self.estimated_done_s
        } else {
            1.0
        };
        Duration::from_secs_f64((self.estimated_left_s * factor).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_follows_the_speed_seen() {
        let s = Duration::from_secs;
        let mut rest = Remaining::new(s(100));
        assert_eq!(rest.left(), s(100));
        rest.finished(s(20), s(40));
        assert_eq!(rest.left(), s(160));
        rest.dropped(s(30));
        assert_eq!(rest.left(), s(100));
        rest.finished(s(60), s(60));
        assert_eq!(rest.left(), s(0));
    }
}
