//! What must hold before a lane's server is started: its environment is there, and the GPU is its own.

use std::time::Duration;

use super::{Tone, lane::Shared, lane_end::LaneEnd, lanes::say};
use crate::{
    check::gpu::name_processes,
    env::{self, EnvError, Missing},
};
use benchd_host::gpu::GpuError;
use benchd_plan::{Framework, Model, Provision};

/// What is missing on disk is made where the plan says so; else the lane fails with the command that makes it.
pub(super) async fn ensure_environment(
    shared: &Shared<'_>,
    framework: &Framework,
    model: &Model,
) -> Result<(), LaneEnd> {
    let missing: Vec<Missing> = env::missing(framework)
        .into_iter()
        .chain(env::missing_of_model(framework, model))
        .collect();
    let recipes = env::recipes(&missing);
    let hints = |missing: &[Missing]| {
        let lines: Vec<String> = missing
            .iter()
            .map(|m| format!("{m}\n  hint: {}", m.hint(shared.plan_path)))
            .collect();
        LaneEnd::failed("prepare", lines.join("\n"))
    };
    if missing.iter().any(|m| m.recipe.is_none())
        || (!recipes.is_empty() && framework.provision != Provision::Auto)
    {
        return Err(hints(&missing));
    }
    for recipe in recipes {
        say(
            shared.display,
            Tone::Plain,
            &format!("  making what is missing: {}", recipe.display()),
        );
        let progress = |line: &str| {
            tracing::info!(target: "benchd::env", "{line}");
            shared.display.status(format!("  {line}"));
        };
        let made = env::provision(&recipe, shared.signals.clean(), progress);
        match shared.heart().during(PROVISION_LIMIT, made).await {
            Ok(()) => {}
            Err(EnvError::Cancelled { .. }) => return Err(LaneEnd::interrupted()),
            Err(error) => return Err(LaneEnd::failed("prepare", error.to_string())),
        }
    }
    let still: Vec<Missing> = env::missing(framework)
        .into_iter()
        .chain(env::missing_of_model(framework, model))
        .collect();
    if still.is_empty() {
        Ok(())
    } else {
        Err(hints(&still))
    }
}

/// The longest that making an environment may take: packages and a model of a hundred GB over a slow line.
const PROVISION_LIMIT: Duration = Duration::from_secs(12 * 3600);

/// Other processes on the GPU are named and, where the plan wants it for itself, refused.
pub(super) async fn ensure_alone(shared: &Shared<'_>) -> Result<(), LaneEnd> {
    let found = match shared.run.gpu.processes().await {
        Ok(found) => found,
        Err(error @ GpuError::Lost { .. }) => return Err(LaneEnd::gpu_lost("prepare", error)),
        Err(error) => {
            return Err(LaneEnd::machine(
                "prepare",
                format!("whether the GPU is idle can't be told: {error}"),
            ));
        }
    };
    if found.is_empty() {
        return Ok(());
    }
    let named = name_processes(&found);
    if shared.plan.host.exclusive {
        return Err(LaneEnd::machine(
            "prepare",
            format!(
                "the GPU is not idle: {named}\n  hint: end these processes, or set `host.exclusive: false`"
            ),
        ));
    }
    say(
        shared.display,
        Tone::Warn,
        &format!("note  also on the GPU: {named}"),
    );
    Ok(())
}
