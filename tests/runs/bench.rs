//! One test's world: a plan, its folders, maybe a GPU; benchd runs in it, and afterwards nothing may be left.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use benchd::{
    journal::{self, CellEnded, Event, LaneEnded, LaneOutcome, ProcessIdentity, RunInfo, RunState, State},
    record::{Outcome, Phase, RequestRecord},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{ports::Port, support::fake_nvml::FakeGpu};

/// Only so that a fault fails a test instead of hanging it.
pub(crate) const SAFETY: Duration = Duration::from_secs(120);

/// Waits until `look` finds something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SAFETY;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A test's world.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    /// The plan, as JSON (which is YAML).
    pub(crate) plan: Value,
    /// Flags of every `benchd run`.
    pub(crate) flags: Vec<String>,
    ports: BTreeMap<String, Port>,
    gpu: Option<FakeGpu>,
    nohup: bool,
}

impl Bench {
    /// A plan with two small cells and no server yet, without a GPU.
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            plan: json!({
                "version": 1,
                "name": "test",
                "host": { "gpu": "none" },
                "request": { "temperature": 0, "timeout": "30s", "warmup": 1 },
                "models": { "m": { "openai": "sim" } },
                "frameworks": {},
                "scenarios": {
                    "single": { "input_tokens": [32], "output_tokens": 4, "repeats": 2 },
                    "concurrent": { "concurrency": [2], "input_tokens": 32, "output_tokens": 4, "requests": 40 },
                },
            }),
            // The client's own check is tested elsewhere and takes seconds a run.
            flags: vec!["--no-selfcheck".to_owned()],
            ports: BTreeMap::new(),
            gpu: None,
            nohup: false,
        }
    }

    /// Starts `benchd run` with HUP ignored, as nohup(1) does.
    pub(crate) fn nohup(mut self) -> Self {
        self.nohup = true;
        self
    }

    /// On a GPU that the test controls. What a killed process held comes back at once.
    pub(crate) fn with_gpu(mut self) -> Self {
        let gpu = FakeGpu::new();
        gpu.set(&machine(&gpu, &json!({})));
        self.gpu = Some(gpu);
        self.plan["host"] = json!({ "gpu": 0 });
        self
    }

    /// The GPU.
    pub(crate) fn gpu(&self) -> &FakeGpu {
        self.gpu.as_ref().unwrap()
    }

    /// Changes the GPU's state; what is left out is as at the start.
    pub(crate) fn set_gpu(&self, state: &Value) {
        self.gpu().set(&machine(self.gpu(), state));
    }

    /// Limit of every request, and of the start of the servers added from now on.
    pub(crate) fn request_timeout(mut self, timeout: &str) -> Self {
        self.plan["request"]["timeout"] = json!(timeout);
        self
    }

    /// Adds a simulated server with these flags: one lane more.
    pub(crate) fn sim(self, name: &str, flags: &[&str]) -> Self {
        let quick = [
            "benchd", "sim", "--host", "{host}", "--port", "{port}", "--model", "{model}",
        ];
        let speed = ["--decode-rate", "1000", "--prefill-rate", "200000"];
        let given = if flags.contains(&"--decode-rate") {
            &[][..]
        } else {
            &speed[..]
        };
        let command: Vec<&str> = quick.iter().chain(given).chain(flags).copied().collect();
        self.server(name, json!({ "command": command }))
    }

    /// Adds a server; `keys` are keys of its framework in the plan.
    pub(crate) fn server(mut self, name: &str, keys: Value) -> Self {
        let port = Port::free();
        let mut framework = json!({
            "kind": "openai",
            "port": port.number(),
            "start_timeout": "60s",
            "stop_grace": "20s",
        });
        merge(&mut framework, keys);
        self.plan["frameworks"][name] = framework;
        self.ports.insert(name.to_owned(), port);
        self
    }

    /// Sets keys of the framework added last.
    pub(crate) fn with(mut self, keys: Value) -> Self {
        let frameworks = self.plan["frameworks"].as_object_mut().unwrap();
        let last = frameworks.keys().next_back().unwrap().clone();
        merge(&mut frameworks[&last], keys);
        self
    }

    /// The port of a framework.
    pub(crate) fn port(&self, framework: &str) -> &Port {
        &self.ports[framework]
    }

    /// The world's folder.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The plan's file.
    pub(crate) fn plan_path(&self) -> PathBuf {
        self.path().join("plan.yaml")
    }

    /// The folder of all runs.
    pub(crate) fn results(&self) -> PathBuf {
        self.path().join("results")
    }

    /// A `benchd` command with these arguments, in the world's folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_benchd"));
        command
            .args(args)
            .current_dir(self.path())
            .env_remove("NO_COLOR")
            .env_remove("BENCHD_NVML_LIB")
            .stdin(Stdio::null());
        if let Some(gpu) = &self.gpu {
            command.envs(gpu.env());
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn output(&self, args: &[&str]) -> Said {
        let output = self.command(args).output().unwrap();
        Said {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Writes the plan.
    pub(crate) fn write_plan(&self) {
        fs::write(
            self.plan_path(),
            serde_json::to_string_pretty(&self.plan).unwrap(),
        )
        .unwrap();
    }

    /// Writes the plan and starts `benchd run` on it.
    pub(crate) fn start(&self, args: &[&str]) -> Running<'_> {
        self.write_plan();
        let stderr = self.path().join("stderr.txt");
        let mut all = vec!["run", "plan.yaml"];
        all.extend(self.flags.iter().map(String::as_str));
        all.extend(args);
        let mut command = self.command(&all);
        if self.nohup {
            // A signal's disposition goes through exec, as it does through nohup(1).
            let benchd = command;
            command = Command::new("sh");
            command
                .args(["-c", "trap '' HUP; exec \"$0\" \"$@\""])
                .arg(benchd.get_program())
                .args(benchd.get_args())
                .current_dir(self.path())
                .stdin(Stdio::null());
            for (name, value) in benchd.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
        }
        let child = command
            .stdout(File::create(self.path().join("stdout.txt")).unwrap())
            .stderr(File::create(stderr).unwrap())
            .spawn()
            .unwrap();
        Running {
            bench: self,
            child,
            ended: false,
        }
    }

    /// Runs the plan to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.start(args).wait()
    }

    /// All runs' folders, oldest first.
    pub(crate) fn runs(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.results()) else {
            return Vec::new();
        };
        let mut runs: Vec<PathBuf> = entries
            .map(|e| e.unwrap())
            .filter(|e| e.file_type().unwrap().is_dir() && !e.file_name().to_string_lossy().starts_with('.'))
            .map(|e| e.path())
            .collect();
        runs.sort();
        runs
    }

    /// The only run's folder.
    #[track_caller]
    pub(crate) fn only_run(&self) -> PathBuf {
        let runs = self.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs[0].clone()
    }

    /// The events of the newest run so far; none where there is none.
    pub(crate) fn events(&self) -> Vec<Event> {
        let Some(run) = self.runs().pop() else {
            return Vec::new();
        };
        let Ok(replay) = journal::replay(&run.join("journal.jsonl")) else {
            return Vec::new();
        };
        replay.entries.into_iter().map(|entry| entry.event).collect()
    }

    /// Processes of this world that run: whatever they did to their session, their environment or their parent,
    /// the folder that they were started in is still theirs.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let folder = fs::canonicalize(self.path()).unwrap();
        let own = std::process::id().to_string();
        fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| {
                let pid = entry.file_name().into_string().ok()?;
                pid.parse::<i32>().ok().filter(|_| pid != own)?;
                let cwd = fs::read_link(entry.path().join("cwd")).ok()?;
                if cwd != folder {
                    return None;
                }
                Process::read(&pid)
            })
            .collect()
    }

    /// Nothing of this world runs, listens or is left.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let left: Vec<Process> = self.processes().into_iter().filter(|p| !p.releases).collect();
        assert!(left.is_empty(), "processes are left: {left:?}");
        for (name, port) in &self.ports {
            assert!(port.is_free(), "somebody listens on the port of {name}");
        }
        for run in self.runs() {
            let Ok(replay) = journal::replay(&run.join("journal.jsonl")) else {
                continue;
            };
            for entry in &replay.entries {
                for process in named(&entry.event) {
                    let pid = process.pid.to_string();
                    let start = Process::read(&pid).map(|p| p.start_ticks);
                    assert_ne!(start, Some(process.start_ticks), "{process:?} still runs");
                }
            }
        }
    }
}

impl Drop for Bench {
    /// A failed test leaves nothing either.
    fn drop(&mut self) {
        for process in self.processes() {
            let _ = kill(Pid::from_raw(process.pid), Signal::SIGKILL);
        }
    }
}

/// Processes that an event names as the server's.
fn named(event: &Event) -> Vec<&ProcessIdentity> {
    match event {
        Event::ServerLaunched(e) => vec![&e.leader],
        Event::ServerDescendants(e) => e.processes.iter().collect(),
        Event::ServerReaped(e) => e.swept.iter().collect(),
        _ => Vec::new(),
    }
}

/// The state of the GPU with the driver giving back at once what ended processes held.
fn machine(gpu: &FakeGpu, changes: &Value) -> Value {
    // Every world is a machine of its own: the lock on a GPU goes by its UUID.
    let id = gpu
        .state_path()
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let mut state = json!({
        "devices": [{ "uuid": format!("GPU-test-{}", id.trim_start_matches('.')) }],
        "reap_dead_after_ms": 0,
    });
    merge(&mut state, changes.clone());
    state
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                match into.get_mut(&key) {
                    Some(there) => merge(there, value),
                    None => {
                        into.insert(key, value);
                    }
                }
            }
        }
        (Value::Array(into), Value::Array(from)) if into.len() == from.len() => {
            for (there, value) in into.iter_mut().zip(from) {
                merge(there, value);
            }
        }
        (into, from) => *into = from,
    }
}

/// A process that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) start_ticks: u64,
    pub(crate) command: String,
    /// The helper that gives the fake GPU's memory back later; it plays the driver.
    pub(crate) releases: bool,
}

impl Process {
    fn read(pid: &str) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        if matches!(*fields.first()?, "Z" | "X") {
            return None;
        }
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        Some(Self {
            pid: pid.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
            releases: command.contains("--as-child release"),
            command,
        })
    }
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// It ended with this code and its stderr has these words.
    #[track_caller]
    pub(crate) fn assert(&self, code: i32, words: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{}\n{}", self.stderr, self.stdout);
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in:\n{}", self.stderr);
        }
    }
}

/// A benchd that runs.
pub(crate) struct Running<'b> {
    bench: &'b Bench,
    child: Child,
    ended: bool,
}

impl<'b> Running<'b> {
    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits until its journal holds what `is` looks for.
    #[track_caller]
    pub(crate) fn sees(&self, what: &str, is: impl Fn(&Event) -> bool) {
        until(what, || self.bench.events().iter().any(&is).then_some(()));
    }

    /// Waits until it has stored so many lines of a framework's records.
    #[track_caller]
    pub(crate) fn stores(&self, framework: &str, lines: usize) {
        until("records", || {
            let run = self.bench.runs().pop()?;
            let text = fs::read(run.join(framework).join("m/requests.jsonl")).ok()?;
            (text.iter().filter(|b| **b == b'\n').count() >= lines).then_some(())
        });
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Ended {
        let child = &mut self.child;
        let status = until("benchd's end", || child.try_wait().unwrap());
        self.ended = true;
        Ended::read(self.bench, status)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

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
    fn read(bench: &Bench, status: ExitStatus) -> Self {
        let read = |name: &str| fs::read_to_string(bench.path().join(name)).unwrap();
        let run = bench.runs().pop();
        let entries = match &run {
            Some(run) => journal::replay(&run.join("journal.jsonl"))
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

    /// Whether the framework's server had to be killed, and which strays were swept.
    #[track_caller]
    pub(crate) fn reaped(&self, framework: &str) -> &journal::ServerReaped {
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
            assert!(
                counted.insert((&ended.lane.framework, &ended.cell)),
                "counted twice: {ended:?}"
            );
            let mut records = journal::cell_records(run, ended).unwrap();
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
