//! One look at `/proc`: every process with its identity, parent and state.
//!
//! Processes come and go while `/proc` is read; one that vanishes half-way is left out, never an error.

use std::collections::{BTreeMap, BTreeSet};

use procfs::process::Process;

use benchd_core::record::ProcessIdentity;

/// The variable of a server's environment that carries its token.
pub(super) const TOKEN_VARIABLE: &str = "BENCHD_TOKEN";

/// A process at the moment of the look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Pid, start time, group, session and name.
    pub identity: ProcessIdentity,
    /// Pid of its parent.
    pub ppid: i32,
    /// State letter of `/proc/PID/stat`: `R`, `S`, `D`, `Z`, …
    pub state: char,
    /// Threads. An ended process that waits to be reaped has its main thread only.
    pub threads: i64,
}

impl Seen {
    /// Whether it has ended and only waits to be reaped. `/proc` shows `Z` as soon as the main thread is gone: while
    /// others live the process does, holds its memory and takes signals.
    pub fn is_zombie(&self) -> bool {
        self.lost_its_main_thread() && self.threads <= 1
    }

    fn lost_its_main_thread(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// The process that has this pid now; `None` where nobody has.
    pub(crate) fn read(pid: i32) -> Option<Self> {
        Self::of(&Process::new(pid).ok()?)
    }

    fn of(process: &Process) -> Option<Self> {
        let stat = process.stat().ok()?;
        Some(Self {
            identity: ProcessIdentity {
                pid: stat.pid,
                start_ticks: stat.starttime,
                pgid: stat.pgrp,
                sid: stat.session,
                name: stat.comm,
            },
            ppid: stat.ppid,
            state: stat.state,
            threads: stat.num_threads,
        })
    }
}

/// All processes at one moment, by pid.
#[derive(Debug, Clone, Default)]
pub struct ProcessTable {
    by_pid: BTreeMap<i32, Seen>,
}

impl FromIterator<Seen> for ProcessTable {
    fn from_iter<I: IntoIterator<Item = Seen>>(seen: I) -> Self {
        Self {
            by_pid: seen.into_iter().map(|s| (s.identity.pid, s)).collect(),
        }
    }
}

impl ProcessTable {
    /// Looks at `/proc`. Empty where `/proc` can't be read.
    pub fn read() -> Self {
        let Ok(all) = procfs::process::all_processes() else {
            return Self::default();
        };
        all.filter_map(|p| Seen::of(&p.ok()?)).collect()
    }

    /// The process that has this pid now.
    pub(super) fn get(&self, pid: i32) -> Option<&Seen> {
        self.by_pid.get(&pid)
    }

    /// The process of this identity, if it is still there: same pid and same start.
    pub fn find(&self, identity: &ProcessIdentity) -> Option<&Seen> {
        self.get(identity.pid)
            .filter(|s| s.identity.start_ticks == identity.start_ticks)
    }

    /// All processes, by pid.
    pub fn iter(&self) -> impl Iterator<Item = &Seen> {
        self.by_pid.values()
    }

    /// `pid` and its parents up to the first.
    pub(super) fn ancestry(&self, pid: i32) -> BTreeSet<i32> {
        let mut line = BTreeSet::new();
        let mut next = pid;
        while next > 0 && line.insert(next) {
            next = self.get(next).map_or(0, |s| s.ppid);
        }
        line
    }
}

/// Who has this pid now; `None` where nobody has.
pub fn identity(pid: i32) -> Option<ProcessIdentity> {
    Seen::read(pid).map(|s| s.identity)
}

/// Processes with `BENCHD_TOKEN=<token>` in their environment. Environments that benchd may not read (other
/// users', ended processes') are passed over.
pub fn carriers(table: &ProcessTable, token: &str) -> Vec<ProcessIdentity> {
    let wanted = format!("{TOKEN_VARIABLE}={token}");
    find_below(table, |s| {
        !s.is_zombie()
            && environment(s)
                .is_some_and(|env| env.split(|b| *b == 0).any(|entry| entry == wanted.as_bytes()))
    })
}

/// The processes for which `has` holds, but for benchd and what is above it. What `has` reads of `/proc` is read
/// after the table: a pid that passed to another process in between does not count.
fn find_below(table: &ProcessTable, has: impl Fn(&Seen) -> bool) -> Vec<ProcessIdentity> {
    let skipped = table.ancestry(own_pid());
    table
        .iter()
        .filter(|s| !skipped.contains(&s.identity.pid) && has(s))
        .filter(|s| identity(s.identity.pid).is_some_and(|now| now.start_ticks == s.identity.start_ticks))
        .map(|s| s.identity.clone())
        .collect()
}

/// Inode numbers of the pipes that a process has open, as (descriptor, inode). Of others' processes nothing is seen.
fn pipes(pid: i32) -> Vec<(String, u64)> {
    let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    descriptors
        .flatten()
        .filter_map(|fd| {
            let link = std::fs::read_link(fd.path()).ok()?;
            let inode = link.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?;
            Some((fd.file_name().into_string().ok()?, inode.parse().ok()?))
        })
        .collect()
}

/// The pipes that are a child's standard output and error and of which benchd has the other end: not those of its own
/// that a program may have put there already.
pub(super) fn shared_pipes(child: i32) -> Vec<u64> {
    let own: BTreeSet<u64> = pipes(own_pid()).into_iter().map(|(_, inode)| inode).collect();
    let outputs = pipes(child)
        .into_iter()
        .filter(|(fd, inode)| matches!(fd.as_str(), "1" | "2") && own.contains(inode));
    outputs.map(|(_, inode)| inode).collect()
}

/// Processes that began at `since_ticks` or later and hold one of these pipes, neither benchd nor above it.
pub(super) fn pipe_holders(table: &ProcessTable, wanted: &[u64], since_ticks: u64) -> Vec<ProcessIdentity> {
    if wanted.is_empty() {
        return Vec::new();
    }
    find_below(table, |s| {
        s.identity.start_ticks >= since_ticks
            && pipes(s.identity.pid)
                .iter()
                .any(|(_, inode)| wanted.contains(inode))
    })
}

/// State letters of a process's threads, each with its folder in `/proc`; empty once it is gone.
pub(super) fn thread_states(pid: i32) -> Vec<(char, std::path::PathBuf)> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    threads
        .flatten()
        .filter_map(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
            // The name before it may hold anything, a closing parenthesis too.
            let (_, rest) = stat.rsplit_once(')')?;
            Some((rest.trim_start().chars().next()?, thread.path()))
        })
        .collect()
}

/// A process's environment, raw: a program may have written anything over it.
fn environment(of: &Seen) -> Option<Vec<u8>> {
    let process = format!("/proc/{}", of.identity.pid);
    if !of.lost_its_main_thread() {
        return std::fs::read(format!("{process}/environ")).ok();
    }
    // It is shown by the threads that are left.
    let threads = std::fs::read_dir(format!("{process}/task")).ok()?;
    threads.flatten().find_map(|thread| {
        std::fs::read(thread.path().join("environ"))
            .ok()
            .filter(|env| !env.is_empty())
    })
}

/// The kernel's boot id: pids and start times of another boot mean nothing.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// A random token that no other server's environment carries.
///
/// # Errors
/// `/proc` can't be read.
pub fn new_token() -> std::io::Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(uuid.trim().replace('-', ""))
}

/// benchd's own pid.
pub(super) fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

/// benchd's own process group.
pub(super) fn own_pgid() -> i32 {
    nix::unistd::getpgrp().as_raw()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A process for pure tests.
    pub(crate) fn seen(pid: i32, start: u64, ppid: i32, pgid: i32, sid: i32) -> Seen {
        Seen {
            identity: ProcessIdentity {
                pid,
                start_ticks: start,
                pgid,
                sid,
                name: format!("p{pid}"),
            },
            ppid,
            state: 'S',
            threads: 1,
        }
    }

    #[test]
    fn the_line_of_parents_is_followed_to_its_end() {
        let table: ProcessTable = [
            seen(10, 1, 1, 10, 10),
            seen(900, 2, 10, 10, 10),
            seen(20, 3, 900, 20, 20), // smaller pid than its parent: pids wrapped
            seen(30, 3, 20, 20, 20),
            seen(40, 1, 1, 40, 40),
        ]
        .into_iter()
        .collect();
        assert_eq!(table.ancestry(30), BTreeSet::from([30, 20, 900, 10, 1]));
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let table: ProcessTable = [seen(10, 77, 1, 10, 10)].into_iter().collect();
        let mut identity = seen(10, 77, 1, 10, 10).identity;
        assert!(table.find(&identity).is_some());
        identity.start_ticks = 76;
        assert!(table.find(&identity).is_none());
    }

    #[test]
    fn this_process_is_in_the_table_as_itself() {
        let own = identity(own_pid()).unwrap();
        let table = ProcessTable::read();
        assert_eq!(table.find(&own).map(|s| &s.identity), Some(&own));
        assert_eq!(own.pgid, own_pgid());
        assert!(boot_id().is_some_and(|id| id.len() == 36));
    }
}
