//! GPU memory that the simulated server says it holds, for the fake NVML of the tests.
//!
//! With `--gpu-bytes N` a file `$FAKE_NVML_STATE.d/<pid>.json` is written at the start:
//!
//! ```json
//! {"pid":123,"used_bytes":1073741824,"device":0,"start_ticks":4567,"release_delay_ms":0}
//! ```
//!
//! `start_ticks` is the process's start time (field 22 of `/proc/PID/stat`), so that a reader can tell whether the
//! process still lives. At the exit the file is removed, at once or by a helper in a session of its own after
//! `--gpu-release-delay`; `"release_delay_ms":null` and no removal for `never`. A process that is killed removes
//! nothing: the reader then counts the delay from when it first sees the process dead.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use super::args::{Args, ReleaseDelay};
use super::children;
use super::error::SimError;

/// The role of the child that removes the file later.
pub(super) const RELEASER: &str = "release";

/// The file that says what is held.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
}

/// Says what is held, if anything is.
pub(super) fn hold(args: &Args) -> Result<Option<Held>, SimError> {
    let Some(used_bytes) = args.gpu_bytes else {
        return Ok(None);
    };
    let state = std::env::var_os("FAKE_NVML_STATE").ok_or(SimError::NoGpuState)?;
    let mut folder = state;
    folder.push(".d");
    let folder = PathBuf::from(folder);
    let pid = std::process::id();
    let path = folder.join(format!("{pid}.json"));
    let failed = |source| SimError::GpuState {
        path: path.clone(),
        source,
    };
    let delay_ms = match args.gpu_release_delay {
        ReleaseDelay::After(delay) => Some(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        ReleaseDelay::Never => None,
    };
    let value = json!({
        "pid": pid,
        "used_bytes": used_bytes,
        "device": 0,
        "start_ticks": start_ticks(),
        "release_delay_ms": delay_ms,
    });
    std::fs::create_dir_all(&folder).map_err(failed)?;
    // Renamed into place: a reader never sees half of it.
    let draft = folder.join(format!(".{pid}.tmp"));
    std::fs::write(&draft, value.to_string()).map_err(failed)?;
    std::fs::rename(&draft, &path).map_err(failed)?;
    Ok(Some(Held { path }))
}

fn start_ticks() -> Option<u64> {
    procfs::process::Process::myself()
        .and_then(|p| p.stat())
        .map(|s| s.starttime)
        .ok()
}

/// Says that it is held no more, now or later.
pub(super) fn release(held: Option<Held>, args: &Args) -> Result<(), SimError> {
    let Some(held) = held else { return Ok(()) };
    match args.gpu_release_delay {
        ReleaseDelay::Never => Ok(()),
        ReleaseDelay::After(delay) if delay.is_zero() => remove(&held.path),
        ReleaseDelay::After(delay) => spawn_releaser(&held.path, delay),
    }
}

/// Removes the file; that it is gone already is fine.
fn remove(path: &Path) -> Result<(), SimError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(SimError::GpuState {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

/// Starts the helper that removes the file of the fake GPU later. It belongs to nobody's run any more: own session,
/// no output, and without the token by which a run knows its processes.
fn spawn_releaser(path: &Path, delay: Duration) -> Result<(), SimError> {
    let mut command = children::child(RELEASER)?;
    command
        .env("BENCHD_SIM_RELEASE", path)
        .env("BENCHD_SIM_RELEASE_MS", delay.as_millis().to_string())
        .env_remove("BENCHD_TOKEN")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn()?;
    Ok(())
}

/// Runs as the child that removes the file.
pub(super) fn release_as_child() -> Result<(), SimError> {
    children::own_session()?;
    let (Some(path), Ok(ms)) = (
        std::env::var_os("BENCHD_SIM_RELEASE"),
        std::env::var("BENCHD_SIM_RELEASE_MS").map(|ms| ms.parse().unwrap_or(0)),
    ) else {
        return Err(SimError::NoGpuState);
    };
    std::thread::sleep(Duration::from_millis(ms));
    remove(Path::new(&path))
}
