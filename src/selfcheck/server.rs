//! The simulated server, in a process of its own: what it uses of the machine is not the client's.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{SelfcheckError, setting::Setting};

/// A running server; killed and reaped when stopped, killed when dropped, and by the kernel when benchd dies.
pub(super) struct Server {
    child: Child,
    pub(super) addr: SocketAddr,
}

/// The line that the server says when it listens.
#[derive(serde::Deserialize)]
struct Listening {
    listening: SocketAddr,
}

impl Server {
    pub(super) async fn start(program: &Path, setting: Setting) -> Result<Self, SelfcheckError> {
        let time = |duration: std::time::Duration| format!("{}us", duration.as_nanos() as f64 / 1e3);
        let mut child = Command::new(program)
            .args(["sim", "--mode", "fixed", "--prefix-cache", "off"])
            .args(["--ttft", &time(setting.ttft), "--gap", &time(setting.gap)])
            .args(["--spacing", &time(setting.spacing)])
            .args(["--end-with", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Its imitation of a server's log.
            .stderr(Stdio::null())
            // Ctrl-C is for benchd, which ends its server itself.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(SelfcheckError::Start)?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out)
                .read_line(&mut line)
                .await
                .map_err(SelfcheckError::Start)?;
        }
        let said: Listening =
            serde_json::from_str(&line).map_err(|_| SelfcheckError::NoAddress(line.trim().to_owned()))?;
        Ok(Self {
            child,
            addr: said.listening,
        })
    }

    /// Ends it; it has nothing to finish.
    pub(super) async fn stop(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::debug!(%error, "the simulated server had ended by itself");
        }
    }
}
