//! Status and report, while a run goes on and after it.

use benchd::journal::Event;
use nix::sys::signal::Signal;

use crate::bench::Bench;

#[test]
fn status_and_report_tell_of_a_run_as_it_stands() {
    let bench = Bench::new()
        .sim("a", &[])
        .sim("b", &["--decode-rate", "20"])
        .sim("c", &[]);
    bench.output(&["status"]).assert(2, &["no such run"]);
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
