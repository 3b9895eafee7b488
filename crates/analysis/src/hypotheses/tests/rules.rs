//! The logic of outcomes, and its error rates under true equality.

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, LogNormal};

use super::super::{
    super::{Side, TestRole, VerdictOutcome, VerdictTest},
    decision::{TestResult, outcome},
    settle::combine,
};
use benchd_core::stats::{Interval, IntervalMethod, LogContrast, Sorted, Term, stratified_median_interval};
use benchd_plan::{Bound, Rule};

fn interval(low: f64, high: f64) -> Interval {
    Interval {
        low,
        high,
        level: 0.95,
        method: IntervalMethod::Student,
    }
}

fn result(shown: VerdictOutcome, strict: VerdictOutcome) -> TestResult {
    TestResult {
        test: VerdictTest {
            what: String::new(),
            role: TestRole::Deciding,
            figure: "output_tokens_per_s".to_owned(),
            framework: "a".to_owned(),
            against: "b".to_owned(),
            effect: None,
            interval: None,
            threshold: 1.0,
            side: Side::AtLeast,
            outcome: shown,
            why: None,
            says: String::new(),
            cells: Vec::new(),
        },
        strict,
        margin: None,
        sentence: String::new(),
        weaknesses: Vec::new(),
        undecided: None,
    }
}

#[test]
fn an_interval_has_a_side_or_none() {
    use VerdictOutcome::{Inconclusive, Refuted, Supported};
    for (bound, low, high, should) in [
        (Bound::AtLeast(1.05), 1.05, 1.2, Supported),
        (Bound::AtLeast(1.05), 1.04, 1.2, Inconclusive),
        (Bound::AtLeast(1.05), 0.9, 1.04, Refuted),
        (Bound::AtLeast(1.05), 0.9, 1.05, Inconclusive),
        (Bound::AtMost(1.1), 0.9, 1.1, Supported),
        (Bound::AtMost(1.1), 1.11, 1.2, Refuted),
        (Bound::AtMost(1.1), 1.0, 1.2, Inconclusive),
        (Bound::DiffersBy(0.1), 1.11, 1.3, Supported),
        (Bound::DiffersBy(0.1), 0.5, 0.9, Supported),
        (Bound::DiffersBy(0.1), 0.92, 1.09, Refuted),
        (Bound::DiffersBy(0.1), 0.95, 1.2, Inconclusive),
        (Bound::Within(0.1), 0.92, 1.09, Supported),
        (Bound::Within(0.1), 1.11, 1.3, Refuted),
        (Bound::Within(0.1), 0.8, 1.3, Inconclusive),
        // A tie without spread.
        (Bound::AtLeast(1.0), 1.0, 1.0, Supported),
        (Bound::AtMost(1.0), 1.0, 1.0, Supported),
        (Bound::DiffersBy(0.1), 1.0, 1.0, Refuted),
    ] {
        assert_eq!(
            outcome(bound, &interval(low, high)),
            should,
            "{bound:?} [{low}, {high}]"
        );
    }
}

#[test]
fn families_combine_by_their_rule() {
    use VerdictOutcome::{Inconclusive, Refuted, Supported};
    let of = |outcomes: &[VerdictOutcome]| -> Vec<TestResult> {
        outcomes.iter().map(|o| result(*o, *o)).collect()
    };
    let all = |outcomes: &[VerdictOutcome]| combine(Rule::All, &of(outcomes), true);
    let any = |outcomes: &[VerdictOutcome]| combine(Rule::Any, &of(outcomes), true);
    assert_eq!(all(&[Supported, Supported]), Supported);
    assert_eq!(all(&[Supported, Inconclusive]), Inconclusive);
    assert_eq!(all(&[Supported, Inconclusive, Refuted]), Refuted);
    assert_eq!(all(&[]), Inconclusive);
    assert_eq!(any(&[Refuted, Supported]), Supported);
    assert_eq!(any(&[Refuted, Refuted]), Refuted);
    assert_eq!(any(&[Refuted, Inconclusive]), Inconclusive);
    assert_eq!(any(&[]), Inconclusive);
    // Tests that could not be made: what is there may still decide, never by its absence.
    assert_eq!(combine(Rule::All, &of(&[Supported]), false), Inconclusive);
    assert_eq!(combine(Rule::All, &of(&[Refuted]), false), Refuted);
    assert_eq!(combine(Rule::Any, &of(&[Supported]), false), Supported);
    assert_eq!(combine(Rule::Any, &of(&[Refuted]), false), Inconclusive);
    // One of many that falls short at 95 %, but not at the corrected level, refutes nothing.
    let by_chance = [result(Supported, Supported), result(Refuted, Inconclusive)];
    assert_eq!(combine(Rule::All, &by_chance, true), Inconclusive);
}

fn mirrored(bound: Bound) -> Bound {
    match bound {
        Bound::AtLeast(t) => Bound::AtMost(1.0 / t),
        Bound::AtMost(t) => Bound::AtLeast(1.0 / t),
        symmetric => symmetric,
    }
}

fn bounds() -> impl Strategy<Value = Bound> {
    prop_oneof![
        (0.1..10.0).prop_map(Bound::AtLeast),
        (0.1..10.0).prop_map(Bound::AtMost),
        (0.01..2.0).prop_map(Bound::DiffersBy),
        (0.01..2.0).prop_map(Bound::Within),
    ]
}

proptest! {
    /// `a` over `b` at least 2 is `b` over `a` at most a half; a difference is one from both sides.
    #[test]
    fn swapping_sides_mirrors_the_outcome(
        a in prop::collection::vec(0.5..5.0_f64, 2..8),
        b in prop::collection::vec(0.5..5.0_f64, 2..8),
        bound in bounds(),
    ) {
        let contrast = |a: &[f64], b: &[f64]| {
            let terms = vec![
                Term { power: 1.0, values: a.to_vec() },
                Term { power: -1.0, values: b.to_vec() },
            ];
            LogContrast::within(&[terms]).and_then(|c| c.interval(0.95))
        };
        let (one, other) = (contrast(&a, &b), contrast(&b, &a));
        let (one, other) = (one.expect("positive values"), other.expect("positive values"));
        prop_assert_eq!(outcome(bound, &one), outcome(mirrored(bound), &other));
    }

    /// What differs by a share is not within it, and the other way round.
    #[test]
    fn a_claim_and_its_opposite_never_both_hold(low in 0.1..10.0_f64, width in 0.0..5.0_f64, share in 0.01..2.0_f64) {
        use VerdictOutcome::{Inconclusive, Refuted, Supported};
        let i = interval(low, low + width);
        let pair = (outcome(Bound::DiffersBy(share), &i), outcome(Bound::Within(share), &i));
        prop_assert!(matches!(pair, (Supported, Refuted) | (Refuted, Supported) | (Inconclusive, Inconclusive)));
    }
}

/// Runs drawn for an error rate.
const RUNS: u32 = 2000;

/// What H4 asks of a run: 12 tests on 5 passes each, of which one is enough. The worst case in which nothing differs by
/// more than the threshold is that every difference is just at it.
#[test]
fn one_of_many_at_the_threshold_is_seldom_called_a_difference() {
    let mut rng = ChaCha8Rng::seed_from_u64(20_261_124);
    let tests = 12;
    let level = 1.0 - 0.05 / f64::from(tests);
    let rate = |share: f64| {
        let noise = LogNormal::new(0.0, share).expect("a distribution");
        move |rng: &mut ChaCha8Rng, scale: f64| -> Vec<f64> {
            (0..5).map(|_| scale * noise.sample(rng)).collect()
        }
    };
    let passes = rate(0.02);
    let mut called = 0;
    for _ in 0..RUNS {
        let answers: Vec<TestResult> = (0..tests)
            .map(|_| {
                let terms = vec![
                    Term {
                        power: 1.0,
                        values: passes(&mut rng, 1.1),
                    },
                    Term {
                        power: -1.0,
                        values: passes(&mut rng, 1.0),
                    },
                    Term {
                        power: -1.0,
                        values: passes(&mut rng, 1.0),
                    },
                    Term {
                        power: 1.0,
                        values: passes(&mut rng, 1.0),
                    },
                ];
                let interval = LogContrast::within(&[terms]).and_then(|c| c.interval(level));
                let o = outcome(Bound::DiffersBy(0.1), &interval.expect("five values"));
                result(o, o)
            })
            .collect();
        called += u32::from(combine(Rule::Any, &answers, true) == VerdictOutcome::Supported);
    }
    let share = f64::from(called) / f64::from(RUNS);
    // 2.5 % by Bonferroni on the one side at which it can happen, and three standard errors (1.0 %).
    assert!(share <= 0.036, "{share}");
    assert!(share > 0.005, "needlessly strict: {share}");
}

/// What H1 asks: one ratio of five passes a side, at the threshold.
#[test]
fn a_ratio_at_the_threshold_is_seldom_called_above_it_or_below() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let noise = LogNormal::new(0.0, 0.02).expect("a distribution");
    let (mut supported, mut refuted) = (0, 0);
    for _ in 0..RUNS {
        let mut passes =
            |scale: f64| -> Vec<f64> { (0..5).map(|_| scale * noise.sample(&mut rng)).collect() };
        let terms = vec![
            Term {
                power: 1.0,
                values: passes(1.05),
            },
            Term {
                power: -1.0,
                values: passes(1.0),
            },
        ];
        let interval = LogContrast::within(&[terms]).and_then(|c| c.interval(0.95));
        match outcome(Bound::AtLeast(1.05), &interval.expect("five values")) {
            VerdictOutcome::Supported => supported += 1,
            VerdictOutcome::Refuted => refuted += 1,
            VerdictOutcome::Inconclusive => {}
        }
    }
    let share = |n: u32| f64::from(n) / f64::from(RUNS);
    assert!(
        share(supported) <= 0.036 && share(refuted) <= 0.036,
        "{supported}, {refuted} of {RUNS}"
    );
}

/// What H3 asks: ten prompts, paired, at the margin. The bootstrapped median of ten pairs is a little bold: 4 % on one
/// side where 2.5 % are meant (the same in scipy's BCa), which docs/metrics.md says.
#[test]
fn ten_pairs_at_the_margin_are_seldom_called_within_it() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let noise = LogNormal::new(1.1_f64.ln(), 0.05).expect("a distribution");
    let runs = 300;
    let mut supported = 0;
    for _ in 0..runs {
        let pairs: Vec<f64> = (0..10).map(|_| noise.sample(&mut rng)).collect();
        let pairs = Sorted::new(pairs).expect("ten values");
        let interval = stratified_median_interval(&[pairs], 1, 0.95).and_then(|(_, i)| i);
        let o = outcome(Bound::AtMost(1.1), &interval.expect("ten values"));
        supported += u32::from(o == VerdictOutcome::Supported);
    }
    let share = f64::from(supported) / f64::from(runs);
    // 4 % and three standard errors of 300 runs.
    assert!(share <= 0.074, "{share}");
}
