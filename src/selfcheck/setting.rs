//! What is asked of the server and of the engine at one number of streams or one event rate. Pure.

use std::time::Duration;

/// Time between two tokens of a stream at a point, where that is not too fast for all streams together: a fast
/// model's.
const GAP: Duration = Duration::from_millis(10);
/// Most tokens a second at a point, all streams together: a point shows the error by the number of streams, not at
/// the limit of what server and client can do.
const MOST_TOKENS_PER_S: f64 = 20_000.0;
/// Time to the first token: long enough for a whole wave to be sent before, so that streams then keep apart.
const TTFT: Duration = Duration::from_millis(50);
/// What each stream adds to it.
const TTFT_A_STREAM: Duration = Duration::from_micros(50);
/// Requests at a point, at least, where there is time: each gives one TTFT.
const REQUESTS: u32 = 64;
/// Shortest time of one wave of requests.
const WAVE: Duration = Duration::from_millis(150);
/// Tokens of a request, at least.
const TOKENS: u32 = 6;
/// Streams at which event rates are tried.
const RATE_STREAMS: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) streams: u32,
    /// Requests of each stream, one after another.
    pub(super) waves: u32,
    pub(super) tokens: u32,
    /// From the request to the first token.
    pub(super) ttft: Duration,
    /// From token to token of a stream.
    pub(super) gap: Duration,
    /// From one stream's first token to the next one's, at least.
    pub(super) spacing: Duration,
}

impl Setting {
    /// For the error at so many streams, in about `time`.
    pub(super) fn of_point(streams: u32, time: Duration, burst: bool) -> Self {
        let gap = GAP.max(Duration::from_secs_f64(f64::from(streams) / MOST_TOKENS_PER_S));
        let in_time = u32::try_from(time.as_millis() / WAVE.as_millis()).unwrap_or(u32::MAX);
        let waves = REQUESTS.div_ceil(streams).min(in_time).max(1);
        let ttft = TTFT + TTFT_A_STREAM * streams;
        let tokens = (time / waves).saturating_sub(ttft).as_secs_f64() / gap.as_secs_f64();
        Self {
            streams,
            waves,
            tokens: (tokens as u32).max(TOKENS),
            ttft,
            gap,
            spacing: if burst { Duration::ZERO } else { gap / streams },
        }
    }

    /// For an event rate, all streams together, over about `time`.
    pub(super) fn of_rate(per_s: f64, time: Duration) -> Self {
        let gap = Duration::from_secs_f64(f64::from(RATE_STREAMS) / per_s);
        let tokens = time.as_secs_f64() / gap.as_secs_f64();
        Self {
            streams: RATE_STREAMS,
            waves: 1,
            tokens: (tokens as u32).max(TOKENS),
            ttft: TTFT,
            gap,
            spacing: gap / RATE_STREAMS,
        }
    }

    /// Tokens a second that the server is to send.
    pub(super) fn offered_per_s(&self) -> f64 {
        f64::from(self.streams) / self.gap.as_secs_f64()
    }

    pub(super) fn requests(&self) -> u32 {
        self.streams * self.waves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_streams_send_often_and_many_do_not_flood() {
        let of = |streams| Setting::of_point(streams, Duration::from_secs(3), false);
        let one = of(1);
        assert_eq!((one.waves, one.gap, one.spacing), (20, GAP, GAP));
        assert_eq!(of(16).requests(), 64);
        let many = of(1_000);
        assert_eq!((many.waves, many.requests()), (1, 1_000));
        assert!((many.offered_per_s() - 20_000.0).abs() < 1.0);
        // Spread evenly over one gap.
        assert_eq!(many.spacing * 1_000, many.gap);
        for streams in [1, 8, 64, 1_000, 10_000] {
            let s = of(streams);
            let took = (s.ttft + s.gap * s.tokens) * s.waves;
            assert!(took < Duration::from_secs(5), "{s:?}");
        }
        assert_eq!(
            Setting::of_point(8, Duration::from_secs(1), true).spacing,
            Duration::ZERO
        );
    }

    #[test]
    fn a_rate_is_that_of_all_streams() {
        let setting = Setting::of_rate(40_000.0, Duration::from_secs(1));
        assert!((setting.offered_per_s() - 40_000.0).abs() < 1.0);
        assert_eq!(setting.tokens, 625);
    }
}
