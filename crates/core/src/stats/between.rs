//! Estimates from several nights: whether they differ by more than each night's own uncertainty, and what a further
//! night may bring.

use statrs::distribution::{ChiSquared, ContinuousCDF as _, Normal, StudentsT};

use super::{Interval, IntervalMethod};

/// An estimate is never taken for more exact than this share of itself: a sample without spread has an interval
/// without width, which says that nothing varied, not that nothing can.
const LEAST_ERROR_SHARE: f64 = 1e-3;

/// One night's estimate of something positive, with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The value, above 0.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
}

/// What several estimates of one thing say together. Worked out on logarithms: shares, not differences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Heterogeneity {
    /// Cochran's Q: the squared distances from the common value, in units of the estimates' own variances.
    pub q: f64,
    /// Chance of a Q as large where all nights are alike: chi-squared with one degree fewer than nights.
    pub p: f64,
    /// Standard deviation between nights beyond their own uncertainty, as a share (DerSimonian and Laird).
    pub sd_share: f64,
    /// The mean with the nights as a sample of nights (random effects), and its interval by Hartung and Knapp.
    pub mean: f64,
    /// The interval of `mean`.
    pub interval: Interval,
}

/// Compares the nights' estimates. `None` for fewer than two, or where a value or an end is not positive.
pub fn heterogeneity(nights: &[Estimate], level: f64) -> Option<Heterogeneity> {
    if nights.len() < 2
        || nights
            .iter()
            .any(|n| !(n.value.is_finite() && n.value > 0.0 && n.interval.low > 0.0))
    {
        return None;
    }
    let logs: Vec<(f64, f64)> = nights
        .iter()
        .map(|n| {
            let z = Normal::standard().inverse_cdf(f64::midpoint(1.0, n.interval.level));
            let error = (n.interval.high / n.interval.low).ln() / (2.0 * z);
            (n.value.ln(), error.max(LEAST_ERROR_SHARE).powi(2))
        })
        .collect();
    let df = (nights.len() - 1) as f64;
    let (weights, mean) = weighted(&logs, 0.0);
    let q: f64 = logs
        .iter()
        .zip(&weights)
        .map(|((y, _), w)| w * (y - mean).powi(2))
        .sum();
    let sum: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|w| w * w).sum();
    let variance_between = ((q - df) / (sum - squares / sum)).max(0.0);
    let (weights, mean) = weighted(&logs, variance_between);
    let spread: f64 = logs
        .iter()
        .zip(&weights)
        .map(|((y, _), w)| w * (y - mean).powi(2))
        .sum();
    let weight: f64 = weights.iter().sum();
    // Never narrower than the estimates' own uncertainty: nights that agree by chance would make it so.
    let error = (spread / (df * weight)).max(1.0 / weight).sqrt();
    let t = StudentsT::new(0.0, 1.0, df)
        .ok()?
        .inverse_cdf(f64::midpoint(1.0, level));
    Some(Heterogeneity {
        q,
        p: ChiSquared::new(df).ok()?.sf(q),
        sd_share: variance_between.sqrt().exp_m1(),
        mean: mean.exp(),
        interval: Interval {
            low: (mean - t * error).exp(),
            high: (mean + t * error).exp(),
            level,
            method: IntervalMethod::RandomEffects,
        },
    })
}

/// Weights by variance, and the weighted mean.
fn weighted(logs: &[(f64, f64)], variance_between: f64) -> (Vec<f64>, f64) {
    let weights: Vec<f64> = logs.iter().map(|(_, v)| 1.0 / (v + variance_between)).collect();
    let sum: f64 = weights.iter().sum();
    let mean = logs.iter().zip(&weights).map(|((y, _), w)| y * w).sum::<f64>() / sum;
    (weights, mean)
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures::close, *};

    fn night(value: f64, share: f64) -> Estimate {
        Estimate {
            value,
            interval: Interval {
                low: value * (-share * 1.959_963_984_540_054).exp(),
                high: value * (share * 1.959_963_984_540_054).exp(),
                level: 0.95,
                method: IntervalMethod::Bca,
            },
        }
    }

    /// By hand with numpy and scipy.stats: y = ln(100, 110, 125), standard errors 0.02, 0.03, 0.04.
    #[test]
    fn nights_that_differ_are_told() {
        let nights = [night(100.0, 0.02), night(110.0, 0.03), night(125.0, 0.04)];
        let h = heterogeneity(&nights, 0.95).expect("three nights");
        close(h.q, 27.001_941_389_906_42, 1e-6);
        close(h.p, 1.369_628_949_001_139_3e-6, 1e-9);
        close(h.sd_share, 0.108_001_103_565_104_6, 1e-6);
        close(h.mean, 110.767_432_843_132_46, 1e-5);
        close(h.interval.low, 83.975_081_448_620_54, 1e-3);
        close(h.interval.high, 146.107_916_386_914_58, 1e-3);
    }

    #[test]
    fn equal_nights_are_alike_and_one_night_tells_nothing() {
        let h = heterogeneity(&[night(100.0, 0.02), night(101.0, 0.02)], 0.95).expect("two nights");
        assert!(h.p > 0.5 && h.sd_share == 0.0, "{h:?}");
        assert!(
            h.interval.low < 90.0 && h.interval.high > 115.0,
            "two nights say little: {h:?}"
        );
        assert_eq!(heterogeneity(&[night(100.0, 0.02)], 0.95), None);
        assert_eq!(heterogeneity(&[night(100.0, 0.02), night(0.0, 0.02)], 0.95), None);
        // Without spread the error is never 0.
        let exact = heterogeneity(&[night(100.0, 0.0), night(100.0, 0.0)], 0.95).expect("two nights");
        assert_eq!((exact.q, exact.p), (0.0, 1.0));
    }
}
