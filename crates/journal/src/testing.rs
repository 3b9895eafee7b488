//! Journals for tests.
#![allow(missing_docs, reason = "builders for tests: their names say it")]

use super::*;
use benchd_core::record::{ClientLag, EndMarker, GpuHost, GpuProcess, LaneId, ProcessIdentity, StreamShape};

pub fn lane_id() -> LaneId {
    LaneId {
        framework: "vllm".to_owned(),
        model: "llama".to_owned(),
        round: 1,
    }
}

pub fn gpu_host() -> GpuHost {
    GpuHost {
        driver: "570.86.10".to_owned(),
        cuda: Some("12.8".to_owned()),
        nvml: None,
        devices: Vec::new(),
    }
}

/// Entries of these events, a second apart.
pub fn entries(events: Vec<Event>) -> Vec<Entry> {
    let entry = |(i, event)| Entry {
        v: JOURNAL_VERSION,
        seq: i as u64,
        unix_us: 1_800_000_000_000_000 + i as u64 * 1_000_000,
        event,
    };
    events.into_iter().enumerate().map(entry).collect()
}

pub fn run_started(resumed: bool) -> Event {
    Event::RunStarted(RunStarted {
        run_id: "20270115T080000Z-night".to_owned(),
        plan: "night".to_owned(),
        plan_sha256: "00".to_owned(),
        benchd_version: "0.1.0".to_owned(),
        pid: 1,
        boot_id: "boot".to_owned(),
        resumed,
        lanes: vec![(lane_id(), 2)],
    })
}

pub fn lane_started(attempt: u32) -> Event {
    Event::LaneStarted(LaneStarted {
        lane: lane_id(),
        attempt,
    })
}

pub fn prepared() -> Event {
    Event::ServerPrepared(ServerPrepared {
        lane: lane_id(),
        token: "token".to_owned(),
        argv: vec!["vllm".to_owned(), "serve".to_owned(), "안녕".to_owned()],
        env: vec![("A".to_owned(), "line\nbreak".to_owned())],
        port: 8000,
    })
}

pub fn lane_ended(outcome: LaneOutcome) -> Event {
    Event::LaneEnded(LaneEnded {
        lane: lane_id(),
        attempt: 1,
        outcome,
        stage: None,
        reason: None,
        log_tail: vec!["last | words".to_owned()],
        by_machine: false,
    })
}

fn process(pid: i32) -> ProcessIdentity {
    ProcessIdentity {
        pid,
        start_ticks: 7,
        pgid: 100,
        sid: 100,
        name: "VLLM::EngineCore".to_owned(),
    }
}

fn stranger() -> GpuProcess {
    GpuProcess {
        pid: 9,
        device: 0,
        used_bytes: Some(2 << 30),
        name: Some("python3".to_owned()),
    }
}

/// One of every event, in the order of a run: a cell that ends, one that fails.
pub fn whole_run() -> Vec<Event> {
    let lane = lane_id();
    let cell_started = |cell: &str| {
        Event::CellStarted(CellStarted {
            lane: lane_id(),
            cell: cell.to_owned(),
            attempt: 1,
            cache_reset: "proven".to_owned(),
        })
    };
    vec![
        run_started(false),
        Event::GpuBaseline(GpuBaseline {
            host: gpu_host(),
            used_bytes: vec![1 << 20],
            strangers: Vec::new(),
            graphics: Some(Vec::new()),
        }),
        lane_started(1),
        prepared(),
        Event::ServerLaunched(ServerLaunched {
            lane: lane.clone(),
            leader: process(100),
            output_pipes: vec![4711, 4712],
        }),
        Event::ServerDescendants(ServerDescendants {
            lane: lane.clone(),
            processes: vec![process(100), process(101)],
        }),
        Event::ServerReady(ServerReady {
            lane: lane.clone(),
            healthy_ms: 8000,
            ready_ms: 9000,
            facts: [("version".to_owned(), "0.15.1".to_owned())].into(),
            stream: StreamShape {
                usage: true,
                end: EndMarker::Done,
            },
            template_tokens: Some(35),
            gpu_used_bytes: Some(1 << 34),
            load: None,
            precision: None,
            compile_caches: None,
            processes: Vec::new(),
        }),
        cell_started("single/in128"),
        Event::CellEnded(CellEnded {
            lane: lane.clone(),
            cell: "single/in128".to_owned(),
            attempt: 1,
            file: "vllm/llama/requests.jsonl".to_owned(),
            offset: 0,
            bytes: 10,
            records: 1,
            requests: 1,
            failed: 0,
            passes: vec![PassTimes {
                pass: 1,
                started_unix_us: 5,
                duration_us: 6,
            }],
            client: ClientLag::default(),
            flags: Vec::new(),
            server_counters: [("prompt_tokens".to_owned(), 0.5)].into(),
        }),
        cell_started("concurrent/c8"),
        Event::CellFailed(CellFailed {
            lane: lane.clone(),
            cell: "concurrent/c8".to_owned(),
            attempt: 1,
            reason: "the server died".to_owned(),
        }),
        Event::ServerStopping(ServerStopping {
            lane: lane.clone(),
            why: "finished".to_owned(),
        }),
        Event::ServerReaped(ServerReaped {
            lane: lane.clone(),
            stop_ms: 1200,
            exit: "exit 0".to_owned(),
            killed: false,
            swept: vec![process(101)],
            stuck: Vec::new(),
        }),
        Event::GpuHeld(GpuHeld {
            lane: lane.clone(),
            waited_ms: 60_000,
            used_bytes: vec![1 << 30],
            baseline_bytes: vec![1 << 20],
            holders: vec![GpuProcess {
                pid: 9,
                device: 0,
                used_bytes: None,
                name: None,
            }],
            reason: "held".to_owned(),
        }),
        Event::GpuReleased(GpuReleased {
            lane,
            release_ms: 300,
            used_bytes: vec![1 << 20],
            baseline_bytes: vec![1 << 20],
            strangers: vec![stranger()],
        }),
        Event::Note(Note {
            lane: None,
            text: "a note".to_owned(),
        }),
        lane_ended(LaneOutcome::Finished),
        Event::StrangerCame(StrangerCame {
            lane: lane_id(),
            process: stranger(),
        }),
        Event::StrangerLeft(StrangerLeft {
            lane: lane_id(),
            process: stranger(),
            stayed_ms: 1200,
        }),
        Event::RunEnded(RunEnded {
            outcome: RunOutcome::Finished,
            exit_code: 0,
            reason: None,
        }),
    ]
}
