//! The client's own error, as its check of itself found it: smaller differences are none.

use super::LaneSummary;
use benchd_core::record::{Flag, FlagKind};
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

/// Flags cells of different frameworks whose TTFT differ by less than the client's own error.
pub(super) fn flag_small_differences(lanes: &mut [LaneSummary], info: Option<&RunInfo>) {
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
