//! One attempt of a lane, as the plan and the framework's adapter have it: fixed before anything is started.

use tokio_util::sync::CancellationToken;

use super::probe::{Completion, target};
use benchd_frameworks::Adapter;
use benchd_load::client::Target;
use benchd_plan::{Framework, Lane, Model, RequestSettings};

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
    pub(super) adapter: &'a dyn Adapter,
}

impl LaneAttempt<'_> {
    /// Where its chat requests go.
    ///
    /// # Errors
    /// The host's name can't be resolved.
    pub(super) async fn target(&self) -> std::io::Result<Target> {
        target(self.adapter.endpoint(), self.adapter.chat_path()).await
    }

    /// A short completion that shows whether the server answers.
    pub(super) fn completion(&self, target: Target, cancel: CancellationToken) -> Completion {
        Completion::ready(self.adapter, target, self.model.reasoning_effort, cancel)
    }
}
