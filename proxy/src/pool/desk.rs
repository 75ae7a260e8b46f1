//! What one worker tells all threads of its pool: how many are idle there, who waits and since when; and how its tender is woken.
//!
//! Written by one worker and read by the others, so that they share a cache line only when somebody looks.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// No client waits.
pub(super) const NOBODY: u64 = u64::MAX;

/// One worker's.
pub(super) struct Desk {
    /// Connections that nobody uses.
    pub(super) idle: AtomicUsize,
    /// Clients that wait for one.
    pub(super) waiting: AtomicUsize,
    /// Since when the first of them does, in the budget's microseconds; [`NOBODY`].
    pub(super) oldest: AtomicU64,
    /// The tender has to look. One listens, and what it misses is kept for it.
    pub(super) changed: Notify,
}

impl Default for Desk {
    fn default() -> Self {
        Self { idle: AtomicUsize::new(0), waiting: AtomicUsize::new(0), oldest: AtomicU64::new(NOBODY), changed: Notify::new() }
    }
}

/// Those who wait for an upstream connection, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Clients.
    pub waiting: usize,
    /// How long the first of them has waited.
    pub longest: std::time::Duration,
    /// Connections that nobody uses.
    pub idle: usize,
}

impl Desk {
    /// Idle ones, for the worker itself: it writes them alone, so that there is nothing to add atomically. Sequentially consistent, see
    /// `Budget::stand_in_line`.
    pub(super) fn idle_changed(&self, more: bool) {
        let now = self.idle.load(Ordering::Relaxed);
        self.idle.store(if more { now + 1 } else { now.saturating_sub(1) }, Ordering::SeqCst);
    }
}
