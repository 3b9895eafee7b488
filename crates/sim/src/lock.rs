//! Locks whose holder may have died.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock whose holder died is still good: all its data are counters and sets.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
