//! What charts need beyond the summaries: whole distributions, request by request, token by token, and the GPU along
//! the run. Made in the same pass over records and samples as the summaries, and bounded whatever the run's size.

use std::collections::BTreeMap;

use benchd_core::{
    record::{GpuSample, LaneId, RequestRecord},
    stats::Sorted,
};
use benchd_journal::{Entry, Event};

/// Values that a distribution is drawn with at most.
pub(super) const SPREAD_VALUES: usize = 200;
/// The percentiles of a [`Spread`] that are known exactly.
pub const SPREAD_PERCENTILES: [f64; 4] = [25.0, 50.0, 75.0, 95.0];
/// Points of a chart by request number at most.
pub(super) const REQUEST_POINTS: usize = 240;
/// Arrivals of one request's timeline at most.
pub(super) const ARRIVALS: usize = 400;
/// Stretches of time that a lane's GPU samples are folded to at most.
pub(super) const GPU_BUCKETS: usize = 600;
/// The same around one server's stop.
pub(super) const STOP_BUCKETS: usize = 200;
/// What is shown before the stop and after the memory's return, microseconds.
const STOP_MARGIN_US: u64 = 2_000_000;
/// Requests among which the one for a timeline is looked for: the first of the cell.
const TIMELINE_CANDIDATES: usize = 64;

/// What charts of a run are drawn from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunSeries {
    /// As many as the summary's lanes, in their order.
    pub lanes: Vec<LaneSeries>,
}

/// What charts of a lane are drawn from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaneSeries {
    /// As many as the summary's measured cells, in their order.
    pub cells: Vec<CellSeries>,
    /// The lane's attempts, in order.
    pub attempts: Vec<LaneAttempt>,
    /// The GPU along the attempts; stretches without a sample are left out.
    pub gpu: Vec<GpuBucket>,
    /// The GPU around the stop of each attempt's server, by index of the attempt.
    pub stops: BTreeMap<usize, Vec<GpuBucket>>,
}

/// What charts of a cell are drawn from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CellSeries {
    /// Distribution of TTFT, milliseconds.
    pub ttft_ms: Option<Spread>,
    /// Distribution of latency, milliseconds; of full outputs where the length is fixed.
    pub latency_ms: Option<Spread>,
    /// TTFT by request number (`prefix_cache`); empty elsewhere.
    pub by_request: Vec<RequestPoint>,
    /// One request, token by token: of the cell's first requests the one whose latency is nearest to the cell's median.
    pub timeline: Option<TokenTimeline>,
}

/// A distribution: all values where they are few, else quantiles at equal steps from the smallest to the largest.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// Ascending.
    pub values: Vec<f64>,
    /// Values that they stand for.
    pub n: u64,
    /// The [`SPREAD_PERCENTILES`], of all values.
    pub percentiles: [f64; 4],
}

impl Spread {
    /// The spread of a sample.
    pub(super) fn of(sample: &Sorted) -> Self {
        let values = if sample.len() <= SPREAD_VALUES {
            sample.values().to_vec()
        } else {
            // Multiplied first, so that the last is 100 to the last bit: the largest value stays.
            (0..SPREAD_VALUES)
                .map(|i| sample.percentile(100.0 * i as f64 / (SPREAD_VALUES - 1) as f64))
                .collect()
        };
        Self {
            values,
            n: sample.len() as u64,
            percentiles: SPREAD_PERCENTILES.map(|p| sample.percentile(p)),
        }
    }

    /// Which percentile the value at `index` is, by linear interpolation as everywhere: the smallest 0, the largest 100.
    pub fn percentile_of(&self, index: usize) -> f64 {
        match self.values.len() {
            0 | 1 => 50.0,
            n => index as f64 / (n - 1) as f64 * 100.0,
        }
    }
}

/// TTFT of the requests with one number, or of neighbouring numbers where there are many, over all passes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RequestPoint {
    /// First number, from 0.
    pub from: u32,
    /// Last number.
    pub to: u32,
    /// Median, milliseconds.
    pub median_ms: f64,
    /// Smallest, milliseconds.
    pub min_ms: f64,
    /// Largest, milliseconds.
    pub max_ms: f64,
    /// Values.
    pub n: u64,
}

/// One request, token by token; times from its send.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenTimeline {
    /// Pass, 1 on.
    pub pass: u32,
    /// Position in the pass, from 0.
    pub index: u32,
    /// First token, milliseconds.
    pub ttft_ms: f64,
    /// Its end, milliseconds.
    pub latency_ms: f64,
    /// Tokens by the server's usage.
    pub output_tokens: Option<u64>,
    /// Token-bearing events.
    pub events: u64,
    /// Arrivals of these events, milliseconds; where there are many, every second (third, …) of them.
    pub arrivals_ms: Vec<f64>,
}

/// One attempt of a lane: when what happened, microseconds since the Unix epoch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LaneAttempt {
    /// Its begin.
    pub started_unix_us: u64,
    /// Its end: the last that the journal tells of it.
    pub ended_unix_us: u64,
    /// The launch of its server.
    pub launched_unix_us: Option<u64>,
    /// The first real answer.
    pub ready_unix_us: Option<u64>,
    /// The begin of the stop.
    pub stopping_unix_us: Option<u64>,
    /// The end of the last process.
    pub reaped_unix_us: Option<u64>,
    /// The proof that the GPU memory is back.
    pub released_unix_us: Option<u64>,
    /// Memory in use then, bytes.
    pub released_bytes: Option<u64>,
    /// Whether the memory did not come back.
    pub held: bool,
    /// Memory in use before the first server, bytes, where it was compared with.
    pub baseline_bytes: Option<u64>,
    /// Its cells, in order.
    pub cells: Vec<CellSpan>,
    /// Whether the last of them has no end: it is under way, or was cut off.
    pub cell_open: bool,
}

/// When a cell ran, warm-up and cache reset included.
#[derive(Debug, Clone, PartialEq)]
pub struct CellSpan {
    /// The cell.
    pub cell: String,
    /// Its begin, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// Its end, microseconds since the Unix epoch.
    pub ended_unix_us: u64,
    /// Whether it was measured; else it failed or was cut off.
    pub measured: bool,
}

/// The attempts of every lane, as the journal tells of them.
pub(super) fn attempts(entries: &[Entry]) -> BTreeMap<LaneId, Vec<LaneAttempt>> {
    let mut lanes: BTreeMap<LaneId, Vec<LaneAttempt>> = BTreeMap::new();
    // What happens to a lane outside its attempts (leftovers cleared hours later) is no part of them.
    let mut open: Option<LaneId> = None;
    for entry in entries {
        let at = entry.unix_us;
        let lane = match &entry.event {
            Event::RunStarted(_) | Event::RunEnded(_) => {
                open = None;
                continue;
            }
            Event::LaneStarted(e) => {
                open = Some(e.lane.clone());
                lanes.entry(e.lane.clone()).or_default().push(LaneAttempt {
                    started_unix_us: at,
                    ended_unix_us: at,
                    ..LaneAttempt::default()
                });
                continue;
            }
            Event::GpuBaseline(_) | Event::Note(_) => continue,
            Event::ServerPrepared(e) => &e.lane,
            Event::ServerLaunched(e) => &e.lane,
            Event::ServerDescendants(e) => &e.lane,
            Event::ServerReady(e) => &e.lane,
            Event::ServerStopping(e) => &e.lane,
            Event::ServerReaped(e) => &e.lane,
            Event::GpuReleased(e) => &e.lane,
            Event::GpuHeld(e) => &e.lane,
            Event::CellStarted(e) => &e.lane,
            Event::CellEnded(e) => &e.lane,
            Event::QualityAsked(e) => &e.lane,
            Event::CellFailed(e) => &e.lane,
            Event::LaneEnded(e) => &e.lane,
        };
        let Some(attempt) = open
            .as_ref()
            .filter(|open| *open == lane)
            .and_then(|open| lanes.get_mut(open)?.last_mut())
        else {
            continue;
        };
        attempt.add(at, &entry.event);
        if matches!(entry.event, Event::LaneEnded(_)) {
            open = None;
        }
    }
    lanes
}

impl LaneAttempt {
    fn add(&mut self, at: u64, event: &Event) {
        self.ended_unix_us = self.ended_unix_us.max(at);
        match event {
            Event::ServerLaunched(_) => self.launched_unix_us = Some(at),
            Event::ServerReady(_) => self.ready_unix_us = Some(at),
            Event::ServerStopping(_) => self.stopping_unix_us = Some(at),
            Event::ServerReaped(_) => self.reaped_unix_us = Some(at),
            Event::GpuReleased(e) => {
                self.released_unix_us = Some(at);
                self.released_bytes = Some(e.used_bytes.iter().sum());
                self.baseline_bytes = Some(e.baseline_bytes.iter().sum());
            }
            Event::GpuHeld(e) => {
                self.held = true;
                self.baseline_bytes = Some(e.baseline_bytes.iter().sum());
            }
            Event::CellStarted(e) => {
                self.cells.push(CellSpan {
                    cell: e.cell.clone(),
                    started_unix_us: at,
                    ended_unix_us: at,
                    measured: false,
                });
                self.cell_open = true;
            }
            Event::CellEnded(e) => self.end_cell(at, &e.cell, true),
            Event::CellFailed(e) => self.end_cell(at, &e.cell, false),
            _ => {}
        }
        if let Some(cell) = self.cells.last_mut()
            && matches!(event, Event::ServerDescendants(_) | Event::ServerStopping(_))
            && self.cell_open
        {
            // A cell that was cut off lasts as long as anything is known of it.
            cell.ended_unix_us = cell.ended_unix_us.max(at);
        }
    }

    fn end_cell(&mut self, at: u64, cell: &str, measured: bool) {
        if let Some(span) = self.cells.iter_mut().rev().find(|c| c.cell == cell) {
            span.ended_unix_us = at;
            span.measured = measured;
            self.cell_open = false;
        }
    }

    /// From the stop to the memory's return, with a margin on both sides; `None` where the server was not stopped.
    pub fn stop_window(&self) -> Option<(u64, u64)> {
        let from = self.stopping_unix_us?;
        let to = self
            .released_unix_us
            .or(self.reaped_unix_us)
            .unwrap_or(self.ended_unix_us);
        Some((
            from.saturating_sub(STOP_MARGIN_US).max(self.started_unix_us),
            to.max(from) + STOP_MARGIN_US,
        ))
    }
}

/// Several samples of one figure of one device.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Band {
    /// Smallest.
    pub min: f64,
    /// Mean.
    pub mean: f64,
    /// Largest.
    pub max: f64,
}

impl Band {
    fn plus(self, other: Self) -> Self {
        Self {
            min: self.min + other.min,
            mean: self.mean + other.mean,
            max: self.max + other.max,
        }
    }

    fn over(self, n: f64) -> Self {
        Self {
            min: self.min / n,
            mean: self.mean / n,
            max: self.max / n,
        }
    }
}

/// The GPU over a stretch of time too short for the eye. Several devices: memory and power are sums, utilisation and
/// clock means.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuBucket {
    /// Its middle, microseconds since the Unix epoch.
    pub unix_us: u64,
    /// Its length, microseconds.
    pub length_us: u64,
    /// Memory in use, bytes.
    pub memory_bytes: Option<Band>,
    /// Utilisation, percent.
    pub util_pct: Option<Band>,
    /// Power, watts.
    pub power_w: Option<Band>,
    /// SM clock, MHz.
    pub sm_clock_mhz: Option<Band>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Folding {
    sum: f64,
    n: u64,
    min: f64,
    max: f64,
}

impl Folding {
    fn add(&mut self, value: Option<f64>) {
        let Some(value) = value else { return };
        (self.min, self.max) = if self.n == 0 {
            (value, value)
        } else {
            (self.min.min(value), self.max.max(value))
        };
        self.sum += value;
        self.n += 1;
    }

    fn band(self) -> Option<Band> {
        (self.n > 0).then(|| Band {
            min: self.min,
            mean: self.sum / self.n as f64,
            max: self.max,
        })
    }
}

/// Memory, utilisation, power and clock of one device in one bucket.
type Device = [Folding; 4];

/// Folds samples over windows of time into a bounded number of buckets.
#[derive(Debug)]
struct Buckets {
    /// Start and end, microseconds since the Unix epoch, in the order of time; with the index of the first bucket.
    windows: Vec<(u64, u64, usize)>,
    length_us: u64,
    buckets: BTreeMap<usize, BTreeMap<u32, Device>>,
}

impl Buckets {
    fn new(windows: &[(u64, u64)], most: usize) -> Self {
        let total: u64 = windows.iter().map(|(from, to)| to.saturating_sub(*from)).sum();
        // Every window begins a bucket of its own.
        let most = most.saturating_sub(windows.len()).max(1) as u64;
        let length_us = total.div_ceil(most).max(1);
        let mut first = 0;
        let windows = windows
            .iter()
            .map(|&(from, to)| {
                let window = (from, to, first);
                first += (to.saturating_sub(from) / length_us) as usize + 1;
                window
            })
            .collect();
        Self {
            windows,
            length_us,
            buckets: BTreeMap::new(),
        }
    }

    fn add(&mut self, sample: &GpuSample) {
        let at = sample.unix_us;
        let Some(&(from, _, first)) = self
            .windows
            .iter()
            .find(|(from, to, _)| (*from..=*to).contains(&at))
        else {
            return;
        };
        let bucket = first + ((at - from) / self.length_us) as usize;
        let device = self
            .buckets
            .entry(bucket)
            .or_default()
            .entry(sample.device)
            .or_default();
        device[0].add(sample.memory_used_bytes.map(|b| b as f64));
        device[1].add(sample.util_gpu_pct.map(f64::from));
        device[2].add(sample.power_mw.map(|mw| f64::from(mw) / 1e3));
        device[3].add(sample.sm_clock_mhz.map(f64::from));
    }

    fn finish(self) -> Vec<GpuBucket> {
        let of = |(index, devices): (&usize, &BTreeMap<u32, Device>)| {
            let window = self.windows.iter().rev().find(|(_, _, first)| first <= index)?;
            let sum = |figure: usize| {
                let bands: Vec<Band> = devices.values().filter_map(|d| d[figure].band()).collect();
                let n = bands.len() as f64;
                Some((bands.into_iter().reduce(Band::plus)?, n))
            };
            let mean = |figure| sum(figure).map(|(band, n)| band.over(n));
            Some(GpuBucket {
                unix_us: window.0 + (index - window.2) as u64 * self.length_us + self.length_us / 2,
                length_us: self.length_us,
                memory_bytes: sum(0).map(|(band, _)| band),
                util_pct: mean(1),
                power_w: sum(2).map(|(band, _)| band),
                sm_clock_mhz: mean(3),
            })
        };
        self.buckets.iter().filter_map(of).collect()
    }
}

/// Folds a lane's samples along its attempts and around its stops.
#[derive(Debug)]
pub(super) struct GpuFold {
    whole: Buckets,
    stops: Vec<(usize, Buckets)>,
}

impl GpuFold {
    pub(super) fn new(attempts: &[LaneAttempt]) -> Self {
        let windows: Vec<_> = attempts
            .iter()
            .map(|a| (a.started_unix_us, a.ended_unix_us))
            .collect();
        let stops = attempts.iter().enumerate().filter_map(|(i, a)| {
            let window = a.stop_window()?;
            Some((i, Buckets::new(&[window], STOP_BUCKETS)))
        });
        Self {
            whole: Buckets::new(&windows, GPU_BUCKETS),
            stops: stops.collect(),
        }
    }

    pub(super) fn add(&mut self, sample: &GpuSample) {
        self.whole.add(sample);
        for (_, stop) in &mut self.stops {
            stop.add(sample);
        }
    }

    /// The buckets along the attempts, and around the stop of each attempt that has samples there.
    pub(super) fn finish(self) -> (Vec<GpuBucket>, BTreeMap<usize, Vec<GpuBucket>>) {
        let stops = self.stops.into_iter().map(|(i, b)| (i, b.finish()));
        (
            self.whole.finish(),
            stops.filter(|(_, b)| !b.is_empty()).collect(),
        )
    }
}

/// What a cell's fold keeps for its charts.
#[derive(Debug, Default)]
pub(super) struct SeriesFold {
    /// Request number and TTFT, milliseconds.
    ttft_by_index: Vec<(u32, f64)>,
    candidates: Vec<TokenTimeline>,
}

impl SeriesFold {
    /// Keeps the TTFT of a request of a shared prefix.
    pub(super) fn add_numbered(&mut self, index: u32, ttft_ms: f64) {
        self.ttft_by_index.push((index, ttft_ms));
    }

    /// Considers a successful request for the timeline.
    pub(super) fn add_timeline(&mut self, r: &RequestRecord) {
        let Some(ttft_us) = r.first_token_us else { return };
        if self.candidates.len() >= TIMELINE_CANDIDATES || r.chunks_us.is_empty() {
            return;
        }
        let step = r.chunks_us.len().div_ceil(ARRIVALS);
        self.candidates.push(TokenTimeline {
            pass: r.pass,
            index: r.index,
            ttft_ms: ttft_us as f64 / 1e3,
            latency_ms: r.end_us as f64 / 1e3,
            output_tokens: r.output_tokens,
            events: r.chunks_us.len() as u64,
            arrivals_ms: r
                .chunks_us
                .iter()
                .step_by(step)
                .map(|us| *us as f64 / 1e3)
                .collect(),
        });
    }

    pub(super) fn finish(self, ttft: Option<&Sorted>, latency: Option<&Sorted>) -> CellSeries {
        let median = latency.map_or(f64::INFINITY, Sorted::median);
        let timeline = self.candidates.into_iter().min_by(|a, b| {
            let off = |t: &TokenTimeline| (t.latency_ms - median).abs();
            off(a).total_cmp(&off(b))
        });
        CellSeries {
            ttft_ms: ttft.map(Spread::of),
            latency_ms: latency.map(Spread::of),
            by_request: by_request(self.ttft_by_index),
            timeline,
        }
    }
}

/// Joins the values of equal numbers, and of neighbouring numbers where there are too many. The first request stays
/// alone: it is the one that pays for the prefix.
fn by_request(mut values: Vec<(u32, f64)>) -> Vec<RequestPoint> {
    values.sort_by_key(|(index, _)| *index);
    let numbers = values.last().map_or(0, |(last, _)| last.saturating_add(1)) as usize;
    let step = numbers.div_ceil(REQUEST_POINTS - 1).max(1) as u32;
    let group = |index: u32| {
        if index == 0 { 0 } else { 1 + (index - 1) / step }
    };
    values
        .chunk_by(|(a, _), (b, _)| group(*a) == group(*b))
        .filter_map(|of| {
            let sample = Sorted::new(of.iter().map(|(_, ms)| *ms).collect())?;
            Some(RequestPoint {
                from: of.first()?.0,
                to: of.last()?.0,
                median_ms: sample.median(),
                min_ms: sample.min(),
                max_ms: sample.max(),
                n: sample.len() as u64,
            })
        })
        .collect()
}
