//! Whose a process on the GPU is: the server's, or a stranger's.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

use crate::process::Seen;
use benchd_core::record::GpuProcess;

/// The process ids of the server that runs now: written by whoever owns the server, read by the NVML thread.
#[derive(Debug, Clone, Default)]
pub struct OurPids(Arc<RwLock<HashSet<i32>>>);

impl OurPids {
    /// Replaces the set.
    pub fn set(&self, pids: impl IntoIterator<Item = i32>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pids.into_iter().collect();
    }

    /// Adds to the set.
    pub fn add(&self, pids: impl IntoIterator<Item = i32>) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(pids);
    }

    /// The set as it is now.
    pub fn snapshot(&self) -> HashSet<i32> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A process on a chosen device that is neither ours nor was there before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// As NVML lists it.
    pub process: GpuProcess,
    /// Whether this system knows the process id. If not, NVML shows the ids of another pid namespace (benchd
    /// runs in a container), and the process may be the server itself.
    pub visible: bool,
}

/// No line of ancestors is longer; a bound against a table that changes while it is walked.
const MAX_ANCESTORS: usize = 64;

/// Whether `pid` is ours: in the set, in a process group that a process of the set leads, or a descendant of
/// the set or of benchd itself. The set alone would be late: a server may start a worker at any moment.
pub(super) fn is_ours(
    pid: u32,
    ours: &HashSet<i32>,
    benchd: i32,
    read: &dyn Fn(i32) -> Option<Seen>,
) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    if ours.contains(&pid) {
        return true;
    }
    let mut at = pid;
    for _ in 0..MAX_ANCESTORS {
        let Some(found) = read(at) else { return false };
        if ours.contains(&found.identity.pgid) || ours.contains(&found.ppid) || found.ppid == benchd {
            return true;
        }
        if found.ppid <= 1 {
            return false;
        }
        at = found.ppid;
    }
    false
}

/// Reports each stranger once.
#[derive(Debug, Default)]
pub(super) struct Watch {
    known: HashSet<(u32, u32)>,
    ours_listed: bool,
}

impl Watch {
    /// `baseline`: processes that were there before the first server.
    pub(super) fn new(baseline: &[GpuProcess]) -> Self {
        Self {
            known: baseline
                .iter()
                .map(|process| (process.device, process.pid))
                .collect(),
            ours_listed: false,
        }
    }

    /// The strangers among `processes` that were not reported before.
    pub(super) fn look(
        &mut self,
        processes: &[GpuProcess],
        ours: &HashSet<i32>,
        benchd: i32,
        read: &dyn Fn(i32) -> Option<Seen>,
    ) -> Vec<Stranger> {
        let mut strangers = Vec::new();
        for process in processes {
            let key = (process.device, process.pid);
            if self.known.contains(&key) {
                continue;
            }
            if is_ours(process.pid, ours, benchd, read) {
                self.ours_listed = true;
                continue;
            }
            self.known.insert(key);
            let visible = i32::try_from(process.pid).is_ok_and(|pid| read(pid).is_some());
            strangers.push(Stranger {
                process: process.clone(),
                visible,
            });
        }
        strangers
    }

    /// Whether NVML ever listed a process of ours.
    pub(super) fn ours_listed(&self) -> bool {
        self.ours_listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::seen;

    const BENCHD: i32 = 50;

    /// 100 leads group 100; 101 is its child; 102 is 101's child in a session of its own; 103 was adopted by
    /// init and stays in group 100; 104 was adopted by benchd; 200 is someone else's, below shell 199.
    fn table(pid: i32) -> Option<Seen> {
        let (parent, group) = match pid {
            100 => (BENCHD, 100),
            101 => (100, 100),
            102 => (101, 102),
            103 => (1, 100),
            104 => (BENCHD, 104),
            200 => (199, 200),
            199 => (1, 199),
            _ => return None,
        };
        Some(seen(pid, 1, parent, group, group))
    }

    fn process(pid: u32) -> GpuProcess {
        GpuProcess {
            pid,
            device: 0,
            used_bytes: Some(1),
            name: None,
        }
    }

    #[test]
    fn the_servers_family_is_ours_and_nobody_else() {
        let ours = HashSet::from([100]);
        for pid in [100, 101, 102, 103, 104] {
            assert!(is_ours(pid, &ours, BENCHD, &table), "{pid}");
        }
        for pid in [199, 200, 7777, u32::MAX] {
            assert!(!is_ours(pid, &ours, BENCHD, &table), "{pid}");
        }
        assert!(
            is_ours(7777, &HashSet::from([7777]), BENCHD, &table),
            "one that has ended is known by the set"
        );
    }

    #[test]
    fn a_circle_in_the_table_ends() {
        let circle = |pid: i32| Some(seen(pid, 1, if pid == 300 { 301 } else { 300 }, 1, 1));
        assert!(!is_ours(300, &HashSet::from([100]), BENCHD, &circle));
    }

    #[test]
    fn a_stranger_is_reported_once_and_the_baselines_never() {
        let ours = HashSet::from([100]);
        let mut watch = Watch::new(&[process(199)]);
        assert_eq!(watch.look(&[process(199)], &ours, BENCHD, &table), []);
        assert!(!watch.ours_listed());
        let seen = [process(199), process(101), process(200), process(7777)];
        let strangers = watch.look(&seen, &ours, BENCHD, &table);
        assert_eq!(
            strangers
                .iter()
                .map(|stranger| (stranger.process.pid, stranger.visible))
                .collect::<Vec<_>>(),
            [(200, true), (7777, false)]
        );
        assert!(watch.ours_listed());
        assert_eq!(watch.look(&seen, &ours, BENCHD, &table), []);
    }
}
