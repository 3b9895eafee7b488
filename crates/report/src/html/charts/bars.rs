//! The comparison at a glance: bars with intervals.

use std::fmt::Write as _;

use super::{
    super::super::{
        best::best,
        number::{megabytes, number, percentile},
        reference::{Candidate, References},
    },
    Drawn,
    keys::{Key, Keys},
    plot::{SMALL, WIDTH, panel},
    scale::Scale,
    svg::{Anchor, Px, fitted, rect, text, text_width},
    values::{LATENCY_P95, Measured, ModelView, Quantity, Setting, THROUGHPUT, TTFT, Value},
};
use benchd_analysis::common_cells;
use benchd_core::format::counted;

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

/// The cells that stand for a model, the same as in the tables: the single request and the load.
pub(super) fn references<'v, 'a>(
    view: &'v ModelView<'a>,
) -> (Option<&'v Setting<'a>>, Option<&'v Setting<'a>>) {
    let all: Vec<Candidate<'_, &str>> = view
        .settings
        .iter()
        .flat_map(|s| s.frameworks.keys().map(|name| candidate(*name, s)))
        .collect();
    let of = References::among(&all);
    let setting = |of: Option<Candidate<'_, &str>>| view.setting(of?.cell);
    (setting(of.single), setting(of.load))
}

fn candidate<'a, Who>(who: Who, of: &Setting<'a>) -> Candidate<'a, Who> {
    Candidate {
        who,
        kind: of.kind,
        cell: of.cell,
        concurrency: of.concurrency,
        prompt_tokens: of.prompt_tokens,
    }
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
        let streams = counted(setting.concurrency.into(), "stream");
        add(
            format!("Output tokens/s, {streams}"),
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
        let streams = counted(setting.concurrency.into(), "stream");
        add(
            format!("Latency p95, {streams}"),
            "ms; less is better; ~ from too few requests to be certain",
            bars(view, keys, setting, LATENCY_P95, None),
            setting.cell,
        );
    }
    add(
        "Peak GPU memory".to_owned(),
        "MB, largest of the cells in common",
        peaks(view, keys),
        "the cells that all measured",
    );
    (!drawn.panels.is_empty()).then_some(drawn)
}

/// The same model on several machines: each framework's machines below each other, on one scale, in the cells that all of
/// them measured.
pub(super) fn machines(views: &[&ModelView<'_>], keys: &Keys, id: &str) -> Option<Drawn> {
    let all: Vec<Candidate<'_, (usize, &str)>> = views
        .iter()
        .enumerate()
        .flat_map(|(at, view)| view.settings.iter().map(move |s| (at, s)))
        .flat_map(|(at, s)| s.frameworks.keys().map(move |name| candidate((at, *name), s)))
        .collect();
    let of = References::among(&all);
    let setting = |of: Option<Candidate<'_, _>>| {
        let of = of?;
        views.iter().find_map(|view| view.setting(of.cell))
    };
    let (single, load) = (setting(of.single), setting(of.load));
    let streams = load.map_or(0, |s| s.concurrency);
    let streams = counted(streams.into(), "stream");
    let panels = [
        (
            load,
            format!("Output tokens/s, {streams}"),
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
            format!("Latency p95, {streams}"),
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
    if let Some((figure, more_is_better)) = compared {
        let values: Vec<(&str, f64)> = bars.iter().map(|b| (b.name.as_str(), b.value.value)).collect();
        let cell = (view.model, setting.cell);
        let best = best(&values, &view.machine.comparisons, cell, figure, more_is_better).map(str::to_owned);
        for bar in &mut bars {
            bar.best = best.as_ref() == Some(&bar.name);
        }
    }
    bars
}

fn peaks(view: &ModelView<'_>, keys: &Keys) -> Vec<Bar> {
    let known = |m: &Measured<'_>| {
        m.summary
            .gpu
            .as_ref()
            .is_some_and(|g| g.memory_peak_bytes.is_some())
    };
    let measured = view.settings.iter().flat_map(|s| {
        let who = s.frameworks.iter().filter(|(_, all)| all.iter().any(known));
        who.map(|(name, _)| (*name, s.cell))
    });
    let (names, common) = common_cells(measured);
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
            let settings = view.settings.iter().filter(|s| common.contains(s.cell));
            let peak = settings.filter_map(of_lane).max()? as f64;
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
