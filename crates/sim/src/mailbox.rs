//! A queue from one thread to another that waits in `poll`: a list under a lock and an eventfd that says "look".

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::error::SimError;
use super::lock::lock;

/// Many senders, one receiver; nothing in it gets lost.
#[derive(Debug)]
pub(super) struct Mailbox<T> {
    letters: Mutex<Vec<T>>,
    full: AtomicBool,
    bell: EventFd,
}

impl<T> Mailbox<T> {
    /// # Errors
    /// The kernel gives no eventfd.
    pub(super) fn new() -> Result<Self, SimError> {
        let bell =
            EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(SimError::Epoll)?;
        Ok(Self {
            letters: Mutex::new(Vec::new()),
            full: AtomicBool::new(false),
            bell,
        })
    }

    /// Puts a letter in and rings.
    pub(super) fn put(&self, letter: T) {
        lock(&self.letters).push(letter);
        if !self.full.swap(true, Ordering::AcqRel) {
            // Can only fail with a counter of 2^64 - 1, that is, never.
            let _ = self.bell.write(1);
        }
    }

    /// Takes all letters out.
    pub(super) fn take(&self) -> Vec<T> {
        if !self.full.load(Ordering::Acquire) {
            return Vec::new();
        }
        // In this order: a letter that comes meanwhile is either taken now or rings again.
        let _ = self.bell.read();
        self.full.swap(false, Ordering::AcqRel);
        std::mem::take(&mut *lock(&self.letters))
    }
}

impl<T> AsFd for Mailbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
