//! The comparison at a glance: bars with intervals.

use std::fmt::Write as _;

use super::{
    super::super::number::{count, megabytes, number, percentile},
    Drawn,
    keys::{Key, Keys},
    plot::{SMALL, WIDTH, panel},
    scale::Scale,
    svg::{Anchor, Px, fitted, rect, text, text_width},
    values::{LATENCY_P95, ModelView, Quantity, Setting, THROUGHPUT, TTFT, Value},
};
use benchd_analysis::FrameworkComparison;
use benchd_plan::ScenarioKind;

const TOP: f64 = 44.0;
const ROW: f64 = 36.0;
/// Height of a bar.
const BAR: f64 = 13.0;

/// One bar.
struct Bar {
    key: Key,
    name: String,
    value: Value,
    /// What stands at its end.
    says: String,
    best: bool,
}

/// The cells that stand for a model, the same as in the tables: the single request of the middle length, and the cell
/// with the most streams.
pub(super) fn references<'v, 'a>(
    view: &'v ModelView<'a>,
) -> (Option<&'v Setting<'a>>, Option<&'v Setting<'a>>) {
    let mut singles: Vec<&Setting<'_>> = view
        .settings
        .iter()
        .filter(|s| s.kind == ScenarioKind::Single)
        .collect();
    singles.sort_by_key(|s| (s.prompt_tokens.unwrap_or(0), s.cell));
    singles.dedup_by_key(|s| (s.prompt_tokens.unwrap_or(0), s.cell));
    let load = view
        .settings
        .iter()
        .filter(|s| s.kind == ScenarioKind::Concurrent)
        .max_by_key(|s| s.concurrency);
    (singles.get(singles.len() / 2).copied(), load)
}

/// The panels of one model.
pub(super) fn glance(view: &ModelView<'_>, keys: &Keys, id: &str) -> Option<Drawn> {
    let (single, load) = references(view);
    let mut drawn = Drawn::default();
    let mut add = |title: String, label: &str, bars: Vec<Bar>, cell: &str| {
        if bars.is_empty() {
            return;
        }
        drawn.keys.extend(bars.iter().map(|b| b.key));
        let at = drawn.panels.len();
        drawn
            .panels
            .push(draw(&format!("{id}-{at}"), &title, label, &bars, cell));
    };
    if let Some(setting) = load {
        let streams = count(setting.concurrency.into());
        add(
            format!("Output tokens/s, {streams} streams"),
            "tokens/s, median over passes; more is better",
            bars(
                view,
                keys,
                setting,
                THROUGHPUT,
                Some(("output_tokens_per_s", true)),
            ),
            setting.cell,
        );
    }
    if let Some(setting) = single {
        add(
            "TTFT, single request".to_owned(),
            "ms, median; less is better",
            bars(view, keys, setting, TTFT, Some(("ttft_ms", false))),
            setting.cell,
        );
    }
    if let Some(setting) = load {
        let streams = count(setting.concurrency.into());
        add(
            format!("Latency p95, {streams} streams"),
            "ms; less is better; ~ from too few requests to be certain",
            bars(view, keys, setting, LATENCY_P95, None),
            setting.cell,
        );
    }
    add(
        "Peak GPU memory".to_owned(),
        "MB, largest of all cells",
        peaks(view, keys),
        "all cells",
    );
    (!drawn.panels.is_empty()).then_some(drawn)
}

/// The same model on several machines: each framework's machines below each other, on one scale. Cells are those of the
/// first machine that has such ones; machines that did not measure them are left out.
pub(super) fn machines(views: &[&ModelView<'_>], keys: &Keys, id: &str) -> Option<Drawn> {
    let single = views.iter().find_map(|v| references(v).0);
    let load = views.iter().find_map(|v| references(v).1);
    let streams = load.map_or(0, |s| s.concurrency);
    let streams = count(streams.into());
    let panels = [
        (
            load,
            format!("Output tokens/s, {streams} streams"),
            "tokens/s, median over passes; more is better",
            THROUGHPUT,
            Some(("output_tokens_per_s", true)),
        ),
        (
            single,
            "TTFT, single request".to_owned(),
            "ms, median; less is better",
            TTFT,
            Some(("ttft_ms", false)),
        ),
        (
            load,
            format!("Latency p95, {streams} streams"),
            "ms; less is better; ~ from too few requests to be certain",
            LATENCY_P95,
            None,
        ),
    ];
    let mut drawn = Drawn::default();
    for (reference, title, label, quantity, compared) in panels {
        let Some(reference) = reference else { continue };
        let (mut all, mut measured) = (Vec::new(), 0);
        for view in views {
            let same = |s: &&Setting<'_>| (s.scenario, s.cell) == (reference.scenario, reference.cell);
            let Some(setting) = view.settings.iter().find(same) else {
                continue;
            };
            let of_machine = bars(view, keys, setting, quantity, compared);
            measured += usize::from(!of_machine.is_empty());
            all.extend(of_machine.into_iter().map(|bar| Bar {
                name: format!("{} · {}", bar.name, view.machine.name),
                // Within a machine only; that is told in its own figure.
                best: false,
                ..bar
            }));
        }
        if measured < 2 {
            continue;
        }
        all.sort_by_key(|b| b.key);
        drawn.keys.extend(all.iter().map(|b| b.key));
        let here = format!("{id}-{}", drawn.panels.len());
        drawn
            .panels
            .push(draw(&here, &title, label, &all, reference.cell));
    }
    drawn.some()
}

fn bars(
    view: &ModelView<'_>,
    keys: &Keys,
    setting: &Setting<'_>,
    of: Quantity,
    compared: Option<(&str, bool)>,
) -> Vec<Bar> {
    let mut bars: Vec<Bar> = keys
        .ordered(setting.frameworks.keys().copied())
        .into_iter()
        .filter_map(|(key, name)| {
            let value = view.value(setting, name, of)?;
            // A percentile from too few requests is marked as in the tables.
            let uncertain = of.unit == LATENCY_P95.unit
                && compared.is_none()
                && setting.frameworks[name]
                    .iter()
                    .any(|m| m.summary.latency_ms.as_ref().is_some_and(|d| !d.p95_certain));
            Some(Bar {
                key,
                name: name.to_owned(),
                says: percentile(value.value, !uncertain),
                value,
                best: false,
            })
        })
        .collect();
    if let Some((figure, more_is_better)) = compared
        && let Some(best) = best_of(
            &bars,
            &view.machine.comparisons,
            view.model,
            setting.cell,
            figure,
            more_is_better,
        )
    {
        bars[best].best = true;
    }
    bars
}

/// The one that is better than each other by an interval that leaves equality out.
fn best_of(
    bars: &[Bar],
    comparisons: &[FrameworkComparison],
    model: &str,
    cell: &str,
    figure: &str,
    more_is_better: bool,
) -> Option<usize> {
    let at = (0..bars.len()).max_by(|a, b| {
        let (a, b) = (bars[*a].value.value, bars[*b].value.value);
        if more_is_better {
            a.total_cmp(&b)
        } else {
            b.total_cmp(&a)
        }
    })?;
    let differs = |other: &Bar| {
        let pair = [bars[at].name.as_str(), other.name.as_str()];
        comparisons
            .iter()
            .filter(|c| {
                c.model == model
                    && c.unlike.is_empty()
                    && pair.contains(&c.baseline.as_str())
                    && pair.contains(&c.framework.as_str())
            })
            .flat_map(|c| &c.cells)
            .filter(|c| c.cell == cell)
            .any(|c| c.figures.get(figure).is_some_and(|d| d.differs == Some(true)))
    };
    let others = || bars.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, b)| b);
    (bars.len() > 1 && others().all(differs)).then_some(at)
}

fn peaks(view: &ModelView<'_>, keys: &Keys) -> Vec<Bar> {
    let names = view.settings.iter().flat_map(|s| s.frameworks.keys().copied());
    keys.ordered(names)
        .into_iter()
        .filter_map(|(key, name)| {
            let of_lane = |s: &Setting<'_>| {
                let cells = s.frameworks.get(name)?;
                cells
                    .iter()
                    .filter_map(|m| m.summary.gpu.as_ref()?.memory_peak_bytes)
                    .max()
            };
            let peak = view.settings.iter().filter_map(of_lane).max()? as f64;
            Some(Bar {
                key,
                name: name.to_owned(),
                value: Value {
                    value: peak,
                    interval: None,
                    each: Vec::new(),
                },
                says: megabytes(peak),
                best: false,
            })
        })
        .collect()
}

fn draw(id: &str, title: &str, label: &str, bars: &[Bar], cell: &str) -> String {
    let end = |b: &Bar| {
        b.value
            .interval
            .map_or(b.value.value, |i| i.high.max(b.value.value))
    };
    let most = bars.iter().map(end).fold(0.0, f64::max);
    let widest = bars
        .iter()
        .map(|b| text_width(&said(b), 11.0))
        .fold(0.0, f64::max);
    let right = WIDTH - widest - 8.0;
    let x = Scale::linear(0.0, most.max(f64::MIN_POSITIVE)).on(0.0, right);
    let mut body = String::new();
    text(
        &mut body,
        0.0,
        13.0,
        Anchor::Start,
        "h",
        &fitted(title, 12.5, WIDTH),
    );
    text(&mut body, 0.0, 29.0, Anchor::Start, "m s", label);
    let mut said_all = Vec::new();
    for (i, bar) in bars.iter().enumerate() {
        let y = TOP + i as f64 * ROW;
        let (value, tip) = (bar.value.value, tip(bar, title, cell));
        let _ = write!(body, "{}", bar.key.open_mark(&tip));
        rect(&mut body, (0.0, y), (WIDTH, ROW - 4.0), "hit");
        text(
            &mut body,
            0.0,
            y + 9.0,
            Anchor::Start,
            "m s",
            &fitted(&bar.name, SMALL, WIDTH),
        );
        rect(&mut body, (0.0, y + 14.0), (x.at(value).max(1.0), BAR), "bar");
        let middle = y + 14.0 + BAR / 2.0;
        let mut label_at = x.at(value);
        if let Some(interval) = bar.value.interval {
            let (low, high) = (x.at(interval.low.max(0.0)), x.at(interval.high));
            label_at = label_at.max(high);
            let _ = write!(
                body,
                "<path class=\"rule\" d=\"M{l} {m}L{h} {m}M{l} {t}L{l} {b}M{h} {t}L{h} {b}\"/>",
                l = Px(low),
                h = Px(high),
                m = Px(middle),
                t = Px(middle - 3.0),
                b = Px(middle + 3.0)
            );
        }
        text(
            &mut body,
            label_at + 5.0,
            middle + 4.0,
            Anchor::Start,
            if bar.best { "b" } else { "" },
            &said(bar),
        );
        body.push_str("</g>");
        said_all.push(format!("{}: {}", bar.name, said(bar)));
    }
    let height = TOP + bars.len() as f64 * ROW;
    let description = format!("{label}. {}.", said_all.join("; "));
    panel(id, title, &description, (WIDTH, height), "", &body)
}

fn said(bar: &Bar) -> String {
    if bar.best {
        format!("{} best", bar.says)
    } else {
        bar.says.clone()
    }
}

fn tip(bar: &Bar, title: &str, cell: &str) -> String {
    let mut tip = format!("{}\n{title}: {}", bar.name, bar.says);
    if let Some(i) = bar.value.interval {
        let _ = write!(tip, " [{}, {}]", number(i.low), number(i.high));
    }
    if !bar.value.each.is_empty() {
        let each: Vec<String> = bar.value.each.iter().map(|v| number(*v)).collect();
        let _ = write!(tip, "\nsingle runs: {}", each.join(", "));
    }
    let _ = write!(tip, "\n{cell}");
    if bar.best {
        tip.push_str("\nBetter than each other by an interval that leaves equality out");
    }
    tip
}
