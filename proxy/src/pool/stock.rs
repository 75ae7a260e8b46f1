//! The stock of the `relay` mode: a few connections, opened ahead of need and never used, one for each client that comes.
//!
//! ```text
//!            take()                          tend(), one task per stock
//!  client ──────────► idle? ── yes, fit ──►  polls every idle connection, so that a dead one is gone before anyone asks
//!                       │ no                 replaces what was taken, has died or grown old
//!                       └─► waiters ◄─────── hands each new connection to the longest waiter first, else to idle
//! ```
//!
//! Every worker has its own stock: nothing here is shared between threads. Opening is bounded ([`MAX_OPENING`]) whatever the demand, so a
//! thousand clients that reconnect at once cause a queue and not a thousand handshakes. A failed open fails the longest waiter; refilling for
//! nobody in particular backs off.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::{Backoff, YOUNG};
use super::{Backend, MAX_OPENING};
use crate::error::{Error, Kind, Result};
use crate::metrics::{EvictReason, LeaseOutcome, ListenerMetrics, UpstreamState};

/// How many, how old, how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections kept ready.
    pub min_idle: usize,
    /// A connection unused for so long is replaced. Each gets up to a fifth less, at random, so that they are not all replaced at once.
    pub max_idle_age: Duration,
    /// How long a client waits.
    pub wait_timeout: Duration,
    /// After the server has closed an unused connection all are let go, and none is opened for nobody in particular, for so long: the server
    /// may be going down and wait for every connection that says nothing, as PostgreSQL does. Zero where servers just tidy up.
    pub suspect: Duration,
}

/// Connections opened ahead of need, each handed out once.
pub struct Stock<B: Backend<Key = ()>> {
    backend: Arc<B>,
    limits: Limits,
    metrics: ListenerMetrics,
    idle: RefCell<VecDeque<Idle<B::Connection>>>,
    waiters: RefCell<VecDeque<oneshot::Sender<Result<B::Connection>>>>,
    opening: Cell<usize>,
    /// The pause after connections that were closed [`YOUNG`].
    rejected: RefCell<Backoff>,
    /// Nothing is kept until then.
    suspect_until: Cell<Option<Instant>>,
    /// Something changed that the tender has to look at.
    changed: Notify,
}

struct Idle<C> {
    connection: C,
    since: Instant,
    expires: Instant,
}

impl<B: Backend<Key = ()>> Stock<B> {
    /// An empty stock; [`Stock::tend`] fills it.
    pub fn new(backend: Arc<B>, limits: Limits, metrics: ListenerMetrics) -> Self {
        Self {
            backend,
            limits,
            metrics,
            idle: RefCell::default(),
            waiters: RefCell::default(),
            opening: Cell::new(0),
            rejected: RefCell::default(),
            suspect_until: Cell::new(None),
            changed: Notify::new(),
        }
    }

    /// A connection for one client: a ready one, or the next that can be opened.
    ///
    /// Cancel-safe: a connection that arrives for a caller who has gone is given to the next.
    ///
    /// # Errors
    /// The upstream's, if opening failed; `Ours/Timeout` after `wait_timeout`.
    pub async fn take(&self) -> Result<B::Connection> {
        let started = Instant::now();
        let (outcome, taken) = match self.take_idle().await {
            Some(connection) => (LeaseOutcome::Warm, Ok(connection)),
            None => self.wait().await,
        };
        self.metrics.leases.of(outcome).inc();
        self.metrics.pool_wait.observe(started.elapsed().as_secs_f64());
        taken
    }

    /// The oldest that is fit, as far as this machine can know.
    async fn take_idle(&self) -> Option<B::Connection> {
        let mut nobody = Context::from_waker(Waker::noop());
        loop {
            let mut idle = self.idle.borrow_mut().pop_front()?;
            self.metrics.upstream.of(UpstreamState::Idle).dec();
            if self.backend.has_unread(&idle.connection) {
                // A ticket, or its end: the runtime has to look at the socket first. Should this task be dropped meanwhile, the connection is
                // closed and, by the notification, replaced.
                self.changed.notify_one();
                yield_now().await;
            }
            match self.unfit(&mut idle, Instant::now(), &mut nobody) {
                None => {
                    self.changed.notify_one();
                    return Some(idle.connection);
                }
                Some(reason) => self.evict(idle, reason),
            }
        }
    }

    async fn wait(&self) -> (LeaseOutcome, Result<B::Connection>) {
        let (give, mut receive) = oneshot::channel();
        let opened_for_it = {
            let mut waiters = self.waiters.borrow_mut();
            waiters.push_back(give);
            waiters.len() > self.opening.get()
        };
        self.changed.notify_one();
        match timeout(self.limits.wait_timeout, &mut receive).await {
            Ok(Ok(Ok(connection))) => (if opened_for_it { LeaseOutcome::Cold } else { LeaseOutcome::Waited }, Ok(connection)),
            Ok(Ok(Err(error))) => (LeaseOutcome::Failed, Err(error)),
            Ok(Err(_)) => (LeaseOutcome::Failed, Err(Error::ours(Kind::Draining, "the stock was closed"))),
            Err(_) => {
                let limit = humantime::format_duration(self.limits.wait_timeout);
                (
                    LeaseOutcome::Timeout,
                    Err(Error::ours(Kind::Timeout, format!("no upstream connection within {limit} (pool_wait_timeout)"))),
                )
            }
        }
    }

    /// Keeps the stock filled and fit, for ever; from `closing` on it keeps nothing ready and only serves those who wait. `moved` wakes it when
    /// the upstream's name or files have changed.
    pub async fn tend(&self, mut moved: watch::Receiver<u64>, closing: CancellationToken) {
        let mut opens = FuturesUnordered::new();
        let mut refill = Backoff::default();
        loop {
            let open = !closing.is_cancelled();
            let target = if open { self.limits.min_idle } else { 0 };
            if !open {
                self.evict_all(EvictReason::Drain);
            }
            // One look at the clock for both questions: a pause that ends between them would be missed.
            let now = Instant::now();
            while self.opening.get() < self.wanted(target, &refill, now) {
                self.opening.set(self.opening.get() + 1);
                self.metrics.upstream.of(UpstreamState::Connecting).inc();
                opens.push(self.backend.open(&()));
            }
            // Every arm is cancel-safe: what they wait for is kept in `self`, `opens` and `refill`.
            tokio::select! {
                Some(outcome) = opens.next() => self.opened(outcome, &mut refill),
                () = poll_fn(|cx| self.poll_evict(cx)) => {}
                () = sleep_until(self.next_alarm(&refill, now)) => {}
                () = self.changed.notified() => {}
                Ok(()) = moved.changed() => {}
                () = closing.cancelled(), if open => {}
            }
        }
    }

    /// How many opens should be under way: one for each who waits, and the stock's deficit unless refilling has just failed.
    fn wanted(&self, target: usize, refill: &Backoff, now: Instant) -> usize {
        let may_refill = refill.may_try(now) && self.rejected.borrow().may_try(now) && !self.is_suspect(now);
        let deficit = if may_refill { target.saturating_sub(self.idle.borrow().len()) } else { 0 };
        let mut waiters = self.waiters.borrow_mut();
        // Nobody opens for clients that have given up.
        waiters.retain(|waiter| !waiter.is_closed());
        (waiters.len() + deficit).min(MAX_OPENING)
    }

    fn opened(&self, outcome: Result<B::Connection>, refill: &mut Backoff) {
        self.opening.set(self.opening.get() - 1);
        self.metrics.upstream.of(UpstreamState::Connecting).dec();
        refill.note(outcome.is_ok(), Instant::now());
        let outcome = match outcome {
            Ok(mut connection) => match self.backend.poll_unfit(&mut connection, &mut Context::from_waker(Waker::noop())) {
                // Opened with what was valid a moment ago; whoever waits gets the next.
                Poll::Ready(reason @ (EvictReason::Reload | EvictReason::Dns)) => {
                    self.metrics.evictions.of(reason).inc();
                    return self.backend.discard(connection);
                }
                Poll::Ready(_) | Poll::Pending => Ok(connection),
            },
            failed @ Err(_) => failed,
        };
        match self.hand_over(outcome) {
            None => {}
            Some(Ok(connection)) => self.keep(connection),
            Some(Err(error)) => tracing::debug!(%error, pause = ?refill.pause(), "cannot refill the stock"),
        }
    }

    /// To the longest waiter who is still there; back if there is none.
    fn hand_over(&self, mut outcome: Result<B::Connection>) -> Option<Result<B::Connection>> {
        loop {
            let waiter = self.waiters.borrow_mut().pop_front();
            let Some(waiter) = waiter else { return Some(outcome) };
            match waiter.send(outcome) {
                Ok(()) => return None,
                Err(unclaimed) => outcome = unclaimed,
            }
        }
    }

    fn keep(&self, connection: B::Connection) {
        let now = Instant::now();
        if self.is_suspect(now) {
            return self.backend.discard(connection);
        }
        let age = self.limits.max_idle_age.mul_f64(1.0 - 0.2 * fastrand::f64());
        self.idle.borrow_mut().push_back(Idle { connection, since: now, expires: now + age });
        self.metrics.upstream.of(UpstreamState::Idle).inc();
    }

    fn is_suspect(&self, now: Instant) -> bool {
        self.suspect_until.get().is_some_and(|until| now < until)
    }

    /// Ready when it has thrown something away, so that the tender replaces it.
    fn poll_evict(&self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let mut unfit = Vec::new();
        let mut fit = VecDeque::new();
        for mut idle in self.idle.take() {
            match self.unfit(&mut idle, now, cx) {
                None => fit.push_back(idle),
                Some(reason) => unfit.push((idle, reason)),
            }
        }
        self.idle.replace(fit);
        if unfit.is_empty() {
            return Poll::Pending;
        }
        for (one, reason) in unfit {
            self.metrics.upstream.of(UpstreamState::Idle).dec();
            self.evict(one, reason);
        }
        Poll::Ready(())
    }

    fn unfit(&self, idle: &mut Idle<B::Connection>, now: Instant, cx: &mut Context<'_>) -> Option<EvictReason> {
        if idle.expires <= now {
            return Some(EvictReason::IdleAge);
        }
        match self.backend.poll_unfit(&mut idle.connection, cx) {
            Poll::Ready(reason) => Some(reason),
            Poll::Pending => None,
        }
    }

    /// Throws away one that has left the stock.
    fn evict(&self, idle: Idle<B::Connection>, reason: EvictReason) {
        let now = Instant::now();
        self.metrics.evictions.of(reason).inc();
        let lived = now.duration_since(idle.since) >= YOUNG || reason != EvictReason::ServerClosed;
        {
            let mut rejected = self.rejected.borrow_mut();
            // Several that die together are one rejection.
            if lived || rejected.may_try(now) {
                rejected.note(lived, now);
            }
        }
        self.backend.discard(idle.connection);
        if reason == EvictReason::ServerClosed && !self.limits.suspect.is_zero() && !self.is_suspect(now) {
            self.suspect_until.set(Some(now + self.limits.suspect));
            self.evict_all(EvictReason::ServerClosed);
        }
    }

    fn evict_all(&self, reason: EvictReason) {
        for idle in self.idle.take() {
            self.metrics.upstream.of(UpstreamState::Idle).dec();
            self.evict(idle, reason);
        }
    }

    /// When the oldest connection expires or refilling may be tried again.
    fn next_alarm(&self, refill: &Backoff, now: Instant) -> Instant {
        let far = now + Duration::from_secs(3600);
        let expiry = self.idle.borrow().iter().map(|idle| idle.expires).min().unwrap_or(far);
        let pauses = [refill.not_before(), self.rejected.borrow().not_before(), self.suspect_until.get()];
        pauses.into_iter().flatten().filter(|end| *end > now).fold(expiry, Instant::min)
    }
}
