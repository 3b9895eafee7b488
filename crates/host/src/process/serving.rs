//! Whose processes serve an address: of a server that someone else runs.

use std::net::{SocketAddr, TcpListener};

use super::{
    family::Family,
    ports::listener_owners,
    spawn,
    table::{self, ProcessTable},
};
use benchd_core::record::ProcessIdentity;

/// Who serves an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Serving {
    /// These processes: those that listen, what is in their groups, and what descends from them.
    By(Vec<ProcessIdentity>),
    /// Somebody on this machine whose processes can't be seen: another user's, or behind a container's port.
    Unseen,
    /// Another machine.
    Elsewhere,
}

/// Looks for the processes of the server that listens on `address`.
pub fn serving(address: SocketAddr) -> Serving {
    if !is_here(address) {
        return Serving::Elsewhere;
    }
    let (listeners, _) = listener_owners(address);
    let table = ProcessTable::read();
    let listening = || listeners.iter().filter_map(|pid| table.get(*pid));
    // A group that benchd is in as well is a script's that started both.
    let groups = listening()
        .map(|seen| seen.identity.pgid)
        .filter(|pgid| *pgid != table::own_pgid());
    let leaders = groups.filter_map(|pgid| table.get(pgid));
    let members: Vec<ProcessIdentity> = listening()
        .chain(leaders)
        .map(|seen| seen.identity.clone())
        .collect();
    let found = Family::recall(None, members).update(&table, &spawn::surroundings(None));
    let processes: Vec<ProcessIdentity> = found.into_iter().map(|(seen, _)| seen.identity).collect();
    if processes.is_empty() {
        Serving::Unseen
    } else {
        Serving::By(processes)
    }
}

/// Whether the address is one of this machine's: only those can be bound.
fn is_here(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    ip.is_loopback() || ip.is_unspecified() || TcpListener::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_elsewhere_or_not_to_be_seen_is_said_to_be() {
        // TEST-NET-1, RFC 5737.
        assert_eq!(serving(([192, 0, 2, 1], 80).into()), Serving::Elsewhere);
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        assert_eq!(serving(address), Serving::Unseen, "nobody listens");
        // benchd itself is never a server of someone else's.
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(serving(own.local_addr().unwrap()), Serving::Unseen);
    }
}
