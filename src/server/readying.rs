//! From "its process exists" to "it really generates".
//!
//! Health endpoints lie (SGLang's `/v1/models`, Ollama's everything: up in 0.2 s, no model loaded), so a
//! health check only ends the waiting for a listener; what counts is a real completion.

use std::{
    collections::BTreeSet,
    net::ToSocketAddrs,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    control::{Control, StepOutcome},
    running::Answered,
    settings::{CompletionProbe, Moment, ProbeAnswer, ReadyPlan},
};
use benchd_frameworks::Launch;
use benchd_host::process::{self, LeaderExit, ServerProcess};

/// How long a healthy answer may go without a listener in sight: a server that binds anew while it starts.
const OWNER_PATIENCE: Duration = Duration::from_secs(2);

/// Pause between two tries of what is not expected to take long.
const SHORT_PAUSE: Duration = Duration::from_millis(100);

/// Why a server is not ready.
#[derive(Debug)]
pub(super) enum NotReady {
    /// Its leader ended.
    Ended(LeaderExit),
    /// Its time was over.
    TimedOut,
    /// Somebody interrupted.
    Interrupted,
    /// It will never be: why, and what to do.
    Never { reason: String, hint: Option<String> },
}

impl NotReady {
    /// Reason and hint, for people.
    pub(super) fn told(self, after: Duration, limit: Duration, last_seen: &str) -> (String, Option<String>) {
        match self {
            Self::Ended(exit) => (
                format!(
                    "the server ended before it was ready: {exit} after {:.1} s",
                    after.as_secs_f64()
                ),
                Some("the last lines of its log say why".into()),
            ),
            Self::TimedOut => (
                format!(
                    "the server was not ready after {} s; at last: {last_seen}",
                    limit.as_secs_f64()
                ),
                Some(
                    "look at the last lines of its log; if it was still loading, raise `start_timeout:`"
                        .into(),
                ),
            ),
            Self::Interrupted => ("interrupted while the server was starting".into(), None),
            Self::Never { reason, hint } => (reason, hint),
        }
    }
}

/// What was seen last, for the one who tells of a time-out.
struct LastSeen<'a>(&'a Mutex<String>);

impl LastSeen<'_> {
    fn set(&self, text: String) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What repeats is told once, or a slow start would fill the log.
        if *last != text {
            tracing::info!("not ready yet: {text}");
            *last = text;
        }
    }
}

/// Waits for everything, of a launched server also for its being the one that listens; the caller watches the clock, the leader and the interrupt.
pub(super) async fn answers(
    control: &Control,
    plan: &ReadyPlan,
    completion: &dyn CompletionProbe,
    launched: Option<(&ServerProcess, &Launch)>,
    deadline: Instant,
    last_seen: &Mutex<String>,
) -> Result<Answered, NotReady> {
    let last_seen = LastSeen(last_seen);
    health(control, plan, &last_seen).await;
    let healthy = Instant::now();
    if let Some((process, launch)) = launched {
        owner(process, launch).await?;
    }
    for step in &plan.steps {
        last_seen.set(format!("waiting for: {}", step.what));
        let mut step = step.clone();
        step.timeout = step
            .timeout
            .min(deadline.saturating_duration_since(Instant::now()));
        match control.run(&step).await {
            Ok(StepOutcome::Done(_) | StepOutcome::NotNeeded) => {}
            Err(error) => {
                return Err(NotReady::Never {
                    reason: error.to_string(),
                    hint: (!step.hint.is_empty()).then_some(step.hint),
                });
            }
        }
    }
    let answer = first_answer(plan, completion, &last_seen).await?;
    // Once more: the one that answered is the one that was launched.
    if let Some((process, launch)) = launched {
        owner(process, launch).await?;
    }
    Ok(Answered {
        healthy,
        ready: Moment::now(),
        answer,
    })
}

async fn health(control: &Control, plan: &ReadyPlan, last_seen: &LastSeen<'_>) {
    loop {
        let seen = match control.call(&plan.health, plan.probe_timeout).await {
            Ok(reply) => match plan.health_done.check(reply.status, &reply.body) {
                Ok(()) => return,
                Err(seen) => format!("{}: {seen}{}", plan.health, reply.excerpt()),
            },
            Err(error) => format!("{}: {error}", plan.health),
        };
        last_seen.set(seen);
        tokio::time::sleep(plan.interval).await;
    }
}

/// The listener must be the launched server's.
async fn owner(process: &ServerProcess, launch: &Launch) -> Result<(), NotReady> {
    let since = Instant::now();
    loop {
        match strangers(process, launch) {
            Ok(None) => {}
            Ok(Some(strangers)) if strangers.is_empty() => return Ok(()),
            Ok(Some(strangers)) => {
                return Err(NotReady::Never {
                    reason: format!(
                        "something answers on {}:{} that is not the launched server: {}",
                        launch.host,
                        launch.port,
                        strangers.join(", ")
                    ),
                    hint: Some("stop it, or give the framework another `port:`".into()),
                });
            }
            Err(error) => {
                return Err(NotReady::Never {
                    reason: format!(
                        "cannot tell who listens on {}:{}: {error}",
                        launch.host, launch.port
                    ),
                    hint: None,
                });
            }
        }
        if since.elapsed() >= OWNER_PATIENCE {
            return Err(NotReady::Never {
                reason: format!(
                    "something answers on {}:{}, but no process here listens there",
                    launch.host, launch.port
                ),
                hint: Some(
                    "a server in a network namespace of its own (a container) can't be watched: run it yourself and give its `url:`"
                        .into(),
                ),
            });
        }
        tokio::time::sleep(SHORT_PAUSE).await;
    }
}

/// Listeners that are not the server's; `None` where nobody listens.
fn strangers(process: &ServerProcess, launch: &Launch) -> std::io::Result<Option<Vec<String>>> {
    let mut pids = BTreeSet::new();
    let mut unseen = BTreeSet::new();
    for address in (launch.host.as_str(), launch.port).to_socket_addrs()? {
        let (owners, hidden) = process::listener_owners(address);
        pids.extend(owners);
        unseen.extend(hidden);
    }
    if pids.is_empty() && unseen.is_empty() {
        return Ok(None);
    }
    let ours: BTreeSet<i32> = process.processes().into_iter().map(|p| p.pid).collect();
    let mut strangers: Vec<String> = pids
        .difference(&ours)
        .map(|pid| format!("process {}", process::describe(*pid)))
        .collect();
    if !unseen.is_empty() {
        strangers.push("a process of another user".into());
    }
    Ok(Some(strangers))
}

/// The first real completion.
async fn first_answer(
    plan: &ReadyPlan,
    completion: &dyn CompletionProbe,
    last_seen: &LastSeen<'_>,
) -> Result<ProbeAnswer, NotReady> {
    let mut hopeless = 0;
    loop {
        let error = match completion.complete(plan.completion_timeout).await {
            Ok(answer) => match wrong_model(plan, &answer) {
                None => return Ok(answer),
                Some(wrong) => wrong,
            },
            Err(error) if error.retryable => {
                last_seen.set(format!("a completion failed: {}", error.text));
                tokio::time::sleep(plan.interval).await;
                continue;
            }
            Err(error) => format!("the server is up but does not complete: {}", error.text),
        };
        hopeless += 1;
        if hopeless >= plan.completion_tries {
            return Err(NotReady::Never {
                reason: error,
                hint: Some(
                    "check the model's id for this framework in the plan, and the server's log".into(),
                ),
            });
        }
        last_seen.set(error);
        tokio::time::sleep(plan.interval).await;
    }
}

fn wrong_model(plan: &ReadyPlan, answer: &ProbeAnswer) -> Option<String> {
    let model = answer.model.as_ref()?;
    let expected = &plan.expected_models;
    if expected.is_empty() || expected.contains(model) {
        return None;
    }
    Some(format!(
        "the server answers as model `{model}`, not `{}`",
        expected.join("` or `")
    ))
}
