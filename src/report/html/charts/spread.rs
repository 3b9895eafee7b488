//! Whole distributions: what share of the requests was at or below a value.

use super::{
    super::super::number::{count, number, percentile},
    Drawn,
    keys::{Key, Keys},
    plot::{Axis, Plot, kind_note, scale_for},
    scale::Scale,
    values::{ModelView, Setting},
};
use crate::{
    analysis::{SPREAD_PERCENTILES, Spread},
    plan::ScenarioKind,
    stats::is_certain,
};

/// Cells of a scenario that are shown.
const CELLS: usize = 3;
/// Largest over smallest value from which on the axis has equal ratios.
const WIDE: f64 = 25.0;

/// TTFT and latency of a scenario's first, middle and last cell.
pub(super) fn distributions(view: &ModelView<'_>, keys: &Keys, id: &str, kind: ScenarioKind) -> Option<Drawn> {
    let all: Vec<&Setting<'_>> = view.settings.iter().filter(|s| s.kind == kind).collect();
    let mut chosen: Vec<&Setting<'_>> = if all.len() <= CELLS {
        all
    } else {
        let last = all.len() - 1;
        [0, last / 2, last].into_iter().map(|i| all[i]).collect()
    };
    chosen.dedup_by_key(|s| s.cell);
    let mut drawn = Drawn::default();
    for setting in chosen {
        let at = |drawn: &Drawn| format!("{id}-{}", drawn.panels.len());
        let here = at(&drawn);
        drawn.add(draw(keys, &here, &format!("TTFT, {}", setting.cell), setting, |s| s.ttft_ms.as_ref()));
        let here = at(&drawn);
        drawn.add(draw(keys, &here, &format!("Latency, {}", setting.cell), setting, |s| {
            s.latency_ms.as_ref()
        }));
    }
    drawn.some()
}

fn draw(
    keys: &Keys,
    id: &str,
    title: &str,
    setting: &Setting<'_>,
    find: impl Fn(&crate::analysis::CellSeries) -> Option<&Spread>,
) -> Option<(String, Vec<Key>)> {
    let spreads: Vec<(Key, &str, Vec<&Spread>)> = keys
        .ordered(setting.frameworks.keys().copied())
        .into_iter()
        .map(|(key, name)| {
            let of = setting.frameworks[name].iter().filter_map(|m| find(m.series?));
            (key, name, of.filter(|s| s.n > 0).collect::<Vec<_>>())
        })
        .filter(|(_, _, spreads)| !spreads.is_empty())
        .collect();
    let values = || spreads.iter().flat_map(|(_, _, s)| s).flat_map(|s| s.values.iter().copied());
    if spreads.is_empty() {
        return None;
    }
    let x_scale = scale_for(values(), WIDE);
    let label = format!("ms{}", kind_note(&x_scale));
    let x = Axis::new(&label, x_scale);
    let y = Axis::new("share of the requests at or below", Scale::linear(0.0, 100.0))
        .at(&[0.0, 25.0, 50.0, 75.0, 95.0])
        .unit(" %");
    let mut plot = Plot::new(title, &x, &y, false);
    let mut said = Vec::new();
    for (key, name, of_runs) in &spreads {
        for spread in of_runs {
            plot.line(*key, &steps(spread, plot.x.low), if of_runs.len() > 1 { "ln thin" } else { "ln" });
        }
        for (run, spread) in of_runs.iter().enumerate() {
            let of_run = if of_runs.len() > 1 {
                format!(", run {}", run + 1)
            } else {
                String::new()
            };
            for (percent, value) in SPREAD_PERCENTILES.into_iter().zip(spread.percentiles) {
                let certain = percent <= 50.0 || is_certain(percent, spread.n as usize);
                let tip = format!(
                    "{name}{of_run}\np{percent} of {} requests: {} ms\n{}",
                    count(spread.n),
                    percentile(value, certain),
                    setting.cell
                );
                plot.point(*key, (value, percent), None, &tip);
            }
        }
        if let Some(spread) = of_runs.first() {
            if let (Some(low), Some(high)) = (spread.values.first(), spread.values.last()) {
                let median = spread.percentiles[1];
                said.push(format!("{name}: {} to {}, median {}", number(*low), number(*high), number(median)));
            }
        }
    }
    let description = format!("Cumulative distribution, ms. {}.", said.join("; "));
    Some((plot.finish(id, &description), spreads.iter().map(|s| s.0).collect()))
}

/// The steps of a distribution, from 0 % at its smallest value.
fn steps(spread: &Spread, low: f64) -> Vec<(f64, f64)> {
    let mut points = Vec::with_capacity(2 * spread.values.len() + 1);
    let mut share = 0.0;
    if let Some(first) = spread.values.first() {
        points.push((first.max(low), 0.0));
    }
    for (i, value) in spread.values.iter().enumerate() {
        let next = spread.share(i) * 100.0;
        points.push((*value, share));
        points.push((*value, next));
        share = next;
    }
    points.dedup();
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_rise_at_the_values() {
        let spread = Spread {
            values: vec![10.0, 20.0, 20.0, 50.0],
            n: 4,
            percentiles: [17.5, 20.0, 27.5, 45.5],
        };
        assert_eq!(
            steps(&spread, 0.0),
            [
                (10.0, 0.0),
                (10.0, 25.0),
                (20.0, 25.0),
                (20.0, 50.0),
                (20.0, 75.0),
                (50.0, 75.0),
                (50.0, 100.0)
            ]
        );
    }
}
