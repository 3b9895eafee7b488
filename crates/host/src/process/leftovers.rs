//! What a dead benchd's server left, found by what the journal knows of it, and cleared; nothing else is ever
//! touched.
//!
//! Each witness alone fails: a program may overwrite its environment (token), leave its group and session,
//! be started after the last inventory; pids are given out again. So all are asked, each with what keeps it
//! from hitting a stranger (see the `family` module), and what only looks like the server's is named and left.

use std::{path::PathBuf, sync::Mutex};

use tokio_util::sync::CancellationToken;

use super::{
    cgroup::Cgroup,
    family::{Family, Membership, Surroundings},
    log::lock,
    spawn,
    stop::{StopPolicy, StopReport},
    stopping::{StopTarget, Stopping},
    table::{self, ProcessTable, Seen},
};
use benchd_core::record::ProcessIdentity;

/// What the journal knows of a server whose end it does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witnesses {
    /// Boot id of the benchd that started it.
    pub boot_id: Option<String>,
    /// The token in its environment, journalled before its launch.
    pub token: Option<String>,
    /// Its leader, journalled right after its launch.
    pub leader: Option<ProcessIdentity>,
    /// Everyone seen as one of its processes.
    pub members: Vec<ProcessIdentity>,
    /// Inode numbers of the pipes that took its output.
    pub output_pipes: Vec<u64>,
    /// Directory of its cgroup, where it had one.
    pub cgroup: Option<PathBuf>,
}

/// A process that a dead benchd left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Pid and start time, so that it is never taken for another.
    pub identity: ProcessIdentity,
    /// The witness by which it was found.
    pub by: Membership,
}

/// Processes of a dead benchd's server that still run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Surely the server's: [`clear`] ends them.
    pub ours: Vec<Leftover>,
    /// In a group or session of the leader's number, started after it, but with no witness that it is the
    /// same group: named, never touched.
    pub suspects: Vec<ProcessIdentity>,
}

/// What [`clear`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleared {
    /// What was found, and what could not be killed.
    pub report: StopReport,
    /// What was left alone, see [`Leftovers::suspects`].
    pub suspects: Vec<ProcessIdentity>,
}

/// The server's processes, as far as witnesses tell.
struct AbandonedServer {
    token: Option<String>,
    leader: Option<ProcessIdentity>,
    family: Mutex<Family>,
    output_pipes: Vec<u64>,
    cgroup: Option<Cgroup>,
}

impl AbandonedServer {
    /// `None` where nothing can be left: another boot ended everything.
    fn of(witnesses: &Witnesses) -> Option<Self> {
        if let (Some(then), Some(now)) = (&witnesses.boot_id, table::boot_id())
            && *then != now
        {
            return None;
        }
        Some(Self {
            token: witnesses.token.clone(),
            leader: witnesses.leader.clone(),
            family: Mutex::new(Family::recall(
                witnesses.leader.clone(),
                witnesses.members.iter().cloned(),
            )),
            output_pipes: witnesses.output_pipes.clone(),
            cgroup: witnesses.cgroup.as_deref().and_then(Cgroup::open),
        })
    }

    fn suspects(&self, members: &[(Seen, Membership)]) -> Vec<ProcessIdentity> {
        let Some(leader) = &self.leader else {
            return Vec::new();
        };
        let table = ProcessTable::read();
        let above = table.ancestry(table::own_pid());
        table
            .iter()
            .filter(|s| !s.is_zombie() && !above.contains(&s.identity.pid))
            .map(|s| &s.identity)
            .filter(|i| i.pgid == leader.pid || i.sid == leader.pid)
            .filter(|i| i.start_ticks >= leader.start_ticks)
            .filter(|i| members.iter().all(|(m, _)| m.identity != **i))
            .cloned()
            .collect()
    }
}

impl StopTarget for AbandonedServer {
    fn look(&self, _deep: bool) -> Vec<(Seen, Membership)> {
        let table = ProcessTable::read();
        let carriers = self
            .token
            .as_deref()
            .map(|token| table::carriers(&table, token))
            .unwrap_or_default();
        // Its pipes were made for it, so nobody can hold one who began before it.
        let pipe_holders = self
            .leader
            .as_ref()
            .map(|leader| table::pipe_holders(&table, &self.output_pipes, leader.start_ticks))
            .unwrap_or_default();
        let around = Surroundings {
            carriers,
            pipe_holders,
            ..spawn::surroundings(self.cgroup.as_ref())
        };
        lock(&self.family).update(&table, &around)
    }

    fn pgid(&self) -> Option<i32> {
        self.leader.as_ref().map(|leader| leader.pgid)
    }

    fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    fn reaps(&self, ended: &Seen) -> bool {
        ended.ppid == table::own_pid()
    }
}

/// What is still there of a dead benchd's server. Reads `/proc` only.
pub fn leftovers(witnesses: &Witnesses) -> Leftovers {
    let Some(abandoned) = AbandonedServer::of(witnesses) else {
        return Leftovers::default();
    };
    let members = abandoned.look(true);
    let suspects = abandoned.suspects(&members);
    let ours = members
        .into_iter()
        .filter(|(s, _)| !s.is_zombie())
        .map(|(s, by)| Leftover {
            identity: s.identity,
            by,
        })
        .collect();
    Leftovers { ours, suspects }
}

/// Clears what is still there: TERM, grace, KILL, sweep, as for a living server. Ends in any case.
pub async fn clear(witnesses: &Witnesses, policy: &StopPolicy, hurry: &CancellationToken) -> Cleared {
    let Some(abandoned) = AbandonedServer::of(witnesses) else {
        return Cleared {
            report: StopReport::nothing(),
            suspects: Vec::new(),
        };
    };
    let mut stopping = Stopping::new(&abandoned, policy);
    stopping.run(hurry, None).await;
    let report = stopping.report(None);
    let suspects = abandoned.suspects(&abandoned.look(true));
    Cleared { report, suspects }
}
