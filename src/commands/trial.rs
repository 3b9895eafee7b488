//! Each lane's server once: started, asked one question, stopped, its GPU memory proven to be back. A run that measures
//! nothing, in a folder of its own, so that what a killed one leaves is found and cleared by the next.

use std::{fmt::Write as _, time::Duration};

use super::{load_plan, run};
use crate::{
    check::TRIALS,
    cli::Places,
    run::{EXIT_MACHINE, EXIT_OK, Failure, Purpose, RunOptions, redactor, short_duration},
};
use benchd_journal::{LaneOutcome, LaneState, RunDir, State};
use benchd_plan::{Assumptions, Lane, Pace, Plan};
use benchd_report::columns;

/// What the starts came to.
pub(super) struct Trial {
    /// For people.
    pub(super) text: String,
    /// benchd's exit code.
    pub(super) code: u8,
}

/// Starts each lane of the plan once.
///
/// # Errors
/// The machine is not fit (3), or the plan is wrong (2).
pub(super) fn start_each(
    plan_path: &std::path::Path,
    lanes: &[Lane],
    places: &Places,
) -> Result<Trial, Failure> {
    let loaded = load_plan(plan_path)?;
    let plan = loaded.plan.clone();
    let (results, logs) = (places.results.join(TRIALS), places.logs.join(TRIALS));
    let code = run::drive(RunOptions {
        redactor: redactor(&loaded),
        loaded,
        lanes: lanes.to_vec(),
        resume: Some(String::new()),
        results: results.clone(),
        logs: logs.clone(),
        selfcheck: false,
        skip_unfit: false,
        purpose: Purpose::Trial,
    })?;
    let dir = RunDir::find(&results, &logs, None)
        .map_err(|error| Failure::machine(format_args!("the starts can't be read: {error}")))?;
    let replay = benchd_journal::replay(&dir.journal()).map_err(Failure::machine)?;
    let state = State::from_entries(&replay.entries);
    let whole = lanes
        .iter()
        .all(|lane| outcome(&state, lane) == Some(LaneOutcome::Finished));
    Ok(Trial {
        text: told(&plan, lanes, &state, &dir),
        code: match code {
            code if code >= EXIT_MACHINE => code,
            _ if whole => EXIT_OK,
            _ => EXIT_MACHINE,
        },
    })
}

fn outcome(state: &State, lane: &Lane) -> Option<LaneOutcome> {
    Some(state.lanes.get(&lane.id)?.ended.as_ref()?.outcome)
}

fn told(plan: &Plan, lanes: &[Lane], state: &State, dir: &RunDir) -> String {
    let rows = lanes.iter().map(|lane| {
        let name = format!("{} / {}", lane.id.framework, lane.id.model);
        let known = state.lanes.get(&lane.id);
        match (outcome(state, lane), known) {
            (Some(LaneOutcome::Finished), Some(known)) => {
                [name, ready_after(known), memory(known), stopped(known)]
            }
            (_, known) => {
                let reason = known
                    .and_then(|known| known.ended.as_ref()?.reason.clone())
                    .unwrap_or_else(|| "not started".to_owned());
                let first = reason.lines().next().unwrap_or_default().to_owned();
                [name, "failed".to_owned(), first, String::new()]
            }
        }
    });
    let mut text = format!("each server once ({}):\n", dir.root().display());
    for line in columns(rows, |_| false).lines() {
        let _ = writeln!(text, "  {}", line.trim_end());
    }
    text.push_str(&night(plan, lanes, state));
    text
}

/// How long it took from the launch to an answer.
fn ready_after(lane: &LaneState) -> String {
    match lane.ready() {
        Some(ready) => format!(
            "answered after {}",
            short_duration(Duration::from_millis(ready.ready_ms))
        ),
        None => String::new(),
    }
}

fn memory(lane: &LaneState) -> String {
    let Some(ready) = lane.ready() else {
        return String::new();
    };
    let mut parts = Vec::new();
    let load = ready.load.as_ref();
    for (what, bytes) in [
        ("weights", load.and_then(|load| load.weights_bytes)),
        ("KV cache", load.and_then(|load| load.kv_cache_bytes)),
        ("GPU in all", ready.gpu_used_bytes),
    ] {
        parts.extend(bytes.map(|bytes| format!("{what} {}", gib(bytes))));
    }
    parts.join(", ")
}

fn stopped(lane: &LaneState) -> String {
    let Some(server) = lane.servers.last() else {
        return String::new();
    };
    match &server.released {
        Some(released) => format!(
            "memory back {} after its end",
            short_duration(Duration::from_millis(released.release_ms))
        ),
        None if server.reaped.is_some() => "ended".to_owned(),
        None => String::new(),
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64)
}

/// What the run will need, now that the starts are known.
fn night(plan: &Plan, lanes: &[Lane], state: &State) -> String {
    let measured = |framework: &benchd_plan::Framework| -> Option<Duration> {
        let of_it = state
            .lanes
            .iter()
            .filter(|(id, _)| id.framework == framework.name);
        let starts = of_it.filter_map(|(_, lane)| Some(lane.ready()?.ready_ms));
        starts.max().map(Duration::from_millis)
    };
    let estimate = benchd_plan::estimate(plan, lanes, &Assumptions::default(), |framework| {
        let pace = benchd_frameworks::pace(framework);
        Pace {
            start: measured(framework).unwrap_or(pace.start),
            ..pace
        }
    });
    let used = state
        .lanes
        .values()
        .filter_map(|lane| lane.ready()?.gpu_used_bytes)
        .max();
    let used = used
        .map(|bytes| format!(", at most {} of GPU memory when a server is ready", gib(bytes)))
        .unwrap_or_default();
    format!(
        "the run will take about {}{used}\n",
        short_duration(estimate.total)
    )
}
