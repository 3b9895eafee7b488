//! Reads from a socket, with the time at which the kernel had the bytes.
//!
//! A thread that is busy, or waits for a core, reads late, and a time stamp taken after the read is late by
//! as much: with a thousand streams answered in one step, the last is read milliseconds after it came. The
//! kernel stamps each segment when it arrives (`SO_TIMESTAMPNS`, socket(7)); the stamp of the last segment
//! comes along with the read. A segment on the loopback arrives within the sender's own system call.
//!
//! The kernel's stamp is of the wall clock. It is used only as a difference to the wall clock right after the
//! read, which is then taken off the monotonic clock: `arrival = monotonic - (wall - stamp)`. The wall clock
//! is read first, so that a thread that loses its core between the two readings makes the arrival later, up
//! to where it would have been without the stamp, and never earlier than it was. A wall clock that is set
//! back or forth within that moment can move one arrival, but not beyond the read, and not before the
//! arrival before it (see [`Clock`]).

use std::cell::RefCell;
use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::ReceiveTimestampns};
use nix::sys::time::TimeSpec;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Size of a thread's read buffer. A read that fills it is followed by another at once.
const READ_BUFFER_BYTES: usize = 64 << 10;

/// A difference between the kernel's stamp and the wall clock above this is no lateness but a clock that was
/// set.
const MAX_LAG: Duration = Duration::from_secs(10);

struct Buffers {
    bytes: Box<[u8]>,
    control: Box<[u8]>,
}

thread_local! {
    /// All streams of a thread share one: nothing of it is in use between two polls.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        bytes: vec![0; READ_BUFFER_BYTES].into_boxed_slice(),
        control: nix::cmsg_space!(TimeSpec).into_boxed_slice(),
    });
}

/// Asks the kernel to stamp what arrives on `stream`.
///
/// # Errors
/// The kernel refused.
pub(super) fn ask_for_stamps(stream: &TcpStream) -> io::Result<()> {
    Ok(setsockopt(stream, ReceiveTimestampns, &true)?)
}

/// What one read brought; empty at the end of the connection.
pub(super) struct Received<'a> {
    pub(super) bytes: &'a [u8],
    /// Right after the read.
    pub(super) read_at: Instant,
    /// How long the kernel had had the last of the bytes by then; `None` where it does not say.
    pub(super) lag: Option<Duration>,
}

/// Reads once, and hands what came to `take`.
#[inline]
pub(super) fn poll_receive<T>(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    take: impl FnOnce(Received<'_>) -> T,
) -> Poll<io::Result<T>> {
    BUFFERS.with_borrow_mut(|Buffers { bytes, control }| {
        loop {
            ready!(stream.poll_read_ready(cx))?;
            let mut came = None;
            let result = stream.try_io(Interest::READABLE, || {
                let mut slices = [IoSliceMut::new(bytes)];
                let message =
                    recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(control), MsgFlags::empty());
                let wall = SystemTime::now();
                let read_at = Instant::now();
                let message = message?;
                let stamp = message.cmsgs().ok().and_then(|mut messages| {
                    messages.find_map(|message| match message {
                        ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
                        _ => None,
                    })
                });
                let count = message.bytes;
                came = Some((count, read_at, stamp.and_then(|stamp| lag(stamp, wall))));
                if count > 0 && count < READ_BUFFER_BYTES {
                    // The socket is empty now: saying so spares the read that would find it out.
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(())
            });
            match (came, result) {
                (Some((count, read_at, lag)), _) => {
                    return Poll::Ready(Ok(take(Received {
                        bytes: &bytes[..count],
                        read_at,
                        lag,
                    })));
                }
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                (None, Err(error)) => return Poll::Ready(Err(error)),
                (None, Ok(())) => {}
            }
        }
    })
}

fn lag(stamp: TimeSpec, wall: SystemTime) -> Option<Duration> {
    let stamp = SystemTime::UNIX_EPOCH.checked_add(Duration::from(stamp))?;
    wall.duration_since(stamp).ok().filter(|lag| *lag <= MAX_LAG)
}

/// Arrivals of one connection: never before the send, never decreasing, never after the read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    last: Instant,
}

impl Clock {
    /// A clock for what arrives after `sent`.
    pub(super) fn new(sent: Instant) -> Self {
        Self { last: sent }
    }

    /// When what was read at `read_at`, `lag` after it came, arrived.
    #[inline]
    pub(super) fn arrival(&mut self, read_at: Instant, lag: Option<Duration>) -> Instant {
        let arrived = lag.and_then(|lag| read_at.checked_sub(lag)).unwrap_or(read_at);
        self.last = arrived.max(self.last);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_lie_between_the_one_before_and_the_read() {
        let ms = Duration::from_millis;
        let sent = Instant::now();
        let mut clock = Clock::new(sent);
        assert_eq!(clock.arrival(sent + ms(10), Some(ms(3))), sent + ms(7));
        assert_eq!(clock.arrival(sent + ms(12), None), sent + ms(12));
        // A stamp that claims a time before the last arrival, or before the send.
        assert_eq!(clock.arrival(sent + ms(14), Some(ms(5))), sent + ms(12));
        assert_eq!(clock.arrival(sent + ms(20), Some(ms(500))), sent + ms(12));
        assert_eq!(Clock::new(sent).arrival(sent + ms(1), Some(ms(2))), sent);
    }

    #[test]
    fn a_clock_that_was_set_is_no_lag() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let stamp = |s: i64, ns: i64| TimeSpec::new(s, ns);
        assert_eq!(lag(stamp(999, 999_000_000), wall), Some(Duration::from_millis(1)));
        assert_eq!(lag(stamp(1_000, 0), wall), Some(Duration::ZERO));
        assert_eq!(lag(stamp(1_000, 1), wall), None);
        assert_eq!(lag(stamp(900, 0), wall), None);
    }

    #[tokio::test]
    async fn a_late_read_knows_when_the_bytes_came() {
        use std::io::Write;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        ask_for_stamps(&stream).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        // The kernel switches its stamps on a moment after the first socket asks for them.
        let mut stamped = false;
        for _ in 0..1_000 {
            server.write_all(b"x").unwrap();
            let written = Instant::now();
            let late = Duration::from_millis(5);
            std::thread::sleep(late);
            let (lag, read_at) = std::future::poll_fn(|cx| {
                poll_receive(&stream, cx, |received| {
                    assert_eq!(received.bytes, b"x");
                    (received.lag, received.read_at)
                })
            })
            .await
            .unwrap();
            if let Some(lag) = lag {
                assert!(lag >= late, "{lag:?}");
                assert!(
                    read_at - lag <= written,
                    "the bytes came before the write had returned"
                );
                stamped = true;
                break;
            }
        }
        assert!(stamped, "the kernel stamps nothing");
    }
}
