//! Running a recipe: in its own process group, its output line by line to a callback, never two at a time.

use std::{
    collections::VecDeque,
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use super::record;

/// Lines of a failed recipe's output that its error shows.
const TAIL_LINES: usize = 20;

/// Longest line that is kept, bytes; a longer one is cut into several.
const LINE_BYTES: usize = 2000;

/// From TERM to KILL for a recipe that is cancelled.
const GRACE: Duration = Duration::from_secs(5);

/// How long to wait for the output's end once the recipe has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// The variable that tells a recipe of benchd's own: where tools that it fetches for itself are kept.
const TOOLS_VARIABLE: &str = "BENCHD_TOOLS";

/// Folder of such tools, beside the environments.
const TOOLS: &str = ".tools";

/// Why an environment was not made. [`Self::hint`] names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum EnvError {
    /// Another benchd makes it.
    #[error("{} is being made by another benchd (it holds {})", folder.display(), lock.display())]
    Busy {
        /// The environment.
        folder: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// The lock file can't be used.
    #[error("can't lock {}: {source}", lock.display())]
    Lock {
        /// The lock file.
        lock: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The recipe can't be run.
    #[error("can't run {}: {source}", recipe.display())]
    Start {
        /// The recipe.
        recipe: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The recipe failed.
    #[error("{} failed ({status}):\n{}", recipe.display(), last_lines.join("\n"))]
    Failed {
        /// The recipe.
        recipe: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        last_lines: Vec<String>,
    },
    /// A model can't be fetched.
    #[error("{id} can't be fetched: {why}")]
    Model {
        /// Its id.
        id: String,
        /// Why.
        why: String,
        /// What to do about it.
        hint: String,
    },
    /// The disk refuses.
    #[error("can't write {}: {source}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Stopped on the way.
    #[error("{} was stopped; what it had fetched is kept", recipe.display())]
    Cancelled {
        /// The recipe.
        recipe: PathBuf,
    },
}

impl EnvError {
    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Busy { .. } => "wait for it, then run this again".to_owned(),
            Self::Lock { .. } => "may this user write there?".to_owned(),
            Self::Start { recipe, .. } => format!("chmod +x {}", recipe.display()),
            Self::Failed { last_lines, .. } => return diagnose(last_lines).map(str::to_owned),
            Self::Cancelled { .. } => return None,
            Self::Model { hint, .. } => hint.clone(),
            Self::Disk { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull
                | std::io::ErrorKind::QuotaExceeded
                | std::io::ErrorKind::FileTooLarge => {
                    "make room, then run it again: what came is kept".to_owned()
                }
                _ => "may this user write there?".to_owned(),
            },
        })
    }
}

/// What to do about a recipe's failure, told by what it said at its end. A recipe that gives a hint itself needs none.
pub(super) fn diagnose(last_lines: &[String]) -> Option<&'static str> {
    let text = last_lines.join("\n").to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&[
        "no space left",
        "disk quota exceeded",
        "os error 28",
        "file too large",
    ]) {
        return Some("the disk is full: make room, then run it again; what came is kept");
    }
    if last_lines
        .iter()
        .any(|line| line.trim_start().starts_with("hint:"))
    {
        return None;
    }
    if says(&["hash mismatch", "do not match the hashes", "hashes are required"]) {
        return Some(
            "a package is not the one that was pinned: does a mirror change packages? nothing was installed",
        );
    }
    if says(&[
        "dns error",
        "name or service not known",
        "temporary failure in name resolution",
        "could not resolve",
        "connection refused",
        "network is unreachable",
        "error sending request",
        "failed to fetch",
        "connection timed out",
    ]) {
        return Some("is there a network here, and a package registry? run it again: what came is kept");
    }
    None
}

/// Makes an environment by its recipe, which runs in its own folder and process group, with nothing to read; what it
/// says goes to `progress` line by line. When `cancel` fires, or the returned future is dropped, the whole group is
/// ended. What was installed is recorded beside it.
///
/// # Errors
/// Where another benchd runs it, it can't be started, it fails, or it is cancelled.
pub async fn provision(
    recipe: &Path,
    cancel: &CancellationToken,
    mut progress: impl FnMut(&str) + Send,
) -> Result<(), EnvError> {
    let folder = match recipe.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let lock = lock(folder)?;
    // Until it has come to its end, nothing is known of what lies there.
    let record = folder.join(record::RECORD);
    let disk = |source| EnvError::Disk {
        path: record.clone(),
        source,
    };
    match std::fs::remove_file(&record) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(disk(error)),
        _ => {}
    }
    let began = Instant::now();
    let program = std::path::absolute(recipe).map_err(|source| EnvError::Start {
        recipe: recipe.to_owned(),
        source,
    })?;
    let tools = program
        .parent()
        .and_then(Path::parent)
        .map_or_else(|| PathBuf::from(TOOLS), |envs| envs.join(TOOLS));
    // The lock's empty file is what the recipe reads: where benchd is killed, the environment is held until the recipe
    // has ended too.
    let held = lock.try_clone().map_err(disk)?;
    let mut command = Command::new(program);
    command.current_dir(folder).env(TOOLS_VARIABLE, tools).stdin(held);
    run(command, recipe, cancel, &mut progress).await?;
    let (folder, took) = (folder.to_owned(), began.elapsed());
    let recorded = tokio::task::spawn_blocking(move || record::record(&folder, took)).await;
    recorded
        .map_err(|error| disk(std::io::Error::other(error)))?
        .map_err(|error| disk(error.source))
}

/// Runs a program to its end, in a process group of its own. `what` names it in errors.
///
/// # Errors
/// It can't be started, it fails, or it is cancelled.
pub(super) async fn run(
    mut command: Command,
    what: &Path,
    cancel: &CancellationToken,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), EnvError> {
    let recipe = what;
    let start = |source| EnvError::Start {
        recipe: recipe.to_owned(),
        source,
    };
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(start)?;
    let mut group = Group::of(&child);

    let (lines, mut said) = mpsc::channel(64);
    if let Some(stdout) = child.stdout.take() {
        tokio::spawn(pump(stdout, lines.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(pump(stderr, lines.clone()));
    }
    drop(lines);
    let mut tail = VecDeque::new();
    let mut say = |line: String| {
        progress(&line);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line);
    };
    let status = loop {
        tokio::select! {
            Some(line) = said.recv() => say(line),
            status = child.wait() => break status.map_err(start)?,
            () = cancel.cancelled() => {
                group.signal(Signal::SIGTERM);
                // Whether it ended by itself or not, nothing of its group may stay.
                let _ = tokio::time::timeout(GRACE, child.wait()).await;
                group.kill();
                child.wait().await.map_err(start)?;
                return Err(EnvError::Cancelled { recipe: recipe.to_owned() });
            }
        }
    };
    // What it left running in its group would keep the pipes open, and has no business to go on.
    group.kill();
    while let Ok(Some(line)) = tokio::time::timeout(DRAIN, said.recv()).await {
        say(line);
    }
    if status.success() {
        return Ok(());
    }
    Err(EnvError::Failed {
        recipe: recipe.to_owned(),
        status,
        last_lines: tail.into(),
    })
}

/// Holds the environment for this process, until it is dropped.
fn lock(folder: &Path) -> Result<File, EnvError> {
    let path = folder.join(".lock");
    let failed = |source| EnvError::Lock {
        lock: path.clone(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(EnvError::Busy {
            folder: folder.to_owned(),
            lock: path,
        }),
        Err(TryLockError::Error(e)) => Err(failed(e)),
    }
}

/// The process group of a running recipe; killed when dropped, unless that was done.
struct Group(Option<Pid>);

impl Group {
    /// The group of a child that was started in one of its own.
    fn of(child: &tokio::process::Child) -> Self {
        Self(
            child
                .id()
                .and_then(|pid| i32::try_from(pid).ok())
                .map(Pid::from_raw),
        )
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // An error means that no process is left in it.
            let _ = killpg(group, signal);
        }
    }

    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Sends a stream's lines, until it or the receiver ends. A progress bar's carriage returns end lines too.
async fn pump(mut stream: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut chunk = vec![0; 8192];
    let mut splitter = Splitter::default();
    while let Ok(bytes @ 1..) = stream.read(&mut chunk).await {
        for line in splitter.push(&chunk[..bytes]) {
            if lines.send(line).await.is_err() {
                return;
            }
        }
    }
    if let Some(rest) = splitter.finish() {
        let _ = lines.send(rest).await;
    }
}

/// Bytes to lines. Bytes that are not UTF-8 are shown as replacement characters; empty lines are dropped.
#[derive(Default)]
struct Splitter {
    held: Vec<u8>,
}

impl Splitter {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                lines.extend(self.finish());
            } else {
                self.held.push(byte);
                if self.held.len() == LINE_BYTES {
                    lines.extend(self.finish());
                }
            }
        }
        lines
    }

    fn finish(&mut self) -> Option<String> {
        let line = String::from_utf8_lossy(&self.held).trim_end().to_owned();
        self.held.clear();
        (!line.is_empty()).then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_that_a_recipe_names_have_a_remedy() {
        let said = |line: &str| diagnose(&[line.to_owned()]);
        assert!(
            said("error: No space left on device (os error 28)")
                .unwrap()
                .contains("make room")
        );
        assert!(said("  cause: dns error").unwrap().contains("network"));
        assert!(
            said("error: Hash mismatch for `vllm==0.15.1`")
                .unwrap()
                .contains("pinned")
        );
        assert_eq!(said("assertion failed"), None);
        let own = ["error: dns error", "hint: plug it in"].map(str::to_owned);
        assert_eq!(diagnose(&own), None, "the recipe's own hint is the better one");
    }

    #[test]
    fn lines_end_at_newlines_carriage_returns_and_the_limit() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.push(b"one\r\ntw"), ["one"]);
        assert_eq!(splitter.push(b"o\r50%\r\xff\n\n"), ["two", "50%", "\u{fffd}"]);
        let long = splitter.push(&vec![b'x'; LINE_BYTES * 2 + 5]);
        assert_eq!(
            long.iter().map(String::len).collect::<Vec<_>>(),
            [LINE_BYTES, LINE_BYTES]
        );
        assert_eq!(splitter.finish().as_deref(), Some("xxxxx"));
        assert_eq!(splitter.finish(), None);
    }
}
