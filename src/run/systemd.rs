//! Speaking to systemd: READY, STATUS, STOPPING, and its watchdog.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use sd_notify::NotifyState;

use super::watchdog::Watchdog;

/// The longest pause between two looks at the pings; a changed status waits no longer either.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// How many looks fall into systemd's limit.
const LOOKS_A_LIMIT: u32 = 4;

/// Handle on systemd; without a notify socket it does nothing but count pings. Clones speak to the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Systemd {
    watchdog: Watchdog,
    connection: Option<Arc<Connection>>,
}

/// The connection to systemd. Nothing on it ever waits: a systemd that does not listen must not hold up a run. What
/// could not be said is said at the next look.
#[derive(Debug)]
struct Connection {
    socket: UnixDatagram,
    unsent: Mutex<Unsent>,
}

#[derive(Debug, Default)]
struct Unsent {
    /// READY and STOPPING, each once and in order.
    turns: VecDeque<String>,
    /// The status that was told, and the one to tell.
    status: (String, String),
    stopping: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Systemd {
    /// Speaks to the socket that `NOTIFY_SOCKET` names, if any.
    ///
    /// # Errors
    /// When the thread that feeds the watchdog can't be started.
    pub(crate) fn connect() -> std::io::Result<Self> {
        let watchdog = Watchdog::default();
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self {
                watchdog,
                connection: None,
            });
        };
        let socket = match notify_socket(&name) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, socket = %name.display(), "systemd can't be told of the run");
                return Ok(Self {
                    watchdog,
                    connection: None,
                });
            }
        };
        let connection = Arc::new(Connection {
            socket,
            unsent: Mutex::default(),
        });
        let limit = sd_notify::watchdog_enabled();
        let (weak, counted) = (Arc::downgrade(&connection), watchdog.clone());
        std::thread::Builder::new()
            .name("systemd".into())
            .spawn(move || speak(&weak, &counted, limit))?;
        Ok(Self {
            watchdog,
            connection: Some(connection),
        })
    }

    /// Counts what feeds its watchdog.
    pub(super) fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// The run has begun.
    pub(crate) fn ready(&self) {
        self.watchdog.ping();
        if let Some(connection) = &self.connection {
            lock(&connection.unsent)
                .turns
                .push_back(message(&[NotifyState::Ready]));
            connection.say_turns();
        }
    }

    /// What `systemctl status` shows.
    pub(crate) fn status(&self, text: &str) {
        if let Some(connection) = &self.connection {
            // One line; the thread tells it, so that a fast cell does not flood systemd.
            lock(&connection.unsent).status.1 = text.replace('\n', " ");
        }
    }

    /// What goes on now may take `limit` longer than the unit's own limit for a start or a stop.
    pub(super) fn extend(&self, limit: Duration) {
        if let Some(connection) = &self.connection {
            let micros = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
            let extend = message(&[NotifyState::ExtendTimeoutUsec(micros)]);
            lock(&connection.unsent).turns.push_back(extend);
            connection.say_turns();
        }
    }

    /// The run ends now, within `limit` at the longest. Told once.
    pub(crate) fn stopping(&self, limit: Duration) {
        let Some(connection) = &self.connection else {
            return;
        };
        if std::mem::replace(&mut lock(&connection.unsent).stopping, true) {
            return;
        }
        connection.say_status();
        let micros = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
        // Servers' graces come from the plan, the unit's TimeoutStopSec does not know them.
        let stopping = message(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
        lock(&connection.unsent).turns.push_back(stopping);
        connection.say_turns();
    }
}

impl Connection {
    /// Whether systemd took the message.
    fn say(&self, message: &str) -> bool {
        match self.socket.send(message.as_bytes()) {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(%error, "systemd was not told");
                false
            }
        }
    }

    fn say_turns(&self) {
        let mut unsent = lock(&self.unsent);
        while let Some(turn) = unsent.turns.front()
            && self.say(turn)
        {
            unsent.turns.pop_front();
        }
    }

    fn say_status(&self) {
        let mut unsent = lock(&self.unsent);
        let (told, now) = &unsent.status;
        if told != now && self.say(&message(&[NotifyState::Status(now)])) {
            unsent.status.0 = unsent.status.1.clone();
        }
    }
}

/// The socket of this name; of one that begins with `@` the name is no path.
fn notify_socket(name: &OsStr) -> std::io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(name)?,
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn message(states: &[NotifyState<'_>]) -> String {
    states.iter().map(|state| format!("{state}\n")).collect()
}

fn speak(connection: &Weak<Connection>, watchdog: &Watchdog, limit: Option<Duration>) {
    let pause = limit.map_or(LOOK_PERIOD, |limit| LOOK_PERIOD.min(limit / LOOKS_A_LIMIT));
    let mut seen = 0;
    loop {
        std::thread::sleep(pause);
        let Some(connection) = connection.upgrade() else {
            return;
        };
        connection.say_turns();
        connection.say_status();
        let pings = watchdog.pings();
        if limit.is_some() && pings != seen && connection.say(&message(&[NotifyState::Watchdog])) {
            seen = pings;
        }
    }
}
