//! Before the launch: everything that can be known to fail is known before anything is started.

use std::{os::unix::fs::PermissionsExt, sync::Arc};

use super::{
    failure::{Failed, Stage},
    launched::Launched,
    settings::{EventSink, Moment, ServerSettings},
};
use benchd_frameworks::Requirement;
use benchd_host::process::{self, Cgroup, ServerProcess, SpawnSpec};
use benchd_journal::{Event, Note, ServerLaunched, ServerPrepared};

/// Variables of benchd's own environment that a server must not see: it would speak to systemd in benchd's
/// name, or take benchd's sockets.
const NOT_FOR_SERVERS: [&str; 8] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
];

/// A server that could be launched: its files are there and its port is free.
pub struct Prepared {
    settings: ServerSettings,
    token: String,
    sink: Arc<dyn EventSink>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("lane", &self.settings.lane)
            .finish_non_exhaustive()
    }
}

impl Prepared {
    /// Checks what a launch needs and makes the token by which the server will be found again.
    ///
    /// # Errors
    /// What is missing, all of it, with remedies; or who has the port.
    pub fn new(settings: ServerSettings, sink: Arc<dyn EventSink>) -> Result<Self, Failed> {
        let failed = |reason, hint| Failed::before_launch(Stage::Prepare, reason, hint);
        let missing: Vec<(String, String)> = settings
            .requirements
            .iter()
            .filter_map(|r| Some((lacks(r)?, r.remedy.clone())))
            .collect();
        if !missing.is_empty() {
            let reasons: Vec<String> = missing.iter().map(|(reason, _)| reason.clone()).collect();
            let mut remedies: Vec<String> = missing.into_iter().map(|(_, remedy)| remedy).collect();
            remedies.dedup();
            return Err(failed(reasons.join("; "), Some(remedies.join("; "))));
        }
        let launch = &settings.launch;
        process::port_is_free(&launch.host, launch.port).map_err(|taken| {
            let hint = match &taken {
                process::PortTaken::Held { .. } => "stop that process, or give the framework another `port:`",
                process::PortTaken::Unusable { .. } => "check the framework's `host:` and `port:`",
            };
            failed(taken.to_string(), Some(hint.into()))
        })?;
        let token = process::new_token()
            .map_err(|error| failed(format!("cannot read random bytes from /proc: {error}"), None))?;
        Ok(Self {
            settings,
            token,
            sink,
        })
    }

    /// The token that the server's environment will carry.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Launches it. Journals before that it is about to, and right after who it is.
    ///
    /// # Errors
    /// It can't be started; nothing is left.
    pub fn launch(self) -> Result<Launched, Failed> {
        let Self {
            settings,
            token,
            sink,
        } = self;
        let launch = &settings.launch;
        sink.event(Event::ServerPrepared(ServerPrepared {
            lane: settings.lane.clone(),
            token: token.clone(),
            argv: settings.shown_argv.clone(),
            env: settings.shown_env.clone(),
            port: launch.port,
        }));
        let cgroup = settings.delegated_cgroup.as_ref().and_then(|delegated| {
            Cgroup::create(delegated, &token)
                .inspect_err(|error| {
                    sink.event(Event::Note(Note {
                        lane: Some(settings.lane.clone()),
                        text: format!(
                            "no cgroup of its own for the server ({error}); it is stopped by group and sweep alone"
                        ),
                    }));
                })
                .ok()
        });
        let spec = SpawnSpec {
            program: launch.program.clone(),
            args: launch.args.clone(),
            env: launch.env.clone(),
            env_remove: NOT_FOR_SERVERS.map(str::to_owned).to_vec(),
            cwd: launch.cwd.clone(),
            token,
            log: settings.log.clone(),
            cgroup,
        };
        let launched = Moment::now();
        let process = ServerProcess::spawn(spec)
            .map_err(|error| Failed::before_launch(Stage::Launch, error.to_string(), None))?;
        sink.event(Event::ServerLaunched(ServerLaunched {
            lane: settings.lane.clone(),
            leader: process.leader().clone(),
            output_pipes: process.output_pipes().to_vec(),
        }));
        Ok(Launched::new(settings, process, launched, sink))
    }
}

/// What is wrong with a required file; `None` where nothing is.
fn lacks(requirement: &Requirement) -> Option<String> {
    let Requirement {
        path,
        what,
        executable,
        ..
    } = requirement;
    let path_shown = path.display();
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Some(format!("{what} is missing: `{path_shown}`"))
        }
        Err(error) => Some(format!("{what} can't be read: `{path_shown}`: {error}")),
        Ok(found) if *executable && !(found.is_file() && found.permissions().mode() & 0o111 != 0) => {
            Some(format!("{what} is not an executable file: `{path_shown}`"))
        }
        Ok(_) => None,
    }
}
