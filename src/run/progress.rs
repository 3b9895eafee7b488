//! What is shown of a cell on its way, and what feeds the watchdog meanwhile.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

use super::{
    Pace, Tone,
    lane::{HANG_MARGIN, LaneWork},
    lanes::say,
};
use crate::scenario::CellProgress;
use benchd_analysis::{self, CellContext};
use benchd_plan::{Arrival, Cell};
use benchd_report;

/// Feeds the watchdog while requests come to their ends: each has its limit, and in an open loop its gap.
pub(super) fn pulse(work: &LaneWork<'_, '_>, cell: &Cell) -> impl Fn(CellProgress) {
    let pace = Pace::new(
        work.shared.plan.request.timeout + longest_gap(cell.arrival) + HANG_MARGIN,
        Instant::now(),
    );
    let heart = work.shared.heart().clone();
    move |progress| {
        if pace.goes_on(progress.stored, Instant::now()) {
            heart.beat();
        }
    }
}

/// Mean gaps that a gap of an open loop never exceeds in practice: of exponential ones, once in 10^21.
const GAPS_AT_MOST: f64 = 50.0;

/// The longest gap between two sends to count with.
fn longest_gap(arrival: Arrival) -> Duration {
    let (rate_per_s, burstiness) = match arrival {
        Arrival::Closed => return Duration::ZERO,
        Arrival::Constant { rate_per_s } | Arrival::Poisson { rate_per_s } => (rate_per_s, 1.0),
        Arrival::Gamma {
            rate_per_s,
            burstiness,
        } => (rate_per_s, burstiness.min(1.0)),
    };
    Duration::try_from_secs_f64(GAPS_AT_MOST / rate_per_s / burstiness).unwrap_or(Duration::MAX / 4)
}

/// `about 2 h 05 m left, until 04:10`, by the machine's clock.
pub(super) fn until(left: Duration) -> String {
    let shown = super::short_duration(left);
    match jiff::ZonedDateTime::now().checked_add(left) {
        Ok(end) => format!("about {shown} left, until {}", end.strftime("%H:%M")),
        Err(_) => format!("about {shown} left"),
    }
}

pub(super) fn counts(progress: CellProgress) -> String {
    let failed = if progress.failed > 0 {
        format!(", {} failed", progress.failed)
    } else {
        String::new()
    };
    format!("{} of {}{failed}", progress.done, progress.total)
}

/// One line of result as each cell ends.
pub(super) fn tell(work: &LaneWork<'_, '_>, cell: &Cell) {
    let finished = work
        .shared
        .run
        .keeper
        .state()
        .finished(&work.lane.id, &cell.id)
        .cloned();
    let Some(finished) = finished else { return };
    // Only the figures are shown here; flags that need the GPU's samples or the prompts come with the report.
    let (none, no_sizes) = (BTreeSet::new(), HashMap::new());
    let context = CellContext {
        cell,
        timeout: work.shared.plan.request.timeout,
        template_tokens: None,
        model_id: None,
        not_controlled: false,
        gpu_expected: false,
        gpu: None,
        own_pids: &none,
        strangers: &none,
        max_events_per_s: None,
        prompts: &no_sizes,
    };
    match benchd_analysis::summarise_cell(work.shared.run.dir.root(), &finished, &context) {
        Ok(summary) => {
            let tone = if summary.failed > 0 {
                Tone::Warn
            } else {
                Tone::Good
            };
            say(
                work.shared.display,
                tone,
                &format!("  {}", benchd_report::cell_line(&summary)),
            );
        }
        Err(error) => say(work.shared.display, Tone::Bad, &format!("  {}  {error}", cell.id)),
    }
}

pub(super) fn estimated(work: &LaneWork<'_, '_>, cell: &Cell) -> Duration {
    let Some(lane) = work.shared.estimate.lanes.get(work.index) else {
        return Duration::ZERO;
    };
    let cells = work
        .lane
        .cells
        .iter()
        .filter(|other| other.scenario == cell.scenario)
        .count();
    let whole = lane
        .scenarios
        .iter()
        .find(|(name, _)| *name == cell.scenario)
        .map_or(Duration::ZERO, |(_, time)| *time);
    whole / u32::try_from(cells.max(1)).unwrap_or(u32::MAX)
}
