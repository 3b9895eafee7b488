//! What the plan and the run set of a server, and what all kinds do alike with it.

use std::path::{Path, PathBuf};

use super::{
    FrameworkError, Launch,
    adapter::{Context, Endpoint, Requirement, Server},
    args::{Env, arguments, has_flag, pair},
    config::is_harmony,
};
use benchd_plan::{Framework, Model};

/// Everything that an adapter is made from.
pub(crate) struct Setup<'a> {
    pub(crate) framework: &'a Framework,
    pub(crate) model: &'a Model,
    pub(crate) context: &'a Context,
    /// benchd's own environment, which the server inherits.
    pub(crate) inherited: Env<'a>,
}

/// How a kind takes its GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GpuNaming {
    /// By UUID, as CUDA itself does.
    Uuid,
    /// By NVML index: vLLM before 0.26 and SGLang's tensor parallel call `int()` on each entry of
    /// `CUDA_VISIBLE_DEVICES` and die on a UUID (vllm#13815, vllm#41848). CUDA counts as NVML does when it is
    /// told to order by PCI bus.
    Index,
}

/// A flag that benchd gives itself, and the plan's key for it.
pub(crate) type Owned = (&'static str, &'static str);

impl<'a> Setup<'a> {
    /// The model's id for this kind.
    pub(crate) fn model_id(&self) -> Result<&'a str, FrameworkError> {
        self.model
            .id_for(self.framework.kind)
            .ok_or_else(|| FrameworkError::NoModelId {
                model: self.model.name.clone(),
                framework: self.framework.name.clone(),
                kind: self.framework.kind,
            })
    }

    /// Whether the model speaks harmony, by its names alone: of a server that someone else runs no file is known.
    pub(crate) fn names_harmony(&self, served: &str) -> bool {
        is_harmony(&[served, self.model.hf.as_deref().unwrap_or_default()], None)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: self.framework.host.clone(),
            port: self.framework.port,
        }
    }

    /// The plan's arguments: the framework's, then the model's.
    ///
    /// # Errors
    /// Where they hold a flag that benchd gives itself.
    pub(crate) fn plan_args(&self, owned: &[Owned]) -> Result<Vec<String>, FrameworkError> {
        let args = arguments(self.framework, self.model);
        match owned.iter().find(|(flag, _)| has_flag(&args, flag)) {
            Some((flag, key)) => Err(FrameworkError::OwnedFlag {
                framework: self.framework.name.clone(),
                flag: (*flag).to_owned(),
                key,
            }),
            None => Ok(args),
        }
    }

    pub(crate) fn wrong_source(&self, wanted: &'static str) -> FrameworkError {
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
    pub(crate) fn environment(
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
    pub(crate) fn gpu_env(&self, naming: GpuNaming) -> Vec<(String, String)> {
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

    /// A variable as the server will see it.
    pub(crate) fn env_of_server(&self, name: &str) -> Option<String> {
        self.framework
            .env
            .get(name)
            .cloned()
            .or_else(|| (self.inherited)(name))
    }

    /// Refuses a context that surely is too short. What the template adds is found later, by the usage.
    pub(crate) fn check_context(&self, setting: &'static str, given: &str) -> Result<(), FrameworkError> {
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

    pub(crate) fn launch(&self, program: PathBuf, args: Vec<String>, env: Vec<(String, String)>) -> Launch {
        Launch::new(program, args, env, &self.endpoint())
    }

    /// The server that answers under the name `model`.
    pub(crate) fn server(
        &self,
        model: &str,
        launch: Option<Launch>,
        requirements: Vec<Requirement>,
    ) -> Server {
        Server {
            endpoint: self.endpoint(),
            model: model.to_owned(),
            launch,
            requirements,
            notes: Vec::new(),
            compile_caches: Vec::new(),
            longest_tokens: self.context.longest_prompt_tokens,
        }
    }

    /// The model's GGUF file as something that the launch needs.
    pub(crate) fn gguf_requirement(&self, path: &Path) -> Requirement {
        Requirement {
            path: path.to_owned(),
            what: format!("weights of model `{}`", self.model.name),
            executable: false,
            remedy: format!("fetch the file, or correct models.{}.gguf", self.model.name),
        }
    }
}
