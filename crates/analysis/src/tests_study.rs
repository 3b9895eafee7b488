//! Several runs in one: figures known by hand.

use super::{testing::*, *};
use benchd_core::record::{GpuDevice, GpuHost};
use benchd_journal::{HostInfo, RUN_INFO_VERSION, RunInfo, RunState, Toolchain};
use benchd_plan::{Only, ScenarioKind};

#[track_caller]
fn close(is: f64, should: f64) {
    assert!(
        (is - should).abs() < 1e-9 * should.abs().max(1.0),
        "{is} is not {should}"
    );
}

fn info(host: &str, gpu: &str, driver: &str) -> RunInfo {
    RunInfo {
        v: RUN_INFO_VERSION,
        run_id: "r".to_owned(),
        plan: "night".to_owned(),
        plan_path: "plans/night.yaml".to_owned(),
        plan_sha256: "5e".repeat(32),
        benchd_version: "0.1.0".to_owned(),
        started_unix_us: T0,
        updated_unix_us: T0,
        logs: "logs/r".to_owned(),
        host: HostInfo {
            hostname: host.to_owned(),
            ..HostInfo::default()
        },
        gpu: Some(GpuHost {
            driver: driver.to_owned(),
            cuda: None,
            nvml: None,
            devices: vec![GpuDevice {
                index: 0,
                uuid: gpu.to_owned(),
                name: "NVIDIA A100".to_owned(),
                memory_total_bytes: 1,
                memory_used_bytes: 0,
                power_limit_mw: None,
                sm_clock_max_mhz: None,
                pci_bus_id: None,
                mig: None,
                ecc_uncorrected: None,
                compute_capability: None,
            }],
        }),
        gpu_baseline_bytes: vec![0],
        versions: [].into(),
        environments: [].into(),
        toolchain: Toolchain::default(),
        compiles: [].into(),
        client: None,
        state: RunState::Finished,
    }
}

/// One night: TTFT of ten prompts in per cent of 10, 20, … 100 ms by framework, on a machine.
fn night(info: &RunInfo, percent: [u64; 2], change: &dyn Fn(&mut Builder)) -> AnalysedRun {
    let cell = exact("single/in512", ScenarioKind::Single, 1, 512);
    let lanes = [lane_id("vllm", "llama"), lane_id("sglang", "llama")];
    let mut run = Builder::new(lanes.iter().map(|l| (l.clone(), vec![cell.clone()])).collect());
    for (lane, percent) in lanes.iter().zip(percent) {
        run.ready(lane);
        let all = (1..=10)
            .map(|i| Did::ok(i * 2000, i * percent / 10, i * percent / 10 + 1000))
            .collect();
        run.measured(lane, "single/in512", &[(22_000, all)]);
    }
    change(&mut run);
    run.finish();
    run.write_journal();
    info.write(&run.run.run_json()).expect("run.json");
    let prompts: String = (0..10)
        .map(|i| format!("{{\"id\":\"p{i}\",\"sha256\":\"{i}\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}]}}\n"))
        .collect();
    std::fs::write(run.run.prompts(), prompts).expect("prompts");
    AnalysedRun::read(&run.run, run.plan.clone(), run.lanes.clone()).expect("a run")
}

fn plain(info: &RunInfo, percent: [u64; 2]) -> AnalysedRun {
    night(info, percent, &|_| {})
}

#[test]
fn nights_of_one_machine_are_strata_and_a_slow_night_is_told_from_a_changed_ratio() {
    let a100 = info("gpu-1", "GPU-1", "570");
    // Twice as slow in the second night; sglang takes 1.1 times as long in both.
    let (study, _) = summarise_study(vec![plain(&a100, [1000, 1100]), plain(&a100, [2000, 2200])]);
    assert_eq!(study.machines.len(), 1);
    let machine = &study.machines[0];
    assert_eq!(
        (machine.name.as_str(), machine.runs.len(), &machine.notes[..]),
        ("NVIDIA A100", 2, &[][..])
    );
    let ttft = &machine.comparisons[0].cells[0].figures["ttft_ms"];
    close(ttft.ratio, 1.1);
    assert_eq!((ttft.pairs, ttft.differs), (20, Some(true)));
    assert_eq!(machine.comparisons[0].cells[0].rounds, 2);

    let cell = &machine.cells[0];
    assert_eq!(
        (cell.framework.as_str(), &cell.nights[..], cell.requests),
        ("vllm", &[1, 2][..], 20)
    );
    let over = &cell.figures["ttft_ms"];
    close(over.nights[&1], 550.0);
    close(over.nights[&2], 1100.0);
    close(over.pooled, (550.0_f64 * 1100.0).sqrt());
    let between = over.between.as_ref().expect("two nights");
    close(between.range_share, 1.0);
    // The prompts' TTFT spread so widely that 550 and 1,100 are no difference; latency (1.55 s, 2.1 s) is none either.
    assert!(!between.differ, "{between:?}");
    // TPOT is 100 ms in both: alike.
    assert!(
        !cell.figures["tpot_ms"]
            .between
            .as_ref()
            .expect("two nights")
            .differ
    );
    assert_eq!(machine.differing, []);

    // The ratio is 1.1 in one night and 1.5 in the other: paired by prompt it is exact in each.
    let (study, _) = summarise_study(vec![plain(&a100, [1000, 1100]), plain(&a100, [1000, 1500])]);
    let differing = &study.machines[0].differing;
    let ratio = differing
        .iter()
        .find(|d| d.figure == "ttft_ms" && d.against.as_deref() == Some("vllm"))
        .expect("the ratio differs");
    assert_eq!(ratio.framework, "sglang");
    close(ratio.nights[&1], 1.1);
    close(ratio.nights[&2], 1.5);
    close(ratio.between.range_share, 1.5 / 1.1 - 1.0);
}

#[test]
fn machines_stand_side_by_side_with_names_of_their_own() {
    let (study, _) = summarise_study(vec![
        plain(&info("gpu-1", "GPU-1", "570"), [1000, 1100]),
        plain(&info("gpu-2", "GPU-2", "570"), [500, 600]),
        plain(&info("gpu-1", "GPU-1", "575"), [1000, 1100]),
    ]);
    let names: Vec<_> = study
        .machines
        .iter()
        .map(|m| (m.name.as_str(), m.runs.len()))
        .collect();
    assert_eq!(names, [("NVIDIA A100 (gpu-1)", 2), ("NVIDIA A100 (gpu-2)", 1)]);
    // A driver's update is said and pooled.
    assert_eq!(
        study.machines[0].notes,
        ["night 1 against night 2: driver: 570 against 575"]
    );
    assert_eq!(study.machines[0].cells[0].nights, [1, 2]);
}

#[test]
fn nights_that_ask_or_serve_something_else_are_left_out_and_named() {
    let a100 = info("gpu-1", "GPU-1", "570");
    let longer = |b: &mut Builder| {
        for lane in &mut b.lanes {
            lane.cells[0].output_tokens = 12;
        }
    };
    let other_args = |b: &mut Builder| {
        let vllm = b.plan.frameworks.get_mut("vllm").expect("vllm");
        vllm.args = vec!["--enforce-eager".to_owned()];
    };
    let (study, _) = summarise_study(vec![
        night(&a100, [1000, 1100], &longer),
        plain(&a100, [1000, 1100]),
        night(&a100, [3000, 1100], &other_args),
        plain(&a100, [1000, 1100]),
    ]);
    let machine = &study.machines[0];
    let nights = |framework: &str| {
        let cell = machine
            .cells
            .iter()
            .find(|c| c.framework == framework)
            .expect("a cell");
        cell.nights.clone()
    };
    // The largest group that is alike.
    assert_eq!(nights("vllm"), [2, 4]);
    assert_eq!(nights("sglang"), [2, 3, 4]);
    let left_out: Vec<&String> = machine
        .notes
        .iter()
        .filter(|n| n.contains("is not pooled"))
        .collect();
    assert_eq!(left_out.len(), 3, "{:?}", machine.notes);
    assert!(
        left_out[0]
            .contains("night 1 is not pooled in vllm/llama, single/in512: output tokens: 11 against 12"),
        "{left_out:?}"
    );
    assert!(
        left_out
            .iter()
            .any(|n| n.contains("arguments none against --enforce-eager")),
        "{left_out:?}"
    );
    // Frameworks are compared in nights that both have.
    assert_eq!(machine.comparisons[0].cells[0].rounds, 2);
}

#[test]
fn a_run_is_compared_with_another_by_the_texts_of_its_prompts() {
    let a100 = info("gpu-1", "GPU-1", "570");
    let other = info("gpu-9", "GPU-9", "570");
    let everything = Only::default();
    let (base, new) = (plain(&a100, [1000, 1000]), plain(&other, [1100, 1000]));
    let found = compare_runs(&base, &new, &everything, Some(0.05));
    assert_eq!(found.same_machine, SameMachine::AnotherUnit);
    let ttft = &found.cells[0].figures["ttft_ms"];
    close(ttft.change, 0.1);
    assert_eq!((ttft.pairs, ttft.outcome), (10, ChangeOutcome::Regression));
    assert_eq!(found.cells[1].figures["ttft_ms"].outcome, ChangeOutcome::NoChange);
    assert_eq!(found.regressions.len(), 1, "{:?}", found.regressions);
    let within = compare_runs(&base, &new, &everything, Some(0.15));
    assert_eq!(within.cells[0].figures["ttft_ms"].outcome, ChangeOutcome::Worse);
    assert_eq!(within.regressions, []);
    let back = compare_runs(&new, &base, &everything, Some(0.05));
    assert_eq!(back.cells[0].figures["ttft_ms"].outcome, ChangeOutcome::Better);

    // Other texts under the same names: nothing is paired, and the spread between prompts hides 10 %.
    let mut new = new;
    for text in new.analysis.texts.values_mut() {
        *text ^= 1;
    }
    let found = compare_runs(&base, &new, &everything, Some(0.05));
    let ttft = &found.cells[0].figures["ttft_ms"];
    assert_eq!((ttft.pairs, ttft.outcome), (0, ChangeOutcome::NoChange));
}
