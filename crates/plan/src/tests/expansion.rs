//! Lanes and cells.

use std::{collections::BTreeMap, num::NonZeroU32, path::Path};

use super::{GOOD, env, with};
use crate::{CachePolicy, CellInput, Lane, Only, OnlyError, Order, Plan, PromptMode, cells, lanes, load};

fn shipped(name: &str) -> Plan {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .join("plans")
        .join(name);
    load(&path, &env).unwrap_or_else(|e| panic!("{e}")).plan
}

fn only(text: &str) -> Only {
    Only::parse(&[text.to_owned()]).unwrap()
}

fn ids(lanes: &[Lane]) -> Vec<String> {
    lanes.iter().map(|l| l.id.to_string()).collect()
}

/// By hand from the design document: scenario 1 has 3 input lengths; 2 has 5 concurrencies; 3 has 2 concurrencies by 2
/// lengths; 4 has one setting; 5 has 2 concurrencies by 4 types, short and long, by 2 languages.
const CELLS_OF_A_FULL_LANE: usize = 3 + 5 + 2 * 2 + 1 + 2 * (4 * 2) * 2;

#[test]
fn the_a100_plan_has_the_lanes_of_the_document_and_the_rtx_5090_those_that_run_there() {
    let of = [
        "sglang/gpt-oss-20b",
        "vllm/gpt-oss-20b",
        "ollama/gpt-oss-20b",
        "vllm-no-prefix-cache/gpt-oss-20b",
        "sglang/llama-3.1-8b",
        "vllm/llama-3.1-8b",
        "ollama/llama-3.1-8b",
        "vllm-no-prefix-cache/llama-3.1-8b",
    ];
    for (name, left_out) in [
        ("a100.yaml", 0),
        ("a100-short.yaml", 0),
        ("rtx5090.yaml", 1),
        ("rtx5090-short.yaml", 1),
    ] {
        let plan = shipped(name);
        let lanes = lanes(&plan, &Only::default());
        assert_eq!(ids(&lanes), of[left_out..], "{name}");
        let counts: Vec<usize> = lanes.iter().map(|l| l.cells.len()).collect();
        assert_eq!(CELLS_OF_A_FULL_LANE, 45);
        if !name.contains("short") {
            assert_eq!(counts, [45, 45, 45, 1, 45, 45, 45, 1][left_out..], "{name}");
        }
    }
    let plan = shipped("rtx5090.yaml");
    let reason = plan.models["gpt-oss-20b"].left_out(&plan.frameworks["sglang"]);
    assert!(reason.unwrap().contains("MXFP4"), "{reason:?}");
}

#[test]
fn the_short_plans_have_the_machine_models_and_frameworks_of_the_long_ones() {
    for (short, long) in [
        ("a100-short.yaml", "a100.yaml"),
        ("rtx5090-short.yaml", "rtx5090.yaml"),
    ] {
        let (short, long) = (shipped(short), shipped(long));
        let of = |plan: &Plan| format!("{:?} {:?} {:?}", plan.host, plan.models, plan.frameworks);
        assert_eq!(of(&short), of(&long));
        let names = |plan: &Plan| plan.scenarios.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&short), names(&long));
    }
}

#[test]
fn the_a100_plan_has_the_requests_of_the_document() {
    let plan = shipped("a100.yaml");
    let lanes = lanes(&plan, &Only::default());
    let mut per_scenario: BTreeMap<&str, u32> = BTreeMap::new();
    for cell in &lanes[0].cells {
        *per_scenario.entry(&cell.scenario).or_default() += cell.requests_per_pass * cell.passes;
        assert_eq!(cell.output_tokens, 256);
        assert_eq!(cell.warmup, cell.concurrency.max(3));
        assert_eq!(cell.cache, CachePolicy::Reset);
        let identical = cell.scenario == "concurrent";
        assert_eq!(cell.prompts == PromptMode::Identical, identical);
        // At least five repeats of every setting.
        assert!(
            cell.requests_per_pass / cell.concurrency >= 5 || cell.passes >= 5,
            "{}",
            cell.id
        );
    }
    // 3 lengths x 10; 5 levels x 100 x 5 passes; 2 lengths x 5 x (1 + 8); 50 x 5 passes; 16 texts x 10 x (1 + 8).
    let expected = [
        ("concurrent", 2500),
        ("korean", 1440),
        ("long_context", 90),
        ("prefix_cache", 250),
        ("single", 30),
    ];
    assert_eq!(per_scenario.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(plan.request.timeout.as_secs(), 300);
    assert_eq!((plan.request.warmup, plan.request.temperature), (3, 0.0));
    assert_eq!(plan.hypotheses.list.len(), 5);
    let ports: Vec<u16> = plan.frameworks.values().map(|f| f.port).collect();
    assert_eq!(ports, [30_000, 8_000, 11_434, 8_000]);
}

#[test]
fn the_cells_of_a_full_lane() {
    let plan = shipped("a100.yaml");
    let lanes = lanes(&plan, &only("framework=vllm,model=llama-3.1-8b"));
    let shown: Vec<String> = lanes[0]
        .cells
        .iter()
        .map(|c| format!("{} {}x{} warm {}", c.id, c.requests_per_pass, c.passes, c.warmup))
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    single/in128 10x1 warm 3
    single/in512 10x1 warm 3
    single/in1024 10x1 warm 3
    concurrent/c1 100x5 warm 3
    concurrent/c8 100x5 warm 8
    concurrent/c16 100x5 warm 16
    concurrent/c32 100x5 warm 32
    concurrent/c64 100x5 warm 64
    long_context/c1/in2048 5x1 warm 3
    long_context/c1/in4096 5x1 warm 3
    long_context/c8/in2048 40x1 warm 8
    long_context/c8/in4096 40x1 warm 8
    prefix_cache/sys2048 50x5 warm 3
    korean/c1/question/ko 10x1 warm 3
    korean/c1/question/en 10x1 warm 3
    korean/c1/question-long/ko 10x1 warm 3
    korean/c1/question-long/en 10x1 warm 3
    korean/c1/summary/ko 10x1 warm 3
    korean/c1/summary/en 10x1 warm 3
    korean/c1/summary-long/ko 10x1 warm 3
    korean/c1/summary-long/en 10x1 warm 3
    korean/c1/translation/ko 10x1 warm 3
    korean/c1/translation/en 10x1 warm 3
    korean/c1/translation-long/ko 10x1 warm 3
    korean/c1/translation-long/en 10x1 warm 3
    korean/c1/essay/ko 10x1 warm 3
    korean/c1/essay/en 10x1 warm 3
    korean/c1/essay-long/ko 10x1 warm 3
    korean/c1/essay-long/en 10x1 warm 3
    korean/c8/question/ko 80x1 warm 8
    korean/c8/question/en 80x1 warm 8
    korean/c8/question-long/ko 80x1 warm 8
    korean/c8/question-long/en 80x1 warm 8
    korean/c8/summary/ko 80x1 warm 8
    korean/c8/summary/en 80x1 warm 8
    korean/c8/summary-long/ko 80x1 warm 8
    korean/c8/summary-long/en 80x1 warm 8
    korean/c8/translation/ko 80x1 warm 8
    korean/c8/translation/en 80x1 warm 8
    korean/c8/translation-long/ko 80x1 warm 8
    korean/c8/translation-long/en 80x1 warm 8
    korean/c8/essay/ko 80x1 warm 8
    korean/c8/essay/en 80x1 warm 8
    korean/c8/essay-long/ko 80x1 warm 8
    korean/c8/essay-long/en 80x1 warm 8
    ");
}

#[test]
fn both_numbers_stand_in_a_cell_only_where_both_vary() {
    let of = |text: &str, scenario: &str| -> Vec<String> {
        cells(&super::plan(text).scenarios[scenario])
            .into_iter()
            .map(|c| c.id)
            .collect()
    };
    let several = with("input_tokens: 512", "input_tokens: [512, 1024]");
    assert_eq!(
        of(&several, "concurrent"),
        [
            "concurrent/c1/in512",
            "concurrent/c1/in1024",
            "concurrent/c8/in512",
            "concurrent/c8/in1024"
        ]
    );
    assert_eq!(of(GOOD, "concurrent"), ["concurrent/c1", "concurrent/c8"]);
    assert_eq!(of(GOOD, "single"), ["single/in128", "single/in512"]);
    let open = with("concurrency: [1, 8]", "arrival: { poisson: 4/s }");
    assert_eq!(of(&open, "concurrent"), ["concurrent/open"]);
    let named = with("  concurrent: {", "  rush: { kind: concurrent,");
    assert_eq!(of(&named, "rush"), ["rush/c1", "rush/c8"]);
}

#[test]
fn repeats_count_for_each_stream_and_requests_in_all() {
    let plan = super::plan(&with("requests: 100", "repeats: 10"));
    let counts: Vec<u32> = cells(&plan.scenarios["concurrent"])
        .iter()
        .map(|c| c.requests_per_pass)
        .collect();
    assert_eq!(counts, [10, 80]);
    let plan = super::plan(GOOD);
    let counts: Vec<u32> = cells(&plan.scenarios["concurrent"])
        .iter()
        .map(|c| c.requests_per_pass)
        .collect();
    assert_eq!(counts, [100, 100]);
}

#[test]
fn cell_ids_are_unique_and_start_with_their_scenario() {
    for name in ["a100.yaml", "selfcheck.yaml"] {
        let plan = shipped(name);
        let all: Vec<_> = plan.scenarios.values().flat_map(cells).collect();
        let mut ids: Vec<&str> = all.iter().map(|c| c.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
        assert!(all.iter().all(|c| c.id.starts_with(&format!("{}/", c.scenario))));
    }
}

#[test]
fn the_prefix_cell_has_both_lengths() {
    let plan = shipped("a100.yaml");
    let cells = cells(&plan.scenarios["prefix_cache"]);
    assert_eq!(cells[0].id, "prefix_cache/sys2048");
    assert_eq!(
        cells[0].input,
        CellInput::SharedPrefix {
            system_tokens: 2048,
            question_tokens: 128
        }
    );
    assert_eq!(
        (cells[0].requests_per_pass, cells[0].passes, cells[0].concurrency),
        (50, 5, 1)
    );
}

#[test]
fn orders_over_rounds() {
    let mut plan = super::plan(&with(
        "  ollama: { binary",
        "  vllm2: { kind: vllm, venv: v }\n  ollama: { binary",
    ));
    plan.repeats = NonZeroU32::new(3).unwrap();
    let order = |plan: &Plan| -> Vec<String> { ids(&lanes(plan, &Only::default())) };
    assert_eq!(
        order(&plan),
        [
            "vllm/m",
            "vllm2/m",
            "ollama/m",
            "vllm/m#2",
            "vllm2/m#2",
            "ollama/m#2",
            "vllm/m#3",
            "vllm2/m#3",
            "ollama/m#3"
        ]
    );
    plan.order = Order::Rotate;
    assert_eq!(
        order(&plan),
        [
            "vllm/m",
            "vllm2/m",
            "ollama/m",
            "vllm2/m#2",
            "ollama/m#2",
            "vllm/m#2",
            "ollama/m#3",
            "vllm/m#3",
            "vllm2/m#3"
        ]
    );
    plan.order = Order::Interleave;
    assert_eq!(
        order(&plan),
        [
            "vllm/m",
            "vllm2/m",
            "ollama/m",
            "ollama/m#2",
            "vllm2/m#2",
            "vllm/m#2",
            "vllm/m#3",
            "vllm2/m#3",
            "ollama/m#3"
        ]
    );
}

#[test]
fn every_order_runs_every_lane_once_a_round() {
    let mut plan = shipped("a100.yaml");
    plan.repeats = NonZeroU32::new(5).unwrap();
    let sorted = |plan: &Plan| {
        let mut all = ids(&lanes(plan, &Only::default()));
        all.sort();
        all
    };
    let fixed = sorted(&plan);
    assert_eq!(fixed.len(), 40);
    for order in [Order::Rotate, Order::Interleave] {
        plan.order = order;
        assert_eq!(sorted(&plan), fixed);
    }
}

#[test]
fn only_narrows_and_lanes_without_cells_are_dropped() {
    let plan = shipped("a100.yaml");
    let left = |text: &str| {
        let only = only(text);
        only.check(&plan).unwrap();
        let lanes = lanes(&plan, &only);
        (lanes.len(), lanes.iter().map(|l| l.cells.len()).sum::<usize>())
    };
    assert_eq!(left("framework=vllm"), (2, 90));
    assert_eq!(left("framework=vllm,framework=ollama"), (4, 180));
    assert_eq!(left("scenario=korean"), (6, 6 * 32));
    assert_eq!(left("scenario=prefix_cache"), (8, 8));
    assert_eq!(left("cell=concurrent/c16,cell=single/in512"), (6, 12));
    assert_eq!(
        left("framework=vllm,model=gpt-oss-20b,cell=concurrent/c16"),
        (1, 1)
    );
    let apart = Only::parse(&[
        "framework=vllm".into(),
        "scenario=korean, model=gpt-oss-20b".into(),
    ])
    .unwrap();
    assert_eq!(lanes(&plan, &apart).len(), 1);
    assert!(Only::default().is_everything() && !apart.is_everything());
}

#[test]
fn only_refuses_what_the_plan_does_not_have() {
    let plan = shipped("a100.yaml");
    let errors: Vec<String> = [
        "framework=vlm",
        "model=qwen",
        "scenario=Korean",
        "cell=concurrent/c17",
        "framework=vllm-no-prefix-cache,scenario=korean",
    ]
    .into_iter()
    .map(|text| only(text).check(&plan).unwrap_err().to_string())
    .collect();
    insta::assert_snapshot!(errors.join("\n"), @r"
    the plan has no framework `vlm` (did you mean `vllm`?); it has sglang, vllm, ollama, vllm-no-prefix-cache
    the plan has no model `qwen`; it has gpt-oss-20b, llama-3.1-8b
    the plan has no scenario `Korean` (did you mean `korean`?); it has single, concurrent, long_context, prefix_cache, korean
    the plan has no cell `concurrent/c17` (did you mean `concurrent/c1`?); it has single/in128, single/in512, single/in1024, concurrent/c1, concurrent/c8, concurrent/c16, concurrent/c32, concurrent/c64, long_context/c1/in2048, long_context/c1/in4096, long_context/c8/in2048, long_context/c8/in4096 and 33 more
    nothing of the plan is left by `--only framework=vllm-no-prefix-cache,scenario=korean`: no framework runs that
    ");
    let parse = |text: &str| Only::parse(&[text.to_owned()]).unwrap_err();
    assert_eq!(parse("vllm"), OnlyError::NotAPair("vllm".into()));
    assert_eq!(parse("framework="), OnlyError::NotAPair("framework=".into()));
    assert_eq!(parse("framework=a,"), OnlyError::NotAPair(String::new()));
    assert_eq!(
        parse("framewrok=vllm"),
        OnlyError::UnknownKey {
            key: "framewrok".into(),
            suggestion: Some("framework".into())
        }
    );
}
