//! Whose a process on the GPU is: the server's, or a stranger's.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

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
    /// The process.
    pub process: GpuProcess,
    /// Whether this system knows the process id. If not, NVML shows the ids of another pid namespace (benchd
    /// runs in a container), and the process may be the server itself.
    pub visible: bool,
}

/// What /proc says of a process's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kin {
    parent: i32,
    group: i32,
}

/// Reads parent and process group from `/proc/PID/stat`; `None` where there is no such process here.
pub(super) fn kin(pid: i32) -> Option<Kin> {
    parse_kin(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (comm) state ppid pgrp …` (proc_pid_stat(5)); `comm` may contain spaces and parentheses.
fn parse_kin(stat: &str) -> Option<Kin> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(1);
    Some(Kin {
        parent: fields.next()?.parse().ok()?,
        group: fields.next()?.parse().ok()?,
    })
}

/// The name of a process by /proc, where it can be seen.
pub(super) fn name(pid: u32) -> Option<String> {
    let name = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_owned())
}

/// No line of ancestors is longer; a bound against a table that changes while it is walked.
const MAX_ANCESTORS: usize = 64;

/// Whether `pid` is ours: in the set, in a process group that a process of the set leads, or a descendant of
/// the set or of benchd itself. The set alone would be late: a server may start a worker at any moment.
pub(super) fn is_ours(pid: u32, ours: &HashSet<i32>, benchd: i32, kin: &dyn Fn(i32) -> Option<Kin>) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    if ours.contains(&pid) {
        return true;
    }
    let mut at = pid;
    for _ in 0..MAX_ANCESTORS {
        let Some(found) = kin(at) else { return false };
        if ours.contains(&found.group) || ours.contains(&found.parent) || found.parent == benchd {
            return true;
        }
        if found.parent <= 1 {
            return false;
        }
        at = found.parent;
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
        kin: &dyn Fn(i32) -> Option<Kin>,
    ) -> Vec<Stranger> {
        let mut strangers = Vec::new();
        for process in processes {
            let key = (process.device, process.pid);
            if self.known.contains(&key) {
                continue;
            }
            if is_ours(process.pid, ours, benchd, kin) {
                self.ours_listed = true;
                continue;
            }
            self.known.insert(key);
            let visible = i32::try_from(process.pid).is_ok_and(|pid| kin(pid).is_some());
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

    const BENCHD: i32 = 50;

    /// 100 leads group 100; 101 is its child; 102 is 101's child in a session of its own; 103 was adopted by
    /// init and stays in group 100; 104 was adopted by benchd; 200 is someone else's, below shell 199.
    fn table(pid: i32) -> Option<Kin> {
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
        Some(Kin { parent, group })
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
        let circle = |pid: i32| {
            Some(Kin {
                parent: if pid == 300 { 301 } else { 300 },
                group: 1,
            })
        };
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

    #[test]
    fn the_stat_line_of_a_strangely_named_process_is_read() {
        assert_eq!(
            parse_kin("4242 (VLLM::Engine) (x) S 100 101 102 0 -1"),
            Some(Kin {
                parent: 100,
                group: 101
            })
        );
        assert_eq!(parse_kin("4242 (half"), None);
        let own = i32::try_from(std::process::id()).expect("a pid is positive");
        assert!(kin(own).is_some_and(|kin| kin.parent > 0));
    }
}
