//! What a Python venv holds, read from its files: no Python is started.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// The file that says which Python a venv was made of.
const CONFIG: &str = "pyvenv.cfg";

/// Lies in a venv while its recipe works on it: a venv that has it was never finished.
const HALF_MADE: &str = "half-made";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Venv {
    /// Version of its Python, `3.12.8`.
    pub(crate) python: Option<String>,
    /// Packages and their versions, names in lower case with dashes.
    pub(crate) packages: BTreeMap<String, String>,
    /// Its torch, where it has one that tells its version.
    pub(crate) torch: Option<Torch>,
    /// Where its Python's headers are, or should be.
    pub(crate) headers: Option<PathBuf>,
}

/// What `torch/version.py` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Torch {
    /// `2.9.1+cu128`.
    pub(crate) version: String,
    /// The CUDA that it was built for, `12.8`.
    pub(crate) cuda: Option<String>,
}

impl Venv {
    /// Reads a venv.
    ///
    /// # Errors
    /// It is no venv, or can't be read.
    pub(crate) fn read(folder: &Path) -> io::Result<Self> {
        let config = std::fs::read_to_string(folder.join(CONFIG)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(error.kind(), format!("it has no {CONFIG}")),
            _ => error,
        })?;
        let mut packages = BTreeMap::new();
        let site = site_packages(folder)?;
        for entry in std::fs::read_dir(&site)? {
            let name = entry?.file_name();
            let Some((package, version)) = name
                .to_str()
                .and_then(|name| name.strip_suffix(".dist-info"))
                .and_then(|stem| stem.split_once('-'))
            else {
                continue;
            };
            packages.insert(normal(package), version.to_owned());
        }
        let torch = std::fs::read_to_string(site.join("torch/version.py"));
        let python = python_of(&config);
        Ok(Self {
            headers: python.as_deref().and_then(|python| headers_of(&config, python)),
            python,
            packages,
            torch: torch.ok().and_then(|text| torch_of(&text)),
        })
    }

    /// Version of a package, where it is installed.
    pub(crate) fn version(&self, package: &str) -> Option<&str> {
        self.packages.get(&normal(package)).map(String::as_str)
    }

    /// SHA-256 over the sorted lines `name==version`, hex: two venvs with the same hold the same packages.
    pub(crate) fn resolved_sha256(&self) -> String {
        let mut lines = String::new();
        for (name, version) in &self.packages {
            let _ = writeln!(lines, "{name}=={version}");
        }
        hex(&Sha256::digest(lines.as_bytes()))
    }
}

/// Whether a package is of the version that is wanted. `0.32.0+cpu` is 0.32.0, built for the CPU: what a plan leaves
/// open behind the `+` may be anything.
pub(crate) fn is_version(found: &str, wanted: &str) -> bool {
    let public = found.split_once('+').map(|(public, _)| public);
    found == wanted || (!wanted.contains('+') && public == Some(wanted))
}

/// Whether the recipe that made this venv never came to its end.
pub(crate) fn is_half_made(folder: &Path) -> bool {
    folder.join(HALF_MADE).exists()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn site_packages(folder: &Path) -> io::Result<PathBuf> {
    let pythons = std::fs::read_dir(folder.join("lib"))?;
    pythons
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("python"))
        .map(|entry| entry.path().join("site-packages"))
        .find(|path| path.is_dir())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no site-packages"))
}

/// The value of a key of `pyvenv.cfg`.
fn value(config: &str, wanted: &str) -> Option<String> {
    config
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == wanted)
        .map(|(_, value)| value.trim().to_owned())
}

/// `version_info = 3.12.8` as uv writes it, `version = 3.12.8` as Python itself does.
fn python_of(config: &str) -> Option<String> {
    value(config, "version_info").or_else(|| value(config, "version"))
}

/// Where the headers of the Python are that a venv was made of: `home` is the folder of its program.
fn headers_of(config: &str, python: &str) -> Option<PathBuf> {
    let home = PathBuf::from(value(config, "home")?);
    let mut parts = python.split('.');
    let short = format!("python{}.{}", parts.next()?, parts.next()?);
    Some(home.parent()?.join("include").join(short).join("Python.h"))
}

/// `__version__ = '2.9.1+cu128'` and `cuda: Optional[str] = '12.8'`, whatever stands between name and value.
fn torch_of(text: &str) -> Option<Torch> {
    let string = |name: &str| {
        let line = text.lines().find(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.trim_start().starts_with([':', '=']))
        })?;
        let (_, value) = line.rsplit_once('=')?;
        let value = value.trim();
        let inside = value.strip_prefix(['\'', '"'])?.strip_suffix(['\'', '"'])?;
        Some(inside.to_owned())
    };
    Some(Torch {
        version: string("__version__")?,
        cuda: string("cuda"),
    })
}

/// Packages are named as they like on disk: `torch_memory_saver`, `Jinja2`.
fn normal(package: &str) -> String {
    package.to_ascii_lowercase().replace(['_', '.'], "-")
}

#[cfg(test)]
pub(crate) mod testing {
    use std::path::Path;

    /// A folder that reads as a venv with these packages.
    pub(crate) fn make(folder: &Path, python: &str, packages: &[(&str, &str)]) {
        let site = folder.join("lib/python3.12/site-packages");
        std::fs::create_dir_all(&site).unwrap();
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        std::fs::write(
            folder.join("pyvenv.cfg"),
            format!("home = /usr/bin\nversion_info = {python}\n"),
        )
        .unwrap();
        for (name, version) in packages {
            std::fs::create_dir_all(site.join(format!("{name}-{version}.dist-info"))).unwrap();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_from_their_folders() {
        let dir = tempfile::tempdir().unwrap();
        let venv = dir.path().join(".venv");
        assert!(Venv::read(&venv).is_err());
        testing::make(
            &venv,
            "3.12.8",
            &[("vllm", "0.15.1"), ("torch_memory_saver", "0.0.9")],
        );
        let read = Venv::read(&venv).unwrap();
        assert_eq!(read.python.as_deref(), Some("3.12.8"));
        assert_eq!(read.version("vllm"), Some("0.15.1"));
        assert_eq!(read.version("torch-memory-saver"), Some("0.0.9"));
        assert_eq!(read.version("sglang"), None);
        assert_eq!(read.resolved_sha256().len(), 64);
        let before = read.resolved_sha256();
        testing::make(&venv, "3.12.8", &[("pip", "25.0")]);
        assert_ne!(Venv::read(&venv).unwrap().resolved_sha256(), before);
    }

    #[test]
    fn what_a_version_leaves_open_may_be_anything() {
        for (found, wanted, is) in [
            ("0.32.0", "0.32.0", true),
            ("0.32.0+cpu", "0.32.0", true),
            ("0.32.0+cpu", "0.32.0+cpu", true),
            ("0.32.0+cpu", "0.32.0+cu130", false),
            ("0.32.0", "0.32.0+cpu", false),
            ("0.32.0+cpu", "0.32", false),
            ("0.5.6.post2", "0.5.6", false),
        ] {
            assert_eq!(is_version(found, wanted), is, "{found} for {wanted}");
        }
    }

    #[test]
    fn torch_tells_its_cuda_without_being_imported() {
        let text = "from typing import Optional\n\n__all__ = ['__version__', 'debug', 'cuda']\n__version__ = '2.9.1+cu128'\n\
                    debug = False\ncuda: Optional[str] = '12.8'\ngit_version = 'd38164'\nhip: Optional[str] = None\n";
        let torch = torch_of(text).unwrap();
        assert_eq!(
            (torch.version.as_str(), torch.cuda.as_deref()),
            ("2.9.1+cu128", Some("12.8"))
        );
        let cpu = torch_of("__version__ = '2.9.1+cpu'\ncuda = None\n").unwrap();
        assert_eq!(cpu.cuda, None);
    }

    #[test]
    fn headers_are_looked_for_beside_the_python_that_the_venv_was_made_of() {
        let config = "home = /opt/python/bin\nversion_info = 3.12.8\n";
        assert_eq!(
            headers_of(config, "3.12.8").as_deref(),
            Some(Path::new("/opt/python/include/python3.12/Python.h"))
        );
        assert_eq!(headers_of("version = 3.12\n", "3.12"), None);
    }

    #[test]
    fn pythons_own_venvs_name_their_version_otherwise() {
        assert_eq!(
            python_of("home = /usr\nversion = 3.11.2\n").as_deref(),
            Some("3.11.2")
        );
        assert_eq!(python_of("home = /usr\n"), None);
    }
}
