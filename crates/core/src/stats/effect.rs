//! How much two samples differ, whatever their distributions.

use statrs::function::factorial::ln_binomial;

use super::Sorted;

/// Cliff's delta: the chance that a value of `a` is above one of `b`, less the chance that it is below; -1 to 1, 0 for
/// no difference.
pub fn cliffs_delta(a: &Sorted, b: &Sorted) -> f64 {
    let pairs = a.len() as f64 * b.len() as f64;
    (2.0 * u_statistic(a, b) - pairs) / pairs
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
        // numpy.mean(numpy.sign(numpy.subtract.outer(A, B)))
        close(cliffs_delta(&a, &b), -0.5288888888888889, 1e-12);
        // With ties: numpy.round(A / 5) (halves to even), numpy.round(B / 5).
        let (a, b) = (
            sorted(&A.map(|v| (v / 5.0).round_ties_even())),
            sorted(&B.map(|v| (v / 5.0).round_ties_even())),
        );
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
    }
}
