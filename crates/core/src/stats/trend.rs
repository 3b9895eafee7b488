//! Whether a series drifts: Theil and Sen's slope, Mann and Kendall's test.

use statrs::distribution::{ContinuousCDF as _, Normal};

use super::Sorted;

/// Longer series are thinned to the medians of this many stretches first: the cost grows with the square.
const TREND_POINTS: usize = 400;

/// A monotonic trend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Median of the slopes between all pairs, in units of y for one of x.
    pub slope: f64,
    /// Two-sided p value that there is no trend, by the normal approximation with correction for ties
    /// (`scipy.stats.kendalltau(method='asymptotic')`).
    pub p: f64,
}

/// The trend of y over x. `None` for fewer than three points or a constant x. Points need not be in order.
pub fn trend(points: &[(f64, f64)]) -> Option<Trend> {
    let series = Series::of(&thinned(points, TREND_POINTS))?;
    Some(Trend {
        slope: Sorted::new(series.slopes)?.median(),
        p: p_value(series.balance, series.variance),
    })
}

/// The trend that several series share, each with a level of its own: Hirsch and Slack's seasonal Kendall test (1982)
/// with the series as seasons. Pairs are taken within a series only; `slope` is the median of all their slopes. Series
/// that give no trend are left out; `None` where none is left.
pub fn pooled_trend(series: &[Vec<(f64, f64)>]) -> Option<Trend> {
    let most = (TREND_POINTS / series.len().max(1)).max(MIN_POOLED_POINTS);
    let series: Vec<Series> = series
        .iter()
        .filter_map(|points| Series::of(&thinned(points, most)))
        .collect();
    let sum = |f: fn(&Series) -> f64| series.iter().map(f).sum::<f64>();
    let p = p_value(sum(|s| s.balance), sum(|s| s.variance));
    let slope = Sorted::new(series.into_iter().flat_map(|s| s.slopes).collect())?.median();
    Some(Trend { slope, p })
}

/// Points that a series of several keeps at least when it is thinned.
const MIN_POOLED_POINTS: usize = 40;

fn p_value(balance: f64, variance: f64) -> f64 {
    if variance > 0.0 {
        (2.0 * Normal::standard().sf(balance.abs() / variance.sqrt())).min(1.0)
    } else {
        1.0
    }
}

/// What Kendall's test needs of one series.
struct Series {
    /// Pairs that rise less pairs that fall.
    balance: f64,
    /// Variance of `balance` without a trend.
    variance: f64,
    slopes: Vec<f64>,
}

impl Series {
    fn of(points: &[(f64, f64)]) -> Option<Self> {
        let n = points.len();
        if n < 3 {
            return None;
        }
        let mut slopes = Vec::with_capacity(n * (n - 1) / 2);
        let mut balance = 0.0;
        for (i, &(x1, y1)) in points.iter().enumerate() {
            for &(x2, y2) in &points[i + 1..] {
                let (dx, dy) = (x2 - x1, y2 - y1);
                if dx != 0.0 {
                    slopes.push(dy / dx);
                    balance += if dy == 0.0 { 0.0 } else { dy.signum() * dx.signum() };
                }
            }
        }
        if slopes.is_empty() {
            return None;
        }
        let (x, y) = (
            Ties::of(points.iter().map(|p| p.0)),
            Ties::of(points.iter().map(|p| p.1)),
        );
        let n = n as f64;
        let m = n * (n - 1.0);
        // A series that never moves has no trend to test.
        let variance = if x.pairs < m / 2.0 && y.pairs < m / 2.0 {
            (m * (2.0 * n + 5.0) - x.weight - y.weight) / 18.0
                + 2.0 * x.pairs * y.pairs / m
                + x.triples * y.triples / (9.0 * m * (n - 2.0))
        } else {
            0.0
        };
        Some(Self {
            balance,
            variance,
            slopes,
        })
    }
}

/// Sums over groups of t equal values that the variance needs.
struct Ties {
    /// t (t - 1) / 2
    pairs: f64,
    /// t (t - 1) (t - 2)
    triples: f64,
    /// t (t - 1) (2 t + 5)
    weight: f64,
}

impl Ties {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let mut ties = Self {
            pairs: 0.0,
            triples: 0.0,
            weight: 0.0,
        };
        for group in values.chunk_by(|a, b| a == b) {
            let t = group.len() as f64;
            ties.pairs += t * (t - 1.0) / 2.0;
            ties.triples += t * (t - 1.0) * (t - 2.0);
            ties.weight += t * (t - 1.0) * (2.0 * t + 5.0);
        }
        ties
    }
}

/// The medians of `most` stretches of x, where there are more points.
fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let mut points: Vec<_> = points
        .iter()
        .copied()
        .filter(|(x, y)| x.is_finite() && y.is_finite())
        .collect();
    if points.len() <= most {
        return points;
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
        .chunks(points.len().div_ceil(most))
        .filter_map(|stretch| {
            let x = Sorted::new(stretch.iter().map(|p| p.0).collect())?;
            let y = Sorted::new(stretch.iter().map(|p| p.1).collect())?;
            Some((x.median(), y.median()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures::close, *};

    /// x = arange(25), y = round(0.3 x + normal(0, 2)): scipy.stats.theilslopes, kendalltau(method='asymptotic').
    #[test]
    fn values_are_scipys() {
        let y = [
            0.0, 1.0, 1.0, 3.0, 2.0, 3.0, 2.0, 3.0, 4.0, 0.0, 2.0, 2.0, 2.0, 3.0, 7.0, 3.0, 7.0, 2.0, 5.0,
            6.0, 7.0, 8.0, 8.0, 6.0, 6.0,
        ];
        let points: Vec<_> = y.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
        let is = trend(&points).expect("a trend");
        close(is.slope, 0.26666666666666666, 1e-12);
        close(is.p, 5.538614645579023e-05, 1e-9);

        // Ties in both.
        let x = [0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 3.0, 3.0, 4.0, 5.0];
        let y = [1.0, 2.0, 2.0, 5.0, 3.0, 3.0, 4.0, 8.0, 8.0, 9.0];
        let is = trend(&x.into_iter().zip(y).collect::<Vec<_>>()).expect("a trend");
        close(is.slope, 1.0, 1e-12);
        close(is.p, 0.004104168791341118, 1e-9);
    }

    #[test]
    fn a_flat_series_has_no_trend_and_a_long_one_is_thinned() {
        let flat: Vec<_> = (0..10).map(|i| (f64::from(i), 3.0)).collect();
        let is = trend(&flat).expect("a trend");
        assert_eq!((is.slope, is.p), (0.0, 1.0));
        assert_eq!(trend(&[(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(trend(&flat[..2]), None);

        let long: Vec<_> = (0..100_000)
            .rev()
            .map(|i| (f64::from(i), f64::from(i) * 2.0))
            .collect();
        let is = trend(&long).expect("a trend");
        assert!(thinned(&long, TREND_POINTS).len() <= TREND_POINTS);
        close(is.slope, 2.0, 1e-9);
    }

    /// The sums of S and of its variance, which follow from scipy.stats.kendalltau's p values of the two series
    /// (method='asymptotic', variance = (S / norm.isf(p / 2))^2); the slope is numpy.median of all slopes within.
    #[test]
    fn a_shared_trend_adds_up_within_the_series() {
        let series = |y: &[f64]| (0..).map(f64::from).zip(y.iter().copied()).collect::<Vec<_>>();
        let low = series(&[1.0, 3.0, 2.0, 5.0, 4.0, 6.0, 7.0, 9.0, 8.0, 10.0]);
        let high = series(&[12.0, 11.0, 13.0, 14.0, 14.0, 15.0, 17.0, 16.0]);
        let is = pooled_trend(&[low.clone(), high.clone()]).expect("a trend");
        close(is.p, 6.610_319_178_194_904e-6, 1e-9);
        close(is.slope, 1.0, 1e-12);
        // Levels that fall from series to series are no trend of the series.
        let flat = |level: f64| (0..20).map(|i| (level * -100.0 + f64::from(i), level)).collect();
        let is = pooled_trend(&[flat(1.0), flat(2.0), flat(3.0)]).expect("a trend");
        assert_eq!((is.slope, is.p), (0.0, 1.0));
        assert_eq!(pooled_trend(&[vec![(0.0, 1.0)]]), None);
    }
}
