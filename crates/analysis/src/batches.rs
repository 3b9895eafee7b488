//! Means of neighbours that are long enough to be independent of each other.
//!
//! Requests that follow each other share what the server is doing: a trend test that takes each for a value of its own
//! finds trends in anything that wanders.

use std::cmp::Ordering;

/// Noise below this is none (an error is taken for 0.1 % at least): a smooth residual of a series without noise would look
/// correlated from end to end.
const NOISE: f64 = 1e-3;
/// A trend is no correlation: it is taken out as a straight line through each of so many parts, since no drift is straight.
const PARTS: usize = 3;
/// Points that a part needs: a line through two leaves nothing.
const PART_POINTS: usize = 3;
/// A batch is so many times as long as the series is correlated: means of neighbours then share an eighth at most.
const CORRELATION_TIMES: f64 = 2.0;
/// The sum of the autocorrelations ends where its window is so many times as long as what it came to (Sokal): six times as
/// long as an exponential decay is.
const WINDOW: f64 = 3.0;

/// Means of neighbouring points, by x, each over `least` points at least and over more than the series is correlated.
/// Points are x and the logarithm of what was measured, in any order; those of the last batch that do not fill it are left
/// out. Empty where the series is too short to tell how far it is correlated.
pub(super) fn batch_means(points: &[(f64, f64)], least: usize) -> Vec<(f64, f64)> {
    if points.len() < PARTS * PART_POINTS {
        return Vec::new();
    }
    let mut points = points.to_vec();
    points.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal));
    let parts = points.chunks(points.len().div_ceil(PARTS).max(1));
    let residuals: Vec<f64> = parts.flat_map(residuals).collect();
    let Some(correlated) = correlation_time(&residuals) else {
        return Vec::new();
    };
    let size = least.max((CORRELATION_TIMES * correlated).ceil() as usize).max(1);
    let mean = |batch: &[(f64, f64)]| {
        let n = batch.len() as f64;
        let (x, y) = batch.iter().fold((0.0, 0.0), |(x, y), p| (x + p.0, y + p.1));
        (x / n, y / n)
    };
    points.chunks_exact(size).map(mean).collect()
}

/// What a straight line leaves.
fn residuals(points: &[(f64, f64)]) -> Vec<f64> {
    let n = points.len().max(1) as f64;
    let (mx, my) = points
        .iter()
        .fold((0.0, 0.0), |(x, y), p| (x + p.0 / n, y + p.1 / n));
    let (mut xx, mut xy) = (0.0, 0.0);
    for (x, y) in points {
        xx += (x - mx).powi(2);
        xy += (x - mx) * (y - my);
    }
    let slope = if xx > 0.0 { xy / xx } else { 0.0 };
    points.iter().map(|(x, y)| y - my - slope * (x - mx)).collect()
}

/// The integrated autocorrelation time, in points: 1 for independent ones; of what swings to and fro, that of one swing.
/// `None` where the series is not several times as long.
fn correlation_time(residuals: &[f64]) -> Option<f64> {
    let n = residuals.len();
    let variance = residuals.iter().map(|r| r * r).sum::<f64>() / n.max(1) as f64;
    if variance < NOISE * NOISE {
        return (n > 0).then_some(1.0);
    }
    let (mut time, mut longest) = (1.0_f64, 1.0_f64);
    for lag in 1..=n / 2 {
        let pairs = residuals.iter().zip(residuals.get(lag..)?);
        let covariance = pairs.map(|(a, b)| a * b).sum::<f64>() / n as f64;
        time += 2.0 * covariance / variance;
        longest = longest.max(time);
        if lag as f64 >= WINDOW * longest {
            return Some(longest);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Noise of which each value keeps `phi` of the one before.
    fn wandering(n: usize, phi: f64, seed: u64) -> Vec<(f64, f64)> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut now = 0.0;
        (0..n)
            .map(|i| {
                now = phi * now + 0.05 * (rng.random::<f64>() - 0.5);
                (i as f64, now)
            })
            .collect()
    }

    #[test]
    fn a_batch_is_longer_than_the_series_is_correlated() {
        let sizes = |phi: f64| -> Vec<usize> {
            (0..20)
                .map(|seed| 2000 / batch_means(&wandering(2000, phi, seed), 1).len().max(1))
                .collect()
        };
        // (1 + phi) / (1 - phi): 1 and 9 points; a batch is twice as long.
        assert!(sizes(0.0).iter().all(|n| (2..=4).contains(n)), "{:?}", sizes(0.0));
        assert!(
            sizes(0.8).iter().all(|n| (10..=35).contains(n)),
            "{:?}",
            sizes(0.8)
        );
    }

    /// How many of sixty series have a trend (p < 0.001): each value for itself, and by batches, ten at least.
    fn trends(phi: f64, drift: f64) -> (usize, usize) {
        let series = (0..60).map(|seed| {
            let mut points = wandering(400, phi, seed);
            points.iter_mut().for_each(|p| p.1 += drift * p.0 / 400.0);
            points
        });
        let certain = |points: &[(f64, f64)]| benchd_core::stats::trend(points).is_some_and(|t| t.p < 1e-3);
        series.fold((0, 0), |(each, batches), points| {
            let means = batch_means(&points, 1);
            (
                each + usize::from(certain(&points)),
                batches + usize::from(means.len() >= 10 && certain(&means)),
            )
        })
    }

    #[test]
    fn what_wanders_has_no_trend_and_what_drifts_has() {
        let (each, batches) = trends(0.9, 0.0);
        assert!(
            each >= 15 && batches <= 1,
            "{each} and {batches} of 60 that only wander"
        );
        // By a fifth, in noise of 3 %.
        let (_, batches) = trends(0.9, 0.2);
        assert!(batches >= 45, "{batches} of 60 that drift");
    }

    #[test]
    fn a_trend_is_no_correlation_and_a_short_series_says_nothing() {
        let line: Vec<_> = (0..41).map(|i| (f64::from(i), f64::from(i))).collect();
        // Nor is one that bends.
        let bent: Vec<_> = line.iter().map(|(x, _)| (*x, (1000.0 + 8.0 * x).ln())).collect();
        assert_eq!(batch_means(&bent, 1).len(), 20);
        let means = batch_means(&line, 1);
        assert_eq!((means.len(), means[0]), (20, (0.5, 0.5)));
        assert_eq!(batch_means(&line, 8).len(), 5);
        // Neighbours on a swing are no values of their own.
        let swing = |n: i32, slow: f64| {
            (0..n)
                .map(|i| (f64::from(i), (f64::from(i) / slow).sin()))
                .collect::<Vec<_>>()
        };
        assert!(batch_means(&swing(60, 3.0), 1).len() < 10);
        assert!(batch_means(&swing(60, 20.0), 1).len() < 10);
        assert_eq!(batch_means(&line[..8], 1), []);
    }
}
