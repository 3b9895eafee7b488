//! Whose a process on the GPU is: the server's, or a stranger's.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
};

use crate::process::Seen;
use benchd_core::record::GpuProcess;

/// The process ids of the server that runs now: written by whoever owns the server, read by the NVML thread.
#[derive(Debug, Clone, Default)]
pub struct OurPids(Arc<RwLock<Ours>>);

#[derive(Debug, Default)]
struct Ours {
    set: HashSet<i32>,
    /// Who was once seen to be the server's stays so, also when its line of ancestors is gone.
    seen: HashSet<i32>,
    unknown: bool,
}

impl OurPids {
    /// Replaces the set; what was seen of the server's processes meanwhile stays.
    pub fn set(&self, pids: impl IntoIterator<Item = i32>) {
        let mut ours = self.write();
        ours.set = pids.into_iter().collect();
        ours.unknown = false;
    }

    /// No server runs.
    pub fn clear(&self) {
        *self.write() = Ours::default();
    }

    /// The server's processes can't be told from others' (someone else runs it, on another machine or out of sight):
    /// until the set is known, nobody counts as a stranger.
    pub fn set_unknown(&self) {
        self.write().unknown = true;
    }

    /// All that are known now; `None` where they can't be told from others.
    pub fn snapshot(&self) -> Option<HashSet<i32>> {
        let ours = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (!ours.unknown).then(|| ours.set.union(&ours.seen).copied().collect())
    }

    pub(super) fn remember(&self, pids: impl IntoIterator<Item = i32>) {
        self.write().seen.extend(pids);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Ours> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
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

/// Looks in a row that must show a process before it counts as a stranger: while a process starts or ends, its line of
/// ancestors may be cut for a moment.
const LOOKS: u32 = 2;

/// The same for a process that this system does not know: as a rule one that has just ended, and is still listed.
const LOOKS_UNSEEN: u32 = 20;

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// A stranger is on the device.
    Came(GpuProcess),
    /// It is gone; with the most memory that it was seen to hold.
    Left(GpuProcess),
}

/// Tells of each stranger when it comes and when it leaves.
#[derive(Debug, Default)]
pub(super) struct Watch {
    baseline: HashSet<(u32, u32)>,
    present: BTreeMap<(u32, u32), Present>,
    /// Processes that were found to be ours.
    ours: HashSet<i32>,
}

#[derive(Debug)]
struct Present {
    process: GpuProcess,
    looks: u32,
    told: bool,
}

impl Watch {
    /// `baseline`: processes that were there before the first server.
    pub(super) fn new(baseline: &[GpuProcess]) -> Self {
        Self {
            baseline: baseline
                .iter()
                .map(|process| (process.device, process.pid))
                .collect(),
            ..Self::default()
        }
    }

    /// What changed by this list of the processes on `device`. `ours` is `None` where the server's can't be told from
    /// others.
    ///
    /// A process that this system does not know may be the server itself: in a container NVML may show the ids of another
    /// pid namespace. It counts only once a process of ours was listed as we know it.
    pub(super) fn look(
        &mut self,
        device: u32,
        processes: &[GpuProcess],
        ours: Option<&HashSet<i32>>,
        benchd: i32,
        read: &dyn Fn(i32) -> Option<Seen>,
    ) -> Vec<Change> {
        let mut listed = HashSet::new();
        for process in processes {
            let key = (process.device, process.pid);
            let Some(ours) = ours.filter(|_| !self.baseline.contains(&key)) else {
                continue;
            };
            if is_ours(process.pid, ours, benchd, read) {
                self.ours.extend(i32::try_from(process.pid));
                continue;
            }
            listed.insert(key);
            let present = self.present.entry(key).or_insert_with(|| Present {
                process: process.clone(),
                looks: 0,
                told: false,
            });
            present.looks += 1;
            // The name of the first look may be its parent's: before exec a process has that.
            let most = present.process.used_bytes.max(process.used_bytes);
            let name = process.name.clone().or(present.process.name.take());
            present.process = GpuProcess {
                used_bytes: most,
                name,
                ..process.clone()
            };
        }
        let mut changes = Vec::new();
        self.present.retain(|key, present| {
            let stays = key.0 != device || listed.contains(key);
            if !stays && present.told {
                changes.push(Change::Left(present.process.clone()));
            }
            stays
        });
        let ours_listed = self.ours_listed();
        for present in self.present.values_mut().filter(|present| !present.told) {
            let visible = present.process.name.is_some();
            let needed = if visible { LOOKS } else { LOOKS_UNSEEN };
            if present.looks >= needed && (visible || ours_listed) {
                present.told = true;
                changes.push(Change::Came(present.process.clone()));
            }
        }
        changes
    }

    /// Whether NVML ever listed a process of ours.
    pub(super) fn ours_listed(&self) -> bool {
        !self.ours.is_empty()
    }

    /// The listed processes that were found to be ours.
    pub(super) fn ours(&self) -> &HashSet<i32> {
        &self.ours
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
            name: i32::try_from(pid).ok().and_then(table).map(|s| s.identity.name),
        }
    }

    fn looks(
        watch: &mut Watch,
        times: u32,
        processes: &[GpuProcess],
        ours: Option<&HashSet<i32>>,
    ) -> Vec<Change> {
        (0..times)
            .flat_map(|_| watch.look(0, processes, ours, BENCHD, &table))
            .collect()
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
    fn a_stranger_is_told_when_it_comes_and_when_it_leaves_and_the_baseline_never() {
        let ours = HashSet::from([100]);
        let mut watch = Watch::new(&[process(199)]);
        assert_eq!(looks(&mut watch, 5, &[process(199)], Some(&ours)), []);
        assert!(!watch.ours_listed());
        let all = [process(199), process(101), process(200)];
        assert_eq!(
            watch.look(0, &all, Some(&ours), BENCHD, &table),
            [],
            "one look is none"
        );
        assert_eq!(
            looks(&mut watch, 5, &all, Some(&ours)),
            [Change::Came(process(200))],
            "once"
        );
        assert!(watch.ours_listed());
        let more = GpuProcess {
            used_bytes: Some(7),
            ..process(200)
        };
        let grown = [process(101), more.clone()];
        assert_eq!(looks(&mut watch, 2, &grown, Some(&ours)), []);
        assert_eq!(
            watch.look(1, &[], Some(&ours), BENCHD, &table),
            [],
            "another device"
        );
        assert_eq!(
            looks(&mut watch, 3, &[process(101)], Some(&ours)),
            [Change::Left(more)],
            "with the most that it held"
        );
    }

    #[test]
    fn whom_this_system_does_not_know_is_a_stranger_only_beside_a_known_server_and_for_long() {
        let ours = HashSet::from([100]);
        let mut watch = Watch::default();
        let unseen = process(7777);
        assert_eq!(
            looks(&mut watch, 100, std::slice::from_ref(&unseen), Some(&ours)),
            [],
            "it may be the server itself"
        );
        let mut watch = Watch::default();
        let both = [process(101), unseen.clone()];
        assert_eq!(
            looks(&mut watch, LOOKS_UNSEEN - 1, &both, Some(&ours)),
            [],
            "a dead one"
        );
        assert_eq!(looks(&mut watch, 1, &both, Some(&ours)), [Change::Came(unseen)]);
    }

    #[test]
    fn where_the_server_can_t_be_told_nobody_is_a_stranger() {
        let mut watch = Watch::default();
        assert_eq!(looks(&mut watch, 100, &[process(200)], None), []);
    }
}
