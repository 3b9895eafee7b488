//! What goes wrong before a server is ready. The healthy lanes before and after it are whole each time.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _};

use benchd_journal::RunState;
use serde_json::json;

use crate::{bench::Bench, ended::Ended};

/// A start that is given up soon. Only for servers that never come.
fn after(seconds: u32) -> serde_json::Value {
    json!({ "start_timeout": format!("{seconds}s"), "stop_grace": "300ms" })
}

fn check(bench: &Bench, failed: &[(&str, &str, &[&str])]) {
    judge(bench, &bench.run(&[]), failed);
}

fn judge(bench: &Bench, ended: &Ended, failed: &[(&str, &str, &[&str])]) {
    ended.assert_code(1);
    for (lane, stage, words) in failed {
        ended.assert_failed(lane, stage, words);
        assert!(ended.cells(lane).is_empty(), "{lane}");
        assert!(
            ended
                .stderr
                .contains(&format!("lane {lane}/m  failed at {stage}")),
            "{}",
            ended.stderr
        );
    }
    ended.assert_whole("first");
    ended.assert_whole("last");
    ended.assert_folder(RunState::Finished);
    ended.assert_memory_back();
    bench.assert_nothing_left();
}

#[test]
fn what_is_not_there_fails_before_anything_is_started() {
    let bench = Bench::new().with_gpu().sim("first", &[]);
    let plain = bench.path().join("plain");
    fs::write(&plain, "no program").unwrap();
    let garbage = bench.path().join("garbage");
    fs::write(&garbage, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&garbage, fs::Permissions::from_mode(0o755)).unwrap();
    let bench = bench
        .server("missing", json!({ "command": ["./not/there", "{port}"] }))
        .server(
            "unknown",
            json!({ "command": ["no-such-program-anywhere", "{port}"] }),
        )
        .server("plain", json!({ "command": ["./plain", "{port}"] }))
        .server("garbage", json!({ "command": ["./garbage", "{port}"] }))
        .server("venv", json!({ "kind": "vllm", "venv": "no/venv" }))
        .server("binary", json!({ "kind": "ollama", "binary": "no/ollama" }))
        .sim("taken", &[])
        .sim("last", &[]);
    let mut plan = bench;
    plan.plan["models"]["m"] = json!({ "openai": "sim", "hf": "some/model", "ollama": "some:model" });
    let taken = TcpListener::bind(("127.0.0.1", plan.port("taken").number())).unwrap();
    let own = std::process::id().to_string();
    let ended = plan.run(&[]);
    drop(taken);
    ended.assert_code(1);
    for (lane, stage, words) in [
        ("missing", "prepare", &["not/there"][..]),
        ("unknown", "launch", &["no-such-program-anywhere"]),
        ("plain", "prepare", &["plain", "executable"]),
        ("garbage", "launch", &["garbage"]),
        ("venv", "prepare", &["no/venv"]),
        ("binary", "prepare", &["no/ollama"]),
        ("taken", "prepare", &[&*own, "port"]),
    ] {
        ended.assert_failed(lane, stage, words);
    }
    ended.assert_whole("first");
    ended.assert_whole("last");
    ended.assert_folder(RunState::Finished);
    ended.assert_memory_back();
    plan.assert_nothing_left();
}

#[test]
fn a_server_that_ends_while_it_starts_is_told_with_its_status_and_its_last_lines() {
    let bench = Bench::new()
        .with_gpu()
        .sim("first", &[])
        .sim("exits", &["--fault", "exit:3"])
        .sim("segv", &["--fault", "crash:segv"])
        .sim("aborts", &["--fault", "crash:abort"])
        .sim("killed", &["--fault", "crash:kill"])
        .sim("at-first-request", &["--fault", "exit@1:7"])
        .sim("mid-answer", &["--fault", "crash-mid@1:1"])
        .sim(
            "with-strays",
            &["--fault", "exit:4", "--fault", "child-daemon:stubborn"],
        )
        .sim("last", &[]);
    check(
        &bench,
        &[
            ("exits", "ready", &["exit 3", "CUDA out of memory"]),
            ("segv", "ready", &["SIGSEGV", "crashes as told"]),
            ("aborts", "ready", &["SIGABRT"]),
            ("killed", "ready", &["SIGKILL"]),
            ("at-first-request", "ready", &["exit 7"]),
            ("mid-answer", "ready", &["ended before it was ready"]),
            ("with-strays", "ready", &["exit 4"]),
        ],
    );
}

#[test]
fn a_server_that_never_answers_rightly_is_given_up_with_what_was_seen_last() {
    // A second is enough for what these servers are to be seen with, but on a busy machine.
    let mut seconds = 1;
    while !never_right(seconds) {
        seconds *= 2;
    }
}

/// Whether all came, within so many seconds, to what they are given up with.
fn never_right(seconds: u32) -> bool {
    let soon = || after(seconds);
    let bench = Bench::new()
        .with_gpu()
        .sim("first", &[])
        .sim("late", &["--start-delay", "1h"])
        .with(soon())
        .sim("loading", &["--start-delay", "1h", "--start-style", "503"])
        .with(soon())
        .sim("never-ready", &["--fault", "never-ready"])
        .with(soon())
        .sim("health-lies", &["--fault", "health-lies"])
        .with(soon())
        .sim("frozen", &["--fault", "freeze"])
        .with(soon())
        .sim("silent", &["--fault", "never-answer", "--fault", "ignore-term"])
        .with(soon())
        .sim("errors", &["--fault", "http:500"])
        .with(soon())
        .sim("cuts", &["--fault", "cut:1"])
        .with(soon())
        .sim("refuses", &["--fault", "http:400"])
        .sim("wrong-model", &["--fault", "wrong-model:other"])
        .sim("no-stream", &["--fault", "bad-json:1"])
        .sim("last", &[]);
    let ended = bench.run(&[]);
    let seen = |(lane, words): (&str, &str)| {
        let reason = ended.lane(lane).reason.as_deref();
        reason.is_some_and(|reason| reason.contains(words))
    };
    let answers = [
        ("loading", "503"),
        ("never-ready", "503"),
        ("health-lies", "503"),
        ("errors", "500"),
        ("cuts", "a completion failed"),
    ];
    if seconds < 64 && !answers.into_iter().all(seen) {
        return false;
    }
    let given_up = &*format!("not ready after {seconds} s");
    judge(
        &bench,
        &ended,
        &[
            ("late", "ready", &[given_up, "start_timeout"]),
            ("loading", "ready", &[given_up, "503"]),
            ("never-ready", "ready", &[given_up, "503"]),
            ("health-lies", "ready", &[given_up, "503"]),
            ("frozen", "ready", &[given_up]),
            ("silent", "ready", &[given_up]),
            ("errors", "ready", &[given_up, "500"]),
            ("cuts", "ready", &[given_up, "a completion failed"]),
            ("refuses", "ready", &["does not complete", "400"]),
            ("wrong-model", "ready", &["as model `other`, not `sim`"]),
            ("no-stream", "ready", &["does not complete"]),
        ],
    );
    true
}

#[test]
fn a_server_that_others_answer_for_is_not_measured() {
    let bench = Bench::new().sim("first", &[]).sim("last", &[]);
    let ended = bench
        .sim("outsider", &[])
        // Two minutes from now nobody of the world is left: the test's own drop sees to it.
        .with(json!({ "command": ["sh", "-c", "exec sleep 60", "{host}", "{port}"], "start_timeout": "1s" }))
        .run(&[]);
    ended.assert_code(1);
    ended.assert_failed("outsider", "ready", &["not ready after 1 s", "connect"]);
}

#[test]
fn a_failed_lane_is_tried_again_as_often_as_the_plan_says() {
    let bench = Bench::new()
        .with_gpu()
        .sim("first", &[])
        .sim("stubborn", &["--fault", "exit:1"])
        .with(json!({ "retries": 2 }))
        // Fails once: its first life leaves the file that its second one finds.
        .server("second-time", json!({ "retries": 1, "command": ["sh", "-c",
            "if [ -e once ]; then exec \"$0\" sim --host \"$1\" --port \"$2\" --model sim; fi; touch once; exit 9",
            env!("CARGO_BIN_EXE_benchd"), "{host}", "{port}"] }))
        .sim("last", &[]);
    let ended = bench.run(&[]);
    ended.assert_code(1);
    ended.assert_failed("stubborn", "ready", &["exit 1"]);
    assert_eq!(ended.lane("stubborn").attempt, 3);
    ended.assert_whole("second-time");
    assert_eq!(ended.lane("second-time").attempt, 2);
    ended.assert_whole("last");
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
}
