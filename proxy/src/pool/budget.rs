//! How many upstream connections there may be, over all workers.
//!
//! Whoever opens a connection needs a [`Permit`] first and keeps it for as long as the connection lives. When all are out the next to come
//! stands in line, ordered by when its client began to wait, and the tenders of workers with idle connections are woken. A permit may come
//! with a connection: what one worker has no use for serves the client of another, without a handshake.
//!
//! The limit can change at any time, and [`Budget::pause`] makes it zero for a while. Permits beyond it are a *surplus*: nobody gets them, and
//! the connections that hold them are closed as soon as nobody uses them. Nothing here waits for that; [`Budget::drained`] does.

mod line;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::desk::{Crowd, Desk, NOBODY};
use line::Line;
pub(super) use line::{Grant, Place, Wish};

/// The limit of one listener, shared by all workers. Exact, fair, and never held over a wait.
///
/// A counting lock of its own instead of a semaphore, so that "somebody waits" is true for no longer than that: a permit that is given back
/// takes the longest waiter out of the line in the same step, and so connections are given up for each who waits once, not once by each worker.
/// What is asked for every lease is mirrored in atomics and takes no lock.
pub struct Budget {
    line: Mutex<Line>,
    /// Since when the first in line waits, in microseconds after `born`; [`NOBODY`].
    head: AtomicU64,
    /// Permits beyond the limit.
    surplus: AtomicUsize,
    paused: AtomicBool,
    /// Those who use a surplus one should end that.
    recalling: AtomicBool,
    /// Connections that began to open in an earlier one are retired.
    epoch: AtomicU64,
    born: Instant,
    /// No permit is out, or the pause has ended.
    settled: Notify,
}

/// The right to have one upstream connection; given back when dropped.
pub struct Permit {
    /// `None`: given on already.
    budget: Option<Arc<Budget>>,
    epoch: u64,
    /// It is one of the surplus, and its holder has been told.
    recalled: AtomicBool,
}

impl Budget {
    /// At most `limit` permits at one time; 0 = no limit.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            line: Mutex::new(Line::new(if limit == 0 { usize::MAX } else { limit })),
            head: AtomicU64::new(NOBODY),
            surplus: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            recalling: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            born: Instant::now(),
            settled: Notify::new(),
        })
    }

    /// Changes the limit; 0 = none at all. More serves who waits at once. Less takes effect as connections become free: idle ones are closed at
    /// once, used ones when they are given back; see [`Budget::over`] and [`Budget::recall`].
    pub fn set_limit(self: &Arc<Self>, limit: usize) {
        self.change(|line| {
            line.limit = limit;
            line.recalling = false;
        });
    }

    /// From now on nobody gets a connection: who asks waits, until [`Budget::resume`] or its own deadline. Idle ones are closed, used ones when
    /// they are given back.
    pub fn pause(self: &Arc<Self>) {
        self.change(|line| line.paused = true);
    }

    /// Ends a pause; serves who waits.
    pub fn resume(self: &Arc<Self>) {
        self.change(|line| line.paused = false);
        self.settled.notify_waiters();
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// Waits until a pause has taken effect: no upstream connection is left. False if it was ended first, or never was. Cancel-safe.
    pub async fn drained(&self) -> bool {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Listening before looking: whoever settles it in between is heard.
            settled.as_mut().enable();
            let (paused, used) = {
                let line = self.lock();
                (line.paused, line.used)
            };
            if !paused || used == 0 {
                return paused;
            }
            settled.await;
        }
    }

    /// Retires every connection there is: idle ones are closed at once, used ones when they are given back.
    pub fn retire(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        self.lock().wake(|_| true);
    }

    /// Permits out: connections open, being opened or being closed.
    #[must_use]
    pub fn used(&self) -> usize {
        self.lock().used
    }

    /// Permits out beyond the limit.
    #[must_use]
    pub fn over(&self) -> usize {
        self.surplus.load(Ordering::Acquire)
    }

    /// Asks those who use a connection beyond the limit to end that: as many of them as there are too many learn of it by
    /// [`Lease::is_recalled`](super::Lease::is_recalled). Holds until nothing is beyond it, or until the limit is set again.
    pub fn recall(self: &Arc<Self>) {
        self.change(|line| line.recalling = true);
    }

    /// Who waits, and what is idle. Added up worker by worker while they go on: exact only when they rest.
    #[must_use]
    pub fn crowd(&self) -> Crowd {
        let (mut crowd, mut oldest) = (Crowd::default(), NOBODY);
        for desk in self.lock().desks() {
            crowd.idle += desk.idle.load(Ordering::Relaxed);
            crowd.waiting += desk.waiting.load(Ordering::Relaxed);
            oldest = oldest.min(desk.oldest.load(Ordering::Relaxed));
        }
        if oldest != NOBODY {
            crowd.longest = Duration::from_micros(self.micros(Instant::now()).saturating_sub(oldest));
        }
        crowd
    }

    /// Somebody waits: connections that nobody uses should be given up.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.head.load(Ordering::SeqCst) != NOBODY
    }

    /// A worker's, for as long as it keeps it.
    pub(super) fn open_desk(&self) -> Arc<Desk> {
        let desk = Arc::default();
        self.lock().add(&desk);
        desk
    }

    pub(super) fn is_recalling(&self) -> bool {
        self.recalling.load(Ordering::Acquire)
    }

    /// Who is first in line. Without a lock when nobody is.
    pub(super) fn head(&self) -> Option<Wish> {
        if self.is_wanted() { self.lock().head() } else { None }
    }

    /// In microseconds since this budget was made.
    pub(super) fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_micros()).unwrap_or(NOBODY - 1)
    }

    /// A permit if one is free; then nobody waits for one.
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        let mut line = self.lock();
        if line.used >= line.effective() {
            return None;
        }
        line.used += 1;
        Some(Permit::new(self))
    }

    /// A permit, or a place in the line.
    ///
    /// Looking and entering are one step under the lock: a permit given back between the two would help nobody. A connection that becomes idle
    /// elsewhere at this moment is not missed either: its worker counts it and then looks at the head of the line, here the head is stored and
    /// then the idle ones are counted, all in one order for all threads, so that one of the two sees the other.
    pub(super) fn stand_in_line(self: &Arc<Self>, wish: Wish) -> Result<Permit, Place> {
        let mut line = self.lock();
        if line.used < line.effective() {
            line.used += 1;
            return Ok(Permit::new(self));
        }
        let (number, receive) = line.enter(wish);
        self.mirror(&line);
        line.wake(|desk| desk.idle.load(Ordering::SeqCst) > 0);
        Err(Place::new(self, (wish.since, number), receive))
    }

    /// Gives it to the first in line. It comes back if nobody waits or it is beyond the limit.
    pub(super) fn pass(self: &Arc<Self>, grant: Grant) -> Option<Grant> {
        self.give_on(grant, true)
    }

    /// Takes a place out of the line.
    fn leave(&self, at: (Instant, u64)) {
        let mut line = self.lock();
        line.leave(at);
        self.mirror(&line);
    }

    /// With `keep` it comes back when nobody takes it, without it its permit becomes free then: in the same step in which nobody was found.
    fn give_on(self: &Arc<Self>, mut grant: Grant, keep: bool) -> Option<Grant> {
        loop {
            let next = {
                let mut line = self.lock();
                match line.next_beside(1) {
                    None if keep => return Some(grant),
                    None => {
                        line.used -= 1;
                        self.forget(&mut grant.permit, &mut line);
                        self.mirror(&line);
                        if line.used == 0 {
                            self.settled.notify_waiters();
                        }
                        return None;
                    }
                    Some(next) => {
                        if grant.permit.recalled.swap(false, Ordering::Relaxed) {
                            line.recalled -= 1;
                        }
                        self.mirror(&line);
                        next
                    }
                }
            };
            // Not under the lock: a waiter that leaves at this moment takes the lock when it drops what it was sent.
            match next.send(grant) {
                Ok(()) => return None,
                Err(unclaimed) => grant = unclaimed,
            }
        }
    }

    fn change(self: &Arc<Self>, change: impl FnOnce(&mut Line)) {
        {
            let mut line = self.lock();
            change(&mut line);
            self.mirror(&line);
            line.wake(|_| true);
            if line.used == 0 {
                self.settled.notify_waiters();
            }
        }
        // What has become free serves who waits. One who leaves meanwhile drops the permit, which gives it on.
        loop {
            let next = {
                let mut line = self.lock();
                let Some(next) = line.next_beside(0) else { return };
                line.used += 1;
                self.mirror(&line);
                next
            };
            drop(next.send(Grant { parcel: None, permit: Permit::new(self) }));
        }
    }

    fn forget(&self, permit: &mut Permit, line: &mut Line) {
        permit.budget = None;
        if permit.recalled.swap(false, Ordering::Relaxed) {
            line.recalled -= 1;
        }
    }

    /// What the others see without the lock.
    fn mirror(&self, line: &Line) {
        let surplus = line.used.saturating_sub(line.effective());
        self.head.store(line.head().map_or(NOBODY, |wish| self.micros(wish.since)), Ordering::SeqCst);
        self.surplus.store(surplus, Ordering::Release);
        self.paused.store(line.paused, Ordering::Release);
        self.recalling.store(line.recalling && line.used.saturating_sub(line.recalled) > line.limit, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    fn new(budget: &Arc<Budget>) -> Self {
        Self { epoch: budget.epoch.load(Ordering::Acquire), budget: Some(Arc::clone(budget)), recalled: AtomicBool::new(false) }
    }

    /// A new connection begins with it.
    pub(super) fn renew(&mut self) {
        if let Some(budget) = &self.budget {
            self.epoch = budget.epoch.load(Ordering::Acquire);
        }
    }

    /// Its connection was retired.
    pub(super) fn is_retired(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.epoch.load(Ordering::Acquire) != self.epoch)
    }

    /// Its holder should end its use; once true it stays so. Exactly as many hear it as there are too many.
    pub(super) fn is_recalled(&self) -> bool {
        if self.recalled.load(Ordering::Relaxed) {
            return true;
        }
        let Some(budget) = self.budget.as_ref().filter(|budget| budget.is_recalling()) else { return false };
        let mut line = budget.lock();
        let is_one = line.recalling && line.used.saturating_sub(line.recalled) > line.limit;
        if is_one {
            line.recalled += 1;
            self.recalled.store(true, Ordering::Relaxed);
            budget.mirror(&line);
        }
        is_one
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(budget) = self.budget.take() {
            let recalled = AtomicBool::new(self.recalled.load(Ordering::Relaxed));
            let permit = Self { budget: Some(Arc::clone(&budget)), epoch: self.epoch, recalled };
            budget.give_on(Grant { parcel: None, permit }, false);
        }
    }
}

#[cfg(test)]
mod tests;
