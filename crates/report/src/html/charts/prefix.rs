//! The shared prefix: TTFT by request number, the first against the later ones.

use super::{
    super::super::number::{count, number, with_interval},
    Drawn,
    keys::{Key, Keys},
    plot::{Axis, Plot, kind_note, scale_for},
    scale::Scale,
    values::{FIRST_TTFT, LATER_TTFT, ModelView, Setting},
};
use benchd_analysis::RequestPoint;
use benchd_plan::ScenarioKind;

/// Largest over smallest value from which on the axis has equal ratios.
const WIDE: f64 = 12.0;

pub(super) fn by_request(view: &ModelView<'_>, keys: &Keys, id: &str) -> Option<Drawn> {
    let mut drawn = Drawn::default();
    let settings: Vec<&Setting<'_>> = view
        .settings
        .iter()
        .filter(|s| s.kind == ScenarioKind::PrefixCache)
        .collect();
    for setting in settings {
        let at = format!("{id}-{}", drawn.panels.len());
        drawn.add(along(view, keys, &at, setting));
        let at = format!("{id}-{}", drawn.panels.len());
        drawn.add(first_and_later(view, keys, &at, setting));
    }
    drawn.some()
}

/// TTFT request by request.
fn along(view: &ModelView<'_>, keys: &Keys, id: &str, setting: &Setting<'_>) -> Option<(String, Vec<Key>)> {
    let series: Vec<(Key, &str, &[RequestPoint])> = keys
        .ordered(setting.frameworks.keys().copied())
        .into_iter()
        .filter_map(|(key, name)| {
            let points = setting.series(name, |s| (!s.by_request.is_empty()).then_some(&s.by_request[..]))?;
            Some((key, name, points))
        })
        .collect();
    let last = series.iter().flat_map(|(_, _, p)| p.iter()).map(|p| p.to).max()?;
    let heights = series
        .iter()
        .flat_map(|(_, _, p)| p.iter())
        .flat_map(|p| [p.min_ms, p.max_ms]);
    let y_scale = scale_for(heights, WIDE);
    let runs = if view.repeated() { ", first run" } else { "" };
    let y_label = format!(
        "ms, median over passes; band: lowest to highest{}",
        kind_note(&y_scale)
    );
    let x = Axis::new(
        "request number in its pass",
        Scale::linear(0.0, f64::from(last) + 2.0),
    );
    let title = format!("TTFT by request, {}{runs}", setting.cell);
    let names = series.iter().map(|s| s.1);
    let mut plot = Plot::new(&title, &x, &Axis::new(&y_label, y_scale), names);
    let number_of = |p: &RequestPoint| f64::from(p.from + p.to) / 2.0 + 1.0;
    for (key, _, points) in &series {
        let band: Vec<_> = points
            .iter()
            .map(|p| (number_of(p), p.min_ms, p.max_ms))
            .collect();
        plot.area(*key, &band);
        let middle: Vec<_> = points.iter().map(|p| (number_of(p), p.median_ms)).collect();
        plot.line(*key, &middle, "ln");
    }
    let mut said = Vec::new();
    for (key, name, points) in &series {
        for point in *points {
            let requests = if point.from == point.to {
                format!("request {}", count(u64::from(point.from) + 1))
            } else {
                format!(
                    "requests {} to {}",
                    count(u64::from(point.from) + 1),
                    count(u64::from(point.to) + 1)
                )
            };
            let tip = format!(
                "{name}\nTTFT of {requests}: {} ms ({} to {}, {} values)\n{}",
                number(point.median_ms),
                number(point.min_ms),
                number(point.max_ms),
                count(point.n),
                setting.cell
            );
            if point.from == 0 {
                plot.point(*key, (number_of(point), point.median_ms), None, &tip);
            } else {
                plot.small_point(*key, (number_of(point), point.median_ms), &tip);
            }
        }
        if let (Some(first), Some(last)) = (points.first(), points.last()) {
            plot.end_label(*key, name, last.median_ms);
            said.push(format!(
                "{name}: {} first, {} last",
                number(first.median_ms),
                number(last.median_ms)
            ));
        }
    }
    let description = format!(
        "TTFT in ms by request number; the first is marked. {}.",
        said.join("; ")
    );
    Some((
        plot.finish(id, &description),
        series.iter().map(|s| s.0).collect(),
    ))
}

/// The first request's median beside the later ones', a slope a framework.
fn first_and_later(
    view: &ModelView<'_>,
    keys: &Keys,
    id: &str,
    setting: &Setting<'_>,
) -> Option<(String, Vec<Key>)> {
    let pairs: Vec<_> = keys
        .ordered(setting.frameworks.keys().copied())
        .into_iter()
        .filter_map(|(key, name)| {
            let first = view.value(setting, name, FIRST_TTFT)?;
            let later = view.value(setting, name, LATER_TTFT)?;
            Some((key, name, first, later))
        })
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let heights = pairs.iter().flat_map(|(_, _, first, later)| {
        [first, later].into_iter().flat_map(|v| {
            [
                v.value,
                v.interval.map_or(v.value, |i| i.high),
                v.interval.map_or(v.value, |i| i.low),
            ]
        })
    });
    let y_scale = scale_for(heights, WIDE);
    let y_label = format!("ms, median{}", kind_note(&y_scale));
    let title = format!("First and later TTFT, {}", setting.cell);
    let x = Axis::new("", Scale::linear(-0.35, 1.35));
    let mut plot = Plot::bare(
        &title,
        &x,
        &Axis::new(&y_label, y_scale),
        &[(0.0, "first request"), (1.0, "later requests")],
        pairs.iter().map(|p| p.1),
    );
    let mut said = Vec::new();
    let frameworks = pairs.len() as f64;
    for (i, (key, name, first, later)) in pairs.iter().enumerate() {
        // Side by side, so that intervals don't hide each other.
        let off = (i as f64 - (frameworks - 1.0) / 2.0) * 0.05;
        plot.line(*key, &[(off, first.value), (1.0 + off, later.value)], "ln");
        for (x, what, value) in [(off, "first", first), (1.0 + off, "later", later)] {
            let ratio = with_interval(later.value / first.value, None);
            let tip = format!(
                "{name}\nTTFT of {what} requests: {}\nlater over first: {ratio} (ratio of the medians)\n{}",
                value.say("ms"),
                setting.cell
            );
            plot.point(*key, (x, value.value), value.interval.as_ref(), &tip);
        }
        plot.end_label(*key, name, later.value);
        said.push(format!(
            "{name}: {} first, {} later",
            number(first.value),
            number(later.value)
        ));
    }
    let description = format!("Median TTFT in ms. {}.", said.join("; "));
    Some((plot.finish(id, &description), pairs.iter().map(|p| p.0).collect()))
}
