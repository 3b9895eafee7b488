//! From answers and the server's stamps to errors. Pure.
//!
//! Client and server read one clock, CLOCK_MONOTONIC, so their times can be subtracted. The client's times are whole
//! microseconds from the send, cut; an error can be as small as -1 µs by that alone.

use super::{SelfcheckError, setting::Setting};
use benchd_core::stats::Sorted;
use benchd_journal::ClientPoint;
use benchd_load::client::Answer;

/// What the answers of one setting show, microseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Judged {
    /// Of each request: the client's arrival of the first token less the server's emission of it.
    pub(super) ttft: Vec<f64>,
    /// Of each gap: the client's less the server's, absolute.
    pub(super) gaps: Vec<f64>,
    /// Of each request: from the client's send to the server's having read it.
    pub(super) send_to_read: Vec<f64>,
    /// Of each token: the server's emission less its due time.
    pub(super) server_late: Vec<f64>,
    /// Tokens that came in one read with the one before.
    pub(super) coalesced: u64,
    /// From the first token of all to the last, by the client, seconds.
    pub(super) span_s: f64,
}

impl Judged {
    /// Judges all answers of a setting.
    ///
    /// # Errors
    /// A request failed, or did not bring exactly what was sent.
    pub(super) fn of(answers: &[Answer], setting: Setting) -> Result<Self, SelfcheckError> {
        let mut judged = Self::default();
        let (mut first_us, mut last_us) = (f64::MAX, f64::MIN);
        for answer in answers {
            let record = &answer.record;
            let failed = |what: String| SelfcheckError::Request {
                index: record.index,
                streams: setting.streams,
                what,
            };
            if !record.is_ok() {
                let what = record.error.clone().unwrap_or_else(|| record.outcome.to_string());
                return Err(failed(what));
            }
            let Some(sent_ns) = answer.sent_monotonic_ns else {
                return Err(failed("it has no time of sending".to_owned()));
            };
            let (came, stamps) = (&record.chunks_us, &answer.server_stamps);
            let expected = setting.tokens as usize;
            if came.len() != expected || stamps.len() != expected {
                return Err(SelfcheckError::Count {
                    index: record.index,
                    came: came.len(),
                    stamps: stamps.len(),
                    sent: setting.tokens,
                });
            }
            let arrival_us = |at_us: u64| (i128::from(sent_ns) + i128::from(at_us) * 1_000) as f64 / 1e3;
            let late = |at_us: u64, t_ns: u64| {
                (i128::from(sent_ns) + i128::from(at_us) * 1_000 - i128::from(t_ns)) as f64 / 1e3
            };
            let lates: Vec<f64> = came.iter().zip(stamps).map(|(at, s)| late(*at, s.t_ns)).collect();
            judged.coalesced += u64::from(record.coalesced);
            judged.ttft.extend(lates.first());
            // Client's gap less server's gap is the difference of the two latenesses.
            judged
                .gaps
                .extend(lates.windows(2).map(|pair| (pair[1] - pair[0]).abs()));
            judged.send_to_read.extend(
                stamps
                    .first()
                    .map(|s| (i128::from(s.read_ns) - i128::from(sent_ns)) as f64 / 1e3),
            );
            judged.server_late.extend(
                stamps
                    .iter()
                    .map(|s| s.t_ns.saturating_sub(s.due_ns) as f64 / 1e3),
            );
            if let (Some(first), Some(last)) = (came.first(), came.last()) {
                first_us = first_us.min(arrival_us(*first));
                last_us = last_us.max(arrival_us(*last));
            }
        }
        if answers.len() != setting.requests() as usize {
            return Err(SelfcheckError::Empty);
        }
        judged.span_s = (last_us - first_us).max(1.0) / 1e6;
        Ok(judged)
    }

    pub(super) fn tokens(&self) -> u64 {
        self.server_late.len() as u64
    }

    /// # Errors
    /// Nothing was measured.
    pub(super) fn point(&self, streams: u32) -> Result<ClientPoint, SelfcheckError> {
        let sorted = |values: &[f64]| Sorted::new(values.to_vec()).ok_or(SelfcheckError::Empty);
        let (ttft, gaps) = (sorted(&self.ttft)?, sorted(&self.gaps)?);
        let (read, server) = (sorted(&self.send_to_read)?, sorted(&self.server_late)?);
        Ok(ClientPoint {
            streams,
            requests: self.ttft.len() as u64,
            tokens: self.tokens(),
            coalesced: self.coalesced,
            ttft_error_us_p50: ttft.median(),
            ttft_error_us_p95: ttft.percentile(95.0),
            ttft_error_us_p99: ttft.percentile(99.0),
            ttft_error_us_max: ttft.max(),
            gap_error_us_p50: gaps.median(),
            gap_error_us_p95: gaps.percentile(95.0),
            gap_error_us_p99: gaps.percentile(99.0),
            gap_error_us_max: gaps.max(),
            send_to_read_us_p50: read.median(),
            send_to_read_us_p99: read.percentile(99.0),
            server_late_us_p50: server.median(),
            server_late_us_p99: server.percentile(99.0),
            server_late_us_max: server.max(),
            ..ClientPoint::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use benchd_core::record::{Outcome, RequestRecord};
    use benchd_load::client::ServerStamp;

    const SENT_NS: u64 = 5_000_000_000;

    fn setting() -> Setting {
        Setting {
            streams: 1,
            waves: 1,
            tokens: 3,
            ttft: std::time::Duration::from_millis(1),
            gap: std::time::Duration::from_millis(1),
            spacing: std::time::Duration::ZERO,
        }
    }

    /// Emitted 1,000, 2,000 and 3,000 µs after the send; arrived so much later.
    fn answer(late_us: [u64; 3]) -> Answer {
        let stamp = |n: u64| ServerStamp {
            read_ns: SENT_NS + 40_000,
            due_ns: SENT_NS + n * 1_000_000 - 7_000,
            t_ns: SENT_NS + n * 1_000_000,
        };
        Answer {
            record: RequestRecord {
                chunks_us: (1..).zip(late_us).map(|(n, late)| n * 1_000 + late).collect(),
                ..RequestRecord::default()
            },
            sent_monotonic_ns: Some(SENT_NS),
            server_stamps: (1..=3).map(stamp).collect(),
            ..Answer::default()
        }
    }

    #[test]
    fn errors_are_the_clients_time_less_the_servers() {
        let judged = Judged::of(&[answer([10, 30, 5])], setting()).unwrap();
        assert_eq!(judged.ttft, [10.0]);
        assert_eq!(judged.gaps, [20.0, 25.0]);
        assert_eq!(judged.send_to_read, [40.0]);
        assert_eq!(judged.server_late, [7.0; 3]);
        assert_eq!(judged.span_s, 0.001_995);
        let point = judged.point(1).unwrap();
        assert_eq!(
            (point.tokens, point.requests, point.gap_error_us_max),
            (3, 1, 25.0)
        );
        assert_eq!((point.ttft_error_us_p99, point.server_late_us_p50), (10.0, 7.0));
    }

    #[test]
    fn what_did_not_come_as_sent_is_no_measurement() {
        let mut lost = answer([0; 3]);
        lost.record.chunks_us.pop();
        let error = Judged::of(&[lost], setting()).unwrap_err();
        assert!(
            matches!(
                error,
                SelfcheckError::Count {
                    came: 2,
                    stamps: 3,
                    sent: 3,
                    ..
                }
            ),
            "{error}"
        );
        let mut failed = answer([0; 3]);
        failed.record.outcome = Outcome::Timeout;
        let error = Judged::of(&[failed], setting()).unwrap_err();
        assert!(matches!(error, SelfcheckError::Request { .. }), "{error}");
        assert!(matches!(Judged::of(&[], setting()), Err(SelfcheckError::Empty)));
    }
}
