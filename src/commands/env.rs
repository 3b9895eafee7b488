//! `benchd env`: makes the environments that a plan names.

use anyhow::anyhow;

use super::{CommandResult, DONE, Failure, load_plan};
use crate::{cli::EnvArgs, env};

/// Makes what is missing, one environment after another.
///
/// # Errors
/// When the plan is wrong, there is no recipe for something, or a recipe fails.
pub fn run(args: EnvArgs) -> CommandResult {
    let loaded = load_plan(&args.plan)?;
    let mut without_recipe = Vec::new();
    for framework in loaded.plan.frameworks.values() {
        let Some(missing) = env::missing(framework) else {
            eprintln!("{}: there", framework.name);
            continue;
        };
        let Some(recipe) = &missing.recipe else {
            without_recipe.push(format!("{}: {} is missing, and there is no recipe for it", framework.name, missing.path.display()));
            continue;
        };
        eprintln!("{}: {} is missing; running {}", framework.name, missing.path.display(), recipe.display());
        env::provision(recipe, &mut |line| eprintln!("  {line}")).map_err(|e| Failure::machine(anyhow::Error::from(e)))?;
    }
    if without_recipe.is_empty() {
        return DONE;
    }
    Err(Failure::machine(anyhow!(
        "{}\n  hint: make it by hand, or put an executable `setup.sh` into its folder under envs/",
        without_recipe.join("\n")
    )))
}
