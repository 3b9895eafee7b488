//! Shares of yes and no: how sure one share is, and whether two on the same questions differ.

use statrs::{
    distribution::{ContinuousCDF as _, Normal},
    function::factorial::ln_binomial,
};

use super::bootstrap::{Interval, IntervalMethod};

/// Wilson's score interval of `yes` out of `of`, at `level` (0.95); `None` where `of` is 0. Wilson, J. Am. Stat. Assoc.
/// 22 (1927), equation for p; right also where all or none are yes.
pub fn share_interval(yes: u64, of: u64, level: f64) -> Option<Interval> {
    if of == 0 {
        return None;
    }
    let z = Normal::standard().inverse_cdf(f64::midpoint(1.0, level));
    let n = of as f64;
    let p = yes as f64 / n;
    let middle = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let half = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    Some(Interval {
        low: (middle - half).max(0.0),
        high: (middle + half).min(1.0),
        level,
        method: IntervalMethod::Wilson,
    })
}

/// McNemar's exact test, two-sided: the chance of a split of the questions that only one of two answers right as uneven as
/// `only_a` against `only_b`, or more so, if neither were better. 1 where there are none.
pub fn mcnemar_exact(only_a: u64, only_b: u64) -> f64 {
    let (n, fewer) = (only_a + only_b, only_a.min(only_b));
    let tail: f64 = (0..=fewer)
        .map(|k| (ln_binomial(n, k) - n as f64 * std::f64::consts::LN_2).exp())
        .sum();
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures::close, *};

    /// scipy.stats.binomtest(k, n).proportion_ci(method='wilson').
    #[test]
    fn shares_are_scipys() {
        let of = |yes, n| share_interval(yes, n, 0.95).expect("n above 0");
        close(of(81, 100).low, 0.722_211_5, 1e-6);
        close(of(81, 100).high, 0.874_852_5, 1e-6);
        close(of(0, 100).low, 0.0, 1e-12);
        close(of(0, 100).high, 0.036_993_5, 1e-6);
        assert!(share_interval(0, 0, 0.95).is_none());
    }

    /// scipy.stats.binomtest(min(b, c), b + c).pvalue.
    #[test]
    fn mcnemar_is_a_binomial_test() {
        close(mcnemar_exact(1, 9), 0.021_484_375, 1e-12);
        close(mcnemar_exact(9, 1), 0.021_484_375, 1e-12);
        close(mcnemar_exact(5, 5), 1.0, 1e-12);
        close(mcnemar_exact(0, 0), 1.0, 1e-12);
        close(mcnemar_exact(0, 20), 1.907_348_632_812_5e-6, 1e-15);
    }
}
