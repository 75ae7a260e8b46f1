//! Opening for those who wait: one after the other through a turnstile, so that an outage meets one probe at a time and not a herd.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::task::{JoinHandle, spawn_local, yield_now};
use tokio::time::{Instant, sleep_until};

use super::moving::{Got, Standing, kind};
use super::{Held, Leases};
use crate::error::{Error, Kind, Result};
use crate::metrics::{EvictReason, UpstreamState};
use crate::pool::backoff::Backoff;
use crate::pool::budget::Wish;
use crate::pool::{MAX_OPENING, Permit, Reuse};

/// What stands between this worker and the server.
#[derive(Default)]
pub(super) struct Trouble {
    backoff: Backoff,
    /// Why the last try failed; `None` when it did not.
    pub(super) last: Option<Error>,
}

/// Why the next opening cannot begin now.
enum Obstacle {
    /// As many as may be are under way.
    Busy,
    /// A pause, until then.
    Pause(Instant),
}

impl<B: Reuse + 'static> Leases<B> {
    /// Opens until that fails for good. What it opens goes the way of all who wait: it may serve another, and then this one tries again.
    pub(super) async fn open_again_and_again(self: &Rc<Self>, key: &B::Key, began: &Cell<bool>, last: &Cell<Option<Error>>) -> Error {
        loop {
            if let Err(error) = self.open_once(key, false, began, last).await {
                return error;
            }
        }
    }

    /// Tries until it has opened one, or has been sent one unless it has to be `new`, or that fails for good.
    pub(super) async fn open_once(self: &Rc<Self>, key: &B::Key, new: bool, began: &Cell<bool>, last: &Cell<Option<Error>>) -> Result<()> {
        loop {
            let permit = match self.turn(key, new).await? {
                Got::Permit(permit) => permit,
                Got::Connection(held) => {
                    self.arrive(held);
                    // Who waits with this one looks whether it was for it.
                    yield_now().await;
                    return Ok(());
                }
            };
            began.set(true);
            // Dropping the handle, when this client leaves, does not end the task.
            match self.start(key, permit, false).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) if self.is_impatient() || !self.may_pass(&error) => return Err(error),
                Ok(Err(error)) => last.set(Some(error)),
                Err(_) => return Err(Error::ours(Kind::Io, "opening an upstream connection failed inside the proxy; please report it")),
            }
        }
    }

    /// Whether a later try may succeed. A server that has let us in before and now closes in the middle of the handshake has not become one
    /// without TLS: it is full. Redis closes a connection beyond `maxclients` so, since it cannot say why before the handshake.
    fn may_pass(&self, error: &Error) -> bool {
        error.reply.is_none() && (error.kind.may_pass() || error.kind == Kind::TlsRefused && self.has_opened.get())
    }

    /// Waits for the turn, the end of the pause, and a permit. Cancel-safe.
    async fn turn(self: &Rc<Self>, key: &B::Key, new: bool) -> Result<Got<B>> {
        // Never closed.
        let _turn = self.turnstile.acquire().await;
        loop {
            while let Some(obstacle) = self.obstacle(Instant::now()) {
                let last = if self.is_impatient() { self.trouble.borrow().last.clone() } else { None };
                if let Some(error) = last {
                    return Err(error);
                }
                match obstacle {
                    // No wake-up is lost: `notify_one` is kept for who listens next, and only the one in the turnstile does.
                    Obstacle::Busy => self.settled.notified().await,
                    Obstacle::Pause(end) => sleep_until(end).await,
                }
            }
            let got = match self.permit(key).await? {
                Got::Connection(held) if new || held.key != *key => {
                    let Held { connection, permit, .. } = held;
                    self.metrics.evictions.of(EvictReason::Pressure).inc();
                    self.backend.discard(connection);
                    Got::Permit(permit)
                }
                got => got,
            };
            // An opening begun earlier may have failed while this one waited.
            if matches!(got, Got::Connection(_)) {
                return Ok(got);
            }
            if self.obstacle(Instant::now()).is_none() {
                return self.refusals.borrow_mut().before_trying(key, Instant::now()).map_or(Ok(got), Err);
            }
        }
    }

    async fn permit(self: &Rc<Self>, key: &B::Key) -> Result<Got<B>> {
        // Its place is taken over without going back to the budget: what is idle here is so because nobody waits there.
        if let Some(permit) = self.budget.try_acquire().or_else(|| self.give_up_oldest()) {
            return Ok(Got::Permit(permit));
        }
        if self.is_impatient() {
            return Err(Error::ours(Kind::Timeout, "all upstream connections are in use; raise pool_size, or pool_wait_timeout above 0"));
        }
        // What comes is for the first who waits for that key.
        let since = self.waiters.borrow().oldest_of(key).unwrap_or_else(Instant::now);
        let place = match self.budget.stand_in_line(Wish { since, kind: kind(key) }) {
            Ok(permit) => return Ok(Got::Permit(permit)),
            Err(place) => place,
        };
        let mut standing = Standing { leases: self, place };
        let grant = standing.place.turn().await;
        Ok(self.unpack(grant))
    }

    fn obstacle(&self, now: Instant) -> Option<Obstacle> {
        let trouble = self.trouble.borrow();
        let most = if trouble.backoff.is_failing() { 1 } else { MAX_OPENING };
        if self.opening.get() >= most {
            return Some(Obstacle::Busy);
        }
        trouble.backoff.not_before().filter(|end| *end > now).map(Obstacle::Pause)
    }

    /// When the tender may refill again, if it may not now.
    pub(super) fn pauses(&self) -> [Option<Instant>; 2] {
        [self.trouble.borrow().backoff.not_before(), self.rejected.borrow().not_before()]
    }

    /// Opens what is missing at home, as far as nobody else needs the permits.
    pub(super) fn refill(self: &Rc<Self>) {
        let Some((key, _)) = &self.home else { return };
        let now = Instant::now();
        while self.missing_at_home() > 0
            && self.obstacle(now).is_none()
            && self.rejected.borrow().may_try(now)
            && let Some(permit) = self.budget.try_acquire()
        {
            // Its failure is noted as trouble; nobody waits to hear of it.
            drop(self.start(key, permit, true));
        }
    }

    /// Opens in a task of its own, which gives away what it has opened.
    fn start(self: &Rc<Self>, key: &B::Key, mut permit: Permit, refill: bool) -> JoinHandle<Result<()>> {
        permit.renew();
        let (leases, key) = (Rc::clone(self), key.clone());
        let opening = Opening::new(&leases, refill);
        spawn_local(async move {
            let outcome = leases.backend.open(&key).await;
            leases.note(&outcome);
            leases.refusals.borrow_mut().note(&key, outcome.as_ref().err(), Instant::now());
            if refill && outcome.is_err() {
                // A server that is not down but does not want it either: without a pause it would be asked again at once, for ever.
                leases.rejected.borrow_mut().note(false, Instant::now());
            }
            drop(opening);
            let connection = outcome?;
            let age = leases.limits.max_lifetime.mul_f64(1.0 - 0.2 * fastrand::f64());
            leases.opened(Held { connection, key, dies: Instant::now() + age, permit });
            Ok(())
        })
    }

    fn note(&self, outcome: &Result<B::Connection>) {
        let mut trouble = self.trouble.borrow_mut();
        let now = Instant::now();
        match outcome {
            Err(error) if self.may_pass(error) => {
                // Several that fail together are one failure.
                if trouble.backoff.may_try(now) {
                    trouble.backoff.note(false, now);
                }
                trouble.last = Some(error.clone());
            }
            // The server answers; what it does not like will be the same after a pause.
            Ok(_) | Err(_) => *trouble = Trouble::default(),
        }
        if outcome.is_ok() {
            self.has_opened.set(true);
        }
    }

    fn opened(self: &Rc<Self>, mut held: Held<B>) {
        let waker = self.tender.borrow().clone();
        match self.backend.poll_unfit(&mut held.connection, &mut Context::from_waker(&waker)) {
            // Opened with what was valid a moment ago; whoever waits gets the next.
            Poll::Ready(reason @ (EvictReason::Reload | EvictReason::Dns)) => self.evict(held, reason),
            Poll::Ready(_) | Poll::Pending => self.arrive(held),
        }
    }
}

/// Counts one opening for as long as it lives.
struct Opening<B: Reuse + 'static> {
    leases: Rc<Leases<B>>,
    refill: bool,
}

impl<B: Reuse + 'static> Opening<B> {
    fn new(leases: &Rc<Leases<B>>, refill: bool) -> Self {
        leases.opening.set(leases.opening.get() + 1);
        leases.refilling.set(leases.refilling.get() + usize::from(refill));
        leases.metrics.upstream.of(UpstreamState::Connecting).inc();
        Self { leases: Rc::clone(leases), refill }
    }
}

impl<B: Reuse + 'static> Drop for Opening<B> {
    fn drop(&mut self) {
        let leases = &self.leases;
        leases.opening.set(leases.opening.get() - 1);
        leases.refilling.set(leases.refilling.get() - usize::from(self.refill));
        leases.metrics.upstream.of(UpstreamState::Connecting).dec();
        leases.settled.notify_one();
        leases.desk.changed.notify_one();
    }
}
