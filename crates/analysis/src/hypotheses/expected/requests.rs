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
use benchd_core::{
    format::{chosen, count, list, number},
    record::Format,
};
use benchd_plan::{Bound, Cell, Figure, GpuSelection, ScenarioKind};

/// What a server needs of memory, bytes.
struct Need {
    framework: String,
    weights: f64,
    /// The KV cache of one request.
    cache: Option<f64>,
    format: Option<Format>,
}

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

    /// What a framework's server needs for one request of `tokens`.
    fn need(&self, framework: &str, tokens: u64) -> Option<Need> {
        let lanes = || self.evidence.lanes(self.model, framework);
        let weights = lanes().find_map(|lane| {
            let load = lane.server.as_ref().and_then(|server| server.load.as_ref());
            load.and_then(|load| load.weights_bytes)
                .or(lane.precision.file_bytes)
        })?;
        let cache = lanes().find_map(|lane| {
            let load = lane.server.as_ref()?.load.as_ref()?;
            let per_token = load.kv_cache_bytes? as f64 / load.kv_cache_tokens.filter(|n| *n > 0)? as f64;
            Some(per_token * tokens as f64)
        });
        let format = lanes().find_map(|lane| lane.precision.weights.value().cloned());
        Some(Need {
            framework: shown(framework).to_owned(),
            weights: weights as f64,
            cache,
            format,
        })
    }

    /// Weights, and the KV cache of the longest single request: what the servers need, whatever they reserve.
    pub(super) fn memory(&self) -> Finding {
        let cells = self.cells(ScenarioKind::Single);
        if self.evidence.plan.host.gpu == GpuSelection::None {
            return Finding::not_measured("the plan uses no GPU");
        }
        let length = |cell: &Cell| u64::from(prompt_tokens(cell)) + u64::from(cell.output_tokens);
        let tokens = cells.iter().map(length).max().unwrap_or(0);
        let mut needs = Vec::new();
        for role in [Role::Sglang, Role::Vllm, Role::Ollama] {
            let Some(framework) = self.roles.get(role) else {
                return Self::no_framework(role);
            };
            match self.need(framework, tokens) {
                Some(need) => needs.push(need),
                None => {
                    return Finding::not_measured(format!(
                        "nothing says how large the weights of {} are",
                        shown(framework)
                    ));
                }
            }
        }
        // Where one does not tell its cache, weights are held against weights.
        let with_cache = needs.iter().all(|need| need.cache.is_some());
        let sum = |need: &Need| need.weights + need.cache.filter(|_| with_cache).unwrap_or(0.0);
        let ollama = sum(&needs[2]);
        let more = needs[..2].iter().all(|need| sum(need) > ollama * (1.0 + SIMILAR));
        let said: Vec<String> = needs
            .iter()
            .map(|need| {
                let format = need
                    .format
                    .as_ref()
                    .map_or("unknown precision".to_owned(), ToString::to_string);
                format!("{} {} MB ({format})", need.framework, number(sum(need) / 1e6))
            })
            .collect();
        let what = if with_cache {
            format!(
                "weights and the KV cache of a request of {} tokens",
                count(tokens)
            )
        } else {
            "weights alone".to_owned()
        };
        let bits = |need: &Need| need.format.as_ref().and_then(Format::bits);
        let supposed = needs[..2].iter().all(|need| bits(need) == Some(16)) && bits(&needs[2]) == Some(4);
        let premise = if supposed {
            ""
        } else {
            "; the document supposes 16 bit against 4"
        };
        Finding {
            outcome: if more { Seen::AsExpected } else { Seen::Otherwise },
            seen: format!("{what}: {}{premise}", list(&said)),
            cells: cells.into_iter().map(|c| c.id).collect(),
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
