//! Speaking to systemd: READY, STATUS, STOPPING, and a watchdog that is fed by what the run really does.
//!
//! Whoever gets the run forward beats the [`Heart`]: the loop of lanes, a cell whose requests go on, a wait that
//! has not passed its own limit. A thread looks at the number of beats and tells systemd only where it grew. So a
//! run whose task hangs starves the watchdog, though its threads live.

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
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sd_notify::NotifyState;

/// The longest pause between two looks at the beats; a changed status waits no longer either.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// How many looks fall into systemd's limit.
const LOOKS_A_LIMIT: u32 = 4;

/// How often a bounded wait beats.
const BEAT_PERIOD: Duration = Duration::from_millis(250);

/// Counts what gets the run forward; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Heart(Arc<AtomicU64>);

impl Heart {
    /// The run got forward.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often so far.
    pub fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for something that has to end within `limit`. It beats until then, in the task that waits; what
    /// takes longer is a hang, and beats no more.
    pub async fn during<F: Future>(&self, limit: Duration, work: F) -> F::Output {
        let began = Instant::now();
        let mut work = std::pin::pin!(work);
        let mut tick = tokio::time::interval(BEAT_PERIOD);
        loop {
            tokio::select! {
                done = &mut work => {
                    self.beat();
                    return done;
                }
                _ = tick.tick() => {
                    if began.elapsed() <= limit {
                        self.beat();
                    }
                }
            }
        }
    }
}

/// Tells whether something that shows its progress as a number still gets forward: it does until the number has
/// stood still for `limit`.
#[derive(Debug)]
pub struct Pace {
    limit: Duration,
    last: Mutex<(u64, Instant)>,
}

impl Pace {
    /// From now on.
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self {
            limit,
            last: Mutex::new((0, now)),
        }
    }

    /// Whether it gets forward, with its number now.
    pub fn goes_on(&self, number: u64, now: Instant) -> bool {
        let mut last = lock(&self.last);
        if last.0 != number {
            *last = (number, now);
        }
        now.saturating_duration_since(last.1) <= self.limit
    }
}

/// Handle on systemd; without a notify socket it does nothing but count beats. Clones speak to the same.
#[derive(Debug, Clone, Default)]
pub struct Systemd {
    heart: Heart,
    line: Option<Arc<Line>>,
}

/// The line to systemd. Nothing on it ever waits: a systemd that does not listen must not hold up a night's run. What
/// could not be said is said at the next look.
#[derive(Debug)]
struct Line {
    socket: UnixDatagram,
    to_say: Mutex<ToSay>,
}

#[derive(Debug, Default)]
struct ToSay {
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
    pub fn connect() -> std::io::Result<Self> {
        let heart = Heart::default();
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Ok(Self { heart, line: None });
        };
        let socket = match notify_socket(&name) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(%error, socket = %name.display(), "systemd can't be told of the run");
                return Ok(Self { heart, line: None });
            }
        };
        let line = Arc::new(Line {
            socket,
            to_say: Mutex::default(),
        });
        let limit = sd_notify::watchdog_enabled();
        let (weak, counted) = (Arc::downgrade(&line), heart.clone());
        std::thread::Builder::new()
            .name("systemd".into())
            .spawn(move || speak(&weak, &counted, limit))?;
        Ok(Self {
            heart,
            line: Some(line),
        })
    }

    /// What feeds the watchdog.
    pub fn heart(&self) -> &Heart {
        &self.heart
    }

    /// The run has begun.
    pub fn ready(&self) {
        self.heart.beat();
        if let Some(line) = &self.line {
            lock(&line.to_say).turns.push_back(message(&[NotifyState::Ready]));
            line.say_turns();
        }
    }

    /// What `systemctl status` shows.
    pub fn status(&self, text: &str) {
        if let Some(line) = &self.line {
            // One line; the thread tells it, so that a fast cell does not flood systemd.
            lock(&line.to_say).status.1 = text.replace('\n', " ");
        }
    }

    /// The run ends now, within `limit` at the longest. Told once.
    pub fn stopping(&self, limit: Duration) {
        let Some(line) = &self.line else { return };
        if std::mem::replace(&mut lock(&line.to_say).stopping, true) {
            return;
        }
        line.say_status();
        let micros = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
        // Servers' graces come from the plan, the unit's TimeoutStopSec does not know them.
        let stopping = message(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(micros)]);
        lock(&line.to_say).turns.push_back(stopping);
        line.say_turns();
    }
}

impl Line {
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
        let mut to_say = lock(&self.to_say);
        while let Some(turn) = to_say.turns.front()
            && self.say(turn)
        {
            to_say.turns.pop_front();
        }
    }

    fn say_status(&self) {
        let mut to_say = lock(&self.to_say);
        let (told, now) = &to_say.status;
        if told != now && self.say(&message(&[NotifyState::Status(now)])) {
            to_say.status.0 = to_say.status.1.clone();
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

fn speak(line: &Weak<Line>, heart: &Heart, limit: Option<Duration>) {
    let pause = limit.map_or(LOOK_PERIOD, |limit| LOOK_PERIOD.min(limit / LOOKS_A_LIMIT));
    let mut seen = 0;
    loop {
        std::thread::sleep(pause);
        let Some(line) = line.upgrade() else { return };
        line.say_turns();
        line.say_status();
        let beats = heart.beats();
        if limit.is_some() && beats != seen && line.say(&message(&[NotifyState::Watchdog])) {
            seen = beats;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_beats_up_to_its_limit_and_no_longer() {
        let heart = Heart::default();
        // Ends only because the wait itself beats.
        let until_beaten = async {
            while heart.beats() == 0 {
                tokio::task::yield_now().await;
            }
        };
        heart.during(Duration::from_secs(3600), until_beaten).await;

        let before = heart.beats();
        let longer_than_its_limit = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            heart.beats()
        };
        let at_its_end = heart.during(Duration::ZERO, longer_than_its_limit).await;
        assert_eq!(at_its_end, before, "past the limit nothing beats");
        assert_eq!(heart.beats(), before + 1, "its end does");
    }

    #[test]
    fn a_pace_stops_when_its_number_stands_still() {
        let start = Instant::now();
        let s = Duration::from_secs;
        let pace = Pace::new(s(10), start);
        assert!(pace.goes_on(0, start + s(10)));
        assert!(!pace.goes_on(0, start + s(11)));
        assert!(pace.goes_on(1, start + s(12)));
        assert!(pace.goes_on(1, start + s(22)));
        assert!(!pace.goes_on(1, start + s(23)));
    }
}
