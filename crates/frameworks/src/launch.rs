//! A server's command line and environment, and what of it may be shown.

use std::path::PathBuf;

use super::Endpoint;
use benchd_core::record::{REDACTED, SHORTEST_SECRET, is_secret_name};

/// A command that starts a server.
#[derive(Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Environment on top of benchd's own, in order.
    pub env: Vec<(String, String)>,
    /// Working directory; benchd's own where `None`.
    pub cwd: Option<PathBuf>,
    /// Address that it binds.
    pub host: String,
    /// Port that it binds.
    pub port: u16,
}

impl Launch {
    pub(crate) fn new(
        program: PathBuf,
        args: Vec<String>,
        env: Vec<(String, String)>,
        endpoint: &Endpoint,
    ) -> Self {
        Self {
            program,
            args,
            env,
            cwd: None,
            host: endpoint.host.clone(),
            port: endpoint.port,
        }
    }

    /// Program and arguments, real values.
    pub fn argv(&self) -> Vec<String> {
        let mut argv = vec![self.program.display().to_string()];
        argv.extend(self.args.iter().cloned());
        argv
    }

    /// The same with secrets blanked, for logs, the journal, reports and people. A secret is the value of an
    /// environment variable or flag whose name says so (`HF_TOKEN`, `*_API_KEY`, `--api-key`), wherever it
    /// stands.
    pub fn redacted(&self) -> Self {
        let secrets: Vec<&str> = self
            .env
            .iter()
            .filter(|(name, value)| is_secret_name(name) && value.len() >= SHORTEST_SECRET)
            .map(|(_, value)| value.as_str())
            .collect();
        let mut args = Vec::with_capacity(self.args.len());
        let mut secret_follows = false;
        for arg in &self.args {
            let shown = match arg.strip_prefix("--") {
                _ if secret_follows => REDACTED.to_owned(),
                Some(flag) if is_secret_name(flag.split('=').next().unwrap_or(flag)) => {
                    match arg.split_once('=') {
                        Some((flag, _)) => format!("{flag}={REDACTED}"),
                        None => arg.clone(),
                    }
                }
                _ => blank(arg, &secrets),
            };
            secret_follows =
                !secret_follows && !arg.contains('=') && arg.strip_prefix("--").is_some_and(is_secret_name);
            args.push(shown);
        }
        Self {
            args,
            env: redacted_env(&self.env),
            ..self.clone()
        }
    }
}

impl std::fmt::Debug for Launch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.redacted();
        f.debug_struct("Launch")
            .field("argv", &shown.argv())
            .field("env", &shown.env)
            .field("cwd", &shown.cwd)
            .finish_non_exhaustive()
    }
}

/// An environment with the values of secrets blanked.
fn redacted_env(env: &[(String, String)]) -> Vec<(String, String)> {
    env.iter()
        .map(|(name, value)| {
            let shown = if is_secret_name(name) { REDACTED } else { value };
            (name.clone(), shown.to_owned())
        })
        .collect()
}

fn blank(text: &str, secrets: &[&str]) -> String {
    secrets
        .iter()
        .fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(args: &[&str], env: &[(&str, &str)]) -> Launch {
        Launch {
            program: "/opt/v/bin/vllm".into(),
            args: args.iter().map(|&a| a.to_owned()).collect(),
            env: env.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect(),
            cwd: None,
            host: "127.0.0.1".to_owned(),
            port: 8000,
        }
    }

    #[test]
    fn secrets_are_blanked_in_environment_and_arguments() {
        let shown = launch(
            &[
                "--api-key",
                "abc",
                "--api-key=def",
                "--header",
                "Bearer hf_xyz1",
                "--max-num-batched-tokens",
                "8192",
            ],
            &[
                ("HF_TOKEN", "hf_xyz1"),
                ("OPENAI_API_KEY", "k"),
                ("OLLAMA_NUM_PARALLEL", "4"),
            ],
        )
        .redacted();
        assert_eq!(
            shown.args,
            [
                "--api-key",
                "<redacted>",
                "--api-key=<redacted>",
                "--header",
                "Bearer <redacted>",
                "--max-num-batched-tokens",
                "8192"
            ]
        );
        assert_eq!(shown.env[0].1, "<redacted>");
        assert_eq!(shown.env[1].1, "<redacted>");
        assert_eq!(shown.env[2].1, "4");
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?}", launch(&["--api-key", "abc"], &[("HF_TOKEN", "hf_xyz")]));
        assert!(!text.contains("abc") && !text.contains("hf_xyz"), "{text}");
        assert!(text.contains("/opt/v/bin/vllm"));
    }

    #[test]
    fn an_empty_secret_does_not_blank_everything() {
        assert_eq!(launch(&["serve"], &[("HF_TOKEN", "")]).redacted().args, ["serve"]);
    }
}
