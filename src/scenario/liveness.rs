//! Whether a server that is being measured still lives: a pure judgement over what its requests came to.
//!
//! Time-outs alone prove nothing. A server with one slot and 64 streams lets most of them pass, and what passes is
//! a result. So what is looked for is a sign of life:
//!
//! - an answer, whole or refused or broken: somebody decided on it;
//! - a token on a request older than half its limit: a server that works on something at all, however long its
//!   queue, has some request that it works on for that long, or ends it before.
//!
//! A server that hangs gives neither, be it silent from the start or after the first tokens of each answer.

use std::time::{Duration, Instant};

use benchd_core::record::Outcome;

/// Limits of a request for which nothing at all may come: all that waited in the first have timed out by then, and
/// those after them have been silent for half of theirs.
const SILENCE_LIMITS: f64 = 1.5;

/// Limits of a request for which tokens may come without a sign of life: two whole generations of requests have
/// then begun to be answered and timed out.
const LIFELESS_LIMITS: f64 = 2.5;

/// How a server shows that it hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hang {
    /// Nothing came.
    Silent(Duration),
    /// Answers began and none went on.
    Lifeless(Duration),
}

/// What the requests of one batch said of the server so far.
#[derive(Debug)]
pub(super) struct Liveness {
    limit: Duration,
    events: u64,
    event_at: Instant,
    life_at: Instant,
    looked_at: Instant,
    lived: bool,
    timed_out: u64,
}

/// One request that is over, as far as it tells of the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct EndedRequest {
    pub(super) outcome: Outcome,
    /// From its send to its last token.
    pub(super) last_token: Option<Duration>,
}

impl Liveness {
    /// Of requests with this limit, from now on.
    pub(super) fn new(limit: Duration, now: Instant) -> Self {
        Self {
            limit,
            events: 0,
            event_at: now,
            life_at: now,
            looked_at: now,
            lived: false,
            timed_out: 0,
        }
    }

    /// A request is over.
    pub(super) fn over(&mut self, request: EndedRequest, now: Instant) {
        let alive = match request.outcome {
            Outcome::Ok
            | Outcome::HttpStatus
            | Outcome::StreamError
            | Outcome::Truncated
            | Outcome::Malformed => true,
            Outcome::Timeout => {
                self.timed_out += 1;
                request.last_token.is_some_and(|age| age > self.limit / 2)
            }
            // A kernel answers for a process that hangs, until its backlog is full; benchd's own end says nothing.
            Outcome::Connect | Outcome::Cancelled => false,
        };
        if alive {
            self.lived = true;
            self.life_at = now;
            self.event_at = now;
        }
    }

    /// Whether it hangs by now; `events` is how many came so far, `in_flight` how many requests wait.
    pub(super) fn look(&mut self, events: u64, in_flight: u64, now: Instant) -> Option<Hang> {
        if events != self.events {
            (self.events, self.event_at) = (events, now);
        }
        let since_last = now.saturating_duration_since(self.looked_at);
        self.looked_at = now;
        if in_flight == 0 {
            // An open loop may have nothing under way for long: that time asks nothing of the server.
            self.event_at += since_last;
            self.life_at += since_last;
            return None;
        }
        // The requests' own time-outs come first.
        if self.timed_out == 0 {
            return None;
        }
        let silent = now.saturating_duration_since(self.event_at);
        let lifeless = now.saturating_duration_since(self.life_at);
        if silent > self.limit.mul_f64(SILENCE_LIMITS) {
            Some(Hang::Silent(silent))
        } else if lifeless > self.limit.mul_f64(LIFELESS_LIMITS) {
            Some(Hang::Lifeless(lifeless))
        } else {
            None
        }
    }

    /// Whether the requests so far leave it open that the server lives at all: some timed out, and none showed a
    /// sign of life. Too few for a judgement, enough for a question.
    pub(super) fn doubtful(&self) -> bool {
        self.timed_out > 0 && !self.lived
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(300);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn over(outcome: Outcome, last_token: Option<u64>) -> EndedRequest {
        EndedRequest {
            outcome,
            last_token: last_token.map(s),
        }
    }

    /// Plays rounds of one request limit each, in which all streams time out after `events` tokens, the last of them
    /// `last_token` seconds after its send; gives the second at which it is found to hang, looked at each second.
    fn rounds(events: u64, last_token: Option<u64>, rounds: u64) -> Option<u64> {
        let start = Instant::now();
        let mut liveness = Liveness::new(LIMIT, start);
        let mut seen = 0;
        for second in 1..=rounds * LIMIT.as_secs() {
            let now = start + s(second);
            let age = second % LIMIT.as_secs();
            if last_token.is_some_and(|last| age <= last) && age <= events {
                seen += 1;
            }
            if age == 0 {
                liveness.over(over(Outcome::Timeout, last_token), now);
            }
            if liveness.look(seen, 8, now).is_some() {
                return Some(second);
            }
        }
        None
    }

    #[test]
    fn silence_is_a_hang_once_the_first_requests_have_timed_out() {
        assert_eq!(rounds(0, None, 10), Some(451));
    }

    #[test]
    fn a_first_token_alone_is_no_life() {
        assert_eq!(rounds(1, Some(1), 10), Some(751));
        // A server that stops in mid-answer, at any place of its first half.
        assert_eq!(rounds(150, Some(150), 10), Some(751));
    }

    #[test]
    fn a_server_that_is_only_slow_may_time_out_all_night() {
        // Still generating when its client gives up.
        assert_eq!(rounds(300, Some(299), 100), None);
        // A long prefill, then tokens to the end.
        assert_eq!(rounds(300, Some(151), 100), None);
    }

    /// One slot, many streams: all but a few time out without a token, one answer in a while comes through.
    #[test]
    fn one_answer_in_a_crowd_of_time_outs_is_life() {
        let start = Instant::now();
        for outcome in [
            Outcome::Ok,
            Outcome::HttpStatus,
            Outcome::StreamError,
            Outcome::Truncated,
            Outcome::Malformed,
        ] {
            let mut liveness = Liveness::new(LIMIT, start);
            for round in 1..=50 {
                let now = start + LIMIT * round;
                for _ in 0..63 {
                    liveness.over(over(Outcome::Timeout, None), now);
                }
                liveness.over(over(outcome, None), now);
                assert_eq!(liveness.look(0, 64, now + s(299)), None, "{outcome}");
            }
            assert!(!liveness.doubtful());
        }
    }

    #[test]
    fn whoever_finds_no_connection_or_is_stopped_by_us_is_no_witness() {
        let start = Instant::now();
        for outcome in [Outcome::Connect, Outcome::Cancelled] {
            let mut liveness = Liveness::new(LIMIT, start);
            liveness.over(over(outcome, None), start + s(500));
            assert_eq!(
                liveness.look(0, 1, start + s(500)),
                None,
                "{outcome}: nothing timed out"
            );
            liveness.over(over(Outcome::Timeout, None), start + s(500));
            assert_eq!(
                liveness.look(0, 1, start + s(500)),
                Some(Hang::Silent(s(500))),
                "{outcome}"
            );
        }
    }

    #[test]
    fn a_gap_of_an_open_loop_is_no_silence() {
        let start = Instant::now();
        let mut liveness = Liveness::new(LIMIT, start);
        liveness.look(0, 1, start + s(300));
        liveness.over(over(Outcome::Timeout, None), start + s(300));
        assert_eq!(liveness.look(0, 0, start + s(3600)), None);
        // The next request is not blamed for the gap; the time before it counts on.
        assert_eq!(liveness.look(0, 1, start + s(3601)), None);
        assert_eq!(liveness.look(0, 1, start + s(3751)), Some(Hang::Silent(s(451))));
    }

    #[test]
    fn a_batch_of_time_outs_raises_a_doubt_and_one_sign_of_life_none() {
        let start = Instant::now();
        let mut liveness = Liveness::new(LIMIT, start);
        assert!(!liveness.doubtful(), "nothing was asked");
        liveness.over(over(Outcome::Timeout, Some(3)), start + s(300));
        assert!(liveness.doubtful());
        liveness.over(over(Outcome::Timeout, Some(200)), start + s(300));
        assert!(!liveness.doubtful());
    }
}
