//! What servers say of themselves: one that counts wrong is flagged, one that says nothing is named, and whether one found
//! compiled what it needed is told.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Stdio},
};

use benchd_analysis::RunSummary;
use benchd_core::record::{FlagKind, Warmth};
use serde_json::json;

use crate::{
    bench::{Bench, until},
    ports::Port,
};

/// A venv whose `vllm` is the simulated server in vLLM's dialect; `first` is what it does before it serves.
fn vllm(bench: &Bench, venv: &str, first: &str, fault: &str) {
    let bin = bench.path().join(venv).join("bin");
    fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "#!/bin/sh\nwhile [ $# -gt 0 ]; do\ncase $1 in\n--port) port=$2 ;;\n--served-model-name) model=$2 ;;\nesac\nshift\ndone\n{first}\n\
         exec {} sim --dialect vllm --host 127.0.0.1 --port \"$port\" --model \"$model\" --decode-rate 1000 --prefill-rate 2000 {fault}\n",
        env!("CARGO_BIN_EXE_benchd")
    );
    let path = bin.join("vllm");
    let mut file = fs::File::create(&path).unwrap();
    file.write_all(script.as_bytes()).unwrap();
    drop(file);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A server that is no business of benchd's.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_server_that_counts_wrong_is_flagged_and_one_that_says_nothing_is_named() {
    let port = Port::free();
    let number = port.number().to_string();
    let elsewhere = Command::new(env!("CARGO_BIN_EXE_benchd"))
        .args(["sim", "--host", "127.0.0.1", "--port", &number, "--model", "sim"])
        .args([
            "--decode-rate",
            "1000",
            "--prefill-rate",
            "200000",
            "--dialect",
            "llamacpp",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let elsewhere = Running(elsewhere);
    until("the server that someone else runs", || {
        std::net::TcpStream::connect(("127.0.0.1", port.number())).ok()
    });

    let url = json!({ "url": format!("http://127.0.0.1:{number}"), "port": null });
    let mut bench = Bench::new()
        .server("honest", json!({ "kind": "vllm", "venv": "honest-venv" }))
        .server("lying", json!({ "kind": "vllm", "venv": "lying-venv" }))
        .sim("silent", &[])
        .server("elsewhere", url);
    bench.plan["models"]["m"]["hf"] = json!("sim");
    bench.plan["frameworks"]["elsewhere"]
        .as_object_mut()
        .unwrap()
        .retain(|key, _| matches!(key.as_str(), "kind" | "url" | "start_timeout"));
    vllm(&bench, "honest-venv", "", "");
    vllm(&bench, "lying-venv", "", "--fault metrics-lie");

    let ended = bench.run(&[]);
    ended.assert_code(0);
    drop(elsewhere);
    let run = bench.only_run();
    let summary: RunSummary =
        serde_json::from_str(&fs::read_to_string(run.join("summary.json")).unwrap()).unwrap();
    let disagreements = |framework: &str| -> Vec<Option<String>> {
        let lane = summary
            .lanes
            .iter()
            .find(|l| l.lane.framework == framework)
            .unwrap();
        assert_eq!(lane.cells.len(), 2, "{framework}");
        let flag = |f: &&benchd_core::record::Flag| f.kind == FlagKind::DisagreesWithServer;
        lane.cells
            .iter()
            .map(|cell| cell.flags.iter().find(flag).map(|f| f.seen.clone()))
            .collect()
    };
    for framework in ["honest", "silent", "elsewhere"] {
        assert_eq!(disagreements(framework), [None, None], "{framework}");
    }
    // Two requests of four tokens, then forty.
    for (seen, tokens) in disagreements("lying").iter().zip(["8 here, 10", "160 here, 200"]) {
        let seen = seen.as_deref().unwrap_or_default();
        assert!(
            seen.contains(&format!("output tokens {tokens} by the server")),
            "{seen}"
        );
    }

    let report = fs::read_to_string(run.join("report.md")).unwrap();
    for words in [
        "agree in 2 of 4 cells",
        "**they disagree in 2**",
        "- silent / m: not said by the server (its command has no `--metrics`, and its answers no `timings`)",
        "- elsewhere / m: not said by the server (someone else runs it, and it shows itself to be of no kind that has metrics)",
    ] {
        assert!(report.contains(words), "{words}");
    }
}

/// As vLLM does: what was compiled is loaded, else it is compiled and kept.
const COMPILES: &str = r#"cache=$VLLM_CACHE_ROOT/torch_compile_cache
if [ -e "$cache/graph" ]; then
    echo "INFO [backends.py:296] Directly load the compiled graph(s) for compile range (1, 8192) from the cache, took 1.0 s"
else
    mkdir -p "$cache" && : >"$cache/graph"
    echo "INFO [backends.py:393] Compiling a graph for compile range (1, 8192) takes 14.19 s"
fi"#;

#[test]
fn what_an_earlier_lane_compiled_makes_the_next_start_warm_and_both_are_told() {
    let keys = json!({ "kind": "vllm", "venv": "venv", "env": { "VLLM_CACHE_ROOT": "cache" } });
    let mut bench = Bench::new()
        .server("first", keys.clone())
        .server("second", keys)
        .sim("other", &[]);
    bench.plan["models"]["m"]["hf"] = json!("sim");
    vllm(&bench, "venv", COMPILES, "");
    let ended = bench.run(&[]);
    ended.assert_code(0);

    let run = bench.only_run();
    let summary: RunSummary =
        serde_json::from_str(&fs::read_to_string(run.join("summary.json")).unwrap()).unwrap();
    let caches = |framework: &str| {
        let lane = summary.lanes.iter().find(|l| l.lane.framework == framework);
        lane.unwrap().server.clone().unwrap().compile_caches
    };
    let own = |framework: &str| {
        let folders = caches(framework).unwrap().folders;
        let own = folders
            .into_iter()
            .find(|f| f.path == "cache/torch_compile_cache");
        own.map(|f| (f.files_before, f.files_new)).unwrap()
    };
    assert_eq!((own("first"), own("second")), ((0, 1), (1, 0)));
    assert_eq!(caches("first").unwrap().warmth(), Warmth::Cold);
    assert_eq!(caches("second").unwrap().warmth(), Warmth::Warm);
    assert_eq!(caches("other"), None);

    let report = fs::read_to_string(run.join("report.md")).unwrap();
    for words in [
        "- first / m: **cold start** (",
        "- second / m: **warm start** (",
        "its log says that it loaded them",
        "Here they are not alike",
        "- not known: other / m",
    ] {
        assert!(report.contains(words), "{words}");
    }
}
