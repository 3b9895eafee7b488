//! Numbers that stand for many: distributions, rates, counts.

use serde::{Deserialize, Serialize};

use benchd_core::stats::{self, Interval, Sorted};

/// Seed of every interval: the same records give the same report.
pub(super) const SEED: u64 = 0xbe9c_4d00;

/// A distribution over requests, in the unit that the field holding it names. Percentiles by linear interpolation
/// on the raw values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Distribution {
    /// Values.
    pub n: u64,
    /// Time-outs among them, counted as their limit: what took at least that long.
    pub timeouts: u64,
    /// Mean (a lower bound where there are time-outs).
    pub mean: f64,
    /// Standard deviation, ddof 1; `None` for one value.
    pub sd: Option<f64>,
    /// Smallest.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// 95 % interval of the median; `None` for one value.
    pub p50_interval: Option<Interval>,
    /// 95th percentile.
    pub p95: f64,
    /// Whether there are enough values for it; else it is an estimate.
    pub p95_certain: bool,
    /// 99th percentile.
    pub p99: f64,
    /// Whether there are enough values for it; else it is an estimate.
    pub p99_certain: bool,
    /// Largest.
    pub max: f64,
}

impl Distribution {
    /// The distribution of a sample.
    pub(super) fn of(sample: &Sorted, timeouts: u64) -> Self {
        let n = sample.len();
        Self {
            n: n as u64,
            timeouts,
            mean: sample.mean(),
            sd: sample.standard_deviation(),
            min: sample.min(),
            p50: sample.median(),
            p50_interval: stats::median_interval(sample, SEED, stats::DEFAULT_LEVEL),
            p95: sample.percentile(95.0),
            p95_certain: stats::is_certain(95.0, n),
            p99: sample.percentile(99.0),
            p99_certain: stats::is_certain(99.0, n),
            max: sample.max(),
        }
    }

    pub(super) fn of_values(values: Vec<f64>, timeouts: u64) -> Option<Self> {
        Sorted::new(values).map(|sample| Self::of(&sample, timeouts))
    }
}

/// A rate per second. It has as many samples as passes, not as requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Rate {
    /// One value a pass, in the order of the passes.
    pub passes: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// 95 % interval of the median; `None` for fewer than three passes. Few passes can't bear the level: the range of n
    /// values holds the true median with a chance of 1 - 2^(1 - n) only, 75 % for three and 94 % for five.
    pub interval: Option<Interval>,
}

/// Passes that an interval of a rate needs at least.
const PASSES_FOR_INTERVAL: usize = 3;

impl Rate {
    pub(super) fn of(passes: Vec<f64>) -> Option<Self> {
        let sample = Sorted::new(passes.clone())?;
        let enough = passes.len() >= PASSES_FOR_INTERVAL;
        Some(Self {
            median: sample.median(),
            interval: enough
                .then(|| stats::median_interval(&sample, SEED, stats::DEFAULT_LEVEL))
                .flatten(),
            passes,
        })
    }
}

/// Token counts over the successful requests whose count is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Counts {
    /// Requests whose count is known.
    pub known: u64,
    /// Sum.
    pub total: u64,
    /// Median of a request.
    pub median: f64,
    /// Smallest.
    pub min: u64,
    /// Largest.
    pub max: u64,
}

impl Counts {
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let sample = Sorted::new(values.to_vec())?;
        Some(Self {
            known: sample.len() as u64,
            total: values.iter().sum::<f64>() as u64,
            median: sample.median(),
            min: sample.min() as u64,
            max: sample.max() as u64,
        })
    }
}

/// The mean of what is added, one by one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    sum: f64,
    n: u64,
}

impl Mean {
    pub(super) fn add(&mut self, value: impl Into<Option<f64>>) {
        if let Some(value) = value.into() {
            self.sum += value;
            self.n += 1;
        }
    }

    /// `None` of nothing.
    pub(super) fn get(self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / self.n as f64)
    }
}
