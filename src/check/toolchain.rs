//! The compilers that servers find on this machine, as those who compile look for them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use super::finding::{Area, Finding};
use crate::env::Venv;
use benchd_frameworks::vocabulary;
use benchd_journal::{Tool, Toolchain};
use benchd_plan::{Framework, Model};

/// Limit of a compiler that is asked for its version.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// Where CUDA is looked for when nothing names it.
const USUAL_CUDA: &str = "/usr/local/cuda";

/// The variables that decide what is found.
const VARIABLES: [&str; 6] = ["PATH", "CUDA_HOME", "CUDA_PATH", "FLASHINFER_NVCC", "CXX", "CC"];

/// What was found for these values of the variables.
pub(super) type Cache = BTreeMap<Vec<Option<String>>, Toolchain>;

/// What a lane's server finds.
#[derive(Debug, Default)]
pub(super) struct LaneTools {
    pub(super) toolchain: Toolchain,
    /// Where its Python's headers should be and are not.
    pub(super) python_headers_missing: Option<PathBuf>,
    /// Where harmony's vocabulary should be and is not.
    pub(super) vocabulary_missing: Option<PathBuf>,
}

/// Looks for a lane's server, whose environment beside benchd's own is `env`.
pub(super) async fn of_lane(
    framework: &Framework,
    model: &Model,
    env: &[(String, String)],
    venv: Option<&Venv>,
    cache: &mut Cache,
) -> LaneTools {
    let variable = |name: &str| {
        let set = env.iter().rev().find(|(given, _)| given == name);
        set.map(|(_, value)| value.clone())
            .or_else(|| std::env::var(name).ok())
            .filter(|value| !value.is_empty())
    };
    let key: Vec<Option<String>> = VARIABLES.map(variable).to_vec();
    let toolchain = match cache.get(&key) {
        Some(found) => found.clone(),
        None => {
            let found = read(&variable).await;
            cache.insert(key, found.clone());
            found
        }
    };
    let headers = venv.and_then(|venv| venv.headers.clone());
    LaneTools {
        toolchain,
        python_headers_missing: headers.filter(|path| !path.is_file()),
        vocabulary_missing: vocabulary(framework, model)
            .filter(|vocabulary| !vocabulary.there)
            .map(|vocabulary| vocabulary.path),
    }
}

/// Looks in benchd's own environment.
pub(crate) async fn of_this_machine() -> Toolchain {
    read(&|name| std::env::var(name).ok().filter(|value| !value.is_empty())).await
}

async fn read(variable: &dyn Fn(&str) -> Option<String>) -> Toolchain {
    let path = variable("PATH").unwrap_or_default();
    let on_path = |name: &str| {
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|program| program.is_file())
    };
    // As FlashInfer and torch do.
    let home = variable("CUDA_HOME").or_else(|| variable("CUDA_PATH"));
    let nvcc = match (variable("FLASHINFER_NVCC"), home) {
        (Some(nvcc), _) => Some(PathBuf::from(nvcc)),
        (None, Some(home)) => Some(Path::new(&home).join("bin/nvcc")),
        (None, None) => on_path("nvcc").or_else(|| Some(Path::new(USUAL_CUDA).join("bin/nvcc"))),
    };
    let named = |name: &str| match name.contains('/') {
        true => Some(PathBuf::from(name)),
        false => on_path(name),
    };
    let cxx = match variable("CXX") {
        Some(name) => named(&name),
        None => on_path("c++"),
    };
    let cc = match variable("CC") {
        Some(name) => named(&name),
        None => on_path("gcc").or_else(|| on_path("clang")),
    };
    Toolchain {
        nvcc: tool(nvcc, nvcc_version).await,
        cxx: tool(cxx, compiler_version).await,
        cc: tool(cc, compiler_version).await,
    }
}

/// A program that is there, with the version that it tells.
async fn tool(path: Option<PathBuf>, version: fn(&str) -> Option<String>) -> Option<Tool> {
    let path = path.filter(|path| path.is_file())?;
    let asked = tokio::process::Command::new(&path)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(ASK_LIMIT, asked).await;
    let said = output.ok().and_then(Result::ok).map(|output| output.stdout);
    Some(Tool {
        path: path.display().to_string(),
        version: said.and_then(|said| version(&String::from_utf8_lossy(&said))),
    })
}

/// `Cuda compilation tools, release 12.8, V12.8.93`.
fn nvcc_version(said: &str) -> Option<String> {
    let (_, release) = said.split_once("release ")?;
    let version = match release.split_once(", V") {
        Some((_, version)) => version,
        None => release,
    };
    let version = version.split([',', ' ', '\n']).next()?.trim();
    (!version.is_empty()).then(|| version.to_owned())
}

/// The last word of the first line that is a version: `c++ (Ubuntu 13.2.0-4ubuntu3) 13.2.0`.
fn compiler_version(said: &str) -> Option<String> {
    let line = said.lines().next()?;
    let is_version = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    line.split_whitespace().rev().find(is_version).map(str::to_owned)
}

/// What the compilers are, where a lane compiles something.
pub(super) fn told(toolchain: &Toolchain, compiles: &BTreeMap<String, Vec<String>>) -> Option<Finding> {
    if compiles.is_empty() {
        return None;
    }
    let tools = [
        ("nvcc", &toolchain.nvcc),
        ("c++", &toolchain.cxx),
        ("C compiler", &toolchain.cc),
    ];
    let tools: Vec<String> = tools
        .into_iter()
        .map(|(name, tool)| match tool {
            Some(tool) => format!(
                "{name} {} ({})",
                tool.version.as_deref().unwrap_or("of unknown version"),
                tool.path
            ),
            None => format!("no {name}"),
        })
        .collect();
    let mut what: Vec<&str> = compiles.values().flatten().map(String::as_str).collect();
    what.sort_unstable();
    what.dedup();
    Some(Finding::note(
        Area::Toolchain,
        format!(
            "{}; servers compile at their first start: {}",
            tools.join(", "),
            what.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_compilers_say() {
        let nvcc = "nvcc: NVIDIA (R) Cuda compiler driver\nCopyright (c) 2005-2023 NVIDIA Corporation\nBuilt on x\n\
                    Cuda compilation tools, release 12.1, V12.1.66\nBuild cuda_12.1.r12.1/compiler.32415258_0\n";
        assert_eq!(nvcc_version(nvcc).as_deref(), Some("12.1.66"));
        assert_eq!(nvcc_version("release 12.8").as_deref(), Some("12.8"));
        assert_eq!(nvcc_version("no such file"), None);
        let gcc = "c++ (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0\nCopyright";
        assert_eq!(compiler_version(gcc).as_deref(), Some("11.4.0"));
        assert_eq!(
            compiler_version("Debian clang version 14.0.6").as_deref(),
            Some("14.0.6")
        );
        assert_eq!(compiler_version("cc"), None);
    }
}
