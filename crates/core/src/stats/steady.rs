//! The steady state of a closed loop: from the moment when the load is full to the moment when it falls for good.

/// The load counts as full when this share of the cap is in flight (as in vllm-bench).
pub const STEADY_SHARE: f64 = 0.95;

/// A stretch of time, microseconds from the start of the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    start_us: u64,
    end_us: u64,
}

impl Window {
    /// Its length, microseconds.
    pub fn length_us(&self) -> u64 {
        self.end_us - self.start_us
    }

    /// Whether a moment is in it.
    pub fn contains(&self, at_us: u64) -> bool {
        (self.start_us..self.end_us).contains(&at_us)
    }
}

/// The window from the first moment with at least [`STEADY_SHARE`] of `cap` requests in flight to the last such moment.
/// Between them a stream that has its answer and sends its next request may leave the load short for an instant; that
/// belongs to a closed loop. `None` where the load is never full.
pub fn steady_window(requests: &[(u64, u64)], cap: u32) -> Option<Window> {
    let full = (f64::from(cap) * STEADY_SHARE).ceil().max(1.0) as i64;
    // Ends before starts at the same moment: a request that ends is not in flight with the one that takes its place.
    let mut steps: Vec<(u64, i64)> = requests
        .iter()
        .filter(|(start, end)| end > start)
        .flat_map(|&(start, end)| [(start, 1), (end, -1)])
        .collect();
    steps.sort_unstable();
    let (mut flying, mut first, mut last) = (0, None, None);
    for (at, change) in steps {
        let was_full = flying >= full;
        flying += change;
        if flying >= full {
            first.get_or_insert(at);
        } else if was_full {
            last = Some(at);
        }
    }
    let (start_us, end_us) = (first?, last?);
    (end_us > start_us).then_some(Window { start_us, end_us })
}

/// The share of `from..to` that lies in the window, 0 to 1; a moment without length counts as in or out.
pub fn overlap_share(window: Window, from_us: u64, to_us: u64) -> f64 {
    if to_us <= from_us {
        return f64::from(u8::from(window.contains(from_us)));
    }
    let start = from_us.max(window.start_us);
    let end = to_us.min(window.end_us);
    end.saturating_sub(start) as f64 / (to_us - from_us) as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn from_the_full_load_to_the_last_of_it() {
        // Two streams, three requests each; one stream starts late and ends late.
        let requests = [(0, 10), (10, 20), (20, 30), (4, 14), (14, 24), (24, 36)];
        let window = Window {
            start_us: 4,
            end_us: 30,
        };
        assert_eq!(steady_window(&requests, 2), Some(window));
        assert_eq!(steady_window(&requests, 3), None);
        assert_eq!(steady_window(&[], 1), None);
        assert_eq!(overlap_share(window, 0, 8), 0.5);
        assert_eq!(overlap_share(window, 10, 20), 1.0);
        assert_eq!(overlap_share(window, 30, 40), 0.0);
        assert_eq!(
            (overlap_share(window, 5, 5), overlap_share(window, 30, 30)),
            (1.0, 0.0)
        );
    }

    #[test]
    fn ninety_five_per_cent_of_the_cap_is_full() {
        // 19 of 20 are full, 18 are not.
        let requests: Vec<_> = (0..19).map(|i| (i, 100)).collect();
        assert_eq!(steady_window(&requests, 20).map(|w| w.start_us), Some(18));
        assert_eq!(steady_window(&requests[..18], 20), None);
    }

    proptest! {
        #[test]
        fn the_window_lies_within_the_requests(
            requests in prop::collection::vec((0u64..1000, 0u64..1000), 0..50), cap in 1u32..20,
        ) {
            let requests: Vec<_> = requests.into_iter().map(|(s, len)| (s, s + len)).collect();
            if let Some(window) = steady_window(&requests, cap) {
                let start = requests.iter().map(|r| r.0).min().expect("requests");
                let end = requests.iter().map(|r| r.1).max().expect("requests");
                prop_assert!(start <= window.start_us && window.start_us < window.end_us && window.end_us <= end);
            }
        }
    }
}
