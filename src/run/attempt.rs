//! One attempt of a lane, as the plan and the framework's adapter have it: fixed before anything is started. Tells the
//! server room what it needs.

use std::{net::SocketAddr, path::PathBuf};

use crate::server::{ReadyPlan, ServerSettings};
use benchd_core::record::{DoneWhen, REDACTED, Step};
use benchd_frameworks::{Adapter, Launch};
use benchd_host::process::{LogSettings, StopPolicy};
use benchd_load::client::Target;
use benchd_plan::{Framework, Lane, Model, Quality, RequestSettings, Secrets};

/// How often an answer that no waiting mends is asked for again before the lane fails.
const READY_TRIES: u32 = 3;

/// Seed of all texts and arrival processes: the same for every framework, round and run, so that results can be
/// compared.
pub(super) const RUN_SEED: u64 = 0;

pub(super) struct LaneAttempt<'a> {
    /// All lanes of the run, of which this is one.
    pub(super) lanes: &'a [Lane],
    pub(super) index: usize,
    pub(super) lane: &'a Lane,
    /// 1 on.
    pub(super) number: u32,
    pub(super) framework: &'a Framework,
    pub(super) model: &'a Model,
    pub(super) request: &'a RequestSettings,
    pub(super) quality: Option<&'a Quality>,
    pub(super) adapter: &'a dyn Adapter,
}

impl LaneAttempt<'_> {
    /// Where its chat requests go. A server that binds every address is called on loopback.
    ///
    /// # Errors
    /// The host's name can't be resolved.
    pub(super) async fn target(&self) -> std::io::Result<Target> {
        let endpoint = self.adapter.endpoint();
        let host = match endpoint.host.as_str() {
            "0.0.0.0" | "localhost" => "127.0.0.1",
            "::" | "[::]" => "::1",
            host => host.trim_matches(['[', ']']),
        };
        let addr: SocketAddr = tokio::net::lookup_host((host, endpoint.port))
            .await?
            .next()
            .ok_or_else(|| {
                std::io::Error::new(std::io::ErrorKind::NotFound, format!("`{host}` has no address"))
            })?;
        Ok(Target::new(addr, self.adapter.chat_path()))
    }

    pub(super) fn server_settings(
        &self,
        launch: Launch,
        log: LogSettings,
        delegated_cgroup: Option<PathBuf>,
        secrets: &Secrets,
    ) -> ServerSettings {
        let lane = &self.lane.id;
        let mut shown = launch.redacted();
        // Filled in from benchd's own environment, whatever their names.
        for (name, value) in &mut shown.env {
            if secrets.is_secret_env(&lane.framework, name) {
                REDACTED.clone_into(value);
            }
        }
        ServerSettings {
            lane: lane.clone(),
            launch,
            shown_argv: shown.argv(),
            shown_env: shown.env,
            requirements: self.adapter.requirements(),
            start_timeout: self.framework.start_timeout,
            stop: StopPolicy::with_grace(self.framework.stop_grace),
            log,
            delegated_cgroup,
        }
    }

    /// How to tell that it answers; `steps` come before the first completion.
    pub(super) fn ready_plan(&self, steps: Vec<Step>) -> ReadyPlan {
        let health = self.adapter.health();
        ReadyPlan {
            health: health.call,
            health_done: DoneWhen::ok(),
            interval: health.interval,
            probe_timeout: health.timeout,
            steps,
            completion_timeout: self.request.timeout,
            completion_tries: READY_TRIES,
            expected_models: vec![self.adapter.served_model().to_owned()],
        }
    }
}
