//! Making environments: what of a plan is not on disk, and the recipe that makes it.
//!
//! An environment is a folder `envs/<name>/` with a recipe that makes everything else in it: an executable `setup.sh`.
//! A recipe may be run at any time, and leaves nothing half-made.
//!
//! - `folder`: where an environment and its recipe lie.
//! - `provision`: running a recipe.
//! - `record`: what was installed, beside it and for the run.
//! - `models`: fetching models.
//! - `vocabulary`: fetching what lanes would fetch when they start.
//! - `venv`: what a venv holds, read from its files.

mod folder;
mod models;
mod provision;
mod record;
mod venv;
mod vocabulary;

use std::path::{Path, PathBuf};

pub(crate) use folder::{environment_of, recipe_for};
pub(crate) use models::{fetch, models_missing, models_to_fetch};
pub use provision::{EnvError, provision};
pub(crate) use record::{describe, installed, is_current};
pub(crate) use venv::{Venv, is_half_made, is_version};
pub(crate) use vocabulary::{fetch_vocabulary, vocabularies_missing};

use benchd_frameworks::kind;
use benchd_plan::{Framework, Model, Plan, Source};
use folder::{is_executable, program_or_venv};

/// Something that a plan needs and that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Missing {
    /// What it is for, as the plan names it: `frameworks.vllm`, `models.smollm2-135m`.
    pub(crate) what: String,
    pub(crate) path: PathBuf,
    /// The recipe that makes it, where there is one.
    pub(crate) recipe: Option<PathBuf>,
    pub(crate) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    Absent,
    NotExecutable,
    /// Its recipe was ended on the way.
    HalfMade,
    /// A venv whose Python is gone: removed, or replaced by another.
    PythonGone,
}

impl Missing {
    pub(crate) fn hint(&self, plan: &Path) -> String {
        match &self.recipe {
            Some(_) => format!("make it: benchd env {}", plan.display()),
            None if self.why == Why::NotExecutable => format!("chmod +x {}", self.path.display()),
            None => format!("install it there, or correct {} in {}", self.what, plan.display()),
        }
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wrong = match self.why {
            Why::Absent => "is not there",
            Why::NotExecutable => "is not executable",
            Why::HalfMade => "lies in an environment that is half-made: making it was ended on the way",
            Why::PythonGone => "belongs to a Python that is gone",
        };
        write!(f, "{}: {} {wrong}", self.what, self.path.display())
    }
}

/// What is missing of a framework: its venv's program or its binary. A program that is looked for on the path,
/// and a server that someone else runs, are never missing here.
pub(crate) fn missing(framework: &Framework) -> Option<Missing> {
    let path = match &framework.source {
        Source::Venv(folder) => folder.join(kind(framework.kind).venv_program?),
        Source::Binary(path) => path.clone(),
        Source::Command { command, .. } => PathBuf::from(command.first()?),
        Source::Url(_) => return None,
    };
    let looked_for_on_path = path.components().count() == 1;
    if looked_for_on_path {
        return None;
    }
    let why = match &framework.source {
        Source::Venv(folder) if is_half_made(folder) => Why::HalfMade,
        Source::Venv(folder) if is_dangling(&folder.join("bin/python3")) => Why::PythonGone,
        _ if is_executable(&path) => return None,
        _ if path.is_file() => Why::NotExecutable,
        _ => Why::Absent,
    };
    Some(Missing {
        what: format!("frameworks.{}", framework.name),
        recipe: recipe_for(&path),
        path,
        why,
    })
}

/// Whether it is a link to something that is not there.
fn is_dangling(path: &Path) -> bool {
    path.is_symlink() && !path.exists()
}

/// What is missing of a model for this framework: the tokenizer file, and the GGUF where the framework is one that
/// reads it (Ollama imports it, a command may name it as `{gguf}`).
pub(crate) fn missing_of_model(framework: &Framework, model: &Model) -> Vec<Missing> {
    let reads_gguf = (kind(framework.kind).reads_gguf)(framework);
    [
        model.gguf.as_ref().filter(|_| reads_gguf),
        model.tokenizer.as_ref(),
    ]
    .into_iter()
    .flatten()
    .filter(|path| !path.is_file())
    .map(|path| Missing {
        what: format!("models.{}", model.name),
        recipe: recipe_for(path),
        path: path.clone(),
        why: Why::Absent,
    })
    .collect()
}

/// The models' files that these frameworks miss, each once, with the first framework that does.
pub(crate) fn missing_of_models<'a>(
    plan: &Plan,
    frameworks: impl IntoIterator<Item = &'a Framework>,
) -> Vec<(&'a Framework, Missing)> {
    let mut all: Vec<(&Framework, Missing)> = Vec::new();
    for framework in frameworks {
        let models = plan.models.values();
        let served = models.filter(|model| model.left_out(framework).is_none());
        for missing in served.flat_map(|model| missing_of_model(framework, model)) {
            if !all.iter().any(|(_, known)| known.path == missing.path) {
                all.push((framework, missing));
            }
        }
    }
    all
}

/// Each framework with each model that it serves; without servers that someone else runs.
fn served(plan: &Plan) -> impl Iterator<Item = (&Framework, &Model)> {
    plan.frameworks
        .values()
        .filter(|framework| !matches!(framework.source, Source::Url(_)))
        .flat_map(|framework| plan.models.values().map(move |model| (framework, model)))
        .filter(|(framework, model)| model.left_out(framework).is_none())
}

/// What is missing of a whole plan, frameworks first.
pub(crate) fn missing_of_plan(plan: &Plan) -> Vec<Missing> {
    let files = missing_of_models(plan, plan.frameworks.values());
    let frameworks = plan.frameworks.values().filter_map(missing);
    frameworks
        .chain(files.into_iter().map(|(_, missing)| missing))
        .collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToMake {
    pub(crate) recipe: PathBuf,
    pub(crate) why: String,
}

/// The environments of a plan that are to be made, or made anew, each once: something is missing in them, or they were
/// made by another recipe than the one that is there now.
pub(crate) fn to_make(plan: &Plan) -> Vec<ToMake> {
    let mut all: Vec<ToMake> = Vec::new();
    let mut add = |recipe: PathBuf, why: String| {
        if !all.iter().any(|known| known.recipe == recipe) {
            all.push(ToMake { recipe, why });
        }
    };
    for missing in missing_of_plan(plan) {
        let why = missing.to_string();
        if let Some(recipe) = missing.recipe {
            add(recipe, why);
        }
    }
    for framework in plan.frameworks.values() {
        if let Some(unfit) = unfit(framework) {
            add(unfit.recipe, unfit.why);
        }
        let Some(path) = program_or_venv(framework) else {
            continue;
        };
        let Some((environment, recipe)) = environment_of(&path).zip(recipe_for(&path)) else {
            continue;
        };
        if is_current(&environment) == Some(false) {
            add(recipe, "its recipe has changed".to_owned());
        }
    }
    all
}

/// A venv that is there and is not what its recipe makes.
struct Unfit {
    recipe: PathBuf,
    why: String,
}

fn unfit(framework: &Framework) -> Option<Unfit> {
    let Source::Venv(folder) = &framework.source else {
        return None;
    };
    let recipe = recipe_for(folder)?;
    if missing(framework).is_some() {
        return None;
    }
    let kind = framework.kind.as_str();
    let shown = folder.display();
    let recorded = environment_of(folder)
        .and_then(|environment| installed(&environment))
        .and_then(|record| record.environment.python);
    let why = match Venv::read(folder) {
        Err(error) => format!("{shown} is no venv: {error}"),
        Ok(venv) if venv.version(kind).is_none() => format!("{kind} is not installed in {shown}"),
        Ok(venv) => match (recorded, venv.python) {
            (Some(was), Some(is)) if was != is => {
                format!("{shown} was made with Python {was}, and is of Python {is} now")
            }
            _ => return None,
        },
    };
    Some(Unfit { recipe, why })
}

/// Venvs that are there and are not what their recipes make, in words.
pub(crate) fn venvs_unfit(plan: &Plan) -> Vec<String> {
    plan.frameworks
        .values()
        .filter_map(|framework| {
            Some(format!(
                "frameworks.{}: {}",
                framework.name,
                unfit(framework)?.why
            ))
        })
        .collect()
}

/// Frameworks whose venv or release is of another version than the plan pins, in words.
pub(crate) fn of_other_versions(plan: &Plan) -> Vec<String> {
    plan.frameworks
        .values()
        .filter_map(|framework| {
            let wanted = framework.version.as_deref()?;
            let found = describe(framework)?.version?;
            (!is_version(&found, wanted)).then(|| {
                format!(
                    "frameworks.{}: {found} is installed, the plan says {wanted}",
                    framework.name
                )
            })
        })
        .collect()
}

/// The recipes that make what is missing, each once, in order.
pub(crate) fn recipes(missing: &[Missing]) -> Vec<PathBuf> {
    let mut recipes: Vec<PathBuf> = Vec::new();
    for recipe in missing.iter().filter_map(|m| m.recipe.as_ref()) {
        if !recipes.contains(recipe) {
            recipes.push(recipe.clone());
        }
    }
    recipes
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, time::Duration};

    use super::*;
    use benchd_plan::{FrameworkKind, Provision};

    fn framework(kind: FrameworkKind, source: Source) -> Framework {
        Framework {
            name: "fw".to_owned(),
            kind,
            version: None,
            source,
            host: "127.0.0.1".to_owned(),
            port: 8000,
            args: Vec::new(),
            env: BTreeMap::new(),
            scenarios: None,
            start_timeout: Duration::from_secs(1),
            stop_grace: Duration::from_secs(1),
            release_timeout: Duration::from_secs(1),
            release_tolerance_bytes: 0,
            retries: 0,
            provision: Provision::Auto,
        }
    }

    fn put(path: &Path, mode: u32) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_missing_venv_has_the_recipe_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let environment = dir.path().join("envs/vllm");
        let fw = framework(FrameworkKind::Vllm, Source::Venv(environment.join(".venv")));
        let without = missing(&fw).unwrap();
        assert_eq!(without.recipe, None);
        assert!(without.hint(Path::new("p.yaml")).contains("frameworks.fw"));

        put(&environment.join("setup.sh"), 0o644);
        assert_eq!(
            missing(&fw).unwrap().recipe,
            None,
            "a file that can't be run is no recipe"
        );
        put(&environment.join("setup.sh"), 0o755);
        let with = missing(&fw).unwrap();
        assert_eq!(with.recipe, Some(environment.join("setup.sh")));
        assert_eq!(with.path, environment.join(".venv/bin/vllm"));
        assert_eq!(with.hint(Path::new("p.yaml")), "make it: benchd env p.yaml");

        put(&environment.join(".venv/bin/vllm"), 0o755);
        assert_eq!(missing(&fw), None);
    }

    #[test]
    fn only_a_folder_of_envs_holds_a_recipe() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("setup.sh"), 0o755);
        put(&dir.path().join("opt/ollama/setup.sh"), 0o755);
        assert_eq!(recipe_for(&dir.path().join("opt/ollama/bin/ollama")), None);
        put(&dir.path().join("envs/q/setup.sh"), 0o755);
        assert_eq!(
            recipe_for(&dir.path().join("envs/q/a/b/c")),
            Some(dir.path().join("envs/q/setup.sh"))
        );
        assert_eq!(recipe_for(&dir.path().join("envs/other/a")), None);
    }

    #[test]
    fn bare_programs_and_urls_are_never_missing() {
        for source in [
            Source::Url("http://gpu1:8000".to_owned()),
            Source::Binary("ollama".into()),
            Source::Command {
                command: vec!["benchd".to_owned(), "sim".to_owned()],
                ready_path: "/health".to_owned(),
            },
        ] {
            assert_eq!(missing(&framework(FrameworkKind::Openai, source)), None);
        }
        let absent = Source::Command {
            command: vec!["/nowhere/llama-server".to_owned()],
            ready_path: "/health".to_owned(),
        };
        assert!(missing(&framework(FrameworkKind::Openai, absent)).is_some());
    }

    #[test]
    fn files_of_a_model_are_looked_for_and_recipes_named_once() {
        let dir = tempfile::tempdir().unwrap();
        let environment = dir.path().join("envs/q");
        put(&environment.join("setup.sh"), 0o755);
        let model = Model {
            name: "m".to_owned(),
            hf: None,
            ollama: Some("m:1b".to_owned()),
            openai: None,
            tokenizer: Some(environment.join("tokenizer.json")),
            gguf: Some(environment.join("m.gguf")),
            reasoning_effort: None,
            precision: None,
            args: BTreeMap::new(),
            not_on: BTreeMap::new(),
        };
        let ollama = framework(FrameworkKind::Ollama, Source::Binary("ollama".into()));
        let mut all = missing_of_model(&ollama, &model);
        assert_eq!(all.len(), 2);
        all.extend(missing(&framework(
            FrameworkKind::Ollama,
            Source::Binary(environment.join("bin/ollama")),
        )));
        assert_eq!(recipes(&all), [environment.join("setup.sh")]);
        put(&environment.join("m.gguf"), 0o644);
        assert_eq!(missing_of_model(&ollama, &model).len(), 1);
        std::fs::remove_file(environment.join("m.gguf")).unwrap();
        let vllm = framework(FrameworkKind::Vllm, Source::Venv("v".into()));
        assert_eq!(
            missing_of_model(&vllm, &model).len(),
            1,
            "vLLM reads no GGUF: only the tokenizer is missing"
        );
    }
}
