//! Korean against English for the same meaning.

use std::fmt::Write as _;

use indexmap::IndexMap;

use super::{
    super::super::number::{count, number, tick, with_interval},
    Drawn,
    keys::{Key, Keys},
    plot::{POINT, SMALL, WIDTH, panel},
    scale::Scale,
    svg::{Anchor, Px, fitted, line, rect, text, text_width},
    values::ModelView,
};
use benchd_analysis::{Comparison, KoreanComparison, LaneSummary};

const TOP: f64 = 46.0;
const ROW: f64 = 19.0;
const HEAD: f64 = 17.0;
const BOTTOM: f64 = 34.0;
/// Widest name left of a row.
const NAME_WIDTH: f64 = 84.0;
/// Room for the ratio right of a row.
const RATIO_WIDTH: f64 = 44.0;

/// Figures with their titles and units.
const FIGURES: [(&str, &str, &str); 4] = [
    ("prompt_tokens", "Prompt tokens", "tokens"),
    ("output_tokens", "Output tokens", "tokens"),
    ("ttft_ms", "TTFT", "ms"),
    ("chars_per_s", "Characters per second", "characters/s"),
];
/// Figures whose overall ratio depends on the framework.
const RATIOS: [(&str, &str); 4] = [
    ("ttft_ms", "TTFT"),
    ("latency_ms", "Latency"),
    ("tokens_per_s", "Tokens per second"),
    ("chars_per_s", "Characters per second"),
];

/// One framework's comparison, of the first run and round that has it.
struct Side<'a> {
    key: Key,
    framework: &'a str,
    of: &'a KoreanComparison,
}

/// Dumbbells at the fewest streams of each scenario, and the overall ratios at all.
pub(super) fn languages(view: &ModelView<'_>, keys: &Keys, id: &str) -> Option<Drawn> {
    let lanes: Vec<&LaneSummary> = view
        .machine
        .runs
        .iter()
        .flat_map(|r| &r.lanes)
        .filter(|l| l.lane.model == view.model)
        .collect();
    let mut groups: IndexMap<(&str, u32), Vec<Side<'_>>> = IndexMap::new();
    for lane in lanes {
        for of in &lane.korean {
            let sides = groups.entry((&of.scenario, of.concurrency)).or_default();
            // Further runs and rounds are pooled in the tables, not here.
            if sides.iter().all(|s| s.framework != lane.lane.framework) {
                sides.push(Side {
                    key: keys.key(&lane.lane.framework),
                    framework: &lane.lane.framework,
                    of,
                });
            }
        }
    }
    for sides in groups.values_mut() {
        sides.sort_by_key(|s| s.key);
    }
    let mut drawn = Drawn::default();
    let mut done: Vec<&str> = Vec::new();
    for ((scenario, streams), sides) in &groups {
        if done.contains(scenario) {
            continue;
        }
        done.push(scenario);
        for (figure, title, unit) in FIGURES {
            let title = format!("{title}, {}", of_streams(*streams));
            let here = format!("{id}-{}", drawn.panels.len());
            drawn.add(dumbbells(&here, &title, unit, figure, sides));
        }
    }
    for (figure, title) in RATIOS {
        let here = format!("{id}-{}", drawn.panels.len());
        drawn.add(ratios(
            &here,
            &format!("{title}: Korean / English"),
            figure,
            &groups,
        ));
    }
    drawn.some()
}

fn of_streams(streams: u32) -> String {
    if streams == 1 {
        "1 stream".to_owned()
    } else {
        format!("{} streams", count(streams.into()))
    }
}

/// Both languages of a figure: by prompt type, a row a framework.
fn dumbbells(
    id: &str,
    title: &str,
    unit: &str,
    figure: &str,
    sides: &[Side<'_>],
) -> Option<(String, Vec<Key>)> {
    let mut types: IndexMap<&str, Vec<(&Side<'_>, &Comparison, f64, f64)>> = IndexMap::new();
    for side in sides {
        for (prompt, figures) in &side.of.prompts {
            if let Some(c) = figures.get(figure)
                && let (Some(ko), Some(en)) = (c.ko, c.en)
            {
                types.entry(prompt).or_default().push((side, c, ko, en));
            }
        }
    }
    let most = types.values().flatten().map(|r| r.2.max(r.3)).fold(0.0, f64::max);
    if types.is_empty() || most <= 0.0 {
        return None;
    }
    let rows: usize = types.values().map(Vec::len).sum();
    let bottom = TOP + types.len() as f64 * HEAD + rows as f64 * ROW;
    let names = sides
        .iter()
        .map(|s| text_width(s.framework, SMALL))
        .fold(0.0, f64::max);
    let left = names.min(NAME_WIDTH) + 10.0;
    let x = Scale::from_zero(most).on(left, WIDTH - RATIO_WIDTH);
    let mut body = String::new();
    head(
        &mut body,
        title,
        &format!("{unit}, median; filled: Korean, open: English; right: ratio"),
    );
    axis(&mut body, &x, bottom, unit);
    let mut y = TOP;
    let mut said = Vec::new();
    for (prompt, rows) in &types {
        text(&mut body, 0.0, y + 11.0, Anchor::Start, "g s", prompt);
        y += HEAD;
        for (side, c, ko, en) in rows {
            let middle = y + ROW / 2.0;
            let tip = format!(
                "{} · {prompt}\nKorean: {} {unit}\nEnglish: {} {unit}\nKorean / English: {}",
                side.framework,
                number(*ko),
                number(*en),
                with_interval(c.ratio, c.interval.as_ref())
            );
            let _ = write!(body, "{}", side.key.open_mark(&tip));
            rect(&mut body, (0.0, y), (WIDTH, ROW), "hit");
            text(
                &mut body,
                left - 8.0,
                middle + 3.5,
                Anchor::End,
                "m s",
                &fitted(side.framework, SMALL, NAME_WIDTH),
            );
            let _ = write!(
                body,
                "<path class=\"err\" d=\"M{} {m}L{} {m}\"/><path class=\"open\" d=\"{}\"/><path class=\"pt\" d=\"{}\"/>",
                Px(x.at(*ko)),
                Px(x.at(*en)),
                side.key.marker(x.at(*en), middle, POINT),
                side.key.marker(x.at(*ko), middle, POINT),
                m = Px(middle)
            );
            text(
                &mut body,
                WIDTH,
                middle + 3.5,
                Anchor::End,
                "r s",
                &format!("× {}", number(c.ratio)),
            );
            body.push_str("</g>");
            said.push(format!(
                "{prompt}, {}: {} and {}",
                side.framework,
                number(*ko),
                number(*en)
            ));
            y += ROW;
        }
    }
    let description = format!("{unit}, Korean and English. {}.", said.join("; "));
    let svg = panel(id, title, &description, (WIDTH, bottom + BOTTOM), "", &body);
    let mut keys: Vec<Key> = types.values().flatten().map(|r| r.0.key).collect();
    keys.dedup();
    Some((svg, keys))
}

/// Overall ratios with their intervals, by concurrency.
fn ratios(
    id: &str,
    title: &str,
    figure: &str,
    groups: &IndexMap<(&str, u32), Vec<Side<'_>>>,
) -> Option<(String, Vec<Key>)> {
    let found: Vec<(String, Vec<(&Side<'_>, &Comparison)>)> = groups
        .iter()
        .map(|((_, streams), sides)| {
            let rows = sides.iter().filter_map(|s| Some((s, s.of.overall.get(figure)?)));
            let rows: Vec<_> = rows.filter(|(_, c)| c.ratio > 0.0).collect();
            (of_streams(*streams), rows)
        })
        .filter(|(_, rows)| !rows.is_empty())
        .collect();
    let ends = || {
        found.iter().flat_map(|(_, rows)| rows).flat_map(|(_, c)| {
            let i = c.interval.filter(|i| i.low > 0.0);
            [
                c.ratio,
                i.map_or(c.ratio, |i| i.low),
                i.map_or(c.ratio, |i| i.high),
            ]
        })
    };
    if found.is_empty() {
        return None;
    }
    let (low, high) = ends().fold((1.0, 1.0), |(l, h): (f64, f64), v| (l.min(v), h.max(v)));
    let rows: usize = found.iter().map(|(_, rows)| rows.len()).sum();
    let bottom = TOP + found.len() as f64 * HEAD + rows as f64 * ROW;
    let names = groups
        .values()
        .flatten()
        .map(|s| text_width(s.framework, SMALL))
        .fold(0.0, f64::max);
    let left = names.min(NAME_WIDTH) + 10.0;
    let x = Scale::log(low / 1.12, high * 1.12).on(left, WIDTH - RATIO_WIDTH);
    let mut body = String::new();
    head(
        &mut body,
        title,
        "ratio over all prompt types, 95 % interval, log scale",
    );
    axis(&mut body, &x, bottom, "");
    line(&mut body, (x.at(1.0), TOP - 4.0), (x.at(1.0), bottom), "ref");
    let mut y = TOP;
    let mut said = Vec::new();
    for (streams, rows) in &found {
        text(&mut body, 0.0, y + 11.0, Anchor::Start, "g s", streams);
        y += HEAD;
        for (side, c) in rows {
            let middle = y + ROW / 2.0;
            let ratio = with_interval(c.ratio, c.interval.as_ref());
            let _ = write!(
                body,
                "{}",
                side.key
                    .open_mark(&format!("{} · {streams}\n{title}: {ratio}", side.framework))
            );
            rect(&mut body, (0.0, y), (WIDTH, ROW), "hit");
            text(
                &mut body,
                left - 8.0,
                middle + 3.5,
                Anchor::End,
                "m s",
                &fitted(side.framework, SMALL, NAME_WIDTH),
            );
            if let Some(i) = c.interval.filter(|i| i.low > 0.0) {
                let _ = write!(
                    body,
                    "<path class=\"err\" d=\"M{} {m}L{} {m}\"/>",
                    Px(x.at(i.low)),
                    Px(x.at(i.high)),
                    m = Px(middle)
                );
            }
            let _ = write!(
                body,
                "<path class=\"pt\" d=\"{}\"/>",
                side.key.marker(x.at(c.ratio), middle, POINT)
            );
            text(
                &mut body,
                WIDTH,
                middle + 3.5,
                Anchor::End,
                "r s",
                &format!("× {}", number(c.ratio)),
            );
            body.push_str("</g>");
            said.push(format!("{streams}, {}: {ratio}", side.framework));
            y += ROW;
        }
    }
    let svg = panel(
        id,
        title,
        &format!("{}.", said.join("; ")),
        (WIDTH, bottom + BOTTOM),
        "",
        &body,
    );
    let mut keys: Vec<Key> = found
        .iter()
        .flat_map(|(_, rows)| rows)
        .map(|(s, _)| s.key)
        .collect();
    keys.dedup();
    Some((svg, keys))
}

fn head(body: &mut String, title: &str, label: &str) {
    text(body, 0.0, 13.0, Anchor::Start, "h", &fitted(title, 12.5, WIDTH));
    text(body, 0.0, 29.0, Anchor::Start, "m s", label);
}

fn axis(body: &mut String, x: &Scale, bottom: f64, unit: &str) {
    let mut free = f64::INFINITY;
    for t in x.ticks(5).iter().rev() {
        let (at, says) = (x.at(t.value), tick(t.value, t.step));
        let half = text_width(&says, SMALL) / 2.0;
        // Equal ratios crowd to the right: 0.9 beside 1.
        if at + half + 4.0 > free {
            continue;
        }
        free = at - half;
        line(body, (at, TOP - 4.0), (at, bottom), "grid");
        text(body, at, bottom + 13.0, Anchor::Middle, "m s", &says);
    }
    let (from, to) = (x.at(x.low), x.at(x.high));
    line(body, (from, bottom), (to, bottom), "axis");
    text(
        body,
        (from + to) / 2.0,
        bottom + 27.0,
        Anchor::Middle,
        "m s",
        unit,
    );
}
