//! 5.2: many requests at once.

use super::{
    super::roles::{Role, shown},
    Finding, LINEAR, ModelEvidence, RISES, STANDS_STILL,
};
use crate::Seen;
use benchd_core::format::{chosen, count, counted};
use benchd_plan::{Bound, Figure, ScenarioKind};

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
                counted(fewest.concurrency.into(), "stream"),
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
                counted(fewest.concurrency.into(), "stream")
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
            return Finding::not_measured(self.evidence.absent(self.model, ollama, &most).why);
        }
        let (failed, requests) = strata
            .values()
            .fold((0, 0), |(f, r), s| (f + s.cell.failed, r + s.cell.requests));
        let what = match failed {
            0 => "none".to_owned(),
            n => count(n),
        };
        let seen = format!(
            "{what} of {}'s {} requests failed at {} streams",
            shown(ollama),
            count(requests),
            count(most.concurrency.into())
        );
        // What fails with fewer streams fails with more; that nothing does says nothing of more.
        let planned = self.planned(ScenarioKind::Concurrent);
        let highest = planned.into_iter().max_by_key(|c| c.concurrency);
        let beyond = highest.filter(|c| c.concurrency > most.concurrency);
        match beyond {
            Some(beyond) if failed == 0 => {
                let absent = self.evidence.absent(self.model, ollama, &beyond);
                Finding::not_measured(format!("{}; {seen}", absent.why))
            }
            _ => Finding {
                outcome: if failed > 0 {
                    Seen::AsExpected
                } else {
                    Seen::Otherwise
                },
                seen,
                cells: vec![most.id],
            },
        }
    }
}
