//! A server that someone else runs (`url:`): no stranger on the GPU, and asked like a launched one where its kind is known.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
};

use benchd_analysis::RunSummary;
use benchd_core::record::FlagKind;
use benchd_journal::{Event, LaneOutcome, RunState};
use serde_json::json;

use crate::{
    bench::{Bench, until},
    ports::Port,
};

/// A server that the test runs, with a worker that holds memory of the GPU too, as vLLM's engine does.
struct Elsewhere {
    child: Child,
    worker: u32,
}

impl Elsewhere {
    fn start(bench: &Bench, port: &Port) -> Self {
        let sim = format!(
            "sleep 600 & exec {} sim --host 127.0.0.1 --port {} --model sim --decode-rate 20 --prefill-rate 200000 \
             --gpu-bytes 1073741824",
            env!("CARGO_BIN_EXE_benchd"),
            port.number()
        );
        let child = Command::new("sh")
            .args(["-c", &sim])
            .envs(bench.gpu().env())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id();
        until("the server that someone else runs", || {
            std::net::TcpStream::connect(("127.0.0.1", port.number())).ok()
        });
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let worker = children.split_whitespace().next().unwrap().parse().unwrap();
        bench.gpu().hold(worker, 1 << 30);
        Self { child, worker }
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_behind_a_url_is_no_stranger_and_is_read_and_reset_as_its_kind_is() {
    let port = Port::free();
    let url = json!({ "url": format!("http://127.0.0.1:{}", port.number()), "port": null });
    let mut bench = Bench::new().with_gpu().server("elsewhere", url);
    bench.plan["frameworks"]["elsewhere"]
        .as_object_mut()
        .unwrap()
        .retain(|key, _| matches!(key.as_str(), "kind" | "url" | "start_timeout"));
    let elsewhere = Elsewhere::start(&bench, &port);
    bench.write_plan();
    let check = bench.output(&["check", "plan.yaml"]);
    assert!(
        !check.stdout.contains("not idle") && !check.stdout.contains("also on the GPU"),
        "{}",
        check.stdout
    );

    let run = bench.start(&[]);
    run.sees(
        "the slow cell",
        |event| matches!(event, Event::CellStarted(cell) if cell.cell == "concurrent/c2"),
    );
    // Whoever else comes is one.
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    bench.gpu().hold(stranger.id(), 3 << 30);
    run.sees(
        "the spoilt cell's end",
        |event| matches!(event, Event::CellEnded(cell) if cell.cell == "concurrent/c2"),
    );
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let ended = run.wait();
    ended.assert_code(0);
    assert_eq!(ended.lane("elsewhere").outcome, LaneOutcome::Finished);
    ended.assert_folder(RunState::Finished);
    let came: Vec<u32> = ended
        .events
        .iter()
        .filter_map(|event| match event {
            Event::StrangerCame(came) => Some(came.process.pid),
            _ => None,
        })
        .collect();
    assert_eq!(came, [stranger.id()]);
    let ready = ended.events.iter().find_map(|event| match event {
        Event::ServerReady(ready) => Some(ready),
        _ => None,
    });
    let known: Vec<u32> = ready
        .unwrap()
        .processes
        .iter()
        .map(|p| p.pid.try_into().unwrap())
        .collect();
    assert!(
        known.contains(&elsewhere.child.id()) && known.contains(&elsewhere.worker),
        "{known:?}"
    );
    for event in &ended.events {
        if let Event::CellStarted(cell) = event {
            assert_eq!(
                serde_json::to_value(&cell.cache_reset).unwrap(),
                "proven",
                "{}",
                cell.cell
            );
        }
    }
    let summary = fs::read_to_string(bench.only_run().join("summary.json")).unwrap();
    let summary: RunSummary = serde_json::from_str(&summary).unwrap();
    let cells = &summary.lanes[0].cells;
    assert_eq!(cells.len(), 2);
    for cell in cells {
        let stranger = cell
            .flags
            .iter()
            .find(|flag| flag.kind == FlagKind::StrangerOnGpu);
        assert_eq!(stranger, None, "{}", cell.cell);
    }
    for cell in ended.cells("elsewhere") {
        let counted = cell.server_counters.get("vllm:generation_tokens_total");
        assert!(
            counted.is_some_and(|tokens| *tokens > 0.0),
            "{:?}",
            cell.server_counters
        );
    }
    let report = fs::read_to_string(bench.only_run().join("report.md")).unwrap();
    assert!(report.contains("agree in all 2 cells"), "{report}");
    assert!(
        ended
            .notes()
            .iter()
            .any(|note| note.contains("elsewhere is vLLM")),
        "{:?}",
        ended.notes()
    );
    // It goes on, as it was found.
    assert!(std::net::TcpStream::connect(("127.0.0.1", port.number())).is_ok());
}
