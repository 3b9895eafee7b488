//! One test's world: a plan, its folders, maybe a GPU; benchd runs in it, and afterwards nothing may be left.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use benchd_core::record::ProcessIdentity;
use benchd_journal::{self, Event};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{ended::Ended, ports::Port, support::fake_nvml::FakeGpu};

/// Only so that a fault fails a test instead of hanging it.
pub(crate) const SAFETY: Duration = Duration::from_secs(300);

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
    hup: Option<&'static str>,
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
            hup: None,
        }
    }

    /// Starts `benchd run` with HUP `ignore`d, as nohup(1) does, or as is the `default`.
    pub(crate) fn hup(mut self, disposition: &'static str) -> Self {
        self.hup = Some(disposition);
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
        // On a machine with a GPU a server holds some of it.
        let memory: &[&str] = match &self.gpu {
            Some(_) if !flags.contains(&"--gpu-bytes") => &["--gpu-bytes", "1073741824"],
            _ => &[],
        };
        let command: Vec<&str> = quick
            .iter()
            .chain(given)
            .chain(memory)
            .chain(flags)
            .copied()
            .collect();
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
        if let Some(disposition) = self.hup {
            // It goes through exec, as it does through nohup(1), under which these tests may run themselves.
            let benchd = command;
            command = Command::new("env");
            command
                .arg(format!("--{disposition}-signal=HUP"))
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
        let Ok(replay) = benchd_journal::replay(&run.join("journal.jsonl")) else {
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
            let Ok(replay) = benchd_journal::replay(&run.join("journal.jsonl")) else {
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
