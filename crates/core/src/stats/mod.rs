//! Statistics on plain numbers: pure functions, seeded where they draw.
//!
//! Checked against numpy 2.4 and scipy 1.17; the fixtures in the tests were made with them by hand and say how.

mod between;
mod bootstrap;
mod contrast;
mod effect;
mod proportion;
mod quantile;
mod steady;
mod trend;

pub use between::{Estimate, Heterogeneity, heterogeneity};
pub use bootstrap::{
    DEFAULT_LEVEL, Interval, IntervalMethod, REPLICATES, median_interval, median_ratio_interval,
    stratified_median_interval, stratified_ratio_interval,
};
pub use contrast::{LogContrast, Term};
pub use effect::{cliffs_delta, fails_more_often};
pub use proportion::{mcnemar_exact, share_interval};
pub use quantile::{CERTAINTY, Sorted, is_certain, samples_needed};
pub use steady::{STEADY_SHARE, Window, overlap_share, steady_window};
pub use trend::{Trend, pooled_trend, trend};

#[cfg(test)]
pub(crate) mod fixtures {
    /// `numpy.round(default_rng(42).lognormal(3, 0.5, 25), 2)`.
    pub(crate) const A: [f64; 25] = [
        23.39, 11.94, 29.23, 32.15, 7.57, 10.47, 21.41, 17.15, 19.92, 13.11, 31.18, 29.63, 20.76, 35.29,
        25.37, 13.07, 24.15, 12.44, 31.16, 19.59, 18.31, 14.29, 37.01, 18.59, 16.21,
    ];
    /// The same generator's next `numpy.round(lognormal(3.3, 0.4, 18), 2)`.
    pub(crate) const B: [f64; 18] = [
        23.55, 33.55, 31.38, 31.98, 32.21, 63.86, 23.04, 22.09, 19.58, 34.69, 42.59, 25.9, 19.37, 19.5,
        35.17, 36.5, 33.69, 20.78,
    ];

    /// Asserts that two numbers agree within `tolerance` (absolute).
    #[track_caller]
    pub(crate) fn close(is: f64, should: f64, tolerance: f64) {
        assert!(
            (is - should).abs() <= tolerance,
            "{is} is not {should} ± {tolerance}"
        );
    }
}
