//! One panel: a frame with axes, and the marks in it. Panels are drawn narrow and stand beside each other where there
//! is room, so that their text stays legible on a phone.

use std::fmt::Write as _;

use super::{
    super::{super::number::tick, text::escape},
    keys::Key,
    scale::{Kind, Scale, Tick, setting_ticks},
    svg::{Anchor, Px, fitted, line, path, text, text_width},
};
use benchd_core::stats::Interval;

/// Width of a panel, in its own units; a phone shows about as many pixels.
pub(super) const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 236.0;
const TOP: f64 = 42.0;
const BOTTOM: f64 = 36.0;
const RIGHT: f64 = 10.0;
/// Widest label at the end of a line.
const LABEL_WIDTH: f64 = 104.0;
/// Least room kept for them, so that panels beside each other are alike.
const LEAST_LABEL_WIDTH: f64 = 48.0;
/// From the plot to the labels.
const LABEL_GAP: f64 = 5.0;
/// Size of labels and ticks.
pub(super) const SMALL: f64 = 10.0;
/// Radius of a point.
pub(super) const POINT: f64 = 3.6;

/// Half the width of an interval's end.
const CAP: f64 = 3.0;

/// What an axis stands for.
pub(super) struct Axis<'a> {
    /// Below or above it, with the unit.
    pub(super) label: &'a str,
    pub(super) scale: Scale,
    /// Ticks only at these settings; empty: round ones.
    pub(super) settings: &'a [f64],
    /// Put behind each tick's number: `%`.
    pub(super) unit: &'a str,
}

impl<'a> Axis<'a> {
    pub(super) fn new(label: &'a str, scale: Scale) -> Self {
        Self {
            label,
            scale,
            settings: &[],
            unit: "",
        }
    }

    pub(super) fn at(self, settings: &'a [f64]) -> Self {
        Self { settings, ..self }
    }

    pub(super) fn unit(self, unit: &'a str) -> Self {
        Self { unit, ..self }
    }

    fn text(&self, t: &Tick) -> String {
        format!("{}{}", tick(t.value, t.step), self.unit)
    }
}

/// A panel under construction.
pub(super) struct Plot {
    title: String,
    pub(super) x: Scale,
    pub(super) y: Scale,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
    frame: String,
    pub(super) marks: String,
    /// Labels at line ends: where they want to stand.
    labels: Vec<(Key, String, f64)>,
}

impl Plot {
    /// A frame, with room for the frameworks' names at the ends of their lines; without names there is none.
    pub(super) fn new<'n>(
        title: &str,
        x: &Axis<'_>,
        y: &Axis<'_>,
        names: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        Self::with(title, x, y, names, true)
    }

    fn with<'n>(
        title: &str,
        x: &Axis<'_>,
        y: &Axis<'_>,
        names: impl IntoIterator<Item = &'n str>,
        x_ticks: bool,
    ) -> Self {
        let label = names
            .into_iter()
            .map(|name| text_width(name, SMALL))
            .reduce(f64::max)
            .map(|widest| widest.clamp(LEAST_LABEL_WIDTH, LABEL_WIDTH));
        let bottom = HEIGHT - BOTTOM;
        let y_scale = y.scale.on(bottom, TOP);
        let y_ticks = if y.settings.is_empty() {
            y_scale.ticks(5)
        } else {
            setting_ticks(y.settings, &y_scale.on(0.0, bottom - TOP), |_| SMALL)
        };
        let widest = y_ticks
            .iter()
            .map(|t| text_width(&y.text(t), SMALL))
            .fold(0.0, f64::max);
        let left = (widest + 8.0).max(24.0);
        let right = WIDTH - label.map_or(RIGHT + 4.0, |label| label + LABEL_GAP);
        let x_scale = x.scale.on(left + 4.0, right - 4.0);
        let x_ticks = if !x_ticks {
            Vec::new()
        } else if x.settings.is_empty() {
            x_scale.ticks(6)
        } else {
            setting_ticks(x.settings, &x_scale, |v| text_width(&tick(v, 1.0), SMALL) + 7.0)
        };
        let mut frame = String::new();
        text(
            &mut frame,
            0.0,
            13.0,
            Anchor::Start,
            "h",
            &fitted(title, 12.5, WIDTH),
        );
        text(&mut frame, 0.0, 29.0, Anchor::Start, "m s", y.label);
        for t in &y_ticks {
            let at = y_scale.at(t.value);
            line(&mut frame, (left, at), (right, at), "grid");
            text(&mut frame, left - 5.0, at + 3.5, Anchor::End, "m s", &y.text(t));
        }
        for t in &x_ticks {
            let at = x_scale.at(t.value);
            line(&mut frame, (at, bottom), (at, bottom + 4.0), "axis");
            text(&mut frame, at, bottom + 15.0, Anchor::Middle, "m s", &x.text(t));
        }
        line(&mut frame, (left, bottom), (right, bottom), "axis");
        text(
            &mut frame,
            (left + right) / 2.0,
            HEIGHT - 6.0,
            Anchor::Middle,
            "m s",
            x.label,
        );
        Self {
            title: title.to_owned(),
            x: x_scale,
            y: y_scale,
            left,
            right,
            top: TOP,
            bottom,
            frame,
            marks: String::new(),
            labels: Vec::new(),
        }
    }

    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.x.at(x), self.y.at(y))
    }

    /// A line through values.
    pub(super) fn line(&mut self, key: Key, points: &[(f64, f64)], class: &str) {
        if points.len() < 2 {
            return;
        }
        let d = path(points.iter().map(|p| self.place(*p)));
        let _ = write!(
            self.marks,
            "{}<path class=\"{class}\" d=\"{d}\"/></g>",
            key.open()
        );
    }

    /// A surface between two lines: value, low, high.
    pub(super) fn area(&mut self, key: Key, points: &[(f64, f64, f64)]) {
        if points.len() < 2 {
            return;
        }
        let lows = points.iter().map(|(x, low, _)| self.place((*x, *low)));
        let highs = points.iter().rev().map(|(x, _, high)| self.place((*x, *high)));
        let d = path(lows.chain(highs));
        let _ = write!(self.marks, "{}<path class=\"area\" d=\"{d}z\"/></g>", key.open());
    }

    /// A point with its interval and what it says.
    pub(super) fn point(&mut self, key: Key, at: (f64, f64), interval: Option<&Interval>, tip: &str) {
        let (x, y) = self.place(at);
        let _ = write!(self.marks, "{}", key.open_mark(tip));
        if let Some(i) = interval {
            let (low, high) = (self.y.at(i.low), self.y.at(i.high));
            let _ = write!(
                self.marks,
                "<path class=\"err\" d=\"M{x} {l}L{x} {h}M{a} {l}L{b} {l}M{a} {h}L{b} {h}\"/>",
                l = Px(low.min(self.bottom)),
                h = Px(high.max(self.top)),
                x = Px(x),
                a = Px(x - CAP),
                b = Px(x + CAP)
            );
        }
        let _ = write!(
            self.marks,
            "<path class=\"pt\" d=\"{}\"/></g>",
            key.marker(x, y, POINT)
        );
    }

    /// A point that is open or filled.
    pub(super) fn ring(&mut self, key: Key, at: (f64, f64), open: bool, tip: &str) {
        let (x, y) = self.place(at);
        let class = if open { "open" } else { "pt" };
        let _ = write!(
            self.marks,
            "{}<path class=\"{class}\" d=\"{}\"/></g>",
            key.open_mark(tip),
            key.marker(x, y, POINT)
        );
    }

    /// A small point: one of several runs or rounds.
    pub(super) fn small_point(&mut self, key: Key, at: (f64, f64), tip: &str) {
        let (x, y) = self.place(at);
        let _ = write!(
            self.marks,
            "{}<path class=\"pt faint\" d=\"{}\"/></g>",
            key.open_mark(tip),
            key.marker(x, y, 2.2)
        );
    }

    /// A label at the end of a framework's line.
    pub(super) fn end_label(&mut self, key: Key, name: &str, y: f64) {
        let at = self.y.at(y);
        self.labels.push((key, fitted(name, SMALL, LABEL_WIDTH), at));
    }

    /// A line across the panel with a text at its right end.
    pub(super) fn reference(&mut self, y: f64, says: &str) {
        let at = self.y.at(y);
        if !(self.top - 1.0..=self.bottom + 1.0).contains(&at) {
            return;
        }
        line(&mut self.frame, (self.left, at), (self.right, at), "ref");
        text(
            &mut self.frame,
            self.right,
            at - 3.0,
            Anchor::End,
            "m s halo",
            says,
        );
    }

    /// A line from top to bottom with a text at its top.
    pub(super) fn vertical(&mut self, x: f64, says: &str) {
        let at = self.x.at(x);
        line(&mut self.frame, (at, self.top), (at, self.bottom), "ref");
        text(
            &mut self.frame,
            at + 4.0,
            self.top + 8.0,
            Anchor::Start,
            "m s halo",
            says,
        );
    }

    /// A frame whose x-axis has named places instead of numbers.
    pub(super) fn bare<'n>(
        title: &str,
        x: &Axis<'_>,
        y: &Axis<'_>,
        places: &[(f64, &str)],
        names: impl IntoIterator<Item = &'n str>,
    ) -> Self {
        let mut plot = Self::with(title, x, y, names, false);
        for (value, name) in places {
            let at = plot.x.at(*value);
            text(
                &mut plot.frame,
                at,
                plot.bottom + 15.0,
                Anchor::Middle,
                "m s",
                name,
            );
        }
        plot
    }

    /// The panel.
    pub(super) fn finish(mut self, id: &str, description: &str) -> String {
        for (key, name, y) in spread_labels(std::mem::take(&mut self.labels), self.top, self.bottom) {
            let _ = write!(self.marks, "{}", key.open());
            text(
                &mut self.marks,
                self.right + LABEL_GAP,
                y + 3.5,
                Anchor::Start,
                "s",
                &name,
            );
            self.marks.push_str("</g>");
        }
        panel(
            id,
            &self.title,
            description,
            (WIDTH, HEIGHT),
            "",
            &format!("{}{}", self.frame, self.marks),
        )
    }
}

/// Moves labels apart until none touches the next, in the order of their places.
fn spread_labels(mut labels: Vec<(Key, String, f64)>, top: f64, bottom: f64) -> Vec<(Key, String, f64)> {
    const LEAST: f64 = 12.0;
    labels.sort_by(|a, b| a.2.total_cmp(&b.2));
    let mut floor = top - LEAST;
    for label in &mut labels {
        label.2 = label.2.max(floor + LEAST);
        floor = label.2;
    }
    let mut ceiling = bottom + LEAST;
    for label in labels.iter_mut().rev() {
        label.2 = label.2.min(ceiling - LEAST);
        ceiling = label.2;
    }
    labels
}

/// Wraps a drawing: an image with a title and a description for those who don't see it.
pub(super) fn panel(
    id: &str,
    title: &str,
    description: &str,
    (width, height): (f64, f64),
    class: &str,
    body: &str,
) -> String {
    let class = if class.is_empty() {
        "panel".to_owned()
    } else {
        format!("panel {class}")
    };
    format!(
        "<div class=\"{class}\"><svg class=\"chart\" id=\"{id}\" viewBox=\"0 0 {} {}\" role=\"img\" \
         aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>{body}</svg></div>",
        Px(width),
        Px(height),
        escape(title),
        escape(description)
    )
}

/// A scale for these values: from 0, or in equal ratios where they differ by more than `ratio` times.
pub(super) fn scale_for(values: impl Iterator<Item = f64> + Clone, ratio: f64) -> Scale {
    let finite = || values.clone().filter(|v| v.is_finite());
    let high = finite().fold(0.0, f64::max);
    let low = finite().fold(f64::INFINITY, f64::min);
    if low > 0.0 && high / low > ratio {
        Scale::log(low / 1.15, high * 1.15)
    } else {
        Scale::from_zero(high)
    }
}

/// Behind an axis's label: how it is to be read.
pub(super) fn kind_note(scale: &Scale) -> &'static str {
    match scale.kind {
        Kind::Log => ", log scale",
        Kind::Linear => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_keep_apart_and_inside() {
        let at = |y: f64| (Key(0), String::new(), y);
        let places: Vec<f64> = spread_labels(
            vec![at(50.0), at(51.0), at(198.0), at(199.0), at(49.0)],
            40.0,
            200.0,
        )
        .into_iter()
        .map(|l| l.2)
        .collect();
        assert_eq!(places, [49.0, 61.0, 73.0, 188.0, 200.0]);
    }

    #[test]
    fn a_point_stands_where_its_value_is() {
        let x = Axis::new("streams", Scale::log(1.0, 64.0)).at(&[1.0, 8.0, 64.0]);
        let y = Axis::new("tokens/s", Scale::linear(0.0, 100.0));
        let mut plot = Plot::new("t", &x, &y, ["vllm"]);
        let (left, right) = (plot.left + 4.0, plot.right - 4.0);
        let interval = Interval {
            low: 40.0,
            high: 60.0,
            level: 0.95,
            method: benchd_core::stats::IntervalMethod::Percentile,
        };
        plot.point(Key(1), (8.0, 50.0), Some(&interval), "fifty");
        let middle = Px((left + right) / 2.0).to_string();
        // The frame is 42 to 200: half is 121, 40 % is 136.8, 60 % is 105.2.
        let err = format!("<path class=\"err\" d=\"M{middle} 136.8L{middle} 105.2M");
        assert!(plot.marks.contains(&err), "{}", plot.marks);
        assert!(
            plot.marks
                .contains("class=\"mk f2\" data-fw=\"1\"><title>fifty</title>")
        );
        assert!(
            plot.marks
                .contains(&Key(1).marker((left + right) / 2.0, 121.0, POINT))
        );
    }
}
