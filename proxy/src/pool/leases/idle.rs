//! The idle ones: kept, watched, expired, given up for others.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::moving::kind;
use super::{Held, Leases};
use crate::metrics::{EvictReason, UpstreamState};
use crate::pool::backoff::YOUNG;
use crate::pool::{Permit, Reuse};

/// How often the tender looks whether there is a permit for what is missing at home.
const HOME_LOOK: Duration = Duration::from_secs(1);

/// Who is idle for less was used a moment ago.
const WARM: Duration = Duration::from_millis(2);

/// One that nobody uses.
pub(super) struct Idle<B: Reuse + 'static> {
    held: Held<B>,
    since: Instant,
    /// Idle for too long, if it has not died of age before.
    expires: Instant,
}

impl<B: Reuse + 'static> Leases<B> {
    /// Watches the idle connections, for ever: dead ones vanish at once, old ones in time, and all that others wait for, on whatever worker;
    /// keeps the home key's number. From `closing` on nothing is kept. `moved` wakes it when the upstream's name or files have changed.
    pub async fn tend(self: &Rc<Self>, mut moved: watch::Receiver<u64>, closing: CancellationToken) {
        loop {
            let open = !closing.is_cancelled();
            if open {
                self.give_up();
                self.refill();
            } else {
                self.closing.set(true);
                while let Some(oldest) = self.pop_oldest() {
                    self.evict(oldest, EvictReason::Drain);
                }
            }
            if self.budget.is_recalling() {
                self.recall.notify_waiters();
            }
            self.alarm.set(self.next_alarm());
            // Every arm is cancel-safe: what they wait for is kept in `self` and the receivers.
            tokio::select! {
                () = poll_fn(|cx| self.poll_evict(cx)) => {}
                () = sleep_until(self.alarm.get()) => {}
                () = self.desk.changed.notified() => {}
                Ok(()) = moved.changed() => self.refusals.borrow_mut().forget(),
                () = closing.cancelled(), if open => {}
            }
        }
    }

    /// How many idle connections of the home key should be opened.
    pub(super) fn missing_at_home(&self) -> usize {
        let Some((key, count)) = &self.home else { return 0 };
        let idle = self.idle.borrow().iter().filter(|idle| idle.held.key == *key).take(*count).count();
        count.saturating_sub(idle + self.refilling.get())
    }

    pub(super) fn has_idle(&self, key: &B::Key) -> bool {
        self.idle.borrow().iter().any(|idle| idle.held.key == *key)
    }

    pub(super) fn take_idle(&self, key: &B::Key, fits: impl Fn(&B::Connection) -> bool) -> Option<Held<B>> {
        let waker = self.tender.borrow().clone();
        let cx = &mut Context::from_waker(&waker);
        let mut at = self.idle.borrow().len();
        loop {
            let mut idle = {
                let mut all = self.idle.borrow_mut();
                at = all.iter().take(at).rposition(|idle| idle.held.key == *key && fits(&idle.held.connection))?;
                all.remove(at)?
            };
            let now = Instant::now();
            match self.unfit(&mut idle, now, cx) {
                Some(reason) => self.evict_idle(idle, reason),
                // The runtime has not looked at that socket yet; when it has, the tender will know.
                None if !idle.is_warm(now) && self.backend.has_unread(&idle.held.connection) => self.idle.borrow_mut().insert(at, idle),
                None => {
                    self.count_idle(false);
                    if self.missing_at_home() > 0 {
                        self.desk.changed.notify_one();
                    }
                    return Some(idle.held);
                }
            }
        }
    }

    /// Makes it idle, unless it is dead.
    pub(super) fn keep(&self, held: Held<B>) {
        let now = Instant::now();
        let age = self.limits.max_idle_age.mul_f64(1.0 - 0.2 * fastrand::f64());
        let mut idle = Idle { held, since: now, expires: now + age };
        self.count_idle(true);
        // Polled with the tender's waker, which saves waking it to poll them all.
        let waker = self.tender.borrow().clone();
        if let Some(reason) = self.unfit(&mut idle, now, &mut Context::from_waker(&waker)) {
            return self.evict_idle(idle, reason);
        }
        if idle.ends() < self.alarm.get() {
            self.desk.changed.notify_one();
        }
        self.idle.borrow_mut().push_back(idle);
        // Counted above, and then looked: see `Budget::stand_in_line`. Who began to wait before has looked in vain.
        if self.budget.is_wanted() {
            self.desk.changed.notify_one();
        }
    }

    /// The permit of the one that has been idle longest, which is closed.
    pub(super) fn give_up_oldest(&self) -> Option<Permit> {
        // One beyond the limit is of no use to anybody.
        let held = if self.budget.over() == 0 { self.pop_oldest()? } else { return None };
        self.metrics.evictions.of(EvictReason::Pressure).inc();
        self.backend.discard(held.connection);
        Some(held.permit)
    }

    /// Closes what is beyond the limit or retired; then one for each who waits on other workers: it leaves the line before the next is
    /// looked at.
    fn give_up(self: &Rc<Self>) {
        while let Some(reason) = self.surplus()
            && let Some(oldest) = self.pop_oldest()
        {
            self.evict(oldest, reason);
        }
        while let Some(wish) = self.budget.head()
            && let Some(held) = self.pop_for(wish.kind)
        {
            // Back when the line has changed in between: its place may still be wanted, or not.
            if let Some(held) = self.send_away(held, &wish) {
                self.arrive(held);
            }
        }
    }

    /// The newest of that kind that can be moved, else the one that has been idle longest.
    fn pop_for(&self, wanted: u64) -> Option<Held<B>> {
        let fits = |idle: &Idle<B>| B::MOVES && kind(&idle.held.key) == wanted && !self.backend.has_unread(&idle.held.connection);
        let Some(at) = self.idle.borrow().iter().rposition(fits) else { return self.pop_oldest() };
        let idle = self.idle.borrow_mut().remove(at)?;
        self.count_idle(false);
        Some(idle.held)
    }

    fn count_idle(&self, more: bool) {
        let gauge = self.metrics.upstream.of(UpstreamState::Idle);
        if more {
            gauge.inc();
        } else {
            gauge.dec();
        }
        self.desk.idle_changed(more);
    }

    pub(super) fn take_all_idle(&self, is_one: impl Fn(&B::Key) -> bool) -> Vec<Held<B>> {
        let (chosen, others): (VecDeque<_>, _) = self.idle.take().into_iter().partition(|idle| is_one(&idle.held.key));
        self.idle.replace(others);
        chosen
            .into_iter()
            .map(|idle| {
                self.count_idle(false);
                idle.held
            })
            .collect()
    }

    fn pop_oldest(&self) -> Option<Held<B>> {
        let oldest = self.idle.borrow_mut().pop_front()?;
        self.count_idle(false);
        Some(oldest.held)
    }

    /// Ready when it has thrown something away, so that the tender looks again.
    fn poll_evict(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.tender.borrow_mut().clone_from(cx.waker());
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
        for (idle, reason) in unfit {
            self.evict_idle(idle, reason);
        }
        Poll::Ready(())
    }

    fn unfit(&self, idle: &mut Idle<B>, now: Instant, cx: &mut Context<'_>) -> Option<EvictReason> {
        if idle.held.dies <= now {
            return Some(EvictReason::Lifetime);
        }
        if idle.held.permit.is_retired() {
            return Some(EvictReason::Admin);
        }
        if idle.expires <= now {
            return Some(EvictReason::IdleAge);
        }
        match self.backend.poll_unfit(&mut idle.held.connection, cx) {
            Poll::Ready(reason) => Some(reason),
            Poll::Pending => None,
        }
    }

    /// Closes one that has left the idle ones.
    fn evict_idle(&self, idle: Idle<B>, reason: EvictReason) {
        self.count_idle(false);
        let now = Instant::now();
        let lived = now.duration_since(idle.since) >= YOUNG || reason != EvictReason::ServerClosed;
        {
            let mut rejected = self.rejected.borrow_mut();
            // Several that die together are one rejection.
            if lived || rejected.may_try(now) {
                rejected.note(lived, now);
            }
        }
        self.evict(idle.held, reason);
        if self.home.is_some() {
            self.desk.changed.notify_one();
        }
    }

    /// When the next one expires or refilling may be tried again.
    fn next_alarm(&self) -> Instant {
        let now = Instant::now();
        let far = now + Duration::from_secs(3600);
        let expiry = self.idle.borrow().iter().map(Idle::ends).min().unwrap_or(far);
        if self.closing.get() || self.missing_at_home() == 0 {
            return expiry;
        }
        // When no pause is what hinders, it is the budget, which tells of who waits and not of what becomes free.
        let pause = self.pauses().into_iter().flatten().filter(|end| *end > now).min();
        expiry.min(pause.unwrap_or(now + HOME_LOOK))
    }
}

impl<B: Reuse + 'static> Idle<B> {
    /// Given back a moment ago: the runtime will have heard of its end by now, and a look at the socket costs as much as a request.
    fn is_warm(&self, now: Instant) -> bool {
        now.duration_since(self.since) < WARM
    }

    fn ends(&self) -> Instant {
        self.expires.min(self.held.dies)
    }
}
