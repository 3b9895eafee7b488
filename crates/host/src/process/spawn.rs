//! The start of a server, and the handle on what was started.

use std::{
    collections::BTreeSet,
    os::fd::OwnedFd,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
};

use tokio::{
    io::unix::AsyncFd,
    process::Command,
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tokio_process_stream::ProcessChunkStream;

use super::{
    cgroup::Cgroup,
    exit::LeaderExit,
    family::{Family, Membership, Surroundings},
    log::{LogSettings, LogState, LogView, LogWriter, lock},
    pump,
    roster::Roster,
    signal::{self, ProcessHandle},
    table::{self, ProcessTable, Seen},
};
use benchd_core::record::ProcessIdentity;

/// A server to be started.
#[derive(Debug)]
pub struct SpawnSpec {
    /// Path, or a name that is looked for in `PATH`.
    pub program: PathBuf,
    /// Arguments, without the program itself.
    pub args: Vec<String>,
    /// Environment on top of benchd's own.
    pub env: Vec<(String, String)>,
    /// Variables of benchd's own environment that it must not see.
    pub env_remove: Vec<String>,
    /// Working directory; benchd's own where `None`.
    pub cwd: Option<PathBuf>,
    /// The token that its environment carries as `BENCHD_TOKEN`.
    pub token: String,
    /// Where its output goes.
    pub log: LogSettings,
    /// Its own cgroup, where one is delegated.
    pub cgroup: Option<Cgroup>,
}

/// Why a server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Its log can't be opened.
    #[error("cannot open the server's log `{}`: {source}", path.display())]
    Log {
        /// The log's first part.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The working directory is no directory.
    #[error("the server's working directory `{}` is not there", .0.display())]
    Cwd(PathBuf),
    /// The program can't be run.
    #[error("cannot run `{}`: {source}{}", program.display(), run_hint(source))]
    Run {
        /// As in the [`SpawnSpec`].
        program: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It was started, but can't be watched; it was killed.
    #[error("cannot watch the server's process: {0}")]
    Watch(std::io::Error),
}

fn run_hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "\nhint: the file is missing, or the interpreter in its first line is (a venv that was moved)"
        }
        std::io::ErrorKind::PermissionDenied => "\nhint: is it executable (`chmod +x`)?",
        _ => "",
    }
}

/// Leaders of all servers that this benchd runs: what each sweep must leave alone.
static LEADERS: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

/// benchd itself, the leaders of all servers that it runs, and who is in `cgroup`. To be called after the look at
/// `/proc`, see [`ServerProcess::spawn`].
pub(super) fn surroundings(cgroup: Option<&Cgroup>) -> Surroundings {
    Surroundings {
        own_pid: table::own_pid(),
        own_pgid: table::own_pgid(),
        leaders: lock(&LEADERS).clone(),
        in_cgroup: cgroup.map(Cgroup::pids).unwrap_or_default(),
        ..Surroundings::default()
    }
}

/// A server's entry among the leaders.
#[derive(Debug)]
struct Registered(i32);

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&LEADERS).remove(&self.0);
    }
}

/// One server's processes and output. Dropped without a stop it kills all that it knows of, without waiting.
#[derive(Debug)]
pub struct ServerProcess {
    leader: ProcessIdentity,
    output_pipes: Vec<u64>,
    token: String,
    family: Mutex<Family>,
    exit: watch::Receiver<Option<LeaderExit>>,
    output: Arc<LogView>,
    pump: Mutex<Option<Pump>>,
    cgroup: Option<Cgroup>,
    registered: Mutex<Option<Registered>>,
}

#[derive(Debug)]
struct Pump {
    release: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl ServerProcess {
    /// Starts a server in its own session and process group, its output pumped from the first byte on. Needs
    /// a tokio runtime with I/O.
    ///
    /// # Errors
    /// See [`SpawnError`]; nothing is left running then.
    pub fn spawn(spec: SpawnSpec) -> Result<Self, SpawnError> {
        let log = LogWriter::open(&spec.log).map_err(|source| SpawnError::Log {
            path: spec.log.path.clone(),
            source,
        })?;
        if let Some(cwd) = spec.cwd.as_ref().filter(|c| !c.is_dir()) {
            return Err(SpawnError::Cwd(cwd.clone()));
        }
        let run_error = |source| SpawnError::Run {
            program: spec.program.clone(),
            source,
        };
        let mut command = command(&spec).map_err(run_error)?;

        // Held over the start: whoever looks at the leaders after a look at `/proc` finds this one among them.
        let mut leaders = lock(&LEADERS);
        let stream = ProcessChunkStream::try_from(&mut command).map_err(run_error)?;
        let watched = || -> std::io::Result<(ProcessIdentity, AsyncFd<OwnedFd>)> {
            // Not reaped yet, so its pid is its own even if it has ended already.
            let pid = stream.child().and_then(tokio::process::Child::id);
            let leader = pid
                .and_then(|pid| table::identity(i32::try_from(pid).ok()?))
                .ok_or_else(|| std::io::Error::other("it is not in /proc"))?;
            let handle = ProcessHandle::open(&leader)?
                .ok_or_else(|| std::io::Error::other("it is not in /proc any more"))?;
            Ok((leader, handle.watched()?))
        };
        // Dropping the stream kills the process.
        let (leader, ended) = watched().map_err(SpawnError::Watch)?;
        leaders.insert(leader.pid);
        let output_pipes = table::shared_pipes(leader.pid);
        drop(leaders);

        let (exit_tx, exit) = watch::channel(None);
        let output = log.view();
        let (release, released) = oneshot::channel();
        let task = tokio::spawn(pump::pump(
            stream,
            ended,
            log,
            spec.log.redactor.clone(),
            exit_tx,
            released,
        ));
        Ok(Self {
            family: Mutex::new(Family::new(leader.clone())),
            registered: Mutex::new(Some(Registered(leader.pid))),
            leader,
            output_pipes,
            token: spec.token,
            exit,
            output,
            pump: Mutex::new(Some(Pump { release, task })),
            cgroup: spec.cgroup,
        })
    }

    /// The process that was started; it leads the server's session and group.
    pub fn leader(&self) -> &ProcessIdentity {
        &self.leader
    }

    /// Inode numbers of the pipes that take its output; empty where it had closed them before benchd could look.
    pub fn output_pipes(&self) -> &[u64] {
        &self.output_pipes
    }

    /// The token in its environment.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// How the leader ended, if it has.
    pub fn exit(&self) -> Option<LeaderExit> {
        *self.exit.borrow()
    }

    /// Waits for the leader's end; noticed at once, also while others hold its pipes.
    pub async fn leader_exited(&self) -> LeaderExit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await.map(|e| *e) {
            Ok(Some(exit)) => exit,
            // The pump is gone without having seen an end: benchd's runtime shuts down.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// The last lines of its output.
    pub fn tail(&self) -> Vec<String> {
        self.output.tail()
    }

    /// Lines received and lost so far.
    pub fn log_state(&self) -> LogState {
        self.output.state()
    }

    /// All its processes that run now. Cheap enough for every second while starting (one read of `/proc`);
    /// what only a token tells is found when stopping.
    pub fn processes(&self) -> Vec<ProcessIdentity> {
        self.look(false)
            .into_iter()
            .filter(|(s, _)| !s.is_zombie())
            .map(|(s, _)| s.identity)
            .collect()
    }

    /// Watches those of its processes that run now, the leader among them, until the roster is dropped.
    pub fn roster(&self) -> Roster {
        Roster::of(&self.processes())
    }

    /// Everyone ever seen as one of its processes.
    pub fn known(&self) -> Vec<ProcessIdentity> {
        lock(&self.family).known().cloned().collect()
    }

    /// Its processes, ended but unreaped ones included; `deep` looks into all environments as well.
    pub(super) fn look(&self, deep: bool) -> Vec<(Seen, Membership)> {
        let table = ProcessTable::read();
        let carriers = if deep {
            table::carriers(&table, &self.token)
        } else {
            Vec::new()
        };
        let around = Surroundings {
            adopts: true,
            carriers,
            // Nobody is asked for its pipes: benchd is subreaper, who held one only would have come to it.
            ..surroundings(self.cgroup.as_ref())
        };
        lock(&self.family).update(&table, &around)
    }

    /// The cgroup of its own, where one was delegated.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Ends the pump, with what is still in the pipes, and reaps the leader if it has ended.
    pub(super) async fn finish_output(&self) {
        let pump = lock(&self.pump).take();
        if let Some(Pump { release, task }) = pump {
            // It may have ended by itself, when all pipes were closed.
            let _ = release.send(());
            if let Err(error) = task.await {
                tracing::warn!(%error, "the pump of a server's output broke");
            }
        }
        if self.exit().is_some() {
            lock(&self.registered).take();
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let Some(pump) = lock(&self.pump).take() else {
            return;
        };
        // Not stopped: an error or a panic on the way. Nothing may stay; who waits is not here any more.
        let members = self.look(true);
        let identities: Vec<ProcessIdentity> = members.into_iter().map(|(s, _)| s.identity).collect();
        signal::signal_group(self.leader.pgid, &identities, nix::sys::signal::Signal::SIGKILL);
        for identity in &identities {
            signal::signal_process(identity, nix::sys::signal::Signal::SIGKILL);
        }
        pump.task.abort();
    }
}

fn command(spec: &SpawnSpec) -> std::io::Result<Command> {
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).stdin(Stdio::null()).kill_on_drop(true);
    for name in &spec.env_remove {
        command.env_remove(name);
    }
    command
        .envs(spec.env.iter().map(|(k, v)| (k, v)))
        .env(table::TOKEN_VARIABLE, &spec.token);
    if let Some(cwd) = &spec.cwd {
        command.current_dir(cwd);
    }
    let entrance = spec.cgroup.as_ref().map(Cgroup::entrance).transpose()?;
    let enter = move || {
        if let Some(cgroup) = &entrance {
            // `0` is the writer itself. Before the program runs: its first fork is inside already.
            rustix::io::write(cgroup, b"0")?;
        }
        // A session of its own is a process group of its own too, keeps the terminal's signals away, and is
        // one more witness of who is the server's.
        rustix::process::setsid()?;
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "runs between fork and exec: two system calls, no allocation, no lock"
    )]
    // SAFETY: `enter` only makes async-signal-safe system calls on a descriptor opened before the fork.
    unsafe {
        command.pre_exec(enter);
    }
    Ok(command)
}
