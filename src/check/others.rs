//! Others: who holds a port or the GPU's lock, runs that are under way, what dead ones left; and systemd's unit.

use std::path::{Path, PathBuf};

use super::finding::{Area, Finding};
use benchd_host::process::{self, Lock, LockError, PortTaken, Witnesses};
use benchd_journal::{self, RunDir, RunInfo, RunState, State};
use benchd_plan::{Framework, Source};

const UNIT: &str = include_str!("../../systemd/benchd@.service");

const UNIT_NAME: &str = "benchd@.service";

/// Where systemd looks for units, the first first.
const UNIT_FOLDERS: [&str; 4] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
];

/// Newest runs that are looked at: what an older one left is long gone, or known.
const RUNS: usize = 20;

/// Who holds the lock of each GPU.
pub(super) fn locks(uuids: &[String]) -> Vec<Finding> {
    uuids
        .iter()
        .filter_map(|uuid| match Lock::gpu_holder(uuid) {
            Ok(None) => None,
            Ok(Some(holder)) => {
                let held = LockError::Held {
                    what: format!("GPU {uuid}"),
                    holder,
                };
                let text = held.to_string();
                let (text, hint) = text.split_once("\n  hint: ").unwrap_or((&text, "wait for it"));
                Some(Finding::stop(Area::Run, text, hint))
            }
            Err(error) => Some(Finding::stop(
                Area::Run,
                error.to_string(),
                "may this user read it? another user's benchd may have made it",
            )),
        })
        .collect()
}

/// Whether each server's port is free.
pub(super) fn ports(used: &[&Framework]) -> Vec<Finding> {
    let mut seen: Vec<(&str, u16)> = Vec::new();
    let mut findings = Vec::new();
    for framework in used {
        let place = (framework.host.as_str(), framework.port);
        if matches!(framework.source, Source::Url(_)) || seen.contains(&place) {
            continue;
        }
        seen.push(place);
        if let Err(taken) = process::port_is_free(&framework.host, framework.port) {
            let remedy = match &taken {
                PortTaken::Held { holders, .. } if !holders.is_empty() => {
                    "end that process, or give the framework another `port`".to_owned()
                }
                _ => "end it, or give the framework another `port`".to_owned(),
            };
            findings.push(Finding::lose(
                Area::Port,
                format!("{}: {taken}", framework.name),
                remedy,
            ));
        }
    }
    if findings.is_empty() && !seen.is_empty() {
        let ports: Vec<String> = seen.iter().map(|(_, port)| port.to_string()).collect();
        findings.push(Finding::ok(Area::Port, format!("free: {}", ports.join(", "))));
    }
    findings
}

/// Runs that are under way, that died, and what those left running. `resume` is the command that goes on with one.
pub(super) fn runs(results: &Path, logs: &Path, plan_name: &str, resume: &str) -> Vec<Finding> {
    let runs = match RunDir::list(results, logs) {
        Ok(runs) => runs,
        Err(error) => {
            return vec![Finding::warn(
                Area::Run,
                format!("earlier runs can't be looked at: {error}"),
                "is --results the right folder?",
            )];
        }
    };
    let mut findings = Vec::new();
    let mut newest_of_plan = true;
    for run in runs.iter().take(RUNS) {
        let unfinished = RunInfo::read(&run.run_json()).map_or(true, |info| info.state != RunState::Finished);
        if !unfinished {
            newest_of_plan &= !run.is_named_for(plan_name);
            continue;
        }
        let Ok(replay) = benchd_journal::replay(&run.journal()) else {
            findings.push(Finding::warn(
                Area::Run,
                format!("the journal of run {} can't be read", run.id()),
                format!("look at {}", run.journal().display()),
            ));
            continue;
        };
        let state = State::from_entries(&replay.entries);
        let mine = state.plan == plan_name;
        findings.extend(one_run(run, &state, mine && newest_of_plan, resume));
        newest_of_plan &= !mine;
    }
    findings
}

/// `resumable`: whether `resume` would go on with this very run.
fn one_run(run: &RunDir, state: &State, resumable: bool, resume: &str) -> Vec<Finding> {
    let id = run.id();
    if state.is_open() && is_alive(state) {
        return vec![Finding::warn(
            Area::Run,
            format!(
                "run {id} is under way (pid {}): both would disturb each other",
                state.pid
            ),
            "wait for it (benchd status), or stop it",
        )];
    }
    let left: Vec<String> = state
        .open_servers()
        .flat_map(|(_, server)| {
            let witnesses = Witnesses {
                boot_id: Some(server.boot_id.clone()),
                token: Some(server.token.clone()),
                leader: server.leader.clone(),
                members: server.descendants.clone(),
                output_pipes: server.output_pipes.clone(),
                cgroup: None,
            };
            process::leftovers(&witnesses).ours
        })
        .map(|left| process::describe(left.identity.pid).to_string())
        .collect();
    let mut findings = Vec::new();
    if !left.is_empty() {
        let remedy = if resumable {
            format!("{resume} clears it and goes on, or end these processes")
        } else {
            "end these processes".to_owned()
        };
        findings.push(Finding::lose(
            Area::Run,
            format!("run {id} died and left running: {}", left.join(", ")),
            remedy,
        ));
    }
    if resumable && !state.is_finished() {
        findings.push(Finding::note(
            Area::Run,
            format!(
                "run {id} of this plan is unfinished ({} of {} cells): `{resume}` goes on with it",
                state.cells_finished(),
                state.cells_planned()
            ),
        ));
    }
    findings
}

/// Whether the process that ran it is there still.
fn is_alive(state: &State) -> bool {
    process::boot_id().is_some_and(|boot| boot == state.boot_id)
        && std::fs::read_to_string(format!("/proc/{}/comm", state.pid))
            .is_ok_and(|comm| comm.trim() == "benchd")
}

/// systemd's unit, on a machine that systemd runs. `root` is the file system's root.
pub(super) fn systemd(root: &Path) -> Option<Finding> {
    if !root.join("run/systemd/system").is_dir() {
        return None;
    }
    let found: Option<PathBuf> = UNIT_FOLDERS
        .iter()
        .map(|folder| root.join(folder).join(UNIT_NAME))
        .find(|path| path.is_file());
    Some(match found {
        None => Finding::note(
            Area::Systemd,
            format!(
                "{UNIT_NAME} is not installed: a run started by hand does not go on after a reboot (docs/systemd.md)"
            ),
        ),
        Some(path) => match std::fs::read_to_string(&path) {
            Ok(text) if text == UNIT => Finding::ok(Area::Systemd, format!("{} is in place", path.display())),
            Ok(_) => Finding::warn(
                Area::Systemd,
                format!("{} is not the one of this benchd", path.display()),
                "copy systemd/benchd@.service there, then systemctl daemon-reload; changes of your own belong into \
                 `systemctl edit`",
            ),
            Err(error) => Finding::warn(
                Area::Systemd,
                format!("{} can't be read: {error}", path.display()),
                "may this user read it?",
            ),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Severity;

    #[test]
    fn the_unit_is_looked_for_where_systemd_runs() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(systemd(root.path()), None, "no systemd, no unit");
        std::fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        assert_eq!(systemd(root.path()).unwrap().severity, Severity::Note);
        let folder = root.path().join("etc/systemd/system");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(UNIT_NAME), "[Service]\nExecStart=/bin/true\n").unwrap();
        assert_eq!(systemd(root.path()).unwrap().severity, Severity::Warn);
        std::fs::write(folder.join(UNIT_NAME), UNIT).unwrap();
        assert_eq!(systemd(root.path()).unwrap().severity, Severity::Ok);
    }
}
