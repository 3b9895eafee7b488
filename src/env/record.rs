//! What was installed into an environment: a file beside it, written when its recipe has come to its end.

use std::{os::unix::fs::MetadataExt, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    folder::{environment_of, program_or_venv},
    venv::{Venv, hex},
};
use benchd_journal::{EnvironmentInfo, write_atomic};
use benchd_plan::{Framework, Source};

pub(super) const RECORD: &str = "installed.json";

/// Version of its layout; another one is as good as no record.
const RECORD_VERSION: u32 = 1;

const VENV: &str = ".venv";

/// Downloads, which are no part of what is installed.
const CACHE: &str = "cache";

/// Files that say how an environment is made.
const RECIPE_FILES: [&str; 3] = ["setup.sh", "requirements.txt", "requirements.lock"];

/// What all recipes of venvs share, beside their folders.
const SHARED_RECIPE: &str = "venv.sh";

/// Name of the file in which a recipe says which archive it fetched.
const RELEASE: &str = "release.lock";

const RELEASE_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Installed {
    pub(crate) v: u32,
    pub(crate) benchd_version: String,
    pub(crate) environment: EnvironmentInfo,
}

/// The content of a recipe's word on the archive that it fetched.
#[derive(Debug, Deserialize)]
struct Release {
    v: u32,
    version: String,
    url: String,
    /// Of the archive, hex.
    sha256: String,
}

fn release(folder: &Path) -> Option<Release> {
    let text = std::fs::read(folder.join(RELEASE)).ok()?;
    let read: Release = serde_json::from_slice(&text).ok()?;
    (read.v == RELEASE_VERSION).then_some(read)
}

/// The record of an environment; `None` where there is none that this benchd reads.
pub(crate) fn installed(folder: &Path) -> Option<Installed> {
    let text = std::fs::read(folder.join(RECORD)).ok()?;
    let read: Installed = serde_json::from_slice(&text).ok()?;
    (read.v == RECORD_VERSION).then_some(read)
}

/// Whether the environment was made by the recipe as it is now. One without a record may have been made by hand.
pub(crate) fn is_current(folder: &Path) -> Option<bool> {
    let recorded = installed(folder)?.environment.recipe_sha256?;
    Some(recipe_sha256(folder) == recorded)
}

/// Records what lies in an environment now, and how long its recipe took.
///
/// # Errors
/// The record can't be written.
pub(super) fn record(folder: &Path, took: Duration) -> Result<(), benchd_journal::DiskError> {
    let mut environment = EnvironmentInfo {
        made_unix_us: u64::try_from(jiff::Timestamp::now().as_microsecond()).ok(),
        recipe_sha256: Some(recipe_sha256(folder)),
        install_ms: u64::try_from(took.as_millis()).ok(),
        bytes: Some(disk_bytes(folder)),
        ..EnvironmentInfo::default()
    };
    add_venv(&mut environment, &folder.join(VENV));
    if let Some(release) = release(folder) {
        environment.version = Some(release.version);
        environment.source_url = Some(release.url);
        environment.source_sha256 = Some(release.sha256);
    }
    let record = Installed {
        v: RECORD_VERSION,
        benchd_version: env!("CARGO_PKG_VERSION").to_owned(),
        environment,
    };
    let path = folder.join(RECORD);
    let mut text = serde_json::to_vec_pretty(&record)
        .map_err(|e| benchd_journal::DiskError::new("write", &path, e.into()))?;
    text.push(b'\n');
    write_atomic(&path, &text)
}

/// What a framework runs from: what its venv holds now, with what its record says of it. `None` for a server that
/// someone else runs, and for a program that nothing is known of.
pub(crate) fn describe(framework: &Framework) -> Option<EnvironmentInfo> {
    let path = program_or_venv(framework)?;
    let mut info = environment_of(&path)
        .and_then(|folder| installed(&folder))
        .map(|record| record.environment)
        .unwrap_or_default();
    if matches!(framework.source, Source::Venv(_)) {
        info.version = None;
        add_venv(&mut info, &path);
        // One that was made by hand has no record: what it takes is looked at.
        if info.bytes.is_none() && path.is_dir() {
            info.bytes = Some(disk_bytes(&path));
        }
        if let Ok(read) = Venv::read(&path) {
            info.version = read.version(framework.kind.as_str()).map(str::to_owned);
        }
    }
    (info != EnvironmentInfo::default()).then_some(info)
}

fn add_venv(info: &mut EnvironmentInfo, folder: &Path) {
    if let Ok(venv) = Venv::read(folder) {
        info.packages = u32::try_from(venv.packages.len()).ok();
        info.torch = venv.torch.as_ref().map(|torch| torch.version.clone());
        info.torch_cuda = venv.torch.as_ref().and_then(|torch| torch.cuda.clone());
        info.resolved_sha256 = Some(venv.resolved_sha256());
        info.python = venv.python;
    }
}

/// SHA-256 over the files that say how the environment is made, hex.
fn recipe_sha256(folder: &Path) -> String {
    let shared = folder.parent().map(|envs| envs.join(SHARED_RECIPE));
    let files = RECIPE_FILES.iter().map(|name| folder.join(name)).chain(shared);
    let mut hash = Sha256::new();
    for path in files {
        if let Ok(bytes) = std::fs::read(&path) {
            hash.update(path.file_name().map_or(&b""[..], |n| n.as_encoded_bytes()));
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(&bytes);
        }
    }
    hex(&hash.finalize())
}

/// Bytes on disk below a folder, without downloads. Links are not followed; a file with several names, as uv makes
/// them, is counted at each.
fn disk_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let mut bytes = 0;
    for entry in entries.flatten() {
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            if entry.file_name() != CACHE {
                bytes += disk_bytes(&entry.path());
            }
        } else {
            bytes += about.blocks() * 512;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::venv::testing;

    #[test]
    fn a_record_knows_what_was_installed_and_whether_the_recipe_changed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("envs/vllm");
        testing::make(
            &folder.join(".venv"),
            "3.12.8",
            &[("vllm", "0.15.1"), ("torch", "2.9.1")],
        );
        std::fs::write(folder.join("requirements.lock"), "vllm==0.15.1\n").unwrap();
        std::fs::create_dir(folder.join("cache")).unwrap();
        std::fs::write(folder.join("cache/download"), vec![1; 1 << 20]).unwrap();
        std::fs::write(folder.join("model"), vec![1; 1 << 16]).unwrap();
        assert_eq!(is_current(&folder), None);

        record(&folder, Duration::from_secs(90)).unwrap();
        let known = installed(&folder).unwrap().environment;
        assert_eq!(known.python.as_deref(), Some("3.12.8"));
        assert_eq!(known.packages, Some(2));
        assert_eq!(known.install_ms, Some(90_000));
        let bytes = known.bytes.unwrap();
        assert!((1 << 16..1 << 20).contains(&bytes), "{bytes}: without the cache");
        assert_eq!(is_current(&folder), Some(true));
        std::fs::write(folder.join("requirements.lock"), "vllm==0.15.2\n").unwrap();
        assert_eq!(is_current(&folder), Some(false));
    }

    #[test]
    fn a_record_of_another_layout_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join(RECORD),
            r#"{"v":9,"benchd_version":"9","environment":{}}"#,
        )
        .unwrap();
        assert_eq!(installed(dir.path()), None);
        std::fs::write(dir.path().join(RECORD), "half").unwrap();
        assert_eq!(installed(dir.path()), None);
    }
}
