//! Going on with a run: what is mended, what is refused, and what is left alone.

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use benchd_journal::{Event, RunState, StopWhy};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::bench::Bench;

/// A run that was killed while its second cell was measured.
fn killed() -> (Bench, PathBuf) {
    let bench = Bench::new().sim("a", &["--decode-rate", "100"]).sim("b", &[]);
    let run = bench.start(&[]);
    run.stores("a", 14);
    run.signal(Signal::SIGKILL);
    run.wait();
    let folder = bench.only_run();
    (bench, folder)
}

#[track_caller]
fn assert_resumes(bench: &Bench) {
    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    for lane in ["a", "b"] {
        ended.assert_whole_cells(lane);
    }
    ended.assert_folder(RunState::Finished);
    bench.only_run();
    bench.assert_nothing_left();
}

fn edit_journal(folder: &std::path::Path, edit: impl Fn(&mut Vec<String>)) {
    let path = folder.join("journal.jsonl");
    let mut lines: Vec<String> = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    edit(&mut lines);
    fs::write(path, lines.join("\n") + "\n").unwrap();
}

#[test]
fn torn_last_lines_are_dropped_and_said_so() {
    let (bench, folder) = killed();
    for (file, torn) in [
        ("journal.jsonl", r#"{"v":1,"seq":99,"unix"#),
        ("a/m/requests.jsonl", r#"{"v":1,"sc"#),
    ] {
        fs::File::options()
            .append(true)
            .open(folder.join(file))
            .unwrap()
            .write_all(torn.as_bytes())
            .unwrap();
    }
    assert_resumes(&bench);
    let notes = fs::read_to_string(folder.join("journal.jsonl")).unwrap();
    assert!(notes.contains("torn") || notes.contains("dropped"), "{notes}");
}

#[test]
fn a_damaged_journal_is_refused_with_the_line_and_left_as_it_is() {
    let (bench, folder) = killed();
    edit_journal(&folder, |lines| lines[3].truncate(20));
    let before = fs::read(folder.join("journal.jsonl")).unwrap();
    for command in [&["run", "plan.yaml", "--resume"][..], &["status"], &["report"]] {
        bench.output(command).assert(3, &["journal.jsonl:4:", "damaged"]);
    }
    assert_eq!(fs::read(folder.join("journal.jsonl")).unwrap(), before);
}

#[test]
fn a_run_that_died_before_its_first_line_is_gone_on_with() {
    for killed_with_plan in [true, false] {
        let (bench, folder) = killed();
        for process in bench.processes() {
            kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
        }
        crate::bench::until("the server's end", || bench.processes().is_empty().then_some(()));
        fs::write(folder.join("journal.jsonl"), "").unwrap();
        fs::remove_file(folder.join("run.json")).unwrap();
        fs::remove_dir_all(folder.join("a")).unwrap();
        if !killed_with_plan {
            fs::remove_file(folder.join("plan.yaml")).unwrap();
        }
        assert_resumes(&bench);
        assert_eq!(
            bench.output(&["report"]).status.code(),
            Some(0),
            "the plan is frozen"
        );
    }
}

#[test]
fn a_run_that_died_before_its_journal_leaves_no_second_folder() {
    let bench = Bench::new().sim("a", &[]).sim("b", &[]);
    for name in [
        "20260101T000000Z-test",
        "20260101T000000Z-test-2",
        "20260101T000000Z-other",
    ] {
        fs::create_dir_all(bench.results().join(name)).unwrap();
    }
    bench.run(&["--resume"]).assert_code(0);
    let others = bench.runs();
    assert_eq!(others.len(), 2, "{others:?}");
    assert!(
        others[0].ends_with("20260101T000000Z-other"),
        "another plan's is left alone"
    );
}

#[test]
fn without_a_run_to_go_on_with_one_is_begun() {
    let bench = Bench::new().sim("a", &[]).sim("b", &[]);
    assert_resumes(&bench);
    let first = bench.only_run();
    let id = first.file_name().unwrap().to_string_lossy().into_owned();
    let named = bench.run(&[&format!("--resume={id}")]);
    named.assert_code(2);
    assert!(
        named.stderr.contains("every cell of it is measured"),
        "{}",
        named.stderr
    );
    bench.only_run();
    bench.run(&["--resume"]).assert_code(0);
    assert_eq!(bench.runs().len(), 2, "the finished one is left alone");
}

#[test]
fn a_run_that_died_before_its_report_is_gone_on_with() {
    let bench = Bench::new().sim("a", &[]).sim("b", &[]);
    bench.run(&[]).assert_code(0);
    let folder = bench.only_run();
    let info = fs::read_to_string(folder.join("run.json")).unwrap();
    assert!(info.contains("\"finished\""), "{info}");
    fs::write(
        folder.join("run.json"),
        info.replace("\"finished\"", "\"running\""),
    )
    .unwrap();
    fs::remove_file(folder.join("report.md")).unwrap();
    assert_resumes(&bench);
}

/// A process that is nobody's but looks like a server in the journal.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        Self(
            Command::new("sleep")
                .arg("600")
                .stdin(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }

    fn start_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        stat.rsplit_once(") ")
            .unwrap()
            .1
            .split(' ')
            .nth(19)
            .unwrap()
            .parse()
            .unwrap()
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Gives the journal's leader and descendants the bystander's pid, and this start time.
fn point_at(
    bench: &Bench,
    folder: &std::path::Path,
    bystander: &Bystander,
    start_ticks: u64,
    boot_id: Option<&str>,
) {
    for process in bench.processes() {
        kill(Pid::from_raw(process.pid), Signal::SIGKILL).unwrap();
    }
    crate::bench::until("the server's end", || bench.processes().is_empty().then_some(()));
    let identity = json!({
        "pid": bystander.0.id(), "start_ticks": start_ticks, "pgid": bystander.0.id(), "sid": bystander.0.id(),
        "name": "sleep",
    });
    edit_journal(folder, |lines| {
        for line in lines {
            let mut entry: Value = serde_json::from_str(line).unwrap();
            if let Some(launched) = entry["event"].get_mut("server_launched") {
                launched["leader"] = identity.clone();
            }
            if let Some(descendants) = entry["event"].get_mut("server_descendants") {
                descendants["processes"] = json!([identity]);
            }
            if let (Some(started), Some(boot_id)) = (entry["event"].get_mut("run_started"), boot_id) {
                started["boot_id"] = json!(boot_id);
            }
            *line = entry.to_string();
        }
    });
}

#[test]
fn a_process_that_has_a_dead_servers_pid_is_left_alone() {
    let (bench, folder) = killed();
    let mut bystander = Bystander::new();
    let other_start = bystander.start_ticks() - 1;
    point_at(&bench, &folder, &bystander, other_start, None);
    assert_resumes(&bench);
    assert!(bystander.lives());
}

#[test]
fn after_a_reboot_nothing_is_looked_for() {
    let (bench, folder) = killed();
    let mut bystander = Bystander::new();
    let start = bystander.start_ticks();
    point_at(
        &bench,
        &folder,
        &bystander,
        start,
        Some("00000000-0000-0000-0000-000000000000"),
    );
    // Not by `assert_resumes`: the bystander is in the journal now, and lives.
    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    ended.assert_folder(RunState::Finished);
    assert!(bystander.lives());
}

#[test]
fn a_failed_lane_is_tried_again_and_the_cells_of_others_are_not_measured_again() {
    let bench = Bench::new()
        .sim("fails", &["--fault", "exit:1"])
        .sim("a", &[])
        .sim("b", &["--decode-rate", "100"]);
    let run = bench.start(&[]);
    run.stores("b", 14);
    run.signal(Signal::SIGKILL);
    run.wait();
    let ended = bench.run(&["--resume"]);
    ended.assert_code(1);
    ended.assert_failed("fails", "ready", &["exit 1"]);
    let launches = |name: &str| {
        let is = |e: &&Event| matches!(e, Event::ServerLaunched(l) if l.lane.framework == name);
        ended.events.iter().filter(is).count()
    };
    assert_eq!((launches("fails"), launches("a"), launches("b")), (2, 1, 2));
    ended.assert_whole_cells("a");
    ended.assert_whole_cells("b");
    ended.assert_folder(RunState::Finished);
    bench.assert_nothing_left();
}

#[test]
fn a_server_that_a_killed_run_left_is_stopped_timed_and_proven_like_any_other() {
    let bench = Bench::new().with_gpu().sim(
        "a",
        &[
            "--decode-rate",
            "50",
            "--gpu-bytes",
            "1073741824",
            "--gpu-release-delay",
            "never",
        ],
    );
    // What ended processes held comes back a while after.
    bench.set_gpu(&json!({ "reap_dead_after_ms": 1500, "list_dead": true }));
    let run = bench.start(&[]);
    run.stores("a", 8);
    run.signal(Signal::SIGKILL);
    run.wait();
    let ended = bench.run(&["--resume"]);
    ended.assert_code(0);
    ended.assert_whole_cells("a");
    ended.assert_folder(RunState::Finished);
    bench.only_run();
    // Its stop is one like any other: journalled, timed and proven.
    ended.assert_memory_back();
    let orphan = ended.events.iter().position(
        |event| matches!(event, Event::ServerStopping(stopping) if stopping.why == StopWhy::Orphaned),
    );
    let [Event::ServerReaped(reaped), Event::GpuReleased(released)] =
        &ended.events[orphan.unwrap() + 1..orphan.unwrap() + 3]
    else {
        panic!("{:#?}", ended.events);
    };
    assert!(reaped.stuck.is_empty());
    assert!(released.release_ms >= 500, "{released:?}");
    assert_eq!(ended.state.open_servers().count(), 0);
    let lane = ended.state.lanes.values().next().unwrap();
    assert_eq!((lane.attempts, lane.cut_off, lane.failures), (2, 1, 0));
    let report = fs::read_to_string(bench.only_run().join("report.md")).unwrap();
    let attempts = "2 (1 cut off: benchd was killed and the run went on)";
    assert!(report.contains(attempts), "{report}");
    bench.assert_nothing_left();
}
