//! Figures against a setting: by input length, by concurrency.

use indexmap::IndexMap;

use super::{
    super::super::number::{count, number, percent},
    Drawn,
    keys::Keys,
    plot::{Axis, Plot, kind_note, scale_for},
    scale::Scale,
    values::{LATENCY, LATENCY_P95, ModelView, Quantity, REQUEST_RATE, Setting, THROUGHPUT, TTFT, Value},
};
use benchd_plan::ScenarioKind;

/// Largest over smallest value from which on an axis has equal ratios: below, a line from 0 shows both.
const WIDE: f64 = 30.0;

/// One framework's line: setting and value.
struct Line<'a> {
    framework: &'a str,
    points: Vec<(f64, Value, &'a str)>,
}

/// What a panel of lines shows.
struct Lines<'a> {
    title: String,
    y_label: String,
    x_label: &'static str,
    quantity: Quantity,
    /// Settings (x) with the cells that have them.
    settings: Vec<(f64, &'a Setting<'a>)>,
}

fn lines<'a>(view: &ModelView<'a>, keys: &Keys, of: &Lines<'a>) -> Vec<Line<'a>> {
    let names = of.settings.iter().flat_map(|(_, s)| s.frameworks.keys().copied());
    keys.ordered(names)
        .into_iter()
        .filter_map(|(_, framework)| {
            let mut points: Vec<_> = of
                .settings
                .iter()
                .filter_map(|(x, s)| Some((*x, view.value(s, framework, of.quantity)?, s.cell)))
                .collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            (!points.is_empty()).then_some(Line { framework, points })
        })
        .collect()
}

/// The tops of what a line draws.
fn extent<'a>(lines: &'a [Line<'_>]) -> impl Iterator<Item = f64> + Clone + 'a {
    lines.iter().flat_map(|l| &l.points).flat_map(|(_, v, _)| {
        let ends = v.interval.map_or([v.value; 2], |i| [i.low.max(0.0), i.high]);
        ends.into_iter().chain([v.value]).chain(v.each.iter().copied())
    })
}

fn draw(
    view: &ModelView<'_>,
    keys: &Keys,
    id: &str,
    of: &Lines<'_>,
    ideal: bool,
) -> Option<(String, Vec<super::keys::Key>)> {
    let lines = lines(view, keys, of);
    if lines.is_empty() {
        return None;
    }
    let mut at: Vec<f64> = lines.iter().flat_map(|l| &l.points).map(|p| p.0).collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    let (low, high) = (*at.first()?, *at.last()?);
    // Zeros (a framework that gave nothing) have no place among ratios.
    let positive = extent(&lines).all(|v| v > 0.0);
    let y_scale = scale_for(extent(&lines), if positive { WIDE } else { f64::INFINITY });
    let y_label = format!("{}{}", of.y_label, kind_note(&y_scale));
    let x = Axis::new(of.x_label, Scale::log(low, high)).at(&at);
    let names = lines.iter().map(|l| l.framework);
    let mut plot = Plot::new(&of.title, &x, &Axis::new(&y_label, y_scale), names);
    let mut said = Vec::new();
    for line in &lines {
        let key = keys.key(line.framework);
        if ideal && let Some((x0, first, _)) = line.points.first() {
            // Throughput that grows as the streams do, from the smallest setting, as far as the panel goes.
            let end = (plot.y.high / first.value * x0).min(high);
            let points: Vec<_> = (0..=24)
                .map(|i| x0 * (end / x0).powf(f64::from(i) / 24.0))
                .map(|x| (x, first.value * x / x0))
                .collect();
            if end > *x0 {
                plot.line(key, &points, "ideal");
            }
        }
        let points: Vec<_> = line.points.iter().map(|(x, v, _)| (*x, v.value)).collect();
        plot.line(key, &points, "ln");
    }
    for line in &lines {
        let key = keys.key(line.framework);
        for (x, value, cell) in &line.points {
            let tip = format!(
                "{}\n{}: {}\n{cell}",
                line.framework,
                of.title,
                value.say(of.quantity.unit)
            );
            for each in &value.each {
                plot.small_point(key, (*x, *each), &tip);
            }
            plot.point(key, (*x, value.value), value.interval.as_ref(), &tip);
        }
        if let Some((_, value, _)) = line.points.last() {
            plot.end_label(key, line.framework, value.value);
        }
        let values = line
            .points
            .iter()
            .map(|(x, v, _)| format!("{} at {}", number(v.value), number(*x)));
        said.push(format!(
            "{}: {}",
            line.framework,
            values.collect::<Vec<_>>().join(", ")
        ));
    }
    let description = format!("{} against {}. {}.", y_label, of.x_label, said.join("; "));
    let keys = lines.iter().map(|l| keys.key(l.framework)).collect();
    Some((plot.finish(id, &description), keys))
}

/// TTFT and throughput by input length, one pair of panels a concurrency. Those of one stream hold the single requests
/// as well.
pub(super) fn by_length(
    view: &ModelView<'_>,
    keys: &Keys,
    id: &str,
    kinds: &[ScenarioKind],
) -> Option<Drawn> {
    let mut by_streams: IndexMap<u32, Vec<(f64, &Setting<'_>)>> = IndexMap::new();
    for setting in kinds.iter().flat_map(|k| view.closed(*k)) {
        if let Some(tokens) = setting.prompt_tokens.filter(|t| *t > 0) {
            by_streams
                .entry(setting.concurrency)
                .or_default()
                .push((f64::from(tokens), setting));
        }
    }
    by_streams.sort_unstable_keys();
    let mut drawn = Drawn::default();
    for (streams, settings) in by_streams {
        let mut lengths: Vec<f64> = settings.iter().map(|(x, _)| *x).collect();
        lengths.sort_by(f64::total_cmp);
        lengths.dedup();
        // One length is no curve; the tables have it.
        if lengths.len() < 2 {
            continue;
        }
        let of = if streams == 1 {
            "1 stream".to_owned()
        } else {
            format!("{} streams", count(streams.into()))
        };
        let request_rate = streams == 1;
        for (title, y_label, quantity) in [
            (format!("TTFT, {of}"), "ms, median", TTFT),
            if request_rate {
                (
                    format!("Tokens/s of a request, {of}"),
                    "tokens/s, median",
                    REQUEST_RATE,
                )
            } else {
                (
                    format!("Output tokens/s, {of}"),
                    "tokens/s, median over passes",
                    THROUGHPUT,
                )
            },
        ] {
            let lines = Lines {
                title,
                y_label: y_label.to_owned(),
                x_label: "input tokens, log scale",
                quantity,
                settings: settings.clone(),
            };
            drawn.add(draw(
                view,
                keys,
                &format!("{id}-{}", drawn.panels.len()),
                &lines,
                false,
            ));
        }
    }
    drawn.some()
}

/// Throughput, efficiency and latency against concurrency.
pub(super) fn by_concurrency(view: &ModelView<'_>, keys: &Keys, id: &str) -> Option<Drawn> {
    /// Settings by their number of streams.
    type Levels<'a> = Vec<(f64, &'a Setting<'a>)>;
    let mut by_scenario: IndexMap<(&str, Option<u32>), Levels<'_>> = IndexMap::new();
    for setting in view.closed(ScenarioKind::Concurrent) {
        by_scenario
            .entry((setting.scenario, setting.prompt_tokens))
            .or_default()
            .push((f64::from(setting.concurrency), setting));
    }
    let several = by_scenario.len() > 1;
    let mut drawn = Drawn::default();
    for ((scenario, tokens), settings) in by_scenario {
        if settings.len() < 2 {
            continue;
        }
        let suffix = match tokens {
            _ if !several => String::new(),
            Some(tokens) => format!(", {scenario}, {} tokens", count(tokens.into())),
            None => format!(", {scenario}"),
        };
        let panels = [
            (
                "Output tokens/s",
                "tokens/s, median over passes; dotted: ideal",
                THROUGHPUT,
                true,
            ),
            ("TTFT", "ms, median", TTFT, false),
            ("Latency p50", "ms", LATENCY, false),
            ("Latency p95", "ms", LATENCY_P95, false),
        ];
        for (i, (title, y_label, quantity, ideal)) in panels.into_iter().enumerate() {
            let lines = Lines {
                title: format!("{title}{suffix}"),
                y_label: y_label.to_owned(),
                x_label: "streams, log scale",
                quantity,
                settings: settings.clone(),
            };
            drawn.add(draw(
                view,
                keys,
                &format!("{id}-{}", drawn.panels.len()),
                &lines,
                ideal,
            ));
            if i == 0 {
                let title = format!("Scaling efficiency{suffix}");
                let at = drawn.panels.len();
                drawn.add(efficiency(view, keys, &format!("{id}-{at}"), &title, &settings));
            }
        }
    }
    drawn.some()
}

/// Throughput over what it would be if it grew as the streams do.
fn efficiency(
    view: &ModelView<'_>,
    keys: &Keys,
    id: &str,
    title: &str,
    settings: &[(f64, &Setting<'_>)],
) -> Option<(String, Vec<super::keys::Key>)> {
    let all = Lines {
        title: title.to_owned(),
        y_label: String::new(),
        x_label: "streams, log scale",
        quantity: THROUGHPUT,
        settings: settings.to_vec(),
    };
    let lines: Vec<Line<'_>> = lines(view, keys, &all)
        .into_iter()
        .filter(|l| l.points.len() > 1 && l.points[0].1.value > 0.0)
        .collect();
    let shares: Vec<Vec<(f64, f64, &str)>> = lines
        .iter()
        .map(|l| {
            let (x0, first, _) = &l.points[0];
            let share =
                |(x, v, cell): &(f64, Value, _)| (*x, v.value / first.value / (x / x0) * 100.0, *cell);
            l.points.iter().map(share).collect()
        })
        .collect();
    let mut at: Vec<f64> = shares.iter().flatten().map(|p| p.0).collect();
    at.sort_by(f64::total_cmp);
    at.dedup();
    let most = shares.iter().flatten().map(|p| p.1).fold(100.0, f64::max);
    let x = Axis::new("streams, log scale", Scale::log(*at.first()?, *at.last()?)).at(&at);
    let y = Axis::new(
        "of the throughput of the fewest streams × streams",
        Scale::from_zero(most),
    )
    .unit(" %");
    let mut plot = Plot::new(title, &x, &y, lines.iter().map(|l| l.framework));
    plot.reference(100.0, "ideal");
    let mut said = Vec::new();
    for (line, shares) in lines.iter().zip(&shares) {
        let key = keys.key(line.framework);
        let points: Vec<_> = shares.iter().map(|(x, y, _)| (*x, *y)).collect();
        plot.line(key, &points, "ln");
        for (x, share, cell) in shares {
            let tip = format!("{}\n{title}: {}\n{cell}", line.framework, percent(share / 100.0));
            plot.point(key, (*x, *share), None, &tip);
        }
        if let Some((_, share, _)) = shares.last() {
            plot.end_label(key, line.framework, *share);
            said.push(format!(
                "{}: {} at the most streams",
                line.framework,
                percent(share / 100.0)
            ));
        }
    }
    let description = format!(
        "Share of ideal scaling by number of streams. {}.",
        said.join("; ")
    );
    let keys = lines.iter().map(|l| keys.key(l.framework)).collect();
    Some((plot.finish(id, &description), keys))
}
