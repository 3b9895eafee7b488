//! A server's arguments and environment.

use std::path::{Path, PathBuf};

use benchd_plan::{Framework, Model};

/// Looks a variable of the environment up.
pub(crate) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A variable that is set and not empty, as a path.
pub(crate) fn env_path(env: Env<'_>, name: &str) -> Option<PathBuf> {
    env(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The plan's arguments: the framework's, then the model's.
pub fn arguments(framework: &Framework, model: &Model) -> Vec<String> {
    let mut args = framework.args.clone();
    args.extend(model_arguments(framework, model));
    args
}

/// The model's arguments: those for the kind, then those for this very framework.
pub(crate) fn model_arguments(framework: &Framework, model: &Model) -> Vec<String> {
    let kind = framework.kind.as_str();
    let own = Some(framework.name.as_str()).filter(|name| *name != kind);
    std::iter::once(kind)
        .chain(own)
        .filter_map(|name| model.args.get(name))
        .flatten()
        .cloned()
        .collect()
}

/// An environment variable.
pub(crate) fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// Whether the arguments hold this flag, as `--flag value` or `--flag=value`, with dashes or underscores.
pub(crate) fn has_flag(args: &[String], flag: &str) -> bool {
    args.iter().any(|arg| is_flag(arg, flag))
}

/// The value of this flag. The last one counts, as for argparse.
pub(crate) fn flag_value<'a>(args: &'a [String], flag: &str) -> Option<&'a str> {
    let at = args.iter().rposition(|arg| is_flag(arg, flag))?;
    match args[at].split_once('=') {
        Some((_, value)) => Some(value),
        None => args.get(at + 1).map(String::as_str),
    }
}

fn is_flag(arg: &str, flag: &str) -> bool {
    let name = arg.split('=').next().unwrap_or(arg);
    name.starts_with("--") && name.replace('_', "-") == flag
}

/// The path from the root. A path that can't be made so (no working directory) stays as it is.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(args: &[&str]) -> Vec<String> {
        args.iter().map(|&a| a.to_owned()).collect()
    }

    #[test]
    fn flags_are_found_however_they_are_written() {
        let args = args(&[
            "--max_model_len=8192",
            "--tp",
            "2",
            "--dtype",
            "half",
            "--dtype",
            "bfloat16",
            "x--host",
        ]);
        assert!(has_flag(&args, "--max-model-len"));
        assert_eq!(flag_value(&args, "--max-model-len"), Some("8192"));
        assert_eq!(flag_value(&args, "--tp"), Some("2"));
        assert_eq!(flag_value(&args, "--dtype"), Some("bfloat16"));
        assert!(!has_flag(&args, "--host"));
        assert_eq!(flag_value(&args, "--absent"), None);
    }
}
