//! The line of those who wait for a permit, and what they get.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Budget, Permit};
use crate::pool::desk::Desk;

/// A connection on its way to another worker, packed by the pool that sends it: the budget does not look into it.
pub(in crate::pool) type Parcel = Box<dyn Any + Send>;

/// What one in line waits for.
#[derive(Clone, Copy)]
pub(in crate::pool) struct Wish {
    /// Since when its client has waited.
    pub(in crate::pool) since: Instant,
    /// The hash of the key that it needs: a connection of another is of no use to it.
    pub(in crate::pool) kind: u64,
}

/// A permit, and perhaps the connection that it is for. In this order: the connection is closed before its permit is free.
pub(in crate::pool) struct Grant {
    pub(in crate::pool) parcel: Option<Parcel>,
    pub(in crate::pool) permit: Permit,
}

/// Permits, and who waits for one. Nobody waits while one is free, the moment of handing it over aside.
pub(super) struct Line {
    pub(super) limit: usize,
    pub(super) paused: bool,
    pub(super) used: usize,
    pub(super) recalling: bool,
    /// Of those used, the ones whose holders know that they should end.
    pub(super) recalled: usize,
    next: u64,
    waiting: BTreeMap<(Instant, u64), (u64, oneshot::Sender<Grant>)>,
    desks: Vec<Weak<Desk>>,
}

/// A place in the line.
pub(in crate::pool) struct Place {
    budget: Arc<Budget>,
    /// `None` once it has been left.
    at: Option<(Instant, u64)>,
    /// A grant that was sent and not taken is given on by its own drop, with the channel.
    receive: oneshot::Receiver<Grant>,
}

impl Line {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, paused: false, used: 0, recalling: false, recalled: 0, next: 0, waiting: BTreeMap::new(), desks: Vec::new() }
    }

    /// What may be used now.
    pub(super) fn effective(&self) -> usize {
        if self.paused { 0 } else { self.limit }
    }

    pub(super) fn enter(&mut self, wish: Wish) -> (u64, oneshot::Receiver<Grant>) {
        let (give, receive) = oneshot::channel();
        let number = self.next;
        self.next += 1;
        self.waiting.insert((wish.since, number), (wish.kind, give));
        (number, receive)
    }

    pub(super) fn leave(&mut self, at: (Instant, u64)) {
        self.waiting.remove(&at);
    }

    pub(super) fn head(&self) -> Option<Wish> {
        self.waiting.first_key_value().map(|((since, _), (kind, _))| Wish { since: *since, kind: *kind })
    }

    /// Who is served next, if there is a permit: a free one, or one of those used that is `on_offer`.
    pub(super) fn next_beside(&mut self, on_offer: usize) -> Option<oneshot::Sender<Grant>> {
        let is_one = self.used.saturating_sub(on_offer) < self.effective();
        if is_one { self.waiting.pop_first().map(|(_, (_, give))| give) } else { None }
    }

    pub(super) fn add(&mut self, desk: &Arc<Desk>) {
        self.desks.retain(|desk| desk.strong_count() > 0);
        self.desks.push(Arc::downgrade(desk));
    }

    pub(super) fn desks(&self) -> impl Iterator<Item = Arc<Desk>> {
        self.desks.iter().filter_map(Weak::upgrade)
    }

    /// Makes the tenders of these look.
    pub(super) fn wake(&self, which: impl Fn(&Desk) -> bool) {
        self.desks().filter(|desk| which(desk)).for_each(|desk| desk.changed.notify_one());
    }
}

impl Place {
    pub(super) fn new(budget: &Arc<Budget>, at: (Instant, u64), receive: oneshot::Receiver<Grant>) -> Self {
        Self { budget: Arc::clone(budget), at: Some(at), receive }
    }

    /// Waits for the turn. Cancel-safe: the place is kept, and so is what was sent.
    pub(in crate::pool) async fn turn(&mut self) -> Grant {
        match (&mut self.receive).await {
            Ok(grant) => {
                self.at = None;
                grant
            }
            // A sender leaves the line only to send, or by the place's own end.
            Err(_) => std::future::pending().await,
        }
    }

    /// Leaves the line, with what was on its way here: the caller has to find a use for it.
    pub(in crate::pool) fn leave(&mut self) -> Option<Grant> {
        self.budget.leave(self.at.take()?);
        // Whoever is about to send finds it closed and gives it to the next.
        self.receive.close();
        self.receive.try_recv().ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(at) = self.at {
            self.budget.leave(at);
        }
    }
}
