//! The GPU along a whole run, with its lanes, cells and releases.

use std::{fmt::Write as _, time::Duration};

use super::{
    super::{
        super::number::{duration, megabytes, number, percent, tick, time},
        text::escape,
    },
    Drawn,
    keys::{Key, Keys},
    plot::{SMALL, panel},
    scale::{Scale, round_step},
    svg::{Anchor, Px, fitted, line, text, text_width},
};
use benchd_analysis::{
    Band, CellSummary, GpuBucket, LaneAttempt, LaneSeries, LaneSummary, RunSeries, RunSummary,
};

const WIDTH: f64 = 1080.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
/// Width of the drawing that can be zoomed, in its own units: the whole run.
const DOMAIN: f64 = 10_000.0;
/// Time without a lane from which on it is cut out, microseconds.
const CUT_US: u64 = 120_000_000;
/// Share of the domain that a cut takes.
const CUT_SHARE: f64 = 0.012;
/// Buckets that are drawn at most: more than pixels, so that a zoom shows something.
const BUCKETS: usize = 2_400;
/// The least width of a phase, so that it is seen: about 1.5 pixels.
const LEAST: f64 = 15.0;

/// A stretch narrower than this has no label, pixels.
const LEAST_LABEL: f64 = 34.0;

const NAMES: f64 = 32.0;
const LANES: f64 = 37.0;
const PHASES: f64 = 46.0;
const GROUPS: f64 = 68.0;
const TRACKS: f64 = 76.0;
const TRACK: f64 = 76.0;
const TRACK_GAP: f64 = 24.0;
const AXIS: f64 = 36.0;

/// Pieces of a run's time, the pauses between them cut out.
#[derive(Debug, PartialEq)]
struct TimeMap {
    /// Start and end, microseconds since the Unix epoch; start and end in the domain.
    pieces: Vec<(u64, u64, f64, f64)>,
}

impl TimeMap {
    fn of(mut spans: Vec<(u64, u64)>) -> Option<Self> {
        spans.retain(|(from, to)| to > from);
        spans.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (from, to) in spans {
            match joined.last_mut() {
                Some(last) if from <= last.1.saturating_add(CUT_US) => last.1 = last.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        let total: u64 = joined.iter().map(|(from, to)| to - from).sum();
        if total == 0 {
            return None;
        }
        let cuts = (joined.len() - 1) as f64 * CUT_SHARE * DOMAIN;
        // Many cuts never take more than half.
        let cut = if cuts > DOMAIN / 2.0 {
            DOMAIN / 2.0 / (joined.len() - 1) as f64
        } else {
            CUT_SHARE * DOMAIN
        };
        let room = DOMAIN - cut * (joined.len() - 1) as f64;
        let mut at = 0.0;
        let pieces = joined
            .into_iter()
            .map(|(from, to)| {
                let end = at + (to - from) as f64 / total as f64 * room;
                let piece = (from, to, at, end);
                at = end + cut;
                piece
            })
            .collect();
        Some(Self { pieces })
    }

    fn at(&self, unix_us: u64) -> f64 {
        let mut place = 0.0;
        for &(from, to, start, end) in &self.pieces {
            if unix_us < from {
                break;
            }
            let share = (unix_us.min(to) - from) as f64 / (to - from) as f64;
            place = start + share * (end - start);
        }
        place
    }
}

/// One run.
pub(super) fn timeline(run: &RunSummary, series: &RunSeries, keys: &Keys, id: &str) -> Option<Drawn> {
    let spans = series.lanes.iter().flat_map(|l| &l.attempts);
    let map = TimeMap::of(spans.map(|a| (a.started_unix_us, a.ended_unix_us)).collect())?;
    let mut tracks = Tracks::of(series);
    let bottom = TRACKS + tracks.list.len() as f64 * (TRACK + TRACK_GAP);
    let height = bottom + AXIS;
    let (mut inner, mut labels) = (String::new(), String::new());
    let mut said = Vec::new();
    let total: usize = series.lanes.iter().map(|l| l.gpu.len()).sum();
    let join = total.div_ceil(BUCKETS).max(1);
    let mut shown: Vec<Key> = Vec::new();
    for (lane, of_lane) in run.lanes.iter().zip(&series.lanes) {
        let key = keys.key(&lane.lane.framework);
        for attempt in &of_lane.attempts {
            shown.push(key);
            draw_attempt(&mut inner, &mut labels, &map, key, lane, attempt, bottom);
        }
        tracks.draw(&mut inner, &map, key, of_lane, join);
        said.push(format!(
            "{} {}: {}",
            lane.lane.framework, lane.lane.model, lane.outcome
        ));
    }
    let mut frame = String::new();
    let title = format!("The run from {}", time(run.started_unix_us));
    text(&mut frame, 0.0, 13.0, Anchor::Start, "h", &title);
    tracks.frame(&mut frame);
    for pair in map.pieces.windows(2) {
        let (end, start) = (pair[0].3, pair[1].2);
        let pause = duration(Duration::from_micros(pair[1].0 - pair[0].1));
        let _ = write!(
            inner,
            "<g class=\"mk\"><title>nothing ran for {pause}</title><rect class=\"hit\" x=\"{}\" y=\"{LANES}\" \
             width=\"{}\" height=\"{}\"/><path class=\"cut\" d=\"M{m} {LANES}L{m} {}\"/></g>",
            Px(end),
            Px(start - end),
            Px(bottom - LANES),
            Px(bottom),
            m = Px((start + end) / 2.0)
        );
    }
    line(&mut frame, (LEFT, bottom), (WIDTH - RIGHT, bottom), "axis");
    let _ = write!(frame, "<g class=\"zt\">{}</g>", axis(&map, bottom));
    text(
        &mut frame,
        (LEFT + WIDTH - RIGHT) / 2.0,
        height - 5.0,
        Anchor::Middle,
        "m s",
        "time since the run began; pauses are cut out",
    );
    let origin = map.pieces[0].0;
    let pieces: Vec<String> = map
        .pieces
        .iter()
        .map(|(from, to, start, end)| {
            let s = |us: u64| us as f64 / 1e6;
            format!(
                "{:.1},{:.1},{},{}",
                s(from - origin),
                s(to - origin),
                Px(*start),
                Px(*end)
            )
        })
        .collect();
    let body = format!(
        "{frame}<svg class=\"zoom\" x=\"{LEFT}\" y=\"0\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {DOMAIN} {h}\" \
         preserveAspectRatio=\"none\" data-left=\"{LEFT}\" data-bottom=\"{b}\" data-pieces=\"{}\">{inner}</svg>{labels}",
        pieces.join(";"),
        w = Px(WIDTH - LEFT - RIGHT),
        h = Px(height),
        b = Px(bottom),
    );
    let description = format!("{}.", said.join("; "));
    let svg = panel(id, &title, &description, (WIDTH, height), "whole", &body);
    Some(Drawn {
        panels: vec![svg],
        keys: shown,
    })
}

/// A rectangle of the zoomed drawing, as wide as can be seen.
fn span(class: &str, (from, to): (f64, f64), (top, bottom): (f64, f64)) -> String {
    format!(
        "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
        Px(from),
        Px(top),
        Px((to - from).max(LEAST)),
        Px(bottom - top)
    )
}

/// A label over a stretch of the domain, cut to its room; a zoom gives it more.
fn label(out: &mut String, (from, to): (f64, f64), y: f64, class: &str, says: &str) {
    let pixels = (WIDTH - LEFT - RIGHT) / DOMAIN;
    let room = (to - from) * pixels - 4.0;
    let hidden = if room < LEAST_LABEL {
        " visibility=\"hidden\""
    } else {
        ""
    };
    let shown = fitted(says, SMALL, room.max(LEAST_LABEL));
    let _ = write!(
        out,
        "<text class=\"zl {class}\" x=\"{}\" y=\"{}\" text-anchor=\"middle\" data-a=\"{}\" data-b=\"{}\" \
         data-says=\"{}\"{hidden}>{}</text>",
        Px(LEFT + (from + to) / 2.0 * pixels),
        Px(y),
        Px(from),
        Px(to),
        escape(says),
        escape(&shown)
    );
}

fn draw_attempt(
    inner: &mut String,
    labels: &mut String,
    map: &TimeMap,
    key: Key,
    lane: &LaneSummary,
    attempt: &LaneAttempt,
    bottom: f64,
) {
    let (start, end) = (attempt.started_unix_us, attempt.ended_unix_us);
    let between = |from: u64, to: u64| duration(Duration::from_micros(to.saturating_sub(from)));
    let id = &lane.lane;
    let round = if id.round > 1 {
        format!(", round {}", id.round)
    } else {
        String::new()
    };
    let name = format!("{} · {}{round}", id.framework, id.model);
    let places = (map.at(start), map.at(end));
    let _ = write!(
        inner,
        "{}{}</g>",
        key.open_mark(&format!("{name}\n{} in all", between(start, end))),
        span("bar", places, (LANES, LANES + 6.0))
    );
    label(labels, places, NAMES, "s", &name);
    // Cells first: phases lie on them.
    let mut groups: Vec<(&str, f64, f64)> = Vec::new();
    for (i, cell) in attempt.cells.iter().enumerate() {
        let places = (map.at(cell.started_unix_us), map.at(cell.ended_unix_us));
        let class = match (cell.measured, i % 2) {
            (false, _) => "cell failed",
            (true, 0) => "cell",
            (true, _) => "cell odd",
        };
        let mut tip = format!(
            "{name}\n{}: {}, warm-up included",
            cell.cell,
            between(cell.started_unix_us, cell.ended_unix_us)
        );
        if !cell.measured {
            tip.push_str("\nfailed or cut off");
        } else if let Some(summary) = lane.cells.iter().find(|c| c.cell == cell.cell) {
            tip.push_str(&gpu_says(summary));
        }
        let _ = write!(
            inner,
            "{}{}{}</g>",
            key.open_mark(&tip),
            span(class, places, (PHASES, PHASES + 10.0)),
            span("hit", places, (PHASES, bottom))
        );
        let scenario = cell.cell.split('/').next().unwrap_or(&cell.cell);
        match groups.last_mut() {
            Some(last) if last.0 == scenario => last.2 = places.1,
            _ => groups.push((scenario, places.0, places.1)),
        }
    }
    for (scenario, from, to) in groups {
        label(labels, (from, to), GROUPS, "m s", scenario);
    }
    let mut phase = |class: &str, from: Option<u64>, to: Option<u64>, low: f64, what: &str| {
        if let (Some(from), Some(to)) = (from, to) {
            let tip = format!("{name}\n{what}: {}", between(from, to));
            let _ = write!(
                inner,
                "{}{}</g>",
                key.open_mark(&tip),
                span(class, (map.at(from), map.at(to)), (PHASES, low))
            );
        }
    };
    let low = PHASES + 10.0;
    phase(
        "phase",
        attempt.launched_unix_us,
        attempt.ready_unix_us,
        low,
        "start, launch to first answer",
    );
    phase(
        "phase",
        attempt.stopping_unix_us,
        attempt.reaped_unix_us,
        low,
        "stop, signal to last process's end",
    );
    if attempt.released_unix_us.is_some() {
        phase(
            "release",
            attempt.reaped_unix_us,
            attempt.released_unix_us,
            bottom,
            "release, until the memory is back",
        );
    } else if attempt.held {
        phase(
            "release",
            attempt.reaped_unix_us,
            Some(end),
            bottom,
            "memory did not come back",
        );
    }
}

/// What the GPU did in a cell, as the tables say it.
fn gpu_says(cell: &CellSummary) -> String {
    let Some(gpu) = cell.gpu.as_ref().filter(|g| g.samples > 0) else {
        return "\nno GPU samples".to_owned();
    };
    let mut out = String::new();
    if let Some(bytes) = gpu.memory_peak_bytes {
        let _ = write!(out, "\nmemory, peak: {} MB", megabytes(bytes as f64));
    }
    if let Some(pct) = gpu.util_mean_pct {
        let _ = write!(out, "\nutilisation, mean: {}", percent(pct / 100.0));
    }
    if let Some(watts) = gpu.power_mean_w {
        let _ = write!(out, "\npower, mean: {} W", number(watts));
    }
    if let Some(mhz) = gpu.sm_clock_mean_mhz {
        let _ = write!(out, "\nSM clock, mean: {} MHz", number(mhz));
    }
    out
}

/// One figure along the run.
struct Track {
    label: &'static str,
    read: fn(&GpuBucket) -> Option<Band>,
    scale: Scale,
    top: f64,
}

/// A track before it has a place: label, reader, and the least top of its axis.
type Figure = (&'static str, fn(&GpuBucket) -> Option<Band>, f64);

fn in_gigabytes(b: &GpuBucket) -> Option<Band> {
    b.memory_bytes.map(|m| Band {
        min: m.min / 1e9,
        mean: m.mean / 1e9,
        max: m.max / 1e9,
    })
}

const FIGURES: [Figure; 4] = [
    ("memory in use, GB", in_gigabytes, 0.0),
    ("utilisation, %", |b| b.util_pct, 100.0 / 1.07),
    ("power, W", |b| b.power_w, 0.0),
    ("SM clock, MHz", |b| b.sm_clock_mhz, 0.0),
];

/// The figures that the run has samples of, below each other.
struct Tracks {
    list: Vec<Track>,
}

impl Tracks {
    fn of(series: &RunSeries) -> Self {
        let mut list: Vec<Track> = Vec::new();
        for (label, read, least) in FIGURES {
            let bands = series.lanes.iter().flat_map(|l| &l.gpu).filter_map(read);
            let Some(most) = bands.map(|b| b.max).reduce(f64::max) else {
                continue;
            };
            let top = TRACKS + list.len() as f64 * (TRACK + TRACK_GAP) + TRACK_GAP;
            list.push(Track {
                label,
                read,
                scale: Scale::from_zero(most.max(least)).on(top + TRACK, top),
                top,
            });
        }
        Self { list }
    }

    fn frame(&self, out: &mut String) {
        for track in &self.list {
            text(out, LEFT, track.top - 4.0, Anchor::Start, "m s halo", track.label);
            for t in track.scale.ticks(3) {
                let at = track.scale.at(t.value);
                line(out, (LEFT, at), (WIDTH - RIGHT, at), "grid");
                text(
                    out,
                    LEFT - 5.0,
                    at + 3.5,
                    Anchor::End,
                    "m s",
                    &tick(t.value, t.step),
                );
            }
        }
    }

    fn draw(&mut self, out: &mut String, map: &TimeMap, key: Key, lane: &LaneSeries, join: usize) {
        for track in &self.list {
            let (mut area, mut mean) = (String::new(), String::new());
            for run in unbroken(&lane.gpu) {
                let points: Vec<(f64, Band)> = run
                    .chunks(join)
                    .filter_map(|of| {
                        let bands: Vec<Band> = of.iter().filter_map(track.read).collect();
                        Some((map.at(of[of.len() / 2].unix_us), joined(&bands)?))
                    })
                    .collect();
                let at = |v: f64| track.scale.at(v);
                let mut move_to = 'M';
                for (x, band) in &points {
                    let _ = write!(mean, "{move_to}{} {}", Px(x.round()), Px(at(band.mean)));
                    move_to = 'L';
                }
                if points.len() > 1 && points.iter().any(|(_, b)| at(b.min) - at(b.max) > 1.0) {
                    let mut move_to = 'M';
                    let lows = points.iter().map(|(x, b)| (x, b.min));
                    let highs = points.iter().rev().map(|(x, b)| (x, b.max));
                    for (x, value) in lows.chain(highs) {
                        let _ = write!(area, "{move_to}{} {}", Px(x.round()), Px(at(value)));
                        move_to = 'L';
                    }
                    area.push('z');
                }
            }
            if mean.is_empty() {
                continue;
            }
            let _ = write!(out, "{}", key.open());
            if !area.is_empty() {
                let _ = write!(out, "<path class=\"area\" d=\"{area}\"/>");
            }
            let _ = write!(out, "<path class=\"track\" d=\"{mean}\"/></g>");
        }
    }
}

fn joined(bands: &[Band]) -> Option<Band> {
    let n = bands.len() as f64;
    bands
        .iter()
        .copied()
        .reduce(|a, b| Band {
            min: a.min.min(b.min),
            mean: a.mean + b.mean,
            max: a.max.max(b.max),
        })
        .map(|b| Band {
            mean: b.mean / n,
            ..b
        })
}

/// Stretches without a hole: what was not sampled is not drawn.
fn unbroken(buckets: &[GpuBucket]) -> impl Iterator<Item = &[GpuBucket]> {
    /// A pause between samples that is no hole, microseconds.
    const PAUSE_US: u64 = 3_000_000;
    buckets.chunk_by(|a, b| b.unix_us.saturating_sub(a.unix_us) <= PAUSE_US + 3 * a.length_us)
}

/// The ticks along the whole run.
fn axis(map: &TimeMap, bottom: f64) -> String {
    let pixels = (WIDTH - LEFT - RIGHT) / DOMAIN;
    let origin = map.pieces[0].0;
    let total: f64 = map
        .pieces
        .iter()
        .map(|(from, to, ..)| (to - from) as f64 / 1e6)
        .sum();
    let step = time_step(total / 9.0);
    let (mut out, mut free) = (String::new(), f64::NEG_INFINITY);
    for &(from, to, start, end) in &map.pieces {
        let (from, to) = ((from - origin) as f64 / 1e6, (to - origin) as f64 / 1e6);
        let first = (from / step).ceil() as u64;
        for i in first..=(to / step).floor() as u64 {
            let seconds = i as f64 * step;
            let x = LEFT + (start + (seconds - from) / (to - from) * (end - start)) * pixels;
            let says = elapsed(seconds);
            let half = text_width(&says, SMALL) / 2.0;
            line(&mut out, (x, bottom), (x, bottom + 4.0), "axis");
            if x - half > free && x + half < WIDTH {
                text(&mut out, x, bottom + 15.0, Anchor::Middle, "m s", &says);
                free = x + half + 6.0;
            }
        }
    }
    out
}

/// A round step of time, seconds, not below `least`.
fn time_step(least: f64) -> f64 {
    const STEPS: [f64; 18] = [
        0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0,
        7_200.0, 21_600.0,
    ];
    STEPS
        .into_iter()
        .find(|s| *s >= least)
        .unwrap_or_else(|| round_step(least / 86_400.0) * 86_400.0)
}

fn elapsed(seconds: f64) -> String {
    if seconds == 0.0 {
        "0".to_owned()
    } else {
        duration(Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000;

    #[test]
    fn pauses_are_cut_out_and_time_is_even() {
        // 100 s, a pause of ten hours, 300 s: a quarter and three quarters of what the cut leaves.
        let map = TimeMap::of(vec![(36_100 * S, 36_400 * S), (0, 60 * S), (70 * S, 100 * S)]).expect("a map");
        let cut = CUT_SHARE * DOMAIN;
        let room = DOMAIN - cut;
        assert_eq!(map.pieces.len(), 2);
        assert_eq!(
            (map.at(0), map.at(50 * S), map.at(100 * S)),
            (0.0, room / 8.0, room / 4.0)
        );
        assert_eq!(map.at(20_000 * S), room / 4.0);
        assert_eq!(
            (map.at(36_100 * S), map.at(36_400 * S)),
            (room / 4.0 + cut, DOMAIN)
        );
        assert_eq!(TimeMap::of(vec![(5, 5)]), None);
        let many =
            TimeMap::of((0..200).map(|i| (i * 1_000 * S, (i * 1_000 + 1) * S)).collect()).expect("a map");
        assert!((many.pieces[199].3 - DOMAIN).abs() < 1e-6);
    }

    #[test]
    fn steps_of_time_are_those_of_clocks() {
        assert_eq!(
            [0.3, 7.0, 61.0, 1_000.0, 30_000.0, 100_000.0].map(time_step),
            [0.5, 10.0, 120.0, 1_800.0, 43_200.0, 172_800.0]
        );
        assert_eq!(
            (elapsed(0.0).as_str(), elapsed(90.0).as_str()),
            ("0", "1 min 30 s")
        );
    }
}
