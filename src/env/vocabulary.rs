//! Harmony's vocabulary, which lanes with gpt-oss would fetch from the network when they start: brought beforehand, into
//! the venv whose library reads it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use sha2::{Digest, Sha256};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::{
    provision::{EnvError, diagnose, run},
    venv::hex,
};
use benchd_frameworks::{Vocabulary, vocabulary};
use benchd_plan::{Plan, Source};

/// Where it is taken from instead: a folder's address on a machine that mirrors it, `http://…/`.
const BASE_VARIABLE: &str = "BENCHD_TIKTOKEN_BASE";

/// Fetches a file: address, where to. By the venv's Python, which knows the machine's proxies.
const FETCH: &str = r#"
import shutil, sys, urllib.request
sys.excepthook = lambda kind, value, trace: print(f"{kind.__name__}: {value}", file=sys.stderr)
with urllib.request.urlopen(sys.argv[1], timeout=60) as source, open(sys.argv[2], "wb") as target:
    shutil.copyfileobj(source, target)
"#;

/// A vocabulary that is not where a lane looks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MissingVocabulary {
    pub(crate) path: PathBuf,
    /// The venv whose Python fetches it; `None` where it belongs into a folder that is not benchd's.
    venv: Option<PathBuf>,
}

impl MissingVocabulary {
    pub(crate) fn can_be_fetched(&self) -> bool {
        self.venv.is_some()
    }
}

/// The vocabularies that lanes of a plan want and that are not there, each once.
pub(crate) fn vocabularies_missing(plan: &Plan) -> Vec<MissingVocabulary> {
    let mut all: Vec<MissingVocabulary> = Vec::new();
    for (framework, model) in super::served(plan) {
        let Some(wanted) = vocabulary(framework, model).filter(|vocabulary| !vocabulary.there) else {
            continue;
        };
        let venv = match &framework.source {
            Source::Venv(venv) if !wanted.foreign => Some(venv.clone()),
            _ => None,
        };
        if !all.iter().any(|known| known.path == wanted.path) {
            all.push(MissingVocabulary {
                path: wanted.path,
                venv,
            });
        }
    }
    all
}

/// Fetches one. It is put in place only once it is whole and its hash is that which the library asks for.
///
/// # Errors
/// No network, a full disk, other bytes than expected; each with a hint.
pub(crate) async fn fetch_vocabulary(
    missing: &MissingVocabulary,
    cancel: &CancellationToken,
    mut progress: impl FnMut(&str) + Send,
) -> Result<(), EnvError> {
    let Some(venv) = &missing.venv else {
        return Ok(());
    };
    let base = std::env::var(BASE_VARIABLE).unwrap_or_else(|_| Vocabulary::BASE.to_owned());
    let address = format!("{}/{}", base.trim_end_matches('/'), Vocabulary::FILE);
    let python = venv.join("bin/python3");
    let python = std::path::absolute(&python).unwrap_or(python);
    fetch(
        &python,
        &address,
        &missing.path,
        Vocabulary::SHA256,
        cancel,
        &mut progress,
    )
    .await
}

/// Fetches a file by a Python: only the bytes with this hash, whole or not at all.
async fn fetch(
    python: &Path,
    address: &str,
    to: &Path,
    sha256: &str,
    cancel: &CancellationToken,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<(), EnvError> {
    let disk = |source| EnvError::Disk {
        path: to.to_owned(),
        source,
    };
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(disk)?;
    }
    let part = to.with_extension("part");
    let mut command = Command::new(python);
    command
        .args(["-c", FETCH, address])
        .arg(&part)
        .stdin(Stdio::null());
    let failed = |why: String, hint: String| EnvError::Model {
        id: Vocabulary::FILE.to_owned(),
        why,
        hint,
    };
    match run(command, python, cancel, progress).await {
        Err(EnvError::Failed { last_lines, .. }) => {
            let _ = std::fs::remove_file(&part);
            let why = last_lines
                .last()
                .cloned()
                .unwrap_or_else(|| "it does not say why".to_owned());
            let hint = diagnose(&last_lines).filter(|hint| !hint.contains("registry"));
            let by_hand = format!(
                "is there a network here? or put the file there by hand: {} from {}",
                to.display(),
                Vocabulary::BASE
            );
            return Err(failed(why, hint.map_or(by_hand, str::to_owned)));
        }
        other => other?,
    }
    let found = hex(&Sha256::digest(std::fs::read(&part).map_err(disk)?));
    if found != sha256 {
        let _ = std::fs::remove_file(&part);
        return Err(failed(
            format!("what came from {address} has SHA-256 {found}, not {sha256}"),
            "does a proxy change it? nothing was put in place".to_owned(),
        ));
    }
    std::fs::rename(&part, to).map_err(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By this machine's Python, from a file's address as from any other.
    #[tokio::test]
    async fn only_the_bytes_that_the_library_asks_for_are_put_in_place() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("source"), "vocabulary").unwrap();
        let address = format!("file://{}", dir.path().join("source").display());
        let to = dir.path().join("venv/share/tiktoken/o200k_base.tiktoken");
        let right = hex(&Sha256::digest("vocabulary"));
        let get = async |address: &str, sha256: &str| {
            fetch(
                &which_python(),
                address,
                &to,
                sha256,
                &CancellationToken::new(),
                &mut |_| {},
            )
            .await
        };
        let other = get(&address, Vocabulary::SHA256).await.unwrap_err();
        assert!(other.to_string().contains(&right), "{other}");
        assert!(!to.exists() && !to.with_extension("part").exists());

        let absent = get(&format!("{address}-gone"), &right).await.unwrap_err();
        assert!(absent.hint().unwrap().contains("by hand"), "{absent}");

        get(&address, &right).await.unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), b"vocabulary");
    }

    fn which_python() -> PathBuf {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|folder| folder.join("python3"));
        found
            .into_iter()
            .find(|program| program.is_file())
            .expect("python3, as other tests need it")
    }
}
