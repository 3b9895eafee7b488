//! The front thread: accepts, reads and parses requests, answers what needs no engine, and hands the rest to the
//! emitter. It also sees when a client goes away in mid-answer. All its sockets are non-blocking, in one epoll.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, sockopt};

use super::api::{Action, Api, Completion};
use super::clock::{monotonic_ns, nanos};
use super::emitter::{Finished, Order};
use super::error::SimError;
use super::faults::Kind;
use super::http::{self, Parsed, Request};
use super::mailbox::Mailbox;
use super::stream::{Connection, Content, End, Stream};

/// Connections that wait to be accepted at most (the kernel caps it by `net.core.somaxconn`).
const BACKLOG: i32 = 4096;
/// Send buffer of each connection, bytes: some thousands of chunks, so that a slow reader blocks late.
const SEND_BUFFER: usize = 1 << 20;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// How often idle connections are looked through, nanoseconds.
const SWEEP_NS: u64 = 200_000_000;

const LISTENER: u64 = 0;
const FINISHED: u64 = 1;
const STOP: u64 = 2;
const FIRST_CONNECTION: u64 = 16;

/// A connection at the front.
struct Peer {
    socket: Arc<TcpStream>,
    bytes: Vec<u8>,
    /// The answer that is on its way, by its name at the emitter.
    busy: Option<u64>,
    idle_since_ns: u64,
    /// `100 Continue` was sent for the request that is being read.
    said_continue: bool,
}

/// The front.
pub(super) struct Front {
    epoll: Epoll,
    listener: Option<TcpListener>,
    addr: SocketAddr,
    /// When a closed listener opens again.
    reopen_at_ns: Option<u64>,
    peers: HashMap<u64, Peer>,
    next_token: u64,
    api: Api,
    orders: Arc<Mailbox<Order>>,
    finished: Arc<Mailbox<Finished>>,
    stop: Arc<Mailbox<()>>,
    keep_alive_ns: u64,
    swept_ns: u64,
    buffer: Vec<u8>,
}

/// Binds and listens, with a backlog that takes a thousand connections at once.
///
/// # Errors
/// The address can't be had.
pub(super) fn listen(addr: SocketAddr) -> Result<TcpListener, SimError> {
    let bind = || -> nix::Result<OwnedFd> {
        let family = if addr.is_ipv4() {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket::socket(family, SockType::Stream, flags, None)?;
        socket::setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        socket::bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(addr))?;
        socket::listen(&fd, Backlog::new(BACKLOG)?)?;
        Ok(fd)
    };
    bind()
        .map(TcpListener::from)
        .map_err(|source| SimError::Listen { addr, source })
}

impl Front {
    pub(super) fn new(
        listener: TcpListener,
        api: Api,
        orders: Arc<Mailbox<Order>>,
        finished: Arc<Mailbox<Finished>>,
        stop: Arc<Mailbox<()>>,
        keep_alive: std::time::Duration,
    ) -> Result<Self, SimError> {
        let addr = listener.local_addr().map_err(SimError::Io)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(SimError::Epoll)?;
        let watch = |fd: &dyn AsFd, token| {
            epoll
                .add(fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, token))
                .map_err(SimError::Epoll)
        };
        watch(&listener, LISTENER)?;
        watch(&*finished, FINISHED)?;
        watch(&*stop, STOP)?;
        Ok(Self {
            epoll,
            listener: Some(listener),
            addr,
            reopen_at_ns: None,
            peers: HashMap::new(),
            next_token: FIRST_CONNECTION,
            api,
            orders,
            finished,
            stop,
            keep_alive_ns: nanos(keep_alive),
            swept_ns: 0,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Serves until told to stop.
    ///
    /// # Errors
    /// The kernel refuses to wait.
    pub(super) fn run(mut self) -> Result<(), SimError> {
        let mut events = vec![EpollEvent::empty(); 256];
        loop {
            self.close_or_reopen_listener();
            let n = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(e) => return Err(SimError::Wait(e)),
            };
            for event in &events[..n] {
                match event.data() {
                    LISTENER => self.accept(),
                    FINISHED => self.take_finished(),
                    STOP => {
                        if !self.stop.take().is_empty() {
                            return Ok(());
                        }
                    }
                    token => self.peer_event(token, event.events()),
                }
            }
            self.sweep();
        }
    }

    /// Without connections no time-out at all; with some, or a listener to open again, a short one.
    fn timeout(&self) -> EpollTimeout {
        if self.reopen_at_ns.is_some() {
            return EpollTimeout::from(5_u8);
        }
        if self.peers.is_empty() {
            EpollTimeout::NONE
        } else {
            EpollTimeout::try_from(std::time::Duration::from_nanos(SWEEP_NS)).unwrap_or(EpollTimeout::NONE)
        }
    }

    fn close_or_reopen_listener(&mut self) {
        if let Some(at) = self.reopen_at_ns {
            if at > monotonic_ns() {
                return;
            }
            self.reopen_at_ns = None;
            if let Ok(listener) = listen(self.addr) {
                let _ = self
                    .epoll
                    .add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER));
                self.listener = Some(listener);
                self.api.forget_refuse();
            } else {
                // Somebody holds the port for now.
                self.reopen_at_ns = Some(monotonic_ns().saturating_add(SWEEP_NS));
            }
            return;
        }
        if self.listener.is_none() {
            return;
        }
        let refuse = self.api.next_faults().find_map(|k| match k {
            Kind::Refuse(time) => Some(*time),
            _ => None,
        });
        if let Some(time) = refuse {
            self.listener = None;
            self.reopen_at_ns = time.map(|t| monotonic_ns().saturating_add(nanos(t)));
        }
    }

    fn accept(&mut self) {
        loop {
            let Some(listener) = &self.listener else { return };
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                // Nobody more waits; or no file can be opened now, and the next event tries again.
                Err(_) => return,
            };
            let ready = socket
                .set_nonblocking(true)
                .and_then(|()| socket.set_nodelay(true))
                .is_ok();
            // Best effort: the kernel caps it by net.core.wmem_max.
            let _ = socket::setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER);
            let token = self.next_token;
            self.next_token += 1;
            if ready && self.epoll.add(&socket, reading(token)).is_ok() {
                let peer = Peer {
                    socket: Arc::new(socket),
                    bytes: Vec::new(),
                    busy: None,
                    idle_since_ns: monotonic_ns(),
                    said_continue: false,
                };
                self.peers.insert(token, peer);
            }
        }
    }

    fn peer_event(&mut self, token: u64, events: EpollFlags) {
        let Some(peer) = self.peers.get_mut(&token) else {
            return;
        };
        if let Some(id) = peer.busy {
            if events.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
                self.orders.put(Order::Cancel(id));
                self.drop_peer(token);
            }
            return;
        }
        loop {
            match (&*peer.socket).read(&mut self.buffer) {
                Ok(0) => return self.drop_peer(token),
                Ok(n) => {
                    let read_ns = monotonic_ns();
                    peer.bytes.extend_from_slice(&self.buffer[..n]);
                    // Level-triggered: what is left is told again.
                    return self.parse(token, read_ns);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.drop_peer(token),
            }
        }
    }

    fn parse(&mut self, token: u64, read_ns: u64) {
        let Some(peer) = self.peers.get_mut(&token) else {
            return;
        };
        match http::parse(&peer.bytes) {
            Parsed::Partial { expects_continue } => {
                if expects_continue && !std::mem::replace(&mut peer.said_continue, true) {
                    let _ = io::Write::write(&mut &*peer.socket, b"HTTP/1.1 100 Continue\r\n\r\n");
                }
            }
            Parsed::Bad(status, why) => {
                let response = self.api.error(status, why);
                peer.bytes.clear();
                self.send(token, response.bytes(false), read_ns, false);
            }
            Parsed::Complete(request, used) => {
                peer.bytes.drain(..used);
                // A long prompt's room is not kept while its answer runs.
                peer.bytes.shrink_to_fit();
                peer.said_continue = false;
                self.answer(token, &request, read_ns);
            }
        }
    }

    fn answer(&mut self, token: u64, request: &Request, read_ns: u64) {
        let keep = request.keep_alive;
        match self.api.handle(request, read_ns) {
            Action::Answer(response) => self.send(token, answer_bytes(request, &response), 0, keep),
            Action::AnswerAt(response, at_ns) => {
                self.send(token, answer_bytes(request, &response), at_ns, keep)
            }
            Action::Complete(completion) => self.complete(token, *completion, keep),
            Action::Silence => {
                let id = self.api.next_serial();
                self.make_busy(token, id);
            }
        }
    }

    /// Marks a connection as the emitter's; from now on only its end is watched for.
    fn make_busy(&mut self, token: u64, id: u64) -> Option<Connection> {
        let peer = self.peers.get_mut(&token)?;
        peer.busy = Some(id);
        let mut event = EpollEvent::new(EpollFlags::EPOLLRDHUP, token);
        let _ = self.epoll.modify(&*peer.socket, &mut event);
        Some(Connection {
            socket: Arc::clone(&peer.socket),
            token,
        })
    }

    fn send(&mut self, token: u64, bytes: Vec<u8>, at_ns: u64, keep_alive: bool) {
        let id = self.api.next_serial();
        if let Some(connection) = self.make_busy(token, id) {
            let stream = Stream::ready(connection, bytes, at_ns, keep_alive);
            self.orders.put(Order::Send(id, Box::new(stream)));
        }
    }

    fn complete(&mut self, token: u64, completion: Completion, keep_alive: bool) {
        let Completion {
            job,
            script,
            streams,
            include_usage,
            faults,
        } = completion;
        let Some(connection) = self.make_busy(token, job.id) else {
            return;
        };
        let content = if streams {
            Content::Events(script)
        } else {
            Content::Whole(script)
        };
        let mut stream = Stream::new(connection, content, keep_alive);
        stream.prompt_tokens = job.prompt_tokens;
        stream.include_usage = include_usage;
        stream.faults = faults;
        self.orders.put(Order::Start(Box::new(stream), job));
    }

    fn take_finished(&mut self) {
        for Finished { connection, end } in self.finished.take() {
            let Some(peer) = self.peers.get_mut(&connection.token) else {
                continue;
            };
            match end {
                End::KeepAlive => {
                    peer.busy = None;
                    peer.idle_since_ns = monotonic_ns();
                    let mut event = reading(connection.token);
                    if self.epoll.modify(&*peer.socket, &mut event).is_err() {
                        self.drop_peer(connection.token);
                    } else if !peer.bytes.is_empty() {
                        // The next request came along with the one before.
                        self.parse(connection.token, monotonic_ns());
                    }
                }
                End::Close => {
                    let _ = peer.socket.shutdown(Shutdown::Write);
                    self.drop_peer(connection.token);
                }
                End::Reset => {
                    // Closed with this, the kernel sends RST; both halves of the Arc go here.
                    let at_once = nix::libc::linger {
                        l_onoff: 1,
                        l_linger: 0,
                    };
                    let _ = socket::setsockopt(&*peer.socket, sockopt::Linger, &at_once);
                    self.drop_peer(connection.token);
                }
            }
        }
    }

    fn drop_peer(&mut self, token: u64) {
        if let Some(peer) = self.peers.remove(&token) {
            // The emitter may hold the socket a little longer; it must not report here any more.
            let _ = self.epoll.delete(&*peer.socket);
        }
    }

    fn sweep(&mut self) {
        let now_ns = monotonic_ns();
        if now_ns.saturating_sub(self.swept_ns) < SWEEP_NS {
            return;
        }
        self.swept_ns = now_ns;
        let idle: Vec<u64> = self
            .peers
            .iter()
            .filter(|(_, p)| p.busy.is_none() && now_ns.saturating_sub(p.idle_since_ns) >= self.keep_alive_ns)
            .map(|(token, _)| *token)
            .collect();
        for token in idle {
            self.drop_peer(token);
        }
    }
}

fn reading(token: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP, token)
}

/// An answer's bytes; a HEAD request gets the head alone.
fn answer_bytes(request: &Request, response: &http::Response) -> Vec<u8> {
    if request.method == "HEAD" {
        http::head(
            response.status,
            response.content_type,
            response.body.len(),
            request.keep_alive,
        )
    } else {
        response.bytes(request.keep_alive)
    }
}
