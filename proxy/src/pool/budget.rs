//! How many upstream connections there may be, over all workers.
//!
//! Whoever opens a connection needs a [`Permit`] first and keeps it for as long as the connection lives. When all are out the next to come
//! stands in line, and every worker's tender hears of it ([`Budget::wanted`]), because permits may be lying idle with connections there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

/// The limit of one listener, shared by all workers. Exact, fair, and never held over a wait.
///
/// A counting lock of its own instead of a semaphore, so that "somebody waits" is true for no longer than that: a permit that is given back
/// takes the longest waiter out of the line in the same step, and so connections are given up for each who waits once, not once by each worker.
pub struct Budget {
    /// `None`: no limit.
    line: Option<Mutex<Line>>,
    /// Its version grows when somebody begins to wait. Not a `Notify`: a version cannot be missed by a tender that is busy at that moment.
    wanted: watch::Sender<()>,
}

/// Either nothing is free or nobody waits.
struct Line {
    free: usize,
    next: u64,
    waiting: BTreeMap<u64, oneshot::Sender<Permit>>,
}

/// The right to have one upstream connection; given back when dropped.
pub struct Permit {
    /// `None`: without a limit, or given on already.
    budget: Option<Arc<Budget>>,
}

impl Budget {
    /// At most `limit` permits at one time; 0 = no limit.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        let line = (limit > 0).then(|| Mutex::new(Line { free: limit, next: 0, waiting: BTreeMap::new() }));
        Arc::new(Self { line, wanted: watch::channel(()).0 })
    }

    /// A permit if one is free; then nobody waits for one.
    #[must_use]
    pub fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        if let Some(mut line) = self.lock() {
            line.free = line.free.checked_sub(1)?;
            return Some(Permit { budget: Some(Arc::clone(self)) });
        }
        Some(Permit { budget: None })
    }

    /// The next permit, in the order of coming. Cancel-safe: who leaves loses its place, and a permit on its way to it goes to the next.
    pub async fn acquire(self: &Arc<Self>) -> Permit {
        loop {
            let mut place = match self.stand_in_line() {
                Ok(permit) => return permit,
                Err(place) => place,
            };
            // A sender leaves the line only to send, or by the place's own end: there is no second round.
            if let Ok(permit) = (&mut place.receive).await {
                return permit;
            }
        }
    }

    /// Somebody waits: connections that nobody uses should be given up.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.lock().is_some_and(|line| !line.waiting.is_empty())
    }

    /// Changes whenever somebody begins to wait.
    ///
    /// No wake-up is lost if [`Budget::is_wanted`] is asked after subscribing and again after each change: who begins to wait enters the line
    /// before the version grows, so either the question or the change shows it. A connection that becomes idle at that very moment on another
    /// thread, which has just been told "not wanted", is found by its tender at that change.
    #[must_use]
    pub fn wanted(&self) -> watch::Receiver<()> {
        self.wanted.subscribe()
    }

    /// Looking and entering are one step under the lock: a permit given back between the two would help nobody.
    fn stand_in_line(self: &Arc<Self>) -> Result<Permit, Place<'_>> {
        let Some(mut line) = self.lock() else { return Ok(Permit { budget: None }) };
        if let Some(left) = line.free.checked_sub(1) {
            line.free = left;
            return Ok(Permit { budget: Some(Arc::clone(self)) });
        }
        let (give, receive) = oneshot::channel();
        let number = line.next;
        line.next += 1;
        line.waiting.insert(number, give);
        drop(line);
        self.wanted.send_replace(());
        Err(Place { budget: self, number, receive })
    }

    fn give_on(self: Arc<Self>) {
        let mut permit = Permit { budget: Some(Arc::clone(&self)) };
        loop {
            let next = {
                let Some(mut line) = self.lock() else { return };
                match line.waiting.pop_first() {
                    Some((_, next)) => next,
                    None => {
                        line.free += 1;
                        permit.budget = None;
                        return;
                    }
                }
            };
            // Not under the lock: a waiter that leaves at this moment takes the lock when it drops what it was sent.
            match next.send(permit) {
                Ok(()) => return,
                Err(unclaimed) => permit = unclaimed,
            }
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Line>> {
        self.line.as_ref().map(|line| line.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(budget) = self.budget.take() {
            budget.give_on();
        }
    }
}

/// A place in the line.
struct Place<'a> {
    budget: &'a Budget,
    number: u64,
    /// A permit that was sent and not taken is given back by its own drop, with the channel.
    receive: oneshot::Receiver<Permit>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(mut line) = self.budget.lock() {
            line.waiting.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests;
