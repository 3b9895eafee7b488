//! How long the rest of a run will take: the plan's estimate, corrected by what was seen so far.

use std::time::Duration;

use benchd_plan::{Cell, Estimate, Lane, LaneEstimate};

/// Keeps the estimate honest. Work is counted in estimated seconds; what has been done tells how far off the
/// estimate is on this machine.
pub(super) struct Remaining {
    lanes: Vec<LaneEstimate>,
    estimated_left_s: f64,
    estimated_done_s: f64,
    actual_done_s: f64,
}

/// Estimated seconds of finished work below which the plan's own estimate counts alone.
const TRUST_OWN_SPEED_AFTER_S: f64 = 5.0;

impl Remaining {
    pub(super) fn new(estimate: Estimate) -> Self {
        Self {
            lanes: estimate.lanes,
            estimated_left_s: estimate.total.as_secs_f64(),
            estimated_done_s: 0.0,
            actual_done_s: 0.0,
        }
    }

    /// A cell's share of its scenario's estimate in the lane of this index.
    pub(super) fn estimate_of(&self, lane_index: usize, lane: &Lane, cell: &Cell) -> Duration {
        let of_scenario = |other: &&Cell| other.scenario == cell.scenario;
        let cells = lane.cells.iter().filter(of_scenario).count().max(1);
        let whole = self
            .lanes
            .get(lane_index)
            .and_then(|lane| lane.scenarios.iter().find(|(name, _)| *name == cell.scenario))
            .map_or(Duration::ZERO, |(_, time)| *time);
        whole / u32::try_from(cells).unwrap_or(u32::MAX)
    }

    /// A piece of work estimated at `estimated` took `actual`.
    pub(super) fn finished(&mut self, estimated: Duration, actual: Duration) {
        self.estimated_left_s = (self.estimated_left_s - estimated.as_secs_f64()).max(0.0);
        self.estimated_done_s += estimated.as_secs_f64();
        self.actual_done_s += actual.as_secs_f64();
    }

    /// A piece of work estimated at `estimated` will not be done.
    pub(super) fn dropped(&mut self, estimated: Duration) {
        self.estimated_left_s = (self.estimated_left_s - estimated.as_secs_f64()).max(0.0);
    }

    pub(super) fn left(&self) -> Duration {
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
        let mut rest = Remaining::new(Estimate {
            lanes: Vec::new(),
            total: s(100),
        });
        assert_eq!(rest.left(), s(100));
        rest.finished(s(20), s(40));
        assert_eq!(rest.left(), s(160));
        rest.dropped(s(30));
        assert_eq!(rest.left(), s(100));
        rest.finished(s(60), s(60));
        assert_eq!(rest.left(), s(0));
    }
}
