//! Harmony's vocabulary: what openai-harmony, by which vLLM reads gpt-oss's tokens, fetches from the network when a
//! server starts, unless it finds it in a folder. By the sources of openai-harmony 0.0.8
//! (`tiktoken_ext/public_encodings.rs`) and what its wheels 0.0.4 and 0.0.8 hold.

use std::path::{Path, PathBuf};

use super::{args::arguments, config, hub};
use benchd_plan::{Framework, Model, Source};

/// The variable that names the folder in which openai-harmony looks, in place of the network.
pub(crate) const FOLDER_VARIABLE: &str = "TIKTOKEN_ENCODINGS_BASE";

/// A vocabulary that a server wants when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// Where it is looked for.
    pub path: PathBuf,
    /// Whether it lies there.
    pub there: bool,
    /// Whether the folder is the plan's or the user's own, where benchd puts nothing.
    pub foreign: bool,
}

impl Vocabulary {
    /// Its file's name.
    pub const FILE: &str = "o200k_base.tiktoken";
    /// SHA-256 of the file, hex: openai-harmony takes no other.
    pub const SHA256: &str = "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d";
    /// The folder on the network from which openai-harmony takes it.
    pub const BASE: &str = "https://openaipublic.blob.core.windows.net/encodings/";
}

/// Where the vocabulary lies that belongs to the library of this venv.
pub(crate) fn folder_in(venv: &Path) -> PathBuf {
    venv.join("share/tiktoken")
}

/// The vocabulary that a venv's server of this model wants; `None` where it wants none.
pub fn vocabulary(framework: &Framework, model: &Model) -> Option<Vocabulary> {
    let Source::Venv(venv) = &framework.source else {
        return None;
    };
    let id = model.id_for(framework.kind)?;
    let args = arguments(framework, model);
    let env = |name: &str| {
        let set = framework.env.get(name).cloned();
        set.or_else(|| std::env::var(name).ok())
    };
    let config = config::find(id, hub::revision_of(&args), &env);
    if !config::is_harmony(&[id], config.as_ref()) {
        return None;
    }
    let given = env(FOLDER_VARIABLE).filter(|folder| !folder.is_empty());
    let foreign = given.is_some();
    let folder = given.map_or_else(|| folder_in(venv), PathBuf::from);
    let path = folder.join(Vocabulary::FILE);
    Some(Vocabulary {
        there: path.is_file(),
        path,
        foreign,
    })
}
