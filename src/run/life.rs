//! Whether a lane's server lives: who of its processes is there, and whether it answers.
//!
//! What a front end says is no proof. Without the worker that computes it goes on for a while, answers 500 within
//! milliseconds, or nothing, and then ends with exit 0 as if all were well. So after requests that broke the server is
//! looked at and asked before what it did counts.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::probe::Completion;
use crate::{
    scenario::{Broken, CellError, Stop, StopCause},
    server::{CompletionProbe as _, Watch},
};
use benchd_host::process::{LeaderExit, ProcessEnd, Roster};

/// How long a server must show that it lives after requests of it broke, and how long it is asked for a sign of life:
/// longer than front ends survive their workers. On an H100 vLLM's ended 0.8 to 1.0 s after its engine, and SGLang's 5.8 s
/// after its scheduler, 5 s of which it sleeps.
pub(super) const PROBATION: Duration = Duration::from_secs(8);

/// Pause between two questions to a server that does not answer.
const ASK_PAUSE: Duration = Duration::from_millis(250);

/// How long a front end whose worker died may take to end by itself, so that its own last words are in the log.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The processes of a lane's server, watched. Of a server that someone else runs only the answers are known.
#[derive(Debug)]
pub(super) struct Life(Option<Processes>);

#[derive(Debug)]
struct Processes {
    server: Watch,
    roster: Mutex<Option<Roster>>,
}

/// How a server died.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Death {
    /// A process of it ended, and whether its leader has ended since, and how.
    Process(ProcessEnd, Option<LeaderExit>),
    /// Its leader ended.
    Leader(LeaderExit),
    /// As far as is known all its processes are there, and it does not answer: for how long, and what came instead.
    Unanswered(Duration, String),
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process(end, None) => end.fmt(f),
            Self::Process(end, Some(exit)) => write!(f, "{end}; the front end ended after it: {exit}"),
            Self::Leader(exit) => write!(f, "its process ended: {exit}"),
            Self::Unanswered(time, seen) => write!(
                f,
                "it has not answered a short request for {} s: {seen}",
                time.as_secs()
            ),
        }
    }
}

/// Why a server is not shown to live.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAlive {
    #[error("the server died while the cell was measured: {0}")]
    Died(Death),
    /// The question was stopped.
    #[error(transparent)]
    Stopped(CellError),
}

/// What is asked of a server that is in doubt.
#[derive(Debug, Clone, Copy)]
pub(super) enum Doubt {
    /// It has been silent for long: one answer, within the request's own limit.
    Silent,
    /// A process of it is lost, or its cache can't be emptied, and no request broke: an answer.
    Lost,
    /// Nothing has come of it since requests broke: an answer.
    Midway,
    /// Requests broke at this moment: an answer once its probation is over.
    Broken(Instant),
}

impl Doubt {
    /// What requests that broke leave open at the end of a cell; nothing where the cell itself went on for long enough.
    pub(super) fn at_end(broken: Broken) -> Option<Self> {
        let lived = broken.answered.is_some_and(|at| at >= broken.at + PROBATION);
        (!lived).then_some(Self::Broken(broken.at))
    }

    /// What they leave open within a cell.
    pub(super) fn midway(broken: Broken) -> Option<Self> {
        broken.answered.is_none().then_some(Self::Midway)
    }
}

impl Life {
    /// Of a server that runs and answers; `None` of someone else's.
    pub(super) fn of(server: Option<Watch>) -> Self {
        let life = Self(server.map(|server| Processes {
            server,
            roster: Mutex::default(),
        }));
        life.renew();
        life
    }

    /// Who of it runs now is who must be there from now on.
    pub(super) fn renew(&self) {
        if let Some(processes) = &self.0 {
            let now = processes.server.roster();
            *processes.roster.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
    }

    /// Its leader's end; never, of someone else's.
    pub(super) async fn ended(&self) -> Death {
        match &self.0 {
            Some(processes) => processes.death_with(processes.server.ended().await),
            None => std::future::pending().await,
        }
    }

    /// The end of a process without which it may not be able to work; never, of someone else's.
    pub(super) async fn lost_process(&self) -> Death {
        match self.0.as_ref().and_then(|p| Some((p, p.roster()?))) {
            Some((processes, roster)) => Death::Process(roster.death().await, processes.server.exit()),
            None => std::future::pending().await,
        }
    }

    /// How it died, if its processes show that it has.
    pub(super) fn death(&self) -> Option<Death> {
        let processes = self.0.as_ref()?;
        match processes.server.exit() {
            Some(exit) => Some(processes.death_with(exit)),
            None => Some(Death::Process(processes.roster()?.died()?, None)),
        }
    }

    /// Waits a moment for the end of a front end whose worker is dead; gives what is known then.
    pub(super) async fn last_moments(&self, death: Death) -> Death {
        if !matches!(death, Death::Process(_, None)) {
            return death;
        }
        tokio::time::timeout(LAST_WORDS, self.ended())
            .await
            .unwrap_or(death)
    }

    /// Asks the server by short requests until the doubt is settled.
    ///
    /// # Errors
    /// One of its processes is gone, or it does not answer, or `stop` says so.
    pub(super) async fn prove(
        &self,
        doubt: Doubt,
        question: &Completion,
        limit: Duration,
        stop: &mut Stop<'_>,
    ) -> Result<(), NotAlive> {
        // A lost process alone decides nothing: it may have been a helper.
        let lost = async {
            match doubt {
                Doubt::Midway | Doubt::Broken(_) => self.lost_process().await,
                Doubt::Silent | Doubt::Lost => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            why = stop.at_once.as_mut() => Err(match (why, self.death()) {
                (StopCause::ServerDied(_), Some(death)) => NotAlive::Died(death),
                (why, _) => NotAlive::Stopped(CellError::Stopped(why)),
            }),
            death = lost => Err(NotAlive::Died(death)),
            asked = ask(doubt, question, limit) => asked.map_err(|unanswered| {
                NotAlive::Died(self.death().unwrap_or(unanswered))
            }),
        }
    }
}

impl Processes {
    fn roster(&self) -> Option<Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The leader's end, or that of the process which was before it.
    fn death_with(&self, exit: LeaderExit) -> Death {
        let leader = self.server.leader_pid();
        let first = leader.and_then(|leader| self.roster()?.died_before(leader));
        first.map_or(Death::Leader(exit), |end| Death::Process(end, Some(exit)))
    }
}

async fn ask(doubt: Doubt, question: &Completion, limit: Duration) -> Result<(), Death> {
    let began = Instant::now();
    let patience = match doubt {
        Doubt::Silent => Duration::ZERO,
        Doubt::Lost | Doubt::Midway | Doubt::Broken(_) => PROBATION,
    };
    loop {
        match (question.complete(limit).await, doubt) {
            (Ok(_), Doubt::Broken(at)) if at.elapsed() < PROBATION => {
                tokio::time::sleep_until((at + PROBATION).into()).await;
            }
            (Ok(_), _) => return Ok(()),
            (Err(error), _) if began.elapsed() >= patience => {
                return Err(Death::Unanswered(began.elapsed(), error.text));
            }
            (Err(_), _) => tokio::time::sleep(ASK_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_went_on_for_long_after_requests_broke_has_shown_that_its_server_lives() {
        let at = Instant::now();
        let broken = |answered| Broken { at, answered };
        let lived = broken(Some(at + PROBATION));
        assert!(Doubt::at_end(lived).is_none() && Doubt::midway(lived).is_none());
        let briefly = broken(Some(at + PROBATION / 2));
        assert!(matches!(Doubt::at_end(briefly), Some(Doubt::Broken(moment)) if moment == at));
        assert!(Doubt::midway(briefly).is_none());
        let not_at_all = broken(None);
        assert!(matches!(Doubt::at_end(not_at_all), Some(Doubt::Broken(_))));
        assert!(matches!(Doubt::midway(not_at_all), Some(Doubt::Midway)));
    }

    #[test]
    fn a_death_is_told_by_who_ended_first() {
        let exit = LeaderExit::Code(0);
        assert_eq!(Death::Leader(exit).to_string(), "its process ended: exit 0");
        let unanswered = Death::Unanswered(PROBATION, "HTTP 500".to_owned());
        assert_eq!(
            unanswered.to_string(),
            "it has not answered a short request for 8 s: HTTP 500"
        );
    }
}
