//! How much two samples differ, whatever their distributions.

use statrs::{
    distribution::{ContinuousCDF as _, Normal},
    function::factorial::ln_binomial,
};

use super::Sorted;

/// Cliff's delta: the chance that a value of `a` is above one of `b`, less the chance that it is below; -1 to 1, 0 for
/// no difference.
pub fn cliffs_delta(a: &Sorted, b: &Sorted) -> f64 {
    let pairs = a.len() as f64 * b.len() as f64;
    (2.0 * u_statistic(a, b) - pairs) / pairs
}

/// Result of the Mann-Whitney test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitney {
    /// Pairs in which the value of the first sample is the larger, ties counted as half.
    pub u: f64,
    /// Two-sided p value, by the normal approximation with correction for ties and continuity.
    pub p: f64,
}

/// The Mann-Whitney test, as `scipy.stats.mannwhitneyu(a, b, method='asymptotic')`. The approximation wants about eight
/// values in each sample. `p` is 1 where all values are equal.
pub fn mann_whitney(a: &Sorted, b: &Sorted) -> MannWhitney {
    let u = u_statistic(a, b);
    let (n, m) = (a.len() as f64, b.len() as f64);
    let mut all: Vec<f64> = a.values().iter().chain(b.values()).copied().collect();
    all.sort_by(f64::total_cmp);
    let ties: f64 = all
        .chunk_by(|x, y| x == y)
        .map(|t| (t.len() as f64).powi(3) - t.len() as f64)
        .sum();
    let total = n + m;
    let variance = n * m / 12.0 * ((total + 1.0) - ties / (total * (total - 1.0)));
    let p = if variance > 0.0 {
        let z = ((u.max(n * m - u) - n * m / 2.0) - 0.5) / variance.sqrt();
        (2.0 * Normal::standard().sf(z)).min(1.0)
    } else {
        1.0
    };
    MannWhitney { u, p }
}

/// Fisher's exact test of whether `more` fails more often than `base`, one-sided: the chance of as many failures among
/// those of `more`, or still more, if each request failed with the same chance on both sides. Counts are (failed, of).
pub fn fails_more_often(base: (u64, u64), more: (u64, u64)) -> f64 {
    let (failed, all) = (base.0 + more.0, base.1 + more.1);
    let whole = ln_binomial(all, more.1);
    (more.0..=failed.min(more.1))
        .map(|k| (ln_binomial(failed, k) + ln_binomial(all - failed, more.1 - k) - whole).exp())
        .sum::<f64>()
        .min(1.0)
}

fn u_statistic(a: &Sorted, b: &Sorted) -> f64 {
    let b = b.values();
    let wins = |&x: &f64| {
        let below = b.partition_point(|y| *y < x);
        let not_above = b.partition_point(|y| *y <= x);
        below as f64 + (not_above - below) as f64 / 2.0
    };
    a.values().iter().map(wins).sum()
}

#[cfg(test)]
mod tests {
    use super::{super::fixtures::*, *};

    fn sorted(values: &[f64]) -> Sorted {
        Sorted::new(values.to_vec()).expect("values")
    }

    #[test]
    fn values_are_scipys() {
        let (a, b) = (sorted(&A), sorted(&B));
        let test = mann_whitney(&a, &b);
        assert_eq!(test.u, 106.0);
        close(test.p, 0.0035311184697116448, 1e-9);
        // numpy.mean(numpy.sign(numpy.subtract.outer(A, B)))
        close(cliffs_delta(&a, &b), -0.5288888888888889, 1e-12);
        // With ties: numpy.round(A / 5) (halves to even), numpy.round(B / 5).
        let (a, b) = (
            sorted(&A.map(|v| (v / 5.0).round_ties_even())),
            sorted(&B.map(|v| (v / 5.0).round_ties_even())),
        );
        let test = mann_whitney(&a, &b);
        assert_eq!(test.u, 109.0);
        close(test.p, 0.0038504059244790245, 1e-9);
        close(cliffs_delta(&a, &b), -0.5155555555555555, 1e-12);
    }

    /// scipy.stats.fisher_exact([[k2, n2 - k2], [k1, n1 - k1]], alternative='greater').
    #[test]
    fn failures_are_scipys() {
        close(
            fails_more_often((0, 100), (3, 100)),
            0.123_115_577_889_447_24,
            1e-9,
        );
        close(
            fails_more_often((5, 500), (20, 500)),
            0.001_823_743_910_573_355,
            1e-9,
        );
        close(
            fails_more_often((2, 20), (19, 20)),
            2.909_757_709_777_055e-8,
            1e-13,
        );
        close(fails_more_often((0, 10), (0, 10)), 1.0, 1e-9);
    }

    #[test]
    fn extremes() {
        let (low, high) = (sorted(&[1.0, 2.0]), sorted(&[3.0, 4.0]));
        assert_eq!(
            (cliffs_delta(&high, &low), cliffs_delta(&low, &high)),
            (1.0, -1.0)
        );
        assert_eq!(mann_whitney(&sorted(&[1.0; 9]), &sorted(&[1.0; 9])).p, 1.0);
    }
}
