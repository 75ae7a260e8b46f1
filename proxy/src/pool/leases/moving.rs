//! Where a connection goes that has just become free: to a client here, to the client of another worker, among the idle ones, or nowhere.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Held, Lease, Leases};
use crate::metrics::EvictReason;
use crate::pool::budget::{Grant, Place, Wish};
use crate::pool::{Permit, Reuse};

/// For so much longer a client of another worker must have waited than the first one here to be served before it: staying saves waking the
/// other thread and registering the socket there, and so little nobody notices.
const GRACE: Duration = Duration::from_millis(2);

/// A connection on its way between workers.
struct Moved<B: Reuse> {
    parcel: B::Parcel,
    key: B::Key,
    dies: tokio::time::Instant,
}

/// What a place in the budget's line has brought.
pub(super) enum Got<B: Reuse + 'static> {
    /// The right to open one.
    Permit(Permit),
    /// One that has been used before, in the state of a new one of the key that was asked for.
    Connection(Held<B>),
}

impl<B: Reuse + 'static> Leases<B> {
    /// A new or clean connection finds its place.
    pub(super) fn arrive(self: &Rc<Self>, mut held: Held<B>) {
        loop {
            if let Some(reason) = self.superfluous(&held.permit) {
                return self.evict(held, reason);
            }
            let Some(wish) = self.budget.head().filter(|wish| self.comes_first(wish, &held.key)) else { break };
            match self.send_away(held, &wish) {
                // Nobody took it: looked at again, because why may be that it has become superfluous.
                Some(unclaimed) => held = unclaimed,
                None => return,
            }
        }
        let Some(held) = self.hand_over(held) else { return };
        match self.unwanted(&held.key) {
            Some(reason) => self.evict(held, reason),
            None => self.keep(held),
        }
    }

    /// Why its place is not there any more, whoever waits.
    pub(super) fn superfluous(&self, permit: &Permit) -> Option<EvictReason> {
        if permit.is_retired() {
            return Some(EvictReason::Admin);
        }
        self.surplus()
    }

    /// Why connections have to go now, whichever.
    pub(super) fn surplus(&self) -> Option<EvictReason> {
        match self.budget.over() {
            0 => None,
            _ if self.budget.is_paused() => Some(EvictReason::Admin),
            // Threads that see it at the same time may close one more than needed: that costs a handshake, and nobody waits for one here.
            _ => Some(EvictReason::Pressure),
        }
    }

    /// Whether that client of some worker is to be served before the first one here.
    fn comes_first(&self, wish: &Wish, key: &B::Key) -> bool {
        B::MOVES && self.waiters.borrow().oldest_of(key).is_none_or(|own| wish.since + GRACE < own)
    }

    /// To the first in the budget's line: as it is, or if it is of another key just its place. Back if nobody is there any more.
    pub(super) fn send_away(self: &Rc<Self>, held: Held<B>, wish: &Wish) -> Option<Held<B>> {
        if kind(&held.key) != wish.kind {
            self.evict(held, EvictReason::Pressure);
            return None;
        }
        let Held { connection, key, dies, permit } = held;
        let parcel = match self.backend.pack(connection) {
            Ok(parcel) => parcel,
            // It cannot be moved, and is of no use to who comes first.
            Err(connection) => {
                self.evict(Held { connection, key, dies, permit }, EvictReason::Pressure);
                return None;
            }
        };
        let grant = Grant { parcel: Some(Box::new(Moved::<B> { parcel, key, dies })), permit };
        match self.unpack(self.budget.pass(grant)?) {
            Got::Connection(held) => Some(held),
            Got::Permit(_) => None,
        }
    }

    /// What is in it. One that has died on the way is closed, and what remains is its permit.
    pub(super) fn unpack(&self, grant: Grant) -> Got<B> {
        let Grant { parcel, permit } = grant;
        let Some(moved) = parcel.and_then(|parcel| parcel.downcast::<Moved<B>>().ok()) else { return Got::Permit(permit) };
        let Moved { parcel, key, dies } = *moved;
        let Some(mut connection) = self.backend.unpack(parcel) else { return Got::Permit(permit) };
        let waker = self.tender.borrow().clone();
        match self.backend.poll_unfit(&mut connection, &mut Context::from_waker(&waker)) {
            Poll::Ready(reason) => {
                self.metrics.evictions.of(reason).inc();
                self.backend.discard(connection);
                Got::Permit(permit)
            }
            Poll::Pending => Got::Connection(Held { connection, key, dies, permit }),
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

    /// Why one of that key is of no use to anybody here.
    pub(super) fn unwanted(&self, key: &B::Key) -> Option<EvictReason> {
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
}

/// What a key is known by where its type is not.
pub(super) fn kind(key: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// A place in the budget's line, held by one client for its worker: what is sent at the moment of leaving serves the next.
pub(super) struct Standing<'a, B: Reuse + 'static> {
    pub(super) leases: &'a Rc<Leases<B>>,
    pub(super) place: Place,
}

impl<B: Reuse + 'static> Drop for Standing<'_, B> {
    fn drop(&mut self) {
        let Some(grant) = self.place.leave() else { return };
        match self.leases.unpack(grant) {
            Got::Connection(held) => self.leases.arrive(held),
            Got::Permit(permit) => drop(permit),
        }
    }
}
