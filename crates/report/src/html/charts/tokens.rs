//! Single requests, token by token.

use std::fmt::Write as _;

use super::{
    super::super::number::{count, number, tick},
    Drawn,
    bars::references,
    keys::{Key, Keys},
    plot::{POINT, SMALL, panel},
    scale::Scale,
    svg::{Anchor, Px, fitted, line, rect, text, text_width},
    values::{ModelView, Setting},
};
use benchd_analysis::TokenTimeline;

const WIDTH: f64 = 720.0;
const TOP: f64 = 44.0;
const ROW: f64 = 30.0;
const BOTTOM: f64 = 36.0;
/// Widest name left of a row.
const NAME_WIDTH: f64 = 130.0;
/// Half the height of an arrival's line.
const HALF: f64 = 9.0;

/// One request of the single cell and one under full load.
pub(super) fn timelines(view: &ModelView<'_>, keys: &Keys, id: &str) -> Option<Drawn> {
    let (single, load) = references(view);
    let mut drawn = Drawn::default();
    for setting in single.into_iter().chain(load) {
        let here = format!("{id}-{}", drawn.panels.len());
        drawn.add(draw(keys, &here, setting));
    }
    drawn.some()
}

fn draw(keys: &Keys, id: &str, setting: &Setting<'_>) -> Option<(String, Vec<Key>)> {
    let rows: Vec<(Key, &str, &TokenTimeline)> = keys
        .ordered(setting.frameworks.keys().copied())
        .into_iter()
        .filter_map(|(key, name)| Some((key, name, setting.series(name, |s| s.timeline.as_ref())?)))
        .collect();
    let longest = rows.iter().map(|(_, _, t)| t.latency_ms).fold(0.0, f64::max);
    if rows.is_empty() || longest <= 0.0 {
        return None;
    }
    let names = rows
        .iter()
        .map(|(_, name, _)| text_width(name, SMALL))
        .fold(0.0, f64::max);
    let left = names.min(NAME_WIDTH) + 10.0;
    let bottom = TOP + rows.len() as f64 * ROW;
    let x = Scale::linear(0.0, longest * 1.02).on(left, WIDTH - 8.0);
    let title = format!("Arrivals of one request's tokens, {}", setting.cell);
    let mut body = String::new();
    text(
        &mut body,
        0.0,
        13.0,
        Anchor::Start,
        "h",
        &fitted(&title, 12.5, WIDTH),
    );
    text(
        &mut body,
        0.0,
        29.0,
        Anchor::Start,
        "m s",
        "each line one event with tokens; point: the first token; dotted: the wait for it",
    );
    for t in x.ticks(8) {
        let at = x.at(t.value);
        line(&mut body, (at, TOP - 4.0), (at, bottom), "grid");
        text(
            &mut body,
            at,
            bottom + 14.0,
            Anchor::Middle,
            "m s",
            &tick(t.value, t.step),
        );
    }
    line(&mut body, (left, bottom), (WIDTH - 8.0, bottom), "axis");
    text(
        &mut body,
        (left + WIDTH) / 2.0,
        bottom + 29.0,
        Anchor::Middle,
        "m s",
        "ms from the send",
    );
    let mut said = Vec::new();
    for (i, (key, name, t)) in rows.iter().enumerate() {
        let middle = TOP + i as f64 * ROW + ROW / 2.0;
        let tokens = t.output_tokens.map_or("unknown".to_owned(), count);
        let shown = if t.arrivals_ms.len() as u64 == t.events {
            String::new()
        } else {
            format!(", {} of them drawn", count(t.arrivals_ms.len() as u64))
        };
        let tip = format!(
            "{name}\nfirst token after {} ms, end after {} ms\n{tokens} tokens in {} events{shown}\n{}, pass {}, request {}",
            number(t.ttft_ms),
            number(t.latency_ms),
            count(t.events),
            setting.cell,
            t.pass,
            count(u64::from(t.index) + 1)
        );
        let _ = write!(body, "{}", key.open_mark(&tip));
        rect(&mut body, (0.0, middle - ROW / 2.0), (WIDTH, ROW), "hit");
        text(
            &mut body,
            left - 8.0,
            middle + 3.5,
            Anchor::End,
            "m s",
            &fitted(name, SMALL, NAME_WIDTH),
        );
        let _ = write!(
            body,
            "<path class=\"ideal\" d=\"M{} {m}L{} {m}\"/>",
            Px(x.at(0.0)),
            Px(x.at(t.ttft_ms)),
            m = Px(middle)
        );
        let mut d = String::new();
        for at in &t.arrivals_ms {
            let _ = write!(d, "M{} {}v{}", Px(x.at(*at)), Px(middle - HALF), Px(2.0 * HALF));
        }
        let _ = write!(
            body,
            "<path class=\"tick\" d=\"{d}\"/><path class=\"pt\" d=\"{}\"/></g>",
            key.marker(x.at(t.ttft_ms), middle, POINT)
        );
        said.push(format!(
            "{name}: first after {} ms, end after {} ms",
            number(t.ttft_ms),
            number(t.latency_ms)
        ));
    }
    let description = format!("{}.", said.join("; "));
    let svg = panel(id, &title, &description, (WIDTH, bottom + BOTTOM), "wide", &body);
    Some((svg, rows.iter().map(|r| r.0).collect()))
}
