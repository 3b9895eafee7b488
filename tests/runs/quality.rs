//! Questions with one checkable answer: a server that answers wrong, mixes requests up or answers noise is found, and said
//! where its speed is praised.

use std::fs;

use benchd_journal::Event;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::bench::Bench;

/// A plan with questions that end with their answers, which `--text last-word` answers right.
fn asking(mut bench: Bench) -> Bench {
    let questions: Vec<String> = (0..60)
        .map(|n| format!("{{\"question\": \"Say the last word: word{n}\", \"answer\": \"word{n}\"}}"))
        .collect();
    let file = bench.path().join("own-questions.jsonl");
    fs::write(&file, questions.join("\n")).unwrap();
    bench.plan["quality"] = json!({ "file": file, "output_tokens": 2 });
    bench
}

#[test]
fn wrong_answers_are_said_before_the_speed_and_right_ones_are_not() {
    let right = ["--text", "last-word"];
    let bench = asking(Bench::new())
        .sim("right", &right)
        .sim("alike", &right)
        .sim("noise", &["--text", "last-word", "--fault", "noise"])
        // The questions alone end before the 80th request: those under load are mixed up.
        .sim("mixed", &["--text", "last-word", "--fault", "mix-up@80-300"]);
    let ended = bench.run(&[]);
    ended.assert_code(0);
    let report = fs::read_to_string(bench.only_run().join("report.md")).unwrap();
    let first = report.split("\n## ").next().unwrap();
    let said: Vec<&str> = first
        .lines()
        .filter_map(|line| line.strip_prefix("> **"))
        .collect();
    assert_eq!(said.len(), 2, "{first}");
    assert!(
        said[0].starts_with("noise on m answers next to nothing right"),
        "{first}"
    );
    assert!(
        said[1].starts_with("mixed on m answers worse at 2 concurrent"),
        "{first}"
    );
    assert!(report.contains("## Do they answer right?"), "{report}");
    bench.assert_nothing_left();
}

#[test]
fn a_resumed_run_asks_only_what_was_not_asked() {
    let bench = asking(Bench::new()).sim("right", &["--text", "last-word"]);
    let running = bench.start(&[]);
    running.sees("the first answers", |event| {
        matches!(event, Event::QualityAsked(_))
    });
    running.signal(Signal::SIGTERM);
    running.wait().assert_code(143);
    bench.run(&["--resume"]).assert_code(0);
    let asked: Vec<String> = bench
        .events()
        .into_iter()
        .filter_map(|event| match event {
            Event::QualityAsked(asked) => Some(asked.cell),
            _ => None,
        })
        .collect();
    assert_eq!(asked, ["quality/c1", "quality/c2"]);
}
