//! Where what compiles for servers keeps its work for the next start, by the sources of torch 2.9, Triton 3.5, FlashInfer
//! 0.5 and tvm-ffi 0.1. The folders of the servers' own stand in their files.

use std::path::{Path, PathBuf};

use super::args::{Env, env_path};

/// What a line of a server's output says of its compile cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompileLine {
    /// It loaded what was compiled before.
    Loaded,
    /// It compiled.
    Compiled,
}

pub(crate) fn home(env: Env<'_>) -> PathBuf {
    env_path(env, "HOME").unwrap_or_else(|| PathBuf::from("/"))
}

/// Folders of torch's inductor, Triton, FlashInfer and tvm-ffi.
pub(crate) fn of_compilers(env: Env<'_>) -> Vec<PathBuf> {
    let home = home(env);
    let triton_home = env_path(env, "TRITON_HOME").unwrap_or_else(|| home.clone());
    let workspace = env_path(env, "FLASHINFER_WORKSPACE_BASE").unwrap_or_else(|| home.clone());
    vec![
        env_path(env, "TORCHINDUCTOR_CACHE_DIR").unwrap_or_else(|| {
            let temporary = env_path(env, "TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
            temporary.join(format!("torchinductor_{}", user(env)))
        }),
        env_path(env, "TRITON_CACHE_DIR").unwrap_or_else(|| triton_home.join(".triton/cache")),
        workspace.join(".cache/flashinfer"),
        env_path(env, "TVM_FFI_CACHE_DIR").unwrap_or_else(|| home.join(".cache/tvm-ffi")),
    ]
}

/// The user's name, as Python's `getpass` finds it.
fn user(env: Env<'_>) -> String {
    ["LOGNAME", "USER", "LNAME", "USERNAME"]
        .iter()
        .find_map(|name| env(name).filter(|value| !value.is_empty()))
        .or_else(|| {
            let known = nix::unistd::User::from_uid(nix::unistd::getuid());
            Some(known.ok()??.name)
        })
        .unwrap_or_default()
}

/// Each folder once, without those that lie in another of them.
pub(crate) fn apart(folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = Vec::new();
    for folder in folders {
        let inside = |of: &Path, it: &Path| it.starts_with(of);
        if kept.iter().any(|known| inside(known, &folder)) {
            continue;
        }
        kept.retain(|known| !inside(&folder, known));
        kept.push(folder);
    }
    kept
}
