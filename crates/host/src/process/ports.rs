//! Who listens where.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead as _, BufReader},
    net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, socket};
use procfs::{
    FromBufReadSI as _, current_system_info,
    net::{TcpNetEntries, TcpNetEntry, TcpState},
    process::FDTarget,
};

use super::table;

/// A process that has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Pid, as `/proc` names it.
    pub pid: i32,
    /// Its command line, shortened.
    pub command: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (`{}`)", self.pid, self.command)
    }
}

/// Why a port can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PortTaken {
    /// Another process listens there.
    #[error("port {port} on {host} is taken by {}", held_by(holders))]
    Held {
        /// Address or name, as asked for.
        host: String,
        /// TCP port.
        port: u16,
        /// By whom; empty where benchd may not see it.
        holders: Vec<Holder>,
    },
    /// It can't be bound for another reason.
    #[error("cannot listen on {host}:{port}: {source}")]
    Unusable {
        /// Address or name, as asked for.
        host: String,
        /// TCP port.
        port: u16,
        /// The system's answer.
        source: io::Error,
    },
}

fn held_by(holders: &[Holder]) -> String {
    if holders.is_empty() {
        return "a process of another user (`sudo ss -ltnp` names it)".into();
    }
    let list: Vec<String> = holders.iter().map(Holder::to_string).collect();
    format!("process {}", list.join(", "))
}

/// Whether a server can listen there: nobody listens on an overlapping address, however its socket's reuse
/// options stand (two servers may share a port with `SO_REUSEPORT`, and answer in turns), and a plain bind
/// works.
///
/// # Errors
/// Who has it, by pid and command where benchd may see that.
pub fn port_is_free(host: &str, port: u16) -> Result<(), PortTaken> {
    let unusable = |source| PortTaken::Unusable {
        host: host.into(),
        port,
        source,
    };
    let held = |inodes: &BTreeSet<u64>| PortTaken::Held {
        host: host.into(),
        port,
        holders: holders(inodes),
    };
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(unusable)?.collect();
    for address in addresses {
        let (listening, all) = inodes_on(address);
        if !listening.is_empty() {
            return Err(held(&listening));
        }
        match plain_bind(address) {
            Ok(()) => {}
            // Connections of an earlier server that are still winding down (TIME_WAIT) refuse a plain bind
            // and do not refuse a server's, which sets SO_REUSEADDR, as the standard library does.
            Err(nix::errno::Errno::EADDRINUSE) if !all.is_empty() && TcpListener::bind(address).is_ok() => {}
            Err(nix::errno::Errno::EADDRINUSE) => return Err(held(&all)),
            Err(error) => return Err(unusable(error.into())),
        }
    }
    Ok(())
}

/// Binds without any reuse option, and lets go.
fn plain_bind(address: SocketAddr) -> nix::Result<()> {
    use std::os::fd::AsRawFd;
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))
}

/// Pids that listen on `address`, or on all addresses of its port. The second list holds sockets (inodes)
/// whose process benchd may not see. Both are empty where `/proc/net` can't be read.
pub fn listener_owners(address: SocketAddr) -> (BTreeSet<i32>, BTreeSet<u64>) {
    let (listening, _) = inodes_on(address);
    let owners = owners(&listening);
    let seen: BTreeSet<u64> = owners.iter().map(|(_, inode)| *inode).collect();
    let pids = owners.into_iter().map(|(pid, _)| pid).collect();
    (pids, listening.difference(&seen).copied().collect())
}

/// Sockets that listen on an overlapping address of the port, and all sockets that use the port there.
fn inodes_on(address: SocketAddr) -> (BTreeSet<u64>, BTreeSet<u64>) {
    // A kernel without IPv6 has no tcp6.
    let on_port: Vec<TcpNetEntry> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .into_iter()
        .flat_map(|table| entries_of(table, address.port()).unwrap_or_default())
        .filter(|e| overlap(e.local_address.ip(), address.ip()))
        .collect();
    let listening = on_port
        .iter()
        .filter(|e| e.state == TcpState::Listen)
        .map(|e| e.inode)
        .collect();
    (listening, on_port.iter().map(|e| e.inode).collect())
}

/// The entries of one table of sockets that are on this port. Line by line: thousands of connections that wind down
/// stand in it after a cell, and none of them is asked for.
fn entries_of(table: &str, port: u16) -> procfs::ProcResult<Vec<TcpNetEntry>> {
    let on_port = format!(":{port:04X}");
    let mut kept = String::new();
    for (number, line) in BufReader::new(File::open(table)?).lines().enumerate() {
        let line = line?;
        let local = line.split_ascii_whitespace().nth(1);
        if number == 0 || local.is_some_and(|local| local.ends_with(&on_port)) {
            kept += &line;
            kept.push('\n');
        }
    }
    Ok(TcpNetEntries::from_buf_read(kept.as_bytes(), current_system_info())?.0)
}

/// Whether sockets on these two addresses meet: equal, or one of them is every address. `::` takes IPv4 as
/// well unless its socket says otherwise, which `/proc` does not show; assumed that it does.
fn overlap(a: IpAddr, b: IpAddr) -> bool {
    let (a, b) = (a.to_canonical(), b.to_canonical());
    a == b || a.is_unspecified() || b.is_unspecified()
}

/// Who has these sockets open.
fn owners(inodes: &BTreeSet<u64>) -> Vec<(i32, u64)> {
    if inodes.is_empty() {
        return Vec::new();
    }
    let Ok(all) = procfs::process::all_processes() else {
        return Vec::new();
    };
    let mut owners = Vec::new();
    for process in all.flatten() {
        let Ok(fds) = process.fd() else { continue };
        for fd in fds.flatten() {
            if let FDTarget::Socket(inode) = fd.target
                && inodes.contains(&inode)
            {
                owners.push((process.pid, inode));
            }
        }
    }
    owners
}

fn holders(inodes: &BTreeSet<u64>) -> Vec<Holder> {
    let pids: BTreeSet<i32> = owners(inodes).into_iter().map(|(pid, _)| pid).collect();
    pids.into_iter().map(describe).collect()
}

/// A process with its command line, for people.
pub fn describe(pid: i32) -> Holder {
    const SHOWN: usize = 120;
    let line = procfs::process::Process::new(pid)
        .and_then(|p| p.cmdline())
        .map(|c| c.join(" "))
        .ok()
        .filter(|line| !line.is_empty())
        .or_else(|| table::identity(pid).map(|i| i.name))
        .unwrap_or_else(|| "ended".into());
    let mut command: String = line.chars().take(SHOWN).collect();
    if command.len() < line.len() {
        command.push('…');
    }
    Holder { pid, command }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_named_with_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let PortTaken::Held { holders, .. } = port_is_free("127.0.0.1", address.port()).unwrap_err() else {
            panic!("not held");
        };
        assert_eq!(holders.len(), 1);
        assert_eq!(holders[0].pid, table::own_pid());
        assert_eq!(
            listener_owners(address),
            (BTreeSet::from([table::own_pid()]), BTreeSet::new())
        );
        // Also when one asks for every address, and the listener has only one.
        assert!(port_is_free("0.0.0.0", address.port()).is_err());
    }

    #[test]
    fn a_listener_on_every_address_takes_each() {
        let listener = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(port_is_free("127.0.0.1", port).is_err());
        assert!(port_is_free("localhost", port).is_err());
        drop(listener);
    }

    #[test]
    fn a_socket_that_is_bound_and_does_not_listen_yet_holds_the_port() {
        use std::os::fd::AsRawFd;
        let fd = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .unwrap();
        nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::ReuseAddr, &true).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        bind(fd.as_raw_fd(), &SockaddrStorage::from(any)).unwrap();
        let bound: SockaddrStorage = nix::sys::socket::getsockname(fd.as_raw_fd()).unwrap();
        let port = bound.as_sockaddr_in().unwrap().port();
        assert!(matches!(
            port_is_free("127.0.0.1", port),
            Err(PortTaken::Held { .. })
        ));
    }

    #[test]
    fn connections_that_wind_down_do_not_hold_the_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = std::net::TcpStream::connect(address).unwrap();
        let (served, _) = listener.accept().unwrap();
        // The server's side closes first, so TIME_WAIT is on the port.
        drop(served);
        drop(client);
        drop(listener);
        port_is_free("127.0.0.1", address.port()).unwrap();
    }

    #[test]
    fn an_address_of_another_machine_is_unusable() {
        // TEST-NET-1, RFC 5737.
        let error = port_is_free("192.0.2.1", 1).unwrap_err();
        assert!(matches!(error, PortTaken::Unusable { .. }), "{error}");
    }
}
