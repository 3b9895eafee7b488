//! Status and report, while a run goes on and after it.

use benchd_journal::Event;
use nix::sys::signal::Signal;

use crate::bench::Bench;

#[test]
fn status_and_report_tell_of_a_run_as_it_stands() {
    let bench = Bench::new()
        .sim("a", &[])
        .sim("b", &["--decode-rate", "20"])
        .sim("c", &[]);
    bench.output(&["status"]).assert(2, &["there is no run"]);
    let run = bench.start(&[]);
    run.sees("the slow lane's second cell", |event| {
        matches!(event, Event::CellStarted(cell) if cell.lane.framework == "b" && cell.cell == "concurrent/c2")
    });
    let status = bench.output(&["status"]);
    assert_eq!(status.status.code(), Some(0), "{}", status.stderr);
    for words in [
        &format!("pid {}", run.pid()),
        "running",
        "cells  3 of 6",
        "b/m: concurrent/c2",
        "waiting",
        "finished",
    ] {
        assert!(
            status.stdout.contains(words),
            "no `{words}` in:\n{}",
            status.stdout
        );
    }
    let report = bench.output(&["report"]);
    assert_eq!(report.status.code(), Some(0), "{}", report.stderr);
    let text = std::fs::read_to_string(bench.only_run().join("report.md")).unwrap();
    assert!(text.contains("a") && text.contains("single/in32"), "{text}");

    run.signal(Signal::SIGKILL);
    assert_eq!(run.wait().signal, Some(libc::SIGKILL));
    let status = bench.output(&["status"]).stdout;
    for words in ["died", "--resume", "cut off", "cells  3 of 6"] {
        assert!(status.contains(words), "no `{words}` in:\n{status}");
    }
    assert_eq!(bench.output(&["report"]).status.code(), Some(0));

    bench.run(&["--resume"]).assert_code(0);
    let status = bench.output(&["status"]).stdout;
    assert!(
        status.contains("state  finished") && status.contains("cells  6 of 6"),
        "{status}"
    );
    let id = bench
        .only_run()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    assert_eq!(bench.output(&["status", &id]).stdout, status);
    bench.assert_nothing_left();
}

#[test]
fn nobody_needs_to_listen() {
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer
    };
    let bench = Bench::new().sim("a", &[]);
    bench.write_plan();
    let mut run = bench.command(&["run", "plan.yaml", "--no-selfcheck"]);
    let status = run.stdout(closed()).stderr(closed()).status().unwrap();
    assert_eq!(status.code(), Some(0));
    let state = serde_json::from_slice::<serde_json::Value>(
        &std::fs::read(bench.only_run().join("run.json")).unwrap(),
    )
    .unwrap()["state"]
        .clone();
    assert_eq!(state, "finished");
    bench.assert_nothing_left();

    for args in [&["report"][..], &["status"], &["compare", "latest", "latest"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let said = bench.command(args).stdout(writer).output().unwrap();
        let stderr = String::from_utf8(said.stderr).unwrap();
        assert_eq!((said.status.code(), &*stderr), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn who_names_a_run_that_is_not_there_is_told_which_are() {
    let bench = Bench::new().sim("a", &[]);
    bench
        .output(&["status"])
        .assert(2, &["there is no run in results", "`benchd run PLAN`"]);
    bench.run(&[]).assert_code(0);
    let run = bench.only_run();
    let id = run.file_name().unwrap().to_str().unwrap();
    for args in [
        &["report", "nothing"][..],
        &["status", "nothing"],
        &["compare", "nothing", "latest"],
    ] {
        let said = bench.output(args);
        said.assert(2, &["there is no run nothing in results", id]);
        assert!(!said.stderr.contains("os error"), "{}", said.stderr);
    }
}
