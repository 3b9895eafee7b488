//! Whole distributions: what share of the requests was at or below a value.

use super::{
    super::super::number::{count, number, percentile},
    Drawn,
    keys::{Key, Keys},
    plot::{Axis, Plot, kind_note, scale_for},
    scale::{Kind, Scale},
    values::{ModelView, Setting},
};
use benchd_analysis::{SPREAD_PERCENTILES, Spread};
use benchd_core::stats::is_certain;
use benchd_plan::ScenarioKind;

/// Cells of a scenario that are shown.
const CELLS: usize = 3;
/// Largest over smallest value from which on the axis has equal ratios.
const WIDE: f64 = 25.0;

/// TTFT and latency of a scenario's first, middle and last cell.
pub(super) fn distributions(
    view: &ModelView<'_>,
    keys: &Keys,
    id: &str,
    kind: ScenarioKind,
) -> Option<Drawn> {
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
        drawn.add(draw(
            keys,
            &here,
            &format!("TTFT, {}", setting.cell),
            setting,
            |s| s.ttft_ms.as_ref(),
        ));
        let here = at(&drawn);
        drawn.add(draw(
            keys,
            &here,
            &format!("Latency, {}", setting.cell),
            setting,
            |s| s.latency_ms.as_ref(),
        ));
    }
    drawn.some()
}

fn draw(
    keys: &Keys,
    id: &str,
    title: &str,
    setting: &Setting<'_>,
    find: impl Fn(&benchd_analysis::CellSeries) -> Option<&Spread>,
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
    let values = || {
        spreads
            .iter()
            .flat_map(|(_, _, s)| s)
            .flat_map(|s| s.values.iter().copied())
    };
    if spreads.is_empty() {
        return None;
    }
    let (x_scale, label) = axis_for(values());
    let x = Axis::new(&label, x_scale);
    let y = Axis::new("share of the requests at or below", Scale::linear(0.0, 100.0))
        .at(&[0.0, 25.0, 50.0, 75.0, 95.0])
        .unit(" %");
    let mut plot = Plot::new(title, &x, &y, []);
    let mut said = Vec::new();
    for (key, name, of_runs) in &spreads {
        for spread in of_runs {
            plot.line(
                *key,
                &curve(spread),
                if of_runs.len() > 1 { "ln thin" } else { "ln" },
            );
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
        if let Some(spread) = of_runs.first()
            && let (Some(low), Some(high)) = (spread.values.first(), spread.values.last())
        {
            let median = spread.percentiles[1];
            said.push(format!(
                "{name}: {} to {}, median {}",
                number(*low),
                number(*high),
                number(median)
            ));
        }
    }
    let description = format!("Cumulative distribution, ms. {}.", said.join("; "));
    Some((
        plot.finish(id, &description),
        spreads.iter().map(|s| s.0).collect(),
    ))
}

/// The percentiles of a distribution, so that the points of the tables lie on it.
fn curve(spread: &Spread) -> Vec<(f64, f64)> {
    let at = |(i, value): (usize, &f64)| (*value, spread.percentile_of(i));
    spread.values.iter().enumerate().map(at).collect()
}

/// The axis of a distribution. It need not begin at 0, since no length stands for a value; it does where that costs
/// little room.
fn axis_for(values: impl Iterator<Item = f64> + Clone) -> (Scale, String) {
    /// Share of the largest value up to which the smallest is near enough to 0.
    const NEAR: f64 = 0.3;
    let scale = scale_for(values.clone(), WIDE);
    let (low, high) = values.fold((f64::INFINITY, 0.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
    if scale.kind == Kind::Linear && low > NEAR * high {
        let room = ((high - low) * 0.06).max(high * 0.01);
        (
            Scale::linear(low - room, high + room),
            "ms, axis not from 0".to_owned(),
        )
    } else {
        (scale, format!("ms{}", kind_note(&scale)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentiles_lie_on_the_curve() {
        let spread = Spread {
            values: vec![10.0, 20.0, 20.0, 30.0, 50.0],
            n: 5,
            percentiles: [20.0, 20.0, 30.0, 46.0],
        };
        assert_eq!(
            curve(&spread),
            [
                (10.0, 0.0),
                (20.0, 25.0),
                (20.0, 50.0),
                (30.0, 75.0),
                (50.0, 100.0)
            ]
        );
    }

    #[test]
    fn an_axis_says_where_it_does_not_begin_at_0() {
        let (scale, label) = axis_for([90.0, 100.0].into_iter());
        assert!(
            scale.low > 80.0 && label.contains("not from 0"),
            "{scale:?} {label}"
        );
        let (scale, label) = axis_for([10.0, 100.0].into_iter());
        assert_eq!((scale.low, label.as_str()), (0.0, "ms"));
        let (scale, label) = axis_for([1.0, 100.0].into_iter());
        assert_eq!((scale.kind, label.as_str()), (Kind::Log, "ms, log scale"));
    }
}
