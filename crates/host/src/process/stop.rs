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
//! [`decide`] is the whole sequence without I/O; the `stopping` module carries it out.

use std::time::Duration;

use super::exit::LeaderExit;
use benchd_core::record::ProcessIdentity;

/// How long a stop may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopPolicy {
    /// From TERM to KILL.
    pub grace: Duration,
    /// From the first KILL until who still lives is named and left.
    pub patience: Duration,
}

impl StopPolicy {
    /// A policy with this grace, and half a minute for the kernel to carry out a KILL: tearing down a process
    /// that holds tens of GiB of pinned and device memory takes seconds, and giving up ends the whole run.
    pub fn with_grace(grace: Duration) -> Self {
        Self {
            grace,
            patience: Duration::from_secs(30),
        }
    }
}

/// Where a stop is. Times count from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopState {
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
pub(super) struct Observation {
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
pub(super) enum StopAction {
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
pub(super) fn decide(
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
