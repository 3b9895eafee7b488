//! What Python servers in a venv have in common that serve models in the form of the Hugging Face hub.

use std::path::{Path, PathBuf};

use super::{
    FrameworkError,
    adapter::{Requirement, Server},
    args::{Env, absolute, arguments, flag_value, has_flag, pair},
    config::{self, ModelConfig},
    harmony::{self, Vocabulary},
    precision::{hub_dtype, hub_weights, random_weights, set_by},
    request::effort_name,
    setup::{GpuNaming, Owned, Setup},
    weights::{Absent, Weights, of_folder},
};
use benchd_core::record::{Precision, Reading};
use benchd_plan::{Framework, Model, ReasoningEffort, Source};

/// The arguments that such servers name each in their own way.
pub(crate) struct Flags {
    pub(crate) host: &'static str,
    pub(crate) port: &'static str,
    /// The name under which the model is served.
    pub(crate) name: &'static str,
    /// The longest request.
    pub(crate) length: &'static str,
    /// The share of the GPU's memory that is reserved.
    pub(crate) share: &'static str,
}

/// A server of this sort, on the way to its command.
pub(crate) struct HubServer<'a> {
    setup: &'a Setup<'a>,
    flags: &'static Flags,
    /// Hub id or folder of the model.
    pub(crate) id: &'a str,
    /// Name under which it is served.
    served: String,
    venv: PathBuf,
    /// The plan's arguments.
    pub(crate) args: Vec<String>,
    /// The model's configuration, where it is on disk.
    config: Option<ModelConfig>,
}

impl<'a> HubServer<'a> {
    /// `owned` are the arguments that benchd gives itself beside host and port.
    ///
    /// # Errors
    /// Where the plan asks for what such a server can't do.
    pub(crate) fn new(
        setup: &'a Setup<'a>,
        flags: &'static Flags,
        owned: &[Owned],
    ) -> Result<Self, FrameworkError> {
        let id = setup.model_id()?;
        let Source::Venv(venv) = &setup.framework.source else {
            return Err(setup.wrong_source("`venv: <folder>`"));
        };
        check_effort(setup)?;
        let address = [(flags.host, "host:"), (flags.port, "port:")];
        let args = setup.plan_args(&[&address, owned].concat())?;
        if let Some(tokens) = flag_value(&args, flags.length) {
            setup.check_context(flags.length, tokens)?;
        }
        let config = config::find(id, revision_of(&args), &|name| setup.env_of_server(name));
        Ok(Self {
            setup,
            flags,
            id,
            served: flag_value(&args, flags.name).unwrap_or(id).to_owned(),
            venv: absolute(venv),
            args,
            config,
        })
    }

    /// Whether the plan's arguments hold this flag.
    pub(crate) fn has(&self, flag: &str) -> bool {
        has_flag(&self.args, flag)
    }

    /// Whether the model speaks harmony.
    pub(crate) fn is_harmony(&self) -> bool {
        config::is_harmony(&[self.id, &self.served], self.config.as_ref())
    }

    /// The words that start it: `first`, its address and its model's name, the plan's arguments.
    pub(crate) fn command(&self, first: &[&str]) -> Vec<String> {
        let endpoint = self.setup.endpoint();
        let port = endpoint.port.to_string();
        let address = [self.flags.host, &endpoint.host, self.flags.port, &port];
        let name = [self.flags.name, &self.served];
        let name = if self.has(self.flags.name) { &[][..] } else { &name };
        let mut args: Vec<String> = [first, &address, name]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect();
        args.extend(self.args.iter().cloned());
        args
    }

    /// The server that `program` of the venv starts with `args`, in an environment with `env`.
    ///
    /// # Errors
    /// Where the plan sets one of `owned_env`.
    pub(crate) fn server(
        self,
        program: &str,
        args: Vec<String>,
        env: Vec<(String, String)>,
        owned_env: &[Owned],
    ) -> Result<Server, FrameworkError> {
        let setup = self.setup;
        let program = self.venv.join(program);
        // By index, which suits all of them.
        let mut ours = setup.gpu_env(GpuNaming::Index);
        ours.extend(venv_env(setup, &self.venv));
        ours.extend(env);
        if config::is_folder(self.id) {
            ours.push(pair("HF_HUB_OFFLINE", "1"));
        }
        // Only where it is there: told of an empty folder, the library would not ask the network either.
        let vocabularies = harmony::folder_in(&self.venv);
        if self.is_harmony()
            && vocabularies.join(Vocabulary::FILE).is_file()
            && setup.env_of_server(harmony::FOLDER_VARIABLE).is_none()
        {
            ours.push(pair(harmony::FOLDER_VARIABLE, vocabularies.display().to_string()));
        }
        let env = setup.environment(ours, owned_env)?;
        let mut server = setup.server(&self.served, None, requirements(setup, &program, self.id));
        server.launch = Some(setup.launch(program, args, env));
        server.notes = memory_note(&self.args, self.flags.share)
            .filter(|_| !setup.context.gpus.is_empty())
            .into_iter()
            .collect();
        Ok(server)
    }
}

/// Refuses an effort that these servers don't know. Leaving it out instead would let the model think here and not
/// elsewhere.
fn check_effort(setup: &Setup<'_>) -> Result<(), FrameworkError> {
    match setup.model.reasoning_effort {
        Some(effort @ ReasoningEffort::None) => Err(FrameworkError::ReasoningEffort {
            model: setup.model.name.clone(),
            kind: setup.framework.kind,
            effort: effort_name(effort),
        }),
        _ => Ok(()),
    }
}

/// What activating a venv sets: frameworks look for their tools (`ninja`, `nvcc` wheels) on the path.
fn venv_env(setup: &Setup<'_>, venv: &Path) -> [(String, String); 2] {
    let bin = venv.join("bin").display().to_string();
    let path = match setup.env_of_server("PATH") {
        Some(path) if !path.is_empty() => format!("{bin}:{path}"),
        _ => bin,
    };
    [
        pair("VIRTUAL_ENV", venv.display().to_string()),
        pair("PATH", path),
    ]
}

/// A program of the venv, and the model where it is a folder.
fn requirements(setup: &Setup<'_>, program: &Path, id: &str) -> Vec<Requirement> {
    let mut requirements = vec![Requirement {
        path: program.to_owned(),
        what: format!("{} in its venv", setup.framework.kind),
        executable: true,
        remedy: "make the environment: benchd env PLAN".to_owned(),
    }];
    if config::looks_like_folder(id) {
        let model = &setup.model.name;
        requirements.push(Requirement {
            path: Path::new(id).join("config.json"),
            what: format!("model `{model}`"),
            executable: false,
            remedy: format!("put the model's folder there, or correct models.{model}.hf"),
        });
    }
    requirements
}

/// In which numbers vLLM and SGLang serve a model, by their arguments and its configuration. A cache of the format `auto` is
/// kept as the model computes, unless its weights come with a format for it.
pub(crate) fn precision(framework: &Framework, model: &Model, env: Env<'_>) -> Precision {
    const CACHE: &str = "--kv-cache-dtype";
    let args = arguments(framework, model);
    let config = configuration(model, &args, env);
    let computed = set_by(&args, "--dtype").or(hub_dtype(&config));
    let as_computed = computed.value().filter(|_| !config.has_cache_format).cloned();
    Precision {
        weights: hub_weights(&args, &config),
        kv_cache: set_by(&args, CACHE).or(Reading::maybe(
            as_computed,
            format!("{CACHE} auto, as the model computes"),
        )),
        random_weights: random_weights(&args).or(Reading::read(false, "no --load-format dummy")),
        file_bytes: None,
    }
}

/// The configuration of a model in the hub's form, as far as it is on disk.
pub(crate) fn configuration(model: &Model, args: &[String], env: Env<'_>) -> ModelConfig {
    let found = |id: &String| config::find(id, revision_of(args), env);
    model.hf.as_ref().and_then(found).unwrap_or_default()
}

/// Memory that is reserved up front says nothing of what the framework needs.
fn memory_note(args: &[String], flag: &str) -> Option<String> {
    flag_value(args, flag).map(|share| {
        format!("GPU memory is reserved up front ({flag} {share}): its figure is a setting, not a need")
    })
}

pub(crate) fn revision_of(args: &[String]) -> &str {
    flag_value(args, "--revision").unwrap_or("main")
}

/// The revision of a model of the hub that the arguments ask for.
pub fn revision(framework: &Framework, model: &Model) -> String {
    revision_of(&arguments(framework, model)).to_owned()
}

/// The files of a model in the hub's form.
pub(crate) fn weights(framework: &Framework, model: &Model, env: Env<'_>) -> Weights {
    let Some(id) = model.hf.as_deref() else {
        return Weights::NotKnown;
    };
    let args = arguments(framework, model);
    let Some(folder) = config::folder(id, revision_of(&args), env) else {
        return Weights::Absent(Absent {
            id: id.to_owned(),
            looked: None,
            fetchable: !config::looks_like_folder(id),
        });
    };
    // Weights made up by the server need none on disk, only the configuration and the tokenizer.
    let dummy = flag_value(&args, "--load-format") == Some("dummy");
    let own_tokenizer = ["--tokenizer", "--tokenizer-path", "--skip-tokenizer-init"]
        .iter()
        .any(|flag| has_flag(&args, flag));
    of_folder(id, &folder, !dummy, !own_tokenizer)
}
