//! 9.2: the rankings over all scenarios.

use super::{
    super::{
        decision::TestCells,
        roles::{Role, shown},
        words::prompt_tokens,
    },
    Finding, ModelEvidence, NOT_BELOW, RISES_A_LOT,
};
use crate::Seen;
use benchd_core::format::{duration, list, number};
use benchd_plan::{Bound, Figure, ScenarioKind};

impl ModelEvidence<'_, '_> {
    pub(super) fn at_scale(&self) -> Finding {
        let Some((_, most)) = self.ends() else {
            return Finding::not_measured("the plan has no concurrency of several levels");
        };
        let of = |of, against, bound| {
            let settings = vec![TestCells::Cell(most.clone())];
            self.against(Figure::OutputTokensPerS, of, against, bound, settings)
        };
        Finding::all(vec![
            of(Role::Sglang, Role::Vllm, Bound::AtLeast(NOT_BELOW)),
            of(Role::Vllm, Role::Ollama, Bound::AtLeast(self.overwhelming())),
        ])
    }

    /// Whether ease outweighs a difference is for people to say; whether there is one to outweigh is not.
    pub(super) fn one_user(&self) -> Finding {
        let mut cells = self.cells(ScenarioKind::Single);
        cells.sort_by_key(prompt_tokens);
        let Some(middle) = cells.get(cells.len() / 2).cloned() else {
            return Finding::not_measured("the plan has no single requests");
        };
        let of = |against, bound| {
            let settings = vec![TestCells::Cell(middle.clone())];
            self.against(Figure::LatencyMs, Role::Ollama, against, bound, settings)
        };
        let within = Bound::AtMost(1.0 + self.margin());
        let found = Finding::all(vec![of(Role::Sglang, within), of(Role::Vllm, within)]);
        if found.outcome != Seen::Otherwise {
            return found;
        }
        // Much slower than one of them: no ease makes up for that.
        let far = Bound::AtLeast(RISES_A_LOT);
        let much = [Role::Sglang, Role::Vllm].map(|against| of(against, far).outcome);
        if much.contains(&Seen::AsExpected) {
            return found;
        }
        Finding {
            outcome: Seen::Unclear,
            seen: format!(
                "{}; whether its ease makes up for that, figures do not say",
                found.seen
            ),
            ..found
        }
    }

    pub(super) fn shared_prefix(&self) -> Finding {
        let of = |of, against| {
            let settings = self
                .cells(ScenarioKind::PrefixCache)
                .into_iter()
                .map(TestCells::Cell)
                .collect();
            self.against(
                Figure::OutputTokensPerS,
                of,
                against,
                Bound::AtLeast(1.0),
                settings,
            )
        };
        Finding::all(vec![of(Role::Sglang, Role::Vllm), of(Role::Vllm, Role::Ollama)])
    }

    /// What is known of installing the three: how long their recipes took, what they take on disk.
    fn installing(&self) -> String {
        let mut known: Vec<String> = Vec::new();
        let mut times = 0;
        for framework in [Role::Ollama, Role::Vllm, Role::Sglang]
            .into_iter()
            .filter_map(|role| self.roles.get(role))
        {
            let Some(environment) = self.evidence.environment(framework) else {
                continue;
            };
            let took = environment
                .install_ms
                .map(|ms| duration(std::time::Duration::from_millis(ms)));
            let size = environment
                .bytes
                .map(|bytes| format!("{} MB on disk", number(bytes as f64 / 1e6)));
            times += u32::from(took.is_some());
            let parts: Vec<String> = took.into_iter().chain(size).collect();
            if !parts.is_empty() {
                known.push(format!("{} {}", shown(framework), parts.join(", ")));
            }
        }
        match (known.is_empty(), times) {
            (true, _) => ", for what installing takes is not known here".to_owned(),
            (false, 0) => format!(
                "; to install: {} (how long it took is not known here)",
                known.join("; ")
            ),
            (false, _) => format!("; to install: {}", known.join("; ")),
        }
    }

    pub(super) fn ease(&self) -> Finding {
        let mut starts: Vec<(&str, u64)> = Vec::new();
        for role in [Role::Ollama, Role::Vllm, Role::Sglang] {
            let Some(framework) = self.roles.get(role) else {
                return Self::no_framework(role);
            };
            let mut ready: Vec<u64> = self
                .evidence
                .lanes(self.model, framework)
                .filter_map(|lane| lane.server.as_ref()?.ready_ms)
                .collect();
            ready.sort_unstable();
            match ready.get(ready.len() / 2) {
                Some(ms) => starts.push((shown(framework), *ms)),
                None => {
                    return Finding::not_measured(format!("{} did not come up", shown(framework)));
                }
            }
        }
        let said: Vec<String> = starts
            .iter()
            .map(|(name, ms)| format!("{name} after {}", duration(std::time::Duration::from_millis(*ms))))
            .collect();
        Finding {
            outcome: if starts.is_sorted_by_key(|(_, ms)| *ms) {
                Seen::AsExpected
            } else {
                Seen::Otherwise
            },
            seen: format!(
                "ready to answer: {}; the order is judged by the start alone{}",
                list(&said),
                self.installing()
            ),
            cells: Vec::new(),
        }
    }
}
