//! `benchd env`: makes the environments that a plan names.

use anyhow::{Context, anyhow};

use super::{CommandResult, DONE, Failure, load_plan};
use crate::{cli::EnvArgs, env, supervisor::Signals};

/// Makes what is missing, one recipe after another; does nothing where all is there.
///
/// # Errors
/// When the plan is wrong (2), there is no recipe for something, or a recipe fails (3).
pub fn run(args: EnvArgs) -> CommandResult {
    let loaded = load_plan(&args.plan)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't be started")?;
    runtime.block_on(async {
        let signals = Signals::listen().context("signal handlers can't be installed")?;
        for recipe in env::recipes(&env::missing_of_plan(&loaded.plan)) {
            eprintln!("{}", recipe.display());
            env::provision(&recipe, signals.clean(), |line| eprintln!("  {line}"))
                .await
                .map_err(|e| Failure::machine(anyhow::Error::from(e)))?;
        }
        Ok::<_, Failure>(())
    })?;
    let still = env::missing_of_plan(&loaded.plan);
    if still.is_empty() {
        eprintln!("everything that {} names is there", args.plan.display());
        return DONE;
    }
    let lines: Vec<String> = still
        .iter()
        .map(|m| format!("{m}\n  hint: {}", m.hint(&args.plan)))
        .collect();
    Err(Failure::machine(anyhow!("{}", lines.join("\n"))))
}
