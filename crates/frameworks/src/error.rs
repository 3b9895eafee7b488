//! What can be wrong with a framework's settings.

use std::path::PathBuf;

use benchd_plan::FrameworkKind;

/// Why a framework can't serve a model as the plan asks. [`Self::hint`] names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum FrameworkError {
    /// The model has no id for this kind.
    #[error("model `{model}` has no id for framework `{framework}` (kind {kind})")]
    NoModelId {
        /// The model's name in the plan.
        model: String,
        /// The framework's name in the plan.
        framework: String,
        /// Its kind.
        kind: FrameworkKind,
    },
    /// The source does not fit the kind.
    #[error("framework `{framework}` (kind {kind}) needs {wanted}")]
    Source {
        /// The framework's name in the plan.
        framework: String,
        /// Its kind.
        kind: FrameworkKind,
        /// What it needs.
        wanted: &'static str,
    },
    /// An argument that benchd gives itself.
    #[error("framework `{framework}` gives `{flag}`, which benchd sets itself")]
    OwnedFlag {
        /// The framework's name in the plan.
        framework: String,
        /// The flag.
        flag: String,
        /// Where the plan says it.
        key: &'static str,
    },
    /// An environment variable that benchd sets itself.
    #[error("framework `{framework}` gives `{name}` in its environment, which benchd sets itself")]
    OwnedEnv {
        /// The framework's name in the plan.
        framework: String,
        /// The variable.
        name: String,
        /// Where the plan says it.
        key: &'static str,
    },
    /// A context too short for the plan's longest prompt.
    #[error(
        "framework `{framework}` sets {setting} to {given}, but the longest prompt with its output needs \
         {needed} tokens, and the chat template some more"
    )]
    ContextTooShort {
        /// The framework's name in the plan.
        framework: String,
        /// The setting.
        setting: &'static str,
        /// What the plan gives.
        given: String,
        /// What is needed, tokens.
        needed: u32,
    },
    /// A value that is none of those allowed.
    #[error("framework `{framework}` sets {setting} to `{given}`, which is no {wanted}")]
    BadValue {
        /// The framework's name in the plan.
        framework: String,
        /// The setting.
        setting: &'static str,
        /// What the plan gives.
        given: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// A placeholder that is not known, or that nothing fills.
    #[error("framework `{framework}`: nothing fills `{{{placeholder}}}` in its command")]
    Placeholder {
        /// The framework's name in the plan.
        framework: String,
        /// The placeholder's name.
        placeholder: String,
    },
    /// An effort that the kind does not know.
    #[error("{kind} does not know the reasoning effort `{effort}` that model `{model}` asks for")]
    ReasoningEffort {
        /// The model's name in the plan.
        model: String,
        /// The kind.
        kind: FrameworkKind,
        /// The effort.
        effort: &'static str,
    },
    /// A URL that is no base of an HTTP server.
    #[error("framework `{framework}`: `{url}` is no URL of an HTTP server: {why}")]
    Url {
        /// The framework's name in the plan.
        framework: String,
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file that can't be read.
    #[error("can't read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// benchd's own executable can't be found.
    #[error("can't find benchd's own executable: {0}")]
    OwnExecutable(std::io::Error),
}

impl FrameworkError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoModelId { model, kind, .. } => {
                format!("add `{}` to models.{model}", kind.model_id_example())
            }
            Self::Source {
                framework, wanted, ..
            } => format!("give {wanted} in frameworks.{framework}"),
            Self::OwnedFlag { framework, key, .. } | Self::OwnedEnv { framework, key, .. } => {
                format!("take it out of frameworks.{framework} and use `{key}`")
            }
            Self::ContextTooShort { setting, needed, .. } => {
                format!("raise {setting} above {needed}, leave it out, or ask for shorter prompts")
            }
            Self::BadValue { wanted, .. } => format!("give a {wanted}"),
            Self::Placeholder { placeholder, .. } => match placeholder.as_str() {
                "gguf" => "add `gguf: <file>` to the model".to_owned(),
                _ => "known are {host}, {port}, {model} and {gguf}".to_owned(),
            },
            Self::ReasoningEffort { .. } => "use low, medium or high".to_owned(),
            Self::Url { .. } => "give it as http://host:port".to_owned(),
            Self::Read { .. } | Self::OwnExecutable(_) => return None,
        })
    }
}
