//! 5.2: many requests at once.

use super::{
    super::roles::{Role, shown},
    Finding, LINEAR, ModelEvidence, RISES, STANDS_STILL,
};
use crate::Seen;
use benchd_core::format::{chosen, count};
use benchd_plan::{Bound, Figure};

impl ModelEvidence<'_, '_> {
    pub(super) fn batching(&self) -> Finding {
        let Some((fewest, most)) = self.ends() else {
            return Finding::not_measured("the plan has one concurrency only");
        };
        let parts = [Role::Sglang, Role::Vllm].map(|role| {
            let Some(framework) = self.roles.get(role) else {
                return Self::no_framework(role);
            };
            let said = format!(
                "{} generated {{}} times the tokens per second of {} at {} streams",
                shown(framework),
                streams(fewest.concurrency),
                count(most.concurrency.into())
            );
            let effect = self.over(Figure::OutputTokensPerS, framework, &most, &fewest);
            self.own(effect, Bound::AtLeast(RISES), &[&fewest, &most], &said)
        });
        Finding::all(parts.into())
    }

    pub(super) fn serial(&self) -> Finding {
        let Some((fewest, most)) = self.ends() else {
            return Finding::not_measured("the plan has one concurrency only");
        };
        let Some(ollama) = self.roles.ollama else {
            return Self::no_framework(Role::Ollama);
        };
        let times = f64::from(most.concurrency) / f64::from(fewest.concurrency);
        let more = count(most.concurrency.into());
        let rate = self.own(
            self.over(Figure::OutputTokensPerS, ollama, &most, &fewest),
            Bound::AtMost(STANDS_STILL),
            &[&fewest, &most],
            &format!(
                "{} generated {{}} times the tokens per second of {} at {more} streams",
                shown(ollama),
                streams(fewest.concurrency)
            ),
        );
        let latency = self.own(
            self.over(Figure::LatencyMs, ollama, &most, &fewest),
            Bound::AtLeast(LINEAR * times),
            &[&fewest, &most],
            &format!(
                "its latency was {{}} times as long with {} times the streams",
                chosen(times)
            ),
        );
        Finding::all(vec![rate, latency])
    }

    pub(super) fn fails_under_load(&self) -> Finding {
        let Some((_, most)) = self.ends() else {
            return Finding::not_measured("the plan has one concurrency only");
        };
        let Some(ollama) = self.roles.ollama else {
            return Self::no_framework(Role::Ollama);
        };
        let strata = self.evidence.strata(self.model, ollama, &most.id);
        if strata.is_empty() {
            return Finding::not_measured(self.evidence.why_missing(self.model, ollama, &most));
        }
        let (failed, requests) = strata
            .values()
            .fold((0, 0), |(f, r), s| (f + s.cell.failed, r + s.cell.requests));
        let what = match failed {
            0 => "none".to_owned(),
            n => count(n),
        };
        Finding {
            outcome: if failed > 0 {
                Seen::AsExpected
            } else {
                Seen::Otherwise
            },
            seen: format!(
                "{what} of {}'s {} requests failed at {} streams",
                shown(ollama),
                count(requests),
                count(most.concurrency.into())
            ),
            cells: vec![most.id],
        }
    }
}

/// `1 stream`, `8 streams`.
fn streams(n: u32) -> String {
    match n {
        1 => "1 stream".to_owned(),
        n => format!("{} streams", count(n.into())),
    }
}
