//! Where an environment and its recipe lie.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use benchd_plan::{Framework, Source};

const ENVS: &str = "envs";

const RECIPE: &str = "setup.sh";

/// Where a framework's program or venv lies; `None` for a server that someone else runs.
pub(super) fn program_or_venv(framework: &Framework) -> Option<PathBuf> {
    match &framework.source {
        Source::Venv(path) | Source::Binary(path) => Some(path.clone()),
        Source::Command { command, .. } => Some(PathBuf::from(command.first()?)),
        Source::Url(_) => None,
    }
}

/// The environment that a path lies in: the folder right below one named `envs`.
pub(crate) fn environment_of(path: &Path) -> Option<PathBuf> {
    let environment = path.ancestors().find(|folder| {
        folder
            .parent()
            .and_then(Path::file_name)
            .is_some_and(|name| name == ENVS)
    })?;
    Some(environment.to_owned())
}

/// The recipe of the environment that a path lies in, where there is one that may be run.
pub(crate) fn recipe_for(path: &Path) -> Option<PathBuf> {
    let recipe = environment_of(path)?.join(RECIPE);
    is_executable(&recipe).then_some(recipe)
}

pub(super) fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}
