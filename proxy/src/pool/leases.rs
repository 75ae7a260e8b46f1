//! Connections that come back: opened when somebody needs one, lent, cleaned, kept idle, lent again.
//!
//! ```text
//!            take(key)
//!  client ──────────► idle of that key? ── yes, fit ──► Lease ── give_back ──► who waits for that key, here or elsewhere, else idle
//!                       │ no                              │
//!                       ▼                                 └─ dropped: closed, its permit goes to the next
//!                     waits ◄── given back by another
//!                       │ meanwhile, one at a time: backoff over? permit of the Budget (or the oldest idle one closed for it)?
//!                       └─► opens in a task of its own ──► who waits longest for that key, else idle
//! ```
//!
//! One per worker and listener; nothing in it is shared between threads but the [`Budget`]. What is given back serves the first client here,
//! or the first in the budget's line if that has waited longer: where the backend can [pack](Reuse::pack) a connection it moves to the other
//! worker, where it cannot it is closed for that client's own unless somebody here can use it. An opening goes on when the client that caused
//! it has left: what it opens serves the next. The [tender](Leases::tend) watches the idle ones.

mod idle;
mod lease;
mod moving;
mod opening;
mod refusals;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

pub use lease::Lease;

use self::idle::Idle;
use self::opening::Trouble;
use self::refusals::Refusals;
use super::backoff::Backoff;
use super::desk::{Desk, NOBODY};
use super::{Budget, Permit, Reuse};
use crate::error::{Error, Kind, Result};
use crate::metrics::{EvictReason, LeaseOutcome, ListenerMetrics};

/// How old, how long.
#[derive(Clone, Copy, Debug)]
pub struct LeaseLimits {
    /// A connection idle for so long is closed. Each gets up to a fifth less, at random, so that they do not all go at once.
    pub max_idle_age: Duration,
    /// A connection so old is closed when it is free. Each gets up to a fifth less, at random.
    pub max_lifetime: Duration,
    /// How long a client waits. Zero: one try, and what comes of it at once.
    pub wait_timeout: Duration,
}

/// The connections of one worker that come back.
pub struct Leases<B: Reuse + 'static> {
    backend: Arc<B>,
    budget: Arc<Budget>,
    limits: LeaseLimits,
    /// Of this key so many are kept idle.
    home: Option<(B::Key, usize)>,
    metrics: ListenerMetrics,
    /// In the order in which they became idle.
    idle: RefCell<VecDeque<Idle<B>>>,
    waiters: RefCell<Waiters<B>>,
    /// Openings under way, and those of them that are for nobody in particular.
    opening: Cell<usize>,
    refilling: Cell<usize>,
    /// A connection has been opened before.
    has_opened: Cell<bool>,
    /// The server's, as far as this worker has met it.
    trouble: RefCell<Trouble>,
    /// Logins that it does not accept.
    refusals: RefCell<Refusals<B::Key>>,
    /// The pause after idle connections that the server closed young.
    rejected: RefCell<Backoff>,
    /// Who may open next: one at a time, in the order of coming.
    turnstile: Semaphore,
    /// An opening has ended. Only who is in the turnstile listens.
    settled: Notify,
    /// The tender's own: idle connections wake it, whoever polled them last.
    tender: RefCell<Waker>,
    /// When the tender looks by itself.
    alarm: Cell<Instant>,
    /// What other threads know of this worker; by it the tender learns that it has to look now.
    desk: Arc<Desk>,
    /// Leases beyond the limit may have to end.
    recall: Notify,
    closing: Cell<bool>,
}

/// Those who wait, by key and in the order of coming.
struct Waiters<B: Reuse + 'static> {
    next: u64,
    by_key: HashMap<B::Key, BTreeMap<u64, Waiter<B>>>,
}

struct Waiter<B: Reuse + 'static> {
    since: Instant,
    give: oneshot::Sender<Lease<B>>,
}

/// A connection and what belongs to it. Dropped as a whole it closes and gives its permit on.
struct Held<B: Reuse + 'static> {
    connection: B::Connection,
    key: B::Key,
    dies: Instant,
    permit: Permit,
}

impl<B: Reuse + 'static> Leases<B> {
    /// None yet. With `home`, [`Leases::tend`] keeps so many of that key idle.
    pub fn new(
        backend: Arc<B>,
        budget: Arc<Budget>,
        limits: LeaseLimits,
        home: Option<(B::Key, usize)>,
        metrics: ListenerMetrics,
    ) -> Rc<Self> {
        Rc::new(Self {
            backend,
            desk: budget.open_desk(),
            budget,
            limits,
            home,
            metrics,
            idle: RefCell::default(),
            waiters: RefCell::new(Waiters { next: 0, by_key: HashMap::new() }),
            opening: Cell::new(0),
            refilling: Cell::new(0),
            has_opened: Cell::new(false),
            trouble: RefCell::default(),
            refusals: RefCell::default(),
            rejected: RefCell::default(),
            turnstile: Semaphore::new(1),
            settled: Notify::new(),
            tender: RefCell::new(Waker::noop().clone()),
            alarm: Cell::new(Instant::now()),
            recall: Notify::new(),
            closing: Cell::new(false),
        })
    }

    /// An idle connection of that key, the newest that is fit as far as this machine can know: so the surplus grows old and goes.
    /// Never during a pause of the [`Budget`].
    pub fn try_take(self: &Rc<Self>, key: &B::Key) -> Option<Lease<B>> {
        self.try_take_where(key, |_| true)
    }

    /// As [`Leases::try_take`], of those that satisfy `fits`: to get back the very connection that a client used last.
    pub fn try_take_where(self: &Rc<Self>, key: &B::Key, fits: impl Fn(&B::Connection) -> bool) -> Option<Lease<B>> {
        // What is idle beyond the limit is about to be closed.
        if self.budget.over() > 0 {
            return None;
        }
        let held = self.take_idle(key, fits)?;
        self.count(LeaseOutcome::Warm, Duration::ZERO);
        Some(Lease::new(self, held))
    }

    /// A connection of that key: an idle one, one that another gives back, or a new one, within `wait_timeout`. Needs the worker's `LocalSet`.
    ///
    /// What may pass ([`Kind::may_pass`]) is tried again, with pauses, until then; while the server is in trouble one connection at a time is
    /// tried for all who wait. With a `wait_timeout` of zero there is one try, during a pause none.
    ///
    /// Cancel-safe: who leaves loses its place; an opening that has begun goes on and serves the next.
    ///
    /// # Errors
    /// What opening said last; `Ours/Timeout` when only others' leases stood in the way.
    pub async fn take(self: &Rc<Self>, key: &B::Key) -> Result<Lease<B>> {
        if let Some(lease) = self.try_take(key) {
            return Ok(lease);
        }
        if self.has_idle(key) {
            // Something has arrived on it, a ticket or its end: the runtime has to look at the socket first.
            yield_now().await;
            if let Some(lease) = self.try_take(key) {
                return Ok(lease);
            }
        }
        let started = Instant::now();
        let (outcome, taken) = self.wait(key, started).await;
        self.count(outcome, started.elapsed());
        taken
    }

    /// Opens a connection of that key whatever is idle: whether the server takes it now. It then serves who waits for one, or becomes idle.
    /// Waits and tries again as [`Leases::take`] does. Cancel-safe, as that is.
    ///
    /// # Errors
    /// As [`Leases::take`].
    pub async fn prove(self: &Rc<Self>, key: &B::Key) -> Result<()> {
        let (began, last) = (Cell::new(false), Cell::new(None));
        tokio::select! {
            biased;
            outcome = self.open_once(key, true, &began, &last) => outcome,
            () = sleep(self.limits.wait_timeout), if !self.is_impatient() => Err(last.take().unwrap_or_else(|| self.none_free())),
        }
    }

    /// Closes the idle connections whose key is one of these.
    pub fn evict_idle_of(&self, is_one: impl Fn(&B::Key) -> bool, reason: EvictReason) {
        for held in self.take_all_idle(is_one) {
            self.evict(held, reason);
        }
        if self.home.is_some() {
            self.desk.changed.notify_one();
        }
    }

    /// Somebody, on this worker or another, waits for a permit: who keeps a lease without need should let it go.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.budget.is_wanted()
    }

    /// Waits until some leases may have been [recalled](Lease::is_recalled). Cancel-safe.
    pub async fn recall(&self) {
        self.recall.notified().await;
    }

    fn count(&self, outcome: LeaseOutcome, waited: Duration) {
        self.metrics.leases.of(outcome).inc();
        self.metrics.pool_wait.observe(waited.as_secs_f64());
    }

    /// Tells the other threads who waits here.
    fn show_waiters(&self) {
        let waiters = self.waiters.borrow();
        let oldest = waiters.by_key.values().filter_map(|line| line.first_key_value()).map(|(_, first)| first.since).min();
        self.desk.waiting.store(waiters.by_key.values().map(BTreeMap::len).sum(), Ordering::Relaxed);
        self.desk.oldest.store(oldest.map_or(NOBODY, |since| self.budget.micros(since)), Ordering::Relaxed);
    }

    fn is_impatient(&self) -> bool {
        self.limits.wait_timeout.is_zero()
    }

    async fn wait(self: &Rc<Self>, key: &B::Key, started: Instant) -> (LeaseOutcome, Result<Lease<B>>) {
        let mut waiting = Waiting::new(self, key, started);
        let (began, last) = (Cell::new(false), Cell::new(None));
        // Biased: an opening gives away what it has opened before it says that it has ended.
        tokio::select! {
            biased;
            Ok(lease) = &mut waiting.receive => (if began.get() { LeaseOutcome::Cold } else { LeaseOutcome::Waited }, Ok(lease)),
            error = self.open_again_and_again(key, &began, &last) => (LeaseOutcome::Failed, Err(error)),
            () = sleep_until(started + self.limits.wait_timeout), if !self.is_impatient() => match last.take().or_else(|| self.trouble.borrow().last.clone()) {
                Some(error) => (LeaseOutcome::Failed, Err(error)),
                None => (LeaseOutcome::Timeout, Err(self.none_free())),
            }
        }
    }

    fn none_free(&self) -> Error {
        let limit = humantime::format_duration(self.limits.wait_timeout);
        Error::ours(
            Kind::Timeout,
            format!("no upstream connection within {limit} (pool_wait_timeout); if they are all in use raise pool_size"),
        )
    }

    /// Closes one that nobody has.
    fn evict(&self, held: Held<B>, reason: EvictReason) {
        self.metrics.evictions.of(reason).inc();
        self.backend.discard(held.connection);
    }
}

impl<B: Reuse + 'static> Waiters<B> {
    fn pop(&mut self, key: &B::Key) -> Option<oneshot::Sender<Lease<B>>> {
        let line = self.by_key.get_mut(key)?;
        let first = line.pop_first();
        if line.is_empty() {
            self.by_key.remove(key);
        }
        first.map(|(_, waiter)| waiter.give)
    }

    fn remove(&mut self, key: &B::Key, number: u64) {
        if let Some(line) = self.by_key.get_mut(key) {
            line.remove(&number);
            if line.is_empty() {
                self.by_key.remove(key);
            }
        }
    }

    /// Since when the first for that key has waited.
    fn oldest_of(&self, key: &B::Key) -> Option<Instant> {
        Some(self.by_key.get(key)?.first_key_value()?.1.since)
    }
}

/// A place among those who wait.
struct Waiting<'a, B: Reuse + 'static> {
    leases: &'a Rc<Leases<B>>,
    key: &'a B::Key,
    number: u64,
    receive: oneshot::Receiver<Lease<B>>,
}

impl<'a, B: Reuse + 'static> Waiting<'a, B> {
    fn new(leases: &'a Rc<Leases<B>>, key: &'a B::Key, since: Instant) -> Self {
        let (give, receive) = oneshot::channel();
        let mut waiters = leases.waiters.borrow_mut();
        let number = waiters.next;
        waiters.next += 1;
        waiters.by_key.entry(key.clone()).or_default().insert(number, Waiter { since, give });
        drop(waiters);
        leases.show_waiters();
        Self { leases, key, number, receive }
    }
}

impl<B: Reuse + 'static> Drop for Waiting<'_, B> {
    fn drop(&mut self) {
        self.leases.waiters.borrow_mut().remove(self.key, self.number);
        self.leases.show_waiters();
        // Given at the very moment of leaving: it is as good as new.
        if let Ok(lease) = self.receive.try_recv() {
            lease.give_back();
        }
    }
}

#[cfg(test)]
mod tests;
