//! A model's files on disk, before any server runs: whether they are there, whole, and of a form that the framework
//! reads. Names, lengths and headers are read, never the weights themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{config, gguf};
use benchd_core::record::{Format, Reading};

/// Longest header of a safetensors file that is read, bytes (the format itself allows 100 MB).
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Files of which one must be there for a model to have a tokenizer.
const TOKENIZERS: [&str; 6] = [
    "tokenizer.json",
    "tokenizer.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
];

/// What is known of a model's files.
#[derive(Debug, Clone, PartialEq)]
pub enum Weights {
    /// All that the framework needs is there.
    Whole(Found),
    /// Something is there, and something of it is missing or damaged.
    Damaged {
        /// Where.
        folder: PathBuf,
        /// What is wrong, one text a file.
        wrong: Vec<String>,
    },
    /// Nothing is there.
    Absent(Absent),
    /// Nothing can be known from here: a server that someone else runs, a command with a model of its own.
    NotKnown,
}

/// A model that is whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its folder or file.
    pub path: PathBuf,
    /// Bytes of the weights.
    pub bytes: u64,
    /// `safetensors`, `PyTorch`, `GGUF`.
    pub format: &'static str,
    /// The format of its numbers, by the files themselves.
    pub precision: Reading<Format>,
    /// Its `config.json`, where it has one.
    pub config: Option<Value>,
}

/// A model of which nothing is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absent {
    /// The id, tag or path.
    pub id: String,
    /// Where it was looked for; `None` where nothing says where models are kept.
    pub looked: Option<PathBuf>,
    /// Whether `benchd env` can fetch it (a hub id, a tag), or a person must put it there.
    pub fetchable: bool,
}

/// A model in the hub's form: `config.json`, a tokenizer, weights.
pub(crate) fn of_folder(id: &str, folder: &Path, needs_weights: bool, needs_tokenizer: bool) -> Weights {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Weights::Absent(Absent {
            id: id.to_owned(),
            looked: Some(folder.to_owned()),
            fetchable: !config::looks_like_folder(id),
        });
    };
    let names: BTreeSet<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let mut wrong = Vec::new();
    let config = match read_json(&folder.join("config.json")) {
        Ok(config) => Some(config),
        Err(why) => {
            wrong.push(format!("config.json {why}"));
            None
        }
    };
    let there = |name: &&str| folder.join(name).is_file();
    if needs_tokenizer && !TOKENIZERS.iter().any(there) {
        wrong.push("no tokenizer (tokenizer.json, tokenizer.model, …)".to_owned());
    }
    let mut found = Found {
        path: folder.to_owned(),
        bytes: 0,
        format: "safetensors",
        precision: config
            .as_ref()
            .map(|config| config::parse(config).weights())
            .unwrap_or_default(),
        config,
    };
    if needs_weights {
        match weight_files(folder, &names) {
            Ok((format, files)) => {
                found.format = format;
                for file in files {
                    match check_weight_file(&folder.join(&file), format) {
                        Ok(bytes) => found.bytes += bytes,
                        Err(why) => wrong.push(format!("{file} {why}")),
                    }
                }
            }
            Err(why) => wrong.push(why),
        }
    }
    if wrong.is_empty() {
        Weights::Whole(found)
    } else {
        Weights::Damaged {
            folder: folder.to_owned(),
            wrong,
        }
    }
}

/// The files that hold the weights: those that an index names, else all of the form.
fn weight_files(folder: &Path, names: &BTreeSet<String>) -> Result<(&'static str, Vec<String>), String> {
    for (format, index, suffix) in [
        ("safetensors", "model.safetensors.index.json", ".safetensors"),
        ("PyTorch", "pytorch_model.bin.index.json", ".bin"),
    ] {
        if names.contains(index) {
            let index_json = read_json(&folder.join(index)).map_err(|why| format!("{index} {why}"))?;
            let shards: BTreeSet<String> = index_json["weight_map"]
                .as_object()
                .into_iter()
                .flat_map(|map| map.values())
                .filter_map(|shard| shard.as_str().map(str::to_owned))
                .collect();
            if shards.is_empty() {
                return Err(format!("{index} names no file"));
            }
            return Ok((format, shards.into_iter().collect()));
        }
        let files: Vec<String> = names.iter().filter(|n| n.ends_with(suffix)).cloned().collect();
        if !files.is_empty() {
            return Ok((format, files));
        }
    }
    let gguf: Vec<String> = names.iter().filter(|n| n.ends_with(".gguf")).cloned().collect();
    if gguf.is_empty() {
        Err("no weights (*.safetensors)".to_owned())
    } else {
        Ok(("GGUF", gguf))
    }
}

/// Length of a file of weights, where it is whole as far as its head tells.
fn check_weight_file(path: &Path, format: &str) -> Result<u64, String> {
    let bytes = path
        .metadata()
        .map_err(|_| "is missing".to_owned())
        .and_then(|about| {
            if about.is_file() {
                Ok(about.len())
            } else {
                Err("is no file".to_owned())
            }
        })?;
    match format {
        "safetensors" => check_safetensors(path, bytes),
        "GGUF" => gguf::read(path).map(|_| bytes),
        _ if bytes == 0 => Err("is empty".to_owned()),
        _ => Ok(bytes),
    }
}

/// The header tells how long the file must be: a download that was cut is shorter.
fn check_safetensors(path: &Path, bytes: u64) -> Result<u64, String> {
    let unreadable = |error: std::io::Error| format!("can't be read: {error}");
    let mut file = File::open(path).map_err(unreadable)?;
    let mut length = [0; 8];
    if bytes < 8 || file.read_exact(&mut length).is_err() {
        return Err(format!("is cut: {bytes} bytes"));
    }
    if length.starts_with(b"version ") {
        return Err("is a Git LFS pointer, not the weights".to_owned());
    }
    let header = u64::from_le_bytes(length);
    if header > MAX_HEADER_BYTES {
        return Err("is no safetensors file".to_owned());
    }
    if bytes < 8 + header {
        return Err(format!("is cut: {bytes} bytes, its header alone has {header}"));
    }
    let mut text = Vec::new();
    file.take(header).read_to_end(&mut text).map_err(unreadable)?;
    let tensors: BTreeMap<String, Value> =
        serde_json::from_slice(&text).map_err(|_| "has a damaged header".to_owned())?;
    let data = tensors
        .values()
        .filter_map(|tensor| tensor["data_offsets"][1].as_u64())
        .max()
        .unwrap_or(0);
    let expected = 8 + header + data;
    if bytes < expected {
        return Err(format!("is cut: {bytes} of {expected} bytes"));
    }
    Ok(bytes)
}

pub(crate) fn of_gguf(path: &Path) -> Weights {
    if !path.exists() {
        return Weights::Absent(Absent {
            id: path.display().to_string(),
            looked: Some(path.to_owned()),
            fetchable: false,
        });
    }
    let header = gguf::read(path).and_then(|header| {
        let about = path
            .metadata()
            .map_err(|error| format!("can't be read: {error}"))?;
        Ok((header, about.len()))
    });
    match header {
        Ok((header, bytes)) => Weights::Whole(Found {
            path: path.to_owned(),
            bytes,
            format: "GGUF",
            precision: header.weights(),
            config: None,
        }),
        Err(why) => Weights::Damaged {
            folder: path.to_owned(),
            wrong: vec![why],
        },
    }
}

pub(crate) fn read_json(path: &Path) -> Result<Value, String> {
    let text = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "is missing".to_owned(),
        _ => format!("can't be read: {error}"),
    })?;
    serde_json::from_slice(&text).map_err(|_| "is no JSON".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A safetensors file with `data` bytes, of which the last `cut` are missing.
    fn safetensors(path: &Path, data: usize, cut: usize) {
        let header =
            json!({ "w": { "dtype": "BF16", "shape": [data / 2], "data_offsets": [0, data] } }).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.extend(vec![0; data - cut]);
        std::fs::write(path, bytes).unwrap();
    }

    fn model_folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), r#"{"model_type":"llama"}"#).unwrap();
        std::fs::write(dir.path().join("tokenizer.json"), "{}").unwrap();
        let index = json!({ "weight_map": { "a": "m-1.safetensors", "b": "m-2.safetensors" } });
        std::fs::write(dir.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        safetensors(&dir.path().join("m-1.safetensors"), 1000, 0);
        safetensors(&dir.path().join("m-2.safetensors"), 500, 0);
        dir
    }

    fn look(dir: &Path) -> Weights {
        of_folder("org/model", dir, true, true)
    }

    fn wrong(weights: Weights) -> Vec<String> {
        match weights {
            Weights::Damaged { wrong, .. } => wrong,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_whole_model_is_counted_by_its_index() {
        let dir = model_folder();
        // Not named by the index, as a second copy of the weights in some repositories.
        safetensors(&dir.path().join("consolidated.safetensors"), 9000, 0);
        let Weights::Whole(found) = look(dir.path()) else {
            panic!("not whole");
        };
        assert!(found.bytes > 1500 && found.bytes < 2000, "{}", found.bytes);
        assert_eq!(found.format, "safetensors");
        assert_eq!(found.config.unwrap()["model_type"], "llama");
    }

    #[test]
    fn what_a_broken_download_leaves_is_named_file_by_file() {
        let dir = model_folder();
        safetensors(&dir.path().join("m-1.safetensors"), 1000, 1);
        std::fs::remove_file(dir.path().join("m-2.safetensors")).unwrap();
        std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
        std::fs::write(dir.path().join("config.json"), "<html>").unwrap();
        let wrong = wrong(look(dir.path()));
        assert_eq!(wrong.len(), 4, "{wrong:?}");
        assert!(wrong[0].contains("config.json is no JSON") && wrong[1].contains("tokenizer"));
        assert!(
            wrong[2].contains("m-1.safetensors is cut") && wrong[3].contains("m-2.safetensors is missing")
        );
    }

    #[test]
    fn a_pointer_and_a_dangling_link_are_no_weights() {
        let dir = model_folder();
        std::fs::write(
            dir.path().join("m-1.safetensors"),
            "version https://git-lfs.github.com/spec/v1\n",
        )
        .unwrap();
        let second = dir.path().join("m-2.safetensors");
        std::fs::remove_file(&second).unwrap();
        std::os::unix::fs::symlink("blobs/nowhere", &second).unwrap();
        let wrong = wrong(look(dir.path()));
        assert!(
            wrong[0].contains("Git LFS pointer") && wrong[1].contains("is missing"),
            "{wrong:?}"
        );
    }

    #[test]
    fn a_folder_that_is_not_there_is_absent_and_only_a_hub_id_can_be_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let absent = |id: &str| match of_folder(id, &dir.path().join("no"), true, true) {
            Weights::Absent(absent) => absent,
            other => panic!("{other:?}"),
        };
        assert!(absent("org/model").fetchable);
        assert!(!absent("/models/llama").fetchable);
    }
}
