//! Upstream connections that are ready before a client asks, or come back after it has gone.
//!
//! A pool knows no protocol and no TLS: it opens connections through a [`Backend`] and hands them out. [`Stock`] is the pool of the `relay`
//! mode: connections that were opened ahead of need, are given to one client each, and never come back. [`Leases`] is the pool of the modes
//! that share: connections that come back and are used again by others, never more of them over all workers than the [`Budget`] allows.

mod backoff;
mod budget;
mod desk;
mod leases;
pub mod quota;
mod stock;

use std::future::Future;
use std::hash::Hash;
use std::task::{Context, Poll};

pub use budget::{Budget, Permit};
pub use desk::Crowd;
pub use leases::{Lease, LeaseLimits, Leases};
pub use stock::{Limits, Stock};

use crate::error::Result;
use crate::metrics::EvictReason;

/// Connections being opened at one time by one worker.
const MAX_OPENING: usize = 16;

/// Opens and judges the connections of a pool.
pub trait Backend {
    /// What is pooled.
    type Connection;
    /// What connections differ in; `()` where all are alike.
    type Key: Clone + Eq + Hash;

    /// Opens a connection, ready for use. Must end by itself: the pool sets no deadline. Must be cancel-safe.
    fn open(&self, key: &Self::Key) -> impl Future<Output = Result<Self::Connection>>;

    /// Ready with a reason as soon as an unused connection must not be handed out any more. Registers the waker of `cx`.
    fn poll_unfit(&self, connection: &mut Self::Connection, cx: &mut Context<'_>) -> Poll<EvictReason>;

    /// Asks the kernel, without the runtime: something has arrived (or ended) that [`Backend::poll_unfit`] may not have seen yet.
    fn has_unread(&self, connection: &Self::Connection) -> bool;

    /// Closes an unused connection in the way that the server expects.
    fn discard(&self, connection: Self::Connection);
}

/// A backend whose connections can be used again.
pub trait Reuse: Backend<Key: Send> {
    /// An unused connection on its way to another thread, without its runtime. Dropped, it closes.
    type Parcel: Send + 'static;

    /// Whether [`Reuse::pack`] ever succeeds.
    const MOVES: bool;

    /// Takes an unused connection off this thread's runtime; back if this one cannot be.
    ///
    /// # Errors
    /// The connection as it was.
    fn pack(&self, connection: Self::Connection) -> std::result::Result<Self::Parcel, Self::Connection>;

    /// Puts a connection on this thread's runtime; `None` if it cannot be, and then it is closed.
    fn unpack(&self, parcel: Self::Parcel) -> Option<Self::Connection>;

    /// Brings a used connection back to the state of a new one of `key`, and proves that it is. The pool sets a deadline and closes the
    /// connection of a future that failed or was dropped.
    fn clean(&self, connection: &mut Self::Connection, key: &Self::Key) -> impl Future<Output = Result<()>>;

    /// Why a connection should be replaced although it works: what it was made from has changed. Does no I/O, so that it can be asked of one
    /// in use.
    fn outdated(&self, connection: &Self::Connection) -> Option<EvictReason>;
}

#[cfg(test)]
mod tests;
