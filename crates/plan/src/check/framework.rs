//! Frameworks: where the server comes from fits the kind, and nothing contradicts what benchd sets itself.

use std::{collections::BTreeMap, time::Duration};

use indexmap::IndexMap;

use super::{At, Checker};
use crate::{
    Framework, FrameworkKind, Provision, Source,
    diagnostic::KeyPath,
    kind::{SourceKeys, names},
    name::nearest,
    raw::RawFramework,
    values::{EnvText, is_variable_name},
};

/// What a command may hold in braces.
const PLACEHOLDERS: [&str; 4] = ["host", "port", "model", "gguf"];

/// Arguments and variables that benchd sets from the plan's own keys.
fn set_by_benchd(name: &str) -> Option<&'static str> {
    match name {
        "--port" => Some("`port`"),
        "--host" => Some("`host`"),
        "--model" | "--model-path" => Some("the model's `hf`"),
        "OLLAMA_HOST" => Some("`host` and `port`"),
        "CUDA_VISIBLE_DEVICES" => Some("`host.gpu`"),
        "BENCHD_TOKEN" => Some("benchd, to find its servers again"),
        _ => None,
    }
}

impl Checker<'_> {
    pub(super) fn frameworks(
        &mut self,
        raw: Option<&IndexMap<String, RawFramework>>,
    ) -> IndexMap<String, Framework> {
        let mut out = IndexMap::new();
        for (name, raw) in raw.into_iter().flatten() {
            if let Some(framework) = self.framework(name, raw) {
                out.insert(name.clone(), framework);
            }
        }
        out
    }

    /// The kind written, or the name where that is a kind's.
    pub(super) fn framework_kind(name: &str, raw: &RawFramework) -> Option<FrameworkKind> {
        raw.kind.or_else(|| FrameworkKind::named(name))
    }

    fn framework(&mut self, name: &str, raw: &RawFramework) -> Option<Framework> {
        let path = KeyPath::of(&["frameworks", name]);
        let kind = Self::framework_kind(name, raw);
        if kind.is_none() && !self.written(&path.key("kind")) {
            let own = names(|kind| (kind != FrameworkKind::Openai).then(|| kind.to_string()));
            let help = format!(
                "add `kind:` {}, or openai (any other OpenAI-compatible server)",
                own.join(", ")
            );
            self.problem(At::Key, &path, format!("`{name}` has no `kind`"), Some(&help));
        }
        let source = kind.and_then(|kind| self.source(&path, name, kind, raw));
        if let Some(Source::Url(_)) = &source {
            self.refuse_with_url(&path, raw);
        }
        let url = match &source {
            Some(Source::Url(url)) => url::Url::parse(url).ok(),
            _ => None,
        };
        let host = match (&url, &raw.host) {
            (Some(url), _) => url.host_str().map(|h| h.trim_matches(['[', ']']).to_owned()),
            (None, Some(host)) => {
                self.ip(&path.key("host"), host);
                Some(host.clone())
            }
            (None, None) => Some("127.0.0.1".to_owned()),
        };
        let port = match &url {
            Some(url) => url.port_or_known_default(),
            None => raw.port.or_else(|| kind.and_then(FrameworkKind::usual_port)),
        };
        let by_command = matches!(source, Some(Source::Command { .. }));
        if port.is_none() && by_command && !self.written(&path.key("port")) {
            self.problem(
                At::Key,
                &path,
                format!("`{name}` has no `port`"),
                Some("add the port that fills `{port}`"),
            );
        }
        if let Some(args) = &raw.args {
            self.arguments(&path.key("args"), args, by_command);
        }
        let scenarios = self.framework_scenarios(&path.key("scenarios"), raw.scenarios.as_deref());
        let env = self.environment(&path.key("env"), name, raw.env.as_ref());
        let version = raw.version.clone();
        let provision = raw.provision.unwrap_or(Provision::None);
        if provision == Provision::Auto {
            let here = path.key("provision");
            // The program of a command can lie in an environment with a recipe; a bare name and a URL can't.
            let lies_somewhere = matches!(&source, Some(Source::Command { command, .. })
                if command.first().is_some_and(|program| program.contains('/')));
            let comes_from_nowhere =
                |kind: &FrameworkKind| kind.source_keys() == SourceKeys::CommandOrUrl && !lies_somewhere;
            if let Some(kind) = kind.filter(comes_from_nowhere) {
                self.problem(
                    At::Value,
                    &here,
                    format!("benchd can't make an `{kind}` server's environment"),
                    Some("take `provision` out"),
                );
            } else if version.is_none() && !self.written(&path.key("version")) {
                self.problem(
                    At::Value,
                    &here,
                    "`provision: auto` needs a `version`",
                    Some("pin the version to install"),
                );
            }
        }
        let above_zero = Duration::from_millis(1);
        let minutes = |n: u64| Duration::from_secs(n * 60);
        let start_timeout = self.duration(
            &path.key("start_timeout"),
            raw.start_timeout.as_ref(),
            minutes(20),
            above_zero,
        );
        let stop_grace = self.duration(
            &path.key("stop_grace"),
            raw.stop_grace.as_ref(),
            Duration::from_secs(30),
            Duration::ZERO,
        );
        let release_timeout = self.duration(
            &path.key("release_timeout"),
            raw.release_timeout.as_ref(),
            minutes(1),
            above_zero,
        );
        Some(Framework {
            name: name.to_owned(),
            kind: kind?,
            version,
            source: source?,
            host: host?,
            port: port?,
            args: raw.args.clone().unwrap_or_default(),
            env,
            scenarios,
            start_timeout,
            stop_grace,
            release_timeout,
            release_tolerance_bytes: raw.release_tolerance_mb.unwrap_or(64) * 1024 * 1024,
            retries: raw.retries.unwrap_or(0),
            provision,
        })
    }

    fn source(
        &mut self,
        path: &KeyPath,
        name: &str,
        kind: FrameworkKind,
        raw: &RawFramework,
    ) -> Option<Source> {
        let wanted: &[&str] = match kind.source_keys() {
            SourceKeys::Venv => &["venv"],
            SourceKeys::Binary => &["binary"],
            SourceKeys::CommandOrUrl => &["command", "url"],
        };
        for key in ["venv", "binary", "command", "url"] {
            let here = path.key(key);
            if !wanted.contains(&key) && self.tree.at(&here).is_some() {
                let needs = wanted
                    .iter()
                    .map(|w| format!("`{w}`"))
                    .collect::<Vec<_>>()
                    .join(" or ");
                let message =
                    format!("a framework of kind {kind} has no `{key}`: its server comes from {needs}");
                let help = match key {
                    "command" | "url" => Some("a server by command or URL has `kind: openai`"),
                    _ => None,
                };
                self.problem(At::Key, &here, message, help);
            }
        }
        let ready = path.key("ready");
        if self.tree.at(&ready).is_some() && self.tree.at(&path.key("command")).is_none() {
            let message = "`ready` is for servers by `command`; benchd knows how the others get ready";
            self.problem(At::Key, &ready, message, Some("take it out"));
        }
        if wanted.iter().all(|key| !self.written(&path.key(key))) {
            let (message, help) = match kind.source_keys() {
                SourceKeys::Venv => (
                    format!("`{name}` has no `venv`"),
                    "add the folder of its Python venv: `venv: envs/…/.venv`",
                ),
                SourceKeys::Binary => (
                    format!("`{name}` has no `binary`"),
                    "add the path of ollama: `binary: envs/ollama/bin/ollama`",
                ),
                SourceKeys::CommandOrUrl => (
                    format!("`{name}` has neither `command` nor `url`"),
                    "add `command: [..]` for a server that benchd starts, or `url: http://…` for one that runs already",
                ),
            };
            self.problem(At::Key, path, message, Some(help));
            return None;
        }
        match kind.source_keys() {
            SourceKeys::Venv => self.file(&path.key("venv"), raw.venv.as_ref()).map(Source::Venv),
            SourceKeys::Binary => self
                .file(&path.key("binary"), raw.binary.as_ref())
                .map(Source::Binary),
            SourceKeys::CommandOrUrl => match (&raw.command, &raw.url) {
                (Some(command), Some(url)) => {
                    let message = "`command` and `url` exclude each other";
                    let help =
                        "with `command` benchd starts and stops the server, with `url` someone else does";
                    self.problem(At::Key, &path.key("url"), message, Some(help));
                    self.command(path, command, raw);
                    self.url(&path.key("url"), url);
                    None
                }
                (Some(command), None) => self.command(path, command, raw),
                (None, Some(url)) => self.url(&path.key("url"), url).map(Source::Url),
                (None, None) => None,
            },
        }
    }

    fn command(&mut self, path: &KeyPath, command: &[String], raw: &RawFramework) -> Option<Source> {
        let here = path.key("command");
        for (n, part) in command.iter().enumerate() {
            self.placeholders(&here.index(n), part);
        }
        let extra = raw.args.iter().flatten();
        if !command.iter().chain(extra).any(|part| part.contains("{port}")) {
            let help = "benchd must know where the server listens: add for instance `--port, \"{port}\"`";
            self.problem(At::Value, &here, "the command has no `{port}`", Some(help));
        }
        let ready_path = match raw.ready.as_ref().and_then(|r| r.path.clone()) {
            Some(ready_path) => {
                let plain = ready_path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
                if !ready_path.starts_with('/') || !plain {
                    let here = path.key("ready").key("path");
                    self.problem(
                        At::Value,
                        &here,
                        format!("`{ready_path}` is not a path"),
                        Some("write it as `/health`"),
                    );
                }
                ready_path
            }
            None => "/health".to_owned(),
        };
        Some(Source::Command {
            command: command.to_vec(),
            ready_path,
        })
    }

    /// `{prot}` is a slip; `{"a": 1}` is JSON.
    fn placeholders(&mut self, path: &KeyPath, part: &str) {
        for (at, _) in part.match_indices('{') {
            let inside = &part[at + 1..];
            let Some(end) = inside.find('}') else { continue };
            let word = &inside[..end];
            let like_one = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            if like_one && !PLACEHOLDERS.contains(&word) {
                let help = match nearest(word, PLACEHOLDERS) {
                    Some(meant) => format!("did you mean `{{{meant}}}`?"),
                    None => "known: {host}, {port}, {model}, {gguf}".to_owned(),
                };
                self.problem(
                    At::Value,
                    path,
                    format!("nothing fills in `{{{word}}}`"),
                    Some(&help),
                );
            }
        }
    }

    fn url(&mut self, path: &KeyPath, text: &str) -> Option<String> {
        let url = match url::Url::parse(text) {
            Ok(url) if url.scheme() == "http" && url.has_host() => url,
            Ok(url) if url.scheme() == "https" => {
                let help = "TLS would be part of every time measured: give the server's plain http address";
                self.problem(At::Value, path, "`https` is not supported", Some(help));
                return None;
            }
            _ => {
                let help = "write it as `http://127.0.0.1:8080`";
                self.problem(At::Value, path, format!("`{text}` is not an address"), Some(help));
                return None;
            }
        };
        let before = self.problems.len();
        if !url.username().is_empty() || url.password().is_some() {
            self.problem(
                At::Value,
                path,
                "the URL holds a user name or password",
                Some("it would reach logs and reports"),
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            self.problem(
                At::Value,
                path,
                "the URL has a query or fragment",
                Some("give the base URL only"),
            );
        }
        let base = url.path().trim_end_matches('/');
        if base.ends_with("/v1") || base.ends_with("/chat/completions") {
            let help = "benchd adds `/v1/chat/completions` itself";
            self.problem(At::Value, path, "the URL goes too far", Some(help));
        }
        (self.problems.len() == before).then(|| url.as_str().trim_end_matches('/').to_owned())
    }

    fn refuse_with_url(&mut self, path: &KeyPath, raw: &RawFramework) {
        let given = [
            ("host", raw.host.is_some()),
            ("port", raw.port.is_some()),
            ("args", raw.args.is_some()),
            ("env", raw.env.is_some()),
            ("stop_grace", raw.stop_grace.is_some()),
            ("release_timeout", raw.release_timeout.is_some()),
            ("release_tolerance_mb", raw.release_tolerance_mb.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            let message = format!("`{key}` has no effect with `url`: someone else runs that server");
            self.problem(At::Key, &path.key(key), message, Some("take it out"));
        }
    }

    pub(super) fn arguments(&mut self, path: &KeyPath, args: &[String], by_command: bool) {
        for (n, arg) in args.iter().enumerate() {
            if by_command {
                self.placeholders(&path.index(n), arg);
                continue;
            }
            let option = arg.split('=').next().unwrap_or(arg);
            if let Some(setter) = set_by_benchd(option) {
                let message = format!("`{option}` is set from {setter}");
                self.problem(At::Value, &path.index(n), message, Some("take it out of `args`"));
            }
        }
    }

    fn environment(
        &mut self,
        path: &KeyPath,
        framework: &str,
        raw: Option<&IndexMap<String, EnvText>>,
    ) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (variable, text) in raw.into_iter().flatten() {
            let here = path.key(variable);
            if !is_variable_name(variable) {
                let message = format!("`{variable}` can't be an environment variable");
                self.problem(
                    At::Key,
                    &here,
                    message,
                    Some("use letters, digits and `_`, no digit first"),
                );
            }
            if let Some(setter) = set_by_benchd(variable) {
                self.problem(
                    At::Key,
                    &here,
                    format!("`{variable}` is set from {setter}"),
                    Some("take it out of `env`"),
                );
            }
            if let Some((value, secret)) = self.filled(&here, text) {
                if secret {
                    self.secrets.env.insert((framework.to_owned(), variable.clone()));
                }
                out.insert(variable.clone(), value);
            }
        }
        out
    }

    fn framework_scenarios(&mut self, path: &KeyPath, raw: Option<&[String]>) -> Option<Vec<String>> {
        let known = self.names("scenarios");
        for (n, name) in raw?.iter().enumerate() {
            if !known.contains(name) {
                let help = match nearest(name, known.iter().map(String::as_str)) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("the plan's scenarios: {}", known.join(", ")),
                };
                self.problem(
                    At::Value,
                    &path.index(n),
                    format!("there is no scenario `{name}`"),
                    Some(&help),
                );
            }
        }
        raw.map(<[String]>::to_vec)
    }
}
