//! 5.1, 5.3 and 5.4: single requests, long prompts, a shared prefix.

use super::{
    super::{
        decision::TestCells,
        effect::Part,
        roles::{Role, shown},
        words::prompt_tokens,
    },
    FALLS, Finding, ModelEvidence, RISES_A_LOT, SIMILAR, STABLE,
};
use crate::Seen;
use benchd_core::format::{chosen, count, list, number};
use benchd_plan::{Bound, Cell, Figure, ScenarioKind};

impl ModelEvidence<'_, '_> {
    fn single_settings(&self) -> Vec<TestCells> {
        self.cells(ScenarioKind::Single)
            .into_iter()
            .map(TestCells::Cell)
            .collect()
    }

    pub(super) fn single_ttft(&self) -> Finding {
        let bound = Bound::AtMost(1.0 + self.margin());
        let of = |against| {
            self.against(
                Figure::TtftMs,
                Role::Ollama,
                against,
                bound,
                self.single_settings(),
            )
        };
        Finding::all(vec![of(Role::Sglang), of(Role::Vllm)])
    }

    pub(super) fn single_throughput(&self) -> Finding {
        let bound = Bound::Within(SIMILAR);
        self.against(
            Figure::TokensPerS,
            Role::Sglang,
            Role::Vllm,
            bound,
            self.single_settings(),
        )
    }

    /// Highest GPU memory in the single-request cells, bytes.
    fn memory_peak(&self, framework: &str) -> Option<u64> {
        self.cells(ScenarioKind::Single)
            .iter()
            .flat_map(|cell| self.evidence.strata(self.model, framework, &cell.id).values())
            .filter_map(|seen| seen.cell.gpu.as_ref()?.memory_peak_bytes)
            .max()
    }

    pub(super) fn memory(&self) -> Finding {
        let mut peaks: Vec<(&str, u64)> = Vec::new();
        for role in [Role::Sglang, Role::Vllm, Role::Ollama] {
            let Some(framework) = self.roles.get(role) else {
                return Self::no_framework(role);
            };
            match self.memory_peak(framework) {
                Some(peak) => peaks.push((shown(framework), peak)),
                None => {
                    return Finding::not_measured(format!(
                        "the GPU memory of {} on a single request is not known",
                        shown(framework)
                    ));
                }
            }
        }
        let said: Vec<String> = peaks
            .iter()
            .map(|(name, bytes)| format!("{name} {} MB", number(*bytes as f64 / 1e6)))
            .collect();
        let ollama = peaks[2].1;
        Finding {
            outcome: if peaks[..2].iter().all(|(_, peak)| *peak > ollama) {
                Seen::AsExpected
            } else {
                Seen::Otherwise
            },
            seen: format!(
                "peaks of {}; SGLang and vLLM reserve a fraction of the memory whatever they need",
                list(&said)
            ),
            cells: self
                .cells(ScenarioKind::Single)
                .into_iter()
                .map(|c| c.id)
                .collect(),
        }
    }

    pub(super) fn stable_prefill(&self) -> Finding {
        let cells = self.long();
        let Some(sglang) = self.roles.sglang else {
            return Self::no_framework(Role::Sglang);
        };
        let (Some(short), Some(long)) = (cells.first(), cells.last()) else {
            return Finding::not_measured("the plan has no cell for it");
        };
        let times = f64::from(prompt_tokens(long)) / f64::from(prompt_tokens(short).max(1));
        if times <= 1.0 {
            return Finding::not_measured("the plan has one long length only");
        }
        let said = format!(
            "{}'s time to first token was {{}} times as long on prompts {} times as long ({} to {} tokens)",
            shown(sglang),
            chosen(times),
            count(prompt_tokens(short).into()),
            count(prompt_tokens(long).into())
        );
        let effect = self.over(Figure::TtftMs, sglang, long, short);
        self.own(effect, Bound::AtMost(STABLE * times), &[short, long], &said)
    }

    pub(super) fn like_prefill(&self) -> Finding {
        let settings = self.long().into_iter().map(TestCells::Cell).collect();
        self.against(
            Figure::TtftMs,
            Role::Vllm,
            Role::Sglang,
            Bound::Within(SIMILAR),
            settings,
        )
    }

    pub(super) fn slow_prefill(&self) -> Finding {
        let longest: Vec<Cell> = self.long().into_iter().next_back().into_iter().collect();
        let of = |against| {
            let settings = longest.iter().cloned().map(TestCells::Cell).collect();
            self.against(
                Figure::TtftMs,
                Role::Ollama,
                against,
                Bound::AtLeast(RISES_A_LOT),
                settings,
            )
        };
        Finding::all(vec![of(Role::Sglang), of(Role::Vllm)])
    }

    /// Later over first TTFT of one framework.
    fn later_over_first(&self, role: Role, bound: Bound) -> Finding {
        let Some(framework) = self.roles.get(role) else {
            return Self::no_framework(role);
        };
        let parts = self
            .cells(ScenarioKind::PrefixCache)
            .iter()
            .map(|cell| {
                let part = Part::new(1.0, framework, cell);
                let said = format!(
                    "{}'s later requests had {{}} times the first one's time to first token",
                    shown(framework)
                );
                let effect = self.evidence.product(self.model, Figure::LaterOverFirst, &[part]);
                self.own(effect, bound, &[cell], &said)
            })
            .collect();
        Finding::all(parts)
    }

    pub(super) fn cache_helps(&self, role: Role) -> Finding {
        self.later_over_first(role, Bound::AtMost(FALLS))
    }

    pub(super) fn no_cache(&self, role: Role) -> Finding {
        self.later_over_first(role, Bound::Within(SIMILAR))
    }
}
