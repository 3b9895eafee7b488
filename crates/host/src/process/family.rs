//! Which processes are a server's: a closure over one look at `/proc`, without I/O.
//!
//! A process belongs to the family if one of these holds:
//!
//! 1. it was seen as a member before and is still the same process (pid and start time);
//! 2. it is in a process group or session that a member leads or, for the leader's group, that a member is in
//!    (a group's number can't be given out again while the group has a member);
//! 3. it carries the server's token, holds a pipe that takes the server's output, or is in the server's cgroup;
//! 4. its parent is a member;
//! 5. benchd adopted it (its parent ended, and benchd is subreaper), and no other server runs beside this one
//!    that could have left it.
//!
//! What was seen once is remembered, so that a member keeps its membership when its parent ends.

use std::collections::{BTreeMap, BTreeSet};

use super::table::{ProcessTable, Seen};
use benchd_core::record::ProcessIdentity;

/// Why a process counts as a member, the strongest reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Membership {
    /// The leader, in whose group it is.
    Group,
    /// It was seen as a member before.
    Known,
    /// It is in a group or session of a member.
    Session,
    /// It carries the token.
    Token,
    /// It holds a pipe that takes the server's output.
    Pipe,
    /// It is in the server's cgroup.
    Cgroup,
    /// Its parent is a member.
    Descendant,
    /// benchd adopted it.
    Adopted,
}

/// How many ended members are remembered: the pids by which GPU memory that is still held is told to be the
/// server's. A server that starts a helper every second must not fill benchd's memory over a night.
const REMEMBERED: usize = 4096;

/// What is known of a server's processes.
#[derive(Debug, Clone)]
pub(super) struct Family {
    leader: Option<ProcessIdentity>,
    known: BTreeMap<i32, ProcessIdentity>,
}

/// What else the closure needs to know about the moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Surroundings {
    /// benchd's pid.
    pub own_pid: i32,
    /// benchd's process group.
    pub own_pgid: i32,
    /// Whether what benchd adopted may be this server's (not for one that another benchd started).
    pub adopts: bool,
    /// Leaders of all servers that benchd runs.
    pub leaders: BTreeSet<i32>,
    /// Processes that carry this server's token.
    pub carriers: Vec<ProcessIdentity>,
    /// Processes that hold a pipe of this server's output.
    pub pipe_holders: Vec<ProcessIdentity>,
    /// Processes in this server's cgroup.
    pub in_cgroup: Vec<i32>,
}

/// Children of benchd that it did not start: not a server's leader, and not in benchd's own group, where
/// everything else is that benchd starts.
pub(super) fn adopted<'a>(
    table: &'a ProcessTable,
    own_pid: i32,
    own_pgid: i32,
    leaders: &'a BTreeSet<i32>,
) -> impl Iterator<Item = &'a Seen> {
    table.iter().filter(move |s| {
        s.ppid == own_pid && s.identity.pgid != own_pgid && !leaders.contains(&s.identity.pid)
    })
}

impl Family {
    /// A family of which only the leader is known.
    pub(super) fn new(leader: ProcessIdentity) -> Self {
        Self::recall(Some(leader), [])
    }

    /// A family as journalled: its leader, if it came to one, and the members seen before.
    pub(super) fn recall(
        leader: Option<ProcessIdentity>,
        members: impl IntoIterator<Item = ProcessIdentity>,
    ) -> Self {
        let known = members
            .into_iter()
            .chain(leader.clone())
            .map(|m| (m.pid, m))
            .collect();
        Self { leader, known }
    }

    /// Everyone ever seen as a member, by pid.
    pub(super) fn known(&self) -> impl Iterator<Item = &ProcessIdentity> {
        self.known.values()
    }

    /// Members present in `table`, ended but unreaped ones included, with the reason; new ones are remembered.
    pub(super) fn update(&mut self, table: &ProcessTable, around: &Surroundings) -> Vec<(Seen, Membership)> {
        // benchd, what it hangs from, and other servers are never this server's, whatever a witness says.
        let mut others = table.ancestry(around.own_pid);
        let own_leader = self.leader.as_ref().map(|l| l.pid);
        others.extend(around.leaders.iter().filter(|l| Some(**l) != own_leader));

        let mut members: BTreeMap<i32, Membership> = BTreeMap::new();
        let mut admit = |pid: i32, why: Membership| {
            if !others.contains(&pid) && table.get(pid).is_some() {
                members.entry(pid).or_insert(why);
            }
        };
        for known in self.known.values().filter(|k| table.find(k).is_some()) {
            admit(known.pid, Membership::Known);
        }
        for carrier in around.carriers.iter().filter(|c| table.find(c).is_some()) {
            admit(carrier.pid, Membership::Token);
        }
        for holder in around.pipe_holders.iter().filter(|h| table.find(h).is_some()) {
            admit(holder.pid, Membership::Pipe);
        }
        for pid in &around.in_cgroup {
            admit(*pid, Membership::Cgroup);
        }
        let alone = around.leaders.iter().all(|l| Some(*l) == own_leader);
        if let Some(leader) = self.leader.as_ref().filter(|_| around.adopts && alone) {
            for s in adopted(table, around.own_pid, around.own_pgid, &around.leaders) {
                if s.identity.start_ticks >= leader.start_ticks {
                    admit(s.identity.pid, Membership::Adopted);
                }
            }
        }
        // Groups, sessions and children, until nobody new is found.
        loop {
            let (groups, sessions) = self.circles(table, &members);
            let mut new = Vec::new();
            for s in table.iter() {
                let id = &s.identity;
                if members.contains_key(&id.pid) || others.contains(&id.pid) {
                    continue;
                }
                if groups.contains(&id.pgid) || sessions.contains(&id.sid) {
                    new.push((id.pid, Membership::Session));
                } else if members.contains_key(&s.ppid) {
                    new.push((id.pid, Membership::Descendant));
                }
            }
            if new.is_empty() {
                break;
            }
            members.extend(new);
        }
        if self.known.len() > REMEMBERED {
            self.known.retain(|_, k| table.find(k).is_some());
        }
        let mut present = Vec::new();
        for (pid, why) in members {
            let Some(seen) = table.get(pid) else { continue };
            let in_group = self.leader.as_ref().is_some_and(|l| l.pgid == seen.identity.pgid);
            self.known.insert(pid, seen.identity.clone());
            present.push((seen.clone(), if in_group { Membership::Group } else { why }));
        }
        present
    }

    /// Groups and sessions whose numbers are surely the family's: the leader's while a member is in it, and
    /// those that a present member leads.
    fn circles(
        &self,
        table: &ProcessTable,
        members: &BTreeMap<i32, Membership>,
    ) -> (BTreeSet<i32>, BTreeSet<i32>) {
        let present = || {
            members
                .keys()
                .filter_map(|pid| table.get(*pid))
                .map(|s| &s.identity)
        };
        let mut groups: BTreeSet<i32> = present().filter(|i| i.pgid == i.pid).map(|i| i.pgid).collect();
        let mut sessions: BTreeSet<i32> = present().filter(|i| i.sid == i.pid).map(|i| i.sid).collect();
        if let Some(leader) = &self.leader {
            if present().any(|i| i.pgid == leader.pgid) {
                groups.insert(leader.pgid);
            }
            // The leader's session is the family's only where the leader leads it; else it is benchd's own.
            if leader.sid == leader.pid && present().any(|i| i.sid == leader.sid) {
                sessions.insert(leader.sid);
            }
        }
        (groups, sessions)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::table::tests::seen, *};

    const BENCHD: i32 = 100;

    fn around(leaders: &[i32]) -> Surroundings {
        Surroundings {
            own_pid: BENCHD,
            own_pgid: BENCHD,
            adopts: true,
            leaders: leaders.iter().copied().collect(),
            ..Surroundings::default()
        }
    }

    fn table(rest: impl IntoIterator<Item = Seen>) -> ProcessTable {
        [
            seen(1, 0, 0, 1, 1),
            seen(50, 1, 1, 50, 50),
            seen(BENCHD, 5, 50, BENCHD, 50),
        ]
        .into_iter()
        .chain(rest)
        .collect()
    }

    fn pids(members: &[(Seen, Membership)]) -> Vec<(i32, Membership)> {
        members.iter().map(|(s, m)| (s.identity.pid, *m)).collect()
    }

    #[test]
    fn group_descendants_and_adopted_are_the_family_and_strangers_are_not() {
        let leader = seen(200, 10, BENCHD, 200, 200);
        let mut family = Family::new(leader.identity.clone());
        let t = table([
            leader,
            seen(201, 11, 200, 200, 200),      // a worker
            seen(202, 11, 201, 202, 202),      // a child in its own session
            seen(203, 12, 202, 202, 202),      // and its child
            seen(204, 12, BENCHD, 204, 204),   // left to benchd by a double fork
            seen(300, 11, 50, 300, 300),       // the user's own
            seen(301, 11, BENCHD, BENCHD, 50), // something else that benchd started
        ]);
        assert_eq!(
            pids(&family.update(&t, &around(&[200]))),
            [
                (200, Membership::Group),
                (201, Membership::Group),
                (202, Membership::Descendant),
                (203, Membership::Session),
                (204, Membership::Adopted)
            ]
        );
    }

    #[test]
    fn beside_another_server_an_adopted_stranger_is_nobodys() {
        let leader = seen(200, 10, BENCHD, 200, 200);
        let mut family = Family::new(leader.identity.clone());
        let t = table([
            leader,
            seen(400, 10, BENCHD, 400, 400),
            seen(204, 12, BENCHD, 204, 204),
        ]);
        assert_eq!(
            pids(&family.update(&t, &around(&[200, 400]))),
            [(200, Membership::Group)]
        );
    }

    #[test]
    fn who_was_seen_once_stays_a_member_after_its_parent_is_gone() {
        let leader = seen(200, 10, BENCHD, 200, 200);
        let mut family = Family::new(leader.identity.clone());
        family.update(
            &table([leader, seen(201, 11, 200, 201, 201)]),
            &around(&[200, 400]),
        );
        // The leader is gone, its child hangs from init, another server runs: still known.
        let t = table([seen(201, 11, 1, 201, 201), seen(202, 13, 201, 201, 201)]);
        assert_eq!(
            pids(&family.update(&t, &around(&[200, 400]))),
            [(201, Membership::Known), (202, Membership::Session)]
        );
    }

    #[test]
    fn a_reused_pid_and_a_reused_group_number_are_not_touched() {
        let leader = seen(200, 10, BENCHD, 200, 200);
        let mut family = Family::new(leader.identity);
        // Another process has the leader's pid now and leads a group of that number.
        let t = table([seen(200, 99, 50, 200, 200), seen(205, 99, 200, 200, 200)]);
        assert_eq!(pids(&family.update(&t, &around(&[]))), []);
        // The number is a stranger's group whose own leader ended: no member of ours vouches for it.
        let t = table([seen(205, 99, 50, 200, 200)]);
        assert_eq!(pids(&family.update(&t, &around(&[]))), []);
    }

    #[test]
    fn a_token_carrier_is_a_member_and_so_is_its_session() {
        let leader = seen(200, 10, BENCHD, 200, 200);
        let mut family = Family::new(leader.identity);
        let carrier = seen(210, 12, 1, 210, 210);
        let t = table([carrier.clone(), seen(211, 12, 1, 211, 210)]);
        let mut around = around(&[]);
        around.carriers = vec![carrier.identity];
        assert_eq!(
            pids(&family.update(&t, &around)),
            [(210, Membership::Token), (211, Membership::Session)]
        );
    }

    #[test]
    fn benchd_and_its_ancestors_are_never_members() {
        let leader = seen(200, 10, BENCHD, 200, 200);
        let mut family = Family::new(leader.identity);
        let t = table([]);
        let mut around = around(&[]);
        around.carriers = vec![
            t.get(50).unwrap().identity.clone(),
            t.get(BENCHD).unwrap().identity.clone(),
        ];
        assert_eq!(pids(&family.update(&t, &around)), []);
    }
}
