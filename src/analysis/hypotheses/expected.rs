//! What the user's document expects (5.1 to 5.5) and how it ranks the frameworks (9.2), against what was seen.
//!
//! The document words its expectations for people; here each becomes a ratio with a line. The lines stand below and in
//! `docs/metrics.md`.

use super::{
    super::{Expectation, Seen, TestRole, VerdictOutcome, compare::COMPARED_VALUES},
    effect::{Absent, Effect, Part},
    evidence::{Cast, Evidence, Night, Role, shown},
    question::{Answer, Gap, Levels, Place, Question, outcome},
    words::{capital, list, prompt_tokens},
};
use crate::{
    plan::{Arrival, Bound, Cell, Figure, Hypothesis, Plan, ScenarioKind},
    stats::{
        DEFAULT_LEVEL,
        number::{chosen, count, duration, number, with_interval},
    },
};

/// "Similar": within this share of each other.
const SIMILAR: f64 = 0.10;
/// "The same tokens": within this share of each other.
const SAME_TOKENS: f64 = 0.02;
/// "Throughput rises": at the most streams at least this many times that of the fewest.
const RISES: f64 = 1.05;
/// "Throughput stands still": at the most streams at most this many times that of the fewest.
const STANDS_STILL: f64 = 1.25;
/// "Latency rises linearly": at least this share of as many times as there are more streams.
const LINEAR: f64 = 0.75;
/// "TTFT falls a lot": later over first at most this.
const FALLS: f64 = 0.5;
/// "TTFT rises a lot": at least this many times the others'.
const RISES_A_LOT: f64 = 2.0;
/// "Stable": TTFT grows at most this many times as much as the prompt.
const STABLE: f64 = 1.1;
/// Korean prompt tokens over English ones, as the document expects them.
const KOREAN_TOKENS: (f64, f64) = (1.5, 3.0);
/// "At least as good" (`>=` in the rankings): not below this.
const NOT_BELOW: f64 = 0.95;

/// What came of one part of an expectation.
struct Finding {
    outcome: Seen,
    seen: String,
    cells: Vec<String>,
}

impl Finding {
    fn not_measured(why: impl Into<String>) -> Self {
        Self {
            outcome: Seen::NotMeasured,
            seen: why.into(),
            cells: Vec::new(),
        }
    }

    /// An expectation that holds where all of its parts do.
    fn all(parts: Vec<Self>) -> Self {
        let any = |wanted| parts.iter().any(|p| p.outcome == wanted);
        let every = |wanted| parts.iter().all(|p| p.outcome == wanted);
        let outcome = if parts.is_empty() || every(Seen::NotMeasured) {
            Seen::NotMeasured
        } else if any(Seen::Otherwise) {
            Seen::Otherwise
        } else if every(Seen::AsExpected) {
            Seen::AsExpected
        } else {
            Seen::Unclear
        };
        let (mut said, mut cells): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        for part in parts {
            if !said.contains(&part.seen) {
                said.push(part.seen);
            }
            for cell in part.cells {
                if !cells.contains(&cell) {
                    cells.push(cell);
                }
            }
        }
        Self {
            outcome,
            seen: said.join("; "),
            cells,
        }
    }
}

/// One line of the document.
struct Item {
    section: &'static str,
    scenario: Option<ScenarioKind>,
    expected: &'static str,
    expected_ko: &'static str,
    find: fn(&Looker<'_, '_>) -> Finding,
}

/// All of them, in the document's order.
const ITEMS: [Item; 19] = [
    Item {
        section: "5.1",
        scenario: Some(ScenarioKind::Single),
        expected: "Ollama may be competitive in TTFT",
        expected_ko: "Ollama가 GGUF 최적화로 TTFT에서 경쟁력을 보일 수 있음",
        find: |l| l.single_ttft(),
    },
    Item {
        section: "5.1",
        scenario: Some(ScenarioKind::Single),
        expected: "SGLang and vLLM show a similar throughput",
        expected_ko: "SGLang/vLLM은 비슷한 수준의 처리량을 보일 것",
        find: |l| l.single_throughput(),
    },
    Item {
        section: "5.1",
        scenario: Some(ScenarioKind::Single),
        expected: "SGLang and vLLM (16 bit) use more GPU memory than Ollama (4 bit)",
        expected_ko: "GPU 메모리 사용량은 SGLang/vLLM(FP16) > Ollama(Q4) 예상",
        find: |l| l.memory(),
    },
    Item {
        section: "5.2",
        scenario: Some(ScenarioKind::Concurrent),
        expected: "SGLang and vLLM: throughput rises with concurrency",
        expected_ko: "SGLang/vLLM: 동시성 증가에 따라 처리량 증가 (연속 배칭 효과)",
        find: |l| l.batching(),
    },
    Item {
        section: "5.2",
        scenario: Some(ScenarioKind::Concurrent),
        expected: "Ollama: latency rises linearly with concurrency, throughput stands still",
        expected_ko: "Ollama: 동시성 증가 시 선형적 레이턴시 증가, 처리량 정체",
        find: |l| l.serial(),
    },
    Item {
        section: "5.2",
        scenario: Some(ScenarioKind::Concurrent),
        expected: "Ollama may time out or fail at 64 concurrent requests",
        expected_ko: "64 동시 요청에서 Ollama는 타임아웃 또는 에러 발생 가능",
        find: |l| l.fails_under_load(),
    },
    Item {
        section: "5.3",
        scenario: Some(ScenarioKind::LongContext),
        expected: "SGLang keeps a stable TTFT on long prompts (chunked prefill)",
        expected_ko: "SGLang의 Chunked Prefill이 긴 입력에서 안정적인 TTFT 제공",
        find: |l| l.stable_prefill(),
    },
    Item {
        section: "5.3",
        scenario: Some(ScenarioKind::LongContext),
        expected: "vLLM performs alike, since it has chunked prefill too",
        expected_ko: "vLLM도 Chunked Prefill 지원으로 유사한 성능",
        find: |l| l.like_prefill(),
    },
    Item {
        section: "5.3",
        scenario: Some(ScenarioKind::LongContext),
        expected: "Ollama's TTFT may rise a lot on long prompts",
        expected_ko: "Ollama는 긴 입력에서 TTFT가 크게 증가할 수 있음",
        find: |l| l.slow_prefill(),
    },
    Item {
        section: "5.4",
        scenario: Some(ScenarioKind::PrefixCache),
        expected: "SGLang: TTFT of later requests falls a lot (RadixAttention)",
        expected_ko: "SGLang: RadixAttention 자동 접두사 감지로 후속 요청에서 TTFT 대폭 감소",
        find: |l| l.cache_helps(Role::Sglang),
    },
    Item {
        section: "5.4",
        scenario: Some(ScenarioKind::PrefixCache),
        expected: "vLLM: the same with prefix caching, nothing without it",
        expected_ko: "vLLM: Prefix Caching 활성화 시 유사한 효과, 미활성화 시 캐시 이점 없음",
        find: |l| Finding::all(vec![l.cache_helps(Role::Vllm), l.no_cache(Role::Control)]),
    },
    Item {
        section: "5.4",
        scenario: Some(ScenarioKind::PrefixCache),
        expected: "Ollama: no cache, the same TTFT in all requests",
        expected_ko: "Ollama: 캐시 메커니즘 없어 모든 요청에서 동일한 TTFT",
        find: |l| l.no_cache(Role::Ollama),
    },
    Item {
        section: "5.5",
        scenario: Some(ScenarioKind::Korean),
        expected: "Korean prompts take 1.5 to 3 times the tokens of English ones of the same meaning",
        expected_ko: "한국어 입력은 동일 의미 영어 대비 1.5~3배 많은 토큰 소비",
        find: |l| l.korean_tokens(),
    },
    Item {
        section: "5.5",
        scenario: Some(ScenarioKind::Korean),
        expected: "Tokens per second are alike in Korean and English, information per second is lower in Korean",
        expected_ko: "Token Throughput(tok/s)는 한국어/영어 간 유사하나, 실질 정보 처리량(정보/sec)은 한국어가 낮을 수 있음",
        find: |l| l.korean_information(),
    },
    Item {
        section: "5.5",
        scenario: Some(ScenarioKind::Korean),
        expected: "Ollama's tokenizer (GGUF) may have a larger overhead for Korean",
        expected_ko: "Ollama(GGUF)의 토크나이저가 한국어에 덜 최적화되어 있을 경우 토큰 오버헤드가 더 클 수 있음",
        find: |l| l.ollama_tokenizer(),
    },
    Item {
        section: "5.5",
        scenario: Some(ScenarioKind::Korean),
        expected: "SGLang and vLLM have a similar token efficiency, since they use the same tokenizer",
        expected_ko: "SGLang/vLLM은 동일 HuggingFace 토크나이저를 사용하므로 유사한 토큰 효율성 예상",
        find: |l| l.same_tokenizer(),
    },
    Item {
        section: "9.2",
        scenario: None,
        expected: "Serving at scale: SGLang >= vLLM >> Ollama",
        expected_ko: "프로덕션 대규모 서빙: SGLang >= vLLM >> Ollama",
        find: |l| l.at_scale(),
    },
    Item {
        section: "9.2",
        scenario: None,
        expected: "One local user: Ollama's ease of use outweighs the difference in performance",
        expected_ko: "단일 사용자 로컬 추론: Ollama의 간편성이 성능 차이를 상쇄",
        find: |l| l.one_user(),
    },
    Item {
        section: "9.2",
        scenario: None,
        expected: "Workloads that share a prefix: SGLang > vLLM > Ollama",
        expected_ko: "접두사 공유 워크로드: SGLang > vLLM > Ollama",
        find: |l| l.shared_prefix(),
    },
];

/// The last line of 9.2 is about operations, not about answers.
const EASE: Item = Item {
    section: "9.2",
    scenario: None,
    expected: "Ease of installation and operation: Ollama > vLLM > SGLang",
    expected_ko: "설치/운영 편의성: Ollama > vLLM > SGLang",
    find: |l| l.ease(),
};

/// The document's expectations for every model of the plan. None where no framework of the plan is one of those that the
/// document speaks of; of scenarios, only those that the plan has.
pub(in crate::analysis) fn expectations(plan: &Plan, nights: &[Night<'_>]) -> Vec<Expectation> {
    let cast = Cast::of(plan);
    if cast.is_empty() {
        return Vec::new();
    }
    let evidence = Evidence::new(plan, nights);
    let has = |kind: ScenarioKind| plan.scenarios.values().any(|s| s.kind == kind);
    ITEMS
        .iter()
        .chain([&EASE])
        .filter(|item| item.scenario.is_none_or(has))
        .flat_map(|item| plan.models.keys().map(move |model| (item, model)))
        .map(|(item, model)| {
            let found = (item.find)(&Looker {
                evidence: &evidence,
                cast: &cast,
                model,
            });
            Expectation {
                section: item.section.to_owned(),
                scenario: item.scenario,
                expected: item.expected.to_owned(),
                expected_ko: item.expected_ko.to_owned(),
                model: model.clone(),
                outcome: found.outcome,
                seen: capital(&found.seen),
                cells: found.cells,
            }
        })
        .collect()
}

/// One model's evidence.
struct Looker<'e, 'a> {
    evidence: &'e Evidence<'a>,
    cast: &'e Cast<'a>,
    model: &'e str,
}

const AT_95: Levels = Levels {
    shown: DEFAULT_LEVEL,
    strict: DEFAULT_LEVEL,
};

fn of_outcome(outcome: VerdictOutcome) -> Seen {
    match outcome {
        VerdictOutcome::Supported => Seen::AsExpected,
        VerdictOutcome::Refuted => Seen::Otherwise,
        VerdictOutcome::Inconclusive => Seen::Unclear,
    }
}

impl<'a> Looker<'_, 'a> {
    fn cells(&self, kind: ScenarioKind) -> Vec<Cell> {
        let mut cells = self.evidence.cells_of(kind);
        cells.retain(|c| c.arrival == Arrival::Closed);
        cells
    }

    /// Cells of the fewest and the most streams.
    fn ends(&self) -> Option<(Cell, Cell)> {
        let cells = self.cells(ScenarioKind::Concurrent);
        let most = cells.iter().max_by_key(|c| c.concurrency)?;
        let fewest = cells
            .iter()
            .filter(|c| c.scenario == most.scenario && c.input == most.input)
            .min_by_key(|c| c.concurrency)?;
        (fewest.concurrency < most.concurrency).then(|| (fewest.clone(), most.clone()))
    }

    /// The long prompts at the fewest streams, the shortest first.
    fn long(&self) -> Vec<Cell> {
        let mut cells = self.cells(ScenarioKind::LongContext);
        let fewest = cells.iter().map(|c| c.concurrency).min();
        cells.retain(|c| Some(c.concurrency) == fewest);
        cells.sort_by_key(prompt_tokens);
        cells
    }

    /// The cells of the Korean scenario at the fewest streams.
    fn korean(&self) -> Vec<Cell> {
        let mut cells = self.cells(ScenarioKind::Korean);
        let fewest = cells.iter().map(|c| c.concurrency).min();
        cells.retain(|c| Some(c.concurrency) == fewest);
        cells
    }

    fn nobody(role: Role) -> Finding {
        Finding::not_measured(format!("no framework of the plan stands for {}", role.shown()))
    }

    /// One framework against another in several places: the ratios in one line.
    fn against(&self, figure: Figure, of: Role, against: Role, bound: Bound, places: Vec<Place>) -> Finding {
        let (of, against) = match (self.cast.get(of), self.cast.get(against)) {
            (Some(of), Some(against)) => (of, against),
            (None, _) => return Self::nobody(of),
            (_, None) => return Self::nobody(against),
        };
        if places.is_empty() {
            return Finding::not_measured("the plan has no cell for it");
        }
        let answers: Vec<Answer> = places
            .into_iter()
            .map(|at| {
                let question = Question {
                    role: TestRole::Deciding,
                    figure,
                    of,
                    against,
                    at,
                    bound,
                };
                self.evidence.ask(self.model, &question, AT_95)
            })
            .collect();
        Finding::all(answers.into_iter().map(finding).collect())
    }

    /// A ratio within one framework.
    fn own(&self, effect: Result<Effect, Absent>, bound: Bound, cells: &[&Cell], said: &str) -> Finding {
        let effect = match effect {
            Ok(effect) => effect,
            Err(absent) => return Finding::not_measured(absent.why),
        };
        let interval = effect.interval(DEFAULT_LEVEL).filter(|_| effect.is_trusted());
        let ratio = with_interval(effect.estimate, interval.as_ref());
        let few = match interval {
            Some(_) => String::new(),
            None => format!(
                " ({} {}; {COMPARED_VALUES} are needed to tell)",
                count(effect.values as u64),
                effect.unit.words(effect.values)
            ),
        };
        Finding {
            outcome: interval.map_or(Seen::Unclear, |i| of_outcome(outcome(bound, &i))),
            seen: format!("{}{few}", said.replace("{}", &ratio)),
            cells: cells.iter().map(|c| c.id.clone()).collect(),
        }
    }

    fn over(&self, figure: Figure, framework: &str, above: &Cell, below: &Cell) -> Result<Effect, Absent> {
        let part = |power, cell| Part {
            power,
            framework,
            cell,
        };
        self.evidence
            .product(self.model, figure, &[part(1.0, above), part(-1.0, below)])
    }

    fn margin(&self) -> f64 {
        let stated = self.evidence.plan.hypotheses.list.iter().find_map(|h| match h {
            Hypothesis::H3(test) => Some(test.margin),
            _ => None,
        });
        stated.unwrap_or(crate::plan::SingleRequestTest::default().margin)
    }

    fn overwhelming(&self) -> f64 {
        let stated = self.evidence.plan.hypotheses.list.iter().find_map(|h| match h {
            Hypothesis::H2(test) => Some(test.overwhelming),
            _ => None,
        });
        stated.unwrap_or(crate::plan::ConcurrencyTest::default().overwhelming)
    }

    fn single_places(&self) -> Vec<Place> {
        self.cells(ScenarioKind::Single)
            .into_iter()
            .map(Place::Cell)
            .collect()
    }

    fn single_ttft(&self) -> Finding {
        let bound = Bound::AtMost(1.0 + self.margin());
        let of = |against| self.against(Figure::TtftMs, Role::Ollama, against, bound, self.single_places());
        Finding::all(vec![of(Role::Sglang), of(Role::Vllm)])
    }

    fn single_throughput(&self) -> Finding {
        let bound = Bound::Within(SIMILAR);
        self.against(
            Figure::TokensPerS,
            Role::Sglang,
            Role::Vllm,
            bound,
            self.single_places(),
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

    fn memory(&self) -> Finding {
        let mut peaks: Vec<(&str, u64)> = Vec::new();
        for role in [Role::Sglang, Role::Vllm, Role::Ollama] {
            let Some(framework) = self.cast.get(role) else {
                return Self::nobody(role);
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

    fn batching(&self) -> Finding {
        let Some((fewest, most)) = self.ends() else {
            return Finding::not_measured("the plan has one concurrency only");
        };
        let parts = [Role::Sglang, Role::Vllm].map(|role| {
            let Some(framework) = self.cast.get(role) else {
                return Self::nobody(role);
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

    fn serial(&self) -> Finding {
        let Some((fewest, most)) = self.ends() else {
            return Finding::not_measured("the plan has one concurrency only");
        };
        let Some(ollama) = self.cast.ollama else {
            return Self::nobody(Role::Ollama);
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

    fn fails_under_load(&self) -> Finding {
        let Some((_, most)) = self.ends() else {
            return Finding::not_measured("the plan has one concurrency only");
        };
        let Some(ollama) = self.cast.ollama else {
            return Self::nobody(Role::Ollama);
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

    fn stable_prefill(&self) -> Finding {
        let cells = self.long();
        let Some(sglang) = self.cast.sglang else {
            return Self::nobody(Role::Sglang);
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

    fn like_prefill(&self) -> Finding {
        let places = self.long().into_iter().map(Place::Cell).collect();
        self.against(
            Figure::TtftMs,
            Role::Vllm,
            Role::Sglang,
            Bound::Within(SIMILAR),
            places,
        )
    }

    fn slow_prefill(&self) -> Finding {
        let longest: Vec<Cell> = self.long().into_iter().next_back().into_iter().collect();
        let of = |against| {
            let places = longest.iter().cloned().map(Place::Cell).collect();
            self.against(
                Figure::TtftMs,
                Role::Ollama,
                against,
                Bound::AtLeast(RISES_A_LOT),
                places,
            )
        };
        Finding::all(vec![of(Role::Sglang), of(Role::Vllm)])
    }

    /// Later over first TTFT of one framework.
    fn later_over_first(&self, role: Role, bound: Bound) -> Finding {
        let Some(framework) = self.cast.get(role) else {
            return Self::nobody(role);
        };
        let parts = self
            .cells(ScenarioKind::PrefixCache)
            .iter()
            .map(|cell| {
                let part = Part {
                    power: 1.0,
                    framework,
                    cell,
                };
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

    fn cache_helps(&self, role: Role) -> Finding {
        self.later_over_first(role, Bound::AtMost(FALLS))
    }

    fn no_cache(&self, role: Role) -> Finding {
        self.later_over_first(role, Bound::Within(SIMILAR))
    }

    /// Korean over English of each of the three, where it runs.
    fn ko_over_en(&self, figure: Figure) -> Vec<(&'a str, Result<Effect, Absent>)> {
        let cells = self.korean();
        [Role::Sglang, Role::Vllm, Role::Ollama]
            .into_iter()
            .filter_map(|role| self.cast.get(role))
            .map(|framework| {
                let effect = self.evidence.korean(self.model, figure, framework, None, &cells);
                (framework, effect)
            })
            .collect()
    }

    fn korean_ids(&self) -> Vec<String> {
        self.korean().into_iter().map(|c| c.id).collect()
    }

    fn korean_tokens(&self) -> Finding {
        let (least, most) = KOREAN_TOKENS;
        let parts = self
            .ko_over_en(Figure::KoOverEnPromptTokens)
            .into_iter()
            .map(|(framework, effect)| {
                let effect = match effect {
                    Ok(effect) => effect,
                    Err(absent) => return Finding::not_measured(absent.why),
                };
                let interval = effect.interval(DEFAULT_LEVEL).filter(|_| effect.is_trusted());
                let outcome = interval.map_or(Seen::Unclear, |i| {
                    if i.low >= least && i.high <= most {
                        Seen::AsExpected
                    } else if i.high < least || i.low > most {
                        Seen::Otherwise
                    } else {
                        Seen::Unclear
                    }
                });
                Finding {
                    outcome,
                    seen: format!(
                        "{} counted {} times the tokens",
                        shown(framework),
                        with_interval(effect.estimate, interval.as_ref())
                    ),
                    cells: self.korean_ids(),
                }
            })
            .collect();
        Finding::all(parts)
    }

    fn korean_information(&self) -> Finding {
        let tokens = self.ko_over_en(Figure::KoOverEnPromptTokens);
        let parts = self
            .ko_over_en(Figure::KoOverEnTokensPerS)
            .into_iter()
            .zip(tokens)
            .map(|((framework, rate), (_, tokens))| {
                let (rate, tokens) = match (rate, tokens) {
                    (Ok(rate), Ok(tokens)) => (rate, tokens),
                    (Err(absent), _) | (_, Err(absent)) => return Finding::not_measured(absent.why),
                };
                let interval = rate.interval(DEFAULT_LEVEL).filter(|_| rate.is_trusted());
                let alike = interval.map_or(Seen::Unclear, |i| of_outcome(outcome(Bound::Within(SIMILAR), &i)));
                let meaning = rate.estimate / tokens.estimate;
                let outcome = match alike {
                    Seen::AsExpected if meaning >= NOT_BELOW => Seen::Otherwise,
                    alike => alike,
                };
                Finding {
                    outcome,
                    seen: format!(
                        "{} generated {} times as many tokens per second in Korean, at {} times the tokens for the same \
                         meaning: {} times the meaning per second",
                        shown(framework),
                        with_interval(rate.estimate, interval.as_ref()),
                        number(tokens.estimate),
                        number(meaning)
                    ),
                    cells: self.korean_ids(),
                }
            })
            .collect();
        Finding::all(parts)
    }

    fn korean_place(&self) -> Vec<Place> {
        let cells = self.korean();
        cells
            .first()
            .map(|c| c.concurrency)
            .map(|concurrency| Place::Korean { concurrency, cells })
            .into_iter()
            .collect()
    }

    fn ollama_tokenizer(&self) -> Finding {
        let bound = Bound::AtLeast(1.0 + SAME_TOKENS);
        let of = |against| {
            self.against(
                Figure::KoOverEnPromptTokens,
                Role::Ollama,
                against,
                bound,
                self.korean_place(),
            )
        };
        Finding::all(vec![of(Role::Sglang), of(Role::Vllm)])
    }

    fn same_tokenizer(&self) -> Finding {
        self.against(
            Figure::KoOverEnPromptTokens,
            Role::Sglang,
            Role::Vllm,
            Bound::Within(SAME_TOKENS),
            self.korean_place(),
        )
    }

    fn at_scale(&self) -> Finding {
        let Some((_, most)) = self.ends() else {
            return Finding::not_measured("the plan has no concurrency of several levels");
        };
        let of = |of, against, bound| {
            let places = vec![Place::Cell(most.clone())];
            self.against(Figure::OutputTokensPerS, of, against, bound, places)
        };
        Finding::all(vec![
            of(Role::Sglang, Role::Vllm, Bound::AtLeast(NOT_BELOW)),
            of(Role::Vllm, Role::Ollama, Bound::AtLeast(self.overwhelming())),
        ])
    }

    /// Whether ease outweighs a difference is for people to say; whether there is one to outweigh is not.
    fn one_user(&self) -> Finding {
        let mut cells = self.cells(ScenarioKind::Single);
        cells.sort_by_key(prompt_tokens);
        let Some(middle) = cells.get(cells.len() / 2).cloned() else {
            return Finding::not_measured("the plan has no single requests");
        };
        let of = |against, bound| {
            let places = vec![Place::Cell(middle.clone())];
            self.against(Figure::LatencyMs, Role::Ollama, against, bound, places)
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

    fn shared_prefix(&self) -> Finding {
        let of = |of, against| {
            let places = self
                .cells(ScenarioKind::PrefixCache)
                .into_iter()
                .map(Place::Cell)
                .collect();
            self.against(Figure::OutputTokensPerS, of, against, Bound::AtLeast(1.0), places)
        };
        Finding::all(vec![of(Role::Sglang, Role::Vllm), of(Role::Vllm, Role::Ollama)])
    }

    fn ease(&self) -> Finding {
        let mut starts: Vec<(&str, u64)> = Vec::new();
        for role in [Role::Ollama, Role::Vllm, Role::Sglang] {
            let Some(framework) = self.cast.get(role) else {
                return Self::nobody(role);
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
                "ready to answer: {}; only the start is measured, not what installing takes",
                list(&said)
            ),
            cells: Vec::new(),
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

fn finding(answer: Answer) -> Finding {
    let missing = matches!(answer.gap, Some(Gap::Missing(_)));
    Finding {
        outcome: if missing {
            Seen::NotMeasured
        } else {
            of_outcome(answer.test.outcome)
        },
        seen: answer.sentence,
        cells: answer.test.cells,
    }
}
