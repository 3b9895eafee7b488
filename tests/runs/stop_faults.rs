//! What goes wrong when a server is to end: all cells are measured by then, so the run is whole.

use benchd_journal::RunState;
use serde_json::json;

use crate::bench::Bench;

#[test]
fn whatever_a_server_leaves_is_ended_and_the_run_is_whole() {
    let impatient = || json!({ "stop_grace": "300ms" });
    let bench = Bench::new()
        .with_gpu()
        .sim("first", &[])
        .sim("ignores-term", &["--fault", "ignore-term"])
        .with(impatient())
        .sim("slow", &["--stop-delay", "60s"])
        .with(impatient())
        .sim("child", &["--fault", "child:stubborn"])
        .with(impatient())
        .sim("session", &["--fault", "child-session:stubborn"])
        .sim("daemon", &["--fault", "child-daemon:stubborn"])
        .sim("hidden", &["--fault", "child-hidden:stubborn"])
        .sim("respawn", &["--fault", "respawn:stubborn"])
        .with(impatient())
        .sim("listener", &["--fault", "child-listens"])
        .sim("floods", &["--fault", "flood-lines:2MiB"])
        .sim("endless", &["--fault", "flood-endless:2MiB"])
        .sim("progress", &["--fault", "flood-progress:2MiB"])
        .sim("binary", &["--fault", "flood-binary:2MiB"])
        .sim("last", &[]);
    let ended = bench.run(&[]);
    ended.assert_code(0);
    for lane in bench.plan["frameworks"].as_object().unwrap().keys() {
        ended.assert_whole(lane);
    }
    for lane in ["ignores-term", "slow", "child", "respawn"] {
        assert!(ended.reaped(lane).killed, "{lane}");
    }
    for lane in ["session", "daemon", "hidden", "listener"] {
        assert!(!ended.reaped(lane).swept.is_empty(), "{lane}");
    }
    for lane in ["first", "floods", "endless", "progress", "binary", "last"] {
        let reaped = ended.reaped(lane);
        assert!(!reaped.killed && reaped.swept.is_empty(), "{lane}");
        assert_eq!(reaped.exit, "exit 0", "{lane}");
    }
    ended.assert_folder(RunState::Finished);
    ended.assert_memory_back();
    bench.assert_nothing_left();
}

#[test]
fn a_server_that_dies_after_its_last_answer_is_told_by_its_exit() {
    let bench = Bench::new()
        .server(
            "leaves",
            json!({ "command": ["sh", "-c",
            "\"$0\" sim --host \"$1\" --port \"$2\" --model sim --decode-rate 1000; exit 13",
            env!("CARGO_BIN_EXE_benchd"), "{host}", "{port}"] }),
        )
        .sim("last", &[]);
    let ended = bench.run(&[]);
    ended.assert_code(0);
    ended.assert_whole("leaves");
    ended.assert_whole("last");
    bench.assert_nothing_left();
}
