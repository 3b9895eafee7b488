//! When the requests of an open loop are sent: a pure function of rate, seed and number.

use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Gamma};

use benchd_plan::Arrival;

/// An arrival process that can't be computed.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// The rate is no positive, finite number.
    #[error("a rate of {0} requests per second can't be kept (hint: give a rate over 0)")]
    Rate(f64),
    /// The burstiness is no positive, finite number.
    #[error("a burstiness of {0} is none (hint: over 0; 1 is Poisson, less is burstier)")]
    Burstiness(f64),
}

/// Planned sends of `count` requests, as offsets from the start, never decreasing. `None` for the closed
/// loop, which has no plan.
///
/// As vLLM defines it (`vllm/benchmarks/serve.py`, `get_request`): gaps are gamma-distributed with shape =
/// burstiness and scale = 1 / (rate × burstiness), so their mean is 1 / rate and their coefficient of
/// variation 1 / √burstiness; Poisson is burstiness 1; the first request comes after the first gap; and the
/// whole is scaled so that the last request is planned at exactly count / rate, which makes the offered rate
/// the same for every seed. Equal gaps need no scaling. The generator is ChaCha8, whose numbers are the same
/// on every machine and in every version.
///
/// # Errors
/// Rate or burstiness are not positive and finite.
pub(crate) fn planned_sends(
    arrival: Arrival,
    count: usize,
    seed: u64,
) -> Result<Option<Vec<Duration>>, ScheduleError> {
    let (rate_per_s, burstiness) = match arrival {
        Arrival::Closed => return Ok(None),
        Arrival::Constant { rate_per_s } => (rate_per_s, None),
        Arrival::Poisson { rate_per_s } => (rate_per_s, Some(1.0)),
        Arrival::Gamma {
            rate_per_s,
            burstiness,
        } => (rate_per_s, Some(burstiness)),
    };
    let positive = |x: f64| x.is_finite() && x > 0.0;
    let all_s = count as f64 / rate_per_s;
    // A duration holds no more than this; neither does anyone's patience.
    if !positive(rate_per_s) || all_s > 1e9 {
        return Err(ScheduleError::Rate(rate_per_s));
    }
    let Some(burstiness) = burstiness else {
        return Ok(Some(
            (1..=count)
                .map(|i| Duration::from_secs_f64(i as f64 / rate_per_s))
                .collect(),
        ));
    };
    let wrong = ScheduleError::Burstiness(burstiness);
    if !positive(burstiness) {
        return Err(wrong);
    }
    let gaps_s = Gamma::new(burstiness, 1.0 / (rate_per_s * burstiness)).map_err(|_| wrong)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut at_s = 0.0;
    let mut sends_s = Vec::with_capacity(count);
    for _ in 0..count {
        at_s += gaps_s.sample(&mut rng);
        sends_s.push(at_s);
    }
    // Of a very small burstiness all gaps may come out as 0: then there is nothing to scale.
    let scale = if at_s > 0.0 { all_s / at_s } else { 0.0 };
    Ok(Some(
        sends_s
            .into_iter()
            .map(|s| Duration::from_secs_f64(s * scale))
            .collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 20_000;

    fn gaps_s(arrival: Arrival, seed: u64) -> Vec<f64> {
        let sends = planned_sends(arrival, COUNT, seed).unwrap().unwrap();
        let mut last = Duration::ZERO;
        sends
            .iter()
            .map(|&at| (at - std::mem::replace(&mut last, at)).as_secs_f64())
            .collect()
    }

    fn moments(values: &[f64]) -> (f64, f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let central = |power: i32| values.iter().map(|v| (v - mean).powi(power)).sum::<f64>() / n;
        let deviation = central(2).sqrt();
        (mean, deviation / mean, central(3) / deviation.powi(3))
    }

    #[test]
    fn gaps_have_the_moments_of_their_distribution() {
        // Gamma with shape k: coefficient of variation 1/√k, skewness 2/√k. Sampling errors at 20 000 gaps
        // are below the tolerances by a factor of three or more.
        for (burstiness, cv_tolerance, skew_tolerance) in
            [(0.5, 0.06, 0.45), (1.0, 0.04, 0.3), (4.0, 0.02, 0.12)]
        {
            for seed in [1, 7] {
                let gaps = gaps_s(
                    Arrival::Gamma {
                        rate_per_s: 4.0,
                        burstiness,
                    },
                    seed,
                );
                let (mean, cv, skew) = moments(&gaps);
                assert!((mean - 0.25).abs() < 1e-6, "mean {mean}");
                let expected = 1.0 / f64::sqrt(burstiness);
                assert!(
                    (cv - expected).abs() < cv_tolerance,
                    "k {burstiness}: cv {cv}, not {expected}"
                );
                let expected = 2.0 * expected;
                assert!(
                    (skew - expected).abs() < skew_tolerance,
                    "k {burstiness}: skew {skew}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn poisson_is_gamma_of_burstiness_one() {
        let poisson = planned_sends(Arrival::Poisson { rate_per_s: 3.0 }, 100, 5).unwrap();
        let gamma = planned_sends(
            Arrival::Gamma {
                rate_per_s: 3.0,
                burstiness: 1.0,
            },
            100,
            5,
        )
        .unwrap();
        assert_eq!(poisson, gamma);
        let other = planned_sends(Arrival::Poisson { rate_per_s: 3.0 }, 100, 6).unwrap();
        assert_ne!(poisson, other);
    }

    #[test]
    fn every_process_ends_at_count_over_rate() {
        for arrival in [
            Arrival::Constant { rate_per_s: 8.0 },
            Arrival::Poisson { rate_per_s: 8.0 },
            Arrival::Gamma {
                rate_per_s: 8.0,
                burstiness: 0.25,
            },
        ] {
            let sends = planned_sends(arrival, 64, 3).unwrap().unwrap();
            assert_eq!(sends.len(), 64);
            assert!(sends.is_sorted());
            let last_s = sends[63].as_secs_f64();
            assert!((last_s - 8.0).abs() < 1e-6, "{arrival:?}: {last_s}");
        }
        let constant = planned_sends(Arrival::Constant { rate_per_s: 8.0 }, 2, 0)
            .unwrap()
            .unwrap();
        assert_eq!(constant, [Duration::from_millis(125), Duration::from_millis(250)]);
    }

    #[test]
    fn the_numbers_do_not_change_between_versions() {
        let sends = planned_sends(Arrival::Poisson { rate_per_s: 1.0 }, 4, 42)
            .unwrap()
            .unwrap();
        let us: Vec<u128> = sends.iter().map(Duration::as_micros).collect();
        assert_eq!(us, PINNED_US);
    }

    const PINNED_US: [u128; 4] = [780_264, 2_111_111, 2_691_634, 4_000_000];

    #[test]
    fn closed_has_no_plan_and_nonsense_is_refused() {
        assert_eq!(planned_sends(Arrival::Closed, 5, 1), Ok(None));
        for rate_per_s in [0.0, -1.0, f64::INFINITY, 1e-12] {
            let error = planned_sends(Arrival::Poisson { rate_per_s }, 5, 1).unwrap_err();
            assert!(matches!(error, ScheduleError::Rate(_)), "{error}");
        }
        assert!(planned_sends(Arrival::Constant { rate_per_s: f64::NAN }, 5, 1).is_err());
        let error = planned_sends(
            Arrival::Gamma {
                rate_per_s: 1.0,
                burstiness: 0.0,
            },
            5,
            1,
        )
        .unwrap_err();
        assert_eq!(error, ScheduleError::Burstiness(0.0));
    }
}
