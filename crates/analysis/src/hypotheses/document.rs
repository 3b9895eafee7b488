//! H1 to H5 of the user's document as families of tests.

use super::{
    super::{TestRole, VerdictOutcome},
    configuration,
    evidence::{Cast, Evidence, Role},
    question::{Gap, Place, Question},
    settle::{Family, no_lead},
};
use benchd_plan::{
    Arrival, Bound, Cell, ConcurrencyTest, DegradationTest, Figure, KoreanTest, Rule, ScenarioKind,
    SharedPrefixTest, SingleRequestTest,
};

/// The claims in the document's own words.
pub(super) const CLAIMS_KO: [&str; 5] = [
    "SGLang이 공유 접두사 시나리오에서 vLLM보다 높은 처리량을 보인다",
    "SGLang/vLLM이 Ollama보다 동시 요청 처리에서 압도적으로 우수하다",
    "Ollama가 단일 요청 레이턴시에서 경쟁력을 보인다",
    "동시 요청 수 증가에 따른 성능 저하 패턴이 프레임워크마다 다르다",
    "한국어 입력/출력 시 영어 대비 토큰 효율성과 처리량이 프레임워크마다 다르다",
];

/// The players of some parts, and a gap for each part that nobody plays.
fn players<'a, const N: usize>(cast: &Cast<'a>, roles: [Role; N]) -> ([Option<&'a str>; N], Vec<Gap>) {
    let found = roles.map(|role| cast.get(role));
    let gaps = roles
        .iter()
        .zip(&found)
        .filter(|(_, player)| player.is_none())
        .map(|(role, _)| Gap::Role(*role))
        .collect();
    (found, gaps)
}

/// The closed-loop cells of a kind; a gap where there are none.
fn cells(evidence: &Evidence<'_>, kind: ScenarioKind, gaps: &mut Vec<Gap>) -> Vec<Cell> {
    let mut cells = evidence.cells_of(kind);
    cells.retain(|c| c.arrival == Arrival::Closed);
    if cells.is_empty() {
        gaps.push(Gap::Scenario(kind));
    }
    cells
}

pub(super) fn shared_prefix<'a>(
    evidence: &Evidence<'a>,
    cast: &Cast<'a>,
    model: &str,
    test: SharedPrefixTest,
) -> Family<'a> {
    let ([sglang, vllm], mut gaps) = players(cast, [Role::Sglang, Role::Vllm]);
    let shared = cells(evidence, ScenarioKind::PrefixCache, &mut gaps);
    let (mut deciding, mut beside) = (Vec::new(), Vec::new());
    let (throughput, ttft, gain) = (
        Bound::AtLeast(test.throughput),
        Bound::AtMost(test.ttft),
        Bound::AtMost(test.cache_gain),
    );
    for cell in &shared {
        let ask = |role, figure, of, against, bound| Question {
            role,
            figure,
            of,
            against,
            at: Place::Cell(cell.clone()),
            bound,
        };
        if let (Some(sglang), Some(vllm)) = (sglang, vllm) {
            deciding.push(ask(
                TestRole::Deciding,
                Figure::OutputTokensPerS,
                sglang,
                vllm,
                throughput,
            ));
            beside.push(ask(TestRole::Supporting, Figure::LaterTtftMs, sglang, vllm, ttft));
            beside.push(ask(
                TestRole::Supporting,
                Figure::LaterOverFirst,
                sglang,
                vllm,
                gain,
            ));
        }
        if let (Some(vllm), Some(control)) = (vllm, cast.control) {
            beside.push(ask(
                TestRole::Control,
                Figure::OutputTokensPerS,
                vllm,
                control,
                throughput,
            ));
            beside.push(ask(TestRole::Control, Figure::LaterTtftMs, vllm, control, ttft));
        }
    }
    // Where nothing is shared, a prefix cache has nothing to give: what differs there has another cause.
    let longest = evidence
        .cells_of(ScenarioKind::Single)
        .into_iter()
        .max_by_key(super::words::prompt_tokens);
    if let (Some(sglang), Some(vllm), Some(cell)) = (sglang, vllm, longest) {
        beside.push(Question {
            role: TestRole::Control,
            figure: Figure::TokensPerS,
            of: sglang,
            against: vllm,
            at: Place::Cell(cell),
            bound: Bound::Within((test.throughput.max(1.0 / test.throughput) - 1.0).max(0.01)),
        });
    }
    let frameworks = [sglang, vllm, cast.control];
    let mut configuration = configuration::prefix_caches(evidence, model, &frameworks);
    configuration.extend(configuration::precision(evidence, model, &[sglang, vllm]));
    Family {
        rule: Rule::All,
        deciding,
        beside,
        gaps,
        lead: no_lead,
        configuration,
    }
}

pub(super) fn concurrency<'a>(
    evidence: &Evidence<'a>,
    cast: &Cast<'a>,
    model: &str,
    test: ConcurrencyTest,
) -> Family<'a> {
    let ([sglang, vllm, ollama], mut gaps) = players(cast, [Role::Sglang, Role::Vllm, Role::Ollama]);
    let mut levels = cells(evidence, ScenarioKind::Concurrent, &mut gaps);
    levels.retain(|c| c.concurrency > 1);
    let highest = levels.iter().map(|c| c.concurrency).max().unwrap_or(0);
    if highest == 0 && !gaps.contains(&Gap::Scenario(ScenarioKind::Concurrent)) {
        gaps.push(Gap::Scenario(ScenarioKind::Concurrent));
    }
    let from = test.from_concurrency.min(highest);
    let (mut deciding, mut beside) = (Vec::new(), Vec::new());
    for (of, against) in [(sglang, ollama), (vllm, ollama)] {
        let (Some(of), Some(against)) = (of, against) else {
            continue;
        };
        for cell in &levels {
            let decides = cell.concurrency >= from;
            let question = Question {
                role: if decides {
                    TestRole::Deciding
                } else {
                    TestRole::Supporting
                },
                figure: Figure::OutputTokensPerS,
                of,
                against,
                at: Place::Cell(cell.clone()),
                bound: Bound::AtLeast(test.overwhelming),
            };
            if cell.concurrency == highest {
                beside.push(Question {
                    role: TestRole::Supporting,
                    figure: Figure::TtftMs,
                    bound: Bound::AtMost(1.0 / test.overwhelming),
                    ..question.clone()
                });
            }
            if decides {
                deciding.push(question);
            } else {
                beside.push(question);
            }
        }
    }
    let mut configuration = configuration::parallel(evidence, model, ollama);
    configuration.extend(configuration::precision(evidence, model, &[sglang, vllm, ollama]));
    configuration.extend(configuration::identical_prompts(
        evidence,
        ScenarioKind::Concurrent,
    ));
    Family {
        rule: Rule::All,
        deciding,
        beside,
        gaps,
        lead: |outcome| match outcome {
            VerdictOutcome::Supported => "Every test holds; the narrowest:",
            _ => "",
        },
        configuration,
    }
}

pub(super) fn single_request<'a>(
    evidence: &Evidence<'a>,
    cast: &Cast<'a>,
    model: &str,
    test: SingleRequestTest,
) -> Family<'a> {
    let ([ollama, sglang, vllm], mut gaps) = players(cast, [Role::Ollama, Role::Sglang, Role::Vllm]);
    let lengths = cells(evidence, ScenarioKind::Single, &mut gaps);
    let (mut deciding, mut beside) = (Vec::new(), Vec::new());
    for against in [sglang, vllm].into_iter().flatten() {
        let Some(of) = ollama else { continue };
        for cell in &lengths {
            let question = Question {
                role: TestRole::Deciding,
                figure: Figure::LatencyMs,
                of,
                against,
                at: Place::Cell(cell.clone()),
                bound: Bound::AtMost(1.0 + test.margin),
            };
            beside.push(Question {
                role: TestRole::Supporting,
                figure: Figure::TtftMs,
                ..question.clone()
            });
            deciding.push(question);
        }
    }
    Family {
        rule: Rule::All,
        deciding,
        beside,
        gaps,
        lead: |outcome| match outcome {
            VerdictOutcome::Supported => "It keeps within the margin of both; the narrowest:",
            _ => "",
        },
        configuration: configuration::precision(evidence, model, &[sglang, vllm, ollama]),
    }
}

/// The frameworks that run a kind of scenario, in the plan's order, without the control.
fn running<'a>(evidence: &Evidence<'a>, cast: &Cast<'a>, kind: ScenarioKind) -> Vec<&'a str> {
    let names: Vec<&str> = evidence.scenarios(kind).map(|(s, _)| s.name.as_str()).collect();
    evidence
        .plan
        .frameworks
        .values()
        .filter(|f| cast.control != Some(f.name.as_str()))
        .filter(|f| match &f.scenarios {
            None => !names.is_empty(),
            Some(only) => only.iter().any(|name| names.contains(&name.as_str())),
        })
        .map(|f| f.name.as_str())
        .collect()
}

/// Every two of them.
fn pairs<'a>(frameworks: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = Vec::new();
    for (n, first) in frameworks.iter().enumerate() {
        pairs.extend(frameworks[n + 1..].iter().map(|second| (*first, *second)));
    }
    pairs
}

pub(super) fn degradation<'a>(
    evidence: &Evidence<'a>,
    cast: &Cast<'a>,
    model: &str,
    test: DegradationTest,
) -> Family<'a> {
    let mut gaps = Vec::new();
    let cells = cells(evidence, ScenarioKind::Concurrent, &mut gaps);
    let frameworks = running(evidence, cast, ScenarioKind::Concurrent);
    let mut deciding = Vec::new();
    for (of, against) in pairs(&frameworks) {
        for cell in &cells {
            // The fewest streams of the same scenario and prompt length.
            let base = cells
                .iter()
                .filter(|c| c.scenario == cell.scenario && c.input == cell.input)
                .min_by_key(|c| c.concurrency);
            let Some(base) = base.filter(|base| base.concurrency < cell.concurrency) else {
                continue;
            };
            deciding.push(Question {
                role: TestRole::Deciding,
                figure: Figure::ScalingEfficiency,
                of,
                against,
                at: Place::Scaling {
                    cell: cell.clone(),
                    base: base.clone(),
                },
                bound: Bound::DiffersBy(test.difference),
            });
        }
    }
    if deciding.is_empty() && gaps.is_empty() {
        gaps.push(Gap::OneOnly(ScenarioKind::Concurrent));
    }
    let mut configuration = configuration::parallel(evidence, model, cast.ollama);
    configuration.extend(configuration::identical_prompts(
        evidence,
        ScenarioKind::Concurrent,
    ));
    Family {
        rule: Rule::Any,
        deciding,
        beside: Vec::new(),
        gaps,
        lead: |outcome| match outcome {
            VerdictOutcome::Supported => "The curves differ, most clearly here:",
            VerdictOutcome::Refuted => "No two frameworks differ by as much; the widest difference:",
            VerdictOutcome::Inconclusive => "",
        },
        configuration,
    }
}

/// What decides H5: tokens for the same meaning, tokens and characters per second.
const KOREAN_DECIDING: [Figure; 3] = [
    Figure::KoOverEnPromptTokens,
    Figure::KoOverEnTokensPerS,
    Figure::KoOverEnCharsPerS,
];

/// What is told beside it.
const KOREAN_BESIDE: [Figure; 2] = [Figure::KoOverEnTtftMs, Figure::KoOverEnLatencyMs];

pub(super) fn korean<'a>(
    evidence: &Evidence<'a>,
    cast: &Cast<'a>,
    model: &str,
    test: KoreanTest,
) -> Family<'a> {
    let mut gaps = Vec::new();
    let all = cells(evidence, ScenarioKind::Korean, &mut gaps);
    let frameworks = running(evidence, cast, ScenarioKind::Korean);
    // A scenario's cells of one concurrency belong together.
    let mut groups: Vec<(&str, u32, Vec<Cell>)> = Vec::new();
    for cell in &all {
        match groups
            .iter_mut()
            .find(|(scenario, streams, _)| *scenario == cell.scenario && *streams == cell.concurrency)
        {
            Some((_, _, cells)) => cells.push(cell.clone()),
            None => groups.push((&cell.scenario, cell.concurrency, vec![cell.clone()])),
        }
    }
    let (mut deciding, mut beside) = (Vec::new(), Vec::new());
    for (of, against) in pairs(&frameworks) {
        for (n, (_, concurrency, cells)) in groups.iter().enumerate() {
            let ask = |role, figure| Question {
                role,
                figure,
                of,
                against,
                at: Place::Korean {
                    concurrency: *concurrency,
                    cells: cells.clone(),
                },
                bound: Bound::DiffersBy(test.difference),
            };
            for figure in KOREAN_DECIDING {
                // A tokenizer does not know how many streams there are: once is enough.
                if figure != Figure::KoOverEnPromptTokens || n == 0 {
                    deciding.push(ask(TestRole::Deciding, figure));
                }
            }
            beside.extend(KOREAN_BESIDE.map(|figure| ask(TestRole::Supporting, figure)));
        }
    }
    if deciding.is_empty() && gaps.is_empty() {
        gaps.push(Gap::OneOnly(ScenarioKind::Korean));
    }
    let frameworks: Vec<Option<&str>> = frameworks.into_iter().map(Some).collect();
    Family {
        rule: Rule::Any,
        deciding,
        beside,
        gaps,
        lead: |outcome| match outcome {
            VerdictOutcome::Supported => "The frameworks differ, most clearly here:",
            VerdictOutcome::Refuted => "No two frameworks differ by as much; the widest difference:",
            VerdictOutcome::Inconclusive => "",
        },
        configuration: configuration::precision(evidence, model, &frameworks),
    }
}
