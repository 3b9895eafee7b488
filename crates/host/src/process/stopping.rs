//! Carries a stop out: looks, decides, signals, reaps, and looks again.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

use super::{
    cgroup::Cgroup,
    exit::LeaderExit,
    family::Membership,
    signal,
    spawn::ServerProcess,
    stop::{Observation, StopAction, StopPolicy, StopReport, StopState, Stuck, decide},
    table::{self, ProcessTable, Seen},
};
use benchd_core::record::ProcessIdentity;

/// Pause between two looks, at first and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// What a stop acts on: a server that benchd runs, or what a dead benchd left.
pub(super) trait StopTarget {
    /// All processes now, ended but unreaped ones that are benchd's to reap included; `deep` where no witness
    /// may be missed.
    fn look(&self, deep: bool) -> Vec<(Seen, Membership)>;
    /// The process group that is signalled as a whole while somebody known is in it; `None` where none is known.
    fn pgid(&self) -> Option<i32>;
    /// Its cgroup, where it has one: KILL goes there as well.
    fn cgroup(&self) -> Option<&Cgroup>;
    /// Whether an ended process is to be reaped by the sweep (and not by tokio).
    fn reaps(&self, ended: &Seen) -> bool;
    /// Whether an ended process is not over yet: its exit status has not been told.
    fn awaits(&self, _ended: &Seen) -> bool {
        false
    }
}

impl StopTarget for ServerProcess {
    fn look(&self, deep: bool) -> Vec<(Seen, Membership)> {
        self.look(deep)
    }

    fn pgid(&self) -> Option<i32> {
        Some(self.leader().pgid)
    }

    fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup()
    }

    fn reaps(&self, ended: &Seen) -> bool {
        ended.identity.pid != self.leader().pid
    }

    fn awaits(&self, ended: &Seen) -> bool {
        ended.identity.pid == self.leader().pid && self.exit().is_none()
    }
}

impl ServerProcess {
    /// Stops the server and everything of it; `hurry` passes over what is left of the grace. Ends in any
    /// case, at the latest after grace and patience.
    pub async fn stop(&self, policy: &StopPolicy, hurry: &CancellationToken) -> StopReport {
        let mut stopping = Stopping::new(self, policy);
        stopping.run(hurry, Some(self)).await;
        self.finish_output().await;
        // With the leader reaped and every pipe closed: is anything left that only now hangs from benchd?
        if stopping.stuck.is_empty() && stopping.living() {
            stopping.state = StopState::Killing {
                since: stopping.started.elapsed(),
            };
            stopping.run(hurry, None).await;
        }
        stopping.report(self.exit())
    }
}

/// A stop under way, and what it did so far.
pub(super) struct Stopping<'a, T> {
    target: &'a T,
    policy: &'a StopPolicy,
    started: Instant,
    ended_after: Duration,
    state: StopState,
    killed: bool,
    found: Vec<ProcessIdentity>,
    swept: Vec<ProcessIdentity>,
    stuck: Vec<Stuck>,
}

impl<'a, T: StopTarget> Stopping<'a, T> {
    pub(super) fn new(target: &'a T, policy: &'a StopPolicy) -> Self {
        Self {
            target,
            policy,
            started: Instant::now(),
            ended_after: Duration::ZERO,
            state: StopState::Start,
            killed: false,
            found: Vec::new(),
            swept: Vec::new(),
            stuck: Vec::new(),
        }
    }

    fn living(&self) -> bool {
        self.target.look(true).iter().any(|(s, _)| !s.is_zombie())
    }

    /// Looks, decides and acts until it is over. The end of `leader` is looked at as it happens.
    pub(super) async fn run(&mut self, hurry: &CancellationToken, leader: Option<&ServerProcess>) {
        let mut pause = LOOK.0;
        let mut deep = true;
        loop {
            let mut members = self.target.look(deep);
            let runs = |members: &[(Seen, Membership)]| members.iter().any(|(s, _)| !s.is_zombie());
            if !deep && !runs(&members) {
                // Never believe that nothing is left without having asked every witness.
                members = self.target.look(true);
            }
            let seen = self.observe(&members, hurry.is_cancelled());
            let (state, action) = decide(self.policy, self.state, seen, self.started.elapsed());
            if self.state == StopState::Start {
                self.found = living(&members).map(|(s, _)| s.identity.clone()).collect();
            }
            self.state = state;
            match action {
                StopAction::Terminate => self.terminate(&members),
                StopAction::Kill => self.kill(&members),
                StopAction::Reap => {
                    let ended: Vec<ProcessIdentity> = members
                        .iter()
                        .filter(|(s, _)| s.is_zombie() && self.target.reaps(s))
                        .map(|(s, _)| s.identity.clone())
                        .collect();
                    signal::reap(&ended);
                }
                StopAction::Wait => {}
                StopAction::Gone => break,
                StopAction::GiveUp => {
                    self.stuck = living(&members).map(|(s, _)| stuck(s)).collect();
                    break;
                }
            }
            // All environments only when it comes to the end: reading them costs more than the rest.
            deep = matches!(self.state, StopState::Killing { .. });
            if !(hurry.is_cancelled() && matches!(self.state, StopState::Terminating { .. })) {
                wait(pause, hurry, leader, self.state).await;
            }
            pause = (pause * 2).min(LOOK.1);
        }
        self.ended_after = self.started.elapsed();
    }

    fn observe(&self, members: &[(Seen, Membership)], hurry: bool) -> Observation {
        let mut seen = Observation {
            hurry,
            ..Observation::default()
        };
        for (member, why) in members {
            match (member.is_zombie(), why) {
                (true, _) => {
                    seen.ended += usize::from(self.target.reaps(member) || self.target.awaits(member));
                }
                (false, Membership::Group) => seen.in_group += 1,
                (false, _) => seen.strays += 1,
            }
        }
        seen
    }

    /// A signal to the group as a whole, if there is one and one of `members` is in it.
    fn signal_group(&self, members: &[ProcessIdentity], signal: Signal) -> bool {
        self.target
            .pgid()
            .is_some_and(|pgid| signal::signal_group(pgid, members, signal))
    }

    fn terminate(&mut self, members: &[(Seen, Membership)]) {
        let identities: Vec<ProcessIdentity> = members.iter().map(|(s, _)| s.identity.clone()).collect();
        // CONT after it: a stopped process gets no TERM before it goes on.
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            if !self.signal_group(&identities, signal) {
                for (s, _) in living(members).filter(|(_, why)| *why == Membership::Group) {
                    signal::signal_process(&s.identity, signal);
                }
            }
        }
    }

    fn kill(&mut self, members: &[(Seen, Membership)]) {
        self.killed = true;
        if let Some(cgroup) = self.target.cgroup()
            && let Err(error) = cgroup.kill()
        {
            tracing::warn!(dir = %cgroup.dir().display(), %error, "cgroup.kill failed; the sweep goes on without");
        }
        let identities: Vec<ProcessIdentity> = members.iter().map(|(s, _)| s.identity.clone()).collect();
        let by_group = self.signal_group(&identities, Signal::SIGKILL);
        for (s, why) in living(members) {
            if *why == Membership::Group && by_group {
                continue;
            }
            signal::signal_process(&s.identity, Signal::SIGKILL);
            if *why != Membership::Group && !self.swept.contains(&s.identity) {
                self.swept.push(s.identity.clone());
            }
        }
    }

    pub(super) fn report(self, exit: Option<LeaderExit>) -> StopReport {
        StopReport {
            took: self.ended_after,
            exit,
            killed: self.killed,
            found: self.found,
            swept: self.swept,
            stuck: self.stuck,
        }
    }
}

fn living(members: &[(Seen, Membership)]) -> impl Iterator<Item = &(Seen, Membership)> {
    members.iter().filter(|(s, _)| !s.is_zombie())
}

/// Until the next look: a pause that the leader's end and a call to hurry cut short.
async fn wait(pause: Duration, hurry: &CancellationToken, leader: Option<&ServerProcess>, state: StopState) {
    let leader_ends = async {
        match leader {
            Some(leader) if leader.exit().is_none() => {
                leader.leader_exited().await;
            }
            _ => std::future::pending().await,
        }
    };
    let hurried = async {
        if matches!(state, StopState::Terminating { .. }) {
            hurry.cancelled().await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = leader_ends => {}
        () = hurried => {}
    }
}

fn stuck(seen: &Seen) -> Stuck {
    let pid = seen.identity.pid;
    // Looked at again: its state by now is what matters.
    let now = ProcessTable::read().find(&seen.identity).cloned();
    let shown = now.map_or(seen.state, |s| s.state);
    // A killed process shows `Z` once its main thread is gone; the thread that can't go is what holds it.
    let (state, holder) = table::thread_states(pid)
        .into_iter()
        .find(|(state, _)| *state == 'D')
        .unwrap_or_else(|| (shown, format!("/proc/{pid}").into()));
    // `0` where the kernel does not tell, or it runs.
    let waits_in = std::fs::read_to_string(holder.join("wchan"))
        .ok()
        .filter(|w| !w.is_empty() && w != "0");
    Stuck {
        identity: seen.identity.clone(),
        state,
        waits_in,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that no signal reaches, in no group.
    struct Immortal(ProcessIdentity);

    impl StopTarget for Immortal {
        fn look(&self, _deep: bool) -> Vec<(Seen, Membership)> {
            let seen = Seen {
                identity: self.0.clone(),
                ppid: 1,
                state: 'D',
                threads: 1,
            };
            vec![(seen, Membership::Known)]
        }

        fn pgid(&self) -> Option<i32> {
            None
        }

        fn cgroup(&self) -> Option<&Cgroup> {
            None
        }

        fn reaps(&self, _ended: &Seen) -> bool {
            false
        }
    }

    #[tokio::test]
    async fn who_cannot_be_killed_is_named_and_left() {
        let identity = ProcessIdentity {
            pid: i32::MAX, // beyond the kernel's largest pid
            start_ticks: 1,
            pgid: 7,
            sid: 7,
            name: "nfs client".into(),
        };
        let immortal = Immortal(identity.clone());
        let policy = StopPolicy {
            grace: Duration::from_secs(3600),
            patience: Duration::from_millis(30),
        };
        let mut stopping = Stopping::new(&immortal, &policy);
        stopping.run(&CancellationToken::new(), None).await;
        let report = stopping.report(None);
        assert_eq!((report.killed, &report.swept), (true, &vec![identity]));
        assert_eq!(
            report.stuck.iter().map(Stuck::to_string).collect::<Vec<_>>(),
            ["2147483647 (nfs client), state D (uninterruptible sleep)"]
        );
    }
}
