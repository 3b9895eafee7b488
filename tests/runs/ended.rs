//! A benchd that has ended, and what must be true of what it left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::ExitStatus,
};

use benchd_core::record::{FlagKind, Outcome, Phase, RequestRecord};
use benchd_journal::{self, CellEnded, Event, LaneEnded, LaneOutcome, RunInfo, RunState, State};

use crate::bench::Bench;

/// A benchd that has ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The newest run, if any was begun.
    pub(crate) run: Option<PathBuf>,
    pub(crate) events: Vec<Event>,
    pub(crate) state: State,
}

impl Ended {
    pub(crate) fn read(bench: &Bench, status: ExitStatus) -> Self {
        let read = |name: &str| fs::read_to_string(bench.path().join(name)).unwrap();
        let run = bench.runs().pop();
        let entries = match &run {
            Some(run) => benchd_journal::replay(&run.join("journal.jsonl"))
                .map(|r| r.entries)
                .unwrap_or_default(),
            None => Vec::new(),
        };
        Self {
            code: status.code(),
            signal: status.signal(),
            stdout: read("stdout.txt"),
            stderr: read("stderr.txt"),
            run,
            state: State::from_entries(&entries),
            events: entries.into_iter().map(|entry| entry.event).collect(),
        }
    }

    /// It ended with this code.
    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(
            self.code,
            Some(code),
            "signal {:?}\n{}\n{}",
            self.signal,
            self.stderr,
            self.stdout
        );
    }

    /// How a framework's last attempt ended.
    #[track_caller]
    pub(crate) fn lane(&self, framework: &str) -> &LaneEnded {
        let lane = self.state.lanes.iter().find(|(id, _)| id.framework == framework);
        let ended = lane.and_then(|(_, lane)| lane.ended.as_ref());
        ended.unwrap_or_else(|| panic!("lane {framework} has no end:\n{}", self.stderr))
    }

    /// The framework's lane failed at this stage, and its reason or its log has these words.
    #[track_caller]
    pub(crate) fn assert_failed(&self, framework: &str, stage: &str, words: &[&str]) {
        let end = self.lane(framework);
        let all = format!(
            "{}\n{}",
            end.reason.as_deref().unwrap_or(""),
            end.log_tail.join("\n")
        );
        assert_eq!(
            end.outcome,
            LaneOutcome::Failed,
            "{framework}: {all}\n{}",
            self.stderr
        );
        assert_eq!(end.stage.as_deref(), Some(stage), "{framework}: {all}");
        for word in words {
            assert!(all.contains(word), "{framework}: no `{word}` in: {all}");
        }
    }

    /// The framework's lane is whole: every cell measured, no request failed.
    #[track_caller]
    pub(crate) fn assert_whole(&self, framework: &str) {
        let end = self.lane(framework);
        assert_eq!(
            end.outcome,
            LaneOutcome::Finished,
            "{framework}: {:?}\n{}",
            end.reason,
            self.stderr
        );
        self.assert_whole_cells(framework);
        assert!(self.records(framework).iter().all(RequestRecord::is_ok));
    }

    /// The framework's cells are whole, however often its lane was begun.
    #[track_caller]
    pub(crate) fn assert_whole_cells(&self, framework: &str) {
        let cells = self.cells(framework);
        assert_eq!(cells.len(), self.planned(framework), "{framework}: {cells:?}");
        for cell in cells {
            assert_eq!(cell.failed, 0, "{framework} {}", cell.cell);
        }
    }

    fn planned(&self, framework: &str) -> usize {
        let lane = self
            .state
            .lanes
            .iter()
            .find(|(id, _)| id.framework == framework)
            .unwrap()
            .1;
        usize::try_from(lane.planned_cells).unwrap()
    }

    /// The ended cells of a framework.
    pub(crate) fn cells(&self, framework: &str) -> Vec<&CellEnded> {
        let ended = self.events.iter().filter_map(|event| match event {
            Event::CellEnded(ended) if ended.lane.framework == framework => Some(ended),
            _ => None,
        });
        ended.collect()
    }

    /// All records that a framework left, counted or not.
    pub(crate) fn records(&self, framework: &str) -> Vec<RequestRecord> {
        let path = self
            .run
            .as_ref()
            .unwrap()
            .join(framework)
            .join("m/requests.jsonl");
        assert!(self.run.as_ref().unwrap().is_dir(), "the world is gone");
        // A lane that failed before its warm-up has none.
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The measured records of a framework that failed.
    pub(crate) fn failures(&self, framework: &str) -> Vec<RequestRecord> {
        let mut records = self.records(framework);
        records.retain(|r| r.phase == Phase::Measured && !r.is_ok());
        records
    }

    /// The framework's lane is finished with requests that failed, all of this class.
    #[track_caller]
    pub(crate) fn assert_failing_requests(&self, framework: &str, outcome: Outcome) {
        let end = self.lane(framework);
        assert_eq!(
            end.outcome,
            LaneOutcome::Finished,
            "{framework}: {:?}",
            end.reason
        );
        let failures = self.failures(framework);
        let counted: u64 = self.cells(framework).iter().map(|cell| cell.failed).sum();
        assert_eq!(failures.len() as u64, counted, "{framework}");
        assert!(counted > 0, "{framework}: nothing failed");
        for failure in &failures {
            assert_eq!(failure.outcome, outcome, "{framework}: {:?}", failure.error);
            assert!(
                failure.error.as_deref().is_some_and(|e| !e.is_empty()),
                "{framework}: no reason"
            );
        }
    }

    /// The texts of the run's notes.
    pub(crate) fn notes(&self) -> Vec<&str> {
        self.state
            .notes
            .iter()
            .map(|(_, note)| note.text.as_str())
            .collect()
    }

    /// The GPU memory of every server that was launched is proven to be back.
    #[track_caller]
    pub(crate) fn assert_memory_back(&self) {
        let mut launched = 0;
        let mut released = 0;
        for event in &self.events {
            match event {
                Event::ServerLaunched(_) => launched += 1,
                Event::GpuReleased(back) => {
                    released += 1;
                    assert!(!back.used_bytes.is_empty(), "nothing was looked at: {back:?}");
                    assert_eq!(back.used_bytes, back.baseline_bytes, "{}", back.lane.framework);
                }
                _ => {}
            }
        }
        assert_eq!(released, launched, "a server's memory is not proven to be back");
    }

    /// Whether the framework's server had to be killed, and which strays were swept.
    #[track_caller]
    pub(crate) fn reaped(&self, framework: &str) -> &benchd_journal::ServerReaped {
        let reaped = self.events.iter().rev().find_map(|event| match event {
            Event::ServerReaped(reaped) if reaped.lane.framework == framework => Some(reaped),
            _ => None,
        });
        reaped.unwrap_or_else(|| panic!("{framework} was not reaped"))
    }

    /// The run's folder holds all that it should, and what it holds fits together.
    #[track_caller]
    pub(crate) fn assert_folder(&self, state: RunState) {
        let run = self.run.as_ref().unwrap();
        for name in ["plan.yaml", "summary.csv", "summary.json", "report.md"] {
            assert!(run.join(name).is_file(), "{name} is missing");
        }
        assert_eq!(RunInfo::read(&run.join("run.json")).unwrap().state, state);
        let mut counted = BTreeSet::new();
        let mut ranges: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
        for event in &self.events {
            let Event::CellEnded(ended) = event else { continue };
            // A cell is measured again where the earlier result does not stand.
            let spoilt = ended.flags.iter().any(|f| f.kind == FlagKind::StrangerOnGpu);
            assert!(
                spoilt || counted.insert((&ended.lane.framework, &ended.cell)),
                "counted twice: {ended:?}"
            );
            let mut records = benchd_journal::cell_records(run, ended).unwrap();
            let read: Vec<RequestRecord> = records.by_ref().map(|r| r.unwrap()).collect();
            assert_eq!(read.len() as u64, ended.records, "{}", ended.cell);
            assert!(
                read.iter()
                    .all(|r| r.cell == ended.cell && r.attempt == ended.attempt)
            );
            let measured = read.iter().filter(|r| r.phase == Phase::Measured).count();
            assert_eq!(measured as u64, ended.requests, "{}", ended.cell);
            ranges
                .entry(&ended.file)
                .or_default()
                .push((ended.offset, ended.offset + ended.bytes));
        }
        for (file, mut ranges) in ranges {
            ranges.sort_unstable();
            assert!(ranges.windows(2).all(|w| w[0].1 <= w[1].0), "{file}: {ranges:?}");
        }
        let csv = fs::read_to_string(run.join("summary.csv")).unwrap();
        assert!(csv.lines().count() > counted.len(), "{csv}");
        // Whatever was launched was reaped, and its memory proven back or said to be held.
        let count = |is: fn(&Event) -> bool| self.events.iter().filter(|e| is(e)).count();
        let launched = count(|e| matches!(e, Event::ServerLaunched(_)));
        let died = self.state.starts.saturating_sub(1) as usize;
        assert!(count(|e| matches!(e, Event::ServerReaped(_))) + died >= launched);
        assert!(count(|e| matches!(e, Event::GpuReleased(_) | Event::GpuHeld(_))) + died >= launched);
    }
}
