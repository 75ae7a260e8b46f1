//! Connections that come back: opened when somebody needs one, lent, cleaned, kept idle, lent again.
//!
//! ```text
//!            take(key)
//!  client ──────────► idle of that key? ── yes, fit ──► Lease ── give_back ──► who waits for that key, else idle
//!                       │ no                              │
//!                       ▼                                 └─ dropped: closed, its permit goes to the next
//!                     waits ◄── given back by another
//!                       │ meanwhile, one at a time: backoff over? permit of the Budget (or the oldest idle one closed for it)?
//!                       └─► opens in a task of its own ──► who waits longest for that key, else idle
//! ```
//!
//! One per worker and listener; nothing in it is shared between threads but the [`Budget`]. An opening goes on when the client that caused it
//! has left: what it opens serves the next. The [tender](Leases::tend) watches the idle ones.

mod idle;
mod lease;
mod opening;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

pub use lease::Lease;

use self::idle::Idle;
use self::opening::Trouble;
use super::backoff::Backoff;
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
    /// The tender has to look now.
    changed: Notify,
    closing: Cell<bool>,
}

/// Those who wait, by key and in the order of coming.
struct Waiters<B: Reuse + 'static> {
    next: u64,
    by_key: HashMap<B::Key, BTreeMap<u64, oneshot::Sender<Lease<B>>>>,
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
            rejected: RefCell::default(),
            turnstile: Semaphore::new(1),
            settled: Notify::new(),
            tender: RefCell::new(Waker::noop().clone()),
            alarm: Cell::new(Instant::now()),
            changed: Notify::new(),
            closing: Cell::new(false),
        })
    }

    /// An idle connection of that key, the newest that is fit as far as this machine can know: so the surplus grows old and goes.
    pub fn try_take(self: &Rc<Self>, key: &B::Key) -> Option<Lease<B>> {
        let held = self.take_idle(key)?;
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
        let (outcome, taken) = self.wait(key, started + self.limits.wait_timeout).await;
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
            outcome = self.open_once(key, &began, &last) => outcome,
            () = sleep(self.limits.wait_timeout), if !self.is_impatient() => Err(last.take().unwrap_or_else(|| self.none_free())),
        }
    }

    /// Closes the idle connections whose key is one of these.
    pub fn evict_idle_of(&self, is_one: impl Fn(&B::Key) -> bool, reason: EvictReason) {
        for held in self.take_all_idle(is_one) {
            self.evict(held, reason);
        }
        if self.home.is_some() {
            self.changed.notify_one();
        }
    }

    /// Somebody, on this worker or another, waits for a permit: who keeps a lease without need should let it go.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.budget.is_wanted()
    }

    fn count(&self, outcome: LeaseOutcome, waited: Duration) {
        self.metrics.leases.of(outcome).inc();
        self.metrics.pool_wait.observe(waited.as_secs_f64());
    }

    fn is_impatient(&self) -> bool {
        self.limits.wait_timeout.is_zero()
    }

    async fn wait(self: &Rc<Self>, key: &B::Key, deadline: Instant) -> (LeaseOutcome, Result<Lease<B>>) {
        let mut waiting = Waiting::new(self, key);
        let (began, last) = (Cell::new(false), Cell::new(None));
        // Biased: an opening gives away what it has opened before it says that it has ended.
        tokio::select! {
            biased;
            Ok(lease) = &mut waiting.receive => (if began.get() { LeaseOutcome::Cold } else { LeaseOutcome::Waited }, Ok(lease)),
            error = self.open_again_and_again(key, &began, &last) => (LeaseOutcome::Failed, Err(error)),
            () = sleep_until(deadline), if !self.is_impatient() => match last.take().or_else(|| self.trouble.borrow().last.clone()) {
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

    /// Why one of that key is of no use to anybody here.
    fn unwanted(&self, key: &B::Key) -> Option<EvictReason> {
        if self.waiters.borrow().by_key.contains_key(key) {
            None
        } else if self.closing.get() {
            Some(EvictReason::Drain)
        } else if self.budget.is_wanted() {
            Some(EvictReason::Pressure)
        } else {
            None
        }
    }

    /// A new or clean connection finds its place.
    fn arrive(self: &Rc<Self>, held: Held<B>) {
        let Some(held) = self.hand_over(held) else { return };
        match self.unwanted(&held.key) {
            Some(reason) => self.evict(held, reason),
            None => self.keep(held),
        }
    }

    /// To who waits longest for one of its key; back if nobody does.
    fn hand_over(self: &Rc<Self>, held: Held<B>) -> Option<Held<B>> {
        let mut lease = Lease::new(self, held);
        loop {
            let next = self.waiters.borrow_mut().pop(lease.key());
            let Some(next) = next else { return lease.into_held() };
            match next.send(lease) {
                Ok(()) => return None,
                Err(unclaimed) => lease = unclaimed,
            }
        }
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
        first.map(|(_, give)| give)
    }
}

/// A place among those who wait.
struct Waiting<'a, B: Reuse + 'static> {
    leases: &'a Leases<B>,
    key: &'a B::Key,
    number: u64,
    receive: oneshot::Receiver<Lease<B>>,
}

impl<'a, B: Reuse + 'static> Waiting<'a, B> {
    fn new(leases: &'a Leases<B>, key: &'a B::Key) -> Self {
        let (give, receive) = oneshot::channel();
        let mut waiters = leases.waiters.borrow_mut();
        let number = waiters.next;
        waiters.next += 1;
        waiters.by_key.entry(key.clone()).or_default().insert(number, give);
        drop(waiters);
        Self { leases, key, number, receive }
    }
}

impl<B: Reuse + 'static> Drop for Waiting<'_, B> {
    fn drop(&mut self) {
        {
            let mut waiters = self.leases.waiters.borrow_mut();
            if let Some(line) = waiters.by_key.get_mut(self.key) {
                line.remove(&self.number);
                if line.is_empty() {
                    waiters.by_key.remove(self.key);
                }
            }
        }
        // Given at the very moment of leaving: it is as good as new.
        if let Ok(lease) = self.receive.try_recv() {
            lease.give_back();
        }
    }
}

#[cfg(test)]
mod tests;
