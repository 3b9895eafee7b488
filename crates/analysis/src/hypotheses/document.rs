//! H1 to H5 of the user's document as families of tests.

use super::{
    super::TestRole,
    configuration,
    decision::{TestCells, TestSpec, Undecided},
    evidence::Evidence,
    roles::{Role, RoleFrameworks},
    settle::Family,
};
use benchd_plan::{
    Arrival, Bound, Cell, ConcurrencyTest, DegradationTest, Figure, KoreanTest, Rule, ScenarioKind,
    SharedPrefixTest, SingleRequestTest,
};

/// The claims in the document's own words, by hypothesis.
pub(super) const CLAIMS_KO: [(&str, &str); 5] = [
    (
        "H1",
        "SGLang이 공유 접두사 시나리오에서 vLLM보다 높은 처리량을 보인다",
    ),
    (
        "H2",
        "SGLang/vLLM이 Ollama보다 동시 요청 처리에서 압도적으로 우수하다",
    ),
    ("H3", "Ollama가 단일 요청 레이턴시에서 경쟁력을 보인다"),
    (
        "H4",
        "동시 요청 수 증가에 따른 성능 저하 패턴이 프레임워크마다 다르다",
    ),
    (
        "H5",
        "한국어 입력/출력 시 영어 대비 토큰 효율성과 처리량이 프레임워크마다 다르다",
    ),
];

/// The frameworks that take some roles, and what can't be tested for want of them.
fn frameworks_of<'a, const N: usize>(
    roles: &RoleFrameworks<'a>,
    wanted: [Role; N],
) -> ([Option<&'a str>; N], Vec<Undecided>) {
    let missing = wanted.iter().filter(|role| roles.get(**role).is_none());
    let impossible = missing.map(|role| Undecided::NoFramework(*role)).collect();
    (wanted.map(|role| roles.get(role)), impossible)
}

/// The closed-loop cells of a kind; where there are none, nothing can be tested.
fn cells(evidence: &Evidence<'_>, kind: ScenarioKind, impossible: &mut Vec<Undecided>) -> Vec<Cell> {
    let mut cells = evidence.cells_of(kind);
    cells.retain(|c| c.arrival == Arrival::Closed);
    if cells.is_empty() {
        impossible.push(Undecided::NoScenario(kind));
    }
    cells
}

/// The cells that the plan has both of a pair run; all of them where there is none, so that each says what is missing.
fn both_run(evidence: &Evidence<'_>, pair: (&str, &str), cells: &[Cell]) -> Vec<Cell> {
    let both = evidence.run_by_all(&[pair.0, pair.1], cells);
    if both.is_empty() { cells.to_vec() } else { both }
}

pub(super) fn shared_prefix<'a>(
    evidence: &Evidence<'a>,
    roles: &RoleFrameworks<'a>,
    model: &str,
    test: SharedPrefixTest,
) -> Family<'a> {
    let ([sglang, vllm], mut impossible) = frameworks_of(roles, [Role::Sglang, Role::Vllm]);
    let shared = cells(evidence, ScenarioKind::PrefixCache, &mut impossible);
    let (mut deciding, mut beside) = (Vec::new(), Vec::new());
    let (throughput, ttft, gain) = (
        Bound::AtLeast(test.throughput),
        Bound::AtMost(test.ttft),
        Bound::AtMost(test.cache_gain),
    );
    let spec = |figure, pair, cell, bound| TestSpec::new(figure, pair, TestCells::Cell(cell), bound);
    if let Some(pair) = sglang.zip(vllm) {
        for cell in both_run(evidence, pair, &shared) {
            deciding.push(spec(Figure::OutputTokensPerS, pair, cell.clone(), throughput));
            for (figure, bound) in [(Figure::LaterTtftMs, ttft), (Figure::LaterOverFirst, gain)] {
                beside.push((TestRole::Supporting, spec(figure, pair, cell.clone(), bound)));
            }
        }
    }
    if let Some(pair) = vllm.zip(roles.control) {
        for cell in both_run(evidence, pair, &shared) {
            for (figure, bound) in [
                (Figure::OutputTokensPerS, throughput),
                (Figure::LaterTtftMs, ttft),
            ] {
                beside.push((TestRole::Control, spec(figure, pair, cell.clone(), bound)));
            }
        }
    }
    // Where nothing is shared, a prefix cache has nothing to give: what differs there has another cause.
    let longest = sglang.zip(vllm).and_then(|pair| {
        let single = evidence.cells_of(ScenarioKind::Single);
        let measured = evidence.measured_by_all(model, &[pair.0, pair.1], &single);
        let single = if measured.is_empty() { single } else { measured };
        Some((pair, single.into_iter().max_by_key(super::words::prompt_tokens)?))
    });
    if let Some((pair, cell)) = longest {
        let bound = Bound::Within((test.throughput.max(1.0 / test.throughput) - 1.0).max(0.01));
        beside.push((TestRole::Control, spec(Figure::TokensPerS, pair, cell, bound)));
    }
    let frameworks = [sglang, vllm, roles.control];
    let mut configuration = configuration::prefix_caches(evidence, model, &frameworks);
    configuration.extend(configuration::precision(evidence, model, &[sglang, vllm]));
    Family {
        rule: Rule::All,
        deciding,
        beside,
        impossible,
        lead: ("", ""),
        configuration,
        whole: false,
    }
}

pub(super) fn concurrency<'a>(
    evidence: &Evidence<'a>,
    roles: &RoleFrameworks<'a>,
    model: &str,
    test: ConcurrencyTest,
) -> Family<'a> {
    let ([sglang, vllm, ollama], mut impossible) =
        frameworks_of(roles, [Role::Sglang, Role::Vllm, Role::Ollama]);
    let mut levels = cells(evidence, ScenarioKind::Concurrent, &mut impossible);
    levels.retain(|c| c.concurrency > 1);
    if levels.is_empty() && !impossible.contains(&Undecided::NoScenario(ScenarioKind::Concurrent)) {
        impossible.push(Undecided::NoScenario(ScenarioKind::Concurrent));
    }
    let (mut deciding, mut beside) = (Vec::new(), Vec::new());
    for pair in [sglang, vllm].into_iter().filter_map(|of| of.zip(ollama)) {
        let levels = both_run(evidence, pair, &levels);
        let highest = levels.iter().map(|c| c.concurrency).max().unwrap_or(0);
        let from = test.from_concurrency.min(highest);
        for cell in &levels {
            let spec = |figure, bound| TestSpec::new(figure, pair, TestCells::Cell(cell.clone()), bound);
            if cell.concurrency == highest {
                let ttft = spec(Figure::TtftMs, Bound::AtMost(1.0 / test.overwhelming));
                beside.push((TestRole::Supporting, ttft));
            }
            let throughput = spec(Figure::OutputTokensPerS, Bound::AtLeast(test.overwhelming));
            if cell.concurrency >= from {
                deciding.push(throughput);
            } else {
                beside.push((TestRole::Supporting, throughput));
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
        impossible,
        lead: ("Every test holds; the narrowest:", ""),
        configuration,
        whole: false,
    }
}

pub(super) fn single_request<'a>(
    evidence: &Evidence<'a>,
    roles: &RoleFrameworks<'a>,
    model: &str,
    test: SingleRequestTest,
) -> Family<'a> {
    let ([ollama, sglang, vllm], mut impossible) =
        frameworks_of(roles, [Role::Ollama, Role::Sglang, Role::Vllm]);
    let lengths = cells(evidence, ScenarioKind::Single, &mut impossible);
    let (mut deciding, mut beside) = (Vec::new(), Vec::new());
    for pair in [sglang, vllm]
        .into_iter()
        .filter_map(|against| ollama.zip(against))
    {
        for cell in both_run(evidence, pair, &lengths) {
            let bound = Bound::AtMost(1.0 + test.margin);
            let spec = |figure| TestSpec::new(figure, pair, TestCells::Cell(cell.clone()), bound);
            beside.push((TestRole::Supporting, spec(Figure::TtftMs)));
            deciding.push(spec(Figure::LatencyMs));
        }
    }
    Family {
        rule: Rule::All,
        deciding,
        beside,
        impossible,
        lead: ("It keeps within the margin of both; the narrowest:", ""),
        configuration: configuration::precision(evidence, model, &[sglang, vllm, ollama]),
        whole: false,
    }
}

/// The frameworks that run a kind of scenario, in the plan's order, without the control.
fn running<'a>(evidence: &Evidence<'a>, roles: &RoleFrameworks<'a>, kind: ScenarioKind) -> Vec<&'a str> {
    let names: Vec<&str> = evidence.scenarios(kind).map(|(s, _)| s.name.as_str()).collect();
    evidence
        .plan
        .frameworks
        .values()
        .filter(|f| roles.control != Some(f.name.as_str()))
        .filter(|f| match &f.scenarios {
            None => !names.is_empty(),
            Some(only) => only.iter().any(|name| names.contains(&name.as_str())),
        })
        .map(|f| f.name.as_str())
        .collect()
}

fn pairs<'a>(frameworks: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let mut pairs = Vec::new();
    for (n, first) in frameworks.iter().enumerate() {
        pairs.extend(frameworks[n + 1..].iter().map(|second| (*first, *second)));
    }
    pairs
}

pub(super) fn degradation<'a>(
    evidence: &Evidence<'a>,
    roles: &RoleFrameworks<'a>,
    model: &str,
    test: DegradationTest,
) -> Family<'a> {
    let mut impossible = Vec::new();
    let cells = cells(evidence, ScenarioKind::Concurrent, &mut impossible);
    let frameworks = running(evidence, roles, ScenarioKind::Concurrent);
    let mut deciding = Vec::new();
    for pair in pairs(&frameworks) {
        let cells = evidence.run_by_all(&[pair.0, pair.1], &cells);
        let measured = evidence.measured_by_all(model, &[pair.0, pair.1], &cells);
        for cell in &cells {
            // The fewest streams of the same scenario and prompt length, if possible one that both measured.
            let fewest = |of: &[Cell]| {
                let alike = of
                    .iter()
                    .filter(|c| c.scenario == cell.scenario && c.input == cell.input);
                let base = alike.min_by_key(|c| c.concurrency).cloned();
                base.filter(|base| base.concurrency < cell.concurrency)
            };
            let Some(of_plan) = fewest(&cells) else {
                continue;
            };
            let base = fewest(&measured).unwrap_or_else(|| of_plan.clone());
            let at = TestCells::Scaling {
                cell: cell.clone(),
                instead: base.id != of_plan.id,
                base,
            };
            let bound = Bound::DiffersBy(test.difference);
            deciding.push(TestSpec::new(Figure::ScalingEfficiency, pair, at, bound));
        }
    }
    if deciding.is_empty() && impossible.is_empty() {
        impossible.push(Undecided::NothingToCompare(ScenarioKind::Concurrent));
    }
    let mut configuration = configuration::parallel(evidence, model, roles.ollama);
    configuration.extend(configuration::identical_prompts(
        evidence,
        ScenarioKind::Concurrent,
    ));
    Family {
        rule: Rule::Any,
        deciding,
        beside: Vec::new(),
        impossible,
        lead: (
            "The curves differ, most clearly here:",
            "No two frameworks differ by as much; the widest difference:",
        ),
        configuration,
        whole: false,
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
    roles: &RoleFrameworks<'a>,
    model: &str,
    test: KoreanTest,
) -> Family<'a> {
    let mut impossible = Vec::new();
    let all = cells(evidence, ScenarioKind::Korean, &mut impossible);
    let frameworks = running(evidence, roles, ScenarioKind::Korean);
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
    for pair in pairs(&frameworks) {
        let both = evidence.run_by_all(&[pair.0, pair.1], &all);
        let groups = groups
            .iter()
            .filter(|(scenario, ..)| both.iter().any(|c| c.scenario == *scenario));
        for (n, (_, concurrency, cells)) in groups.enumerate() {
            let at = TestCells::Korean {
                concurrency: *concurrency,
                cells: cells.clone(),
            };
            let bound = Bound::DiffersBy(test.difference);
            let spec = |figure| TestSpec::new(figure, pair, at.clone(), bound);
            for figure in KOREAN_DECIDING {
                // A tokenizer does not know how many streams there are: once is enough.
                if figure != Figure::KoOverEnPromptTokens || n == 0 {
                    deciding.push(spec(figure));
                }
            }
            beside.extend(KOREAN_BESIDE.map(|figure| (TestRole::Supporting, spec(figure))));
        }
    }
    if deciding.is_empty() && impossible.is_empty() {
        impossible.push(Undecided::NothingToCompare(ScenarioKind::Korean));
    }
    let frameworks: Vec<Option<&str>> = frameworks.into_iter().map(Some).collect();
    Family {
        rule: Rule::Any,
        deciding,
        beside,
        impossible,
        lead: (
            "The frameworks differ, most clearly here:",
            "No two frameworks differ by as much; the widest difference:",
        ),
        configuration: configuration::precision(evidence, model, &frameworks),
        whole: false,
    }
}
