//! Percentiles and moments of a sample.

/// A sample in ascending order, finite and not empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Sorted(Vec<f64>);

impl Sorted {
    /// Sorts a sample; `None` where it is empty. Values that are not finite are no measurements and are left out.
    pub fn new(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|v| v.is_finite());
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then_some(Self(values))
    }

    /// The values, ascending.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// How many values there are; never 0.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The `percent`-th percentile (0 to 100), by linear interpolation between the closest ranks: numpy's default,
    /// Hyndman and Fan's type 7.
    pub fn percentile(&self, percent: f64) -> f64 {
        let at = (self.0.len() - 1) as f64 * percent.clamp(0.0, 100.0) / 100.0;
        let below = at.floor() as usize;
        let above = (below + 1).min(self.0.len() - 1);
        let (a, b, t) = (self.0[below], self.0[above], at - below as f64);
        // numpy's own lerp: exact at both ends.
        if t >= 0.5 {
            b - (b - a) * (1.0 - t)
        } else {
            a + (b - a) * t
        }
    }

    /// The median.
    pub fn median(&self) -> f64 {
        self.percentile(50.0)
    }

    /// The arithmetic mean.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The sample's standard deviation, divided by n - 1 (`ddof = 1`); `None` for one value.
    pub fn standard_deviation(&self) -> Option<f64> {
        let mean = self.mean();
        let squares: f64 = self.0.iter().map(|v| (v - mean) * (v - mean)).sum();
        (self.0.len() > 1).then(|| (squares / (self.0.len() - 1) as f64).sqrt())
    }

    /// The smallest value.
    pub fn min(&self) -> f64 {
        self.0[0]
    }

    /// The largest value.
    pub fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }
}

/// How sure one has to be that a percentile's true value is not above the largest value seen.
pub const CERTAINTY: f64 = 0.99;

/// Samples needed before a percentile can be told for certain: the smallest n for which, if the true percentile were
/// above everything seen, n values in a row below it would have had a chance of at most `1 - certainty`:
/// `p^n <= 1 - certainty`. This is MLPerf LoadGen's early-stopping bound with no value allowed over the limit; at 99 %
/// it gives 44 for p90, 90 for p95, 459 for p99. `percent` is between 0 and 100, both excluded.
pub fn samples_needed(percent: f64, certainty: f64) -> u64 {
    let p = percent / 100.0;
    ((1.0 - certainty).ln() / p.ln()).ceil() as u64
}

/// Whether `n` samples are enough for this percentile at [`CERTAINTY`]; else it is an estimate.
pub fn is_certain(percent: f64, n: usize) -> bool {
    n as u64 >= samples_needed(percent, CERTAINTY)
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures::*, *};

    #[test]
    fn percentiles_are_numpys() {
        let a = Sorted::new(A.to_vec()).expect("values");
        // [numpy.percentile(A, q) for q in (0, 5, 50, 90, 95, 99, 100)]
        let expected = [
            7.57,
            10.764000000000001,
            19.92,
            31.762,
            34.66199999999999,
            36.597199999999994,
            37.01,
        ];
        for (percent, should) in [0.0, 5.0, 50.0, 90.0, 95.0, 99.0, 100.0]
            .into_iter()
            .zip(expected)
        {
            close(a.percentile(percent), should, 1e-12);
        }
        // A.mean(), A.std(ddof=1)
        close(a.mean(), 21.3356, 1e-12);
        close(
            a.standard_deviation().expect("25 values"),
            8.258292337604265,
            1e-12,
        );
    }

    #[test]
    fn small_samples() {
        assert_eq!(Sorted::new(vec![]), None);
        assert_eq!(Sorted::new(vec![f64::NAN, f64::INFINITY]), None);
        let one = Sorted::new(vec![3.0]).expect("a value");
        assert_eq!(
            (one.median(), one.percentile(99.0), one.standard_deviation()),
            (3.0, 3.0, None)
        );
        let two = Sorted::new(vec![4.0, 2.0]).expect("values");
        assert_eq!((two.median(), two.min(), two.max()), (3.0, 2.0, 4.0));
    }

    #[test]
    fn certainty_needs_the_published_numbers() {
        let needed = |percent| samples_needed(percent, CERTAINTY);
        assert_eq!((needed(90.0), needed(95.0), needed(99.0)), (44, 90, 459));
        assert!(!is_certain(95.0, 89) && is_certain(95.0, 90));
    }
}
