//! How a framework's knowledge becomes what the server room needs to launch it and to tell that it answers.

use std::path::PathBuf;

use super::attempt::LaneAttempt;
use crate::server::{ReadyPlan, ServerSettings};
use benchd_core::record::{DoneWhen, REDACTED, Step};
use benchd_frameworks::Launch;
use benchd_host::process::{LogSettings, StopPolicy};
use benchd_plan::Secrets;

/// How often an answer that no waiting mends is asked for again before the lane fails.
const READY_TRIES: u32 = 3;

pub(super) fn server_settings(
    attempt: &LaneAttempt<'_>,
    launch: Launch,
    log: LogSettings,
    delegated_cgroup: Option<PathBuf>,
    secrets: &Secrets,
) -> ServerSettings {
    let lane = &attempt.lane.id;
    let mut shown = launch.redacted();
    // Filled in from benchd's own environment, whatever their names.
    for (name, value) in &mut shown.env {
        if secrets.is_secret_env(&lane.framework, name) {
            REDACTED.clone_into(value);
        }
    }
    ServerSettings {
        lane: lane.clone(),
        launch,
        shown_argv: shown.argv(),
        shown_env: shown.env,
        requirements: attempt.adapter.requirements(),
        start_timeout: attempt.framework.start_timeout,
        stop: StopPolicy::with_grace(attempt.framework.stop_grace),
        log,
        delegated_cgroup,
    }
}

/// How to tell that it answers; `steps` come before the first completion.
pub(super) fn ready_plan(attempt: &LaneAttempt<'_>, steps: Vec<Step>) -> ReadyPlan {
    let health = attempt.adapter.health();
    ReadyPlan {
        health: health.call,
        health_done: DoneWhen::ok(),
        interval: health.interval,
        probe_timeout: health.timeout,
        steps,
        completion_timeout: attempt.request.timeout,
        completion_tries: READY_TRIES,
        expected_models: vec![attempt.adapter.served_model().to_owned()],
    }
}
