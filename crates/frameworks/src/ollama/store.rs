//! Ollama's store of models: what lies in it under a tag, and the digest under which it takes a GGUF.

use std::{
    collections::HashMap,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex},
    time::SystemTime,
};

use sha2::{Digest, Sha256};

use crate::{
    FrameworkError,
    args::{Env, env_path},
    gguf,
    weights::{Absent, Found, Weights, of_gguf, read_json},
};
use benchd_core::record::Reading;
use benchd_plan::{Framework, Model};

/// The files that Ollama needs to serve a model.
pub(super) fn weights(_: &Framework, model: &Model, env: Env<'_>) -> Weights {
    let tag = model.ollama.as_deref();
    tag.map_or(Weights::NotKnown, |tag| of_tag(tag, model.gguf.as_deref(), env))
}

/// What Ollama keeps under a tag: a manifest that names blobs. A model that has none yet is imported from the plan's
/// GGUF.
fn of_tag(tag: &str, gguf: Option<&Path>, env: Env<'_>) -> Weights {
    let models = models_folder(env);
    let manifest = models.as_deref().and_then(|models| find_manifest(models, tag));
    let Some(manifest) = manifest else {
        return match gguf {
            Some(gguf) => of_gguf(gguf),
            None => Weights::Absent(Absent {
                id: tag.to_owned(),
                looked: models,
                fetchable: true,
            }),
        };
    };
    let folder = models.unwrap_or_default();
    let content = match read_json(&manifest) {
        Ok(content) => content,
        Err(why) => {
            return Weights::Damaged {
                folder,
                wrong: vec![format!("the manifest of {tag} {why}")],
            };
        }
    };
    let layers = content["layers"].as_array().into_iter().flatten();
    let mut bytes = 0;
    let mut wrong = Vec::new();
    let mut precision = Reading::Unknown;
    for layer in layers.chain([&content["config"]]) {
        let (Some(digest), Some(size)) = (layer["digest"].as_str(), layer["size"].as_u64()) else {
            continue;
        };
        let blob = folder.join("blobs").join(digest.replace(':', "-"));
        match blob.metadata().map(|about| about.len()) {
            Ok(length) if length == size => {}
            Ok(length) => wrong.push(format!("{} is cut: {length} of {size} bytes", blob.display())),
            Err(_) => wrong.push(format!("{} is missing", blob.display())),
        }
        if layer["mediaType"]
            .as_str()
            .is_some_and(|kind| kind.ends_with(".model"))
        {
            bytes += size;
            // A store may hold what is no GGUF; then its server says what it is.
            let header = gguf::read(&blob).ok();
            precision = precision.or(header.map(|header| header.weights()).unwrap_or_default());
        }
    }
    if wrong.is_empty() {
        Weights::Whole(Found {
            path: manifest,
            bytes,
            format: "GGUF",
            precision,
            config: None,
        })
    } else {
        Weights::Damaged { folder, wrong }
    }
}

/// Where Ollama keeps models.
fn models_folder(env: Env<'_>) -> Option<PathBuf> {
    env_path(env, "OLLAMA_MODELS").or_else(|| env_path(env, "HOME").map(|home| home.join(".ollama/models")))
}

/// `manifests/<host>/<namespace>/<name>/<tag>`, whatever the host; a bare name is `library/<name>`, a missing tag
/// `latest`.
fn find_manifest(models: &Path, tag: &str) -> Option<PathBuf> {
    let (name, version) = match tag.rsplit_once(':') {
        Some((name, version)) if !version.contains('/') => (name, version),
        _ => (tag, "latest"),
    };
    let manifests = models.join("manifests");
    let below_host = match name.matches('/').count() {
        0 => format!("library/{name}"),
        1 => name.to_owned(),
        _ => {
            let whole = manifests.join(name).join(version);
            return whole.is_file().then_some(whole);
        }
    };
    let mut hosts: Vec<PathBuf> = std::fs::read_dir(&manifests)
        .ok()?
        .flatten()
        .map(|entry| entry.path().join(&below_host).join(version))
        .filter(|path| path.is_file())
        .collect();
    hosts.sort();
    hosts.into_iter().next()
}

/// Digests known in this process, by file, length and time of change.
static DIGESTS: LazyLock<Mutex<HashMap<FileState, String>>> = LazyLock::new(Mutex::default);

/// A file, its length in bytes, its time of change.
type FileState = (PathBuf, u64, SystemTime);

/// SHA-256 of a file, hex; read once a process as long as the file does not change.
///
/// # Errors
/// Where it can't be read.
pub(super) fn sha256(path: &Path) -> Result<String, FrameworkError> {
    let read = |source| FrameworkError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(read)?;
    let about = file.metadata().map_err(read)?;
    let key = (path.to_owned(), about.len(), about.modified().map_err(read)?);
    if let Ok(digests) = DIGESTS.lock()
        && let Some(digest) = digests.get(&key)
    {
        return Ok(digest.clone());
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => hash.update(&buffer[..bytes]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(read(e)),
        }
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if let Ok(mut digests) = DIGESTS.lock() {
        digests.insert(key, digest.clone());
    }
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(weights: Weights) -> Vec<String> {
        match weights {
            Weights::Damaged { wrong, .. } => wrong,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tag_of_ollama_is_found_by_its_manifest_and_its_blobs_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let models = dir.path();
        let env_dir = models.display().to_string();
        let env = |name: &str| (name == "OLLAMA_MODELS").then(|| env_dir.clone());
        assert!(matches!(of_tag("llama3.1:8b", None, &env), Weights::Absent(a) if a.fetchable));

        let manifests = models.join("manifests/some.host/library/llama3.1");
        std::fs::create_dir_all(&manifests).unwrap();
        std::fs::create_dir_all(models.join("blobs")).unwrap();
        let manifest = json!({
            "config": { "digest": "sha256:cc", "size": 2, "mediaType": "application/vnd.docker.container.image.v1+json" },
            "layers": [{ "digest": "sha256:aa", "size": 5, "mediaType": "application/vnd.ollama.image.model" }],
        });
        std::fs::write(manifests.join("8b"), manifest.to_string()).unwrap();
        std::fs::write(models.join("blobs/sha256-aa"), "GGUF!").unwrap();
        assert_eq!(
            wrong(of_tag("llama3.1:8b", None, &env)).len(),
            1,
            "the configuration's blob is missing"
        );
        std::fs::write(models.join("blobs/sha256-cc"), "{}").unwrap();
        let Weights::Whole(found) = of_tag("llama3.1:8b", None, &env) else {
            panic!("not whole");
        };
        assert_eq!(found.bytes, 5);
        std::fs::write(models.join("blobs/sha256-aa"), "GG").unwrap();
        assert!(wrong(of_tag("llama3.1:8b", None, &env))[0].contains("2 of 5 bytes"));
        assert!(
            matches!(of_tag("llama3.1", None, &env), Weights::Absent(_)),
            "another tag"
        );
    }

    #[test]
    fn a_tag_without_a_manifest_is_imported_from_its_gguf() {
        let dir = tempfile::tempdir().unwrap();
        let gguf = dir.path().join("m.gguf");
        let env = |_: &str| None;
        assert!(matches!(of_tag("m:1", Some(&gguf), &env), Weights::Absent(a) if !a.fetchable));
        let whole = crate::gguf::tests::gguf(2, &[("blk.0.attn_q.weight", 2, &[64, 64])]);
        std::fs::write(&gguf, &whole).unwrap();
        let Weights::Whole(found) = of_tag("m:1", Some(&gguf), &env) else {
            panic!("not whole");
        };
        assert_eq!(found.bytes, whole.len() as u64);
        assert_eq!(
            found.precision.value().map(ToString::to_string).as_deref(),
            Some("Q4_0")
        );
        std::fs::write(&gguf, &whole[..whole.len() - 1]).unwrap();
        assert!(wrong(of_tag("m:1", Some(&gguf), &env))[0].starts_with("is cut"));
        std::fs::write(&gguf, "PK..").unwrap();
        assert_eq!(wrong(of_tag("m:1", Some(&gguf), &env)), ["is no GGUF file"]);
    }

    #[test]
    fn a_digest_follows_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, "abc").unwrap();
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(&path).unwrap(), abc);
        std::fs::write(&path, "abcd").unwrap();
        assert_ne!(sha256(&path).unwrap(), abc);
        assert!(sha256(&dir.path().join("absent")).is_err());
    }
}
