//! A server that someone else runs: asked whether it really answers, never started, never stopped.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use super::{
    control::Control,
    failure::{Failed, Stage},
    readying::{self, NotReady},
    settings::{CompletionProbe, EventSink, Interrupt, Moment, ProbeAnswer, ReadyPlan},
};
use benchd_core::record::{LaneId, Precision, ProcessIdentity};
use benchd_journal::{Event, Note, ServerReady};

/// A running server of someone else's that really answers.
#[derive(Debug)]
pub struct Attached {
    /// Its lane.
    pub lane: LaneId,
    /// Its base URL.
    pub url: String,
    /// When benchd began to ask.
    pub asked: Moment,
    /// When it answered.
    pub ready: Moment,
    /// What its first answer was.
    pub answer: ProbeAnswer,
}

/// What has been asked of a server since it answered.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// What it says of itself.
    pub facts: BTreeMap<String, String>,
    /// In which numbers it serves.
    pub precision: Precision,
    /// Tokens that the chat template adds to a user message.
    pub template_tokens: Option<u32>,
    /// GPU memory in use, bytes, all chosen devices together.
    pub gpu_used_bytes: Option<u64>,
    /// Its processes, where they can be told.
    pub processes: Vec<ProcessIdentity>,
}

impl Attached {
    /// Waits until the server at `url` really answers.
    ///
    /// # Errors
    /// It does not within `timeout`, or never will, or somebody interrupted.
    pub async fn wait_ready(
        lane: LaneId,
        url: &str,
        plan: &ReadyPlan,
        completion: &dyn CompletionProbe,
        timeout: Duration,
        interrupt: &Interrupt,
        sink: &dyn EventSink,
    ) -> Result<Self, Failed> {
        let asked = Moment::now();
        let control = Control::for_url(url);
        let last_seen = Mutex::new(String::from("it was not asked yet"));
        let deadline = asked.at + timeout;
        let outcome = tokio::select! {
            biased;
            () = interrupt.stop.cancelled() => Err(NotReady::Interrupted),
            () = interrupt.now.cancelled() => Err(NotReady::Interrupted),
            () = tokio::time::sleep_until(deadline.into()) => Err(NotReady::TimedOut),
            answers = readying::answers(&control, plan, completion, None, deadline, &last_seen) => answers,
        };
        match outcome {
            Ok(answered) => {
                sink.event(Event::Note(Note {
                    lane: Some(lane.clone()),
                    text: format!(
                        "{url} is run by someone else: benchd neither starts nor stops it, and does not know its arguments, its other load or its memory"
                    ),
                }));
                Ok(Self {
                    lane,
                    url: url.into(),
                    asked,
                    ready: answered.ready,
                    answer: answered.answer,
                })
            }
            Err(not_ready) => {
                let interrupted = matches!(not_ready, NotReady::Interrupted);
                let last_seen = last_seen
                    .into_inner()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let (reason, hint) = not_ready.told(asked.at.elapsed(), timeout, &last_seen);
                let hint = hint.map(|_| format!("benchd does not run {url}: look at its own log"));
                Err(Failed {
                    interrupted,
                    ..Failed::before_launch(Stage::Ready, reason, hint)
                })
            }
        }
    }

    /// Journals that it answers, with what has been asked of it meanwhile.
    pub fn announce(&self, told: Told, sink: &dyn EventSink) {
        let waited = self.ready.at.saturating_duration_since(self.asked.at);
        let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        sink.event(Event::ServerReady(ServerReady {
            lane: self.lane.clone(),
            healthy_ms: waited_ms,
            ready_ms: waited_ms,
            facts: told.facts,
            stream: self.answer.shape,
            template_tokens: told.template_tokens,
            gpu_used_bytes: told.gpu_used_bytes,
            load: None,
            precision: Some(told.precision),
            compile_caches: None,
            processes: told.processes,
        }));
    }

    /// Its control side.
    pub fn control(&self) -> Control {
        Control::for_url(&self.url)
    }
}
