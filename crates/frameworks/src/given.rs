//! What the plan and the run give, and what all kinds do alike with it.

use std::path::{Path, PathBuf};

use super::{
    Context, Endpoint, FrameworkError, Launch, Requirement,
    config::{self, ModelConfig},
    request::effort_name,
};
use benchd_plan::{Framework, Model, ReasoningEffort, Source};

/// Everything that an adapter is made from.
pub(super) struct Given<'a> {
    pub(super) framework: &'a Framework,
    pub(super) model: &'a Model,
    pub(super) context: &'a Context,
    /// benchd's own environment, which the server inherits.
    pub(super) inherited: &'a dyn Fn(&str) -> Option<String>,
}

/// How a kind takes its GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GpuNaming {
    /// By UUID, as CUDA itself does.
    Uuid,
    /// By NVML index: vLLM before 0.26 and SGLang's tensor parallel call `int()` on each entry of
    /// `CUDA_VISIBLE_DEVICES` and die on a UUID (vllm#13815, vllm#41848). CUDA counts as NVML does when it is
    /// told to order by PCI bus.
    Index,
}

/// A flag that benchd gives itself, and the plan's key for it.
pub(super) type Owned = (&'static str, &'static str);

impl<'a> Given<'a> {
    /// The model's id for this kind.
    pub(super) fn model_id(&self) -> Result<&'a str, FrameworkError> {
        self.model
            .id_for(self.framework.kind)
            .ok_or_else(|| FrameworkError::NoModelId {
                model: self.model.name.clone(),
                framework: self.framework.name.clone(),
                kind: self.framework.kind,
            })
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: self.framework.host.clone(),
            port: self.framework.port,
        }
    }

    /// The plan's arguments: the framework's, then the model's.
    ///
    /// # Errors
    /// Where they hold a flag that benchd gives itself.
    pub(super) fn plan_args(&self, owned: &[Owned]) -> Result<Vec<String>, FrameworkError> {
        let mut args = self.framework.args.clone();
        args.extend(self.model_args());
        match owned.iter().find(|(flag, _)| has_flag(&args, flag)) {
            Some((flag, key)) => Err(FrameworkError::OwnedFlag {
                framework: self.framework.name.clone(),
                flag: (*flag).to_owned(),
                key,
            }),
            None => Ok(args),
        }
    }

    /// The model's arguments: those for the kind, then those for this very framework.
    pub(super) fn model_args(&self) -> Vec<String> {
        let kind = self.framework.kind.as_str();
        let of_model = |name: &str| self.model.args.get(name).into_iter().flatten().cloned();
        let mut args: Vec<String> = of_model(kind).collect();
        if self.framework.name != kind {
            args.extend(of_model(&self.framework.name));
        }
        args
    }

    /// The venv's folder, absolute.
    pub(super) fn venv(&self) -> Result<PathBuf, FrameworkError> {
        match &self.framework.source {
            Source::Venv(folder) => Ok(absolute(folder)),
            _ => Err(self.wrong_source("`venv: <folder>`")),
        }
    }

    pub(super) fn wrong_source(&self, wanted: &'static str) -> FrameworkError {
        FrameworkError::Source {
            framework: self.framework.name.clone(),
            kind: self.framework.kind,
            wanted,
        }
    }

    /// benchd's variables, then the plan's, which win where they meet.
    ///
    /// # Errors
    /// Where the plan sets the server's GPUs or one of `owned`.
    pub(super) fn environment(
        &self,
        ours: Vec<(String, String)>,
        owned: &[Owned],
    ) -> Result<Vec<(String, String)>, FrameworkError> {
        let refused = owned.iter().chain(&[
            ("CUDA_VISIBLE_DEVICES", "host.gpu"),
            ("CUDA_DEVICE_ORDER", "host.gpu"),
            ("BENCHD_TOKEN", "nothing: it marks what benchd started"),
        ]);
        for (name, key) in refused {
            if self.framework.env.contains_key(*name) {
                return Err(FrameworkError::OwnedEnv {
                    framework: self.framework.name.clone(),
                    name: (*name).to_owned(),
                    key,
                });
            }
        }
        let mut env: Vec<_> = ours
            .into_iter()
            .filter(|(name, _)| !self.framework.env.contains_key(name))
            .collect();
        env.extend(self.framework.env.clone());
        Ok(env)
    }

    /// What makes the server see the plan's GPUs and no other. An empty list hides all of them.
    pub(super) fn gpu_env(&self, naming: GpuNaming) -> Vec<(String, String)> {
        let gpus = &self.context.gpus;
        let is_mig = gpus.iter().any(|g| g.uuid.starts_with("MIG-"));
        let list: Vec<String> = match naming {
            GpuNaming::Index if !is_mig => gpus.iter().map(|g| g.index.to_string()).collect(),
            // A MIG slice has no index of its own in CUDA.
            _ => gpus.iter().map(|g| g.uuid.clone()).collect(),
        };
        vec![
            pair("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
            pair("CUDA_VISIBLE_DEVICES", list.join(",")),
        ]
    }

    /// What activating a venv sets: frameworks look for their tools (`ninja`, `nvcc` wheels) on the path.
    pub(super) fn venv_env(&self, venv: &Path) -> Vec<(String, String)> {
        let bin = venv.join("bin").display().to_string();
        let path = match self.env_of_server("PATH") {
            Some(path) if !path.is_empty() => format!("{bin}:{path}"),
            _ => bin,
        };
        vec![
            pair("VIRTUAL_ENV", venv.display().to_string()),
            pair("PATH", path),
        ]
    }

    /// A variable as the server will see it.
    pub(super) fn env_of_server(&self, name: &str) -> Option<String> {
        self.framework
            .env
            .get(name)
            .cloned()
            .or_else(|| (self.inherited)(name))
    }

    /// The configuration of the Hugging Face model, where it is on disk.
    pub(super) fn model_config(&self, id: &str, args: &[String]) -> Option<ModelConfig> {
        let revision = flag_value(args, "--revision").unwrap_or("main");
        config::find(id, revision, &|name| self.env_of_server(name))
    }

    /// Refuses an effort that vLLM and SGLang don't know. Leaving it out instead would let the model think here
    /// and not elsewhere.
    pub(super) fn check_effort(&self) -> Result<(), FrameworkError> {
        match self.model.reasoning_effort {
            Some(effort @ ReasoningEffort::None) => Err(FrameworkError::ReasoningEffort {
                model: self.model.name.clone(),
                kind: self.framework.kind,
                effort: effort_name(effort),
            }),
            _ => Ok(()),
        }
    }

    /// Refuses a context that surely is too short. What the template adds is found later, by the usage.
    pub(super) fn check_context(&self, setting: &'static str, given: &str) -> Result<(), FrameworkError> {
        let needed = self.context.longest_prompt_tokens;
        match given.parse::<u32>() {
            Ok(tokens) if tokens < needed => Err(FrameworkError::ContextTooShort {
                framework: self.framework.name.clone(),
                setting,
                given: given.to_owned(),
                needed,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn launch(&self, program: PathBuf, args: Vec<String>, env: Vec<(String, String)>) -> Launch {
        Launch::new(program, args, env, &self.endpoint())
    }

    /// A program of the venv, and the model where it is a folder.
    pub(super) fn venv_requirements(&self, program: &Path, id: &str) -> Vec<Requirement> {
        let mut requirements = vec![Requirement {
            path: program.to_owned(),
            what: format!("{} in its venv", self.framework.kind),
            executable: true,
            remedy: "make the environment: benchd env PLAN".to_owned(),
        }];
        if config::looks_like_folder(id) {
            requirements.push(Requirement {
                path: Path::new(id).join("config.json"),
                what: format!("model `{}`", self.model.name),
                executable: false,
                remedy: format!(
                    "put the model's folder there, or correct models.{}.hf",
                    self.model.name
                ),
            });
        }
        requirements
    }
}

/// An environment variable.
pub(super) fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// Whether the arguments hold this flag, as `--flag value` or `--flag=value`, with dashes or underscores.
pub(super) fn has_flag(args: &[String], flag: &str) -> bool {
    args.iter().any(|arg| is_flag(arg, flag))
}

/// The value of this flag. The last one counts, as for argparse.
pub(super) fn flag_value<'a>(args: &'a [String], flag: &str) -> Option<&'a str> {
    let at = args.iter().rposition(|arg| is_flag(arg, flag))?;
    match args[at].split_once('=') {
        Some((_, value)) => Some(value),
        None => args.get(at + 1).map(String::as_str),
    }
}

fn is_flag(arg: &str, flag: &str) -> bool {
    let name = arg.split('=').next().unwrap_or(arg);
    name.starts_with("--") && name.replace('_', "-") == flag
}

/// The path from the root. A path that can't be made so (no working directory) stays as it is.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(args: &[&str]) -> Vec<String> {
        args.iter().map(|&a| a.to_owned()).collect()
    }

    #[test]
    fn flags_are_found_however_they_are_written() {
        let args = args(&[
            "--max_model_len=8192",
            "--tp",
            "2",
            "--dtype",
            "half",
            "--dtype",
            "bfloat16",
            "x--host",
        ]);
        assert!(has_flag(&args, "--max-model-len"));
        assert_eq!(flag_value(&args, "--max-model-len"), Some("8192"));
        assert_eq!(flag_value(&args, "--tp"), Some("2"));
        assert_eq!(flag_value(&args, "--dtype"), Some("bfloat16"));
        assert!(!has_flag(&args, "--host"));
        assert_eq!(flag_value(&args, "--absent"), None);
    }
}
