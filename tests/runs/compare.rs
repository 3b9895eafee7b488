//! `benchd compare` on runs of simulated servers whose speeds are known.

use std::fs;

use serde_json::{Value, json};

use crate::{
    bench::{Bench, Said},
    ports::Port,
};

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
    let command = bench.plan["frameworks"][framework]["command"]
        .as_array_mut()
        .unwrap();
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
    assert!(
        !said.stdout.contains('\x1b'),
        "a pipe has no colour: {}",
        said.stdout
    );
    let path = run.to_string_lossy();
    let json = bench.output(&["compare", &path, &path, "--format", "json"]);
    json.assert(0, &[]);
    let found = compared(&json);
    assert_eq!(found["v"], 1);
    assert_eq!(
        (&found["same_machine"], &found["differs"]),
        (&json!("yes"), &json!([]))
    );
    let cells = found["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    for cell in cells {
        for (name, figure) in cell["figures"].as_object().unwrap() {
            assert_eq!(figure["change"], 0.0, "{name} of {cell}");
            // Rates of the only pass of `single` can't be judged, and no TPOT where a busy machine read all tokens of
            // an answer at once.
            let judged = if name == "tpot_ms" {
                figure["pairs"] != 0
            } else {
                !name.ends_with("_per_s") || cell["scenario"] == "concurrent"
            };
            assert_eq!(
                figure["outcome"],
                if judged { "no_change" } else { "not_judged" },
                "{name} of {cell}"
            );
        }
    }
    // Every prompt is paired with itself.
    assert_eq!(cells[0]["figures"]["ttft_ms"]["pairs"], 12);

    let markdown = bench.output(&[
        "compare",
        &path,
        &path,
        "--format",
        "markdown",
        "--only",
        "scenario=single",
    ]);
    markdown.assert(0, &[]);
    assert!(markdown.stdout.contains("| `single/in32`"), "{}", markdown.stdout);
    assert!(!markdown.stdout.contains("concurrent/c2"), "{}", markdown.stdout);
}

#[test]
fn a_slower_server_is_a_regression_and_a_missing_lane_is_named() {
    let mut bench = bench().sim("other", &[]);
    let base = bench.run(&[]).run.unwrap();
    // A 25th of the speed, and the other one doesn't start.
    set_flag(&mut bench, "sim", "--decode-rate", "20");
    let other = bench.plan["frameworks"]["other"]["command"]
        .as_array_mut()
        .unwrap();
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
        "sim/m concurrent/c2: latency (ms) +",
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

    let json = bench.output(&[
        "compare",
        &base,
        &new,
        "--format",
        "json",
        "--fail-on-regression",
        "5%",
    ]);
    json.assert(5, &[]);
    let found = compared(&json);
    let cell = found["cells"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["scenario"] == "concurrent")
        .unwrap();
    let latency = &cell["figures"]["latency_ms"];
    assert_eq!(
        (&latency["outcome"], &latency["better"]),
        (&json!("regression"), &json!("lower"))
    );
    // 50 ms a token against 2, or what a busy machine leaves of that.
    let change = latency["change"].as_f64().unwrap();
    assert!((0.5..=25.0).contains(&change), "{change}");
    let other = &found["one_sided"][0];
    assert_eq!(
        (&other["framework"], &other["measured_in"], &other["planned"]),
        (&json!("other"), &json!("base"), &json!(true))
    );
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
    bench
        .output(&["compare", "nothing", &run_id])
        .assert(2, &["there is no run nothing"]);
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

/// The committed schema of something that benchd writes.
fn schema(name: &str) -> jsonschema::Validator {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.schema.json"));
    let text = fs::read_to_string(path).unwrap();
    jsonschema::validator_for(&serde_json::from_str(&text).unwrap()).unwrap()
}

#[track_caller]
fn fits(schema_name: &str, text: &str) {
    let value: Value = serde_json::from_str(text).unwrap();
    let validator = schema(schema_name);
    let errors: Vec<String> = validator
        .iter_errors(&value)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{schema_name}: {errors:#?}");
}

#[test]
fn several_nights_make_one_report_and_all_that_is_written_fits_its_schema() {
    let bench = bench();
    let first = bench.run(&[]).run.unwrap();
    let second = bench.run(&[]).run.unwrap();
    let (a, b) = (id(&first), id(&second));
    let said = bench.output(&["report", &a, &b]);
    said.assert(0, &[]);
    let report = bench.path().join(said.stdout.trim());
    let folder = report.parent().unwrap();
    assert!(
        folder
            .file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(&format!("study-{b}-")),
        "{folder:?}"
    );
    // The same runs in another order are the same study.
    assert_eq!(bench.output(&["report", &b, &a]).stdout, said.stdout);
    let text = fs::read_to_string(&report).unwrap();
    for words in [
        "# benchd: two runs on one machine",
        &format!("[`{a}`](../{a}/report.md)"),
        "## At a glance",
        "## Between the nights",
        "`concurrent/c2`",
    ] {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }
    let study: Value = serde_json::from_str(&fs::read_to_string(folder.join("study.json")).unwrap()).unwrap();
    let cells = study["machines"][0]["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    assert!(cells.iter().all(|c| c["nights"] == json!([1, 2])), "{cells:?}");
    let page = fs::read_to_string(folder.join("report.html")).unwrap();
    assert!(
        page.contains(&format!("../{a}/report.html")) && page.contains("<svg"),
        "{}",
        page.len()
    );
    // A row a cell and run, the same columns as a run's own.
    let csv = fs::read_to_string(folder.join("summary.csv")).unwrap();
    assert_eq!(csv.lines().count(), 5);
    let own = fs::read_to_string(first.join("summary.csv")).unwrap();
    assert_eq!(csv.lines().next(), own.lines().next());

    fits("study", &fs::read_to_string(folder.join("study.json")).unwrap());
    fits(
        "summary",
        &fs::read_to_string(first.join("summary.json")).unwrap(),
    );
    let said = bench.output(&[
        "compare",
        &a,
        &b,
        "--format",
        "json",
        "--fail-on-regression",
        "1000%",
    ]);
    fits("compare", &said.stdout);
    for line in fs::read_to_string(first.join("sim/m/requests.jsonl"))
        .unwrap()
        .lines()
    {
        fits("request", line);
    }
    bench.output(&["report", &a, &a]).assert(2, &["is given twice"]);
    let other = bench.output(&["report", &a, &b, "--output", "elsewhere"]);
    other.assert(0, &[]);
    assert!(bench.path().join("elsewhere/report.md").is_file());
    // The newest run is a run, never a study.
    bench.output(&["report"]).assert(0, &[]);
}

#[test]
fn a_plan_whose_secrets_were_taken_out_can_still_be_reported_and_compared() {
    let mut bench = bench();
    bench.plan["scenarios"] = json!({ "single": { "input_tokens": [32], "output_tokens": 4, "repeats": 2 } });
    bench.plan["notify"] = json!({ "webhook": "${BENCHD_WEBHOOK}" });
    bench.plan["frameworks"]["sim"]["env"] = json!({
        "HF_TOKEN": "hf_abcdefghijklmnop",
        "MY_API_KEY": "${BENCHD_KEY}",
    });
    bench.write_plan();
    let args = ["run", "plan.yaml", "--no-selfcheck"];
    let mut command = bench.command(&args);
    // Nobody listens there: a webhook that can't be told fails nothing.
    let nobody = Port::free();
    let webhook = format!("http://127.0.0.1:{}/services/secret-tail", nobody.number());
    command
        .env("BENCHD_WEBHOOK", webhook)
        .env("BENCHD_KEY", "sk-0123456789abcdef");
    let output = command.output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let run = bench.only_run();
    let frozen = fs::read_to_string(run.join("plan.yaml")).unwrap();
    assert!(!frozen.contains("hf_abcdefghijklmnop"), "{frozen}");
    // Without the variables.
    bench.output(&["report"]).assert(0, &[]);
    bench.output(&["compare", "latest", "latest"]).assert(0, &[]);
    for file in ["report.md", "summary.json", "summary.csv"] {
        let text = fs::read_to_string(run.join(file)).unwrap();
        for secret in ["hf_abcdefghijklmnop", "sk-0123456789abcdef", "secret-tail"] {
            assert!(!text.contains(secret), "{secret} in {file}");
        }
    }
}
