//! A timer finer than tokio's, whose ticks are a millisecond long.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Instant;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A kernel timer (timerfd) in the runtime's own epoll: as precise as the kernel's high-resolution timers,
/// without spinning.
#[derive(Debug)]
pub(super) struct PreciseTimer {
    fd: AsyncFd<Raw>,
}

#[derive(Debug)]
struct Raw(TimerFd);

impl AsRawFd for Raw {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        use std::os::fd::AsFd;
        self.0.as_fd().as_raw_fd()
    }
}

impl PreciseTimer {
    /// A timer in the current runtime.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub(super) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Raw(TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?);
        #[expect(unsafe_code, reason = "the timer owns its descriptor and never changes it")]
        // SAFETY: `Raw` owns the descriptor, which stays open and the same until `AsyncFd` drops it.
        let fd = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Ok(Self {
            fd: fd.map_err(|error| error.into_parts().1)?,
        })
    }

    /// Waits until `deadline`; returns at once when that is past.
    ///
    /// # Errors
    /// The kernel refused the timer.
    pub(super) async fn sleep_until(&self, deadline: Instant) -> io::Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let once = Expiration::OneShot(TimeSpec::from_duration(left));
            self.fd.get_ref().0.set(once, TimerSetTimeFlags::empty())?;
            loop {
                let mut guard = self.fd.readable().await?;
                match guard.try_io(|fd| Ok(fd.get_ref().0.wait()?)) {
                    Ok(done) => break done?,
                    Err(_would_block) => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_never_wakes_early_and_can_be_used_again() {
        let timer = PreciseTimer::new().unwrap();
        for wait_us in [0, 1, 300, 1_500, 4_000] {
            let deadline = Instant::now() + Duration::from_micros(wait_us);
            timer.sleep_until(deadline).await.unwrap();
            assert!(Instant::now() >= deadline);
        }
        timer
            .sleep_until(Instant::now() - Duration::from_millis(5))
            .await
            .unwrap();
    }
}
