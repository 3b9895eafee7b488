//! Venvs and binaries: there, whole, and of the version that the plan pins.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use super::finding::{Area, Finding};
use crate::env::{self, Missing, Venv};
use benchd_core::record::GpuHost;
use benchd_plan::{Framework, Plan, Provision, Source};

/// Limit of a program that is asked for its version, and of a server that is asked whether it is there.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// Library of the driver by which servers use the GPU.
const CUDA_LIBRARY: &str = "libcuda.so.1";

/// Where the loader looks for libraries beside its own list.
const LIBRARY_FOLDERS: [&str; 6] = [
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/nvidia/lib64",
    "/usr/lib/wsl/lib",
    "/run/opengl-driver/lib",
];

/// Several frameworks that run from the same place, in the same version.
struct Shared<'a> {
    names: String,
    framework: &'a Framework,
}

/// Looks at what the frameworks run from. `used` are those that have a lane.
pub(super) async fn look(
    plan: &Plan,
    plan_path: &Path,
    used: &[&Framework],
    gpu: Option<&GpuHost>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for shared in shared(used) {
        findings.extend(one(&shared, plan_path, gpu).await);
    }
    let files = env::missing_of_models(plan, used.iter().copied());
    findings.extend(
        files
            .iter()
            .map(|(framework, missing)| not_there(missing, framework.provision, plan_path)),
    );
    if gpu.is_some() {
        findings.extend(cuda_library(used));
    }
    findings
}

fn shared<'a>(used: &[&'a Framework]) -> Vec<Shared<'a>> {
    let mut all: Vec<Shared<'a>> = Vec::new();
    for framework in used {
        let same = all.iter_mut().find(|known| {
            let known = known.framework;
            known.kind == framework.kind
                && known.source == framework.source
                && known.version == framework.version
        });
        match same {
            Some(known) => known.names = format!("{}, {}", known.names, framework.name),
            None => all.push(Shared {
                names: framework.name.clone(),
                framework,
            }),
        }
    }
    all
}

/// A file that is missing: made by the run itself where the plan says so.
fn not_there(missing: &Missing, provision: Provision, plan_path: &Path) -> Finding {
    if missing.recipe.is_some() && provision == Provision::Auto {
        return Finding::note(
            Area::Environment,
            format!("{missing}; the run makes it (`provision: auto`)"),
        );
    }
    Finding::lose(Area::Environment, missing.to_string(), missing.hint(plan_path))
}

async fn one(shared: &Shared<'_>, plan_path: &Path, gpu: Option<&GpuHost>) -> Vec<Finding> {
    let framework = shared.framework;
    if let Some(missing) = env::missing(framework) {
        return vec![not_there(&missing, framework.provision, plan_path)];
    }
    match &framework.source {
        Source::Venv(folder) => venv(shared, folder, plan_path, gpu),
        Source::Binary(path) => vec![binary(shared, path, plan_path).await],
        Source::Command { command, .. } => vec![program(shared, command)],
        Source::Url(url) => vec![url_answers(shared, url).await],
    }
}

fn venv(shared: &Shared<'_>, folder: &Path, plan_path: &Path, gpu: Option<&GpuHost>) -> Vec<Finding> {
    let names = &shared.names;
    let framework = shared.framework;
    let kind = framework.kind.as_str();
    let make = match env::recipe_for(folder) {
        Some(_) => format!("make it: benchd env {}", plan_path.display()),
        None => format!(
            "make a venv of it there, or name another one in frameworks.{}.venv",
            framework.name
        ),
    };
    let read = match Venv::read(folder) {
        Ok(read) => read,
        // Its program is there, and the run starts it: a wrapper that leads elsewhere.
        Err(error) => {
            return vec![Finding::warn(
                Area::Environment,
                format!(
                    "{names}: {} is no venv ({error}): its program runs, and what version it is of is not known before",
                    folder.display()
                ),
                make,
            )];
        }
    };
    let mut findings = Vec::new();
    let python = read.python.as_deref().unwrap_or("of an unknown version");
    match (read.version(kind), framework.version.as_deref()) {
        (None, _) => findings.push(Finding::lose(
            Area::Environment,
            format!("{names}: {kind} is not installed in {}", folder.display()),
            make.clone(),
        )),
        (Some(found), Some(wanted)) if !env::is_version(found, wanted) => findings.push(Finding::lose(
            Area::Environment,
            format!(
                "{names}: {} has {kind} {found}, the plan says {wanted}",
                folder.display()
            ),
            format!("correct `version`, or {make}"),
        )),
        (Some(found), _) => findings.push(Finding::ok(
            Area::Environment,
            format!(
                "{names}: {kind} {found}, Python {python}, {} packages in {}",
                read.packages.len(),
                folder.display()
            ),
        )),
    }
    let recorded = env::environment_of(folder).and_then(|folder| env::installed(&folder));
    if let Some(recorded) = recorded.map(|record| record.environment) {
        if recorded
            .resolved_sha256
            .is_some_and(|hash| hash != read.resolved_sha256())
        {
            findings.push(Finding::warn(
                Area::Environment,
                format!(
                    "{names}: packages in {} were changed after it was made",
                    folder.display()
                ),
                format!("remove {} and {make}", folder.display()),
            ));
        }
        if recorded.python != read.python {
            findings.push(Finding::warn(
                Area::Environment,
                format!(
                    "{names}: {} was made with Python {}, and is of Python {python} now",
                    folder.display(),
                    recorded.python.as_deref().unwrap_or("of an unknown version")
                ),
                format!("remove {} and {make}", folder.display()),
            ));
        }
    }
    if let Some(gpu) = gpu {
        findings.extend(cuda_versions(names, &read, gpu));
    }
    findings
}

/// The CUDA that the packages were built for against what the driver supports.
fn cuda_versions(names: &str, venv: &Venv, gpu: &GpuHost) -> Option<Finding> {
    let of_torch = venv.torch.as_ref().and_then(|torch| torch.cuda.as_deref());
    let mut packages = [
        "nvidia-cuda-runtime",
        "nvidia-cuda-runtime-cu13",
        "nvidia-cuda-runtime-cu12",
    ]
    .iter();
    let built = of_torch.or_else(|| packages.find_map(|package| venv.version(package)))?;
    let (needs, has) = (major_minor(built)?, major_minor(gpu.cuda.as_deref()?)?);
    let torch = venv
        .torch
        .as_ref()
        .map(|torch| format!(" (torch {})", torch.version))
        .unwrap_or_default();
    let told = format!(
        "{names}: built for CUDA {}.{}{torch}, the driver {} supports {}.{}",
        needs.0, needs.1, gpu.driver, has.0, has.1
    );
    let remedy = "install a newer NVIDIA driver";
    if needs.0 > has.0 {
        Some(Finding::lose(Area::Environment, told, remedy))
    } else if needs > has {
        Some(Finding::warn(
            Area::Environment,
            format!("{told}: what is compiled on the spot (Triton, FlashInfer) may fail"),
            remedy,
        ))
    } else {
        None
    }
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((
        parts.next()?.parse().ok()?,
        parts.next().unwrap_or("0").parse().ok()?,
    ))
}

async fn binary(shared: &Shared<'_>, path: &Path, plan_path: &Path) -> Finding {
    let names = &shared.names;
    let wanted = shared.framework.version.as_deref();
    match version_of(path).await {
        Ok(found) if wanted.is_some_and(|wanted| wanted != found) => Finding::lose(
            Area::Environment,
            format!(
                "{names}: {} is version {found}, the plan says {}",
                path.display(),
                wanted.unwrap_or_default()
            ),
            format!(
                "correct `version`, or put the other one there: benchd env {}",
                plan_path.display()
            ),
        ),
        Ok(found) => Finding::ok(
            Area::Environment,
            format!("{names}: {} {found} at {}", shared.framework.kind, path.display()),
        ),
        Err(why) => Finding::lose(
            Area::Environment,
            format!("{names}: {} does not tell its version: {why}", path.display()),
            "is it the program, whole, and for this machine? run it by hand with --version",
        ),
    }
}

/// What `program --version` says. It asks a server for its version as well: on a port where none can be.
async fn version_of(program: &Path) -> Result<String, String> {
    let home = tempfile::tempdir().map_err(|error| error.to_string())?;
    let child = tokio::process::Command::new(program)
        .arg("--version")
        .env("OLLAMA_HOST", "127.0.0.1:1")
        .env("HOME", home.path())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(ASK_LIMIT, child)
        .await
        .map_err(|_| format!("no answer within {} s", ASK_LIMIT.as_secs()))?
        .map_err(|error| error.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    find_version(&text).ok_or_else(|| {
        let line = text.lines().next().unwrap_or("it says nothing").trim();
        format!("{line} ({})", output.status)
    })
}

/// The version in what Ollama says: `ollama version is 0.15.6`, or, without a server, `client version is 0.15.6`.
fn find_version(text: &str) -> Option<String> {
    let after = text.rsplit_once("version is ")?.1;
    let version = after.split_whitespace().next()?;
    version
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| version.to_owned())
}

/// A command's program, where it is looked for on the path.
fn program(shared: &Shared<'_>, command: &[String]) -> Finding {
    let names = &shared.names;
    let Some(first) = command.first() else {
        return Finding::lose(
            Area::Environment,
            format!("{names}: its command is empty"),
            "give `command` a program",
        );
    };
    if first == "benchd" {
        return Finding::ok(Area::Environment, format!("{names}: benchd itself"));
    }
    if first.contains('/') {
        return Finding::ok(Area::Environment, format!("{names}: {first}"));
    }
    let path = shared
        .framework
        .env
        .get("PATH")
        .cloned()
        .or_else(|| std::env::var("PATH").ok());
    let found = path
        .iter()
        .flat_map(|path| std::env::split_paths(path))
        .map(|folder| folder.join(first))
        .find(|program| program.is_file());
    match found {
        Some(program) => Finding::ok(Area::Environment, format!("{names}: {}", program.display())),
        None => Finding::lose(
            Area::Environment,
            format!("{names}: no `{first}` on the path"),
            "install it, or give its whole path in `command`",
        ),
    }
}

/// Whether somebody listens where a server of someone else's should be.
async fn url_answers(shared: &Shared<'_>, url: &str) -> Finding {
    let framework = shared.framework;
    let address = format!("{}:{}", framework.host, framework.port);
    let connected = tokio::time::timeout(
        ASK_LIMIT,
        tokio::net::TcpStream::connect((framework.host.as_str(), framework.port)),
    );
    let why = match connected.await {
        Ok(Ok(_)) => {
            return Finding::ok(
                Area::Environment,
                format!("{}: somebody listens at {url}", shared.names),
            );
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", ASK_LIMIT.as_secs()),
    };
    Finding::lose(
        Area::Environment,
        format!("{}: nobody listens at {address}: {why}", shared.names),
        "start that server before the run, or correct `url`",
    )
}

/// The driver's library, for the kinds that are known to need it.
fn cuda_library(used: &[&Framework]) -> Option<Finding> {
    let needing = used.iter().find(|framework| {
        !matches!(framework.source, Source::Url(_)) && benchd_frameworks::kind(framework.kind).needs_cuda
    })?;
    let given = needing
        .env
        .get("LD_LIBRARY_PATH")
        .cloned()
        .or_else(|| std::env::var("LD_LIBRARY_PATH").ok());
    let found = given
        .iter()
        .flat_map(|path| std::env::split_paths(path))
        .chain(LIBRARY_FOLDERS.map(PathBuf::from))
        .any(|folder| folder.join(CUDA_LIBRARY).exists())
        || loader_knows(CUDA_LIBRARY);
    if found {
        return None;
    }
    Some(Finding::lose(
        Area::Gpu,
        format!("{CUDA_LIBRARY} is not on this machine: servers can't use the GPU"),
        "install the NVIDIA driver's compute part (libcuda); in a container, NVIDIA_DRIVER_CAPABILITIES needs `compute`",
    ))
}

/// Whether the loader's own list names a library.
fn loader_knows(library: &str) -> bool {
    std::fs::read("/etc/ld.so.cache")
        .is_ok_and(|cache| memchr::memmem::find(&cache, library.as_bytes()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_with_and_without_a_server() {
        let alone =
            "Warning: could not connect to a running Ollama instance\nWarning: client version is 0.15.6\n";
        assert_eq!(find_version(alone).as_deref(), Some("0.15.6"));
        assert_eq!(
            find_version("ollama version is 0.15.6\n").as_deref(),
            Some("0.15.6")
        );
        assert_eq!(find_version("Segmentation fault"), None);
    }

    #[test]
    fn cuda_versions_are_compared_by_their_numbers() {
        assert_eq!(major_minor("12.8.90"), Some((12, 8)));
        assert_eq!(major_minor("13"), Some((13, 0)));
        assert!(major_minor("12.10") > major_minor("12.8"));
        assert_eq!(major_minor("x"), None);
    }
}
