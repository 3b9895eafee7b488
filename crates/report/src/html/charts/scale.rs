//! From values to places, and where the ticks stand.

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Equal steps.
    Linear,
    /// Equal ratios.
    Log,
}

/// A stretch of values on a stretch of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub(super) kind: Kind,
    pub(super) low: f64,
    pub(super) high: f64,
    from: f64,
    to: f64,
}

/// Room above the largest value, so that its mark is whole.
const HEADROOM: f64 = 1.07;

impl Scale {
    /// From 0 to a little over `max`.
    pub(super) fn from_zero(max: f64) -> Self {
        let high = if max > 0.0 { max * HEADROOM } else { 1.0 };
        Self::new(Kind::Linear, 0.0, high)
    }

    /// From `low` to `high` in equal ratios; both above 0, else it is linear.
    pub(super) fn log(low: f64, high: f64) -> Self {
        if low > 0.0 && high > low {
            Self::new(Kind::Log, low, high)
        } else if low > 0.0 {
            // One value stands in the middle.
            Self::new(Kind::Log, low / 2.0, low * 2.0)
        } else {
            Self::from_zero(high)
        }
    }

    /// From `low` to `high` in equal steps.
    pub(super) fn linear(low: f64, high: f64) -> Self {
        Self::new(Kind::Linear, low, if high > low { high } else { low + 1.0 })
    }

    fn new(kind: Kind, low: f64, high: f64) -> Self {
        Self {
            kind,
            low,
            high,
            from: 0.0,
            to: 1.0,
        }
    }

    /// On these pixels.
    pub(super) fn on(self, from: f64, to: f64) -> Self {
        Self { from, to, ..self }
    }

    /// The place of a value.
    pub(super) fn at(&self, value: f64) -> f64 {
        let share = match self.kind {
            Kind::Linear => (value - self.low) / (self.high - self.low),
            Kind::Log => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        self.from + share * (self.to - self.from)
    }

    /// About `most` ticks at round values.
    pub(super) fn ticks(&self, most: usize) -> Vec<Tick> {
        match self.kind {
            Kind::Linear => linear_ticks(self.low, self.high, most),
            Kind::Log => log_ticks(self.low, self.high, most),
        }
    }
}

/// One tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    /// Distance to the next: what its label must be able to tell apart.
    pub(super) step: f64,
}

/// The smallest of 1, 2, 5, 10, 20, … (and 0.5, 0.2, 0.1, …) that is not below `value`.
pub(super) fn round_step(value: f64) -> f64 {
    let decade = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    // A hair below counts as there: 0.2 / 0.1 is 2.0000000000000004 for some values.
    let factor = steps.into_iter().find(|s| value <= s * decade * (1.0 + 1e-9));
    factor.unwrap_or(10.0) * decade
}

fn linear_ticks(low: f64, high: f64, most: usize) -> Vec<Tick> {
    let step = round_step((high - low) / most.max(1) as f64);
    if !step.is_finite() || step <= 0.0 {
        return Vec::new();
    }
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last)
        .take(most + 2)
        .map(|i| Tick {
            value: i as f64 * step,
            step,
        })
        .collect()
}

fn log_ticks(low: f64, high: f64, most: usize) -> Vec<Tick> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let within = |factors: &[f64], every: i32| -> Vec<Tick> {
        (first..=last)
            .filter(|decade| decade.rem_euclid(every) == 0)
            .flat_map(|decade| factors.iter().map(move |f| f * 10f64.powi(decade)))
            .filter(|v| (low * (1.0 - 1e-9)..=high * (1.0 + 1e-9)).contains(v))
            .map(|value| Tick { value, step: value })
            .collect()
    };
    // The densest that is not too dense.
    for (factors, every) in [
        (&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0][..], 1),
        (&[1.0, 2.0, 5.0], 1),
        (&[1.0, 3.0], 1),
        (&[1.0], 1),
        (&[1.0], 2),
    ] {
        let ticks = within(factors, every);
        if ticks.len() <= most && ticks.len() > 2 {
            return ticks;
        }
    }
    // Within less than a decade: plain steps.
    linear_ticks(low, high, most)
}

/// The ticks of an axis that stands for settings (concurrency, input lengths): the settings themselves, without those
/// whose labels would touch the ones before. The largest always stays.
pub(super) fn setting_ticks(values: &[f64], scale: &Scale, least_gap: impl Fn(f64) -> f64) -> Vec<Tick> {
    let mut kept: Vec<f64> = Vec::new();
    for &value in values.iter().rev() {
        let gap = kept
            .last()
            .map_or(f64::INFINITY, |k| scale.at(*k) - scale.at(value));
        if gap >= least_gap(value) {
            kept.push(value);
        }
    }
    kept.iter()
        .rev()
        .map(|&value| Tick { value, step: 1.0 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(ticks: &[Tick]) -> Vec<f64> {
        ticks.iter().map(|t| (t.value * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(values(&linear_ticks(0.0, 1070.0, 5)), [0.0, 500.0, 1000.0]);
        assert_eq!(values(&linear_ticks(0.0, 0.9, 5)), [0.0, 0.2, 0.4, 0.6, 0.8]);
        assert_eq!(
            values(&linear_ticks(-1.0, 4.0, 5)),
            [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
        );
        assert_eq!(
            values(&log_ticks(3.0, 700.0, 8)),
            [5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0]
        );
        assert_eq!(
            values(&log_ticks(1.0, 1e6, 8)),
            [1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6]
        );
        assert_eq!(values(&log_ticks(20.0, 90.0, 5)), [20.0, 40.0, 60.0, 80.0]);
        for step in [
            (0.9, 1.0),
            (1.0, 1.0),
            (1.2, 2.0),
            (3.0, 5.0),
            (7.0, 10.0),
            (0.011, 0.02),
        ] {
            assert!((round_step(step.0) - step.1).abs() < 1e-12, "{step:?}");
        }
    }

    #[test]
    fn odd_stretches_end() {
        for (low, high) in [(0.0, f64::INFINITY), (0.0, f64::NAN), (5.0, 5.0), (1e300, 1e308)] {
            assert!(linear_ticks(low, high, 5).len() <= 7, "{low} {high}");
        }
        assert!(Scale::from_zero(0.0).at(0.0) == 0.0);
        assert_eq!(Scale::log(8.0, 8.0).on(0.0, 100.0).at(8.0), 50.0);
        assert_eq!(Scale::log(0.0, 8.0).kind, Kind::Linear);
    }

    #[test]
    fn places_by_hand() {
        let x = Scale::log(1.0, 64.0).on(40.0, 280.0);
        assert_eq!((x.at(1.0), x.at(8.0), x.at(64.0)), (40.0, 160.0, 280.0));
        let y = Scale::linear(0.0, 50.0).on(200.0, 0.0);
        assert_eq!((y.at(0.0), y.at(25.0), y.at(50.0)), (200.0, 100.0, 0.0));
    }

    #[test]
    fn settings_that_crowd_lose_their_labels_but_never_the_largest() {
        let scale = Scale::log(1.0, 64.0).on(0.0, 120.0);
        let ticks = setting_ticks(&[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0], &scale, |_| 25.0);
        assert_eq!(values(&ticks), [1.0, 4.0, 16.0, 64.0]);
    }
}
