//! The client's own error, as its check of itself found it: smaller differences are none.

use super::{CellSummary, FrameworkComparison, LaneSummary};
use benchd_core::{
    format::{count, number, percent},
    record::{Flag, FlagKind},
};
use benchd_journal::{ClientCalibration, RunInfo};

/// The client's own error of TTFT at so many streams, 99th percentile, milliseconds.
pub(super) fn ttft_error_ms(client: &ClientCalibration, streams: u32) -> Option<f64> {
    let at = client
        .points
        .iter()
        .find(|p| p.streams >= streams)
        .or(client.points.last())?;
    Some(at.ttft_error_us_p99.abs() / 1e3)
}

/// Flags cells whose figures the client's own error could have made what they are.
pub(super) fn flag(lanes: &mut [LaneSummary], comparisons: &[FrameworkComparison], info: Option<&RunInfo>) {
    flag_small_differences(lanes, info);
    for cell in lanes.iter_mut().flat_map(|lane| &mut lane.cells) {
        if let Some(text) = too_slow(cell, comparisons) {
            cell.flags.push(Flag::new(FlagKind::ClientTooSlow, text));
        }
    }
}

/// Probes of the load thread that its median lateness needs.
const PROBES: u64 = 30;
/// Share by which a figure may be off where it is not compared with another.
const LATE_SHARE: f64 = 0.05;

/// What the load thread's lateness did to a cell's figures, where that is as much as what they are compared by. Arrivals
/// carry the kernel's time, so it makes no answer look late: it sends late. In a closed loop a stream is idle for as long,
/// in an open loop times count from when the request was due.
fn too_slow(cell: &CellSummary, comparisons: &[FrameworkComparison]) -> Option<String> {
    let lag = &cell.client;
    let late_ms = lag.p50_us as f64 / 1e3;
    let open_loop = cell.asked_requests_per_s.is_some();
    let (figure, says, of) = if open_loop {
        ("ttft_ms", "TTFT and latency are", cell.ttft_ms.as_ref()?)
    } else {
        (
            "output_tokens_per_s",
            "output tokens/s is",
            cell.latency_ms.as_ref()?,
        )
    };
    if lag.probes < PROBES || of.p50 <= 0.0 {
        return None;
    }
    let share = late_ms / of.p50;
    let mut nearest: Option<(f64, &str)> = None;
    for pair in comparisons.iter().filter(|c| c.model == cell.lane.model) {
        let other = match &cell.lane.framework {
            name if *name == pair.baseline => &pair.framework,
            name if *name == pair.framework => &pair.baseline,
            _ => continue,
        };
        let of_cell = pair.cells.iter().filter(|c| c.cell == cell.cell);
        for difference in of_cell.filter_map(|c| c.figures.get(figure)) {
            let by = difference.ratio.ln().abs().exp_m1();
            if difference.differs == Some(true) && nearest.is_none_or(|(least, _)| by < least) {
                nearest = Some((by, other));
            }
        }
    }
    (share >= nearest.map_or(LATE_SHARE, |(by, _)| by)).then(|| {
        let against = nearest.map_or(String::new(), |(by, other)| {
            format!("; the difference from {other} is {}", percent(by))
        });
        format!(
            "requests were sent {} ms late (median of {} probes of the load thread): {says} off by up to {}{against}",
            number(late_ms),
            count(lag.probes),
            percent(share)
        )
    })
}

/// Flags cells of different frameworks whose TTFT differ by less than the client's own error.
fn flag_small_differences(lanes: &mut [LaneSummary], info: Option<&RunInfo>) {
    let Some(client) = info.and_then(|i| i.client.as_ref()) else {
        return;
    };
    let error_ms = |streams: u32| ttft_error_ms(client, streams);
    let medians: Vec<_> = lanes
        .iter()
        .flat_map(|l| {
            l.cells
                .iter()
                .map(move |c| (l.lane.clone(), c.cell.clone(), c.ttft_ms.as_ref().map(|d| d.p50)))
        })
        .collect();
    for lane in lanes {
        for cell in &mut lane.cells {
            let (Some(own), Some(error)) = (cell.ttft_ms.as_ref().map(|d| d.p50), error_ms(cell.concurrency))
            else {
                continue;
            };
            let close = medians.iter().find(|(other, id, p50)| {
                other.framework != lane.lane.framework
                    && (other.model.as_str(), other.round) == (lane.lane.model.as_str(), lane.lane.round)
                    && *id == cell.cell
                    && p50.is_some_and(|p50| (p50 - own).abs() < error)
            });
            if let Some((other, ..)) = close {
                let text = format!("TTFT differs from {} by less than {error:.3} ms", other.framework);
                cell.flags.push(Flag::new(FlagKind::BelowClientError, text));
            }
        }
    }
}
