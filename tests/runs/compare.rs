//! `benchd compare` on runs of simulated servers whose speeds are known.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, Said};

/// Enough requests and passes for intervals.
fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.plan["scenarios"] = json!({
        "single": { "input_tokens": [32], "output_tokens": 4, "repeats": 12 },
        "concurrent": { "concurrency": [2], "input_tokens": 32, "output_tokens": 4, "requests": 12, "passes": 5 },
    });
    bench.sim("sim", &["--decode-rate", "500"])
}

/// Replaces a flag's value in the command of the plan's server.
fn set_flag(bench: &mut Bench, framework: &str, flag: &str, value: &str) {
    let command = bench.plan["frameworks"][framework]["command"].as_array_mut().unwrap();
    let at = command.iter().position(|a| a == flag).unwrap();
    command[at + 1] = json!(value);
}

fn compared(said: &Said) -> Value {
    serde_json::from_str(&said.stdout).unwrap()
}

fn id(run: &std::path::Path) -> String {
    run.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_run_has_not_changed_against_itself() {
    let bench = bench();
    let run = bench.run(&[]).run.unwrap();
    let said = bench.output(&["compare", &id(&run), "latest", "--fail-on-regression", "1%"]);
    said.assert(0, &[]);
    assert!(said.stdout.contains("No regression"), "{}", said.stdout);
    assert!(!said.stdout.contains('\x1b'), "a pipe has no colour: {}", said.stdout);
    let path = run.to_string_lossy();
    let json = bench.output(&["compare", &path, &path, "--format", "json"]);
    json.assert(0, &[]);
    let found = compared(&json);
    assert_eq!(found["v"], 1);
    assert_eq!((&found["same_machine"], &found["differs"]), (&json!("yes"), &json!([])));
    let cells = found["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    for cell in cells {
        for (name, figure) in cell["figures"].as_object().unwrap() {
            assert_eq!(figure["change"], 0.0, "{name} of {cell}");
            // Rates of the only pass of `single` can't be judged.
            let judged = !name.ends_with("_per_s") || cell["scenario"] == "concurrent";
            assert_eq!(figure["outcome"], if judged { "no_change" } else { "not_judged" }, "{name} of {cell}");
        }
    }
    // Every prompt is paired with itself.
    assert_eq!(cells[0]["figures"]["ttft_ms"]["pairs"], 12);

    let markdown = bench.output(&["compare", &path, &path, "--format", "markdown", "--only", "scenario=single"]);
    markdown.assert(0, &[]);
    assert!(markdown.stdout.contains("| `single/in32`"), "{}", markdown.stdout);
    assert!(!markdown.stdout.contains("concurrent/c2"), "{}", markdown.stdout);
}

#[test]
fn a_slower_server_is_a_regression_and_a_missing_lane_is_named() {
    let mut bench = bench().sim("other", &[]);
    let base = bench.run(&[]).run.unwrap();
    // A tenth of the speed, and the other one doesn't start.
    set_flag(&mut bench, "sim", "--decode-rate", "50");
    let other = bench.plan["frameworks"]["other"]["command"].as_array_mut().unwrap();
    other.extend([json!("--fault"), json!("no such fault")]);
    bench.plan["scenarios"]["single"]["output_tokens"] = json!(5);
    let ended = bench.run(&[]);
    ended.assert_code(1);
    let new = ended.run.unwrap();
    let (base, new) = (id(&base), id(&new));

    let said = bench.output(&["compare", &base, &new, "--fail-on-regression", "50%"]);
    said.assert(5, &[]);
    for words in [
        "REGRESSION",
        "sim/m concurrent/c2: TPOT",
        "sim/m concurrent/c2: output tokens/s -",
        "other/m single/in32: not measured",
        "the plan's text is not the same",
        // Another output length: nothing of that cell is judged.
        "the runs ask something different here",
        "output tokens: 4 against 5",
    ] {
        assert!(said.stdout.contains(words), "no `{words}` in:\n{}", said.stdout);
    }
    // The other way round it is faster, and what the base lacks is no regression.
    bench
        .output(&["compare", &new, &base, "--fail-on-regression", "5%"])
        .assert(0, &[]);
    // Nobody asked for a code.
    bench.output(&["compare", &base, &new]).assert(0, &[]);

    let json = bench.output(&["compare", &base, &new, "--format", "json", "--fail-on-regression", "5%"]);
    json.assert(5, &[]);
    let found = compared(&json);
    let cell = found["cells"].as_array().unwrap().iter().find(|c| c["scenario"] == "concurrent").unwrap();
    let tpot = &cell["figures"]["tpot_ms"];
    assert_eq!((&tpot["outcome"], &tpot["better"]), (&json!("regression"), &json!("lower")));
    // 20 ms a token against 2.
    let change = tpot["change"].as_f64().unwrap();
    assert!((4.0..=14.0).contains(&change), "{change}");
    let other = &found["one_sided"][0];
    assert_eq!((&other["framework"], &other["measured_in"], &other["planned"]), (&json!("other"), &json!("base"), &json!(true)));
}

#[test]
fn new_failures_are_a_regression_at_any_threshold() {
    let mut bench = bench();
    let base = bench.run(&[]).run.unwrap();
    let command = bench.plan["frameworks"]["sim"]["command"].as_array_mut().unwrap();
    command.extend([json!("--fault"), json!("http@30-31:503")]);
    let ended = bench.run(&[]);
    ended.assert_code(1);
    let new = ended.run.unwrap();
    let said = bench.output(&["compare", &id(&base), &id(&new), "--fail-on-regression", "1000%"]);
    said.assert(5, &[]);
    assert!(said.stdout.contains("failed requests"), "{}", said.stdout);
}

#[test]
fn wrong_arguments_and_unreadable_runs_have_their_codes() {
    let bench = bench();
    let run = bench.run(&["--only", "scenario=single"]).run.unwrap();
    let run_id = id(&run);
    bench.output(&["compare", "nothing", &run_id]).assert(2, &["there is no run nothing"]);
    bench
        .output(&["compare", &run_id, &run_id, "--fail-on-regression", "5"])
        .assert(2, &["write `5%`"]);
    bench
        .output(&["compare", &run_id, &run_id, "--only", "scenario=singel"])
        .assert(2, &["did you mean `single`?"]);
    let journal = run.join("journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(&journal, text.replacen("\"v\":1", "\"v\":99", 1)).unwrap();
    bench.output(&["compare", &run_id, &run_id]).assert(3, &["99"]);
}
