//! The kinds of framework, an entry each: its name, and what a plan says of a server of that kind. All else that is known
//! of it stands in the frameworks' room.

use serde::{Deserialize, Serialize};

macro_rules! kinds {
    ($($(#[$doc:meta])+ $kind:ident = $name:literal, $source:ident, $model_id:ident, $port:expr;)+) => {
        /// The kinds of framework.
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
        )]
        pub enum FrameworkKind {
            $($(#[$doc])+ #[serde(rename = $name)] $kind,)+
        }

        impl FrameworkKind {
            /// All of them, in the order in which people are told of them.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            fn entry(self) -> Entry {
                match self {
                    $(Self::$kind => Entry {
                        name: $name,
                        source: SourceKeys::$source,
                        model_id: ModelIdKey::$model_id,
                        port: $port,
                    },)+
                }
            }
        }
    };
}

// Kind = name, how its server comes to be, the model's key that holds its id, the port that it takes by itself.
kinds! {
    /// SGLang, from a venv.
    Sglang = "sglang", Venv, Hf, Some(30_000);
    /// vLLM, from a venv.
    Vllm = "vllm", Venv, Hf, Some(8_000);
    /// Ollama, from its binary.
    Ollama = "ollama", Binary, Ollama, Some(11_434);
    /// LMDeploy's `api_server`, from a venv.
    Lmdeploy = "lmdeploy", Venv, Hf, Some(23_333);
    /// Any other OpenAI-compatible server: a command, or a running one by URL.
    Openai = "openai", CommandOrUrl, Openai, None;
}

struct Entry {
    name: &'static str,
    source: SourceKeys,
    model_id: ModelIdKey,
    port: Option<u16>,
}

/// The keys of a framework that say how its server comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SourceKeys {
    /// `venv`.
    Venv,
    /// `binary`.
    Binary,
    /// `command` or `url`.
    CommandOrUrl,
}

/// The key of a model that holds its id for a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModelIdKey {
    /// `hf`: hub id or folder.
    Hf,
    /// `ollama`: a tag.
    Ollama,
    /// `openai`: the name that requests give; the hub id will do.
    Openai,
}

impl ModelIdKey {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Hf => "hf",
            Self::Ollama => "ollama",
            Self::Openai => "openai",
        }
    }
}

impl FrameworkKind {
    /// The name used in plans and files.
    pub fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// How a model's id for this kind is written in a plan: `hf: <hub id or folder>`.
    pub fn model_id_example(self) -> &'static str {
        match self.model_id_key() {
            ModelIdKey::Hf => "hf: <hub id or folder>",
            ModelIdKey::Ollama => "ollama: \"<name>:<tag>\"",
            ModelIdKey::Openai => "openai: <name>",
        }
    }

    pub(crate) fn source_keys(self) -> SourceKeys {
        self.entry().source
    }

    pub(crate) fn model_id_key(self) -> ModelIdKey {
        self.entry().model_id
    }

    /// The port that its server takes by itself.
    pub(crate) fn usual_port(self) -> Option<u16> {
        self.entry().port
    }
}

impl std::fmt::Display for FrameworkKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What `show` says of each kind, where it says something.
pub(crate) fn names(show: impl Fn(FrameworkKind) -> Option<String>) -> Vec<String> {
    FrameworkKind::ALL.iter().copied().filter_map(show).collect()
}
