//! What must hold before a lane's server is started: its environment is there, and the GPU is its own.

use std::{path::Path, time::Duration};

use super::{
    display::Display,
    lane_end::LaneEnd,
    lines::{Line, Status},
    signals::Signals,
    strangers::{Waited, wait_alone},
};
use crate::{
    check::{attached, gpu::name_processes},
    env::{self, EnvError, Missing},
};
use benchd_core::record::GpuProcess;
use benchd_host::gpu::{Gpu, GpuError};
use benchd_plan::{Framework, Model, Plan, Provision};

/// The longest that making an environment may take: packages and a model of a hundred GB over a slow line.
const PROVISION_LIMIT: Duration = Duration::from_secs(12 * 3600);

/// What is missing on disk is made where the plan says so; else the lane fails with the command that makes it.
pub(super) async fn ensure_environment(
    framework: &Framework,
    model: &Model,
    plan_path: &Path,
    signals: &Signals,
    display: &Display,
) -> Result<(), LaneEnd> {
    let look = || -> Vec<Missing> {
        let of_model = env::missing_of_model(framework, model);
        env::missing(framework).into_iter().chain(of_model).collect()
    };
    let hints = |missing: &[Missing]| {
        let lines: Vec<String> = missing
            .iter()
            .map(|m| format!("{m}\n  hint: {}", m.hint(plan_path)))
            .collect();
        LaneEnd::failed("prepare", lines.join("\n"))
    };
    let missing = look();
    let recipes = env::recipes(&missing);
    if missing.iter().any(|m| m.recipe.is_none())
        || (!recipes.is_empty() && framework.provision != Provision::Auto)
    {
        return Err(hints(&missing));
    }
    for recipe in recipes {
        display.say(&Line::Provisioning(&recipe));
        let progress = |line: &str| {
            tracing::info!(target: "benchd::env", "{line}");
            display.status(&Status::Provisioning(line));
        };
        let made = env::provision(&recipe, signals.clean(), progress);
        match display.watchdog().wait(PROVISION_LIMIT, made).await {
            Ok(()) => {}
            Err(EnvError::Cancelled { .. }) => return Err(LaneEnd::interrupted()),
            Err(error) => return Err(LaneEnd::failed("prepare", error.to_string())),
        }
    }
    let still = look();
    if still.is_empty() {
        Ok(())
    } else {
        Err(hints(&still))
    }
}

/// Other processes on the GPU are named and, where the plan wants it for itself, waited for to leave. Servers behind the
/// plan's URLs, and `known` from the start of the run, may stay.
pub(super) async fn ensure_alone(
    gpu: &Gpu,
    plan: &Plan,
    known: &[GpuProcess],
    signals: &Signals,
    display: &Display,
) -> Result<(), LaneEnd> {
    let look = async || match gpu.processes().await {
        Ok(found) => Ok(found),
        Err(error @ GpuError::Lost { .. }) => Err(LaneEnd::gpu_lost("prepare", error)),
        Err(error) => Err(LaneEnd::machine(
            "prepare",
            format!("whether the GPU is idle can't be told: {error}"),
        )),
    };
    let host = &plan.host;
    if !host.exclusive {
        let found = look().await?;
        if !found.is_empty() {
            display.say(&Line::AlsoOnGpu(&name_processes(&found)));
        }
        return Ok(());
    }
    let others = async || {
        let mut found = look().await?;
        found.retain(|process| {
            known
                .iter()
                .all(|k| (k.device, k.pid) != (process.device, process.pid))
        });
        Ok(attached::others(plan, &found).0)
    };
    let stop = async {
        signals.clean().cancelled().await;
        LaneEnd::interrupted()
    };
    match wait_alone(host.stranger_wait, others, stop, display).await {
        Waited::Alone => Ok(()),
        Waited::Still(strangers) => Err(LaneEnd::busy("prepare", strangers)),
        Waited::Stopped(end) => Err(end),
    }
}
