//! The stop of a server: TERM to the group, grace, KILL to the group, sweep of what left it, reap.
//!
//! ```text
//!            TERM                grace over, hurry,            nobody lives
//!  Start ----------> Terminating -- or only strays left --> Killing ----------> Ended
//!    |                   |                                    |  ^                ^
//!    | hurry             | nobody lives                       |  | KILL again     |
//!    +-----> Killing     +------------------------------------|--+--------------->|
//!                                                             +-- patience over --+ (names who won't die)
//! ```
//!
//! [`decide`] is the whole sequence without I/O; the rest carries it out.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tokio_util::sync::CancellationToken;

use super::{
    family::Membership,
    signal,
    spawn::{LeaderExit, ServerProcess},
    table::{ProcessTable, Seen},
};
use crate::journal::ProcessIdentity;

/// Pause between two looks, at first and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// How long a stop may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopPolicy {
    /// From TERM to KILL.
    pub grace: Duration,
    /// From the first KILL until who still lives is named and left.
    pub patience: Duration,
}

impl StopPolicy {
    /// A policy with this grace, and ten seconds for the kernel to carry out a KILL: tearing down the address
    /// space of a process that holds tens of GiB of pinned memory takes seconds.
    pub fn with_grace(grace: Duration) -> Self {
        Self {
            grace,
            patience: Duration::from_secs(10),
        }
    }
}

/// Where a stop is. Times count from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopState {
    /// Nothing was done yet.
    Start,
    /// TERM was sent.
    Terminating {
        /// When.
        since: Duration,
    },
    /// KILL was sent.
    Killing {
        /// When first.
        since: Duration,
    },
    /// Over.
    Ended,
}

/// What one look shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Observation {
    /// Members of the server's group that run.
    pub in_group: usize,
    /// Other processes of the server that run.
    pub strays: usize,
    /// Ended ones that benchd has to reap.
    pub ended: usize,
    /// Whether somebody asked to hurry.
    pub hurry: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAction {
    /// TERM to the group.
    Terminate,
    /// KILL to the group and to every stray.
    Kill,
    /// Reap what has ended, then look again.
    Reap,
    /// Look again.
    Wait,
    /// It is over: nothing is left.
    Gone,
    /// It is over: what still lives can't be killed.
    GiveUp,
}

/// The next step of a stop: from where it is, what was seen, and the time since its start.
pub fn decide(
    policy: &StopPolicy,
    state: StopState,
    seen: Observation,
    elapsed: Duration,
) -> (StopState, StopAction) {
    use StopAction::{GiveUp, Gone, Kill, Reap, Terminate, Wait};
    use StopState::{Ended, Killing, Start, Terminating};
    let living = seen.in_group + seen.strays;
    if state == Ended {
        return (Ended, Gone);
    }
    if living == 0 && seen.ended == 0 {
        return (Ended, Gone);
    }
    let kill_over = |since: Duration| elapsed >= since.saturating_add(policy.patience);
    match state {
        Start if living == 0 => (Killing { since: elapsed }, Reap),
        Start if seen.hurry || seen.in_group == 0 => (Killing { since: elapsed }, Kill),
        Start => (Terminating { since: elapsed }, Terminate),
        Terminating { .. } if living == 0 => (Killing { since: elapsed }, Reap),
        // TERM goes to the group; who left it was not asked and has nothing to wait for.
        Terminating { since }
            if seen.hurry || seen.in_group == 0 || elapsed >= since.saturating_add(policy.grace) =>
        {
            (Killing { since: elapsed }, Kill)
        }
        Terminating { .. } if seen.ended > 0 => (state, Reap),
        Terminating { .. } => (state, Wait),
        // A zombie that stays after it was reaped is not benchd's to reap: nothing of the server runs.
        Killing { since } if living == 0 && kill_over(since) => (Ended, Gone),
        Killing { .. } if living == 0 => (state, Reap),
        Killing { since } if kill_over(since) => (Ended, GiveUp),
        // Again each time: what was forked while the last one was on its way gets it too.
        Killing { .. } => (state, Kill),
        Ended => (Ended, Gone),
    }
}

/// A process that outlived its KILL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stuck {
    /// Who.
    pub identity: ProcessIdentity,
    /// Its state letter; `D` is an uninterruptible sleep in the kernel.
    pub state: char,
    /// The kernel function that it waits in, where the kernel tells.
    pub waits_in: Option<String>,
}

impl std::fmt::Display for Stuck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} ({}), state {}",
            self.identity.pid, self.identity.name, self.state
        )?;
        if self.state == 'D' {
            write!(f, " (uninterruptible sleep)")?;
        }
        if let Some(function) = &self.waits_in {
            write!(f, " in {function}")?;
        }
        Ok(())
    }
}

/// How a stop went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReport {
    /// From the first look to the last process's end.
    pub took: Duration,
    /// How the leader ended; `None` where it could not be killed.
    pub exit: Option<LeaderExit>,
    /// Whether KILL was needed.
    pub killed: bool,
    /// Processes that ran when the stop began.
    pub found: Vec<ProcessIdentity>,
    /// Processes outside the group that had to be killed.
    pub swept: Vec<ProcessIdentity>,
    /// Who is still there.
    pub stuck: Vec<Stuck>,
}

impl StopReport {
    /// Nothing was there to stop.
    pub(super) fn nothing() -> Self {
        Self {
            took: Duration::ZERO,
            exit: None,
            killed: false,
            found: Vec::new(),
            swept: Vec::new(),
            stuck: Vec::new(),
        }
    }
}

/// What a stop acts on: a server that benchd runs, or what a dead benchd left.
pub(super) trait Quarry {
    /// All processes now, ended but unreaped ones that are benchd's to reap included; `deep` where no witness
    /// may be missed.
    fn look(&self, deep: bool) -> Vec<(Seen, Membership)>;
    /// A signal to the group as a whole, if there is one and somebody known is in it.
    fn signal_group(&self, members: &[ProcessIdentity], signal: Signal) -> bool;
    /// KILL by cgroup, where there is one.
    fn kill_cgroup(&self);
    /// Whether an ended process is to be reaped by the sweep (and not by tokio).
    fn reaps(&self, ended: &Seen) -> bool;
}

impl Quarry for ServerProcess {
    fn look(&self, deep: bool) -> Vec<(Seen, Membership)> {
        self.look(deep)
    }

    fn signal_group(&self, members: &[ProcessIdentity], signal: Signal) -> bool {
        signal::signal_group(self.leader().pgid, members, signal)
    }

    fn kill_cgroup(&self) {
        if let Some(cgroup) = self.cgroup()
            && let Err(error) = cgroup.kill()
        {
            tracing::warn!(dir = %cgroup.dir().display(), %error, "cgroup.kill failed; the sweep goes on without");
        }
    }

    fn reaps(&self, ended: &Seen) -> bool {
        ended.identity.pid != self.leader().pid
    }
}

impl ServerProcess {
    /// Stops the server and everything of it; `hurry` passes over what is left of the grace. Ends in any
    /// case, at the latest after grace and patience.
    pub async fn stop(&self, policy: &StopPolicy, hurry: &CancellationToken) -> StopReport {
        let mut hunt = Hunt::new(self, policy);
        hunt.run(hurry, Some(self)).await;
        self.finish_output().await;
        // With the leader reaped and every pipe closed: is anything left that only now hangs from benchd?
        if hunt.stuck.is_empty() && hunt.living() {
            hunt.state = StopState::Killing {
                since: hunt.started.elapsed(),
            };
            hunt.run(hurry, None).await;
        }
        hunt.report(self.exit())
    }
}

/// A stop under way.
pub(super) struct Hunt<'a, Q> {
    quarry: &'a Q,
    policy: &'a StopPolicy,
    started: Instant,
    ended_after: Duration,
    state: StopState,
    killed: bool,
    found: Vec<ProcessIdentity>,
    swept: Vec<ProcessIdentity>,
    stuck: Vec<Stuck>,
}

impl<'a, Q: Quarry> Hunt<'a, Q> {
    pub(super) fn new(quarry: &'a Q, policy: &'a StopPolicy) -> Self {
        Self {
            quarry,
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
        self.quarry.look(true).iter().any(|(s, _)| !s.is_zombie())
    }

    /// Looks, decides and acts until it is over. The end of `leader` is looked at as it happens.
    pub(super) async fn run(&mut self, hurry: &CancellationToken, leader: Option<&ServerProcess>) {
        let mut pause = LOOK.0;
        let mut deep = true;
        loop {
            let mut members = self.quarry.look(deep);
            let runs = |members: &[(Seen, Membership)]| members.iter().any(|(s, _)| !s.is_zombie());
            if !deep && !runs(&members) {
                // Never believe that nothing is left without having asked every witness.
                members = self.quarry.look(true);
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
                        .filter(|(s, _)| s.is_zombie() && self.quarry.reaps(s))
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
                (true, _) => seen.ended += usize::from(self.quarry.reaps(member)),
                (false, Membership::Group) => seen.in_group += 1,
                (false, _) => seen.strays += 1,
            }
        }
        seen
    }

    fn terminate(&mut self, members: &[(Seen, Membership)]) {
        let identities: Vec<ProcessIdentity> = members.iter().map(|(s, _)| s.identity.clone()).collect();
        // CONT after it: a stopped process gets no TERM before it goes on.
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            if !self.quarry.signal_group(&identities, signal) {
                for (s, _) in living(members).filter(|(_, why)| *why == Membership::Group) {
                    signal::signal_process(&s.identity, signal);
                }
            }
        }
    }

    fn kill(&mut self, members: &[(Seen, Membership)]) {
        self.killed = true;
        self.quarry.kill_cgroup();
        let identities: Vec<ProcessIdentity> = members.iter().map(|(s, _)| s.identity.clone()).collect();
        let by_group = self.quarry.signal_group(&identities, Signal::SIGKILL);
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
    // `0` where the kernel does not tell, or it runs.
    let waits_in = std::fs::read_to_string(format!("/proc/{}/wchan", seen.identity.pid))
        .ok()
        .filter(|w| !w.is_empty() && w != "0");
    // Looked at again: its state by now is what matters.
    let state = ProcessTable::read()
        .find(&seen.identity)
        .map_or(seen.state, |s| s.state);
    Stuck {
        identity: seen.identity.clone(),
        state,
        waits_in,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: StopPolicy = StopPolicy {
        grace: Duration::from_secs(30),
        patience: Duration::from_secs(10),
    };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(in_group: usize, strays: usize, ended: usize, hurry: bool) -> Observation {
        Observation {
            in_group,
            strays,
            ended,
            hurry,
        }
    }

    #[test]
    fn the_sequence_step_by_step() {
        use StopAction as A;
        use StopState as S;
        let terminating = S::Terminating { since: s(1) };
        let killing = S::Killing { since: s(31) };
        #[rustfmt::skip]
        let table = [
            // state, group, strays, ended, hurry, elapsed -> state, action
            ("nothing there", S::Start, seen(0, 0, 0, false), 0, S::Ended, A::Gone),
            ("TERM first", S::Start, seen(3, 1, 0, false), 1, terminating, A::Terminate),
            ("in a hurry KILL first", S::Start, seen(3, 0, 0, true), 1, S::Killing { since: s(1) }, A::Kill),
            ("only strays: nobody to ask", S::Start, seen(0, 2, 0, false), 1, S::Killing { since: s(1) }, A::Kill),
            ("only zombies: no signal", S::Start, seen(0, 0, 1, true), 1, S::Killing { since: s(1) }, A::Reap),
            ("grace runs", terminating, seen(3, 0, 0, false), 30, terminating, A::Wait),
            ("reap on the way", terminating, seen(3, 0, 1, false), 30, terminating, A::Reap),
            ("leader gone, worker still at it", terminating, seen(1, 0, 0, false), 30, terminating, A::Wait),
            ("grace is over", terminating, seen(1, 0, 0, false), 31, killing, A::Kill),
            ("second request", terminating, seen(1, 0, 0, true), 2, S::Killing { since: s(2) }, A::Kill),
            ("group gone, stray left", terminating, seen(0, 1, 0, false), 2, S::Killing { since: s(2) }, A::Kill),
            ("all went", terminating, seen(0, 0, 0, false), 2, S::Ended, A::Gone),
            ("all went, one to reap", terminating, seen(0, 0, 1, false), 2, S::Killing { since: s(2) }, A::Reap),
            ("KILL again", killing, seen(0, 1, 0, false), 32, killing, A::Kill),
            ("killed", killing, seen(0, 0, 0, false), 32, S::Ended, A::Gone),
            ("won't die", killing, seen(0, 1, 0, false), 41, S::Ended, A::GiveUp),
            ("zombie of another's", killing, seen(0, 0, 1, false), 41, S::Ended, A::Gone),
            ("over is over", S::Ended, seen(5, 5, 5, true), 50, S::Ended, A::Gone),
        ];
        for (what, state, seen, elapsed, next, action) in table {
            assert_eq!(decide(&POLICY, state, seen, s(elapsed)), (next, action), "{what}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_seen_it_ends_in_time_and_signals_only_who_lives(
            looks in proptest::collection::vec((0usize..4, 0usize..4, 0usize..3, any::<bool>(), 1u64..5000), 1..200),
        ) {
            let mut state = StopState::Start;
            let mut elapsed = Duration::ZERO;
            let (mut killed, mut over) = (false, false);
            for (in_group, strays, ended, hurry, ms) in looks {
                let (next, action) = decide(&POLICY, state, seen(in_group, strays, ended, hurry), elapsed);
                let signals = matches!(action, StopAction::Terminate | StopAction::Kill);
                prop_assert!(!(signals && in_group + strays == 0), "a signal to nobody");
                prop_assert!(!(signals && over), "a signal after the end");
                prop_assert!(!(killed && action == StopAction::Terminate), "TERM after KILL");
                prop_assert!(!(hurry && matches!(action, StopAction::Terminate | StopAction::Wait)), "hurry waits");
                // Grace and patience, each met at the first look after it is over.
                prop_assert!(over || elapsed <= POLICY.grace + POLICY.patience + s(11), "never ends");
                over |= matches!(action, StopAction::Gone | StopAction::GiveUp);
                prop_assert_eq!(over, next == StopState::Ended);
                killed |= action == StopAction::Kill;
                state = next;
                elapsed += Duration::from_millis(ms);
            }
        }
    }
}
