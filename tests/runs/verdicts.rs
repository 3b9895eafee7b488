//! Whole runs of simulated servers whose speeds are known, with the document's hypotheses: the verdicts are known too.
//!
//! Each server stands behind the real framework's command line, and writes the lines that the real one wrote while it
//! started. Differences are several-fold, far beyond what a busy machine makes of them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use benchd_analysis::{ModelVerdict, RunSummary, Verdict, VerdictOutcome};
use benchd_core::record::LoadFigures;
use serde_json::json;

use crate::{bench::Bench, ended::Ended};

/// What a server is told to be.
pub(crate) struct Server {
    /// Flags of the simulated server.
    pub(crate) flags: &'static str,
    /// Recorded lines that it writes at its start, a file below tests/fixtures/start-logs.
    pub(crate) says: &'static str,
}

const SGLANG: Server = Server {
    flags: "--decode-rate 200 --prefill-rate 40000 --gpu-bytes 70000000000",
    says: "sglang-0.5.17-h100-llama31-8b.log",
};
/// Half as fast, and its cache finds half of a prompt at best.
const VLLM: Server = Server {
    flags: "--decode-rate 100 --prefill-rate 20000 --block-tokens 1100 --gpu-bytes 74000000000",
    says: "vllm-0.26.0-h100-llama31-8b.log",
};
/// One request after another, and slow.
const OLLAMA: Server = Server {
    flags: "--decode-rate 50 --prefill-rate 20000 --prefix-cache off --gpu-bytes 8000000000",
    says: "",
};

/// A program at `path` that is a simulated server behind a framework's own command line.
pub(crate) fn stand_in(path: &Path, dialect: &str, server: &Server) {
    let benchd = env!("CARGO_BIN_EXE_benchd");
    let says = match server.says {
        "" => String::new(),
        name => format!(
            "cat '{}/tests/fixtures/start-logs/{name}'",
            env!("CARGO_MANIFEST_DIR")
        ),
    };
    let flags = server.flags;
    let text = format!(
        r#"#!/bin/sh
# vllm serve MODEL …, python3 -m sglang.launch_server …, ollama serve with OLLAMA_HOST.
[ "$1" = --version ] && exit 0
port=${{OLLAMA_HOST##*:}}
model=m
while [ $# -gt 0 ]; do
    case "$1" in
        --port) port="$2" ;;
        --served-model-name) model="$2" ;;
        --no-enable-prefix-caching) cache="--prefix-cache off" ;;
    esac
    shift
done
{says}
exec '{benchd}' sim --dialect {dialect} --port "$port" --model "$model" {flags} $cache
"#
    );
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// SGLang, vLLM with and without its prefix cache, and Ollama with one parallel request; five small scenarios.
fn bench(sglang: &Server, vllm: &Server, ollama: &Server) -> Bench {
    let mut bench = Bench::new().with_gpu();
    bench.plan["models"] = json!({ "m": { "hf": "org/m", "ollama": "m" } });
    bench.plan["scenarios"] = json!({
        "single": { "input_tokens": [128], "output_tokens": 4, "repeats": 10 },
        "concurrent": { "concurrency": [1, 8], "input_tokens": 64, "output_tokens": 4, "requests": 8, "passes": 5 },
        "prefix_cache": { "system_tokens": 2048, "question_tokens": 128, "output_tokens": 4, "requests": 8, "passes": 5 },
        "korean": { "concurrency": [1], "output_tokens": 8, "repeats": 4, "prompt_types": ["question"] },
    });
    bench.plan["hypotheses"] = json!(["H1", "H2", "H3", "H4", "H5"]);
    let envs = bench.path().join("envs");
    stand_in(&envs.join("sglang/bin/python3"), "sglang", sglang);
    stand_in(&envs.join("vllm/bin/vllm"), "vllm", vllm);
    stand_in(&envs.join("ollama/ollama"), "ollama", ollama);
    bench
        .server("sglang", json!({ "kind": "sglang", "venv": "envs/sglang" }))
        .server("vllm", json!({ "kind": "vllm", "venv": "envs/vllm" }))
        .server(
            "control",
            json!({
                "kind": "vllm",
                "venv": "envs/vllm",
                "args": ["--no-enable-prefix-caching"],
                "scenarios": ["prefix_cache"],
            }),
        )
        .server(
            "ollama",
            json!({
                "kind": "ollama",
                "binary": "envs/ollama/ollama",
                "env": { "OLLAMA_NUM_PARALLEL": "1" },
            }),
        )
}

fn summary(ended: &Ended) -> RunSummary {
    let path = ended.run.as_ref().unwrap().join("summary.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Runs until these hypotheses are decided: what a busy machine does to a measurement can leave one open, and that is
/// right, but never decide it wrongly.
#[track_caller]
fn decided(bench: &Bench, hypotheses: &[&str]) -> (Ended, RunSummary) {
    let mut left = 6;
    loop {
        let ended = bench.run(&[]);
        let summary = summary(&ended);
        left -= 1;
        let open = |h: &&str| verdict(&summary, h).0.outcome == VerdictOutcome::Inconclusive;
        if left == 0 || !hypotheses.iter().any(open) {
            return (ended, summary);
        }
    }
}

#[track_caller]
fn verdict<'a>(summary: &'a RunSummary, hypothesis: &str) -> (&'a Verdict, &'a ModelVerdict) {
    let found = summary.verdicts.iter().find(|v| v.hypothesis == hypothesis);
    let verdict = found.unwrap_or_else(|| panic!("no verdict on {hypothesis}"));
    assert_eq!(verdict.models.len(), 1);
    (verdict, &verdict.models[0])
}

#[track_caller]
fn is(summary: &RunSummary, hypothesis: &str, outcome: VerdictOutcome) {
    let (verdict, model) = verdict(summary, hypothesis);
    assert_eq!(verdict.outcome, outcome, "{hypothesis}: {model:#?}");
}

/// What the finished run's files say of a verdict.
#[track_caller]
fn assert_told(ended: &Ended, hypothesis: &str, outcome: &str) {
    let run = ended.run.as_ref().unwrap();
    let md = fs::read_to_string(run.join("report.md")).unwrap();
    let row = md.lines().find(|l| l.starts_with(&format!("| {hypothesis} ")));
    let row = row.unwrap_or_else(|| panic!("no row of {hypothesis} in report.md"));
    assert!(row.contains(&format!("**{outcome}**")), "{row}");
    let html = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(
        html.contains(&format!("{hypothesis}: {outcome}")),
        "not in the page"
    );
}

#[test]
fn known_speeds_give_known_verdicts() {
    let bench = bench(&SGLANG, &VLLM, &OLLAMA);
    let (ended, summary) = decided(&bench, &["H1", "H2", "H3", "H4"]);
    ended.assert_code(0);
    for lane in ["sglang", "vllm", "control", "ollama"] {
        ended.assert_whole(lane);
    }

    is(&summary, "H1", VerdictOutcome::Supported);
    let (_, h1) = verdict(&summary, "H1");
    let throughput = h1
        .tests
        .iter()
        .find(|t| t.framework == "sglang" && t.against == "vllm" && t.effect.is_some())
        .unwrap();
    assert!(throughput.effect.unwrap() > 1.5, "{throughput:?}");
    assert!(
        h1.tests
            .iter()
            .any(|t| t.against == "control" && t.effect.is_some()),
        "the lane without the cache stands beside it: {:#?}",
        h1.tests
    );

    is(&summary, "H2", VerdictOutcome::Supported);
    let (_, h2) = verdict(&summary, "H2");
    assert!(
        h2.decided_by_configuration
            .iter()
            .any(|c| c.contains("OLLAMA_NUM_PARALLEL=1") && c.contains("one request after another")),
        "{:?}",
        h2.decided_by_configuration
    );

    // A fourth of SGLang's speed is far outside of the margin.
    is(&summary, "H3", VerdictOutcome::Refuted);
    // One slot against batching: the curves part.
    is(&summary, "H4", VerdictOutcome::Supported);
    // All three treat Korean alike.
    let (h5, _) = verdict(&summary, "H5");
    assert_ne!(h5.outcome, VerdictOutcome::Supported, "{h5:#?}");
    for (hypothesis, outcome) in [
        ("H1", "supported"),
        ("H2", "supported"),
        ("H3", "refuted"),
        ("H4", "supported"),
    ] {
        assert_told(&ended, hypothesis, outcome);
    }
    assert_start_lines_became_figures(&summary);
    ended.assert_folder(benchd_journal::RunState::Finished);
    bench.assert_nothing_left();
}

/// The lines that the servers wrote while they started are figures now: of the run itself, its logs are not needed.
fn assert_start_lines_became_figures(summary: &RunSummary) {
    const GIB: f64 = (1_u64 << 30) as f64;
    let server = |framework: &str| {
        let lane = summary
            .lanes
            .iter()
            .find(|l| l.lane.framework == framework)
            .unwrap();
        (lane.server.as_ref().unwrap(), &lane.facts)
    };
    for (framework, weights, cache, tokens) in [
        ("vllm", 15.0, 50.97, 417_536),
        ("control", 15.0, 50.97, 417_536),
        ("sglang", 15.02, 2.0 * 23.88, 391_327),
    ] {
        let (server, facts) = server(framework);
        let load = server
            .load
            .as_ref()
            .unwrap_or_else(|| panic!("{framework}: nothing"));
        let gib = |bytes: Option<u64>| bytes.unwrap() as f64 / GIB;
        assert!((gib(load.weights_bytes) - weights).abs() < 1e-6, "{load:?}");
        assert!((gib(load.kv_cache_bytes) - cache).abs() < 1e-6, "{load:?}");
        assert_eq!(load.kv_cache_tokens, Some(tokens));
        assert_eq!(facts["kv_capacity_tokens"], tokens.to_string());
        let rest = server.gpu_rest_bytes.unwrap();
        assert_eq!(
            server.gpu_idle_bytes,
            Some(rest + load.weights_bytes.unwrap() + load.kv_cache_bytes.unwrap())
        );
    }
    let (ollama, _) = server("ollama");
    assert_eq!(
        (&ollama.load, ollama.gpu_rest_bytes),
        (&Some(LoadFigures::default()), None),
        "it said nothing"
    );
    assert!(ollama.gpu_idle_bytes.is_some());
}

#[test]
fn servers_that_are_alike_support_no_difference_between_them() {
    const SAME: &str = "--mode batching --decode-rate 200 --prefill-rate 40000";
    let same = |flags: &'static str| Server { flags, says: "" };
    let mut bench = bench(&same(SAME), &same(SAME), &same(SAME));
    // Ollama with as many slots as the others: nothing is decided beforehand by one.
    bench.plan["frameworks"]["ollama"]["env"]["OLLAMA_NUM_PARALLEL"] = json!("8");
    bench.plan["frameworks"]
        .as_object_mut()
        .unwrap()
        .remove("control");
    let (ended, summary) = decided(&bench, &["H2"]);
    ended.assert_code(0);
    for hypothesis in ["H1", "H4", "H5"] {
        let (verdict, model) = verdict(&summary, hypothesis);
        assert_ne!(
            verdict.outcome,
            VerdictOutcome::Supported,
            "{hypothesis}: {model:#?}"
        );
    }
    // Three times as fast they are not: that is certain.
    is(&summary, "H2", VerdictOutcome::Refuted);
    assert_told(&ended, "H2", "refuted");
    bench.assert_nothing_left();
}

#[test]
fn a_quick_single_request_and_a_lane_that_is_missing() {
    // Ollama is the quickest with one request, if one at a time; vLLM never comes up.
    let quick = Server {
        flags: "--decode-rate 400 --prefill-rate 80000 --prefix-cache off",
        says: "",
    };
    let mut bench = bench(&SGLANG, &VLLM, &quick);
    fs::write(
        bench.path().join("envs/vllm/bin/vllm"),
        "#!/bin/sh\necho no GPU for you\nexit 3\n",
    )
    .unwrap();
    bench.plan["frameworks"]
        .as_object_mut()
        .unwrap()
        .remove("control");
    bench.plan["hypotheses"] = json!({
        "H1": {}, "H2": { "overwhelming": 1.2 }, "H3": {},
        "own": { "ollama-single": {
            "claim": "Ollama answers a single request sooner than SGLang",
            "tests": [{
                "figure": "latency_ms",
                "of": "ollama",
                "against": "sglang",
                "scenario": "single",
                "at_most": 0.9,
            }],
        } },
    });
    let (ended, summary) = decided(&bench, &["ollama-single"]);
    ended.assert_failed("vllm", "ready", &["no GPU for you"]);
    for hypothesis in ["H1", "H2", "H3"] {
        is(&summary, hypothesis, VerdictOutcome::Inconclusive);
        let (_, model) = verdict(&summary, hypothesis);
        let told = format!("{} {:?}", model.because, model.to_decide);
        assert!(
            told.contains("vLLM"),
            "{hypothesis} does not say what is missing: {told}"
        );
        assert_told(&ended, hypothesis, "inconclusive");
    }
    is(&summary, "ollama-single", VerdictOutcome::Supported);
    bench.assert_nothing_left();
}
