//! Where vLLM and SGLang keep what they compiled at an earlier start: the folders of their own, and those of what
//! compiles for them. By the sources of vLLM 0.15.1 and 0.32.0, SGLang 0.5.6.post2 and 0.5.23, torch 2.9, Triton 3.5,
//! FlashInfer 0.5 and tvm-ffi 0.1.

use std::path::{Path, PathBuf};

/// A variable of the server's environment.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a line of a server's output says of its compile cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompileLine {
    /// It loaded what was compiled before.
    Loaded,
    /// It compiled.
    Compiled,
}

fn set(env: Env<'_>, name: &str) -> Option<PathBuf> {
    env(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn home(env: Env<'_>) -> PathBuf {
    set(env, "HOME").unwrap_or_else(|| PathBuf::from("/"))
}

/// Folders of vLLM.
pub(super) fn of_vllm(env: Env<'_>) -> Vec<PathBuf> {
    let cache = set(env, "XDG_CACHE_HOME").unwrap_or_else(|| home(env).join(".cache"));
    let root = set(env, "VLLM_CACHE_ROOT").unwrap_or_else(|| cache.join("vllm"));
    let mut all = vec![
        root.join("torch_compile_cache"),
        set(env, "DG_JIT_CACHE_DIR").unwrap_or_else(|| root.join("deep_gemm")),
    ];
    all.extend(of_compilers(env));
    all
}

/// Folders of SGLang. Later versions put those of the compilers into a folder of their own, unless they are set.
pub(super) fn of_sglang(env: Env<'_>) -> Vec<PathBuf> {
    let root = set(env, "SGLANG_CACHE_DIR").unwrap_or_else(|| home(env).join(".cache/sglang"));
    let within = [
        "torch_compile_cache",
        "deep_gemm",
        "inductor",
        "triton",
        "tilelang",
        "cute_aot",
        ".cache/flashinfer",
    ];
    let mut all: Vec<PathBuf> = within.iter().map(|name| root.join(name)).collect();
    all.push(set(env, "SGLANG_DG_CACHE_DIR").unwrap_or_else(|| home(env).join(".cache/deep_gemm")));
    all.extend(of_compilers(env));
    all
}

/// Folders of torch's inductor, Triton, FlashInfer and tvm-ffi.
fn of_compilers(env: Env<'_>) -> Vec<PathBuf> {
    let home = home(env);
    let triton_home = set(env, "TRITON_HOME").unwrap_or_else(|| home.clone());
    let workspace = set(env, "FLASHINFER_WORKSPACE_BASE").unwrap_or_else(|| home.clone());
    vec![
        set(env, "TORCHINDUCTOR_CACHE_DIR").unwrap_or_else(|| {
            let temporary = set(env, "TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
            temporary.join(format!("torchinductor_{}", user(env)))
        }),
        set(env, "TRITON_CACHE_DIR").unwrap_or_else(|| triton_home.join(".triton/cache")),
        workspace.join(".cache/flashinfer"),
        set(env, "TVM_FFI_CACHE_DIR").unwrap_or_else(|| home.join(".cache/tvm-ffi")),
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
pub(super) fn apart(folders: Vec<PathBuf>) -> Vec<PathBuf> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(folders: Vec<PathBuf>) -> String {
        let lines: Vec<String> = apart(folders).iter().map(|p| p.display().to_string()).collect();
        lines.join("\n")
    }

    #[test]
    fn folders_are_where_the_frameworks_put_them() {
        let bare = |name: &str| match name {
            "HOME" => Some("/home/b".to_owned()),
            "USER" => Some("b".to_owned()),
            _ => None,
        };
        insta::assert_snapshot!(shown(of_vllm(&bare)), @r"
        /home/b/.cache/vllm/torch_compile_cache
        /home/b/.cache/vllm/deep_gemm
        /tmp/torchinductor_b
        /home/b/.triton/cache
        /home/b/.cache/flashinfer
        /home/b/.cache/tvm-ffi
        ");
        insta::assert_snapshot!(shown(of_sglang(&bare)), @r"
        /home/b/.cache/sglang/torch_compile_cache
        /home/b/.cache/sglang/deep_gemm
        /home/b/.cache/sglang/inductor
        /home/b/.cache/sglang/triton
        /home/b/.cache/sglang/tilelang
        /home/b/.cache/sglang/cute_aot
        /home/b/.cache/sglang/.cache/flashinfer
        /home/b/.cache/deep_gemm
        /tmp/torchinductor_b
        /home/b/.triton/cache
        /home/b/.cache/flashinfer
        /home/b/.cache/tvm-ffi
        ");
    }

    #[test]
    fn variables_of_the_plan_move_them_and_each_is_counted_once() {
        let moved = |name: &str| match name {
            "HOME" => Some("/home/b".to_owned()),
            "USER" => Some("b".to_owned()),
            "VLLM_CACHE_ROOT" => Some("/c/vllm".to_owned()),
            "TORCHINDUCTOR_CACHE_DIR" => Some("/c/vllm/torch_compile_cache/inductor".to_owned()),
            "TRITON_CACHE_DIR" => Some("/c/triton".to_owned()),
            "FLASHINFER_WORKSPACE_BASE" => Some("/c".to_owned()),
            "TVM_FFI_CACHE_DIR" => Some("/c/triton".to_owned()),
            _ => None,
        };
        insta::assert_snapshot!(shown(of_vllm(&moved)), @r"
        /c/vllm/torch_compile_cache
        /c/vllm/deep_gemm
        /c/triton
        /c/.cache/flashinfer
        ");
    }
}
