//! One upstream connection in somebody's hands.

use std::rc::Rc;
use std::time::Duration;

use tokio::task::spawn_local;
use tokio::time::{Instant, timeout};

use super::{Held, Leases};
use crate::metrics::{EvictReason, UpstreamState};
use crate::pool::Reuse;

/// How long bringing a connection back to the state of a new one may take: it is one round trip, or two. Its permit is kept from others for so
/// long.
const CLEAN_LIMIT: Duration = Duration::from_secs(5);

/// A connection on loan. Safe to drop at any time: that closes the connection, because nobody knows what it is in the middle of. Only
/// [`Lease::give_back`] and [`Lease::clean_and_give_back`] let others use it again.
pub struct Lease<B: Reuse + 'static> {
    /// `None` once it has left by one of the methods that take `self`.
    held: Option<Held<B>>,
    state: UpstreamState,
    leases: Rc<Leases<B>>,
}

impl<B: Reuse + 'static> Lease<B> {
    pub(super) fn new(leases: &Rc<Leases<B>>, held: Held<B>) -> Self {
        let state = UpstreamState::Leased;
        leases.metrics.upstream.of(state).inc();
        Self { held: Some(held), state, leases: Rc::clone(leases) }
    }

    pub(super) fn into_held(mut self) -> Option<Held<B>> {
        self.held.take()
    }

    #[expect(clippy::expect_used, reason = "only methods that take self, and drop, leave nothing")]
    fn held(&self) -> &Held<B> {
        self.held.as_ref().expect("a lease holds a connection")
    }

    /// The connection.
    #[must_use]
    pub fn connection(&self) -> &B::Connection {
        &self.held().connection
    }

    /// The connection, for use.
    #[expect(clippy::expect_used, reason = "only methods that take self, and drop, leave nothing")]
    pub fn connection_mut(&mut self) -> &mut B::Connection {
        &mut self.held.as_mut().expect("a lease holds a connection").connection
    }

    /// What it was opened or cleaned as.
    #[must_use]
    pub fn key(&self) -> &B::Key {
        &self.held().key
    }

    /// Counts it under another state from now on: a lane is not a client's own.
    pub fn count_as(&mut self, state: UpstreamState) {
        self.leases.metrics.upstream.of(self.state).dec();
        self.leases.metrics.upstream.of(state).inc();
        self.state = state;
    }

    /// Why it should be retired by who keeps it for long: it is too old, or what it was made from has changed. Does no I/O.
    #[must_use]
    pub fn unfit(&self) -> Option<EvictReason> {
        let held = self.held();
        if held.permit.is_retired() {
            return Some(EvictReason::Admin);
        }
        if held.dies <= Instant::now() {
            return Some(EvictReason::Lifetime);
        }
        self.leases.backend.outdated(&held.connection)
    }

    /// Its place is needed for another proxy: who uses it should end that now, and give it back or close it. Once true it stays so, and no more
    /// leases hear it than there are too many: see [`Budget::recall`](crate::pool::Budget::recall). Does no I/O, and takes no lock unless there
    /// are too many.
    #[must_use]
    pub fn is_recalled(&self) -> bool {
        self.held().permit.is_recalled()
    }

    /// Waits until [`Lease::is_recalled`], for ever if need be. Cancel-safe. Needs the tender.
    pub async fn recalled(&self) {
        loop {
            let recall = self.leases.recall.notified();
            tokio::pin!(recall);
            // Listening before looking: a recall in between is heard.
            recall.as_mut().enable();
            if self.is_recalled() {
                return;
            }
            recall.await;
        }
    }

    /// Gives it back as it is: nothing is owed on it and it is in the state of a new one. It goes to who waits for one of its key, here
    /// or on another worker, or becomes idle; one that is unfit, or whose place others need more, is closed.
    pub fn give_back(mut self) {
        let unfit = self.unfit();
        let Some(held) = self.held.take() else { return };
        let leases = Rc::clone(&self.leases);
        // Counted as leased until here.
        drop(self);
        match unfit {
            Some(reason) => leases.evict(held, reason),
            None => leases.arrive(held),
        }
    }

    /// Brings it back to the state of a new one, in the background and within five seconds, then gives it back; closes it if that fails.
    /// Nothing may be owed on it. Needs the worker's `LocalSet`.
    pub fn clean_and_give_back(mut self) {
        let unwanted = || self.leases.unwanted(self.key()).filter(|reason| !(B::MOVES && *reason == EvictReason::Pressure));
        let useless = self.unfit().or_else(|| self.leases.surplus()).or_else(unwanted);
        if let Some(reason) = useless {
            return self.close(reason);
        }
        spawn_local(async move {
            let (leases, key) = (Rc::clone(&self.leases), self.key().clone());
            let cleaned = timeout(CLEAN_LIMIT, leases.backend.clean(self.connection_mut(), &key)).await;
            match cleaned {
                Ok(Ok(())) => self.give_back(),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a used connection could not be cleaned");
                    self.close(EvictReason::Unclean);
                }
                Err(_) => self.close(EvictReason::Unclean),
            }
        });
    }

    /// Closes it, and counts why.
    pub fn close(mut self, reason: EvictReason) {
        if let Some(held) = self.held.take() {
            self.leases.evict(held, reason);
        }
    }
}

impl<B: Reuse + 'static> Drop for Lease<B> {
    fn drop(&mut self) {
        self.leases.metrics.upstream.of(self.state).dec();
        if let Some(held) = self.held.take() {
            self.leases.backend.discard(held.connection);
        }
    }
}
