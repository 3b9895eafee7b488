//! One look at `/proc`: every process with its identity, parent and state.
//!
//! Processes come and go while `/proc` is read; one that vanishes half-way is left out, never an error.

use std::collections::{BTreeMap, BTreeSet};

use procfs::process::Process;

use benchd_core::record::ProcessIdentity;

/// A process at the moment of the look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Who it is.
    pub identity: ProcessIdentity,
    /// Its parent.
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
    pub fn get(&self, pid: i32) -> Option<&Seen> {
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

    /// Everything below `root` by the parents' chain, without `root` itself.
    pub fn descendants(&self, root: i32) -> Vec<&Seen> {
        let mut below = BTreeSet::from([root]);
        // A child may have a smaller pid than its parent (pids wrap), so one pass is not enough.
        loop {
            let before = below.len();
            let children: Vec<i32> = self
                .iter()
                .filter(|s| below.contains(&s.ppid))
                .map(|s| s.identity.pid)
                .collect();
            below.extend(children);
            if below.len() == before {
                break;
            }
        }
        below.remove(&root);
        below.iter().filter_map(|pid| self.get(*pid)).collect()
    }

    /// `pid` and its parents up to the first.
    pub fn ancestry(&self, pid: i32) -> BTreeSet<i32> {
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
    Seen::of(&Process::new(pid).ok()?).map(|s| s.identity)
}

/// Everything below `root`, ended but not reaped ones included.
pub fn descendants(root: i32) -> Vec<ProcessIdentity> {
    let table = ProcessTable::read();
    table
        .descendants(root)
        .into_iter()
        .map(|s| s.identity.clone())
        .collect()
}

/// Members of a process group.
pub fn group_members(pgid: i32) -> Vec<ProcessIdentity> {
    let table = ProcessTable::read();
    table
        .iter()
        .filter(|s| s.identity.pgid == pgid)
        .map(|s| s.identity.clone())
        .collect()
}

/// Children of benchd that it did not start itself: what servers left to their subreaper. `own` are the pids
/// that benchd started.
pub fn adopted_children(own: &BTreeSet<i32>) -> Vec<ProcessIdentity> {
    let table = ProcessTable::read();
    super::family::adopted(&table, own_pid(), own_pgid(), own)
        .map(|s| s.identity.clone())
        .collect()
}

/// Processes with `BENCHD_TOKEN=<token>` in their environment. Environments that benchd may not read (other
/// users', ended processes') are passed over.
pub fn carriers(table: &ProcessTable, token: &str) -> Vec<ProcessIdentity> {
    let wanted = format!("{}={token}", super::TOKEN_VARIABLE);
    let skipped = table.ancestry(own_pid());
    table
        .iter()
        .filter(|s| !s.is_zombie() && !skipped.contains(&s.identity.pid))
        .filter(|s| {
            environment(s).is_some_and(|env| env.split(|b| *b == 0).any(|entry| entry == wanted.as_bytes()))
        })
        // The pid may have passed to another process between the two reads.
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
    let skipped = table.ancestry(own_pid());
    table
        .iter()
        .filter(|s| s.identity.start_ticks >= since_ticks && !skipped.contains(&s.identity.pid))
        .filter(|s| {
            pipes(s.identity.pid)
                .iter()
                .any(|(_, inode)| wanted.contains(inode))
        })
        // The pid may have passed to another process between the two reads.
        .filter(|s| identity(s.identity.pid).is_some_and(|now| now.start_ticks == s.identity.start_ticks))
        .map(|s| s.identity.clone())
        .collect()
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
pub(super) mod tests {
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
    fn descendants_are_found_whatever_the_order_of_pids() {
        let table: ProcessTable = [
            seen(10, 1, 1, 10, 10),
            seen(900, 2, 10, 10, 10),
            seen(20, 3, 900, 20, 20), // smaller pid than its parent: pids wrapped
            seen(30, 3, 20, 20, 20),
            seen(40, 1, 1, 40, 40),
        ]
        .into_iter()
        .collect();
        let pids: Vec<i32> = table.descendants(10).iter().map(|s| s.identity.pid).collect();
        assert_eq!(pids, [20, 30, 900]);
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
